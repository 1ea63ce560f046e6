//! Devices of other buses than USB, from their owner to the machine that uses them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use myclerk::daemon::config::{ClientConfig, Paths, ServeConfig, Settings, UsbSettings};
use myclerk::daemon::control::{Connection, Incoming, Reply, Request, Side};
use myclerk::daemon::logging::{self, Program};
use myclerk::daemon::{client, serve};
use myclerk::device::op::Info;
use myclerk::link::{StreamId, Target};
use myclerk::wire::msgpack::{self, Value};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use serde_json::json;

use crate::echo::{HARDWARE, OWNED, PRESENTERS, Start};
use crate::machine::{Daemon, Machine, eventually};
use crate::wire::Session;

/// Which daemon this binary is to be.
const PART: &str = "MYCLERK_TEST_PART";

#[test]
#[ignore = "it is the daemons of the other tests"]
fn a_daemon_that_has_the_buses_of_these_tests() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let directory = |name| PathBuf::from(std::env::var_os(name).unwrap());
    let paths = Paths {
        state: directory("MYCLERK_STATE"),
        run: directory("MYCLERK_RUN"),
    };
    logging::start(Program::Daemon, 0).unwrap();
    let config = directory("MYCLERK_CONFIG");
    let settings = Settings::load(&config).unwrap();
    if part == "client" {
        let config = ClientConfig {
            paths,
            connect: settings.connect(&[]).unwrap(),
            capture: None,
            metrics: settings.metrics(Side::Client).unwrap(),
            usb: UsbSettings::default(),
            config,
        };
        client::run_with(&config, PRESENTERS).unwrap();
    } else {
        let config = ServeConfig {
            paths,
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            capture: None,
            metrics: settings.metrics(Side::Server).unwrap(),
        };
        serve::run_with(&config, OWNED).unwrap();
    }
}

impl Machine {
    pub(crate) fn daemon(&self, part: &str, more: &[(&str, &str)]) -> Daemon {
        let command = self.command(&[]);
        let mut daemon = Command::new(std::env::current_exe().unwrap());
        daemon
            .args([
                "--exact",
                "buses::a_daemon_that_has_the_buses_of_these_tests",
            ])
            .args(["--ignored", "--nocapture"])
            .env(PART, part)
            .env(HARDWARE, self.hardware())
            .envs(more.iter().copied())
            .stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => daemon.env(name, value),
                None => daemon.env_remove(name),
            };
        }
        let daemon = self.start_as(daemon, part);
        daemon.says(&format!("{part} started"));
        daemon
    }

    pub(crate) fn server(&self) -> Daemon {
        self.daemon("server", &[])
    }

    pub(crate) fn user(&self) -> Daemon {
        let daemon = self.daemon("client", &[]);
        daemon.says(" connected");
        daemon
    }

    pub(crate) fn hardware(&self) -> PathBuf {
        self.path().join("hardware")
    }

    /// Plugs `echo:one` in, or another.
    pub(crate) fn plug(&self, device: &str) {
        let (class, name) = device.split_once(':').unwrap();
        let bus = self.hardware().join(class);
        fs::create_dir_all(&bus).unwrap();
        fs::write(bus.join(name), "").unwrap();
    }

    pub(crate) fn share(&self, device: &str, node: &str, mode: &str) {
        assert_eq!(self.run(&["export", device]).code, 0);
        let grant = ["acl", "grant", device, node, "--mode", mode];
        assert_eq!(self.run(&grant).code, 0);
    }

    pub(crate) fn attached(&self) -> serde_json::Value {
        let status = self.run(&["status", "--json"]).json();
        status["client"]["attached"].clone()
    }

    /// What a subcommand would ask of the client daemon.
    fn operate(&self, device: &str, operation: &str, text: Option<&str>) -> Result<Reply, String> {
        let parameters = text.map(|text| ("text".to_owned(), text.to_owned()));
        let request = Request::Operate {
            node: "hub".to_owned(),
            device: device.to_owned(),
            operation: operation.to_owned(),
            parameters: parameters.into_iter().collect(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let run_dir = self.run_dir();
            let mut connection = Connection::open(&run_dir, Side::Client, &request)
                .await
                .unwrap();
            loop {
                if let Incoming::Done(done) = connection.next().await.unwrap() {
                    return done.map_err(|error| error.message);
                }
            }
        })
    }
}

