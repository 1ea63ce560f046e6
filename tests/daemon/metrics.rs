//! Counts for a monitoring system.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use crate::exposition::Exposition;
use crate::link::Link;
use crate::machine::{Machine, eventually};
use crate::outage::behind;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

impl Machine {
    /// Has its daemons tell their counts there.
    fn tells(&self, at: &str) {
        let settings = self.path().join("no-settings");
        fs::create_dir_all(&settings).unwrap();
        let text = format!("[metrics]\nlisten = '{at}'\n");
        fs::write(settings.join("metrics.toml"), text).unwrap();
    }

    fn tells_on_a_socket(&self) {
        self.tells(self.run_dir().join("metrics.sock").to_str().unwrap());
    }

    fn counts(&self) -> Exposition {
        let socket = self.run_dir().join("metrics.sock");
        let connection = eventually("the socket is there", || UnixStream::connect(&socket).ok());
        scrape(connection)
    }
}

fn scrape(mut connection: impl Read + Write) -> Exposition {
    connection.write_all(REQUEST).unwrap();
    let mut said = String::new();
    connection.read_to_string(&mut said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    Exposition::parse(body)
}

#[test]
fn both_halves_let_their_counts_be_read() {
    let hub = Machine::founded();
    hub.tells_on_a_socket();
    hub.plug("echo:one");
    let server = hub.server();
    let link = Link::to(server.address());
    let laptop = behind(&hub, &link);
    laptop.tells_on_a_socket();
    hub.share("echo:one", "laptop", "rw");
    let _client = laptop.user();
    let attach = ["attach", "hub/echo:one", "-o", "word=hello"];
    assert_eq!(laptop.run(&attach).code, 0);

    let counts = hub.counts();
    let device = ("device", "echo:one");
    let bytes = |counts: &Exposition, direction| {
        let labels = [device, ("direction", direction)];
        counts.get("myclerk_device_bytes_total", &labels).unwrap()
    };
    assert_eq!(counts.get("myclerk_info", &[("half", "server")]), Some(1.0));
    assert_eq!(counts.get("myclerk_sessions", &[]), Some(1.0));
    assert_eq!(counts.get("myclerk_devices_offered", &[]), Some(1.0));
    assert_eq!(counts.get("myclerk_devices_in_use", &[]), Some(1.0));
    let of_laptop = [device, ("node", "laptop")];
    assert!(
        counts
            .get("myclerk_device_drops_total", &of_laptop)
            .is_some()
    );
    assert!(bytes(&counts, "in") >= 5.0, "hello");
    let all = counts.get("myclerk_bytes_total", &[("direction", "in")]);
    assert!(all.unwrap() > bytes(&counts, "in"));

    let counts = laptop.counts();
    assert_eq!(counts.get("myclerk_info", &[("half", "client")]), Some(1.0));
    assert_eq!(counts.get("myclerk_devices_attached", &[]), Some(1.0));
    assert!(bytes(&counts, "out") >= 5.0 && bytes(&counts, "in") >= 5.0);
    let timed = counts.get("myclerk_request_duration_seconds_count", &[device]);
    assert_eq!(timed, Some(1.0));
    let of_hub = [("node", "hub")];
    assert_eq!(counts.get("myclerk_reconnects_total", &of_hub), Some(0.0));
    assert!(counts.get("myclerk_round_trip_seconds", &of_hub).is_some());

    let before = all.unwrap();
    link.cut();
    eventually("it is connected again", || {
        (laptop.counts().get("myclerk_reconnects_total", &of_hub)? >= 1.0).then_some(())
    });
    let all = hub
        .counts()
        .get("myclerk_bytes_total", &[("direction", "in")]);
    assert!(all.unwrap() >= before, "what is over still counts");
    let mut stranger = TcpStream::connect(server.address()).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    eventually("the stranger is counted", || {
        let refused = hub.counts().get("myclerk_handshakes_refused_total", &[])?;
        (refused >= 1.0).then_some(())
    });
}

#[test]
fn a_port_of_loopback_will_do_and_one_that_is_taken_only_costs_the_counts() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    let hub = Machine::founded();
    hub.tells(&address.to_string());
    let taken = hub.serve();
    taken.says("metrics cannot be read");
    assert_eq!(hub.run(&["status"]).code, 0);
    drop(taken);
    drop(free);
    let _server = hub.serve();
    let connection = eventually("it listens", || TcpStream::connect(address).ok());
    assert_eq!(scrape(connection).get("myclerk_sessions", &[]), Some(0.0));
}

#[test]
fn counts_are_not_told_to_other_machines() {
    let hub = Machine::founded();
    hub.tells("0.0.0.0:9575");
    let run = hub.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("0.0.0.0:9575"), "{run:?}");
}
