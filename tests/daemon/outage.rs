//! Links that break while sessions and devices live on them.

use crate::hub::point_to;
use crate::link::Link;
use crate::machine::{Machine, eventually};

/// A laptop that reaches the hub by the link.
pub(crate) fn behind(hub: &Machine, link: &Link) -> Machine {
    let laptop = hub.admit("laptop");
    point_to(&laptop, link.address());
    laptop
}

#[test]
fn a_cut_session_goes_on_by_its_ticket() {
    let hub = Machine::founded();
    let server = hub.server();
    let link = Link::to(server.address());
    let laptop = behind(&hub, &link);
    let client = laptop.user();
    for round in 1..=3 {
        link.cut();
        eventually("the next session", || {
            (client.lines(" connected") > round).then_some(())
        });
        eventually("it is a resumed one", || {
            (server.lines("resumed=true") == round).then_some(())
        });
    }
}

#[test]
fn a_restarted_server_gets_a_full_handshake() {
    let hub = Machine::founded();
    let mut server = hub.server();
    let link = Link::to(server.address());
    let laptop = behind(&hub, &link);
    let client = laptop.user();
    link.take_down();
    assert_eq!(server.stop(), Some(0));
    let server = hub.server();
    link.mend(server.address());
    eventually("the next session", || {
        (client.lines(" connected") == 2).then_some(())
    });
    assert_eq!(server.lines("resumed=true"), 0);
}

#[test]
fn a_session_that_only_the_server_believes_in_ends_when_it_is_resumed() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let link = Link::to(server.address());
    let laptop = behind(&hub, &link);
    hub.share("echo:one", "laptop", "rw");
    let client = laptop.user();
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 0);
    link.leave_half_open();
    eventually("the next session", || {
        (client.lines(" connected") == 2).then_some(())
    });
    server.says("the node is heard of in another session");
    eventually("the device is free", || {
        let local = hub.run(&["list", "--local", "--json"]).json();
        local["local"][0]["user"].is_null().then_some(())
    });
}

#[test]
fn a_killed_client_behind_a_silent_link_gets_its_device_again() {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let link = Link::to(server.address());
    let laptop = behind(&hub, &link);
    hub.share("echo:one", "laptop", "rw");
    let mut client = laptop.user();
    assert_eq!(laptop.run(&["attach", "hub/echo:one"]).code, 0);
    // The server does not hear of the end of the connection.
    client.kill();
    let client = laptop.user();
    let attach = laptop.run(&["attach", "hub/echo:one"]);
    assert_eq!(attach.code, 0, "{attach:?}\n{}", client.log());
    assert_eq!(server.lines("resumed=true"), 0);
}
