//! The effects of this machine's programs, which have other numbers at the owner.

use std::collections::HashMap;

use nix::errno::Errno;

use crate::bus::hid::op::{Configure, Configured};
use crate::kernel::evdev::Effect;
use crate::kernel::evdev::codes::{FF_AUTOCENTER, FF_GAIN};
use crate::wire::error::ErrorMap;
use crate::wire::status::Status;

/// What was asked of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Upload { request: u32, local: i16 },
    Erase { request: u32, local: i16 },
}

/// What uinput is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To `Wish::Upload`.
    Uploaded(u32, Result<(), Errno>),
    /// To `Wish::Erase`.
    Erased(u32, Result<(), Errno>),
}

/// By local number the owner's, and what the owner has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Effects {
    owners: HashMap<i16, i16>,
    asked: HashMap<u32, Asked>,
}

impl Effects {
    /// What to ask the owner for an effect with its local id: for a new one, or for another shape of
    /// one that it has.
    pub(super) fn upload(&self, effect: Effect) -> Configure {
        Configure::Upload(Effect {
            id: self.owners.get(&effect.id).copied().unwrap_or(-1),
            ..effect
        })
    }

    /// What to ask the owner to take an effect back; `None` when it has no such effect.
    pub(super) fn erase(&self, local: i16) -> Option<Configure> {
        self.owners.get(&local).copied().map(Configure::Erase)
    }

    /// The owner was asked, by that number.
    pub(super) fn upload_asked(&mut self, corr: u32, request: u32, local: i16) {
        self.asked.insert(corr, Asked::Upload { request, local });
    }

    /// The owner was asked, by that number.
    pub(super) fn erase_asked(&mut self, corr: u32, request: u32, local: i16) {
        self.asked.insert(corr, Asked::Erase { request, local });
    }

    /// The owner's answer; `None` when it was not asked that.
    pub(super) fn answered(&mut self, corr: u32, status: Status, payload: &[u8]) -> Option<Answer> {
        let done = result(status, payload);
        Some(match self.asked.remove(&corr)? {
            Asked::Upload { request, local } => {
                let id = done.and_then(|answer| answer.effect.ok_or(Errno::EPROTO));
                if let Ok(owners) = id {
                    self.owners.insert(local, owners);
                }
                Answer::Uploaded(request, id.map(drop))
            }
            Asked::Erase { request, local } => {
                self.owners.remove(&local);
                Answer::Erased(request, done.map(drop))
            }
        })
    }

    /// The owner's code of an event that plays an effect or sets how all are played; `None` for an
    /// effect that the owner does not have.
    pub(super) fn code(&self, code: u16) -> Option<u16> {
        if matches!(code, FF_GAIN | FF_AUTOCENTER) {
            return Some(code);
        }
        let owners = self.owners.get(&i16::try_from(code).ok()?)?;
        u16::try_from(*owners).ok()
    }
}

fn result(status: Status, payload: &[u8]) -> Result<Configured, Errno> {
    if status.is_success() {
        return Configured::decode(payload).map_err(|_| Errno::EPROTO);
    }
    let detail = ErrorMap::decode(payload)
        .ok()
        .and_then(|error| error.detail);
    let errno = detail.and_then(|detail| i32::try_from(detail.as_i64()?).ok());
    Err(match errno.map(Errno::from_raw) {
        None | Some(Errno::UnknownErrno) => Errno::EIO,
        Some(errno) => errno,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Refused;
    use crate::kernel::evdev::Kind;

    fn effect(id: i16) -> Effect {
        Effect {
            id,
            direction: 0,
            trigger: [0; 2],
            replay: [0; 2],
            kind: Kind::Rumble { strong: 1, weak: 2 },
        }
    }

    fn granted(id: i16) -> Vec<u8> {
        Configured { effect: Some(id) }.encode().unwrap()
    }

    #[test]
    fn each_effect_goes_by_the_number_that_the_owner_gave_it() {
        let mut effects = Effects::default();
        assert_eq!(effects.upload(effect(0)), Configure::Upload(effect(-1)));
        effects.upload_asked(7, 3, 0);
        assert_eq!(effects.code(0), None);
        assert_eq!(
            effects.answered(7, Status::Ok, &granted(12)),
            Some(Answer::Uploaded(3, Ok(())))
        );
        assert_eq!(effects.code(0), Some(12));
        assert_eq!(effects.upload(effect(0)), Configure::Upload(effect(12)));
        assert_eq!(effects.erase(0), Some(Configure::Erase(12)));
        effects.erase_asked(8, 4, 0);
        assert_eq!(
            effects.answered(8, Status::Ok, b"\x81\xa3par\x80"),
            Some(Answer::Erased(4, Ok(())))
        );
        assert_eq!((effects.code(0), effects.erase(0)), (None, None));
    }

    #[test]
    fn the_owners_errno_reaches_the_program() {
        let mut effects = Effects::default();
        effects.upload_asked(1, 0, 5);
        let refused = Refused::io("x", Errno::ENOSPC);
        assert_eq!(
            effects.answered(1, refused.status, &refused.payload()),
            Some(Answer::Uploaded(0, Err(Errno::ENOSPC)))
        );
        effects.upload_asked(2, 0, 5);
        assert_eq!(
            effects.answered(2, Status::Timeout, &[]),
            Some(Answer::Uploaded(0, Err(Errno::EIO)))
        );
        effects.upload_asked(3, 0, 5);
        assert_eq!(
            effects.answered(3, Status::Ok, b"\x81\xa3par\x80"),
            Some(Answer::Uploaded(0, Err(Errno::EPROTO)))
        );
        assert_eq!(effects.code(5), None);
        assert_eq!(effects.answered(9, Status::Ok, &granted(1)), None);
    }

    #[test]
    fn an_owner_that_numbers_effects_below_zero_gets_nothing_played() {
        let mut effects = Effects::default();
        effects.upload_asked(1, 0, 5);
        effects.answered(1, Status::Ok, &granted(-4));
        assert_eq!(effects.code(5), None);
    }

    #[test]
    fn gain_and_autocenter_are_the_same_everywhere() {
        let effects = Effects::default();
        assert_eq!(effects.code(FF_GAIN), Some(FF_GAIN));
        assert_eq!(effects.code(FF_AUTOCENTER), Some(FF_AUTOCENTER));
    }
}
