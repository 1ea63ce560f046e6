//! `poll(2)` and its kin.

use super::{Answer, Tty};

const IN: u32 = 0x001;
const OUT: u32 = 0x004;
const ERR: u32 = 0x008;
const HUP: u32 = 0x010;
const RDNORM: u32 = 0x040;
const WRNORM: u32 = 0x100;

/// A program waits until something else can be said than this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    kh: u64,
    said: u32,
}

impl Tty {
    pub(super) fn poll(&mut self, id: u64, fh: u64, kh: u64, notify: bool) {
        let said = self.ready(fh);
        if notify {
            self.wishes.insert(fh, Wish { kh, said });
        } else if let Some(wish) = self.wishes.get_mut(&fh) {
            wish.said = said;
        }
        self.answer(id, &Answer::Ready(said));
    }

    pub(super) fn wake_pollers(&mut self) {
        let due: Vec<u64> = self
            .wishes
            .iter()
            .filter(|(fh, wish)| self.ready(**fh) & !wish.said != 0)
            .map(|(fh, _)| *fh)
            .collect();
        for fh in due {
            if let Some(wish) = self.wishes.remove(&fh)
                && let Err(error) = self.device.wake(wish.kh)
            {
                tracing::debug!(%error, "waking those who poll");
            }
        }
    }

    fn ready(&self, fh: u64) -> u32 {
        if !self.is_usable(fh) {
            return IN | OUT | ERR | HUP | RDNORM | WRNORM;
        }
        let mut ready = 0;
        if self.is_readable() {
            ready |= IN | RDNORM;
        }
        if self.writes.is_empty() && self.is_writable() {
            ready |= OUT | WRNORM;
        }
        ready
    }
}
