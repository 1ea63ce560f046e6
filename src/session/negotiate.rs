//! What two nodes agree on before there are keys: profile, tier, capabilities (profile 6.3).

use serde::{Deserialize, Serialize};

use crate::wire::flags::Tier;
use crate::wire::limits::MAX_LIST;

/// The profile this crate speaks, "MKB1".
pub const PROFILE: u64 = 1;

/// Capability numbers (draft 7.1, profile 6.3). Numbers that a node does not know are ignored.
pub mod capability {
    /// LZ4 blocks.
    pub const LZ4: u64 = 0;
    /// Zstandard frames.
    pub const ZSTD: u64 = 1;
    /// ChaCha20-Poly1305; every session has it.
    pub const CHACHA20: u64 = 2;
    /// AES-256-GCM; may be offered, is never selected.
    pub const AES256GCM: u64 = 3;
    /// Fragmentation; every session has it.
    pub const FRAGMENTATION: u64 = 4;
    /// Streams.
    pub const STREAMING: u64 = 5;
    /// Sessions across families.
    pub const FEDERATION: u64 = 6;
    /// End-to-end records through a hub.
    pub const RELAY: u64 = 0x8000;
}

const COMPRESSORS: [u64; 2] = [capability::LZ4, capability::ZSTD];
const MANDATORY: [u64; 2] = [capability::CHACHA20, capability::FRAGMENTATION];

/// Payload of `SESSION_INIT` (draft 7.1, profile 6.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInit {
    /// Fresh random bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 8],
    /// Seconds since 1970, informational (profile 16.5).
    pub timestamp: u64,
    /// In order of preference.
    #[serde(default)]
    pub capabilities: Vec<u64>,
    /// The draft's field, which must be absent here: it would name the node in clear.
    #[serde(rename = "device-id", default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<serde_bytes::ByteBuf>,
    /// The tier asked for, 3–5.
    #[serde(default)]
    pub tier: u64,
    /// Profile versions offered.
    #[serde(default)]
    pub profile: Vec<u64>,
}

/// Payload of `SESSION_ACK` (draft 7.2, profile 6.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAck {
    /// The new session's id.
    #[serde(rename = "session-id")]
    pub session_id: u16,
    /// Fresh random bytes.
    #[serde(with = "serde_bytes")]
    pub nonce: [u8; 8],
    /// The session's highest tier.
    #[serde(rename = "selected-tier")]
    pub selected_tier: u64,
    /// Ascending.
    #[serde(rename = "selected-capabilities", default)]
    pub selected_capabilities: Vec<u64>,
    /// The profile selected.
    pub profile: u64,
    /// The initiator's nonce.
    #[serde(rename = "init-nonce", with = "serde_bytes")]
    pub init_nonce: [u8; 8],
}

/// The capabilities of a session: a pure function of the initiator's list, in order of preference,
/// and what the responder supports. `None` when a mandatory one is missing or a list is too long.
pub fn select(offered: &[u64], supported: &[u64]) -> Option<Vec<u64>> {
    if offered.len() > MAX_LIST || supported.len() > MAX_LIST {
        return None;
    }
    let common = |number: &&u64| supported.contains(number) && **number != capability::AES256GCM;
    let compressor = offered
        .iter()
        .filter(common)
        .find(|number| COMPRESSORS.contains(number))
        .copied();
    let mut selected: Vec<u64> = offered
        .iter()
        .filter(common)
        .filter(|number| !COMPRESSORS.contains(number) || Some(**number) == compressor)
        .copied()
        .collect();
    selected.sort_unstable();
    selected.dedup();
    MANDATORY
        .iter()
        .all(|number| selected.contains(number))
        .then_some(selected)
}

/// A tier that a session may be limited to: 3, 4 or 5 (profile 6.2).
pub const fn session_tier(number: u64) -> Option<Tier> {
    match number {
        3 => Some(Tier::T3),
        4 => Some(Tier::T4),
        5 => Some(Tier::T5),
        _ => None,
    }
}

/// What one of our own nodes supports, in order of preference.
pub fn supported(federated: bool) -> Vec<u64> {
    use capability::{CHACHA20, FEDERATION, FRAGMENTATION, LZ4, STREAMING};
    let mut list = vec![CHACHA20, LZ4, FRAGMENTATION, STREAMING];
    if federated {
        list.push(FEDERATION);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_compressor_the_initiator_names_wins_and_aes_never_does() {
        let all = [0, 1, 2, 3, 4, 5, 6];
        assert_eq!(select(&[3, 2, 1, 0, 4], &all), Some(vec![1, 2, 4]));
        assert_eq!(select(&[2, 0, 1, 4, 99], &all), Some(vec![0, 2, 4]));
        assert_eq!(select(&[1, 0, 2, 4], &[0, 2, 4]), Some(vec![0, 2, 4]));
        assert_eq!(select(&[4, 4, 2, 2], &all), Some(vec![2, 4]));
    }

    #[test]
    fn nothing_is_selected_without_what_every_session_needs() {
        assert_eq!(select(&[2, 0], &[0, 2, 4]), None);
        assert_eq!(select(&[2, 4], &[4]), None);
        assert_eq!(select(&[2, 4].repeat(17), &[2, 4]), None);
    }

    #[test]
    fn sessions_have_tier_three_four_or_five() {
        assert_eq!(
            [2, 3, 5, 6].map(session_tier),
            [None, Some(Tier::T3), Some(Tier::T5), None]
        );
    }
}
