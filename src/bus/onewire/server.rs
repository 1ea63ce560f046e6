//! The half that has the bus: single operations on stream 0, each done in one go with the kernel.

mod desk;

use std::sync::LazyLock;

use super::enumerate;
use super::hardware::netlink::NetlinkHost;
use super::op::{BusEntry, BusList, BusRequest, MAX_NAME, MatchRom, OpError, Read, Search, Write};
use crate::bus::{Answer, End, Owned, Present, Refused, Serving, Wanted};
use crate::wire::opcode::Opcode;

pub use desk::{Desk, MAX_WAITING};

/// 1-Wire buses as the owner's daemon sees them.
pub const OWNED: Owned = Owned {
    class: "onewire",
    shared: true,
    openers: &[],
    calls: &[
        Opcode::OnewireSearch,
        Opcode::OnewireReset,
        Opcode::OnewireReadRom,
        Opcode::OnewireMatchRom,
        Opcode::OnewireSkipRom,
        Opcode::OnewireRead,
        Opcode::OnewireWrite,
    ],
    list: Some((Opcode::OnewireBusList, listing)),
    look: enumerate::look,
    wanted,
    serve: |grant, stream| -> Serving {
        Box::pin(async move {
            let refused = Refused::unsupported(format!("{} opens no stream", grant.opcode));
            let payload = refused.payload();
            stream.outlet.respond(grant.corr, refused.status, payload);
            End::Refused(refused)
        })
    },
    call: |present, caller, opcode, payload| -> Answer {
        DESK.call(&NetlinkHost, present, caller, opcode, payload)
    },
};

/// Who uses the buses of this machine just now.
static DESK: LazyLock<Desk> = LazyLock::new(Desk::default);

/// Writes the answer to `ONEWIRE_BUS_LIST`.
pub fn listing(buses: &[(Present, u8)]) -> Vec<u8> {
    let entry = |(present, _): &(Present, u8)| BusEntry {
        dev: present.id.clone(),
        name: clean(&present.name),
        wr: true,
    };
    let list = BusList {
        buses: buses.iter().map(entry).collect(),
    };
    list.encode().unwrap_or_default()
}

fn clean(name: &str) -> String {
    let mut clean = String::new();
    for c in name.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if clean.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        clean.push(c);
    }
    clean
}

/// What an operation asks for. Reading and searching take the right to read; all else writes, and so
/// does reading what was asked for by written bytes.
///
/// # Errors
/// The payload is none of that operation's.
pub fn wanted(opcode: Opcode, payload: &[u8]) -> Result<Wanted, Refused> {
    let (device, write) = match opcode {
        Opcode::OnewireSearch => (Search::decode(payload).map_err(bad)?.dev, false),
        Opcode::OnewireReadRom => (BusRequest::decode(payload).map_err(bad)?.dev, false),
        Opcode::OnewireReset | Opcode::OnewireSkipRom => {
            (BusRequest::decode(payload).map_err(bad)?.dev, true)
        }
        Opcode::OnewireMatchRom => (MatchRom::decode(payload).map_err(bad)?.dev, true),
        Opcode::OnewireRead => {
            let request = Read::decode(payload).map_err(bad)?;
            (request.dev, !request.before.is_empty())
        }
        Opcode::OnewireWrite => (Write::decode(payload).map_err(bad)?.dev, true),
        other => return Err(no_operation(other)),
    };
    Ok(Wanted { device, write })
}

fn no_operation(opcode: Opcode) -> Refused {
    Refused::unsupported(format!("{opcode} is no operation of a 1-Wire bus"))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn bad(error: OpError) -> Refused {
    Refused::bad(error.to_string())
}
