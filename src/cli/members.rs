//! `myclerk members`

use clap::Args;

use super::Context;
use super::ask::ask_server_or;
use super::errors::CliError;
use super::output::{self, Table, date, short};
use crate::daemon::admin::{self, Known};
use crate::daemon::control::message::MemberInfo;
use crate::daemon::control::{Reply, Request};

const EXAMPLES: &str = "\
Examples:
  myclerk members
  myclerk members --json";

/// Show the machines of the family
///
/// Only the machine that holds the family's root key has the list.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Members {}

impl Members {
    pub(super) fn run(context: &Context) -> Result<(), CliError> {
        let direct = || {
            Ok(Reply::Members(admin::members(
                &context.state(),
                Known::default(),
            )?))
        };
        let reply = ask_server_or(context, &Request::Members, direct)?;
        let Reply::Members(members) = reply else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            output::json(&members)
        } else {
            output::print(&text(&members))
        }
    }
}

fn text(members: &[MemberInfo]) -> String {
    let mut table = Table::new(&["NAME", "NODE", "ROLES", "JOINED", "STATE"]);
    for member in members {
        let state = match (member.revoked, member.this, member.online) {
            (Some(at), _, _) => format!("revoked {}", date(at)),
            (None, true, _) => "this machine".to_owned(),
            (None, false, Some(true)) => "online".to_owned(),
            (None, false, Some(false)) => "offline".to_owned(),
            (None, false, None) => String::new(),
        };
        let roles = member.roles.join(",");
        table.row(&[
            &member.name,
            short(&member.id),
            &roles,
            &date(member.joined),
            &state,
        ]);
    }
    table.text(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_with_the_beginning_of_its_id_and_its_state() {
        let hub = MemberInfo {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            name: "hub".to_owned(),
            roles: vec!["admin".to_owned()],
            joined: 0,
            expires: 1,
            revoked: None,
            this: true,
            online: Some(true),
        };
        let shed = MemberInfo {
            name: "shed".to_owned(),
            roles: Vec::new(),
            revoked: Some(86_400),
            this: false,
            ..hub.clone()
        };
        assert_eq!(
            text(&[hub, shed]),
            "NAME  NODE          ROLES  JOINED      STATE\n\
             hub   0123456789ab  admin  1970-01-01  this machine\n\
             shed  0123456789ab         1970-01-01  revoked 1970-01-02\n"
        );
    }
}
