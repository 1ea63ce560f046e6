//! The character device: what programs call and what the owner answers goes in; answers to programs
//! and requests to the owner come out. Nothing here waits.
//!
//! The kernel's spidev lets its users in one by one. So does this: what they ask for is asked of the
//! owner in the order in which it came, the next when the one before is answered.

mod work;

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use nix::errno::Errno;

use self::work::Work;
use super::ioctl::{self, Command, Setting};
use super::message::{Message, Stop};
use crate::bus::chardev::{Answer, Device};
use crate::bus::remote::errno;
use crate::bus::spi::op::{
    Change, Extension, Opened, Settings, decode_read_answer, decode_received, mode,
};
use crate::bus::{AskError, Inbound, Outlet, OutletError};
use crate::kernel::cuse::{Body, Ioctl, MAX_TRANSFER, Request};
use crate::kernel::spidev::DEFAULT_BUFSIZ;
use crate::wire::error::ErrorMap;
use crate::wire::status::{Status, sub};

/// What poll says of a file that has no poll of its own (kernel `DEFAULT_POLLMASK`).
const ALWAYS_READY: u32 = 0x145;
/// The most bytes that read and write get from CUSE in one piece wherever they begin in a page.
const WHOLE: u32 = MAX_TRANSFER - 4096;

/// One character device.
pub struct Node {
    device: Rc<dyn Device>,
    outlet: Rc<dyn Outlet>,
    /// What programs see, and what the device is to have after an outage.
    settings: Rc<Cell<Settings>>,
    /// The clock when nobody has the device open.
    resting_hz: u32,
    /// The clock of the owner's device, as far as is known.
    owner_hz: u32,
    /// The last program left another clock than the resting one, and the owner has not said yet that it
    /// is that again.
    restless: bool,
    ext: Option<Extension>,
    files: BTreeSet<u64>,
    /// The last number of an open file.
    last: u64,
    queue: VecDeque<Work>,
    asked: Option<(u32, Work)>,
    /// There was no room for a request.
    blocked: bool,
    live: bool,
    /// What every call gets, once there is no device any more.
    gone: Option<Errno>,
}

impl Node {
    /// A device that nobody has opened, whose owner's is as `opened` says.
    pub fn new(device: Rc<dyn Device>, outlet: Rc<dyn Outlet>, opened: Opened) -> Self {
        Self {
            device,
            outlet,
            settings: Rc::new(Cell::new(opened.settings)),
            resting_hz: opened.settings.hz,
            owner_hz: opened.settings.hz,
            restless: false,
            ext: opened.ext,
            files: BTreeSet::new(),
            last: 0,
            queue: VecDeque::new(),
            asked: None,
            blocked: false,
            live: true,
            gone: None,
        }
    }

    /// How the owner's device is spoken to, as far as is known; it goes on to tell.
    pub fn settings(&self) -> Rc<Cell<Settings>> {
        Rc::clone(&self.settings)
    }

    /// A program called.
    pub fn request(&mut self, request: Request) {
        let Request { id, body, .. } = request;
        match body {
            Body::Open { .. } => self.open(id),
            Body::Release { fh } => self.release(fh),
            Body::Read { size, .. } => {
                if self.may_ask(id) && self.fits(id, size) {
                    self.enqueue(Work::read(id, size));
                }
            }
            Body::Write { data, .. } => {
                let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
                if self.may_ask(id) && self.fits(id, size) {
                    self.enqueue(Work::write(id, data));
                }
            }
            Body::Ioctl(ioctl) => self.ioctl(id, &ioctl),
            Body::Poll { .. } => self.answer(id, &Answer::Ready(ALWAYS_READY)),
            Body::Interrupt { id } => self.interrupt(id),
        }
    }

