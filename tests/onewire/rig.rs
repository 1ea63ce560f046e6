//! An owner with a fake bus, and sessions with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use myclerk::bus::fake::FakeSession;
use myclerk::bus::onewire::client::owner::Owner;
use myclerk::bus::onewire::fake::{Chip, FakeBus, PLACE};
use myclerk::bus::onewire::op::{BusRequest, Data, MatchRom, Presence, Read, Rom, Select, Write};
use myclerk::bus::onewire::server::{Desk, listing};
use myclerk::bus::remote::Remote;
use myclerk::bus::{Answer, Caller, Opener, Present, Refused, Wish};
use myclerk::wire::opcode::Opcode;

pub(crate) const DEV: &str = "onewire:w1_bus_master1";

pub(crate) fn present() -> Present {
    Present {
        id: DEV.to_owned(),
        name: PLACE.to_owned(),
        place: PLACE.to_owned(),
        hazard: None,
        props: BTreeMap::new(),
    }
}

/// An owner whose clock stands still.
pub(crate) struct Bench {
    pub(crate) bus: Arc<FakeBus>,
    pub(crate) desk: Arc<Desk>,
    now: Arc<Mutex<Instant>>,
}

impl Bench {
    pub(crate) fn new(chips: impl IntoIterator<Item = Chip>) -> Self {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = Arc::clone(&now);
        Self {
            bus: Arc::new(FakeBus::new(chips)),
            desk: Arc::new(Desk::new(move || *clock.lock().unwrap())),
            now,
        }
    }

    pub(crate) fn passes(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    pub(crate) fn call(&self, caller: &Caller, opcode: Opcode, payload: &[u8]) -> Answer {
        let wanted = myclerk::bus::onewire::server::wanted(opcode, payload)?;
        assert_eq!(wanted.device, DEV);
        self.desk
            .call(&*self.bus, &present(), caller, opcode, payload)
    }

    pub(crate) fn reset(&self, caller: &Caller) -> Result<bool, Refused> {
        let answer = self.call(caller, Opcode::OnewireReset, &bus())?;
        Ok(Presence::decode(&answer).unwrap().present)
    }

    pub(crate) fn address(&self, caller: &Caller, rom: Rom) -> Result<(), Refused> {
        let dev = DEV.to_owned();
        let request = MatchRom { dev, rom }.encode();
        self.call(caller, Opcode::OnewireMatchRom, &request)
            .map(|_| ())
    }

    pub(crate) fn write(
        &self,
        caller: &Caller,
        select: Option<Select>,
        data: &[u8],
    ) -> Result<(), Refused> {
        let request = Write {
            dev: DEV.to_owned(),
            data: data.to_vec(),
            select,
            pullup_ms: 0,
        };
        self.call(caller, Opcode::OnewireWrite, &request.encode())
            .map(|_| ())
    }

    pub(crate) fn read(
        &self,
        caller: &Caller,
        select: Option<Select>,
        before: &[u8],
        count: usize,
    ) -> Result<Vec<u8>, Refused> {
        let request = Read {
            dev: DEV.to_owned(),
            count,
            select,
            before: before.to_vec(),
        };
        let answer = self.call(caller, Opcode::OnewireRead, &request.encode())?;
        Ok(Data::decode(&answer, count).unwrap().data)
    }

    /// A session with this owner; `joins` lets it announce that it writes and reads in one request. What
    /// was asked is kept.
    pub(crate) fn session(&self, joins: bool) -> (Rc<FakeSession>, Rc<RefCell<Vec<Opcode>>>) {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&asked);
        let (bus, desk) = (Arc::clone(&self.bus), Arc::clone(&self.desk));
        let caller = Caller::default();
        let call = move |opcode, payload: &[u8]| {
            log.borrow_mut().push(opcode);
            match opcode {
                Opcode::OnewireBusList => Ok(list(joins)),
                Opcode::DeviceInfo => Ok(vec![0x80]),
                opcode => desk.call(&*bus, &present(), &caller, opcode, payload),
            }
        };
        (FakeSession::new(|_| (), call), asked)
    }
}

fn list(joins: bool) -> Vec<u8> {
    let listed = listing(&[(present(), 0)]);
    let mut list = myclerk::bus::onewire::op::BusList::decode(&listed).unwrap();
    assert!(list.buses[0].wr);
    list.buses[0].wr = joins;
    list.encode().unwrap()
}

pub(crate) fn bus() -> Vec<u8> {
    let dev = DEV.to_owned();
    BusRequest { dev }.encode()
}

/// The device of a wish, in that session.
pub(crate) fn remote(session: &Rc<FakeSession>) -> Rc<Remote> {
    let wish = Wish {
        device: DEV.to_owned(),
        grace: Duration::from_secs(30),
        ..Wish::default()
    };
    Remote::new(Rc::clone(session) as Rc<dyn Opener>, &wish)
}

/// The using half of it.
pub(crate) async fn owner(session: &Rc<FakeSession>) -> Owner {
    Owner::new(&**session, remote(session)).await.unwrap()
}
