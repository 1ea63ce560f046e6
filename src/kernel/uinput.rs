//! Input devices made by this program, through `/dev/uinput` (drivers/input/misc/uinput.c).

use core::ffi::{c_char, c_int, c_ulong, c_void};
use core::mem::size_of;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};

use super::evdev::abi::{RawAbs, RawEffect, RawId, Request};
use super::evdev::codes::{
    EV_ABS, EV_FF, EV_KEY, EV_LED, EV_MSC, EV_REL, EV_REP, EV_SND, EV_SW, EV_UINPUT, UI_FF_ERASE,
    UI_FF_UPLOAD,
};
use super::evdev::{Codes, Description, Effect, Event, read_events, write_events};

pub use super::evdev::Watch;

/// `UINPUT_MAX_NAME_SIZE`, the closing NUL included.
const NAME: usize = 80;

/// `struct uinput_setup`.
#[repr(C)]
struct RawSetup {
    id: RawId,
    name: [u8; NAME],
    ff_effects_max: u32,
}

/// `struct uinput_abs_setup`.
#[repr(C)]
struct RawAbsSetup {
    code: u16,
    axis: RawAbs,
}

/// `struct uinput_ff_upload`.
#[repr(C)]
struct RawUpload {
    request_id: u32,
    retval: i32,
    effect: RawEffect,
    old: RawEffect,
}

/// `struct uinput_ff_erase`.
#[repr(C)]
struct RawErase {
    request_id: u32,
    retval: i32,
    effect_id: u32,
}

const UI_DEV_CREATE: Request = request_code_none!(b'U', 1);
const UI_DEV_SETUP: Request = request_code_write!(b'U', 3, size_of::<RawSetup>());
const UI_ABS_SETUP: Request = request_code_write!(b'U', 4, size_of::<RawAbsSetup>());
const UI_SET_EVBIT: Request = set_bit(100);
const UI_SET_KEYBIT: Request = set_bit(101);
const UI_SET_RELBIT: Request = set_bit(102);
const UI_SET_MSCBIT: Request = set_bit(104);
const UI_SET_LEDBIT: Request = set_bit(105);
const UI_SET_SNDBIT: Request = set_bit(106);
const UI_SET_FFBIT: Request = set_bit(107);
const UI_SET_SWBIT: Request = set_bit(109);
const UI_SET_PROPBIT: Request = set_bit(110);
const UI_SET_PHYS: Request = request_code_write!(b'U', 108, size_of::<*const c_char>());
const UI_BEGIN_FF_UPLOAD: Request = request_code_readwrite!(b'U', 200, size_of::<RawUpload>());
const UI_END_FF_UPLOAD: Request = request_code_write!(b'U', 201, size_of::<RawUpload>());
const UI_BEGIN_FF_ERASE: Request = request_code_readwrite!(b'U', 202, size_of::<RawErase>());
const UI_END_FF_ERASE: Request = request_code_write!(b'U', 203, size_of::<RawErase>());
/// Bytes for the kernel's name of the device, `input17`.
const SYSNAME: usize = 64;
const UI_GET_SYSNAME: Request = request_code_read!(b'U', 44, SYSNAME);

const fn set_bit(number: u8) -> Request {
    request_code_write!(b'U', number, size_of::<c_int>())
}

/// What the programs that use the device want of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A LED, a sound, the repetition, or force feedback: an effect by its local id.
    Event(Event),
    /// An effect is to be uploaded. Answer with [`Uinput::uploaded`]; the program waits, 30 s at
    /// most.
    Upload {
        /// The number of the question.
        request: u32,
        /// The effect with its local id; `None` for one that this crate does not know.
        effect: Option<Effect>,
    },
    /// An effect is to be erased. Answer with [`Uinput::erased`].
    Erase {
        /// The number of the question.
        request: u32,
        /// Its local id.
        id: i16,
    },
}

/// An input device of ours. It disappears when this is dropped, which waits for the kernel.
#[derive(Debug)]
pub struct Uinput {
    file: File,
}

