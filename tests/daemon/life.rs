//! A family from its founding to the revocation of a member.

use std::process::Stdio;

use crate::machine::{Machine, eventually};

#[test]
fn a_family_is_founded_grows_works_and_excludes() {
    let hub = Machine::founded();
    let server = hub.serve();
    let laptop = hub.admit("laptop");
    let mut client = laptop.client();
    client.says("connected");

    let members = hub.run(&["members", "--json"]).json();
    assert_eq!(members.as_array().unwrap().len(), 2);
    let member = &members[1];
    assert_eq!(
        (&member["name"], &member["online"], &member["this"]),
        (&"laptop".into(), &true.into(), &false.into())
    );
    let status = hub.run(&["status", "--json"]).json();
    assert_eq!(status["server"]["sessions"][0]["node"]["name"], "laptop");
    let remote = laptop.run(&["list", "--json"]).json();
    assert_eq!(remote["remote"][0]["link"], "connected");
    assert_eq!(remote["remote"][0]["devices"], serde_json::json!([]));

    assert_eq!(hub.run(&["export", "usb:1:2"]).code, 5, "not plugged in");
    assert_eq!(hub.run(&["acl", "grant", "usb:1:*", "laptop"]).code, 0);
    let attach = laptop.run(&["attach", "hub/usb:1:2"]);
    assert_eq!(attach.code, 5, "{attach:?}");
    assert!(
        attach.err.contains("hub offers no device \"usb:1:2\""),
        "{attach:?}"
    );

    let revoked = hub.run(&["revoke", "laptop", "--json"]).json();
    assert_eq!(
        (&revoked["closed"], &revoked["entries"]),
        (&1.into(), &1.into())
    );
    server.says("revoked)");
    assert_eq!(
        server.lines("the connection was lost"),
        0,
        "{}",
        server.log()
    );
    client.says("refused");
    let status = laptop.run(&["status", "--json"]).json();
    let problem = status["client"]["nodes"][0]["problem"].as_str().unwrap();
    assert!(
        problem.contains("myclerk join TOKEN --replace"),
        "{problem}"
    );
    assert_eq!(status["client"]["nodes"][0]["link"], "refused");
    assert_eq!(laptop.run(&["attach", "hub/usb:1:2"]).code, 4);

    assert_eq!(client.stop(), Some(0));
    let mut again = laptop.client();
    again.says("refused");
    assert!(
        again.log().contains("removed from the family"),
        "{}",
        again.log()
    );
    assert_eq!(again.stop(), Some(0));
    assert!(!laptop.run_dir().join("client.sock").exists());
    drop(server);
}

#[test]
fn a_revoked_node_leaves_no_rights_in_the_running_daemon() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let _laptop = hub.admit("laptop");
    assert_eq!(hub.run(&["acl", "grant", "usb:*", "laptop"]).code, 0);
    assert_eq!(hub.run(&["revoke", "laptop"]).code, 0);
    let acl = hub.run(&["acl", "list", "--json"]).json();
    assert_eq!(acl, serde_json::json!([]));
    let again = hub.run(&["revoke", "laptop"]);
    assert_eq!(again.code, 5, "{again:?}");
}

#[test]
fn what_is_done_twice_changes_nothing() {
    let hub = Machine::founded();
    let first = hub.run(&["init", "--json"]).json();
    assert_eq!(first["created"], false);
    let _server = hub.serve();
    let laptop = hub.admit("laptop");
    for _ in 0..2 {
        assert_eq!(hub.run(&["acl", "grant", "usb:*", "laptop"]).code, 0);
        assert_eq!(laptop.run(&["detach", "--all"]).code, 3, "no client runs");
    }
    let acl = hub.run(&["acl", "list", "--json"]).json();
    assert_eq!(acl.as_array().unwrap().len(), 1);
}

#[test]
fn a_second_daemon_on_the_same_run_directory_is_refused() {
    let hub = Machine::founded();
    let mut server = hub.serve();
    let second = hub.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.err.contains("already running"), "{second:?}");
    assert!(server.is_running());
    assert_eq!(hub.run(&["members"]).code, 0);
    let other = Machine::founded();
    let address = server.address().to_string();
    let taken = other.run(&["serve", "--listen", &address]);
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.err.contains(&address), "{taken:?}");
    assert!(!other.run_dir().join("server.sock").exists());
}

#[test]
fn ctrl_c_ends_the_server_its_invite_and_its_sessions_in_order() {
    let hub = Machine::founded();
    let mut server = hub.serve();
    let laptop = hub.admit("laptop");
    let client = laptop.client();
    client.says("connected");
    let invite = hub.invite(&["--yes"]);
    assert_eq!(server.stop(), Some(0));
    assert!(!hub.run_dir().join("server.sock").exists());
    let end = invite.end();
    assert_eq!(end.code, 1, "{end:?}");
    client.says("shutting-down");
    eventually("the client says what is wrong", || {
        let status = laptop.run(&["status", "--json"]).json();
        (status["client"]["nodes"][0]["link"] == "waiting").then_some(())
    });
    let list = laptop.run(&["list", "--json"]);
    assert_eq!(list.code, 0, "{list:?}");
}

#[test]
fn a_member_comes_back_by_itself_when_its_hub_does() {
    let hub = Machine::founded();
    let mut server = hub.serve();
    let address = server.address().to_string();
    let laptop = hub.admit("laptop");
    let client = laptop.client();
    client.says("connected");
    assert_eq!(server.stop(), Some(0));
    let mut again = hub.command(&["serve", "--listen", &address]);
    let mut again = again
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a second session", || {
        (client.lines(" connected") > 1).then_some(())
    });
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn an_old_family_key_still_brings_the_new_one() {
    let hub = Machine::founded();
    let _server = hub.serve();
    let laptop = hub.admit("laptop");
    let _other = hub.admit("other");
    assert_eq!(hub.run(&["revoke", "other"]).code, 0);
    // It was not there when the key was renewed.
    let client = laptop.client();
    client.says("the family's key was renewed");
    client.says(" connected");
    assert!(laptop.state().join("psk/2.key").exists());
}
