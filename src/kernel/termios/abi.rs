//! Structures and ioctl numbers of `include/uapi/asm-generic/{ioctls,termbits}.h` and
//! `include/uapi/linux/serial.h`.

use core::ffi::c_int;
use core::mem::offset_of;

/// `NCCS` of `termios2`.
const CONTROL_CHARACTERS: usize = 19;

/// `struct termios2`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Termios {
    /// What happens to what is received.
    pub c_iflag: u32,
    /// What happens to what is written.
    pub c_oflag: u32,
    /// The hardware's settings.
    pub c_cflag: u32,
    /// Local modes.
    pub c_lflag: u32,
    /// The line discipline.
    pub c_line: u8,
    /// Control characters.
    pub c_cc: [u8; CONTROL_CHARACTERS],
    /// Input speed in baud.
    pub c_ispeed: u32,
    /// Output speed in baud.
    pub c_ospeed: u32,
}

/// `struct serial_icounter_struct`; every count wraps around.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the lines and of the errors")]
pub struct Counters {
    pub cts: u32,
    pub dsr: u32,
    pub rng: u32,
    pub dcd: u32,
    pub rx: u32,
    pub tx: u32,
    pub frame: u32,
    pub overrun: u32,
    pub parity: u32,
    pub brk: u32,
    /// Lost for lack of room between the driver and the line discipline.
    pub buf_overrun: u32,
    reserved: [u32; 9],
}

/// `struct serial_rs485`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rs485 {
    /// `SER_RS485_…`
    pub flags: u32,
    /// Milliseconds.
    pub delay_rts_before_send: u32,
    /// Milliseconds.
    pub delay_rts_after_send: u32,
    padding: [u32; 5],
}

impl Rs485 {
    /// `SER_RS485_ENABLED`.
    pub const ENABLED: u32 = 1;
    /// `SER_RS485_RTS_ON_SEND`.
    pub const RTS_ON_SEND: u32 = 1 << 1;
    /// `SER_RS485_RTS_AFTER_SEND`.
    pub const RTS_AFTER_SEND: u32 = 1 << 2;
    /// `SER_RS485_RX_DURING_TX`.
    pub const RX_DURING_TX: u32 = 1 << 4;
    /// `SER_RS485_TERMINATE_BUS`.
    pub const TERMINATE_BUS: u32 = 1 << 5;

    /// With those flags and delays.
    pub const fn new(flags: u32, before_ms: u32, after_ms: u32) -> Self {
        Self {
            flags,
            delay_rts_before_send: before_ms,
            delay_rts_after_send: after_ms,
            padding: [0; 5],
        }
    }

    /// Whether all of these flags are set.
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }
}

const _: () = {
    assert!(size_of::<Termios>() == 44);
    assert!(offset_of!(Termios, c_cc) == 17);
    assert!(offset_of!(Termios, c_ispeed) == 36);
    assert!(size_of::<Counters>() == 80);
    assert!(offset_of!(Counters, buf_overrun) == 40);
    assert!(size_of::<Rs485>() == 32);
};

nix::ioctl_read_bad!(
    /// `TCGETS2`.
    tcgets2, libc::TCGETS2, Termios
);
nix::ioctl_write_ptr_bad!(
    /// `TCSETS2`.
    tcsets2, libc::TCSETS2, Termios
);
nix::ioctl_read_bad!(
    /// `TIOCMGET`.
    tiocmget, libc::TIOCMGET, c_int
);
nix::ioctl_write_ptr_bad!(
    /// `TIOCMSET`.
    tiocmset, libc::TIOCMSET, c_int
);
nix::ioctl_write_ptr_bad!(
    /// `TIOCMBIS`.
    tiocmbis, libc::TIOCMBIS, c_int
);
nix::ioctl_write_ptr_bad!(
    /// `TIOCMBIC`.
    tiocmbic, libc::TIOCMBIC, c_int
);
nix::ioctl_write_int_bad!(
    /// `TIOCMIWAIT`.
    tiocmiwait, libc::TIOCMIWAIT
);
nix::ioctl_read_bad!(
    /// `TIOCGICOUNT`.
    tiocgicount, libc::TIOCGICOUNT, Counters
);
nix::ioctl_none_bad!(
    /// `TIOCSBRK`.
    tiocsbrk, libc::TIOCSBRK
);
nix::ioctl_none_bad!(
    /// `TIOCCBRK`.
    tioccbrk, libc::TIOCCBRK
);
nix::ioctl_write_int_bad!(
    /// `TCSBRK`.
    tcsbrk, libc::TCSBRK
);
nix::ioctl_write_int_bad!(
    /// `TCFLSH`.
    tcflsh, libc::TCFLSH
);
nix::ioctl_read_bad!(
    /// `TIOCOUTQ`.
    tiocoutq, libc::TIOCOUTQ, c_int
);
nix::ioctl_read_bad!(
    /// `TIOCGRS485`.
    tiocgrs485, libc::TIOCGRS485, Rs485
);
nix::ioctl_read_bad!(
    /// `TIOCSRS485`, which gives back what the driver made of it.
    tiocsrs485, libc::TIOCSRS485, Rs485
);
nix::ioctl_none_bad!(
    /// `TIOCEXCL`.
    tiocexcl, libc::TIOCEXCL
);
nix::ioctl_none_bad!(
    /// `TIOCNXCL`.
    tiocnxcl, libc::TIOCNXCL
);
