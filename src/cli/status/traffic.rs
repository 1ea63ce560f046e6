//! What goes over the streams of each device, as a table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{milliseconds, node_label};
use crate::cli::output::{Table, bytes};
use crate::daemon::control::message::{ClientStatus, ServerStatus, Traffic};

/// A device, the node at the other end, and what goes between.
pub(super) struct Line<'a> {
    device: &'a str,
    node: &'a str,
    /// The other node; its name need not be the only one of its kind.
    id: &'a str,
    traffic: Traffic,
}

/// The counts of an earlier look, and how long ago it was.
#[derive(Debug, Default)]
pub(super) struct Since {
    counts: BTreeMap<(String, String), (u64, u64)>,
    pub(super) ago: Duration,
}

pub(super) fn of_server(status: &ServerStatus) -> Vec<Line<'_>> {
    let sessions = status.sessions.iter();
    let lines = sessions.flat_map(|session| {
        session.uses.iter().map(|used| Line {
            device: &used.device,
            node: node_label(&session.node),
            id: &session.node.id,
            traffic: used.traffic,
        })
    });
    lines.collect()
}

pub(super) fn of_client(status: &ClientStatus) -> Vec<Line<'_>> {
    let attached = status.attached.iter();
    let lines = attached.filter_map(|device| {
        Some(Line {
            device: &device.device,
            node: node_label(&device.node),
            id: &device.node.id,
            traffic: device.traffic?,
        })
    });
    lines.collect()
}

impl Since {
    pub(super) fn keep(&mut self, lines: &[Line<'_>]) {
        for line in lines {
            let traffic = line.traffic;
            self.counts
                .insert(line.key(), (traffic.bytes_in, traffic.bytes_out));
        }
    }

    /// Bytes a second in and out since then; of what was not there then, since it is there.
    fn rates(&self, line: &Line<'_>) -> (u64, u64) {
        let before = self.counts.get(&line.key()).copied().unwrap_or_default();
        let micros = self.ago.as_micros().max(1);
        let rate = |now: u64, before: u64| {
            let more = u128::from(now.saturating_sub(before));
            u64::try_from(more * 1_000_000 / micros).unwrap_or(u64::MAX)
        };
        (
            rate(line.traffic.bytes_in, before.0),
            rate(line.traffic.bytes_out, before.1),
        )
    }
}

impl Line<'_> {
    fn key(&self) -> (String, String) {
        (self.id.to_owned(), self.device.to_owned())
    }
}

/// The table, empty for no lines; `other` is what the node at the other end is for the device.
pub(super) fn table(lines: &[Line<'_>], other: &str, since: Option<&Since>) -> String {
    let mut head = vec!["TRAFFIC", other, "IN", "OUT"];
    if since.is_some() {
        head.extend(["IN/s", "OUT/s"]);
    }
    head.extend(["REQUESTS", "P50", "P99", "DROPS"]);
    let mut table = Table::new(&head);
    for line in lines {
        let traffic = line.traffic;
        let mut cells = vec![
            line.device.to_owned(),
            line.node.to_owned(),
            bytes(traffic.bytes_in),
            bytes(traffic.bytes_out),
        ];
        if let Some(since) = since {
            let (came, went) = since.rates(line);
            cells.extend([bytes(came), bytes(went)]);
        }
        cells.extend([
            traffic.requests.to_string(),
            traffic.p50_us.map(milliseconds).unwrap_or_default(),
            traffic.p99_us.map(milliseconds).unwrap_or_default(),
            traffic.drops.to_string(),
        ]);
        let cells: Vec<&str> = cells.iter().map(String::as_str).collect();
        table.row(&cells);
    }
    if table.is_empty() {
        String::new()
    } else {
        table.text(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAFFIC: Traffic = Traffic {
        bytes_in: 3_000,
        bytes_out: 500,
        requests: 7,
        drops: 2,
        p50_us: Some(1_250),
        p99_us: Some(20_000),
    };

    fn line(traffic: Traffic) -> Line<'static> {
        Line {
            device: "usb:1:2",
            node: "hub",
            id: "ab",
            traffic,
        }
    }

    #[test]
    fn a_device_shows_what_went_and_how_long_its_requests_took() {
        assert_eq!(
            table(&[line(TRAFFIC)], "FROM", None),
            "  TRAFFIC  FROM  IN      OUT    REQUESTS  P50     P99      DROPS\n  \
               usb:1:2  hub   3.0 kB  500 B  7         1.2 ms  20.0 ms  2\n"
        );
        assert_eq!(table(&[], "FROM", None), "");
    }

    #[test]
    fn rates_are_of_the_time_since_the_look_before() {
        let mut since = Since::default();
        let before = Traffic {
            bytes_in: 1_000,
            bytes_out: 600,
            ..TRAFFIC
        };
        since.keep(&[line(before)]);
        since.ago = Duration::from_secs(2);
        // Fewer than before: it was attached anew meanwhile.
        assert_eq!(since.rates(&line(TRAFFIC)), (1_000, 0));
        let other = Line {
            id: "cd",
            ..line(TRAFFIC)
        };
        assert_eq!(since.rates(&other), (1_500, 250));
    }
}
