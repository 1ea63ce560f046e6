//! A device taken and given back again and again, as `myclerk attach` and `myclerk detach` do it but
//! without a process for each: under emulation its start takes longer than the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use myclerk::daemon::control::message::DetachTarget;
use myclerk::daemon::control::{Connection, Incoming, Request, Side};

/// For the owner's driver to have the device again.
const HOME: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Takes the hub's device `count` times through the client daemon that listens in `run_dir`;
/// `driver` is the link in sysfs that the owner's interface has while its driver is bound.
///
/// # Errors
/// The daemon's answer when it refuses, or that the owner's driver did not come back.
pub(crate) fn take(run_dir: &Path, device: &str, driver: &Path, count: u32) -> io::Result<()> {
    let target = DetachTarget::Device {
        node: Some("hub".to_owned()),
        device: device.to_owned(),
    };
    let (attach, detach) = (
        Request::Attach {
            node: "hub".to_owned(),
            device: device.to_owned(),
            name: None,
            way: None,
            options: BTreeMap::new(),
            grace: None,
        },
        Request::Detach { target },
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for _ in 0..count {
            ask(run_dir, &attach).await?;
            ask(run_dir, &detach).await?;
            tokio::time::timeout(HOME, bound(driver)).await?;
        }
        Ok(())
    })
}

async fn ask(run_dir: &Path, request: &Request) -> io::Result<()> {
    let mut connection = Connection::open(run_dir, Side::Client, request)
        .await
        .map_err(io::Error::other)?;
    loop {
        match connection.next().await.map_err(io::Error::other)? {
            Incoming::Progress(_) => {}
            Incoming::Question(_) => return Err(io::Error::other("the daemon asks back")),
            Incoming::Done(Ok(_)) => return Ok(()),
            Incoming::Done(Err(error)) => {
                let cause = error.cause.unwrap_or_default();
                return Err(io::Error::other(format!("{} ({cause})", error.message)));
            }
        }
    }
}

async fn bound(driver: &Path) {
    while !driver.exists() {
        tokio::time::sleep(POLL).await;
    }
}
