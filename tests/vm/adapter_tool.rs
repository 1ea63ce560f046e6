//! Emulated adapters as hardware of the guest: buses of its kernel that have scripted chips behind them.

use std::future::Future;
use std::io;
use std::rc::Rc;

use myclerk::bus::adapter::{Adapter, attach};
use myclerk::kernel::vhci::Vhci;
use tokio::task::LocalSet;

use crate::say;

/// Plugs an adapter in, says at which port, and plays it until `work` is done.
pub(crate) fn plug_in<A, F>(pin: &str, work: impl FnOnce() -> (Rc<A>, F)) -> io::Result<()>
where
    A: Adapter + 'static,
    F: Future<Output = io::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async {
        let (adapter, work) = work();
        let vhci = Rc::new(Vhci::system());
        let attachment = attach::attach(&vhci, pin, adapter).map_err(io::Error::other)?;
        say(&format!("port {}", attachment.port()));
        tokio::select! {
            done = work => done,
            ended = attachment.ended() => Err(io::Error::other(ended)),
        }
    })
}
