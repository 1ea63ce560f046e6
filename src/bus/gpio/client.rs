//! The half that makes a remote GPIO chip a local one, by gpio-sim.
//!
//! [`sim`] has the kernel's chip and hears from the kernel what programs do with it. [`merge`] puts
//! that in order, [`intake`] finds out what it means, and for each line a [`line`] worker does the
//! same with the owner's line, on a stream of its own. Levels of the owner's inputs come back as
//! pulls. [`board`] holds it together, waits for an owner that is lost, and ends it.

mod board;
mod desk;
mod inbox;
mod intake;
mod line;
mod local;
mod merge;
mod options;
mod sim;

pub use local::{Change, LineChange, LineUse, Sim};

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver};
use tokio::task::{JoinSet, spawn_local};

use self::board::Board;
use self::desk::{ANSWER, Desk, Line, line_info};
use self::intake::Intake;
use self::options::Options;
use super::op::{ChipList, Direction, LineInfo};
use crate::bus::{AskError, AttachError, Ended, Handle, Local, Opener, Presenter, Wish};
use crate::kernel::gpio_sim::{self, MAX_LINES, MAX_NAME, Plan};
use crate::kernel::tracefs;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// Lines of the owner that are asked about at a time.
const ASKED_AT_ONCE: u32 = 32;

/// Makes chips by gpio-sim.
pub const PRESENTER: Presenter = Presenter {
    class: "gpio",
    ways: &["gpio-sim"],
    named: true,
    options: options::OPTIONS,
    check,
    attach: |opener, wish, _| Box::pin(attach_with(opener, wish, sim::make)),
    operate: None,
};

fn check() -> Result<(), AttachError> {
    gpio_sim::probe().map_err(|cause| {
        if gpio_sim::is_built() == Some(false) {
            AttachError::Here {
                what:
                    "this kernel is built without gpio-sim (Debian's are; docs/gpio.md says how to \
                       build the module)"
                        .to_owned(),
                cause,
                mend: None,
            }
        } else {
            here("gpio-sim is not loaded", cause, Some("modprobe gpio-sim"))
        }
    })?;
    tracefs::probe().map_err(|cause| {
        let mend = "mount -t tracefs tracefs /sys/kernel/tracing";
        here("the kernel does not trace GPIO lines", cause, Some(mend))
    })
}

fn here(what: &str, cause: io::Error, mend: Option<&str>) -> AttachError {
    AttachError::Here {
        what: what.to_owned(),
        cause,
        mend: mend.map(str::to_owned),
    }
}

/// Makes a chip local with a simulated chip of the caller's: `make` gets the plan and, best first,
/// the labels that the chip may have.
///
/// # Errors
/// [`AttachError`]; nothing is left on this machine then.
pub async fn attach_with(
    opener: Rc<dyn Opener>,
    wish: Wish,
    make: impl AsyncFnOnce(Plan, Vec<String>) -> io::Result<(Rc<dyn Sim>, Receiver<Vec<LineChange>>)>,
) -> Result<Local, AttachError> {
    let options = Options::parse(&wish.options).map_err(|what| {
        here(
            "an option is wrong",
            io::Error::new(io::ErrorKind::InvalidInput, what),
            None,
        )
    })?;
    let (label, count) = find(&*opener, &wish.device).await?;
    let infos = all_infos(&opener, &wish.device, count).await?;
    let labels = labels(wish.name.as_deref().unwrap_or(&label), &wish.node);
    let plan = plan(
        labels.first().cloned().unwrap_or_default(),
        &infos,
        &wish.node,
    );
    let taken: BTreeSet<u32> = plan.taken.keys().copied().collect();
    let (sim, changes) = make(plan, labels)
        .await
        .map_err(|cause| here("cannot make a simulated GPIO chip", cause, None))?;
    let free = numbered(&infos)
        .filter(|(line, info)| info.dir == Direction::Input && !taken.contains(line))
        .map(|(line, _)| line)
        .collect();
    let (ends_in, ends) = mpsc::unbounded_channel();
    let desk = Rc::new(Desk {
        opener,
        sim: Rc::clone(&sim),
        device: wish.device,
        safe: options.safe.clone(),
        follow: options.followed(&free),
        open: Cell::new(0),
        grace: wish.grace,
        live: Cell::new(true),
        session: Cell::new(0),
        ends: ends_in,
    });
    let stop = Rc::new(Notify::new());
    let board = Board {
        desk: Rc::clone(&desk),
        lines: (0..count)
            .map(|line| (Line::new(line), Intake::default()))
            .collect(),
        changes,
        ends,
        stop: Rc::clone(&stop),
        names: infos.into_iter().map(|info| info.name).collect(),
    };
    let board = spawn_local(board.run());
    Ok(Local {
        handle: Rc::new(Attached { sim, desk, stop }),
        ended: Box::pin(async move {
            board
                .await
                .unwrap_or_else(|error| Ended::Failed(error.to_string()))
        }),
    })
}

struct Attached {
    sim: Rc<dyn Sim>,
    desk: Rc<Desk>,
    stop: Rc<Notify>,
}

impl Handle for Attached {
    fn files(&self) -> Vec<String> {
        self.sim.files()
    }

    fn detach(&self) {
        self.stop.notify_one();
    }

    fn is_live(&self) -> bool {
        self.desk.live.get()
    }
}

