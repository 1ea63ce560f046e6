//! What a tty is called on this machine, and how udev learns whose port it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// How names begin that nobody has chosen.
pub const PREFIX: &str = "ttyMC";
/// Where the rules of udev find, by a tty's name, whose port it is.
pub const NAMES: &str = "/run/myclerk/names";
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

/// A file that tells udev `NODE/NAME` of a tty, for its link below `/dev/myclerk`; removed when
/// dropped.
#[derive(Debug)]
pub struct NameFile(PathBuf);

impl NameFile {
    /// Writes it, in a directory that is made when there is none; `None` where that has no place:
    /// the daemon runs elsewhere, and no rule of udev reads there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(
        directory: &Path,
        name: &str,
        node: &str,
        title: &str,
    ) -> io::Result<Option<Self>> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let path = directory.join(name);
        let part = |text: &str| harmless(text);
        fs::write(&path, format!("{}/{}\n", part(node), part(title)))?;
        Ok(Some(Self(path)))
    }
}

impl Drop for NameFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "name of a tty");
        }
    }
}

/// A part of a path: a peer has chosen the text.
fn harmless(text: &str) -> String {
    let mut part: String = text
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    if part.is_empty() || part.starts_with('.') {
        part.insert(0, '_');
    }
    part
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

    #[test]
    fn the_file_is_there_while_the_tty_is_and_holds_nothing_foreign() {
        let directory = tempfile::tempdir().unwrap();
        let file = NameFile::write(directory.path(), "ttyMC0", "hub", "../x y\n").unwrap();
        let path = directory.path().join("ttyMC0");
        assert_eq!(fs::read_to_string(&path).unwrap(), "hub/_.._x_y_\n");
        drop(file);
        assert!(!path.exists());
        let nowhere = directory.path().join("none/names");
        let file = NameFile::write(&nowhere, "ttyMC0", "hub", "x").unwrap();
        assert!(file.is_none());
    }
}
