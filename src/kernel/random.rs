//! Randomness of the operating system (getrandom(2)).

/// Fills all of `out`; waits until the kernel's generator is seeded, early after boot.
///
/// A kernel that refuses random numbers ends the process: no key made after that could be trusted.
pub fn fill(out: &mut [u8]) {
    if getrandom::fill(out).is_err() {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn two_draws_differ_and_fill_the_whole_buffer() {
        let (mut first, mut second) = ([0u8; 64], [0u8; 64]);
        fill(&mut first);
        fill(&mut second);
        assert_ne!(first, second);
        assert!(
            first
                .chunks(16)
                .all(|chunk| chunk.iter().any(|byte| *byte != 0))
        );
    }
}
