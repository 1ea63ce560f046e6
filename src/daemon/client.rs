//! The client daemon.

use super::config::ClientConfig;

/// Runs the client daemon until it is told to stop.
///
/// # Errors
/// What kept it from starting or made it end.
pub fn run(config: &ClientConfig) -> anyhow::Result<()> {
    anyhow::bail!("the client daemon is not part of this build: {config:?}")
}