#[test]
fn a_device_is_offered_used_and_given_back() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    let mut client = laptop.user();
    let attach = ["attach", "hub/echo:one", "--name", "it", "-o", "word=hello"];
    assert_eq!(laptop.run(&attach).code, 5, "nobody has granted it");

    hub.share("echo:one", "laptop", "rw");
    let local = hub.run(&["list", "--local", "--json"]).json();
    assert_eq!(local["local"][0]["id"], "echo:one");
    let attached = laptop.run(&[&attach[..], &["--json"]].concat()).json();
    let file = laptop.run_dir().join("it");
    assert_eq!(fs::read_to_string(&file).unwrap(), "hello");
    assert_eq!(attached["class"], "echo");
    assert_eq!(attached["files"], json!([file]));
    assert!(attached["port"].is_null() && attached["speed"].is_null());
    let again = laptop.run(&attach);
    let said = format!("hub/echo:one is attached (Voice one): {}\n", file.display());
    assert_eq!(again.out, said, "it is only described");

    let local = hub.run(&["list", "--local", "--json"]).json();
    assert_eq!(local["local"][0]["user"]["name"], "laptop");
    let remote = laptop.run(&["list", "--json"]).json();
    let device = &remote["remote"][0]["devices"][0];
    assert_eq!(
        (&device["state"], &device["files"]),
        (&json!("attached"), &json!([file]))
    );
    assert_eq!(laptop.run(&["reset", "hub/echo:one"]).code, 2);

    assert_eq!(laptop.run(&["detach", file.to_str().unwrap()]).code, 0);
    assert!(!file.exists());
    assert_eq!(laptop.attached(), json!([]));
    server.says("end=Detached");
    assert_eq!(laptop.run(&attach).code, 0, "it is free again");
    assert_eq!(client.stop(), Some(0));
    assert!(!file.exists(), "the daemon took it along");
}

#[test]
fn the_right_that_a_stream_needs_is_told_by_its_bus() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "r");
    let _client = laptop.user();
    let attach = laptop.run(&["attach", "hub/echo:one"]);
    assert_eq!(attach.code, 4, "{attach:?}");
    assert!(
        attach.err.contains("myclerk acl grant echo:one"),
        "{attach:?}"
    );
    let listen = laptop.run(&["attach", "hub/echo:one", "--as", "listener"]);
    assert_eq!(listen.code, 0, "{listen:?}");
}

#[test]
fn an_exclusive_device_has_one_user_and_a_shared_one_several() {
    let hub = Machine::founded();
    for device in ["echo:one", "choir:all"] {
        hub.plug(device);
    }
    let _server = hub.server();
    let users = ["laptop", "desk"].map(|name| {
        let machine = hub.admit(name);
        hub.share("echo:one", name, "rw");
        hub.share("choir:all", name, "rw");
        let daemon = machine.user();
        (machine, daemon)
    });
    let codes = |device: &str| {
        users
            .each_ref()
            .map(|(user, _)| user.run(&["attach", device]).code)
    };
    assert_eq!(codes("hub/echo:one"), [0, 4]);
    assert_eq!(codes("hub/choir:all"), [0, 0]);
    let local = hub.run(&["list", "--local", "--json"]).json();
    let [choir, echo] = &local["local"].as_array().unwrap()[..] else {
        panic!("{local}");
    };
    assert!(echo["others"].is_null());
    assert_eq!(choir["user"]["name"], "laptop");
    assert_eq!(choir["others"][0]["name"], "desk");
    assert_eq!(users[0].0.run(&["detach", "--all"]).code, 0);
    eventually("the first user has left", || {
        let local = hub.run(&["list", "--local", "--json"]).json();
        let choir = &local["local"][0];
        (choir["user"]["name"] == "desk" && choir["others"].is_null()).then_some(())
    });
}

