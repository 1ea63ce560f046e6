//! How often the log tells of what others ask for: neither a stranger that is turned away nor a
//! member may fill the disk.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use crate::wire::time::Mono;

/// Lines for one source within a [`WINDOW`].
const PER_SOURCE: u32 = 16;
/// Lines for all of them.
const TOTAL: u32 = 128;
const WINDOW: Duration = Duration::from_secs(60);

/// What was said in this window, by who asked: an address or a node.
#[derive(Debug)]
pub(super) struct Refusals<S> {
    began: Mono,
    said: u32,
    sources: HashMap<S, u32>,
    /// The wrong keys that each source came with: who tries the same one again is no news.
    keys: HashSet<(S, u32)>,
    unsaid: u64,
}

impl<S> Default for Refusals<S> {
    fn default() -> Self {
        Self {
            began: Mono::default(),
            said: 0,
            sources: HashMap::new(),
            keys: HashSet::new(),
            unsaid: 0,
        }
    }
}

impl<S: Copy + Eq + Hash> Refusals<S> {
    /// Takes note of a request, mostly one to be refused; `key` is the id of a key that is not known
    /// here. When it is to be logged: how many were not since the last one that was.
    pub(super) fn hear(&mut self, source: S, key: Option<u32>, now: Mono) -> Option<u64> {
        if now.since(self.began) >= WINDOW {
            self.began = now;
            self.said = 0;
            self.sources.clear();
            self.keys.clear();
        }
        let known = key.is_some_and(|key| self.keys.contains(&(source, key)));
        if known || self.said >= TOTAL {
            self.unsaid += 1;
            return None;
        }
        let own = self.sources.entry(source).or_default();
        if *own >= PER_SOURCE {
            self.unsaid += 1;
            return None;
        }
        *own += 1;
        self.said += 1;
        self.keys.extend(key.map(|key| (source, key)));
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_flood_from_one_source_leaves_room_for_others_and_is_counted() {
        let (mut refusals, now) = (Refusals::default(), Mono::from_secs(100));
        let said = (0..1000).filter(|_| refusals.hear(source(1), None, now).is_some());
        assert_eq!(said.count(), 16);
        assert_eq!(refusals.hear(source(2), None, now), Some(984));
        assert_eq!(refusals.hear(source(1), None, now.after(WINDOW)), Some(0));
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_in_lines_and_memory() {
        let (mut refusals, now) = (Refusals::default(), Mono::from_secs(100));
        let all = (0..200u8).flat_map(|host| [source(host); 3]);
        assert_eq!(
            all.filter(|&one| refusals.hear(one, None, now).is_some())
                .count(),
            128
        );
        assert!(refusals.sources.len() <= 128);
    }

    #[test]
    fn the_same_wrong_key_from_the_same_source_is_said_once() {
        let (mut refusals, now) = (Refusals::default(), Mono::from_secs(100));
        assert_eq!(refusals.hear(source(1), Some(7), now), Some(0));
        assert_eq!(refusals.hear(source(1), Some(7), now), None);
        assert_eq!(refusals.hear(source(1), Some(8), now), Some(1));
        assert_eq!(refusals.hear(source(2), Some(7), now), Some(0));
        let later = now.after(WINDOW);
        assert_eq!(refusals.hear(source(1), Some(7), later), Some(0));
    }
}
