//! An owner with a bus, a client, and the session between them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use myclerk::bus::can::client::attach;
use myclerk::bus::can::enumerate::listing;
use myclerk::bus::can::fake::{FakeHost, Program};
use myclerk::bus::can::hardware::CanHost;
use myclerk::bus::can::server::{Owner, serve};
use myclerk::bus::fake::{FakeSession, OPENING, Opened};
use myclerk::bus::{AttachError, End, Grant, Local, Present, Refused, Wish};
use myclerk::kernel::can::Frame;
use myclerk::wire::msgpack::Value;
use myclerk::wire::opcode::Opcode;
use tokio::task::LocalSet;

/// Runs a test on virtual time, in which everything that waits for a time gets it when nothing else
/// is to be done.
pub(crate) fn local(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let limit = Duration::from_secs(600);
    let limited = async { tokio::time::timeout(limit, test).await.expect("it ends") };
    LocalSet::new().block_on(&runtime, limited);
}

pub(crate) fn frame(id: u32) -> Frame {
    Frame::new(id, 0, &id.to_be_bytes()).unwrap()
}

/// The next frames that a program is given.
pub(crate) async fn frames(program: &Program, count: usize) -> Vec<Frame> {
    let mut all = Vec::new();
    while all.len() < count {
        let received = program.receive().await.unwrap();
        all.extend(received.iter().map(|received| received.frame));
    }
    assert_eq!(all.len(), count, "no more than that");
    all
}

pub(crate) fn options(options: &[(&str, &str)]) -> Wish {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), vec![(*value).to_owned()]);
    Wish {
        options: options.iter().map(owned).collect(),
        ..Wish::default()
    }
}

pub(crate) fn present(host: &FakeHost, name: &str) -> Present {
    let fd = host.find(name).is_ok_and(|link| link.is_fd());
    Present {
        id: format!("can:{name}"),
        name: name.to_owned(),
        place: name.to_owned(),
        hazard: None,
        props: BTreeMap::from([("fd".to_owned(), Value::from(fd))]),
    }
}

/// What the daemon grants for a request that opens a stream.
pub(crate) fn grant(host: &FakeHost, opcode: Opcode, payload: Vec<u8>, write: bool) -> Grant {
    Grant {
        corr: OPENING,
        opcode,
        payload,
        present: present(host, "can0"),
        write,
        quiet: false,
    }
}

pub(crate) struct Bridge {
    pub(crate) owner: FakeHost,
    pub(crate) client: FakeHost,
    served: Owner,
    write: bool,
    ends: Rc<RefCell<Vec<End>>>,
}

impl Bridge {
    /// `can0` of the owner is joined to `far`, at which the other nodes of the bus are.
    pub(crate) fn new() -> Self {
        let owner = FakeHost::new();
        owner.add_controller("can0", 1, 500_000);
        owner.add_controller("far", 1, 500_000);
        Self {
            served: Owner::new(Arc::new(owner.clone())),
            owner,
            client: FakeHost::new(),
            write: true,
            ends: Rc::default(),
        }
    }

    /// The client may only hear.
    pub(crate) fn reading(mut self) -> Self {
        self.write = false;
        self
    }

    pub(crate) fn another_client(&self) -> Self {
        Self {
            owner: self.owner.clone(),
            client: FakeHost::new(),
            served: self.served.clone(),
            write: self.write,
            ends: Rc::default(),
        }
    }

    fn session(&self) -> Rc<FakeSession> {
        let (owner, served, write) = (self.owner.clone(), self.served.clone(), self.write);
        let ends = Rc::clone(&self.ends);
        let listed = self.owner.clone();
        let open = move |opened: Opened| {
            let grant = grant(&owner, opened.opcode, opened.payload, write);
            let (served, ends) = (served.clone(), Rc::clone(&ends));
            tokio::task::spawn_local(async move {
                let end = serve(served, grant, opened.stream).await;
                ends.borrow_mut().push(end);
            });
        };
        FakeSession::new(open, move |opcode, _| match opcode {
            Opcode::CanInterfaceList => Ok(listing(&[(present(&listed, "can0"), 0)])),
            other => Err(Refused::unsupported(other.to_string())),
        })
    }

    pub(crate) async fn try_attach(
        &self,
        wish: Wish,
    ) -> (Rc<FakeSession>, Result<Local, AttachError>) {
        let session = self.session();
        let wish = Wish {
            device: "can:can0".to_owned(),
            node: "hub".to_owned(),
            ..wish
        };
        let host = Arc::new(self.client.clone());
        let attached = attach(host, Rc::<FakeSession>::clone(&session), wish).await;
        (session, attached)
    }

    pub(crate) async fn attach(&self, wish: Wish) -> (Rc<FakeSession>, Local) {
        let (session, attached) = self.try_attach(wish).await;
        (session, attached.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Another node of the bus.
    pub(crate) fn on_bus(&self) -> Program {
        self.owner.program("far").unwrap()
    }

    /// A program of the client's machine.
    pub(crate) fn program(&self, interface: &str) -> Program {
        self.client.program(interface).unwrap()
    }

    /// How the streams ended, once one has.
    pub(crate) async fn ends(&self) -> Vec<End> {
        while self.ends.borrow().is_empty() {
            self.settled().await;
        }
        self.ends.take()
    }

    /// Everything that could be done has been done: virtual time passes only then.
    pub(crate) async fn settled(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
