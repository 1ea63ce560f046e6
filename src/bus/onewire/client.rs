//! The half that uses a bus: an emulated DS2490 on vhci, to which the kernel's own driver binds. It makes
//! a `w1_bus_masterN` of it, and drivers of devices work there as at any other.

pub mod owner;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio::sync::Mutex;

use super::enumerate::{OWN_MARK, ROOT, places};
use crate::bus::adapter::ds2490::Ds2490;
use crate::bus::adapter::local::{self, Made};
use crate::bus::remote::Remote;
use crate::bus::{AttachError, Attaching, Here, Local, Opener, Presenter, Wish};
use owner::Owner;

/// 1-Wire buses as the client's daemon sees them.
pub const PRESENTER: Presenter = Presenter {
    class: "onewire",
    ways: &["ds2490"],
    named: false,
    options: &[],
    check,
    attach: |opener, wish, here| -> Attaching {
        let here = here.clone();
        Box::pin(async move { attach(opener, wish, &here).await })
    },
    operate: None,
};

/// The kernel does not say which bus belongs to which adapter: while one is plugged in, no other is.
static TURN: Mutex<()> = Mutex::const_new(());

/// Where the kernel has its virtual USB host.
const VHCI: &str = "/sys/devices/platform/vhci_hcd.0";

/// The driver is loaded when the adapter is plugged in.
fn check() -> Result<(), AttachError> {
    fs::metadata(VHCI)
        .map(|_| ())
        .map_err(|cause| AttachError::Here {
            what: "this machine has no virtual USB host".to_owned(),
            cause,
            mend: Some("modprobe vhci-hcd".to_owned()),
        })
}

async fn attach(opener: Rc<dyn Opener>, wish: Wish, here: &Here) -> Result<Local, AttachError> {
    if wish.name.is_some() {
        let why = "the kernel names 1-Wire buses itself";
        return Err(AttachError::Wish(why.to_owned()));
    }
    let remote = Remote::new(Rc::clone(&opener), &wish);
    let owner = Owner::new(&*opener, Rc::clone(&remote)).await?;
    let chip = Ds2490::new(local::strings(&wish), Rc::new(owner));

    let _turn = TURN.lock().await;
    let root = Path::new(ROOT);
    let before: BTreeSet<_> = listed(root).collect();
    let mine = Rc::new(RefCell::new(None));
    let made = Made {
        module: "ds2490",
        find: Box::new({
            let (mine, chip) = (Rc::clone(&mine), Rc::clone(&chip));
            move |_, _| {
                let mut mine = mine.borrow_mut();
                if mine.is_none() && chip.is_used() {
                    let new = listed(root).find(|bus| !before.contains(bus));
                    *mine = new.map(|(place, _)| root.join(place));
                }
                mine.clone()
            }
        }),
        files: |path| {
            vec![
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into(),
            ]
        },
    };
    let local = local::plug_in(here, &wish, remote, made, chip).await?;
    if let Some(place) = mine.take() {
        *mine.borrow_mut() = Some(place.clone());
        tokio::task::spawn_blocking(move || mark(&place));
    }
    Ok(local)
}

/// The buses by their names, which the kernel gives again, and by the numbers of their directories, which it
/// does not. A directory that cannot be read has nothing in it.
fn listed(root: &Path) -> impl Iterator<Item = (String, u64)> + '_ {
    let places = places(root).unwrap_or_default();
    places.into_iter().filter_map(|place| {
        let directory = fs::metadata(root.join(&place)).ok()?;
        Some((place, directory.ino()))
    })
}

/// Marks a bus as one that stands for a remote one. Waits until the kernel's first search is over, which
/// this process serves: never on its own thread.
fn mark(place: &Path) {
    let file: PathBuf = place.join("w1_master_max_slave_count");
    if let Err(error) = fs::write(&file, OWN_MARK.to_string())
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "a remote bus cannot be marked as one");
    }
}
