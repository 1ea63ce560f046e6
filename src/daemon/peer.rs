//! One established session with another node: the tasks that move its messages, and the handle by
//! which the rest of the daemon uses it.
//!
//! Three tasks serve a peer: one reads the path, one writes it, one keeps the timers ([`drive`]).
//! All work on the same sans-IO [`Connection`], borrowed for one step at a time and never across an
//! await.

mod drive;
pub mod meter;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::bus::{Caller, Inbound, Outlet};
use crate::daemon::system::wall_clock;
use crate::kernel::clock;
use crate::link::connection::{Connection, End};
use crate::link::{Corr, LinkError, Request, StreamId, Target};
use crate::session::trust::Trust;
use crate::session::{PeerIdentity, Restriction, Session};
use crate::transport::PathControl;
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

pub use drive::start;
use stream::Gauge;
pub use stream::PeerStream;

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    /// Success or failure of the operation as such.
    pub status: Status,
    /// The result, or an error map.
    pub payload: Vec<u8>,
}

/// A request that no running stream task expects.
#[derive(Debug)]
pub struct Incoming {
    /// The stream it came on; a fresh one when `opcode` opens a stream.
    pub stream: StreamId,
    /// Its number.
    pub corr: Corr,
    /// The operation.
    pub opcode: Opcode,
    /// Its parameters, not yet looked at.
    pub payload: Vec<u8>,
    /// Seconds since the peer sealed it.
    pub age_secs: u32,
}

/// What the daemon does with what the peer starts.
pub trait Service {
    /// Answers a request, now or later, by [`Peer::respond`], or hands its stream to a task.
    fn request(&self, peer: &Peer, request: Incoming);

    /// Takes note of an event on stream 0.
    fn event(&self, peer: &Peer, opcode: Opcode, payload: &[u8]);

    /// The peer gives up a request that is not answered yet and that neither a task of its stream nor
    /// [`Peer::asked`] has. It must still be answered.
    fn cancelled(&self, _peer: &Peer, _stream: StreamId, _corr: Corr) {}
}

/// Why a call brought no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer answered with an error.
    #[error("{}", describe(*.status, .error))]
    Refused {
        /// Its code.
        status: Status,
        /// Its error map; empty fields when the peer sent none.
        error: ErrorMap,
    },
    /// The session ended first.
    #[error("the session ended: {0}")]
    Ended(Rc<End>),
    /// The link did not take the request.
    #[error("the request was not sent")]
    Link(#[from] LinkError),
}

/// A stream whose opening is not answered yet. Who asked may give up: the peer must not hold a device for
/// nobody then.
struct Opening {
    outlet: Rc<dyn Outlet>,
    answered: bool,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.answered {
            self.outlet.reset(Status::Ok);
        }
    }
}

/// A call that is not answered yet. Who asked may give up, and what has not begun at the peer is not to begin
/// then.
struct Calling<'a> {
    peer: &'a Peer,
    call: (StreamId, Corr),
    answered: bool,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (stream, corr) = self.call;
        let shared = &self.peer.0;
        shared.calls.borrow_mut().remove(&self.call);
        let mut connection = shared.connection.borrow_mut();
        // A request that has its final answer needs no cancelling.
        let _ = connection.link().cancel(clock::mono(), stream, corr);
        drop(connection);
        shared.wake();
    }
}

/// A request on stream 0 that may be answered by news before its final answer (profile 10.2).
pub struct LongCall {
    peer: Peer,
    call: (StreamId, Corr),
    answer: oneshot::Receiver<Answer>,
    /// The latest news; older ones that nobody looked at are gone.
    pub news: watch::Receiver<Vec<u8>>,
}

impl LongCall {
    /// Waits for the final answer.
    ///
    /// # Errors
    /// As [`Peer::call`].
    pub async fn answer(&mut self) -> Result<Vec<u8>, CallError> {
        self.peer.answer(&mut self.answer).await
    }

    /// Asks the peer to give it up. The final answer follows all the same, and may be a success.
    pub fn cancel(&self) {
        let (stream, corr) = self.call;
        let mut connection = self.peer.0.connection.borrow_mut();
        // A request that has its final answer needs no cancelling.
        let _ = connection.link().cancel(clock::mono(), stream, corr);
        drop(connection);
        self.peer.0.wake();
    }
}

impl Drop for LongCall {
    fn drop(&mut self) {
        self.peer.0.news.borrow_mut().remove(&self.call);
        if self.peer.0.calls.borrow_mut().remove(&self.call).is_some() {
            self.cancel();
        }
    }
}

