//! Who may see whose name: whoever shares a room with somebody, and nobody else. What it costs to look that up is bounded by the rooms of whoever has
//! fewer: a stranger must not make a node walk over thousands.

use std::cell::Cell;
use std::collections::BTreeMap;

use bytes::Bytes;
use ieum_core::apply::applied;
use ieum_core::ids::{Position, UserId};
use ieum_core::kv::{self, Read};
use ieum_core::query::share_a_room;
use ieum_gateway::Cell as _;

use crate::failure::{Check, holds};
use crate::model::Model;
use crate::world::World;

/// Rows that are looked up whoever asks: the two people's, and the room of the pair.
const ALWAYS: usize = 4;

/// A look at a view that counts the rows it is asked for.
struct Counted<R> {
    look: R,
    rows: Cell<usize>,
}

impl<R: Read> Read for Counted<R> {
    fn get(&self, key: &[u8]) -> kv::Result<Option<Bytes>> {
        self.rows.set(self.rows.get() + 1);
        self.look.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: kv::Direction, visit: &mut kv::Visit<'_>) -> kv::Result<()> {
        self.look.scan(from, to, direction, &mut |key, row| {
            self.rows.set(self.rows.get() + 1);
            visit(key, row)
        })
    }
}

impl Model {
    /// In how many rooms two people are for a view at `at`, and whether in one together.
    fn rooms_of(&self, [a, b]: [u64; 2], at: Position) -> ([usize; 2], bool) {
        let of = |user| {
            let rooms = self.people.get(&user).map(|person| &person.rooms);
            let is_in = move |room: &u64| rooms.and_then(|rooms| rooms.get(room)?.at(at)).is_some_and(|is_in| *is_in);
            (rooms, is_in)
        };
        let ((of_a, a_is_in), (of_b, b_is_in)) = (of(a), of(b));
        let those = |rooms: Option<&BTreeMap<u64, _>>| rooms.map_or_else(Vec::new, |of| of.keys().copied().collect());
        let in_a: Vec<u64> = those(of_a).into_iter().filter(&a_is_in).collect();
        let in_b: Vec<u64> = those(of_b).into_iter().filter(&b_is_in).collect();
        let share = if in_a.len() < in_b.len() { in_a.iter().any(b_is_in) } else { in_b.iter().any(a_is_in) };
        ([in_a.len(), in_b.len()], share)
    }
}

impl World {
    /// Somebody asks a node for the name of somebody else.
    pub(crate) fn names_are_for_those_who_share_a_room(&mut self) -> Check {
        let (host, people) = (self.names.index(self.hosts.len()), self.people.len());
        let [a, b] =
            [self.names.index(people), self.names.index(people)].map(|of| self.people.get(of).map_or(0, |of| of.user));
        let is_told = |host: &&crate::host::Host| host.serves() && self.log.held() == Some(host.journal.era);
        let Some(host) = self.hosts.get(host).filter(is_told).filter(|_| self.losses.apart().is_none() && a != b)
        else {
            return Ok(());
        };
        let Some(node) = &host.node else { return Ok(()) };
        let counted = Counted { look: node.cell.view(), rows: Cell::new(0) };
        let at = applied(&counted.look)?.position;
        let share = share_a_room(&counted, UserId(a), UserId(b))?;
        let (rooms, due) = self.model.rooms_of([a, b], at);
        holds(share == due, || format!("node {} has it that {a} and {b} share a room: {share}", host.number()))?;
        let (fewer, more) = (rooms[0].min(rooms[1]), rooms[0].max(rooms[1]));
        let most = ALWAYS + fewer + if fewer * 8 < more { fewer } else { more };
        let rows = counted.rows.get();
        holds(rows <= most, || {
            format!("{a}, who is in {} rooms, asks for {b}, who is in {}: {rows} rows are read", rooms[0], rooms[1])
        })
    }
}
