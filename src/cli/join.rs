//! `myclerk join`

use std::io::Read;

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Context;
use super::ask::ask_if_running;
use super::errors::{CliError, Exit};
use super::invite::address;
use super::output::{self, clean, note, span};
use crate::daemon::control::{Request, Side};
use crate::daemon::enrol::{self, JoinError, JoinRequest, JoinStep, Joined};
use crate::daemon::state::{BUILD_FLOOR, Invitation};
use crate::daemon::system::wall_secs;

const EXAMPLES: &str = "\
Examples:
  myclerk join mc1:AbC…
  myclerk join mc1:AbC… hub.example.org
  myclerk join mc1:AbC… 192.168.1.5:7575 --name laptop
  myclerk join mc1:AbC… --replace  # after this machine was revoked, or to change families
  myclerk join -  # reads the token from standard input";

/// Join a family with a token from `myclerk invite`
///
/// The token names the hub by its key, so that nobody else can take its place. The clock of this
/// machine need not be right. Afterwards this machine is a member and `myclerk client` can use what
/// the family grants it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Join {
    /// The token that `myclerk invite` shows, or `-` for standard input
    token: String,

    /// Where the hub can be reached from here [default: as the token says]
    #[arg(value_name = "HOST[:PORT]", value_parser = address)]
    address: Option<String>,

    /// Name of this machine in the family [default: the host name]
    #[arg(long)]
    name: Option<String>,

    /// Leave the present family first; its files are kept aside in the state directory
    #[arg(long)]
    replace: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    node: &'a str,
    name: &'a str,
    roles: &'a [String],
    family: &'a str,
    hub: &'a str,
    hub_name: &'a str,
    address: &'a str,
}

impl Join {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let state = context.state();
        if state.is_set_up() && !self.replace {
            let name = state.identity()?.name;
            return Err(
                CliError::new(Exit::Refused, "this machine already belongs to a family")
                    .because(format!("it is {name:?} in {}", state.path().display()))
                    .mend("myclerk join TOKEN --replace   # to leave that family"),
            );
        }
        let invitation = invitation(self.token)?;
        let addresses = match self.address {
            Some(address) => vec![address],
            None => invitation.addresses.clone(),
        };
        if addresses.is_empty() {
            return Err(CliError::usage("the token contains no address of the hub")
                .mend("myclerk join TOKEN HOST:PORT"));
        }
        state.create()?;
        if state.is_set_up() {
            no_daemon_runs(context)?;
            let aside = state.lock()?.leave_family()?;
            note(&format!(
                "Left the old family; its files are in {}",
                aside.display()
            ));
        }
        let expires = u64::from(invitation.expires);
        let name = self.name.unwrap_or_else(super::init::host_name);
        let request = JoinRequest {
            invitation,
            addresses,
            name,
        };
        let joined = enrol::join(state.path(), &request, &mut |step| note(&words(&step)))
            .map_err(|error| explain(error, expires, wall_secs()))?;
        if context.json {
            output::json(&Output::new(&joined))
        } else {
            output::print(&text(&joined))
        }
    }
}

/// A daemon with the old identity would go on writing that family's state.
fn no_daemon_runs(context: &Context) -> Result<(), CliError> {
    for side in [Side::Server, Side::Client] {
        if ask_if_running(context, side, &Request::Status)?.is_some() {
            let message = format!(
                "the {} daemon is running as a member of the old family",
                side.word()
            );
            return Err(CliError::new(Exit::Refused, message).mend("stop it (Ctrl-C), then join"));
        }
    }
    Ok(())
}

fn invitation(token: String) -> Result<Invitation, CliError> {
    let mut token = Zeroizing::new(token);
    if *token == "-" {
        token.clear();
        std::io::stdin()
            .lock()
            .take(4096)
            .read_to_string(&mut token)
            .map_err(|error| {
                CliError::new(Exit::Failed, "cannot read the token").because(error.to_string())
            })?;
    }
    Invitation::from_text(&token).map_err(|error| {
        CliError::usage("this is no token of `myclerk invite`")
            .because(error.to_string())
            .mend("copy the whole text that begins with mc1:")
    })
}

fn words(step: &JoinStep) -> String {
    match step {
        JoinStep::Connecting(address) => format!("Connecting to {} …", clean(address)),
        JoinStep::AwaitingConfirmation { node } => format!(
            "The hub knows the token. It asks its administrator about this machine:\n  \
             node   {node}\nWaiting …"
        ),
    }
}

/// A refused token looks the same for every reason; the token's own date tells more, as far as this
/// machine's clock can be believed.
fn explain(error: JoinError, expires: u64, now: u64) -> CliError {
    let refused = matches!(error, JoinError::Token);
    let report = CliError::from(error);
    if !refused {
        report
    } else if now < BUILD_FLOOR {
        report.because(
            "it is wrong, was used already, was withdrawn, or is over ten minutes old; \
             this machine cannot tell, its clock is not set",
        )
    } else if now > expires {
        let ago = span(now - expires);
        report.because(format!(
            "it expired {ago} ago, if this machine's clock is right"
        ))
    } else {
        report
    }
}

impl<'a> Output<'a> {
    fn new(joined: &'a Joined) -> Self {
        let Joined {
            node,
            name,
            roles,
            family,
            hub,
            hub_name,
            address,
        } = joined;
        Self {
            node,
            name,
            roles,
            family,
            hub,
            hub_name,
            address,
        }
    }
}

fn text(joined: &Joined) -> String {
    let hub = match &*joined.hub_name {
        "" => &joined.address,
        name => name,
    };
    format!(
        "This machine is now a member of the family of {}.\n  \
         node    {}  {}\n  family  {}\n  hub     {}\n\n\
         Next:\n  \
         myclerk client   connect to the hub\n  \
         myclerk list     see what it offers to this machine\n",
        clean(hub),
        clean(&joined.name),
        joined.node,
        joined.family,
        joined.hub,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: JoinError, now: u64) -> String {
        format!("{:?}", explain(error, BUILD_FLOOR + 600, now))
    }

    #[test]
    fn a_refused_token_is_called_expired_only_by_a_clock_that_is_set() {
        assert!(told(JoinError::Token, BUILD_FLOOR + 660).contains("expired 1 min 0 s ago"));
        assert!(told(JoinError::Token, BUILD_FLOOR + 1).contains("was used already"));
        assert!(told(JoinError::Token, 60).contains("its clock is not set"));
        assert!(!told(JoinError::Clock, BUILD_FLOOR + 660).contains("expired"));
    }

    #[test]
    fn every_refusal_names_what_mends_it() {
        let errors = [
            JoinError::Unreachable {
                tried: vec![("h:1".to_owned(), "timed out".to_owned())],
            },
            JoinError::NotTheHub {
                address: "h:1".to_owned(),
            },
            JoinError::Token,
            JoinError::Declined("no".to_owned()),
            JoinError::Clock,
        ];
        for error in errors {
            let told = told(error, BUILD_FLOOR);
            assert!(told.contains("mend: Some("), "{told}");
        }
    }
}
