//! The access list over the wire, for nodes with the role `admin` (profile 17.2, 19.3).

use super::Server;
use super::control::node_name;
use super::dispatch::{Answer, bad_payload, internal};
use super::streams::in_time;
use crate::daemon::audit::{Record, What};
use crate::daemon::peer::{Incoming, Peer};
use crate::device::acl::{ADMIN, Acl, AclFull, Entry, NotSet};
use crate::device::id::Pattern;
use crate::device::op::{
    AclGetResponse, AclGrantRequest, AclRevokeRequest, AclSetRequest, AclVersion, PatternRequest,
    WireEntry,
};
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

type Refused = (Status, ErrorMap);

impl Server {
    /// Answers `ACL_GET`, `ACL_SET`, `ACL_GRANT` and `ACL_REVOKE`.
    pub(super) fn acl_request(&self, peer: &Peer, request: &Incoming) -> Answer {
        let identity = peer.identity();
        if !identity.roles().iter().any(|role| role == ADMIN) {
            let error = ErrorMap::new(sub::ACL).with_msg("that needs the role admin");
            self.record_refusal(peer, None, &error);
            return Err((Status::Forbidden, error));
        }
        let payload = &*request.payload;
        if request.opcode == Opcode::AclGet {
            let PatternRequest { dev } = PatternRequest::decode(payload).map_err(bad_payload)?;
            return self.acl_get(&dev);
        }
        in_time(true, request.age_secs)?;
        let (pattern, summary, (version, changed)) = match request.opcode {
            Opcode::AclSet => {
                let (dev, entries, ver) = AclSetRequest::decode(payload).map_err(bad_payload)?;
                let summary = format!("{} entries", entries.len());
                let version = self.change_acl(|acl| acl.set(&dev, entries, ver))?;
                (dev, summary, version)
            }
            Opcode::AclGrant => {
                let entry = AclGrantRequest::decode(payload).map_err(bad_payload)?;
                let Entry {
                    device,
                    subject,
                    mode,
                    ..
                } = entry.clone();
                let version = self.change_acl(|acl| Ok(acl.grant(entry)?))?;
                (device, format!("{} for {subject}", mode.word()), version)
            }
            _ => {
                let AclRevokeRequest { dev, sub } =
                    AclRevokeRequest::decode(payload).map_err(bad_payload)?;
                let version = self.change_acl(|acl| Ok(acl.revoke(&dev, &sub) > 0))?;
                (dev, format!("no entry for {sub} any longer"), version)
            }
        };
        if changed {
            let record = Record::new(What::AclChanged).on(&pattern).because(summary);
            // Whatever else this node has filled its share of the log with.
            self.audit.write(&record.of(node_name(peer)));
        }
        AclVersion { ver: version }.encode().map_err(internal)
    }

    fn acl_get(&self, pattern: &Pattern) -> Answer {
        let acl = self.acl.borrow();
        let of_pattern = acl
            .entries()
            .iter()
            .filter(|entry| entry.device == *pattern);
        let response = AclGetResponse {
            entries: of_pattern.cloned().map(WireEntry::from).collect(),
            ver: acl.version(),
        };
        response.encode().map_err(internal)
    }

    /// Changes the stored list and what rests on it; the version afterwards, and whether anything is
    /// different. Nothing is stored otherwise.
    fn change_acl(
        &self,
        change: impl FnOnce(&mut Acl) -> Result<bool, NotSet>,
    ) -> Result<(u64, bool), Refused> {
        let state = self.state.lock().map_err(internal)?;
        let mut acl = state.acl().map_err(internal)?;
        let changed = change(&mut acl).map_err(|error| not_set(&error))?;
        if changed {
            state.store_acl(&acl).map_err(internal)?;
            drop(state);
            self.reload().map_err(internal)?;
        }
        Ok((acl.version(), changed))
    }
}

fn not_set(error: &NotSet) -> Refused {
    let text = error.to_string();
    match error {
        NotSet::Version(current) => {
            let map = ErrorMap::new(sub::BUSY).with_msg(text);
            (Status::ServiceUnavailable, map.with_detail(*current))
        }
        NotSet::Full(AclFull) => (Status::BadRequest, ErrorMap::new(sub::LIMIT).with_msg(text)),
    }
}