/// A session with another node. Cheap to clone; the session lives as long as its tasks.
#[derive(Clone)]
pub struct Peer(Rc<Shared>);

/// A [`Peer`] that does not keep anything alive.
#[derive(Clone)]
pub struct WeakPeer(Weak<Shared>);

impl WeakPeer {
    /// The peer, while its session lasts.
    pub fn upgrade(&self) -> Option<Peer> {
        self.0.upgrade().map(Peer)
    }
}

/// A call of the peer that is being worked on.
pub struct Asked {
    peer: Peer,
    call: (StreamId, Corr),
    /// Who asks.
    pub caller: Caller,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.peer.0.asked.borrow_mut().remove(&self.call);
    }
}

/// By the request that they belong to.
type ByCall<T> = RefCell<HashMap<(StreamId, Corr), T>>;

struct Shared {
    connection: RefCell<Connection>,
    identity: PeerIdentity,
    service: Rc<dyn Service>,
    path: Rc<dyn PathControl>,
    streams: RefCell<HashMap<StreamId, (mpsc::UnboundedSender<Inbound>, Gauge)>>,
    calls: ByCall<oneshot::Sender<Answer>>,
    /// Of calls whose answers may be several.
    news: ByCall<watch::Sender<Vec<u8>>>,
    /// The writer has something to look at.
    work: Notify,
    /// The earliest timer may have moved forward.
    rearm: Notify,
    /// The path brings nothing more.
    read_over: Notify,
    /// The path takes nothing more.
    write_over: Notify,
    ended: watch::Sender<Option<Rc<End>>>,
    /// The other machine itself ended the connection.
    hung_up: Cell<bool>,
    /// Whether it still lives is being looked into.
    probed: Cell<bool>,
    /// The session, for what it holds of the hardware.
    caller: Caller,
    /// The peer's calls that are being worked on and may be given up.
    asked: ByCall<Caller>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
}

impl Peer {
    /// Who the other end is.
    pub fn identity(&self) -> &PeerIdentity {
        &self.0.identity
    }

    /// Its name in the certificate, or its node-id.
    pub fn name(&self) -> String {
        let identity = &self.0.identity;
        identity
            .name()
            .map_or_else(|| identity.node_id.to_string(), str::to_owned)
    }

    /// Work on a call of the peer begins, which the peer may give up until this is dropped.
    pub fn asked(&self, stream: StreamId, corr: Corr) -> Asked {
        let caller = self.0.caller.next();
        let mut asked = self.0.asked.borrow_mut();
        asked.insert((stream, corr), caller.clone());
        Asked {
            peer: self.clone(),
            call: (stream, corr),
            caller,
        }
    }

    /// The address of the other end.
    pub fn address(&self) -> &str {
        self.0.path.peer()
    }

    /// Bytes received and sent on the path since the session began.
    pub fn traffic(&self) -> (u64, u64) {
        (self.0.bytes_in.get(), self.0.bytes_out.get())
    }

    /// The shortest time from a request to its answer that was measured in this session.
    pub fn round_trip(&self) -> Option<Duration> {
        self.0.connection.borrow_mut().link().round_trip()
    }

    /// A handle that does not keep the session.
    pub fn downgrade(&self) -> WeakPeer {
        WeakPeer(Rc::downgrade(&self.0))
    }

    /// True when both handles are of the same session.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Performs an operation on stream 0 and waits for its final answer.
    ///
    /// # Errors
    /// [`CallError::Refused`] for an error answer, time-outs included.
    pub async fn call(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let on = Target::On(StreamId::CONTROL);
        let (stream, corr, mut answer) = self.ask(on, opcode, payload, timeout)?;
        let mut calling = Calling {
            peer: self,
            call: (stream, corr),
            answered: false,
        };
        let answer = self.answer(&mut answer).await;
        calling.answered = true;
        answer
    }

