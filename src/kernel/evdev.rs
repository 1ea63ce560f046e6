//! Input devices through `/dev/input/eventN` (drivers/input/evdev.c).
//!
//! Reading never waits. The calls that ask or tell the device something take a lock in the kernel
//! which an upload of an effect holds while the hardware takes it: they may wait for that.

pub(in crate::kernel) mod abi;
mod bits;
pub mod codes;
pub(crate) mod effect;
mod watch;

use core::ffi::{c_int, c_ulong, c_void};
use core::mem::size_of;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

pub use bits::Codes;
pub use effect::{By, Condition, Effect, Envelope, Kind, Wave};
pub use watch::Watch;

use abi::{RawAbs, RawEvent, RawId, Request};
use codes::{
    ABS_CNT, ABS_MT_FIRST, ABS_MT_LAST, ABS_MT_SLOT, EV_ABS, EV_FF, EV_KEY, EV_LED, EV_MSC, EV_REL,
    EV_REP, EV_SND, EV_SW, FF_CNT, KEY_CNT, LED_CNT, MSC_CNT, PROP_CNT, REL_CNT, SND_CNT, SW_CNT,
};

/// Events taken by one read.
const READ: usize = 64;
/// Longest of a device's texts that is read, in bytes.
const TEXT: usize = 256;
/// Most slots that are read.
pub const MAX_SLOTS: usize = 256;

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Microseconds of `CLOCK_MONOTONIC`; 0 where nobody knows.
    pub time: u64,
    /// `EV_…`.
    pub kind: u16,
    /// Which of that kind.
    pub code: u16,
    /// What it is now, or by how much it changed.
    pub value: i32,
}

impl Event {
    /// An event without a time.
    pub const fn new(kind: u16, code: u16, value: i32) -> Self {
        Self {
            time: 0,
            kind,
            code,
            value,
        }
    }

    /// The end of a packet.
    pub const REPORT: Self = Self::new(codes::EV_SYN, codes::SYN_REPORT, 0);

    /// Whether it ends a packet.
    pub const fn is_report(&self) -> bool {
        self.kind == codes::EV_SYN && self.code == codes::SYN_REPORT
    }
}

/// An absolute axis (`struct input_absinfo`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// Where it is.
    pub value: i32,
    /// The least that it can be.
    pub minimum: i32,
    /// The most that it can be.
    pub maximum: i32,
    /// Changes below this are noise.
    pub fuzz: i32,
    /// Values up to this are as good as 0, for joysticks.
    pub flat: i32,
    /// Units in a millimetre or radian.
    pub resolution: i32,
}

/// Bus, vendor, product and version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// `BUS_…`.
    pub bus: u16,
    /// Of the maker.
    pub vendor: u16,
    /// Of the product.
    pub product: u16,
    /// Of its version.
    pub version: u16,
}

/// What a device can do and what it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its numbers.
    pub ids: Ids,
    /// What people call it.
    pub name: String,
    /// What tells it from others of its kind; often empty.
    pub uniq: String,
    /// `INPUT_PROP_…`.
    pub props: Codes,
    /// Keys and buttons.
    pub keys: Codes,
    /// Relative axes.
    pub rel: Codes,
    /// Absolute axes, in ascending order.
    pub abs: Vec<(u16, Axis)>,
    /// Miscellaneous.
    pub msc: Codes,
    /// Switches.
    pub switches: Codes,
    /// LEDs.
    pub leds: Codes,
    /// Sounds.
    pub sounds: Codes,
    /// Kinds of effects, wave forms and settings.
    pub ff: Codes,
    /// How many effects it holds at a time.
    pub effects: u32,
    /// Delay and period of repetition in milliseconds, where held keys repeat.
    pub repeat: Option<[u32; 2]>,
}

impl Description {
    /// That absolute axis.
    pub fn axis(&self, code: u16) -> Option<&Axis> {
        let found = self.abs.iter().find(|(axis, _)| *axis == code);
        found.map(|(_, axis)| axis)
    }

