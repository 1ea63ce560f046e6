//! The thread that writes the log of a daemon.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Record, What, files};

/// Lines that wait while the disk is slow.
const WAITING: usize = 1024;
/// Bytes that are written at a time.
const BATCH: usize = 64 * 1024;

/// Takes lines and writes them some time. Dropping it waits until they are written.
pub struct AuditLog {
    lines: Option<SyncSender<Vec<u8>>>,
    missing: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl AuditLog {
    /// The log in the directory, which is made when there is something to write.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(dir: PathBuf) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let missing = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            dir,
            missing: Arc::clone(&missing),
            complained: false,
        };
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let writer = thread.spawn(move || writer.run(&waiting))?;
        Ok(Self {
            lines: Some(lines),
            missing,
            writer: Some(writer),
        })
    }

    /// Takes a line. It never waits: when too many are waiting already, this one is only counted.
    pub fn write(&self, record: &Record) {
        let (Some(line), Some(lines)) = (record.line(), &self.lines) else {
            return;
        };
        if lines.try_send(line).is_err() {
            self.missing.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    dir: PathBuf,
    missing: Arc<AtomicU64>,
    complained: bool,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Vec<u8>>) {
        while let Ok(mut lines) = waiting.recv() {
            let mut count = 1;
            while lines.len() < BATCH
                && let Ok(line) = waiting.try_recv()
            {
                lines.extend(line);
                count += 1;
            }
            self.write(&lines, count);
        }
    }

    fn write(&mut self, lines: &[u8], count: u64) {
        let missing = self.missing.swap(0, Ordering::Relaxed);
        let mut all = Vec::new();
        if missing > 0 {
            let record = Record::new(What::Missing).after(missing);
            all.extend(record.line().unwrap_or_default());
        }
        all.extend_from_slice(lines);
        match files::append(&self.dir, &all) {
            Ok(()) if self.complained => {
                self.complained = false;
                tracing::info!(missing, "the audit log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.missing.fetch_add(missing + count, Ordering::Relaxed);
                if !self.complained {
                    self.complained = true;
                    let path = self.dir.display();
                    tracing::warn!(%error, %path, "cannot write the audit log; going on without");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::{directory, latest};
    use super::*;

    #[test]
    fn a_log_that_cannot_be_written_is_gone_on_without_and_tells_what_is_missing() {
        let state = TempDir::new().unwrap();
        let dir = directory(state.path());
        fs::write(&dir, "no directory").unwrap();
        let mut writer = Writer {
            dir: dir.clone(),
            missing: Arc::default(),
            complained: false,
        };
        let line = Record::new(What::Locked).line().unwrap();
        writer.write(&line, 1);
        writer.write(&line, 2);
        assert!(writer.complained);
        fs::remove_file(&dir).unwrap();
        writer.write(&line, 1);
        let read = latest(state.path(), 10).unwrap();
        let read: Vec<_> = read.iter().map(|r| (r.what, r.unsaid)).collect();
        assert_eq!(read, [(What::Missing, 3), (What::Locked, 0)]);
        assert!(!writer.complained);
    }

    #[test]
    fn what_was_taken_is_written_before_the_log_is_dropped() {
        let state = TempDir::new().unwrap();
        let log = AuditLog::start(directory(state.path())).unwrap();
        for _ in 0..500 {
            log.write(&Record::new(What::Attached).on("echo:one"));
        }
        drop(log);
        let read = latest(state.path(), 1_000).unwrap();
        let missing: u64 = read.iter().map(|record| record.unsaid).sum();
        let lines = u64::try_from(read.len()).unwrap();
        assert!(lines + missing >= 500, "{lines} {missing}");
        assert_eq!(read[0].device.as_deref(), Some("echo:one"));
    }
}
