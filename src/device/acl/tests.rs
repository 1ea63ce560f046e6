use super::*;

const ME: [u8; 16] = [1; 16];
const OTHER: [u8; 16] = [2; 16];
const HOME: [u8; 16] = [9; 16];

fn entry(device: &str, subject: &str, mode: Mode) -> Entry {
    Entry::new(device.parse().unwrap(), subject.parse().unwrap(), mode)
}

fn me() -> String {
    Subject::Node(ME).to_string()
}

fn list(entries: &[Entry]) -> Acl {
    let mut acl = Acl::default();
    for entry in entries {
        acl.grant(entry.clone()).unwrap();
    }
    acl
}

fn rights_of(node: &[u8; 16], acl: &Acl, opcode: Option<Opcode>) -> Rights {
    let roles = ["workshop".to_owned()];
    let caller = Caller {
        node,
        family: &HOME,
        roles: &roles,
    };
    let (id, port) = (
        "usb:0403:6001:A1".parse().unwrap(),
        "usb@1-1.4".parse().unwrap(),
    );
    let names = Names {
        id: &id,
        port: Some(&port),
        peer: None,
    };
    acl.rights(&caller, names, opcode, 1_000)
}

fn rights(acl: &Acl) -> Rights {
    rights_of(&ME, acl, None)
}

#[test]
fn an_empty_list_lets_nobody_see_anything() {
    let rights = rights(&Acl::default());
    assert!(!rights.allow(Need::List, true));
    assert_eq!(rights.mode(), Mode::None);
}

#[test]
fn an_entry_grants_its_node_its_mode_and_no_more() {
    let acl = list(&[entry("usb:0403:*", &me(), Mode::Read)]);
    assert!(rights(&acl).allow(Need::List, false));
    assert!(rights(&acl).allow(Need::Read, false));
    assert!(!rights(&acl).allow(Need::Write, true));
    assert!(!rights(&acl).allow(Need::Admin, true));
    assert!(!rights_of(&OTHER, &acl, None).allow(Need::List, false));
}

#[test]
fn an_entry_for_the_port_counts_like_one_for_the_device() {
    let by_port = entry("usb@1-1.4", &me(), Mode::ReadWrite);
    let acl = list(std::slice::from_ref(&by_port));
    assert_eq!(rights(&acl).mode(), Mode::ReadWrite);
    for denied in ["usb@1-1.4", "usb@*", "usb:0403:6001:A1"] {
        let denial = entry(denied, "role:workshop", Mode::None);
        let acl = list(&[by_port.clone(), denial]);
        assert_eq!(rights(&acl).mode(), Mode::None, "{denied}");
    }
    let elsewhere = list(&[entry("usb@1-1", &me(), Mode::ReadWrite)]);
    assert!(!rights(&elsewhere).allow(Need::List, false));
}

#[test]
fn entries_for_roles_and_families_reach_their_members() {
    assert_eq!(
        rights(&list(&[entry("*", "role:workshop", Mode::ReadWrite)])).mode(),
        Mode::ReadWrite
    );
    assert_eq!(
        rights(&list(&[entry("*", "role:admin", Mode::ReadWrite)])).mode(),
        Mode::None
    );
    let home = Subject::Family(HOME).to_string();
    assert_eq!(
        rights(&list(&[entry("*", &home, Mode::Write)])).mode(),
        Mode::Write
    );
    let elsewhere = Subject::Family(OTHER).to_string();
    assert_eq!(
        rights(&list(&[entry("*", &elsewhere, Mode::Write)])).mode(),
        Mode::None
    );
}

#[test]
fn several_entries_give_the_union_of_their_rights() {
    let acl = list(&[
        entry("*", &me(), Mode::Read),
        entry("usb:*", "role:workshop", Mode::Write),
    ]);
    assert_eq!(rights(&acl).mode(), Mode::ReadWrite);
}

#[test]
fn a_denial_wins_over_every_grant_in_any_order() {
    let grant = entry("*", &me(), Mode::ReadWrite);
    let deny = entry("usb:0403:6001:*", "role:workshop", Mode::None);
    for entries in [[grant.clone(), deny.clone()], [deny, grant]] {
        assert!(!rights(&list(&entries)).allow(Need::List, true));
    }
}

#[test]
fn exclusive_access_needs_the_lock() {
    let acl = list(&[entry("*", &me(), Mode::Exclusive)]);
    assert_eq!(rights(&acl).mode(), Mode::Exclusive);
    assert!(rights(&acl).allow(Need::List, false));
    assert!(!rights(&acl).allow(Need::Write, false));
    assert!(rights(&acl).allow(Need::Write, true));
}

#[test]
fn an_entry_for_some_operations_says_nothing_about_others() {
    let mut usb = entry("*", &me(), Mode::ReadWrite);
    usb.ops = vec![(0x0600, 0x060B)];
    let mut no_reset = entry("*", &me(), Mode::None);
    no_reset.ops = vec![(0x060B, 0x060B)];
    let acl = list(&[usb, no_reset]);
    let may = |code| rights_of(&ME, &acl, Some(Opcode::from_u16(code))).allow(Need::Write, false);
    assert!(may(0x0601));
    assert!(!may(0x060B));
    assert!(!may(0x0611));
    assert!(rights(&acl).allow(Need::List, false));
}

