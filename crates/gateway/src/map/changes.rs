//! Changes to commands.

use data_encoding::HEXLOWER;
use ieum_core::commands::{Command, account, archive, device, group, message, receipt, room};
use ieum_core::ids::{DeviceId, RoomId, UserId};
use ieum_core::tables::rooms::Role;
use ieum_protocol::frames::{ArchiveEntry, Change};
use ieum_protocol::objects;

/// A text that is no id or key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id or key is 32 lowercase hexadecimal digits")]
pub struct NoId;

/// 16 bytes written as 32 lowercase hexadecimal digits.
pub fn hex16(text: &str) -> Result<[u8; 16], NoId> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(NoId)
}

/// The command that `change` asks for. What is wrong with it beyond its shape is the cell's to say, so that the command's number is
/// used up and those behind it can go on.
pub fn command(change: Change) -> Result<Command, NoId> {
    Ok(match change {
        Change::Send { room, text, reply_to } => {
            message::Send { room: RoomId(room), text: worded(text), reply_to }.into()
        }
        Change::Edit { room, seq, text } => message::Edit { room: RoomId(room), seq, text: worded(text) }.into(),
        Change::Delete { room, seq } => message::Delete { room: RoomId(room), seq }.into(),
        Change::Read { room, seq } => receipt::Read { room: RoomId(room), seq }.into(),
        Change::OpenDirect { handle } => room::OpenDirect { with: bounded(handle) }.into(),
        Change::CreateGroup { name, handles } => {
            group::CreateGroup { name: tidy(&name), members: people(handles) }.into()
        }
        Change::Invite { room, handles } => group::Invite { room: RoomId(room), users: people(handles) }.into(),
        Change::Leave { room } => group::Leave { room: RoomId(room) }.into(),
        Change::Remove { room, user } => group::Remove { room: RoomId(room), user: UserId(user) }.into(),
        Change::Rename { room, name } => group::Rename { room: RoomId(room), name: tidy(&name) }.into(),
        Change::GiveRole { room, user, role: given } => {
            group::GiveRole { room: RoomId(room), user: UserId(user), role: role(given) }.into()
        }
        Change::SetName { name } => account::SetName { name: tidy(&name) }.into(),
        Change::LogOut { device } => device::LogOut { device: DeviceId(device) }.into(),
        Change::OpenArchive { key, name } => archive::OpenArchive { key: hex16(&key)?, name: tidy(&name) }.into(),
        Change::AddToArchive { room, entries } => {
            let entries = entries.into_iter().map(entry).collect::<Result<_, _>>()?;
            archive::AddToArchive { room: RoomId(room), entries }.into()
        }
    })
}

/// A name without white space around it. Done here, because what counts as white space is a table that may change.
pub fn tidy(name: &str) -> String {
    name.trim().to_owned()
}

/// A message of nothing but white space is an empty one, which the cell rejects.
fn worded(text: String) -> String {
    if text.trim().is_empty() { String::new() } else { text }
}

/// The people named; of far too many, just as many as the cell rejects.
fn people(handles: Vec<String>) -> Vec<String> {
    handles.into_iter().take(ieum_core::scope::MAX_PEOPLE + 1).map(bounded).collect()
}

/// A handle; of one that is far too long, just as much as makes it nobody's to the cell, so that the log does not keep the rest.
fn bounded(handle: String) -> String {
    if handle.len() <= account::MAX_HANDLE {
        return handle;
    }
    // Each character is at least a byte, so this many are too long for a handle whatever they are.
    handle.chars().take(account::MAX_HANDLE + 1).collect()
}

fn entry(entry: ArchiveEntry) -> Result<archive::Entry, NoId> {
    let ArchiveEntry { key, time, author, kind, text } = entry;
    Ok(archive::Entry { key: hex16(&key)?, time, author, kind, text })
}

fn role(role: objects::Role) -> Role {
    match role {
        objects::Role::Member => Role::Member,
        objects::Role::Manager => Role::Manager,
        objects::Role::Owner => Role::Owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_too_much_the_log_keeps_no_more_than_the_cell_rejects() {
        let open = |handle: &str| match command(Change::OpenDirect { handle: handle.to_owned() }) {
            Ok(Command::OpenDirect(open)) => open.with,
            other => panic!("{other:?}"),
        };
        let longest = "a".repeat(account::MAX_HANDLE);
        assert_eq!(open(&longest), longest);
        assert_eq!(open(&"a".repeat(200_000)).len(), account::MAX_HANDLE + 1);
        assert_eq!(open(&"가".repeat(100_000)).chars().count(), account::MAX_HANDLE + 1);
        assert_eq!(open(" Min ji\0"), " Min ji\0", "what is nobody's is the cell's to say");
        let many = Change::Invite { room: 1, handles: vec!["a".repeat(200); 10_000] };
        let Ok(Command::Invite(invite)) = command(many) else { panic!("an invitation") };
        assert_eq!(invite.users.len(), ieum_core::scope::MAX_PEOPLE + 1);
    }
}
