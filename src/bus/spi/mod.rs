//! SPI devices (profile 19.8): spidev on the side that has them, a character device that behaves as
//! spidev does on the side that uses them.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
