//! URBs whose session was lost while the server had them.

use std::rc::Rc;
use std::time::Instant;

use super::{Fatal, Urbs};
use crate::bus::Outlet;
use crate::bus::usb::client::endpoints::Effect;
use crate::wire::class::Class;

/// What is to be known of a lost session until there is another one.
#[derive(Debug, Default)]
pub(super) struct Adrift {
    /// True while there is none.
    pub(super) away: bool,
    /// URBs of which nobody knows whether they happened, in the order of their submission.
    urbs: Vec<u32>,
    /// What they would have changed.
    doubts: Vec<Effect>,
}

impl Urbs {
    /// The session is lost. What was sent stays as it is until [`Self::resume`], but for URBs that are not
    /// worth waiting for and those that the kernel has given up; what comes now waits.
    pub(in crate::bus::usb::client) fn lose(&mut self, now: Instant) -> Result<(), Fatal> {
        self.adrift.away = true;
        self.requests.clear();
        let waiting = self.waiting.seqnums();
        let mut lost: Vec<u32> = Vec::new();
        for (seqnum, urb) in &mut self.live {
            if urb.held.is_none() && !waiting.contains(seqnum) {
                urb.corr = None;
                lost.push(*seqnum);
            }
        }
        lost.retain(|seqnum| !self.adrift.urbs.contains(seqnum));
        // The kernel numbers them one after the other; the number may wrap.
        let newest = self.newest.unwrap_or(0);
        lost.sort_unstable_by_key(|seqnum| std::cmp::Reverse(newest.wrapping_sub(*seqnum)));
        for seqnum in lost {
            let Some(urb) = self.live.get(&seqnum) else {
                continue;
            };
            if urb.effect != Effect::Nothing {
                self.adrift.doubts.push(urb.effect);
            }
            if !urb.unlinks.is_empty() {
                self.give_up(seqnum);
            } else if urb.packets.is_some() {
                self.miss(now, seqnum)?;
            } else {
                self.adrift.urbs.push(seqnum);
            }
        }
        Ok(())
    }

    /// What nobody knows whether it was changed.
    pub(in crate::bus::usb::client) fn doubts(&self) -> &[Effect] {
        &self.adrift.doubts
    }

    /// It is known again.
    pub(in crate::bus::usb::client) fn forget_doubts(&mut self) {
        self.adrift.doubts.clear();
    }

    /// There is a session again: what nobody knows about fails, what has waited is sent.
    pub(in crate::bus::usb::client) fn resume(
        &mut self,
        now: Instant,
        outlet: Rc<dyn Outlet>,
    ) -> Result<(), Fatal> {
        self.outlet = outlet;
        self.adrift.away = false;
        for seqnum in std::mem::take(&mut self.adrift.urbs) {
            self.refuse(now, seqnum, libc::EPROTO)?;
        }
        self.send_waiting(now)
    }

    /// Ends what its time has passed for while nothing can be sent.
    pub(super) fn drop_late(&mut self, now: Instant) -> Result<(), Fatal> {
        while let Some(mut request) = self.waiting.pop(Class::Media) {
            if !request.is_late(now) {
                self.waiting.put_back(request);
                break;
            }
            self.miss(now, request.seqnum)?;
        }
        Ok(())
    }
}
