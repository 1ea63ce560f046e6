//! The structures and ioctl numbers of `include/uapi/linux/input.h`.

use core::ffi::{c_int, c_ulong};
use core::mem::{offset_of, size_of};

use nix::{request_code_read, request_code_write};

/// `struct input_event`: the time is two words of the machine (`timeval`, or the unsigned pair that
/// took its place where `time_t` grew).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernel) struct RawEvent {
    pub(in crate::kernel) sec: c_ulong,
    pub(in crate::kernel) usec: c_ulong,
    pub(in crate::kernel) kind: u16,
    pub(in crate::kernel) code: u16,
    pub(in crate::kernel) value: i32,
}

/// `struct input_id`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernel) struct RawId {
    pub(in crate::kernel) bus: u16,
    pub(in crate::kernel) vendor: u16,
    pub(in crate::kernel) product: u16,
    pub(in crate::kernel) version: u16,
}

/// `struct input_absinfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernel) struct RawAbs {
    pub(in crate::kernel) value: i32,
    pub(in crate::kernel) minimum: i32,
    pub(in crate::kernel) maximum: i32,
    pub(in crate::kernel) fuzz: i32,
    pub(in crate::kernel) flat: i32,
    pub(in crate::kernel) resolution: i32,
}

/// `struct ff_trigger`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawTrigger {
    pub(in crate::kernel) button: u16,
    pub(in crate::kernel) interval: u16,
}

/// `struct ff_replay`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawReplay {
    pub(in crate::kernel) length: u16,
    pub(in crate::kernel) delay: u16,
}

/// `struct ff_envelope`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawEnvelope {
    pub(in crate::kernel) attack_length: u16,
    pub(in crate::kernel) attack_level: u16,
    pub(in crate::kernel) fade_length: u16,
    pub(in crate::kernel) fade_level: u16,
}

/// `struct ff_constant_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawConstant {
    pub(in crate::kernel) level: i16,
    pub(in crate::kernel) envelope: RawEnvelope,
}

/// `struct ff_ramp_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawRamp {
    pub(in crate::kernel) start: i16,
    pub(in crate::kernel) end: i16,
    pub(in crate::kernel) envelope: RawEnvelope,
}

/// `struct ff_condition_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawCondition {
    pub(in crate::kernel) saturation: [u16; 2],
    pub(in crate::kernel) coefficient: [i16; 2],
    pub(in crate::kernel) deadband: u16,
    pub(in crate::kernel) center: i16,
}

/// `struct ff_periodic_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawPeriodic {
    pub(in crate::kernel) waveform: u16,
    pub(in crate::kernel) period: u16,
    pub(in crate::kernel) magnitude: i16,
    pub(in crate::kernel) offset: i16,
    pub(in crate::kernel) phase: u16,
    pub(in crate::kernel) envelope: RawEnvelope,
    pub(in crate::kernel) custom_len: u32,
    /// An address of the program that made the effect. Never followed, never passed on.
    pub(in crate::kernel) custom_data: *mut i16,
}

/// `struct ff_rumble_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawRumble {
    pub(in crate::kernel) strong: u16,
    pub(in crate::kernel) weak: u16,
}

/// The union in `struct ff_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) union RawKind {
    pub(in crate::kernel) constant: RawConstant,
    pub(in crate::kernel) ramp: RawRamp,
    pub(in crate::kernel) periodic: RawPeriodic,
    pub(in crate::kernel) condition: [RawCondition; 2],
    pub(in crate::kernel) rumble: RawRumble,
    bytes: [u8; KIND],
}

const KIND: usize = size_of::<RawPeriodic>();

impl RawKind {
    /// Nothing of it left over from anywhere.
    pub(in crate::kernel) const ZERO: Self = Self { bytes: [0; KIND] };
}

/// `struct ff_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(in crate::kernel) struct RawEffect {
    pub(in crate::kernel) kind: u16,
    pub(in crate::kernel) id: i16,
    pub(in crate::kernel) direction: u16,
    pub(in crate::kernel) trigger: RawTrigger,
    pub(in crate::kernel) replay: RawReplay,
    pub(in crate::kernel) u: RawKind,
}

const _: () = {
    assert!(size_of::<RawEvent>() == 2 * size_of::<c_ulong>() + 8);
    assert!(size_of::<RawId>() == 8);
    assert!(size_of::<RawAbs>() == 24);
    assert!(offset_of!(RawEffect, u) == 16);
    #[cfg(target_pointer_width = "64")]
    assert!(size_of::<RawEffect>() == 48);
    #[cfg(target_pointer_width = "32")]
    assert!(size_of::<RawEffect>() == 44);
};

/// The number type of ioctl requests.
pub(in crate::kernel) type Request = libc::c_ulong;

pub(super) const EVIOCGID: Request = request_code_read!(b'E', 0x02, size_of::<RawId>());
pub(super) const EVIOCGREP: Request = request_code_read!(b'E', 0x03, 8);
pub(super) const EVIOCGEFFECTS: Request = request_code_read!(b'E', 0x84, size_of::<c_int>());
pub(super) const EVIOCSFF: Request = request_code_write!(b'E', 0x80, size_of::<RawEffect>());
pub(super) const EVIOCRMFF: Request = request_code_write!(b'E', 0x81, size_of::<c_int>());
pub(super) const EVIOCGRAB: Request = request_code_write!(b'E', 0x90, size_of::<c_int>());
pub(super) const EVIOCSCLOCKID: Request = request_code_write!(b'E', 0xA0, size_of::<c_int>());

/// `EVIOCGNAME`, `EVIOCGPHYS`, `EVIOCGUNIQ`, `EVIOCGPROP`.
pub(super) const NAME: u8 = 0x06;
pub(super) const PHYS: u8 = 0x07;
pub(super) const UNIQ: u8 = 0x08;
pub(super) const PROP: u8 = 0x09;
/// `EVIOCGMTSLOTS`.
pub(super) const MTSLOTS: u8 = 0x0A;
/// `EVIOCGKEY`, `EVIOCGLED`, `EVIOCGSND`, `EVIOCGSW`.
pub(super) const KEY: u8 = 0x18;
pub(super) const LED: u8 = 0x19;
pub(super) const SND: u8 = 0x1A;
pub(super) const SW: u8 = 0x1B;
/// `EVIOCGBIT`, to which the event type is added, and `EVIOCGABS`, to which the axis is.
pub(super) const BIT: u8 = 0x20;
pub(super) const ABS: u8 = 0x40;

/// The request that reads up to `len` bytes of what `number` names.
pub(super) const fn reading(number: u8, len: usize) -> Request {
    request_code_read!(b'E', number, len)
}