    /// Something arrived on the stream. Its end is the caller's to see.
    pub fn inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Response {
                corr,
                status,
                payload,
                more: false,
            } => self.response(corr, status, &payload),
            // An owner asks for nothing here.
            Inbound::Request { corr, .. } => {
                let error = ErrorMap::new(sub::UNSUPPORTED).encode();
                self.outlet
                    .respond(corr, Status::BadRequest, error.unwrap_or_default());
            }
            Inbound::Data { payload, .. } | Inbound::Event { payload, .. } => {
                self.outlet.consume(payload.len());
            }
            Inbound::Response { more: true, .. }
            | Inbound::Cancel { .. }
            | Inbound::Writable
            | Inbound::Dropped { .. }
            | Inbound::Reset { .. }
            | Inbound::Closed => {}
        }
    }

    /// A request could not be sent for want of room: [`Node::go_on`] is to be called in a while.
    pub const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Asks for what is next, if nothing is asked.
    pub fn go_on(&mut self) {
        self.blocked = false;
        while self.live && self.asked.is_none() {
            let Some(work) = self.queue.pop_front() else {
                return;
            };
            let outgoing = match work.outgoing(&self.settings.get(), self.ext.as_ref()) {
                Ok(outgoing) => outgoing,
                Err(errno) => {
                    self.fail(&work, errno);
                    continue;
                }
            };
            match self.outlet.request(outgoing) {
                Ok(corr) => self.asked = Some((corr, work)),
                Err(OutletError::WouldBlock(_)) => {
                    self.queue.push_front(work);
                    self.blocked = true;
                    return;
                }
                Err(OutletError::TooLarge) => self.fail(&work, Errno::EMSGSIZE),
                Err(OutletError::Closed) => self.fail(&work, Errno::ETIMEDOUT),
            }
        }
    }

    /// The session is lost: what was asked for has an unknown outcome, and nothing is asked.
    pub fn lose(&mut self) {
        self.live = false;
        self.fail_all(Errno::ETIMEDOUT);
    }

    /// There is another stream, and the owner's device is as `opened` says.
    pub fn resume(&mut self, outlet: Rc<dyn Outlet>, opened: Opened) {
        (self.outlet, self.live) = (outlet, true);
        self.ext = opened.ext;
        // It may have been opened before the last program closed.
        self.restless &= opened.settings.hz != self.resting_hz;
        self.is_now(opened.settings);
        self.rest();
    }

    /// There is no device any more; every call fails so.
    pub fn end(&mut self, errno: Errno) {
        self.gone.get_or_insert(errno);
        self.live = false;
        self.fail_all(errno);
    }

    /// [`Node::end`] was called and no program has it open any more.
    pub fn is_finished(&self) -> bool {
        self.gone.is_some() && self.files.is_empty()
    }

    fn open(&mut self, id: u64) {
        if let Some(errno) = self.gone {
            return self.answer(id, &Answer::Failed(errno));
        }
        self.last += 1;
        self.files.insert(self.last);
        self.answer(id, &Answer::Opened(self.last));
    }

    fn release(&mut self, fh: u64) {
        self.files.remove(&fh);
        if self.files.is_empty() {
            self.rest();
        }
    }

    /// After the last close the clock is what it was before the first open (`spidev_release`): for
    /// whoever opens next at once, and for the owner when it can be told.
    fn rest(&mut self) {
        let asked = self.asked.as_ref().map(|(_, work)| work);
        let changes = asked.into_iter().chain(&self.queue).any(Work::changes);
        if self.files.is_empty() && self.resting_hz > 0 {
            self.restless |= changes || self.owner_hz != self.resting_hz;
        }
        if self.restless {
            self.set_hz(self.resting_hz);
            if self.live {
                self.enqueue(Work::rest(self.resting_hz));
            }
        }
    }

    /// The owner's device is spoken to so.
    fn is_now(&mut self, settings: Settings) {
        self.owner_hz = settings.hz;
        self.settings.set(settings);
        if self.restless {
            self.set_hz(self.resting_hz);
        }
    }

    fn set_hz(&self, hz: u32) {
        let settings = self.settings.get();
        self.settings.set(Settings { hz, ..settings });
    }

    fn ioctl(&mut self, id: u64, ioctl: &Ioctl) {
        let command = match (Command::decode(ioctl.cmd), self.gone) {
            (Err(Errno::ENOTTY), _) => Err(Errno::ENOTTY),
            (_, Some(gone)) => Err(gone),
            (command, None) => command,
        };
        match command {
            Ok(Command::Get(setting)) => {
                let answer = match ioctl.argument(0, setting.width()) {
                    Ok(_) => Answer::Done(setting.bytes(&self.settings.get())),
                    Err(pause) => Answer::Pause(pause),
                };
                self.answer(id, &answer);
            }
            Ok(Command::Set(setting)) => match ioctl.argument(setting.width(), 0) {
                Ok(argument) => self.set(id, setting, ioctl::number(argument)),
                Err(pause) => self.answer(id, &Answer::Pause(pause)),
            },
            Ok(Command::Message(0)) => self.answer(id, &Answer::Returned(0, Vec::new())),
            Ok(Command::Message(count)) => self.message(id, ioctl, count),
            Err(errno) => self.answer(id, &Answer::Failed(errno)),
        }
    }

    fn set(&mut self, id: u64, setting: Setting, number: Option<u32>) {
        if !self.may_ask(id) {
            return;
        }
        match number
            .ok_or(Errno::EFAULT)
            .and_then(|number| self.change(setting, number))
        {
            Ok(change) => self.enqueue(Work::configure(id, change)),
            Err(errno) => self.answer(id, &Answer::Failed(errno)),
        }
    }

    /// The change that sets a setting to that number.
    fn change(&self, setting: Setting, number: u32) -> Result<Change, Errno> {
        match setting {
            Setting::Mode | Setting::Mode32 => {
                let flags = self.ext.map_or(0, |ext| ext.flags);
                let change = Change::of_mode(number, self.ext.is_some());
                let unknown = change.flags.unwrap_or_default() & !flags;
                if number & !mode::ALL != 0 || unknown != 0 {
                    return Err(Errno::EINVAL);
                }
                Ok(change)
            }
            Setting::LsbFirst => Ok(Change {
                lsb: Some(number != 0),
                ..Change::default()
            }),
            Setting::Bits => Ok(Change {
                bits: Some(u8::try_from(number).map_err(|_| Errno::EINVAL)?),
                ..Change::default()
            }),
            Setting::Hz if number == 0 => Err(Errno::EINVAL),
            Setting::Hz => Ok(Change {
                hz: Some(number),
                ..Change::default()
            }),
        }
    }

    fn message(&mut self, id: u64, ioctl: &Ioctl, count: usize) {
        if !self.may_ask(id) {
            return;
        }
        match Message::take(ioctl, count, self.bufsiz()) {
            Ok(message) => self.enqueue(Work::message(id, message)),
            Err(Stop::Pause(pause)) => self.answer(id, &Answer::Pause(pause)),
            Err(Stop::Failed(errno)) => self.answer(id, &Answer::Failed(errno)),
        }
    }

    /// The most bytes of one message each way.
    fn bufsiz(&self) -> u32 {
        self.ext.map_or(DEFAULT_BUFSIZ, |ext| ext.bufsiz)
    }

    /// Whether the owner can be asked; the call has failed otherwise.
    fn may_ask(&self, id: u64) -> bool {
        let errno = match (self.gone, self.live) {
            (Some(errno), _) => errno,
            (None, false) => Errno::ETIMEDOUT,
            (None, true) => return true,
        };
        self.answer(id, &Answer::Failed(errno));
        false
    }

    /// Whether so many bytes are read or written at a time; the call has failed otherwise.
    fn fits(&self, id: u64, size: u32) -> bool {
        let fits = size <= self.bufsiz().min(WHOLE);
        if !fits {
            self.answer(id, &Answer::Failed(Errno::EMSGSIZE));
        }
        fits
    }

    fn enqueue(&mut self, work: Work) {
        self.queue.push_back(work);
        self.go_on();
    }

    /// A signal came to a program that waits. What is on its way goes on: the kernel's spidev is not
    /// interrupted either. What has not begun does not.
    fn interrupt(&mut self, id: u64) {
        let waits = |work: &Work| work.call == Some(id);
        if let Some(index) = self.queue.iter().position(waits)
            && let Some(work) = self.queue.remove(index)
        {
            self.fail(&work, Errno::EINTR);
        }
    }

    fn response(&mut self, corr: u32, status: Status, payload: &[u8]) {
        let Some((_, work)) = self.asked.take_if(|(asked, _)| *asked == corr) else {
            return;
        };
        let answer = if status.is_success() {
            self.done(&work, payload)
        } else {
            let error = ErrorMap::decode(payload).unwrap_or_default();
            Err(told(errno(&AskError::Refused { status, error })))
        };
        match (work.call, answer) {
            (Some(id), Ok(answer)) => self.answer(id, &answer),
            (Some(_), Err(errno)) => self.fail(&work, errno),
            (None, Ok(_)) => {}
            (None, Err(errno)) => {
                // Then the clock is what it is.
                self.restless = false;
                self.set_hz(self.owner_hz);
                self.fail(&work, errno);
            }
        }
        self.go_on();
    }

    /// What a program is answered; never more than it named room for.
    fn done(&mut self, work: &Work, payload: &[u8]) -> Result<Answer, Errno> {
        use work::Kind;
        let nonsense = |error| {
            tracing::warn!(%error, "the owner of an SPI device answered without sense");
            Errno::EIO
        };
        match &work.kind {
            Kind::Configure(_) => {
                let settings = Opened::decode(payload).map_err(nonsense)?.settings;
                if work.call.is_none() {
                    self.restless = false;
                }
                self.is_now(settings);
                Ok(Answer::Done(Vec::new()))
            }
            Kind::Message(Message { transfers, total }) => {
                let lengths: Vec<_> = transfers.iter().map(|one| one.rx_len).collect();
                let received = decode_received(payload, &lengths).map_err(nonsense)?;
                Ok(Answer::Returned(*total, received))
            }
            Kind::Read(size) => {
                let bytes = decode_read_answer(payload, *size).map_err(nonsense)?;
                Ok(Answer::Data(bytes.to_vec()))
            }
            Kind::Write(bytes) => Ok(Answer::Written(bytes.len())),
        }
    }

    fn fail(&self, work: &Work, errno: Errno) {
        if let Some(id) = work.call {
            self.answer(id, &Answer::Failed(errno));
        } else {
            tracing::debug!(%errno, "an SPI device was not put to rest");
        }
    }

    fn fail_all(&mut self, errno: Errno) {
        self.blocked = false;
        let asked = self.asked.take().map(|(_, work)| work);
        for work in asked.into_iter().chain(std::mem::take(&mut self.queue)) {
            self.fail(&work, errno);
        }
    }

    fn answer(&self, id: u64, answer: &Answer) {
        if let Err(error) = self.device.answer(id, answer) {
            tracing::debug!(%error, "answer to a program");
        }
    }
}

/// The owner's kernel says this of a device that left it, and the stream ends.
const fn told(errno: Errno) -> Errno {
    match errno {
        Errno::ENODEV => Errno::ESHUTDOWN,
        errno => errno,
    }
}
