//! What this node must have: its state, a believable clock, the group.

use std::path::Path;

use nix::unistd::{Gid, Group, Uid, getgroups};

use super::machine::Machine;
use super::{Check, Verdict};
use crate::cli::output::{date, label};
use crate::daemon::client::rules::{self, Rules};
use crate::daemon::control::Side;
use crate::daemon::control::listen::GROUP;
use crate::daemon::control::message::ControlError;
use crate::daemon::state::{BUILD_FLOOR, StateDir, StateError};
use crate::daemon::system::wall_clock;
use crate::session::clock::{ClockQuality, WallClock};

const STATE: &str = "state";

/// Every stored file is read once.
pub(super) fn state(state: &StateDir) -> Vec<Check> {
    let path = state.path().display().to_string();
    match state.path().metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return vec![
                Check::warn(STATE, format!("{path} cannot be looked into by this user"))
                    .mend("sudo myclerk doctor"),
            ];
        }
        Err(_) => return vec![of_error(StateError::NotSetUp(state.path().to_owned()))],
        Ok(_) => {}
    }
    let reads = [
        state.check().err(),
        state.identity().err(),
        state.trust().err(),
        state.family_psks().err(),
        state.members().err(),
        state.exports().err(),
        state.acl().err(),
        state.peers().err(),
        state
            .root()
            .err()
            .filter(|error| !matches!(error, StateError::NoRoot(_))),
    ];
    let mut checks: Vec<Check> = Vec::new();
    for error in reads.into_iter().flatten() {
        let check = of_error(error);
        if !checks.contains(&check) {
            checks.push(check);
        }
    }
    if checks.is_empty() {
        checks.push(in_order(state, &path));
    }
    checks
}

fn in_order(state: &StateDir, path: &str) -> Check {
    match state.identity() {
        Ok(identity) => {
            let id = identity.key.node_id().to_string();
            let name = label(&identity.name, &id);
            let root = if state.has_root() {
                ", holds the family's root key"
            } else {
                ""
            };
            Check::ok(
                STATE,
                format!("this machine is {name:?}{root}; {path} is in order"),
            )
        }
        Err(error) => of_error(error),
    }
}

fn of_error(error: StateError) -> Check {
    let denied = matches!(&error, StateError::Io { source, .. }
        if source.kind() == std::io::ErrorKind::PermissionDenied);
    if denied {
        return Check::warn(STATE, error.to_string()).mend("sudo myclerk doctor");
    }
    let ControlError { message, mend, .. } = error.into();
    Check {
        mend,
        ..Check::new(STATE, Verdict::Fail, message)
    }
}

/// Certificates and tokens have dates; nodes without a clock get by, a wrong clock does not.
pub(super) fn clock(machine: &Machine, state: &StateDir) -> Check {
    let floor = state.time_floor().unwrap_or(BUILD_FLOOR);
    judge_clock(wall_clock(), floor, machine.exists("/sys/class/rtc/rtc0"))
}

fn judge_clock(wall: WallClock, floor: u64, rtc: bool) -> Check {
    const NAME: &str = "clock";
    const SYNC: &str = "sudo timedatectl set-ntp true";
    if wall.secs < floor {
        let (shown, least) = (date(wall.secs), date(floor));
        let detail = format!("it shows {shown}, but it is at least {least}");
        return Check::fail(NAME, detail).mend(SYNC);
    }
    match (wall.quality, rtc) {
        (ClockQuality::Synchronised, _) => Check::ok(NAME, "synchronised"),
        (ClockQuality::Estimated | ClockQuality::None, true) => {
            Check::warn(NAME, "not synchronised; kept by a real-time clock").mend(SYNC)
        }
        (ClockQuality::Estimated | ClockQuality::None, false) => {
            Check::warn(NAME, "not synchronised, and there is no real-time clock").mend(SYNC)
        }
    }
}

/// The group that may use the control sockets without sudo.
/// Whether the rules by which devices become local by themselves are understood.
pub(super) fn rules(config: &Path) -> Check {
    const NAME: &str = "rules";
    let file = rules::file(config);
    let path = file.display();
    match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::ok(NAME, "none, so every device is attached by hand")
        }
        Err(error) => Check::warn(NAME, format!("{path} cannot be read: {error}")),
        Ok(text) => match Rules::parse(&text) {
            Ok(rules) => Check::ok(NAME, format!("{} in {path}", rules.all().len())),
            Err(why) => Check::fail(NAME, format!("{path} is not understood: {why}"))
                .mend(format!("sudoedit {path}")),
        },
    }
    .only(Side::Client)
}

pub(super) fn group() -> Check {
    const NAME: &str = "group";
    if Uid::effective().is_root() {
        return Check::ok(NAME, "this is root");
    }
    let Ok(Some(group)) = Group::from_name(GROUP) else {
        return Check::warn(
            NAME,
            format!("there is no group {GROUP}, so everything needs sudo"),
        )
        .mend(format!(
            "sudo groupadd --system {GROUP} && sudo usermod -aG {GROUP} \"$USER\""
        ));
    };
    let own = getgroups().unwrap_or_default();
    if own.contains(&group.gid) || Gid::effective() == group.gid {
        Check::ok(NAME, format!("this user is in {GROUP}"))
    } else {
        Check::warn(
            NAME,
            format!("this user is not in {GROUP}, so everything needs sudo"),
        )
        .mend(format!(
            "sudo usermod -aG {GROUP} \"$USER\"   # then log in again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;
    use crate::daemon::system::SystemEntropy;

    #[test]
    fn a_state_in_order_and_one_that_is_not_are_told_apart() {
        let dir = TempDir::new().unwrap();
        let home = StateDir::new(dir.path().join("state"));
        let verdicts = || {
            state(&home)
                .into_iter()
                .map(|c| c.verdict)
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(), [Verdict::Fail]);
        home.create().unwrap();
        home.lock()
            .unwrap()
            .found_family("hub", "home", &mut SystemEntropy, BUILD_FLOOR)
            .unwrap();
        assert_eq!(verdicts(), [Verdict::Ok]);
        fs::write(home.path().join("acl.toml"), "x").unwrap();
        let key = home.path().join("node.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let checks = state(&home);
        assert_eq!(checks.len(), 2, "{checks:?}");
        let mends: Vec<_> = checks
            .iter()
            .filter_map(|check| check.mend.as_deref())
            .collect();
        assert!(
            mends[0].starts_with("chmod go-rwx ") && mends[1].contains("acl.toml"),
            "{mends:?}"
        );
    }

    #[test]
    fn a_clock_before_the_known_past_fails_whatever_it_claims() {
        let judge =
            |secs, quality, rtc| judge_clock(WallClock { secs, quality }, BUILD_FLOOR, rtc).verdict;
        assert_eq!(judge(60, ClockQuality::Synchronised, true), Verdict::Fail);
        assert_eq!(
            judge(BUILD_FLOOR, ClockQuality::Synchronised, false),
            Verdict::Ok
        );
        assert_eq!(
            judge(BUILD_FLOOR, ClockQuality::Estimated, true),
            Verdict::Warn
        );
        assert_eq!(judge(BUILD_FLOOR, ClockQuality::None, false), Verdict::Warn);
    }
}
