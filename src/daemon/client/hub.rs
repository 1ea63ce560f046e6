//! One node that has hardware: its addresses, and the task that keeps a session with it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Client;
use crate::bus;
use crate::daemon::capture::Capture;
use crate::daemon::config::Connect;
use crate::daemon::control::message::{Link, NodeName, PeerInfo};
use crate::daemon::handshake::{self, GreetError, Greeted};
use crate::daemon::metrics::Past;
use crate::daemon::peer::{self, Peer};
use crate::daemon::state;
use crate::daemon::suspend::PROBE;
use crate::daemon::system::{SystemEntropy, is_better_clock};
use crate::kernel::clock;
use crate::link::connection::{Connection, End};
use crate::session::Entropy;
use crate::session::identity::NodeId;
use crate::session::psk::PskUse;
use crate::session::{CloseReason, Dial, HandshakeError, HeldTicket, Session};
use crate::transport::{TransportError, tcp};
use crate::wire::flags::Tier;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// Time for each address to accept a connection: at the first attempt, and at most. The kernel asks again
/// after one, three, seven seconds only; whoever begins anew is there sooner when the link is back.
const DIAL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// The same while a device waits.
const DIAL_SOON: Duration = Duration::from_secs(2);
/// Pauses between attempts: the first, and the longest. Each is cut by up to a half at random, so that the
/// nodes of a house do not all come at once when their hub is back.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The pause before an attempt that somebody waits for.
const SOON: Duration = Duration::from_millis(100);

const REMOVED: &str = "this machine was removed from the family; to come back, ask for a new \
                       invite and run: myclerk join TOKEN --replace";

/// After a session that lasted so long the next attempt comes soon: the node was restarted, or the
/// link broke. One that ends at once is no reason to hurry.
const USEFUL_SESSION: Duration = Duration::from_secs(3);

/// A node to connect to.
pub(super) struct Hub {
    /// Its node-id, once known; the handshake must prove it.
    id: Cell<Option<NodeId>>,
    /// Its name: what the person calls it, later what its certificate says.
    name: RefCell<String>,
    addresses: RefCell<Vec<String>>,
    status: RefCell<Standing>,
    peer: RefCell<Option<Peer>>,
    /// The address that the last session came by, and whether nobody has answered there since.
    last: RefCell<(String, bool)>,
    /// How the last session ended.
    end: RefCell<Option<Rc<End>>>,
    /// Of the last session, to go on with it.
    ticket: RefCell<Option<HeldTicket>>,
    /// Sessions with it so far.
    pub(super) sessions: Cell<u64>,
    changed: Notify,
    try_now: Notify,
}

/// How the connection stands.
struct Standing {
    link: Link,
    since: Mono,
    address: String,
    problem: Option<String>,
}

impl Hub {
    fn new(id: Option<NodeId>, name: &str, addresses: Vec<String>) -> Self {
        let address = addresses.first().cloned().unwrap_or_default();
        let status = Standing {
            link: Link::Connecting,
            since: clock::mono(),
            address,
            problem: None,
        };
        Self {
            id: Cell::new(id),
            name: RefCell::new(name.to_owned()),
            addresses: RefCell::new(addresses),
            status: RefCell::new(status),
            peer: RefCell::default(),
            last: RefCell::default(),
            end: RefCell::default(),
            ticket: RefCell::default(),
            sessions: Cell::new(0),
            changed: Notify::new(),
            try_now: Notify::new(),
        }
    }

    /// A node that this one knows from joining.
    pub(super) fn of_peer(peer: &state::Peer) -> Self {
        Self::new(Some(peer.node), &peer.name, peer.addresses.clone())
    }

    /// A node named on the command line or in the configuration.
    pub(super) fn of_connect(connect: &Connect) -> Self {
        let id = connect.node.parse().ok();
        Self::new(id, &connect.node, vec![connect.address.clone()])
    }

    /// True when the name or the whole node-id is this node's.
    pub(super) fn is_called(&self, query: &str) -> bool {
        self.name.borrow().eq_ignore_ascii_case(query)
            || self.id.get().is_some_and(|id| id.to_string() == query)
    }

    /// Tries this address first from now on.
    pub(super) fn prefer(&self, address: &str) {
        let mut addresses = self.addresses.borrow_mut();
        addresses.retain(|known| known != address);
        addresses.insert(0, address.to_owned());
    }

    /// The node for people.
    pub(super) fn node(&self) -> NodeName {
        NodeName {
            id: self.id.get().map(|id| id.to_string()).unwrap_or_default(),
            name: self.name.borrow().clone(),
        }
    }

    /// The session, while there is one.
    pub(super) fn peer(&self) -> Option<Peer> {
        self.peer
            .borrow()
            .clone()
            .filter(|peer| peer.ended().is_none())
    }

    /// The session, also while its end is not seen to yet.
    pub(super) fn last_peer(&self) -> Option<Peer> {
        self.peer.borrow().clone()
    }

    /// Waits for something to change.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Whether no program listens any more where the last session came by.
    pub(super) fn has_refused(&self) -> bool {
        self.peer.borrow().is_none() && self.last.borrow().1
    }

