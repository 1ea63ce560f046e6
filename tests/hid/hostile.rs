//! Peers that do not keep to the protocol.

use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::fake::{FakeSession, OPENING, pair};
use myclerk::bus::hid::client::attach;
use myclerk::bus::hid::fake::{FakeInput, FakeMaker};
use myclerk::bus::hid::op::{Start, StartPar, Started, decode_events, encode_events};
use myclerk::bus::hid::server;
use myclerk::bus::{AttachError, BusStream, Ended, Grant, Inbound, Local, Opener, Refused, Wish};
use myclerk::kernel::evdev::codes::{
    ABS_MT_SLOT, EV_ABS, EV_FF, EV_KEY, EV_LED, EV_REL, EV_REP, EV_SND, EV_SW, EV_SYN, SYN_DROPPED,
};
use myclerk::kernel::evdev::{Axis, Description, Event};
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::back::outgoing;
use crate::rig::{KEY_A, LED_CAPS, everything, key, led, present, run, until, wish};

/// A user's side by hand.
pub(crate) struct Peer {
    pub(crate) input: FakeInput,
    pub(crate) stream: BusStream,
    /// What reaches the owner as if the stream had brought it.
    pub(crate) inject: UnboundedSender<Inbound>,
    pub(crate) heard: Vec<Event>,
}

impl Peer {
    pub(crate) async fn open() -> Self {
        let (stream, mut theirs) = pair();
        let (inject, inbound) = unbounded_channel();
        let mut brought = core::mem::replace(&mut theirs.inbound, inbound);
        let onward = inject.clone();
        tokio::task::spawn_local(async move {
            while let Some(message) = brought.recv().await {
                // The owner may have left.
                let _ = onward.send(message);
            }
        });
        let input = FakeInput::new(everything());
        let start = Start {
            dev: present().id,
            par: StartPar::default(),
        };
        let grant = Grant {
            corr: OPENING,
            opcode: Opcode::StreamStart,
            payload: start.encode().unwrap(),
            present: present(),
            write: true,
            quiet: true,
        };
        let host = input.clone();
        tokio::task::spawn_local(async move { server::serve(&host, grant, theirs).await });
        let mut peer = Self {
            input,
            stream,
            inject,
            heard: Vec::new(),
        };
        let started = Started::decode(&peer.answer(OPENING).await.unwrap()).unwrap();
        assert_eq!(started.device, everything());
        let nothing_missed = [Event::new(EV_SYN, SYN_DROPPED, 0), Event::REPORT];
        peer.hears(&nothing_missed).await;
        peer.heard.clear();
        peer
    }

    pub(crate) async fn ask(
        &mut self,
        opcode: Opcode,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let corr = self
            .stream
            .outlet
            .request(outgoing(opcode, payload))
            .unwrap();
        self.answer(corr).await
    }

    /// What is answered to a request that was so long on its way.
    pub(crate) async fn ask_late(
        &mut self,
        opcode: Opcode,
        payload: Vec<u8>,
        age_secs: u32,
    ) -> Result<Vec<u8>, String> {
        let corr = 1000 + age_secs;
        let request = Inbound::Request {
            corr,
            opcode,
            payload,
            age_secs,
        };
        self.inject.send(request).unwrap();
        self.answer(corr).await
    }

    /// The answer to that request, or its sub-code.
    async fn answer(&mut self, wanted: u32) -> Result<Vec<u8>, String> {
        loop {
            match self.stream.inbound.recv().await.unwrap() {
                Inbound::Response {
                    corr,
                    status,
                    payload,
                    ..
                } if corr == wanted => {
                    return if status.is_success() {
                        Ok(payload)
                    } else {
                        Err(ErrorMap::decode(&payload).unwrap().sub.into_owned())
                    };
                }
                other => self.take(other),
            }
        }
    }

    fn take(&mut self, message: Inbound) {
        let Inbound::Data { payload, .. } = message else {
            panic!("{message:?}");
        };
        let events = decode_events(&payload).unwrap();
        let timeless = events.iter().map(|event| Event { time: 0, ..*event });
        self.heard.extend(timeless);
        self.stream.outlet.consume(payload.len());
    }

    pub(crate) async fn hears(&mut self, wanted: &[Event]) {
        while !self.heard.ends_with(wanted) {
            let message = self.stream.inbound.recv().await.unwrap();
            self.take(message);
        }
    }

    fn tell(&self, events: &[Event]) {
        self.tell_at(0, events);
    }

    /// Sent at that time by the peer's clock.
    pub(crate) fn tell_at(&self, time: u64, events: &[Event]) {
        let report = Event {
            time,
            ..Event::REPORT
        };
        let events: Vec<Event> = events.iter().copied().chain([report]).collect();
        self.stream.outlet.data(encode_events(&events), false);
    }
}

#[test]
fn only_what_the_device_has_reaches_it() {
    run(async {
        let peer = Peer::open().await;
        peer.tell(&[
            key(KEY_A, 1),
            Event::new(EV_REL, 0, 1),
            Event::new(EV_ABS, 0, 1),
            Event::new(EV_SW, 0, 1),
            Event::new(EV_SYN, 3, 0),
            led(9, 1),
            led(LED_CAPS, 2),
            Event::new(EV_SND, 7, 1),
            Event::new(EV_REP, 2, 1),
            Event::new(EV_REP, 0, -1),
            Event::new(EV_FF, 3, 1),
            Event::new(EV_FF, 0x60, 0x1_0000),
            Event::new(0x16, 0, 1),
            led(LED_CAPS, 1),
        ]);
        until(
            || peer.input.written() == [led(LED_CAPS, 1)],
            || format!("{:?}", peer.input.written()),
        )
        .await;
    });
}

