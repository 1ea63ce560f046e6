//! A tty with the test at both of its ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::chardev::{Answer, Device};
use myclerk::bus::fake;
use myclerk::bus::serial::client::outage::Outage;
use myclerk::bus::serial::client::pump::{Pump, Steering};
use myclerk::bus::serial::client::structs;
use myclerk::bus::serial::op::{ControlSet, DataWrite, LineEvent, Lines, Settings, Written};
use myclerk::bus::{BusStream, Ended, Inbound};
use myclerk::kernel::cuse::{Body, Ioctl, Pause, Piece, Request};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::timeout;

/// Only a hang takes this long.
const HANG: Duration = Duration::from_secs(600);
/// Where programs keep what an ioctl's argument points to.
const ARGUMENT: u64 = 0x7FFF_0000;

pub(crate) const NONBLOCK: u32 = 0o4000;
pub(crate) const TCGETS2: u32 = 0x802C_542A;
pub(crate) const TCSETS2: u32 = 0x402C_542B;
pub(crate) const TCSETSW2: u32 = 0x402C_542C;
pub(crate) const TCSETSF2: u32 = 0x402C_542D;
pub(crate) const FIONREAD: u32 = 0x541B;
pub(crate) const TIOCMGET: u32 = 0x5415;
pub(crate) const TIOCMBIS: u32 = 0x5416;
pub(crate) const TIOCMBIC: u32 = 0x5417;
pub(crate) const TIOCMSET: u32 = 0x5418;

/// The kernel's end.
pub(crate) struct Kernel {
    calls: Mutex<mpsc::UnboundedReceiver<Request>>,
    to_tty: mpsc::UnboundedSender<Request>,
    next: Cell<u64>,
    open: RefCell<HashMap<u64, oneshot::Sender<Answer>>>,
    pub(crate) woken: RefCell<Vec<u64>>,
}

/// A call under way.
pub(crate) struct Call {
    pub(crate) id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Call {
    pub(crate) async fn answer(self) -> Answer {
        timeout(HANG, self.answer)
            .await
            .expect("an answer in time")
            .expect("an answer")
    }

    pub(crate) fn is_answered(&self) -> bool {
        !self.answer.is_empty()
    }
}

impl Kernel {
    pub(crate) fn new() -> Rc<Self> {
        let (to_tty, calls) = mpsc::unbounded_channel();
        Rc::new(Self {
            calls: Mutex::new(calls),
            to_tty,
            next: Cell::new(1),
            open: RefCell::default(),
            woken: RefCell::default(),
        })
    }

    fn send(&self, uid: u32, body: Body) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        let request = Request {
            id,
            pid: 1,
            uid,
            body,
        };
        self.to_tty.send(request).expect("a tty");
        id
    }

    pub(crate) fn call_as(&self, uid: u32, body: Body) -> Call {
        let (sender, answer) = oneshot::channel();
        let id = self.send(uid, body);
        self.open.borrow_mut().insert(id, sender);
        Call { id, answer }
    }

    pub(crate) fn call(&self, body: Body) -> Call {
        self.call_as(1000, body)
    }

    pub(crate) fn interrupt(&self, call: &Call) {
        self.send(0, Body::Interrupt { id: call.id });
    }

    pub(crate) fn release(&self, fh: u64) {
        self.send(0, Body::Release { fh });
    }

    pub(crate) fn read(&self, fh: u64, size: u32) -> Call {
        let nonblock = false;
        self.call(Body::Read { fh, size, nonblock })
    }

    pub(crate) fn read_now(&self, fh: u64, size: u32) -> Call {
        let nonblock = true;
        self.call(Body::Read { fh, size, nonblock })
    }

    pub(crate) fn write(&self, fh: u64, data: &[u8]) -> Call {
        let (data, nonblock) = (data.to_vec(), false);
        self.call(Body::Write { fh, data, nonblock })
    }

    pub(crate) fn write_now(&self, fh: u64, data: &[u8]) -> Call {
        let (data, nonblock) = (data.to_vec(), true);
        self.call(Body::Write { fh, data, nonblock })
    }

    /// An ioctl with a number as its argument.
    pub(crate) fn control(&self, fh: u64, cmd: u32, arg: u64) -> Call {
        self.call(Body::Ioctl(Ioctl {
            fh,
            cmd,
            arg,
            input: Vec::new(),
            out_size: 0,
            compat: false,
        }))
    }