    /// How the session ended that was last; nothing while there is one.
    pub(super) fn last_end(&self) -> Option<Rc<End>> {
        let peer = self.peer.borrow();
        peer.as_ref()
            .map_or_else(|| self.end.borrow().clone(), Peer::ended)
    }

    /// How the connection stands, and why it does not.
    pub(super) fn standing(&self) -> (Link, Option<String>) {
        let status = self.status.borrow();
        (status.link, status.problem.clone())
    }

    /// The connection for `status`.
    pub(super) fn info(&self) -> PeerInfo {
        let status = self.status.borrow();
        PeerInfo {
            node: self.node(),
            address: status.address.clone(),
            link: status.link,
            since: clock::mono().since(status.since).as_secs(),
            rtt_us: self.peer().and_then(|peer| peer.round_trip()).map(micros),
            problem: status.problem.clone(),
        }
    }

    /// This machine has slept: a session that has not lived through it is replaced at once.
    pub(super) fn woken(&self) {
        match self.peer() {
            Some(peer) => peer.probe(PROBE),
            None => self.try_now.notify_one(),
        }
    }

    /// Waits for a session, at most so long, and asks for an attempt at once.
    pub(super) async fn wait_for_peer(&self, at_most: Duration) -> Option<Peer> {
        if self.peer().is_none() {
            // Once for whoever waits: a node that refuses is not asked again and again.
            self.try_now.notify_one();
        }
        let connected = async {
            loop {
                let changed = self.changed.notified();
                if let Some(peer) = self.peer() {
                    return Some(peer);
                }
                if self.standing().0 == Link::Refused {
                    return None;
                }
                changed.await;
            }
        };
        tokio::time::timeout(at_most, connected)
            .await
            .ok()
            .flatten()
    }

    fn set(&self, link: Link, address: Option<&str>, problem: Option<String>) {
        let mut status = self.status.borrow_mut();
        if status.link != link {
            status.since = clock::mono();
        }
        status.link = link;
        status.problem = problem;
        if let Some(address) = address {
            address.clone_into(&mut status.address);
        }
        drop(status);
        self.changed.notify_waiters();
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Why there is no session now.
enum Setback {
    /// Trying again may help.
    Passing(String),
    /// It will not, until somebody does something.
    Final(String),
}

/// Keeps a session with the node, for ever.
pub(super) async fn keep(client: Rc<Client>, hub: Rc<Hub>) {
    let (mut pause, mut patience) = (PAUSES.0, DIAL.0);
    loop {
        let began = clock::mono();
        let setback = connect(&client, &hub, patience).await;
        let was_of_use =
            hub.standing().0 == Link::Connected && clock::mono().since(began) >= USEFUL_SESSION;
        match setback {
            Setback::Passing(problem) => {
                tracing::info!(node = hub.node().name, problem, "no session, trying again");
                hub.set(Link::Waiting, None, Some(problem));
            }
            Setback::Final(problem) => {
                tracing::warn!(node = hub.node().name, problem, "refused");
                hub.set(Link::Refused, None, Some(problem));
                return;
            }
        }
        if was_of_use {
            (pause, patience) = (PAUSES.0, DIAL.0);
        } else {
            patience = (patience * 2).min(DIAL.1);
        }
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => pause = (pause * 2).min(PAUSES.1),
            () = hub.try_now.notified() => {
                patience = patience.min(DIAL_SOON);
                tokio::time::sleep(SOON).await;
            }
        }
    }
}

/// Between a half and the whole of a pause.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 4];
    SystemEntropy.fill(&mut random);
    let part = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + part / 2.0)
}

/// Tries every address and stays in the session that comes about, until it ends.
async fn connect(client: &Rc<Client>, hub: &Rc<Hub>, patience: Duration) -> Setback {
    let addresses = hub.addresses.borrow().clone();
    let mut problems = Vec::new();
    // An address may have gone over to another machine: no reason to leave out the others.
    let mut passing = addresses.is_empty();
    for address in addresses {
        hub.set(Link::Connecting, Some(&address), None);
        match greet(client, hub, &address, patience).await {
            Ok(greeted) => {
                *hub.last.borrow_mut() = (address, false);
                return stay(client, hub, greeted).await;
            }
            Err(setback) => {
                Past::count(&client.past.refused);
                passing |= matches!(setback, Setback::Passing(_));
                let (Setback::Passing(problem) | Setback::Final(problem)) = setback;
                problems.push(format!("{address}: {problem}"));
            }
        }
    }
    let problems = problems.join("; ");
    if passing {
        Setback::Passing(problems)
    } else {
        Setback::Final(problems)
    }
}

