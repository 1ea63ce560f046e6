//! `myclerk status`

mod traffic;
mod watch;

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use self::traffic::Since;
use super::Context;
use super::ask::ask_if_running;
use super::attach::path;
use super::errors::CliError;
use super::list::no_daemon;
use super::output::{self, Table, bytes, clean, label, span};
use crate::daemon::control::message::{ClientStatus, NodeName, ServerStatus};
use crate::daemon::control::{Reply, Request, Side};

const EXAMPLES: &str = "\
Examples:
  myclerk status
  myclerk status --watch
  myclerk status --watch 10 --json  # a line of JSON every ten seconds";

/// Show what the daemons of this machine are doing
///
/// P50 and P99: half of a device's requests, or 99 of 100, were answered within that time, of those of
/// the last half minute to minute. DROPS: events that could not be sent because the other side was too
/// slow.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    /// Show it anew every so many seconds until Ctrl-C, with the rates of the time between
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

#[derive(Serialize)]
struct Output {
    server: Option<ServerStatus>,
    client: Option<ClientStatus>,
}

impl Status {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        if let Some(seconds) = self.watch {
            return watch::run(context, Duration::from_secs(seconds));
        }
        let output = Output::now(context)?;
        if context.json {
            output::json(&output)
        } else {
            output::print(&output.text(None))
        }
    }
}

impl Output {
    fn now(context: &Context) -> Result<Self, CliError> {
        let server = match ask_if_running(context, Side::Server, &Request::Status)? {
            Some(Reply::Server(status)) => Some(status),
            Some(_) => return Err(CliError::odd_reply()),
            None => None,
        };
        let client = match ask_if_running(context, Side::Client, &Request::Status)? {
            Some(Reply::Client(status)) => Some(status),
            Some(_) => return Err(CliError::odd_reply()),
            None => None,
        };
        if server.is_none() && client.is_none() {
            return Err(no_daemon());
        }
        Ok(Self { server, client })
    }

