//! How much memory a thread holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what the calling thread allocates and frees.
struct Counting;

thread_local! {
    /// Bytes held now, and the most since [`peak`] began. What another thread frees is missed.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

fn count(bytes: usize, sign: i64) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    // A thread that ends has no counter any more.
    let _ = HELD.try_with(|held| {
        let (now, peak) = held.get();
        let now = now.saturating_add(bytes.saturating_mul(sign));
        held.set((now, peak.max(now)));
    });
}

// SAFETY: every call is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread held at most above what it holds now, from the second call's point of
/// view: `Peak::begin`, work, `Peak::bytes`.
pub(crate) struct Peak(i64);

impl Peak {
    pub(crate) fn begin() -> Self {
        HELD.with(|held| {
            let (now, _) = held.get();
            held.set((now, now));
            Self(now)
        })
    }

    pub(crate) fn bytes(&self) -> i64 {
        HELD.with(|held| held.get().1 - self.0)
    }

    /// What is held now beyond what was held at the beginning.
    pub(crate) fn left(&self) -> i64 {
        HELD.with(|held| held.get().0 - self.0)
    }
}

#[test]
fn what_is_held_is_counted() {
    let peak = Peak::begin();
    let held = vec![0_u8; 1 << 20];
    drop(held);
    assert!(peak.bytes() >= 1 << 20 && peak.bytes() < 2 << 20);
    assert!(peak.left() < 1 << 16);
}
