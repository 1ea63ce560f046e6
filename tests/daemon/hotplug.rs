//! Ports without devices, a server that is killed, a server that has no descriptor left.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;

use myclerk::bus::usb::op::{AttachRequest, Mode};
use myclerk::link::Target;
use myclerk::wire::opcode::Opcode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{Daemon, Machine, eventually, wait};
use crate::wire::{Session, dial_from};

#[test]
fn a_port_is_exported_and_granted_before_anything_is_plugged_in() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let _laptop = hub.admit("laptop");
    for port in ["usb@1", "usb@1-1.", "usb@x-1"] {
        assert_eq!(hub.run(&["export", port]).code, 5, "{port}");
    }
    let exported = hub.run(&["export", "usb@200-1.4", "--json"]).json();
    assert_eq!(exported["device"], "usb@200-1.4");
    assert_eq!(exported["entries"], 0);
    let granted = ["acl", "grant", "usb@200-1.4", "laptop"];
    assert_eq!(hub.run(&granted).code, 0);
    let again = hub.run(&["export", "usb@200-1.4", "--json"]).json();
    assert_eq!(
        (&again["changed"], &again["entries"]),
        (&false.into(), &1.into())
    );
    assert_eq!(hub.run(&["acl", "revoke", "usb@200-1.4", "laptop"]).code, 0);
    assert_eq!(hub.run(&["unexport", "usb@200-1.4"]).code, 0);
}

#[test]
fn an_empty_port_answers_a_member_like_one_that_it_may_not_know_of() {
    let hub = Machine::founded();
    let server = hub.serve();
    let laptop = hub.admit("laptop");
    assert_eq!(hub.run(&["export", "usb@200-1"]).code, 0);
    assert_eq!(hub.run(&["acl", "grant", "usb@200-1", "laptop"]).code, 0);
    let mut session = Session::of(&laptop, &server);
    let mut answers = ["usb@200-1", "usb@200-2", "usb:1:2"].map(|device| {
        let request = AttachRequest {
            dev: device.to_owned(),
            mode: Mode::ReadWrite,
            lock: None,
            ifs: None,
            hold: None,
            token: None,
        };
        let payload = request.encode().unwrap();
        session
            .ask(Target::New, Opcode::UsbDeviceAttach, &payload)
            .unwrap()
    });
    answers.sort_by(|a, b| a.1.cmp(&b.1));
    assert_eq!(answers[0], answers[2]);
    let client = laptop.client();
    client.says(" connected");
    let attach = laptop.run(&["attach", "hub/usb@200-1"]);
    assert_eq!(attach.code, 5, "{attach:?}");
    assert!(
        attach.err.contains("hub offers no device \"usb@200-1\""),
        "{attach:?}"
    );
    let status = laptop.run(&["status", "--json"]).json();
    assert_eq!(status["client"]["attached"], serde_json::json!([]));
}

/// The children of a process.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        line.is_some_and(|ppid| ppid.trim() == parent.to_string())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_child).collect()
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie that nobody has buried yet has ended too.
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with('Z')
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[test]
fn the_guardian_lives_as_long_as_its_server_and_by_no_signal_less() {
    for (by, orderly) in [(Signal::SIGINT, true), (Signal::SIGKILL, false)] {
        let hub = Machine::founded();
        let mut server = hub.serve();
        let [guardian] = children(server.id())[..] else {
            panic!("{:?}", children(server.id()));
        };
        for harmless in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signal(guardian, harmless);
        }
        let kept = format!("/proc/{guardian}/status");
        eventually("the guardian has given up its privileges", || {
            let status = fs::read_to_string(&kept).unwrap();
            let few = status.contains("CapEff:\t0000000000000000");
            (few && status.contains("NoNewPrivs:\t1")).then_some(())
        });
        assert!(is_alive(guardian));
        signal(server.id(), by);
        assert_eq!(server.ended() == Some(0), orderly);
        eventually("the guardian ends", || (!is_alive(guardian)).then_some(()));
        assert_eq!(server.lines("guard"), 0, "{}", server.log());
    }
}

#[test]
fn a_guardian_whose_lent_device_is_gone_has_nothing_to_do() {
    let machine = Machine::new();
    let mut guardian = machine
        .command(&["guard-devices"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = guardian.stdin.take().unwrap();
    pipe.write_all(b"lent 255 127 1 /sys/nowhere\nlent 255 126 1 /sys/there\nback 255 126\n")
        .unwrap();
    assert!(guardian.try_wait().unwrap().is_none());
    drop(pipe);
    assert_eq!(wait(&mut guardian).code(), Some(0));
    let mut said = String::new();
    let mut err = guardian.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut err, &mut said).unwrap();
    assert_eq!(said, "");
}

/// More connections than there are descriptors for, from as many sources.
fn flood(server: &Daemon, count: u8) -> Vec<std::net::TcpStream> {
    (1..=count)
        .map(|host| dial_from(Ipv4Addr::new(127, 0, 9, host), server.address()))
        .collect()
}

#[test]
fn a_server_without_free_descriptors_says_so_and_goes_on_afterwards() {
    let hub = Machine::founded();
    let mut server = hub.serve_with_files(40);
    let laptop = hub.admit("laptop");
    let crowd = flood(&server, 40);
    server.says("cannot accept connections, trying again");
    assert!(server.log().contains("Too many open files"));
    drop(crowd);
    Session::of(&laptop, &server).works();
    assert_eq!(hub.run(&["status"]).code, 0);
    assert!(server.is_running());
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_daemon_takes_as_many_open_files_as_it_may_have() {
    let hub = Machine::founded();
    let server = hub.serve_with_soft_files(64);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let numbers: Vec<_> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{limits}");
    assert_ne!(numbers[0], "64");
}
