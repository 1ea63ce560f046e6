//! Character devices that this program serves: `/dev/cuse` (fs/fuse/cuse.c, fs/fuse/dev.c).
//!
//! A [`Cuse`] is one device. The kernel hands out the calls that programs make on it as
//! [`Request`]s and lets each caller wait until it is answered, however long that takes; calls of
//! several callers, and of several threads of one, are outstanding together. `lseek(2)` and
//! `flock(2)` the kernel does by itself; `mmap(2)`, `SIGIO` and a controlling terminal it does not
//! offer for such a device.
//!
//! This process must never open its own device: it would wait for itself.

mod reply;
mod request;
mod rounds;

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use self::request::{Body, Malformed, Request};
use self::request::{Header, INIT, Init};
pub use self::rounds::{Ioctl, Pause, Piece, Rounds};

/// Where the kernel makes devices; there once the module `cuse` is loaded.
pub const CHANNEL: &str = "/dev/cuse";
/// The most bytes that one request carries: 32 pages (`FUSE_DEFAULT_MAX_PAGES_PER_REQ`).
pub const MAX_TRANSFER: u32 = 32 * 4096;
/// The most pieces of memory in one round of an ioctl (`FUSE_IOCTL_MAX_IOV`).
pub const MAX_PIECES: usize = 256;
/// The longest name of a device, in bytes.
pub const MAX_NAME: usize = 128;

/// What the kernel takes for a smaller `max_read` or `max_write`.
const MIN_TRANSFER: u32 = 4096;
/// A message's header and the fixed part of any request, with room for extensions.
const OVERHEAD: u32 = 4096;
/// A channel whose device was ended is not readable, it has an error and nothing else.
const ASKED_OR_ENDED: Interest = Interest::READABLE.add(Interest::ERROR);
const MAJOR: u32 = 7;
/// The first version whose pieces of memory have one layout for all callers.
const MIN_MINOR: u32 = 16;
/// The version that this module was written for.
const MINOR: u32 = 38;

/// How a device shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its path below `/dev`: 1 to [`MAX_NAME`] characters, each path component of letters, digits,
    /// `.`, `_`, `-` and with a letter or digit at its start.
    pub name: String,
    /// The most bytes asked for in one [`Body::Read`], 4096 to [`MAX_TRANSFER`]; a value outside
    /// means the nearest one.
    pub max_read: u32,
    /// The most bytes in one [`Body::Write`], likewise.
    pub max_write: u32,
}

/// A device, there until this is dropped. Then, as when this process dies, its node is gone, calls
/// that wait fail with ECONNABORTED and later ones on files still open with ENOTCONN.
///
/// No method waits but [`Cuse::next`]. An answer to a request that is unknown or answered already
/// is dropped without an error. An answer that its request does not allow (too long, of another
/// kind) gives the caller EIO and is `InvalidInput` here.
#[derive(Debug)]
pub struct Cuse {
    channel: AsyncFd<File>,
    buffer: RefCell<Vec<u8>>,
}

