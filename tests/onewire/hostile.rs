//! Peers that say what cannot be.

use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use myclerk::bus::Caller;
use myclerk::bus::adapter::ds2490::{Begin, OnewireBus, Transaction};
use myclerk::bus::fake::FakeSession;
use myclerk::bus::onewire::client::owner::Owner;
use myclerk::bus::onewire::fake::Chip;
use myclerk::bus::onewire::hardware::{OnewireHost, Outcome, Step};
use myclerk::bus::onewire::op::{BusEntry, BusList, Data, Found, Rom, Search, Select};
use myclerk::bus::onewire::server::{Desk, MAX_WAITING};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::sub;
use nix::errno::Errno;

use crate::rig::{Bench, DEV, remote};

/// An owner that answers everything but the list so.
async fn asked(answer: Vec<u8>) -> Owner {
    let list = BusList {
        buses: vec![BusEntry {
            dev: DEV.to_owned(),
            name: "w1".to_owned(),
            wr: true,
        }],
    };
    let list = list.encode().unwrap();
    let session = FakeSession::new(
        |_| (),
        move |opcode, _| match opcode {
            Opcode::OnewireBusList => Ok(list.clone()),
            _ => Ok(answer.clone()),
        },
    );
    let remote = remote(&session);
    Owner::new(&*session, Rc::clone(&remote)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_longer_or_shorter_than_asked_is_none() {
    for length in [0, 8, 10, 5000] {
        let data = vec![0; length];
        let owner = asked(Data { data }.encode()).await;
        let transaction = Transaction {
            begin: Begin::Select(Select::Skip),
            write: vec![0xBE],
            read: 9,
            pullup_ms: 0,
        };
        assert_eq!(owner.run(transaction).await, Err(Errno::EPROTO));
    }
}

#[tokio::test(start_paused = true)]
async fn devices_with_a_wrong_crc_are_not_believed() {
    let mut rom = Rom::new(0x28, 1);
    rom.0[7] ^= 1;
    let owner = asked(Found { roms: vec![rom] }.encode()).await;
    assert_eq!(owner.search(false).await, Err(Errno::EPROTO));
    let owner = asked(b"\x91\xdf\xff\xff\xff\xff".to_vec()).await;
    assert_eq!(owner.search(false).await, Err(Errno::EPROTO));
}

#[test]
fn payloads_that_are_none_do_nothing_on_the_bus() {
    let bench = Bench::new([Chip::ds18b20(1)]);
    let refused = |opcode, payload: &[u8]| {
        let caller = Caller::default();
        let present = crate::rig::present();
        let done = bench
            .desk
            .call(&*bench.bus, &present, &caller, opcode, payload);
        assert!(done.is_err(), "{opcode} {payload:?}");
    };
    for opcode in [
        Opcode::OnewireSearch,
        Opcode::OnewireReset,
        Opcode::OnewireReadRom,
        Opcode::OnewireMatchRom,
        Opcode::OnewireSkipRom,
        Opcode::OnewireRead,
        Opcode::OnewireWrite,
        Opcode::OnewireBusList,
        Opcode::I2cTransfer,
    ] {
        for payload in [
            &b""[..],
            b"\x80",
            b"\x90",
            b"\x91\xc0",
            b"\x91\xa0",
            b"\x92\xa1w",
        ] {
            refused(opcode, payload);
        }
    }
    // Huge numbers, and a code with a wrong CRC.
    let dev = |rest: &[u8]| [&b"\x92\xb6onewire:w1_bus_master1"[..], rest].concat();
    refused(Opcode::OnewireRead, &dev(b"\xce\xff\xff\xff\xff"));
    refused(Opcode::OnewireWrite, &dev(b"\xc6\xff\xff\xff\xff"));
    refused(Opcode::OnewireMatchRom, &dev(b"\xc4\x08\x28\0\0\0\0\0\0\0"));
    assert!(bench.bus.log().is_empty());
}

#[test]
fn only_so_many_requests_wait_for_a_bus() {
    let held = Arc::new(Held::default());
    let desk = Arc::new(Desk::default());
    let search = || {
        let (desk, held) = (Arc::clone(&desk), Arc::clone(&held));
        move || {
            let (dev, alarm) = (DEV.to_owned(), false);
            let request = Search { dev, alarm }.encode();
            let present = crate::rig::present();
            let caller = Caller::default();
            desk.call(&*held, &present, &caller, Opcode::OnewireSearch, &request)
        }
    };
    let all: Vec<_> = (0..100).map(|_| thread::spawn(search())).collect();
    // All but those that wait are answered while the bus is held.
    while all.iter().filter(|one| one.is_finished()).count() < 100 - MAX_WAITING {
        thread::yield_now();
    }
    held.let_go();
    let done = all.into_iter().map(|one| one.join().unwrap());
    let (served, refused): (Vec<_>, Vec<_>) = done.partition(Result::is_ok);
    assert_eq!(served.len(), MAX_WAITING);
    let mut why = refused.into_iter().filter_map(Result::err);
    assert!(why.all(|refused| refused.sub == sub::BUSY));
}

#[test]
fn what_was_given_up_while_it_waited_is_not_begun() {
    let (held, desk) = (Arc::new(Held::default()), Arc::new(Desk::default()));
    let (first, second) = (Caller::default(), Caller::default());
    let search = |caller: &Caller| {
        let (desk, held, caller) = (Arc::clone(&desk), Arc::clone(&held), caller.clone());
        move || {
            let (dev, alarm) = (DEV.to_owned(), false);
            let request = Search { dev, alarm }.encode();
            let present = crate::rig::present();
            desk.call(&*held, &present, &caller, Opcode::OnewireSearch, &request)
        }
    };
    let first = thread::spawn(search(&first));
    held.is_searched();
    let waiting = thread::spawn(search(&second));
    second.give_up();
    held.let_go();
    assert!(first.join().unwrap().is_ok());
    let refused = waiting.join().unwrap().map_err(|refused| refused.sub);
    assert_eq!(refused, Err(sub::CANCELLED));
}

/// A bus whose searches last until it is let go.
#[derive(Default)]
struct Held {
    free: Mutex<bool>,
    searched: Mutex<bool>,
    changed: Condvar,
}

impl Held {
    /// Waits until somebody has the bus.
    fn is_searched(&self) {
        while !*self.searched.lock().unwrap() {
            thread::yield_now();
        }
    }

    fn let_go(&self) {
        *self.free.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

impl OnewireHost for Held {
    fn search(&self, _: &str, _: bool) -> Result<Vec<Rom>, Errno> {
        *self.searched.lock().unwrap() = true;
        let free = self.free.lock().unwrap();
        let _free = self.changed.wait_while(free, |free| !*free).unwrap();
        Ok(Vec::new())
    }

    fn run(&self, _: &str, _: &[Step<'_>]) -> Result<Outcome, Errno> {
        Err(Errno::ENODEV)
    }
}
