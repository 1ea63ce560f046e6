//! `myclerk auto`

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::Context;
use super::ask::ask_if_running;
use super::errors::{CliError, Exit};
use super::output::{self, Table, clean, label, note};
use crate::bus::names::Access;
use crate::daemon::client::rules::edit::{self, EditError};
use crate::daemon::client::rules::{self, Rule, Rules};
use crate::daemon::control::message::{AutoRule, AutoStatus};
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk auto add hub/usb:0781:5567:4C530001
  myclerk auto add 'usb:0781:*' --node hub --node shed  # from hub if it has one
  myclerk auto add --class serial --node hub --name gps --group dialout --mode 0640
  myclerk auto list
  myclerk auto remove 2";

/// Have devices of other machines attached by themselves
///
/// The rules stand in client.toml among the settings files, which may also be edited by hand; the
/// client daemon follows every change. The first rule that wants a device decides.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Auto {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the rules, what they are about now, and why something is not attached
    List,
    Add(Box<Add>),
    Remove(Remove),
}

/// Add a rule at the end
#[derive(Debug, Args)]
struct Add {
    /// Id of the device as `myclerk list` shows it, with or without its machine, or the beginning of
    /// ids followed by '*'
    #[arg(value_name = "[NODE/]DEVICE", required_unless_present = "class")]
    device: Option<String>,

    /// Only devices of this class: usb, serial, can, hid, gpio, i2c, spi, onewire, pwm
    #[arg(long)]
    class: Option<String>,

    /// Only from this machine; repeated: from the first one that has it
    #[arg(long = "node", value_name = "NODE")]
    nodes: Vec<String>,

    /// What it is called here, also in its link /dev/myclerk/NODE/NAME
    #[arg(long)]
    name: Option<String>,

    /// As what it is to appear here, as with `myclerk attach`
    #[arg(long = "as", value_name = "WAY")]
    way: Option<String>,

    /// What its bus lets one choose besides, as with `myclerk attach`. May be repeated
    #[arg(short = 'o', long = "option", value_name = "KEY=VALUE", value_parser = super::attach::option)]
    options: Vec<(String, String)>,

    /// For how many seconds it stays here when its machine cannot be reached
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,

    /// The user whose its device files are
    #[arg(long)]
    owner: Option<String>,

    /// The group whose its device files are
    #[arg(long)]
    group: Option<String>,

    /// Permissions of its device files, such as 0660
    #[arg(long, value_parser = mode)]
    mode: Option<u16>,

    /// Queue for its lock while another machine has it
    #[arg(long)]
    lock: bool,
}

/// Take a rule away; what it has attached stays
#[derive(Debug, Args)]
struct Remove {
    /// Its number, as `myclerk auto list` shows it
    number: usize,
}

fn mode(text: &str) -> Result<u16, String> {
    rules::octal(text)
}

impl Auto {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let file = rules::file(&context.config);
        match self.action {
            Action::List => list(context, &file),
            Action::Add(add) => {
                let rule = add.rule()?;
                let old = read(&file)?;
                let new = edit::add(&old, &rule).map_err(|error| not_changed(&file, &error))?;
                write(&file, &new)?;
                let rules = Rules::parse(&new).map_err(|why| broken(&file, why))?;
                tell(context, &rules, rules.all().len(), "added")
            }
            Action::Remove(Remove { number }) => {
                let old = read(&file)?;
                let rules = Rules::parse(&old).map_err(|why| broken(&file, why))?;
                // Numbers begin with 1; there is no rule 0 either.
                let place = number.checked_sub(1).ok_or(EditError::NoRule(0));
                let new = place.and_then(|place| edit::remove(&old, place));
                let new = new.map_err(|error| not_changed(&file, &error))?;
                write(&file, &new)?;
                tell(context, &rules, number, "removed")
            }
        }
    }
}

