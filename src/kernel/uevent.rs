//! What the kernel tells about devices that come and go (`lib/kobject_uevent.c`).
//!
//! These are the kernel's own messages, not the ones that udev passes on: they need no udev and
//! reach every network namespace, containers included.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The kernel's own messages; group 2 has udev's.
const KERNEL_GROUP: u32 = 1;
/// The longest message (`UEVENT_BUFFER_SIZE` and its header).
const MESSAGE: usize = 4096;

/// The devices of some subsystems that appear, disappear, or change hands between drivers.
pub struct DeviceEvents {
    socket: AsyncFd<OwnedFd>,
    subsystems: Vec<&'static str>,
}

impl DeviceEvents {
    /// Listens from now on to the subsystems of these names (`usb`, `net`, `tty`). Must be called
    /// inside a runtime.
    ///
    /// # Errors
    /// The kernel has no such messages, or no descriptor is free.
    pub fn listen(subsystems: Vec<&'static str>) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        // SAFETY: an OwnedFd is the same descriptor until it is dropped, and the AsyncFd keeps it.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket, subsystems })
    }

    /// Waits until something changed since the last call; many changes at once are one. Dropping
    /// the future loses none.
    ///
    /// # Errors
    /// The socket failed for good.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let changed = self.has_changed()?;
            ready.clear_ready();
            if changed {
                return Ok(());
            }
        }
    }

    /// Whether something changed since the last call of this or [`DeviceEvents::changed`].
    ///
    /// # Errors
    /// The socket failed for good.
    pub fn has_changed(&self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match receive(&self.socket, &self.subsystems) {
                Ok(concerns) => changed |= concerns,
                Err(Errno::EAGAIN) => return Ok(changed),
                // Messages were lost, nobody knows which.
                Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Takes one message; whether it is the kernel's and about one of the subsystems.
fn receive(socket: &impl AsFd, subsystems: &[&str]) -> Result<bool, Errno> {
    let mut message = [0; MESSAGE];
    let (length, sender) = recvfrom::<NetlinkAddr>(socket.as_fd().as_raw_fd(), &mut message)?;
    // Programs can send to this group too, with their own port as the sender.
    let from_kernel = sender.is_some_and(|sender| sender.pid() == 0);
    let message = message.get(..length).unwrap_or_default();
    Ok(from_kernel && is_about(subsystems, message))
}

/// `add@/devices/…`, then `KEY=value` lines, all ended by NUL.
fn is_about(subsystems: &[&str], message: &[u8]) -> bool {
    message
        .split(|byte| *byte == 0)
        .filter_map(|line| line.strip_prefix(b"SUBSYSTEM="))
        .any(|named| subsystems.iter().any(|wanted| wanted.as_bytes() == named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_subsystem_alone() {
        let wanted = ["usb", "net"];
        let about = |text: &str| is_about(&wanted, text.replace('|', "\0").as_bytes());
        assert!(about(
            "add@/devices/pci0/usb1/1-4|ACTION=add|SUBSYSTEM=usb|DEVTYPE=usb_device|"
        ));
        assert!(!about("add@/devices/usb|ACTION=add|SUBSYSTEM=usbmisc|"));
        assert!(about("add@/devices/virtual/net/can0|SUBSYSTEM=net|"));
        assert!(!about("add@/devices/virtual/tty/tty1|SUBSYSTEM=tty|"));
        assert!(!about("libudev|"));
        assert!(!about(""));
    }
}
