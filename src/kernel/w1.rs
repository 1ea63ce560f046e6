//! The w1 netlink connector: 1-Wire buses from user space (`drivers/w1/w1_netlink.c`,
//! Documentation/w1/w1-netlink.rst).
//!
//! The commands of one message run while the kernel holds the bus, so nothing else on this machine,
//! its own search included, comes between them. Only the first network namespace of a machine has the
//! connector, and there is no strong pull-up through it.

mod message;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, sendto};

use message::Pending;
pub use message::{Command, Done, MAX_MESSAGE};

/// The longest message of the kernel, with its header.
const BUFFER: usize = 2 * MAX_MESSAGE;

/// A connection to the kernel's 1-Wire buses.
#[derive(Debug)]
pub struct Connector {
    socket: OwnedFd,
    next: u32,
}

impl Connector {
    /// Connects.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` when the kernel has no connector.
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket(2) takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just made this descriptor for us, nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // No group: the kernel's events to everybody are not wanted.
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { socket, next: 1 })
    }

    /// Runs commands on the bus that the kernel calls `w1_bus_masterN`, one after the other with nothing
    /// of this machine in between, and returns what came of each. A failed one does not keep the next
    /// from being run. Searches alone are not part of that: the kernel lets go of the bus for them.
    ///
    /// # Errors
    /// `ENODEV` when there is no such bus, `EMSGSIZE` when the commands exceed [`MAX_MESSAGE`],
    /// `ETIMEDOUT` when the kernel is not done in time: what it does later is not told.
    /// `ECONNREFUSED` in a network namespace without the connector.
    pub fn run(
        &mut self,
        master: u32,
        commands: &[Command<'_>],
        timeout: Duration,
    ) -> Result<Vec<Done>, Errno> {
        let until = Instant::now() + timeout;
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        let request = message::encode(number, master, commands)?;
        let kernel = NetlinkAddr::new(0, 0);
        sendto(
            self.socket.as_raw_fd(),
            &request,
            &kernel,
            MsgFlags::empty(),
        )?;
        let mut pending = Pending::new(number, commands);
        let mut buffer = vec![0; BUFFER];
        while !pending.is_done() {
            let length = self.receive(&mut buffer, until)?;
            pending.take(buffer.get(..length).unwrap_or_default())?;
        }
        Ok(pending.into_done())
    }

    /// The next message of the kernel.
    fn receive(&self, buffer: &mut [u8], until: Instant) -> Result<usize, Errno> {
        loop {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), buffer) {
                // Programs can send to this socket too, with their own port as the sender.
                Ok((length, Some(sender))) if sender.pid() == 0 => return Ok(length),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.wait(until)?,
                Err(errno) => return Err(errno),
            }
        }
    }

    fn wait(&self, until: Instant) -> Result<(), Errno> {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that it is not asked again and again in the last millisecond.
        let left = i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, timeout) {
            Ok(0) => Err(Errno::ETIMEDOUT),
            Ok(_) | Err(Errno::EINTR) if until > Instant::now() => Ok(()),
            Ok(_) | Err(Errno::EINTR) => Err(Errno::ETIMEDOUT),
            Err(errno) => Err(errno),
        }
    }
}
