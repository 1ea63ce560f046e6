//! The server daemon: owns the hardware, decides who may have it.
//!
//! One [`Server`] is shared by everything on the daemon's thread. Its parts are one file each: who
//! connects ([`sessions`]), what a peer asks ([`dispatch`]), what is plugged in ([`look`]) and who may
//! see it ([`devices`]), what is lent ([`uses`]), who has it alone ([`locks`]), who is told of it
//! ([`subscribe`]), the streams of USB ([`usb`]) and of the other buses
//! ([`streams`]), membership ([`family`]) and what the administrator asks ([`control`],
//! [`who`]).

mod acl;
mod control;
mod devices;
mod dispatch;
mod family;
mod invite;
mod leases;
mod locks;
mod look;
mod measures;
mod record;
mod refusals;
mod sessions;
mod settings;
mod streams;
mod subscribe;
mod usb;
mod uses;
mod who;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;

use super::audit::{self, AuditLog};
use super::capture::Capture;
use super::config::ServeConfig;
use super::control::message::NodeName;
use super::control::{ControlListener, Side};
use super::guardian::Guardian;
use super::metrics::{self, Past};
use super::node::{self, Loaded};
use super::peer::Peer;
use super::state::{StateDir, StateError, Titles};
use super::system::{raise_open_files, wall_clock};
use super::{notify, signals, suspend};
use crate::bus::{self, Owned};
use crate::device::acl::Acl;
use crate::device::export::ExportPolicy;
use crate::device::lock::SessionKey;
use crate::device::registry::Registry;
use crate::kernel::clock;
use crate::session::identity::NodeId;
use crate::session::psk::PskStore;
use crate::session::{LocalNode, TicketNonce, TicketTable};
use crate::transport::half_open::{HalfOpen, HalfOpenLimits};
use crate::transport::tcp::Listener;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// How long peers and devices get to end in order when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Everything that the parts of the daemon share.
struct Server {
    state: StateDir,
    name: NodeName,
    family: NodeName,
    node: RefCell<LocalNode>,
    psks: RefCell<PskStore>,
    tickets: RefCell<TicketTable>,
    policy: RefCell<ExportPolicy>,
    acl: RefCell<Acl>,
    registry: RefCell<Registry>,
    titles: RefCell<Titles>,
    /// Who changed titles lately.
    titled: RefCell<refusals::Refusals<NodeId>>,
    /// Rules have changed.
    rules: Notify,
    locks: locks::Locks,
    subscriptions: RefCell<Vec<Rc<subscribe::Subscription>>>,
    sessions: RefCell<Vec<Entry>>,
    uses: RefCell<Vec<uses::Use>>,
    leases: leases::Leases,
    /// A use has ended.
    freed: Notify,
    /// The buses besides USB.
    owned: &'static [&'static Owned],
    scans: look::Scans,
    guardian: Guardian,
    refusals: RefCell<refusals::Refusals<IpAddr>>,
    attaches: RefCell<refusals::Refusals<NodeId>>,
    audit: AuditLog,
    /// What the audit log was told.
    recorded: RefCell<refusals::Refusals<NodeId>>,
    invites: RefCell<Vec<Rc<family::Invite>>>,
    listen: Vec<String>,
    capture: Option<Capture>,
    past: Past,
    started: Mono,
    stopping: Cell<bool>,
}

/// One open session.
struct Entry {
    peer: Peer,
    /// This session and no other.
    key: SessionKey,
    since: Mono,
    tier: u8,
    /// The Key ID of the token that it came with, if it came to enrol.
    enrol_key: Option<u32>,
    /// The ticket that it came with; until it has shown that it is the one who got it.
    resumed: Cell<Option<TicketNonce>>,
}

/// Runs the server daemon until it is told to stop.
///
/// # Errors
/// What kept it from starting or made it end.
pub fn run(config: &ServeConfig) -> anyhow::Result<()> {
    run_with(config, bus::OWNED)
}

/// As [`run`], with other buses besides USB than this program has.
///
/// # Errors
/// As [`run`].
pub fn run_with(config: &ServeConfig, owned: &'static [&'static Owned]) -> anyhow::Result<()> {
    raise_open_files();
    tokio_uring::start(serve(config, owned))
}

