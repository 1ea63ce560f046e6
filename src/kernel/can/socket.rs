//! A raw CAN socket that is read and written without waiting: `CAN_RAW`, with what the kernel tells
//! of a frame besides its bytes (kernel `net/can/raw.c`).

use core::task::{Context, Poll, ready};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use socketcan::{CanFdSocket, Socket as _, SocketOptions as _};
use tokio::io::unix::AsyncFd;

use super::frame::{FD_BYTES, Frame};

/// Most filters of one socket (`CAN_RAW_FILTER_MAX`).
pub const MAX_FILTERS: usize = 512;
/// Frames that one call reads.
const BATCH: usize = 32;
/// Bytes for the control messages of one frame: three `timespec` and a counter, with their heads.
const CONTROL: usize = 128;
/// Bytes of unsent frames: what about eight of them take, so that a socket waits for the bus before
/// an interface's queue, which has room for ten, is full and drops. The kernel doubles it.
const SEND_BUFFER: usize = 4096;
/// Bytes of frames that nobody has read yet, some ten thousand of them.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A driver's own time is taken while it differs by no more from the kernel's: some drivers count
/// from when they were started.
const SAME_CLOCK_US: u64 = 1_000_000;

/// Which frames a socket is given: those with `id & mask == filter.id & mask`.
pub type Filter = [u32; 2];

/// What a socket is given besides other programs' data and remote frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Frames that were sent through it, once they were on the bus.
    pub own: bool,
    /// Error frames.
    pub errors: bool,
}

/// A frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The frame.
    pub frame: Frame,
    /// When it was received, in microseconds since 1970: the driver's time where that is kept on
    /// this clock, else the kernel's.
    pub time_us: u64,
    /// It was sent through this socket, and that is done (`MSG_CONFIRM`).
    pub own: bool,
    /// A program of this machine sent it (`MSG_DONTROUTE`).
    pub local: bool,
    /// Frames that the socket had no room for so far, modulo 2^32 (`SO_RXQ_OVFL`).
    pub overflow: u32,
}

/// A raw socket of one interface.
#[derive(Debug)]
pub struct CanSocket {
    socket: AsyncFd<OwnedFd>,
}

impl CanSocket {
    /// Opens a socket of the interface with that index, with all frames let in. Must be called
    /// inside a runtime with I/O.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` without CAN in the kernel, `ENODEV` without the interface.
    pub fn open(index: u32, options: Options) -> io::Result<Self> {
        let raw = CanFdSocket::open_iface(index)?;
        raw.set_nonblocking(true)?;
        raw.set_recv_own_msgs(options.own)?;
        if options.errors {
            raw.set_error_filter_accept_all()?;
        }
        raw.set_timestamping(
            libc::SOF_TIMESTAMPING_RX_SOFTWARE
                | libc::SOF_TIMESTAMPING_SOFTWARE
                | libc::SOF_TIMESTAMPING_RX_HARDWARE
                | libc::SOF_TIMESTAMPING_RAW_HARDWARE,
        )?;
        setsockopt(&raw, sockopt::RxqOvfl, &1)?;
        setsockopt(&raw, sockopt::SndBuf, &SEND_BUFFER)?;
        // More than the system's limit needs the right to administer networks.
        if setsockopt(&raw, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            setsockopt(&raw, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        let owned = raw.as_fd().try_clone_to_owned()?;
        Ok(Self {
            // SAFETY: an OwnedFd is the same descriptor, open, until it is dropped.
            socket: unsafe { AsyncFd::register(owned) }?,
        })
    }

    /// Lets in only what one of the filters lets in; error frames are none of their business.
    ///
    /// # Errors
    /// `EINVAL` above [`MAX_FILTERS`].
    pub fn set_filters(&self, filters: &[Filter]) -> io::Result<()> {
        let filters: Vec<_> = filters.iter().map(|[id, mask]| (*id, *mask)).collect();
        SetUp(self.socket.as_fd()).set_filters(&filters)
    }

    /// Appends frames that have arrived, at least one.
    ///
    /// # Errors
    /// `ENETDOWN` once when the interface goes down, `ENODEV` when it is gone.
    pub fn poll_receive(
        &self,
        context: &mut Context<'_>,
        frames: &mut Vec<Received>,
    ) -> Poll<Result<(), Errno>> {
        loop {
            let mut ready = match ready!(self.socket.poll_read_ready(context)) {
                Ok(ready) => ready,
                Err(error) => return Poll::Ready(Err(errno_of(&error))),
            };
            match receive(self.socket.as_fd(), frames) {
                // Those were neither of the known forms.
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Poll::Ready(Ok(())),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Poll::Ready(Err(errno)),
            }
        }
    }

    /// Hands a frame to the interface's queue.
    ///
    /// # Errors
    /// `ENOBUFS` when the interface's queue is full, of which nobody tells when it no longer is;
    /// `ENETDOWN`, `ENODEV`/`ENXIO`, `EINVAL` for FD on a classic interface.
    pub fn poll_send(&self, context: &mut Context<'_>, frame: &Frame) -> Poll<Result<(), Errno>> {
        let (raw, bytes) = frame.to_raw();
        let raw = raw.get(..bytes).unwrap_or_default();
        loop {
            let mut ready = match ready!(self.socket.poll_write_ready(context)) {
                Ok(ready) => ready,
                Err(error) => return Poll::Ready(Err(errno_of(&error))),
            };
            match send(self.socket.as_raw_fd(), raw, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(errno) => return Poll::Ready(Err(errno)),
            }
        }
    }
}

/// Whether this kernel has raw CAN sockets, which it loads if it may.
///
/// # Errors
/// `EAFNOSUPPORT` or `EPROTONOSUPPORT` when not.
pub fn is_supported() -> io::Result<()> {
    socket2::Socket::new(
        socket2::Domain::from(libc::AF_CAN),
        socket2::Type::RAW,
        Some(socket2::Protocol::from(libc::CAN_RAW)),
    )
    .map(drop)
}

/// The options of `socketcan` on a borrowed socket.
struct SetUp<'a>(BorrowedFd<'a>);

impl AsRawFd for SetUp<'_> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl socketcan::SocketOptions for SetUp<'_> {}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Room for the control messages of one frame, aligned as their heads want it.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// One call of recvmmsg(2); how many frames were appended.
fn receive(socket: BorrowedFd<'_>, frames: &mut Vec<Received>) -> Result<usize, Errno> {
    let mut raw = [[0u8; FD_BYTES]; BATCH];
    let mut control = [Control([0; CONTROL]); BATCH];
    let mut vectors = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: FD_BYTES,
    }; BATCH];
    // SAFETY: mmsghdr is integers and pointers; all zeros is a valid one that points nowhere.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
    for (((message, vector), raw), control) in messages
        .iter_mut()
        .zip(&mut vectors)
        .zip(&mut raw)
        .zip(&mut control)
    {
        vector.iov_base = raw.as_mut_ptr().cast();
        message.msg_hdr.msg_iov = vector;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = CONTROL;
    }
    // SAFETY: `messages` has 32 heads, each with one vector of 72 bytes and 128 bytes of control, all
    // of which outlive the call; the kernel writes within them.
    let count = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            32,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).map_err(|_| Errno::last())?;
    let before = frames.len();
    for (message, raw) in messages.iter().zip(&raw).take(count) {
        let bytes = raw.get(..usize::try_from(message.msg_len).unwrap_or(0));
        if let Some(frame) = bytes.and_then(Frame::from_raw) {
            frames.push(received(frame, &message.msg_hdr));
        }
    }
    Ok(frames.len() - before)
}

