//! The ABI of `/dev/bus/usb/BBB/DDD`: structures and ioctl numbers of
//! `include/uapi/linux/usbdevice_fs.h`.

use core::ffi::{c_char, c_int, c_uchar, c_uint, c_void};
use core::mem::{offset_of, size_of};

use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};

/// `USBDEVFS_URB_SHORT_NOT_OK`: a short IN transfer is an error (-121).
pub(super) const URB_SHORT_NOT_OK: c_uint = 0x01;
/// `USBDEVFS_URB_ISO_ASAP`: start in the next free frame.
pub(super) const URB_ISO_ASAP: c_uint = 0x02;
/// `USBDEVFS_URB_ZERO_PACKET`: end an OUT transfer of whole packets with an empty one.
pub(super) const URB_ZERO_PACKET: c_uint = 0x40;

/// `USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER`: do not push out the named driver.
pub(super) const DISCONNECT_CLAIM_EXCEPT_DRIVER: c_uint = 0x02;
/// `USBDEVFS_MAXDRIVERNAME` plus the closing NUL.
pub(super) const DRIVER_NAME: usize = 256;

/// `struct usbdevfs_urb` without its flexible array of [`IsoPacket`].
#[repr(C)]
pub(super) struct RawUrb {
    pub(super) kind: c_uchar,
    pub(super) endpoint: c_uchar,
    pub(super) status: c_int,
    pub(super) flags: c_uint,
    pub(super) buffer: *mut c_void,
    pub(super) buffer_length: c_int,
    pub(super) actual_length: c_int,
    pub(super) start_frame: c_int,
    /// A union with `stream_id`: 0 for everything that is not isochronous.
    pub(super) number_of_packets: c_int,
    pub(super) error_count: c_int,
    pub(super) signr: c_uint,
    pub(super) usercontext: *mut c_void,
}

/// `struct usbdevfs_iso_packet_desc`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct IsoPacket {
    pub(super) length: c_uint,
    pub(super) actual_length: c_uint,
    /// A negative errno, which the header declares unsigned.
    pub(super) status: c_uint,
}

/// `struct usbdevfs_ctrltransfer`.
#[repr(C)]
pub(super) struct ControlTransfer {
    pub(super) request_type: u8,
    pub(super) request: u8,
    pub(super) value: u16,
    pub(super) index: u16,
    pub(super) length: u16,
    pub(super) timeout_ms: u32,
    pub(super) data: *mut c_void,
}

/// `struct usbdevfs_setinterface`.
#[repr(C)]
pub(super) struct SetInterface {
    pub(super) interface: c_uint,
    pub(super) altsetting: c_uint,
}

/// `struct usbdevfs_getdriver`.
#[repr(C)]
pub(super) struct GetDriver {
    pub(super) interface: c_uint,
    pub(super) driver: [c_char; DRIVER_NAME],
}

/// `struct usbdevfs_disconnect_claim`.
#[repr(C)]
pub(super) struct DisconnectClaim {
    pub(super) interface: c_uint,
    pub(super) flags: c_uint,
    pub(super) driver: [c_char; DRIVER_NAME],
}

/// `struct usbdevfs_ioctl`.
#[repr(C)]
pub(super) struct InterfaceIoctl {
    pub(super) interface: c_int,
    pub(super) code: c_int,
    pub(super) data: *mut c_void,
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<RawUrb>() == 56);
    assert!(offset_of!(RawUrb, status) == 4);
    assert!(offset_of!(RawUrb, buffer) == 16);
    assert!(offset_of!(RawUrb, actual_length) == 28);
    assert!(offset_of!(RawUrb, number_of_packets) == 36);
    assert!(offset_of!(RawUrb, usercontext) == 48);
    assert!(size_of::<ControlTransfer>() == 24);
    assert!(offset_of!(ControlTransfer, data) == 16);
    assert!(size_of::<InterfaceIoctl>() == 16);
};
#[cfg(target_pointer_width = "32")]
const _: () = {
    assert!(size_of::<RawUrb>() == 44);
    assert!(offset_of!(RawUrb, buffer) == 12);
    assert!(size_of::<ControlTransfer>() == 16);
    assert!(size_of::<InterfaceIoctl>() == 12);
};
const _: () = {
    assert!(size_of::<IsoPacket>() == 12);
    assert!(size_of::<SetInterface>() == 8);
    assert!(size_of::<GetDriver>() == 260);
    assert!(size_of::<DisconnectClaim>() == 264);
    // The packet descriptors start right behind the header, so it must need no padding for them.
    assert!(size_of::<RawUrb>().is_multiple_of(align_of::<IsoPacket>()));
};

