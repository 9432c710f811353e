//! What a client must be told of an outcome.

use ieum_core::outcome::{Accepted, Outcome};
use ieum_protocol::frames::Done;

use super::Model;

impl Model {
    /// The answer to a command of a device, if it has taken effect: what it gave, or why it gave nothing.
    pub(crate) fn answer(&self, device: u64, id: u128) -> Option<Result<Done, String>> {
        let nothing = Done::default();
        Some(match self.done(device, id)? {
            Outcome::Rejected(reject) => Err(reject.code().to_owned()),
            Outcome::Accepted(accepted) => Ok(match *accepted {
                Accepted::Done | Accepted::Registered { .. } | Accepted::DeviceAdded { .. } => nothing,
                Accepted::Room { room, created } => Done { room: Some(room.0), created: Some(created), ..nothing },
                Accepted::Sent { seq, time } => Done { seq: Some(seq), time: Some(time), ..nothing },
                Accepted::Invited { added } => Done { added: Some(added), ..nothing },
                Accepted::Archived { added, known, last } => {
                    Done { added: Some(added), known: Some(known), seq: Some(last), ..nothing }
                }
            }),
        })
    }
}
