//! A model of a cell with the exactly-once rules, and any schedule of losses, refusals, restarts and restores against it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// What the cell knows of the device.
#[derive(Debug, Clone, Default)]
struct Cell {
    generation: u64,
    ordinal: u64,
    last: u64,
    /// The last 64: number, id, whether it was accepted.
    recorded: BTreeMap<u64, (String, bool)>,
    /// The texts that took effect, each with the number that it had.
    effects: Vec<(u64, String)>,
}

impl Cell {
    fn pos(&self) -> String {
        format!("{}.{}", self.generation, self.ordinal)
    }

    fn answer(&mut self, cmd: &Cmd) -> ServerFrame {
        if cmd.n > self.last + 1 {
            return ServerFrame::Refused { n: cmd.n, pos: "1.1".to_owned(), error: Code::OutOfOrder.problem() };
        }
        if cmd.n == self.last + 1 {
            self.apply(cmd);
        }
        let error = match self.recorded.get(&cmd.n) {
            None => Some(Code::TooOld.problem()),
            Some((id, _)) if *id != cmd.id => Some(Code::NumberReused.problem()),
            Some((_, true)) => None,
            Some((_, false)) => Some(Code::RoomUnknown.problem()),
        };
        let ok = error.is_none().then(Done::default);
        ServerFrame::Ack(Ack { n: cmd.n, pos: self.pos(), ok, error })
    }

    fn apply(&mut self, cmd: &Cmd) {
        let text = text_of(&cmd.change);
        let accepted = !text.starts_with("bad");
        self.last = cmd.n;
        self.ordinal += 1;
        if accepted {
            self.effects.push((cmd.n, text));
        }
        self.recorded.insert(cmd.n, (cmd.id.clone(), accepted));
        while self.recorded.len() > 64 {
            self.recorded.pop_first();
        }
    }

    /// The log is restored to where it knew numbers up to `n`.
    fn restore(&mut self, n: u64) {
        self.generation += 1;
        self.ordinal = 1;
        self.last = self.last.min(n);
        let last = self.last;
        self.effects.retain(|(number, _)| *number <= last);
        self.recorded.retain(|number, _| *number <= last);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Submit { count: u8, bad: bool },
    ToServer(u8),
    ToClient(u8),
    Refuse(u8),
    Lose { served: u8 },
    Reconnect,
    Restart,
    PowerCut,
    Restore { lost: u8 },
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20_u8, prop::bool::weighted(0.1)).prop_map(|(count, bad)| Step::Submit { count, bad }),
        6 => (1..40_u8).prop_map(Step::ToServer),
        6 => (1..40_u8).prop_map(Step::ToClient),
        2 => (1..5_u8).prop_map(Step::Refuse),
        2 => (0..10_u8).prop_map(|served| Step::Lose { served }),
        6 => Just(Step::Reconnect),
        1 => Just(Step::Restart),
        1 => Just(Step::PowerCut),
        1 => (0..30_u8).prop_map(|lost| Step::Restore { lost }),
        4 => (0..3_000_u16).prop_map(Step::Wait),
    ]
}

struct World {
    cell: Cell,
    driver: Driver,
    to_server: VecDeque<Cmd>,
    to_client: VecDeque<ServerFrame>,
    /// So many commands are refused as busy.
    refusing: u8,
    submitted: Vec<String>,
    ids: BTreeMap<CommandId, bool>,
    answered: BTreeSet<CommandId>,
}

impl World {
    fn new() -> Self {
        Self {
            cell: Cell { generation: 1, ordinal: 1, ..Cell::default() },
            driver: Driver::new(&["ws://a:1", "ws://b:1"]),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            refusing: 0,
            submitted: Vec::new(),
            ids: BTreeMap::new(),
            answered: BTreeSet::new(),
        }
    }

    fn is_up(&self) -> bool {
        matches!(self.driver.machine.link, Link::Up(_))
    }

