//! Names of what this program makes in the kernel and what outlives it there: directories of configfs
//! and tracefs. They tell a later run whether their maker still lives.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// How all these names begin.
const PREFIX: &str = "myclerk-";

/// The field of `/proc/PID/stat` with the time a process started, counted from the one after its name.
const START_FIELD: usize = 19;

/// A name that nothing else has: `myclerk-PID-STARTED-COUNT`.
pub(super) fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}{pid}-{}-{count}", started(pid).unwrap_or(0))
}

/// Whether a name is one of ours and its maker is gone.
pub(super) fn is_left_behind(name: &str) -> bool {
    maker(name).is_some_and(|(pid, start)| started(pid).unwrap_or(0) != start)
}

fn maker(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.split('-');
    let maker = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let _count: u32 = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some(maker)
}

/// When a process started, in ticks since boot; `None` when there is none.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // A process may have put a bracket into its name, which stands in brackets.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(START_FIELD)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_living_process_made_is_not_left_behind() {
        let name = fresh();
        assert!(name.starts_with(PREFIX));
        assert_ne!(name, fresh());
        assert!(!is_left_behind(&name));
    }

    #[test]
    fn a_process_that_has_the_number_of_the_maker_is_not_the_maker() {
        let pid = std::process::id();
        assert!(is_left_behind(&format!("{PREFIX}{pid}-1-0")));
    }

    #[test]
    fn names_of_others_are_never_left_behind() {
        for name in [
            "bench",
            "myclerk-",
            "myclerk-1",
            "myclerk-1-2-3-4",
            "myclerk-x-1-0",
        ] {
            assert!(!is_left_behind(name), "{name}");
        }
    }
}
