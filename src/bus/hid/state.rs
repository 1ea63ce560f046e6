//! What state a device is in as far as its events told, and the events that lead from one state to
//! another.

use std::collections::BTreeMap;

use crate::kernel::evdev::codes::{
    ABS_MT_FIRST, ABS_MT_LAST, ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_ABS, EV_KEY, EV_LED, EV_SND,
    EV_SW, EV_SYN, SYN_MT_REPORT,
};
use crate::kernel::evdev::{Codes, Description, Event, MAX_SLOTS, Snapshot};

/// Keys, switches, LEDs, sounds, axes and contacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    keys: Codes,
    switches: Codes,
    leds: Codes,
    sounds: Codes,
    abs: BTreeMap<u16, i32>,
    /// The slot that is spoken of.
    slot: usize,
    contacts: Vec<Contact>,
    /// It has contacts, but no slots for them.
    slotless: bool,
}

/// The axes of one slot.
type Contact = BTreeMap<u16, i32>;

const fn of_contact(code: u16) -> bool {
    ABS_MT_FIRST <= code && code <= ABS_MT_LAST
}

impl State {
    /// How a device is that was made by this description: nothing pressed, nobody touches it.
    pub fn fresh(of: &Description) -> Self {
        let slots = of.slots().min(MAX_SLOTS);
        let (contact, abs): (Vec<_>, Vec<_>) = of
            .abs
            .iter()
            .map(|(code, axis)| (*code, axis.value))
            .filter(|(code, _)| *code != ABS_MT_SLOT)
            .partition(|(code, _)| of_contact(*code));
        let untouched = |(code, _): &(u16, i32)| (*code, empty(*code));
        Self {
            abs: abs.into_iter().collect(),
            slotless: slots == 0 && !contact.is_empty(),
            contacts: vec![contact.iter().map(untouched).collect(); slots],
            ..Self::default()
        }
    }

    /// How a device is by the kernel's word.
    pub fn of(snapshot: &Snapshot, of: &Description) -> Self {
        let mut state = Self::fresh(of);
        state.keys = snapshot.keys.clone();
        state.switches = snapshot.switches.clone();
        state.leds = snapshot.leds.clone();
        state.sounds = snapshot.sounds.clone();
        for (code, value) in &snapshot.abs {
            if *code == ABS_MT_SLOT {
                state.slot = usize::try_from(*value).unwrap_or(0);
            } else if let Some(known) = state.abs.get_mut(code) {
                *known = *value;
            }
        }
        for (code, values) in &snapshot.contacts {
            for (contact, value) in state.contacts.iter_mut().zip(values) {
                contact.insert(*code, *value);
            }
        }
        state
    }

    /// The LEDs that are lit.
    pub const fn leds(&self) -> &Codes {
        &self.leds
    }

    /// The keys that are down.
    pub const fn keys(&self) -> &Codes {
        &self.keys
    }

    /// An event of the device.
    pub fn apply(&mut self, event: &Event) {
        let on = event.value != 0;
        match event.kind {
            EV_KEY => self.keys.set(event.code, on),
            EV_SW => self.switches.set(event.code, on),
            EV_LED => self.leds.set(event.code, on),
            EV_SND => self.sounds.set(event.code, on),
            EV_ABS if event.code == ABS_MT_SLOT => {
                self.slot = usize::try_from(event.value).unwrap_or(usize::MAX);
            }
            EV_ABS if of_contact(event.code) => {
                if let Some(contact) = self.contacts.get_mut(self.slot) {
                    contact.insert(event.code, event.value);
                }
            }
            EV_ABS => {
                if let Some(value) = self.abs.get_mut(&event.code) {
                    *value = event.value;
                }
            }
            _ => {}
        }
    }

