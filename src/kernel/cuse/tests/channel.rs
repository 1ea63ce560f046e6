//! A device whose kernel is this test.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::*;

struct Kernel {
    channel: File,
}

impl Kernel {
    /// A channel whose first request waits.
    fn new(init: &[u8]) -> (Self, OwnedFd) {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let kernel = Self {
            channel: File::from(ours),
        };
        kernel.asks(init);
        (kernel, theirs)
    }

    fn with_device() -> (Self, Cuse) {
        let init = message(INIT, 2, &words(&[7, 41, 0, 1]));
        let (kernel, channel) = Self::new(&init);
        let cuse = Cuse::over(channel, &config()).unwrap();
        kernel.hears();
        (kernel, cuse)
    }

    fn asks(&self, message: &[u8]) {
        let mut channel = &self.channel;
        assert_eq!(channel.write(message).unwrap(), message.len());
    }

    /// The next answer whose length is right: error, request and what follows.
    fn hears(&self) -> (i32, u64, Vec<u8>) {
        let mut answer = vec![0; 1 << 18];
        let mut channel = &self.channel;
        let length = channel.read(&mut answer).unwrap();
        answer.truncate(length);
        let (start, rest) = answer.split_first_chunk::<4>().unwrap();
        assert_eq!(usize::try_from(u32::from_ne_bytes(*start)).unwrap(), length);
        let (error, rest) = rest.split_first_chunk().unwrap();
        let (id, rest) = rest.split_first_chunk().unwrap();
        (
            i32::from_ne_bytes(*error),
            u64::from_ne_bytes(*id),
            rest.to_vec(),
        )
    }

