//! Views that go wrong at a chosen moment, and what has to come together then for one that is right to be taken for the wrong one, or for a
//! difference to be seen where it begins. In a third of the lives in which views are tried: left to chance it comes together too seldom.

use ieum_node::agreement::CHECKPOINT_EVERY;

use super::views::JUST_BEHIND;
use crate::failure::Check;
use crate::world::{Event, World};

/// What is tried. Whichever builds the nodes have, who is right stays by what most have come to by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Play {
    /// The wrong ones hear nothing and are found out. Then all but as many that are right begin anew from one of these, and come last where they are
    /// compared: their views are copies, and an older build must not speak for the wrong ones.
    RightIsCopied,
    /// The same, and they begin from a wrong one, while the right one stands still. What they said before they had that view comes late.
    WrongIsCopied,
    /// All lose their power. As many that are right as are wrong begin at one position, the others a little later: there only those are compared who
    /// began there. The log takes nothing until it is known that the others are there, too: else the build decides at the next checkpoint.
    BeginsApart,
    /// All lose their power and begin at one position, where the log takes nothing more for a while: nothing else is compared.
    BeginsTogether,
}

const PLAYS: [Play; 4] = [Play::RightIsCopied, Play::WrongIsCopied, Play::BeginsApart, Play::BeginsTogether];

/// Who takes part in a trial, and when. It is drawn when the trial begins.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    trial: u64,
    play: Play,
    wrong: Vec<usize>,
    /// As many that are right.
    stay: Vec<usize>,
    others: Vec<usize>,
    mask: u64,
    /// After how long it goes on once it can, and for how long nodes are off then.
    after: u64,
    down_for: u64,
    /// How late those come that are to be late, what they said, or the log.
    late: u64,
}

/// What comes next in a trial.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Those that stay know who has to go, and the others lose their disks.
    AreFound,
    LoseDisks,
    BeginAnew,
    /// The log is about to stand at a checkpoint or just behind one, and views go wrong.
    GoWrong,
    /// It stands there, they are wrong, and everybody loses the power.
    AllEnd,
    Begin,
    LogFills,
}

/// How often it is looked whether the next step can come.
const FOUND_EVERY: u64 = 250;
const MOVES_EVERY: u64 = 5;
/// For how long somebody stands still who is not to be asked for a copy.
const STANDS_STILL: u64 = 1_000;
/// How long the log takes something after nodes have begun, and then nothing before those that come later are in.
const TAKES_FOR: u64 = 20;
const LATER_ARE_IN: u64 = 600;

impl World {
    /// A trial begins in a cell that is whole.
    pub(super) fn stage(&mut self) -> Check {
        let count = self.hosts.len();
        let two = count > 4 && self.trouble.chance(400);
        let (play, each) = match self.trouble.pick(&PLAYS).copied().unwrap_or(Play::BeginsTogether) {
            Play::WrongIsCopied => (Play::WrongIsCopied, 1),
            // Most of all have to begin there, and half of these may be wrong.
            Play::BeginsApart if count == 4 => (Play::RightIsCopied, 1),
            Play::BeginsApart => (Play::BeginsApart, count.div_ceil(2) - 1),
            play => (play, if two { 2 } else { 1 }),
        };
        let mut order = self.shuffled();
        // Where as many differ the build would speak for those that come first.
        order.sort_by_key(|node| self.hosts.get(*node).map(|host| host.build));
        let stay = order.split_off(count - each);
        if play == Play::WrongIsCopied {
            order.rotate_right(each);
        }
        let others = order.split_off(each);
        self.views.trial += 1;
        let stage = Stage {
            trial: self.views.trial,
            play,
            wrong: order,
            stay,
            others,
            mask: self.trouble.next() | 1,
            after: self.trouble.between(0, 8_000),
            down_for: self.trouble.between(500, 3_000),
            late: match play {
                Play::RightIsCopied => self.trouble.between(8_000, 12_000),
                Play::WrongIsCopied => self.trouble.between(6_000, 15_000),
                Play::BeginsApart => self.trouble.between(150, 400),
                Play::BeginsTogether => self.trouble.between(60_000, 90_000),
            },
        };
        self.note(format_args!("a trial begins: {stage:?}"));
        if matches!(play, Play::BeginsApart | Play::BeginsTogether) {
            return self.goes_on_stage(Step::GoWrong, stage);
        }
        let deaf_for = self.trouble.between(60_000, 90_000);
        for node in &stage.wrong {
            self.hears_nothing(*node, deaf_for);
            self.goes_wrong(*node, stage.mask);
        }
        self.goes_on_stage(Step::AreFound, stage)
    }

    fn then(&mut self, after: u64, step: Step, stage: Stage) -> Check {
        self.after(after, Event::Staged(step, Box::new(stage)));
        Ok(())
    }