    /// Begins an operation on stream 0 whose answer may take long.
    ///
    /// # Errors
    /// As [`Peer::call`].
    pub fn begin(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<LongCall, CallError> {
        let on = Target::On(StreamId::CONTROL);
        let (stream, corr, answer) = self.ask(on, opcode, payload, timeout)?;
        let (sender, news) = watch::channel(Vec::new());
        let call = (stream, corr);
        self.0.news.borrow_mut().insert(call, sender);
        Ok(LongCall {
            peer: self.clone(),
            call,
            answer,
            news,
        })
    }

    /// Performs an opener operation on a fresh stream; when it succeeds the stream is open.
    ///
    /// # Errors
    /// As [`Peer::call`]; no stream is open then.
    pub async fn open(
        &self,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(Vec<u8>, PeerStream), CallError> {
        let (stream, _, mut answer) = self.ask(Target::New, opcode, payload, timeout)?;
        // Registered before the answer, because what follows it may arrive in the same record.
        let handle = self.take_stream(stream);
        let mut opening = Opening {
            outlet: Rc::clone(&handle.outlet),
            answered: false,
        };
        let opened = self.answer(&mut answer).await;
        opening.answered = true;
        if opened.is_err() {
            self.0.streams.borrow_mut().remove(&stream);
        }
        Ok((opened?, handle))
    }

    fn ask(
        &self,
        target: Target,
        opcode: Opcode,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(StreamId, Corr, oneshot::Receiver<Answer>), CallError> {
        if let Some(end) = self.ended() {
            return Err(CallError::Ended(end));
        }
        let request = Request::new(target, opcode, payload).with_timeout(Some(timeout));
        let sent = self
            .0
            .connection
            .borrow_mut()
            .link()
            .request(clock::mono(), request);
        let (stream, corr) = sent?;
        let (sender, receiver) = oneshot::channel();
        self.0.calls.borrow_mut().insert((stream, corr), sender);
        self.0.wake();
        Ok((stream, corr, receiver))
    }

    async fn answer(&self, answer: &mut oneshot::Receiver<Answer>) -> Result<Vec<u8>, CallError> {
        match answer.await {
            Ok(Answer { status, payload }) if status.is_success() => Ok(payload),
            Ok(Answer { status, payload }) => Err(CallError::Refused {
                status,
                // An error map that cannot be read says no more than an absent one.
                error: ErrorMap::decode(&payload).unwrap_or_default(),
            }),
            Err(_) => Err(CallError::Ended(self.closed().await)),
        }
    }

    /// Answers a request of the peer. An answer that is too large for the peer becomes an error.
    pub fn respond(&self, stream: StreamId, corr: Corr, status: Status, payload: Vec<u8>) {
        self.0.respond(stream, corr, status, payload);
    }

    /// Answers a request of the peer before its final answer; not sent while the link has no room.
    pub fn respond_more(&self, stream: StreamId, corr: Corr, payload: Vec<u8>) {
        let mut connection = self.0.connection.borrow_mut();
        let sent = connection
            .link()
            .respond(stream, corr, Status::Ok, payload, true);
        drop(connection);
        if let Err(error) = sent {
            tracing::debug!(%stream, %corr, %error, "news not sent");
        }
        self.0.wake();
    }

    /// Answers a request of the peer with an error map.
    pub fn refuse(&self, stream: StreamId, corr: Corr, status: Status, error: &ErrorMap) {
        // Only a `detail` with a key twice cannot be encoded; the status then stands alone.
        self.respond(stream, corr, status, error.encode().unwrap_or_default());
    }

    /// Sends a `FAMILY_UPDATE` or TICKET event; dropped when the link has no room for it.
    pub fn notify(&self, opcode: Opcode, payload: Vec<u8>) {
        let sent = self
            .0
            .connection
            .borrow_mut()
            .link()
            .event(StreamId::CONTROL, opcode, payload);
        if let Err(error) = sent {
            tracing::warn!(peer = self.name(), %opcode, %error, "event not sent");
        }
        self.0.wake();
    }

    /// From now on what arrives on the stream goes to the returned queue and no longer to the
    /// [`Service`].
    ///
    /// EVENT and DATA of it are granted anew only as the bus half says that it has used them up
    /// ([`crate::bus::Outlet::consume`]): the queue would hold whatever a peer sends while nobody reads.
    pub fn take_stream(&self, stream: StreamId) -> PeerStream {
        let (sender, inbound) = mpsc::unbounded_channel();
        let gauge = Gauge::default();
        self.0
            .connection
            .borrow_mut()
            .link()
            .consume_manually(stream);
        if self.ended().is_some() {
            let _ = sender.send(Inbound::Closed);
        } else {
            let taken = (sender, gauge.clone());
            self.0.streams.borrow_mut().insert(stream, taken);
        }
        PeerStream::new(stream, Rc::downgrade(&self.0), inbound, gauge)
    }

    /// The task of a stream has ended; later frames of the stream go nowhere.
    pub fn drop_stream(&self, stream: StreamId) {
        self.0.streams.borrow_mut().remove(&stream);
    }

    /// Works with the session beneath, for tickets, rotation and trust.
    pub fn with_session<R>(&self, work: impl FnOnce(&mut Session) -> R) -> R {
        let result = work(self.0.connection.borrow_mut().session());
        self.0.wake();
        result
    }

    /// Judges the peer's certificate anew; true when that ends the session.
    pub fn recheck(&self, trust: &Trust) -> bool {
        let now = clock::mono();
        let mut connection = self.0.connection.borrow_mut();
        let ending = connection.recheck(now, trust, wall_clock());
        drop(connection);
        self.0.wake_all();
        ending
    }

    /// What the session may be used for.
    pub fn restriction(&self) -> Restriction {
        self.0.connection.borrow().restriction()
    }

    /// Ends a stream from outside of its task: the task sees [`Inbound::Reset`].
    pub fn reset_stream(&self, stream: StreamId, status: Status, error: &ErrorMap) {
        self.0.reset(stream, status, Some(error));
        self.0.deliver(stream, Inbound::Reset { status });
        self.0.streams.borrow_mut().remove(&stream);
    }

    /// Closes the session with a reason. [`Peer::closed`] tells when it is over.
    pub fn close(&self, status: Status, sub: &'static str) {
        self.0.close(status, sub);
    }

    /// The session is known to be lost from elsewhere: its node is heard of in another one.
    pub fn lose(&self) {
        self.path_ended(None, false);
    }

    /// Looks whether the session still lives: it is lost when nothing is heard of it `within` that time.
    pub fn probe(&self, within: Duration) {
        if self.0.probed.replace(true) || self.ended().is_some() {
            return;
        }
        let asked = clock::mono();
        self.with_session(Session::ping);
        let peer = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(within).await;
            peer.0.probed.set(false);
            let heard = peer.with_session(|session| session.last_heard());
            if heard < asked && peer.ended().is_none() {
                peer.lose();
            }
        });
    }

    /// True when the other machine ended the connection without ending the session: its program was
    /// killed, or something between the two has forgotten the connection. False when it fell silent.
    pub fn was_hung_up(&self) -> bool {
        self.0.hung_up.get()
    }

    /// True once the session is over or is being closed.
    pub fn is_ending(&self) -> bool {
        self.0.connection.borrow().end().is_some()
    }

    /// How the session ended, if it has.
    pub fn ended(&self) -> Option<Rc<End>> {
        self.0.ended.borrow().clone()
    }

    /// Waits for the end of the session.
    pub async fn closed(&self) -> Rc<End> {
        let mut ended = self.0.ended.subscribe();
        loop {
            if let Some(end) = ended.borrow_and_update().clone() {
                return end;
            }
            if ended.changed().await.is_err() {
                return Rc::new(End::PathLost);
            }
        }
    }
}

impl Shared {
    /// Lets the writer look whether there is something to send.
    fn wake(&self) {
        self.work.notify_one();
    }

