//! Access tokens: what a device shows with each HTTP request instead of its secret. A node signs them with its own key; every node
//! verifies them with the public keys in the log, and looks the device up, so that one logged out is refused at once.
//!
//! ```text
//!  base64url( device u64 · key id u64 · expires u64, ms · Ed25519 signature of those 24 bytes )     numbers big-endian
//! ```

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;
use ieum_core::ids::DeviceId;
use ieum_core::kv::{self, Read};
use ieum_core::tables::accounts::SIGNING_KEYS;
use ieum_protocol::errors::Code;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

const CLAIMS: usize = 24;
const SIGNED: usize = CLAIMS + 64;

/// The key that this node signs access tokens with.
pub struct SigningKeys {
    pair: Ed25519KeyPair,
    id: u64,
}

impl SigningKeys {
    /// The key whose 32-byte seed this is. None when the seed is not one.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let hash = blake3::hash(pair.public_key().as_ref());
        let id = u64::from_be_bytes(*hash.as_bytes().first_chunk()?);
        Some(Self { pair, id })
    }

    /// Names the key in tokens.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What its tokens are verified with.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        key
    }

    pub(crate) fn issue(&self, device: DeviceId, life: Duration) -> String {
        let expires = now() + u64::try_from(life.as_millis()).unwrap_or(u64::MAX / 2);
        let mut token = Vec::with_capacity(SIGNED);
        for part in [device.0, self.id, expires] {
            token.extend_from_slice(&part.to_be_bytes());
        }
        let signature = self.pair.sign(&token);
        token.extend_from_slice(signature.as_ref());
        BASE64URL_NOPAD.encode(&token)
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The device that `token` was issued for, if a node of this cell signed it and it is not too old. Whether the device is still signed in is
/// the caller's to look up.
pub(crate) fn verify(view: &impl Read, token: &str) -> kv::Result<Result<DeviceId, Code>> {
    let bytes = match BASE64URL_NOPAD.decode(token.as_bytes()) {
        Ok(bytes) if bytes.len() == SIGNED => bytes,
        _ => return Ok(Err(Code::Unauthorized)),
    };
    let (claims, signature) = bytes.split_at(CLAIMS);
    let mut parts = claims.chunks_exact(8).map(|c| u64::from_be_bytes(c.try_into().unwrap_or_default()));
    let (Some(device), Some(key), Some(expires)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(Err(Code::Unauthorized));
    };
    let Some(key) = SIGNING_KEYS.get(view, &key)? else { return Ok(Err(Code::Unauthorized)) };
    if UnparsedPublicKey::new(&ED25519, key.public_key).verify(claims, signature).is_err() {
        return Ok(Err(Code::Unauthorized));
    }
    Ok(if expires < now() { Err(Code::TokenExpired) } else { Ok(DeviceId(device)) })
}