    /// A trial goes on, if it has not come to its end.
    pub(crate) fn goes_on_stage(&mut self, step: Step, stage: Stage) -> Check {
        if !self.troubled || stage.trial != self.views.trial {
            return Ok(());
        }
        match step {
            Step::AreFound if stage.wrong.iter().any(|node| !self.runs(*node)) => Ok(()),
            Step::AreFound if !self.are_found(&stage) => self.then(FOUND_EVERY, step, stage),
            Step::AreFound => self.then(stage.after, Step::LoseDisks, stage),
            Step::LoseDisks => {
                for node in &stage.others {
                    if !self.may_lose_data(*node)? {
                        return Ok(());
                    }
                    self.loses_disk(*node, stage.down_for)?;
                }
                self.then(stage.down_for, Step::BeginAnew, stage)
            }
            Step::BeginAnew => self.others_begin_anew(&stage),
            Step::GoWrong if !self.stands_behind_checkpoint(1) => self.then(MOVES_EVERY, step, stage),
            Step::GoWrong => {
                stage.wrong.iter().for_each(|node| self.goes_wrong(*node, stage.mask));
                self.then(MOVES_EVERY, Step::AllEnd, stage)
            }
            Step::AllEnd if stage.wrong.iter().any(|node| !self.runs(*node)) => Ok(()),
            Step::AllEnd if !self.stands_behind_checkpoint(0) || !self.are_wrong(&stage)? => {
                self.then(MOVES_EVERY, step, stage)
            }
            Step::AllEnd => {
                (0..self.hosts.len()).try_for_each(|node| self.keeps_all(node))?;
                self.then(stage.down_for, Step::Begin, stage)
            }
            Step::Begin => self.all_begin(stage),
            Step::LogFills => {
                self.log_fills(LATER_ARE_IN);
                Ok(())
            }
        }
    }

    fn runs(&self, index: usize) -> bool {
        self.hosts.get(index).is_some_and(|host| host.circle.is_some())
    }

    /// Whether the log stands at a checkpoint or just behind one, when so many more batches have come.
    fn stands_behind_checkpoint(&self, more: u64) -> bool {
        (self.log.last() + more) % CHECKPOINT_EVERY < JUST_BEHIND
    }

    /// Whether that they have gone wrong shows in their views.
    fn are_wrong(&self, stage: &Stage) -> Check<bool> {
        let mut hosts = stage.wrong.iter().filter_map(|node| self.hosts.get(*node));
        hosts.try_fold(true, |all, host| Ok(all && host.is_wrong()?))
    }

    /// Whether those that stay know all who have to go.
    fn are_found(&self, stage: &Stage) -> bool {
        let knows = |index: usize| {
            let circle = self.hosts.get(index).and_then(|host| host.circle.as_ref());
            let decided = circle.map(|circle| circle.peers.decided()).unwrap_or_default();
            stage.wrong.iter().all(|wrong| decided.iter().any(|decided| decided.node == self.number_of(*wrong)))
        };
        stage.stay.iter().all(|node| knows(*node))
    }

    /// Those that have nothing come up, and find either nobody who is wrong or nobody who is right.
    fn others_begin_anew(&mut self, stage: &Stage) -> Check {
        let wrong_is_copied = stage.play == Play::WrongIsCopied;
        let until = self.now() + STANDS_STILL;
        for node in if wrong_is_copied { &stage.stay } else { &stage.wrong } {
            self.note(format_args!("node {} is frozen for {STANDS_STILL} ms", node + 1));
            if let Some(host) = self.hosts.get_mut(*node) {
                host.frozen_until = host.frozen_until.max(until);
            }
        }
        for node in &stage.others {
            self.node_starts(*node)?;
            if wrong_is_copied {
                stage.stay.iter().for_each(|to| self.says_late(*node, *to, stage.late));
            } else {
                self.lags(*node, stage.late);
            }
        }
        Ok(())
    }

    /// Everybody begins where the log ends; or the others later, or the log takes nothing more.
    fn all_begin(&mut self, stage: Stage) -> Check {
        stage.wrong.iter().chain(&stage.stay).try_for_each(|node| self.node_starts(*node))?;
        if stage.play == Play::BeginsApart {
            stage.others.iter().for_each(|node| self.after(stage.late, Event::NodeStarts(*node)));
            return self.then(TAKES_FOR, Step::LogFills, stage);
        }
        stage.others.iter().try_for_each(|node| self.node_starts(*node))?;
        self.log_fills(stage.late);
        Ok(())
    }

    fn log_fills(&mut self, ms: u64) {
        let until = self.now() + ms;
        self.note(format_args!("the log takes nothing until {until}"));
        self.log.fills(until);
    }
}
