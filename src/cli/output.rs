//! Text for people and JSON for programs, both on standard output; notes on standard error.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::errors::{CliError, Exit};

/// Prints to standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(CliError::OutputClosed),
        Err(error) => Err(
            CliError::new(Exit::Failed, "cannot write to standard output")
                .because(error.to_string()),
        ),
    }
}

/// Prints one JSON value over several lines.
pub(super) fn json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    print(&(text + "\n"))
}

/// Prints one JSON value on one line, for output that grows while the command runs.
pub(super) fn json_line(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string(value)
        .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    print(&(text + "\n"))
}

/// Tells the person something that is not the result.
pub(super) fn note(text: &str) {
    // A closed standard error is no reason to stop.
    let _ = writeln!(io::stderr(), "{text}");
}

/// True when a person looks at standard output.
pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The text with everything escaped that could move the cursor or hide other text; names come from
/// other machines and from USB descriptors.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Columns aligned to their widest cell, two spaces apart.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Self {
        Self {
            rows: vec![head.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    pub(super) fn row(&mut self, cells: &[&str]) {
        self.rows
            .push(cells.iter().map(|cell| clean(cell).into_owned()).collect());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The table with `indent` spaces before every line. A column without any content is left out.
    pub(super) fn text(&self, indent: usize) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let used = |column: &usize| {
            let mut cells = self.rows.iter().skip(1).filter_map(|row| row.get(*column));
            self.is_empty() || cells.any(|cell| !cell.is_empty())
        };
        let shown: Vec<(usize, usize)> = (0..columns)
            .filter(used)
            .map(|column| (column, width(column)))
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(indent);
            for &(column, width) in &shown {
                let cell = row.get(column).map_or("", String::as_str);
                // Writing to a String does not fail.
                let _ = write!(line, "{cell:width$}  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// The beginning of an id, enough to tell nodes apart and to be typed back.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// A node for people: its name, or else the beginning of its id.
pub(super) fn label<'a>(name: &'a str, id: &'a str) -> &'a str {
    if name.is_empty() { short(id) } else { name }
}

/// A span of time in its two largest units: `3 d 4 h`, `2 min 5 s`.
pub(super) fn span(secs: u64) -> String {
    let (days, hours, minutes) = (secs / 86_400, secs / 3_600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

/// A count of bytes with three significant digits: `16.8 MB`.
pub(super) fn bytes(count: u64) -> String {
    let mut rest = count;
    let mut tenths = 0;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if rest < 1000 {
            let whole = unit == "B" || rest >= 100;
            return if whole {
                format!("{rest} {unit}")
            } else {
                format!("{rest}.{tenths} {unit}")
            };
        }
        tenths = rest / 100 % 10;
        rest /= 1000;
    }
    format!("{rest} PB")
}

/// A date, `2026-11-01`, from seconds since 1970 in UTC.
pub(super) fn date(secs: u64) -> String {
    // Days since 0000-03-01 in cycles of 400 years, as in Howard Hinnant's `civil_from_days`.
    let days = secs / 86_400 + 719_468;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = days / 146_097 * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A time, `2026-11-01 17:20:05`, from seconds since 1970 in UTC.
pub(super) fn moment(secs: u64) -> String {
    let (hours, minutes) = (secs / 3_600 % 24, secs / 60 % 60);
    format!("{} {hours:02}:{minutes:02}:{:02}", date(secs), secs % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(&["NAME", "NOTE", "STATE"]);
        table.row(&["a", "", "free"]);
        table.row(&["länger", "", "in use"]);
        assert_eq!(
            table.text(1),
            " NAME    STATE\n a       free\n länger  in use\n"
        );
    }

    #[test]
    fn nothing_from_afar_moves_the_cursor_or_turns_the_text_around() {
        assert_eq!(clean("a\u{1b}]0;x\u{7}\r\n"), "a\\u{1b}]0;x\\u{7}\\r\\n");
        assert_eq!(clean("a\u{202e}b\u{9b}2J"), "a\\u{202e}b\\u{9b}2J");
        assert!(matches!(clean("Müller's stick"), Cow::Borrowed(_)));
    }

    #[test]
    fn spans_and_sizes_are_short() {
        let spans = [0, 59, 61, 3_600, 90_061].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
        let sizes = [
            0,
            999,
            1_000,
            16_777_216,
            999_950_000,
            2_500_000_000_000_000,
        ]
        .map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "999 B", "1.0 kB", "16.7 MB", "999 MB", "2 PB"]
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let dates = [0, 951_782_399, 951_782_400, 1_709_164_800, 1_793_491_200].map(date);
        assert_eq!(
            dates,
            [
                "1970-01-01",
                "2000-02-28",
                "2000-02-29",
                "2024-02-29",
                "2026-11-01"
            ]
        );
        assert_eq!(moment(1_709_164_799), "2024-02-28 23:59:59");
    }
}
