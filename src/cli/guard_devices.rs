//! `myclerk guard-devices`, which only `myclerk serve` starts.

use clap::Args;

use super::errors::CliError;
use crate::daemon::guardian;

const EXAMPLES: &str = "\
Examples:
  myclerk serve  # starts it by itself";

/// Give lent devices back when the server is killed
///
/// Reads what is lent on standard input, from the server that started it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, hide = true)]
pub(super) struct GuardDevices {}

impl GuardDevices {
    pub(super) fn run() -> Result<(), CliError> {
        guardian::run().map_err(|error| CliError::from_daemon(error.into()))
    }
}
