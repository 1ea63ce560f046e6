//! The character device: brings what programs call to the owner and back, until both have left.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::call::{OpenFile, Question, Step};
use crate::bus::chardev::{Answer, Device};
use crate::bus::i2c::op::BusEntry;
use crate::bus::remote::Remote;
use crate::bus::{Ended, Handle};
use crate::kernel::cuse::{Body, Request};

/// What poll says of a file that has no poll of its own (kernel `DEFAULT_POLLMASK`).
const ALWAYS_READY: u32 = 0x145;
/// After a signal a call still waits so long for the owner: what happens on the bus cannot be taken back,
/// and programs that use timers do not expect it to be.
const AFTER_SIGNAL: Duration = Duration::from_secs(2);

/// Steers a device.
pub struct Steering {
    file: String,
    remote: Rc<Remote>,
}

impl Handle for Steering {
    fn files(&self) -> Vec<String> {
        vec![self.file.clone()]
    }

    fn detach(&self) {
        self.remote.give_up();
    }

    fn is_live(&self) -> bool {
        self.remote.is_live()
    }
}

/// One character device.
pub struct Node {
    device: Rc<dyn Device>,
    remote: Rc<Remote>,
    bus: BusEntry,
    files: BTreeMap<u64, OpenFile>,
    /// The last number of an open file.
    last: u64,
    /// Calls that the owner was asked for, with what tells of a signal.
    running: HashMap<u64, Rc<Notify>>,
    report: UnboundedSender<(u64, Answer)>,
    reports: UnboundedReceiver<(u64, Answer)>,
    gone: bool,
}

impl Node {
    /// The device for a bus of the owner, which is called `file`; and what steers it.
    pub fn new(
        device: Rc<dyn Device>,
        remote: Rc<Remote>,
        bus: BusEntry,
        file: String,
    ) -> (Self, Steering) {
        let (report, reports) = unbounded_channel();
        let steering = Steering {
            file,
            remote: Rc::clone(&remote),
        };
        let node = Self {
            device,
            remote,
            bus,
            files: BTreeMap::new(),
            last: 0,
            running: HashMap::new(),
            report,
            reports,
            gone: false,
        };
        (node, steering)
    }

    /// Serves until the bus is gone or given back, and then as long as a program has it open: every call
    /// fails as on an adapter that was pulled out.
    pub async fn serve(mut self) -> Ended {
        let remote = Rc::clone(&self.remote);
        let mut watch = Box::pin(remote.watch());
        let ended = loop {
            tokio::select! {
                call = self.device.next() => match call {
                    Ok(request) => self.request(request),
                    Err(error) => {
                        remote.give_up();
                        return Ended::Failed(format!("the kernel ended the device: {error}"));
                    }
                },
                Some((id, answer)) = self.reports.recv() => self.finish(id, &answer),
                ended = &mut watch => break ended,
            }
        };
        self.gone = true;
        while !self.files.is_empty() || !self.running.is_empty() {
            tokio::select! {
                call = self.device.next() => match call {
                    Ok(request) => self.request(request),
                    Err(_) => break,
                },
                Some((id, answer)) = self.reports.recv() => self.finish(id, &answer),
            }
        }
        ended
    }

    fn request(&mut self, Request { id, body, .. }: Request) {
        match body {
            Body::Open { .. } if self.gone => self.answer(id, &Answer::Failed(Errno::ENODEV)),
            Body::Open { .. } => {
                self.last += 1;
                self.files.insert(self.last, OpenFile::default());
                self.answer(id, &Answer::Opened(self.last));
            }
            Body::Release { fh } => {
                self.files.remove(&fh);
            }
            Body::Read { fh, size, .. } => {
                let question = self.file(fh).and_then(|file| file.read(&self.bus, size));
                self.begin(id, question);
            }
            Body::Write { fh, data, .. } => {
                let question = self.file(fh).and_then(|file| file.write(&self.bus, &data));
                self.begin(id, question);
            }
            Body::Ioctl(call) => {
                let Ok(mut file) = self.file(call.fh) else {
                    return self.answer(id, &Answer::Failed(Errno::ENODEV));
                };
                let step = file.ioctl(&self.bus, &call);
                self.files.insert(call.fh, file);
                match step {
                    Ok(Step::Ask(question)) => self.begin(id, Ok(question)),
                    Ok(Step::Answered(answer)) => self.answer(id, &answer),
                    Err(stop) => self.answer(id, &stop.into()),
                }
            }
            Body::Poll { .. } => self.answer(id, &Answer::Ready(ALWAYS_READY)),
            Body::Interrupt { id } => {
                if let Some(signal) = self.running.get(&id) {
                    signal.notify_one();
                }
            }
        }
    }

    fn file(&self, fh: u64) -> Result<OpenFile, Errno> {
        if self.gone {
            return Err(Errno::ENODEV);
        }
        self.files.get(&fh).copied().ok_or(Errno::ENODEV)
    }

    /// Asks the owner; others are served meanwhile.
    fn begin(&mut self, id: u64, question: Result<Question, Errno>) {
        let question = match question {
            Ok(question) => question,
            Err(errno) => return self.answer(id, &Answer::Failed(errno)),
        };
        let signal = Rc::new(Notify::new());
        self.running.insert(id, Rc::clone(&signal));
        let (remote, report) = (Rc::clone(&self.remote), self.report.clone());
        spawn_local(async move {
            let signalled = async {
                signal.notified().await;
                sleep(AFTER_SIGNAL).await;
            };
            let answer = tokio::select! {
                answer = ask(&remote, question) => answer.unwrap_or_else(Answer::Failed),
                () = signalled => Answer::Failed(Errno::EINTR),
            };
            // Nobody waits when the device is gone.
            let _ = report.send((id, answer));
        });
    }

    fn finish(&mut self, id: u64, answer: &Answer) {
        self.running.remove(&id);
        self.answer(id, answer);
    }

    fn answer(&self, id: u64, answer: &Answer) {
        if let Err(error) = self.device.answer(id, answer) {
            tracing::debug!(%error, "answer to a program");
        }
    }
}

async fn ask(remote: &Remote, question: Question) -> Result<Answer, Errno> {
    let (opcode, payload) = question.request();
    let answer = remote.call(opcode, payload, question.patience()).await?;
    question.answer(&answer).inspect_err(|_| {
        tracing::warn!("the owner of an I2C bus answered without sense");
    })
}
