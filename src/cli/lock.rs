//! `myclerk lock`

use clap::Args;

use super::Context;
use super::ask::ask;
use super::attach::parse;
use super::errors::CliError;
use super::output::{self, clean, label, span};
use crate::daemon::control::message::HeldLock;
use crate::daemon::control::{Reply, Request, Side};
use crate::device::op::{MAX_TTL_MS, MAX_WAIT_MS};

const EXAMPLES: &str = "\
Examples:
  myclerk lock hub/usb:0403:6001:A50285BI
  myclerk lock hub/can:can0 --wait 5m  # queue behind whoever has it now
  myclerk lock hub/gpio:gpiochip0 --ttl 30s --wait 1h
  myclerk unlock hub/can:can0";

/// Have a device of another machine to oneself
///
/// While the lock lasts no other machine may use the device. The client daemon renews it until
/// `myclerk unlock`, also after the connection was lost for a moment; when this machine is gone for
/// longer than the lock lasts without renewal, or its connection for more than ten seconds, the next
/// in the queue gets it. Ctrl-C while it waits leaves the queue.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Lock {
    /// The machine and its device, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = parse)]
    target: (String, String),

    /// How long it lasts when this machine does not renew it: 30s, 10m, at most 1h
    #[arg(long, value_name = "TIME", value_parser = ttl, default_value = "10m")]
    ttl: u32,

    /// How long to wait for it while others have the device: 30s, 5m, at most 1h
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
    wait: u32,
}

/// `90`, `90s`, `5m` or `1h`, in seconds.
fn seconds(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..) {
        Some("" | "s") => Some(1),
        Some("m" | "min") => Some(60),
        Some("h") => Some(3_600),
        Some(_) | None => None,
    };
    let number: Option<u32> = digits.parse().ok();
    let Some(secs) = number.zip(unit).and_then(|(n, unit)| n.checked_mul(unit)) else {
        return Err("expected a time such as 30s, 10m or 1h".to_owned());
    };
    if (least..=most).contains(&secs) {
        Ok(secs)
    } else {
        Err(format!("expected {least} to {most} seconds"))
    }
}

fn ttl(text: &str) -> Result<u32, String> {
    seconds(text, 1, MAX_TTL_MS / 1_000)
}

fn wait(text: &str) -> Result<u32, String> {
    seconds(text, 0, MAX_WAIT_MS / 1_000)
}

impl Lock {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let (node, device) = self.target;
        let (ttl, wait) = (self.ttl, self.wait);
        let request = Request::Lock {
            node,
            device,
            ttl,
            wait,
        };
        let Reply::Locked(lock) = ask(context, Side::Client, &request)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&lock);
        }
        output::print(&format!(
            "{} is locked for this machine until `myclerk unlock`; without this machine for {}.\n",
            path(&lock),
            span(u64::from(ttl)),
        ))
    }
}

/// `hub/can:can0`, as `lock` and `unlock` take it.
pub(super) fn path(lock: &HeldLock) -> String {
    let node = label(&lock.node.name, &lock.node.id);
    format!("{}/{}", clean(node), clean(&lock.device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_in_seconds_minutes_or_hours() {
        for (text, secs) in [
            ("30", 30),
            ("30s", 30),
            ("10m", 600),
            ("2min", 120),
            ("1h", 3_600),
        ] {
            assert_eq!(ttl(text), Ok(secs), "{text}");
        }
        for wrong in [
            "",
            "m",
            "-1",
            "0",
            "61m",
            "2h",
            "1d",
            "1.5m",
            "9999999999",
            "10 m",
        ] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
        assert_eq!(wait("0"), Ok(0));
    }
}
