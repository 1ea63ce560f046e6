//! `myclerk pwm`

use std::collections::BTreeMap;

use clap::Args;
use serde_json::Value;

use super::Context;
use super::ask::ask;
use super::attach::parse;
use super::errors::CliError;
use super::output;
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk pwm bench/pwm:pwmchip0 0 --period 20ms --duty 1.5ms
  myclerk pwm bench/pwm:pwmchip0 0 --period 40us --duty 10us --polarity inversed --hold
  myclerk pwm bench/pwm:pwmchip0 0 --off";

/// Let a PWM channel of another machine run
///
/// Linux cannot make a PWM chip out of nothing, so there is no local device. The client daemon keeps
/// the channel running until --off, `myclerk detach` or its own end, and `myclerk status` shows it.
/// When the connection ends, the owner switches the channel off, except with --hold.
///
/// Changing only the duty cycle does not interrupt the channel.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Pwm {
    /// The machine and its PWM chip, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = parse)]
    target: (String, String),

    /// Number of the channel on its chip
    #[arg(value_name = "CHANNEL")]
    channel: u32,

    /// Length of a cycle, such as 20ms, 40us or 500ns
    #[arg(long, value_name = "TIME", value_parser = nanoseconds, required_unless_present = "off")]
    period: Option<u64>,

    /// How long it is active in each cycle
    #[arg(long, value_name = "TIME", value_parser = nanoseconds, required_unless_present = "off")]
    duty: Option<u64>,

    /// Which level is active: normal is high
    #[arg(long, value_name = "WHICH", value_parser = ["normal", "inversed"])]
    polarity: Option<String>,

    /// Let it go on when the connection ends
    #[arg(long)]
    hold: bool,

    /// Switch it off
    #[arg(long, conflicts_with_all = ["period", "duty", "polarity", "hold"])]
    off: bool,
}

/// A length of time in nanoseconds, exactly.
fn nanoseconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u32 = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 9,
        "ms" => 6,
        "us" => 3,
        "ns" => 0,
        _ => return Err("expected a number and ns, us, ms or s".to_owned()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let only_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !only_digits(whole) || !only_digits(fraction) {
        return Err("expected a number such as 1.5".to_owned());
    }
    let fraction = fraction.trim_end_matches('0');
    let places = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    if places > unit {
        return Err("there is nothing shorter than 1ns".to_owned());
    }
    let scaled = format!("{whole}{fraction}").parse::<u64>().ok();
    let value = scaled.and_then(|scaled| scaled.checked_mul(10u64.pow(unit - places)));
    value.ok_or_else(|| "that is too long".to_owned())
}

impl Pwm {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let parameters = self.parameters();
        let (node, device) = self.target;
        let request = Request::Operate {
            node: node.clone(),
            device: device.clone(),
            operation: if self.off { "off" } else { "set" }.to_owned(),
            parameters: parameters.clone(),
        };
        let Reply::Operated(mut done) = ask(context, Side::Client, &request)? else {
            return Err(CliError::odd_reply());
        };
        if done.get("attach").is_some() {
            done = first(context, &node, &device, &parameters)?;
        }
        if context.json {
            return output::json(&done);
        }
        let what = if self.off { "off" } else { "running" };
        let path = output::clean(&format!("{node}/{device}")).into_owned();
        output::print(&format!("Channel {} of {path} is {what}.\n", self.channel))
    }

    fn parameters(&self) -> BTreeMap<String, String> {
        let mut parameters = BTreeMap::from([("channel".to_owned(), self.channel.to_string())]);
        let times = [("period-ns", self.period), ("duty-ns", self.duty)];
        for (key, value) in times {
            parameters.extend(value.map(|value| (key.to_owned(), value.to_string())));
        }
        let polarity = self.polarity.clone();
        parameters.extend(polarity.map(|value| ("polarity".to_owned(), value)));
        if self.hold {
            parameters.insert("hold".to_owned(), "yes".to_owned());
        }
        parameters
    }
}

/// The first channel of a chip attaches it.
fn first(
    context: &Context,
    node: &str,
    device: &str,
    parameters: &BTreeMap<String, String>,
) -> Result<Value, CliError> {
    let options = parameters
        .iter()
        .map(|(key, value)| (key.clone(), vec![value.clone()]));
    let request = Request::Attach {
        node: node.to_owned(),
        device: device.to_owned(),
        name: None,
        way: None,
        options: options.collect(),
        grace: None,
    };
    let Reply::Attached(attached) = ask(context, Side::Client, &request)? else {
        return Err(CliError::odd_reply());
    };
    serde_json::to_value(&attached).map_err(|_| CliError::odd_reply())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        for (text, ns) in [
            ("20ms", 20_000_000),
            ("1.5ms", 1_500_000),
            ("0.000000001s", 1),
            ("40us", 40_000),
            ("7ns", 7),
            ("1.50us", 1_500),
            ("0ms", 0),
        ] {
            assert_eq!(nanoseconds(text), Ok(ns), "{text}");
        }
        for wrong in [
            "20",
            "ms",
            "1.5ns",
            "1,5ms",
            "-1ms",
            "1e3ns",
            "20000000000s",
            "1.5.5ms",
            "",
            "1µs",
        ] {
            assert!(nanoseconds(wrong).is_err(), "{wrong}");
        }
    }
}
