//! PWM channels (0x0628 and 0x0629 of profile 19.6): sysfs on the side that has them. Linux has no way
//! to make such a channel out of nothing, so on the side that uses them `myclerk pwm` sets them.

pub mod client;
pub mod enumerate;
pub mod fake;
pub mod hardware;
pub mod op;
pub mod server;