    /// As [`Shared::wake`], and tells what came of it even while the writer waits for the path.
    fn wake_all(&self) {
        self.wake();
        self.rearm.notify_one();
    }

    fn respond(&self, stream: StreamId, corr: Corr, status: Status, payload: Vec<u8>) {
        let mut connection = self.connection.borrow_mut();
        let link = connection.link();
        match link.respond(stream, corr, status, payload, false) {
            // Whoever asked has left.
            Ok(()) | Err(LinkError::UnknownRequest) => {}
            Err(error) => {
                tracing::warn!(%stream, %corr, %error, "answer not sent");
                let error = ErrorMap::new(sub::LIMIT);
                let _ = link.refuse(stream, corr, Status::BadRequest, &error);
            }
        }
        drop(connection);
        self.wake();
    }

    fn reset(&self, stream: StreamId, status: Status, error: Option<&ErrorMap>) {
        // A stream that is gone already needs no reset.
        let _ = self
            .connection
            .borrow_mut()
            .link()
            .reset(clock::mono(), stream, status, error);
        self.wake();
    }

    fn close(&self, status: Status, sub: &'static str) {
        self.connection
            .borrow_mut()
            .close(clock::mono(), status, sub);
        self.wake_all();
    }

    /// Hands something to the task of a stream; gives it back when there is none.
    fn deliver(&self, stream: StreamId, inbound: Inbound) -> Option<Inbound> {
        match self.streams.borrow().get(&stream) {
            Some((sender, gauge)) => {
                gauge.came(&inbound);
                sender.send(inbound).err().map(|error| error.0)
            }
            None => Some(inbound),
        }
    }
}

fn describe(status: Status, error: &ErrorMap) -> String {
    match (&error.msg, error.sub.as_ref()) {
        (Some(msg), _) => msg.clone(),
        (None, "") => status.to_string(),
        (None, sub) => format!("{status} ({sub})"),
    }
}
