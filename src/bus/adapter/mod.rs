//! USB devices that this program plays, so that a driver of the kernel takes them for well-known
//! adapters and makes of what is behind them what it makes of the real ones: an I2C bus, a 1-Wire bus.
//!
//! A device is its [`Description`] and an [`Adapter`]: what it answers to requests that are its own, and
//! to transfers. [`player`] does the rest of a device, such as descriptors, standard requests, halted
//! endpoints and order, and speaks as the owner of a USB device speaks (profile 19.4), so that the half of
//! the USB bus that uses devices brings it to vhci-hcd: [`attach`]. Nothing of it leaves this process.

pub mod attach;
pub mod description;
pub mod ds2490;
pub mod fake;
pub mod i2c_tiny_usb;
pub mod local;
mod player;
mod standard;
#[cfg(test)]
mod tests;

use core::future::Future;
use core::pin::Pin;
use std::rc::Rc;

pub use self::description::Description;
pub use super::usb::op::Setup;

/// The manufacturer of every device that stands for a remote one. Whoever looks for devices to give
/// away leaves those alone.
pub const MANUFACTURER: &str = "MyClerk";

/// A transfer on its way: the bytes that were read, none of a write.
pub type Transfer = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>>>>;

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The device does not do that: a STALL. An endpoint but the first is halted by it.
    #[error("stalled")]
    Stall,
    /// The device does not answer.
    #[error("no answer")]
    Silent,
}

/// What a device does.
///
/// Transfers of one endpoint come one after the other, each when the one before has ended. One that the
/// kernel gives up is dropped wherever it stands.
pub trait Adapter {
    /// How the device describes itself; always the same.
    fn description(&self) -> &Description;

    /// The kernel chose a configuration, or reset the device: it is as if it had just been plugged in.
    fn reset(&self);

    /// A request of a class or a vendor: `data` is what the kernel sends, empty where it wants to read at
    /// most `setup.length` bytes.
    fn control(self: Rc<Self>, setup: Setup, data: Vec<u8>) -> Transfer;

    /// A read of at most `length` bytes from an endpoint that has its direction bit.
    fn read(self: Rc<Self>, _endpoint: u8, _length: usize) -> Transfer {
        Box::pin(core::future::ready(Err(Fault::Stall)))
    }

    /// A write to an endpoint.
    fn write(self: Rc<Self>, _endpoint: u8, _data: Vec<u8>) -> Transfer {
        Box::pin(core::future::ready(Err(Fault::Stall)))
    }
}
