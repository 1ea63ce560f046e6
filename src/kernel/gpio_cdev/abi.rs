//! The structures and numbers of include/uapi/linux/gpio.h.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{Event, owned};

/// Most lines of one request (`GPIO_V2_LINES_MAX`).
pub const MAX_LINES: usize = 64;
/// Most attributes of one configuration (`GPIO_V2_LINE_NUM_ATTRS_MAX`).
pub const MAX_ATTRIBUTES: usize = 10;
/// Bytes of a name with its final zero (`GPIO_MAX_NAME_SIZE`).
pub(super) const NAME_LEN: usize = 32;

/// Bytes of `struct gpio_v2_line_event`.
pub(super) const EVENT_LEN: usize = 48;

pub(super) const ATTR_FLAGS: u32 = 1;
pub(super) const ATTR_VALUES: u32 = 2;
pub(super) const ATTR_DEBOUNCE: u32 = 3;

const EVENT_RISING: u32 = 1;

/// `enum gpio_v2_line_flag`.
pub mod flag {
    /// Somebody has the line.
    pub const USED: u64 = 1 << 0;
    /// Active means low.
    pub const ACTIVE_LOW: u64 = 1 << 1;
    /// The line is an input.
    pub const INPUT: u64 = 1 << 2;
    /// The line is an output.
    pub const OUTPUT: u64 = 1 << 3;
    /// Changes from inactive to active are told.
    pub const EDGE_RISING: u64 = 1 << 4;
    /// Changes from active to inactive are told.
    pub const EDGE_FALLING: u64 = 1 << 5;
    /// Driven to low only.
    pub const OPEN_DRAIN: u64 = 1 << 6;
    /// Driven to high only.
    pub const OPEN_SOURCE: u64 = 1 << 7;
    /// Pulled to high.
    pub const BIAS_PULL_UP: u64 = 1 << 8;
    /// Pulled to low.
    pub const BIAS_PULL_DOWN: u64 = 1 << 9;
    /// Pulled to nothing.
    pub const BIAS_DISABLED: u64 = 1 << 10;
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RawChipInfo {
    pub(super) name: [u8; NAME_LEN],
    pub(super) label: [u8; NAME_LEN],
    pub(super) lines: u32,
}

#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub(super) struct RawLineValues {
    pub(super) bits: u64,
    pub(super) mask: u64,
}

/// `struct gpio_v2_line_attribute`; `value` is its union.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub(super) struct RawAttribute {
    id: u32,
    pub(super) padding: u32,
    value: u64,
}

#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub(super) struct RawConfigAttribute {
    attr: RawAttribute,
    mask: u64,
}

#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub(super) struct RawLineConfig {
    pub(super) flags: u64,
    pub(super) num_attrs: u32,
    pub(super) padding: [u32; 5],
    pub(super) attrs: [RawConfigAttribute; MAX_ATTRIBUTES],
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct RawLineRequest {
    pub(super) offsets: [u32; MAX_LINES],
    pub(super) consumer: [u8; NAME_LEN],
    pub(super) config: RawLineConfig,
    pub(super) num_lines: u32,
    pub(super) event_buffer_size: u32,
    pub(super) padding: [u32; 5],
    pub(super) fd: i32,
}

impl Default for RawLineRequest {
    fn default() -> Self {
        Self {
            offsets: [0; MAX_LINES],
            consumer: [0; NAME_LEN],
            config: RawLineConfig::default(),
            num_lines: 0,
            event_buffer_size: 0,
            padding: [0; 5],
            fd: -1,
        }
    }
}

#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub(super) struct RawLineInfo {
    pub(super) name: [u8; NAME_LEN],
    pub(super) consumer: [u8; NAME_LEN],
    pub(super) offset: u32,
    pub(super) num_attrs: u32,
    pub(super) flags: u64,
    pub(super) attrs: [RawAttribute; MAX_ATTRIBUTES],
    pub(super) padding: [u32; 4],
}

mod ioctl {
    use super::{RawChipInfo, RawLineConfig, RawLineInfo, RawLineRequest, RawLineValues};

    nix::ioctl_read!(chip_info, 0xB4, 0x01, RawChipInfo);
    nix::ioctl_readwrite!(line_info, 0xB4, 0x05, RawLineInfo);
    nix::ioctl_readwrite!(request, 0xB4, 0x07, RawLineRequest);
    nix::ioctl_readwrite!(set_config, 0xB4, 0x0D, RawLineConfig);
    nix::ioctl_readwrite!(get_values, 0xB4, 0x0E, RawLineValues);
    nix::ioctl_readwrite!(set_values, 0xB4, 0x0F, RawLineValues);
}

macro_rules! calls {
    ($($name:ident($raw:ty);)*) => {
        $(pub(super) fn $name(fd: BorrowedFd<'_>, raw: &mut $raw) -> Result<(), Errno> {
            // SAFETY: the descriptor is open, and the kernel reads and writes this structure only.
            unsafe { ioctl::$name(fd.as_raw_fd(), raw) }.map(drop)
        })*
    };
}

calls! {
    chip_info(RawChipInfo);
    line_info(RawLineInfo);
    set_config(RawLineConfig);
    get_values(RawLineValues);
    set_values(RawLineValues);
}

/// The descriptor of the requested lines.
pub(super) fn request(fd: BorrowedFd<'_>, raw: &mut RawLineRequest) -> Result<OwnedFd, Errno> {
    // SAFETY: the descriptor is open, and the kernel reads and writes this structure only.
    unsafe { ioctl::request(fd.as_raw_fd(), raw) }?;
    // SAFETY: the call succeeded, so the kernel has made this descriptor for us.
    Ok(unsafe { owned(raw.fd) })
}

pub(super) const fn attribute(id: u32, value: u64, mask: u64) -> RawConfigAttribute {
    RawConfigAttribute {
        attr: RawAttribute {
            id,
            padding: 0,
            value,
        },
        mask,
    }
}

/// The union of an attribute whose first four bytes are `word`.
pub(super) fn first_word(word: u32) -> u64 {
    let [a, b, c, d] = word.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

/// An event as the kernel writes it.
pub(super) fn event(bytes: &[u8; EVENT_LEN]) -> Event {
    let [t0, t1, t2, t3, t4, t5, t6, t7, id @ .., _, _, _, _] = first(bytes);
    let (words, _) = id.as_chunks::<4>();
    let word = |index: usize| words.get(index).map_or(0, |word| u32::from_ne_bytes(*word));
    Event {
        time_ns: u64::from_ne_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        rising: word(0) == EVENT_RISING,
        offset: word(1),
        seqno: word(2),
    }
}

/// The part of an event before its padding.
fn first(bytes: &[u8; EVENT_LEN]) -> [u8; 24] {
    let mut head = [0; 24];
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = *from;
    }
    head
}

/// Bytes of the structures whose size is part of an ioctl's number, and of an event.
#[cfg(test)]
pub(super) const SIZES: [usize; 6] = [
    size_of::<RawChipInfo>(),
    size_of::<RawLineInfo>(),
    size_of::<RawLineRequest>(),
    size_of::<RawLineConfig>(),
    size_of::<RawLineValues>(),
    EVENT_LEN,
];
