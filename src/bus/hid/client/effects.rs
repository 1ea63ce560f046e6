//! The effects of this machine's programs, which have other numbers at the owner.

use std::collections::{BTreeMap, HashMap, VecDeque};

use nix::errno::Errno;
use tracing::debug;

use crate::bus::hid::op::{Configure, Configured};
use crate::kernel::evdev::Effect;
use crate::kernel::evdev::codes::{FF_AUTOCENTER, FF_GAIN};
use crate::wire::error::ErrorMap;
use crate::wire::status::Status;

/// What was asked of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Upload {
        request: u32,
        effect: Effect,
    },
    Erase {
        request: u32,
        local: i16,
    },
    /// To take an effect again, of which no program waits to hear.
    Again {
        local: i16,
    },
}

/// What uinput is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// To `Wish::Upload`.
    Uploaded(u32, Result<(), Errno>),
    /// To `Wish::Erase`.
    Erased(u32, Result<(), Errno>),
    /// To nobody; the owner has an effect by this number that no program has any more.
    Orphan(i16),
}

/// An effect of a program of this machine.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// With its number here.
    effect: Effect,
    /// Its number at the owner, if that has it.
    owners: Option<i16>,
}

/// By local number what the programs have uploaded, and what the owner has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Effects {
    held: BTreeMap<i16, Held>,
    asked: HashMap<u32, Asked>,
    /// What the owner is to be given again.
    again: VecDeque<i16>,
}

impl Effects {
    /// What to ask the owner for an effect with its local id: for a new one, or for another shape of
    /// one that it has.
    pub(super) fn upload(&self, effect: Effect) -> Configure {
        Configure::Upload(Effect {
            id: self.owners(effect.id).unwrap_or(-1),
            ..effect
        })
    }

    /// What to ask the owner to take an effect back. When it has no such effect, `None`, and the
    /// effect is forgotten.
    pub(super) fn erase(&mut self, local: i16) -> Option<Configure> {
        let owners = self.owners(local);
        if owners.is_none() {
            self.held.remove(&local);
        }
        owners.map(Configure::Erase)
    }

    fn owners(&self, local: i16) -> Option<i16> {
        self.held.get(&local)?.owners
    }

    /// The owner was asked, by that number.
    pub(super) fn upload_asked(&mut self, corr: u32, request: u32, effect: Effect) {
        self.asked.insert(corr, Asked::Upload { request, effect });
    }

    /// The owner was asked, by that number.
    pub(super) fn erase_asked(&mut self, corr: u32, request: u32, local: i16) {
        self.asked.insert(corr, Asked::Erase { request, local });
    }

    /// The owner's answer; `None` when it was not asked that, or nobody waits for it.
    pub(super) fn answered(&mut self, corr: u32, status: Status, payload: &[u8]) -> Option<Answer> {
        let done = result(status, payload);
        let id = done.and_then(|answer| answer.effect.ok_or(Errno::EPROTO));
        match self.asked.remove(&corr)? {
            Asked::Upload { request, effect } => {
                if let Ok(owners) = id {
                    let owners = Some(owners);
                    self.held.insert(effect.id, Held { effect, owners });
                }
                Some(Answer::Uploaded(request, id.map(drop)))
            }
            Asked::Erase { request, local } => {
                self.held.remove(&local);
                Some(Answer::Erased(request, done.map(drop)))
            }
            Asked::Again { local } => match (self.held.get_mut(&local), id) {
                (Some(held), Ok(owners)) => {
                    held.owners = Some(owners);
                    None
                }
                (None, Ok(owners)) => Some(Answer::Orphan(owners)),
                (_, Err(errno)) => {
                    debug!(%errno, "the owner does not take an effect again");
                    None
                }
            },
        }
    }

    // --- without the owner ----------------------------------------------------------------------

    /// The owner has no effects any more, and gives no answers. What it was asked to erase is gone.
    pub(super) fn lost(&mut self) -> Vec<Answer> {
        let asked = core::mem::take(&mut self.asked);
        let answers = asked.into_values().filter_map(|asked| match asked {
            Asked::Upload { request, .. } => Some(Answer::Uploaded(request, Err(Errno::EIO))),
            Asked::Erase { request, local } => {
                self.held.remove(&local);
                Some(Answer::Erased(request, Ok(())))
            }
            Asked::Again { .. } => None,
        });
        let answers = answers.collect();
        for held in self.held.values_mut() {
            held.owners = None;
        }
        self.again = self.held.keys().copied().collect();
        answers
    }

    /// Whether the owner does not have all of them again yet.
    pub(super) fn are_behind(&self) -> bool {
        !self.again.is_empty() || self.is_asked_again()
    }

    fn is_asked_again(&self) -> bool {
        let mut asked = self.asked.values();
        asked.any(|asked| matches!(asked, Asked::Again { .. }))
    }

    /// Keeps an effect for the owner while that cannot be asked.
    pub(super) fn keep(&mut self, effect: Effect) {
        let owners = self.owners(effect.id);
        self.held.insert(effect.id, Held { effect, owners });
        if !self.again.contains(&effect.id) {
            self.again.push_back(effect.id);
        }
    }

