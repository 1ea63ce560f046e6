//! What every transport promises (`src/transport/mod.rs`).

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use myclerk::transport::half_open::{HalfOpen, HalfOpenLimits};
use myclerk::transport::{Framed, MessageReader, MessageWriter, Path, TransportError};
use myclerk::transport::{fault, memory, pcapng, tcp};
use tokio::time::timeout;

/// Ends a test that hangs; no test takes a noticeable part of it.
const PATIENCE: Duration = Duration::from_secs(60);
/// A send that takes this long waits for the reader.
const STALLED: Duration = Duration::from_millis(100);
const RAISED: usize = (1 << 20) + 128;

pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio_uring::start(async {
        timeout(PATIENCE, test).await.expect("the test hangs");
    });
}

async fn tcp_pair(address: &str) -> (Path, Path) {
    let gate = HalfOpen::new(HalfOpenLimits::default());
    let address: SocketAddr = address.parse().unwrap();
    let mut listener = tcp::Listener::bind(address, gate).unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let (dialled, accepted) = tokio::join!(tcp::dial(&target, PATIENCE), listener.accept());
    (dialled.unwrap(), accepted.path)
}

async fn pair(transport: &str) -> (Path, Path) {
    let (left, right) = match transport {
        "tcp4" => tcp_pair("127.0.0.1:0").await,
        "tcp6" => tcp_pair("[::1]:0").await,
        _ => memory::pair(256 << 10),
    };
    match transport {
        "through_faults" => (
            fault::inject(left, fault::Faults::default()),
            fault::inject(right, fault::Faults::default()),
        ),
        "recorded" => {
            let recorder = pcapng::Recorder::new(Box::new(std::io::sink())).unwrap();
            (recorder.tee(left), recorder.tee(right))
        }
        _ => (left, right),
    }
}

macro_rules! over_every_transport {
    ($($test:ident)*) => { over_every_transport!(@ [in_memory through_faults recorded tcp4 tcp6] [$($test)*]); };
    (@ [$($transport:ident)*] $tests:tt) => {
        $(over_every_transport!(@@ $transport $tests);)*
    };
    (@@ $transport:ident [$($test:ident)*]) => {
        mod $transport {
            $(#[test]
            fn $test() {
                super::run(async {
                    let (left, right) = super::pair(stringify!($transport)).await;
                    super::$test(left, right).await;
                });
            })*
        }
    };
}

over_every_transport! {
    messages_keep_their_order_and_their_boundaries
    both_directions_work_at_once
    a_message_of_a_mebibyte_arrives_whole
    a_message_above_the_limit_ends_the_path
    the_limit_counts_from_the_next_message_on
    what_was_sent_before_closing_is_still_read
    closing_one_direction_leaves_the_other
    a_slow_reader_makes_the_writer_wait
    a_dropped_recv_loses_nothing
    the_buffer_comes_back_unchanged
    a_closed_writer_refuses_to_send
    abort_ends_a_pending_recv_on_both_ends
    what_arrived_before_abort_is_still_read
    dropping_a_path_ends_the_peer_although_a_read_was_pending
}

pub(crate) fn message(number: usize, length: usize) -> Vec<u8> {
    (number..number + length)
        .map(|value| u8::try_from(value % 251).unwrap())
        .collect()
}

pub(crate) async fn send(
    writer: &mut dyn MessageWriter,
    message: &[u8],
) -> Result<(), TransportError> {
    writer.send(Framed::copy_of(message).unwrap()).await.0
}

async fn drain(reader: &mut dyn MessageReader) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(message) = reader.recv().await.unwrap() {
        messages.push(message);
    }
    messages
}

/// Lengths around every boundary inside the transports: prefix, chunk, first room.
fn lengths() -> Vec<usize> {
    let mut lengths = vec![1, 2, 3, 4, 5, 63, 64];
    for edge in [4096, 16_380, 16_384, 65_536, 65_664, 131_072] {
        lengths.extend(edge - 1..=edge + 1);
    }
    lengths.extend([7; 50]);
    lengths
}

