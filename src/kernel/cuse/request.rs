//! What the kernel asks (`include/uapi/linux/fuse.h`): bytes to typed requests.

use super::Ioctl;

const HEADER: usize = 40;
/// `total_extlen` counts these.
const EXTENSION_UNIT: usize = 8;

const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const INTERRUPT: u32 = 36;
const IOCTL: u32 = 39;
const POLL: u32 = 40;
/// Asks who serves the channel; the first request of every channel.
pub(super) const INIT: u32 = 4096;

const IOCTL_COMPAT: u32 = 1;
const POLL_SCHEDULE_NOTIFY: u32 = 1;
const O_NONBLOCK: u32 = libc::O_NONBLOCK.cast_unsigned();

/// One call of a program on the device. Everything but [`Body::Release`] and [`Body::Interrupt`]
/// needs exactly one answer, in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Names the call in the answer; never used again.
    pub id: u64,
    /// The calling thread in this process's PID namespace; 0 when it is in another one.
    pub pid: u32,
    /// The caller's file system user id.
    pub uid: u32,
    /// What is asked.
    pub body: Body,
}

/// What is asked of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// `open(2)`; answer [`open`](super::Cuse::open).
    Open {
        /// `O_*`, without `O_CREAT`, `O_EXCL`, `O_NOCTTY` and `O_TRUNC`.
        flags: u32,
    },
    /// The last descriptor of an open file is closed and none of its calls is outstanding. It is
    /// answered already, so that `close(2)` never waits.
    Release {
        /// As given to [`open`](super::Cuse::open).
        fh: u64,
    },
    /// `read(2)`; answer [`data`](super::Cuse::data).
    Read {
        /// As given to [`open`](super::Cuse::open).
        fh: u64,
        /// How many bytes may be answered. A call for more than `max_read` bytes, or for more than
        /// fit into 32 pages, comes in parts: the kernel asks for the next one when a part was
        /// filled to the last byte, and then waits for it although there is something to return.
        /// Who answers less than was asked for ends the call.
        size: u32,
        /// The caller does not want to wait: EAGAIN.
        nonblock: bool,
    },
    /// `write(2)`; answer [`written`](super::Cuse::written). A long call comes in parts of at most
    /// `max_write` bytes, the next one when a part was taken whole.
    Write {
        /// As given to [`open`](super::Cuse::open).
        fh: u64,
        /// At most `max_write` bytes.
        data: Vec<u8>,
        /// The caller does not want to wait: EAGAIN.
        nonblock: bool,
    },
    /// One round of `ioctl(2)`; answer [`ioctl`](super::Cuse::ioctl) or
    /// [`pause`](super::Cuse::pause).
    Ioctl(Ioctl),
    /// `poll(2)` and its kin; answer [`poll`](super::Cuse::poll), at once: the caller does its
    /// waiting elsewhere.
    Poll {
        /// As given to [`open`](super::Cuse::open).
        fh: u64,
        /// Names the open file in [`notify_poll`](super::Cuse::notify_poll).
        kh: u64,
        /// `POLL*` of interest.
        events: u32,
        /// Somebody waits: call [`notify_poll`](super::Cuse::notify_poll) once when the answer
        /// would be another one. Without it nobody waits now, but an earlier wish still holds.
        schedule_notify: bool,
    },
    /// A signal came to a caller that waits for the answer to request `id`, which it goes on
    /// waiting for: answer *that one* now, with what there is or with EINTR. Needs no answer
    /// itself. The kernel hands out the request before its interrupt; when it is answered already,
    /// there is nothing to do.
    Interrupt {
        /// The request that shall end.
        id: u64,
    },
}

/// Bytes from the kernel that are not what its headers promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("a request of {have} bytes where {need} are needed")]
    Short {
        /// How many there are.
        have: usize,
        /// How many there should be.
        need: usize,
    },
    /// A length field does not match what was read.
    #[error("a request says {said} bytes and has {have}")]
    Length {
        /// What the field says.
        said: usize,
        /// What there is.
        have: usize,
    },
}

/// `struct fuse_in_header`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) opcode: u32,
    pub(super) uid: u32,
    pub(super) pid: u32,
}

