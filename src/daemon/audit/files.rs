//! The files of the log: the one that grows and those before it.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Record, directory};

/// A file is not written any further when it is larger, in bytes.
pub(super) const SIZE: u64 = 1 << 20;
/// Files besides the one that grows.
const OLD: u32 = 3;
/// One at a time: two threads must not move the same file aside.
static TURN: Mutex<()> = Mutex::new(());
/// The longest line that is read.
const LINE: usize = 16 * 1024;

fn current(dir: &Path) -> PathBuf {
    dir.join("audit.jsonl")
}

fn old(dir: &Path, n: u32) -> PathBuf {
    dir.join(format!("audit.{n}.jsonl"))
}

/// Opens the file that grows, after moving a full one aside.
fn open(dir: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let path = current(dir);
    if fs::metadata(&path).is_ok_and(|file| file.len() >= SIZE) {
        for n in (1..OLD).rev() {
            move_aside(&old(dir, n), &old(dir, n + 1))?;
        }
        move_aside(&path, &old(dir, 1))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .read(true)
        .mode(0o600)
        .open(path)
}

fn move_aside(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Adds whole lines. What a crash or a full disk left of a line before is ended first, so that only
/// that one is lost.
pub(super) fn append(dir: &Path, lines: &[u8]) -> io::Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = open(dir)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(lines)
}

/// The last `count` lines, the oldest first. What cannot be understood is left out.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn latest(state: &Path, count: usize) -> io::Result<Vec<Record>> {
    let dir = directory(state);
    let mut lines = VecDeque::new();
    let files = (1..=OLD).rev().map(|n| old(&dir, n)).chain([current(&dir)]);
    for path in files {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for record in text.split(|byte| *byte == b'\n').filter_map(understand) {
            lines.push_back(record);
            if lines.len() > count {
                lines.pop_front();
            }
        }
    }
    Ok(lines.into())
}

fn understand(line: &[u8]) -> Option<Record> {
    serde_json::from_slice(line).ok()
}

/// Reads what is added from now on.
pub struct Follower {
    dir: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Follower {
    /// Stands at the end of the log.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn new(state: &Path) -> io::Result<Self> {
        let dir = directory(state);
        let mut file = open_for_reading(&dir)?;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::End(0))?;
        }
        Ok(Self {
            dir,
            file,
            rest: Vec::new(),
        })
    }

    /// What was added since the last call.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn news(&mut self) -> io::Result<Vec<Record>> {
        let mut records = self.read()?;
        let newer = open_for_reading(&self.dir)?;
        let id = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        let same = match (&self.file, &newer) {
            (Some(file), Some(newer)) => id(file)? == id(newer)?,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if !same {
            // Whatever came before the old file was moved aside.
            records.extend(self.read()?);
            self.file = newer;
            self.rest.clear();
            records.extend(self.read()?);
        }
        Ok(records)
    }

    fn read(&mut self) -> io::Result<Vec<Record>> {
        if let Some(file) = &mut self.file {
            file.read_to_end(&mut self.rest)?;
        }
        let end = self.rest.iter().rposition(|byte| *byte == b'\n');
        let Some(end) = end else {
            if self.rest.len() > LINE {
                self.rest.clear();
            }
            return Ok(Vec::new());
        };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        let lines = lines.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(understand).collect())
    }
}

fn open_for_reading(dir: &Path) -> io::Result<Option<File>> {
    match File::open(current(dir)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::{What, note};
    use super::*;

    fn record(n: usize) -> Record {
        Record::new(What::Refused).because(format!("{n:0200}"))
    }

    #[test]
    fn the_log_is_bounded_and_keeps_the_newest_lines() {
        let state = TempDir::new().unwrap();
        let dir = directory(state.path());
        let lines = |range: std::ops::Range<usize>| {
            range
                .flat_map(|n| record(n).line().unwrap())
                .collect::<Vec<u8>>()
        };
        for hundred in 0..250 {
            append(&dir, &lines(hundred * 100..(hundred + 1) * 100)).unwrap();
        }
        let files: Vec<_> = fs::read_dir(&dir).unwrap().map(Result::unwrap).collect();
        assert_eq!(files.len(), 4);
        let sizes = files.iter().map(|file| file.metadata().unwrap().len());
        assert!(sizes.sum::<u64>() <= 4 * SIZE + 200_000);
        let last = latest(state.path(), 3).unwrap();
        let reasons: Vec<_> = last.into_iter().map(|r| r.reason.unwrap()).collect();
        assert_eq!(
            reasons,
            [24_997, 24_998, 24_999].map(|n| format!("{n:0200}"))
        );
        let all = latest(state.path(), usize::MAX).unwrap();
        assert!(all.len() > 10_000, "{}", all.len());
    }

    #[test]
    fn half_a_line_costs_only_itself() {
        let state = TempDir::new().unwrap();
        let dir = directory(state.path());
        append(&dir, b"{\"time\":1,\"what\":\"atta").unwrap();
        note(state.path(), &record(7));
        append(&dir, b"{\"time\":2,\"what\":\"flown\",\"more\":[]}\n").unwrap();
        let read = latest(state.path(), 10).unwrap();
        assert_eq!(read[0], record(7).clone_at(read[0].time));
        assert_eq!((read[1].time, read[1].what), (2, What::Other));
        assert_eq!(read.len(), 2);
    }

    impl Record {
        fn clone_at(&self, time: u64) -> Self {
            Self {
                time,
                ..self.clone()
            }
        }
    }

    #[test]
    fn a_follower_misses_nothing_when_the_file_is_moved_aside() {
        let state = TempDir::new().unwrap();
        let dir = directory(state.path());
        let mut follower = Follower::new(state.path()).unwrap();
        assert_eq!(follower.news().unwrap(), []);
        let mut seen = 0;
        for n in 0..12_000 {
            append(&dir, &record(n).line().unwrap()).unwrap();
            if n % 100 == 7 {
                seen += follower.news().unwrap().len();
            }
        }
        seen += follower.news().unwrap().len();
        assert_eq!(seen, 12_000);
        append(&dir, b"{\"time\":1,").unwrap();
        assert_eq!(follower.news().unwrap(), []);
        let mut file = OpenOptions::new().append(true).open(current(&dir)).unwrap();
        file.write_all(b"\"what\":\"locked\"}\n").unwrap();
        assert_eq!(follower.news().unwrap()[0].what, What::Locked);
    }
}
