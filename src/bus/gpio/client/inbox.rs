//! What the owner's line is still to be told, in order and bounded.

use std::collections::VecDeque;

use super::local::LineUse;

/// Orders that wait at most.
const ROOM: usize = 1024;

/// What is to become of the owner's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It is used like this; an output begins with that level.
    Use {
        /// How.
        used: LineUse,
        /// High.
        level: bool,
    },
    /// The output takes that level.
    Level(bool),
    /// Nobody uses it.
    Idle,
    /// There is another session with the owner, which has given the line to nobody yet.
    Resume,
    /// The chip goes away.
    Finish,
}

/// A queue of orders. When it is full, the two oldest levels that follow each other are dropped: what
/// is left alternates as before, and the last level stays the last.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    orders: VecDeque<Order>,
    dropped: u64,
}

impl Inbox {
    pub(super) fn push(&mut self, order: Order) {
        if self.orders.len() >= ROOM {
            self.make_room();
        }
        self.orders.push_back(order);
    }

    pub(super) fn pop(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Puts an order back that could not be carried out yet.
    pub(super) fn unpop(&mut self, order: Order) {
        self.orders.push_front(order);
    }

    /// How many orders were dropped since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        core::mem::take(&mut self.dropped)
    }

    fn make_room(&mut self) {
        let level = |order: Option<&Order>| matches!(order, Some(Order::Level(_)));
        let pair = (1..self.orders.len())
            .find(|at| level(self.orders.get(at - 1)) && level(self.orders.get(*at)));
        let before = self.orders.len();
        match pair {
            Some(at) => drop(self.orders.drain(at - 1..=at)),
            // Nothing but comings and goings of programs: only the newest matters.
            None => drop(self.orders.drain(..before.saturating_sub(1))),
        }
        self.dropped += (before - self.orders.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(inbox: &mut Inbox) -> Vec<Order> {
        core::iter::from_fn(|| inbox.pop()).collect()
    }

    #[test]
    fn levels_beyond_the_room_are_dropped_in_pairs_and_the_last_stays() {
        let mut inbox = Inbox::default();
        let begin = Order::Use {
            used: LineUse::default(),
            level: false,
        };
        inbox.push(begin);
        for count in 0..3 * ROOM {
            inbox.push(Order::Level(count % 2 == 0));
        }
        assert!(inbox.take_dropped() > 0);
        let left = all(&mut inbox);
        assert!(left.len() <= ROOM);
        assert_eq!(left.first(), Some(&begin));
        assert_eq!(left.last(), Some(&Order::Level(false)));
        assert!(left.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn of_nothing_but_requests_the_newest_stays() {
        let mut inbox = Inbox::default();
        for _ in 0..ROOM {
            inbox.push(Order::Idle);
            inbox.push(Order::Use {
                used: LineUse::default(),
                level: true,
            });
        }
        inbox.push(Order::Idle);
        let left = all(&mut inbox);
        assert!(left.len() <= ROOM);
        assert_eq!(left.last(), Some(&Order::Idle));
    }

    #[test]
    fn an_order_that_is_put_back_is_the_next() {
        let mut inbox = Inbox::default();
        inbox.push(Order::Level(true));
        inbox.push(Order::Idle);
        let order = inbox.pop().unwrap();
        inbox.unpop(order);
        assert_eq!(all(&mut inbox), [Order::Level(true), Order::Idle]);
    }
}