#[test]
fn data_that_is_no_packet_ends_the_stream() {
    run(async {
        for payload in [vec![], vec![0; 15], encode_events(&[led(0, 1)])] {
            let mut peer = Peer::open().await;
            peer.stream.outlet.data(payload, false);
            let told = peer.stream.inbound.recv().await.unwrap();
            assert_eq!(
                told,
                Inbound::Reset {
                    status: Status::BadRequest
                }
            );
        }
    });
}

#[test]
fn operations_of_other_streams_are_refused() {
    run(async {
        let mut peer = Peer::open().await;
        for opcode in [Opcode::StreamQuality, Opcode::SerialPortClose] {
            assert_eq!(peer.ask(opcode, vec![]).await.unwrap_err(), "unsupported");
        }
        for payload in [vec![], vec![0x80], vec![0xC1], b"\x81\xa3par\x80".to_vec()] {
            let answer = peer.ask(Opcode::StreamConfigure, payload).await;
            assert_eq!(answer.unwrap_err(), "bad-payload");
        }
    });
}

/// An owner that answers with this, and its end of the stream.
async fn owner(answer: Vec<u8>) -> (Result<Local, AttachError>, FakeMaker, Option<BusStream>) {
    let (local, maker, stream, _) = owner_for(Duration::ZERO, answer).await;
    (local, maker, stream)
}

/// [`owner`], for whom the user waits so long, and the session.
pub(crate) async fn owner_for(
    grace: Duration,
    answer: Vec<u8>,
) -> (
    Result<Local, AttachError>,
    FakeMaker,
    Option<BusStream>,
    Rc<FakeSession>,
) {
    let (given, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let session = FakeSession::new(
        move |opened| {
            let outlet = &opened.stream.outlet;
            outlet.respond(OPENING, Status::Ok, answer.clone());
            given.send(opened.stream).ok().unwrap();
        },
        |_, _| Err(Refused::unsupported("")),
    );
    let maker = FakeMaker::new();
    let wish = Wish { grace, ..wish(&[]) };
    let opener: Rc<dyn Opener> = session.clone();
    let local = attach(&maker, opener, wish).await;
    (local, maker, taken.try_recv().ok(), session)
}

pub(crate) fn started(device: Description) -> Vec<u8> {
    let par = StartPar::default();
    Started { par, device }.encode().unwrap()
}

#[test]
fn a_device_that_cannot_be_is_not_made() {
    run(async {
        let axis = |minimum, maximum| Axis {
            minimum,
            maximum,
            ..Axis::default()
        };
        let abs = |code, axis| Description {
            abs: vec![(code, axis)],
            ..everything()
        };
        for answer in [
            vec![],
            vec![0x80],
            started(abs(0, axis(1, 0))),
            started(abs(ABS_MT_SLOT, axis(0, i32::MAX))),
            started(Description {
                name: "x".repeat(257),
                ..everything()
            }),
        ] {
            let (local, maker, _) = owner(answer).await;
            assert!(matches!(local, Err(AttachError::Answer(_))));
            assert!(maker.made().is_none());
        }
    });
}

#[test]
fn what_was_not_announced_does_not_happen() {
    run(async {
        let (local, maker, stream) = owner(started(everything())).await;
        let _local = local.unwrap_or_else(|error| panic!("{error}"));
        let stream = stream.unwrap();
        let events = [
            Event::new(EV_KEY, 99, 1),
            Event::new(EV_KEY, KEY_A, 7),
            Event::new(EV_ABS, ABS_MT_SLOT, 3),
            Event::new(EV_LED, 9, 1),
            Event::new(EV_FF, 0, 1),
            Event::new(0x0101, 1, 0),
            Event::new(EV_SYN, 1, 0),
            key(KEY_A, 1),
            Event {
                value: 5,
                ..Event::REPORT
            },
        ];
        stream.outlet.data(encode_events(&events), false);
        let wanted = [key(KEY_A, 1), Event::REPORT];
        let timeless = || -> Vec<Event> {
            let events = maker.events();
            events
                .iter()
                .skip(3)
                .map(|event| Event { time: 0, ..*event })
                .collect()
        };
        until(|| timeless() == wanted, || format!("{:?}", timeless())).await;
    });
}

#[test]
fn events_that_are_no_packet_end_the_attachment() {
    run(async {
        let (local, maker, stream) = owner(started(everything())).await;
        let local = local.unwrap_or_else(|error| panic!("{error}"));
        let stream = stream.unwrap();
        stream
            .outlet
            .data(encode_events(&[key(KEY_A, 1), Event::REPORT]), false);
        stream.outlet.data(encode_events(&[key(KEY_A, 0)]), false);
        assert!(matches!(local.ended.await, Ended::Failed(_)));
        assert!(maker.removed());
        let last = maker.events().last_chunk::<2>().copied().unwrap();
        assert_eq!(last, [key(KEY_A, 0), Event::REPORT]);
    });
}

#[test]
fn an_owner_that_never_answers_does_not_keep_the_device() {
    run(async {
        let (local, maker, stream) = owner(started(everything())).await;
        let local = local.unwrap_or_else(|error| panic!("{error}"));
        tokio::time::pause();
        local.handle.detach();
        assert_eq!(local.ended.await, Ended::Detached);
        assert!(maker.removed());
        drop(stream);
    });
}
