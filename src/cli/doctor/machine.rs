//! What the checks look at: files below a root, which tests replace by a tree of their own.

use std::fs;
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

/// The file system, seen from its root.
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    pub(super) fn real() -> Self {
        Self { root: "/".into() }
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Where an absolute path really is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The content of a small file without the white space around it.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path))
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// The entries of a directory; none when it does not exist.
    pub(super) fn list(&self, path: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path(path)) else {
            return Vec::new();
        };
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// True when a line of the file contains the text.
    pub(super) fn mentions(&self, path: &str, text: &str) -> bool {
        fs::read_to_string(self.path(path)).is_ok_and(|content| content.contains(text))
    }
}
