//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use crate::daemon::control::message::Traffic;
use crate::daemon::peer::meter::{BOUNDS, Spread};

/// The longest value of a label, in characters.
const VALUE: usize = 128;

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Counts as text: families one after the other, each with its samples.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family.
    pub(crate) fn family(&mut self, name: &'static str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// A sample of the family.
    pub(crate) fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, value);
    }

    /// A sample in seconds.
    pub(crate) fn seconds(&mut self, labels: &[(&str, &str)], micros: u64) {
        self.line("", labels, None, Seconds(micros));
    }

    /// What every daemon says of itself.
    pub(crate) fn daemon(&mut self, half: &str, uptime: Duration) {
        self.family("myclerk_info", Kind::Gauge, "The program.");
        let version = env!("CARGO_PKG_VERSION");
        self.sample(&[("half", half), ("version", version)], 1);
        self.family("myclerk_uptime_seconds", Kind::Gauge, "Since it started.");
        self.sample(&[], uptime.as_secs());
    }

    /// What goes over the streams of devices: id, node-id and node name of each, none twice.
    pub(crate) fn devices<'a>(
        &mut self,
        devices: impl Iterator<Item = ([&'a str; 3], &'a Traffic)> + Clone,
    ) {
        let labels = |[device, id, name]: [&'a str; 3]| {
            [("device", device), ("node_id", id), ("node", name)]
        };
        let help = "Bytes of payloads on the streams of a device.";
        self.family("myclerk_device_bytes_total", Kind::Counter, help);
        for (key, traffic) in devices.clone() {
            let [device, id, node] = labels(key);
            let (came, went) = (("direction", "in"), ("direction", "out"));
            self.sample(&[device, id, node, came], traffic.bytes_in);
            self.sample(&[device, id, node, went], traffic.bytes_out);
        }
        let help = "Requests that were answered.";
        self.family("myclerk_device_requests_total", Kind::Counter, help);
        for (key, traffic) in devices.clone() {
            self.sample(&labels(key), traffic.requests);
        }
        let help = "Events that were not sent because the other side was too slow.";
        self.family("myclerk_device_drops_total", Kind::Counter, help);
        for (key, traffic) in devices {
            self.sample(&labels(key), traffic.drops);
        }
    }

    /// All samples of a histogram of times.
    pub(crate) fn spread(&mut self, labels: &[(&str, &str)], spread: &Spread) {
        let mut below = 0;
        for (bound, count) in BOUNDS.into_iter().zip(spread.counts) {
            below += count;
            let bound = Seconds(bound).to_string();
            self.line("_bucket", labels, Some(&bound), below);
        }
        self.line("_bucket", labels, Some("+Inf"), spread.count);
        self.line("_sum", labels, None, Seconds(spread.sum));
        self.line("_count", labels, None, spread.count);
    }

    /// The text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        bound: Option<&str>,
        value: impl Display,
    ) {
        let name = self.name;
        self.put(format_args!("{name}{suffix}"));
        let labels = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (label, text) in labels {
            self.put(format_args!("{before}{label}=\"{}\"", escaped(text)));
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    fn put(&mut self, what: core::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = self.text.write_fmt(what);
    }
}

/// Microseconds as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars().take(VALUE) {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            // Nobody has names with these but to confuse a reader.
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::peer::meter::Meter;
    use crate::wire::time::Mono;

    #[test]
    fn values_of_labels_cannot_end_their_line() {
        let mut out = Exposition::default();
        out.family("m", Kind::Gauge, "Some.");
        let long = "é".repeat(500);
        out.sample(&[("a", "x\"y\\z\n\r\u{1b}"), ("b", &long)], 3);
        let text = out.finish();
        let expected = format!(
            "# HELP m Some.\n# TYPE m gauge\nm{{a=\"x\\\"y\\\\z\\n\u{fffd}\u{fffd}\",b=\"{}\"}} 3\n",
            "é".repeat(VALUE)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn the_places_of_a_histogram_add_up() {
        let meter = Meter::default();
        for micros in [50, 200, 300, 20_000_000] {
            meter.took(Duration::from_micros(micros), Mono::from_secs(9));
        }
        let mut out = Exposition::default();
        out.family("m", Kind::Histogram, "Some.");
        out.spread(&[("d", "x")], &meter.spread());
        let text = out.finish();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines[0], "m_bucket{d=\"x\",le=\"0.000100\"} 1");
        assert_eq!(lines[1], "m_bucket{d=\"x\",le=\"0.000250\"} 2");
        assert_eq!(lines[2], "m_bucket{d=\"x\",le=\"0.001000\"} 3");
        assert_eq!(lines[11], "m_bucket{d=\"x\",le=\"10.000000\"} 3");
        assert_eq!(
            lines[12..],
            [
                "m_bucket{d=\"x\",le=\"+Inf\"} 4",
                "m_sum{d=\"x\"} 20.000550",
                "m_count{d=\"x\"} 4"
            ]
        );
    }
}
