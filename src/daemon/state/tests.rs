use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::device::acl::{Entry, Mode};
use crate::device::export::Export;
use crate::device::name::NameError;
use crate::session::certificate::{CertificateChain, CertificateError};
use crate::session::clock::{ClockQuality, WallClock};
use crate::session::entropy::Entropy;
use crate::session::identity::{AuthorityKey, NodeId, NodeKey};
use crate::session::psk::{Psk, PskLookup, Token};
use crate::wire::time::Mono;

const NOW: u64 = BUILD_FLOOR + 1_000_000;
const DAY: u64 = 86_400;

/// Never the same twice and the same in every run.
struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 = self.0.wrapping_mul(5).wrapping_add(1);
            *byte = self.0;
        }
        self.0 = self.0.wrapping_add(3);
    }
}

struct Home {
    dir: TempDir,
    rng: Counting,
}

impl Home {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            rng: Counting(7),
        }
    }

    fn founded() -> Self {
        let mut home = Self::new();
        home.found().unwrap();
        home
    }

    fn found(&mut self) -> Result<Created, StateError> {
        self.state().create()?;
        self.locked()
            .found_family("hub", "The Smiths", &mut self.rng, NOW)
    }

    fn state(&self) -> StateDir {
        StateDir::new(self.dir.path().join("state"))
    }

    fn locked(&self) -> LockedState {
        self.state().lock().unwrap()
    }

    fn certify(&mut self, key: &NodeKey, name: &str) -> Result<Issued, StateError> {
        let roles = ["workshop".to_owned()];
        self.locked()
            .certify(key.public(), name, &roles, &mut self.rng, NOW + 5)
    }

    fn overwrite(&self, name: &str, content: &str) {
        fs::write(self.state().file(name), content).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn wall() -> WallClock {
    WallClock {
        secs: NOW + DAY,
        quality: ClockQuality::Synchronised,
    }
}

#[test]
fn a_founded_family_can_be_read_back_and_verifies() {
    let mut home = Home::new();
    let created = home.found().unwrap();
    let identity = home.state().identity().unwrap();
    assert_eq!(identity.key.node_id(), created.node);
    assert_eq!(
        (identity.name.as_str(), identity.family.name.as_str()),
        ("hub", "The Smiths")
    );
    assert_eq!(identity.roles, ["admin"]);
    let trust = home.state().trust().unwrap();
    let certificate = identity
        .chain
        .verify(identity.key.public(), &trust, wall())
        .unwrap();
    assert_eq!(certificate.node_id, created.node);
    assert_eq!(trust.list_number(created.family.id()), 1);
    let psks = home.state().family_psks().unwrap();
    assert_eq!(
        psks.iter()
            .map(|psk| (psk.epoch, psk.until))
            .collect::<Vec<_>>(),
        [(1, None)]
    );
}

#[test]
fn everything_is_private_to_its_owner() {
    let home = Home::founded();
    assert_eq!(mode(home.state().path()), 0o700);
    let mut seen = 0;
    for entry in fs::read_dir(home.state().path()).unwrap() {
        let path = entry.unwrap().path();
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 6, "{seen}");
}

#[test]
fn a_second_founding_is_refused_and_changes_nothing() {
    let mut home = Home::founded();
    let before = home.state().identity().unwrap();
    assert!(matches!(home.found(), Err(StateError::Rule(_))));
    let after = home.state().identity().unwrap();
    assert_eq!(after.key.node_id(), before.key.node_id());
    assert_eq!(after.chain, before.chain);
}

#[test]
fn an_interrupted_founding_is_finished_with_the_same_keys() {
    let mut home = Home::new();
    let first = home.found().unwrap();
    fs::remove_file(home.state().file("identity.toml")).unwrap();
    assert!(matches!(
        home.state().identity(),
        Err(StateError::NotSetUp(_))
    ));
    let second = home.found().unwrap();
    assert_eq!((first.node, first.family), (second.node, second.family));
    assert_eq!(home.state().members().unwrap().current().count(), 1);
}

#[test]
fn a_secret_that_others_can_read_is_not_used() {
    let home = Home::founded();
    for name in ["node.key", "family-root.key", "psk/1.key"] {
        let path = home.state().file(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let state = home.state();
        let errors = [
            state.identity().err(),
            state.root().err(),
            state.family_psks().err(),
        ];
        let exposed: Vec<_> = errors.into_iter().flatten().collect();
        assert!(
            matches!(&exposed[..], [StateError::Exposed { mode: 0o640, .. }]),
            "{exposed:?}"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(home.state().path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(
        home.state().create(),
        Err(StateError::Exposed { mode: 0o755, .. })
    ));
}

#[test]
fn a_damaged_file_is_named_and_left_alone() {
    let mut home = Home::founded();
    let names = [
        "node.key",
        "members.toml",
        "identity.toml",
        "psk/epochs.toml",
        "acl.toml",
    ];
    for name in names {
        let path = home.state().file(name);
        let before = fs::read(&path).ok();
        home.overwrite(name, "certainly = [not\n");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let key = NodeKey::generate(&mut Counting(99));
        let errors = [
            home.state().identity().err(),
            home.state().family_psks().err(),
            home.state().acl().err(),
            home.certify(&key, "shed").err(),
        ];
        let mut damaged = errors.into_iter().flatten();
        let named = damaged.any(|error| error.to_string().contains(&*path.to_string_lossy()));
        assert!(named, "{name}");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "certainly = [not\n",
            "{name}"
        );
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn a_key_that_does_not_fit_the_certificate_is_damage() {
    let home = Home::founded();
    home.overwrite("node.key", &"ab".repeat(32));
    assert!(matches!(
        home.state().identity(),
        Err(StateError::Damaged { .. })
    ));
}

#[test]
fn a_certified_node_is_a_member_its_name_is_taken() {
    let mut home = Home::founded();
    let key = NodeKey::generate(&mut home.rng);
    let issued = home.certify(&key, "shed").unwrap();
    let trust = home.state().trust().unwrap();
    let certificate = issued.chain.verify(key.public(), &trust, wall()).unwrap();
    assert_eq!(certificate.roles, ["workshop"]);
    assert_eq!(
        home.state()
            .members()
            .unwrap()
            .resolve("shed")
            .unwrap()
            .node,
        key.node_id()
    );

    let other = NodeKey::generate(&mut home.rng);
    let taken = home.certify(&other, "SHED").unwrap_err();
    assert!(
        taken
            .to_string()
            .starts_with("there is already a member named SHED")
    );
    for name in ["", " shed2", "a/b", "a\u{1b}[2Jb"] {
        assert!(
            matches!(home.certify(&other, name), Err(StateError::Rule(_))),
            "{name:?}"
        );
    }
}

#[test]
fn a_member_that_asks_again_gets_another_certificate_with_the_same_serial() {
    let mut home = Home::founded();
    let key = NodeKey::generate(&mut home.rng);
    let first = home.certify(&key, "shed").unwrap().member;
    let second = home.certify(&key, "attic").unwrap().member;
    assert_eq!((second.serial, &*second.name), (first.serial, "attic"));
    let members = home.state().members().unwrap();
    let names: Vec<_> = members.all().iter().map(|member| &*member.name).collect();
    assert_eq!(names, ["hub", "attic"]);
}

#[test]
fn a_revoked_node_is_refused_and_the_family_gets_a_new_psk() {
    let mut home = Home::founded();
    let key = NodeKey::generate(&mut home.rng);
    let issued = home.certify(&key, "shed").unwrap();
    let locked = home.locked();
    let revocation = locked
        .revoke(key.node_id(), &mut home.rng, NOW + DAY)
        .unwrap();
    assert_eq!((revocation.list.number(), revocation.psk_epoch), (2, 2));
    drop(locked);

    let trust = home.state().trust().unwrap();
    let verified = issued.chain.verify(key.public(), &trust, wall());
    assert_eq!(
        verified,
        Err(CertificateError::Revoked(issued.member.serial))
    );
    let members = home.state().members().unwrap();
    assert_eq!(members.resolve("shed"), Err(NameError::Unknown));
    let psks = home.state().family_psks().unwrap();
    let epochs: Vec<_> = psks.iter().map(|psk| (psk.epoch, psk.until)).collect();
    assert_eq!(epochs, [(1, Some(NOW + 31 * DAY)), (2, None)]);
    assert_ne!(*psks[0].psk.to_bytes(), *psks[1].psk.to_bytes());

    let again = home
        .locked()
        .revoke(key.node_id(), &mut home.rng, NOW + DAY);
    assert!(matches!(again, Err(StateError::Rule(_))));
    assert!(
        home.certify(&NodeKey::generate(&mut Counting(50)), "shed")
            .is_ok()
    );
}

#[test]
fn a_node_cannot_revoke_itself() {
    let mut home = Home::founded();
    let own = home.state().identity().unwrap().key.node_id();
    let result = home.locked().revoke(own, &mut home.rng, NOW);
    assert!(matches!(result, Err(StateError::Rule(_))));
}

#[test]
fn a_replaced_psk_is_found_for_thirty_days_and_then_erased() {
    let home = Home::founded();
    let old = home.state().family_psks().unwrap().remove(0).psk;
    home.locked()
        .store_family_psk(2, &Psk::from_bytes([2; 32]), NOW)
        .unwrap();
    let found = |wall| {
        let store = home.state().psk_store(wall, Mono::ZERO).unwrap();
        store.at(Mono::ZERO).psk(old.id()).is_some()
    };
    assert!(found(NOW + 30 * DAY - 1));
    assert!(!found(NOW + 30 * DAY));
    assert!(home.state().file("psk/1.key").exists());
    home.locked()
        .store_family_psk(3, &Psk::from_bytes([3; 32]), NOW + 31 * DAY)
        .unwrap();
    assert!(!home.state().file("psk/1.key").exists());
    let stale = home
        .locked()
        .store_family_psk(2, &Psk::from_bytes([2; 32]), NOW);
    assert!(matches!(stale, Err(StateError::Rule(_))));
}

/// What the hub hands to a node together with this certificate.
fn membership(hub: &Home, chain: CertificateChain) -> Membership {
    let identity = hub.state().identity().unwrap();
    let root = identity.family.root;
    Membership {
        chain,
        family: identity.family,
        psk: hub.state().family_psks().unwrap().remove(0),
        revocations: hub.state().revocations(&root).unwrap().unwrap(),
        hub: Peer {
            node: identity.key.node_id(),
            name: "hub".to_owned(),
            addresses: vec!["hub:7575".to_owned()],
        },
    }
}

#[test]
fn enrolment_makes_a_member_only_with_a_certificate_for_this_key() {
    let mut hub = Home::founded();
    let shed = Home::new();
    shed.state().create().unwrap();
    let ensure = |seed| shed.locked().ensure_node_key(&mut Counting(seed)).unwrap();
    let key = ensure(33);
    assert_eq!(ensure(55).node_id(), key.node_id());

    let hubs_own = hub.state().identity().unwrap().chain;
    let stranger = NodeKey::generate(&mut Counting(44));
    let strangers = hub.certify(&stranger, "stranger").unwrap().chain;
    for chain in [hubs_own, strangers, CertificateChain::empty()] {
        let result = shed
            .locked()
            .store_membership(&membership(&hub, chain), NOW);
        assert!(matches!(result, Err(StateError::Rule(_))), "{result:?}");
        assert!(!shed.state().is_set_up());
    }

    let own = hub.certify(&key, "shed").unwrap().chain;
    let membership = membership(&hub, own);
    shed.locked().store_membership(&membership, NOW).unwrap();
    assert_eq!(shed.state().identity().unwrap().name, "shed");
    assert_eq!(
        shed.state().peers().unwrap().all(),
        std::slice::from_ref(&membership.hub)
    );
    assert!(matches!(shed.state().root(), Err(StateError::NoRoot(_))));
    let again = shed.locked().store_membership(&membership, NOW);
    assert!(matches!(again, Err(StateError::Rule(_))));
}

#[test]
fn rules_survive_storing() {
    let home = Home::founded();
    let mut acl = home.state().acl().unwrap();
    assert!(acl.entries().is_empty());
    acl.grant(Entry::new(
        "usb:*".parse().unwrap(),
        "role:a".parse().unwrap(),
        Mode::Read,
    ))
    .unwrap();
    home.locked().store_acl(&acl).unwrap();
    assert_eq!(home.state().acl().unwrap(), acl);

    let mut exports = home.state().exports().unwrap();
    exports
        .add(Export {
            device: "usb:1:2".parse().unwrap(),
            force: true,
        })
        .unwrap();
    home.locked().store_exports(&exports).unwrap();
    assert_eq!(home.state().exports().unwrap(), exports);
}

#[test]
fn the_time_floor_only_rises() {
    let home = Home::founded();
    assert_eq!(home.state().time_floor().unwrap(), BUILD_FLOOR);
    for (told, kept) in [(NOW, NOW), (NOW - 5, NOW), (NOW + 1, NOW + 1)] {
        home.locked().raise_time_floor(told).unwrap();
        assert_eq!(home.state().time_floor().unwrap(), kept);
    }
    home.overwrite("clock.toml", "floor = 5\n");
    assert_eq!(home.state().time_floor().unwrap(), BUILD_FLOOR);
}

#[test]
fn a_known_peer_keeps_its_place_and_gets_its_newer_addresses_first() {
    let peer = |id, name: &str, addresses: &[&str]| Peer {
        node: NodeId([id; 16]),
        name: name.to_owned(),
        addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
    };
    let mut peers = Peers::default();
    peers.put(peer(1, "hub", &["old:1", "both:1"]));
    peers.put(peer(2, "other", &[]));
    peers.put(peer(1, "", &["new:1", "both:1"]));
    assert_eq!(
        peers.all(),
        [
            peer(1, "hub", &["new:1", "both:1", "old:1"]),
            peer(2, "other", &[])
        ]
    );
}

#[test]
fn two_writers_do_not_lose_each_others_changes() {
    let home = Home::founded();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let state = home.state();
            scope.spawn(move || {
                for n in 0..5 {
                    let locked = state.lock().unwrap();
                    let mut acl = locked.acl().unwrap();
                    let device = format!("usb:{writer}:{n}").parse().unwrap();
                    acl.grant(Entry::new(device, "role:a".parse().unwrap(), Mode::Read))
                        .unwrap();
                    locked.store_acl(&acl).unwrap();
                }
            });
        }
    });
    assert_eq!(home.state().acl().unwrap().entries().len(), 20);
}

fn invitation(addresses: &[&str]) -> Invitation {
    Invitation {
        token: Token::from_bytes([0xA5; 16]),
        root: AuthorityKey([3; 32]),
        hub: NodeId([4; 16]),
        addresses: addresses
            .iter()
            .map(|&address| address.to_owned())
            .collect(),
        expires: 1_800_000_000,
    }
}

#[test]
fn an_invitation_survives_its_text() {
    for addresses in [
        &[][..],
        &["h:1"],
        &["10.0.0.1:7575"],
        &["[fe80::1%eth0]:7575", "hub.lan:7575"],
    ] {
        let invitation = invitation(addresses);
        let text = invitation.to_text();
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b":-_".contains(&b)),
            "{text:?}"
        );
        let (front, back) = text.split_at(40);
        let read = Invitation::from_text(&format!(" {front}\r\n  {back}\n")).unwrap();
        assert_eq!(*read.token.to_bytes(), *invitation.token.to_bytes());
        assert_eq!((read.root, read.hub), (invitation.root, invitation.hub));
        assert_eq!(
            (read.addresses, read.expires),
            (invitation.addresses, invitation.expires)
        );
    }
}

#[test]
fn a_miscopied_invitation_is_noticed() {
    let text = invitation(&["hub.lan:7575"]).to_text();
    for cut in 4..text.len() {
        assert_eq!(
            Invitation::from_text(&text[..cut]).unwrap_err(),
            InviteError::Damaged,
            "{cut}"
        );
    }
    for place in 4..text.len() {
        let mut wrong = text.as_bytes().to_vec();
        wrong[place] = if wrong[place] == b'A' { b'B' } else { b'A' };
        let wrong = String::from_utf8(wrong).unwrap();
        assert!(Invitation::from_text(&wrong).is_err(), "{place}");
    }
    assert_eq!(
        Invitation::from_text("https://x").unwrap_err(),
        InviteError::Prefix
    );
    assert_eq!(
        Invitation::from_text("mc1:ä").unwrap_err(),
        InviteError::Damaged
    );
}
