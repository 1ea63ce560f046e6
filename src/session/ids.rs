//! Session IDs of one path (profile 15.1).

use core::time::Duration;

use super::entropy::{self, Entropy};
use crate::wire::time::Mono;

/// How long an id is not used again on its path.
const QUARANTINE: Duration = Duration::from_secs(120);

/// The ids that are in use, or were until two minutes ago.
#[derive(Clone, Debug, Default)]
pub(super) struct SessionIds {
    used: Vec<(u16, Option<Mono>)>,
}

impl SessionIds {
    /// A random id, never 0 or 0xFFFF, not in use and not recently so.
    pub(super) fn allocate(&mut self, now: Mono, rng: &mut dyn Entropy) -> u16 {
        self.used
            .retain(|(_, retired)| retired.is_none_or(|at| now.since(at) < QUARANTINE));
        loop {
            let id = u16::from_be_bytes(entropy::public(rng));
            if id != 0 && id != u16::MAX && self.used.iter().all(|(used, _)| *used != id) {
                self.used.push((id, None));
                return id;
            }
        }
    }

    /// Notes that an id is not used any more.
    pub(super) fn retire(&mut self, id: u16, now: Mono) {
        for (used, retired) in &mut self.used {
            if *used == id && retired.is_none() {
                *retired = Some(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Script(Vec<u16>);

    impl Entropy for Script {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(&self.0.remove(0).to_be_bytes());
        }
    }

    #[test]
    fn an_id_rests_for_two_minutes_and_zero_is_none() {
        let mut ids = SessionIds::default();
        let at = Mono::from_secs;
        assert_eq!(ids.allocate(at(0), &mut Script(vec![0, 0xFFFF, 7])), 7);
        assert_eq!(ids.allocate(at(500), &mut Script(vec![7, 8])), 8);
        ids.retire(7, at(500));
        assert_eq!(ids.allocate(at(619), &mut Script(vec![7, 9])), 9);
        assert_eq!(ids.allocate(at(620), &mut Script(vec![7])), 7);
    }
}
