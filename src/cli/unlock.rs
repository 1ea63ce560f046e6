//! `myclerk unlock`

use clap::Args;

use super::Context;
use super::ask::{ask, ask_if_running};
use super::attach::parse;
use super::errors::CliError;
use super::lock::path;
use super::output::{self, clean, label};
use crate::daemon::control::message::HeldLock;
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk unlock hub/can:can0
  myclerk unlock can:can0 --break  # on the machine that has the device";

/// Give a lock back, or break that of another machine
///
/// With --break whoever has the lock of the device loses it, and what it has open by it. That is for
/// the administrator of the machine that has the device, and for machines with the role admin; the
/// audit log tells of it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Unlock {
    /// The machine and its device; on the machine that has it, the device alone
    #[arg(value_name = "NODE/DEVICE|DEVICE")]
    target: String,

    /// End the lock whoever has it
    #[arg(long = "break")]
    breaking: bool,
}

impl Unlock {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        if self.breaking {
            let request = Request::Unlock {
                node: None,
                device: self.target.clone(),
                breaking: true,
            };
            match ask_if_running(context, Side::Server, &request)? {
                Some(Reply::Unlocked(lock)) => return print(context, &lock, &broken(&lock)),
                Some(_) => return Err(CliError::odd_reply()),
                None => {}
            }
        }
        let (node, device) = parse(&self.target).map_err(CliError::usage)?;
        let request = Request::Unlock {
            node: Some(node),
            device,
            breaking: self.breaking,
        };
        let Reply::Unlocked(lock) = ask(context, Side::Client, &request)? else {
            return Err(CliError::odd_reply());
        };
        print(context, &lock, &format!("{} is unlocked.\n", path(&lock)))
    }
}

fn broken(lock: &HeldLock) -> String {
    let node = label(&lock.node.name, &lock.node.id);
    let device = clean(&lock.device);
    format!("{} no longer has the lock of {device}.\n", clean(node))
}

fn print(context: &Context, lock: &HeldLock, text: &str) -> Result<(), CliError> {
    if context.json {
        output::json(lock)
    } else {
        output::print(text)
    }
}
