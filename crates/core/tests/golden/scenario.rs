//! What new golden logs hold: every command, accepted and rejected for every reason.

use ieum_core::Author;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::account::{Register, SetName, SetPassword};
use ieum_core::commands::archive::{AddToArchive, Entry, OpenArchive};
use ieum_core::commands::device::{AddDevice, LogOut};
use ieum_core::commands::group::{CreateGroup, GiveRole, Invite, Leave, Remove, Rename};
use ieum_core::commands::message::{Delete, Edit, Send};
use ieum_core::commands::operate::{Activate, AddInvitation, AddNode, Configure, RemoveNode, StartNode, Tick};
use ieum_core::commands::receipt::Read;
use ieum_core::commands::room::OpenDirect;
use ieum_core::commands::{Command, LEVEL};
use ieum_core::ids::{Position, RoomId, UserId};
use ieum_core::outcome::Accepted;
use ieum_core::tables::rooms::Role;
use ieum_core::testing::{CELL, Cell, DAY, MINUTE, Person, START, batch, id, register};

const NOWHERE: RoomId = RoomId(404);
const NOBODY: UserId = UserId(404);

/// Lets somebody ask one thing after the other, whatever comes of it.
fn all<const N: usize>(cell: &mut Cell, person: Person, commands: [Command; N]) {
    for command in commands {
        let _either = cell.ask(person, command);
    }
}

fn send(room: RoomId, text: &str, reply_to: Option<u64>) -> Command {
    Send { room, text: text.to_owned(), reply_to }.into()
}

fn name(text: &str) -> Command {
    SetName { name: text.to_owned() }.into()
}

fn archive(key: u64, name: &str) -> OpenArchive {
    OpenArchive { key: id(key), name: name.to_owned() }
}

fn entry(n: u64) -> Entry {
    Entry {
        key: id(n), time: n, author: "엄마".to_owned(), kind: "text".to_owned(), text: format!("밥은 먹었니 {n}")
    }
}

/// Every command; every reason but those of [`limits`].
pub(crate) fn everything() -> Cell {
    let mut cell = Cell::found();
    nodes(&mut cell);
    let people = accounts(&mut cell);
    devices(&mut cell, people);
    groups(&mut cell, people);
    messages(&mut cell, people);
    archives(&mut cell, people);
    exactly_once(&mut cell, people);
    expiry(&mut cell, people);
    cell
}

/// One batch of node `node`, on its `number`-th.
fn from(cell: &mut Cell, node: u32, number: u64, clock: u64, command: impl Into<Command>) {
    let author = Author { node, incarnation: 3, number };
    let bytes = batch(author, clock, vec![Envelope { origin: Origin::Node, command: command.into() }]);
    cell.apply(author, bytes);
}

fn nodes(cell: &mut Cell) {
    let add = |node, dc: &str| AddNode { node, dc: dc.to_owned(), level: LEVEL, cell: CELL };
    for (node, dc) in [(2, "b"), (3, "c"), (4, "c"), (2, "b"), (5, "")] {
        let _either = cell.node(add(node, dc));
    }
    let _either = cell.node(RemoveNode { node: 4 });
    let _either = cell.node(RemoveNode { node: 1 });
    let _either = cell.node(StartNode { level: LEVEL, key_id: 77, public_key: [7; 32] });
    let _either = cell.node(Activate { level: LEVEL });
    let _either = cell.node(Activate { level: LEVEL + 1 });
    let _either = cell.node(Activate { level: 0 });
    for (number, clock) in (1..).zip([START + 10, START + 20, START + 15, START + 1_000]) {
        from(cell, 2, number, clock, Tick {});
        from(cell, 3, number, clock + 3, Tick {});
    }
    from(cell, 2, 2, START + DAY, Tick {}); // A repeat.
    from(cell, 4, 1, START + DAY, Tick {}); // No member any more.
    cell.apply(Author { node: 3, incarnation: 3, number: 5 }, b"no batch".to_vec().into());
    // From here on only data center `a` speaks: the others are silent for ten ticks.
    for _ in 0..12 {
        cell.wait(1_000);
        let _either = cell.node(Tick {});
    }
}