fn received(frame: Frame, head: &libc::msghdr) -> Received {
    let (mut time_us, mut overflow) = (0, 0);
    // SAFETY: `head` was filled by the kernel, and its control buffer is alive.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(head) };
    // SAFETY: `next` is null or points to a whole head inside that buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        match (message.cmsg_level, message.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                // SAFETY: the kernel stores three timespecs in such a message.
                let times = unsafe { data::<[libc::timespec; 3]>(message) };
                time_us = time_of(times);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                // SAFETY: the kernel stores one 32-bit counter in such a message.
                overflow = unsafe { data::<u32>(message) };
            }
            _ => {}
        }
        // SAFETY: `message` is a head of `head`'s control buffer.
        next = unsafe { libc::CMSG_NXTHDR(head, message) };
    }
    Received {
        frame,
        time_us,
        own: head.msg_flags & libc::MSG_CONFIRM != 0,
        local: head.msg_flags & libc::MSG_DONTROUTE != 0,
        overflow,
    }
}

/// # Safety
/// `message` is a whole control message that carries a `T`.
unsafe fn data<T: Copy>(message: &libc::cmsghdr) -> T {
    // SAFETY: by the caller's promise the data that follows the head is a T, perhaps unaligned.
    unsafe { ptr::read_unaligned(libc::CMSG_DATA(message).cast::<T>()) }
}

/// The kernel's time is the first, the driver's the third.
fn time_of([kernel, _, driver]: [libc::timespec; 3]) -> u64 {
    let (kernel, driver) = (microseconds(kernel), microseconds(driver));
    if kernel == 0 || (driver != 0 && kernel.abs_diff(driver) <= SAME_CLOCK_US) {
        driver
    } else {
        kernel
    }
}

fn microseconds(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000)
        .saturating_add(nanoseconds / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanoseconds: i64) -> libc::timespec {
        libc::timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        }
    }

    #[test]
    fn the_drivers_time_counts_where_it_is_on_the_same_clock() {
        let none = at(0, 0);
        let kernel = at(1_700_000_000, 500_000);
        let driver = at(1_700_000_000, 320_000);
        assert_eq!(time_of([kernel, none, none]), 1_700_000_000_000_500);
        assert_eq!(time_of([kernel, none, driver]), 1_700_000_000_000_320);
        assert_eq!(time_of([kernel, none, at(12, 0)]), 1_700_000_000_000_500);
        assert_eq!(time_of([none, none, at(12, 0)]), 12_000_000);
    }
}
