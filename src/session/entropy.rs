//! Randomness as an argument.

use zeroize::Zeroizing;

/// A source of random bytes fit for keys.
///
/// The implementation blocks until the kernel's generator is seeded (profile 6.6); it cannot fail,
/// because no caller here could go on without randomness.
pub trait Entropy {
    /// Fills the whole of `out`.
    fn fill(&mut self, out: &mut [u8]);
}

/// Random bytes that are sent in clear.
pub(crate) fn public<const N: usize>(rng: &mut dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    rng.fill(&mut out);
    out
}

/// Random bytes that are wiped when dropped.
pub(crate) fn secret<const N: usize>(rng: &mut dyn Entropy) -> Zeroizing<[u8; N]> {
    let mut out = Zeroizing::new([0; N]);
    rng.fill(&mut *out);
    out
}
