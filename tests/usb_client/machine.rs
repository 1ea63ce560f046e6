//! A kernel with several controllers that gives ports out and takes them back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;

use myclerk::kernel::vhci::{Controllers, Hub, Port, PortId, PortState, Speed, Vhci, VhciError};
use tokio::sync::mpsc;

use crate::kernel::Kernel;

/// Its ports: one of each kind at every controller.
#[derive(Debug)]
struct Ports {
    controllers: usize,
    used: RefCell<HashMap<PortId, UnixStream>>,
    plugged: mpsc::UnboundedSender<(PortId, UnixStream)>,
}

impl Controllers for Ports {
    fn ports(&self) -> Result<Vec<Port>, VhciError> {
        let used = self.used.borrow();
        let rows = (0..self.controllers * 2).map(|number| {
            let id = PortId(u32::try_from(number).expect("few ports"));
            let (hub, state) = (
                if number % 2 == 0 {
                    Hub::High
                } else {
                    Hub::Super
                },
                if used.contains_key(&id) {
                    PortState::Used
                } else {
                    PortState::Free
                },
            );
            Port {
                id,
                controller: number / 2,
                hub,
                state,
                devid: 0,
                local_bus_id: "0-0".to_owned(),
            }
        });
        Ok(rows.collect())
    }

    fn attach(&self, port: PortId, socket: BorrowedFd<'_>, _: u32, _: Speed) -> io::Result<()> {
        let socket = UnixStream::from(socket.try_clone_to_owned()?);
        self.used.borrow_mut().insert(port, socket.try_clone()?);
        // A test that is over no longer listens.
        let _ = self.plugged.send((port, socket));
        Ok(())
    }

    fn detach(&self, port: PortId) -> io::Result<()> {
        match self.used.borrow_mut().remove(&port) {
            Some(socket) => socket.shutdown(Shutdown::Both),
            None => Err(io::Error::from_raw_os_error(libc::EINVAL)),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(file)
    }

    fn generation(&self) -> u64 {
        1
    }
}

/// What the kernel's side of a test sees of it.
pub(crate) struct Machine {
    pub(crate) vhci: Rc<Vhci>,
    plugged: mpsc::UnboundedReceiver<(PortId, UnixStream)>,
}

impl Machine {
    pub(crate) fn new(controllers: usize, seqnum_limit: u32) -> Self {
        let (report, plugged) = mpsc::unbounded_channel();
        let ports = Ports {
            controllers,
            used: RefCell::default(),
            plugged: report,
        };
        let vhci = Vhci::of(Box::new(ports)).with_seqnum_limit(seqnum_limit);
        Self {
            vhci: Rc::new(vhci),
            plugged,
        }
    }

    /// The next device that is plugged in, and where.
    pub(crate) async fn plugged(&mut self) -> (PortId, Kernel) {
        let (port, socket) = self.plugged.recv().await.expect("a client");
        (port, Kernel::new(socket))
    }

    /// True when nothing was plugged in since the last time.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.plugged.try_recv().is_err()
    }

    /// The ports that are in use.
    pub(crate) fn used(&self) -> Vec<u32> {
        let ports = self.vhci.ports().expect("ports");
        let used = ports.iter().filter(|port| port.state == PortState::Used);
        used.map(|port| port.id.0).collect()
    }
}
