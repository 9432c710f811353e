//! A device: its disk, and the process of its client and its app.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use ieum_client::machine::{Limits, Line, Machine, Moment, Output, Settings, Timing};
use ieum_client::store::{Saved, Unsynced};
use ieum_client::{CommandId, Delivery, State, Stop};
use ieum_protocol::frames::Change;

use crate::checker::{Watch, Wires, position};
use crate::copy::Copy;
use crate::failure::{Broken, Check, broken, holds};
use crate::history::History;
use crate::host::{endpoint, index_of};
use crate::model::Model;
use crate::network::Link;
use crate::random::Random;

/// A device.
pub(crate) struct Device {
    pub(crate) index: usize,
    pub(crate) user: u64,
    pub(crate) handle: String,
    pub(crate) id: u64,
    pub(crate) secret: String,
    /// Where its owner heard that it was added.
    added: ieum_core::ids::Position,
    /// What its store holds, and what a power cut leaves of it.
    saved: Saved,
    durable: Saved,
    unsynced: Unsynced,
    /// The endpoints that it was installed with; the cell tells it others.
    knows: Vec<usize>,
    /// Whether the app keeps a durable copy of its own, and what that holds.
    keeps: bool,
    kept: Rc<Copy>,
    durable_kept: Rc<Copy>,
    /// An old copy of what its disk held.
    backup: Option<(Saved, Rc<Copy>)>,
    /// Nothing more can be written to its disk, or could since the process began.
    full: bool,
    was_full: bool,
    /// The client has stopped because of its store.
    by_store: bool,
    pub(crate) process: Option<Process>,
    /// Counts processes, so that what was meant for an earlier one is told apart.
    pub(crate) processes: u64,
    /// Has no network.
    pub(crate) offline: bool,
    /// Somebody logs it out.
    pub(crate) logged_out: bool,
    /// It has gone on from an old copy of its disk, so its numbers may have been another command's.
    pub(crate) restored: bool,
    pub(crate) met: Met,
}

/// What a device has met, counted to show that the life was no idle one.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Met {
    pub(crate) sessions: u64,
    pub(crate) resyncs: u64,
    pub(crate) refused: u64,
    pub(crate) slow: u64,
    pub(crate) silent: u64,
    pub(crate) starts: u64,
    pub(crate) typing: u64,
}

/// A client's process.
pub(crate) struct Process {
    pub(crate) machine: Machine,
    pub(crate) copy: Copy,
    pub(crate) watch: Watch,
    pub(crate) wires: Wires,
    /// How long the frame is that has come last, and how often a part of the log had been lost when its connection was made.
    pub(crate) bytes: usize,
    pub(crate) age: usize,
    /// Its connections, by the number that its machine gave each, and the attempts at one, which have none yet.
    pub(crate) lines: BTreeMap<Line, Option<Link>>,
    /// On which hello was said last.
    pub(crate) hello: Option<Line>,
    /// When the timer fires that was set last.
    pub(crate) armed: Option<u64>,
    /// The app does not keep up.
    pub(crate) deaf: bool,
    pub(crate) live: bool,
    pub(crate) stopped: bool,
}

/// What a client asks of the network.
pub(crate) enum Wish {
    Connect(Line, usize),
    Send(Line, Bytes),
    Close(Line),
}

impl Device {
    pub(crate) fn new(
        index: usize,
        (user, handle): (u64, String),
        (id, secret, added): (u64, String, ieum_core::ids::Position),
        knows: Vec<usize>,
        keeps: bool,
    ) -> Self {
        Self {
            index,
            user,
            handle,
            id,
            secret,
            added,
            saved: Saved::default(),
            durable: Saved::default(),
            unsynced: Unsynced::default(),
            knows,
            keeps,
            kept: Rc::new(Copy::of(user)),
            durable_kept: Rc::new(Copy::of(user)),
            backup: None,
            full: false,
            was_full: false,
            by_store: false,
            process: None,
            processes: 0,
            offline: false,
            logged_out: false,
            restored: false,
            met: Met::default(),
        }
    }

