//! `myclerk serial`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::{ArgGroup, Args, Subcommand};

use super::Context;
use super::ask::ask;
use super::attach;
use super::errors::CliError;
use super::output;
use crate::bus::serial::op::{ControlSet, MAX_STEP_US, MAX_STEPS, Step};
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk serial pulse hub/serial:ttyUSB0 --esp32-boot
  myclerk serial pulse hub/serial:ttyUSB0 --esp32-reset
  myclerk serial pulse hub/serial:ttyUSB0 dtr=0:250ms dtr=1  # resets most Arduinos
  myclerk serial pulse hub/serial:ttyUSB0 break=1:300ms break=0";

const STEPS: &str = "\
Each step sets lines and then waits: LINE=0 or LINE=1, separated by commas, and after a colon how long \
to wait. The lines are dtr, rts and break; what a step does not name stays as it is.

Examples:
  myclerk serial pulse hub/serial:ttyUSB0 --esp32-boot
  myclerk serial pulse hub/serial:ttyUSB0 dtr=0,rts=1:100ms dtr=1,rts=0:50ms dtr=0";

/// What an ESP32's usual circuit makes of DTR and RTS: RTS alone holds it in reset, DTR alone holds the
/// pin low that it looks at when it leaves reset.
const ESP32_BOOT: &str = "dtr=0,rts=1:100ms dtr=1,rts=0:50ms dtr=0";
const ESP32_RESET: &str = "dtr=0,rts=1:100ms rts=0";

/// Steer the lines of a serial port
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serial {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pulse(Pulse),
}

/// Run a timed pattern on the lines of a port, next to the hardware
///
/// The whole pattern goes to the machine that has the port and runs there, so that its times do not
/// depend on the network. The port may be attached; if it is not, it is opened for this, which raises DTR
/// and RTS for a moment, as opening a port does on every Linux, and drops both in the end.
#[derive(Debug, Args)]
#[command(after_help = STEPS, group = ArgGroup::new("pattern").required(true))]
struct Pulse {
    /// The machine and its port, as `myclerk list` shows them
    #[arg(value_name = "NODE/DEVICE", value_parser = attach::parse)]
    target: (String, String),

    /// Reset an ESP32 or ESP8266 into its boot loader
    #[arg(long, group = "pattern")]
    esp32_boot: bool,

    /// Reset an ESP32 or ESP8266
    #[arg(long, group = "pattern")]
    esp32_reset: bool,

    /// What to do, one after the other: `dtr=0,rts=1:100ms`; times in us, ms or s
    #[arg(value_name = "STEP", group = "pattern", value_parser = step)]
    steps: Vec<Step>,
}

impl Serial {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let Command::Pulse(pulse) = self.command;
        pulse.run(context)
    }
}

impl Pulse {
    fn run(self, context: &Context) -> Result<(), CliError> {
        let steps = self.pattern().map_err(CliError::usage)?;
        let (node, device) = self.target;
        let request = Request::Operate {
            node,
            device,
            operation: "pulse".to_owned(),
            parameters: BTreeMap::from([("steps".to_owned(), steps)]),
        };
        let Reply::Operated(lines) = ask(context, Side::Client, &request)? else {
            return Err(CliError::odd_reply());
        };
        if context.json {
            return output::json(&lines);
        }
        output::print(&told(&lines))
    }

    /// The steps as the daemon takes them.
    fn pattern(&self) -> Result<String, String> {
        let of = |text: &str| text.split(' ').map(step).collect::<Result<Vec<_>, _>>();
        let seq = match (self.esp32_boot, self.esp32_reset) {
            (true, _) => of(ESP32_BOOT)?,
            (false, true) => of(ESP32_RESET)?,
            (false, false) => self.steps.clone(),
        };
        let request = ControlSet {
            seq,
            ..ControlSet::default()
        };
        request.check().map_err(|_| {
            format!("at most {MAX_STEPS} steps that take 10 s together can run next to a port")
        })?;
        let steps: Vec<String> = request.seq.into_iter().map(words).collect();
        Ok(steps.join(","))
    }
}

/// Reads `dtr=0,rts=1:100ms`.
fn step(text: &str) -> Result<Step, String> {
    let (lines, delay) = match text.split_once(':') {
        Some((lines, delay)) => (lines, Some(delay)),
        None => (text, None),
    };
    let mut step = Step::default();
    for line in lines.split(',').filter(|line| !line.is_empty()) {
        let state = |state: &str| match state {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        };
        let (name, on) = line
            .split_once('=')
            .and_then(|(name, on)| Some((name, state(on)?)))
            .ok_or_else(|| format!("{line:?} is not LINE=0 or LINE=1"))?;
        let slot = match name {
            "dtr" => &mut step.dtr,
            "rts" => &mut step.rts,
            "break" => &mut step.brk,
            _ => return Err(format!("{name:?} is none of dtr, rts and break")),
        };
        if slot.replace(on).is_some() {
            return Err(format!("{name} is there twice; a step sets a line once"));
        }
    }
    if let Some(delay) = delay {
        step.delay_us = micros(delay)?;
    }
    if step == Step::default() {
        return Err("a step sets a line or waits".to_owned());
    }
    Ok(step)
}

