//! Noise (revision 34) through `snow`, with X25519 of our own: private keys are wiped, an all-zero
//! result aborts (profile 6.6), and an ephemeral key is used once.

use core::fmt;

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroizing;

use super::identity::NodeKey;
use super::psk::Psk;
use super::schedule::{self, Secret};

/// Bytes by which a Noise message of XX, `XXpsk3` or `NNpsk0` is longer than its payload at most: an
/// ephemeral, an encrypted static key and two tags.
const OVERHEAD: usize = 32 + 48 + 16;

/// Why a Noise message was not accepted or could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// Wrong key, wrong PSK, changed bytes, or a public key of low order.
    #[error("the Noise message does not authenticate")]
    Rejected,
    /// The handshake is at another message, or the payload is too long.
    #[error("the Noise handshake cannot go on")]
    State,
}

/// A handshake in progress.
pub struct Noise(snow::HandshakeState);

/// Which side of a handshake, with the bytes for the ephemeral private key.
pub enum Side {
    /// Writes the first message.
    Initiator(Zeroizing<[u8; 32]>),
    /// Reads the first message.
    Responder(Zeroizing<[u8; 32]>),
}

impl Noise {
    /// XX without a PSK, `XXpsk3` with one (profile 6.4).
    ///
    /// # Errors
    /// [`NoiseError::State`] never in practice.
    pub fn full(
        side: Side,
        prologue: &[u8],
        key: &NodeKey,
        psk: Option<&Psk>,
    ) -> Result<Self, NoiseError> {
        let private = key.to_bytes();
        match psk {
            None => Self::build("Noise_XX_25519_ChaChaPoly_SHA256", side, |builder| {
                builder.prologue(prologue)?.local_private_key(&*private)
            }),
            Some(psk) => Self::build("Noise_XXpsk3_25519_ChaChaPoly_SHA256", side, |builder| {
                builder
                    .prologue(prologue)?
                    .local_private_key(&*private)?
                    .psk(3, &psk.secret().0)
            }),
        }
    }

    /// `NNpsk0` for a resumption (profile 14.5).
    ///
    /// # Errors
    /// [`NoiseError::State`] never in practice.
    pub fn resumption(side: Side, prologue: &[u8], psk: &Secret) -> Result<Self, NoiseError> {
        Self::build("Noise_NNpsk0_25519_ChaChaPoly_SHA256", side, |builder| {
            builder.prologue(prologue)?.psk(0, &psk.0)
        })
    }

    fn build<'a>(
        name: &str,
        side: Side,
        configure: impl FnOnce(snow::Builder<'a>) -> Result<snow::Builder<'a>, snow::Error>,
    ) -> Result<Self, NoiseError> {
        let params = name.parse().map_err(|_| NoiseError::State)?;
        let (initiates, ephemeral) = match side {
            Side::Initiator(ephemeral) => (true, ephemeral),
            Side::Responder(ephemeral) => (false, ephemeral),
        };
        let resolver = Box::new(Resolver { ephemeral });
        let builder = configure(snow::Builder::with_resolver(params, resolver))
            .map_err(|_| NoiseError::State)?;
        let state = if initiates {
            builder.build_initiator()
        } else {
            builder.build_responder()
        };
        state.map(Self).map_err(|_| NoiseError::State)
    }

    /// Writes the next message.
    ///
    /// # Errors
    /// [`NoiseError`] when it is not our turn, the payload too long or the peer's key of low order.
    pub fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut message = vec![0; payload.len() + OVERHEAD];
        let length = self
            .0
            .write_message(payload, &mut message)
            .map_err(|error| sort(&error))?;
        message.truncate(length);
        Ok(message)
    }

    /// Reads the next message and returns its payload.
    ///
    /// # Errors
    /// [`NoiseError`] when it does not authenticate or it is not the peer's turn.
    pub fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let mut payload = vec![0; message.len()];
        let length = self
            .0
            .read_message(message, &mut payload)
            .map_err(|error| sort(&error))?;
        payload.truncate(length);
        Ok(payload)
    }

    /// The peer's static key, once a message has proven it.
    pub fn remote_static(&self) -> Option<[u8; 32]> {
        self.0.get_remote_static()?.try_into().ok()
    }

    /// The handshake hash `h`.
    pub fn hash(&self) -> &[u8] {
        self.0.get_handshake_hash()
    }

    /// `Split()`: the two keys that profile 7.1 mixes; `None` before the last message.
    pub fn split(mut self) -> Option<(Secret, Secret)> {
        if !self.0.is_handshake_finished() {
            return None;
        }
        let (first, second) = self.0.dangerously_get_raw_split();
        Some((Secret(first), Secret(second)))
    }
}

impl fmt::Debug for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noise(..)")
    }
}

const fn sort(error: &snow::Error) -> NoiseError {
    match error {
        snow::Error::State(_) | snow::Error::Init(_) => NoiseError::State,
        _ => NoiseError::Rejected,
    }
}

/// Hands out one ephemeral key and our X25519; cipher and hash are snow's.
struct Resolver {
    ephemeral: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::default())),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if out.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        out.copy_from_slice(&*bytes);
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        if let Ok(private) = <[u8; 32]>::try_from(private) {
            *self.private = private;
            self.public = *NodeKey::from_bytes(&self.private).public();
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *private)?;
        self.set(&*private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public = public.first_chunk().ok_or(snow::Error::Dh)?;
        let shared = schedule::x25519(&self.private, public).ok_or(snow::Error::Dh)?;
        out.get_mut(..32)
            .ok_or(snow::Error::Dh)?
            .copy_from_slice(&shared.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Noise, Noise) {
        let key = NodeKey::from_bytes(&[1; 32]);
        let noise = |side| Noise::full(side, b"p", &key, None).unwrap();
        (
            noise(Side::Initiator(Zeroizing::new([2; 32]))),
            noise(Side::Responder(Zeroizing::new([3; 32]))),
        )
    }

    #[test]
    fn an_ephemeral_of_low_order_aborts_on_either_side() {
        let (mut initiator, mut responder) = pair();
        let mut first = initiator.write(b"").unwrap();
        first[..32].fill(0);
        assert!(responder.read(&first).is_ok());
        assert_eq!(responder.write(b""), Err(NoiseError::Rejected));

        let (mut initiator, mut responder) = pair();
        responder.read(&initiator.write(b"").unwrap()).unwrap();
        let mut second = responder.write(b"").unwrap();
        second[..32].fill(0);
        assert_eq!(initiator.read(&second), Err(NoiseError::Rejected));
    }

    #[test]
    fn there_are_no_keys_before_the_last_message() {
        let (initiator, mut responder) = pair();
        assert!(initiator.split().is_none());
        let (mut again, _) = pair();
        responder.read(&again.write(b"").unwrap()).unwrap();
        again.read(&responder.write(b"").unwrap()).unwrap();
        responder.read(&again.write(b"").unwrap()).unwrap();
        let (ours, theirs) = (again.split().unwrap(), responder.split().unwrap());
        assert_eq!((ours.0.0, ours.1.0), (theirs.0.0, theirs.1.0));
    }
}
