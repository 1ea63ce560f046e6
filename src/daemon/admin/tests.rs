use tempfile::TempDir;

use super::*;
use crate::daemon::control::message::{AclLine, Exported};
use crate::daemon::system::SystemEntropy;
use crate::device::acl::Mode;
use crate::device::registry::{Found, Hazard};
use crate::session::identity::NodeKey;

const NOW: u64 = crate::daemon::state::BUILD_FLOOR;
const FTDI: &str = "usb:0403:6001:A1";

struct Home {
    _dir: TempDir,
    state: StateDir,
    registry: Registry,
    shed: NodeId,
}

fn found(id: &str, name: &str, hazard: Option<(&str, bool)>) -> Found {
    let hazard = hazard.map(|(reason, forcible)| Hazard {
        reason: reason.to_owned(),
        forcible,
    });
    Found {
        id: id.parse().unwrap(),
        port: None,
        peer: None,
        name: name.to_owned(),
        hazard,
    }
}

impl Home {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.create().unwrap();
        let rng = &mut SystemEntropy;
        let locked = state.lock().unwrap();
        locked.found_family("hub", "home", rng, NOW).unwrap();
        let shed = NodeKey::generate(rng);
        locked
            .certify(shed.public(), "shed", &[], rng, NOW)
            .unwrap();
        let mut registry = Registry::default();
        registry.sync(vec![
            found(FTDI, "FT232R USB UART", None),
            found(
                "usb:0781:5567:S1",
                "Cruzer Blade",
                Some(("its disk sdb1 is mounted", true)),
            ),
            found("usb:0781:5567:S2", "Cruzer Blade", None),
            found(
                "usb:05e3:0610@1-1",
                "USB2.1 Hub",
                Some(("it is a hub", false)),
            ),
        ]);
        Self {
            _dir: dir,
            state,
            registry,
            shed: shed.node_id(),
        }
    }

    fn known(&self) -> Known<'_> {
        Known {
            devices: Some(&self.registry),
            sessions: &[],
        }
    }

    fn export(&self, device: &str, force: bool) -> Result<Exported, ControlError> {
        export(&self.state, self.known(), device, force)
    }

    fn grant(&self, device: &str, subject: &str) -> Result<AclLine, ControlError> {
        acl_grant(&self.state, self.known(), device, subject, Mode::ReadWrite)
    }
}

#[test]
fn a_device_is_exported_by_id_beginning_or_name_and_stored_by_id() {
    let home = Home::new();
    for query in [FTDI, "usb:0403", "ft232r usb uart"] {
        let exported = home.export(query, false).unwrap();
        assert_eq!(
            (&*exported.device, &*exported.name),
            (FTDI, "FT232R USB UART")
        );
    }
    assert_eq!(home.state.exports().unwrap().entries().len(), 1);
}

