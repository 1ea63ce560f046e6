//! The session with the owner is lost: the device keeps its port, what the kernel submits meanwhile waits,
//! and the owner is asked for the very device that it has kept.
//!
//! Nothing is sent twice. What was under way when the session was lost may or may not have happened:
//! its URBs end with `-EPROTO`, as on a cable that was pulled, and the drivers decide.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::endpoints::Effect;
use super::pump::{Pump, ended, say_farewell};
use super::{Ended, Session};
use crate::bus::outage::{self, Returning};
use crate::bus::usb::op::{AttachRequest, AttachResponse, SetConfiguration, SetInterface};
use crate::bus::{self, BusStream, Opener};
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// Time for the owner to answer a request for a kept device.
const OPEN: Duration = Duration::from_secs(30);
/// How long the owner may take to let go of a device that is not wanted any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// The way back to a device after its session was lost.
pub struct Way {
    opener: Rc<dyn Opener>,
    request: AttachRequest,
    answer: AttachResponse,
    grace: Duration,
}

impl Way {
    /// The way back to the device that the owner gave by `answer` on `request`; `None` when it does not
    /// keep it.
    pub fn of(
        opener: Rc<dyn Opener>,
        request: AttachRequest,
        answer: &AttachResponse,
    ) -> Option<Self> {
        let kept = answer.kept.as_ref()?;
        let request = AttachRequest {
            token: Some(kept.token),
            ..request
        };
        Some(Self {
            opener,
            request,
            answer: answer.clone(),
            grace: Duration::from_millis(u64::from(kept.hold)),
        })
    }

    /// Waits for the owner and has itself given the kept device.
    pub(super) fn back(&self) -> Returning<(AttachResponse, BusStream)> {
        let request = self.request.clone();
        let again = outage::again(Rc::clone(&self.opener), self.grace, move |opener| {
            let request = request.clone();
            async move { open(&*opener, &request).await }
        });
        let opener = Rc::clone(&self.opener);
        Box::pin(async move {
            tokio::select! {
                biased;
                () = opener.over() => Err(bus::Ended::Session),
                back = again => back,
            }
        })
    }

    /// Whether the owner has kept the device and not only has one of that name.
    fn is_same(&self, answer: &AttachResponse) -> bool {
        answer.kept.as_ref().is_some_and(|kept| kept.back)
            && answer.desc == self.answer.desc
            && answer.spd == self.answer.spd
    }
}

async fn open(
    opener: &dyn Opener,
    request: &AttachRequest,
) -> Result<(AttachResponse, BusStream), bus::AttachError> {
    let sense = |error: &dyn std::fmt::Display| bus::AttachError::Answer(error.to_string());
    let payload = request.encode().map_err(|error| sense(&error))?;
    let (answer, stream) = opener.open(Opcode::UsbDeviceAttach, payload, OPEN).await?;
    match AttachResponse::decode(&answer) {
        Ok(answer) => Ok((answer, stream)),
        Err(error) => {
            stream.outlet.reset(Status::BadRequest);
            Err(sense(&error))
        }
    }
}

impl Pump {
    /// The session is lost; true when there is a way back. Nothing more is sent until then.
    pub(super) fn lose(&mut self) -> bool {
        let Some(way) = &self.way else {
            return false;
        };
        tracing::info!(port = %self.port(), "session lost; the device keeps its port");
        self.returning = Some(way.back());
        if let Err(fatal) = self.urbs.lose(Instant::now()) {
            tracing::debug!(?fatal, "a URB could not be ended");
        }
        self.shared.live.set(false);
        true
    }

    /// The owner answered. The device goes on if it is the same one.
    pub(super) async fn come_back(
        &mut self,
        back: Result<(AttachResponse, BusStream), bus::Ended>,
    ) -> Result<(), Ended> {
        self.returning = None;
        let (answer, BusStream { outlet, inbound }) = back.map_err(Ended::NotBack)?;
        (self.outlet, self.inbound) = (outlet, inbound);
        if !self.way.as_ref().is_some_and(|way| way.is_same(&answer)) {
            return Err(Ended::Exchanged);
        }
        if std::mem::take(&mut self.reset_due) {
            self.reset_device().await?;
        }
        self.settle(answer.cfg).await?;
        let outlet = Rc::clone(&self.outlet);
        self.urbs.resume(Instant::now(), outlet).map_err(ended)?;
        self.shared.live.set(true);
        tracing::info!(port = %self.port(), "the session is back; the device goes on");
        Ok(())
    }

    /// Changes of the configuration or of a setting may have been under way: nobody knows whether they
    /// were made. Their drivers are told that they were not, so that is made true.
    async fn settle(&mut self, configuration: u8) -> Result<(), Ended> {
        let (wanted, alternates) = self.device.endpoints.borrow().settings();
        let doubts = self.urbs.doubts().to_vec();
        let mut due = Vec::new();
        for doubt in doubts {
            match doubt {
                Effect::Nothing => {}
                Effect::Configuration(_) => due.extend(alternates.iter().copied()),
                Effect::Alternate { interface, .. } => {
                    let known = alternates.iter().find(|(number, _)| *number == interface);
                    due.push((interface, known.map_or(0, |(_, alternate)| *alternate)));
                }
            }
        }
        if wanted != configuration {
            let mut payload = Vec::new();
            let configuration = wanted;
            SetConfiguration { configuration }.encode(&mut payload);
            self.ask(Opcode::UsbSetConfiguration, payload).await?;
        }
        for (interface, alternate) in due {
            let mut payload = Vec::new();
            SetInterface {
                interface,
                alternate,
            }
            .encode(&mut payload);
            self.ask(Opcode::UsbSetInterface, payload).await?;
        }
        self.urbs.forget_doubts();
        Ok(())
    }

    /// The device was given up on this machine while its owner could not be told: that is made up for
    /// if the owner is heard of while it still keeps the device.
    pub(super) fn give_back_later(&mut self) {
        let Some(returning) = self.returning.take() else {
            return;
        };
        tokio::task::spawn_local(async move {
            if let Ok((
                _,
                BusStream {
                    outlet,
                    mut inbound,
                },
            )) = returning.await
            {
                let told = timeout(FAREWELL, say_farewell(&*outlet, &mut inbound)).await;
                if told.is_err() {
                    outlet.reset(Status::Timeout);
                }
            }
        });
    }
}

/// A stream, and the way back to the device when its session is lost.
pub struct Line {
    /// The stream.
    pub session: Session,
    /// `None` ends the attachment with the session.
    pub way: Option<Way>,
}

impl From<Session> for Line {
    fn from(session: Session) -> Self {
        Self { session, way: None }
    }
}
