//! What a fake chip remembers.

use core::task::{Context, Poll, Waker};
use std::collections::{BTreeMap, VecDeque};

use nix::errno::Errno;

use crate::bus::gpio::hardware::{ChipInfo, KernelLine, LineEvent, Setup};
use crate::bus::gpio::op::{Bias, Direction, Drive, Edge};

pub(super) struct State {
    label: String,
    lines: Vec<Line>,
    requests: BTreeMap<u64, Request>,
    next: u64,
    gone: bool,
    clock_ns: u64,
    pub(super) lose: u32,
    pub(super) fail: Option<Errno>,
}

#[derive(Default)]
struct Line {
    name: String,
    /// Who has it, and by which of our requests.
    consumer: Option<String>,
    request: Option<u64>,
    /// What hangs on it drives it there.
    outside: Option<bool>,
    /// The chip drives it there.
    inside: Option<bool>,
    history: Vec<Option<bool>>,
}

struct Request {
    lines: Vec<u32>,
    setup: Setup,
    /// The physical levels at the last look.
    levels: Vec<bool>,
    events: VecDeque<LineEvent>,
    seqno: u32,
    waker: Option<Waker>,
}

impl State {
    pub(super) fn new(label: &str, names: &[&str]) -> Self {
        let line = |name: &&str| Line {
            name: (*name).to_owned(),
            ..Line::default()
        };
        Self {
            label: label.to_owned(),
            lines: names.iter().map(line).collect(),
            requests: BTreeMap::new(),
            next: 0,
            gone: false,
            clock_ns: 0,
            lose: 0,
            fail: None,
        }
    }

    pub(super) fn drive(&mut self, line: u32, high: bool) {
        if let Some(line) = self.line(line) {
            line.outside = Some(high);
        }
        self.notice();
    }

    pub(super) fn output(&mut self, line: u32) -> Option<bool> {
        self.line(line).and_then(|line| line.inside)
    }

    pub(super) fn history(&mut self, line: u32) -> Vec<Option<bool>> {
        self.line(line)
            .map(|line| line.history.clone())
            .unwrap_or_default()
    }

    pub(super) fn usage(&mut self, line: u32) -> Option<(Setup, u64)> {
        let number = self.line(line)?.request?;
        let request = self.requests.get(&number)?;
        let index = request.lines.iter().position(|one| *one == line)?;
        Some((request.setup.clone(), 1 << index))
    }

    pub(super) fn unread(&mut self, line: u32) -> usize {
        let number = self.line(line).and_then(|line| line.request);
        let request = number.and_then(|number| self.requests.get(&number));
        request.map_or(0, |request| request.events.len())
    }

    pub(super) fn occupy(&mut self, line: u32, consumer: &str) {
        if let Some(line) = self.line(line) {
            line.consumer = Some(consumer.to_owned());
        }
    }