async fn messages_keep_their_order_and_their_boundaries(mut left: Path, mut right: Path) {
    right.control.set_limit(RAISED);
    let sent: Vec<Vec<u8>> = lengths()
        .iter()
        .chain(std::iter::repeat_n(&20, 5000))
        .enumerate()
        .map(|(number, length)| message(number, *length))
        .collect();
    let sending = async {
        for message in &sent {
            send(&mut *left.writer, message).await.unwrap();
        }
        left.writer.close().await.unwrap();
    };
    let ((), received) = tokio::join!(sending, drain(&mut *right.reader));
    assert!(received == sent);
}

async fn both_directions_work_at_once(left: Path, right: Path) {
    async fn talk(mut path: Path) -> usize {
        path.control.set_limit(RAISED);
        let (reader, writer) = (&mut path.reader, &mut path.writer);
        let sending = async {
            for number in 0..200 {
                send(&mut **writer, &message(number, 20_000)).await.unwrap();
            }
            writer.close().await.unwrap();
        };
        let ((), received) = tokio::join!(sending, drain(&mut **reader));
        received.len()
    }
    assert_eq!(tokio::join!(talk(left), talk(right)), (200, 200));
}

async fn a_message_of_a_mebibyte_arrives_whole(mut left: Path, mut right: Path) {
    right.control.set_limit(RAISED);
    let large = message(1, 1 << 20);
    let (sent, received) = tokio::join!(send(&mut *left.writer, &large), right.reader.recv());
    sent.unwrap();
    assert!(received.unwrap() == Some(large));
}

async fn a_message_above_the_limit_ends_the_path(mut left: Path, mut right: Path) {
    send(&mut *left.writer, &message(1, 4096)).await.unwrap();
    send(&mut *left.writer, &message(2, 4097)).await.unwrap();
    assert_eq!(right.reader.recv().await.unwrap().unwrap().len(), 4096);
    let error = right.reader.recv().await.unwrap_err();
    assert!(matches!(
        error,
        TransportError::Oversize {
            length: 4097,
            limit: 4096
        }
    ));
    assert_eq!(right.reader.recv().await.unwrap(), None);
    assert!(!matches!(left.reader.recv().await, Ok(Some(_))));
}

async fn the_limit_counts_from_the_next_message_on(mut left: Path, mut right: Path) {
    let both = async {
        send(&mut *left.writer, &message(1, 100)).await.unwrap();
        send(&mut *left.writer, &message(2, 60_000)).await.unwrap();
    };
    let reading = async {
        right.reader.recv().await.unwrap().unwrap();
        right.control.set_limit(60_000);
        right.reader.recv().await.unwrap().unwrap()
    };
    let ((), second) = tokio::join!(both, reading);
    assert!(second == message(2, 60_000));
}

async fn what_was_sent_before_closing_is_still_read(mut left: Path, mut right: Path) {
    for number in 0..10 {
        send(&mut *left.writer, &message(number, 1000))
            .await
            .unwrap();
    }
    left.writer.close().await.unwrap();
    drop(left);
    assert_eq!(drain(&mut *right.reader).await.len(), 10);
    assert_eq!(right.reader.recv().await.unwrap(), None);
}

async fn closing_one_direction_leaves_the_other(mut left: Path, mut right: Path) {
    left.writer.close().await.unwrap();
    assert_eq!(right.reader.recv().await.unwrap(), None);
    send(&mut *right.writer, b"still here").await.unwrap();
    assert_eq!(left.reader.recv().await.unwrap().unwrap(), b"still here");
}

async fn a_slow_reader_makes_the_writer_wait(mut left: Path, mut right: Path) {
    right.control.set_limit(RAISED);
    left.control.set_unsent_limit(16_384).unwrap();
    let mut taken = 0;
    loop {
        assert!(taken < 1024, "64 MiB were taken and nobody reads");
        let mut sending = left
            .writer
            .send(Framed::copy_of(&message(taken, 65_536)).unwrap());
        // A busy machine may be late without the path being full.
        let sent = loop {
            match timeout(STALLED, &mut sending).await {
                Ok((sent, _)) => break Some(sent),
                Err(_) if left.control.unsent() >= 16_384 => break None,
                Err(_) => {}
            }
        };
        let Some(sent) = sent else { break };
        sent.unwrap();
        taken += 1;
    }
    let (closed, received) = tokio::join!(left.writer.close(), drain(&mut *right.reader));
    closed.unwrap();
    assert_eq!(left.control.unsent(), 0);
    assert!(received.len() == taken || received.len() == taken + 1);
    for (number, received) in received.iter().enumerate() {
        assert!(*received == message(number, 65_536));
    }
}

