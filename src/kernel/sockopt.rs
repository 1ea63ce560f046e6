//! What a TCP socket tells about its send queue, and the bound on it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::SockRef;

/// `SIOCOUTQNSD`: bytes in the send queue that were never sent (kernel `linux/sockios.h`).
const SIOCOUTQNSD: libc::c_ulong = 0x894B;
/// Where `tcpi_delivery_rate` stands in `struct tcp_info` (kernel `linux/tcp.h`, since 4.9).
const DELIVERY_RATE: std::ops::Range<usize> = 160..168;

/// Bounds the bytes that the kernel holds unsent: a write waits while there are more
/// (`TCP_NOTSENT_LOWAT`). One segment of up to 64 KiB may stand above the bound.
///
/// # Errors
/// What setsockopt(2) says.
pub fn set_notsent_lowat(socket: &impl AsRawFd, bytes: u32) -> io::Result<()> {
    let fd = borrow(socket);
    SockRef::from(&fd).set_tcp_notsent_lowat(bytes)
}

/// Bytes written to the socket and never sent yet.
///
/// # Errors
/// What ioctl(2) says.
pub fn not_sent(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQNSD writes one int to the address it is given, which is that of `bytes`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCOUTQNSD, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// The kernel's newest estimate of how fast the peer takes our bytes, in bytes per second; `None`
/// before there is one. While the application sends less than the path could carry, the estimate
/// is a lower bound.
///
/// # Errors
/// What getsockopt(2) says.
pub fn delivery_rate(socket: &impl AsRawFd) -> io::Result<Option<u64>> {
    let mut info = [0u8; 256];
    let mut length: libc::socklen_t = 256;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has that many, and stores
    // the number in `length`; `tcp_info` is plain integers, so any bytes are a valid result.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let known = usize::try_from(length).unwrap_or(0);
    let rate = info
        .get(..known)
        .and_then(|info| info.get(DELIVERY_RATE))
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_ne_bytes);
    Ok(rate.filter(|rate| *rate > 0))
}

fn borrow(socket: &impl AsRawFd) -> BorrowedFd<'_> {
    // SAFETY: the borrow lives no longer than the reference to the object that owns the
    // descriptor, and that object keeps it open.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_that_a_full_receiver_keeps_back_are_counted_as_not_sent() {
        let (mut sender, mut receiver) = connected();
        assert_eq!(not_sent(&sender).unwrap(), 0);
        sender.set_nonblocking(true).unwrap();
        let (block, mut sent) = (vec![0; 65_536], 0);
        while let Ok(count) = sender.write(&block) {
            sent += count;
        }
        assert!(not_sent(&sender).unwrap() > 0);
        let mut received = vec![0; sent];
        receiver.read_exact(&mut received).unwrap();
        assert_eq!(not_sent(&sender).unwrap(), 0);
        assert!(delivery_rate(&sender).unwrap().is_some());
    }

    #[test]
    fn a_low_bound_makes_the_kernel_take_less() {
        let filled = |bound: u32| {
            let (mut sender, _receiver) = connected();
            set_notsent_lowat(&sender, bound).unwrap();
            sender.set_nonblocking(true).unwrap();
            while sender.write(&[0; 16_384]).is_ok() {}
            not_sent(&sender).unwrap()
        };
        assert!(filled(16_384) <= 16_384 + 65_536);
        assert!(filled(16_384) < filled(1 << 20));
    }

    #[test]
    fn a_file_is_no_socket() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(not_sent(&file).is_err());
        assert!(delivery_rate(&file).is_err());
        assert!(set_notsent_lowat(&file, 1).is_err());
    }
}
