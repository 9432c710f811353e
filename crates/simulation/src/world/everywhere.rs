//! Somebody who is in about as many rooms as others may bring one into: in one life of sixty. No device of theirs is there to be told of them.

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::{account, group};
use ieum_core::ids::DeviceId;
use ieum_core::outcome::{Accepted, Outcome};

use super::World;
use crate::failure::{Check, broken, holds};
use crate::workload::Somebody;

/// Others bring one into rooms as long as one is in fewer.
const BY_OTHERS: u64 = 8_000;
/// So many rooms are asked for at once.
const AT_ONCE: u64 = 100;

/// Whether somebody is everywhere in the life of this seed.
pub(super) fn somebody_is(seed: u64) -> bool {
    seed % 60 == 22
}

impl World {
    /// Somebody makes nearly as many rooms.
    pub(super) fn somebody_is_everywhere(&mut self) -> Check {
        let (key, request, secret_hash) = (self.wishes.bytes(), self.wishes.bytes(), self.wishes.bytes());
        let (handle, password) = ("everywhere".to_owned(), String::new());
        let register = account::Register {
            handle: handle.clone(),
            name: "Everywhere".to_owned(),
            password: password.clone(),
            secret_hash,
            device_name: "far away".to_owned(),
            invitation: None,
        };
        let outcome = self.submit(Origin::Anonymous { key, request }, register.into())?;
        let Outcome::Accepted(Accepted::Registered { user, device }) = outcome else {
            return broken(format!("nobody can be everywhere: {outcome:?}"));
        };
        self.people.push(Somebody::new(user.0, handle, password));
        let mut left = BY_OTHERS - self.wishes.between(0, 20);
        while left > 0 {
            let now = left.min(AT_ONCE);
            self.makes_rooms(device, now)?;
            left -= now;
        }
        Ok(())
    }

    fn makes_rooms(&mut self, device: DeviceId, count: u64) -> Check {
        let wishes = &mut self.wishes;
        let mut make = || {
            let origin = Origin::Http { device, key: wishes.bytes(), request: wishes.bytes() };
            let command = group::CreateGroup { name: "a room".to_owned(), members: Vec::new() }.into();
            Envelope { origin, command }
        };
        let all: Vec<Envelope> = (0..count).map(|_| make()).collect();
        let outcomes = self.submit_all(0, all)?;
        let are_made = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Accepted(_)));
        holds(are_made, || format!("a room is not made: {outcomes:?}"))
    }
}
