//! What one subscriber is told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::bus::Outlet;
use crate::device::id::DeviceId;
use crate::device::op::{Brief, DeviceEvent, EventKind, SubscribeRequest};
use crate::wire::opcode::Opcode;

/// Bytes of events that wait for a slow reader; what comes then is lost.
const QUEUE: usize = 16 * 1024;
/// More than any queue holds.
const ALL: usize = 1 << 40;

/// The events of one subscription. A subscriber that does not read them costs no more memory than
/// [`QUEUE`] and one event.
pub(super) struct Feed {
    outlet: Rc<dyn Outlet>,
    wanted: SubscribeRequest,
    /// The devices that it knows of, as it was told.
    known: RefCell<BTreeMap<DeviceId, Brief>>,
    /// The last event that there was no room for.
    unsent: RefCell<Option<DeviceEvent>>,
    /// Those before it.
    lost: Cell<u64>,
}

impl Feed {
    /// For a subscriber that knows of these devices.
    pub(super) fn new(outlet: Rc<dyn Outlet>, wanted: SubscribeRequest, known: Vec<Brief>) -> Self {
        let known = known.into_iter();
        let known = known.filter_map(|brief| Some((brief.dev.parse().ok()?, brief)));
        Self {
            outlet,
            wanted,
            known: RefCell::new(known.collect()),
            unsent: RefCell::default(),
            lost: Cell::default(),
        }
    }

    /// Something happened to a device, which is not told to whom does not know of it. `brief` makes
    /// the device as a subscriber with that mode sees it.
    pub(super) fn happened(&self, ev: EventKind, dev: &DeviceId, brief: impl Fn(u8) -> Brief) {
        let mut known = self.known.borrow_mut();
        let Some(old) = known.get_mut(dev) else {
            return;
        };
        *old = brief(old.mode);
        self.tell(ev, dev, Some(old));
    }

    fn tell(&self, ev: EventKind, dev: &DeviceId, info: Option<&Brief>) {
        if !self.wanted.wants(ev, dev) {
            return;
        }
        let event = DeviceEvent {
            ev,
            dev: dev.clone(),
            info: info.map(Brief::to_value),
            lost: 0,
        };
        self.flush();
        if self.unsent.borrow().is_some() || !self.has_room() {
            let before = self.unsent.borrow_mut().replace(event);
            self.lost.set(self.lost.get() + u64::from(before.is_some()));
        } else {
            self.send(&event);
        }
    }

    /// Sends what had to wait, if there is room now.
    pub(super) fn flush(&self) {
        if self.unsent.borrow().is_none() || !self.has_room() {
            return;
        }
        if let Some(mut event) = self.unsent.take() {
            event.lost = self.lost.take();
            self.send(&event);
        }
    }

    /// Asking for more room than there ever is makes the link tell when something has left.
    fn has_room(&self) -> bool {
        self.outlet.queued() < QUEUE || self.outlet.writable(ALL)
    }

    fn send(&self, event: &DeviceEvent) {
        match event.encode() {
            Ok(payload) => self.outlet.event(Opcode::DeviceSubscribe, payload),
            Err(error) => tracing::warn!(%error, "event not sent"),
        }
    }

    /// Tells every difference between what it knows and how things are for it.
    pub(super) fn update(&self, now: &[Brief]) {
        let now: BTreeMap<DeviceId, &Brief> = now
            .iter()
            .filter_map(|brief| Some((brief.dev.parse().ok()?, brief)))
            .collect();
        let before = self.known.take();
        for dev in before.keys().filter(|dev| !now.contains_key(dev)) {
            self.tell(EventKind::Removed, dev, None);
        }
        for (dev, brief) in &now {
            let Some(old) = before.get(dev) else {
                self.tell(EventKind::Added, dev, Some(brief));
                continue;
            };
            let same_mode = Brief {
                mode: old.mode,
                ..(*brief).clone()
            };
            if same_mode != *old {
                self.tell(EventKind::Changed, dev, Some(brief));
            }
            if brief.mode != old.mode {
                self.tell(EventKind::Acl, dev, Some(brief));
            }
        }
        let now = now.into_iter().map(|(dev, brief)| (dev, brief.clone()));
        *self.known.borrow_mut() = now.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Outgoing, OutletError};
    use crate::wire::status::Status;

