//! From what a person typed to the one thing meant: exact id, unique beginning, or friendly name.

/// One thing that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its stable id.
    pub id: &'a str,
    /// What people call it; may be empty and need not be unique.
    pub name: &'a str,
}

/// Why a name names nothing or too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing matches.
    Unknown,
    /// The ids of everything that matches equally well, in the order given.
    Ambiguous(Vec<String>),
}

/// The position of the candidate that `query` means.
///
/// An exact id wins over an exact name (ignoring case), which wins over the beginning of an id,
/// which wins over the beginning of a name; within the first of these that matches anything, the
/// match must be unique.
///
/// # Errors
/// [`NameError::Unknown`] when nothing matches, [`NameError::Ambiguous`] when several do.
pub fn resolve(query: &str, candidates: &[Candidate<'_>]) -> Result<usize, NameError> {
    if query.is_empty() {
        return Err(NameError::Unknown);
    }
    let lower = query.to_lowercase();
    let ways: [&dyn Fn(&Candidate<'_>) -> bool; 4] = [
        &|c| c.id == query,
        &|c| c.name.to_lowercase() == lower,
        &|c| c.id.starts_with(query),
        &|c| c.name.to_lowercase().starts_with(&lower),
    ];
    for way in ways {
        let mut found = candidates.iter().enumerate().filter(|(_, c)| way(c));
        let Some((first, _)) = found.next() else {
            continue;
        };
        if found.next().is_none() {
            return Ok(first);
        }
        let ids = candidates
            .iter()
            .filter(|c| way(c))
            .map(|c| c.id.to_owned());
        return Err(NameError::Ambiguous(ids.collect()));
    }
    Err(NameError::Unknown)
}

/// True for what may be the name of a node or a family: 1 to 64 bytes, no control characters, no
/// `/` (it separates node and device), no space at either end.
pub fn is_friendly(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.trim() == name
        && !name.chars().any(|c| c.is_control() || c == '/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &[Candidate<'_>] = &[
        Candidate {
            id: "usb:0403:6001",
            name: "FT232R USB UART",
        },
        Candidate {
            id: "usb:0403:6001:A1",
            name: "Bench serial",
        },
        Candidate {
            id: "usb:46f4:0001",
            name: "QEMU stick",
        },
        Candidate {
            id: "usb:46f4:0002",
            name: "QEMU stick",
        },
    ];

    #[test]
    fn an_exact_id_wins_over_longer_ones() {
        assert_eq!(resolve("usb:0403:6001", ALL), Ok(0));
    }

    #[test]
    fn a_unique_beginning_or_a_name_is_enough() {
        assert_eq!(resolve("usb:0403:6001:", ALL), Ok(1));
        assert_eq!(resolve("bench SERIAL", ALL), Ok(1));
        assert_eq!(resolve("ft232", ALL), Ok(0));
    }

    #[test]
    fn several_matches_are_listed_and_none_is_chosen() {
        let both = vec!["usb:46f4:0001".to_owned(), "usb:46f4:0002".to_owned()];
        assert_eq!(
            resolve("QEMU stick", ALL),
            Err(NameError::Ambiguous(both.clone()))
        );
        assert_eq!(resolve("usb:46", ALL), Err(NameError::Ambiguous(both)));
    }

    #[test]
    fn nothing_typed_matches_nothing() {
        assert_eq!(resolve("", ALL), Err(NameError::Unknown));
        assert_eq!(resolve("can:", ALL), Err(NameError::Unknown));
    }
}
