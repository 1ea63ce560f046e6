//! However a device is left, its owner has it back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use myclerk::bus::fake::{FakeSession, OPENING, pair};
use myclerk::bus::spi::client::{Lent, open};
use myclerk::bus::spi::fake::FIRST;
use myclerk::bus::spi::op::{Extension, Opened, Settings};
use myclerk::bus::{
    BusStream, Ended, Handle as _, Inbound, Outgoing, Outlet, OutletError, Refused,
};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::task::spawn_local;

use crate::rig::{Bench, GRACE, request, run, until};

const RESET: Option<Inbound> = Some(Inbound::Reset { status: Status::Ok });

fn opened() -> Opened {
    Opened {
        settings: FIRST,
        ext: Some(Extension {
            entries: 511,
            bufsiz: 4096,
            flags: 0,
        }),
    }
}

/// The openings that the owner saw, with their streams.
type Openings = Rc<RefCell<Vec<(Vec<u8>, BusStream)>>>;

/// A session whose owner's ends of streams the test has.
pub(crate) fn played() -> (Rc<FakeSession>, Openings) {
    let streams: Rc<RefCell<Vec<_>>> = Rc::default();
    let opened = Rc::clone(&streams);
    let session = FakeSession::new(
        move |open| opened.borrow_mut().push((open.payload, open.stream)),
        |_, _| Err(Refused::gone()),
    );
    (session, streams)
}

/// Closed for requests, until it is opened.
pub(crate) struct Gate {
    pub(crate) outlet: Rc<dyn Outlet>,
    pub(crate) shut: Cell<bool>,
}

impl Gate {
    /// Before that end of a stream.
    pub(crate) fn before(stream: BusStream) -> (Rc<Self>, BusStream) {
        let gate = Rc::new(Self {
            outlet: stream.outlet,
            shut: Cell::new(true),
        });
        let outlet: Rc<dyn Outlet> = Rc::clone(&gate) as Rc<dyn Outlet>;
        let inbound = stream.inbound;
        (gate, BusStream { outlet, inbound })
    }
}

impl Outlet for Gate {
    fn request(&self, outgoing: Outgoing) -> Result<u32, OutletError> {
        if self.shut.get() {
            return Err(OutletError::WouldBlock(outgoing));
        }
        self.outlet.request(outgoing)
    }

    fn respond(&self, corr: u32, status: Status, payload: Vec<u8>) {
        self.outlet.respond(corr, status, payload);
    }

    fn event(&self, opcode: Opcode, payload: Vec<u8>) {
        self.outlet.event(opcode, payload);
    }

    fn data(&self, payload: Vec<u8>, fin: bool) {
        self.outlet.data(payload, fin);
    }

    fn cancel(&self, corr: u32) {
        self.outlet.cancel(corr);
    }

    fn reset(&self, status: Status) {
        self.outlet.reset(status);
    }

    fn consume(&self, bytes: usize) {
        self.outlet.consume(bytes);
    }

    fn writable(&self, bytes: usize) -> bool {
        self.outlet.writable(bytes)
    }

    fn queued(&self) -> usize {
        self.outlet.queued()
    }
}

#[test]
fn an_owner_that_does_not_confirm_in_time_is_told_without_asking() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        bench.steering.detach();
        let (_, opcode, _) = request(&mut owner).await;
        assert_eq!(opcode, Opcode::SpiDeviceClose);
        tokio::time::pause();
        assert_eq!(owner.inbound.recv().await, RESET);
        tokio::time::resume();
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
    });
}

#[test]
fn an_owner_that_refuses_to_close_or_cannot_be_asked_is_told_without_asking() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        bench.steering.detach();
        let (corr, ..) = request(&mut owner).await;
        owner.outlet.respond(corr, Status::Timeout, Vec::new());
        assert_eq!(owner.inbound.recv().await, RESET);

        let (mine, mut owner) = pair();
        let (_gate, mine) = Gate::before(mine);
        let (nobody, _) = played();
        let bench = Bench::with((opened(), Lent::new(mine)), nobody, GRACE);
        bench.steering.detach();
        assert_eq!(owner.inbound.recv().await, RESET);
    });
}

#[test]
fn an_owner_that_has_closed_hears_nothing_more() {
    run(async {
        let (bench, mut owner) = Bench::alone(opened());
        bench.steering.detach();
        let (corr, ..) = request(&mut owner).await;
        owner.outlet.respond(corr, Status::Ok, vec![0x80]);
        assert_eq!(bench.ended.await.unwrap(), Ended::Detached);
        // Nothing but that the other end is gone.
        let after = owner.inbound.try_recv();
        assert!(matches!(after, Err(_) | Ok(Inbound::Closed)), "{after:?}");
    });
}

#[test]
fn a_device_that_is_wanted_no_more_while_it_is_set_up_is_given_back() {
    run(async {
        let (session, streams) = played();
        let wanted = Settings { mode: 0, ..FIRST };
        let opening =
            spawn_local(async move { open(&*session, "spi:spidev0.0", Some(&wanted)).await });
        until(|| !streams.borrow().is_empty()).await;
        let (_, mut owner) = streams.borrow_mut().remove(0);
        let answer = opened().encode().unwrap();
        owner.outlet.respond(OPENING, Status::Ok, answer);
        let (_, opcode, _) = request(&mut owner).await;
        assert_eq!(opcode, Opcode::SpiConfigure);
        opening.abort();
        assert_eq!(owner.inbound.recv().await, RESET);
    });
}

#[test]
fn a_request_without_room_is_sent_again_however_much_programs_call_meanwhile() {
    run(async {
        let (mine, mut owner) = pair();
        let (gate, mine) = Gate::before(mine);
        let (nobody, _) = played();
        let bench = Bench::with((opened(), Lent::new(mine)), nobody, GRACE);
        let program = bench.program().await;
        tokio::time::pause();
        let _read = bench.kernel.start_read(program.fh, 2);
        bench.kernel.poll(program.fh).await;
        gate.shut.set(false);
        for _ in 0..50 {
            tokio::time::advance(std::time::Duration::from_millis(2)).await;
            bench.kernel.poll(program.fh).await;
        }
        let Ok(Inbound::Request { opcode, .. }) = owner.inbound.try_recv() else {
            panic!("nothing was asked");
        };
        assert_eq!(opcode, Opcode::SpiRead);
    });
}
