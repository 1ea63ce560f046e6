//! A device that is played, as a host meets it.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::description::{Endpoint, Setting};
use super::fake::Host;
use super::*;
use crate::bus::usb::op::Speed;
use crate::kernel::usbfs::TransferType;

const STALLED: i32 = -libc::EPIPE;
const CANCELLED: i32 = -libc::ECONNRESET;

/// Keeps what was written to endpoint 2 and gives it back at endpoint 0x82; a control request 1 waits
/// until it is let go, any other one is answered with its own number.
struct Echo {
    description: Description,
    kept: RefCell<Vec<u8>>,
    anew: Cell<u32>,
    go: Notify,
}

fn endpoint(address: u8) -> Endpoint {
    Endpoint {
        address,
        kind: TransferType::Bulk,
        max_packet: 64,
        interval: 0,
    }
}

fn echo() -> Rc<Echo> {
    let setting = Setting {
        interface: 0,
        alternate: 0,
        class: [0xFF; 3],
        endpoints: vec![endpoint(2), endpoint(0x82)],
    };
    let other = Setting {
        alternate: 1,
        ..setting.clone()
    };
    Rc::new(Echo {
        description: Description {
            vendor: 1,
            product: 2,
            release: 3,
            speed: Speed::Full,
            class: [0xFF, 0, 0],
            strings: Default::default(),
            settings: vec![setting, other],
        },
        kept: RefCell::default(),
        anew: Cell::new(0),
        go: Notify::new(),
    })
}

impl Adapter for Echo {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reset(&self) {
        self.anew.set(self.anew.get() + 1);
    }

    fn control(self: Rc<Self>, setup: Setup, _: Vec<u8>) -> Transfer {
        Box::pin(async move {
            if setup.request == 1 {
                self.go.notified().await;
            }
            Ok(vec![setup.request; 4])
        })
    }

    fn read(self: Rc<Self>, _: u8, _: usize) -> Transfer {
        Box::pin(async move {
            let kept = self.kept.take();
            if kept.is_empty() {
                return Err(Fault::Stall);
            }
            Ok(kept)
        })
    }

    fn write(self: Rc<Self>, _: u8, data: Vec<u8>) -> Transfer {
        Box::pin(async move {
            self.kept.borrow_mut().extend(data);
            Ok(Vec::new())
        })
    }
}

/// Plugs it in and lets the host do something.
async fn with<F: Future<Output = ()>>(work: impl FnOnce(Rc<Echo>, Rc<Host>) -> F) {
    LocalSet::new()
        .run_until(async {
            let echo = echo();
            let host = Host::plug_in(Rc::<Echo>::clone(&echo)).await;
            work(echo, Rc::new(host)).await;
        })
        .await;
}

/// A vendor's request to read.
const fn vendor(request: u8) -> [u8; 8] {
    [0xC0, request, 0, 0, 0, 0, 4, 0]
}

#[tokio::test]
async fn the_host_gets_descriptors_as_long_as_it_asks_for() {
    with(async |_, host| {
        let device = host.control([0x80, 6, 0, 1, 0, 0, 64, 0], &[]).await;
        assert_eq!(device.map(|bytes| bytes.len()), Ok(18));
        let head = host.control([0x80, 6, 0, 2, 0, 0, 9, 0], &[]).await;
        assert_eq!(head.map(|bytes| bytes.len()), Ok(9));
        // There is no qualifier of another speed.
        let none = host.control([0x80, 6, 0, 6, 0, 0, 10, 0], &[]).await;
        assert_eq!(none, Err(STALLED));
    })
    .await;
}