    /// An ioctl whose argument points to `input`, and to room for `output` bytes. Both rounds.
    pub(crate) async fn pointed(&self, fh: u64, cmd: u32, input: &[u8], output: u32) -> Call {
        let first = self.control(fh, cmd, ARGUMENT).answer().await;
        let length = u32::try_from(input.len()).unwrap();
        let wanted = Pause::Again {
            inputs: vec![Piece::at(ARGUMENT, length)],
            outputs: vec![Piece::at(ARGUMENT, output)],
        };
        assert_eq!(first, Answer::Pause(wanted), "ioctl {cmd:#x}");
        self.call(Body::Ioctl(Ioctl {
            fh,
            cmd,
            arg: ARGUMENT,
            input: input.to_vec(),
            out_size: output,
            compat: false,
        }))
    }

    /// An ioctl that only tells something.
    pub(crate) async fn get(&self, fh: u64, cmd: u32, output: u32) -> Vec<u8> {
        match self.pointed(fh, cmd, &[], output).await.answer().await {
            Answer::Done(bytes) => bytes,
            other => panic!("ioctl {cmd:#x}: {other:?}"),
        }
    }

    /// An ioctl that tells a number.
    pub(crate) async fn number(&self, fh: u64, cmd: u32) -> u32 {
        let bytes = self.get(fh, cmd, 4).await;
        u32::from_ne_bytes(bytes.try_into().expect("four bytes"))
    }

    pub(crate) async fn poll(&self, fh: u64, kh: u64) -> u32 {
        let poll = Body::Poll {
            fh,
            kh,
            events: u32::MAX,
            schedule_notify: true,
        };
        match self.call(poll).answer().await {
            Answer::Ready(revents) => revents,
            other => panic!("{other:?}"),
        }
    }
}

