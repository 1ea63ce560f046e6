//! The owner's half alone, with a peer that is played.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use myclerk::bus::can::fake::FakeHost;
use myclerk::bus::can::hardware::CanHost;
use myclerk::bus::can::op::{
    CanMode, Configure, Configured, ErrorState, ErrorStatus, FrameEvent, Modes, Open, Opened, Pull,
    decode_pulled, encode_empty, encode_filters, encode_send,
};
use myclerk::bus::can::server::{Owner, serve};
use myclerk::bus::fake::{OPENING, pair};
use myclerk::bus::{BusStream, End, Inbound, Outgoing, Outlet};
use myclerk::kernel::can::{BusState, Controller, Frame};
use myclerk::wire::class::Class;
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::bridge::{frame, frames, grant, local};

/// A machine with `can0` and another node at its bus.
struct Machine {
    host: FakeHost,
    owner: Owner,
}

/// The peer's end of a stream.
struct Peer {
    outlet: Rc<dyn Outlet>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    /// Straight into the owner's queue.
    raw: mpsc::UnboundedSender<Inbound>,
    served: JoinHandle<End>,
    /// Gives back the credit of what arrives.
    consumes: bool,
}

impl Machine {
    fn new() -> Self {
        let host = FakeHost::new();
        host.add_controller("can0", 1, 500_000);
        host.add_controller("far", 1, 500_000);
        let owner = Owner::new(Arc::new(host.clone()));
        Self { host, owner }
    }

    async fn try_open(&self, mode: CanMode) -> (Peer, Result<Opened, (Status, String)>) {
        let open = Open {
            dev: "can:can0".to_owned(),
            mode,
            fd: false,
            own: false,
            filters: None,
            errors: false,
        };
        let (mine, theirs) = pair();
        let (raw, inbound) = mpsc::unbounded_channel();
        let BusStream {
            outlet,
            inbound: mut ordinary,
        } = theirs;
        let forward = raw.clone();
        tokio::task::spawn_local(async move {
            while let Some(message) = ordinary.recv().await {
                if forward.send(message).is_err() {
                    break;
                }
            }
        });
        let grant = grant(
            &self.host,
            Opcode::CanInterfaceOpen,
            open.encode().unwrap(),
            true,
        );
        let stream = BusStream { outlet, inbound };
        let served = tokio::task::spawn_local(serve(self.owner.clone(), grant, stream));
        let mut peer = Peer {
            outlet: mine.outlet,
            inbound: mine.inbound,
            raw,
            served,
            consumes: true,
        };
        let answer = peer.answer(OPENING).await;
        (peer, answer.map(|answer| Opened::decode(&answer).unwrap()))
    }

    async fn open(&self, mode: CanMode) -> Peer {
        let (peer, opened) = self.try_open(mode).await;
        assert_eq!(opened.map(|opened| opened.bitrate), Ok(500_000));
        peer
    }
}

impl Peer {
    async fn next(&mut self) -> Inbound {
        let message = self.inbound.recv().await.expect("a message");
        if let Inbound::Event { payload, .. } = &message
            && self.consumes
        {
            self.outlet.consume(payload.len());
        }
        message
    }

    async fn answer(&mut self, wanted: u32) -> Result<Vec<u8>, (Status, String)> {
        loop {
            if let Inbound::Response {
                corr,
                status,
                payload,
                ..
            } = self.next().await
                && corr == wanted
            {
                return if status.is_success() {
                    Ok(payload)
                } else {
                    Err((status, ErrorMap::decode(&payload).unwrap().sub.into_owned()))
                };
            }
        }
    }

    async fn event(&mut self) -> FrameEvent {
        loop {
            if let Inbound::Event { payload, .. } = self.next().await {
                return FrameEvent::decode(&payload).unwrap();
            }
        }
    }

    fn request(&self, opcode: Opcode, payload: Vec<u8>) -> u32 {
        let request = Outgoing {
            opcode,
            class: Class::Interrupt,
            payload,
            reply_len: 1024,
            timeout_ms: 0,
            deadline_ms: 0,
        };
        self.outlet.request(request).unwrap()
    }

    async fn ask(&mut self, opcode: Opcode, payload: Vec<u8>) -> Result<Vec<u8>, (Status, String)> {
        let corr = self.request(opcode, payload);
        self.answer(corr).await
    }

    async fn close(mut self) -> End {
        let closed = self.ask(Opcode::CanInterfaceClose, empty()).await;
        assert_eq!(closed, Ok(empty()));
        self.served.await.unwrap()
    }
}

fn empty() -> Vec<u8> {
    let mut out = Vec::new();
    encode_empty(&mut out);
    out
}