fn micros(text: &str) -> Result<u32, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = match unit {
        "us" => 1,
        "ms" => 1000,
        "s" => 1_000_000,
        _ => return Err(format!("{text:?} is no time such as 100ms, 250us or 1s")),
    };
    let time = number.parse::<u32>().ok();
    time.and_then(|number| number.checked_mul(unit))
        .filter(|us| *us <= MAX_STEP_US)
        .ok_or_else(|| format!("{text:?} is longer than a step may wait, which is 5 s"))
}

/// A step as the daemon takes it: `-dtr rts 100000us`.
fn words(step: Step) -> String {
    let mut text = String::new();
    for (name, state) in [("dtr", step.dtr), ("rts", step.rts), ("break", step.brk)] {
        match state {
            Some(true) => text.push_str(name),
            Some(false) => {
                text.push('-');
                text.push_str(name);
            }
            None => continue,
        }
        text.push(' ');
    }
    // Writing to a String cannot fail.
    let _ = write!(text, "{}us", step.delay_us);
    text
}

/// The lines as they are afterwards.
fn told(lines: &serde_json::Value) -> String {
    let mut text = String::from("Done.");
    for (at, name) in ["dtr", "rts", "cts", "dsr", "ri", "dcd"].iter().enumerate() {
        if let Some(on) = lines.get(name).and_then(serde_json::Value::as_bool) {
            let start = if at == 0 { "  " } else { ", " };
            let _ = write!(text, "{start}{name} {}", if on { "on" } else { "off" });
        }
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Parameters;
    use crate::bus::serial::client::pulse::sequence;

    fn pulse(esp32_boot: bool, esp32_reset: bool, steps: &[&str]) -> Pulse {
        Pulse {
            target: ("hub".to_owned(), "serial:x".to_owned()),
            esp32_boot,
            esp32_reset,
            steps: steps.iter().map(|text| step(text).unwrap()).collect(),
        }
    }

    /// What the daemon understands of it.
    fn understood(pulse: &Pulse) -> Vec<Step> {
        let parameters = Parameters::from([("steps".to_owned(), pulse.pattern().unwrap())]);
        sequence("pulse", &parameters).unwrap().seq
    }

    #[test]
    fn a_step_names_lines_and_how_long_to_wait() {
        let all = Step {
            dtr: Some(false),
            rts: Some(true),
            brk: Some(false),
            delay_us: 100_000,
        };
        assert_eq!(step("dtr=0,rts=1,break=0:100ms"), Ok(all));
        let waits = |delay_us| Step {
            delay_us,
            ..Step::default()
        };
        assert_eq!(step(":250us"), Ok(waits(250)));
        assert_eq!(step(":5s"), Ok(waits(5_000_000)));
    }

    #[test]
    fn what_is_no_step_is_refused() {
        for text in [
            "",
            ":",
            ",",
            "dtr",
            "dtr=2",
            "dtr=",
            "cts=1",
            "dtr=1,dtr=0",
            "dtr=1:",
            "dtr=1:5",
            "dtr=1:5h",
            "dtr=1:ms",
            ":6s",
            ":99999999999s",
            ":0ms",
        ] {
            assert!(step(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_what_the_daemon_understands() {
        let steps = ["dtr=0,rts=1:100ms", "break=1", "break=0:7us"];
        let expected: Vec<Step> = steps.iter().map(|text| step(text).unwrap()).collect();
        assert_eq!(understood(&pulse(false, false, &steps)), expected);
    }

    #[test]
    fn an_esp32_is_reset_into_its_boot_loader_by_three_steps() {
        let of = |dtr, rts, delay_us| Step {
            dtr,
            rts,
            brk: None,
            delay_us,
        };
        assert_eq!(
            understood(&pulse(true, false, &[])),
            [
                of(Some(false), Some(true), 100_000),
                of(Some(true), Some(false), 50_000),
                of(Some(false), None, 0),
            ]
        );
        assert_eq!(
            understood(&pulse(false, true, &[])),
            [
                of(Some(false), Some(true), 100_000),
                of(None, Some(false), 0),
            ]
        );
    }

    #[test]
    fn a_pattern_beyond_the_bounds_is_refused_here() {
        assert!(pulse(false, false, &["dtr=1"; 33]).pattern().is_err());
        assert!(pulse(false, false, &[":5s"; 3]).pattern().is_err());
        assert!(pulse(false, false, &[":5s"; 2]).pattern().is_ok());
    }

    #[test]
    fn the_lines_are_told_to_people() {
        let lines = serde_json::json!({"dtr": true, "rts": false, "cts": true});
        assert_eq!(told(&lines), "Done.  dtr on, rts off, cts on\n");
        assert_eq!(told(&serde_json::json!(null)), "Done.\n");
    }
}