impl Cuse {
    /// Makes the device. Must be called inside a runtime.
    ///
    /// # Errors
    /// `NotFound`: the kernel has no CUSE or it is not loaded. `PermissionDenied`: not for this
    /// user. `InvalidInput`: the name. `AlreadyExists`: there is such a node, or such a device.
    pub fn create(config: &Config) -> io::Result<Self> {
        if !is_name(&config.name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{:?} cannot name a device", config.name),
            ));
        }
        // The kernel would make the device without its node, and not say so.
        let node = Path::new("/dev").join(&config.name);
        if fs::symlink_metadata(&node).is_ok() {
            return Err(taken(&config.name));
        }
        let channel = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(CHANNEL)?;
        Self::over(channel.into(), config)
    }

    /// The device of a channel already open: a descriptor that does not block and passes whole
    /// messages. With one end of a `SOCK_SEQPACKET` pair, a test can play the kernel at the other;
    /// its `CUSE_INIT` must be there already.
    ///
    /// # Errors
    /// As [`Cuse::create`].
    pub fn over(channel: OwnedFd, config: &Config) -> io::Result<Self> {
        let transfer = |wanted: u32| wanted.clamp(MIN_TRANSFER, MAX_TRANSFER);
        let config = Config {
            name: config.name.clone(),
            max_read: transfer(config.max_read),
            max_write: transfer(config.max_write),
        };
        // An ioctl's input may be larger than any write.
        let length = usize::try_from(OVERHEAD + MAX_TRANSFER).map_err(io::Error::other)?;
        let channel = File::from(channel);
        // SAFETY: a File is the same descriptor until it is dropped, and the AsyncFd keeps it.
        let channel = unsafe { AsyncFd::register_with_interest(channel, ASKED_OR_ENDED) }?;
        let cuse = Self {
            channel,
            buffer: RefCell::new(vec![0; length]),
        };
        cuse.introduce(&config)?;
        Ok(cuse)
    }

    /// The next call of a program. Dropping the future loses none; to be awaited by one task only.
    ///
    /// # Errors
    /// The device is gone for good: by `ECONNABORTED` or `ENODEV` the kernel says that somebody
    /// ended it in `/sys/class/cuse/NAME/abort`.
    pub async fn next(&self) -> io::Result<Request> {
        loop {
            // The runtime's other tasks get their turn before more is read.
            tokio::task::coop::consume_budget().await;
            let mut ready = self.channel.ready(ASKED_OR_ENDED).await?;
            match self.receive() {
                Ok(Some(request)) => return Ok(request),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers [`Body::Open`]: the file's other requests carry `fh`.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn open(&self, id: u64, fh: u64) -> io::Result<()> {
        self.answer(id, &reply::open(fh), &[])
    }

    /// Answers [`Body::Read`] with at most as many bytes as it asks for; none is the end of file.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn data(&self, id: u64, bytes: &[u8]) -> io::Result<()> {
        self.answer(id, &[], bytes)
    }

    /// Answers [`Body::Write`]: how many of its bytes were taken.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn written(&self, id: u64, bytes: u32) -> io::Result<()> {
        self.answer(id, &reply::written(bytes), &[])
    }

    /// Answers [`Body::Ioctl`] for good: `ioctl(2)` returns `result`, a negative one as the errno.
    /// `output` has at most [`Ioctl::out_size`] bytes and is spread over the output pieces.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn ioctl(&self, id: u64, result: i32, output: &[u8]) -> io::Result<()> {
        self.answer(id, &reply::ioctl(result), output)
    }

    /// Answers [`Body::Ioctl`] with the wish to be asked again, as a new request, with what these
    /// pieces of the caller's memory hold. See [`Piece`] for who may choose them.
    ///
    /// # Errors
    /// See [`Cuse`]. `InvalidInput` without an answer: no byte is asked for, more than
    /// [`MAX_PIECES`] pieces, or more than [`MAX_TRANSFER`] bytes one way.
    pub fn retry(&self, id: u64, inputs: &[Piece], outputs: &[Piece]) -> io::Result<()> {
        let some = inputs.iter().chain(outputs).any(|piece| piece.len > 0);
        let answer = reply::retry(inputs, outputs);
        match answer {
            Some(answer) if some && rounds::fits(inputs, outputs) => self.answer(id, &answer, &[]),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Answers [`Body::Ioctl`] as its rounds say: again with more, EFAULT when the caller's memory
    /// changed between two rounds, ENOMEM when it is too much.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn pause(&self, id: u64, pause: &Pause) -> io::Result<()> {
        match pause {
            Pause::Again { inputs, outputs } => self.retry(id, inputs, outputs),
            Pause::Changed => self.error(id, Errno::EFAULT),
            Pause::TooMuch => self.error(id, Errno::ENOMEM),
        }
    }

    /// Answers [`Body::Poll`]: which of `POLL*` hold now.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn poll(&self, id: u64, revents: u32) -> io::Result<()> {
        self.answer(id, &reply::poll(revents), &[])
    }

    /// Answers any request with an error. ENOSYS becomes ENOTTY: for most requests it would say
    /// that no such one shall ever be sent again.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn error(&self, id: u64, errno: Errno) -> io::Result<()> {
        match errno {
            Errno::ENOSYS => self.fail(id, Errno::ENOTTY),
            // Its number is 0, which would be success.
            Errno::UnknownErrno => self.fail(id, Errno::EIO),
            errno => self.fail(id, errno),
        }
    }

    /// Wakes those who poll the open file that `kh` names; they ask again. Harmless when nobody
    /// does, or when it is closed.
    ///
    /// # Errors
    /// See [`Cuse`].
    pub fn notify_poll(&self, kh: u64) -> io::Result<()> {
        self.send(reply::notify_poll(kh), &[])
    }

    /// Answers the first request of a channel, by which the kernel makes the device.
    fn introduce(&self, config: &Config) -> io::Result<()> {
        let (id, init) = {
            let mut buffer = self.buffer.borrow_mut();
            let message = self.read(&mut buffer)?;
            let (header, body) = Header::parse(message).map_err(invalid_data)?;
            if header.opcode != INIT {
                return Err(invalid_data(format!("opcode {}", header.opcode)));
            }
            (header.id, Init::parse(body).map_err(invalid_data)?)
        };
        if init.major != MAJOR || init.minor < MIN_MINOR || init.flags & 1 == 0 {
            self.fail(id, Errno::EPROTO)?;
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the kernel's CUSE {}.{}", init.major, init.minor),
            ));
        }
        let version = (MAJOR, init.minor.min(MINOR));
        self.answer(id, &reply::init(version, config), &[])?;
        // The kernel takes the answer also when it makes no device of it, and then hangs up.
        let mut channel = [PollFd::new(self.channel.as_fd(), PollFlags::empty())];
        if poll(&mut channel, PollTimeout::ZERO)? > 0 {
            return Err(taken(&config.name));
        }
        Ok(())
    }

    /// One message; `None` when it needed nobody.
    fn receive(&self) -> io::Result<Option<Request>> {
        let mut buffer = self.buffer.borrow_mut();
        let message = match self.read(&mut buffer) {
            Ok(message) => message,
            // The caller was killed while its request was copied.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (header, body) = Header::parse(message).map_err(invalid_data)?;
        let id = header.id;
        match Body::parse(header.opcode, body) {
            Ok(Some(body)) => {
                if matches!(body, Body::Release { .. }) {
                    self.answer(id, &[], &[])?;
                }
                Ok(Some(Request {
                    id,
                    pid: header.pid,
                    uid: header.uid,
                    body,
                }))
            }
            Ok(None) => self.fail(id, Errno::ENOSYS).map(|()| None),
            Err(malformed) => {
                tracing::warn!(opcode = header.opcode, %malformed, "CUSE request");
                self.fail(id, Errno::EIO).map(|()| None)
            }
        }
    }

    fn read<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let mut channel = self.channel.get_ref();
        let length = loop {
            match channel.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                result => break result?,
            }
        };
        Ok(buffer.get(..length).unwrap_or_default())
    }

    fn answer(&self, id: u64, fixed: &[u8], payload: &[u8]) -> io::Result<()> {
        self.send(reply::answer(id, fixed, payload), payload)
    }

    fn fail(&self, id: u64, errno: Errno) -> io::Result<()> {
        self.send(reply::error(id, errno as i32), &[])
    }

    /// One message in one write, as the kernel wants it.
    fn send(&self, head: Option<Vec<u8>>, payload: &[u8]) -> io::Result<()> {
        let Some(head) = head else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parts = [IoSlice::new(&head), IoSlice::new(payload)];
        let mut channel = self.channel.get_ref();
        loop {
            match channel.write_vectored(&parts) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
                Err(error) => return Err(error),
                Ok(length) if length == head.len() + payload.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            }
        }
    }
}

/// The kernel makes directories of `/` and sysfs names with `!` in its place.
fn is_name(name: &str) -> bool {
    let is_component = |component: &str| {
        component.starts_with(|first: char| first.is_ascii_alphanumeric())
            && component
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    name.len() <= MAX_NAME && name.split('/').all(is_component)
}

fn taken(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("the kernel makes no device /dev/{name}: the name is in use"),
    )
}

fn invalid_data(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