#[test]
fn a_device_is_taken_back_when_its_access_entry_goes() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let client = laptop.user();
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 0);
    let read_only = ["acl", "grant", "echo:one", "laptop", "--mode", "r"];
    assert_eq!(
        hub.run(&read_only).code,
        0,
        "its stream needs the right to write"
    );
    client.says("device is no longer attached");
    assert_eq!(client.lines("the owner ended it"), 1, "{}", client.log());
    assert_eq!(server.lines("taken back"), 1);
    assert_eq!(laptop.attached(), json!([]));
    assert!(!laptop.run_dir().join("one").exists());
}

#[test]
fn a_lost_session_ends_what_came_by_it_and_nothing_else() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let mut client = laptop.user();
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 0);
    drop(server);
    client.says("device is no longer attached");
    assert_eq!(
        client.lines("reason=the session ended"),
        1,
        "{}",
        client.log()
    );
    assert_eq!(laptop.attached(), json!([]));
    assert!(!laptop.run_dir().join("one").exists());
    assert!(client.is_running());
}

#[test]
fn a_server_that_stops_waits_until_its_devices_are_back() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let mut server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let _client = laptop.user();
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 0);
    assert_eq!(server.stop(), Some(0));
    let log = server.log();
    let ended = log.find("end=PeerLeft").unwrap();
    assert!(ended < log.find("server stopped").unwrap(), "{log}");
}

#[test]
fn what_a_bus_does_not_offer_is_refused_with_what_it_does() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let mute = [("MYCLERK_TEST_MUTE", "1")];
    let client = laptop.daemon("client", &mute);
    client.says(" connected");
    let refused = |device: &str, more: &[&str]| {
        let run = laptop.run(&[&["attach", device], more].concat());
        (run.code, run.err)
    };
    let (code, said) = refused("hub/echo:one", &["--as", "singer"]);
    assert!(
        code == 2 && said.contains("it can be speaker or listener"),
        "{said}"
    );
    let (code, said) = refused("hub/echo:one", &["-o", "tone=a"]);
    assert!(
        code == 2 && said.contains("word (what is said first)"),
        "{said}"
    );
    let (code, said) = refused("hub/usb:1:2", &["--as", "speaker"]);
    assert!(code == 2 && said.contains("USB"), "{said}");
    let (code, said) = refused("hub/choir:all", &[]);
    assert!(code == 1 && said.contains("modprobe voice"), "{said}");
    let (code, said) = refused("hub/harp:one", &[]);
    assert!(code == 5 && said.contains("offers no device"), "{said}");
}

#[test]
fn operations_reach_an_attached_device_or_the_owner() {
    let hub = Machine::founded();
    for device in ["echo:one", "choir:all"] {
        hub.plug(device);
    }
    let _server = hub.server();
    let laptop = hub.admit("laptop");
    for device in ["echo:one", "choir:all"] {
        hub.share(device, "laptop", "rw");
    }
    let _client = laptop.user();
    let refused = laptop.operate("echo:one", "say", Some("hi")).unwrap_err();
    assert_eq!(refused, "hub/echo:one is not attached");
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 0);
    let said = laptop.operate("Voice one", "say", Some("hi")).unwrap();
    assert_eq!(said, Reply::Operated(json!({ "echo": "hi" })));
    let refused = laptop.operate("echo:one", "sing", None).unwrap_err();
    assert_eq!(refused, "nothing is singed");
    let asked = laptop.operate("choir:all", "name", None).unwrap();
    assert_eq!(asked, Reply::Operated(json!({ "name": "Voice all" })));
    let refused = laptop.operate("choir:all", "name", Some("x")).unwrap_err();
    assert_eq!(refused, "say nothing");
}

