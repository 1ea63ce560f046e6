//! `[[client.attach]]` of `client.toml`: which devices of others become local by themselves, and as
//! what.

pub mod edit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bus::names::Access;
use crate::device::id::{DeviceId, Pattern};

/// The file of the rules, in the directory of the settings.
pub const FILE: &str = "client.toml";

/// Longest name of a device, of a user or of a group.
const MAX_NAME: usize = 32;

/// Where the rules are, in that directory of settings.
pub fn file(config: &Path) -> PathBuf {
    config.join(FILE)
}

/// Rules in the order in which they apply: the first one that wants a device decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

/// Devices that become local by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Pattern>,
    /// Their class: `usb`, `serial`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The nodes that they are taken from, the preferred one first; none: from every node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// What such a device is called here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As what it appears.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
    /// What its bus lets one choose.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Vec<String>>,
    /// How many seconds it stays without its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<u64>,
    /// Whose its device files are.
    #[serde(flatten)]
    pub access: Access,
    /// Queue for its lock while another node has it.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub lock: bool,
}

/// The part of the file that this is about; the other parts are the settings'.
#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    client: Client,
}

#[derive(Default, Deserialize)]
struct Client {
    #[serde(default)]
    attach: Vec<Written>,
}

/// A rule as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    device: Option<Pattern>,
    class: Option<String>,
    node: Option<String>,
    #[serde(default)]
    nodes: Vec<String>,
    name: Option<String>,
    #[serde(rename = "as")]
    way: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, OneOrMore>,
    grace: Option<u64>,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
    #[serde(default)]
    lock: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Rules {
    /// Reads the whole file. Nothing of it counts when one rule is wrong.
    ///
    /// # Errors
    /// What is wrong, in words for whoever wrote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| told(text, &error))?;
        let rules = file.client.attach.into_iter().enumerate();
        let rules = rules.map(|(n, written)| {
            written
                .checked()
                .map_err(|why| format!("[[client.attach]] number {}: {why}", n + 1))
        });
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// Every rule, in order.
    pub fn all(&self) -> &[Rule] {
        &self.0
    }

    /// The rule that decides about a device, by its number from 0.
    pub fn deciding(&self, node: [&str; 2], device: &DeviceId, class: &str) -> Option<usize> {
        self.0
            .iter()
            .position(|rule| rule.wants(node, device, class))
    }
}

/// An error of the file on one line.
fn told(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', "; ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

impl Written {
    fn checked(self) -> Result<Rule, String> {
        if self.device.is_none() && self.class.is_none() {
            return Err("it names neither a device nor a class; device = \"*\" is all".to_owned());
        }
        if let Some(device) = &self.device
            && device.to_string().starts_with("usb@")
        {
            return Err(format!(
                "{device} is a port: a rule names ids, such as usb:0403:6001:* (myclerk list)"
            ));
        }
        let nodes = match (self.node, self.nodes) {
            (Some(node), nodes) if nodes.is_empty() => vec![node],
            (None, nodes) => nodes,
            (Some(_), _) => return Err("it has both node and nodes".to_owned()),
        };
        for (key, value) in [
            ("name", &self.name),
            ("owner", &self.owner),
            ("group", &self.group),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !is_word(value)) {
                return Err(format!(
                    "{key} = {value:?}: letters, digits, '.', '_' and '-' make a name, at most \
                     {MAX_NAME}"
                ));
            }
        }
        let mode = self.mode.map(|mode| octal(&mode)).transpose()?;
        let options = self.options.into_iter().map(|(key, values)| match values {
            OneOrMore::One(value) => (key, vec![value]),
            OneOrMore::More(values) => (key, values),
        });
        Ok(Rule {
            device: self.device,
            class: self.class,
            nodes,
            name: self.name,
            way: self.way,
            options: options.collect(),
            grace: self.grace,
            access: Access {
                owner: self.owner,
                group: self.group,
                mode,
            },
            lock: self.lock,
        })
    }
}

/// One part of a path, and nothing that a shell or udev takes for something else.
fn is_word(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['.', '-'])
}