#[test]
fn an_ambiguous_or_unknown_device_is_not_exported() {
    let home = Home::new();
    let error = home.export("Cruzer Blade", false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Ambiguous);
    assert_eq!(error.candidates, ["usb:0781:5567:S1", "usb:0781:5567:S2"]);
    assert_eq!(
        home.export("usb:ffff", false).unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert!(home.state.exports().unwrap().entries().is_empty());
}

#[test]
fn a_device_in_use_needs_force_and_a_hub_is_never_exported() {
    let home = Home::new();
    let error = home.export("usb:0781:5567:S1", false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
    assert_eq!(error.cause.as_deref(), Some("its disk sdb1 is mounted"));
    assert!(error.mend.unwrap().contains("--force"));
    assert!(home.export("usb:0781:5567:S1", true).is_ok());
    assert_eq!(
        home.export("usb:05e3", true).unwrap_err().kind,
        ErrorKind::Refused
    );
}

#[test]
fn an_export_tells_how_many_entries_let_somebody_see_it() {
    let home = Home::new();
    assert_eq!(home.export(FTDI, false).unwrap().entries, 0);
    home.grant("usb:0403:*", "shed").unwrap();
    home.grant("usb:9999:*", "shed").unwrap();
    let exported = home.export(FTDI, false).unwrap();
    assert_eq!((exported.entries, exported.changed), (1, false));
    assert_eq!(home.export("usb:04*", false).unwrap().entries, 1);
}

/// The same registry, the stick with a mounted disk at port 1-4.
fn plugged(mut home: Home) -> Home {
    let mounted = Some(("its disk sdb1 is mounted", true));
    home.registry.sync(vec![Found {
        port: Some("usb@1-4".parse().unwrap()),
        ..found("usb:0781:5567:S1", "Cruzer Blade", mounted)
    }]);
    home
}

#[test]
fn a_port_is_exported_as_such_whether_something_is_plugged_in_or_not() {
    let home = plugged(Home::new());
    let error = home.export("usb@1-4", false).unwrap_err();
    assert_eq!(error.cause.as_deref(), Some("its disk sdb1 is mounted"));
    home.grant("usb:0781:5567:S1", "shed").unwrap();
    let exported = home.export("usb@1-4", true).unwrap();
    assert_eq!(
        (&*exported.device, &*exported.name, exported.entries),
        ("usb@1-4", "Cruzer Blade", 1)
    );
    assert_eq!(home.export("usb@7-7", false).unwrap().name, "");
    assert_eq!(
        home.export("usb@7", false).unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(home.grant("usb@1-4", "shed").unwrap().device, "usb@1-4");
}

#[test]
fn a_device_that_its_port_still_offers_is_told_when_it_is_unexported() {
    let home = plugged(Home::new());
    home.export("usb@1-4", true).unwrap();
    let exported = home.export("Cruzer Blade", true).unwrap();
    assert_eq!(exported.plugged.as_deref(), Some("usb@1-4"));
    let unexported = unexport(&home.state, home.known(), "usb:0781:5567:S1").unwrap();
    assert_eq!(unexported.still, ["usb@1-4"]);
    let unexported = unexport(&home.state, home.known(), "usb@1-4").unwrap();
    assert_eq!((unexported.changed, unexported.still.len()), (true, 0));
}

#[test]
fn an_absent_device_can_still_be_unexported() {
    let mut home = Home::new();
    home.export(FTDI, false).unwrap();
    home.registry.sync(Vec::new());
    let unexported = unexport(&home.state, home.known(), "usb:0403").unwrap();
    assert_eq!((&*unexported.device, unexported.changed), (FTDI, true));
    assert!(home.state.exports().unwrap().entries().is_empty());
}

#[test]
fn without_a_daemon_a_whole_id_is_taken_as_it_stands() {
    let home = Home::new();
    let exported = export(&home.state, Known::default(), "usb:1234:5678", false).unwrap();
    assert_eq!(exported.device, "usb:1234:5678");
    let error = export(&home.state, Known::default(), "two words", false).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Usage);
}

#[test]
fn access_is_granted_to_a_node_by_name_or_id_and_to_roles() {
    let home = Home::new();
    let id = home.shed.to_string();
    for subject in ["shed", "SHED", &id, &id[..8], &format!("node:{id}")] {
        let line = home.grant(FTDI, subject).unwrap();
        assert_eq!(line.subject, format!("node:{id}"), "{subject}");
        assert_eq!(line.name.as_deref(), Some("shed"));
    }
    assert_eq!(home.state.acl().unwrap().entries().len(), 1);
    assert_eq!(
        home.grant(FTDI, "role:bench").unwrap().subject,
        "role:bench"
    );
    assert_eq!(
        home.grant(FTDI, "nobody").unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        home.grant(FTDI, "role:").unwrap_err().kind,
        ErrorKind::Usage
    );
    assert_eq!(
        home.grant("usb:ffff", "shed").unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[test]
fn revoked_access_is_told_and_a_second_time_is_not_found() {
    let mut home = Home::new();
    home.grant(FTDI, "shed").unwrap();
    home.registry.sync(Vec::new());
    let gone = acl_revoke(&home.state, home.known(), FTDI, "shed").unwrap();
    assert_eq!(gone.len(), 1);
    assert!(acl_list(&home.state, home.known()).unwrap().is_empty());
    assert!(acl_revoke(&home.state, home.known(), FTDI, "shed").is_err());
}

#[test]
fn a_revoked_member_stays_in_the_list_as_such() {
    let home = Home::new();
    home.grant(FTDI, "shed").unwrap();
    home.grant(FTDI, "hub").unwrap();
    let (revoked, _) = revoke(&home.state, "shed", &mut SystemEntropy, NOW + 1).unwrap();
    assert_eq!(
        (revoked.node.name.as_str(), revoked.crl, revoked.psk_epoch),
        ("shed", 2, 2)
    );
    assert_eq!(
        (revoked.entries, home.state.acl().unwrap().entries().len()),
        (1, 1)
    );
    let members = members(&home.state, home.known()).unwrap();
    let seen: Vec<_> = members
        .iter()
        .map(|m| (&*m.name, m.revoked, m.this, m.online))
        .collect();
    assert_eq!(
        seen,
        [
            ("hub", None, true, Some(true)),
            ("shed", Some(NOW + 1), false, Some(false))
        ]
    );
    let again = revoke(&home.state, "shed", &mut SystemEntropy, NOW + 1).unwrap_err();
    assert_eq!(again.kind, ErrorKind::NotFound);
    let own = revoke(&home.state, "hub", &mut SystemEntropy, NOW + 1).unwrap_err();
    assert_eq!(own.kind, ErrorKind::Refused);
}

#[test]
fn state_errors_name_the_command_that_mends_them() {
    let dir = TempDir::new().unwrap();
    let error = members(&StateDir::new(dir.path()), Known::default()).unwrap_err();
    assert!(error.mend.unwrap().contains("myclerk init"));
}
