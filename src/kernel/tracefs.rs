//! What the kernel tells of every change of a GPIO line (kernel `include/trace/events/gpio.h`), in an
//! instance of tracefs of our own, so that no other user of tracing is disturbed or disturbs.

mod line;

pub use line::Trace;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::gpio_mark;

const TRACEFS: &str = "/sys/kernel/tracing";
const VALUE: &str = "events/gpio/gpio_value";
const DIRECTION: &str = "events/gpio/gpio_direction";
/// KiB of each processor's buffer: some 20 000 changes.
const BUFFER_KB: u32 = 1024;
/// Bytes of one `read`: more than the kernel gives at once.
const CHUNK: usize = 64 << 10;

/// Whether the kernel traces GPIO lines.
///
/// # Errors
/// tracefs is not mounted, or the kernel was built without these events.
pub fn probe() -> io::Result<()> {
    fs::metadata(Path::new(TRACEFS).join(VALUE)).map(drop)
}

/// Removes the instances of processes that ended without removing them.
pub fn sweep() {
    let instances = Path::new(TRACEFS).join("instances");
    for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_str()
            .is_some_and(gpio_mark::is_left_behind)
            && let Err(error) = fs::remove_dir(entry.path())
        {
            tracing::warn!(path = ?entry.path(), %error, "a killed process left this behind");
        }
    }
}

/// An instance of tracefs. It can be removed once its [`Pipe`] is closed.
#[derive(Debug)]
pub struct Instance(PathBuf);

impl Instance {
    /// Makes an instance that tells of the lines with these global numbers: their directions, the
    /// values that they are set to, and where edge detection reads them.
    ///
    /// # Errors
    /// What the kernel says; nothing is left then.
    pub fn create(name: &str, lines: &RangeInclusive<u32>) -> io::Result<Self> {
        let directory = Path::new(TRACEFS).join("instances").join(name);
        fs::create_dir(&directory)?;
        let instance = Self(directory);
        instance.set_up(lines)?;
        Ok(instance)
    }

    fn set_up(&self, lines: &RangeInclusive<u32>) -> io::Result<()> {
        let range = format!("gpio >= {} && gpio <= {}", lines.start(), lines.end());
        self.write("buffer_size_kb", &BUFFER_KB.to_string())?;
        // The clock of the kernel's events about requested lines.
        self.write("trace_clock", "mono")?;
        let sets = format!("{range} && (get == 0 || comm ~ \"irq/*\")");
        for (event, filter) in [(VALUE, sets.as_str()), (DIRECTION, &range)] {
            self.write(&format!("{event}/filter"), filter)?;
            self.write(&format!("{event}/enable"), "1")?;
        }
        Ok(())
    }

    /// What is told from now on. Must be called inside a runtime.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pipe(&self) -> io::Result<Pipe> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.0.join("trace_pipe"))?;
        // SAFETY: a File is the same descriptor until it is dropped, and the AsyncFd keeps it.
        let file = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?;
        Ok(Pipe {
            file,
            chunk: vec![0; CHUNK],
            lines: line::Lines::default(),
        })
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        OpenOptions::new()
            .write(true)
            .open(self.0.join(file))?
            .write_all(text.as_bytes())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Without this the events of a busy instance would go on.
        let _ = self.write("tracing_on", "0");
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!(path = ?self.0, %error, "a tracing instance stays");
        }
    }
}

/// The text of an instance as it is written.
#[derive(Debug)]
pub struct Pipe {
    file: AsyncFd<File>,
    chunk: Vec<u8>,
    lines: line::Lines,
}

impl Pipe {
    /// Waits until there may be something since the last [`Pipe::drain`].
    ///
    /// # Errors
    /// The runtime is ending.
    pub async fn readable(&self) -> io::Result<()> {
        self.file.readable().await?.clear_ready();
        Ok(())
    }

    /// Appends what there is, at most about `limit` changes; false when there is more.
    ///
    /// # Errors
    /// What the kernel says; nothing more comes then.
    pub fn drain(&mut self, out: &mut Vec<Trace>, limit: usize) -> io::Result<bool> {
        while out.len() < limit {
            let length = match self.file.get_ref().read(&mut self.chunk) {
                Ok(0) => return Ok(true),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.lines
                .feed(self.chunk.get(..length).unwrap_or_default(), out);
        }
        Ok(false)
    }
}
