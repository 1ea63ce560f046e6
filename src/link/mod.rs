//! Requests, answers, events, streams and credit over sealed records, and the choice of which frame
//! goes next (profile 9–11, 13). No I/O, no clock, no keys: the session seals what
//! [`Link::fill_record`] writes and hands what it opened to [`Link::handle_record`].
//!
//! ```text
//!            request respond event data cancel reset      poll_event
//!                 |                                            ^
//!                 v                                            |
//!   lanes of each stream, by class                     events in order
//!                 |                                            ^
//!                 v                                            |
//!        fill_record(budget)                             handle_record
//! ```
//!
//! Frames are chosen when a record is filled, not when they are produced. What the peer sends is
//! checked against what we announced; whatever breaks a rule that ends the session is a
//! [`Violation`].
//!
//! Panic contract: no plaintext and no order of calls makes a link panic.
#![forbid(unsafe_code)]

mod answers;
mod class;
mod config;
pub mod connection;
mod credit;
mod direct;
mod event;
mod fill;
mod flow;
mod guards;
mod ids;
mod inbound;
mod operation;
mod queue;
mod rate;
mod receive;
mod requests;
mod scheduler;
mod send;
mod stream;
mod streams;
mod tiers;
mod timers;
mod unit;

use core::time::Duration;
use std::collections::VecDeque;

use crate::wire::{fragment::Reassembler, time::Mono};

use answers::Answers;
use credit::{RecvCredit, SendCredit};
use guards::Guards;
use queue::Urgent;
use rate::{DeliveryRate, TokenBucket};
use receive::Charges;
use requests::Requests;
use scheduler::Scheduler;
use stream::Stream;
use streams::Streams;
use unit::{FragmentSlots, Unit};

pub use answers::{KEPT_ENTRIES, KEPT_FOR};
pub use class::{BULK_ABOVE, Class, DataForm, StreamKind};
pub use config::{DeclaredReply, LinkConfig, MEMORY, QUEUE_BYTES};
pub use event::{LinkError, LinkEvent, Violation};
pub use guards::CONTROL_EVENTS_PER_SECOND;
pub use ids::{Corr, StreamId};
pub use operation::{Operation, StreamRole, belongs};
pub use rate::ASSUMED_RATE;
pub use send::{DEFAULT_TIMEOUT, Request, Target};
pub use streams::CLOSED_MEMORY;
pub use tiers::TierPolicy;

/// Round-trip time until one was measured.
const ASSUMED_ROUND_TRIP: Duration = Duration::from_millis(50);

/// One end of the inside of a session.
#[derive(Debug)]
pub struct Link {
    config: LinkConfig,
    streams: Streams,
    requests: Requests,
    answers: Answers,
    scheduler: Scheduler,
    /// Frames that need more than Tier 3, with the lane's stream; they get records of their own.
    elevated: VecDeque<(u32, Unit)>,
    /// The last record was such a one.
    elevated_last: bool,
    slots: FragmentSlots,
    /// Some lane waits for a fragmentation slot.
    slot_wanted: bool,
    session_send: SendCredit,
    session_recv: RecvCredit,
    reassembler: Reassembler,
    charges: Charges,
    rate: DeliveryRate,
    bucket: TokenBucket,
    round_trip: Option<Duration>,
    urgent: Urgent,
    guards: Guards,
    next_ticket: u64,
    events: VecDeque<LinkEvent>,
}

impl Link {
    /// A link at the start of its session.
    pub fn new(now: Mono, config: LinkConfig) -> Self {
        let config = LinkConfig {
            peer: config.peer.clamped(),
            ..config
        };
        let nothing = RecvCredit::new(now, 0, 0);
        let control = Stream::control(nothing);
        let session_recv = RecvCredit::new(now, config.local.scr, config.memory);
        let mut link = Self {
            streams: Streams::new(control, if config.initiator { 1 } else { 2 }),
            requests: Requests::new(&config.peer),
            answers: Answers::new(config.local),
            scheduler: Scheduler::default(),
            elevated: VecDeque::new(),
            elevated_last: false,
            slots: FragmentSlots::default(),
            slot_wanted: false,
            session_send: SendCredit::new(config.peer.scr),
            session_recv,
            reassembler: Reassembler::new(config.ordered, config.local.msg),
            charges: Charges::default(),
            rate: DeliveryRate::default(),
            bucket: TokenBucket::default(),
            round_trip: None,
            urgent: Urgent::default(),
            guards: Guards::default(),
            next_ticket: 0,
            events: VecDeque::new(),
            config,
        };
        link.list_session_credit();
        link
    }

    /// The next thing that the peer did. DATA and EVENT payload counts as consumed when it is taken
    /// from here, unless [`Self::consume_manually`] was chosen for the stream.
    pub fn poll_event(&mut self) -> Option<LinkEvent> {
        let event = self.events.pop_front()?;
        self.account_for_handover(&event);
        Some(event)
    }

    /// What was told at the start; the peer's limits are clamped.
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// A round trip was measured, for example by a keepalive and its answer. The smallest one known
    /// sizes the credit windows.
    pub fn observe_round_trip(&mut self, round_trip: Duration) {
        let known = self.round_trip.unwrap_or(round_trip);
        self.round_trip = Some(known.min(round_trip));
    }

    /// The smallest round trip that was measured.
    pub const fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Sealed bytes were handed to the transport.
    pub const fn written(&mut self, now: Mono, bytes: u64) {
        self.rate.written(now, bytes);
    }

    /// The transport has sent bytes that were reported as written.
    pub fn delivered(&mut self, now: Mono, bytes: u64) {
        self.rate.delivered(now, bytes);
    }

    /// Estimated delivery rate of the path, bytes per second; [`ASSUMED_RATE`] until measured.
    pub fn rate(&self) -> u64 {
        self.rate.estimate()
    }
}
