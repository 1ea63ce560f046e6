//! One after the other: who wants a device that somebody is just making local waits and finds it local.

use std::cell::RefCell;
use std::collections::HashSet;

use tokio::sync::Notify;

/// The devices that are being made local, by node and id.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: RefCell<HashSet<(String, String)>>,
    left: Notify,
}

/// Others wait until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: (String, String),
}

impl Turns {
    /// Waits until nobody else is at this device.
    pub(super) async fn take(&self, node: &str, device: &str) -> Turn<'_> {
        let key = (node.to_owned(), device.to_owned());
        loop {
            let left = self.left.notified();
            if self.taken.borrow_mut().insert(key.clone()) {
                return Turn { turns: self, key };
            }
            left.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.borrow_mut().remove(&self.key);
        self.turns.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_second_waits_for_the_first_and_others_do_not() {
        let turns = Turns::default();
        let first = turns.take("hub", "i2c:one").await;
        assert!(timeout(SOON, turns.take("hub", "i2c:one")).await.is_err());
        assert!(timeout(SOON, turns.take("hub", "i2c:two")).await.is_ok());
        let second = turns.take("hub", "i2c:one");
        let leave = async { drop(first) };
        let (second, ()) = tokio::join!(timeout(SOON, second), leave);
        assert!(second.is_ok());
    }
}
