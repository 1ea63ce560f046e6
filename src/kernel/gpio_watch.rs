//! Who requests the lines of a GPIO chip, and how (`GPIO_V2_GET_LINEINFO_WATCH`, kernel
//! `drivers/gpio/gpiolib-cdev.c`).

use std::io;
use std::path::Path;

use gpiocdev::Chip;
use gpiocdev::line::{Info, InfoChangeKind};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

pub use gpiocdev::line::{Bias, Direction, Drive, EdgeDetection};

use std::rc::Rc;

/// What an open chip can hold back for its reader; more is dropped silently (`struct
/// gpio_chardev_data`).
const FIFO: usize = 32;
/// Lines watched through one open chip: all of them may change a few times before we look.
const LINES_PER_FILE: u32 = 8;

/// A line that was requested, released or configured anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineChange {
    /// When, in microseconds of `CLOCK_MONOTONIC`; `None` for what a look at the line showed.
    pub time_us: Option<u64>,
    /// Which line of the chip.
    pub line: u32,
    /// How it is used since then; `None` if it is not.
    pub used: Option<LineUse>,
}

/// How a program uses a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineUse {
    /// What the program calls itself.
    pub consumer: String,
    /// Who drives it.
    pub direction: Direction,
    /// `None` for as it is.
    pub bias: Option<Bias>,
    /// Of outputs.
    pub drive: Option<Drive>,
    /// Active means low.
    pub active_low: bool,
    /// Of inputs.
    pub edges: Option<EdgeDetection>,
    /// Microseconds, 0 for none.
    pub debounce_us: u32,
}

/// A watch over all lines of a chip.
pub struct Watch {
    files: Vec<Rc<AsyncFd<Chip>>>,
    lines: u32,
    news: Rc<Notify>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Watch {
    /// Watches the first `lines` lines from now on and appends those that are used already. Must be
    /// called inside a `LocalSet`.
    ///
    /// # Errors
    /// The chip cannot be opened, or the kernel cannot watch.
    pub fn new(node: &Path, lines: u32, out: &mut Vec<LineChange>) -> io::Result<Self> {
        let mut files = Vec::new();
        for first in (0..lines).step_by(LINES_PER_FILE as usize) {
            let chip = Chip::from_path(node).map_err(to_io)?;
            for line in group(first, lines) {
                let info = chip.watch_line_info(line).map_err(to_io)?;
                if info.used {
                    out.push(change(None, info, true));
                }
            }
            // SAFETY: a Chip is the same descriptor until it is dropped, and the AsyncFd keeps it.
            let file = unsafe { AsyncFd::register_with_interest(chip, Interest::READABLE) }?;
            files.push(Rc::new(file));
        }
        let news = Rc::new(Notify::new());
        let mut tasks = tokio::task::JoinSet::new();
        for file in &files {
            tasks.spawn_local(listen(Rc::clone(file), Rc::clone(&news)));
        }
        Ok(Self {
            files,
            lines,
            news,
            _tasks: tasks,
        })
    }

    /// Waits until there may be something since the last [`Watch::drain`].
    pub async fn readable(&self) {
        self.news.notified().await;
    }

    /// Appends the changes there are, of each line in order.
    ///
    /// # Errors
    /// The chip is gone.
    pub fn drain(&self, out: &mut Vec<LineChange>) -> io::Result<()> {
        for (file, first) in self
            .files
            .iter()
            .zip((0..).step_by(LINES_PER_FILE as usize))
        {
            let chip = file.get_ref();
            let mut count = 0;
            // No more than once full: its lines are looked at then, and the reader comes back.
            while count < FIFO && chip.has_line_info_change_event().map_err(to_io)? {
                let event = chip.read_line_info_change_event().map_err(to_io)?;
                let used = event.kind != InfoChangeKind::Released;
                out.push(change(Some(event.timestamp_ns / 1000), event.info, used));
                count += 1;
            }
            if count == FIFO {
                self.news.notify_one();
                for line in group(first, self.lines) {
                    let info = chip.line_info(line).map_err(to_io)?;
                    let used = info.used;
                    out.push(change(None, info, used));
                }
            }
        }
        Ok(())
    }
}

/// The lines that share an open chip with the line `first`.
fn group(first: u32, lines: u32) -> std::ops::Range<u32> {
    first..lines.min(first + LINES_PER_FILE)
}

async fn listen(file: Rc<AsyncFd<Chip>>, news: Rc<Notify>) {
    while let Ok(mut ready) = file.readable().await {
        ready.clear_ready();
        news.notify_one();
    }
}

fn change(time_us: Option<u64>, info: Info, used: bool) -> LineChange {
    let debounce = info.debounce_period.unwrap_or_default().as_micros();
    LineChange {
        time_us,
        line: info.offset,
        used: used.then_some(LineUse {
            consumer: info.consumer,
            direction: info.direction,
            bias: info.bias,
            drive: info.drive,
            active_low: info.active_low,
            edges: info.edge_detection,
            debounce_us: u32::try_from(debounce).unwrap_or(u32::MAX),
        }),
    }
}

fn to_io(error: gpiocdev::Error) -> io::Error {
    io::Error::other(error)
}
