//! Joins the kernel's socket, the session and the URBs, and ends all three in order.

use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout};

use super::endpoints::Endpoints;
use super::socket::{FromKernel, GATHER, Message, ReadError, Reader, Sink, Source};
use super::urbs::{Fatal, Urbs};
use super::{Ended, Session};
use crate::bus::usb::op;
use crate::bus::{Inbound, Outgoing, Outlet, OutletError};
use crate::kernel::vhci::{PortId, Vhci};
use crate::wire::class::Class;
use crate::wire::error::ErrorMap;
use crate::wire::limits::UNDECLARED_REPLY;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long the kernel may take to close its end after a detach, and the server to let go.
const FAREWELL: Duration = Duration::from_secs(5);
/// Messages read ahead of what is being dealt with.
const READ_AHEAD: usize = 16;
/// Answers dealt with before the kernel is told of them: one call for all.
const BATCH: usize = 32;

/// One attached device's task.
pub(super) struct Pump {
    urbs: Urbs,
    outlet: Rc<dyn Outlet>,
    inbound: mpsc::UnboundedReceiver<Inbound>,
    commands: mpsc::Receiver<Result<FromKernel, ReadError>>,
    /// Bounded by the URBs that the kernel has outstanding.
    answers: mpsc::UnboundedSender<Message>,
    socket: (Guard, Guard),
    stop: Arc<Notify>,
}

impl Pump {
    pub(super) fn new(
        socket: UnixStream,
        endpoints: Rc<RefCell<Endpoints>>,
        (outlet, inbound): Session,
        stop: Arc<Notify>,
    ) -> Self {
        let (source, sink) = socket.into_split();
        let (forward, commands) = mpsc::channel(READ_AHEAD);
        let (answers, to_write) = mpsc::unbounded_channel();
        let reader = Reader::new(source, Rc::clone(&endpoints));
        let reader = tokio::task::spawn_local(read(reader, forward));
        let writer = tokio::task::spawn_local(write(sink, to_write));
        Self {
            urbs: Urbs::new(Rc::clone(&outlet), endpoints),
            outlet,
            inbound,
            commands,
            answers,
            socket: (Guard(reader.abort_handle()), Guard(writer.abort_handle())),
            stop,
        }
    }

    /// Serves the device until something ends it, then frees the port and the server's device.
    pub(super) async fn run(mut self, vhci: &Vhci, port: PortId) -> Ended {
        let end = self.serve().await;
        let by_kernel = matches!(end, Ended::Kernel);
        if !by_kernel && let Err(error) = vhci.detach(port) {
            // Closing our end of the socket, below, frees the port as well.
            tracing::warn!(%port, %error, "the port could not be detached");
        }
        // The kernel's last words are read, or it would wait for us.
        let quiet = async { while self.commands.recv().await.is_some() {} };
        if timeout(FAREWELL, quiet).await.is_err() {
            tracing::warn!(%port, "the kernel did not close its end");
        }
        drop(self.socket);
        match end {
            Ended::SessionClosed | Ended::Reset(_) => {}
            Ended::Violation(_) => self.outlet.reset(Status::BadRequest),
            Ended::Detached
            | Ended::Kernel
            | Ended::KernelFault(_)
            | Ended::DeviceGone
            | Ended::TornDown => {
                self.urbs.cancel_all();
                let farewell = say_farewell(self.outlet.as_ref(), &mut self.inbound);
                if timeout(FAREWELL, farewell).await.is_err() {
                    self.outlet.reset(Status::Timeout);
                }
            }
        }
        end
    }

