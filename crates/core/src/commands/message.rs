//! Messages.

use crate::codec::record;
use crate::event::News;
use crate::ids::{Position, RoomId, Seq};
use crate::outcome::{Accepted, Reject};
use crate::scope::{Run, Scope, Step, check_text};
use crate::tables::messages::{Body, CHANGES, MESSAGES, Message};
use crate::tables::rooms::{HEADS, Head, Kind, Room};

record! {
    /// Says something.
    pub struct Send {
        /// Where.
        pub room: RoomId,
        /// What, 1 to 10,000 characters.
        pub text: String,
        /// In reply to which message of the room.
        pub reply_to: Option<Seq>,
    }
}

record! {
    /// Says it better. Only the sender, for a while.
    pub struct Edit {
        /// Where.
        pub room: RoomId,
        /// Which message.
        pub seq: Seq,
        /// What it says now, 1 to 10,000 characters.
        pub text: String,
    }
}

record! {
    /// Takes it back for everyone. Only the sender, for a while.
    pub struct Delete {
        /// Where.
        pub room: RoomId,
        /// Which message.
        pub seq: Seq,
    }
}

impl Run for Send {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        check_text(&self.text)?;
        let (about, mut head, member) = scope.room_of_member(self.room, user)?;
        if matches!(about.kind, Kind::Archive { .. }) {
            return Err(Reject::WrongRoomKind.into());
        }
        if let Some(seq) = self.reply_to {
            let first = member.map_or(1, |m| m.from);
            if seq < first || seq > head.last {
                return Err(Reject::MessageUnknown.into());
            }
        }
        let body = Body::Text { text: self.text.clone(), reply_to: self.reply_to };
        let seq = scope.append(self.room, &about, &mut head, user, body)?;
        Ok(Accepted::Sent { seq, time: scope.now })
    }
}

/// One of the asker's own messages, and its room.
struct Own {
    about: Room,
    head: Head,
    message: Message,
}

impl Own {
    fn of(scope: &Scope<'_, '_>, room: RoomId, seq: Seq) -> Step<Self> {
        let (user, _) = scope.person()?;
        let (about, head, member) = scope.room_of_member(room, user)?;
        if matches!(about.kind, Kind::Archive { .. }) {
            return Err(Reject::WrongRoomKind.into());
        }
        let visible = seq >= member.map_or(1, |m| m.from);
        let message = MESSAGES.get(scope.view(), &(room, seq))?.filter(|_| visible).ok_or(Reject::MessageUnknown)?;
        match message.body {
            Body::Deleted => Err(Reject::MessageDeleted.into()),
            Body::Text { .. } if message.from == user => Ok(Self { about, head, message }),
            Body::Text { .. } | Body::System(_) | Body::Archived { .. } => Err(Reject::NotAllowed.into()),
        }
    }

    /// Writes the message as it is now, with its place in the change index, and tells the room.
    fn change(mut self, scope: &mut Scope<'_, '_>, room: RoomId, seq: Seq) -> Step<()> {
        let at: Position = scope.position;
        self.head.change_at = at;
        HEADS.put(scope.txn, &room, &self.head);
        MESSAGES.put(scope.txn, &(room, seq), &self.message);
        let change = (room, at, seq);
        CHANGES.put(scope.txn, &change, &true);
        let until = scope.now.saturating_add(scope.settings.horizon);
        scope.expire(until, CHANGES.key(&change), Some(at));
        let audience = scope.audience_of(room, &self.about, seq)?;
        scope.tell(audience, News::Changed { room, seq, message: self.message });
        Ok(())
    }
}

impl Run for Edit {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        check_text(&self.text)?;
        let mut own = Own::of(scope, self.room, self.seq)?;
        if scope.now.saturating_sub(own.message.time) > scope.settings.edit_limit {
            return Err(Reject::EditTooLate.into());
        }
        if let Body::Text { text, .. } = &mut own.message.body {
            text.clone_from(&self.text);
        }
        own.message.edited_at = Some(scope.now);
        own.change(scope, self.room, self.seq)?;
        Ok(Accepted::Done)
    }
}

impl Run for Delete {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let mut own = Own::of(scope, self.room, self.seq)?;
        if scope.now.saturating_sub(own.message.time) > scope.settings.delete_limit {
            return Err(Reject::DeleteTooLate.into());
        }
        own.message.body = Body::Deleted;
        own.change(scope, self.room, self.seq)?;
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests;
