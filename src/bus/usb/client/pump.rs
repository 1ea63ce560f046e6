//! Joins the kernel's socket, the session and the URBs, and ends all three in order.

use std::future::pending;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::outage::{Line, Way};
use super::plug::Plug;
use super::reset::ResetWatch;
use super::seqnum::Seqnums;
use super::socket::{FromKernel, ReadError};
use super::urbs::{Fatal, Urbs};
use super::{Device, Ended, Shared};
use crate::bus::outage::{self, Returning};
use crate::bus::usb::op::{self, AttachResponse};
use crate::bus::{BusStream, Inbound, Outgoing, Outlet, OutletError};
use crate::kernel::vhci::{PortId, Vhci};
use crate::wire::class::Class;
use crate::wire::error::ErrorMap;
use crate::wire::limits::UNDECLARED_REPLY;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long the server may take to let go.
const FAREWELL: Duration = Duration::from_secs(5);
/// Answers dealt with before the kernel is told of them: one call for all.
const BATCH: usize = 32;

/// One attached device's task.
pub(super) struct Pump {
    pub(super) urbs: Urbs,
    pub(super) outlet: Rc<dyn Outlet>,
    pub(super) inbound: mpsc::UnboundedReceiver<Inbound>,
    pub(super) vhci: Rc<Vhci>,
    pub(super) device: Device,
    pub(super) seqnums: Seqnums,
    resets: ResetWatch,
    /// None between two ports.
    plug: Option<Plug>,
    pub(super) way: Option<Way>,
    /// While there is no session.
    pub(super) returning: Option<Returning<(AttachResponse, BusStream)>>,
    /// The server's device is to be reset before anything else.
    pub(super) reset_due: bool,
    pub(super) shared: Rc<Shared>,
}

/// Why the device is no longer served on its port.
enum Stop {
    /// For good.
    End(Ended),
    /// It goes on on another one.
    Leave,
}

impl From<Ended> for Stop {
    fn from(end: Ended) -> Self {
        Self::End(end)
    }
}

impl Pump {
    pub(super) fn new(
        plug: Plug,
        vhci: Rc<Vhci>,
        device: Device,
        line: Line,
        shared: Rc<Shared>,
    ) -> Self {
        let Line {
            session: (outlet, inbound),
            way,
        } = line;
        Self {
            urbs: Urbs::new(Rc::clone(&outlet), Rc::clone(&device.endpoints)),
            outlet,
            inbound,
            seqnums: Seqnums::new(vhci.seqnum_limit()),
            vhci,
            device,
            resets: ResetWatch::new(),
            plug: Some(plug),
            way,
            returning: None,
            reset_due: false,
            shared,
        }
    }

    /// The port that the device is on, or was on last.
    pub(super) fn port(&self) -> PortId {
        self.shared.port.get()
    }

