//! Lines that have a safe state keep it after their stream has ended.
//!
//! A line that is given back to the kernel is whatever the chip makes of it, on many chips an input.
//! So its request stays open, in the name of nobody, until somebody requests the line again or this
//! process ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use tracing::warn;

use crate::bus::gpio::hardware::{GpioChip, GpioLines, Setup};

/// The lines that are kept in their safe state.
#[derive(Default)]
pub struct Keeper {
    kept: Mutex<Vec<Kept>>,
}

/// Lines of one request, all of them outputs.
pub(super) struct Kept {
    /// The chip's id.
    pub(super) chip: String,
    pub(super) lines: Vec<u32>,
    /// How they are driven; its values are the safe ones.
    pub(super) setup: Setup,
    pub(super) requested: Arc<dyn GpioLines>,
}

impl Keeper {
    /// Whether one of these lines is kept.
    pub fn holds_any(&self, chip: &str, lines: &[u32]) -> bool {
        self.kept().iter().any(|kept| kept.overlaps(chip, lines))
    }

    /// Keeps lines from now on.
    pub(super) fn keep(&self, kept: Kept) {
        self.kept().push(kept);
    }

    /// Requests lines, some of which may be kept. When they are those of one earlier request, in the
    /// same order, they change over without being given back in between. Otherwise those lines of the
    /// earlier request that nobody wants now are free for a moment.
    pub(super) fn request(
        &self,
        id: &str,
        chip: &dyn GpioChip,
        lines: &[u32],
        setup: &Setup,
    ) -> Result<Arc<dyn GpioLines>, Errno> {
        let mut taken: Vec<Kept> = {
            let mut kept = self.kept();
            kept.extract_if(.., |kept| kept.overlaps(id, lines))
                .collect()
        };
        if let Some(one) = taken.pop_if(|one| one.lines == lines) {
            return self.change_over(one, setup);
        }
        // Their descriptors are closed by this.
        let taken: Vec<_> = taken.into_iter().map(Kept::let_go).collect();
        let requested = chip.request(lines, setup);
        let wanted = if requested.is_ok() { lines } else { &[] };
        for (lines, setup) in taken {
            self.retake(id, chip, &lines, &setup, wanted);
        }
        requested
    }

    /// Gives kept lines a new use.
    fn change_over(&self, kept: Kept, setup: &Setup) -> Result<Arc<dyn GpioLines>, Errno> {
        let Err(errno) = kept.requested.configure(setup) else {
            return Ok(kept.requested);
        };
        // The change may have been made in part.
        if let Err(errno) = kept.requested.configure(&kept.setup) {
            warn!(chip = kept.chip, lines = ?kept.lines, %errno, "the safe state of GPIO lines is lost");
        }
        self.keep(kept);
        Err(errno)
    }

    /// Takes lines again that were let go for the sake of those that are `wanted`.
    fn retake(&self, id: &str, chip: &dyn GpioChip, lines: &[u32], setup: &Setup, wanted: &[u32]) {
        let rest: Vec<(usize, u32)> = lines
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, line)| !wanted.contains(line))
            .collect();
        if rest.is_empty() {
            return;
        }
        let value = |index: usize| setup.values >> index & 1;
        let values = rest.iter().enumerate();
        let setup = Setup {
            values: values.fold(0, |all, (to, (from, _))| all | value(*from) << to),
            ..setup.clone()
        };
        let lines: Vec<u32> = rest.into_iter().map(|(_, line)| line).collect();
        match chip.request(&lines, &setup) {
            Ok(requested) => self.keep(Kept {
                chip: id.to_owned(),
                lines,
                setup,
                requested,
            }),
            Err(errno) => {
                warn!(chip = id, ?lines, %errno, "the safe state of GPIO lines is lost");
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn overlaps(&self, chip: &str, lines: &[u32]) -> bool {
        self.chip == chip && self.lines.iter().any(|line| lines.contains(line))
    }

    fn let_go(self) -> (Vec<u32>, Setup) {
        (self.lines, self.setup)
    }
}
