//! `myclerk acl`

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use super::ask::ask_server_or;
use super::errors::CliError;
use super::export::quoted;
use super::output::{self, Table, clean, date, note};
use crate::daemon::admin::{self, Known};
use crate::daemon::control::message::AclLine;
use crate::daemon::control::{Reply, Request};
use crate::device::acl::Mode;

const EXAMPLES: &str = "\
Examples:
  myclerk acl grant usb:0403:6001:A50285BI laptop
  myclerk acl grant 'usb:*' role:workshop --mode exclusive
  myclerk acl grant usb@1-1.4 laptop  # whatever is plugged in there
  myclerk acl grant usb:0781:5583 laptop --mode none  # deny, whatever else grants
  myclerk acl revoke usb:0403:6001:A50285BI laptop
  myclerk acl list";

/// Say who may use which device of this machine
///
/// Nobody may until an entry says so. All entries that match count together; one that says `none`
/// denies.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Acl {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let a node use a device
    #[command(after_help = EXAMPLES)]
    Grant {
        #[command(flatten)]
        entry: Pair,

        /// What it may do
        #[arg(long, default_value = "rw")]
        mode: ModeArg,
    },
    /// Take an entry back
    #[command(after_help = EXAMPLES)]
    Revoke {
        #[command(flatten)]
        entry: Pair,
    },
    /// Show all entries
    #[command(after_help = EXAMPLES)]
    List,
}

#[derive(Debug, Args)]
struct Pair {
    /// Id of the device, the beginning of it, its name, a port, or a pattern ending in '*'
    device: String,

    /// Name of a node, its node-id or the beginning of it, `role:NAME`, or `family:ID`
    node: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    /// Read and write
    Rw,
    /// Read only
    R,
    /// Write only
    W,
    /// Read and write, while holding the device's lock
    Exclusive,
    /// Nothing, whatever other entries grant
    None,
}

impl From<ModeArg> for Mode {
    fn from(arg: ModeArg) -> Self {
        match arg {
            ModeArg::Rw => Self::ReadWrite,
            ModeArg::R => Self::Read,
            ModeArg::W => Self::Write,
            ModeArg::Exclusive => Self::Exclusive,
            ModeArg::None => Self::None,
        }
    }
}

impl Acl {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let state = context.state();
        let known = Known::default();
        let (request, text): (_, fn(&[AclLine]) -> String) = match &self.action {
            Action::Grant {
                entry: Pair { device, node },
                mode,
            } => {
                let (device, subject) = (device.clone(), node.clone());
                (
                    Request::AclGrant {
                        device,
                        subject,
                        mode: Mode::from(*mode),
                    },
                    granted,
                )
            }
            Action::Revoke {
                entry: Pair { device, node },
            } => {
                let (device, subject) = (device.clone(), node.clone());
                (Request::AclRevoke { device, subject }, revoked)
            }
            Action::List => (Request::AclList, listed),
        };
        let direct = || {
            state.identity()?;
            let lines = match &self.action {
                Action::Grant {
                    entry: Pair { device, node },
                    mode,
                } => {
                    vec![admin::acl_grant(
                        &state,
                        known,
                        device,
                        node,
                        Mode::from(*mode),
                    )?]
                }
                Action::Revoke {
                    entry: Pair { device, node },
                } => admin::acl_revoke(&state, known, device, node)?,
                Action::List => admin::acl_list(&state, known)?,
            };
            Ok(Reply::Acl(lines))
        };
        let Reply::Acl(lines) = ask_server_or(context, &request, direct)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&lines);
        }
        if lines.is_empty() {
            note("Nobody may use anything yet. To let a node: myclerk acl grant DEVICE NODE");
            return Ok(());
        }
        output::print(&text(&lines))
    }
}

fn subject(line: &AclLine) -> &str {
    line.name.as_deref().unwrap_or(&line.subject)
}

fn granted(lines: &[AclLine]) -> String {
    let words = |mode| match mode {
        Mode::None => "may not use",
        Mode::Read => "may read",
        Mode::Write => "may write",
        Mode::ReadWrite => "may use",
        Mode::Exclusive => "may use, while holding its lock,",
    };
    let line = |line: &AclLine| {
        format!(
            "{} {} {}.\n",
            clean(subject(line)),
            words(line.mode),
            quoted(&line.device)
        )
    };
    lines.iter().map(line).collect()
}

fn revoked(lines: &[AclLine]) -> String {
    let line = |line: &AclLine| {
        format!(
            "The entry of {} for {} is gone.\n",
            clean(subject(line)),
            quoted(&line.device)
        )
    };
    lines.iter().map(line).collect()
}

fn listed(lines: &[AclLine]) -> String {
    let mut table = Table::new(&["DEVICE", "WHO", "MODE", "OPERATIONS", "UNTIL"]);
    for line in lines {
        let ops: Vec<_> = line
            .ops
            .iter()
            .map(|(low, high)| format!("{low:04x}-{high:04x}"))
            .collect();
        let until = line.until.map(date).unwrap_or_default();
        table.row(&[
            &line.device,
            subject(line),
            line.mode.word(),
            &ops.join(","),
            &until,
        ]);
    }
    table.text(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_shown_with_names_and_without_empty_columns() {
        let shed = AclLine {
            device: "usb:0403:*".to_owned(),
            subject: "node:00".to_owned(),
            name: Some("shed".to_owned()),
            mode: Mode::ReadWrite,
            ops: Vec::new(),
            until: None,
        };
        let bench = AclLine {
            subject: "role:bench".to_owned(),
            name: None,
            mode: Mode::None,
            ..shed.clone()
        };
        assert_eq!(
            listed(&[shed.clone(), bench]),
            "DEVICE      WHO         MODE\n\
             usb:0403:*  shed        rw\n\
             usb:0403:*  role:bench  none\n"
        );
        assert_eq!(granted(&[shed]), "shed may use 'usb:0403:*'.\n");
    }
}
