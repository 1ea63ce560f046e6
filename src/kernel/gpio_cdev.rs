//! GPIO chips through the second version of their character device (include/uapi/linux/gpio.h,
//! drivers/gpio/gpiolib-cdev.c; kernel 5.10 and later).
//!
//! Many chips hang on a slow bus: every call here but [`Lines::poll_events`] may wait for the
//! hardware, closing [`Lines`] included.

mod abi;

use core::task::{Context, Poll, ready};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use abi::{MAX_ATTRIBUTES, MAX_LINES, flag};

use abi::{RawChipInfo, RawLineConfig, RawLineInfo, RawLineRequest, RawLineValues};

/// Events that the kernel keeps for a request: the most it agrees to.
const MAX_EVENTS: u32 = 1024;
/// Events that are read at a time.
const EVENTS: usize = 16;

/// An open chip.
#[derive(Debug)]
pub struct Chip {
    file: File,
}

/// What a chip says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChipInfo {
    /// `gpiochip0`.
    pub name: String,
    /// What its driver calls it.
    pub label: String,
    /// How many lines it has.
    pub lines: u32,
}

/// What the kernel knows of one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineInfo {
    /// Its name, empty if it has none.
    pub name: String,
    /// Who has it requested, as it calls itself.
    pub consumer: String,
    /// [`flag`]s.
    pub flags: u64,
}

/// How requested lines are used. Bit k of every mask is the k-th requested line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// [`flag`]s of the lines that no attribute gives others.
    pub flags: u64,
    /// What differs between the lines, at most [`MAX_ATTRIBUTES`]; of two of a kind the first counts.
    pub attributes: Vec<(Attribute, u64)>,
}

/// What an attribute gives to the lines of its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// [`flag`]s.
    Flags(u64),
    /// The values that outputs begin with.
    Values(u64),
    /// Microseconds of debouncing.
    DebounceUs(u32),
}

/// Requested lines; they are given back when this is dropped.
#[derive(Debug)]
pub struct Lines {
    file: AsyncFd<File>,
}

/// An input that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// From inactive to active, or the other way.
    pub rising: bool,
    /// The line's number on its chip.
    pub offset: u32,
    /// Counts the events of the request from 1, whatever the line. The kernel keeps 1024 events
    /// and then drops the oldest, which a gap in these numbers shows.
    pub seqno: u32,
}

impl Chip {
    /// Opens a character device.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_CLOEXEC.bits())
            .open(path)?;
        Ok(Self { file })
    }

    /// What the chip says of itself.
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `ENOTTY` when the file is no GPIO chip.
    pub fn info(&self) -> Result<ChipInfo, Errno> {
        let mut raw = RawChipInfo::default();
        abi::chip_info(self.file.as_fd(), &mut raw)?;
        Ok(ChipInfo {
            name: text(&raw.name),
            label: text(&raw.label),
            lines: raw.lines,
        })
    }

    /// What is known of the line with that number.
    ///
    /// # Errors
    /// `EINVAL` when there is no such line, `ENODEV` when the chip is gone.
    pub fn line_info(&self, offset: u32) -> Result<LineInfo, Errno> {
        let mut raw = RawLineInfo {
            offset,
            ..RawLineInfo::default()
        };
        abi::line_info(self.file.as_fd(), &mut raw)?;
        Ok(LineInfo {
            name: text(&raw.name),
            consumer: text(&raw.consumer),
            flags: raw.flags,
        })
    }

    /// Takes 1 to [`MAX_LINES`] lines; to be called inside a tokio runtime.
    ///
    /// # Errors
    /// `EBUSY` when one is in use, `EINVAL` when there is no such line, when their number is out of
    /// range or the kernel does not allow the configuration, `ENXIO` for edges of lines that cannot
    /// interrupt, `E2BIG` for too many attributes; `ENODEV` when the chip is gone.
    pub fn request(
        &self,
        offsets: &[u32],
        consumer: &str,
        config: &Config,
    ) -> Result<Lines, Errno> {
        let mut raw = RawLineRequest {
            num_lines: u32::try_from(offsets.len()).map_err(|_| Errno::EINVAL)?,
            config: raw_config(config)?,
            event_buffer_size: MAX_EVENTS,
            ..RawLineRequest::default()
        };
        let room = raw.offsets.get_mut(..offsets.len()).ok_or(Errno::EINVAL)?;
        room.copy_from_slice(offsets);
        // The last byte stays zero.
        let names = consumer.as_bytes().iter().take(abi::NAME_LEN - 1);
        for (to, from) in raw.consumer.iter_mut().zip(names) {
            *to = *from;
        }
        let fd = abi::request(self.file.as_fd(), &mut raw)?;
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: a file has the same open descriptor for as long as it lives, and the AsyncFd keeps
        // it.
        let file = unsafe { AsyncFd::register_with_interest(File::from(fd), Interest::READABLE) }
            .map_err(|error| errno(&error.into()))?;
        Ok(Lines { file })
    }
}

