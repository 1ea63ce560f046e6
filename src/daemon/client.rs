//! The client daemon: keeps sessions with the nodes that have hardware, and makes their devices
//! local ones.
//!
//! One [`Client`] is shared by everything on the daemon's thread: the connections ([`hub`]), the
//! family's news ([`family`]), the attached devices ([`attached`]), those of USB ([`attach`],
//! [`follow`], [`reset`]) and of the other buses ([`present`]), the locks of devices ([`locks`]), and
//! what the person at this machine asks ([`control`]) or has written down ([`auto`]).

mod attach;
mod attached;
mod auto;
mod control;
mod family;
mod files;
mod follow;
mod hub;
mod locks;
mod measured;
mod measures;
mod opener;
mod ports;
mod present;
mod reconcile;
mod reset;
pub mod rules;
mod target;
mod turns;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;

use self::attached::Attached;
use self::auto::Auto;
use self::follow::Waiting;
use self::hub::Hub;
use self::turns::Turns;
use super::capture::Capture;
use super::config::{ClientConfig, Connect};
use super::control::message::NodeName;
use super::control::{ControlListener, Side};
use super::metrics::{self, Past};
use super::node::{self, Loaded};
use super::state::StateDir;
use super::system::raise_open_files;
use super::{notify, signals, suspend};
use crate::bus::{self, Presenter};
use crate::kernel::clock;
use crate::kernel::vhci::Vhci;
use crate::session::LocalNode;
use crate::session::psk::PskStore;
use crate::wire::status::{Status, sub};
use crate::wire::time::Mono;

/// How long devices and peers get to end in order when the daemon stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Everything that the parts of the daemon share.
struct Client {
    state: StateDir,
    name: NodeName,
    family: NodeName,
    node: RefCell<LocalNode>,
    psks: RefCell<PskStore>,
    hubs: RefCell<Vec<Rc<Hub>>>,
    vhci: Rc<Vhci>,
    /// The buses besides USB.
    presenters: &'static [&'static Presenter],
    attached: RefCell<Vec<Rc<Attached>>>,
    turns: Turns,
    /// The locks that this machine has.
    leases: RefCell<Vec<Rc<locks::Lease>>>,
    /// Attachments whose device may come back.
    waiting: RefCell<Vec<Rc<Waiting>>>,
    /// What becomes local by itself.
    auto: Auto,
    capture: Option<Capture>,
    past: Past,
    started: Mono,
}

/// Runs the client daemon until it is told to stop.
///
/// # Errors
/// What kept it from starting or made it end.
pub fn run(config: &ClientConfig) -> anyhow::Result<()> {
    run_with(config, bus::PRESENTERS)
}

/// As [`run`], with other buses besides USB than this program has.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    config: &ClientConfig,
    presenters: &'static [&'static Presenter],
) -> anyhow::Result<()> {
    raise_open_files();
    tokio_uring::start(serve(config, presenters))
}

async fn serve(
    config: &ClientConfig,
    presenters: &'static [&'static Presenter],
) -> anyhow::Result<()> {
    let mut stop = signals::Stop::listen().context("cannot listen for signals")?;
    let control = ControlListener::bind(&config.paths.run, Side::Client)?;
    let client = Rc::new(Client::load(config, presenters)?);
    for hub in client.hubs.borrow().iter() {
        tokio::task::spawn_local(hub::keep(Rc::clone(&client), Rc::clone(hub)));
    }
    let keeping = tokio::task::spawn_local(auto::keep(Rc::clone(&client)));
    if let Some(listen) = &config.metrics {
        let source = Rc::<Client>::clone(&client);
        tokio::task::spawn_local(metrics::serve(listen.clone(), source));
    }
    let woken = Rc::clone(&client);
    tokio::task::spawn_local(suspend::watch(move || {
        for hub in woken.hubs.borrow().iter() {
            hub.woken();
        }
    }));
    notify::ready();
    tracing::info!(
        node = client.name.name,
        nodes = client.hubs.borrow().len(),
        "client started"
    );
    let result = tokio::select! {
        () = stop.wanted() => Ok(()),
        result = control.serve(Rc::new(Rc::clone(&client))) => {
            result.context("the control socket failed")
        }
    };
    notify::stopping();
    keeping.abort();
    client.farewell(&mut stop).await;
    tracing::info!("client stopped");
    result
}

impl Client {
    fn load(
        config: &ClientConfig,
        presenters: &'static [&'static Presenter],
    ) -> anyhow::Result<Self> {
        let state = StateDir::new(&config.paths.state);
        let Loaded {
            node,
            psks,
            name,
            family,
        } = node::load(&state)?;
        let mut hubs: Vec<Rc<Hub>> = state
            .peers()?
            .all()
            .iter()
            .map(|peer| Rc::new(Hub::of_peer(peer)))
            .collect();
        for connect in &config.connect {
            add_hub(&mut hubs, connect);
        }
        let mut vhci = Vhci::system();
        if let Some(limit) = config.usb.seqnum_limit {
            vhci = vhci.with_seqnum_limit(limit);
        }
        Ok(Self {
            state,
            name,
            family,
            node: RefCell::new(node),
            psks: RefCell::new(psks),
            hubs: RefCell::new(hubs),
            vhci: Rc::new(vhci),
            presenters,
            attached: RefCell::default(),
            turns: Turns::default(),
            leases: RefCell::default(),
            waiting: RefCell::default(),
            auto: Auto::new(&config.config),
            capture: Capture::open(config.capture.as_ref()).context("cannot write the capture")?,
            past: Past::default(),
            started: clock::mono(),
        })
    }

    /// Gives every device back and ends every session in order.
    async fn farewell(&self, stop: &mut signals::Stop) {
        let settled = async {
            for waiting in self.waiting.borrow().iter() {
                waiting.give_up();
            }
            let attached = self.attached.borrow().clone();
            for device in &attached {
                device.detach();
            }
            for device in &attached {
                device.gone().await;
            }
            self.give_locks_back().await;
            let peers: Vec<_> = self
                .hubs
                .borrow()
                .iter()
                .filter_map(|hub| hub.peer())
                .collect();
            for peer in &peers {
                peer.close(Status::ServiceUnavailable, sub::SHUTTING_DOWN);
            }
            for peer in &peers {
                peer.closed().await;
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

fn add_hub(hubs: &mut Vec<Rc<Hub>>, connect: &Connect) {
    match hubs.iter().find(|hub| hub.is_called(&connect.node)) {
        Some(hub) => hub.prefer(&connect.address),
        None => hubs.push(Rc::new(Hub::of_connect(connect))),
    }
}
