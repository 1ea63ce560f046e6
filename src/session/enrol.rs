//! Payloads of ENROL and `FAMILY_UPDATE` (profile 5.4, 19.1); the operations run as frames.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::identity::AuthorityKey;

/// Request of ENROL, from the new node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The name it wants for people.
    pub name: String,
    /// The roles it wants.
    pub roles: Vec<String>,
}

/// Response of ENROL. The certified key is the one that the handshake proved.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The new node's certificate chain.
    #[serde(with = "serde_bytes")]
    pub cert: Vec<u8>,
    /// The family's root.
    pub root: AuthorityKey,
    /// The family's current PSK.
    #[serde(with = "serde_bytes")]
    pub psk: [u8; 32],
    /// Its epoch number.
    #[serde(rename = "psk-epoch")]
    pub psk_epoch: u64,
    /// The newest revocation list; empty when there is none yet.
    #[serde(with = "serde_bytes")]
    pub crl: Vec<u8>,
}

/// Request of `FAMILY_UPDATE`: what the asking node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The number of its revocation list.
    pub crl: u64,
    /// The epoch of its family PSK.
    #[serde(rename = "psk-epoch")]
    pub psk_epoch: u64,
}

/// Response and event of `FAMILY_UPDATE`: what is newer. The PSK goes only to certified members of
/// the own family, in a session that itself mixed a PSK (profile 5.3).
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateResponse {
    /// A revocation list.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    pub crl: Option<Vec<u8>>,
    /// A family PSK.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    pub psk: Option<[u8; 32]>,
    /// Its epoch number.
    #[serde(rename = "psk-epoch", default, skip_serializing_if = "Option::is_none")]
    pub psk_epoch: Option<u64>,
}

impl Drop for EnrolResponse {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.psk);
    }
}

impl Drop for UpdateResponse {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.psk);
    }
}

impl fmt::Debug for EnrolResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EnrolResponse(root {}, psk epoch {})",
            self.root, self.psk_epoch
        )
    }
}

impl fmt::Debug for UpdateResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "UpdateResponse(crl {}, psk {})",
            self.crl.is_some(),
            self.psk.is_some()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::msgpack;

    #[test]
    fn the_payloads_survive_and_hide_the_psk() {
        let response = EnrolResponse {
            cert: vec![0x90],
            root: AuthorityKey([1; 32]),
            psk: [0xEE; 32],
            psk_epoch: 3,
            crl: Vec::new(),
        };
        let bytes = msgpack::encode(&response).unwrap();
        assert_eq!(
            msgpack::decode::<EnrolResponse>(&bytes),
            Ok(response.clone())
        );
        assert!(!format!("{response:?}").contains("238"));
        let nothing = UpdateResponse::default();
        assert_eq!(msgpack::encode(&nothing).unwrap(), [0x80]);
        assert_eq!(msgpack::decode::<UpdateResponse>(&[0x80]), Ok(nothing));
        let psk = UpdateResponse {
            psk: Some([7; 32]),
            psk_epoch: Some(4),
            crl: Some(vec![1]),
        };
        let bytes = msgpack::encode(&psk).unwrap();
        assert_eq!(msgpack::decode::<UpdateResponse>(&bytes), Ok(psk));
    }
}
