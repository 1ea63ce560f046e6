//! The server daemon.

use super::config::ServeConfig;

/// Runs the server daemon until it is told to stop.
///
/// # Errors
/// What kept it from starting or made it end.
pub fn run(config: &ServeConfig) -> anyhow::Result<()> {
    anyhow::bail!("the server daemon is not part of this build: {config:?}")
}