#[test]
fn an_entry_ends_after_its_time() {
    let mut timed = entry("*", &me(), Mode::Read);
    timed.until = Some(1_000);
    assert_eq!(rights(&list(&[timed.clone()])).mode(), Mode::Read);
    timed.until = Some(999);
    assert_eq!(rights(&list(&[timed])).mode(), Mode::None);
}

#[test]
fn granting_again_replaces_and_revoking_removes() {
    let mut acl = list(&[entry("usb:*", &me(), Mode::ReadWrite)]);
    assert_eq!(acl.version(), 1);
    assert_eq!(acl.grant(entry("usb:*", &me(), Mode::ReadWrite)), Ok(false));
    assert_eq!(acl.version(), 1);
    assert_eq!(acl.grant(entry("usb:*", &me(), Mode::Read)), Ok(true));
    assert_eq!(rights(&acl).mode(), Mode::Read);
    assert_eq!(
        acl.revoke(&"usb:0403:*".parse().unwrap(), &Subject::Node(ME)),
        0
    );
    assert_eq!(acl.revoke(&"usb:*".parse().unwrap(), &Subject::Node(ME)), 1);
    assert_eq!(acl.version(), 3);
    assert_eq!(rights(&acl), Rights::default());
}

#[test]
fn the_list_is_bounded() {
    let mut acl = Acl::default();
    for n in 0..MAX_ENTRIES {
        acl.grant(entry(&format!("usb:{n}"), &me(), Mode::Read))
            .unwrap();
    }
    assert_eq!(
        acl.grant(entry("usb:more", &me(), Mode::Read)),
        Err(AclFull)
    );
}

#[test]
fn modes_above_four_do_not_exist() {
    for number in 0..=4 {
        assert_eq!(Mode::from_u8(number).map(Mode::to_u8), Some(number));
    }
    assert_eq!(Mode::from_u8(5), None);
}

#[test]
fn a_list_reads_back_from_its_own_text_and_foreign_keys_are_refused() {
    let mut entry = entry("usb:0403:*", "role:workshop", Mode::Exclusive);
    entry.ops = vec![(0x0600, 0x060B)];
    entry.until = Some(2_000_000_000);
    let acl = list(&[entry]);
    let text = toml::to_string(&acl).unwrap();
    assert_eq!(toml::from_str::<Acl>(&text).unwrap(), acl);
    assert!(text.contains("sub = \"role:workshop\""), "{text}");
    assert!(toml::from_str::<Acl>("[[entry]]\ndev='*'\nsub='role:a'\nmode='rwx'").is_err());
    assert!(toml::from_str::<Acl>("[[entry]]\ndev='*'\nsub='role:a'\nmode='r'\nfoo=1").is_err());
}

#[test]
fn a_subject_is_a_node_a_role_or_a_family() {
    for wrong in [
        "",
        "node:12",
        "role:",
        "role:a b",
        "user:x",
        "family:zz",
        "node",
    ] {
        assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
    }
}

#[test]
fn a_list_is_set_only_on_what_the_caller_knew() {
    let mut acl = Acl::default();
    let pattern = |text: &str| text.parse::<Pattern>().unwrap();
    let entry = |device: &str, mode| entry(device, &me(), mode);
    acl.grant(entry("usb:*", Mode::Read)).unwrap();
    acl.grant(entry("can:*", Mode::Read)).unwrap();
    let all = || vec![entry("usb:*", Mode::ReadWrite)];
    assert_eq!(
        acl.set(&pattern("usb:*"), all(), 1),
        Err(NotSet::Version(2))
    );
    assert_eq!(acl.set(&pattern("usb:*"), all(), 2), Ok(true));
    assert_eq!(acl.version(), 3);
    assert_eq!(
        acl.entries(),
        [entry("can:*", Mode::Read), entry("usb:*", Mode::ReadWrite)]
    );
    assert_eq!(acl.set(&pattern("can:*"), vec![], 3), Ok(true));
    assert_eq!(acl.entries().len(), 1);
    let before = acl.clone();
    let many = (0..=MAX_ENTRIES).map(|n| Entry {
        subject: Subject::Role(format!("r{n}")),
        ..entry("can:*", Mode::Read)
    });
    let set = acl.set(&pattern("can:*"), many.collect(), 4);
    assert_eq!(set, Err(NotSet::Full(AclFull)));
    assert_eq!(acl, before);
}

#[test]
fn it_is_known_whether_entries_will_expire() {
    let mut acl = Acl::default();
    assert_eq!(acl.expired(10), (0, false));
    let mut entry = entry("usb:*", &me(), Mode::Read);
    entry.until = Some(10);
    acl.grant(entry).unwrap();
    assert_eq!(acl.expired(10), (0, true));
    assert_eq!(acl.expired(11), (1, false));
}
