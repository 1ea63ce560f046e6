//! What the machine that joins is told.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use myclerk::daemon::state::Invitation;
use myclerk::session::psk::Token;

use crate::machine::{Machine, interrupt, wait};

#[test]
fn a_wrong_token_is_refused_without_a_reason_and_logged_once() {
    let hub = Machine::founded();
    let server = hub.serve();
    let invite = hub.invite(&["--yes"]);
    let mut invitation = Invitation::from_text(&invite.token).unwrap();
    invitation.token = Token::from_bytes([7; 16]);
    let laptop = Machine::new();
    let run = laptop.run(&["join", &invitation.to_text()]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("does not accept this token"), "{run:?}");
    server.says("connection refused");
    assert_eq!(server.lines("connection refused"), 1, "{}", server.log());
    assert!(!laptop.state().join("family.toml").exists());
    let right = laptop.run(&["join", &invite.token, "--name", "laptop"]);
    assert_eq!(right.code, 0, "{right:?}");
}

#[test]
fn a_token_works_once() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let invite = hub.invite(&["--yes"]);
    let token = invite.token.clone();
    let first = Machine::new().run(&["join", &token, "--name", "one", "--json"]);
    let joined = first.json();
    assert_eq!(
        (&joined["name"], &joined["hub_name"]),
        (&"one".into(), &"hub".into())
    );
    let said = invite.end();
    assert!(said.out.contains("\"one\""), "{said:?}");
    let second = Machine::new().run(&["join", &token, "--name", "two", "--json"]);
    assert_eq!((second.code, &*second.out), (4, ""), "{second:?}");
    let error: serde_json::Value = serde_json::from_str(&second.err).unwrap_or_else(|_| {
        // Progress comes before the error on standard error.
        serde_json::from_str(second.err.lines().last().unwrap()).unwrap()
    });
    assert_eq!(error["error"]["kind"], "refused");
}

#[test]
fn a_withdrawn_token_is_worth_nothing() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let invite = hub.invite(&[]);
    let token = invite.token.clone();
    invite.interrupt();
    assert_eq!(invite.end().code, 130);
    let run = Machine::new().run(&["join", &token]);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn the_administrator_decides() {
    let hub = Machine::founded();
    let _server = hub.serve();
    for (answer, code) in [("n\n", 4), ("y\n", 0)] {
        let mut invite = hub.invite(&[]);
        invite.answer(answer);
        let run = Machine::new().run(&["join", &invite.token, "--name", "laptop"]);
        assert_eq!(run.code, code, "{answer:?}: {run:?}");
        assert_eq!(invite.end().code, code);
    }
}

#[test]
fn a_name_that_is_taken_is_refused_with_that_reason() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let invite = hub.invite(&["--yes"]);
    let run = Machine::new().run(&["join", &invite.token, "--name", "hub"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("already a member named hub"), "{run:?}");
    assert_eq!(invite.end().code, 4);
}

#[test]
fn a_machine_that_left_before_the_answer_is_no_member() {
    let hub = Machine::founded();
    let server = hub.serve();
    let mut invite = hub.invite(&[]);
    let files = server.open_files();
    let laptop = Machine::new();
    let mut join = laptop
        .command(&["join", &invite.token, "--name", "laptop"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    invite.asked();
    interrupt(&join);
    assert_eq!(wait(&mut join).signal(), Some(2));
    server.says("session ended");
    // Nobody has to answer for somebody who left.
    crate::machine::eventually("the connection is closed", || {
        (server.open_files() <= files).then_some(())
    });
    let end = invite.end();
    assert_eq!(end.code, 1, "{end:?}");
    let members = hub.run(&["members", "--json"]).json();
    assert_eq!(members.as_array().unwrap().len(), 1, "{members}");
}

#[test]
fn nobody_at_the_address_is_told_apart_from_somebody_else() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let invite = hub.invite(&["--yes"]);
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let run = Machine::new().run(&["join", &invite.token, &free.to_string()]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains(&free.to_string()), "{run:?}");

    let other = Machine::founded();
    let stranger = other.serve();
    let address = stranger.address().to_string();
    let run = Machine::new().run(&["join", &invite.token, &address]);
    assert_eq!(run.code, 4, "{run:?}");
    stranger.says("connection refused");
}

#[test]
fn a_member_that_is_not_the_hub_of_the_token_is_found_out() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let invite = hub.invite(&["--yes"]);
    let mut invitation = Invitation::from_text(&invite.token).unwrap();
    invitation.hub.0[0] ^= 1;
    let run = Machine::new().run(&["join", &invitation.to_text()]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("is not the hub"), "{run:?}");
}

#[test]
fn a_revoked_machine_joins_again_with_a_new_token() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let laptop = hub.admit("laptop");
    assert_eq!(hub.run(&["revoke", "laptop"]).code, 0);
    let invite = hub.invite(&["--yes"]);
    let again = laptop.run(&["join", &invite.token, "--name", "laptop"]);
    assert_eq!(again.code, 4, "{again:?}");
    assert!(again.err.contains("--replace"), "{again:?}");
    let again = laptop.run(&["join", &invite.token, "--name", "laptop", "--replace"]);
    assert_eq!(again.code, 0, "{again:?}");
    let client = laptop.client();
    client.says("connected");
}
