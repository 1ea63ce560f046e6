//! How a port is opened again after an outage.

use std::rc::Rc;
use std::time::Duration;

use super::attach::open;
use super::termios::Termios;
use crate::bus::outage::{Returning, again};
use crate::bus::serial::op::Settings;
use crate::bus::{BusStream, Ended, Opener};

/// A port as it is, and its new stream.
pub type Reopened = (Settings, BusStream);

/// What is needed to come out of an outage.
pub struct Outage {
    /// The owner.
    pub opener: Rc<dyn Opener>,
    /// Its port.
    pub device: String,
    /// How long it is waited for.
    pub grace: Duration,
}

impl Outage {
    /// The session was lost: the port is to be opened again with these settings.
    ///
    /// # Errors
    /// How it ends where nothing is waited for.
    pub fn begin(&self, termios: &Termios) -> Result<Returning<Reopened>, Ended> {
        if self.grace.is_zero() {
            return Err(Ended::Session);
        }
        let (device, termios) = (self.device.clone(), *termios);
        tracing::info!(device, "the owner of the serial port cannot be reached");
        Ok(again(Rc::clone(&self.opener), self.grace, move |opener| {
            let device = device.clone();
            async move { open(opener.as_ref(), &device, &termios).await }
        }))
    }
}
