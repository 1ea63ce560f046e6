//! The end of a tty: hung up until the last program has closed it.

use super::Tty;

impl Tty {
    /// The owner's port is gone, or this tty is given back: reads end, writes and ioctls fail with
    /// EIO, poll says hung up. Nothing is asked of the owner any more.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.gone, true) {
            return;
        }
        for ask in self.asks.close() {
            self.unanswered(ask);
        }
        self.hang_up();
        self.end_openings();
        self.wake_pollers();
    }

    /// [`Tty::end`] was called and no program has it open any more.
    pub fn is_finished(&self) -> bool {
        self.gone && self.files.is_empty()
    }
}
