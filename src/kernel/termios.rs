//! Terminals that are serial ports: their settings, modem lines, counters (`drivers/tty`).
//!
//! The settings are the kernel's `termios2`, not the `termios` of the C library, which knows no
//! speeds but its own.

mod abi;
mod events;
mod wait;

use core::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;

pub use abi::{Counters, Rs485, Termios};
pub use events::Events;
pub use wait::ChangeWait;

/// `TIOCM_DTR`: an output.
pub const DTR: u32 = libc::TIOCM_DTR.cast_unsigned();
/// `TIOCM_RTS`: an output.
pub const RTS: u32 = libc::TIOCM_RTS.cast_unsigned();
/// `TIOCM_CTS`: an input.
pub const CTS: u32 = libc::TIOCM_CTS.cast_unsigned();
/// `TIOCM_DSR`: an input.
pub const DSR: u32 = libc::TIOCM_DSR.cast_unsigned();
/// `TIOCM_RNG`: an input.
pub const RNG: u32 = libc::TIOCM_RNG.cast_unsigned();
/// `TIOCM_CAR`: an input.
pub const CAR: u32 = libc::TIOCM_CAR.cast_unsigned();

/// Which queue is thrown away: `TCFLSH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// What was received and not read.
    Input,
    /// What was written and not transmitted.
    Output,
    /// Both.
    Both,
}

/// An open terminal. Clones share the file descriptor, which is closed with the last one.
///
/// It never becomes the controlling terminal, and reads and writes never wait.
#[derive(Clone, Debug)]
pub struct Tty {
    file: Arc<File>,
}

