//! Sessions in virtual time: keepalives, rotations, lifetimes, lossy paths, a year.
#![cfg(test)]

mod session_support;

use std::time::Duration;

use myclerk::session::{
    CloseReason, Entropy, LIFETIME, Received, RecordBuf, SealError, Session, SessionDead,
    TicketTable,
};
use myclerk::wire::flags::Tier;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::{Status, sub};
use myclerk::wire::time::Mono;
use session_support::{
    Run, T0, client, control, hub, next_timeout, pump, receive, resume, rng, root, same_keys, seal,
    secs,
};

const NOW: Mono = Mono::ZERO;

fn sessions() -> (Session, Session) {
    let (mut ours, mut theirs) = Run::new(&client(), &hub()).psk(Tier::T5).sessions();
    assert_eq!(pump(NOW, &mut ours, &mut theirs), []);
    (ours, theirs)
}

fn closed(status: Status, sub: &str, by_peer: bool) -> Received {
    Received::Closed {
        by_peer,
        reason: CloseReason::new(status, sub),
    }
}

#[test]
fn a_quiet_session_lives_on_keepalives() {
    let (mut ours, mut theirs) = sessions();
    let mut sent = 0;
    let mut now = NOW;
    while now < secs(600) {
        now = next_timeout(&ours, &theirs).unwrap();
        ours.handle_timeout(now).unwrap();
        theirs.handle_timeout(now).unwrap();
        while let Some(message) = control(&mut ours, now) {
            sent += 1;
            receive(&mut theirs, now, &message);
        }
        pump(now, &mut ours, &mut theirs);
    }
    assert!((38..=90).contains(&sent), "{sent}");
}

#[test]
fn three_periods_of_silence_are_the_end() {
    let (mut ours, _) = sessions();
    for second in (15..45).step_by(15) {
        assert_eq!(ours.next_timeout(), Some(secs(second)));
        assert_eq!(ours.handle_timeout(secs(second)), Ok(()));
        assert!(control(&mut ours, secs(second)).is_some());
    }
    assert_eq!(ours.next_timeout(), Some(secs(45)));
    assert_eq!(ours.handle_timeout(secs(45)), Err(SessionDead::Silent));
    assert!(ours.is_over());
    assert_eq!(ours.handle_timeout(secs(45)), Err(SessionDead::Closed));
    let mut buf = RecordBuf::with_capacity(0);
    let sealed = ours.seal(secs(45), Tier::T3, Opcode::Record, &mut buf);
    assert_eq!(sealed, Err(SealError::Closed));
}

#[test]
fn a_busy_sender_asks_a_peer_with_a_longer_period_before_it_takes_it_for_dead() {
    let mut patient = hub();
    patient.keepalive = Duration::from_secs(60);
    let (mut ours, mut theirs) = Run::new(&client(), &patient).sessions();
    pump(NOW, &mut ours, &mut theirs);
    for second in 1..300 {
        let now = secs(second);
        let record = seal(&mut ours, now, Tier::T3, b"data");
        receive(&mut theirs, now, &record);
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        pump(now, &mut ours, &mut theirs);
    }
}

#[test]
fn a_certificate_that_expires_ends_the_session() {
    let (client, mut hub) = (client(), hub());
    let body = myclerk::session::certificate::NodeBody {
        not_after: T0 + 3600,
        ..session_support::body(&root(1), &hub.key, "hub")
    };
    hub.chain =
        myclerk::session::certificate::CertificateChain::issue(&root(1), &body, None).unwrap();
    let (mut ours, mut theirs) = Run::new(&client, &hub).sessions();
    let (now, news) = loop {
        let now = next_timeout(&ours, &theirs).unwrap();
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        let news = pump(now, &mut ours, &mut theirs);
        if !news.is_empty() {
            break (now, news);
        }
    };
    assert_eq!(now, secs(3600));
    assert_eq!(news[0], closed(Status::Unauthorized, sub::EXPIRED, true));
}

/// Lets both ends live in virtual time until `until` or their end.
fn live(
    ours: &mut Session,
    theirs: &mut Session,
    from: Mono,
    until: Mono,
) -> (Mono, Vec<Received>) {
    let mut now = from;
    while let Some(next) = next_timeout(ours, theirs) {
        assert!(next >= now, "time goes backwards");
        if next > until {
            return (now, Vec::new());
        }
        now = next;
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        let news = pump(now, ours, theirs);
        if !news.is_empty() {
            return (now, news);
        }
    }
    (now, Vec::new())
}

#[test]
fn a_session_rotates_every_twelve_hours_and_ends_after_seven_days() {
    let (mut ours, mut theirs) = sessions();
    let (mut now, mut epochs) = (NOW, Vec::new());
    let end = loop {
        let until = now.after(Duration::from_secs(3600));
        let (reached, news) = live(&mut ours, &mut theirs, now, until);
        if !news.is_empty() {
            assert_eq!(news[0], closed(Status::Unauthorized, sub::EXPIRED, true));
            break reached;
        }
        now = until;
        epochs.push(ours.epoch().unwrap());
        same_keys(&mut ours, &mut theirs, now);
        same_keys(&mut theirs, &mut ours, now);
    };
    assert_eq!(end, NOW.after(LIFETIME));
    assert_eq!(epochs.last(), Some(&13));
    assert!(epochs.windows(2).all(|pair| pair[1] - pair[0] <= 1));
}