impl Device for Kernel {
    fn next(&self) -> Pin<Box<dyn Future<Output = io::Result<Request>> + '_>> {
        Box::pin(async {
            let next = self.calls.lock().await.recv().await;
            next.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    fn answer(&self, id: u64, answer: &Answer) -> io::Result<()> {
        let waiting = self.open.borrow_mut().remove(&id);
        // An answer to what was answered, or never asked, is a fault.
        let waiting = waiting.unwrap_or_else(|| panic!("no call {id}: {answer:?}"));
        // A test need not wait for it.
        let _ = waiting.send(answer.clone());
        Ok(())
    }

    fn wake(&self, kh: u64) -> io::Result<()> {
        self.woken.borrow_mut().push(kh);
        Ok(())
    }
}

/// The owner's end.
pub(crate) struct Owner(pub(crate) BusStream);

impl Owner {
    /// What comes next. The port has taken what came before.
    pub(crate) async fn next(&mut self) -> Inbound {
        loop {
            let next = timeout(HANG, self.0.inbound.recv()).await;
            let next = next.expect("something in time").expect("something");
            match mark(&next) {
                Some(corr) => self.respond(corr, Written { count: 0 }.encode()),
                None => return next,
            }
        }
    }

    /// The next request, which must be this one.
    pub(crate) async fn request(&mut self, wanted: Opcode) -> (u32, Vec<u8>) {
        match self.next().await {
            Inbound::Request {
                corr,
                opcode,
                payload,
                ..
            } if opcode == wanted => (corr, payload),
            other => panic!("not {wanted}: {other:?}"),
        }
    }

    pub(crate) fn respond(&self, corr: u32, payload: Vec<u8>) {
        self.0.outlet.respond(corr, Status::Ok, payload);
    }

    /// The next change of the lines, answered.
    pub(crate) async fn lines_set(&mut self) -> ControlSet {
        let (corr, payload) = self.request(Opcode::SerialControlSet).await;
        self.respond(corr, Lines::default().encode().unwrap());
        ControlSet::decode(&payload).unwrap()
    }

    pub(crate) async fn data(&mut self) -> Vec<u8> {
        match self.next().await {
            Inbound::Data { payload, .. } => {
                self.0.outlet.consume(payload.len());
                payload
            }
            other => panic!("not data: {other:?}"),
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        assert!(self.0.outlet.writable(bytes.len()), "no credit");
        self.0.outlet.data(bytes.to_vec(), false);
    }

    pub(crate) fn event(&self, event: &LineEvent) {
        let payload = event.encode().unwrap();
        self.0.outlet.event(Opcode::SerialControlGet, payload);
    }

    /// Nothing has been sent and not looked at.
    pub(crate) async fn is_left_alone(&mut self) {
        settle().await;
        while let Ok(inbound) = self.0.inbound.try_recv() {
            let Some(corr) = mark(&inbound) else {
                panic!("{inbound:?}");
            };
            self.respond(corr, Written { count: 0 }.encode());
            settle().await;
        }
    }
}

/// Whether the tty wants to know when the port has taken what was sent.
fn mark(inbound: &Inbound) -> Option<u32> {
    let Inbound::Request {
        corr,
        opcode: Opcode::SerialDataWrite,
        payload,
        ..
    } = inbound
    else {
        return None;
    };
    let write = DataWrite::decode(payload).unwrap();
    (write.data.is_empty() && !write.drain).then_some(*corr)
}

pub(crate) struct Bench {
    pub(crate) kernel: Rc<Kernel>,
    pub(crate) owner: Owner,
    pub(crate) steering: Steering,
    pub(crate) ended: JoinHandle<Ended>,
    pub(crate) left: Rc<Cell<bool>>,
}

impl Bench {
    /// A tty that nobody has opened.
    pub(crate) async fn new() -> Self {
        Self::with(Settings {
            baud: 9600,
            ..Settings::default()
        })
        .await
    }

    pub(crate) async fn with(actual: Settings) -> Self {
        let (mine, theirs) = fake::pair();
        Self::on(mine, theirs, actual, None).await
    }

    /// On a stream with these ends; with `outage` it outlives the session.
    pub(crate) async fn on(
        mine: BusStream,
        theirs: BusStream,
        actual: Settings,
        outage: Option<Outage>,
    ) -> Self {
        let kernel = Kernel::new();
        let device = Rc::clone(&kernel);
        let (pump, steering) = Pump::new(device, mine, actual, "/dev/ttyMC7".into());
        let pump = match outage {
            Some(outage) => pump.outliving(outage),
            None => pump,
        };
        let left = Rc::new(Cell::new(false));
        let leaves = Rc::clone(&left);
        let ended = tokio::task::spawn_local(pump.run(move || leaves.set(true)));
        let mut owner = Owner(theirs);
        let (corr, _) = owner.request(Opcode::SerialControlGet).await;
        owner.respond(corr, Lines::default().encode().unwrap());
        Self {
            kernel,
            owner,
            steering,
            ended,
            left,
        }
    }

    /// Opens it for the first time.
    pub(crate) async fn open(&mut self) -> u64 {
        let open = self.kernel.call(Body::Open { flags: 2 });
        let set = self.owner.lines_set().await;
        assert_eq!((set.dtr, set.rts), (Some(true), Some(true)));
        opened(open.answer().await)
    }

    /// The same, and no byte is changed on its way.
    pub(crate) async fn open_raw(&mut self, min: u8, time: u8) -> u64 {
        let fh = self.open().await;
        let mut termios = self.termios(fh).await;
        (termios.iflag, termios.oflag, termios.lflag) = (0, 0, 0);
        (termios.cc[6], termios.cc[5]) = (min, time);
        self.set_termios(fh, &termios).await;
        fh
    }

    pub(crate) async fn termios(&self, fh: u64) -> Termios {
        let bytes = self.kernel.get(fh, TCGETS2, 44).await;
        Termios::set2(&bytes).expect("a termios2")
    }

    /// Sets what the owner has nothing to do with.
    pub(crate) async fn set_termios(&self, fh: u64, termios: &Termios) {
        let bytes = termios.encode2();
        let set = self.kernel.pointed(fh, TCSETS2, &bytes, 0).await;
        assert_eq!(set.answer().await, Answer::Done(Vec::new()));
    }
}

pub(crate) use myclerk::bus::serial::client::termios::Termios;

pub(crate) fn opened(answer: Answer) -> u64 {
    match answer {
        Answer::Opened(fh) => fh,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn data(bytes: &[u8]) -> Answer {
    Answer::Data(bytes.to_vec())
}

pub(crate) const fn failed(errno: Errno) -> Answer {
    Answer::Failed(errno)
}

/// Everything that can happen without the time going on has happened.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Runs a test on virtual time.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

pub(crate) const DTR_RTS: u32 = structs::line::DTR | structs::line::RTS;