impl Tty {
    /// Opens a terminal. The drivers of serial ports raise DTR and RTS. May block.
    ///
    /// # Errors
    /// That of open(2): `ENOENT`, `EACCES`; `EBUSY` while somebody has it exclusively; `EIO` for a
    /// port that the driver knows and the machine has not; `ENOTTY` for what is no terminal.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(path)?;
        let tty = Self {
            file: Arc::new(file),
        };
        tty.settings()?;
        Ok(tty)
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is there. After a hang-up 0 is read, or `EIO` comes.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        (&*self.file).read(buffer).map_err(|error| errno(&error))
    }

    /// Writes what fits.
    ///
    /// # Errors
    /// `EAGAIN` when nothing fits, `EIO` after a hang-up.
    pub fn write(&self, data: &[u8]) -> Result<usize, Errno> {
        (&*self.file).write(data).map_err(|error| errno(&error))
    }

    /// The settings: `TCGETS2`. Of a terminal that was not hung up this never fails.
    ///
    /// # Errors
    /// `EIO` after a hang-up.
    pub fn settings(&self) -> Result<Termios, Errno> {
        let mut termios = Termios::default();
        // SAFETY: the kernel writes one `termios2`.
        unsafe { abi::tcgets2(self.as_raw_fd(), &raw mut termios) }?;
        Ok(termios)
    }

    /// Changes the settings at once: `TCSETS2`. What the driver cannot do it leaves out without a
    /// word; [`Tty::settings`] tells what came of it. May block.
    ///
    /// # Errors
    /// `EIO` after a hang-up.
    pub fn set_settings(&self, termios: &Termios) -> Result<(), Errno> {
        // SAFETY: the kernel reads one `termios2`.
        unsafe { abi::tcsets2(self.as_raw_fd(), termios) }.map(drop)
    }

    /// The modem lines that are on: `TIOCMGET`. May block.
    ///
    /// # Errors
    /// `ENOTTY` or `EINVAL` when it has none, `EIO` after a hang-up.
    pub fn lines(&self) -> Result<u32, Errno> {
        let mut lines: c_int = 0;
        // SAFETY: the kernel writes one int.
        unsafe { abi::tiocmget(self.as_raw_fd(), &raw mut lines) }?;
        Ok(lines.cast_unsigned())
    }

    /// Switches every output that it has on or off, in one call of the driver: `TIOCMSET`. May
    /// block.
    ///
    /// # Errors
    /// As [`Tty::lines`].
    pub fn set_lines(&self, lines: u32) -> Result<(), Errno> {
        let lines = lines.cast_signed();
        // SAFETY: the kernel reads one int.
        unsafe { abi::tiocmset(self.as_raw_fd(), &raw const lines) }.map(drop)
    }

    /// Switches these outputs on and leaves the others alone: `TIOCMBIS`. May block.
    ///
    /// # Errors
    /// As [`Tty::lines`].
    pub fn raise(&self, lines: u32) -> Result<(), Errno> {
        let lines = lines.cast_signed();
        // SAFETY: the kernel reads one int.
        unsafe { abi::tiocmbis(self.as_raw_fd(), &raw const lines) }.map(drop)
    }

    /// Switches these outputs off and leaves the others alone: `TIOCMBIC`. May block.
    ///
    /// # Errors
    /// As [`Tty::lines`].
    pub fn lower(&self, lines: u32) -> Result<(), Errno> {
        let lines = lines.cast_signed();
        // SAFETY: the kernel reads one int.
        unsafe { abi::tiocmbic(self.as_raw_fd(), &raw const lines) }.map(drop)
    }

    /// Waits until one of these inputs changes, or until `wait` is interrupted: `TIOCMIWAIT`. Blocks
    /// for any time.
    ///
    /// # Errors
    /// `EINTR` when it was interrupted, `ENOTTY` when the driver cannot tell.
    pub fn wait_change(&self, lines: u32, wait: &ChangeWait) -> Result<(), Errno> {
        wait.during(|| {
            // SAFETY: the argument is no pointer but a mask.
            unsafe { abi::tiocmiwait(self.as_raw_fd(), lines.cast_signed()) }.map(drop)
        })
    }

    /// How often inputs changed and what went wrong, since the driver counts: `TIOCGICOUNT`.
    ///
    /// # Errors
    /// `ENOTTY` or `EINVAL` when the driver does not count.
    pub fn counters(&self) -> Result<Counters, Errno> {
        let mut counters = Counters::default();
        // SAFETY: the kernel writes one `serial_icounter_struct`.
        unsafe { abi::tiocgicount(self.as_raw_fd(), &raw mut counters) }?;
        Ok(counters)
    }

    /// Begins or ends a break: `TIOCSBRK`, `TIOCCBRK`. May block, until what was written before is
    /// transmitted.
    ///
    /// # Errors
    /// `ENOTTY` when the driver cannot.
    pub fn set_break(&self, on: bool) -> Result<(), Errno> {
        // SAFETY: no argument.
        let done = unsafe {
            if on {
                abi::tiocsbrk(self.as_raw_fd())
            } else {
                abi::tioccbrk(self.as_raw_fd())
            }
        };
        done.map(drop)
    }

    /// Waits until what was written is transmitted: `TCSBRK` with 1. Blocks for any time; throwing
    /// the output away ends it.
    ///
    /// # Errors
    /// `EIO` after a hang-up.
    pub fn drain(&self) -> Result<(), Errno> {
        // SAFETY: the argument is no pointer.
        unsafe { abi::tcsbrk(self.as_raw_fd(), 1) }.map(drop)
    }

    /// Throws a queue away.
    ///
    /// # Errors
    /// `EIO` after a hang-up.
    pub fn flush(&self, queue: Queue) -> Result<(), Errno> {
        let which = match queue {
            Queue::Input => libc::TCIFLUSH,
            Queue::Output => libc::TCOFLUSH,
            Queue::Both => libc::TCIOFLUSH,
        };
        // SAFETY: the argument is no pointer.
        unsafe { abi::tcflsh(self.as_raw_fd(), which) }.map(drop)
    }

    /// Bytes that were written and not transmitted, without those in the hardware itself:
    /// `TIOCOUTQ`.
    ///
    /// # Errors
    /// `EIO` after a hang-up.
    pub fn unsent(&self) -> Result<u32, Errno> {
        let mut bytes: c_int = 0;
        // SAFETY: the kernel writes one int.
        unsafe { abi::tiocoutq(self.as_raw_fd(), &raw mut bytes) }?;
        Ok(u32::try_from(bytes).unwrap_or(0))
    }

    /// How it drives RS-485: `TIOCGRS485`.
    ///
    /// # Errors
    /// `ENOTTY` when the driver cannot.
    pub fn rs485(&self) -> Result<Rs485, Errno> {
        let mut rs485 = Rs485::default();
        // SAFETY: the kernel writes one `serial_rs485`.
        unsafe { abi::tiocgrs485(self.as_raw_fd(), &raw mut rs485) }?;
        Ok(rs485)
    }

    /// Changes how it drives RS-485: `TIOCSRS485`. May block.
    ///
    /// # Errors
    /// `ENOTTY` when the driver cannot, `EINVAL` when not so.
    pub fn set_rs485(&self, rs485: Rs485) -> Result<(), Errno> {
        let mut rs485 = rs485;
        // SAFETY: the kernel reads one `serial_rs485` and writes one back.
        unsafe { abi::tiocsrs485(self.as_raw_fd(), &raw mut rs485) }.map(drop)
    }

    /// Keeps others from opening it while this is on, unless they are root: `TIOCEXCL`, `TIOCNXCL`.
    ///
    /// # Errors
    /// `EIO` after a hang-up.
    pub fn set_exclusive(&self, on: bool) -> Result<(), Errno> {
        // SAFETY: no argument.
        let done = unsafe {
            if on {
                abi::tiocexcl(self.as_raw_fd())
            } else {
                abi::tiocnxcl(self.as_raw_fd())
            }
        };
        done.map(drop)
    }
}

impl AsRawFd for Tty {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Termios {
    /// Settings for bytes as they are: nothing is translated, echoed or waited for. The modem lines
    /// do not keep a reader from reading; the last close drops them.
    #[must_use]
    pub fn raw(speed: u32) -> Self {
        let mut termios = Self {
            c_cflag: libc::BOTHER | libc::CREAD | libc::CLOCAL | libc::HUPCL | libc::CS8,
            c_ispeed: speed,
            c_ospeed: speed,
            ..Self::default()
        };
        let control = [(libc::VMIN, 1), (libc::VSTART, 0x11), (libc::VSTOP, 0x13)];
        for (index, character) in control {
            if let Some(slot) = termios.c_cc.get_mut(index) {
                *slot = character;
            }
        }
        termios
    }
}

#[cfg(test)]
mod tests;