    fn hears_nothing(&self) {
        let mut channel = &self.channel;
        let error = channel.read(&mut [0; 64]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}

fn open_request(id: u64) -> Vec<u8> {
    message(14, id, &words(&[2, 0]))
}

#[tokio::test]
async fn a_device_is_made_with_what_the_kernel_and_this_side_can() {
    let (kernel, channel) = Kernel::new(&message(INIT, 2, &words(&[7, 31, 0, 1])));
    let _cuse = Cuse::over(channel, &config()).unwrap();
    let (error, id, fields) = kernel.hears();
    assert_eq!((error, id), (0, 2));
    let expected = [
        words(&[7, 31, 0, 1, 4096, MAX_TRANSFER, 0, 0]),
        vec![0; 40],
        b"DEVNAME=ttyMC12\0".to_vec(),
    ];
    assert_eq!(fields, expected.concat());
}

#[tokio::test]
async fn a_kernel_of_another_protocol_is_told_so() {
    for version in [[8, 1, 0, 1], [6, 99, 0, 1], [7, 15, 0, 1], [7, 41, 0, 0]] {
        let (kernel, channel) = Kernel::new(&message(INIT, 2, &words(&version)));
        let error = Cuse::over(channel, &config()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{version:?}");
        assert_eq!(kernel.hears(), (-(Errno::EPROTO as i32), 2, vec![]));
    }
}

#[tokio::test]
async fn a_channel_that_begins_otherwise_makes_no_device() {
    for first in [open_request(2), message(INIT, 2, &[7]), vec![1, 2, 3]] {
        let (_kernel, channel) = Kernel::new(&first);
        let error = Cuse::over(channel, &config()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn only_names_that_stay_below_dev_are_taken() {
    for name in ["ttyMC0", "myclerk/hub/usb0", "spidev0.0", "9", "a-b_c.d"] {
        assert!(is_name(name), "{name}");
    }
    for name in [
        "",
        "/",
        "/tty",
        "tty/",
        "a//b",
        ".",
        "..",
        "../mem",
        "a/../../etc",
        "a/.b",
        "-a",
        "a!b",
        "a b",
        "a\0b",
        "a\nDEVNAME=b",
        "é",
        "a=b",
    ] {
        assert!(!is_name(name), "{name:?}");
    }
    assert!(is_name(&"a".repeat(MAX_NAME)));
    assert!(!is_name(&"a".repeat(MAX_NAME + 1)));
}

#[tokio::test]
async fn a_name_that_is_none_makes_no_device() {
    let config = Config {
        name: "../sda".to_owned(),
        ..config()
    };
    let error = Cuse::create(&config).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_node_that_is_there_is_not_hidden() {
    let config = Config {
        name: "null".to_owned(),
        ..config()
    };
    let error = Cuse::create(&config).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn requests_come_in_order_with_their_callers() {
    let (kernel, cuse) = Kernel::with_device();
    kernel.asks(&open_request(4));
    kernel.asks(&message(36, 5, &4_u64.to_ne_bytes()));
    let request = cuse.next().await.unwrap();
    let body = Body::Open { flags: 2 };
    let (id, pid, uid) = (4, 4242, 1000);
    assert_eq!(request, Request { id, pid, uid, body });
    assert_eq!(cuse.next().await.unwrap().body, Body::Interrupt { id: 4 });
    kernel.hears_nothing();
}

#[tokio::test]
async fn a_request_outlives_a_wait_that_is_given_up() {
    let (kernel, cuse) = Kernel::with_device();
    {
        let mut wait = pin!(cuse.next());
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(wait.as_mut().poll(&mut context), Poll::Pending));
        kernel.asks(&open_request(4));
    }
    assert_eq!(cuse.next().await.unwrap().id, 4);
}

#[tokio::test]
async fn a_request_that_comes_while_one_waits_ends_the_wait() {
    let (kernel, cuse) = Kernel::with_device();
    let (request, ()) = tokio::join!(cuse.next(), async { kernel.asks(&open_request(4)) });
    assert_eq!(request.unwrap().id, 4);
}

#[tokio::test]
async fn a_release_is_answered_before_it_is_handed_out() {
    let (kernel, cuse) = Kernel::with_device();
    let fields = [7_u64, 2, 3].map(u64::to_ne_bytes).concat();
    kernel.asks(&message(18, 4, &fields));
    let request = cuse.next().await.unwrap();
    assert_eq!(request.body, Body::Release { fh: 7 });
    assert_eq!(kernel.hears(), (0, 4, vec![]));
}

#[tokio::test]
async fn what_nobody_serves_is_refused_without_bothering_anyone() {
    let (kernel, cuse) = Kernel::with_device();
    kernel.asks(&message(25, 4, &[0; 24]));
    kernel.asks(&message(0x7777_7777, 6, &[]));
    kernel.asks(&open_request(8));
    assert_eq!(cuse.next().await.unwrap().id, 8);
    let refused = -(Errno::ENOSYS as i32);
    assert_eq!(kernel.hears(), (refused, 4, vec![]));
    assert_eq!(kernel.hears(), (refused, 6, vec![]));
}

#[tokio::test]
async fn a_malformed_request_fails_alone() {
    let (kernel, cuse) = Kernel::with_device();
    kernel.asks(&message(15, 4, &[0; 3]));
    kernel.asks(&open_request(8));
    assert_eq!(cuse.next().await.unwrap().id, 8);
    assert_eq!(kernel.hears(), (-(Errno::EIO as i32), 4, vec![]));
}

#[tokio::test]
async fn the_largest_write_arrives_whole() {
    let (kernel, cuse) = Kernel::with_device();
    let sent: Vec<u8> = (0..MAX_TRANSFER)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let mut fields = words(&[7, 0, 0, 0, MAX_TRANSFER, 0, 0, 0, 0, 0]);
    fields.extend(&sent);
    kernel.asks(&message(16, 4, &fields));
    let Body::Write { data, .. } = cuse.next().await.unwrap().body else {
        panic!("no write");
    };
    assert!(data == sent);
}

#[tokio::test]
async fn answers_name_their_request() {
    let (kernel, cuse) = Kernel::with_device();
    cuse.data(4, b"hello").unwrap();
    assert_eq!(kernel.hears(), (0, 4, b"hello".to_vec()));
    cuse.ioctl(6, 3, b"out").unwrap();
    let answer = [words(&[3, 0, 0, 0]), b"out".to_vec()].concat();
    assert_eq!(kernel.hears(), (0, 6, answer));
    cuse.open(8, 9).unwrap();
    assert_eq!(kernel.hears(), (0, 8, words(&[9, 0, 0, 0])));
    cuse.written(10, 11).unwrap();
    assert_eq!(kernel.hears(), (0, 10, words(&[11, 0])));
    cuse.poll(12, 5).unwrap();
    assert_eq!(kernel.hears(), (0, 12, words(&[5, 0])));
    cuse.notify_poll(13).unwrap();
    assert_eq!(kernel.hears(), (1, 0, 13_u64.to_ne_bytes().to_vec()));
    cuse.error(14, Errno::EINTR).unwrap();
    assert_eq!(kernel.hears(), (-(Errno::EINTR as i32), 14, vec![]));
}

#[tokio::test]
async fn no_error_switches_a_kind_of_request_off_or_means_success() {
    let (kernel, cuse) = Kernel::with_device();
    cuse.error(4, Errno::ENOSYS).unwrap();
    assert_eq!(kernel.hears(), (-(Errno::ENOTTY as i32), 4, vec![]));
    cuse.error(6, Errno::UnknownErrno).unwrap();
    assert_eq!(kernel.hears(), (-(Errno::EIO as i32), 6, vec![]));
}

#[tokio::test]
async fn a_pause_is_answered_as_it_says() {
    let (kernel, cuse) = Kernel::with_device();
    let (inputs, outputs) = (vec![], vec![Piece::at(0x1000, 36)]);
    cuse.pause(4, &Pause::Again { inputs, outputs }).unwrap();
    let (error, id, fields) = kernel.hears();
    assert_eq!((error, id), (0, 4));
    let pieces = [0x1000_u64, 36].map(u64::to_ne_bytes).concat();
    assert_eq!(fields, [words(&[0, 4, 0, 1]), pieces].concat());
    cuse.pause(6, &Pause::Changed).unwrap();
    assert_eq!(kernel.hears(), (-(Errno::EFAULT as i32), 6, vec![]));
    cuse.pause(8, &Pause::TooMuch).unwrap();
    assert_eq!(kernel.hears(), (-(Errno::ENOMEM as i32), 8, vec![]));
}

#[tokio::test]
async fn a_retry_that_the_kernel_would_not_take_is_not_sent() {
    let (kernel, cuse) = Kernel::with_device();
    let one = Piece::at(0, 1);
    for (inputs, outputs) in [
        (vec![], vec![]),
        (vec![Piece::at(0, 0)], vec![]),
        (vec![one; MAX_PIECES], vec![one]),
        (vec![Piece::at(0, MAX_TRANSFER), one], vec![]),
        (vec![], vec![Piece::at(0, u32::MAX); 2]),
    ] {
        let error = cuse.retry(4, &inputs, &outputs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
    kernel.hears_nothing();
}

#[tokio::test]
async fn the_end_of_the_channel_ends_the_wait() {
    let (kernel, cuse) = Kernel::with_device();
    drop(kernel);
    assert_eq!(
        cuse.next().await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}
