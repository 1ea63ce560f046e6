//! What `--option` may say of a GPIO chip.

use std::collections::{BTreeMap, BTreeSet};

/// The names and what they mean.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    (
        "safe",
        "LINE:0, LINE:1 or LINE:release: what the owner does with an output when the session ends \
         (release)",
    ),
    (
        "follow",
        "free, none or LINE,LINE,…: inputs whose level is kept up to date while no program here \
         uses them; they are then in use at the owner (free: all that nobody uses, up to 64)",
    ),
];

/// Most lines that are followed by default: each is a stream of the session.
const MOST: usize = 64;

/// The options of a wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Levels of outputs after the session.
    pub(super) safe: BTreeMap<u32, bool>,
    follow: Follow,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Follow {
    #[default]
    Free,
    These(BTreeSet<u32>),
}

impl Options {
    /// Reads them; what is wrong, for people.
    pub(super) fn parse(options: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (name, values) in options {
            for value in values {
                match name.as_str() {
                    "safe" => parsed.add_safe(value)?,
                    "follow" => parsed.add_follow(value)?,
                    _ => return Err(format!("a GPIO chip has no option '{name}'")),
                }
            }
        }
        Ok(parsed)
    }

    fn add_safe(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("safe={text}: expected LINE:0, LINE:1 or LINE:release");
        let (line, level) = text.split_once(':').ok_or_else(wrong)?;
        let line = line.parse().map_err(|_| wrong())?;
        match level {
            "0" => self.safe.insert(line, false),
            "1" => self.safe.insert(line, true),
            "release" => self.safe.remove(&line),
            _ => return Err(wrong()),
        };
        Ok(())
    }

    fn add_follow(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("follow={text}: expected free, none or LINE,LINE,…");
        let lines = match text {
            "free" => {
                self.follow = Follow::Free;
                return Ok(());
            }
            "none" => BTreeSet::new(),
            lines => lines
                .split(',')
                .map(|line| line.trim().parse().map_err(|_| wrong()))
                .collect::<Result<_, _>>()?,
        };
        match &mut self.follow {
            Follow::These(known) => known.extend(lines),
            Follow::Free => self.follow = Follow::These(lines),
        }
        Ok(())
    }

    /// Of the lines that are inputs and used by nobody those that are followed.
    pub(super) fn followed(&self, free: &BTreeSet<u32>) -> BTreeSet<u32> {
        match &self.follow {
            Follow::Free => free.iter().copied().take(MOST).collect(),
            Follow::These(lines) => lines.intersection(free).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[(&str, &str)]) -> Result<Options, String> {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in options {
            map.entry((*name).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        Options::parse(&map)
    }

    #[test]
    fn each_safe_level_is_of_one_line() {
        let options = parse(&[("safe", "3:1"), ("safe", "4:0"), ("safe", "5:release")]).unwrap();
        assert_eq!(options.safe, BTreeMap::from([(3, true), (4, false)]));
        for wrong in ["3", "3:", "3:2", "x:1", ":1", "3:keep"] {
            assert!(parse(&[("safe", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_free_inputs_are_followed() {
        let free: BTreeSet<u32> = (10..100).collect();
        assert_eq!(parse(&[]).unwrap().followed(&free).len(), MOST);
        let some = parse(&[("follow", "1,10, 20")]).unwrap();
        assert_eq!(some.followed(&free), BTreeSet::from([10, 20]));
        assert_eq!(
            parse(&[("follow", "none")]).unwrap().followed(&free),
            BTreeSet::new()
        );
        assert!(parse(&[("follow", "all")]).is_err());
    }

    #[test]
    fn an_option_that_is_none_is_named() {
        assert!(parse(&[("pull", "up")]).unwrap_err().contains("'pull'"));
    }
}