    /// The packets that lead from this state to another one of the same device; none when there is
    /// no difference. Contacts that ended, or gave way to others, are told in a packet before the
    /// rest.
    pub fn difference(&self, to: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut slot = self.slot;
        for (number, (old, new)) in self.contacts.iter().zip(&to.contacts).enumerate() {
            if touches(old) && tracking(old) != tracking(new) {
                select(&mut slot, number, &mut events);
                events.push(Event::new(EV_ABS, ABS_MT_TRACKING_ID, -1));
            }
        }
        let began =
            |(old, new): (&Contact, &Contact)| touches(new) && tracking(old) != tracking(new);
        if !events.is_empty() && self.contacts.iter().zip(&to.contacts).any(began) {
            events.push(Event::REPORT);
        }
        for (kind, old, new) in [
            (EV_KEY, &self.keys, &to.keys),
            (EV_SW, &self.switches, &to.switches),
            (EV_LED, &self.leds, &to.leds),
            (EV_SND, &self.sounds, &to.sounds),
        ] {
            let ended = old.iter().filter(|code| !new.has(*code));
            events.extend(ended.map(|code| Event::new(kind, code, 0)));
            let began = new.iter().filter(|code| !old.has(*code));
            events.extend(began.map(|code| Event::new(kind, code, 1)));
        }
        for (code, value) in &to.abs {
            if self.abs.get(code) != Some(value) {
                events.push(Event::new(EV_ABS, *code, *value));
            }
        }
        for (number, (old, new)) in self.contacts.iter().zip(&to.contacts).enumerate() {
            for event in moved(old, new) {
                select(&mut slot, number, &mut events);
                events.push(event);
            }
        }
        if slot != to.slot {
            select(&mut slot, to.slot, &mut events);
        }
        if !events.is_empty() {
            events.push(Event::REPORT);
        }
        events
    }

    /// The packet after which no key and no button is down, nobody touches the device and nothing
    /// sounds; empty when that is so already.
    pub fn release(&self) -> Vec<Event> {
        let mut released = self.clone();
        released.keys = Codes::new();
        released.sounds = Codes::new();
        for contact in &mut released.contacts {
            if let Some(tracking) = contact.get_mut(&ABS_MT_TRACKING_ID) {
                *tracking = -1;
            }
        }
        let mut events = self.difference(&released);
        if self.slotless && !events.is_empty() {
            events.insert(0, Event::new(EV_SYN, SYN_MT_REPORT, 0));
        }
        events
    }
}

/// What an axis of a contact is while there is none.
const fn empty(code: u16) -> i32 {
    if code == ABS_MT_TRACKING_ID { -1 } else { 0 }
}

fn tracking(contact: &Contact) -> i32 {
    contact.get(&ABS_MT_TRACKING_ID).copied().unwrap_or(-1)
}

fn touches(contact: &Contact) -> bool {
    tracking(contact) >= 0
}

/// What changed in a slot; who touches it first.
fn moved(old: &Contact, new: &Contact) -> Vec<Event> {
    let mut events = Vec::new();
    if touches(new) && tracking(old) != tracking(new) {
        events.push(Event::new(EV_ABS, ABS_MT_TRACKING_ID, tracking(new)));
    }
    for (code, value) in new {
        if *code != ABS_MT_TRACKING_ID && old.get(code) != Some(value) {
            events.push(Event::new(EV_ABS, *code, *value));
        }
    }
    events
}