    fn gather(&mut self) {
        let cmds = self.driver.cmds();
        if self.is_up() {
            self.to_server.extend(cmds);
        } else {
            self.to_server.clear();
            self.to_client.clear();
        }
        assert!(self.to_server.len() + self.to_client.len() <= 64, "more than 64 under way");
        for (id, result, _) in self.driver.outcomes() {
            let accepted = self.ids[&id];
            assert!(result.is_ok() == accepted || result == Err(Failure::TooOld), "{result:?}");
            self.answered.insert(id);
        }
    }

    fn submit(&mut self, bad: bool) {
        let text = format!("{}{}", if bad { "bad" } else { "m" }, self.ids.len());
        let id = self.driver.submit(&text);
        self.ids.insert(id, !bad);
        if !bad {
            self.submitted.push(text);
        }
    }

    fn serve(&mut self) {
        let Some(cmd) = self.to_server.pop_front() else { return };
        let answer = if self.refusing > 0 && cmd.n == self.cell.last + 1 {
            self.refusing -= 1;
            ServerFrame::Refused { n: cmd.n, pos: "1.1".to_owned(), error: Code::Busy.problem() }
        } else {
            self.cell.answer(&cmd)
        };
        self.to_client.push_back(answer);
    }

    fn tell(&mut self) {
        if let Some(frame) = self.to_client.pop_front() {
            self.driver.frame(&frame);
            self.gather();
        }
    }

    fn wait(&mut self, ms: u64) {
        // The server is alive: what is awaited is heard.
        for _ in 0..=ms / 500 {
            if self.is_up() {
                let pos = self.cell.pos();
                self.driver.frame(&ServerFrame::Pong { id: 1, pos });
            }
            self.driver.run(ms.min(500));
            self.gather();
        }
    }

    fn reconnect(&mut self) {
        for _ in 0..20 {
            if self.is_up() {
                return;
            }
            if !matches!(self.driver.machine.link, Link::Trying) {
                self.driver.until_connect();
            }
            self.to_server.clear();
            self.to_client.clear();
            self.driver.connected();
            let (last, pos) = (self.cell.last, self.cell.pos());
            self.driver.welcome(last, &pos);
            self.driver.frame(&ServerFrame::CaughtUp { pos });
            self.gather();
        }
        panic!("the client does not accept the server: {:?}", self.driver.machine.link);
    }

    fn lose(&mut self) {
        self.driver.lose_connection();
        self.gather();
    }

    fn restart(&mut self, power_cut: bool) {
        self.gather();
        let driver = std::mem::replace(&mut self.driver, Driver::new(&["ws://a:1"]));
        self.driver = if power_cut { driver.power_cut() } else { driver.restart() };
        self.gather();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Submit { count, bad } => (0..count).for_each(|_| self.submit(bad)),
            Step::ToServer(count) => (0..count).for_each(|_| self.serve()),
            Step::ToClient(count) => (0..count).for_each(|_| self.tell()),
            Step::Refuse(count) => self.refusing = count,
            Step::Lose { served } => {
                (0..served).for_each(|_| self.serve());
                self.lose();
            }
            Step::Reconnect => self.reconnect(),
            Step::Restart => self.restart(false),
            Step::PowerCut => self.restart(true),
            Step::Restore { lost } => {
                self.lose();
                self.cell.restore(self.cell.last.saturating_sub(lost.into()));
            }
            Step::Wait(ms) => self.wait(ms.into()),
        }
        self.gather();
    }

    fn heal(&mut self) {
        self.refusing = 0;
        for _ in 0..2_000 {
            self.reconnect();
            if self.driver.machine.outbox.commands().next().is_none() && self.to_server.is_empty() {
                return;
            }
            for _ in 0..64 {
                self.serve();
            }
            for _ in 0..64 {
                self.tell();
            }
            self.wait(100);
        }
        panic!("the outbox does not become empty: {:?}", self.driver.machine.outbox);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_command_takes_effect_exactly_once_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.heal();
        let effects: Vec<String> = world.cell.effects.iter().map(|(_, text)| text.clone()).collect();
        prop_assert_eq!(effects, world.submitted);
        let unanswered: Vec<_> = world.ids.keys().filter(|id| !world.answered.contains(id)).collect();
        prop_assert!(unanswered.is_empty(), "{unanswered:?}");
    }
}