    async fn serve(&mut self) -> Ended {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
            for message in self.urbs.messages() {
                if self.answers.send(message).is_err() {
                    return Ended::Kernel;
                }
            }
        }
    }

    /// Waits for one thing to happen and deals with it and with what has happened besides.
    async fn step(&mut self) -> Result<(), Ended> {
        let deadline = self.urbs.next_deadline(Instant::now());
        let wake = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        // Each of these loses nothing when another one is first.
        tokio::select! {
            biased;
            () = self.stop.notified() => return Err(Ended::Detached),
            inbound = self.inbound.recv() => self.hear_server(inbound)?,
            command = self.commands.recv(), if self.urbs.wants_more() => self.hear_kernel(command)?,
            () = wake => self.urbs.expire(Instant::now()).map_err(ended)?,
        }
        for _ in 0..BATCH {
            let Ok(inbound) = self.inbound.try_recv() else {
                break;
            };
            self.hear_server(Some(inbound))?;
        }
        Ok(())
    }

    fn hear_kernel(&mut self, command: Option<Result<FromKernel, ReadError>>) -> Result<(), Ended> {
        match command {
            Some(Ok(command)) => self.urbs.hear(Instant::now(), command).map_err(ended),
            Some(Err(ReadError::Pdu(error))) => Err(Ended::KernelFault(error.into())),
            Some(Err(ReadError::Io(error))) => {
                tracing::debug!(%error, "the kernel's socket failed");
                Err(Ended::Kernel)
            }
            None => Err(Ended::Kernel),
        }
    }

    fn hear_server(&mut self, inbound: Option<Inbound>) -> Result<(), Ended> {
        match inbound {
            Some(Inbound::Response {
                corr,
                status,
                payload,
                more,
            }) => self
                .urbs
                .response(Instant::now(), corr, status, payload, more)
                .map_err(ended),
            Some(Inbound::Request { corr, .. }) => {
                let refusal = ErrorMap::new(sub::UNSUPPORTED).encode();
                self.outlet
                    .respond(corr, Status::BadRequest, refusal.unwrap_or_default());
                Ok(())
            }
            // The stream of a USB device has none of these; the request to be cancelled was
            // answered.
            Some(Inbound::Cancel { .. } | Inbound::Event { .. } | Inbound::Data { .. }) => Ok(()),
            Some(Inbound::Reset { status }) => Err(Ended::Reset(status)),
            Some(Inbound::Closed) | None => Err(Ended::SessionClosed),
        }
    }
}

/// Ends a task with its owner, and with it one half of our end of the socket.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The one long-lived reader of the socket; it ends with the stream.
async fn read<S: Source>(
    mut reader: Reader<S>,
    forward: mpsc::Sender<Result<FromKernel, ReadError>>,
) {
    loop {
        let message = match reader.next().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if forward.send(message).await.is_err() || last {
            return;
        }
    }
}

/// Writes what the kernel is to be told, as much as there is in one call. A kernel that does not
/// read holds up nothing else.
async fn write<S: Sink>(mut sink: S, mut answers: mpsc::UnboundedReceiver<Message>) {
    let mut batch = Vec::with_capacity(GATHER);
    while answers.recv_many(&mut batch, GATHER).await > 0 {
        batch = match sink.write(batch).await {
            Ok(emptied) => emptied,
            Err(error) => {
                tracing::debug!(%error, "the kernel's socket failed");
                return;
            }
        };
    }
}

fn ended(fatal: Fatal) -> Ended {
    match fatal {
        Fatal::Kernel(fault) => Ended::KernelFault(fault),
        Fatal::Violation(violation) => Ended::Violation(violation),
        Fatal::Closed => Ended::SessionClosed,
        Fatal::DeviceGone => Ended::DeviceGone,
    }
}

/// Gives the device back and waits until the server has it.
async fn say_farewell(outlet: &dyn Outlet, inbound: &mut mpsc::UnboundedReceiver<Inbound>) {
    let mut payload = Vec::new();
    op::encode_empty(&mut payload);
    let mut detach = Some(Outgoing {
        opcode: Opcode::UsbDeviceDetach,
        class: Class::Interactive,
        payload,
        reply_len: UNDECLARED_REPLY,
        timeout_ms: 0,
        deadline_ms: 0,
    });
    let mut awaited = None;
    loop {
        if let Some(outgoing) = detach.take() {
            match outlet.request(outgoing) {
                Ok(corr) => awaited = Some(corr),
                Err(OutletError::WouldBlock(outgoing)) => detach = Some(outgoing),
                Err(OutletError::TooLarge | OutletError::Closed) => return,
            }
        }
        match inbound.recv().await {
            Some(Inbound::Response { corr, .. }) if Some(corr) == awaited => return,
            Some(Inbound::Reset { .. } | Inbound::Closed) | None => return,
            Some(
                Inbound::Response { .. }
                | Inbound::Request { .. }
                | Inbound::Cancel { .. }
                | Inbound::Event { .. }
                | Inbound::Data { .. },
            ) => {}
        }
    }
}