impl Lines {
    /// The logical values of the lines of `mask`.
    ///
    /// # Errors
    /// What the chip's driver says; `ENODEV` when the chip is gone.
    pub fn get(&self, mask: u64) -> Result<u64, Errno> {
        let mut raw = RawLineValues { bits: 0, mask };
        abi::get_values(self.file.get_ref().as_fd(), &mut raw)?;
        Ok(raw.bits & mask)
    }

    /// Sets the logical values of the lines of `mask`, all of them outputs.
    ///
    /// # Errors
    /// `EPERM` when a line is no output, what the chip's driver says, `ENODEV` when the chip is gone.
    pub fn set(&self, mask: u64, bits: u64) -> Result<(), Errno> {
        let mut raw = RawLineValues {
            bits: bits & mask,
            mask,
        };
        abi::set_values(self.file.get_ref().as_fd(), &mut raw)
    }

    /// Uses the lines in another way, without giving them back in between.
    ///
    /// # Errors
    /// As [`Chip::request`]. The lines up to the one that failed are changed then.
    pub fn configure(&self, config: &Config) -> Result<(), Errno> {
        abi::set_config(self.file.get_ref().as_fd(), &mut raw_config(config)?)
    }

    /// The oldest events, a few at a time, once there are any.
    ///
    /// # Errors
    /// `ENODEV` when the chip is gone.
    pub fn poll_events(&self, context: &mut Context<'_>) -> Poll<Result<Vec<Event>, Errno>> {
        loop {
            let mut guard =
                ready!(self.file.poll_read_ready(context)).map_err(|error| errno(&error))?;
            let mut buffer = [0; EVENTS * abi::EVENT_LEN];
            match self
                .file
                .get_ref()
                .read(&mut buffer)
                .map_err(|error| errno(&error))
            {
                Ok(read) => {
                    let (events, _) = buffer.as_chunks::<{ abi::EVENT_LEN }>();
                    let events = events.iter().take(read / abi::EVENT_LEN);
                    return Poll::Ready(Ok(events.map(abi::event).collect()));
                }
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(errno) => return Poll::Ready(Err(errno)),
            }
        }
    }
}

fn raw_config(config: &Config) -> Result<RawLineConfig, Errno> {
    let mut raw = RawLineConfig {
        flags: config.flags,
        ..RawLineConfig::default()
    };
    raw.num_attrs = u32::try_from(config.attributes.len()).map_err(|_| Errno::E2BIG)?;
    let room = raw.attrs.get_mut(..config.attributes.len());
    for (to, (attribute, mask)) in room.ok_or(Errno::E2BIG)?.iter_mut().zip(&config.attributes) {
        *to = match *attribute {
            Attribute::Flags(flags) => abi::attribute(abi::ATTR_FLAGS, flags, *mask),
            Attribute::Values(values) => abi::attribute(abi::ATTR_VALUES, values, *mask),
            Attribute::DebounceUs(us) => {
                abi::attribute(abi::ATTR_DEBOUNCE, abi::first_word(us), *mask)
            }
        };
    }
    Ok(raw)
}

/// A name of the kernel, up to its final zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default())
        .into_owned()
}

/// What the kernel said.
fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// What the kernel made for us.
///
/// # Safety
/// `fd` is an open descriptor that nothing else owns.
unsafe fn owned(fd: i32) -> OwnedFd {
    // SAFETY: as promised by the caller.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests;
