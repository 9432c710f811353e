//! What people and rooms are called, and messages as lines.

use std::collections::HashMap;

use ieum_client::Http;
use ieum_protocol::objects::{Message, Role, Room, System};

use crate::clock;
use crate::text::{label, plain};
use crate::words::words;

/// What people are called.
pub(crate) struct Names {
    http: Http,
    known: HashMap<u64, String>,
}

impl Names {
    pub(crate) fn new(http: Http) -> Self {
        Self { http, known: HashMap::new() }
    }

    /// What somebody is called, as far as it is known already.
    pub(crate) fn if_known(&self, user: u64) -> String {
        self.known.get(&user).cloned().unwrap_or_else(|| unnamed(user))
    }

    pub(crate) async fn of(&mut self, user: u64) -> String {
        if let Some(name) = self.known.get(&user) {
            return name.clone();
        }
        match self.http.user(user).await {
            Ok(person) => {
                let name = label(&person.name);
                self.known.insert(user, name.clone());
                name
            }
            Err(_) => unnamed(user),
        }
    }

    /// A message as a line: when, which of which room, who, what.
    pub(crate) async fn line(&mut self, room: u64, message: &Message) -> String {
        let head = format!("{} #{room}/{}", clock::time(message.time), message.seq);
        if let Some(archived) = &message.archived {
            return format!("{head} {}: {}", label(&archived.author), plain(&archived.text));
        }
        let name = self.of(message.from).await;
        if let Some(system) = &message.system {
            return format!("{head} * {}", self.deed(&name, system).await);
        }
        let reply = message.reply_to.map(|seq| format!("(↪ {seq}) ")).unwrap_or_default();
        let text = match &message.text {
            Some(text) => plain(text),
            None if message.deleted => words!("(deleted)", "(삭제된 메시지)"),
            None => words!("(this version cannot show it)", "(이 버전에서는 볼 수 없는 메시지)"),
        };
        format!("{head} {name}: {reply}{text}")
    }

    async fn deed(&mut self, name: &str, system: &System) -> String {
        match system {
            System::Created => words!("{name} made the room", "{name}님이 방을 만들었습니다"),
            System::Invited { users } => {
                let mut names = Vec::with_capacity(users.len());
                for user in users {
                    names.push(self.of(*user).await);
                }
                let names = names.join(", ");
                words!("{name} invited {names}", "{name}님이 {names}님을 초대했습니다")
            }
            System::Left => words!("{name} left", "{name}님이 나갔습니다"),
            System::Removed { user } => {
                let removed = self.of(*user).await;
                words!("{name} removed {removed}", "{name}님이 {removed}님을 내보냈습니다")
            }
            System::Renamed { name: new } => {
                let new = label(new);
                words!("{name} renamed the room to {new}", "{name}님이 방 이름을 {new}(으)로 바꾸었습니다")
            }
            System::RoleGiven { user, role } => {
                let to = self.of(*user).await;
                let role = match role {
                    Role::Member => words!("a member", "참여자"),
                    Role::Manager => words!("a manager", "관리자"),
                    Role::Owner => words!("the owner", "방장"),
                };
                words!("{name} made {to} {role}", "{name}님이 {to}님을 {role}(으)로 정했습니다")
            }
        }
    }
}

fn unnamed(user: u64) -> String {
    words!("user {user}", "사용자 {user}")
}

/// A room's name, for people.
pub(crate) fn title(room: &Room) -> String {
    match &room.peer {
        Some(peer) => format!("{} (@{})", label(&peer.name), label(&peer.handle)),
        None => label(&room.name),
    }
}

#[cfg(test)]
mod tests {
    use ieum_client::Trust;

    use super::*;

    #[test]
    fn a_name_that_is_not_known_is_not_asked_for() {
        // There is no runtime to ask on.
        let mut names = Names::new(Http::new(Vec::new(), Trust::web()));
        names.known.insert(1, "민지".to_owned());
        assert_eq!((names.if_known(1), names.if_known(2)), ("민지".to_owned(), unnamed(2)));
    }
}
