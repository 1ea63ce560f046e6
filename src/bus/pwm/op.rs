//! The payloads of opcodes 0x0628 and 0x0629 (profile 19.6); nothing else knows them.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::msgpack::{self, DecodeError, EncodeError};

pub use crate::bus::gpio::op::{MAX_DEVICE_ID, OpError, decode_empty, encode_empty};

/// Most channels of a chip.
pub const MAX_CHANNELS: u32 = 1024;

/// `pol`: which level is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Polarity {
    /// 0: high for the duty cycle, then low.
    #[default]
    Normal,
    /// 1: low for the duty cycle, then high.
    Inversed,
}

impl TryFrom<u8> for Polarity {
    type Error = DecodeError;

    fn try_from(code: u8) -> Result<Self, DecodeError> {
        match code {
            0 => Ok(Self::Normal),
            1 => Ok(Self::Inversed),
            _ => Err(DecodeError::Range),
        }
    }
}

impl From<Polarity> for u8 {
    fn from(polarity: Polarity) -> Self {
        match polarity {
            Polarity::Normal => 0,
            Polarity::Inversed => 1,
        }
    }
}

impl fmt::Display for Polarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Inversed => "inversed",
        })
    }
}

/// `GPIO_PWM_CONFIGURE`: takes a channel, which is off at first, and opens its stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Configure {
    /// The chip's id.
    pub dev: String,
    /// Number of the channel, from 0.
    pub ch: u32,
    /// Nanoseconds of one cycle, at least 1.
    pub period_ns: u64,
    /// Which level is active.
    pub pol: Polarity,
    /// It goes on as it is when the stream ends, instead of being switched off.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub hold: bool,
}

/// The answer to [`Configure`]: what the hardware made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Configured {
    /// Nanoseconds of one cycle.
    pub period_ns: u64,
    /// Which level is active.
    pub pol: Polarity,
}

/// `GPIO_PWM_SET`, and the answer to it: what the hardware made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Set {
    /// Nanoseconds of a cycle for which it is active, at most the period.
    pub duty_ns: u64,
    /// It runs.
    pub on: bool,
}

macro_rules! encode {
    ($($name:ident)*) => {
        $(impl $name {
            /// The payload.
            ///
            /// # Errors
            /// [`EncodeError`] when serialisation fails, which no value of this type causes.
            pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
                msgpack::encode(self)
            }
        })*
    };
}

encode!(Configure Configured Set);

impl Configure {
    /// Reads a request.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape, the id is empty or too long, no chip has such a channel
    /// or the period is 0.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        let request: Self = msgpack::decode(payload)?;
        for (fits, field) in [
            ((1..=MAX_DEVICE_ID).contains(&request.dev.len()), "dev"),
            (request.ch < MAX_CHANNELS, "ch"),
            (request.period_ns > 0, "period-ns"),
        ] {
            if !fits {
                return Err(OpError::Field(field));
            }
        }
        Ok(request)
    }
}

impl Configured {
    /// Reads an answer.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(msgpack::decode(payload)?)
    }
}

impl Set {
    /// Reads a request, or the answer to one.
    ///
    /// # Errors
    /// [`OpError`] when it has another shape.
    pub fn decode(payload: &[u8]) -> Result<Self, OpError> {
        Ok(msgpack::decode(payload)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servo() -> Configure {
        Configure {
            dev: "pwm:p".to_owned(),
            ch: 3,
            period_ns: 20_000_000,
            pol: Polarity::Inversed,
            hold: true,
        }
    }

    #[test]
    fn the_operations_have_their_bytes() {
        let bytes = b"\x85\xa2ch\x03\xa3dev\xa5pwm:p\xa3pol\x01\xa4hold\xc3\xa9period-ns\xce\x01\x31\x2d\x00";
        assert_eq!(servo().encode().unwrap(), bytes);
        assert_eq!(Configure::decode(bytes), Ok(servo()));
        let set = Set {
            duty_ns: 100,
            on: true,
        };
        assert_eq!(set.encode().unwrap(), b"\x82\xa2on\xc3\xa7duty-ns\x64");
        assert_eq!(Set::decode(b"\x82\xa2on\xc3\xa7duty-ns\x64"), Ok(set));
        let configured = Configured {
            period_ns: 1,
            pol: Polarity::Normal,
        };
        let bytes = b"\x82\xa3pol\x00\xa9period-ns\x01";
        assert_eq!(configured.encode().unwrap(), bytes);
        assert_eq!(Configured::decode(bytes), Ok(configured));
    }

    #[test]
    fn without_hold_a_channel_is_switched_off() {
        let request = Configure {
            hold: false,
            ..servo()
        };
        let bytes = request.encode().unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"hold"));
        assert_eq!(Configure::decode(&bytes), Ok(request));
    }

    #[test]
    fn fields_outside_their_range_are_named() {
        for (field, request) in [
            (
                "dev",
                Configure {
                    dev: String::new(),
                    ..servo()
                },
            ),
            (
                "dev",
                Configure {
                    dev: "p".repeat(65),
                    ..servo()
                },
            ),
            (
                "ch",
                Configure {
                    ch: MAX_CHANNELS,
                    ..servo()
                },
            ),
            (
                "period-ns",
                Configure {
                    period_ns: 0,
                    ..servo()
                },
            ),
        ] {
            let bytes = request.encode().unwrap();
            assert_eq!(Configure::decode(&bytes), Err(OpError::Field(field)));
        }
        let bytes = b"\x84\xa2ch\x00\xa3dev\xa1p\xa3pol\x02\xa9period-ns\x01";
        assert!(matches!(Configure::decode(bytes), Err(OpError::Decode(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_within_the_bounds(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            if let Ok(request) = Configure::decode(&bytes) {
                prop_assert!(request.period_ns > 0 && request.ch < MAX_CHANNELS);
            }
            let _ = Configured::decode(&bytes);
            let _ = Set::decode(&bytes);
        }

        #[test]
        fn any_set_survives(duty_ns in any::<u64>(), on in any::<bool>()) {
            let set = Set { duty_ns, on };
            prop_assert_eq!(Set::decode(&set.encode().unwrap()), Ok(set));
        }
    }
}