/// Permissions as people write them.
///
/// # Errors
/// What they look like.
pub fn octal(text: &str) -> Result<u16, String> {
    let mode = u16::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| format!("mode = {text:?}: expected octal digits, such as \"0660\""))
}

impl Rule {
    /// Whether it is about a device of a node, which is known by its id and its name.
    pub fn wants(&self, node: [&str; 2], device: &DeviceId, class: &str) -> bool {
        self.device
            .as_ref()
            .is_none_or(|wanted| wanted.matches(device))
            && self.class.as_ref().is_none_or(|wanted| wanted == class)
            && (self.nodes.is_empty() || self.rank(node).is_some())
    }

    /// The place of a node in the order of preference.
    pub fn rank(&self, [id, name]: [&str; 2]) -> Option<usize> {
        self.nodes
            .iter()
            .position(|wanted| wanted == id || wanted.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        Rules::parse(text).unwrap()
    }

    fn decides(rules: &Rules, node: &str, device: &str) -> Option<usize> {
        let device: DeviceId = device.parse().unwrap();
        rules.deciding(["0123", node], &device, device.class())
    }

    #[test]
    fn the_first_rule_that_wants_a_device_decides() {
        let rules = rules(
            "[client.connect]\nhub = 'x'\n\
             [[client.attach]]\ndevice = 'usb:0781:*'\nnodes = ['Hub', 'shed']\n\
             [[client.attach]]\nclass = 'serial'\n\
             [[client.attach]]\nnode = '0123'\ndevice = 'usb:*'",
        );
        assert_eq!(decides(&rules, "hub", "usb:0781:5567"), Some(0));
        assert_eq!(decides(&rules, "attic", "usb:0781:5567"), Some(2));
        assert_eq!(decides(&rules, "attic", "serial:one"), Some(1));
        assert_eq!(decides(&rules, "attic", "can:can0"), None);
        let first = rules.all().first().unwrap();
        let rank = |name| first.rank(["0123", name]);
        assert_eq!(
            [rank("hub"), rank("shed"), rank("attic")],
            [Some(0), Some(1), None]
        );
    }

    #[test]
    fn every_key_is_read() {
        let rules = rules(
            "[[client.attach]]\nclass = 'serial'\nname = 'gps'\nas = 'cuse'\ngrace = 5\nlock = true\n\
             owner = 'root'\ngroup = 'dialout'\nmode = '0640'\n\
             options = { one = 'a', more = ['b', 'c'] }",
        );
        let [rule] = rules.all() else {
            panic!("{rules:?}")
        };
        assert_eq!(rule.name.as_deref(), Some("gps"));
        assert_eq!(rule.way.as_deref(), Some("cuse"));
        assert_eq!((rule.grace, rule.lock), (Some(5), true));
        let access = Access {
            owner: Some("root".to_owned()),
            group: Some("dialout".to_owned()),
            mode: Some(0o640),
        };
        assert_eq!(rule.access, access);
        assert_eq!(rule.options["one"], ["a"]);
        assert_eq!(rule.options["more"], ["b", "c"]);
    }

    #[test]
    fn a_wrong_rule_is_told_by_its_number_and_its_key() {
        for (rule, told) in [
            ("", "number 2: it names neither"),
            ("device = 'usb:*:1'", "line 4"),
            ("device = 'usb@1-4'", "number 2: usb@1-4 is a port"),
            (
                "class = 'usb'\nnode = 'a'\nnodes = ['b']",
                "both node and nodes",
            ),
            ("class = 'usb'\nname = '../x'", "name = \"../x\""),
            ("class = 'usb'\ngroup = 'a b'", "group = "),
            ("class = 'usb'\nowner = '-rf'", "owner = "),
            ("class = 'usb'\nmode = '999'", "mode = "),
            ("class = 'usb'\nmode = '7777'", "mode = "),
            ("class = 'usb'\nclas = 'can'", "clas"),
        ] {
            let text = format!("[[client.attach]]\ndevice = '*'\n[[client.attach]]\n{rule}");
            let error = Rules::parse(&text).unwrap_err();
            assert!(error.contains(told), "{rule}: {error}");
        }
    }
}
