//! One line of the owner: requested there while it is used here, on a stream of its own.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::desk::{ANSWER, Desk, Line, Wanted};
use super::inbox::Order;
use super::local::LineUse;
use crate::bus::gpio::op::{
    Direction, Drive, Edge, EdgeEvent, LineRequest, LineRequested, SetLines, encode_empty,
};
use crate::bus::outage::{Returning, again, returned};
use crate::bus::{AskError, BusStream, Ended, Inbound, MAX_AGE_SECS, Outgoing, OutletError};
use crate::wire::class::Class;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long it may take to let go of one.
const FAREWELL: Duration = Duration::from_secs(5);
/// Levels under way to the owner.
const WINDOW: usize = 16;
/// How long edge detection may take to look at a line that has changed. What changes again before
/// that is one event, or none. A machine that is busy takes its time.
const LOOK: Duration = Duration::from_millis(100);
/// The same where it does not look: with one edge only, the edge is the level.
const GLANCE: Duration = Duration::from_millis(1);
/// After so many changes that nobody looked at, nobody is expected to.
const PATIENCE: u32 = 4;
/// When a request that did not fit is tried again.
const RETRY: Duration = Duration::from_millis(2);

/// What the owner gives when it is asked for a line.
struct Given {
    /// For what; `None` to follow it.
    wanted: Option<Wanted>,
    session: u64,
    requested: LineRequested,
    stream: BusStream,
}

/// A line that the owner has given to us.
struct Held {
    used: LineUse,
    session: u64,
    stream: BusStream,
    unanswered: usize,
    /// The level of an input.
    level: bool,
    /// A program of this machine uses it; it is not only followed.
    user: bool,
    /// Changes in a row that edge detection did not look at.
    unseen: u32,
}

/// The task of one line.
pub(super) struct Worker {
    line: Rc<Line>,
    desk: Rc<Desk>,
    held: Option<Held>,
    /// The owner's last level of an input.
    seen: Option<bool>,
    /// The line is being requested again, in another session.
    returning: Option<Returning<Given>>,
}

impl Worker {
    pub(super) fn new(line: Rc<Line>, desk: Rc<Desk>) -> Self {
        Self {
            line,
            desk,
            held: None,
            seen: None,
            returning: None,
        }
    }

    /// Carries out the orders until the last one.
    pub(super) async fn run(mut self) {
        if self.follows() {
            self.open(None).await;
        }
        loop {
            let room = self
                .held
                .as_ref()
                .is_none_or(|held| held.unanswered < WINDOW);
            tokio::select! {
                biased;
                order = self.line.next(), if room => match order {
                    Order::Finish => return self.close().await,
                    order if self.note(order) => self.carry_out(order).await,
                    order => self.put_off(order),
                },
                given = returned(&mut self.returning) => self.found(given).await,
                inbound = receive(&mut self.held) => self.take(inbound).await,
            }
        }
    }

    /// Remembers what is wanted; whether the owner can be told.
    fn note(&self, order: Order) -> bool {
        let wanted = &self.line.wanted;
        match order {
            Order::Use { used, level } => wanted.set(Some((used, level))),
            Order::Level(level) => wanted.set(wanted.get().map(|(used, _)| (used, level))),
            Order::Idle => wanted.set(None),
            Order::Resume | Order::Finish => {}
        }
        self.desk.live.get() && self.returning.is_none()
    }

    async fn carry_out(&mut self, order: Order) {
        match order {
            Order::Use { used, level } => self.use_as(used, level).await,
            Order::Level(level) => self.set(level).await,
            Order::Idle => self.idle().await,
            Order::Resume => self.resume().await,
            Order::Finish => {}
        }
    }

    /// The owner will hear of it. Until then an input keeps its level, whatever its local bias is.
    fn put_off(&self, order: Order) {
        if let Order::Use { used, .. } = order
            && used.dir == Direction::Input
            && let Some(level) = self.seen
        {
            // A chip that is gone is noticed elsewhere.
            let _ = self.desk.sim.set_pull(self.line.number, level);
        }
    }

