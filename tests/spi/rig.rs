//! A character device with a kernel and an owner at its ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::fake::{self, FakeSession};
use myclerk::bus::spi::client::pump::{Pump, Steering};
use myclerk::bus::spi::client::{Lent, Outage, Reopened, open};
use myclerk::bus::spi::fake::FakeSpi;
use myclerk::bus::spi::op::Opened;
use myclerk::bus::{BusStream, Ended, Inbound, Opener, Refused};
use myclerk::kernel::cuse::{Config, Cuse, MAX_PIECES, MAX_TRANSFER};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use crate::program::Program;

/// Only a hang takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Shorter than a test may take.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

const INIT: u32 = 4096;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const INTERRUPT: u32 = 36;
const IOCTL: u32 = 39;
const POLL: u32 = 40;
const RETRY: u32 = 4;

pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        timeout(PATIENCE, test).await.expect("the test hangs")
    })
}

/// Waits for what nothing tells.
pub(crate) async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_ne_bytes(bytes[4 * index..][..4].try_into().unwrap())
}

fn long(bytes: &[u8], index: usize) -> u64 {
    u64::from_ne_bytes(bytes[8 * index..][..8].try_into().unwrap())
}

/// What the device answers to one request: an errno, or what follows the header.
type Reply = Result<Vec<u8>, Errno>;

/// The kernel's end (fs/fuse).
pub(crate) struct Kernel {
    channel: UnixDatagram,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, oneshot::Sender<Reply>>>,
    /// Rounds of ioctls so far.
    pub(crate) rounds: Cell<usize>,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) id: u64,
    reply: oneshot::Receiver<Reply>,
}

impl Call {
    async fn reply(self) -> Reply {
        let reply = timeout(PATIENCE, self.reply).await;
        reply.expect("an answer in time").expect("an answer")
    }
}

impl Kernel {
    /// The kernel, and the device that it made.
    pub(crate) fn with_device() -> (Rc<Self>, Cuse) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        for end in [&ours, &theirs] {
            // A whole call with its header in one message.
            setsockopt(end, sockopt::SndBuf, &(1 << 19)).unwrap();
        }
        let init = message(INIT, 1, &words(&[7, 41, 0, 1]));
        assert_eq!(ours.try_send(&init).unwrap(), init.len());
        let config = Config {
            name: "spidev7.0".to_owned(),
            max_read: MAX_TRANSFER,
            max_write: MAX_TRANSFER,
        };
        let cuse = Cuse::over(theirs.into_std().unwrap().into(), &config).unwrap();
        let kernel = Rc::new(Self {
            channel: ours,
            next: Cell::new(2),
            waiting: RefCell::default(),
            rounds: Cell::new(0),
        });
        spawn_local(Rc::clone(&kernel).hears());
        (kernel, cuse)
    }

    /// Hands out answers until the device is gone.
    async fn hears(self: Rc<Self>) {
        let mut answer = vec![0; 1 << 19];
        loop {
            let Ok(length) = self.channel.recv(&mut answer).await else {
                return;
            };
            assert_eq!(usize::try_from(word(&answer, 0)), Ok(length));
            let (error, id) = (word(&answer, 1).cast_signed(), long(&answer, 1));
            let reply = match error {
                0 => Ok(answer[16..length].to_vec()),
                error => Err(Errno::from_raw(-error)),
            };
            // Of a poll nobody waits for, or of a call that a test forgot.
            if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
                let _ = waiting.send(reply);
            }
        }
    }

    fn call(&self, opcode: u32, fields: &[u8]) -> Call {
        let id = self.next.get();
        self.next.set(id + 1);
        let (waiting, reply) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, waiting);
        let message = message(opcode, id, fields);
        assert_eq!(self.channel.try_send(&message).unwrap(), message.len());
        Call { id, reply }
    }

    pub(crate) async fn open(&self) -> Result<u64, Errno> {
        let reply = self.call(OPEN, &words(&[2, 0])).reply().await?;
        Ok(long(&reply, 0))
    }

    pub(crate) fn release(&self, fh: u64) {
        let fields = [fh.to_ne_bytes().to_vec(), words(&[0; 4])].concat();
        drop(self.call(RELEASE, &fields));
    }

    pub(crate) fn start_read(&self, fh: u64, size: u32) -> Call {
        let fields = [words(&[0, 0, size, 0, 0, 0, 0, 0])].concat();
        self.call(READ, &[fh.to_ne_bytes().to_vec(), fields].concat())
    }

    pub(crate) async fn read(&self, fh: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.start_read(fh, size).reply().await
    }

    pub(crate) async fn finish_read(&self, call: Call) -> Result<Vec<u8>, Errno> {
        call.reply().await
    }

    pub(crate) async fn write(&self, fh: u64, bytes: &[u8]) -> Result<u32, Errno> {
        let size = u32::try_from(bytes.len()).unwrap();
        let fields = words(&[0, 0, size, 0, 0, 0, 0, 0]);
        let fields = [&fh.to_ne_bytes(), &*fields, bytes].concat();
        let reply = self.call(WRITE, &fields).reply().await?;
        Ok(word(&reply, 0))
    }

    pub(crate) async fn poll(&self, fh: u64) -> u32 {
        let fields = [fh.to_ne_bytes().to_vec(), words(&[0; 4])].concat();
        word(&self.call(POLL, &fields).reply().await.unwrap(), 0)
    }

    pub(crate) fn interrupt(&self, call: &Call) {
        drop(self.call(INTERRUPT, &call.id.to_ne_bytes()));
    }

    /// `fuse_do_ioctl`: the rounds of one call of this program.
    pub(crate) async fn ioctl(
        &self,
        program: &Program,
        fh: u64,
        cmd: u32,
        arg: u64,
    ) -> Result<i32, Errno> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        loop {
            self.rounds.set(self.rounds.get() + 1);
            let input = program.gather(&inputs)?;
            let room: u64 = outputs.iter().map(|(_, len)| len).sum();
            let flags = u32::from(program.compat);
            let sizes = [input.len(), usize::try_from(room).unwrap()];
            let [in_size, out_size] = sizes.map(|size| u32::try_from(size).unwrap());
            let fields = [
                &fh.to_ne_bytes(),
                &*words(&[flags, cmd]),
                &arg.to_ne_bytes(),
                &*words(&[in_size, out_size]),
                &input,
            ];
            let reply = self.call(IOCTL, &fields.concat()).reply().await?;
            let [result, flags, ins, outs] = [0, 1, 2, 3].map(|index| word(&reply, index));
            let rest = &reply[16..];
            if flags & RETRY == 0 {
                let errno = result
                    .cast_signed()
                    .checked_neg()
                    .filter(|errno| *errno > 0);
                if u64::try_from(rest.len()).unwrap() > room {
                    return Err(Errno::EIO);
                }
                program.scatter(&outputs, rest)?;
                return errno.map_or(Ok(result.cast_signed()), |errno| {
                    Err(Errno::from_raw(errno))
                });
            }
            let (ins, outs) = (
                usize::try_from(ins).unwrap(),
                usize::try_from(outs).unwrap(),
            );
            if ins + outs > MAX_PIECES {
                return Err(Errno::ENOMEM);
            }
            assert_eq!(rest.len(), 16 * (ins + outs));
            let pieces: Vec<_> = rest
                .chunks(16)
                .map(|one| (long(one, 0), long(one, 1)))
                .collect();
            let fits = |pieces: &[(u64, u64)]| {
                pieces.iter().map(|(_, len)| len).sum::<u64>() <= u64::from(MAX_TRANSFER)
            };
            if program.compat && pieces.iter().any(|(base, _)| u32::try_from(*base).is_err()) {
                return Err(Errno::EIO);
            }
            (inputs, outputs) = (pieces[..ins].to_vec(), pieces[ins..].to_vec());
            if !fits(&inputs) || !fits(&outputs) {
                return Err(Errno::ENOMEM);
            }
        }
    }
}

