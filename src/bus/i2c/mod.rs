//! I2C and SMBus (profile 19.7): `/dev/i2c-N` on the side that has the bus; on the side that uses it an
//! emulated USB adapter, or a character device by CUSE.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