fn accounts(cell: &mut Cell) -> [Person; 4] {
    let people = ["minji", "dohyun", "seoyeon", "jiho"].map(|handle| cell.register(handle));
    let code = [3; 32];
    let _either = cell.node(AddInvitation { code_hash: code, uses: 1, expires_at: START + DAY });
    let _either = cell.node(AddInvitation { code_hash: code, uses: 0, expires_at: START + DAY });
    for handle in ["minji", "m", "invited.1", "invited.2"] {
        let _either = cell.anonymous(Register { invitation: Some(code), ..register(handle) });
    }
    let _either = cell.anonymous(Register { password: "p".repeat(257), ..register("long_password") });
    let change = |old: &str, new: &str| SetPassword { old: old.to_owned(), new: new.to_owned() }.into();
    let wrong = change("$other", "$argon2id$2");
    let right = change("$argon2id$1", "$argon2id$2");
    all(cell, people[0], [name("민지"), name("a\nb"), wrong, right, register("again").into(), Tick {}.into()]);
    people
}

fn devices(cell: &mut Cell, [minji, dohyun, ..]: [Person; 4]) {
    let add = |user, password: &str| AddDevice {
        user,
        password: password.to_owned(),
        secret_hash: [2; 32],
        name: "tablet".to_owned(),
    };
    let added = cell.anonymous(add(minji.user, "$argon2id$2"));
    let Ok(Accepted::DeviceAdded { device }) = added else { panic!("{added:?}") };
    let tablet = Person { device, ..minji };
    let _either = cell.anonymous(add(minji.user, "$argon2id$1"));
    let _either = cell.anonymous(add(NOBODY, ""));
    for _ in 0..20 {
        let _either = cell.anonymous(add(dohyun.user, "$argon2id$1"));
    }
    all(cell, tablet, [name("민지 at a tablet"), LogOut { device: dohyun.device }.into()]);
    all(cell, tablet, [LogOut { device }.into(), name("gone")]);
}

fn groups(cell: &mut Cell, [minji, dohyun, seoyeon, jiho]: [Person; 4]) {
    let create = |name: &str, members| CreateGroup { name: name.to_owned(), members };
    let crowd: Vec<UserId> = cell.crowd(20).iter().map(|person| person.user).collect();
    let direct = cell.direct(minji, dohyun);
    let room = cell.made(minji, create("등산", [dohyun.user, seoyeon.user].into_iter().chain(crowd).collect()));
    let invite = |users: &[UserId]| Invite { room, users: users.to_vec() }.into();
    let give = |room, user, role| GiveRole { room, user, role }.into();
    let remove = |user| Remove { room, user }.into();
    let rename = |name: &str| Rename { room, name: name.to_owned() }.into();
    all(
        cell,
        minji,
        [
            create("", vec![]).into(),
            create("x", vec![NOBODY]).into(),
            create("x", vec![jiho.user; 101]).into(),
            OpenDirect { with: dohyun.user }.into(),
            OpenDirect { with: minji.user }.into(),
            OpenDirect { with: NOBODY }.into(),
            invite(&[jiho.user, dohyun.user]),
            invite(&[jiho.user]),
            give(room, dohyun.user, Role::Manager),
            give(room, minji.user, Role::Member),
            give(direct, dohyun.user, Role::Owner),
            remove(NOBODY),
            remove(minji.user),
            rename("산행"),
        ],
    );
    all(cell, seoyeon, [rename("x"), remove(minji.user), give(room, seoyeon.user, Role::Owner), Leave { room }.into()]);
    all(cell, seoyeon, [Leave { room }.into(), invite(&[seoyeon.user])]);
    all(cell, dohyun, [remove(jiho.user), invite(&[seoyeon.user]), Leave { room: NOWHERE }.into()]);
    all(cell, minji, [give(room, seoyeon.user, Role::Owner), give(room, seoyeon.user, Role::Member)]);
    all(cell, seoyeon, [Leave { room }.into()]);
}

