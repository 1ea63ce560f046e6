//! A character device that this program serves: the calls that programs make, and their answers.

pub mod make;

use core::future::Future;
use core::pin::Pin;
use std::io;

use nix::errno::Errno;

use crate::kernel::cuse::{Cuse, Pause, Request};

/// An answer to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The open file's calls carry this number.
    Opened(u64),
    /// What was read.
    Data(Vec<u8>),
    /// How many bytes were taken.
    Written(usize),
    /// An ioctl returns 0, with that output.
    Done(Vec<u8>),
    /// An ioctl returns that number, which is not negative, with that output.
    Returned(i32, Vec<u8>),
    /// An ioctl's argument is needed first.
    Pause(Pause),
    /// `POLL*`.
    Ready(u32),
    /// The call fails.
    Failed(Errno),
}

/// Where the calls come from: CUSE, or a test that plays the kernel.
pub trait Device {
    /// The next call. Dropping the future loses none.
    fn next(&self) -> Pin<Box<dyn Future<Output = io::Result<Request>> + '_>>;

    /// Answers a call.
    ///
    /// # Errors
    /// The device is gone, or the answer is not one that the call may have.
    fn answer(&self, id: u64, answer: &Answer) -> io::Result<()>;

    /// Wakes those who poll the open file that `kh` names.
    ///
    /// # Errors
    /// The device is gone.
    fn wake(&self, kh: u64) -> io::Result<()>;
}

impl Device for Cuse {
    fn next(&self) -> Pin<Box<dyn Future<Output = io::Result<Request>> + '_>> {
        Box::pin(Self::next(self))
    }

    fn answer(&self, id: u64, answer: &Answer) -> io::Result<()> {
        match answer {
            Answer::Opened(fh) => self.open(id, *fh),
            Answer::Data(bytes) => self.data(id, bytes),
            Answer::Written(count) => {
                self.written(id, u32::try_from(*count).map_err(io::Error::other)?)
            }
            Answer::Done(output) => self.ioctl(id, 0, output),
            Answer::Returned(number, output) => self.ioctl(id, *number, output),
            Answer::Pause(pause) => self.pause(id, pause),
            Answer::Ready(revents) => self.poll(id, *revents),
            Answer::Failed(errno) => self.error(id, *errno),
        }
    }

    fn wake(&self, kh: u64) -> io::Result<()> {
        self.notify_poll(kh)
    }
}
