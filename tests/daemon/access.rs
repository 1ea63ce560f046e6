//! The access list over the wire, and what happens to those whom it lets in no longer.

use myclerk::device::acl::{Entry, Mode, Subject};
use myclerk::device::op::{
    AclGetResponse, AclGrantRequest, AclRevokeRequest, AclSetRequest, AclVersion,
    CapabilitiesResponse, ConfigureRequest, ConfigureResponse, DeviceRequest, Info, PatternRequest,
};
use myclerk::kernel::clock;
use myclerk::link::{LinkEvent, StreamId, Target};
use myclerk::wire::error::ErrorMap;
use myclerk::wire::flags::Tier;
use myclerk::wire::msgpack::{self, Value};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::echo::Start;
use crate::machine::{Daemon, Machine};
use crate::wire::{Session, request};

const CONTROL: Target = Target::On(StreamId::CONTROL);

/// A hub with `echo:one`, an administrator and a guest that may use it.
fn lab() -> (Machine, Daemon, Machine, Machine) {
    let hub = Machine::founded();
    hub.plug("echo:one");
    let server = hub.server();
    let admin = Machine::new();
    let invite = hub.invite(&["--yes", "--role", "admin"]);
    let joined = admin.run(&["join", &invite.token, "--name", "boss"]);
    assert_eq!(joined.code, 0, "{joined:?}");
    assert_eq!(invite.end().code, 0);
    let guest = hub.admit("guest");
    hub.share("echo:one", "guest", "rw");
    (hub, server, admin, guest)
}

fn entry(guest: &Session, mode: Mode, until: Option<u64>) -> Entry {
    let node = guest.connection.local_id();
    Entry {
        until,
        ..Entry::new("echo:one".parse().unwrap(), Subject::Node(node), mode)
    }
}

fn version(answer: (Status, Vec<u8>)) -> u64 {
    assert_eq!(answer.0, Status::Ok);
    AclVersion::decode(&answer.1).unwrap().ver
}