async fn greet(
    client: &Client,
    hub: &Hub,
    address: &str,
    patience: Duration,
) -> Result<Greeted, Setback> {
    let dial = async || {
        let path = tcp::dial(address, patience).await;
        path.map_err(|error| {
            let mut last = hub.last.borrow_mut();
            last.1 |= last.0 == address && is_refusal(&error);
            Setback::Passing(error.to_string())
        })
    };
    let mut path = dial().await?;
    let node = client
        .handshake_node()
        .map_err(|error| Setback::Passing(error.to_string()))?;
    let ticket = hub.ticket.borrow_mut().take();
    if let Some(ticket) = ticket {
        match handshake::resume(&node, ticket, path).await {
            Ok(greeted) => return Ok(greeted),
            Err(error) => {
                tracing::debug!(node = hub.node().name, %error, "not resumed, shaking hands anew");
                path = dial().await?;
            }
        }
    }
    let psk = client.psks.borrow().family().map(|(psk, epoch)| {
        (
            psk.clone(),
            PskUse::Family {
                epoch,
                current: true,
            },
        )
    });
    let wanted = Dial {
        expected: hub.id.get(),
        psk,
        tier: Tier::T4,
    };
    let greeted = handshake::dial(&node, wanted, path)
        .await
        .map_err(|error| setback(&error))?;
    let found = greeted.session.peer();
    let named = found.name().unwrap_or_default();
    if hub.id.get().is_none() && !hub.is_called(named) {
        let wanted = hub.name.borrow();
        return Err(Setback::Final(format!(
            "{address} is {named:?}, not {wanted:?}"
        )));
    }
    Ok(greeted)
}

/// Whether the machine is there and no program listens.
fn is_refusal(error: &TransportError) -> bool {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    match error {
        TransportError::Unreachable { attempts, .. } => {
            attempts.iter().any(|(_, error)| refused(error))
        }
        TransportError::Io { .. }
        | TransportError::Oversize { .. }
        | TransportError::Empty
        | TransportError::Truncated
        | TransportError::Closed
        | TransportError::Resolve { .. } => false,
    }
}

fn setback(error: &GreetError) -> Setback {
    match error {
        GreetError::Silence => Setback::Passing(
            "it closed the connection without a word: it is no myclerk server, or it does not \
             know this machine's family key"
                .to_owned(),
        ),
        GreetError::Handshake(HandshakeError::WrongPeer { .. }) => Setback::Final(format!(
            "another machine answers there: {error}; if it was set up anew, get an invite from it and \
             run: myclerk join TOKEN --replace"
        )),
        GreetError::Refused(HandshakeError::Certificate(_)) => Setback::Final(error.to_string()),
        GreetError::Path(_) | GreetError::Handshake(_) | GreetError::Refused(_) => {
            Setback::Passing(error.to_string())
        }
    }
}

async fn stay(client: &Rc<Client>, hub: &Rc<Hub>, greeted: Greeted) -> Setback {
    let Greeted {
        session,
        path,
        info,
    } = greeted;
    if is_better_clock(info.peer_clock) {
        client.node.borrow_mut().trust.learn_time(info.peer_time);
    }
    let ordered = path.control.ordered();
    let connection = Connection::new(clock::mono(), session, ordered, false, bus::declared_reply)
        .tapped(client.capture.as_ref().map(Capture::tap));
    let peer = peer::start(connection, path, Rc::new(Rc::clone(client)));
    let address = peer.address().to_owned();
    Past::count(&client.past.opened);
    Past::count(&hub.sessions);
    match client.catch_up(&peer).await {
        Ok(false) => {}
        Ok(true) => {
            // This session was made with a replaced PSK and may do nothing else.
            peer.close(Status::Ok, sub::PSK_REQUIRED);
            peer.closed().await;
            client.past.ended(&peer);
            return Setback::Passing("the family's key was renewed".to_owned());
        }
        Err(error) => tracing::info!(node = hub.node().name, %error, "no family update"),
    }
    if peer.ended().is_none() {
        hub.id.set(Some(peer.identity().node_id));
        *hub.name.borrow_mut() = peer.name();
        *hub.peer.borrow_mut() = Some(peer.clone());
        hub.set(Link::Connected, Some(&address), None);
        client.auto.wake();
        tracing::info!(node = hub.node().name, address, "connected");
    }
    let end = peer.closed().await;
    client.past.ended(&peer);
    *hub.end.borrow_mut() = Some(Rc::clone(&end));
    *hub.peer.borrow_mut() = None;
    *hub.ticket.borrow_mut() = peer.with_session(Session::take_ticket);
    ended(&end)
}

fn ended(end: &End) -> Setback {
    match end {
        End::ClosedByPeer(reason) if reason.status == Status::Unauthorized => {
            Setback::Final(refusal(reason))
        }
        End::Revoked => Setback::Final(REMOVED.to_owned()),
        End::ClosedByPeer(_)
        | End::ClosedHere(_)
        | End::Violation(_)
        | End::Forged
        | End::Silent
        | End::Exhausted
        | End::PathLost => Setback::Passing(end.to_string()),
    }
}

/// What a refusal after authentication means for the person at this machine.
fn refusal(reason: &CloseReason) -> String {
    match reason.sub.as_deref() {
        Some(sub::REVOKED) => REMOVED.to_owned(),
        Some(sub::EXPIRED) => {
            "this machine's certificate has expired; ask for a new invite and run: myclerk join \
             TOKEN --replace"
                .to_owned()
        }
        Some(sub::UNKNOWN_FAMILY) => "it belongs to another family".to_owned(),
        Some(_) | None => reason.to_string(),
    }
}
