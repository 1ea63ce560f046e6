//! What `status` shows of the traffic.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::machine::{Machine, interrupt, wait};

fn with_an_echo() -> (Machine, Machine, [crate::machine::Daemon; 2]) {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let client = laptop.user();
    let attach = ["attach", "hub/echo:one", "-o", "word=hello"];
    assert_eq!(laptop.run(&attach).code, 0);
    (hub, laptop, [server, client])
}

#[test]
fn both_ends_of_a_device_show_what_goes_between_them() {
    let (hub, laptop, _daemons) = with_an_echo();
    let status = laptop.run(&["status", "--json"]).json();
    let traffic = &status["client"]["attached"][0]["traffic"];
    assert!(traffic["bytes_out"].as_u64() >= Some(5), "{traffic}");
    assert!(traffic["bytes_in"].as_u64() >= Some(5), "{traffic}");
    assert_eq!(traffic["requests"], 1, "{traffic}");
    assert!(traffic["p50_us"].as_u64() > Some(0), "{traffic}");
    assert!(status["client"]["nodes"][0]["rtt_us"].as_u64() > Some(0));
    let text = laptop.run(&["status"]).out;
    assert!(text.contains("TRAFFIC   FROM"), "{text}");
    let status = hub.run(&["status", "--json"]).json();
    let used = &status["server"]["sessions"][0]["uses"][0];
    assert_eq!(used["device"], "echo:one");
    assert!(used["bytes_in"].as_u64() >= Some(5), "{used}");
    let text = hub.run(&["status"]).out;
    assert!(text.contains("TRAFFIC   FOR"), "{text}");
}

#[test]
fn a_watched_status_comes_again_and_ends_in_order_by_ctrl_c() {
    let (_hub, laptop, daemons) = with_an_echo();
    let watch = |args: &[&str]| {
        let mut child = laptop
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines.map(Result::unwrap))
    };
    let (mut child, mut lines) = watch(&["status", "--watch", "1"]);
    assert!(lines.any(|line| line.contains("OUT/s")), "with rates");
    interrupt(&child);
    assert!(lines.all(|line| !line.contains('\u{1b}')), "no terminal");
    assert_eq!(wait(&mut child).code(), Some(0));

    let (mut child, mut lines) = watch(&["status", "--watch", "1", "--json"]);
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap()).unwrap() };
    assert!(next()["client"].is_object());
    assert!(next()["client"].is_object());
    drop(daemons);
    while next()["client"].is_object() {}
    interrupt(&child);
    assert_eq!(wait(&mut child).code(), Some(0));

    let run = laptop.run(&["status", "--watch"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(laptop.run(&["status", "--watch", "0"]).code, 2);
}