fn refused(status: Status, sub: &str) -> Result<Vec<u8>, (Status, String)> {
    Err((status, sub.to_owned()))
}

async fn settled() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[test]
fn a_frame_that_is_asked_for_is_answered_when_it_is_queued() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        let sent = peer.ask(Opcode::CanFrameSend, encode_send(&frame(1))).await;
        assert_eq!(sent, Ok(empty()));
        assert_eq!(far.arrived(), [frame(1)]);
        machine.host.hold("can0");
        let corr = peer.request(Opcode::CanFrameSend, encode_send(&frame(2)));
        settled().await;
        assert!(peer.inbound.try_recv().is_err());
        machine.host.release("can0");
        assert_eq!(peer.answer(corr).await, Ok(empty()));
        assert_eq!(peer.close().await, End::Detached);
    });
}

#[test]
fn a_full_queue_is_tried_again_and_nothing_is_reordered() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        for _ in 0..3 {
            machine.host.fail_send("can0", Errno::ENOBUFS);
        }
        for id in 0..10 {
            peer.outlet
                .event(Opcode::CanFrameSend, encode_send(&frame(id)));
        }
        let wanted: Vec<Frame> = (0..10).map(frame).collect();
        assert_eq!(frames(&far, 10).await, wanted);
        machine.host.fail_send("can0", Errno::ENETDOWN);
        let down = peer.ask(Opcode::CanFrameSend, encode_send(&frame(1))).await;
        assert_eq!(down, refused(Status::InternalError, sub::DEVICE_IO));
        let up = peer.ask(Opcode::CanFrameSend, encode_send(&frame(1))).await;
        assert_eq!(up, Ok(empty()));
    });
}

#[test]
fn an_old_frame_is_refused_or_dropped() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        for (age_secs, id) in [(11, 1), (10, 2)] {
            let event = Inbound::Event {
                opcode: Opcode::CanFrameSend,
                payload: encode_send(&frame(id)),
                age_secs,
            };
            peer.raw.send(event).unwrap();
        }
        let request = Inbound::Request {
            corr: 77,
            opcode: Opcode::CanFrameSend,
            payload: encode_send(&frame(3)),
            age_secs: 11,
        };
        peer.raw.send(request).unwrap();
        let answer = peer.answer(77).await;
        assert_eq!(answer, refused(Status::Forbidden, sub::TOO_OLD));
        assert_eq!(frames(&far, 1).await, [frame(2)]);
    });
}

#[test]
fn a_bus_that_takes_nothing_is_not_flooded_later() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        machine.host.hold("can0");
        for id in 0..100 {
            peer.outlet
                .event(Opcode::CanFrameSend, encode_send(&frame(id)));
        }
        let asked = peer.request(Opcode::CanFrameSend, encode_send(&frame(100)));
        let answer = peer.answer(asked).await;
        assert_eq!(answer, refused(Status::Timeout, sub::TIMEOUT));
        machine.host.release("can0");
        let fresh = peer
            .ask(Opcode::CanFrameSend, encode_send(&frame(101)))
            .await;
        assert_eq!(fresh, Ok(empty()));
        assert_eq!(far.arrived(), [frame(101)]);
        assert!(peer.outlet.writable(64 << 10), "the credit is all back");
    });
}

#[test]
fn a_peer_that_takes_nothing_is_not_flooded_later_and_told_what_it_lost() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::Read).await;
        peer.consumes = false;
        // Some 3000 of them are all the credit.
        for id in 0..6000 {
            far.send(frame(id & 0x7FF)).await.unwrap();
        }
        settled().await;
        let mut taken = 0;
        while let Ok(message) = peer.inbound.try_recv() {
            let Inbound::Event { payload, .. } = message else {
                panic!("an event");
            };
            let event = FrameEvent::decode(&payload).unwrap();
            assert_eq!((event.frame, event.lost), (frame(taken & 0x7FF), 0));
            taken += 1;
        }
        assert!(taken > 2000 && taken < 6000, "{taken}");
        tokio::time::sleep(Duration::from_secs(11)).await;
        peer.consumes = true;
        peer.outlet.consume(64 << 10);
        far.send(frame(7)).await.unwrap();
        let event = peer.event().await;
        assert_eq!((event.frame, event.lost), (frame(7), 6000 - taken));
    });
}

#[test]
fn what_the_socket_or_the_link_lost_is_told_once() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::Read).await;
        machine.host.overflow("can0", 4);
        far.send(frame(1)).await.unwrap();
        assert_eq!(peer.event().await.lost, 4);
        peer.raw.send(Inbound::Dropped { count: 3 }).unwrap();
        settled().await;
        far.send(frame(2)).await.unwrap();
        assert_eq!(peer.event().await.lost, 3);
        far.send(frame(3)).await.unwrap();
        assert_eq!(peer.event().await.lost, 0);
    });
}

