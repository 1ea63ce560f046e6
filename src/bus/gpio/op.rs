//! The payloads of opcodes 0x0620–0x0627 (profile 19.6); nothing else knows them. PWM, which the
//! profile counts as GPIO, is [`crate::bus::pwm::op`].

mod chip;
mod line;
mod request;

pub use chip::{ChipEntry, ChipList, LineInfo, LineInfoRequest};
pub use line::{EdgeEvent, GetLines, LineValues, SetLines, Watch, decode_empty, encode_empty};
pub use request::{LineRequest, LineRequested};

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::msgpack::{DecodeError, EncodeError};

/// Longest device id in bytes (profile 19).
pub const MAX_DEVICE_ID: usize = 64;
/// Longest name of a line or label of a chip, in bytes: `GPIO_MAX_NAME_SIZE` without its final zero
/// (kernel include/uapi/linux/gpio.h).
pub const MAX_NAME: usize = 31;
/// Most lines of a chip; a chip with more is not offered.
pub const MAX_CHIP_LINES: u32 = 4096;
/// Most lines of one request (profile 19.6; `GPIO_V2_LINES_MAX` of the kernel).
pub const MAX_LINES: usize = 64;

/// Why a payload is not what its operation defines. Answered with `BAD_REQUEST` "bad-payload".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// Not the MessagePack that was expected.
    #[error("malformed GPIO payload")]
    Decode(#[from] DecodeError),
    /// A field is outside its range.
    #[error("{0} is out of range")]
    Field(&'static str),
}

/// Why a payload cannot be written.
pub type OpEncodeError = EncodeError;

/// An enumeration of the profile whose numbers all have a meaning; others are refused.
macro_rules! numbered {
    ($(#[doc = $doc:literal])* $name:ident { $($(#[doc = $about:literal])* $code:literal $(#[$default:ident])? $variant:ident $text:literal;)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u8", into = "u8")]
        pub enum $name {
            $($(#[doc = $about])* $(#[$default])? $variant,)*
        }

        impl TryFrom<u8> for $name {
            type Error = DecodeError;

            fn try_from(code: u8) -> Result<Self, DecodeError> {
                match code {
                    $($code => Ok(Self::$variant),)*
                    _ => Err(DecodeError::Range),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => $code,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }
    };
}

numbered! {
    /// `dir`: who drives a line.
    Direction {
        /// 0: something outside.
        0 #[default] Input "input";
        /// 1: the chip.
        1 Output "output";
    }
}

numbered! {
    /// `bias`: what pulls a line that nothing drives.
    Bias {
        /// 0: whatever it is.
        0 #[default] AsIs "as-is";
        /// 1: nothing.
        1 Disabled "disabled";
        /// 2: a resistor to high.
        2 PullUp "pull-up";
        /// 3: a resistor to low.
        3 PullDown "pull-down";
    }
}

numbered! {
    /// `drive`: how an output is driven.
    Drive {
        /// 0: to both levels.
        0 #[default] PushPull "push-pull";
        /// 1: to low only.
        1 OpenDrain "open-drain";
        /// 2: to high only.
        2 OpenSource "open-source";
    }
}

numbered! {
    /// `edge`: the changes of an input that are told. With `low` they are those of the logical value.
    Edge {
        /// 0: none.
        0 #[default] None "none";
        /// 1: from inactive to active.
        1 Rising "rising";
        /// 2: from active to inactive.
        2 Falling "falling";
        /// 3: both.
        3 Both "both";
    }
}

/// The mask of `count` lines: bit k is the k-th.
pub const fn all_lines(count: usize) -> u64 {
    if count >= MAX_LINES {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

fn check_device_id(id: &str) -> Result<(), OpError> {
    match id.len() {
        1..=MAX_DEVICE_ID => Ok(()),
        _ => Err(OpError::Field("dev")),
    }
}

/// Names end up in files of configfs, where a newline would end them.
fn check_name(name: &str, field: &'static str) -> Result<(), OpError> {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(OpError::Field(field));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
