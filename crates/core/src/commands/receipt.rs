//! Receipts: how far a member has read.

use crate::codec::record;
use crate::event::News;
use crate::ids::{RoomId, Seq};
use crate::outcome::{Accepted, Reject};
use crate::scope::{Run, Scope, Step};
use crate::tables::messages::MESSAGES;
use crate::tables::rooms::{HEADS, Kind, RECEIPTS, Receipt};

/// In rooms of more members than this, receipts are read when somebody looks, not told to everybody: otherwise each message to n people
/// would become n times n events.
pub const MAX_TOLD_RECEIPTS: u32 = 100;

record! {
    /// Has read every message up to one. Reading less than before changes nothing.
    pub struct Read {
        /// Where.
        pub room: RoomId,
        /// Up to and including this one.
        pub seq: Seq,
    }
}

impl Run for Read {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        let (about, mut head, _) = scope.room_of_member(self.room, user)?;
        if matches!(about.kind, Kind::Archive { .. }) {
            return Err(Reject::WrongRoomKind.into());
        }
        let read = RECEIPTS.get(scope.view(), &(self.room, user))?.map_or(0, |r| r.seq);
        if self.seq <= read {
            return Ok(Accepted::Done);
        }
        let message = MESSAGES.get(scope.view(), &(self.room, self.seq))?.ok_or(Reject::MessageUnknown)?;
        let receipt = Receipt { seq: self.seq, counted: message.counted, at: scope.position };
        RECEIPTS.put(scope.txn, &(self.room, user), &receipt);
        head.receipt_at = scope.position;
        HEADS.put(scope.txn, &self.room, &head);
        if about.members <= MAX_TOLD_RECEIPTS {
            let audience = scope.audience(self.room, &about)?;
            scope.tell(audience, News::Receipt { room: self.room, user, seq: self.seq });
        } else {
            // The person's other devices still clear their badge.
            scope.tell(crate::event::Audience::User(user), News::Receipt { room: self.room, user, seq: self.seq });
        }
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests;
