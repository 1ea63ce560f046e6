//! `myclerk serve`

use clap::Args;

use super::Context;
use super::capture::Capture;
use super::errors::CliError;
use crate::daemon;
use crate::daemon::config::ServeConfig;
use crate::daemon::control::Side;

const EXAMPLES: &str = "\
Examples:
  myclerk serve
  myclerk serve --listen 192.168.1.5
  myclerk serve --listen 127.0.0.1:7600 --listen [::1]:7600
  myclerk serve --capture /root/frames.jsonl

No port is registered for the protocol; 7575 is this program's own choice.";

/// Share devices of this machine (the server daemon)
///
/// Runs until Ctrl-C or SIGTERM, which give every device back to its driver. Only members of the
/// family can connect; they see what `export` offers and `acl grant` lets them use.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// Where to listen; may be repeated [default: every address, port 7575]
    #[arg(
        long,
        value_name = "ADDR[:PORT]",
        env = "MYCLERK_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<String>,

    #[command(flatten)]
    capture: Capture,
}

impl Serve {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let listen = context.settings.listen(&self.listen)?;
        let capture = self.capture.config();
        let config = ServeConfig {
            paths: context.paths.clone(),
            listen,
            capture,
            metrics: context.settings.metrics(Side::Server)?,
        };
        daemon::serve::run(&config).map_err(CliError::from_daemon)
    }
}
