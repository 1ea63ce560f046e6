//! The flags of both daemons that ask for a capture of frames.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::daemon::config::CaptureConfig;
use crate::transport::capture::Payloads;

/// For finding out what two nodes say to each other.
#[derive(Debug, Args)]
#[command(next_help_heading = "Capture")]
pub(super) struct Capture {
    /// Write every frame that is sent or received to FILE, one JSON object a line; never keys
    #[arg(long = "capture", value_name = "FILE")]
    file: Option<PathBuf>,

    /// How much of the payloads to write: what is typed and what is on a disk needs `all`
    #[arg(
        long = "capture-payloads",
        value_name = "WHICH",
        default_value = "none",
        requires = "file"
    )]
    payloads: Shown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shown {
    /// Only their lengths
    None,
    /// Lists, settings and the like
    Harmless,
    /// Also what devices send and receive
    All,
}

impl Capture {
    pub(super) fn config(self) -> Option<CaptureConfig> {
        let payloads = match self.payloads {
            Shown::None => Payloads::Omit,
            Shown::Harmless => Payloads::Harmless,
            Shown::All => Payloads::Forced,
        };
        self.file.map(|file| CaptureConfig { file, payloads })
    }
}
