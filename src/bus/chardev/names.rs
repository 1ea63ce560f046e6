//! How udev learns whose device a node is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the rules of udev find, by a node's name, whose device it is.
pub const NAMES: &str = "/run/myclerk/names";

/// A file that tells udev `NODE/NAME` of a node, for its link below `/dev/myclerk`; removed when
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
            tracing::debug!(path = %self.0.display(), %error, "name of a node");
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
