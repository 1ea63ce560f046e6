//! Where log lines go: the journal when systemd listens, else standard error.
//!
//! Levels: `MYCLERK_LOG` takes a `tracing` filter such as `myclerk=debug`; without it a daemon logs
//! `info`, a subcommand `warn`, and each `-v` adds one level. Log lines never hold keys, PSKs,
//! tokens or payloads (profile 18).

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// The environment variable with the filter.
pub const FILTER: &str = "MYCLERK_LOG";
/// The one by which systemd tells that standard error is the journal (systemd.exec(5)).
pub const JOURNAL: &str = "JOURNAL_STREAM";

/// Who is logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Runs for long; its log is read later.
    Daemon,
    /// Runs briefly before somebody's eyes.
    Subcommand,
}

/// Sets up logging for the process; `verbose` counts `-v`.
///
/// # Errors
/// When logging was set up before.
pub fn start(program: Program, verbose: u8) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_from_env(FILTER)
        .unwrap_or_else(|_| EnvFilter::new(format!("myclerk={}", level(program, verbose))));
    let registry = tracing_subscriber::registry().with(filter);
    if stderr_is_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        return registry.with(journal).try_init();
    }
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match program {
        Program::Daemon => registry.with(stderr).try_init(),
        Program::Subcommand => registry.with(stderr.without_time()).try_init(),
    }
}

const fn level(program: Program, verbose: u8) -> &'static str {
    match (program, verbose) {
        (Program::Subcommand, 0) => "warn",
        (Program::Subcommand, 1) | (Program::Daemon, 0) => "info",
        (Program::Subcommand, 2) | (Program::Daemon, 1) => "debug",
        (Program::Subcommand | Program::Daemon, _) => "trace",
    }
}

/// systemd names the device and inode of the stream that it connected (systemd.exec(5)); a program
/// that inherited the variable but writes elsewhere must not be fooled.
fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var(JOURNAL) else {
        return false;
    };
    let Ok(stat) = nix::sys::stat::fstat(io::stderr().as_fd()) else {
        return false;
    };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verbose_flag_adds_a_level_up_to_the_last() {
        let levels = |program| [0, 1, 2, 9].map(|verbose| level(program, verbose));
        assert_eq!(
            levels(Program::Subcommand),
            ["warn", "info", "debug", "trace"]
        );
        assert_eq!(levels(Program::Daemon), ["info", "debug", "trace", "trace"]);
    }
}
