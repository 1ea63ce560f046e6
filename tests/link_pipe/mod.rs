//! Two links and a path of records between them, on virtual time.

#![allow(dead_code, reason = "each test binary uses another part")]

use std::collections::VecDeque;
use std::time::Duration;

use myclerk::link::{Link, LinkConfig, LinkEvent, Violation};
use myclerk::wire::{flags::Tier, limits::Limits, time::Mono};

/// Index of the end that opened the session.
pub(crate) const I: usize = 0;
/// Index of the other one.
pub(crate) const R: usize = 1;

/// A record on its way.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) tier: Tier,
    pub(crate) plaintext: Vec<u8>,
    pub(crate) sent: Mono,
    pub(crate) arrives: Mono,
}

/// Both ends and the two directions of the path.
pub(crate) struct Pair {
    pub(crate) now: Mono,
    pub(crate) links: [Link; 2],
    /// Records towards each end, in order of arrival.
    pub(crate) towards: [VecDeque<Sealed>; 2],
    pub(crate) delay: Duration,
}

pub(crate) fn config(initiator: bool, limits: Limits) -> LinkConfig {
    LinkConfig::new(initiator, limits, limits)
}

impl Pair {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::with(config(true, limits), config(false, limits))
    }

    pub(crate) fn with(initiator: LinkConfig, responder: LinkConfig) -> Self {
        let now = Mono::from_secs(1000);
        Self {
            now,
            links: [Link::new(now, initiator), Link::new(now, responder)],
            towards: [VecDeque::new(), VecDeque::new()],
            delay: Duration::from_millis(1),
        }
    }

    /// Fills one record at an end and puts it on the path.
    pub(crate) fn send(&mut self, end: usize) -> Option<Sealed> {
        let budget = self.links[end].record_budget();
        let mut plaintext = Vec::new();
        let tier = self.links[end].fill_record(self.now, budget, &mut plaintext)?;
        assert!(!plaintext.is_empty(), "a record without frames");
        let sealed = Sealed {
            tier,
            plaintext,
            sent: self.now,
            arrives: self.now.after(self.delay),
        };
        self.towards[1 - end].push_back(sealed.clone());
        Some(sealed)
    }

    /// Delivers the records that have arrived at an end by now.
    pub(crate) fn deliver(&mut self, end: usize) -> Result<Vec<Sealed>, Violation> {
        let mut delivered = Vec::new();
        while self.towards[end]
            .front()
            .is_some_and(|sealed| sealed.arrives <= self.now)
        {
            let sealed = self.towards[end].pop_front().unwrap();
            let age = u32::try_from(self.now.since(sealed.sent).as_secs()).unwrap();
            self.links[end].handle_record(self.now, sealed.tier, age, &sealed.plaintext)?;
            delivered.push(sealed);
        }
        Ok(delivered)
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for link in &mut self.links {
            link.handle_timeout(self.now);
        }
    }

    /// Lets everything that is ready go both ways until nothing moves.
    pub(crate) fn settle(&mut self) {
        loop {
            let sent = [I, R].map(|end| std::iter::from_fn(|| self.send(end)).count());
            if sent == [0, 0] && self.towards.iter().all(VecDeque::is_empty) {
                return;
            }
            self.advance(self.delay);
            for end in [I, R] {
                self.deliver(end).expect("a well-behaved peer");
            }
        }
    }

    pub(crate) fn events(&mut self, end: usize) -> Vec<LinkEvent> {
        std::iter::from_fn(|| self.links[end].poll_event()).collect()
    }

    /// Hands a record that no link made to an end.
    pub(crate) fn inject(
        &mut self,
        end: usize,
        tier: Tier,
        plaintext: &[u8],
    ) -> Result<(), Violation> {
        self.links[end].handle_record(self.now, tier, 0, plaintext)
    }
}
