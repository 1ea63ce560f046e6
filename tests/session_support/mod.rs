//! A family of two nodes, and their handshakes and sessions on a path that is a pair of vectors.
#![expect(dead_code, reason = "no test binary uses every helper")]

use std::collections::BTreeSet;
use std::time::Duration;

use myclerk::session::certificate::{CertificateChain, NodeBody};
use myclerk::session::clock::{ClockQuality, WallClock};
use myclerk::session::identity::{Authority, NodeKey, Serial};
use myclerk::session::negotiate;
use myclerk::session::psk::{Psk, PskUse};
use myclerk::session::revocation::RevocationList;
use myclerk::session::trust::Trust;
use myclerk::session::{
    Dial, Entropy, Established, HandshakeError, HeldTicket, Initiator, LocalNode, Offered, Policy,
    Progress, Received, RecordBuf, Responder, Resumer, Session, TicketTable,
};
use myclerk::wire::flags::Tier;
use myclerk::wire::limits::Limits;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::time::Mono;
use sha2::{Digest, Sha256};

/// Start of every test, seconds since 1970.
pub(crate) const T0: u64 = 1_768_000_000;
pub(crate) const YEAR: u64 = 365 * 86400;

/// Random bytes that are the same in every run.
pub(crate) struct Seeded {
    seed: u64,
    drawn: u64,
}

pub(crate) fn rng(seed: u64) -> Seeded {
    Seeded { seed, drawn: 0 }
}

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let input = [self.seed.to_be_bytes(), self.drawn.to_be_bytes()].concat();
            self.drawn += 1;
            chunk.copy_from_slice(&Sha256::digest(input)[..chunk.len()]);
        }
    }
}

pub(crate) fn secs(seconds: u64) -> Mono {
    Mono::from_secs(seconds)
}

pub(crate) fn root(name: u8) -> Authority {
    Authority::from_bytes(&[name; 32])
}

/// What to certify a node as.
pub(crate) fn body(root: &Authority, key: &NodeKey, name: &str) -> NodeBody {
    NodeBody {
        family: root.public().family_id(),
        key: *key.public(),
        not_before: T0 - 86400,
        not_after: T0 + 3 * YEAR,
        roles: vec![name.to_owned()],
        serial: Serial(*key.public().first_chunk().unwrap_or(&[0; 8])),
        tier: 5,
        name: Some(name.to_owned()),
        user: None,
    }
}

/// A certified member of the family whose root is `root`.
pub(crate) fn node(root: &Authority, seed: u8, name: &str) -> LocalNode {
    let key = NodeKey::from_bytes(&[seed; 32]);
    let chain = CertificateChain::issue(root, &body(root, &key, name), None);
    let mut trust = Trust::new(T0 - 1);
    trust.pin(root.public());
    LocalNode {
        key,
        chain: chain.unwrap_or_else(|error| panic!("{error}")),
        trust,
        capabilities: negotiate::supported(false),
        max_tier: Tier::T5,
        limits: Limits::DEFAULT,
        keepalive: Duration::from_secs(15),
    }
}

pub(crate) fn client() -> LocalNode {
    node(&root(1), 0x11, "client")
}

pub(crate) fn hub() -> LocalNode {
    node(&root(1), 0x22, "hub")
}

pub(crate) fn policy(ordered: bool) -> Policy {
    Policy {
        floor: Tier::T3,
        psk_required: false,
        psk_first: false,
        ordered,
        wall: WallClock {
            secs: T0,
            quality: ClockQuality::Synchronised,
        },
    }
}

pub(crate) fn family_psk() -> (Psk, PskUse) {
    (
        Psk::from_bytes([0x77; 32]),
        PskUse::Family {
            epoch: 1,
            current: true,
        },
    )
}

pub(crate) fn dial(psk: Option<(Psk, PskUse)>, tier: Tier) -> Dial {
    Dial {
        expected: None,
        psk,
        tier,
    }
}

