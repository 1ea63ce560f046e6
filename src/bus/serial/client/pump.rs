//! The task of a tty: brings it what programs and the owner say, until both have left.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::outage::{Outage, Reopened};
use super::pulse;
use super::tty::Tty;
use crate::bus::chardev::Device;
use crate::bus::outage::{Returning, returned};
use crate::bus::serial::op::{ControlSet, Lines, Settings, encode_empty};
use crate::bus::{
    AskError, BusStream, Ended, Handle, Inbound, OperateError, Operating, Outgoing, Parameters,
};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;
use crate::wire::status::Status;

/// How long the owner has to confirm that its port is given back.
const FAREWELL: Duration = Duration::from_secs(2);

/// A sequence that somebody wants to be run, and where the lines after it go.
type Order = (ControlSet, oneshot::Sender<Result<Lines, AskError>>);

/// Steers a tty.
pub struct Steering {
    file: String,
    live: Rc<Cell<bool>>,
    stop: Rc<Notify>,
    orders: UnboundedSender<Order>,
}

impl Handle for Steering {
    fn files(&self) -> Vec<String> {
        vec![self.file.clone()]
    }

    fn detach(&self) {
        self.stop.notify_one();
    }

    fn is_live(&self) -> bool {
        self.live.get()
    }

    fn operate(&self, operation: String, parameters: Parameters) -> Operating<'_> {
        Box::pin(async move {
            let set = pulse::sequence(&operation, &parameters)?;
            let (done, lines) = oneshot::channel();
            let ended = || OperateError::Ask(AskError::Ended("the tty is given back".into()));
            self.orders.send((set, done)).map_err(|_| ended())?;
            let lines = lines.await.map_err(|_| ended())??;
            Ok(pulse::report(&lines))
        })
    }
}

/// A tty and what it lives on.
pub struct Pump {
    device: Rc<dyn Device>,
    stream: BusStream,
    tty: Tty,
    stop: Rc<Notify>,
    orders: UnboundedReceiver<Order>,
    live: Rc<Cell<bool>>,
    outage: Option<Outage>,
    /// While there is no session.
    returning: Option<Returning<Reopened>>,
}

/// What happened next.
enum Happened {
    Call(std::io::Result<crate::kernel::cuse::Request>),
    Inbound(Option<Inbound>),
    Returned(Result<Reopened, Ended>),
    Tick,
    Stop,
    Order(Order),
}

impl Pump {
    /// The tty `file` on a device, for a port that is as `actual` says; and what steers it.
    pub fn new(
        device: Rc<dyn Device>,
        stream: BusStream,
        actual: Settings,
        file: String,
    ) -> (Self, Steering) {
        let (sender, orders) = unbounded_channel();
        let stop = Rc::new(Notify::new());
        let number = super::name::number(&file);
        let tty = Tty::new(
            Rc::clone(&device),
            Rc::clone(&stream.outlet),
            actual,
            number,
        );
        let live = Rc::new(Cell::new(true));
        let steering = Steering {
            file,
            live: Rc::clone(&live),
            stop: Rc::clone(&stop),
            orders: sender,
        };
        let pump = Self {
            device,
            stream,
            tty,
            stop,
            orders,
            live,
            outage: None,
            returning: None,
        };
        (pump, steering)
    }

    /// It stays for a while when the session is lost.
    #[must_use]
    pub fn outliving(mut self, outage: Outage) -> Self {
        self.outage = Some(outage);
        self
    }

    /// Serves until the port is gone or given back; `left` is called then. Programs that still have
    /// the tty open are served as on a line that is hung up; done when the last of them has closed.
    pub async fn run(mut self, left: impl FnOnce()) -> Ended {
        let ended = loop {
            match self.happens(false).await {
                Happened::Call(Ok(request)) => self.tty.request(Instant::now(), request),
                Happened::Call(Err(error)) => {
                    self.farewell().await;
                    return Ended::Failed(format!("the kernel ended the device: {error}"));
                }
                Happened::Inbound(None | Some(Inbound::Closed)) => {
                    if let Err(ended) = self.lose() {
                        break ended;
                    }
                }
                Happened::Returned(Ok(reopened)) => self.resume(reopened),
                Happened::Returned(Err(ended)) => break ended,
                Happened::Inbound(Some(Inbound::Reset { status })) => break Ended::Owner(status),
                Happened::Inbound(Some(inbound)) => self.tty.inbound(Instant::now(), inbound),
                Happened::Tick => self.tty.tick(Instant::now()),
                Happened::Stop => break Ended::Detached,
                Happened::Order((set, done)) => self.tty.run(&set, done),
            }
        };
        // Nobody wants the port back any more.
        self.returning = None;
        self.tty.end();
        left();
        if ended == Ended::Detached {
            self.farewell().await;
        }
        while !self.tty.is_finished() {
            match self.happens(true).await {
                Happened::Call(Ok(request)) => self.tty.request(Instant::now(), request),
                Happened::Call(Err(_)) => break,
                Happened::Inbound(_)
                | Happened::Returned(_)
                | Happened::Tick
                | Happened::Stop
                | Happened::Order(_) => {}
            }
        }
        ended
    }

    fn lose(&mut self) -> Result<(), Ended> {
        let outage = self.outage.as_ref().ok_or(Ended::Session)?;
        self.returning = Some(outage.begin(self.tty.termios())?);
        self.live.set(false);
        self.tty.lose(Instant::now());
        Ok(())
    }

    fn resume(&mut self, (actual, stream): Reopened) {
        self.returning = None;
        self.stream = stream;
        self.live.set(true);
        tracing::info!("the owner of the serial port is back");
        let outlet = Rc::clone(&self.stream.outlet);
        self.tty.resume(Instant::now(), outlet, actual);
    }

    /// What happens next; once it is `over`, only calls.
    async fn happens(&mut self, over: bool) -> Happened {
        let deadline = self.tty.deadline();
        let tick = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            call = self.device.next() => Happened::Call(call),
            inbound = self.stream.inbound.recv(), if !over && self.returning.is_none() => {
                Happened::Inbound(inbound)
            }
            returned = returned(&mut self.returning), if !over => Happened::Returned(returned),
            () = tick, if !over => Happened::Tick,
            () = self.stop.notified(), if !over => Happened::Stop,
            Some(order) = self.orders.recv(), if !over => Happened::Order(order),
        }
    }

    /// Gives the port back.
    async fn farewell(&mut self) {
        // The owner's silence changes nothing.
        let _ = timeout(FAREWELL, close(&mut self.stream)).await;
    }
}

/// Gives the port back and waits until the owner has it. One that cannot be asked is told without.
pub async fn close(stream: &mut BusStream) {
    let close = outgoing(Opcode::SerialPortClose, encode_empty());
    let Ok(corr) = stream.outlet.request(close) else {
        stream.outlet.reset(Status::Ok);
        return;
    };
    loop {
        match stream.inbound.recv().await {
            Some(Inbound::Response { corr: of, .. }) if of == corr => break,
            None | Some(Inbound::Closed | Inbound::Reset { .. }) => break,
            Some(Inbound::Data { payload, .. } | Inbound::Event { payload, .. }) => {
                stream.outlet.consume(payload.len());
            }
            Some(_) => {}
        }
    }
}

/// A request without a time limit.
pub fn outgoing(opcode: Opcode, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        opcode,
        class: Class::Interactive,
        payload,
        reply_len: 1024,
        timeout_ms: 0,
        deadline_ms: 0,
    }
}
