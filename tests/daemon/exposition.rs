//! A strict reader of the text format that the counts are told in.

use std::collections::BTreeMap;

/// Samples by name and labels, as they are written: `name{label="value"}`.
pub(crate) struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    /// Fails at whatever is not in order.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut samples = BTreeMap::new();
        let mut families: Vec<(String, String)> = Vec::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(is_name(name) && !help.is_empty(), "{line}");
                let kind = lines.next().unwrap();
                let kind = kind.strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(families.iter().all(|(known, _)| known != name), "{name}");
                families.push((name.to_owned(), kind.to_owned()));
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            let (name, labels) = key.split_once('{').map_or((key, ""), |(name, labels)| {
                (name, labels.strip_suffix('}').unwrap())
            });
            let names = names_of_labels(labels);
            let (family, kind) = families.last().unwrap();
            let fits = match &**kind {
                "histogram" => {
                    let suffix = name.strip_prefix(&**family).unwrap();
                    assert_eq!(
                        suffix == "_bucket",
                        names.contains(&"le".to_owned()),
                        "{line}"
                    );
                    ["_bucket", "_sum", "_count"].contains(&suffix)
                }
                _ => name == family,
            };
            assert!(fits, "{line} in {family}");
            assert!(
                samples.insert(key.to_owned(), value).is_none(),
                "{line} twice"
            );
        }
        let all = Self(samples);
        for (family, _) in families.iter().filter(|(_, kind)| kind == "histogram") {
            all.check_histogram(family);
        }
        all
    }

    fn check_histogram(&self, family: &str) {
        let prefix = format!("{family}_count");
        for (key, count) in self.0.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let labels = key[prefix.len()..].trim_end_matches('}');
            let bucket = format!("{family}_bucket{labels},le=\"");
            let mut places: Vec<(f64, f64)> = Vec::new();
            for (key, value) in self.0.iter().filter(|(key, _)| key.starts_with(&bucket)) {
                let bound = key[bucket.len()..].trim_end_matches("\"}");
                places.push((bound.parse().unwrap(), *value));
            }
            places.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(places.len() > 1, "{bucket}");
            assert!(places.is_sorted_by(|a, b| a.1 <= b.1), "{places:?}");
            let (bound, last) = places.last().unwrap();
            assert!(
                bound.is_infinite() && last.total_cmp(count).is_eq(),
                "{places:?}"
            );
        }
    }

    /// The only sample whose name begins so and that has all these labels.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<_> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let mut found = self.0.iter().filter(|(key, _)| {
            key.split('{').next() == Some(name) && wanted.iter().all(|label| key.contains(label))
        });
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "{name} is not the only one");
        Some(*value)
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

/// Checks the quoting of every value.
fn names_of_labels(labels: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(is_name(name), "{labels}");
        assert!(!names.contains(&name.to_owned()), "{labels}");
        names.push(name.to_owned());
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => assert!("\\\"n".contains(chars.next().unwrap().1), "{labels}"),
                (_, c) => assert!(!c.is_control(), "{labels}"),
            }
        };
        rest = &value[end + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').unwrap();
            assert!(!rest.is_empty(), "{labels}");
        }
    }
    names
}
