//! The audit log of a server.

use std::fs;

use myclerk::link::{StreamId, Target};
use myclerk::wire::opcode::Opcode;
use serde_json::Value;

use crate::echo::Start;
use crate::machine::{Machine, eventually};
use crate::wire::Session;

impl Machine {
    fn audit(&self) -> Vec<Value> {
        let run = self.run(&["audit", "-n", "1000", "--json"]);
        assert_eq!(run.code, 0, "{run:?}");
        let lines = run.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What was done, by whom, and why, once the last line is this.
    fn recorded(&self, last: &str) -> Vec<String> {
        eventually(last, || {
            let lines: Vec<String> = self.audit().iter().map(short).collect();
            lines
                .last()
                .is_some_and(|line| line == last)
                .then_some(lines)
        })
    }
}

fn short(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    format!(
        "{} {} {}",
        text(&record["what"]),
        text(&record["node"]["name"]),
        text(&record["reason"])
    )
}

#[test]
fn what_peers_and_administrators_do_is_recorded() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    let _client = laptop.user();
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 5);
    hub.share("echo:one", "laptop", "rw");
    let device = "hub/echo:one";
    for command in ["lock", "attach", "detach", "unlock", "lock"] {
        assert_eq!(laptop.run(&[command, device]).code, 0, "{command}");
    }
    hub.recorded("locked laptop fence 2");
    assert_eq!(hub.run(&["unlock", "echo:one", "--break"]).code, 0);
    let lines = hub.recorded("lock-broken laptop by the administrator");
    let node = hub.audit().last().unwrap()["node"]["id"].clone();
    let subject = format!("node:{}", node.as_str().unwrap());
    assert_eq!(
        lines,
        [
            "refused laptop device",
            "exported - -",
            &format!("acl-changed - rw for {subject}"),
            "locked laptop fence 1",
            "attached laptop -",
            "detached laptop Detached",
            "unlocked laptop released",
            "locked laptop fence 2",
            "lock-broken laptop by the administrator",
        ]
    );
    let text = hub.run(&["audit", "-n", "1"]);
    assert!(
        text.out.contains("laptop  echo:one  lock broken"),
        "{text:?}"
    );
    assert_eq!(text.out.lines().count(), 1);
    let follower = hub.begin(&["audit", "--follow", "-n", "0"]);
    drop(follower);
}

#[test]
fn a_member_cannot_fill_the_audit_log() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    let mut session = Session::of(&laptop, &server);
    let control = Target::On(StreamId::CONTROL);
    let long = "x".repeat(4_000);
    for device in ["echo:one", &long].repeat(100) {
        let look = Start::payload(device, 0);
        session.ask(control, Opcode::GpioLineInfo, &look).unwrap();
    }
    let many = eventually("lines", || {
        Some(hub.audit()).filter(|lines| !lines.is_empty())
    });
    assert!(many.len() <= 17, "{}", many.len());
}

#[test]
fn a_server_whose_audit_log_cannot_be_written_goes_on_and_says_so_once() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let audit = hub.state().join("audit");
    fs::remove_dir_all(&audit).unwrap();
    fs::write(&audit, "no directory").unwrap();
    let _client = laptop.user();
    let attach_and_detach = || {
        for command in ["attach", "detach"] {
            assert_eq!(laptop.run(&[command, "hub/echo:one"]).code, 0);
        }
    };
    attach_and_detach();
    server.says("cannot write the audit log; going on without");
    attach_and_detach();
    fs::remove_file(&audit).unwrap();
    attach_and_detach();
    let lines = hub.recorded("detached laptop Detached");
    assert!(lines[0].starts_with("missing"), "{lines:?}");
    assert_eq!(server.lines("going on without"), 1);
}