    /// Requests the line in another session, as it is used here by now. The owner may not have noticed
    /// yet that it has lost the session before.
    async fn resume(&mut self) {
        self.close().await;
        if !self.follows() && self.line.wanted.get().is_none() {
            return;
        }
        let (line, desk) = (Rc::clone(&self.line), Rc::clone(&self.desk));
        let opener = Rc::clone(&desk.opener);
        let given = again(opener, desk.grace, move |_| {
            let (line, desk) = (Rc::clone(&line), Rc::clone(&desk));
            async move { Ok(ask_for(&desk, line.number, line.wanted.get()).await?) }
        });
        self.returning = Some(given);
    }

    async fn found(&mut self, given: Result<Given, Ended>) {
        self.returning = None;
        let given = match given {
            // Of the session that there is now, whichever it was asked for in.
            Ok(given) => Given {
                session: self.desk.session.get(),
                ..given
            },
            Err(ended) => {
                let line = self.line.number;
                tracing::warn!(line, %ended, "the owner does not give this line again");
                return;
            }
        };
        let before = given.wanted;
        self.hold(given, self.seen).await;
        match (before, self.line.wanted.get()) {
            (before, now) if before == now => {}
            (Some((before, _)), Some((now, level)))
                if now.dir == Direction::Output && now.is_like(&before) =>
            {
                self.set(level).await;
            }
            (_, Some((now, level))) => self.use_as(now, level).await,
            (_, None) => self.idle().await,
        }
    }

    fn follows(&self) -> bool {
        self.desk.follow.contains(&self.line.number)
    }

    async fn use_as(&mut self, used: LineUse, level: bool) {
        let input = used.dir == Direction::Input;
        if let Some(held) = self
            .held
            .as_mut()
            .filter(|held| input && held.used.is_like(&used))
        {
            held.used = used;
            held.user = true;
            held.unseen = 0;
            // A local bias is a pull too; the line's real level comes after it.
            let level = held.level;
            return self.pull(level).await;
        }
        self.close().await;
        self.open(Some((used, level))).await;
    }

    async fn idle(&mut self) {
        let plain = |held: &&mut Held| held.used.is_like(&LineUse::default());
        if self.follows()
            && let Some(held) = self.held.as_mut().filter(plain)
        {
            held.user = false;
            return;
        }
        self.close().await;
        if self.follows()
            && let Ok(info) = self.desk.info(self.line.number).await
            && info.dir == Direction::Input
            && !info.used
        {
            self.open(None).await;
        }
    }

    /// Requests the line at its owner, as a program uses it, or else to follow it. This machine's
    /// program has its line already: all that can be done with a refusal is to tell of it.
    async fn open(&mut self, wanted: Option<Wanted>) {
        let session = self.desk.session.get();
        match ask_for(&self.desk, self.line.number, wanted).await {
            Ok(given) => self.hold(given, None).await,
            Err(error) => self.refused(session, &error),
        }
    }

    /// Uses a line from now on whose level was that so far.
    async fn hold(&mut self, given: Given, seen: Option<bool>) {
        let (used, _) = given.wanted.unwrap_or_default();
        let level = (given.requested.val & 1 != 0) != used.low;
        self.desk.open.set(self.desk.open.get() + 1);
        self.held = Some(Held {
            used,
            session: given.session,
            stream: given.stream,
            unanswered: 0,
            level: seen.unwrap_or(level),
            user: given.wanted.is_some(),
            unseen: 0,
        });
        if used.dir == Direction::Input {
            self.pull(level).await;
        }
    }

    fn refused(&self, session: u64, error: &AskError) {
        let line = self.line.number;
        match error {
            AskError::Ended(_) => self.desk.lost(session),
            AskError::Refused { status, error: map } if map.sub == sub::DEVICE_GONE => {
                self.desk.end(Ended::Owner(*status));
            }
            AskError::Refused { .. } | AskError::NotSent(_) => {
                tracing::warn!(line, %error, "the owner does not give this line");
            }
        }
    }