    /// For people; with rates if there is an older look to compare with.
    fn text(&self, since: Option<&Since>) -> String {
        let parts = [
            self.server.as_ref().map(|server| {
                let uses = traffic::of_server(server);
                server_text(server) + &traffic::table(&uses, "FOR", since)
            }),
            self.client.as_ref().map(|client| {
                let attached = traffic::of_client(client);
                client_text(client) + &traffic::table(&attached, "FROM", since)
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }
}

fn node_label(node: &NodeName) -> &str {
    label(&node.name, &node.id)
}

fn server_text(status: &ServerStatus) -> String {
    let offered = match status.offered {
        0 => "nothing".to_owned(),
        1 => "1 device".to_owned(),
        n => format!("{n} devices"),
    };
    let mut text = format!(
        "Server {} up {}, listening on {}, offering {offered}.\n",
        clean(node_label(&status.node)),
        span(status.uptime),
        status.listen.join(", "),
    );
    let mut table = Table::new(&["NODE", "ADDRESS", "CONNECTED", "USES", "IN", "OUT"]);
    for session in &status.sessions {
        table.row(&[
            node_label(&session.node),
            &session.address,
            &span(session.age),
            &session.devices.join(" "),
            &bytes(session.bytes_in),
            &bytes(session.bytes_out),
        ]);
    }
    text.push_str(&if table.is_empty() {
        "  nobody is connected\n".to_owned()
    } else {
        table.text(2)
    });
    text
}

fn client_text(status: &ClientStatus) -> String {
    let mut text = format!(
        "Client {} up {}.\n",
        clean(node_label(&status.node)),
        span(status.uptime)
    );
    let mut nodes = Table::new(&["NODE", "ADDRESS", "LINK", "FOR", "RTT", "NOTE"]);
    for peer in &status.nodes {
        let rtt = peer.rtt_us.map(milliseconds).unwrap_or_default();
        let problem = peer.problem.as_deref().unwrap_or_default();
        let label = node_label(&peer.node);
        nodes.row(&[
            label,
            &peer.address,
            peer.link.word(),
            &span(peer.since),
            &rtt,
            problem,
        ]);
    }
    text.push_str(&if nodes.is_empty() {
        "  no other machine is known; see myclerk join\n".to_owned()
    } else {
        nodes.text(2)
    });
    let mut attached = Table::new(&["PORT", "DEVICE", "NAME", "SPEED", "FOR", "FILES"]);
    for device in &status.attached {
        let mut age = span(device.age);
        if let Some(left) = device.waiting {
            // Writing to a String does not fail.
            let _ = write!(age, " (unplugged, waits {left} s for the next)");
        } else if !device.live {
            let _ = write!(age, " (waiting for the link)");
        }
        attached.row(&[
            &device.port.map(|port| port.to_string()).unwrap_or_default(),
            &path(device),
            &device.name,
            device.speed.as_deref().unwrap_or_default(),
            &age,
            &device.files.join(" "),
        ]);
    }
    text.push_str(&if attached.is_empty() {
        "  nothing is attached\n".to_owned()
    } else {
        attached.text(2)
    });
    if let Some(problem) = &status.rules_problem {
        let _ = writeln!(text, "  {}\n  the rules from before go on", clean(problem));
    }
    text
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{} ms", micros / 1_000, micros / 100 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::control::message::{AttachedDevice, Link, PeerInfo, SessionInfo};

    fn node(name: &str) -> NodeName {
        NodeName {
            id: "ab".repeat(16),
            name: name.to_owned(),
        }
    }

    #[test]
    fn a_server_shows_who_is_connected_and_what_they_use() {
        let mut status = ServerStatus {
            node: node("hub"),
            family: node("home"),
            version: "0.1.0".to_owned(),
            pid: 1,
            uptime: 3_700,
            listen: vec!["[::]:7575".to_owned()],
            offered: 2,
            sessions: Vec::new(),
        };
        assert_eq!(
            server_text(&status),
            "Server hub up 1 h 1 min, listening on [::]:7575, offering 2 devices.\n  \
             nobody is connected\n"
        );
        status.sessions.push(SessionInfo {
            node: node("laptop"),
            address: "10.0.0.7:4711".to_owned(),
            age: 60,
            tier: 4,
            devices: vec!["usb:1:2".to_owned()],
            uses: Vec::new(),
            bytes_in: 1_500,
            bytes_out: 16_777_216,
        });
        let text = server_text(&status);
        let row = "  laptop  10.0.0.7:4711  1 min 0 s  usb:1:2  1.5 kB  16.7 MB\n";
        assert!(text.ends_with(row), "{text}");
    }

    #[test]
    fn a_client_shows_links_and_attached_devices() {
        let mut status = ClientStatus {
            node: node("laptop"),
            family: node(""),
            version: "0.1.0".to_owned(),
            pid: 1,
            uptime: 5,
            nodes: vec![PeerInfo {
                node: node("hub"),
                address: "hub:7575".to_owned(),
                link: Link::Connected,
                since: 4,
                rtt_us: Some(1_234),
                problem: None,
            }],
            attached: vec![AttachedDevice {
                node: node("hub"),
                device: "usb:1:2".to_owned(),
                name: "Stick".to_owned(),
                class: "usb".to_owned(),
                port: Some(0),
                speed: Some("high".to_owned()),
                live: false,
                age: 3,
                files: vec!["/dev/sdb".to_owned()],
                auto: false,
                waiting: None,
                traffic: None,
            }],
            rules_problem: None,
        };
        let text = client_text(&status);
        assert!(
            text.contains("  hub   hub:7575  connected  4 s  1.2 ms\n"),
            "{text}"
        );
        assert!(
            text.contains("3 s (waiting for the link)  /dev/sdb\n"),
            "{text}"
        );
        status.attached[0].waiting = Some(23);
        let text = client_text(&status);
        let note = "3 s (unplugged, waits 23 s for the next)";
        assert!(text.contains(note), "{text}");
    }
}