fn messages(cell: &mut Cell, [minji, dohyun, _, jiho]: [Person; 4]) {
    let room = cell.direct(minji, dohyun);
    let edit = |seq, text: &str| Edit { room, seq, text: text.to_owned() }.into();
    let delete = |seq| Delete { room, seq }.into();
    let read = |seq| Read { room, seq }.into();
    let long = "가".repeat(10_001);
    all(
        cell,
        minji,
        [send(room, "안녕", None), send(room, "뭐해?", Some(1)), send(room, "", None), send(room, &long, None)],
    );
    all(cell, dohyun, [read(1), read(2), read(1), read(3), send(room, "👋", Some(2)), send(room, "?", Some(9))]);
    all(cell, dohyun, [edit(1, "x"), delete(1), edit(9, "x"), edit(3, ""), edit(3, "👋👋")]);
    all(cell, minji, [delete(1), delete(1), edit(1, "x"), send(room, &long[3..], None)]);
    all(cell, jiho, [send(room, "x", None), edit(1, "x"), delete(1), read(1)]);
    cell.wait(5 * MINUTE + 1);
    all(cell, minji, [delete(2), edit(2, "뭐 해?")]);
    cell.wait(10 * MINUTE);
    all(cell, minji, [edit(2, "뭐?")]);
}

fn archives(cell: &mut Cell, [minji, dohyun, ..]: [Person; 4]) {
    let room = cell.made(minji, archive(1, "가족"));
    let add = |keys: std::ops::Range<u64>| AddToArchive { room, entries: keys.map(entry).collect() }.into();
    all(cell, minji, [archive(1, "other name").into(), archive(2, "").into(), add(0..3), add(2..5), add(0..501)]);
    all(cell, minji, [send(room, "x", None), Read { room, seq: 1 }.into(), Leave { room }.into()]);
    all(cell, dohyun, [add(7..8), archive(1, "가족").into()]);
}

fn exactly_once(cell: &mut Cell, [_, _, seoyeon, jiho]: [Person; 4]) {
    for number in 1..=70 {
        let _either = cell.numbered(jiho.device, number + 4, number, name(&format!("지호 {number}")));
    }
    for (number, tag) in [(70, 66), (70, 1), (3, 3), (99, 99), (0, 0)] {
        let _either = cell.numbered(jiho.device, number, tag, name("x"));
    }
    for (key, request) in [(1, 1), (1, 1), (1, 2), (2, 1)] {
        let _either = cell.http(seoyeon.device, key, request, name(&format!("서연 {key} {request}")));
    }
    let unknown = Command::Unknown { number: 65_000, bytes: vec![1, 2, 3].into() };
    all(cell, seoyeon, [unknown, Command::Unknown { number: 30, bytes: vec![0xff].into() }]);
    let next = Position::new(1, cell.position().ordinal + 1);
    cell.skips.insert((next, 1));
    let three = ["one", "two", "three"].map(|n| cell.envelope(seoyeon, name(n)));
    cell.batch(three.to_vec());
}

fn expiry(cell: &mut Cell, [minji, dohyun, ..]: [Person; 4]) {
    let _either = cell.node(Configure { edit_limit: DAY, delete_limit: DAY, horizon: 2 * DAY });
    let room = cell.direct(minji, dohyun);
    all(cell, minji, [Edit { room, seq: 2, text: "late".to_owned() }.into()]);
    for _ in 0..3 {
        cell.wait(20 * DAY);
        cell.batch(vec![]);
        let _either = cell.node(Tick {});
    }
    all(cell, minji, [send(room, "오랜만이야", None)]);
}

/// What is refused because there is so much already.
pub(crate) fn limits() -> Cell {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    let crowd: Vec<UserId> = cell.crowd(3_000).iter().map(|person| person.user).collect();
    let room = cell.group(minji, &[]);
    for users in crowd.chunks(100) {
        let _either = cell.ask(minji, Invite { room, users: users.to_vec() });
    }
    let _either = cell.ask(minji, Invite { room, users: crowd[2_900..2_999].to_vec() });
    for first in (0..10_000u64).step_by(1_000) {
        let open = |n, cell: &mut Cell| cell.envelope(dohyun, archive(n, "가족"));
        let commands = (first..first + 1_000).map(|n| open(n, &mut cell)).collect();
        cell.batch(commands);
    }
    all(&mut cell, minji, [OpenDirect { with: dohyun.user }.into(), Invite { room, users: vec![dohyun.user] }.into()]);
    all(&mut cell, minji, [send(room, "모두 안녕", None)]);
    cell
}
