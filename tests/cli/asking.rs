//! With a daemon: the test listens on the control socket and answers what a daemon would.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use myclerk::daemon::control::message::{
    AttachedDevice, ControlError, DetachTarget, DeviceState, ErrorKind, Link, LocalDevice,
    MemberInfo, NodeName, Progress, Question, RemoteDevice, RemoteNode,
};
use myclerk::daemon::control::{
    ControlHandler, ControlListener, Conversation, Reply, Request, Side,
};
use myclerk::device::acl::Mode;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::support::{Home, Run};

const TOKEN: &str = "mc1:not-really-a-token";

/// A daemon that answers by heart and tells the test what it saw.
struct Canned {
    seen: mpsc::Sender<String>,
}

impl ControlHandler for Canned {
    async fn handle(&self, request: Request, asker: &Conversation) -> Result<Reply, ControlError> {
        match request {
            Request::Invite {
                roles,
                minutes,
                admit,
                addresses,
            } => {
                self.tell(format!("invite {roles:?} {addresses:?} {minutes} {admit}"));
                self.invite(admit, asker).await
            }
            Request::Attach { node, device, .. } => {
                asker.step(format!("claiming {device} on {node}"));
                if node == "slow" {
                    asker.gone().await;
                    self.tell("attach taken back".to_owned());
                }
                Ok(Reply::Attached(stick(node)))
            }
            Request::Detach {
                target: DetachTarget::All,
            } => Ok(Reply::Detached(Vec::new())),
            Request::Reset {
                target: DetachTarget::Device { node, .. },
            } => Ok(Reply::Reset(vec![stick(node.unwrap_or_default())])),
            Request::List => Ok(Reply::Local(vec![local()])),
            Request::Export { device, .. } => {
                let both = vec!["usb:1:2".to_owned(), "usb:1:3".to_owned()];
                let message = format!("{device:?} fits more than one device");
                Err(ControlError::new(ErrorKind::Ambiguous, message).candidates(both))
            }
            Request::Members => Ok(Reply::Local(Vec::new())),
            other => Err(ControlError::refused(format!("{other:?}"))),
        }
    }
}

impl Canned {
    fn tell(&self, what: String) {
        self.seen.send(what).unwrap();
    }

    async fn invite(&self, admit: bool, asker: &Conversation) -> Result<Reply, ControlError> {
        asker.progress(Progress::Invited {
            token: TOKEN.to_owned(),
            addresses: vec!["hub.lan:7575".to_owned()],
            expires: 1_800_000_000,
        });
        let question = Question::Admit {
            name: "laptop".to_owned(),
            node: "ab".repeat(16),
            from: "10.0.0.7:4711".to_owned(),
            roles: Vec::new(),
        };
        let answer = if admit {
            Some(true)
        } else {
            asker.ask(question).await
        };
        self.tell(format!("answer {answer:?}"));
        match answer {
            Some(true) => Ok(Reply::Joined(member())),
            Some(false) => Err(ControlError::refused("laptop was not admitted")),
            None => Err(ControlError::failed("withdrawn")),
        }
    }
}

fn member() -> MemberInfo {
    MemberInfo {
        id: "ab".repeat(16),
        name: "laptop".to_owned(),
        roles: Vec::new(),
        joined: 1_790_000_000,
        expires: 2_000_000_000,
        revoked: None,
        this: false,
        online: Some(true),
    }
}

fn stick(node: String) -> AttachedDevice {
    AttachedDevice {
        node: NodeName {
            id: "cd".repeat(16),
            name: node,
        },
        device: "usb:1:2".to_owned(),
        name: "Stick".to_owned(),
        class: "usb".to_owned(),
        port: Some(3),
        speed: Some("high".to_owned()),
        live: true,
        age: 0,
        files: vec!["/dev/sdb".to_owned()],
        auto: false,
        waiting: None,
        traffic: None,
    }
}

fn local() -> LocalDevice {
    LocalDevice {
        id: "usb:1:2".to_owned(),
        name: "Stick\u{1b}[31m".to_owned(),
        plugged: None,
        exported: true,
        hazard: None,
        user: None,
        others: Vec::new(),
    }
}