    /// Starts the client over what its disk holds.
    pub(crate) fn start(&mut self, foreground: bool, moment: Moment) {
        let settings = Settings {
            device: self.id,
            secret: self.secret.clone(),
            client: None,
            endpoints: self.knows.iter().filter_map(|at| endpoint(*at).parse().ok()).collect(),
            home: self.knows.first().filter(|_| self.index.is_multiple_of(2)).and_then(|at| endpoint(*at).parse().ok()),
            foreground,
            timing: Timing::default(),
            limits: Limits::default(),
        };
        (self.was_full, self.by_store) = (self.full, false);
        self.processes += 1;
        self.met.starts += 1;
        self.process = Some(Process {
            machine: Machine::new(
                settings,
                self.saved.clone(),
                Some(ieum_client::Position::read(&self.added.to_string())),
                moment,
            ),
            copy: if self.keeps { Copy::clone(&self.kept) } else { Copy::of(self.user) },
            watch: Watch::default(),
            wires: Wires::new(foreground, moment.now),
            bytes: 0,
            age: usize::MAX,
            lines: BTreeMap::new(),
            hello: None,
            armed: None,
            deaf: false,
            live: false,
            stopped: false,
        });
    }

    /// The process is killed; with the power what was not fsynced is gone too.
    pub(crate) fn kill(&mut self, power_cut: bool) -> Vec<Link> {
        if power_cut {
            (self.saved, self.kept) = (self.durable.clone(), Rc::clone(&self.durable_kept));
        } else {
            self.persist();
        }
        self.unsynced = Unsynced::default();
        self.process.take().map(|process| process.lines.into_values().flatten().collect()).unwrap_or_default()
    }

    /// What its disk holds now is what a power cut leaves.
    fn persist(&mut self) {
        (self.durable, self.durable_kept) = (self.saved.clone(), Rc::clone(&self.kept));
    }

    /// Somebody copies its disk away. Not before its first session: what it asks until then has no numbers yet, and to go on from that copy
    /// would ask it once more under others.
    pub(crate) fn back_up(&mut self) {
        if self.saved.last.is_some() {
            self.backup = Some((self.saved.clone(), Rc::clone(&self.kept)));
        }
    }

    pub(crate) fn has_backup(&self) -> bool {
        self.backup.is_some()
    }

    /// Nothing more can be written to its disk.
    pub(crate) fn fills_up(&mut self) {
        (self.full, self.was_full) = (true, true);
    }

    /// Its disk takes something again; true where the client has stopped because it did not.
    pub(crate) fn has_room(&mut self) -> bool {
        self.full = false;
        self.by_store && self.process.is_some()
    }

    /// Its disk is what it was when it was copied away, if it was.
    pub(crate) fn restore(&mut self) {
        if let Some(backup) = self.backup.take() {
            (self.saved, self.kept, self.restored) = (backup.0, backup.1, true);
            self.persist();
        }
    }

    /// How many commands its store holds that are not answered.
    pub(crate) fn stores(&self) -> usize {
        self.saved.outbox.len()
    }

    /// A command for the outbox; false when it is full.
    pub(crate) fn submit(&mut self, id: CommandId, change: &Change) -> bool {
        self.process.as_mut().is_some_and(|process| process.machine.submit(id, change).is_ok())
    }

    /// Does what the machine asks for, until it asks for the network.
    pub(crate) fn settle(
        &mut self,
        (history, model): (&mut History, &Model),
        random: &mut Random,
        now: u64,
    ) -> Check<Option<Wish>> {
        while let Some(process) = &mut self.process
            && let Some(output) = process.machine.next_output()
        {
            match output {
                Output::Store(_) if self.full => {
                    self.was_full = true;
                    let moment = Moment { now, random: random.next() };
                    process.machine.stored(moment, Err("the disk is full".to_owned()));
                }
                Output::Store(writes) => {
                    writes.iter().for_each(|write| self.saved.apply(write));
                    let (unsynced, full) = self.unsynced.with(&writes);
                    self.unsynced = unsynced;
                    if full {
                        (self.durable, self.durable_kept) = (self.saved.clone(), Rc::clone(&self.kept));
                    }
                    process.machine.stored(Moment { now, random: random.next() }, Ok(()));
                }
                Output::Connect { line, endpoint } => {
                    let Some(endpoint) = index_of(&endpoint.to_string()) else {
                        return broken("the client made up an endpoint");
                    };
                    return Ok(Some(Wish::Connect(line, endpoint)));
                }
                Output::Send { line, text } => {
                    if text.starts_with(r#"{"hello""#) && process.hello.replace(line).is_some() {
                        return broken(
                            "the client says hello before it has closed the connection on which it did before",
                        );
                    }
                    return Ok(Some(Wish::Send(line, text.into())));
                }
                Output::Close { line } => {
                    process.hello = process.hello.filter(|hello| *hello != line);
                    return Ok(Some(Wish::Close(line)));
                }
                Output::Deliver(delivery) => self.deliver(delivery, (history, model), random, now)?,
            }
        }
        Ok(None)
    }

