//! Frames that wait: for the session, for a controller, for whoever asks. What waits too long, or
//! stands before too many others, is given up; whoever uses this counts it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::{MAX_AGE_SECS, Outlet};

/// How long a frame waits: what is older means nothing on a bus any more (profile 16.3).
pub(super) const DEADLINE: Duration = Duration::from_secs(MAX_AGE_SECS as u64);
/// How many wait: what a bus of 1 Mbit/s carries in a second.
const MOST: usize = 8192;
/// Bytes that the session is given before it has sent them. What it has is not given up for age, so
/// this is little; it is still a hundred frames in one record.
const HANDED_OVER: usize = 4096;
/// How soon a full session is looked at again.
pub(super) const AGAIN: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Waiting<T> {
    items: VecDeque<(Instant, T)>,
}

impl<T> Waiting<T> {
    pub(super) const fn new() -> Self {
        Self {
            items: VecDeque::new(),
        }
    }

    /// Appends one; returns the oldest where there would be too many.
    pub(super) fn push(&mut self, now: Instant, item: T) -> Option<T> {
        let crowded = (self.items.len() >= MOST).then(|| self.pop()).flatten();
        self.items.push_back((now, item));
        crowded
    }

    /// Takes the oldest if it has waited too long.
    pub(super) fn expired(&mut self, now: Instant) -> Option<T> {
        let late = self.expiry().is_some_and(|expiry| expiry <= now);
        late.then(|| self.pop()).flatten()
    }

    /// When the oldest will have waited too long.
    pub(super) fn expiry(&self) -> Option<Instant> {
        self.items.front().map(|(since, _)| *since + DEADLINE)
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.items.front().map(|(_, item)| item)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().map(|(_, item)| item)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.items.pop_front().map(|(_, item)| item)
    }

    /// Takes the first that is so.
    pub(super) fn take(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        let position = self.items.iter().position(|(_, item)| is(item))?;
        self.items.remove(position).map(|(_, item)| item)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Whether the session should be given an event of that length now.
pub(super) fn takes(outlet: &dyn Outlet, bytes: usize) -> bool {
    outlet.queued() < HANDED_OVER && outlet.writable(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let now = Instant::now();
        let mut waiting = Waiting::new();
        for item in 0..MOST {
            assert_eq!(waiting.push(now, item), None);
        }
        assert_eq!(waiting.push(now, MOST), Some(0));
        assert_eq!(waiting.front(), Some(&1));
        assert_eq!(waiting.len(), MOST);
    }

    #[test]
    fn what_waited_too_long_is_given_up() {
        let start = Instant::now();
        let mut waiting = Waiting::new();
        waiting.push(start, 'a');
        waiting.push(start + Duration::from_secs(1), 'b');
        let late = start + DEADLINE;
        assert_eq!(waiting.expired(late - Duration::from_millis(1)), None);
        assert_eq!(waiting.expired(late), Some('a'));
        assert_eq!(waiting.expired(late), None);
        assert_eq!(waiting.take(|item| *item == 'b'), Some('b'));
        assert!(waiting.is_empty());
    }
}
