//! Peers that say what cannot be.

use std::rc::Rc;

use myclerk::bus::Caller;
use myclerk::bus::adapter::ds2490::{Begin, OnewireBus, Transaction};
use myclerk::bus::fake::FakeSession;
use myclerk::bus::onewire::client::owner::Owner;
use myclerk::bus::onewire::fake::Chip;
use myclerk::bus::onewire::op::{BusEntry, BusList, Data, Found, Rom, Select};
use myclerk::wire::opcode::Opcode;
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
    let caller = Caller::default();
    // What follows the last element that is known is passed over.
    let takes_one = |opcode| {
        matches!(
            opcode,
            Opcode::OnewireReset | Opcode::OnewireReadRom | Opcode::OnewireSkipRom
        )
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
            b"\x92\xb6onewire:w1_bus_master1\xd9",
            b"\x92\xa0\xce\xff\xff\xff\xff",
            b"\x92\xb6onewire:w1_bus_master1\xce\xff\xff\xff\xff",
            b"\x92\xb6onewire:w1_bus_master1\xc4\x08\x28\0\0\0\0\0\0\0",
        ] {
            if payload.len() > 25 && (takes_one(opcode) || opcode == Opcode::OnewireWrite) {
                continue;
            }
            let present = crate::rig::present();
            let done = bench
                .desk
                .call(&*bench.bus, &present, &caller, opcode, payload);
            assert!(done.is_err(), "{opcode} {payload:?}");
        }
    }
    assert!(bench.bus.log().is_empty());
}
