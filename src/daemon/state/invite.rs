//! The text that brings a new node into the family: shown as a QR code and typed or pasted into
//! `myclerk join` (profile 5.4).
//!
//! `mc1:` and base64url without padding (RFC 4648 section 5) of
//! `token[16] root-key[32] hub[16] expires[4, seconds since 1970] addresses crc16[2]`, the
//! addresses separated by commas, numbers big-endian. The family-id is not carried: it follows from
//! the root key. The CRC finds a text that was copied wrong before anything is tried with it; three
//! failed attempts would erase the token.

use zeroize::Zeroizing;

use crate::session::identity::{AuthorityKey, FamilyId, NodeId};
use crate::session::psk::Token;
use crate::wire::crc16;

const PREFIX: &str = "mc1:";
const FIXED: usize = 16 + 32 + 16 + 4;
/// The most bytes that all addresses of an invitation may have together.
pub const MAX_ADDRESSES: usize = 255;

/// Why a text is no invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It does not begin with `mc1:`.
    #[error("it does not begin with {PREFIX:?}")]
    Prefix,
    /// It contains something else than base64url, or its checksum is wrong, or it is cut off.
    #[error("it is damaged or was not copied completely")]
    Damaged,
}

/// What an invited node must know.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The one-time secret.
    pub token: Token,
    /// The family's public root key, to be pinned.
    pub root: AuthorityKey,
    /// The hub that made the token; its static key must hash to this.
    pub hub: NodeId,
    /// Where the hub can be reached, `HOST:PORT`, in the order to try.
    pub addresses: Vec<String>,
    /// When the token dies, seconds since 1970 on the hub's clock.
    pub expires: u32,
}

impl Invitation {
    /// The family-id.
    pub fn family(&self) -> FamilyId {
        self.root.family_id()
    }

    /// The text; it is a secret until the token is used.
    pub fn to_text(&self) -> Zeroizing<String> {
        let addresses = self.addresses.join(",");
        let mut raw = Zeroizing::new(Vec::with_capacity(FIXED + addresses.len() + 2));
        raw.extend_from_slice(self.token.to_bytes().as_ref());
        raw.extend_from_slice(&self.root.0);
        raw.extend_from_slice(&self.hub.0);
        raw.extend_from_slice(&self.expires.to_be_bytes());
        raw.extend_from_slice(addresses.as_bytes());
        let crc = crc16::checksum(&raw);
        raw.extend_from_slice(&crc.to_be_bytes());
        let mut text = Zeroizing::new(PREFIX.to_owned());
        base64url_encode(&raw, &mut text);
        text
    }

    /// Reads the text; spaces and line breaks in it, as terminals and mail programs insert them, do
    /// not matter.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn from_text(text: &str) -> Result<Self, InviteError> {
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
        let digits = text.strip_prefix(PREFIX).ok_or(InviteError::Prefix)?;
        let raw = base64url_decode(digits).ok_or(InviteError::Damaged)?;
        Self::from_raw(&raw).ok_or(InviteError::Damaged)
    }

    fn from_raw(raw: &[u8]) -> Option<Self> {
        let (body, crc) = raw.split_last_chunk::<2>()?;
        if crc16::checksum(body).to_be_bytes() != *crc {
            return None;
        }
        let (token, rest) = body.split_first_chunk::<16>()?;
        let (root, rest) = rest.split_first_chunk::<32>()?;
        let (hub, rest) = rest.split_first_chunk::<16>()?;
        let (expires, addresses) = rest.split_first_chunk::<4>()?;
        if addresses.len() > MAX_ADDRESSES {
            return None;
        }
        let addresses = std::str::from_utf8(addresses).ok()?;
        if addresses.chars().any(char::is_control) {
            return None;
        }
        let addresses = addresses.split(',').filter(|address| !address.is_empty());
        Some(Self {
            token: Token::from_bytes(*token),
            root: AuthorityKey(*root),
            hub: NodeId(*hub),
            addresses: addresses.map(str::to_owned).collect(),
            expires: u32::from_be_bytes(*expires),
        })
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64url_encode(bytes: &[u8], out: &mut String) {
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|i| u32::from(group.get(i).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for shift in [18, 12, 6, 0].into_iter().take(group.len() + 1) {
            // INVARIANT: six bits index a table of 64.
            out.push(char::from(DIGITS[(bits >> shift & 0x3f) as usize]));
        }
    }
}

fn base64url_decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    for group in text.as_bytes().chunks(4) {
        let mut bits = 0;
        for digit in group {
            let value = DIGITS.iter().position(|own| own == digit)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        let (bytes, spare) = match group.len() {
            4 => (3, 0),
            3 => (2, 2),
            2 => (1, 4),
            _ => return None,
        };
        if bits & ((1 << spare) - 1) != 0 {
            return None;
        }
        let value = bits >> spare << (8 * (4 - bytes));
        out.extend_from_slice(value.to_be_bytes().get(..bytes)?);
    }
    Some(out)
}
