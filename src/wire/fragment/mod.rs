//! Fragments: pieces of a unit too large for one record (profile 13.1).
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 4 | message id |
//! | 4 | 2 | index, from 0 |
//! | 6 | 2 | count, 2–65535 |
//! | 8 | 4 | total length of the unit |
//!
//! In a frame the unit is Kind … Payload; in direct form it is the whole plaintext. Where a unit is cut
//! is the sender's choice: `link::unit` makes it while a record is filled.

mod header;
mod reassemble;

pub use header::{FragmentError, HEADER_LEN, Header};
pub use reassemble::{REASSEMBLY_TIME, Reassembler, Unit};