    async fn set(&mut self, level: bool) {
        let Some(held) = self
            .held
            .as_mut()
            .filter(|held| held.used.dir == Direction::Output)
        else {
            return;
        };
        let mut payload = Vec::new();
        SetLines {
            mask: 1,
            bits: u64::from(level != held.used.low),
        }
        .encode(&mut payload);
        match held
            .stream
            .outlet
            .request(outgoing(Opcode::GpioLineSet, payload))
        {
            Ok(_) => held.unanswered += 1,
            Err(OutletError::WouldBlock(_)) => {
                self.line.take_back(Order::Level(level));
                sleep(RETRY).await;
            }
            // What arrives says why.
            Err(OutletError::Closed | OutletError::TooLarge) => {}
        }
    }

    /// Deals with what came on the stream.
    async fn take(&mut self, inbound: Option<Inbound>) {
        let Some(held) = self.held.as_mut() else {
            return;
        };
        match inbound {
            Some(Inbound::Event {
                opcode, payload, ..
            }) => {
                let edge = EdgeEvent::decode(&payload, 1).ok();
                let outlet = Rc::clone(&held.stream.outlet);
                match edge.filter(|_| opcode == Opcode::GpioEvent) {
                    Some(edge) => {
                        if edge.lost > 0 {
                            tracing::debug!(
                                line = self.line.number,
                                lost = edge.lost,
                                "edges were lost"
                            );
                        }
                        let level = edge.rising != held.used.low;
                        self.pull(level).await;
                    }
                    None => {
                        tracing::debug!(line = self.line.number, %opcode, "an event without sense");
                    }
                }
                outlet.consume(payload.len());
            }
            Some(Inbound::Response { status, .. }) => {
                held.unanswered = held.unanswered.saturating_sub(1);
                if !status.is_success() {
                    tracing::warn!(line = self.line.number, %status, "the owner did not set this line");
                }
            }
            Some(Inbound::Data { payload, .. }) => held.stream.outlet.consume(payload.len()),
            Some(Inbound::Request { corr, .. }) => {
                held.stream
                    .outlet
                    .respond(corr, Status::BadRequest, Vec::new());
            }
            Some(Inbound::Cancel { .. } | Inbound::Writable | Inbound::Dropped { .. }) => {}
            Some(Inbound::Reset { status }) => {
                self.let_go();
                self.desk.end(Ended::Owner(status));
            }
            Some(Inbound::Closed) | None => {
                if let Some(held) = self.let_go() {
                    self.desk.lost(held.session);
                }
            }
        }
    }

    fn let_go(&mut self) -> Option<Held> {
        let held = self.held.take()?;
        self.desk.open.set(self.desk.open.get() - 1);
        Some(held)
    }

    /// Gives the local line the level of the owner's, and edge detection the time to see it.
    async fn pull(&mut self, level: bool) {
        self.seen = Some(level);
        let Some(held) = self.held.as_mut() else {
            return;
        };
        let changed = core::mem::replace(&mut held.level, level) != level;
        let (edge, user) = (held.used.edge, held.user);
        let reads = self.line.reads();
        if let Err(error) = self.desk.sim.set_pull(self.line.number, level) {
            return self.desk.end(Ended::Failed(format!(
                "the simulated chip is gone: {error}"
            )));
        }
        match edge {
            Edge::Both | Edge::None if changed && user => self.be_seen(reads).await,
            Edge::Rising | Edge::Falling if changed && user => sleep(GLANCE).await,
            Edge::Both | Edge::Rising | Edge::Falling | Edge::None => {}
        }
    }

    /// Waits until edge detection has read the line, if it does. Of a program that uses the first
    /// version of the interface (libgpiod 1) the kernel does not say whether it waits for edges.
    async fn be_seen(&mut self, reads: u64) {
        let Some(held) = self.held.as_mut() else {
            return;
        };
        if held.unseen < PATIENCE {
            let seen = timeout(LOOK, self.line.read_since(reads)).await.is_ok();
            held.unseen = if seen { 0 } else { held.unseen + 1 };
        } else {
            sleep(GLANCE).await;
            if self.line.reads() != reads {
                held.unseen = 0;
            }
        }
    }

