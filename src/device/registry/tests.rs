use super::super::acl::{Entry, Mode, Subject};
use super::super::export::Export;
use super::*;

const ME: [u8; 16] = [1; 16];
const HOME: [u8; 16] = [9; 16];

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn found(text: &str) -> Found {
    Found {
        id: id(text),
        port: None,
        peer: None,
        name: "A thing".to_owned(),
        hazard: None,
    }
}

fn mounted(text: &str, forcible: bool) -> Found {
    let hazard = Hazard {
        reason: "its disk sdb1 is mounted".to_owned(),
        forcible,
    };
    Found {
        hazard: Some(hazard),
        ..found(text)
    }
}

struct Rules {
    policy: ExportPolicy,
    acl: Acl,
}

impl Rules {
    fn new(exports: &[(&str, bool)], grants: &[(&str, Mode)]) -> Self {
        let mut rules = Self {
            policy: ExportPolicy::default(),
            acl: Acl::default(),
        };
        for &(device, force) in exports {
            let export = Export {
                device: device.parse().unwrap(),
                force,
            };
            rules.policy.add(export).unwrap();
        }
        for &(device, mode) in grants {
            let entry = Entry::new(device.parse().unwrap(), Subject::Node(ME), mode);
            rules.acl.grant(entry).unwrap();
        }
        rules
    }

    fn view(&self) -> View<'_> {
        let caller = Caller {
            node: &ME,
            family: &HOME,
            roles: &[],
        };
        View {
            policy: &self.policy,
            acl: &self.acl,
            caller,
            now: 0,
        }
    }

    fn attach(&self, registry: &Registry, device: &str) -> Result<(), Refusal> {
        let opcode = Opcode::UsbDeviceAttach;
        registry
            .check(self.view(), &id(device), opcode, Need::Write, false)
            .map(|_| ())
    }
}

fn take(registry: &mut Registry, device: &str, node: [u8; 16]) -> Result<Ticket, Refusal> {
    registry.begin_use(&id(device), node, Sharing::Exclusive)
}

fn registry(scan: &[Found]) -> Registry {
    let mut registry = Registry::default();
    registry.sync(scan.to_vec());
    registry
}

#[test]
fn a_scan_tells_what_came_went_and_changed() {
    let mut registry = registry(&[found("usb:1"), found("usb:2"), found("usb:3")]);
    take(&mut registry, "usb:1", ME).unwrap();
    let renamed = Found {
        name: "Another".to_owned(),
        ..found("usb:2")
    };
    let changes = registry.sync(vec![renamed, found("usb:3"), found("usb:4")]);
    assert_eq!(
        changes,
        [
            Change::Removed(id("usb:1"), Some(ME)),
            Change::Changed(id("usb:2")),
            Change::Added(id("usb:4")),
        ]
    );
}

#[test]
fn a_rescan_does_not_end_a_use() {
    let mut registry = registry(&[found("usb:1")]);
    take(&mut registry, "usb:1", ME).unwrap();
    assert_eq!(
        registry.sync(vec![mounted("usb:1", true)]),
        [Change::Changed(id("usb:1"))]
    );
    assert_eq!(registry.get(&id("usb:1")).unwrap().user(), Some(ME));
}

#[test]
fn a_peer_sees_only_what_is_both_offered_and_granted() {
    let registry = registry(&[found("usb:1"), found("usb:2"), found("usb:3")]);
    let rules = Rules::new(
        &[("usb:1", false), ("usb:2", false)],
        &[("usb:2", Mode::Read), ("usb:3", Mode::Read)],
    );
    let seen: Vec<_> = registry
        .visible(rules.view())
        .map(|(d, _)| d.found.id.clone())
        .collect();
    assert_eq!(seen, [id("usb:2")]);
}

#[test]
fn absent_unoffered_and_ungranted_devices_look_alike() {
    let registry = registry(&[found("usb:1"), found("usb:2")]);
    let rules = Rules::new(&[("usb:1", false)], &[("usb:2", Mode::ReadWrite)]);
    for device in ["usb:1", "usb:2", "usb:absent"] {
        assert_eq!(
            rules.attach(&registry, device),
            Err(Refusal::Unknown),
            "{device}"
        );
    }
}

#[test]
fn seeing_is_not_using() {
    let registry = registry(&[found("usb:1")]);
    let rules = Rules::new(&[("usb:1", false)], &[("usb:*", Mode::Read)]);
    assert_eq!(rules.attach(&registry, "usb:1"), Err(Refusal::Acl));
    let rules = Rules::new(&[("usb:1", false)], &[("usb:*", Mode::ReadWrite)]);
    assert_eq!(rules.attach(&registry, "usb:1"), Ok(()));
}

#[test]
fn force_overrides_a_mount_but_never_a_hub() {
    let registry = registry(&[mounted("usb:disk", true), mounted("usb:hub", false)]);
    let grants = [("usb:*", Mode::ReadWrite)];
    let plain = Rules::new(&[("usb:*", false)], &grants);
    assert!(matches!(
        plain.attach(&registry, "usb:disk"),
        Err(Refusal::Hazard(_))
    ));
    let forced = Rules::new(&[("usb:*", true)], &grants);
    assert_eq!(forced.attach(&registry, "usb:disk"), Ok(()));
    assert!(matches!(
        forced.attach(&registry, "usb:hub"),
        Err(Refusal::Hazard(_))
    ));
}

#[test]
fn a_device_is_used_by_one_session_at_a_time() {
    let mut registry = registry(&[found("usb:1")]);
    let ticket = take(&mut registry, "usb:1", ME).unwrap();
    assert_eq!(take(&mut registry, "usb:1", ME), Err(Refusal::InUse));
    assert_eq!(
        registry
            .get(&id("usb:1"))
            .unwrap()
            .state(&ExportPolicy::default()),
        State::InUse
    );
    registry.end_use(&id("usb:1"), ticket);
    assert!(take(&mut registry, "usb:1", [2; 16]).is_ok());
}