impl Add {
    /// As the file would have it, so that both are judged alike.
    fn rule(self) -> Result<Rule, CliError> {
        let (node, device) = match self.device.as_deref().map(split) {
            Some((node, device)) => (node, Some(device)),
            None => (None, None),
        };
        let mut nodes = self.nodes;
        if let Some(node) = node {
            if !nodes.is_empty() {
                return Err(CliError::usage(
                    "it names its machine twice: NODE/ and --node",
                ));
            }
            nodes.push(node.to_owned());
        }
        let device = device.map(str::parse).transpose();
        let device = device.map_err(|error: crate::device::id::IdError| {
            CliError::usage(error.to_string()).mend("myclerk list")
        })?;
        let mut rule = Rule {
            device,
            class: self.class,
            nodes,
            name: self.name,
            way: self.way,
            grace: self.grace,
            access: Access {
                owner: self.owner,
                group: self.group,
                mode: self.mode,
            },
            lock: self.lock,
            ..Rule::default()
        };
        for (key, value) in self.options {
            rule.options.entry(key).or_default().push(value);
        }
        // Whatever the file would not take is wrong usage here.
        match edit::add("", &rule) {
            Ok(_) => Ok(rule),
            Err(error) => Err(CliError::usage(error.to_string())),
        }
    }
}

/// A node and its device; ids may have a slash too, behind their colon.
fn split(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((node, device)) if !node.is_empty() && !node.contains(':') => (Some(node), device),
        Some(_) | None => (None, text),
    }
}

fn read(file: &Path) -> Result<String, CliError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(failed("read", file, &error)),
    }
}

/// Replaces the file whole; whoever could read it still can.
fn write(file: &Path, text: &str) -> Result<(), CliError> {
    let Some(directory) = file.parent() else {
        return Err(CliError::usage("the settings have no directory"));
    };
    let write = || -> io::Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let new = file.with_extension("toml.new");
        let mut out = fs::File::create(&new)?;
        let mode = fs::metadata(file).map_or(0o644, |old| old.permissions().mode());
        out.set_permissions(Permissions::from_mode(mode))?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, file)?;
        fs::File::open(directory)?.sync_all()?;
        Ok(new)
    };
    write()
        .map(|_| ())
        .map_err(|error| failed("write", file, &error))
}

fn failed(what: &str, file: &Path, error: &io::Error) -> CliError {
    let message = format!("cannot {what} {}", file.display());
    if error.kind() == io::ErrorKind::PermissionDenied {
        let args: Vec<String> = std::env::args().skip(1).collect();
        return CliError::new(Exit::Refused, message)
            .because(error.to_string())
            .mend(format!("sudo myclerk {}", args.join(" ")));
    }
    CliError::new(Exit::Failed, message).because(error.to_string())
}

fn broken(file: &Path, why: String) -> CliError {
    let message = format!("{} is not understood", file.display());
    CliError::new(Exit::Failed, message)
        .because(why)
        .mend(format!("edit {}", file.display()))
}

fn not_changed(file: &Path, error: &EditError) -> CliError {
    match error {
        EditError::File(why) => broken(file, why.clone()),
        EditError::NoRule(_) => {
            CliError::new(Exit::NotFound, error.to_string()).mend("myclerk auto list")
        }
        EditError::Unusual => {
            let message = format!("{} can only be changed by hand", file.display());
            CliError::new(Exit::Failed, message).because(error.to_string())
        }
    }
}

/// Shows the rule that was added or removed.
fn tell(context: &Context, rules: &Rules, number: usize, done: &str) -> Result<(), CliError> {
    let rule = number.checked_sub(1).and_then(|n| rules.all().get(n));
    let rule = rule
        .map(|rule| of_file(number, rule))
        .ok_or_else(CliError::odd_reply)?;
    if context.json {
        return output::json(&rule);
    }
    output::print(&format!("Rule {number} is {done}: {}\n", words(&rule.rule)))?;
    if ask_if_running(context, Side::Client, &Request::Status)?.is_none() {
        note("note: the client is not running; it follows the rules when it does");
    }
    Ok(())
}

