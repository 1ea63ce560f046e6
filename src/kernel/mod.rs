//! Safe calls over raw kernel interfaces, without policy. The only folder with `unsafe`.

pub mod clock;
pub mod random;
pub mod sockopt;