#[test]
fn a_bus_that_cannot_be_looked_at_keeps_its_devices_and_hides_no_others() {
    let hub = Machine::founded();
    hub.plug("choir:all");
    let server = hub.server();
    let ids = || {
        let local = hub.run(&["list", "--local", "--json"]).json();
        let devices = local["local"].as_array().unwrap().clone();
        let id = |device: &serde_json::Value| device["id"].as_str().unwrap().to_owned();
        let ours = |id: &String| !id.starts_with("usb:");
        devices.iter().map(id).filter(ours).collect::<Vec<_>>()
    };
    assert_eq!(ids(), ["choir:all"]);
    let (bus, away) = (hub.hardware().join("choir"), hub.path().join("away"));
    fs::rename(&bus, &away).unwrap();
    fs::write(&bus, "no directory").unwrap();
    hub.plug("echo:one");
    for _ in 0..3 {
        assert_eq!(ids(), ["choir:all", "echo:one"]);
    }
    let complaint = "cannot look for devices class=\"choir\"";
    assert_eq!(server.lines(complaint), 1, "{}", server.log());
    fs::remove_file(&bus).unwrap();
    assert_eq!(ids(), ["echo:one"], "a bus that is not there has nothing");
}

#[test]
fn calls_lists_and_properties_are_for_those_who_may_see_the_device() {
    let hub = Machine::founded();
    for device in ["echo:one", "echo:mute", "choir:all", "choir:hidden"] {
        hub.plug(device);
    }
    let server = hub.server();
    let laptop = hub.admit("laptop");
    for device in ["echo:one", "echo:mute", "choir:all"] {
        hub.share(device, "laptop", "r");
    }
    let mut session = Session::of(&laptop, &server);
    let control = Target::On(StreamId::CONTROL);
    let call = Opcode::GpioLineInfo;
    let look = |device: &str| Start::payload(device, 0);
    let named = session.ask(control, call, &look("echo:one")).unwrap();
    assert_eq!(named, (Status::Ok, b"Voice one".to_vec()));
    let change = Start::payload("echo:one", 4);
    assert_eq!(session.refused(control, call, &change), "acl");
    assert_eq!(
        session.refused(control, call, &look("echo:mute")),
        "unsupported"
    );
    for unknown in ["choir:hidden", "echo:none", "usb:1:2", ""] {
        assert_eq!(
            session.refused(control, call, &look(unknown)),
            "device",
            "{unknown:?}"
        );
    }
    assert_eq!(session.refused(control, call, b"\xc1"), "bad-payload");

    let list = session.ask(control, Opcode::CanInterfaceList, &[]).unwrap();
    let listed: Vec<(String, u8)> = msgpack::decode(&list.1).unwrap();
    assert_eq!(listed, [("Voice all".to_owned(), 0)]);
    let info = session
        .ask(control, Opcode::DeviceInfo, &look("choir:all"))
        .unwrap();
    let info: Info = msgpack::decode(&info.1).unwrap();
    assert_eq!(info.props["pitch"], Value::Uint(440));
    assert_eq!(
        session.refused(control, Opcode::SerialPortList, &[]),
        "unsupported"
    );
}

#[test]
fn a_device_that_its_machine_needs_itself_is_not_given_away() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let laptop = hub.admit("laptop");
    hub.share("echo:one", "laptop", "rw");
    let mut session = Session::of(&laptop, &server);
    let start = Start::payload("echo:one", 4);
    fs::write(hub.hardware().join("echo/one"), "busy").unwrap();
    assert_eq!(
        session.refused(Target::New, Opcode::StreamStart, &start),
        "busy"
    );
    assert_eq!(hub.run(&["export", "echo:one", "--force"]).code, 0);
    let (status, place) = session
        .ask(Target::New, Opcode::StreamStart, &start)
        .unwrap();
    assert_eq!((status, &*place), (Status::Ok, &b"one"[..]));
}
