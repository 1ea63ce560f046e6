//! The lines of one stream.

use core::future::poll_fn;
use core::task::Poll;
use std::sync::Arc;

use nix::errno::Errno;
use tracing::warn;

use super::keeper::{Keeper, Kept};
use super::{bad, check_lines, internal, open};
use crate::bus::gpio::hardware::{GpioChip, GpioHost, GpioLines, LineEvent, Setup};
use crate::bus::gpio::op::{Direction, Edge, LineRequest, LineRequested, Watch, all_lines};
use crate::bus::{Grant, Refused};
use crate::wire::status::{Status, sub};

/// Requested lines. Dropping them brings them into their safe state; that may wait.
pub(super) struct Held {
    chip: String,
    keeper: Arc<Keeper>,
    lines: Vec<u32>,
    dir: Direction,
    groups: Vec<Group>,
}

/// Lines that are one request of the kernel. Outputs that keep a value at the end and those that do
/// not are two, since the kernel takes back whole requests only.
struct Group {
    requested: Arc<dyn GpioLines>,
    /// Which lines of the stream its lines are.
    members: Vec<u8>,
    setup: Setup,
    /// The values at the end, by its own bits.
    safe: Option<u64>,
    /// There is nothing to be brought into a safe state.
    gone: bool,
}

impl Held {
    /// Requests the lines that a peer wants; the payload of the answer comes with them. May wait.
    pub(super) fn open(
        host: &dyn GpioHost,
        keeper: Arc<Keeper>,
        grant: &Grant,
    ) -> Result<(Self, Vec<u8>), Refused> {
        let request = LineRequest::decode(&grant.payload).map_err(|error| bad(&error))?;
        let id = &grant.present.id;
        let moves = request.dir == Direction::Output || keeper.holds_any(id, &request.lines);
        if moves && !grant.write {
            let text = "driving these lines needs the right to write";
            return Err(Refused::new(Status::Forbidden, sub::ACL, text));
        }
        let chip = open(host, &grant.present)?;
        check_lines(&*chip, &request.lines)?;
        let mut held = Self {
            chip: id.clone(),
            keeper,
            lines: request.lines.clone(),
            dir: request.dir,
            groups: Vec::new(),
        };
        for (members, safe) in split(&request) {
            let setup = setup(&request, &members);
            let lines = held.numbers(&members);
            let requested = held.keeper.request(id, &*chip, &lines, &setup);
            let requested = requested.map_err(|errno| refusal(&*chip, &lines, errno))?;
            held.groups.push(Group {
                requested,
                members,
                setup,
                safe,
                gone: false,
            });
        }
        let val = held
            .get(request.all())
            .map_err(|errno| Refused::io("cannot read the lines", errno))?;
        let answer = LineRequested { val }.encode();
        Ok((held, answer.map_err(|error| internal(&error))?))
    }

    /// The lines' numbers on their chip.
    pub(super) fn lines(&self) -> &[u32] {
        &self.lines
    }

    pub(super) fn dir(&self) -> Direction {
        self.dir
    }

    /// The values of the lines of `mask`; may wait.
    pub(super) fn get(&self, mask: u64) -> Result<u64, Errno> {
        let mut bits = 0;
        for group in &self.groups {
            let mask = group.gather(mask);
            if mask != 0 {
                bits |= group.scatter(group.requested.get(mask)?);
            }
        }
        Ok(bits)
    }

    /// Sets the lines of `mask` and tells what they are then; may wait. Lines with and without a safe
    /// state are set one after the other, all lines of a kind at once.
    pub(super) fn set(&mut self, mask: u64, bits: u64) -> Result<u64, Errno> {
        for group in &mut self.groups {
            let (mask, bits) = (group.gather(mask), group.gather(bits));
            if mask != 0 {
                group.requested.set(mask, bits)?;
                group.setup.values = group.setup.values & !mask | bits & mask;
            }
        }
        // Not every chip can read its outputs.
        self.get(mask).or(Ok(bits & mask))
    }

    /// Watches inputs; may wait.
    pub(super) fn watch(&mut self, watch: Watch) -> Result<(), Errno> {
        for group in &mut self.groups {
            let mut setup = group.setup.clone();
            setup.watched = group.gather(watch.mask);
            setup.edge = watch.edge;
            for (index, us) in setup.debounce_us.iter_mut().enumerate() {
                if setup.watched & 1 << index != 0 {
                    *us = watch.debounce_us.unwrap_or(*us);
                }
            }
            if let Err(errno) = group.requested.configure(&setup) {
                if group.requested.configure(&group.setup).is_err() {
                    warn!(chip = self.chip, lines = ?self.lines, "GPIO lines are half configured");
                }
                return Err(errno);
            }
            group.setup = setup;
        }
        Ok(())
    }