#[test]
fn a_frame_has_the_time_at_which_the_kernel_received_it() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let here = machine.host.program("can0").unwrap();
        let mut peer = machine.open(CanMode::Read).await;
        for id in 0..2 {
            far.send(frame(id)).await.unwrap();
        }
        let received = here.receive().await.unwrap();
        let times: Vec<u64> = received.iter().map(|received| received.time_us).collect();
        let told = [peer.event().await.time_us, peer.event().await.time_us];
        assert_eq!(told, *times);
        assert!(told[0] < told[1]);
    });
}

#[test]
fn frames_can_be_pulled_and_are_then_not_pushed() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::Read).await;
        let pull = |max, timeout_ms| Pull { max, timeout_ms }.encode();
        let corr = peer.request(Opcode::CanFrameReceive, pull(2, 1000));
        settled().await;
        for id in 0..3 {
            far.send(frame(id)).await.unwrap();
        }
        let all = |answer: Vec<u8>| -> Vec<Frame> {
            let events = decode_pulled(&answer, 2).unwrap();
            events.iter().map(|event| event.frame).collect()
        };
        let mut pulled = all(peer.answer(corr).await.unwrap());
        while pulled.len() < 3 {
            let answer = peer.ask(Opcode::CanFrameReceive, pull(2, 1000)).await;
            pulled.extend(all(answer.unwrap()));
        }
        assert_eq!(pulled, [frame(0), frame(1), frame(2)]);
        let none = peer.ask(Opcode::CanFrameReceive, pull(2, 1000)).await;
        assert_eq!(all(none.unwrap()), []);
        let corr = peer.request(Opcode::CanFrameReceive, pull(1, 60_000));
        peer.outlet.cancel(corr);
        let cancelled = peer.answer(corr).await;
        assert_eq!(cancelled, refused(Status::Timeout, sub::CANCELLED));
    });
}

#[test]
fn sending_and_configuring_need_the_right_to_write() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::Read).await;
        peer.outlet
            .event(Opcode::CanFrameSend, encode_send(&frame(1)));
        let sent = peer.ask(Opcode::CanFrameSend, encode_send(&frame(1))).await;
        assert_eq!(sent, refused(Status::Forbidden, sub::ACL));
        let configured = peer.ask(Opcode::CanConfigure, configure(250_000)).await;
        assert_eq!(configured, refused(Status::Forbidden, sub::ACL));
        assert_eq!(far.arrived(), []);
    });
}

fn configure(bitrate: u32) -> Vec<u8> {
    let configure = Configure {
        bitrate,
        sample: Some(800),
        dbitrate: None,
        mode: Some(Modes {
            listen_only: true,
            ..Modes::default()
        }),
    };
    configure.encode().unwrap()
}

#[test]
fn a_configuration_lasts_as_long_as_the_stream() {
    local(async {
        let machine = Machine::new();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        let answer = peer.ask(Opcode::CanConfigure, configure(250_000)).await;
        let actual = Configured::decode(&answer.unwrap()).unwrap();
        assert_eq!((actual.bitrate, actual.sample), (250_000, 800));
        assert!(actual.mode.listen_only);
        let now = machine.host.find("can0").unwrap();
        assert!(now.up);
        peer.close().await;
        let after = machine.host.find("can0").unwrap();
        let controller = after.controller.unwrap();
        assert!(after.up);
        assert_eq!(controller.timing.bitrate, 500_000);
        assert_eq!(controller.modes & Controller::LISTEN_ONLY, 0);
    });
}

#[test]
fn a_configuration_that_fails_leaves_the_interface_as_it_was() {
    local(async {
        let machine = Machine::new();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        machine.host.refuse_settings("can0", Errno::EDOM);
        let answer = peer.ask(Opcode::CanConfigure, configure(3)).await;
        assert_eq!(answer, refused(Status::InternalError, sub::DEVICE_IO));
        let now = machine.host.find("can0").unwrap();
        assert!(now.up);
        assert_eq!(now.controller.unwrap().timing.bitrate, 500_000);
    });
}

#[test]
fn nobody_configures_what_others_have_open() {
    local(async {
        let machine = Machine::new();
        let mut one = machine.open(CanMode::ReadWrite).await;
        let other = machine.open(CanMode::Read).await;
        let answer = one.ask(Opcode::CanConfigure, configure(250_000)).await;
        assert_eq!(answer, refused(Status::Forbidden, sub::EXCLUSIVE));
        assert_eq!(machine.host.settings("can0"), []);
        other.close().await;
        assert!(
            one.ask(Opcode::CanConfigure, configure(250_000))
                .await
                .is_ok()
        );
    });
}

