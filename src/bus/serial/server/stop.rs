//! Sleeping next to the hardware, as precisely as the kernel can, and being woken when that is over.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Ends the sleeps of the threads of one port.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Ends every sleep, now and for ever.
    pub(super) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether [`Stop::stop`] was called.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until then; false when it was ended before.
    pub(super) fn sleep_until(&self, then: Instant) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            stopped = self
                .changed
                .wait_timeout(stopped, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sleep_ends_at_its_time_and_not_before() {
        let then = Instant::now() + Duration::from_millis(2);
        assert!(Stop::default().sleep_until(then));
        assert!(Instant::now() >= then);
    }

    #[test]
    fn a_stop_ends_a_sleep_and_every_later_one() {
        let stop = Arc::new(Stop::default());
        let later = Instant::now() + Duration::from_hours(1);
        let sleeper = thread::spawn({
            let stop = Arc::clone(&stop);
            move || stop.sleep_until(later)
        });
        stop.stop();
        assert!(!sleeper.join().expect("it ended"));
        assert!(!stop.sleep_until(later));
        assert!(stop.is_stopped());
    }
}
