//! What new golden logs hold: every command, accepted and rejected for every reason.

use ieum_core::Author;
use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::account::{Register, SetName, SetPassword};
use ieum_core::commands::archive::{AddToArchive, Entry, OpenArchive};
use ieum_core::commands::device::{AddDevice, LogOut};
use ieum_core::commands::group::{CreateGroup, CreateGroupById, GiveRole, Invite, InviteById, Leave, Remove, Rename};
use ieum_core::commands::message::{Delete, Edit, Send};
use ieum_core::commands::operate::{Activate, AddInvitation, AddNode, Configure, RemoveNode, StartNode, Tick};
use ieum_core::commands::receipt::Read;
use ieum_core::commands::room::{OpenDirect, OpenDirectById};
use ieum_core::commands::{Command, LEVEL};
use ieum_core::ids::{Position, RoomId, UserId};
use ieum_core::outcome::Accepted;
use ieum_core::tables::rooms::Role;
use ieum_core::testing::{CELL, Cell, DAY, MINUTE, Person, START, batch, id, register};

const NOWHERE: RoomId = RoomId(404);
const NOBODY: UserId = UserId(404);
const NO_HANDLE: &str = "nobody";

/// Lets somebody ask one thing after the other, whatever comes of it.
fn all<const N: usize>(cell: &mut Cell, person: Person, commands: [Command; N]) {
    for command in commands {
        let _either = cell.ask(person, command);
    }
}

fn owned(handles: &[&str]) -> Vec<String> {
    handles.iter().map(|handle| (*handle).to_owned()).collect()
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
    let crowd = cell.crowd(20);
    let direct = cell.direct(minji, dohyun);
    let members = [dohyun, seoyeon].into_iter().chain(crowd).collect::<Vec<_>>();
    let room = cell.made(minji, create("등산", cell.handles(&members)));
    let invite = |users: &[&str]| Invite { room, users: owned(users) }.into();
    let open = |with: &str| OpenDirect { with: with.to_owned() }.into();
    let give = |room, user, role| GiveRole { room, user, role }.into();
    let remove = |user| Remove { room, user }.into();
    let rename = |name: &str| Rename { room, name: name.to_owned() }.into();
    all(
        cell,
        minji,
        [
            create("", vec![]).into(),
            create("x", owned(&[NO_HANDLE])).into(),
            create("x", owned(&["jiho"; 101])).into(),
            open("dohyun"),
            open("minji"),
            open(NO_HANDLE),
            open("No handle."),
            invite(&["jiho", "dohyun"]),
            invite(&["jiho"]),
            give(room, dohyun.user, Role::Manager),
            give(room, minji.user, Role::Member),
            give(direct, dohyun.user, Role::Owner),
            remove(NOBODY),
            remove(minji.user),
            rename("산행"),
        ],
    );
    all(cell, seoyeon, [rename("x"), remove(minji.user), give(room, seoyeon.user, Role::Owner), Leave { room }.into()]);
    all(cell, seoyeon, [Leave { room }.into(), invite(&["seoyeon"])]);
    all(cell, dohyun, [remove(jiho.user), invite(&["seoyeon"]), Leave { room: NOWHERE }.into()]);
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
    let crowd = cell.crowd(3_000);
    let room = cell.group(minji, &[]);
    for people in crowd.chunks(100) {
        let _either = cell.ask(minji, cell.invite(room, people));
    }
    let _either = cell.ask(minji, cell.invite(room, &crowd[2_900..2_999]));
    let archives = |cell: &mut Cell, keys: std::ops::Range<u64>| {
        let commands = keys.map(|key| cell.envelope(dohyun, archive(key, "가족"))).collect();
        cell.batch(commands);
    };
    let open = |cell: &Cell, with| OpenDirect { with: cell.handle(with) };
    // So many that others bring one into no more.
    for first in (0..8_000).step_by(1_000) {
        archives(&mut cell, first..first + 1_000);
    }
    let [direct, full, other] =
        [open(&cell, dohyun).into(), cell.invite(room, &[dohyun]).into(), Leave { room }.into()];
    all(&mut cell, minji, [direct, full]);
    for person in &crowd[..2] {
        all(&mut cell, *person, [other.clone()]);
    }
    let [alone, passed_over] = [&[dohyun][..], &[dohyun, crowd[0]]].map(|people| cell.invite(room, people).into());
    all(&mut cell, minji, [alone, passed_over]);
    // So many that one opens no more oneself.
    let create = CreateGroup { name: "가족".to_owned(), members: cell.handles(&[minji]) };
    let own = [open(&cell, minji).into(), create.clone().into()];
    all(&mut cell, dohyun, own);
    for first in (8_002..10_002).step_by(500) {
        archives(&mut cell, first..first + 500);
    }
    let own = [open(&cell, crowd[0]).into(), create.into()];
    all(&mut cell, dohyun, own);
    let found = open(&cell, dohyun).into();
    all(&mut cell, minji, [found, send(room, "모두 안녕", None)]);
    cell
}