fn message(opcode: u32, id: u64, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + fields.len()).unwrap();
    let mut message = words(&[length, opcode]);
    message.extend(id.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message.extend(words(&[1000, 100, 4242, 0]));
    message.extend(fields);
    message
}

/// A device that is local, with whoever steers it.
pub(crate) struct Bench {
    pub(crate) kernel: Rc<Kernel>,
    pub(crate) steering: Steering,
    pub(crate) ended: JoinHandle<Ended>,
    pub(crate) left: Rc<Cell<bool>>,
}

impl Bench {
    /// On the server half of this machine.
    pub(crate) async fn on(chip: &FakeSpi) -> Self {
        Self::over(&chip.session(), GRACE).await
    }

    pub(crate) async fn over(session: &Rc<FakeSession>, grace: Duration) -> Self {
        let opener: Rc<dyn Opener> = Rc::clone(session) as Rc<dyn Opener>;
        let opened = open(opener.as_ref(), "spi:spidev0.0", None).await.unwrap();
        Self::with(opened, opener, grace)
    }

    /// On a stream whose other end the test has.
    pub(crate) fn alone(opened: Opened) -> (Self, BusStream) {
        let (mine, theirs) = fake::pair();
        let nobody = FakeSession::new(|_| (), |_, _| Err(Refused::gone()));
        (
            Self::with((opened, Lent::new(mine)), nobody, Duration::ZERO),
            theirs,
        )
    }

    pub(crate) fn with(opened: Reopened, opener: Rc<dyn Opener>, grace: Duration) -> Self {
        let (kernel, cuse) = Kernel::with_device();
        let outage = Outage {
            opener,
            device: "spi:spidev0.0".to_owned(),
            grace,
        };
        let (pump, steering) = Pump::new(Rc::new(cuse), opened, outage, "/dev/spidev7.0".into());
        let left = Rc::new(Cell::new(false));
        let leaves = Rc::clone(&left);
        let ended = spawn_local(pump.run(move || leaves.set(true)));
        Self {
            kernel,
            steering,
            ended,
            left,
        }
    }

    /// A program that has it open.
    pub(crate) async fn program(&self) -> Program {
        let fh = self.kernel.open().await.unwrap();
        Program::new(Rc::clone(&self.kernel), fh)
    }
}

/// The next request of the stream.
pub(crate) async fn request(
    stream: &mut BusStream,
) -> (u32, myclerk::wire::opcode::Opcode, Vec<u8>) {
    match timeout(PATIENCE, stream.inbound.recv())
        .await
        .expect("a request in time")
    {
        Some(Inbound::Request {
            corr,
            opcode,
            payload,
            ..
        }) => (corr, opcode, payload),
        other => panic!("not a request: {other:?}"),
    }
}
