//! What a line typed into a chat asks for.

use ieum_protocol::objects::Role;

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Nothing,
    To(&'a str),
    Room(u64),
    Rooms,
    Group(&'a str, Vec<&'a str>),
    /// Something in the room that one is in.
    Here(Here<'a>),
    Quit,
    /// `/help`, or something that is none of these.
    Help,
}

/// What is done in a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Here<'a> {
    Say(&'a str),
    Reply(u64, &'a str),
    Edit(u64, &'a str),
    Delete(u64),
    History(u32),
    Members,
    Invite(Vec<&'a str>),
    Remove(&'a str),
    Give(&'a str, Role),
    Rename(&'a str),
    Leave,
}

/// Most messages that `/history` shows.
const HISTORY: u32 = 100;

impl<'a> Line<'a> {
    /// Reads a line. A text that begins with a slash is written with two.
    pub(crate) fn read(line: &'a str) -> Self {
        let line = line.trim_end();
        if line.is_empty() {
            return Self::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else { return Self::Here(Here::Say(line)) };
        if command.starts_with('/') {
            return Self::Here(Here::Say(command));
        }
        let (word, rest) = split(command);
        Self::command(word, rest).unwrap_or(Self::Help)
    }

    fn command(word: &str, rest: &'a str) -> Option<Self> {
        let (first, more) = split(rest);
        let number = || first.trim_start_matches('#').parse::<u64>().ok();
        let text = || Some(more).filter(|text| !text.is_empty());
        let alone = more.is_empty();
        let named = Some(first).filter(|first| !first.is_empty());
        Some(match (word, rest.is_empty()) {
            ("reply", _) => Self::Here(Here::Reply(number()?, text()?)),
            ("edit", _) => Self::Here(Here::Edit(number()?, text()?)),
            ("delete", _) if alone => Self::Here(Here::Delete(number()?)),
            ("to", _) if alone => Self::To(named?),
            ("room", _) if alone => Self::Room(number()?),
            ("rooms", true) => Self::Rooms,
            ("history", true) => Self::Here(Here::History(20)),
            ("history", _) if alone => {
                Self::Here(Here::History(u32::try_from(number()?).unwrap_or(HISTORY).clamp(1, HISTORY)))
            }
            ("members", true) => Self::Here(Here::Members),
            ("group", _) => Self::Group(named?, more.split_whitespace().collect()),
            ("invite", false) => Self::Here(Here::Invite(rest.split_whitespace().collect())),
            ("remove", _) if alone => Self::Here(Here::Remove(named?)),
            ("role", _) => Self::Here(Here::Give(named?, role(more)?)),
            ("rename", false) => Self::Here(Here::Rename(rest)),
            ("leave", true) => Self::Here(Here::Leave),
            ("quit", true) => Self::Quit,
            _ => return None,
        })
    }
}

/// The first word, and what comes behind it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start())
}

fn role(word: &str) -> Option<Role> {
    match word {
        "member" => Some(Role::Member),
        "manager" => Some(Role::Manager),
        "owner" => Some(Role::Owner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_their_help_tells() {
        let cases = [
            ("", Line::Nothing),
            ("   ", Line::Nothing),
            ("안녕 ", Line::Here(Here::Say("안녕"))),
            ("//quit", Line::Here(Here::Say("/quit"))),
            ("/reply 12  그래 그래", Line::Here(Here::Reply(12, "그래 그래"))),
            ("/reply 12", Line::Help),
            ("/reply x 그래", Line::Help),
            ("/edit #3 better", Line::Here(Here::Edit(3, "better"))),
            ("/delete 3", Line::Here(Here::Delete(3))),
            ("/delete 3 4", Line::Help),
            ("/to @minji", Line::To("@minji")),
            ("/to", Line::Help),
            ("/room #7", Line::Room(7)),
            ("/room x", Line::Help),
            ("/rooms", Line::Rooms),
            ("/rooms 3", Line::Help),
            ("/history", Line::Here(Here::History(20))),
            ("/history 500", Line::Here(Here::History(100))),
            ("/history 99999999999", Line::Here(Here::History(100))),
            ("/history 0", Line::Here(Here::History(1))),
            ("/group 산악회 minji  junho", Line::Group("산악회", vec!["minji", "junho"])),
            ("/group", Line::Help),
            ("/invite minji", Line::Here(Here::Invite(vec!["minji"]))),
            ("/invite", Line::Help),
            ("/remove minji", Line::Here(Here::Remove("minji"))),
            ("/role minji manager", Line::Here(Here::Give("minji", Role::Manager))),
            ("/role minji boss", Line::Help),
            ("/rename 새 이름", Line::Here(Here::Rename("새 이름"))),
            ("/leave", Line::Here(Here::Leave)),
            ("/leave now", Line::Help),
            ("/quit", Line::Quit),
            ("/help", Line::Help),
            ("/", Line::Help),
        ];
        for (line, expected) in cases {
            assert_eq!(Line::read(line), expected, "{line:?}");
        }
    }
}