impl Uinput {
    /// Makes the device that `of` describes, through the node of uinput (`/dev/uinput`).
    ///
    /// # Errors
    /// That of open(2): `ENOENT` without the module; `EINVAL` for what is no possible device.
    pub fn create(node: &Path, of: &Description, phys: &str) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(node)?;
        let device = Self { file };
        device.set_bits(of)?;
        device.set_phys(phys)?;
        let mut setup = RawSetup {
            id: RawId {
                bus: of.ids.bus,
                vendor: of.ids.vendor,
                product: of.ids.product,
                version: of.ids.version,
            },
            name: [0; NAME],
            ff_effects_max: if of.ff.is_empty() { 0 } else { of.effects },
        };
        // The last byte stays 0.
        let end = (0..NAME).rev().find(|end| of.name.is_char_boundary(*end));
        let name = of.name.as_bytes().iter().take(end.unwrap_or(0));
        for (to, from) in setup.name.iter_mut().zip(name) {
            *to = *from;
        }
        device.with(UI_DEV_SETUP, &mut setup)?;
        for (code, axis) in &of.abs {
            let mut setup = RawAbsSetup {
                code: *code,
                axis: RawAbs {
                    value: axis.value,
                    minimum: axis.minimum,
                    maximum: axis.maximum,
                    fuzz: axis.fuzz,
                    flat: axis.flat,
                    resolution: axis.resolution,
                },
            };
            device.with(UI_ABS_SETUP, &mut setup)?;
        }
        device.number(UI_DEV_CREATE, 0)?;
        Ok(device)
    }

    /// Waits for what is wanted of it from now on. Must be called inside a runtime.
    ///
    /// # Errors
    /// The runtime takes no descriptor.
    pub fn watch(self) -> io::Result<Watch<Self>> {
        Watch::new(self)
    }

    /// The kernel's name of its event node, `event7`.
    ///
    /// # Errors
    /// sysfs cannot be read, or has no such node.
    pub fn event_name(&self) -> io::Result<String> {
        let mut bytes = [0u8; SYSNAME];
        self.with(UI_GET_SYSNAME, &mut bytes)?;
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = str::from_utf8(name).map_err(io::Error::other)?;
        let directory = Path::new("/sys/devices/virtual/input").join(name);
        for entry in fs::read_dir(directory)? {
            let entry = entry?.file_name();
            if let Some(name) = entry.to_str().filter(|name| name.starts_with("event")) {
                return Ok(name.to_owned());
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// The device does this. A time that is not within the last ten seconds counts as now.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn write(&self, events: &[Event]) -> Result<(), Errno> {
        write_events(self.as_fd(), events)
    }

    /// Appends what is wanted of the device. A question that its program gave up is left out.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing.
    pub fn read(&self, wishes: &mut Vec<Wish>) -> Result<(), Errno> {
        let events = read_events(self.as_fd())?;
        wishes.extend(events.into_iter().filter_map(|event| self.wish(event)));
        Ok(())
    }

    /// Answers [`Wish::Upload`].
    ///
    /// # Errors
    /// `EINVAL` when the program has given up.
    pub fn uploaded(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno> {
        let mut raw = RawUpload::new(request, result);
        self.with(UI_END_FF_UPLOAD, &mut raw)
    }

    /// Answers [`Wish::Erase`].
    ///
    /// # Errors
    /// `EINVAL` when the program has given up.
    pub fn erased(&self, request: u32, result: Result<(), Errno>) -> Result<(), Errno> {
        let mut raw = RawErase {
            request_id: request,
            retval: retval(result),
            effect_id: 0,
        };
        self.with(UI_END_FF_ERASE, &mut raw)
    }

    fn wish(&self, event: Event) -> Option<Wish> {
        let request = u32::try_from(event.value).unwrap_or(0);
        match (event.kind, event.code) {
            (EV_UINPUT, UI_FF_UPLOAD) => {
                let mut raw = RawUpload::new(request, Ok(()));
                self.with(UI_BEGIN_FF_UPLOAD, &mut raw).ok()?;
                let effect = Effect::from_raw(&raw.effect);
                Some(Wish::Upload { request, effect })
            }
            (EV_UINPUT, UI_FF_ERASE) => {
                let mut raw = RawErase {
                    request_id: request,
                    retval: 0,
                    effect_id: 0,
                };
                self.with(UI_BEGIN_FF_ERASE, &mut raw).ok()?;
                let id = i16::try_from(raw.effect_id).ok()?;
                Some(Wish::Erase { request, id })
            }
            (EV_UINPUT, _) => None,
            (_, _) => Some(Wish::Event(event)),
        }
    }

    fn set_bits(&self, of: &Description) -> Result<(), Errno> {
        let abs: Codes = of.abs.iter().map(|(code, _)| *code).collect();
        // UI_ABS_SETUP sets the bits of the axes.
        let groups = [
            (EV_KEY, Some(UI_SET_KEYBIT), &of.keys),
            (EV_REL, Some(UI_SET_RELBIT), &of.rel),
            (EV_ABS, None, &abs),
            (EV_MSC, Some(UI_SET_MSCBIT), &of.msc),
            (EV_SW, Some(UI_SET_SWBIT), &of.switches),
            (EV_LED, Some(UI_SET_LEDBIT), &of.leds),
            (EV_SND, Some(UI_SET_SNDBIT), &of.sounds),
            (EV_FF, Some(UI_SET_FFBIT), &of.ff),
        ];
        for (kind, request, codes) in groups {
            if codes.is_empty() {
                continue;
            }
            self.number(UI_SET_EVBIT, kind)?;
            let Some(request) = request else { continue };
            for code in codes.iter() {
                self.number(request, code)?;
            }
        }
        if of.repeat.is_some() {
            self.number(UI_SET_EVBIT, EV_REP)?;
        }
        for prop in of.props.iter() {
            self.number(UI_SET_PROPBIT, prop)?;
        }
        Ok(())
    }

    fn set_phys(&self, phys: &str) -> io::Result<()> {
        let phys = CString::new(phys)?;
        // SAFETY: the kernel reads up to the NUL at the end of `phys`.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), UI_SET_PHYS, phys.as_ptr()) };
        Errno::result(result)?;
        Ok(())
    }

    /// For requests that take a number.
    fn number(&self, request: Request, number: u16) -> Result<(), Errno> {
        let number = c_ulong::from(number);
        // SAFETY: these requests take a number, not an address.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, number) };
        Errno::result(result).map(drop)
    }

    /// For requests that read and write a structure of theirs.
    fn with<T>(&self, request: Request, data: &mut T) -> Result<(), Errno> {
        let data: *mut c_void = (&raw mut *data).cast();
        // SAFETY: each request of this file is used with the structure whose size is in its number;
        // all of them are plain integers (and a pointer that nobody follows), any bytes are valid.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, data) };
        Errno::result(result).map(drop)
    }
}

impl RawUpload {
    fn new(request: u32, result: Result<(), Errno>) -> Self {
        // SAFETY: plain integers and a pointer, for which zeros are valid.
        let mut raw: Self = unsafe { core::mem::zeroed() };
        raw.request_id = request;
        raw.retval = retval(result);
        raw
    }
}

fn retval(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, |errno| -(errno as i32))
}

impl AsFd for Uinput {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Uinput {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