async fn a_dropped_recv_loses_nothing(mut left: Path, mut right: Path) {
    right.control.set_limit(RAISED);
    let sent: Vec<Vec<u8>> = (0..300)
        .map(|number| message(number, 1 + number * 97))
        .collect();
    let sending = async {
        for message in &sent {
            send(&mut *left.writer, message).await.unwrap();
        }
    };
    let receiving = async {
        let mut received = Vec::new();
        let mut dropped = 0;
        while received.len() < sent.len() {
            tokio::select! {
                biased;
                message = right.reader.recv() => received.push(message.unwrap().unwrap()),
                () = std::future::ready(()) => {
                    dropped += 1;
                    timeout(Duration::from_micros(1), std::future::pending::<()>())
                        .await
                        .unwrap_err();
                }
            }
        }
        (received, dropped)
    };
    let ((), (received, dropped)) = tokio::join!(sending, receiving);
    assert!(dropped > 0, "no recv was ever dropped");
    assert!(received == sent);
}

async fn the_buffer_comes_back_unchanged(mut left: Path, mut right: Path) {
    let mut bytes = Vec::with_capacity(1000);
    bytes.extend_from_slice(b"slack\0\0\0\x05hello");
    let address = bytes.as_ptr();
    let (result, framed) = left.writer.send(Framed::new(bytes, 5).unwrap()).await;
    result.unwrap();
    let (bytes, start) = framed.into_parts();
    assert_eq!((bytes.as_slice(), start), (&b"slack\0\0\0\x05hello"[..], 5));
    assert_eq!((bytes.as_ptr(), bytes.capacity()), (address, 1000));
    assert_eq!(right.reader.recv().await.unwrap().unwrap(), b"hello");
}

async fn a_closed_writer_refuses_to_send(mut left: Path, _right: Path) {
    left.writer.close().await.unwrap();
    let message = Framed::copy_of(b"late").unwrap();
    let (result, back) = left.writer.send(message.clone()).await;
    assert!(matches!(result, Err(TransportError::Closed)));
    assert_eq!(back, message);
}

async fn abort_ends_a_pending_recv_on_both_ends(mut left: Path, mut right: Path) {
    let aborting = async {
        // Both reads have been polled once, so they are pending, when this runs.
        left.control.abort();
    };
    let (ours, theirs, ()) = tokio::join!(left.reader.recv(), right.reader.recv(), aborting);
    assert_eq!((ours.unwrap(), theirs.unwrap()), (None, None));
    assert!(send(&mut *left.writer, b"late").await.is_err());
}

async fn what_arrived_before_abort_is_still_read(mut left: Path, mut right: Path) {
    send(&mut *left.writer, b"first").await.unwrap();
    send(&mut *left.writer, b"second").await.unwrap();
    left.writer.close().await.unwrap();
    assert_eq!(right.reader.recv().await.unwrap().unwrap(), b"first");
    right.control.abort();
    assert_eq!(right.reader.recv().await.unwrap().unwrap(), b"second");
    assert_eq!(right.reader.recv().await.unwrap(), None);
}

async fn dropping_a_path_ends_the_peer_although_a_read_was_pending(left: Path, mut right: Path) {
    let mut left = left;
    assert!(
        timeout(Duration::from_millis(1), left.reader.recv())
            .await
            .is_err()
    );
    drop(left);
    assert_eq!(right.reader.recv().await.unwrap(), None);
    // The first messages may still be taken; the path notices when the peer does not.
    while send(&mut *right.writer, b"anybody?").await.is_ok() {
        tokio::task::yield_now().await;
    }
}