/// `USBDEVFS_CONNECT`, the inner code of [`driver_ioctl`].
pub(super) const CONNECT: libc::Ioctl = request_code_none!(b'U', 23);

/// The generic ioctl encoding of x86, ARM and RISC-V, against the numbers that strace shows there.
#[cfg(all(
    target_pointer_width = "64",
    any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    )
))]
const _: () = {
    assert!(request_code_readwrite!(b'U', 0, size_of::<ControlTransfer>()) == 0xc018_5500);
    assert!(request_code_read!(b'U', 4, size_of::<SetInterface>()) == 0x8008_5504);
    assert!(request_code_read!(b'U', 5, size_of::<c_uint>()) == 0x8004_5505);
    assert!(request_code_write!(b'U', 8, size_of::<GetDriver>()) == 0x4104_5508);
    assert!(request_code_read!(b'U', 10, size_of::<RawUrb>()) == 0x8038_550a);
    assert!(request_code_none!(b'U', 11) == 0x550b);
    assert!(request_code_write!(b'U', 13, size_of::<*mut c_void>()) == 0x4008_550d);
    assert!(request_code_read!(b'U', 15, size_of::<c_uint>()) == 0x8004_550f);
    assert!(request_code_readwrite!(b'U', 18, size_of::<InterfaceIoctl>()) == 0xc010_5512);
    assert!(request_code_none!(b'U', 20) == 0x5514);
    assert!(request_code_read!(b'U', 26, size_of::<u32>()) == 0x8004_551a);
    assert!(request_code_read!(b'U', 27, size_of::<DisconnectClaim>()) == 0x8108_551b);
    assert!(request_code_none!(b'U', 31) == 0x551f);
    assert!(CONNECT == 0x5517);
};

nix::ioctl_readwrite!(
    /// `USBDEVFS_CONTROL`: one synchronous control transfer.
    control, b'U', 0, ControlTransfer
);
nix::ioctl_read!(
    /// `USBDEVFS_SETINTERFACE`.
    set_interface, b'U', 4, SetInterface
);
nix::ioctl_read!(
    /// `USBDEVFS_SETCONFIGURATION`.
    set_configuration, b'U', 5, c_uint
);
nix::ioctl_write_ptr!(
    /// `USBDEVFS_GETDRIVER`; the kernel writes the name in spite of the encoding.
    get_driver, b'U', 8, GetDriver
);
nix::ioctl_read!(
    /// `USBDEVFS_SUBMITURB`.
    submit_urb, b'U', 10, RawUrb
);
nix::ioctl_write_ptr_bad!(
    /// `USBDEVFS_DISCARDURB`: the address only names the URB.
    discard_urb, request_code_none!(b'U', 11), RawUrb
);
nix::ioctl_write_ptr!(
    /// `USBDEVFS_REAPURBNDELAY`; the kernel writes the pointer in spite of the encoding.
    reap_urb_ndelay, b'U', 13, *mut c_void
);
nix::ioctl_read!(
    /// `USBDEVFS_CLAIMINTERFACE`.
    claim_interface, b'U', 15, c_uint
);
nix::ioctl_read!(
    /// `USBDEVFS_RELEASEINTERFACE`.
    release_interface, b'U', 16, c_uint
);
nix::ioctl_readwrite!(
    /// `USBDEVFS_IOCTL`: an operation on one interface, such as [`CONNECT`].
    driver_ioctl, b'U', 18, InterfaceIoctl
);
nix::ioctl_none!(
    /// `USBDEVFS_RESET`.
    reset, b'U', 20
);
nix::ioctl_read!(
    /// `USBDEVFS_CLEAR_HALT`.
    clear_halt, b'U', 21, c_uint
);
nix::ioctl_read!(
    /// `USBDEVFS_GET_CAPABILITIES`.
    get_capabilities, b'U', 26, u32
);
nix::ioctl_read!(
    /// `USBDEVFS_DISCONNECT_CLAIM`.
    disconnect_claim, b'U', 27, DisconnectClaim
);
nix::ioctl_none!(
    /// `USBDEVFS_GET_SPEED`.
    get_speed, b'U', 31
);
