//! `myclerk doctor`

mod daemons;
mod kernel;
mod machine;
mod node;
mod presenters;

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::Context;
use super::errors::{CliError, Exit};
use super::output::{self, clean};
use crate::bus;
use crate::daemon::control::Side;
use crate::daemon::state::StateDir;
use machine::Machine;

const EXAMPLES: &str = "\
Examples:
  myclerk doctor
  myclerk doctor client
  sudo myclerk doctor  # sees more than a plain user may
  myclerk doctor --json";

/// Check what this machine needs and name the command that mends what is missing
///
/// Exits with 1 when something fails that this machine needs for its part.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Doctor {
    /// The part this machine plays [default: what its state says, else both]
    part: Option<Part>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// Shares its devices
    Server,
    /// Uses devices of others
    Client,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    /// The only part that needs it.
    #[serde(skip)]
    part: Option<Side>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            detail: detail.into(),
            mend: None,
            part: None,
        }
    }

    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, detail)
    }

    fn warn(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Warn, detail)
    }

    fn fail(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Fail, detail)
    }

    fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    fn only(mut self, part: Side) -> Self {
        self.part = Some(part);
        self
    }

    /// What a part that this machine does not play needs cannot fail it.
    fn for_parts(mut self, parts: &[Side]) -> Self {
        if self.part.is_some_and(|part| !parts.contains(&part)) && self.verdict == Verdict::Fail {
            self.verdict = Verdict::Warn;
        }
        self
    }
}

impl Doctor {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let state = context.state();
        let parts = match self.part {
            Some(Part::Server) => vec![Side::Server],
            Some(Part::Client) => vec![Side::Client],
            None => parts(&state),
        };
        let machine = Machine::real();
        let mut checks = vec![
            kernel::io_uring(&machine),
            kernel::vhci(&machine),
            kernel::usbfs(&machine),
            kernel::usbfs_memory(&machine),
            kernel::udev_rules(&machine),
        ];
        checks.extend(presenters::all(bus::PRESENTERS));
        checks.extend(node::state(&state));
        checks.push(node::clock(&machine, &state));
        checks.push(node::group());
        checks.push(node::rules(&context.config));
        checks.push(daemons::running(context, Side::Server));
        checks.push(daemons::running(context, Side::Client));
        let checks: Vec<_> = checks
            .into_iter()
            .map(|check| check.for_parts(&parts))
            .collect();
        if context.json {
            output::json(&checks)?;
        } else {
            output::print(&text(&checks))?;
        }
        match checks
            .iter()
            .filter(|check| check.verdict == Verdict::Fail)
            .count()
        {
            0 => Ok(()),
            1 => Err(CliError::new(Exit::Failed, "1 check failed")),
            n => Err(CliError::new(Exit::Failed, format!("{n} checks failed"))),
        }
    }
}

/// Which daemons this machine is meant to run, as far as its state tells.
fn parts(state: &StateDir) -> Vec<Side> {
    let serves = state.has_root() || state.exports().is_ok_and(|e| !e.entries().is_empty());
    let uses = state.peers().is_ok_and(|peers| !peers.all().is_empty());
    match (serves, uses) {
        (true, false) => vec![Side::Server],
        (false, true) => vec![Side::Client],
        (true, true) | (false, false) => vec![Side::Server, Side::Client],
    }
}

fn text(checks: &[Check]) -> String {
    let width = checks
        .iter()
        .map(|check| check.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for Check {
        name,
        verdict,
        detail,
        mend,
        ..
    } in checks
    {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{:4}  {name:width$}  {}",
            verdict.word(),
            clean(detail)
        );
        if let Some(mend) = mend {
            let _ = writeln!(text, "      {:width$}  try: {mend}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_part_needs_is_only_a_warning() {
        let check = || Check::fail("vhci-hcd", "absent").only(Side::Client);
        assert_eq!(check().for_parts(&[Side::Server]).verdict, Verdict::Warn);
        assert_eq!(check().for_parts(&[Side::Client]).verdict, Verdict::Fail);
        let both = Check::fail("io_uring", "off").for_parts(&[Side::Server]);
        assert_eq!(both.verdict, Verdict::Fail);
    }

    #[test]
    fn a_check_is_one_line_and_its_mend_stands_below() {
        let checks = [
            Check::ok("clock", "synchronised"),
            Check::fail("vhci-hcd", "not loaded").mend("sudo modprobe vhci-hcd"),
        ];
        assert_eq!(
            text(&checks),
            "ok    clock     synchronised\nFAIL  vhci-hcd  not loaded\n                \
             try: sudo modprobe vhci-hcd\n"
        );
    }
}
