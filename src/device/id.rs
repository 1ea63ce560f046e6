//! Stable device ids, the names of ports, and the patterns that match both (profile 17.2, 19).
//!
//! A port name, `usb@1-1.4`, stands wherever an id may: it means whatever is plugged in there.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest device id in bytes (profile 19).
pub const MAX_LEN: usize = 64;

/// A stable text id such as `usb:0403:6001:A50285BI`; survives replug and reboot.
///
/// 1 to 64 printable ASCII characters without space and `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

/// Why a text is not a device id or pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing, or more than 64 bytes.
    #[error("a device id has 1 to 64 characters, this one has {0}")]
    Length(usize),
    /// A space, a control character, a non-ASCII character, or `*` where none may stand.
    #[error("a device id is printable ASCII without spaces and '*', this one has {0:?}")]
    Character(char),
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > MAX_LEN {
        return Err(IdError::Length(text.len()));
    }
    check_characters(text)
}

fn check_characters(text: &str) -> Result<(), IdError> {
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '*') {
        Some(foreign) => Err(IdError::Character(foreign)),
        None => Ok(()),
    }
}

impl DeviceId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first colon: `usb`, `serial`, `can`, …
    pub fn class(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(class, _)| class)
    }

    /// True for the name of a port: `usb@BUS-PORT`, with `.PORT` for each hub in between.
    pub fn is_port(&self) -> bool {
        let number = |text: &str| text.parse::<u8>().is_ok_and(|n| n.to_string() == text);
        let place = self.0.strip_prefix("usb@");
        place
            .and_then(|place| place.split_once('-'))
            .is_some_and(|(bus, ports)| number(bus) && ports.split('.').all(number))
    }
}

/// Everything that rules may call one device: by its id, and by the port that it is plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names<'a> {
    /// Its id.
    pub id: &'a DeviceId,
    /// The name of its port.
    pub port: Option<&'a DeviceId>,
    /// The name of its socket's other port: in a USB 3 socket the speed decides which one is used.
    pub peer: Option<&'a DeviceId>,
}

impl<'a> Names<'a> {
    fn all(self) -> impl Iterator<Item = &'a DeviceId> {
        [Some(self.id), self.port, self.peer].into_iter().flatten()
    }
}

impl<'a> From<&'a DeviceId> for Names<'a> {
    fn from(id: &'a DeviceId) -> Self {
        Self {
            id,
            port: None,
            peer: None,
        }
    }
}

impl FromStr for DeviceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for DeviceId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        check(&text)?;
        Ok(Self(text))
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole device id, or the beginning of one followed by `*` (profile 17.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Exact(DeviceId),
    Prefix(String),
}

impl Pattern {
    /// True when the device falls under this pattern.
    pub fn matches(&self, device: &DeviceId) -> bool {
        match &self.0 {
            Kind::Exact(id) => id == device,
            Kind::Prefix(prefix) => device.0.starts_with(prefix.as_str()),
        }
    }

    /// True when the device falls under this pattern by any of its names.
    pub fn covers(&self, device: Names<'_>) -> bool {
        device.all().any(|name| self.matches(name))
    }

    /// The one device that this pattern names, when it has no `*`.
    pub fn exact(&self) -> Option<&DeviceId> {
        match &self.0 {
            Kind::Exact(id) => Some(id),
            Kind::Prefix(_) => None,
        }
    }
}

impl From<DeviceId> for Pattern {
    fn from(id: DeviceId) -> Self {
        Self(Kind::Exact(id))
    }
}

impl FromStr for Pattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let Some(prefix) = text.strip_suffix('*') else {
            return Ok(Self(Kind::Exact(text.parse()?)));
        };
        if prefix.len() > MAX_LEN {
            return Err(IdError::Length(prefix.len()));
        }
        check_characters(prefix)?;
        Ok(Self(Kind::Prefix(prefix.to_owned())))
    }
}

impl TryFrom<String> for Pattern {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(id) => id.fmt(f),
            Kind::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeviceId {
        text.parse().unwrap()
    }

    #[test]
    fn an_id_is_bounded_printable_text() {
        assert!("usb:1d6b:0002@1-1.4".parse::<DeviceId>().is_ok());
        assert_eq!("".parse::<DeviceId>(), Err(IdError::Length(0)));
        assert!("x".repeat(64).parse::<DeviceId>().is_ok());
        assert_eq!("x".repeat(65).parse::<DeviceId>(), Err(IdError::Length(65)));
        assert_eq!("usb:a b".parse::<DeviceId>(), Err(IdError::Character(' ')));
        assert_eq!(
            "usb:\u{1b}[2J".parse::<DeviceId>(),
            Err(IdError::Character('\u{1b}'))
        );
        assert_eq!("usb:*".parse::<DeviceId>(), Err(IdError::Character('*')));
    }

    #[test]
    fn a_pattern_without_star_matches_only_itself() {
        let pattern: Pattern = "usb:0403:6001".parse().unwrap();
        assert!(pattern.matches(&id("usb:0403:6001")));
        assert!(!pattern.matches(&id("usb:0403:6001:A1")));
    }

    #[test]
    fn a_trailing_star_matches_every_continuation() {
        let pattern: Pattern = "usb:0403:*".parse().unwrap();
        assert!(pattern.matches(&id("usb:0403:6001:A1")));
        assert!(!pattern.matches(&id("usb:0404:6001")));
        assert!("*".parse::<Pattern>().unwrap().matches(&id("can:can0")));
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        assert_eq!(
            "usb:*:6001".parse::<Pattern>(),
            Err(IdError::Character('*'))
        );
        assert_eq!("usb:**".parse::<Pattern>(), Err(IdError::Character('*')));
    }

    #[test]
    fn a_port_name_is_told_from_ids_and_from_what_no_port_is_called() {
        for port in ["usb@1-1", "usb@1-1.4", "usb@255-14.7.7.7.7.7"] {
            assert!(id(port).is_port(), "{port}");
        }
        for other in [
            "usb:1d6b:0002@1-1",
            "usb@1",
            "usb@1-",
            "usb@1-1.",
            "usb@01-1",
            "usb@1-+1",
            "usb@256-1",
            "can@1-1",
        ] {
            assert!(!id(other).is_port(), "{other}");
        }
    }

    #[test]
    fn a_pattern_covers_a_device_by_id_or_by_port() {
        let (device, port) = (id("usb:0403:6001:A1"), id("usb@1-1.4"));
        let peer = id("usb@2-1.4");
        let names = Names {
            id: &device,
            port: Some(&port),
            peer: Some(&peer),
        };
        for pattern in [
            "usb:0403:6001:A1",
            "usb@1-1.4",
            "usb@2-1.4",
            "usb@1-*",
            "usb:0403:*",
        ] {
            assert!(pattern.parse::<Pattern>().unwrap().covers(names));
        }
        for pattern in ["usb@1-1", "usb@3-*"] {
            assert!(!pattern.parse::<Pattern>().unwrap().covers(names));
        }
        assert!(
            !"usb@1-1.4"
                .parse::<Pattern>()
                .unwrap()
                .covers((&device).into())
        );
    }

    #[test]
    fn the_class_is_the_part_before_the_colon() {
        assert_eq!(id("can:can0").class(), "can");
        assert_eq!(id("odd").class(), "odd");
    }
}