/// A cell that was founded by the first build and is brought to level 2 in the middle of a batch.
pub(crate) fn levels() -> Cell {
    let mut cell = Cell::found_at(1);
    let _either = cell.node(AddNode { node: 2, dc: "b".to_owned(), level: 1, cell: CELL });
    let people = ["minji", "dohyun", "seoyeon", "jiho"].map(|handle| cell.register(handle));
    let [minji, dohyun, seoyeon, _] = people;
    let group = by_id(&mut cell, people);
    by_handle(&mut cell, people, group);
    let start = |key_id| StartNode { level: 2, key_id, public_key: [7; 32] };
    let _either = cell.node(Activate { level: 2 });
    let _either = cell.node(start(77));
    let _either = cell.node(Activate { level: 2 });
    from(&mut cell, 2, 1, START, start(78));
    let level_2 = Envelope { origin: Origin::Node, command: Activate { level: 2 }.into() };
    let batch = vec![
        cell.envelope(dohyun, OpenDirectById { with: seoyeon.user }),
        cell.envelope(dohyun, OpenDirect { with: "jiho".to_owned() }),
        level_2,
        cell.envelope(dohyun, OpenDirectById { with: people[3].user }),
        cell.envelope(dohyun, OpenDirect { with: "jiho".to_owned() }),
    ];
    let again = batch[0].clone();
    cell.batch(batch);
    cell.batch(vec![again]);
    let _either = cell.node(Activate { level: 1 });
    let _either = cell.node(AddNode { node: 3, dc: "b".to_owned(), level: 1, cell: CELL });
    by_id(&mut cell, people);
    by_handle(&mut cell, people, group);
    all(&mut cell, minji, [send(group, "안녕", None)]);
    cell
}

/// People named as level 1 names them.
fn by_id(cell: &mut Cell, [minji, dohyun, seoyeon, jiho]: [Person; 4]) -> RoomId {
    let open = |with| OpenDirectById { with }.into();
    let create = |name: &str, members: &[UserId]| CreateGroupById { name: name.to_owned(), members: members.to_vec() };
    all(cell, minji, [open(dohyun.user), open(dohyun.user), open(minji.user), open(NOBODY)]);
    let made = cell.ask(minji, create("등산", &[dohyun.user, dohyun.user, minji.user]));
    let room = if let Ok(Accepted::Room { room, .. }) = made { room } else { NOWHERE };
    let invite = |users: &[UserId]| InviteById { room, users: users.to_vec() }.into();
    all(
        cell,
        minji,
        [
            create("", &[]).into(),
            create("x", &[NOBODY]).into(),
            create("x", &[jiho.user; 101]).into(),
            invite(&[seoyeon.user, dohyun.user]),
            invite(&[seoyeon.user]),
            invite(&[NOBODY]),
            invite(&[jiho.user; 101]),
        ],
    );
    all(cell, jiho, [invite(&[jiho.user])]);
    room
}

/// People named as level 2 names them.
fn by_handle(cell: &mut Cell, [minji, _, _, jiho]: [Person; 4], group: RoomId) {
    let open = |with: &str| OpenDirect { with: with.to_owned() }.into();
    let create = |name: &str, members: &[&str]| CreateGroup { name: name.to_owned(), members: owned(members) }.into();
    let invite = |users: &[&str]| Invite { room: group, users: owned(users) }.into();
    all(cell, minji, [open("dohyun"), open("jiho"), open("minji"), open(NO_HANDLE), open(""), open("Jiho")]);
    all(
        cell,
        minji,
        [
            create("산책", &["jiho", "jiho", "minji"]),
            create("", &[]),
            create("x", &["jiho", NO_HANDLE]),
            create("x", &["jiho"; 101]),
            invite(&["jiho", "dohyun"]),
            invite(&["jiho"]),
            invite(&["a\0b"]),
            invite(&["jiho"; 101]),
        ],
    );
    all(cell, jiho, [invite(&["jiho"])]);
}