    /// How many slots it has for contacts; 0 without slots.
    pub fn slots(&self) -> usize {
        let last = self.axis(ABS_MT_SLOT).map(|axis| axis.maximum);
        last.and_then(|last| usize::try_from(last).ok())
            .map_or(0, |last| last.saturating_add(1))
    }
}

/// What of a device is in which state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The keys that are down.
    pub keys: Codes,
    /// The switches that are on.
    pub switches: Codes,
    /// The LEDs that are lit.
    pub leds: Codes,
    /// The sounds that are heard.
    pub sounds: Codes,
    /// Where each absolute axis is.
    pub abs: Vec<(u16, i32)>,
    /// For each axis of contacts what it is in every slot.
    pub contacts: Vec<(u16, Vec<i32>)>,
}

/// Now, by the clock of the events: microseconds of `CLOCK_MONOTONIC`.
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    // The clock exists on every Linux.
    now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

/// An open input device.
#[derive(Debug)]
pub struct Evdev {
    file: File,
}

impl Evdev {
    /// Opens a device node. Its events carry `CLOCK_MONOTONIC` from then on.
    ///
    /// # Errors
    /// That of open(2), or of the clock's ioctl when the node is none of evdev.
    pub fn open(node: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(node)?;
        let device = Self { file };
        let clock: c_int = libc::CLOCK_MONOTONIC;
        device.ioctl(abi::EVIOCSCLOCKID, (&raw const clock).cast_mut().cast())?;
        Ok(device)
    }

    /// Waits for its events from now on. Must be called inside a runtime.
    ///
    /// # Errors
    /// The runtime takes no descriptor.
    pub fn watch(self: Arc<Self>) -> io::Result<Watch<Arc<Self>>> {
        Watch::new(self)
    }

    /// What it can do.
    ///
    /// # Errors
    /// The errno of the first ioctl that failed: `ENODEV` when it was unplugged.
    pub fn description(&self) -> Result<Description, Errno> {
        let mut id = RawId::default();
        self.ioctl(abi::EVIOCGID, (&raw mut id).cast())?;
        let kinds = self.codes(abi::BIT, 0x20)?;
        let of = |kind: u16, count: u16| match u8::try_from(kind) {
            Ok(number) if kinds.has(kind) => self.codes(abi::BIT + number, count),
            Ok(_) | Err(_) => Ok(Codes::new()),
        };
        let mut abs = Vec::new();
        for code in of(EV_ABS, ABS_CNT)?.iter() {
            abs.push((code, self.axis(code)?));
        }
        let mut effects: c_int = 0;
        if kinds.has(EV_FF) {
            self.ioctl(abi::EVIOCGEFFECTS, (&raw mut effects).cast())?;
        }
        let mut repeat = [0u32; 2];
        if kinds.has(EV_REP) {
            self.ioctl(abi::EVIOCGREP, (&raw mut repeat).cast())?;
        }
        Ok(Description {
            ids: Ids {
                bus: id.bus,
                vendor: id.vendor,
                product: id.product,
                version: id.version,
            },
            name: self.text(abi::NAME),
            uniq: self.text(abi::UNIQ),
            props: self.codes(abi::PROP, PROP_CNT)?,
            keys: of(EV_KEY, KEY_CNT)?,
            rel: of(EV_REL, REL_CNT)?,
            abs,
            msc: of(EV_MSC, MSC_CNT)?,
            switches: of(EV_SW, SW_CNT)?,
            leds: of(EV_LED, LED_CNT)?,
            sounds: of(EV_SND, SND_CNT)?,
            ff: of(EV_FF, FF_CNT)?,
            effects: u32::try_from(effects).unwrap_or(0),
            repeat: kinds.has(EV_REP).then_some(repeat),
        })
    }

