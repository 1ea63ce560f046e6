//! `myclerk audit`

use std::io;
use std::time::Duration;

use clap::Args;

use super::Context;
use super::errors::{CliError, Exit};
use super::output::{self, clean, label, moment, note};
use crate::daemon::audit::{self, Follower, Record};

/// How often the log is looked at for more.
const LOOK: Duration = Duration::from_millis(250);

const EXAMPLES: &str = "\
Examples:
  myclerk audit
  myclerk audit -n 1000 --json
  myclerk audit --follow";

/// Show who used, locked or was refused the devices of this machine
///
/// Times are in UTC. The log is kept in four files of 1 MiB; of a node that does too much at a time
/// only some is written, with the number of lines that were left out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Audit {
    /// Go on and show what happens, until Ctrl-C
    #[arg(short, long)]
    follow: bool,

    /// How many of the last lines
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
    lines: usize,
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let state = &context.paths.state;
        let failed = |error: io::Error| {
            let dir = audit::directory(state);
            let report = |exit| {
                let message = format!("cannot read the audit log in {}", dir.display());
                CliError::new(exit, message).because(error.to_string())
            };
            match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    report(Exit::Refused).mend("run the same command with sudo")
                }
                _ => report(Exit::Failed),
            }
        };
        // Before the last lines are read: what comes meanwhile is shown twice rather than not at all.
        let follower = self.follow.then(|| Follower::new(state)).transpose();
        let follower = follower.map_err(failed)?;
        let last = audit::latest(state, self.lines).map_err(failed)?;
        if last.is_empty() && !self.follow {
            note("Nothing is recorded yet.");
        }
        show(context, &last)?;
        let Some(mut follower) = follower else {
            return Ok(());
        };
        loop {
            show(context, &follower.news().map_err(failed)?)?;
            std::thread::sleep(LOOK);
        }
    }
}

fn show(context: &Context, records: &[Record]) -> Result<(), CliError> {
    if context.json {
        return records.iter().try_for_each(output::json_line);
    }
    let text: String = records.iter().map(line).collect();
    if text.is_empty() {
        return Ok(());
    }
    output::print(&text)
}

fn line(record: &Record) -> String {
    let node = match &record.node {
        Some(node) => label(&node.name, &node.id),
        None => "administrator",
    };
    let mut parts = vec![moment(record.time), clean(node).into_owned()];
    parts.extend(
        record
            .device
            .as_deref()
            .map(|text| clean(text).into_owned()),
    );
    parts.push(record.what.words().to_owned());
    if let Some(reason) = &record.reason {
        parts.push(format!("({})", clean(reason)));
    }
    if record.unsaid > 0 {
        parts.push(format!("[{} lines left out before]", record.unsaid));
    }
    parts.join("  ") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::audit::What;
    use crate::daemon::control::message::NodeName;

    #[test]
    fn a_line_says_when_who_what_and_why() {
        let refused = Record {
            time: 1_709_164_799,
            ..Record::new(What::Refused)
                .of(NodeName {
                    id: "ab".repeat(16),
                    name: "laptop".to_owned(),
                })
                .on("echo:\u{1b}one")
                .because("lock-held")
                .after(3)
        };
        assert_eq!(
            line(&refused),
            "2024-02-28 23:59:59  laptop  echo:\\u{1b}one  refused  (lock-held)  [3 lines left out before]\n"
        );
    }
}
