//! What a tty is called on this machine.

/// How names begin that nobody has chosen.
pub const PREFIX: &str = "ttyMC";
/// Longest name of a tty that a person may choose.
const MAX: usize = 32;

/// Why a name will not do; `None` when it will.
pub fn complaint(name: &str) -> Option<String> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let first = name.bytes().next().is_some_and(|c| c.is_ascii_alphabetic());
    if name.len() <= MAX && first && name.bytes().all(fits) {
        return None;
    }
    Some(format!(
        "{name:?} cannot be the name of a tty: a letter first, then letters, digits, '.', '_' and \
         '-', at most {MAX} in all"
    ))
}

/// The number at the end of a name, 0 without one.
pub fn number(name: &str) -> u32 {
    let prefix = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name.get(prefix.len()..)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_that_a_path_can_end_with() {
        for good in ["ttyMC0", "ttyUSB0", "bench-3.a"] {
            assert_eq!(complaint(good), None, "{good}");
        }
        for bad in ["", "../x", "a/b", ".x", "0tty", "tty 0", &"x".repeat(33)] {
            assert!(complaint(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn the_number_is_that_at_the_end() {
        assert_eq!(number("ttyMC12"), 12);
        assert_eq!(number("bench"), 0);
        assert_eq!(number("ttyMC99999999999"), 0);
    }
}
