//! Shared by the integration tests; each uses only a part of it.

#[expect(dead_code, reason = "no test binary uses every helper")]
pub mod vectors;