    /// The device's place in the machine, which the kernel calls its `phys`.
    pub fn phys(&self) -> String {
        self.text(abi::PHYS)
    }

    /// What state it is in. What was read before of keys, LEDs, sounds and switches and not yet
    /// taken by [`Evdev::read`] is forgotten by the kernel: the answer has it.
    ///
    /// # Errors
    /// As [`Evdev::description`].
    pub fn snapshot(&self, of: &Description) -> Result<Snapshot, Errno> {
        let state = |number, known: &Codes, count| {
            if known.is_empty() {
                return Ok(Codes::new());
            }
            self.codes(number, count)
        };
        let mut abs = Vec::new();
        let mut contacts = Vec::new();
        let slots = of.slots().min(MAX_SLOTS);
        for (code, _) in &of.abs {
            if slots > 0 && (ABS_MT_FIRST..=ABS_MT_LAST).contains(code) {
                contacts.push((*code, self.slots(*code, slots)?));
            } else {
                abs.push((*code, self.axis(*code)?.value));
            }
        }
        Ok(Snapshot {
            keys: state(abi::KEY, &of.keys, KEY_CNT)?,
            switches: state(abi::SW, &of.switches, SW_CNT)?,
            leds: state(abi::LED, &of.leds, LED_CNT)?,
            sounds: state(abi::SND, &of.sounds, SND_CNT)?,
            abs,
            contacts,
        })
    }

    /// Takes the device away from everybody else on this machine, or gives it back.
    ///
    /// # Errors
    /// `EBUSY` when another program has taken it, `ENODEV` when it was unplugged.
    pub fn grab(&self, on: bool) -> Result<(), Errno> {
        // SAFETY: the request takes a number, not an address.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), abi::EVIOCGRAB, c_int::from(on)) };
        Errno::result(result).map(drop)
    }

    /// Appends the events that are there.
    ///
    /// # Errors
    /// `EAGAIN` when there are none, `ENODEV` when it was unplugged.
    pub fn read(&self, events: &mut Vec<Event>) -> Result<(), Errno> {
        events.extend(read_events(self.as_fd())?);
        Ok(())
    }

    /// Hands events to the device: LEDs, sounds, repetition, force feedback.
    ///
    /// # Errors
    /// `ENODEV` when it was unplugged.
    pub fn write(&self, events: &[Event]) -> Result<(), Errno> {
        write_events(self.as_fd(), events)
    }

    /// Gives the device an effect, a new one or a changed one, and returns its id. It stays the
    /// device's until it is erased or this is closed.
    ///
    /// # Errors
    /// `ENOSPC` when it holds no more, `EINVAL` for what it cannot do, `EACCES` for the id of an
    /// effect of another program, `ENODEV`.
    pub fn upload(&self, effect: Effect) -> Result<i16, Errno> {
        let mut raw = effect.to_raw();
        self.ioctl(abi::EVIOCSFF, (&raw mut raw).cast())?;
        Ok(raw.id)
    }

    /// Takes an effect back.
    ///
    /// # Errors
    /// `EINVAL` or `EACCES` for an id that is not ours, `ENODEV`.
    pub fn erase(&self, id: i16) -> Result<(), Errno> {
        // SAFETY: the request takes a number, not an address.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), abi::EVIOCRMFF, c_int::from(id)) };
        Errno::result(result).map(drop)
    }

    fn axis(&self, code: u16) -> Result<Axis, Errno> {
        let mut raw = RawAbs::default();
        let number = u8::try_from(code).map_err(|_| Errno::EINVAL)?;
        let request = abi::reading(abi::ABS.wrapping_add(number), size_of::<RawAbs>());
        self.ioctl(request, (&raw mut raw).cast())?;
        Ok(Axis {
            value: raw.value,
            minimum: raw.minimum,
            maximum: raw.maximum,
            fuzz: raw.fuzz,
            flat: raw.flat,
            resolution: raw.resolution,
        })
    }