    /// Forgets an effect while the owner cannot be asked; what the owner has of it, as an orphan.
    pub(super) fn forget(&mut self, local: i16) -> Option<Answer> {
        let owners = self.held.remove(&local)?.owners?;
        Some(Answer::Orphan(owners))
    }

    /// The next effect that the owner is to be given again. They go one by one.
    pub(super) fn next_again(&mut self) -> Option<Effect> {
        if self.is_asked_again() {
            return None;
        }
        let held = &self.held;
        core::iter::from_fn(|| self.again.pop_front())
            .find_map(|local| held.get(&local))
            .map(|held| held.effect)
    }

    /// The owner was asked, by that number.
    pub(super) fn asked_again(&mut self, corr: u32, local: i16) {
        self.asked.insert(corr, Asked::Again { local });
    }

    /// The owner's code of an event that plays an effect or sets how all are played; `None` for an
    /// effect that the owner does not have.
    pub(super) fn code(&self, code: u16) -> Option<u16> {
        if matches!(code, FF_GAIN | FF_AUTOCENTER) {
            return Some(code);
        }
        let owners = self.owners(i16::try_from(code).ok()?)?;
        u16::try_from(owners).ok()
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
        effects.upload_asked(7, 3, effect(0));
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
        effects.upload_asked(1, 0, effect(5));
        let refused = Refused::io("x", Errno::ENOSPC);
        assert_eq!(
            effects.answered(1, refused.status, &refused.payload()),
            Some(Answer::Uploaded(0, Err(Errno::ENOSPC)))
        );
        effects.upload_asked(2, 0, effect(5));
        assert_eq!(
            effects.answered(2, Status::Timeout, &[]),
            Some(Answer::Uploaded(0, Err(Errno::EIO)))
        );
        effects.upload_asked(3, 0, effect(5));
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
        effects.upload_asked(1, 0, effect(5));
        effects.answered(1, Status::Ok, &granted(-4));
        assert_eq!(effects.code(5), None);
    }

    /// Two effects, which the owner calls 10 and 11.
    fn two() -> Effects {
        let mut effects = Effects::default();
        for (corr, local) in [(1, 0), (2, 1)] {
            effects.upload_asked(corr, 0, effect(local));
            let id = local + 10;
            effects.answered(corr, Status::Ok, &granted(id));
        }
        effects
    }

    #[test]
    fn a_lost_owner_is_given_every_effect_again_one_by_one() {
        let mut effects = two();
        assert_eq!(effects.lost(), []);
        assert_eq!((effects.code(0), effects.code(1)), (None, None));
        assert_eq!(effects.next_again(), Some(effect(0)));
        assert_eq!(effects.upload(effect(0)), Configure::Upload(effect(-1)));
        effects.asked_again(5, 0);
        assert_eq!(effects.next_again(), None);
        assert_eq!(effects.answered(5, Status::Ok, &granted(20)), None);
        assert_eq!(effects.code(0), Some(20));
        assert_eq!(effects.next_again(), Some(effect(1)));
        effects.asked_again(6, 1);
        assert!(effects.are_behind());
        // It takes the other one no more.
        assert_eq!(effects.answered(6, Status::InternalError, &[]), None);
        assert_eq!(effects.code(1), None);
        assert!(!effects.are_behind());
    }

    #[test]
    fn what_was_asked_when_the_owner_was_lost_is_answered() {
        let mut effects = two();
        effects.upload_asked(7, 3, effect(2));
        effects.erase_asked(8, 4, 1);
        let mut answers = effects.lost();
        answers.sort_by_key(|answer| matches!(answer, Answer::Erased(..)));
        let upload = Answer::Uploaded(3, Err(Errno::EIO));
        assert_eq!(answers, [upload, Answer::Erased(4, Ok(()))]);
        assert_eq!(effects.next_again(), Some(effect(0)));
        effects.asked_again(9, 0);
        effects.answered(9, Status::Ok, &granted(20));
        assert_eq!(effects.next_again(), None);
    }

    #[test]
    fn what_programs_do_meanwhile_is_made_up_for() {
        let mut effects = two();
        effects.lost();
        let changed = Effect {
            direction: 9,
            ..effect(0)
        };
        effects.keep(changed);
        assert_eq!(effects.forget(1), None);
        assert_eq!(effects.next_again(), Some(changed));
        effects.asked_again(5, 0);
        // Taken back before the owner has answered.
        assert_eq!(effects.forget(0), None);
        let orphan = effects.answered(5, Status::Ok, &granted(20));
        assert_eq!(orphan, Some(Answer::Orphan(20)));
        assert_eq!(effects.next_again(), None);
        assert!(!effects.are_behind());
    }

    #[test]
    fn gain_and_autocenter_are_the_same_everywhere() {
        let effects = Effects::default();
        assert_eq!(effects.code(FF_GAIN), Some(FF_GAIN));
        assert_eq!(effects.code(FF_AUTOCENTER), Some(FF_AUTOCENTER));
    }
}
