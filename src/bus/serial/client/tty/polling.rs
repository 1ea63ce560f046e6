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

    /// What came is worth a wake even where something else waits to be read: who watches for edges
    /// need not have read all of it.
    pub(super) fn wake_for_input(&mut self) {
        for wish in self.wishes.values_mut() {
            wish.said &= !(IN | RDNORM);
        }
    }

    pub(super) fn wake_pollers(&mut self) {
        for (fh, mut wish) in std::mem::take(&mut self.wishes) {
            let ready = self.ready(fh);
            if ready & !wish.said != 0 {
                if let Err(error) = self.device.wake(wish.kh) {
                    tracing::debug!(%error, "waking those who poll");
                }
            } else {
                // What does not hold any more will be news: who watches for edges does not ask
                // again before he is woken.
                wish.said = ready;
                self.wishes.insert(fh, wish);
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