    fn slots(&self, code: u16, slots: usize) -> Result<Vec<i32>, Errno> {
        let mut words = vec![0i32; slots + 1];
        if let Some(first) = words.first_mut() {
            *first = i32::from(code);
        }
        let request = abi::reading(abi::MTSLOTS, words.len() * size_of::<i32>());
        self.ioctl(request, words.as_mut_ptr().cast())?;
        Ok(words.split_off(1))
    }

    /// A bitmap of `count` bits.
    fn codes(&self, number: u8, count: u16) -> Result<Codes, Errno> {
        let mut words = vec![0 as c_ulong; usize::from(count).div_ceil(c_ulong::BITS as usize)];
        let request = abi::reading(number, words.len() * size_of::<c_ulong>());
        self.ioctl(request, words.as_mut_ptr().cast())?;
        let mut codes = Codes::from_words(&words);
        codes.retain(|code| *code < count);
        Ok(codes)
    }

    /// One of the device's texts; empty when it has none.
    fn text(&self, number: u8) -> String {
        let mut bytes = [0u8; TEXT];
        match self.ioctl(abi::reading(number, TEXT), bytes.as_mut_ptr().cast()) {
            Ok(()) => {
                let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                String::from_utf8_lossy(text).into_owned()
            }
            Err(_) => String::new(),
        }
    }

    /// For requests whose number says how many bytes are read or written at `data`, which must be
    /// as many.
    fn ioctl(&self, request: Request, data: *mut c_void) -> Result<(), Errno> {
        // SAFETY: every caller in this file passes the address of a buffer of the length that it
        // put into the request, all of it initialised, and any bytes are valid in it.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, data) };
        Errno::result(result).map(drop)
    }
}

impl AsFd for Evdev {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Evdev {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// Takes the events that evdev or uinput has ready.
pub(in crate::kernel) fn read_events(from: BorrowedFd<'_>) -> Result<Vec<Event>, Errno> {
    let mut raw = [RawEvent::default(); READ];
    let room = size_of::<RawEvent>() * READ;
    // SAFETY: the kernel writes at most `room` bytes, the length of `raw`; any bytes are valid.
    let read = unsafe { libc::read(from.as_raw_fd(), raw.as_mut_ptr().cast(), room) };
    let read = Errno::result(read)?;
    let count = usize::try_from(read).unwrap_or(0) / size_of::<RawEvent>();
    Ok(raw.iter().take(count).map(from_raw).collect())
}

/// Hands events to evdev or uinput.
pub(in crate::kernel) fn write_events(to: BorrowedFd<'_>, events: &[Event]) -> Result<(), Errno> {
    let raw: Vec<RawEvent> = events.iter().map(to_raw).collect();
    let bytes = size_of::<RawEvent>() * raw.len();
    let mut done = 0;
    while done < bytes {
        // SAFETY: `done` is below `bytes`, the length of `raw`, which is plain initialised integers
        // without padding.
        let written = unsafe {
            let from = raw.as_ptr().cast::<u8>().add(done);
            libc::write(to.as_raw_fd(), from.cast(), bytes - done)
        };
        match Errno::result(written) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => done += usize::try_from(written).unwrap_or(0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[expect(
    clippy::useless_conversion,
    reason = "c_ulong has 32 bits on some machines"
)]
fn from_raw(raw: &RawEvent) -> Event {
    Event {
        time: u64::from(raw.sec)
            .saturating_mul(1_000_000)
            .saturating_add(u64::from(raw.usec)),
        kind: raw.kind,
        code: raw.code,
        value: raw.value,
    }
}

fn to_raw(event: &Event) -> RawEvent {
    RawEvent {
        sec: c_ulong::try_from(event.time / 1_000_000).unwrap_or(0),
        usec: c_ulong::try_from(event.time % 1_000_000).unwrap_or(0),
        kind: event.kind,
        code: event.code,
        value: event.value,
    }
}
