//! Safe calls over raw kernel interfaces, without policy. The only folder that may hold `unsafe`.

pub mod usbfs;
