//! The half that makes a remote SPI device a character device that behaves as the kernel's spidev does,
//! by CUSE.
//!
//! [`ioctl`] and [`message`] are the kernel's numbers and structures; neither does any I/O. [`node`]
//! decides: calls of programs and what the owner answers go in, answers and requests come out, and
//! nothing in it waits. [`pump`] joins it with the device and the session.

mod attach;
pub mod ioctl;
mod lent;
pub mod message;
pub mod node;
pub mod pump;

pub use attach::{Outage, PRESENTER, Reopened, open};
pub use lent::Lent;