#[tokio::test]
async fn configurations_and_settings_are_told_as_they_were_chosen() {
    with(async |echo, host| {
        assert_eq!(
            host.control([0x80, 8, 0, 0, 0, 0, 1, 0], &[]).await,
            Ok(vec![1])
        );
        assert_eq!(
            host.control([1, 11, 1, 0, 0, 0, 0, 0], &[]).await,
            Ok(Vec::new())
        );
        assert_eq!(
            host.control([0x81, 10, 0, 0, 0, 0, 1, 0], &[]).await,
            Ok(vec![1])
        );
        assert_eq!(
            host.control([1, 11, 2, 0, 0, 0, 0, 0], &[]).await,
            Err(STALLED)
        );
        assert_eq!(
            host.control([0, 9, 2, 0, 0, 0, 0, 0], &[]).await,
            Err(STALLED)
        );
        let anew = echo.anew.get();
        assert_eq!(
            host.control([0, 9, 1, 0, 0, 0, 0, 0], &[]).await,
            Ok(Vec::new())
        );
        assert_eq!(echo.anew.get(), anew + 1);
        assert_eq!(
            host.control([0x81, 10, 0, 0, 0, 0, 1, 0], &[]).await,
            Ok(vec![0])
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_written_comes_back_and_no_more_than_was_asked_for() {
    with(async |_, host| {
        assert_eq!(host.bulk(2, 0, b"hello").await, Ok(Vec::new()));
        assert_eq!(host.bulk(0x82, 64, &[]).await, Ok(b"hello".to_vec()));
        assert_eq!(host.bulk(2, 0, b"hello").await, Ok(Vec::new()));
        assert_eq!(host.bulk(0x82, 3, &[]).await, Err(-libc::EOVERFLOW));
    })
    .await;
}

#[tokio::test]
async fn a_stalled_endpoint_stays_halted_until_that_is_cleared() {
    with(async |_, host| {
        assert_eq!(host.bulk(0x82, 64, &[]).await, Err(STALLED));
        assert_eq!(host.bulk(2, 0, b"x").await, Ok(Vec::new()));
        assert_eq!(host.bulk(0x82, 64, &[]).await, Err(STALLED));
        let status = [0x82, 0, 0, 0, 0x82, 0, 2, 0];
        assert_eq!(host.control(status, &[]).await, Ok(vec![1, 0]));
        assert_eq!(
            host.control([2, 1, 0, 0, 0x82, 0, 0, 0], &[]).await,
            Ok(Vec::new())
        );
        assert_eq!(host.control(status, &[]).await, Ok(vec![0, 0]));
        assert_eq!(host.bulk(0x82, 64, &[]).await, Ok(b"x".to_vec()));
    })
    .await;
}

#[tokio::test]
async fn transfers_of_an_endpoint_wait_for_one_another() {
    with(async |echo, host| {
        let first = host.begin_control(vendor(1), &[]);
        let second = host.begin_control(vendor(2), &[]);
        // The other endpoints do not.
        assert_eq!(host.bulk(2, 0, b"x").await, Ok(Vec::new()));
        tokio::select! {
            biased;
            early = host.wait(second) => panic!("{early:?} came first"),
            () = tokio::task::yield_now() => {}
        }
        echo.go.notify_one();
        assert_eq!(host.wait(first).await, Ok(vec![1; 4]));
        assert_eq!(host.wait(second).await, Ok(vec![2; 4]));
    })
    .await;
}

#[tokio::test]
async fn a_transfer_that_is_given_up_lets_the_next_one_go() {
    with(async |_, host| {
        let first = host.begin_control(vendor(1), &[]);
        let waiting = host.begin_control(vendor(3), &[]);
        let last = host.begin_control(vendor(4), &[]);
        host.unlink(waiting);
        assert_eq!(host.wait(waiting).await, Err(CANCELLED));
        host.unlink(first);
        assert_eq!(host.wait(first).await, Err(CANCELLED));
        assert_eq!(host.wait(last).await, Ok(vec![4; 4]));
        // It was answered: nobody is told twice.
        host.unlink(first);
        assert_eq!(host.control(vendor(5), &[]).await, Ok(vec![5; 4]));
    })
    .await;
}
