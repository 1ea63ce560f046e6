//! Randomness of the operating system (getrandom(2)).

use std::io;

/// The kernel's random generator, proved to work.
#[derive(Clone, Copy, Debug)]
pub struct OsRandom(());

impl OsRandom {
    /// Draws once, so that a machine without a working generator is found out at start and not
    /// while a key is made. Waits until the generator is seeded, early after boot.
    ///
    /// # Errors
    /// What getrandom(2) says.
    pub fn open() -> io::Result<Self> {
        getrandom::fill(&mut [0; 16]).map_err(io::Error::from)?;
        Ok(Self(()))
    }

    /// Fills all of `out`. getrandom(2) does not fail once it has worked; if it did, no key could
    /// be trusted, and the process ends.
    pub fn fill(&mut self, out: &mut [u8]) {
        if getrandom::fill(out).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::OsRandom;

    #[test]
    fn two_draws_differ_and_fill_the_whole_buffer() {
        let mut random = OsRandom::open().unwrap();
        let (mut first, mut second) = ([0u8; 64], [0u8; 64]);
        random.fill(&mut first);
        random.fill(&mut second);
        assert_ne!(first, second);
        assert!(
            first
                .chunks(16)
                .all(|chunk| chunk.iter().any(|byte| *byte != 0))
        );
    }
}