#[test]
fn an_exclusive_stream_is_alone() {
    local(async {
        let machine = Machine::new();
        let alone = machine.open(CanMode::Exclusive).await;
        let exclusive = Err((Status::Forbidden, sub::EXCLUSIVE.to_owned()));
        let (_, second) = machine.try_open(CanMode::Read).await;
        assert_eq!(second, exclusive);
        alone.close().await;
        let shared = machine.open(CanMode::Read).await;
        let (_, second) = machine.try_open(CanMode::Exclusive).await;
        assert_eq!(second, exclusive);
        shared.close().await;
    });
}

#[test]
fn an_interface_that_is_down_is_up_while_somebody_uses_it() {
    local(async {
        let machine = Machine::new();
        machine.host.change("can0", |link| link.up = false);
        let one = machine.open(CanMode::Read).await;
        let other = machine.open(CanMode::Read).await;
        one.close().await;
        assert!(machine.host.find("can0").unwrap().up);
        drop(other.raw);
        let (outlet, inbound) = (other.outlet, other.inbound);
        outlet.reset(Status::Ok);
        assert_eq!(other.served.await.unwrap(), End::Detached);
        drop(inbound);
        assert!(!machine.host.find("can0").unwrap().up);
    });
}

#[test]
fn a_controller_without_a_bit_rate_is_configured_by_the_peer() {
    local(async {
        let machine = Machine::new();
        machine.host.change("can0", |link| {
            link.up = false;
            let controller = link.controller.as_mut().unwrap();
            controller.timing.bitrate = 0;
        });
        let (mut peer, opened) = machine.try_open(CanMode::ReadWrite).await;
        assert_eq!(opened.unwrap().bitrate, 0);
        assert!(
            peer.ask(Opcode::CanConfigure, configure(125_000))
                .await
                .is_ok()
        );
        assert!(machine.host.find("can0").unwrap().up);
        peer.close().await;
        assert!(!machine.host.find("can0").unwrap().up);
    });
}

#[test]
fn the_errors_of_a_controller_are_told() {
    local(async {
        let machine = Machine::new();
        machine.host.change("can0", |link| {
            let controller = link.controller.as_mut().unwrap();
            controller.state = BusState::Off;
            controller.errors = Some((256, 12));
            controller.bus_offs = 2;
            controller.restarts = 1;
        });
        let mut peer = machine.open(CanMode::Read).await;
        let answer = peer.ask(Opcode::CanErrorStatus, empty()).await.unwrap();
        let status = ErrorStatus::decode(&answer).unwrap();
        let wanted = ErrorStatus {
            state: ErrorState::Off,
            tx: 256,
            rx: 12,
            restarts: 1,
            busoff: 2,
        };
        assert_eq!(status, wanted);
    });
}

#[test]
fn filters_change_while_the_stream_is_open() {
    local(async {
        let machine = Machine::new();
        let far = machine.host.program("far").unwrap();
        let mut peer = machine.open(CanMode::Read).await;
        let set = peer
            .ask(Opcode::CanFilterSet, encode_filters(&[[5, 0x7FF]]))
            .await;
        assert_eq!(set, Ok(empty()));
        far.send(frame(4)).await.unwrap();
        far.send(frame(5)).await.unwrap();
        assert_eq!(peer.event().await.frame, frame(5));
    });
}

#[test]
fn a_request_without_sense_is_refused_and_the_stream_goes_on() {
    local(async {
        let machine = Machine::new();
        let mut peer = machine.open(CanMode::ReadWrite).await;
        for opcode in [
            Opcode::CanFrameSend,
            Opcode::CanFrameReceive,
            Opcode::CanFilterSet,
            Opcode::CanConfigure,
            Opcode::CanErrorStatus,
            Opcode::CanInterfaceClose,
        ] {
            let answer = peer.ask(opcode, b"\xC0".to_vec()).await;
            assert_eq!(
                answer,
                refused(Status::BadRequest, sub::BAD_PAYLOAD),
                "{opcode}"
            );
        }
        let other = peer.ask(Opcode::UsbReset, empty()).await;
        assert_eq!(other, refused(Status::BadRequest, sub::UNKNOWN_OP));
        peer.outlet.event(Opcode::CanFrameSend, b"\xC0".to_vec());
        peer.outlet.event(Opcode::GpioEvent, b"\xC0".to_vec());
        assert_eq!(peer.close().await, End::Detached);
    });
}
