//! What goes wrong is told as the owner's kernel tells it, and what can be mended names the remedy.

use std::io::Write;
use std::sync::{Arc, Mutex};

use myclerk::bus::usb::fake::Fake;
use myclerk::bus::usb::op::TransferFlags;
use myclerk::wire::msgpack;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::bench::{ATTACH, Answer, Bench, ErrorMap, Setting, local};

#[test]
fn every_status_comes_through_with_the_bytes_that_were_moved() {
    local(async {
        let mut bench = Bench::attach().await;
        for status in [-32, -71, -75, -84, -110, -121, -62, -70, -63, -115, -12] {
            bench.device.end_next(0x82, status, 3);
            let read = bench.bulk(0x82, 512, &[]);
            assert_eq!(bench.transfer(read).await, (status, 3, vec![0xee; 3]));
            bench.device.end_next(0x02, status, 2);
            let write = bench.bulk(0x02, 4, b"abcd");
            assert_eq!(bench.transfer(write).await, (status, 2, vec![]));
            bench.device.end_next(0x83, status, 1);
            let report = bench.interrupt(0x83, 8, 0, &[]);
            assert_eq!(bench.transfer(report).await, (status, 1, vec![0xee]));
            bench.device.end_next(0, status, 0);
            let control = bench.control([0xc0, 1, 0, 0, 0, 0, 64, 0], &[]);
            assert_eq!(bench.transfer(control).await, (status, 0, vec![]));
        }
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn more_than_was_asked_for_is_babble() {
    local(async {
        let mut bench = Bench::attach().await;
        let read = bench.interrupt(0x83, 2, 0, &[]);
        bench.device.interrupt(b"long");
        assert_eq!(bench.transfer(read).await, (-75, 2, b"lo".to_vec()));
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn an_empty_packet_ends_a_write_of_whole_ones_only_where_it_was_asked_for() {
    local(async {
        let mut bench = Bench::attach().await;
        let zero = TransferFlags {
            short_not_ok: false,
            zero_packet: true,
        };
        for (flags, length, expected) in [
            (TransferFlags::default(), 1024, 0),
            (zero, 1000, 0),
            (zero, 1024, 1),
            (zero, 0, 1),
        ] {
            let write = bench.bulk_with(0x02, flags, 0, length, &vec![0; length as usize]);
            assert_eq!(bench.transfer(write).await, (0, length, vec![]));
            assert_eq!(bench.device.zero_packets(), expected);
        }
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_short_read_is_an_error_only_where_it_was_asked_for() {
    local(async {
        let mut bench = Bench::attach().await;
        for (short_not_ok, status) in [(false, 0), (true, -121)] {
            let flags = TransferFlags {
                short_not_ok,
                zero_packet: false,
            };
            let read = bench.bulk_with(0x81, flags, 0, 64, &[]);
            bench.bulk(0x01, 2, b"ab");
            assert_eq!(bench.transfer(read).await, (status, 2, b"ab".to_vec()));
        }
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_transfer_waits_until_others_gave_their_memory_back() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        bench.device.limit_memory(600);
        let reads = [bench.bulk(0x81, 300, &[]), bench.bulk(0x81, 300, &[])];
        let stream = bench.iso(0x86, &[10; 30], &[]);
        bench.until(|bench| bench.device.in_flight() == 2).await;
        bench.cancel(reads[0]);
        assert_eq!(bench.transfer(reads[0]).await.0, -104);
        assert_eq!(bench.iso_answer(stream).await.packets, [(10, 0); 30]);
        bench.detach().await;
        bench.end().await;
    });
}

fn detail(answer: &Answer) -> (Status, String, i64) {
    let map: ErrorMap = msgpack::decode(&answer.payload).unwrap();
    (answer.status, map.msg, map.detail.unwrap())
}

/// What is logged, line by line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Runs a test with its warnings in here.
    fn of(test: impl Future<Output = ()>) -> String {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || local(test));
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }
}

const REMEDY: &str = "echo 256 > /sys/module/usbcore/parameters/usbfs_memory_mb";

#[test]
fn lasting_want_of_memory_names_the_remedy_in_the_answer_and_once_in_the_log() {
    let log = Log::of(async {
        tokio::time::pause();
        let mut bench = Bench::attach_iso().await;
        bench.device.limit_memory(100);
        for _ in 0..2 {
            let read = bench.bulk(0x82, 101, &[]);
            let answer = bench.answer(read).await;
            let (status, text, errno) = detail(&answer);
            assert_eq!((status, errno), (Status::InternalError, 12));
            assert!(text.contains(REMEDY) && text.contains("usbcore.usbfs_memory_mb="));
            assert!(text.len() <= 256);
        }
        let stream = bench.iso(0x86, &[101], &[]);
        assert!(detail(&bench.answer(stream).await).1.contains(REMEDY));
        let read = bench.bulk(0x82, 100, &[]);
        assert_eq!(bench.transfer(read).await.1, 100);
        bench.detach().await;
        bench.end().await;
    });
    assert_eq!(log.matches(REMEDY).count(), 1, "{log}");
}

#[test]
fn a_stream_that_loses_its_packets_to_want_of_memory_is_logged_too() {
    let log = Log::of(async {
        tokio::time::pause();
        let mut bench = Bench::attach_iso().await;
        bench.device.limit_memory(100);
        for _ in 0..2 {
            let late = bench.iso_with(0x86, 200, &[101], &[]);
            assert_eq!(bench.iso_answer(late).await.packets, [(0, -18)]);
        }
        bench.detach().await;
        bench.end().await;
    });
    assert_eq!(log.matches(REMEDY).count(), 1, "{log}");
}

#[test]
fn a_transfer_that_is_not_accepted_says_why() {
    local(async {
        let mut bench = Bench::attach_iso().await;
        for (errno, reason) in [
            (Errno::ENOSPC, "no bandwidth"),
            (Errno::EMSGSIZE, "not accepted"),
        ] {
            bench.device.refuse_submission(0, errno);
            let stream = bench.iso(0x86, &[4], &[]);
            let (status, text, detail) = detail(&bench.answer(stream).await);
            assert_eq!(status, Status::InternalError);
            assert_eq!(detail, i64::from(errno as i32));
            assert!(text.contains(reason), "{text}");
        }
        bench.detach().await;
        bench.end().await;
    });
}

#[test]
fn a_device_that_cannot_be_opened_for_want_of_files_names_the_limit() {
    local(async {
        for (errno, remedy) in [
            (Errno::EMFILE, "LimitNOFILE="),
            (Errno::EMFILE, "ulimit -n"),
            (Errno::ENFILE, "fs.file-max"),
        ] {
            let device = Fake::new();
            device.refuse_open(errno);
            let bench = Bench::start(device, &Setting::default());
            let answer = bench.answer(ATTACH).await;
            let (status, text, detail) = detail(&answer);
            assert_eq!(
                (status, detail),
                (Status::InternalError, i64::from(errno as i32))
            );
            assert!(text.contains(remedy) && text.len() <= 256, "{text}");
        }
    });
}
