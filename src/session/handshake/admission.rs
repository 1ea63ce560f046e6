//! A bound on handshakes that are not finished (profile 6.8, 18).

use std::collections::BTreeMap;

/// Unfinished handshakes of a listener, in total and per source.
#[derive(Clone, Debug)]
pub struct Admission<S> {
    sources: BTreeMap<S, usize>,
    total: usize,
    limits: (usize, usize),
}

impl<S: Ord + Clone> Admission<S> {
    /// At most `total` unfinished handshakes, `per_source` from one address or subject.
    pub const fn new(total: usize, per_source: usize) -> Self {
        Self {
            sources: BTreeMap::new(),
            total: 0,
            limits: (total, per_source),
        }
    }

    /// True when a handshake from `source` may begin; it counts until [`Admission::finish`].
    pub fn begin(&mut self, source: &S) -> bool {
        let (total, per_source) = self.limits;
        let open = self.sources.get(source).copied().unwrap_or(0);
        if self.total >= total || open >= per_source {
            return false;
        }
        self.sources.insert(source.clone(), open + 1);
        self.total += 1;
        true
    }

    /// A handshake that was begun is established or over.
    pub fn finish(&mut self, source: &S) {
        let Some(open) = self.sources.get_mut(source) else {
            return;
        };
        *open -= 1;
        if *open == 0 {
            self.sources.remove(source);
        }
        self.total -= 1;
    }
}

impl<S: Ord + Clone> Default for Admission<S> {
    fn default() -> Self {
        Self::new(64, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_gets_four_and_all_together_sixty_four() {
        let mut admission = Admission::default();
        for source in 0..16 {
            assert_eq!((0..5).filter(|_| admission.begin(&source)).count(), 4);
        }
        assert!(!admission.begin(&99));
        admission.finish(&3);
        admission.finish(&77);
        assert!(admission.begin(&99) && !admission.begin(&3));
    }
}
