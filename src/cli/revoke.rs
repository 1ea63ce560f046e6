//! `myclerk revoke`

use clap::Args;

use super::Context;
use super::ask::ask_server_or;
use super::errors::CliError;
use super::output::{self, clean, label, note};
use crate::daemon::admin;
use crate::daemon::control::message::Revoked;
use crate::daemon::control::{Reply, Request};
use crate::daemon::system::{SystemEntropy, wall_secs};

const EXAMPLES: &str = "\
Examples:
  myclerk revoke laptop
  myclerk revoke 3fa4c0";

/// Exclude a machine from the family, for good
///
/// Its certificate goes on the family's revocation list, its sessions are closed, and the family
/// gets a new pre-shared key. The others learn of it the next time they connect. To let the machine
/// in again, invite it again.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Revoke {
    /// Name of the machine, its node-id, or the beginning of it
    node: String,
}

impl Revoke {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let direct = || {
            let state = context.state();
            let present = wall_secs().max(state.time_floor()?);
            let (revoked, _) = admin::revoke(&state, &self.node, &mut SystemEntropy, present)?;
            note("note: the server is not running; it tells the others when it runs again");
            Ok(Reply::Revoked(revoked))
        };
        let request = Request::Revoke {
            node: self.node.clone(),
        };
        let Reply::Revoked(revoked) = ask_server_or(context, &request, direct)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            output::json(&revoked)
        } else {
            output::print(&text(&revoked))
        }
    }
}

fn text(revoked: &Revoked) -> String {
    let name = clean(label(&revoked.node.name, &revoked.node.id));
    let sessions = match revoked.closed {
        0 => String::new(),
        1 => "; its session was closed".to_owned(),
        n => format!("; its {n} sessions were closed"),
    };
    let entries = match revoked.entries {
        0 => String::new(),
        1 => "Its access entry is gone.\n".to_owned(),
        n => format!("Its {n} access entries are gone.\n"),
    };
    format!(
        "{name} is no longer in the family{sessions}.\n  \
         node {}, revocation list {}, key epoch {}\n{entries}",
        revoked.node.id, revoked.crl, revoked.psk_epoch
    )
}
