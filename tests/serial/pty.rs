//! The real thing: termios, on pseudo-terminals, which are ports without modem lines.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;

use myclerk::bus::End;
use myclerk::bus::fake::OPENING;
use myclerk::bus::serial::hardware::tty::TtyHost;
use myclerk::bus::serial::op::{Change, DataWrite, Flow, Mode, Settings, Written};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr};
use tokio::task::spawn_blocking;

use crate::bench::{Peer, open_request, pattern, run};

/// A port; the far end of the line is the test.
struct Port {
    far: OwnedFd,
    /// Keeps the settings, as a port does that nobody has open.
    near: OwnedFd,
    place: String,
}

impl Port {
    fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        let path: PathBuf = nix::unistd::ttyname(&pty.slave).unwrap();
        Self {
            place: path
                .strip_prefix("/dev")
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned(),
            far: pty.master,
            near: pty.slave,
        }
    }

    fn far_end(&self) -> File {
        File::from(self.far.try_clone().unwrap())
    }

    async fn open(&self, settings: Settings) -> (Peer, Settings) {
        let request = open_request(Mode::ReadWrite, settings).encode().unwrap();
        let opening = (Opcode::SerialPortOpen, request);
        let mut peer = Peer::asks(TtyHost::default(), &self.place, opening, true);
        let answer = peer.answer(OPENING).await.expect("it opens");
        (peer, Settings::decode(&answer).unwrap())
    }
}

#[test]
fn a_port_works_as_it_says_and_is_what_it_was_afterwards() {
    run(async || {
        let port = Port::new();
        let before = tcgetattr(&port.near).unwrap();
        assert!(before.local_flags.contains(LocalFlags::ECHO));
        let wanted = Settings {
            baud: 250_000,
            flow: Flow::XonXoff,
            ..Settings::default()
        };
        let (mut peer, actual) = port.open(wanted.clone()).await;
        assert_eq!(actual, wanted);
        let now = tcgetattr(&port.near).unwrap();
        assert!(now.local_flags.is_empty());
        let change = Change {
            baud: Some(31_250),
            flow: Some(Flow::RtsCts),
            ..Change::default()
        };
        let answer = peer.ask(Opcode::SerialPortConfigure, change.encode().unwrap());
        let actual = Settings::decode(&answer.await.unwrap()).unwrap();
        assert_eq!((actual.baud, actual.flow), (31_250, Flow::RtsCts));
        assert!(peer.close().await.is_ok());
        assert_eq!(peer.serving.await.unwrap(), End::Detached);
        let after = tcgetattr(&port.near).unwrap();
        assert_eq!(after, before);
    });
}

#[test]
fn every_byte_passes_as_it_is() {
    run(async || {
        let port = Port::new();
        let (mut peer, _) = port.open(Settings::default()).await;
        let all: Vec<u8> = (0..=255).collect();
        port.far_end().write_all(&all).unwrap();
        assert_eq!(peer.bytes(256).await, all);
        peer.write(&all).await;
        let mut far = port.far_end();
        let arrived = thread::spawn(move || {
            let mut bytes = [0; 256];
            far.read_exact(&mut bytes).unwrap();
            bytes
        });
        let drain = DataWrite {
            data: &[],
            drain: true,
        };
        let answer = peer.ask(Opcode::SerialDataWrite, drain.encode()).await;
        assert_eq!(Written::decode(&answer.unwrap()).unwrap().count, 0);
        assert_eq!(arrived.join().unwrap().to_vec(), all);
    });
}

#[test]
fn a_megabyte_passes_each_way_at_once() {
    const COUNT: usize = 1 << 20;
    run(async || {
        let port = Port::new();
        let (mut peer, _) = port.open(Settings::default()).await;
        let (mut read_end, mut write_end) = (port.far_end(), port.far_end());
        let reader = spawn_blocking(move || {
            let mut bytes = vec![0; COUNT];
            read_end.read_exact(&mut bytes).unwrap();
            bytes
        });
        let writer = spawn_blocking(move || write_end.write_all(&pattern(COUNT)).unwrap());
        peer.write(&pattern(COUNT)).await;
        assert!(peer.bytes(COUNT).await == pattern(COUNT));
        writer.await.unwrap();
        assert!(reader.await.unwrap() == pattern(COUNT));
    });
}

#[test]
fn a_hang_up_ends_the_stream() {
    run(async || {
        let port = Port::new();
        let (mut peer, _) = port.open(Settings::default()).await;
        drop(port.far);
        assert_eq!(peer.reset().await, Status::ServiceUnavailable);
        assert_eq!(peer.serving.await.unwrap(), End::DeviceGone);
    });
}

#[test]
fn a_session_that_is_lost_does_not_wait_for_a_port_that_is_stuck() {
    run(async || {
        let port = Port::new();
        // Nobody reads at the far end.
        let mut raw = tcgetattr(&port.near).unwrap();
        cfmakeraw(&mut raw);
        tcsetattr(port.near.as_fd(), SetArg::TCSANOW, &raw).unwrap();
        let (peer, _) = port.open(Settings::default()).await;
        let mut sent = 0;
        while sent < 80_000 {
            sent += peer.write_all_that_goes(&pattern(8192));
            tokio::task::yield_now().await;
            if !peer.stream.outlet.writable(1024) {
                break;
            }
        }
        assert_eq!(peer.cut().await, End::PeerLeft);
    });
}

#[test]
fn a_place_that_is_no_port_is_gone() {
    run(async || {
        for (place, sub) in [("no-such-port", sub::DEVICE_GONE), ("null", sub::DEVICE_IO)] {
            let request = open_request(Mode::Read, Settings::default());
            let opening = (Opcode::SerialPortOpen, request.encode().unwrap());
            let mut peer = Peer::asks(TtyHost::default(), place, opening, true);
            let (_, error) = peer.answer(OPENING).await.expect_err("is refused");
            assert_eq!(error.sub, sub);
        }
    });
}