struct Daemon {
    seen: mpsc::Receiver<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start(home: &Home, side: Side) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (seen_in, seen) = mpsc::channel();
        let (ready_in, ready) = mpsc::channel();
        let run_dir = home.run_dir();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let listener = ControlListener::bind(&run_dir, side).unwrap();
                ready_in.send(()).unwrap();
                tokio::select! {
                    end = listener.serve(Rc::new(Canned { seen: seen_in })) => end.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        ready.recv().unwrap();
        Self {
            seen,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_person_who_says_yes_lets_the_machine_in() {
    let home = Home::new();
    let daemon = Daemon::start(&home, Side::Server);
    let args = [
        "invite",
        "--role",
        "bench",
        "--addr",
        "hub.lan",
        "--minutes",
        "5",
    ];
    let run = home.run_with_input(&args, "y\n");
    assert_eq!(run.code, 0, "{run:?}");
    let asked = daemon.seen.recv().unwrap();
    assert_eq!(asked, "invite [\"bench\"] [\"hub.lan:7575\"] 5 false");
    assert!(
        run.out
            .contains("within 5 minutes:\n\n  myclerk join mc1:not-really"),
        "{}",
        run.out
    );
    assert!(!run.out.contains('█'), "no QR code into a pipe");
    assert!(run.err.contains("\"laptop\" wants to join"), "{}", run.err);
    assert!(run.err.contains(&"ab".repeat(16)), "{}", run.err);
    assert!(
        run.out.contains("laptop has joined the family"),
        "{}",
        run.out
    );
}

#[test]
fn anything_but_yes_keeps_the_machine_out() {
    let home = Home::new();
    let daemon = Daemon::start(&home, Side::Server);
    for input in ["n\n", "\n", "", "yesterday\n"] {
        let run = home.run_with_input(&["invite"], input);
        assert_eq!(run.code, 4, "{input:?}: {run:?}");
        daemon.seen.recv().unwrap();
        assert_eq!(
            daemon.seen.recv().unwrap(),
            "answer Some(false)",
            "{input:?}"
        );
    }
}

#[test]
fn an_invite_for_scripts_prints_a_json_value_a_line() {
    let home = Home::new();
    let _daemon = Daemon::start(&home, Side::Server);
    let run = home.run(&["invite", "--yes", "--json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let lines: Vec<Value> = run
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["invited"]["token"], TOKEN);
    assert_eq!(lines[1]["joined"]["name"], "laptop");
}

#[test]
fn a_qr_code_is_shown_when_asked_for() {
    let home = Home::new();
    let _daemon = Daemon::start(&home, Side::Server);
    let run = home.run(&["invite", "--yes", "--qr"]);
    assert!(run.out.contains('█'), "{}", run.out);
}

#[test]
fn ctrl_c_withdraws_an_invite() {
    let home = Home::new();
    let daemon = Daemon::start(&home, Side::Server);
    let mut child = home
        .command(&["invite"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Held open: the end of input would be an answer.
    let _input = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(TOKEN)));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert!(err.contains("The invite is withdrawn."), "{err}");
    daemon.seen.recv().unwrap();
    assert_eq!(daemon.seen.recv().unwrap(), "answer None");
}

#[test]
fn attaching_shows_its_steps_and_where_the_device_is() {
    let home = Home::new();
    let _daemon = Daemon::start(&home, Side::Client);
    let run = home.run(&["attach", "hub/usb:1:2"]);
    assert_eq!(
        run.out,
        "hub/usb:1:2 is attached to port 3 (Stick): /dev/sdb\n"
    );
    assert_eq!(run.err, "claiming usb:1:2 on hub …\n");
    let json = home.run(&["attach", "hub/usb:1:2", "--json"]).json();
    assert_eq!(
        (&json["port"], &json["files"][0]),
        (&3.into(), &"/dev/sdb".into())
    );
    assert_eq!(home.run(&["detach", "--all"]).out, "Nothing is attached.\n");
}

#[test]
fn a_reset_names_the_device() {
    let home = Home::new();
    let _daemon = Daemon::start(&home, Side::Client);
    let run = home.run(&["reset", "hub/usb:1:2"]);
    assert_eq!(run.out, "hub/usb:1:2 was reset.\n");
    let json = home.run(&["reset", "hub/usb:1:2", "--json"]).json();
    assert_eq!(json[0]["device"], "usb:1:2");
    assert_eq!(home.run(&["reset"]).code, 2);
}

#[test]
fn ctrl_c_takes_an_attach_back() {
    let home = Home::new();
    let daemon = Daemon::start(&home, Side::Client);
    let mut child = home
        .command(&["attach", "slow/usb:1:2"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("claiming")));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(daemon.seen.recv().unwrap(), "attach taken back");
}

#[test]
fn names_from_devices_cannot_colour_the_terminal() {
    let home = Home::new();
    let _daemon = Daemon::start(&home, Side::Server);
    let run = home.run(&["list"]);
    assert_eq!(
        run.out,
        "DEVICE   NAME             OFFERED\nusb:1:2  Stick\\u{1b}[31m  yes\n"
    );
    let json = home.run(&["list", "--local", "--json"]).json();
    assert_eq!(json["local"][0]["name"], "Stick\u{1b}[31m");
    assert_eq!(json.get("remote"), None);
}

#[test]
fn an_ambiguous_name_lists_what_it_fits() {
    let home = Home::new();
    let _daemon = Daemon::start(&home, Side::Server);
    let run = home.run(&["export", "usb:1"]);
    assert_eq!(run.code, 5, "{run:?}");
    assert_eq!(
        run.err,
        "error: \"usb:1\" fits more than one device\n    usb:1:2\n    usb:1:3\n"
    );
}

#[test]
fn a_daemon_of_another_version_or_a_dying_one_is_told_as_such() {
    let home = Home::new();
    let daemon = Daemon::start(&home, Side::Server);
    let run = home.run(&["members"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("another version"), "{}", run.err);
    drop(daemon);

    let listener = UnixListener::bind(Side::Server.socket(&home.run_dir())).unwrap();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
    });
    let run = home.run(&["members"]);
    thread.join().unwrap();
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.err.contains("ended while it was working"),
        "{}",
        run.err
    );
}

#[test]
fn a_second_daemon_does_not_disturb_the_first() {
    let home = Home::founded();
    let _daemon = Daemon::start(&home, Side::Server);
    let second = ControlListener::bind(&home.run_dir(), Side::Server);
    assert!(second.is_err());
    assert_eq!(home.run(&["list"]).code, 0);
}

#[test]
fn the_json_of_a_remote_list_keeps_its_names() {
    let node = RemoteNode {
        node: NodeName {
            id: "cd".repeat(16),
            name: "hub".to_owned(),
        },
        link: Link::Connected,
        problem: None,
        devices: vec![RemoteDevice {
            id: "usb:1:2".to_owned(),
            name: "Stick".to_owned(),
            mode: Mode::ReadWrite,
            state: DeviceState::Free,
            port: None,
            files: Vec::new(),
            user: None,
        }],
    };
    let text = serde_json::to_string(&Reply::Remote(vec![node])).unwrap();
    assert_eq!(
        text,
        format!(
            "{{\"remote\":[{{\"node\":{{\"id\":\"{}\",\"name\":\"hub\"}},\"link\":\"connected\",\
             \"devices\":[{{\"id\":\"usb:1:2\",\"name\":\"Stick\",\"mode\":\"rw\",\
             \"state\":\"free\"}}]}}]}}",
            "cd".repeat(16)
        )
    );
}

#[test]
fn doctor_counts_a_running_daemon_that_answers_nonsense() {
    let home = Home::founded();
    let _daemon = Daemon::start(&home, Side::Server);
    let run = Run {
        code: 0,
        ..home.run(&["doctor", "server", "--json"])
    };
    let checks = run.json();
    let server = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "server")
        .unwrap();
    assert_eq!(server["verdict"], "fail");
}