    /// Whether this event is one that the peer asked for. Some that were not may come after a change
    /// of what is watched.
    pub(super) fn is_watched(&self, event: &LineEvent) -> bool {
        self.groups.iter().any(|group| {
            let edge = match group.setup.edge {
                Edge::None => false,
                Edge::Rising => event.rising,
                Edge::Falling => !event.rising,
                Edge::Both => true,
            };
            edge && group.setup.watched & 1 << event.index != 0
        })
    }

    /// The next events; the end of the chip is one, too.
    pub(super) async fn events(&self) -> Result<Vec<LineEvent>, Errno> {
        poll_fn(|context| {
            for group in &self.groups {
                if let Poll::Ready(events) = group.requested.poll_events(context) {
                    return Poll::Ready(events);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The chip is gone, and so are its lines.
    pub(super) fn forget(&mut self) {
        for group in &mut self.groups {
            group.gone = true;
        }
    }

    fn numbers(&self, members: &[u8]) -> Vec<u32> {
        let number = |member: &u8| self.lines.get(usize::from(*member)).copied();
        members.iter().filter_map(number).collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for group in core::mem::take(&mut self.groups) {
            let (Some(values), false) = (group.safe, group.gone) else {
                continue;
            };
            let lines = self.numbers(&group.members);
            let set = group.requested.set(all_lines(lines.len()), values);
            if let Err(errno) = set {
                warn!(chip = self.chip, ?lines, %errno, "cannot bring GPIO lines into their safe state");
            }
            if set == Err(Errno::ENODEV) {
                continue;
            }
            self.keeper.keep(Kept {
                chip: self.chip.clone(),
                lines,
                setup: Setup {
                    values,
                    ..group.setup
                },
                requested: group.requested,
            });
        }
    }
}

impl Group {
    /// Bits of the stream's lines as bits of its own.
    fn gather(&self, bits: u64) -> u64 {
        gather(&self.members, bits)
    }

    /// Its own bits as bits of the stream's lines.
    fn scatter(&self, bits: u64) -> u64 {
        let members = self.members.iter().enumerate();
        members.fold(0, |all, (own, member)| all | (bits >> own & 1) << member)
    }
}

fn gather(members: &[u8], bits: u64) -> u64 {
    let members = members.iter().enumerate();
    members.fold(0, |all, (own, member)| all | (bits >> member & 1) << own)
}

/// The groups of a request: which lines each has, and their values at the end.
fn split(request: &LineRequest) -> Vec<(Vec<u8>, Option<u64>)> {
    let lines = u8::try_from(request.lines.len()).unwrap_or(u8::MAX);
    let safe = |member: &u8| request.safe.get(usize::from(*member)).copied().flatten();
    let (kept, released): (Vec<u8>, Vec<u8>) =
        (0..lines).partition(|member| safe(member).is_some());
    let values = kept.iter().enumerate().fold(0, |all, (own, member)| {
        all | u64::from(safe(member) == Some(true)) << own
    });
    // When the second group cannot be had, the first is given back without a trace.
    let groups = [(released, None), (kept, Some(values))];
    groups
        .into_iter()
        .filter(|(members, _)| !members.is_empty())
        .collect()
}

fn setup(request: &LineRequest, members: &[u8]) -> Setup {
    let output = request.dir == Direction::Output;
    Setup {
        dir: request.dir,
        values: gather(members, request.val),
        bias: request.bias,
        drive: request.drive,
        low: request.low,
        watched: if output { 0 } else { all_lines(members.len()) },
        edge: request.edge,
        debounce_us: if output {
            Vec::new()
        } else {
            vec![request.debounce_us; members.len()]
        },
    }
}

/// What the kernel's refusal of a request means.
fn refusal(chip: &dyn GpioChip, lines: &[u32], errno: Errno) -> Refused {
    match errno {
        Errno::EBUSY => {
            let user = lines.iter().find_map(|line| {
                let info = chip.line_info(*line).ok()?;
                let consumer = info.consumer?;
                Some(format!("line {line} is in use by {consumer:?}"))
            });
            let text = user.unwrap_or_else(|| "a line is in use".to_owned());
            Refused::new(Status::ServiceUnavailable, sub::BUSY, text)
        }
        Errno::ENXIO => Refused::unsupported("the chip cannot tell of changes on these lines"),
        errno => Refused::io("cannot request the lines", errno),
    }
}