/// A handshake under construction, message by message.
pub(crate) struct Run<'a> {
    pub initiator: &'a LocalNode,
    pub responder: &'a LocalNode,
    pub dial: Dial,
    pub policies: (Policy, Policy),
    /// The PSKs the responder knows.
    pub known: Vec<(Psk, PskUse)>,
    pub now: Mono,
}

/// What became of it at both ends.
pub(crate) type Ends = Result<(Established, Established), HandshakeError>;

impl<'a> Run<'a> {
    pub(crate) fn new(initiator: &'a LocalNode, responder: &'a LocalNode) -> Self {
        Self {
            initiator,
            responder,
            dial: dial(None, Tier::T4),
            policies: (policy(true), policy(true)),
            known: vec![family_psk()],
            now: Mono::ZERO,
        }
    }

    pub(crate) fn psk(mut self, tier: Tier) -> Self {
        self.dial = dial(Some(family_psk()), tier);
        self
    }

    pub(crate) fn unordered(mut self) -> Self {
        self.policies.0.ordered = false;
        self.policies.1.ordered = false;
        self
    }

    /// Runs it; `wire` may change each of the five messages (1 to 5) on its way. A refusal of the
    /// responder ends it like an error.
    pub(crate) fn through(self, mut wire: impl FnMut(usize, Vec<u8>) -> Vec<u8>) -> Ends {
        let (mut rng_i, mut rng_r) = (rng(1), rng(2));
        let known = self.known;
        let lookup = |id: u32| known.iter().find(|(psk, _)| psk.id() == id).cloned();
        let mut offered = Offered {
            psks: &lookup,
            tickets: None,
        };
        let (policy_i, policy_r) = self.policies;
        let (i, r, now) = (self.initiator, self.responder, self.now);
        let (mut initiator, [m1, m3]) = Initiator::start(i, self.dial, policy_i, now, &mut rng_i)?;
        let mut responder = Responder::new(policy_r, now);
        let m2 = sent(responder.handle(r, &mut offered, now, &mut rng_r, &wire(1, m1))?);
        let m4 = sent(responder.handle(r, &mut offered, now, &mut rng_r, &wire(3, m3))?);
        initiator.handle(i, now, &mut rng_i, &wire(2, m2))?;
        let ours = done(initiator.handle(i, now, &mut rng_i, &wire(4, m4))?)?;
        let m5 = wire(5, ours.send[0].clone());
        let theirs = done(responder.handle(r, &mut offered, now, &mut rng_r, &m5)?)?;
        Ok((ours, theirs))
    }

    pub(crate) fn ends(self) -> Ends {
        self.through(|_, message| message)
    }

    pub(crate) fn sessions(self) -> (Session, Session) {
        let (ours, theirs) = self.ends().unwrap_or_else(|error| panic!("{error}"));
        (ours.session, theirs.session)
    }
}

fn sent(progress: Progress) -> Vec<u8> {
    match progress {
        Progress::Send(mut messages) if messages.len() == 1 => messages.remove(0),
        other => panic!("{other}"),
    }
}

fn done(progress: Progress) -> Result<Established, HandshakeError> {
    match progress {
        Progress::Established(established) => Ok(*established),
        Progress::Refused { reason, .. } => Err(reason),
        other => panic!("{other}"),
    }
}

pub(crate) fn seal(session: &mut Session, now: Mono, tier: Tier, plaintext: &[u8]) -> Vec<u8> {
    let mut buf = RecordBuf::with_capacity(plaintext.len());
    buf.extend_from_slice(plaintext);
    let result = session.seal(now, tier, Opcode::Record, &mut buf);
    result.unwrap_or_else(|error| panic!("{error}"));
    buf.message().to_vec()
}

/// The next message of the session's own.
pub(crate) fn control(session: &mut Session, now: Mono) -> Option<Vec<u8>> {
    let mut buf = RecordBuf::with_capacity(0);
    let seed = 1000 + now.0;
    let result = session.poll_control(now, &mut rng(seed), &mut buf)?;
    result.unwrap_or_else(|error| panic!("{error}"));
    Some(buf.message().to_vec())
}

