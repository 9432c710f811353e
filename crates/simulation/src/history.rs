//! What was asked of the cell and what it answered, as the people saw it.

use std::collections::BTreeMap;

use ieum_client::{CommandId, Failure};
use ieum_protocol::frames::{Change, Done};

use ieum_core::ids::Position;

use crate::device::Device;
use crate::failure::{Check, broken, holds};
use crate::model::Model;

/// A command that a device took into its outbox.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) device: usize,
    pub(crate) change: Change,
    /// When, and whether its device was connected then and nothing else waited.
    at: u64,
    at_once: bool,
    /// The disk that had it in its outbox is gone.
    pub(crate) lost: bool,
    /// It was answered that it has no effect, and the log that says so is gone: nobody offers it again.
    pub(crate) gone: bool,
    pub(crate) answer: Option<Result<Done, String>>,
}

/// Everything that was asked, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) asked: Vec<Asked>,
    by_id: BTreeMap<CommandId, usize>,
    /// Everything works since.
    pub(crate) healed: Option<u64>,
    /// How often the log has begun anew.
    pub(crate) reseeds: u64,
    /// The cell was founded at a level below what people ask for.
    begins_below: bool,
    /// Where the generations ended that go on in the log, by number.
    ends: BTreeMap<u32, u64>,
}

/// When everything has worked for so long, commands are answered within [`SOON`], in milliseconds.
const CALM: u64 = 30_000;
const SOON: u64 = 10_000;
/// The answer to what the device itself could not keep.
const NOT_STORED: &str = "not_stored";

/// What people are told whose cell is below what they ask for.
const UNSUPPORTED: &str = "unsupported";
/// What no command of the workload may be told.
const NEVER: [&str; 5] = ["internal", "number_reused", "too_old", "bad_frame", "skipped"];

/// Whether a position is beyond the end of its generation, where the log has begun anew.
fn gone(ends: &BTreeMap<u32, u64>, at: Position) -> bool {
    let newest = ends.last_key_value().map_or(0, |(generation, _)| *generation);
    at.generation <= newest && ends.get(&at.generation).is_none_or(|until| at.ordinal > *until)
}

impl Asked {
    /// What says that it was answered is gone.
    fn is_lost(&mut self) {
        match &self.answer {
            Some(Err(_)) => self.gone = true,
            _ => self.answer = None,
        }
    }
}

impl History {
    /// Of a cell that begins at a level below what people ask for, or not.
    pub(crate) fn of(begins_below: bool) -> Self {
        Self { begins_below, ..Self::default() }
    }

    pub(crate) fn ask(&mut self, device: usize, id: CommandId, change: Change, (at, at_once): (u64, bool)) {
        self.by_id.insert(id, self.asked.len());
        self.asked.push(Asked { device, change, at, at_once, lost: false, gone: false, answer: None });
    }

    /// An outcome was delivered. The same one may come again to a process that lost power right after the first time.
    pub(crate) fn answer(
        &mut self,
        (device, name, now): (usize, u64, u64),
        model: &Model,
        id: CommandId,
        result: Result<Done, Failure>,
    ) -> Check {
        let Some(asked) = self.by_id.get(&id).and_then(|index| self.asked.get_mut(*index)) else {
            return broken(format!("an outcome of command {id}, which nobody gave"));
        };
        holds(asked.device == device, || format!("the outcome of command {id} came to device {device}"))?;
        let answer = match result {
            Ok(done) => Ok(done),
            Err(Failure::Rejected(problem)) => Err(problem.code),
            Err(Failure::NotStored(_)) => {
                asked.answer = Some(Err(NOT_STORED.to_owned()));
                return Ok(());
            }
            // Known to a disk that is gone.
            Err(Failure::TooOld) if asked.lost || asked.answer.is_some() => return Ok(()),
            Err(failure) => return broken(format!("command {id} failed: {failure}")),
        };
        if let Err(code) = &answer {
            let is_one = NEVER.contains(&code.as_str()) || (code == UNSUPPORTED && !self.begins_below);
            holds(!is_one, || format!("{:?} was answered {code}", asked.change))?;
        }
        let gone = model.done_at(name, id.0).is_some_and(|at| gone(&self.ends, at));
        let right = model.answer(name, id.0);
        holds(right.as_ref() == Some(&answer), || {
            format!("{:?} of device {device} was answered {answer:?}, and has given {right:?}", asked.change)
        })?;
        let long =
            self.healed.is_some_and(|healed| asked.at >= healed + CALM) && asked.at_once && asked.answer.is_none();
        holds(!long || now - asked.at <= SOON, || format!("{asked:?} was answered after {} ms", now - asked.at))?;
        if let Some(before) = &asked.answer {
            holds(*before == answer, || format!("command {id} was answered {before:?} and then {answer:?}"))?;
        }
        asked.answer = Some(answer);
        if gone {
            asked.is_lost();
        }
        Ok(())
    }

