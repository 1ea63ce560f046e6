//! What a person wants of a channel.

use core::fmt::Display;
use core::str::FromStr;

use crate::bus::Parameters;
use crate::bus::pwm::op::{Configure, MAX_CHANNELS, Polarity};

/// The words for it, in options and in parameters.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    ("channel", "its number"),
    ("period-ns", "length of a cycle in nanoseconds"),
    ("duty-ns", "how long it is active in each"),
    ("polarity", "normal or inversed"),
    ("hold", "yes: it goes on when the connection ends"),
];

/// What a channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How it is opened; without the chip's id.
    pub(super) configure: Configure,
    /// Nanoseconds of a cycle for which it is active.
    pub(super) duty_ns: u64,
}

impl Settings {
    /// Reads parameters.
    ///
    /// # Errors
    /// A sentence about what is missing or wrong.
    pub fn parse(parameters: &Parameters) -> Result<Self, String> {
        if let Some(key) = parameters
            .keys()
            .find(|key| !OPTIONS.iter().any(|known| known.0 == **key))
        {
            return Err(format!("PWM channels have no parameter {key:?}"));
        }
        let polarity = match parameters.get("polarity").map(String::as_str) {
            None | Some("normal") => Polarity::Normal,
            Some("inversed") => Polarity::Inversed,
            Some(other) => {
                return Err(format!("the polarity is normal or inversed, not {other:?}"));
            }
        };
        let hold = match parameters.get("hold").map(String::as_str) {
            None | Some("no") => false,
            Some("yes") => true,
            Some(other) => return Err(format!("hold is yes or no, not {other:?}")),
        };
        let period_ns: u64 = number(parameters, "period-ns")?;
        let duty_ns = number(parameters, "duty-ns")?;
        if period_ns == 0 {
            return Err("the period is longer than nothing".to_owned());
        }
        if duty_ns > period_ns {
            return Err(format!(
                "a duty cycle of {duty_ns} ns is longer than the period of {period_ns} ns"
            ));
        }
        Ok(Self {
            configure: Configure {
                dev: String::new(),
                ch: channel(parameters)?,
                period_ns,
                pol: polarity,
                hold,
            },
            duty_ns,
        })
    }
}

/// The channel that is meant.
pub(super) fn channel(parameters: &Parameters) -> Result<u32, String> {
    match number(parameters, "channel")? {
        number if number < MAX_CHANNELS => Ok(number),
        number => Err(format!("there is no channel {number}")),
    }
}

fn number<T: FromStr<Err: Display>>(parameters: &Parameters, key: &str) -> Result<T, String> {
    let text = parameters
        .get(key)
        .ok_or_else(|| format!("{key} is missing"))?;
    text.parse()
        .map_err(|error| format!("{key} {text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Settings::parse(&owned.collect())
    }

    #[test]
    fn what_is_not_said_is_normal_and_ends_with_the_session() {
        let settings =
            parse(&[("channel", "1"), ("period-ns", "100"), ("duty-ns", "100")]).unwrap();
        assert_eq!(
            (settings.configure.ch, settings.configure.period_ns),
            (1, 100)
        );
        assert_eq!(
            (settings.configure.pol, settings.configure.hold),
            (Polarity::Normal, false)
        );
    }

    #[test]
    fn what_cannot_be_is_named() {
        let all = [("channel", "1"), ("period-ns", "100"), ("duty-ns", "10")];
        for (key, value, why) in [
            ("channel", "1024", "there is no channel 1024"),
            (
                "channel",
                "x",
                "channel \"x\": invalid digit found in string",
            ),
            ("period-ns", "0", "the period is longer than nothing"),
            (
                "duty-ns",
                "101",
                "a duty cycle of 101 ns is longer than the period of 100 ns",
            ),
            (
                "polarity",
                "up",
                "the polarity is normal or inversed, not \"up\"",
            ),
            ("hold", "1", "hold is yes or no, not \"1\""),
            ("dutty", "1", "PWM channels have no parameter \"dutty\""),
        ] {
            let mut pairs = all.to_vec();
            pairs.push((key, value));
            assert_eq!(parse(&pairs), Err(why.to_owned()));
        }
        assert_eq!(parse(&all[..2]), Err("duty-ns is missing".to_owned()));
    }
}
