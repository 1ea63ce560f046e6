//! Which hubs are worn out: their sequence numbers near the end that the kernel can count to.
//!
//! Every root hub numbers the URBs of all its ports with one counter, which starts at 0 when the
//! module is loaded and goes on over every attach (kernel `drivers/usb/usbip/vhci_hcd.c`, `seqnum`).
//! From 2^31 on the kernel no longer finds the URB that an answer belongs to, because it compares
//! the number with one of another sign, and gives the port up.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::Hub;

/// Where a hub counts as worn out unless told otherwise: 2^20 numbers before the kernel loses its
/// way, because devices that share the hub go on counting until each has seen it.
pub const SEQNUM_LIMIT: u32 = (1 << 31) - (1 << 20);

/// The hubs that are worn out.
#[derive(Debug)]
pub(super) struct Wear {
    pub(super) limit: u32,
    worn: RefCell<Worn>,
}

#[derive(Debug, Default)]
struct Worn {
    /// Of the module whose hubs these are: loading it again makes new ones.
    generation: u64,
    hubs: BTreeSet<(usize, Hub)>,
}

impl Default for Wear {
    fn default() -> Self {
        Self {
            limit: SEQNUM_LIMIT,
            worn: RefCell::default(),
        }
    }
}

impl Wear {
    /// Remembers a hub of a controller as worn out.
    pub(super) fn mark(&self, generation: u64, controller: usize, hub: Hub) {
        self.refresh(generation);
        self.worn.borrow_mut().hubs.insert((controller, hub));
    }

    /// Whether a hub of a controller is.
    pub(super) fn is_worn(&self, generation: u64, controller: usize, hub: Hub) -> bool {
        self.refresh(generation);
        self.worn.borrow().hubs.contains(&(controller, hub))
    }

    fn refresh(&self, generation: u64) {
        let mut worn = self.worn.borrow_mut();
        if worn.generation != generation {
            worn.generation = generation;
            worn.hubs.clear();
        }
    }
}
