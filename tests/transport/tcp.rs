//! TCP against peers that are not ours.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use myclerk::transport::half_open::{HalfOpen, HalfOpenLimits};
use myclerk::transport::tcp::{Accepted, Listener, dial};
use myclerk::transport::{Path, TransportError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::suite::{message, run, send};

const PATIENCE: Duration = Duration::from_secs(30);

fn listener(address: &str) -> (Listener, SocketAddr) {
    let gate = HalfOpen::new(HalfOpenLimits::default());
    let listener = Listener::bind(address.parse().unwrap(), gate).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// One of our paths and a plain socket at its other end.
async fn with_stranger() -> (Path, TcpStream) {
    let (mut listener, address) = listener("127.0.0.1:0");
    let (stranger, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (accepted.path, stranger.unwrap())
}

/// True when the stranger got an end without a single byte.
async fn sees_a_silent_end(stranger: &mut TcpStream) -> bool {
    match stranger.read(&mut [0; 16]).await {
        Ok(count) => count == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_peer_that_sends_byte_by_byte_is_understood() {
    run(async {
        let (mut path, mut stranger) = with_stranger().await;
        stranger.set_nodelay(true).unwrap();
        let dribble = async {
            for byte in *b"\0\0\0\x03one\0\0\0\x05three\0\0\0\x01!" {
                stranger.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let reading = async {
            for expected in [&b"one"[..], b"three", b"!"] {
                assert_eq!(path.reader.recv().await.unwrap().unwrap(), expected);
            }
        };
        tokio::join!(dribble, reading);
    });
}

#[test]
fn other_protocols_get_an_end_and_not_a_byte() {
    run(async {
        for greeting in [
            &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0\0\x10\x01",
            b"\0\0\0\0",
        ] {
            let (mut path, mut stranger) = with_stranger().await;
            stranger.write_all(greeting).await.unwrap();
            assert!(matches!(
                path.reader.recv().await,
                Err(TransportError::Oversize { limit: 4096, .. } | TransportError::Empty)
            ));
            assert!(sees_a_silent_end(&mut stranger).await);
            assert!(send(&mut *path.writer, b"hello?").await.is_err());
            assert_eq!(path.reader.recv().await.unwrap(), None);
        }
    });
}

#[test]
fn an_end_inside_a_message_is_told_from_an_end_between_messages() {
    run(async {
        for (bytes, whole) in [
            (&b"\0\0\0\x02hi"[..], true),
            (b"\0\0\0\x02hi\0", false),
            (b"\0\0\0\x02hi\0\0\0\x02", false),
            (b"\0\0\0\x02hi\0\0\0\x02h", false),
        ] {
            let (mut path, mut stranger) = with_stranger().await;
            stranger.write_all(bytes).await.unwrap();
            drop(stranger);
            assert_eq!(path.reader.recv().await.unwrap().unwrap(), b"hi");
            match path.reader.recv().await {
                Ok(end) => assert!(whole && end.is_none()),
                Err(error) => assert!(!whole && matches!(error, TransportError::Truncated)),
            }
        }
    });
}

#[test]
fn one_source_cannot_take_every_half_open_place() {
    run(async {
        let (mut listener, address) = listener("127.0.0.1:0");
        let mut held: Vec<(TcpStream, Accepted)> = Vec::new();
        for _ in 0..4 {
            let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            held.push((stream.unwrap(), accepted));
        }
        let mut fifth = TcpStream::connect(address).await.unwrap();
        let other = TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let _other = other.connect(address).await.unwrap();

        let accepted = listener.accept().await;
        assert_eq!(accepted.source.ip(), IpAddr::from([127, 0, 0, 2]));
        assert!(sees_a_silent_end(&mut fifth).await);

        held.pop();
        let (sixth, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        assert_eq!(accepted.source, sixth.unwrap().local_addr().unwrap());
    });
}

#[test]
fn an_authenticated_connection_frees_its_place_and_lives_on() {
    run(async {
        let (mut listener, address) = listener("127.0.0.1:0");
        let mut paths = Vec::new();
        for _ in 0..8 {
            let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            drop(accepted.place);
            paths.push((stream.unwrap(), accepted.path));
        }
        for (stream, path) in &mut paths {
            send(&mut *path.writer, b"on").await.unwrap();
            let mut received = [0; 6];
            stream.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, b"\0\0\0\x02on");
        }
    });
}

#[test]
fn an_ipv6_listener_takes_ipv4_peers_under_their_own_address() {
    run(async {
        let (mut listener, address) = listener("[::]:0");
        let target = format!("127.0.0.1:{}", address.port());
        let (dialled, accepted) = tokio::join!(dial(&target, PATIENCE), listener.accept());
        assert_eq!(dialled.unwrap().control.peer(), target);
        assert!(accepted.source.is_ipv4());
        assert!(accepted.path.control.peer().starts_with("127.0.0.1:"));
    });
}

#[test]
fn every_address_of_a_name_is_tried() {
    run(async {
        // "localhost" may mean ::1 first, where nobody listens.
        let (mut listener, address) = listener("127.0.0.1:0");
        let target = format!("localhost:{}", address.port());
        let (dialled, _) = tokio::join!(dial(&target, PATIENCE), listener.accept());
        assert_eq!(dialled.unwrap().control.peer(), address.to_string());
    });
}

#[test]
fn a_failed_dial_names_each_address_and_its_cause() {
    run(async {
        let (listener, address) = listener("127.0.0.1:0");
        drop(listener);
        let error = dial(&address.to_string(), PATIENCE).await.err().unwrap();
        let text = error.to_string();
        assert!(
            text.contains(&address.to_string()) && text.contains("refused"),
            "{text}"
        );
        assert!(matches!(
            dial("no port", PATIENCE).await,
            Err(TransportError::Resolve { .. })
        ));
    });
}

#[test]
fn the_send_queue_can_be_asked_and_bounded() {
    run(async {
        let (mut path, mut stranger) = with_stranger().await;
        path.control.set_unsent_limit(16_384).unwrap();
        assert_eq!(path.control.unsent(), 0);
        let sending = async {
            for number in 0..64 {
                send(&mut *path.writer, &message(number, 65_536))
                    .await
                    .unwrap();
            }
            path.writer.close().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), count) = tokio::join!(sending, stranger.read_to_end(&mut received));
        assert_eq!(count.unwrap(), 64 * (65_536 + 4));
        assert_eq!(path.control.unsent(), 0);
        assert!(path.control.delivery_rate().is_some());
        assert!(path.control.ordered());
    });
}

#[test]
fn dropping_a_path_with_a_pending_read_closes_its_socket() {
    run(async {
        let (mut path, stranger) = with_stranger().await;
        let pending = tokio::time::timeout(Duration::from_millis(1), path.reader.recv());
        pending.await.unwrap_err();
        let port = stranger.peer_addr().unwrap().port();
        let ours = stranger.local_addr().unwrap().port();
        assert!(is_open(port, ours));
        drop(path);
        while is_open(port, ours) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

/// True while a process holds the socket with these ports: it has an inode then (`/proc/net/tcp`).
fn is_open(local: u16, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ours, theirs, inode) = (fields[1], fields[2], fields[9]);
        ours.ends_with(&format!(":{local:04X}"))
            && theirs.ends_with(&format!(":{remote:04X}"))
            && inode != "0"
    })
}
