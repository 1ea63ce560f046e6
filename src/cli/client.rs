//! `myclerk client`

use clap::Args;

use super::Context;
use super::capture::Capture;
use super::errors::CliError;
use crate::daemon;
use crate::daemon::config::ClientConfig;
use crate::daemon::control::Side;

const EXAMPLES: &str = "\
Examples:
  myclerk client
  myclerk client --connect hub=192.168.1.5
  myclerk client --connect hub=hub.example.org:7600";

/// Use devices of other machines (the client daemon)
///
/// Connects to the hub that this machine joined and keeps the connection. Runs until Ctrl-C or
/// SIGTERM, which give every attached device back.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Client {
    /// Where a node can be reached, by its name or node-id; may be repeated [default: as joined]
    #[arg(
        long,
        value_name = "NODE=HOST[:PORT]",
        env = "MYCLERK_CONNECT",
        value_delimiter = ','
    )]
    connect: Vec<String>,

    #[command(flatten)]
    capture: Capture,
}

impl Client {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let connect = context.settings.connect(&self.connect)?;
        let capture = self.capture.config();
        let config = ClientConfig {
            paths: context.paths.clone(),
            connect,
            capture,
            usb: context.settings.client.usb,
            config: context.config.clone(),
            metrics: context.settings.metrics(Side::Client)?,
        };
        daemon::client::run(&config).map_err(CliError::from_daemon)
    }
}