    /// A stream whose reader takes only what it is made to take.
    #[derive(Default)]
    struct Slow {
        queued: RefCell<Vec<Vec<u8>>>,
    }

    impl Slow {
        fn read(&self) -> Vec<DeviceEvent> {
            let payloads = self.queued.take().into_iter();
            payloads
                .map(|payload| DeviceEvent::decode(&payload).unwrap())
                .collect()
        }
    }

    impl Outlet for Slow {
        fn request(&self, _: Outgoing) -> Result<u32, OutletError> {
            Err(OutletError::Closed)
        }

        fn respond(&self, _: u32, _: Status, _: Vec<u8>) {}

        fn event(&self, opcode: Opcode, payload: Vec<u8>) {
            assert_eq!(opcode, Opcode::DeviceSubscribe);
            self.queued.borrow_mut().push(payload);
        }

        fn data(&self, _: Vec<u8>, _: bool) {}

        fn cancel(&self, _: u32) {}

        fn reset(&self, _: Status) {}

        fn consume(&self, _: usize) {}

        fn writable(&self, bytes: usize) -> bool {
            let queued = self.queued();
            queued == 0 || queued + bytes <= 1 << 20
        }

        fn queued(&self) -> usize {
            self.queued.borrow().iter().map(Vec::len).sum()
        }
    }

    fn brief(dev: &str, state: u8) -> Brief {
        Brief {
            dev: dev.to_owned(),
            class: "echo".to_owned(),
            name: "Voice".to_owned(),
            state,
            mode: 3,
            owner: None,
        }
    }

    fn feed(known: Vec<Brief>) -> (Rc<Slow>, Feed) {
        let slow = Rc::new(Slow::default());
        let outlet = Rc::<Slow>::clone(&slow);
        (slow, Feed::new(outlet, SubscribeRequest::default(), known))
    }

    #[test]
    fn a_slow_reader_costs_no_memory_and_is_told_how_much_it_missed() {
        let (slow, feed) = feed(vec![brief("echo:one", 0)]);
        let dev: DeviceId = "echo:one".parse().unwrap();
        for n in 0..10_000u32 {
            let state = u8::from(n % 2 == 1);
            feed.happened(EventKind::Changed, &dev, |_| brief("echo:one", state));
        }
        assert!(slow.queued() < QUEUE + 256, "{}", slow.queued());
        let read = slow.read();
        assert!(read.iter().all(|event| event.lost == 0));
        feed.flush();
        let [last] = &slow.read()[..] else {
            panic!("one event stands for those that were dropped");
        };
        let told = u64::try_from(read.len()).unwrap() + 1;
        assert_eq!(last.lost, 10_000 - told);
        assert_eq!(last.brief().unwrap().state, 1, "it is the last one");
        feed.happened(EventKind::Changed, &dev, |_| brief("echo:one", 0));
        assert_eq!(slow.read()[0].lost, 0, "what is told is told once");
    }

    #[test]
    fn only_differences_are_told() {
        let (slow, feed) = feed(vec![brief("echo:one", 0), brief("echo:two", 0)]);
        let kinds = |slow: &Slow| {
            let read = slow.read().into_iter();
            read.map(|event| (event.ev, event.dev.to_string()))
                .collect::<Vec<_>>()
        };
        let renamed = Brief {
            name: "Other".to_owned(),
            ..brief("echo:one", 0)
        };
        let read_only = Brief {
            mode: 1,
            ..brief("echo:three", 0)
        };
        feed.update(&[renamed.clone(), brief("echo:three", 0)]);
        let at = |ev, dev: &str| (ev, dev.to_owned());
        assert_eq!(
            kinds(&slow),
            [
                at(EventKind::Removed, "echo:two"),
                at(EventKind::Changed, "echo:one"),
                at(EventKind::Added, "echo:three"),
            ]
        );
        feed.update(&[renamed.clone(), read_only.clone()]);
        assert_eq!(kinds(&slow), [at(EventKind::Acl, "echo:three")]);
        feed.update(&[renamed, read_only]);
        assert_eq!(kinds(&slow), []);
        let dev = "echo:two".parse().unwrap();
        feed.happened(EventKind::Locked, &dev, |_| brief("echo:two", 2));
        assert_eq!(kinds(&slow), [], "it does not know of that one");
    }
}
