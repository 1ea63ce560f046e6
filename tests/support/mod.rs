//! Shared by the integration tests; each uses only a part of it.

#[allow(
    dead_code,
    reason = "which helpers are unused differs between test binaries"
)]
pub(crate) mod vectors;
