//! `myclerk can`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Context;
use super::ask::ask;
use super::attach;
use super::errors::CliError;
use super::output;
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk can status hub/can:can0
  myclerk can configure hub/can:can0 --bitrate 250000
  myclerk can configure hub/can:can0 --bitrate 500000 --dbitrate 2000000 --sample 875
  myclerk can filter hub/can:can0 123:7FF 400:700";

/// Ask for the state of an attached CAN bus, and steer its controller
///
/// A virtual interface has no bit rate and no error counters; these are the remote controller's. The bus
/// has to be attached here.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Can {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(Status),
    Configure(Configure),
    Filter(Filter),
}

/// Show how the remote controller stands: its state, error counters, restarts
#[derive(Debug, Args)]
struct Status {
    /// The machine and its bus, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = attach::parse)]
    target: (String, String),
}

/// Set the bit rate and the modes of the remote controller, for as long as it is attached
///
/// That starts a controller again that is off the bus. Only its single user may do so.
#[derive(Debug, Args)]
struct Configure {
    /// The machine and its bus, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = attach::parse)]
    target: (String, String),

    /// Bits per second
    #[arg(long, value_name = "BITS/S")]
    bitrate: u32,

    /// Where in a bit it is sampled, in tenths of a percent
    #[arg(long, value_name = "PERMILLE", value_parser = clap::value_parser!(u32).range(1..=999))]
    sample: Option<u32>,

    /// Bits per second of the data of FD frames; FD is off without it
    #[arg(long, value_name = "BITS/S")]
    dbitrate: Option<u32>,

    /// What it does besides; may be repeated
    #[arg(long, value_name = "MODE", value_parser = ["loopback", "listen-only", "one-shot"])]
    mode: Vec<String>,
}

/// Choose the frames that cross the link
#[derive(Debug, Args)]
struct Filter {
    /// The machine and its bus, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = attach::parse)]
    target: (String, String),

    /// In hexadecimal, as candump's; identifiers of eight digits are extended ones
    #[arg(value_name = "ID:MASK", required = true)]
    filters: Vec<String>,
}

impl Can {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let (target, operation, parameters) = match self.command {
            Command::Status(status) => (status.target, "status", BTreeMap::new()),
            Command::Configure(configure) => {
                let parameters = configure.parameters();
                (configure.target, "configure", parameters)
            }
            Command::Filter(filter) => {
                let filters = filter.filters.join(",");
                let parameters = BTreeMap::from([("filter".to_owned(), filters)]);
                (filter.target, "filter", parameters)
            }
        };
        let (node, device) = target;
        let request = Request::Operate {
            node,
            device,
            operation: operation.to_owned(),
            parameters,
        };
        let Reply::Operated(answer) = ask(context, Side::Client, &request)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            output::json(&answer)
        } else {
            output::print(&text(&answer))
        }
    }
}

impl Configure {
    /// As the daemon takes them.
    fn parameters(&self) -> BTreeMap<String, String> {
        let number = |name: &str, value: Option<u32>| Some((name.to_owned(), value?.to_string()));
        let modes = Some(self.mode.join(",")).filter(|modes| !modes.is_empty());
        [
            number("bitrate", Some(self.bitrate)),
            number("sample", self.sample),
            number("dbitrate", self.dbitrate),
            modes.map(|modes| ("mode".to_owned(), modes)),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A line for each thing that is told.
fn text(answer: &Value) -> String {
    let mut text = String::new();
    for (name, value) in answer.as_object().into_iter().flatten() {
        // Writing to a String does not fail.
        let _ = match value {
            Value::String(word) => writeln!(text, "{name}  {word}"),
            Value::Bool(on) => writeln!(text, "{name}  {}", if *on { "on" } else { "off" }),
            Value::Null => writeln!(text, "{name}  none"),
            Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                writeln!(text, "{name}  {value}")
            }
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        can: Can,
    }

    #[test]
    fn a_configuration_is_told_by_its_own_names() {
        let line = "can configure hub/can:can0 --bitrate 500000 --sample 875 --mode one-shot \
                    --mode loopback";
        let line = Line::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Configure(configure) = line.can.command else {
            panic!("a configuration");
        };
        let told: Vec<_> = configure.parameters().into_iter().collect();
        let told: Vec<_> = told.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            told,
            [
                ("bitrate", "500000"),
                ("mode", "one-shot,loopback"),
                ("sample", "875")
            ]
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for line in [
            "can configure hub/can:can0",
            "can configure hub/can:can0 --bitrate fast",
            "can configure hub/can:can0 --bitrate 1 --sample 1000",
            "can configure hub/can:can0 --bitrate 1 --mode quiet",
            "can filter hub/can:can0",
            "can status can0",
        ] {
            assert!(
                Line::try_parse_from(line.split_whitespace()).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn an_answer_is_a_line_for_each_thing() {
        let answer = serde_json::json!({ "state": "bus-off", "tx": 256, "one-shot": true });
        assert_eq!(text(&answer), "one-shot  on\nstate  bus-off\ntx  256\n");
    }
}
