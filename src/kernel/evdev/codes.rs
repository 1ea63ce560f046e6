//! Numbers of `include/uapi/linux/input-event-codes.h`, `input.h` and `uinput.h`.

/// Ends a packet, and other marks between events.
pub const EV_SYN: u16 = 0x00;
/// Keys and buttons.
pub const EV_KEY: u16 = 0x01;
/// Relative axes.
pub const EV_REL: u16 = 0x02;
/// Absolute axes.
pub const EV_ABS: u16 = 0x03;
/// What fits nowhere else: scan codes, hardware time stamps.
pub const EV_MSC: u16 = 0x04;
/// Switches.
pub const EV_SW: u16 = 0x05;
/// LEDs.
pub const EV_LED: u16 = 0x11;
/// Sounds.
pub const EV_SND: u16 = 0x12;
/// The rate at which a held key repeats.
pub const EV_REP: u16 = 0x14;
/// Force feedback: an effect's id with how often it is to be played, or a setting.
pub const EV_FF: u16 = 0x15;
/// uinput asks its owner for something.
pub const EV_UINPUT: u16 = 0x0101;

/// The end of a packet.
pub const SYN_REPORT: u16 = 0;
/// The end of one contact of a device without slots.
pub const SYN_MT_REPORT: u16 = 2;
/// Events were lost before this.
pub const SYN_DROPPED: u16 = 3;

/// The slot that the `ABS_MT_*` after it belong to.
pub const ABS_MT_SLOT: u16 = 0x2F;
/// The first axis that each contact has.
pub const ABS_MT_FIRST: u16 = 0x30;
/// The last axis that each contact has.
pub const ABS_MT_LAST: u16 = 0x3D;
/// The number of a contact, -1 for none.
pub const ABS_MT_TRACKING_ID: u16 = 0x39;

/// The time until a held key repeats, in milliseconds.
pub const REP_DELAY: u16 = 0;
/// The time between its repetitions, in milliseconds.
pub const REP_PERIOD: u16 = 1;

/// The first kind of effect.
pub const FF_RUMBLE: u16 = 0x50;
/// A wave.
pub const FF_PERIODIC: u16 = 0x51;
/// A constant force.
pub const FF_CONSTANT: u16 = 0x52;
/// A force by position.
pub const FF_SPRING: u16 = 0x53;
/// A force against movement.
pub const FF_FRICTION: u16 = 0x54;
/// A force by speed.
pub const FF_DAMPER: u16 = 0x55;
/// A force by acceleration.
pub const FF_INERTIA: u16 = 0x56;
/// A force that grows or shrinks.
pub const FF_RAMP: u16 = 0x57;
/// The first wave form.
pub const FF_SQUARE: u16 = 0x58;
/// A wave whose samples the program brings.
pub const FF_CUSTOM: u16 = 0x5D;
/// How strong all effects are, 0 to 0xFFFF.
pub const FF_GAIN: u16 = 0x60;
/// How strongly the device returns to its middle, 0 to 0xFFFF.
pub const FF_AUTOCENTER: u16 = 0x61;

/// Most effects that a device may hold (`FF_MAX_EFFECTS`).
pub const FF_MAX_EFFECTS: u32 = 0x60;

/// One more than the largest code of each kind (`KEY_CNT` and its like).
pub const KEY_CNT: u16 = 0x300;
/// `REL_CNT`.
pub const REL_CNT: u16 = 0x10;
/// `ABS_CNT`.
pub const ABS_CNT: u16 = 0x40;
/// `MSC_CNT`.
pub const MSC_CNT: u16 = 0x08;
/// `SW_CNT`.
pub const SW_CNT: u16 = 0x11;
/// `LED_CNT`.
pub const LED_CNT: u16 = 0x10;
/// `SND_CNT`.
pub const SND_CNT: u16 = 0x08;
/// `FF_CNT`.
pub const FF_CNT: u16 = 0x80;
/// `INPUT_PROP_CNT`.
pub const PROP_CNT: u16 = 0x20;

/// uinput: an effect is to be uploaded.
pub const UI_FF_UPLOAD: u16 = 1;
/// uinput: an effect is to be erased.
pub const UI_FF_ERASE: u16 = 2;