    /// Gives the line back; done when the owner has it.
    async fn close(&mut self) {
        let Some(mut held) = self.let_go() else {
            return;
        };
        let outlet = &held.stream.outlet;
        match outlet.request(outgoing(Opcode::GpioLineRelease, encode_empty())) {
            Ok(corr) => {
                if timeout(FAREWELL, released(&mut held.stream, corr))
                    .await
                    .is_err()
                {
                    held.stream.outlet.reset(Status::Timeout);
                }
            }
            Err(OutletError::Closed) => {}
            Err(OutletError::WouldBlock(_) | OutletError::TooLarge) => outlet.reset(Status::Ok),
        }
    }
}

/// Requests a line at its owner; without its changes where those cannot be had.
async fn ask_for(desk: &Desk, line: u32, wanted: Option<Wanted>) -> Result<Given, AskError> {
    let session = desk.session.get();
    let (used, level) = wanted.unwrap_or_default();
    let mut asked = request(desk, line, used, level, Edge::Both).await;
    if used.dir == Direction::Input && asked.as_ref().is_err_and(may_lack_interrupts) {
        asked = request(desk, line, used, level, Edge::None).await;
        if asked.is_ok() {
            tracing::warn!(
                line,
                "the owner cannot watch this line: its changes do not arrive"
            );
        }
    }
    let (requested, stream) = asked?;
    Ok(Given {
        wanted,
        session,
        requested,
        stream,
    })
}

async fn request(
    desk: &Desk,
    line: u32,
    used: LineUse,
    level: bool,
    edge: Edge,
) -> Result<(LineRequested, BusStream), AskError> {
    let output = used.dir == Direction::Output;
    let safe = desk.safe.get(&line).map(|high| *high != used.low);
    let request = LineRequest {
        dev: desk.device.clone(),
        lines: vec![line],
        dir: used.dir,
        val: u64::from(output && level != used.low),
        bias: used.bias,
        drive: if output { used.drive } else { Drive::default() },
        low: used.low,
        edge: if output { Edge::None } else { edge },
        debounce_us: if output { 0 } else { used.debounce_us },
        safe: if output { vec![safe] } else { Vec::new() },
    };
    let payload = request
        .encode()
        .map_err(|error| AskError::NotSent(error.to_string()))?;
    let opening = desk.opener.open(Opcode::GpioLineRequest, payload, ANSWER);
    let (answer, stream) = opening.await?;
    match LineRequested::decode(&answer, 1) {
        Ok(requested) => Ok((requested, stream)),
        Err(error) => {
            stream.outlet.reset(Status::BadRequest);
            Err(AskError::NotSent(error.to_string()))
        }
    }
}

/// Until the owner has let go of the line, or there is no stream any more.
async fn released(stream: &mut BusStream, release: u32) {
    while let Some(inbound) = stream.inbound.recv().await {
        match inbound {
            Inbound::Response { corr, .. } if corr == release => return,
            Inbound::Reset { .. } | Inbound::Closed => return,
            Inbound::Event { payload, .. } | Inbound::Data { payload, .. } => {
                stream.outlet.consume(payload.len());
            }
            Inbound::Request { .. }
            | Inbound::Response { .. }
            | Inbound::Cancel { .. }
            | Inbound::Writable
            | Inbound::Dropped { .. } => {}
        }
    }
}

async fn receive(held: &mut Option<Held>) -> Option<Inbound> {
    match held {
        Some(held) => held.stream.inbound.recv().await,
        None => pending().await,
    }
}

/// Whether a refusal can mean that the line has no interrupt.
fn may_lack_interrupts(error: &AskError) -> bool {
    matches!(
        error,
        AskError::Refused {
            status: Status::BadRequest | Status::InternalError,
            ..
        }
    )
}

fn outgoing(opcode: Opcode, payload: Vec<u8>) -> Outgoing {
    Outgoing {
        opcode,
        class: Class::Interactive,
        payload,
        reply_len: 64,
        timeout_ms: MAX_AGE_SECS * 1000,
        deadline_ms: MAX_AGE_SECS * 1000,
    }
}