    /// Serves the device until something ends it, then frees the port and the server's device.
    pub(super) async fn run(mut self) -> Ended {
        let end = loop {
            match self.serve().await {
                Stop::End(Ended::SessionClosed) if self.lose() => {}
                Stop::End(end) => break end,
                Stop::Leave => {
                    if let Err(end) = self.change_port().await {
                        break end;
                    }
                }
            }
        };
        if matches!(end, Ended::Kernel) {
            self.pull().await;
        } else {
            self.unplug().await;
        }
        if self.returning.is_some() {
            self.give_back_later();
            return end;
        }
        match end {
            Ended::SessionClosed | Ended::NotBack(_) | Ended::Reset(_) => {}
            Ended::Violation(_) => self.outlet.reset(Status::BadRequest),
            Ended::Silent => self.outlet.reset(Status::Timeout),
            Ended::Detached
            | Ended::Kernel
            | Ended::KernelFault(_)
            | Ended::DeviceGone
            | Ended::Exchanged
            | Ended::NoPort(_)
            | Ended::Socket(_)
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

    /// Frees the port, if the device is on one.
    pub(super) async fn unplug(&mut self) {
        let port = self.port();
        if self.plug.is_some()
            && let Err(error) = self.vhci.detach(port)
        {
            // Closing our end of the socket frees the port as well.
            tracing::warn!(%port, %error, "the port could not be detached");
        }
        self.pull().await;
    }

    async fn pull(&mut self) {
        if let Some(plug) = self.plug.take()
            && !plug.pull().await
        {
            tracing::warn!(port = %self.port(), "the kernel did not close its end");
        }
    }

    /// Begins anew on another port; nothing of the old one is outstanding.
    pub(super) fn plug_in(&mut self, plug: Plug, port: PortId) {
        let endpoints = Rc::clone(&self.device.endpoints);
        self.urbs = Urbs::new(Rc::clone(&self.outlet), endpoints);
        self.resets = ResetWatch::new();
        self.plug = Some(plug);
        self.shared.port.set(port);
        self.shared.moved.notify_one();
    }

    async fn serve(&mut self) -> Stop {
        loop {
            for message in self.urbs.messages() {
                if let Some(seqnum) = self.resets.awaited()
                    && message.ends_well(seqnum)
                {
                    self.resets.answered();
                }
                let plug = self.plug.as_ref();
                if plug.is_none_or(|plug| plug.answers.send(message).is_err()) {
                    return Ended::Kernel.into();
                }
            }
            if let Err(stop) = self.step().await {
                return stop;
            }
        }
    }

    /// Waits for one thing to happen and deals with it and with what has happened besides.
    async fn step(&mut self) -> Result<(), Stop> {
        let Some(plug) = &mut self.plug else {
            return Err(Ended::TornDown.into());
        };
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
            () = self.shared.stop.notified() => return Err(Ended::Detached.into()),
            back = outage::returned(&mut self.returning) => self.come_back(back).await?,
            inbound = self.inbound.recv(), if self.returning.is_none() => {
                self.hear_server(inbound)?;
            }
            command = plug.commands.recv(), if self.urbs.wants_more() => {
                self.hear_kernel(command).await?;
            }
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

    async fn hear_kernel(
        &mut self,
        command: Option<Result<FromKernel, ReadError>>,
    ) -> Result<(), Stop> {
        match command {
            Some(Ok(command)) => {
                // A device moves when its server can be asked to reset it.
                if self.returning.is_none() && self.must_leave(command.seqnum())? {
                    return Err(Stop::Leave);
                }
                let (quiet, announced) = (self.urbs.is_quiet(), self.shared.is_reset_announced());
                if let FromKernel::Submit(incoming) = &command
                    && self.resets.see(&incoming.submit, quiet, announced)
                {
                    tracing::info!(port = %self.port(), "this machine resets the device");
                    match self.reset_device().await {
                        // What the kernel has just submitted waits like all the rest.
                        Err(Ended::SessionClosed) if self.lose() => {}
                        done => done?,
                    }
                }
                let heard = self.urbs.hear(Instant::now(), command);
                Ok(heard.map_err(ended)?)
            }
            Some(Err(ReadError::Pdu(error))) => Err(Ended::KernelFault(error.into()).into()),
            Some(Err(ReadError::Io(error))) => {
                tracing::debug!(%error, "the kernel's socket failed");
                Err(Ended::Kernel.into())
            }
            None => Err(Ended::Kernel.into()),
        }
    }

    pub(super) fn hear_server(&mut self, inbound: Option<Inbound>) -> Result<(), Ended> {
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
            Some(
                Inbound::Cancel { .. }
                | Inbound::Event { .. }
                | Inbound::Data { .. }
                | Inbound::Writable
                | Inbound::Dropped { .. },
            ) => Ok(()),
            Some(Inbound::Reset { status }) => Err(Ended::Reset(status)),
            Some(Inbound::Closed) | None => Err(Ended::SessionClosed),
        }
    }
}

pub(super) fn ended(fatal: Fatal) -> Ended {
    match fatal {
        Fatal::Kernel(fault) => Ended::KernelFault(fault),
        Fatal::Violation(violation) => Ended::Violation(violation),
        Fatal::Closed => Ended::SessionClosed,
        Fatal::DeviceGone => Ended::DeviceGone,
    }
}

/// Gives the device back and waits until the server has it.
pub(super) async fn say_farewell(
    outlet: &dyn Outlet,
    inbound: &mut mpsc::UnboundedReceiver<Inbound>,
) {
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
                | Inbound::Data { .. }
                | Inbound::Writable
                | Inbound::Dropped { .. },
            ) => {}
        }
    }
}