    pub(super) fn unplug(&mut self) {
        self.gone = true;
        for request in self.requests.values_mut() {
            request.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    pub(super) fn info(&self) -> Result<ChipInfo, Errno> {
        self.present()?;
        Ok(ChipInfo {
            name: String::new(),
            label: self.label.clone(),
            lines: u32::try_from(self.lines.len()).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn line_info(&mut self, line: u32) -> Result<KernelLine, Errno> {
        self.present()?;
        let setup = self.usage(line).map(|(setup, _)| setup).unwrap_or_default();
        let line = self.line(line).ok_or(Errno::EINVAL)?;
        Ok(KernelLine {
            name: line.name.clone(),
            consumer: line.consumer.clone(),
            dir: setup.dir,
            bias: setup.bias,
            drive: setup.drive,
            low: setup.low,
        })
    }

    pub(super) fn request(&mut self, lines: &[u32], setup: &Setup) -> Result<u64, Errno> {
        self.begin()?;
        for line in lines {
            match self.line(*line) {
                None => return Err(Errno::EINVAL),
                Some(line) if line.consumer.is_some() => return Err(Errno::EBUSY),
                Some(_) => {}
            }
        }
        self.next += 1;
        let number = self.next;
        for line in lines {
            if let Some(line) = self.line(*line) {
                line.consumer = Some("myclerk".to_owned());
                line.request = Some(number);
            }
        }
        let request = Request {
            lines: lines.to_vec(),
            setup: setup.clone(),
            levels: Vec::new(),
            events: VecDeque::new(),
            seqno: 0,
            waker: None,
        };
        self.requests.insert(number, request);
        self.apply(number, setup);
        Ok(number)
    }

    pub(super) fn configure(&mut self, number: u64, setup: &Setup) -> Result<(), Errno> {
        self.begin()?;
        self.apply(number, setup);
        Ok(())
    }

    pub(super) fn release(&mut self, number: u64) {
        let Some(request) = self.requests.remove(&number) else {
            return;
        };
        for line in &request.lines {
            if let Some(line) = self.line(*line) {
                line.consumer = None;
                line.request = None;
                line.let_go();
            }
        }
        self.notice();
    }

    pub(super) fn get(&self, number: u64, mask: u64) -> Result<u64, Errno> {
        self.present()?;
        let request = self.requests.get(&number).ok_or(Errno::EBADF)?;
        let bits = request.lines.iter().enumerate().map(|(index, line)| {
            let high = self.level(*line, request.setup.bias);
            u64::from(high != request.setup.low) << index
        });
        Ok(bits.fold(0, |all, bit| all | bit) & mask)
    }

    pub(super) fn set(&mut self, number: u64, mask: u64, bits: u64) -> Result<(), Errno> {
        self.begin()?;
        let request = self.requests.get_mut(&number).ok_or(Errno::EBADF)?;
        if request.setup.dir == Direction::Input {
            return Err(Errno::EPERM);
        }
        request.setup.values = request.setup.values & !mask | bits & mask;
        self.put_out(number, mask);
        Ok(())
    }

    pub(super) fn poll_events(
        &mut self,
        number: u64,
        context: &mut Context<'_>,
    ) -> Poll<Result<Vec<LineEvent>, Errno>> {
        self.present()?;
        let Some(request) = self.requests.get_mut(&number) else {
            return Poll::Ready(Err(Errno::EBADF));
        };
        if request.events.is_empty() {
            request.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = request.events.len().min(16);
        Poll::Ready(Ok(request.events.drain(..count).collect()))
    }

    fn apply(&mut self, number: u64, setup: &Setup) {
        let levels = self.levels(number, setup.bias);
        let Some(request) = self.requests.get_mut(&number) else {
            return;
        };
        request.setup = setup.clone();
        request.levels = levels;
        let lines = request.lines.clone();
        match setup.dir {
            Direction::Output => self.put_out(number, u64::MAX),
            Direction::Input => {
                for line in lines {
                    self.line(line).into_iter().for_each(Line::let_go);
                }
            }
        }
    }

    /// Drives the outputs of a request to its values.
    fn put_out(&mut self, number: u64, mask: u64) {
        let Some(request) = self.requests.get(&number) else {
            return;
        };
        let (setup, lines) = (request.setup.clone(), request.lines.clone());
        for (index, line) in lines.into_iter().enumerate() {
            if mask & 1 << index == 0 {
                continue;
            }
            let high = (setup.values & 1 << index != 0) != setup.low;
            let driven = match (setup.drive, high) {
                (Drive::OpenDrain, true) | (Drive::OpenSource, false) => None,
                (Drive::PushPull | Drive::OpenDrain | Drive::OpenSource, _) => Some(high),
            };
            if let Some(line) = self.line(line) {
                line.inside = driven;
                line.history.push(driven);
            }
        }
        self.notice();
    }

    /// Finds what changed on the lines, and makes events of what is watched.
    fn notice(&mut self) {
        self.clock_ns += 1000;
        let now = self.clock_ns;
        let numbers: Vec<u64> = self.requests.keys().copied().collect();
        for number in numbers {
            let bias = self.requests.get(&number).map(|request| request.setup.bias);
            let levels = self.levels(number, bias.unwrap_or_default());
            let Some(request) = self.requests.get_mut(&number) else {
                continue;
            };
            let before = core::mem::replace(&mut request.levels, levels);
            let changes = before.iter().zip(&request.levels).enumerate();
            let changed: Vec<_> = changes
                .filter(|(_, (before, after))| before != after)
                .map(|(index, (_, after))| (index, *after != request.setup.low))
                .collect();
            for (index, rising) in changed {
                if request.watches(index, rising) {
                    request.seqno = request.seqno.wrapping_add(1);
                    if self.lose > 0 {
                        self.lose -= 1;
                        continue;
                    }
                    request.events.push_back(LineEvent {
                        index: u8::try_from(index).unwrap_or(u8::MAX),
                        rising,
                        time_ns: now,
                        seqno: request.seqno,
                    });
                    request.waker.take().into_iter().for_each(Waker::wake);
                }
            }
        }
    }

    fn levels(&self, number: u64, bias: Bias) -> Vec<bool> {
        let lines = self.requests.get(&number).map(|request| &request.lines);
        let lines = lines.into_iter().flatten();
        lines.map(|line| self.level(*line, bias)).collect()
    }

    /// The physical level of a line: whoever drives it, else what pulls it.
    fn level(&self, line: u32, bias: Bias) -> bool {
        let line = self.lines.get(line as usize);
        let driven = line.and_then(|line| line.inside.or(line.outside));
        driven.unwrap_or(bias == Bias::PullUp)
    }

    fn line(&mut self, line: u32) -> Option<&mut Line> {
        self.lines.get_mut(line as usize)
    }

    fn present(&self) -> Result<(), Errno> {
        if self.gone {
            Err(Errno::ENODEV)
        } else {
            Ok(())
        }
    }

    fn begin(&mut self) -> Result<(), Errno> {
        self.present()?;
        self.fail.take().map_or(Ok(()), Err)
    }
}

impl Line {
    fn let_go(&mut self) {
        if self.inside.take().is_some() {
            self.history.push(None);
        }
    }
}

impl Request {
    fn watches(&self, index: usize, rising: bool) -> bool {
        let edge = match self.setup.edge {
            Edge::None => false,
            Edge::Rising => rising,
            Edge::Falling => !rising,
            Edge::Both => true,
        };
        edge && self.setup.dir == Direction::Input && self.setup.watched & 1 << index != 0
    }
}
