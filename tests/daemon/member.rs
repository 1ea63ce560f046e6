//! A session of the test's own with a running server.

use std::net::Ipv4Addr;

use myclerk::kernel::clock;
use myclerk::link::{LinkEvent, Request, StreamId, Target};
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;

use crate::machine::{Daemon, Machine};
use crate::wire::{Session, Who};

pub(crate) const LAPTOP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

impl Session {
    /// Of the member whose machine this is.
    pub(crate) fn of(machine: &Machine, server: &Daemon) -> Self {
        Self::open(Who::member(&machine.state()), server.address(), LAPTOP).unwrap()
    }

    /// Asks and waits for the final answer.
    pub(crate) fn ask(
        &mut self,
        target: Target,
        opcode: Opcode,
        payload: &[u8],
    ) -> Option<(Status, Vec<u8>)> {
        let request = Request::new(target, opcode, payload.to_vec());
        let sent = self.connection.link().request(clock::mono(), request);
        let (_, wanted) = sent.unwrap();
        loop {
            if let LinkEvent::Response {
                corr,
                status,
                payload,
                ..
            } = self.next()?
                && corr == wanted
            {
                return Some((status, payload));
            }
        }
    }

    /// The sub-code with which a request is refused.
    pub(crate) fn refused(&mut self, target: Target, opcode: Opcode, payload: &[u8]) -> String {
        let (status, payload) = self.ask(target, opcode, payload).unwrap();
        assert!(!status.is_success(), "{opcode}: {status}");
        ErrorMap::decode(&payload).unwrap().sub.to_string()
    }

    /// That it is served like any other.
    pub(crate) fn works(&mut self) {
        let control = Target::On(StreamId::CONTROL);
        let (status, _) = self.ask(control, Opcode::DeviceList, &[]).unwrap();
        assert_eq!(status, Status::Ok);
    }
}
