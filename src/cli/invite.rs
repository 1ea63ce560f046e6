//! `myclerk invite`

use clap::Args;

use super::Context;
use super::activity::Activity;
use super::ask::{Watcher, converse};
use super::errors::CliError;
use super::output::{self, clean, is_terminal};
use super::qr;
use crate::daemon::config::with_port;
use crate::daemon::control::message::{MemberInfo, Progress, Question};
use crate::daemon::control::{Reply, Request, Side};
use crate::device::acl::is_role;

const EXAMPLES: &str = "\
Examples:
  myclerk invite
  myclerk invite --addr hub.example.org:7575
  myclerk invite --role workshop --minutes 5
  myclerk invite --yes --json  # for scripts: one JSON value a line, the token first";

/// Let one new machine join the family
///
/// Shows a one-time token as text and, on a terminal, as a QR code; then waits for the machine that
/// uses it, shows its name and node-id, and asks whether it may join. Ctrl-C withdraws the invite.
/// Needs the running server daemon and the family's root key.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Invite {
    /// Admit whoever has the token without asking
    #[arg(long, short)]
    yes: bool,

    /// A role the new machine gets, for access entries such as `role:workshop`; may be repeated
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    roles: Vec<String>,

    /// An address of this machine as the new one can reach it; may be repeated [default: all]
    #[arg(long = "addr", value_name = "HOST[:PORT]", value_parser = address)]
    addresses: Vec<String>,

    /// How long the token is valid
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10))]
    minutes: u32,

    /// Show the QR code although standard output is no terminal
    #[arg(long)]
    qr: bool,
}

fn role(text: &str) -> Result<String, String> {
    if is_role(text) {
        Ok(text.to_owned())
    } else {
        Err("a role has 1 to 64 letters, digits, '-', '_' and '.'".to_owned())
    }
}

pub(super) fn address(text: &str) -> Result<String, String> {
    with_port(text).ok_or_else(|| "expected HOST or HOST:PORT".to_owned())
}

impl Invite {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let request = Request::Invite {
            roles: self.roles,
            addresses: self.addresses,
            minutes: self.minutes,
            admit: self.yes,
        };
        let json = context.json;
        let mut watcher = Inviting {
            json,
            qr: !json && (self.qr || is_terminal()),
            minutes: self.minutes,
            activity: Activity::new(),
        };
        let reply = converse(context, Side::Server, &request, &mut watcher)?;
        let Reply::Joined(member) = reply else {
            return Err(CliError::odd_reply());
        };
        if json {
            output::json_line(&Reply::Joined(member))
        } else {
            output::print(&joined(&member))
        }
    }
}

fn joined(member: &MemberInfo) -> String {
    let name = clean(&member.name);
    format!(
        "{name} has joined the family (node {}).\n\n\
         Next:\n  \
         myclerk export DEVICE             offer a device, if you have not yet\n  \
         myclerk acl grant DEVICE {name}   let {name} use it\n",
        member.id
    )
}

struct Inviting {
    json: bool,
    qr: bool,
    minutes: u32,
    activity: Activity,
}

impl Watcher for Inviting {
    fn progress(&mut self, progress: &Progress) -> Result<(), CliError> {
        if self.json {
            return output::json_line(progress);
        }
        match progress {
            Progress::Invited {
                token, addresses, ..
            } => {
                output::print(&self.invitation(token, addresses))?;
                self.activity
                    .show("Waiting for it; Ctrl-C withdraws the invite");
            }
            Progress::Attempt { from, left: 0 } => {
                self.activity.note(&format!(
                    "A wrong attempt from {from}. It was the last one."
                ));
            }
            Progress::Attempt { from, left } => {
                self.activity.note(&format!(
                    "A wrong attempt from {from}; {left} more and the invite is void."
                ));
            }
            Progress::Step(text) => self.activity.show(text),
        }
        Ok(())
    }

    fn question(&mut self, question: &Question) -> String {
        self.activity.stop();
        match question {
            Question::Admit {
                name,
                node,
                from,
                roles,
            } => format!(
                "\n\"{}\" wants to join.\n  node   {}\n  from   {}\n  roles  {}\n\
                 Compare the node-id with the one shown there. Let it join?",
                clean(name),
                clean(node),
                clean(from),
                if roles.is_empty() {
                    "none".to_owned()
                } else {
                    roles.join(", ")
                },
            ),
        }
    }

    fn interrupted(&self) -> String {
        "The invite is withdrawn.".to_owned()
    }
}

impl Inviting {
    fn invitation(&self, token: &str, addresses: &[String]) -> String {
        let minutes = self.minutes;
        let plural = if minutes == 1 { "" } else { "s" };
        let mut text = format!(
            "On the new machine, within {minutes} minute{plural}:\n\n  myclerk join {token}\n\n"
        );
        if self.qr
            && let Some(code) = qr::render(token)
        {
            text.push_str(&code);
            text.push('\n');
        }
        let reached = if addresses.is_empty() {
            "It contains no address: add one there, myclerk join TOKEN HOST:PORT.\n".to_owned()
        } else {
            format!("It will connect to {}.\n", addresses.join(" or "))
        };
        text + &reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_shows_what_the_stranger_calls_itself_harmlessly() {
        let question = Question::Admit {
            name: "x\u{1b}[1A".to_owned(),
            node: "ab".repeat(16),
            from: "10.0.0.7:1234".to_owned(),
            roles: vec!["workshop".to_owned()],
        };
        let words = Inviting {
            json: false,
            qr: false,
            minutes: 10,
            activity: Activity::new(),
        }
        .question(&question);
        assert!(words.contains("\"x\\u{1b}[1A\" wants to join"), "{words}");
        assert!(
            words.contains(&"ab".repeat(16)) && words.contains("workshop"),
            "{words}"
        );
    }

    #[test]
    fn the_code_is_shown_only_where_it_is_wanted() {
        let text = |qr| {
            Inviting {
                json: false,
                qr,
                minutes: 1,
                activity: Activity::new(),
            }
            .invitation("mc1:abc", &["h:1".to_owned()])
        };
        assert!(text(true).contains('█'));
        let plain = text(false);
        assert!(
            plain.contains("within 1 minute:\n\n  myclerk join mc1:abc\n"),
            "{plain}"
        );
        assert!(
            !plain.contains('█') && plain.contains("connect to h:1"),
            "{plain}"
        );
    }
}