fn select(slot: &mut usize, number: usize, events: &mut Vec<Event>) {
    if *slot != number {
        *slot = number;
        let value = i32::try_from(number).unwrap_or(i32::MAX);
        events.push(Event::new(EV_ABS, ABS_MT_SLOT, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::evdev::Axis;
    use crate::kernel::evdev::codes::EV_REL;

    const X: u16 = 0x35;

    fn touchpad() -> Description {
        let axis = |code, maximum| {
            let axis = Axis {
                maximum,
                ..Axis::default()
            };
            (code, axis)
        };
        Description {
            keys: [30, 0x14A].into_iter().collect(),
            leds: [1].into_iter().collect(),
            abs: vec![
                axis(0, 100),
                axis(ABS_MT_SLOT, 2),
                axis(X, 100),
                axis(ABS_MT_TRACKING_ID, 65535),
            ],
            ..Description::default()
        }
    }

    fn after(mut state: State, events: &[Event]) -> State {
        for event in events {
            state.apply(event);
        }
        state
    }

    fn abs(code: u16, value: i32) -> Event {
        Event::new(EV_ABS, code, value)
    }

    fn two_fingers_and_a_key() -> State {
        after(
            State::fresh(&touchpad()),
            &[
                abs(ABS_MT_TRACKING_ID, 5),
                abs(X, 10),
                abs(ABS_MT_SLOT, 2),
                abs(ABS_MT_TRACKING_ID, 6),
                abs(X, 20),
                abs(0, 10),
                Event::new(EV_KEY, 0x14A, 1),
                Event::new(EV_KEY, 30, 1),
                Event::new(EV_LED, 1, 1),
                Event::new(EV_REL, 0, 5),
                Event::REPORT,
            ],
        )
    }

    #[test]
    fn the_difference_leads_from_any_state_to_any_other() {
        let fresh = State::fresh(&touchpad());
        let busy = two_fingers_and_a_key();
        let one_left = after(busy.clone(), &[abs(ABS_MT_TRACKING_ID, -1), abs(X, 21)]);
        let replaced = after(busy.clone(), &[abs(ABS_MT_TRACKING_ID, 7), abs(X, 90)]);
        let states = [fresh, busy, one_left, replaced];
        for from in &states {
            for to in &states {
                let events = from.difference(to);
                assert_eq!(&after(from.clone(), &events), to, "{events:?}");
                assert_eq!(events.is_empty(), from == to);
                assert!(events.last().is_none_or(Event::is_report));
            }
        }
    }

    #[test]
    fn a_contact_that_gave_way_to_another_ends_in_a_packet_of_its_own() {
        let busy = two_fingers_and_a_key();
        let replaced = after(busy.clone(), &[abs(ABS_MT_TRACKING_ID, 7)]);
        assert_eq!(
            busy.difference(&replaced),
            [
                abs(ABS_MT_TRACKING_ID, -1),
                Event::REPORT,
                abs(ABS_MT_TRACKING_ID, 7),
                Event::REPORT
            ]
        );
    }

    #[test]
    fn a_release_lifts_every_key_and_finger_silences_and_leaves_the_rest() {
        let mut busy = two_fingers_and_a_key();
        busy.apply(&Event::new(EV_SND, 2, 440));
        assert_eq!(
            busy.release(),
            [
                abs(ABS_MT_SLOT, 0),
                abs(ABS_MT_TRACKING_ID, -1),
                abs(ABS_MT_SLOT, 2),
                abs(ABS_MT_TRACKING_ID, -1),
                Event::new(EV_KEY, 30, 0),
                Event::new(EV_KEY, 0x14A, 0),
                Event::new(EV_SND, 2, 0),
                Event::REPORT
            ]
        );
        assert_eq!(State::fresh(&touchpad()).release(), []);
    }

    #[test]
    fn the_kernels_word_is_the_same_state_as_its_events() {
        let snapshot = Snapshot {
            keys: [30, 0x14A].into_iter().collect(),
            leds: [1].into_iter().collect(),
            abs: vec![(0, 10), (ABS_MT_SLOT, 2)],
            contacts: vec![(X, vec![10, 0, 20]), (ABS_MT_TRACKING_ID, vec![5, -1, 6])],
            ..Snapshot::default()
        };
        assert_eq!(State::of(&snapshot, &touchpad()), two_fingers_and_a_key());
    }

    #[test]
    fn a_slot_that_does_not_exist_changes_nothing() {
        let fresh = State::fresh(&touchpad());
        for slot in [3, -1, i32::MAX] {
            let far = after(fresh.clone(), &[abs(ABS_MT_SLOT, slot), abs(X, 1)]);
            assert_eq!(far.contacts, fresh.contacts);
        }
    }
}