#[test]
fn a_shared_device_has_all_its_users_until_the_last_has_left() {
    let mut registry = registry(&[found("can:can0")]);
    let device = id("can:can0");
    let mut share = |node| registry.begin_use(&device, node, Sharing::Shared);
    let (one, other) = (share(ME).unwrap(), share([2; 16]).unwrap());
    let once_more = share([2; 16]).unwrap();
    let nodes = registry.get(&device).map(Device::nodes);
    assert_eq!(nodes.unwrap(), [ME, [2; 16]]);
    assert_eq!(
        take(&mut registry, "can:can0", [3; 16]),
        Err(Refusal::InUse)
    );
    registry.end_use(&device, one);
    let left = registry.get(&device).unwrap();
    assert_eq!(left.user(), Some([2; 16]));
    assert_eq!(left.state(&ExportPolicy::default()), State::InUse);
    registry.end_use(&device, other);
    registry.end_use(&device, once_more);
    assert!(take(&mut registry, "can:can0", [3; 16]).is_ok());
    assert_eq!(
        registry.begin_use(&device, ME, Sharing::Shared),
        Err(Refusal::InUse)
    );
}

#[test]
fn a_late_end_of_a_use_does_not_free_the_device_that_came_back() {
    let mut registry = registry(&[found("usb:1")]);
    let before = take(&mut registry, "usb:1", ME).unwrap();
    registry.sync(Vec::new());
    registry.sync(vec![found("usb:1")]);
    let after = take(&mut registry, "usb:1", [2; 16]).unwrap();
    registry.end_use(&id("usb:1"), before);
    assert_eq!(take(&mut registry, "usb:1", ME), Err(Refusal::InUse));
    registry.end_use(&id("usb:1"), after);
    assert!(take(&mut registry, "usb:1", ME).is_ok());
}

fn at_port(text: &str, port: &str) -> Found {
    Found {
        port: Some(id(port)),
        ..found(text)
    }
}

#[test]
fn a_port_means_whatever_is_plugged_in_there() {
    let mut registry = registry(&[at_port("usb:1", "usb@1-1"), at_port("usb:2", "usb@1-2")]);
    let at = |registry: &Registry, port: &str| registry.find(&id(port)).cloned();
    assert_eq!(at(&registry, "usb@1-1").unwrap().found.id, id("usb:1"));
    registry.sync(vec![at_port("usb:3", "usb@1-1")]);
    assert_eq!(at(&registry, "usb@1-1").unwrap().found.id, id("usb:3"));
    assert_eq!(at(&registry, "usb@1-2"), None);
    assert!(registry.find(&id("usb:3")).is_some());
}

#[test]
fn a_device_at_the_other_port_of_a_socket_is_found_unless_somebody_is_nearer() {
    let slow = at_port("usb:1", "usb@1-4");
    let fast = Found {
        peer: Some(id("usb@1-4")),
        ..at_port("usb:2", "usb@2-4")
    };
    let find = |scan: &[Found]| {
        let registry = registry(scan);
        registry.find(&id("usb@1-4")).unwrap().found.id.clone()
    };
    assert_eq!(find(std::slice::from_ref(&fast)), id("usb:2"));
    assert_eq!(find(&[fast, slow]), id("usb:1"));
}

#[test]
fn rules_for_a_port_let_its_device_be_had_by_either_name() {
    let registry = registry(&[at_port("usb:1", "usb@1-1"), at_port("usb:2", "usb@1-2")]);
    let rules = Rules::new(&[("usb@1-1", false)], &[("usb@1-1", Mode::ReadWrite)]);
    assert_eq!(rules.attach(&registry, "usb@1-1"), Ok(()));
    assert_eq!(rules.attach(&registry, "usb:1"), Ok(()));
    let mixed = Rules::new(&[("usb@1-1", false)], &[("usb:1", Mode::ReadWrite)]);
    assert_eq!(mixed.attach(&registry, "usb@1-1"), Ok(()));
}

#[test]
fn a_port_without_rights_looks_like_one_without_a_device() {
    let registry = registry(&[at_port("usb:1", "usb@1-1"), at_port("usb:2", "usb@1-2")]);
    let exported_only = Rules::new(&[("usb@1-1", false)], &[("usb@1-2", Mode::ReadWrite)]);
    for name in ["usb@1-1", "usb@1-2", "usb@1-3", "usb:1"] {
        assert_eq!(
            exported_only.attach(&registry, name),
            Err(Refusal::Unknown),
            "{name}"
        );
    }
    let rules = [("usb@1-1", Mode::ReadWrite), ("usb:1", Mode::None)];
    let denied = Rules::new(&[("usb@1-1", false)], &rules);
    assert_eq!(denied.attach(&registry, "usb@1-1"), Err(Refusal::Unknown));
}

#[test]
fn administrative_operations_need_the_role_whatever_the_entries_say() {
    let registry = registry(&[found("usb:1")]);
    let rules = Rules::new(&[("usb:1", false)], &[("usb:1", Mode::ReadWrite)]);
    let ask = |roles: &[String]| {
        let caller = Caller {
            node: &ME,
            family: &HOME,
            roles,
        };
        let view = View {
            caller,
            ..rules.view()
        };
        registry
            .check(view, &id("usb:1"), Opcode::AclGrant, Need::Admin, false)
            .map(|_| ())
    };
    assert_eq!(ask(&[]), Err(Refusal::Acl));
    assert_eq!(ask(&["admin".to_owned()]), Ok(()));
}