#[test]
fn a_year_passes_in_rotations_resumptions_and_full_handshakes() {
    const YEAR: u64 = 365 * 86400;
    const REACH: u64 = 9 * 3600;
    let (mut client, mut hub) = (client(), hub());
    for node in [&mut client, &mut hub] {
        node.keepalive = Duration::from_secs(60);
    }
    let mut table = TicketTable::default();
    let (mut ours, mut theirs) = Run::new(&client, &hub).psk(Tier::T5).sessions();
    let (mut at, mut full, mut resumed, mut rotated, mut seed) = (0, 1, 0, 0, 0);
    let mut chain = 0;
    while at < YEAR {
        // The path breaks every few hours, now and then right before a rotation is due.
        let since = at;
        at += REACH + (at % 7) * 3600;
        let (_, news) = live(&mut ours, &mut theirs, secs(since), secs(at));
        rotated += ours.epoch().unwrap_or(0);
        seed += 1;
        let ticket = if news.is_empty() {
            let issued = theirs.issue_ticket(secs(at), &mut rng(seed), &mut table);
            assert_eq!(issued, Ok(()), "after {at} s");
            pump(secs(at), &mut ours, &mut theirs);
            ours.take_ticket()
        } else {
            None
        };
        let next = ticket.map(|ticket| resume((&client, &hub), ticket, &mut table, secs(at)));
        (ours, theirs) = if let Some(Ok(sessions)) = next {
            assert!(secs(at).since(secs(chain)) < LIFETIME);
            resumed += 1;
            sessions
        } else {
            full += 1;
            chain = at;
            let mut run = Run::new(&client, &hub).psk(Tier::T5);
            run.now = secs(at);
            run.policies.0.wall.secs = T0 + at;
            run.policies.1.wall.secs = T0 + at;
            run.sessions()
        };
        pump(secs(at), &mut ours, &mut theirs);
        same_keys(&mut ours, &mut theirs, secs(at));
    }
    assert!(
        full > 48 && resumed > 5 * full && rotated > 100,
        "{full} {resumed} {rotated}"
    );
}

/// A path that loses, repeats and delays messages, the same in every run.
struct Lossy {
    rng: session_support::Seeded,
    flight: Vec<(Mono, bool, Vec<u8>)>,
}

impl Lossy {
    fn dice(&mut self) -> u8 {
        let mut byte = [0];
        self.rng.fill(&mut byte);
        byte[0]
    }

    /// Loses every tenth message, doubles another tenth, delays by up to 2.5 s.
    fn send(&mut self, now: Mono, to_responder: bool, message: &[u8]) {
        let fate = self.dice();
        let copies = if fate < 26 {
            0
        } else {
            1 + usize::from(fate < 51)
        };
        for _ in 0..copies {
            let delay = Duration::from_millis(u64::from(self.dice()) * 10);
            self.flight
                .push((now.after(delay), to_responder, message.to_vec()));
        }
    }

    fn next(&self) -> Option<Mono> {
        self.flight.iter().map(|(at, ..)| *at).min()
    }

    fn arrived(&mut self, now: Mono) -> Vec<(bool, Vec<u8>)> {
        let (due, rest) = self.flight.drain(..).partition(|(at, ..)| *at <= now);
        self.flight = rest;
        let due: Vec<(Mono, bool, Vec<u8>)> = due;
        due.into_iter()
            .map(|(_, to, message)| (to, message))
            .collect()
    }
}

#[test]
fn a_lossy_path_costs_records_but_never_a_session_or_a_record_twice() {
    let (client, hub) = (client(), hub());
    let (mut ours, mut theirs) = Run::new(&client, &hub).unordered().sessions();
    let mut path = Lossy {
        rng: rng(4),
        flight: Vec::new(),
    };
    let (mut sent, mut seen) = (0u32, std::collections::BTreeSet::new());
    let mut due = NOW;
    let mut now = NOW;
    while now < secs(2 * 86400) {
        let waits = [next_timeout(&ours, &theirs), path.next(), Some(due)];
        now = waits.into_iter().flatten().min().unwrap().max(now);
        ours.handle_timeout(now).expect("alive");
        theirs.handle_timeout(now).expect("alive");
        if now >= due {
            sent += 1;
            let record = seal(&mut ours, now, Tier::T3, &sent.to_be_bytes());
            path.send(now, true, &record);
            let answer = seal(&mut theirs, now, Tier::T3, &(u64::from(sent)).to_be_bytes());
            path.send(now, false, &answer);
            due = now.after(Duration::from_secs(7));
        }
        for (to_responder, mut message) in path.arrived(now) {
            let end = if to_responder { &mut theirs } else { &mut ours };
            match end
                .receive(now, &mut rng(now.0), &mut message)
                .expect("an unordered path")
            {
                Received::Record { plaintext, .. } => {
                    assert!(
                        seen.insert(message[plaintext].to_vec()),
                        "a record came twice"
                    );
                }
                Received::Handled | Received::Dropped(_) => (),
                other => panic!("{other:?}"),
            }
        }
        while let Some(message) = control(&mut ours, now) {
            path.send(now, true, &message);
        }
        while let Some(message) = control(&mut theirs, now) {
            path.send(now, false, &message);
        }
    }
    let seen = u32::try_from(seen.len()).unwrap();
    assert!(seen * 10 > 2 * sent * 8, "{seen} of {sent}");
    assert_eq!((ours.epoch(), theirs.epoch()), (Some(3), Some(3)));
}