async fn serve(config: &ServeConfig, owned: &'static [&'static Owned]) -> anyhow::Result<()> {
    let mut stop = signals::Stop::listen().context("cannot listen for signals")?;
    let control = ControlListener::bind(&config.paths.run, Side::Server)?;
    let listeners = bind(&config.listen)?;
    let server = Rc::new(Server::load(config, owned, &listeners)?);
    for listener in listeners {
        tokio::task::spawn_local(sessions::accept(Rc::clone(&server), listener));
    }
    tokio::task::spawn_local(look::watch(Rc::clone(&server)));
    let woken = Rc::clone(&server);
    tokio::task::spawn_local(suspend::watch(move || {
        for entry in woken.sessions.borrow().iter() {
            entry.peer.probe(suspend::PROBE);
        }
    }));
    tokio::task::spawn_local(locks::keep(Rc::clone(&server)));
    tokio::task::spawn_local(subscribe::expire(Rc::clone(&server)));
    if let Some(listen) = &config.metrics {
        let source = Rc::<Server>::clone(&server);
        tokio::task::spawn_local(metrics::serve(listen.clone(), source));
    }
    server.mend().await;
    notify::ready();
    tracing::info!(
        node = server.name.name,
        listen = server.listen.join(" "),
        "server started"
    );
    let result = tokio::select! {
        () = stop.wanted() => Ok(()),
        result = control.serve(Rc::clone(&server)) => {
            result.context("the control socket failed")
        }
    };
    notify::stopping();
    server.farewell(&mut stop).await;
    tracing::info!("server stopped");
    result
}

fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<Listener>> {
    let gate = HalfOpen::new(HalfOpenLimits::default());
    let listen = |&address| {
        Listener::bind(address, gate.clone()).with_context(|| format!("cannot listen on {address}"))
    };
    addresses.iter().map(listen).collect()
}

impl Server {
    fn load(
        config: &ServeConfig,
        owned: &'static [&'static Owned],
        listeners: &[Listener],
    ) -> anyhow::Result<Self> {
        let state = StateDir::new(&config.paths.state);
        let Loaded {
            node,
            psks,
            name,
            family,
        } = node::load(&state)?;
        let capture = Capture::open(config.capture.as_ref()).context("cannot write the capture")?;
        let audit = AuditLog::start(audit::directory(state.path()))
            .context("cannot start the audit log")?;
        let listen: Result<Vec<_>, _> = listeners.iter().map(Listener::local_addr).collect();
        Ok(Self {
            policy: RefCell::new(state.exports()?),
            acl: RefCell::new(state.acl()?),
            locks: locks::Locks::new(state.fence()?),
            titles: RefCell::new(state.titles()?),
            titled: RefCell::default(),
            rules: Notify::new(),
            state,
            name,
            family,
            node: RefCell::new(node),
            psks: RefCell::new(psks),
            tickets: RefCell::default(),
            registry: RefCell::default(),
            subscriptions: RefCell::default(),
            sessions: RefCell::default(),
            uses: RefCell::default(),
            leases: leases::Leases::default(),
            freed: Notify::new(),
            owned,
            scans: look::Scans::default(),
            guardian: Guardian::start(),
            refusals: RefCell::default(),
            attaches: RefCell::default(),
            audit,
            recorded: RefCell::default(),
            invites: RefCell::default(),
            listen: listen?.iter().map(ToString::to_string).collect(),
            capture,
            past: Past::default(),
            started: clock::mono(),
            stopping: Cell::new(false),
        })
    }

    /// Reads what subcommands may have changed without this daemon, and takes back what nobody may
    /// have any longer (profile 17.2).
    fn reload(&self) -> Result<(), StateError> {
        let (policy, acl) = (self.state.exports()?, self.state.acl()?);
        *self.policy.borrow_mut() = policy;
        *self.acl.borrow_mut() = acl;
        self.rights_changed();
        Ok(())
    }

    /// The best lower bound of the present, seconds since 1970.
    fn present(&self) -> u64 {
        self.node.borrow().trust.present(wall_clock())
    }

    /// The present by which access entries end. That of a clock which nobody synchronises counts too:
    /// rather an entry ends early than never.
    fn present_for_access(&self) -> u64 {
        self.present().max(wall_clock().secs)
    }

    /// Ends every session in order and waits until the devices are back with their drivers.
    async fn farewell(&self, stop: &mut signals::Stop) {
        self.stopping.set(true);
        self.leases.end_all();
        let peers: Vec<Peer> = self
            .sessions
            .borrow()
            .iter()
            .map(|entry| entry.peer.clone())
            .collect();
        for peer in &peers {
            peer.close(Status::ServiceUnavailable, sub::SHUTTING_DOWN);
        }
        let settled = async {
            for peer in &peers {
                peer.closed().await;
            }
            while !self.uses.borrow().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = settled => {}
            () = tokio::time::sleep(FAREWELL) => {
                tracing::warn!("some devices were not given back in time");
            }
            () = stop.wanted() => tracing::warn!("stopped before all devices were given back"),
        }
    }
}