pub(crate) fn receive(session: &mut Session, now: Mono, message: &[u8]) -> Received {
    try_receive(session, now, message).unwrap_or_else(|kind| panic!("{kind:?}"))
}

pub(crate) fn try_receive(
    session: &mut Session,
    now: Mono,
    message: &[u8],
) -> Result<Received, myclerk::session::OpenErrorKind> {
    let mut rng = rng(2000 + now.0);
    session
        .receive(now, &mut rng, &mut message.to_vec())
        .map_err(myclerk::session::OpenError::kind)
}

/// Carries the sessions' own messages back and forth until both are quiet, and returns what the two
/// ends received that was not handled inside.
pub(crate) fn pump(now: Mono, a: &mut Session, b: &mut Session) -> Vec<Received> {
    let mut news = Vec::new();
    loop {
        let mut quiet = true;
        while let Some(message) = control(a, now) {
            quiet = false;
            news.extend(Some(receive(b, now, &message)).filter(|got| *got != Received::Handled));
        }
        while let Some(message) = control(b, now) {
            quiet = false;
            news.extend(Some(receive(a, now, &message)).filter(|got| *got != Received::Handled));
        }
        if quiet {
            return news;
        }
    }
}

/// The earliest timeout of both ends.
pub(crate) fn next_timeout(a: &Session, b: &Session) -> Option<Mono> {
    [a.next_timeout(), b.next_timeout()]
        .into_iter()
        .flatten()
        .min()
}

/// A session that has issued a ticket, and the table it is in.
pub(crate) fn ticketed(
    initiator: &LocalNode,
    responder: &LocalNode,
) -> (Session, Session, TicketTable) {
    let (mut ours, mut theirs) = Run::new(initiator, responder).psk(Tier::T5).sessions();
    let mut table = TicketTable::default();
    let issued = theirs.issue_ticket(Mono::ZERO, &mut rng(3), &mut table);
    issued.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(pump(Mono::ZERO, &mut ours, &mut theirs), []);
    (ours, theirs, table)
}

/// Revokes a node in the eyes of another.
pub(crate) fn revoke(judge: &mut LocalNode, node: &LocalNode) {
    let list = node.chain.claims().map(|body| {
        RevocationList::issue(&root(1), 1, T0, BTreeSet::from([body.serial]), 2)
            .unwrap_or_else(|error| panic!("{error}"))
    });
    let list = list.unwrap_or_else(|error| panic!("{error}"));
    let taken = judge
        .trust
        .offer_list(list.as_bytes(), root(1).public().family_id());
    assert_eq!(taken, Ok(true));
}

/// A resumption up to both sessions.
pub(crate) fn resume(
    (client, hub): (&LocalNode, &LocalNode),
    ticket: HeldTicket,
    table: &mut TicketTable,
    now: Mono,
) -> Result<(Session, Session), HandshakeError> {
    let (mut resumer, r1) = Resumer::start(client, ticket, policy(true), now, &mut rng(5))?;
    let theirs = answer(hub, table, now, &r1)?;
    let Progress::Established(ours) = resumer.handle(client, now, &theirs.0)? else {
        panic!("no session");
    };
    Ok((ours.session, theirs.1))
}

pub(crate) fn answer(
    hub: &LocalNode,
    table: &mut TicketTable,
    now: Mono,
    message: &[u8],
) -> Result<(Vec<u8>, Session), HandshakeError> {
    let nothing = |_| None;
    let mut offered = Offered {
        psks: &nothing,
        tickets: Some(table),
    };
    let mut responder = Responder::new(policy(true), now);
    match responder.handle(hub, &mut offered, now, &mut rng(6), message)? {
        Progress::Established(mut made) => Ok((made.send.remove(0), made.session)),
        other => panic!("{other}"),
    }
}

pub(crate) fn same_keys(a: &mut Session, b: &mut Session, now: Mono) {
    let record = seal(a, now, Tier::T3, b"x");
    assert!(matches!(receive(b, now, &record), Received::Record { .. }));
}
