//! The lines of `trace_pipe` (kernel `kernel/trace/trace_output.c`):
//! `   gpioset-512     [001] .....    95.301520: gpio_value: 515 set 1`.

/// The longest line that can be one of ours, in bytes. The name of a process is bounded.
const LONGEST: usize = 256;

/// Something that happened to a line, by its global number. Times are microseconds of
/// `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// It was set to a level, or is about to be.
    Set {
        /// When.
        time_us: u64,
        /// Which line.
        gpio: u32,
        /// To which level.
        high: bool,
    },
    /// The thread of its interrupt has read it.
    Read {
        /// When.
        time_us: u64,
        /// Which line.
        gpio: u32,
    },
    /// It was made an input or an output.
    Direction {
        /// When.
        time_us: u64,
        /// Which line.
        gpio: u32,
        /// An input.
        input: bool,
    },
    /// The buffer was full: some of the above are missing here.
    Lost,
}

/// Cuts the pipe's bytes into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end is still to come.
    begun: Vec<u8>,
    /// That line is too long to be one of ours.
    too_long: bool,
}

impl Lines {
    /// Appends what the lines say that end in `bytes`.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<Trace>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.last() == Some(&b'\n');
            self.too_long |= self.begun.len() + piece.len() > LONGEST;
            if !self.too_long {
                self.begun.extend_from_slice(piece);
            }
            if ended {
                if !core::mem::take(&mut self.too_long) {
                    out.extend(core::str::from_utf8(&self.begun).ok().and_then(parse));
                }
                self.begun.clear();
            }
        }
    }
}

/// `None` for a line that says nothing of these.
fn parse(line: &str) -> Option<Trace> {
    let line = line.trim_end();
    if line.starts_with("CPU:") && line.ends_with("EVENTS]") {
        return Some(Trace::Lost);
    }
    // A process may have called itself like an event, but what it did stands last.
    let (head, event) = line.rsplit_once(": gpio_")?;
    let time_us = time(head.rsplit(' ').next()?)?;
    let mut words = event.split_ascii_whitespace();
    let kind = words.next()?;
    let gpio = words.next()?.parse().ok()?;
    let trace = match (kind, words.next()?, words.next()?) {
        ("value:", "set", value) => Trace::Set {
            time_us,
            gpio,
            high: bit(value)?,
        },
        ("value:", "get", _) => Trace::Read { time_us, gpio },
        ("direction:", "in", "(0)") => Trace::Direction {
            time_us,
            gpio,
            input: true,
        },
        ("direction:", "out", "(0)") => Trace::Direction {
            time_us,
            gpio,
            input: false,
        },
        _ => return None,
    };
    words.next().is_none().then_some(trace)
}

/// `95.301520` in microseconds.
fn time(text: &str) -> Option<u64> {
    let (seconds, micros) = text.split_once('.')?;
    if micros.len() != 6 {
        return None;
    }
    seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros.parse().ok()?)
}

/// A level, which kernels pass through as the number they got.
fn bit(text: &str) -> Option<bool> {
    text.parse::<i32>().ok().map(|value| value != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8]) -> Vec<Trace> {
        let mut out = Vec::new();
        Lines::default().feed(text, &mut out);
        out
    }

    const SET: Trace = Trace::Set {
        time_us: 95_301_520,
        gpio: 515,
        high: true,
    };

    #[test]
    fn every_event_is_read() {
        let text = b"         gpioset-512     [001] .....    95.301520: gpio_value: 515 set 1\n\
            \x20   irq/24-x y-77      [000] .....    95.301530: gpio_value: 516 get 0\n\
            \x20        gpioset-512     [001] .....    95.301540: gpio_direction: 517  in (0)\n\
            \x20        gpioset-512     [001] d..1.    95.301541: gpio_direction: 517 out (0)\n\
            CPU:1 [LOST 312 EVENTS]\n";
        assert_eq!(
            all(text),
            [
                SET,
                Trace::Read {
                    time_us: 95_301_530,
                    gpio: 516
                },
                Trace::Direction {
                    time_us: 95_301_540,
                    gpio: 517,
                    input: true
                },
                Trace::Direction {
                    time_us: 95_301_541,
                    gpio: 517,
                    input: false
                },
                Trace::Lost,
            ]
        );
    }

    #[test]
    fn a_direction_that_was_not_taken_is_none() {
        assert_eq!(
            all(b" x-1 [000] ..... 1.000000: gpio_direction: 3 out (-5)\n"),
            []
        );
    }

    #[test]
    fn a_process_cannot_name_itself_into_an_event() {
        let text = b" : gpio_value: 9-512     [001] .....    95.301520: gpio_value: 515 set 1\n\
            CPU:0 [LOST-3 [000] ..... 2.000000: gpio_value: 4 get 0\n";
        assert_eq!(
            all(text),
            [
                SET,
                Trace::Read {
                    time_us: 2_000_000,
                    gpio: 4
                }
            ]
        );
    }

    #[test]
    fn a_line_that_never_ends_takes_no_memory() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for _ in 0..100 {
            lines.feed(&[b'x'; 1000], &mut out);
        }
        assert!(lines.begun.len() <= LONGEST);
        lines.feed(
            b"\n x-1 [001] ..... 95.301520: gpio_value: 515 set 1\n",
            &mut out,
        );
        assert_eq!(out, [SET]);
    }

    proptest! {
        #[test]
        fn the_cuts_between_reads_do_not_matter(cuts in proptest::collection::vec(1usize..40, 0..12)) {
            let text = b" a-1 [0] ..... 1.000001: gpio_value: 1 set 0\nCPU:0 [LOST 1 EVENTS]\n \
                b-2 [1] ..... 1.000002: gpio_direction: 1 in (0)\n";
            let mut lines = Lines::default();
            let (mut out, mut rest) = (Vec::new(), text.as_slice());
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                lines.feed(piece, &mut out);
                rest = more;
            }
            lines.feed(rest, &mut out);
            prop_assert_eq!(out, all(text));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(all(&bytes).len() <= bytes.len());
        }
    }
}