impl Header {
    /// The header of a message and what belongs to its opcode.
    pub(super) fn parse(message: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut fields = Fields(message);
        let said = size(fields.u32()?);
        if said != message.len() {
            let have = message.len();
            return Err(Malformed::Length { said, have });
        }
        let opcode = fields.u32()?;
        let id = fields.u64()?;
        let _nodeid = fields.u64()?;
        let uid = fields.u32()?;
        let _gid = fields.u32()?;
        let pid = fields.u32()?;
        let extensions = usize::from(fields.u16()?) * EXTENSION_UNIT;
        let _padding = fields.u16()?;
        let Some(body) = fields.0.len().checked_sub(extensions) else {
            return Err(Malformed::Short {
                have: message.len(),
                need: HEADER + extensions,
            });
        };
        let header = Self {
            id,
            opcode,
            uid,
            pid,
        };
        Ok((header, fields.0.get(..body).unwrap_or_default()))
    }
}

impl Body {
    /// What follows the header; `None` when nobody serves such a request.
    pub(super) fn parse(opcode: u32, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = Fields(body);
        let body = match opcode {
            OPEN => Self::Open {
                flags: fields.u32()?,
            },
            RELEASE => Self::Release { fh: fields.u64()? },
            READ => fields.read()?,
            WRITE => fields.write()?,
            IOCTL => fields.ioctl()?,
            POLL => fields.poll()?,
            INTERRUPT => Self::Interrupt { id: fields.u64()? },
            _ => return Ok(None),
        };
        Ok(Some(body))
    }
}

/// `struct cuse_init_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Init {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) flags: u32,
}

impl Init {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        let (major, minor) = (fields.u32()?, fields.u32()?);
        let _unused = fields.u32()?;
        let flags = fields.u32()?;
        Ok(Self {
            major,
            minor,
            flags,
        })
    }
}

/// The fields not read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((field, rest)) = self.0.split_first_chunk() else {
            return Err(Malformed::Short {
                have: self.0.len(),
                need: N,
            });
        };
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    /// All that is left, which has to be `said` bytes.
    fn rest(&mut self, said: u32) -> Result<Vec<u8>, Malformed> {
        let (said, have) = (size(said), self.0.len());
        if said != have {
            return Err(Malformed::Length { said, have });
        }
        Ok(self.0.to_vec())
    }

    /// `struct fuse_read_in`.
    fn read(&mut self) -> Result<Body, Malformed> {
        let (fh, _offset) = (self.u64()?, self.u64()?);
        let (size, _read_flags) = (self.u32()?, self.u32()?);
        let _lock_owner = self.u64()?;
        let nonblock = self.u32()? & O_NONBLOCK != 0;
        Ok(Body::Read { fh, size, nonblock })
    }

    /// `struct fuse_write_in` and the data.
    fn write(&mut self) -> Result<Body, Malformed> {
        let (fh, _offset) = (self.u64()?, self.u64()?);
        let (size, _write_flags) = (self.u32()?, self.u32()?);
        let _lock_owner = self.u64()?;
        let nonblock = self.u32()? & O_NONBLOCK != 0;
        let _padding = self.u32()?;
        let data = self.rest(size)?;
        Ok(Body::Write { fh, data, nonblock })
    }

    /// `struct fuse_ioctl_in` and the data.
    fn ioctl(&mut self) -> Result<Body, Malformed> {
        let fh = self.u64()?;
        let (flags, cmd) = (self.u32()?, self.u32()?);
        let arg = self.u64()?;
        let (in_size, out_size) = (self.u32()?, self.u32()?);
        let input = self.rest(in_size)?;
        Ok(Body::Ioctl(Ioctl {
            fh,
            cmd,
            arg,
            input,
            out_size,
            compat: flags & IOCTL_COMPAT != 0,
        }))
    }

    /// `struct fuse_poll_in`.
    fn poll(&mut self) -> Result<Body, Malformed> {
        let (fh, kh) = (self.u64()?, self.u64()?);
        let (flags, events) = (self.u32()?, self.u32()?);
        Ok(Body::Poll {
            fh,
            kh,
            events,
            schedule_notify: flags & POLL_SCHEDULE_NOTIFY != 0,
        })
    }
}

/// A length of the kernel's.
fn size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