    /// The app takes a delivery.
    fn deliver(
        &mut self,
        delivery: Delivery,
        (history, model): (&mut History, &Model),
        random: &mut Random,
        now: u64,
    ) -> Check {
        let (who, index) = ((self.user, self.id), self.index);
        let told = |Broken(what)| Broken(format!("device {index}: {what}"));
        let Some(process) = &mut self.process else { return Ok(()) };
        match delivery {
            Delivery::Resync => {
                self.met.resyncs += 1;
                process.copy.forget();
                process.watch.forget();
                self.kept = Rc::new(Copy::of(self.user));
            }
            Delivery::CatchUp(catch_up) => {
                Watch::catch_up(model, who, &catch_up).map_err(told)?;
                process.copy.catch_up(&catch_up).map_err(told)?;
            }
            Delivery::CaughtUp { pos } => {
                let at = position(&pos)?;
                process.watch.caught_up(model, who, &mut process.copy, at).map_err(told)?;
                self.keep(&pos, random, now);
            }
            Delivery::Events { pos, list } => {
                list.iter().try_for_each(|event| process.copy.event(event)).map_err(told)?;
                let news = (position(&pos)?, list.as_slice(), process.bytes);
                process.watch.told(model, who, &process.copy, news).map_err(told)?;
                if random.chance(20) {
                    self.keep(&pos, random, now);
                }
            }
            Delivery::Outcome { id, result, again, .. } => {
                if again && history.reseeds == 0 {
                    return broken(format!("command {id} is offered again, but the log was never restored"));
                }
                history.answer((self.index, self.id, now), model, id, result)?;
            }
            Delivery::Refused { .. } => self.met.refused += 1,
            Delivery::Typing { room, user } => {
                self.met.typing += 1;
                return holds(user != self.user, || format!("device {index} is told that its owner types in {room}"));
            }
            Delivery::State(state) => return self.state(&state),
        }
        Ok(())
    }

    /// The app brings its durable copy up to date.
    fn keep(&mut self, pos: &str, random: &mut Random, now: u64) {
        if let (true, Some(process)) = (self.keeps, &mut self.process) {
            self.kept = Rc::new(process.copy.clone());
            process.machine.applied(Moment { now, random: random.next() }, &pos.to_owned());
        }
    }

    fn state(&mut self, state: &State) -> Check {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.live = matches!(state, State::Live { .. });
        match state {
            State::CatchingUp { .. } => process.watch.anew(),
            State::Live { .. } => self.met.sessions += 1,
            State::Waiting { why: Some(ieum_client::Why::Told(problem)), .. } => {
                self.met.slow += u64::from(problem.code == "slow_reader");
            }
            State::Waiting { why: Some(ieum_client::Why::Silent), .. } => self.met.silent += 1,
            State::Waiting { why: Some(ieum_client::Why::Behind), .. } => {
                return broken("a server knows less than it has acknowledged");
            }
            State::Stopped(Stop::Told(problem)) => {
                process.stopped = true;
                let logged_out = self.logged_out && matches!(problem.code.as_str(), "logged_out" | "secret_wrong");
                if !logged_out {
                    return broken(format!("device {} was told {} and stopped", self.index, problem.code));
                }
            }
            State::Stopped(Stop::Store(_)) if self.was_full => (process.stopped, self.by_store) = (true, true),
            State::Stopped(Stop::Store(error)) => return broken(format!("the client's store failed: {error}")),
            _ => {}
        }
        Ok(())
    }
}