    /// The log has begun anew: where the generations ended that go on in it.
    pub(crate) fn ends(&mut self, ends: BTreeMap<u32, u64>) {
        self.ends = ends;
    }

    /// Whether what happened at a position is lost, because the log went on from before it.
    pub(crate) fn is_gone(&self, at: Position) -> bool {
        gone(&self.ends, at)
    }

    /// What was answered and is lost is to be answered once more, because clients offer it again.
    pub(crate) fn loses(&mut self, before: &Model, devices: &[Device]) {
        for (id, index) in &self.by_id {
            let Some(asked) = self.asked.get_mut(*index).filter(|asked| asked.answer.is_some()) else { continue };
            let device = devices.get(asked.device).map_or(0, |device| device.id);
            if before.done_at(device, id.0).is_some_and(|at| gone(&self.ends, at)) {
                asked.is_lost();
            }
        }
    }

    /// A device goes on from an old copy of its disk: what waited since may be lost, or not, and what was answered since it does not offer again.
    pub(crate) fn lose(&mut self, device: usize) {
        self.asked.iter_mut().filter(|asked| asked.device == device).for_each(|asked| asked.lost = true);
    }

    /// The length of all that was asked and not answered.
    pub(crate) fn unanswered(&self) -> u64 {
        let open = self.asked.iter().filter(|asked| asked.answer.is_none() && !asked.lost);
        open.map(|asked| serde_json::to_string(&asked.change).map_or(0, |change| change.len() as u64)).sum()
    }

    /// Whether somebody asked for this command.
    pub(crate) fn knows(&self, id: u128) -> bool {
        self.by_id.contains_key(&CommandId(id))
    }

    /// Commands that a device could not keep.
    pub(crate) fn not_stored(&self) -> impl Iterator<Item = (CommandId, &Asked)> {
        let by_id = self.by_id.iter().filter_map(|(id, index)| Some((*id, self.asked.get(*index)?)));
        by_id.filter(|(_, asked)| {
            asked.answer.as_ref().is_some_and(|answer| answer.as_ref().is_err_and(|code| code == NOT_STORED))
        })
    }

    /// Commands that the cell has answered.
    pub(crate) fn answered(&self) -> impl Iterator<Item = (CommandId, &Asked, &Result<Done, String>)> {
        let by_id = self.by_id.iter().filter_map(|(id, index)| Some((*id, self.asked.get(*index)?)));
        let answered = by_id.filter_map(|(id, asked)| Some((id, asked, asked.answer.as_ref()?)));
        answered.filter(|(.., answer)| answer.as_ref().err().is_none_or(|code| code != NOT_STORED))
    }

    /// Commands that took effect.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (&Asked, Done)> {
        self.asked.iter().filter_map(|asked| match &asked.answer {
            Some(Ok(done)) => Some((asked, *done)),
            _ => None,
        })
    }

    /// Commands that had no effect.
    pub(crate) fn rejected(&self) -> usize {
        self.asked.iter().filter(|asked| matches!(asked.answer, Some(Err(_)))).count()
    }
}
