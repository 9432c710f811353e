//! Argon2id in a small bounded pool: hashing a password takes much memory and time on purpose, so only few are hashed at once,
//! a few more wait, and whoever comes on top is told to come back.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use ieum_protocol::errors::{Code, Problem};

use crate::lanes::{Asker, Lane};
use crate::options;

pub(crate) struct Pool {
    argon: Argon2<'static>,
    pub(crate) lane: Arc<Lane>,
    /// What the password of somebody who does not exist is checked against, so that the answer takes as long.
    nobody: Arc<str>,
}

impl Pool {
    pub(crate) fn new(options: &options::Passwords) -> Self {
        let params = Params::new(options.memory_kib, options.passes, 1, None).unwrap_or_default();
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = argon.hash_password(b"nobody's").map(|h| h.to_string()).unwrap_or_default();
        Self { argon, lane: Lane::new(options.lane()), nobody: nobody.into() }
    }

    /// The hash of a new password as a PHC string. `salt` must be another for every account and change, and the same for the same request
    /// when it is repeated.
    pub(crate) async fn hash(&self, asker: &Asker, password: String, salt: [u8; 16]) -> Result<String, Problem> {
        check(&password)?;
        self.run(asker, move |argon| {
            argon.hash_password_with_salt(password.as_bytes(), &salt).map(|hash| hash.to_string()).ok()
        })
        .await?
        .ok_or_else(|| Code::Internal.problem())
    }

    /// Whether `password` is the one that `hash` was made from; a password of nobody is wrong.
    pub(crate) async fn verify(&self, asker: &Asker, password: String, hash: Option<String>) -> Result<bool, Problem> {
        if password.len() > MAX_BYTES {
            return Ok(false);
        }
        let somebody = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.as_ref().to_owned());
        let same = self.run(asker, move |argon| {
            PasswordHash::new(&hash).is_ok_and(|parsed| argon.verify_password(password.as_bytes(), &parsed).is_ok())
        });
        Ok(same.await? && somebody)
    }

    async fn run<T: Send + 'static>(
        &self,
        asker: &Asker,
        work: impl FnOnce(&Argon2<'static>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let argon = self.argon.clone();
        self.lane.run(asker, move || work(&argon)).await
    }
}

/// 200 characters of four bytes each.
const MAX_BYTES: usize = 800;

fn check(password: &str) -> Result<(), Problem> {
    if (8..=200).contains(&password.chars().count()) { Ok(()) } else { Err(Code::PasswordInvalid.problem()) }
}
