//! How udev learns whose device a file in `/dev` is: by a small file that is there before the device.
//!
//! `udev/71-myclerk-client.rules` reads it, makes the link `/dev/myclerk/NODE/NAME` and gives the
//! device file its owner, group and mode.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Where the rules of udev find a device by the kernel's name of it, or by its `phys`.
pub const NAMES: &str = "/run/myclerk/names";
/// Where they find a USB device by the kernel's name of its port, `3-1`, for all that its drivers make.
pub const PORTS: &str = "/run/myclerk/ports";

/// Whose device files are, where somebody said so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Access {
    /// A user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// A group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Permission bits, at most `0o777`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "octal")]
    pub mode: Option<u16>,
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it so"
)]
fn octal<S: serde::Serializer>(mode: &Option<u16>, to: S) -> Result<S::Ok, S::Error> {
    match mode {
        Some(mode) => to.serialize_str(&format!("{mode:04o}")),
        None => to.serialize_none(),
    }
}

/// What udev is told of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Its owner's name.
    pub node: String,
    /// What it is called here.
    pub name: String,
    /// Whose it is.
    pub access: Access,
}

impl Label {
    fn text(&self) -> String {
        let Access { owner, group, mode } = &self.access;
        let mut text = format!(
            "MYCLERK_LINK={}/{}\n",
            harmless(&self.node),
            harmless(&self.name)
        );
        // Writing to a String does not fail.
        for (key, value) in [("OWNER", owner), ("GROUP", group)] {
            if let Some(value) = value {
                let _ = writeln!(text, "MYCLERK_{key}={}", harmless(value));
            }
        }
        if let Some(mode) = mode {
            let _ = writeln!(text, "MYCLERK_MODE={mode:04o}");
        }
        text
    }
}

/// A file that tells udev of a device; removed when dropped.
#[derive(Debug)]
pub struct NameFile {
    path: PathBuf,
    /// Another device may have got the name since.
    ino: u64,
}

impl NameFile {
    /// Writes it, in a directory that is made when there is none; `None` where that has no place:
    /// the daemon runs elsewhere, and no rule of udev reads there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(directory: &Path, key: &str, label: &Label) -> io::Result<Option<Self>> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let path = directory.join(key);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let new = path.with_file_name(format!(".{}", key.rsplit('/').next().unwrap_or(key)));
        fs::write(&new, label.text())?;
        let ino = fs::metadata(&new)?.ino();
        fs::rename(&new, &path)?;
        Ok(Some(Self { path, ino }))
    }

    /// The same, for a device that is useful without its link too.
    pub fn try_write(directory: &Path, key: &str, label: &Label) -> Option<Self> {
        Self::write(directory, key, label).unwrap_or_else(|error| {
            let path = directory.join(key);
            tracing::warn!(path = %path.display(), %error, "udev cannot be told of a device");
            None
        })
    }
}

impl Drop for NameFile {
    fn drop(&mut self) {
        let path = &self.path;
        if fs::metadata(path).is_ok_and(|found| found.ino() != self.ino) {
            return;
        }
        if let Err(error) = fs::remove_file(path) {
            tracing::debug!(path = %path.display(), %error, "name of a node");
        }
    }
}

/// The `phys` of an input device as the file of its name is called: as udev substitutes it
/// (systemd `udev_replace_chars`). `None` for one that would lead out of the directory.
pub fn of_phys(phys: &str) -> Option<String> {
    let kept = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_/$%?,".contains(c);
    let name: String = phys
        .chars()
        .map(|c| if kept(c) { c } else { '_' })
        .collect();
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.split('/').all(plain).then_some(name)
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

    fn label(name: &str) -> Label {
        Label {
            node: "hub".to_owned(),
            name: name.to_owned(),
            access: Access::default(),
        }
    }

    #[test]
    fn the_file_is_there_while_the_tty_is_and_holds_nothing_foreign() {
        let directory = tempfile::tempdir().unwrap();
        let file = NameFile::write(directory.path(), "ttyMC0", &label("../x y\n")).unwrap();
        let path = directory.path().join("ttyMC0");
        let text = "MYCLERK_LINK=hub/_.._x_y_\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        drop(file);
        assert!(!path.exists());
        let nowhere = directory.path().join("none/names");
        let file = NameFile::write(&nowhere, "ttyMC0", &label("x")).unwrap();
        assert!(file.is_none());
    }

    #[test]
    fn owner_group_and_mode_are_told_where_somebody_said_so() {
        let access = Access {
            owner: Some("me".to_owned()),
            group: Some("them\nRUN=x".to_owned()),
            mode: Some(0o40),
        };
        let text = Label {
            access,
            ..label("x")
        }
        .text();
        let lines: Vec<_> = text.lines().skip(1).collect();
        let wanted = [
            "MYCLERK_OWNER=me",
            "MYCLERK_GROUP=them_RUN_x",
            "MYCLERK_MODE=0040",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn a_phys_is_a_path_below_the_names_or_none() {
        let inside = of_phys("myclerk/hub/hid:1:2:a(b");
        assert_eq!(inside.as_deref(), Some("myclerk/hub/hid:1:2:a_b"));
        for outside in ["myclerk/../x", "/x", "myclerk//x", "a/.", ""] {
            assert_eq!(of_phys(outside), None, "{outside}");
        }
    }
}