/// The label of a chip at its owner, and how many lines it has.
async fn find(opener: &dyn Opener, device: &str) -> Result<(String, u32), AttachError> {
    let nonsense = |what: String| AttachError::Answer(what);
    let answer = opener
        .call(Opcode::GpioChipList, vec![0x80], ANSWER)
        .await?;
    let list = ChipList::decode(&answer).map_err(|error| nonsense(error.to_string()))?;
    let chip = list
        .chips
        .into_iter()
        .find(|chip| chip.dev == device)
        .ok_or_else(|| AskError::Refused {
            status: Status::NotFound,
            error: ErrorMap::new(sub::DEVICE)
                .with_msg(format!("the list of chips does not have {device}")),
        })?;
    match chip.lines {
        1..=MAX_LINES => Ok((chip.label, chip.lines)),
        lines => Err(nonsense(format!(
            "a chip of {lines} lines, gpio-sim makes 1 to {MAX_LINES}"
        ))),
    }
}

/// What the owner calls the lines of a chip.
async fn names(opener: Rc<dyn Opener>, device: String) -> Result<Vec<String>, AttachError> {
    let (_, count) = find(&*opener, &device).await?;
    let infos = all_infos(&opener, &device, count).await?;
    Ok(infos.into_iter().map(|info| info.name).collect())
}

/// What the owner says of each line.
async fn all_infos(
    opener: &Rc<dyn Opener>,
    device: &str,
    count: u32,
) -> Result<Vec<LineInfo>, AskError> {
    let mut infos = Vec::new();
    for first in (0..count).step_by(ASKED_AT_ONCE as usize) {
        let mut asked = JoinSet::new();
        for line in first..count.min(first + ASKED_AT_ONCE) {
            let (opener, device) = (Rc::clone(opener), device.to_owned());
            asked.spawn_local(async move { (line, line_info(&*opener, &device, line).await) });
        }
        let mut answers = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            let (line, info) = answer.map_err(|error| AskError::NotSent(error.to_string()))?;
            answers.insert(line, info?);
        }
        infos.extend(answers.into_values());
    }
    Ok(infos)
}

fn numbered(infos: &[LineInfo]) -> impl Iterator<Item = (u32, &LineInfo)> {
    (0..).zip(infos)
}

/// The chip to be made: everything that the owner chose is cut to what a name may be.
fn plan(label: String, infos: &[LineInfo], node: &str) -> Plan {
    let user = clean(&format!("used at {node}")).unwrap_or_else(|| "used at the owner".to_owned());
    let names = numbered(infos).filter_map(|(line, info)| Some((line, clean(&info.name)?)));
    let taken = numbered(infos).filter(|(_, info)| info.used);
    Plan {
        label,
        lines: u32::try_from(infos.len()).unwrap_or(u32::MAX),
        names: names.collect(),
        taken: taken.map(|(line, _)| (line, user.clone())).collect(),
    }
}

/// What the chip may be called: as the owner calls it, or the same with the owner's name or a number.
/// The kernel tells chips apart by their labels.
fn labels(label: &str, node: &str) -> Vec<String> {
    let label = clean(label).unwrap_or_else(|| "gpio".to_owned());
    let with = |end: String| {
        let room = MAX_NAME.saturating_sub(end.len());
        clean(&format!("{}{end}", cut(&label, room)))
    };
    let others = core::iter::once(with(format!("@{node}")))
        .chain((2..100).map(|count| with(format!("-{count}"))))
        .flatten();
    core::iter::once(label.clone()).chain(others).collect()
}

/// A text as a name of a line or chip; `None` where nothing is left of it.
fn clean(text: &str) -> Option<String> {
    let text = text.replace(|c: char| c.is_control() || c == '/', "_");
    let name = cut(text.trim(), MAX_NAME).trim().to_owned();
    gpio_sim::is_name(&name).then_some(name)
}

/// At most so many bytes, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_owner_are_cut_to_what_the_kernel_takes() {
        assert_eq!(clean("GPIO2 (SDA1)").as_deref(), Some("GPIO2 (SDA1)"));
        assert_eq!(clean(" led/0\n").as_deref(), Some("led_0_"));
        assert_eq!(clean(" "), None);
        assert_eq!(clean(&"ü".repeat(20)).unwrap(), "ü".repeat(15));
    }

    #[test]
    fn labels_differ_and_all_can_be_names() {
        let labels = labels(&"l".repeat(40), "hub");
        assert_eq!(labels[0], "l".repeat(31));
        assert!(labels[1].ends_with("@hub"));
        assert!(labels.iter().all(|label| gpio_sim::is_name(label)));
        let distinct: BTreeSet<_> = labels.iter().collect();
        assert_eq!(distinct.len(), labels.len());
    }

    #[test]
    fn lines_that_are_used_at_the_owner_cannot_be_had_here() {
        let used = LineInfo {
            name: "CS0".to_owned(),
            used: true,
            ..LineInfo::default()
        };
        let plan = plan("bench".to_owned(), &[LineInfo::default(), used], "hub");
        assert_eq!(plan.lines, 2);
        assert_eq!(plan.names, BTreeMap::from([(1, "CS0".to_owned())]));
        assert_eq!(plan.taken, BTreeMap::from([(1, "used at hub".to_owned())]));
    }
}
