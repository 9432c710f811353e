//! What was asked of the cell and what it answered, as the people saw it.

use std::collections::BTreeMap;

use ieum_client::{CommandId, Failure};
use ieum_protocol::frames::{Change, Done};

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

impl History {
    /// Of a cell that begins at a level below what people ask for, or not.
    pub(crate) fn of(begins_below: bool) -> Self {
        Self { begins_below, ..Self::default() }
    }

    pub(crate) fn ask(&mut self, device: usize, id: CommandId, change: Change, (at, at_once): (u64, bool)) {
        self.by_id.insert(id, self.asked.len());
        self.asked.push(Asked { device, change, at, at_once, lost: false, answer: None });
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
        Ok(())
    }

    /// A device goes on from an old copy of its disk: what waited since may be lost, or not.
    pub(crate) fn lose(&mut self, device: usize) {
        self.asked.iter_mut().filter(|asked| asked.device == device && asked.answer.is_none()).for_each(|asked| {
            asked.lost = true;
        });
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
