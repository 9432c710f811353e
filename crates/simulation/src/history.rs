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
    pub(crate) answer: Option<Result<Done, String>>,
}

/// Everything that was asked, in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) asked: Vec<Asked>,
    by_id: BTreeMap<CommandId, usize>,
}

/// What no command of the workload may be told.
const NEVER: [&str; 6] = ["internal", "unsupported", "number_reused", "too_old", "bad_frame", "skipped"];

impl History {
    pub(crate) fn ask(&mut self, device: usize, id: CommandId, change: Change) {
        self.by_id.insert(id, self.asked.len());
        self.asked.push(Asked { device, change, answer: None });
    }

    /// An outcome was delivered. The same one may come again to a process that lost power right after the first time.
    pub(crate) fn answer(
        &mut self,
        (device, name): (usize, u64),
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
            Err(failure) => return broken(format!("command {id} failed: {failure}")),
        };
        if let Err(code) = &answer {
            holds(!NEVER.contains(&code.as_str()), || format!("{:?} was answered {code}", asked.change))?;
        }
        let right = model.answer(name, id.0);
        holds(right.as_ref() == Some(&answer), || {
            format!("{:?} of device {device} was answered {answer:?}, and has given {right:?}", asked.change)
        })?;
        if let Some(before) = &asked.answer {
            holds(*before == answer, || format!("command {id} was answered {before:?} and then {answer:?}"))?;
        }
        asked.answer = Some(answer);
        Ok(())
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
