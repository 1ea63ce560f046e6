//! Ids that stay with their devices: a second device with the same serial number must not rename the
//! one that somebody uses, and one that comes back is called what it was called before.

use std::collections::HashSet;

use super::id::DeviceId;

/// The most absent devices that are remembered.
const MAX_ABSENT: usize = 1024;

/// One look at a device: what tells it from others, and what it would be called if nobody had seen
/// it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is and where it is plugged in, in words of the caller's choice.
    pub what: String,
    /// Its id, which [`StickyIds::settle`] replaces by the one it had.
    pub id: DeviceId,
}

/// What every device was called when it was seen last.
#[derive(Clone, Debug, Default)]
pub struct StickyIds {
    /// In the order in which they were last present.
    known: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    seen: Seen,
    present: bool,
}

impl StickyIds {
    /// Takes over a whole look and gives devices that are known the ids they had. An id that
    /// somebody else got meanwhile stays with that one.
    pub fn settle(&mut self, look: &mut [Seen]) {
        let mut taken = HashSet::new();
        // Who stayed comes before who came back.
        for stayed in [true, false] {
            for seen in &mut *look {
                let old = self
                    .known
                    .iter()
                    .find(|known| known.present == stayed && known.seen.what == seen.what);
                if let Some(old) = old
                    && taken.insert(old.seen.id.clone())
                {
                    seen.id = old.seen.id.clone();
                }
            }
        }
        self.remember(look);
    }

    fn remember(&mut self, look: &[Seen]) {
        let is_here = |known: &Known| look.iter().any(|seen| seen.what == known.seen.what);
        self.known.retain(|known| !is_here(known));
        for absent in &mut self.known {
            absent.present = false;
        }
        let surplus = self.known.len().saturating_sub(MAX_ABSENT);
        self.known.drain(..surplus);
        self.known.extend(look.iter().map(|seen| Known {
            seen: seen.clone(),
            present: true,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(ids: &mut StickyIds, look: &[(&str, &str)]) -> Vec<String> {
        let mut look: Vec<Seen> = look
            .iter()
            .map(|(what, id)| Seen {
                what: (*what).to_owned(),
                id: id.parse().unwrap(),
            })
            .collect();
        ids.settle(&mut look);
        look.into_iter().map(|seen| seen.id.into()).collect()
    }

    #[test]
    fn a_twin_that_is_plugged_in_later_does_not_rename_the_first() {
        let ids = &mut StickyIds::default();
        assert_eq!(settled(ids, &[("one at 1", "usb:S")]), ["usb:S"]);
        let both = [("one at 1", "usb@1"), ("two at 2", "usb@2")];
        assert_eq!(settled(ids, &both), ["usb:S", "usb@2"]);
        assert_eq!(settled(ids, &both), ["usb:S", "usb@2"]);
    }

    #[test]
    fn a_device_that_comes_back_beside_its_twin_has_its_id_again() {
        let ids = &mut StickyIds::default();
        settled(ids, &[("one at 1", "usb:S")]);
        settled(ids, &[("one at 1", "usb@1"), ("two at 2", "usb@2")]);
        assert_eq!(settled(ids, &[("two at 2", "usb:S")]), ["usb@2"]);
        let both = [("one at 1", "usb@1"), ("two at 2", "usb@2")];
        assert_eq!(settled(ids, &both), ["usb:S", "usb@2"]);
    }

    #[test]
    fn an_id_that_another_device_got_meanwhile_is_not_taken_from_it() {
        let ids = &mut StickyIds::default();
        settled(ids, &[("one at 1", "usb:S")]);
        assert_eq!(settled(ids, &[("three at 3", "usb:S")]), ["usb:S"]);
        let both = [("one at 1", "usb@1"), ("three at 3", "usb@3")];
        assert_eq!(settled(ids, &both), ["usb@1", "usb:S"]);
    }

    #[test]
    fn what_is_absent_is_forgotten_in_the_end() {
        let ids = &mut StickyIds::default();
        for n in 0..3 * MAX_ABSENT {
            settled(ids, &[(&format!("number {n}"), &format!("usb:{n}"))]);
        }
        assert!(ids.known.len() <= MAX_ABSENT + 1);
    }
}