fn of_file(number: usize, rule: &Rule) -> AutoRule {
    AutoRule {
        number,
        rule: serde_json::to_value(rule).unwrap_or_default(),
        notes: Vec::new(),
        devices: Vec::new(),
    }
}

fn list(context: &Context, file: &Path) -> Result<(), CliError> {
    let status = match ask_if_running(context, Side::Client, &Request::AutoList)? {
        Some(Reply::Auto(status)) => status,
        Some(_) => return Err(CliError::odd_reply()),
        None => {
            let rules = Rules::parse(&read(file)?).map_err(|why| broken(file, why))?;
            note("note: the client is not running, so nothing is attached");
            AutoStatus {
                file: file.display().to_string(),
                problem: None,
                rules: (1..)
                    .zip(rules.all())
                    .map(|(n, rule)| of_file(n, rule))
                    .collect(),
            }
        }
    };
    if context.json {
        return output::json(&status);
    }
    output::print(&text(&status))
}

fn text(status: &AutoStatus) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    for rule in &status.rules {
        let _ = writeln!(text, "{}. {}", rule.number, clean(&words(&rule.rule)));
        for note in &rule.notes {
            let _ = writeln!(text, "   {}", clean(note));
        }
        let mut table = Table::new(&["DEVICE", "NAME", "STATE", "WHY"]);
        for device in &rule.devices {
            let path = format!(
                "{}/{}",
                label(&device.node.name, &device.node.id),
                device.device
            );
            let why = device.why.as_deref().unwrap_or_default();
            table.row(&[&path, &device.name, device.state.word(), why]);
        }
        if table.is_empty() {
            text.push_str("   nothing of that is offered now\n");
        } else {
            text.push_str(&table.text(3));
        }
    }
    if status.rules.is_empty() {
        let _ = writeln!(text, "there are no rules; see myclerk auto add --help");
    }
    if let Some(problem) = &status.problem {
        let _ = writeln!(text, "{}\n  the rules from before go on", clean(problem));
    }
    text
}

/// A rule on one line, by the keys of the file.
fn words(rule: &serde_json::Value) -> String {
    let Some(keys) = rule.as_object() else {
        return String::new();
    };
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => {
            let texts = list.iter().filter_map(serde_json::Value::as_str);
            texts.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    let words = keys
        .iter()
        .map(|(key, found)| format!("{key}={}", value(found)));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::control::message::{AutoDevice, NodeName, RuleState};

    #[test]
    fn a_node_is_told_from_an_id_that_has_a_slash() {
        assert_eq!(split("hub/usb:1:2"), (Some("hub"), "usb:1:2"));
        assert_eq!(split("serial:by-id/x"), (None, "serial:by-id/x"));
        assert_eq!(split("hub/serial:by-id/x"), (Some("hub"), "serial:by-id/x"));
        assert_eq!(split("usb:*"), (None, "usb:*"));
    }

    #[test]
    fn a_list_says_why_something_is_not_attached() {
        let status = AutoStatus {
            file: "/etc/myclerk/client.toml".to_owned(),
            problem: Some("client.toml is not understood: x".to_owned()),
            rules: vec![AutoRule {
                number: 1,
                rule: serde_json::json!({ "device": "usb:*", "nodes": ["hub", "shed"] }),
                notes: vec!["shed is not connected".to_owned()],
                devices: vec![AutoDevice {
                    node: NodeName {
                        id: "ab".repeat(16),
                        name: "hub".to_owned(),
                    },
                    device: "usb:1:2".to_owned(),
                    name: "Stick".to_owned(),
                    state: RuleState::Taken,
                    why: Some("in use by desk".to_owned()),
                }],
            }],
        };
        assert_eq!(
            text(&status),
            "1. device=usb:* nodes=hub,shed\n   shed is not connected\n   \
             DEVICE       NAME   STATE  WHY\n   hub/usb:1:2  Stick  taken  in use by desk\n\
             client.toml is not understood: x\n  the rules from before go on\n"
        );
    }
}
