//! Rules added to the file and taken out of it; everything else that people wrote there stays.

use serde::Serialize;

use super::{Rule, Rules};

/// The line that begins a rule.
const HEAD: &str = "[[client.attach]]";

/// Why the file was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// It, or what it would become, is not understood.
    #[error("{0}")]
    File(String),
    /// There is no rule of that number.
    #[error("there is no rule number {0}")]
    NoRule(usize),
    /// It is written in a way that only a person can change.
    #[error("its rules are not written as tables of their own, {HEAD}")]
    Unusual,
}

#[derive(Serialize)]
struct File<'a> {
    client: Client<'a>,
}

#[derive(Serialize)]
struct Client<'a> {
    attach: [&'a Rule; 1],
}

/// The file with another rule at its end.
///
/// # Errors
/// [`EditError`].
pub fn add(text: &str, rule: &Rule) -> Result<String, EditError> {
    let mut wanted = Rules::parse(text).map_err(EditError::File)?.0;
    wanted.push(rule.clone());
    let attach = [rule];
    let table = toml::to_string(&File {
        client: Client { attach },
    });
    let table = table.map_err(|error| EditError::File(error.to_string()))?;
    let gap = match text {
        "" => "",
        text if text.ends_with("\n\n") => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    checked(format!("{text}{gap}{table}"), &wanted)
}

/// The file without a rule, by its number from 0.
///
/// # Errors
/// [`EditError`].
pub fn remove(text: &str, number: usize) -> Result<String, EditError> {
    let mut wanted = Rules::parse(text).map_err(EditError::File)?.0;
    if number >= wanted.len() {
        return Err(EditError::NoRule(number + 1));
    }
    wanted.remove(number);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_head = |line: &&str| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().collect::<String>() == HEAD
    };
    let mut heads = (0..lines.len()).filter(|n| lines.get(*n).is_some_and(is_head));
    let begin = heads.nth(number).ok_or(EditError::Unusual)?;
    let behind = lines.get(begin + 1..).unwrap_or_default();
    let is_own = |line: &str| {
        let line = line.trim_start();
        !line.starts_with('[') || line.starts_with("[client.attach.")
    };
    let next = behind.iter().position(|line| !is_own(line));
    let block = behind
        .get(..next.unwrap_or(behind.len()))
        .unwrap_or_default();
    // What stands between the last key and the next table is rather about that one.
    let is_key = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let keys = block.iter().rposition(is_key).map_or(0, |last| last + 1);
    let blank = block.get(keys).is_some_and(|line| line.trim().is_empty());
    let end = begin + 1 + keys + usize::from(blank);
    let is_blank = |line: &&str| line.trim().is_empty();
    // At the end of the file the gap before the rule goes with it.
    let before = if lines.iter().skip(end).all(is_blank) {
        let text = lines.iter().take(begin).rposition(|line| !is_blank(line));
        text.map_or(0, |last| last + 1)
    } else {
        begin
    };
    let kept = lines.iter().take(before).chain(lines.iter().skip(end));
    checked(kept.copied().collect(), &wanted)
}

/// The text, if it says what it is to say: text is edited here by its lines, not by its grammar.
fn checked(text: String, wanted: &[Rule]) -> Result<String, EditError> {
    match Rules::parse(&text) {
        Ok(rules) if rules.all() == wanted => Ok(text),
        Ok(_) => Err(EditError::Unusual),
        Err(why) if text.contains(HEAD) => {
            // A file that said "attach = []" has no room for a table of that name.
            let _ = why;
            Err(EditError::Unusual)
        }
        Err(why) => Err(EditError::File(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Ours.
[client.connect]
hub = '10.0.0.1'

# The receiver on the roof.
[[client.attach]]  # first
class = 'serial'
options = { a = 'b' }

# Whatever stick.
[[ client.attach ]]
device = 'usb:0781:*' # SanDisk

[client.usb]
# Nothing yet.
";

    fn rule(device: &str) -> Rule {
        Rule {
            device: Some(device.parse().unwrap()),
            ..Rule::default()
        }
    }

    #[test]
    fn a_rule_is_added_at_the_end_and_everything_else_stays() {
        let full = Rule {
            nodes: vec!["hub".to_owned(), "shed".to_owned()],
            name: Some("gps".to_owned()),
            way: Some("cuse".to_owned()),
            grace: Some(7),
            lock: true,
            access: crate::bus::names::Access {
                owner: None,
                group: Some("dialout".to_owned()),
                mode: Some(0o640),
            },
            options: [("a".to_owned(), vec!["b".to_owned()])].into(),
            ..rule("serial:*")
        };
        let text = add(TEXT, &full).unwrap();
        assert!(text.starts_with(TEXT), "{text}");
        assert_eq!(Rules::parse(&text).unwrap().all().last(), Some(&full));
        let text = add("", &rule("can:*")).unwrap();
        assert_eq!(text, "[[client.attach]]\ndevice = \"can:*\"\n");
        assert_eq!(remove(&text, 0).unwrap(), "");
    }

    #[test]
    fn a_removed_rule_leaves_comments_and_the_other_tables() {
        let first = remove(TEXT, 0).unwrap();
        assert!(
            !first.contains("serial") && first.contains("SanDisk"),
            "{first}"
        );
        assert!(first.contains("# Whatever stick.\n[[ client"), "{first}");
        let second = remove(TEXT, 1).unwrap();
        assert!(
            second.contains("class = 'serial'") && !second.contains("0781"),
            "{second}"
        );
        assert!(
            second.ends_with("[client.usb]\n# Nothing yet.\n"),
            "{second}"
        );
        assert_eq!(remove(TEXT, 2), Err(EditError::NoRule(3)));
    }

    #[test]
    fn a_removed_rule_takes_its_own_tables_along() {
        let text = "[[client.attach]]\nclass = 'can'\n[client.attach.options]\nerrors = 'true'\n\
                    [[client.attach]]\nclass = 'hid'\n";
        assert_eq!(
            remove(text, 0).unwrap(),
            "[[client.attach]]\nclass = 'hid'\n"
        );
    }

    #[test]
    fn what_only_a_person_can_change_is_left_to_one() {
        let inline = "client = { attach = [{ class = 'can' }, { class = 'hid' }] }\n";
        assert_eq!(remove(inline, 0), Err(EditError::Unusual));
        assert_eq!(add(inline, &rule("*")), Err(EditError::Unusual));
        let odd = "[[client.attach]]\nclass = '''\n[[client.attach]]\n'''\n\
                   [[client.attach]]\nclass = 'can'\n";
        assert_eq!(remove(odd, 0), Err(EditError::Unusual));
        assert!(matches!(add("[[", &rule("*")), Err(EditError::File(_))));
    }
}
