//! When the shared log is trimmed, how far and by which node, and whether anybody does. A state machine: it is handed what a node sees, and
//! the monotonic time.

use std::collections::VecDeque;

use ieum_core::ids::{Millis, Position};
use ieum_log::Room;
use ieum_planted::Bug;

use crate::peers::Trim;

/// What is newer than this is not trimmed: readers follow it.
const KEPT: Millis = 30_000;
/// But no more is kept than this part of the log's room, and a member that is further behind holds the log back no longer. etcd gives back what is
/// trimmed only when about as much again was appended, so that twice as much is in use.
pub const KEPT_PART: u64 = 6;
/// How often the log is trimmed.
const EVERY: Millis = 5_000;
/// With this part of the log's room to trim it is trimmed at once.
pub const AT_ONCE_PART: u64 = 48;
/// So many batches go at once: what is known of the others may change meanwhile.
const PIECE: u64 = 1_000;
/// A log that could be trimmed and is not for so long is trimmed by the next node, which then does it for a while.
const TAKE_OVER: Millis = 12_000;
const TAKEN_OVER_FOR: Millis = 60_000;
/// A log that is not trimmed for so long is an alarm, again and again.
const ALARM_EVERY: Millis = 60_000;
/// One data center is an alarm after so long: a node that has just started has heard of nobody yet.
const ALONE_AFTER: Millis = 10_000;

/// Behind every position.
const END: Position = Position { generation: u32::MAX, ordinal: u64::MAX };

/// A member that has not come so far holds the log back no longer.
#[must_use]
pub fn nearest(room: Option<Room>, most_kept: Option<Position>) -> Position {
    if Bug::SlowMemberHoldsLog.planted() {
        return Position::default();
    }
    // What came before this process was started is not weighed.
    let is_half_full = room.is_some_and(|room| room.used.saturating_mul(2) >= room.most);
    if is_half_full { END } else { most_kept.unwrap_or_default() }
}

/// What a node sees of the log and of the others.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    /// The monotonic time.
    pub now: Millis,
    /// How many nodes come before this one; nothing when it does not take part.
    pub before: Option<usize>,
    /// What the view has applied.
    pub applied: Position,
    /// The last position that the log has forgotten.
    pub trimmed: Position,
    /// Behind this lies as much as may be kept; nothing when there is less.
    pub most_kept: Option<Position>,
    /// With so many bytes to trim it is done at once.
    pub at_once: u64,
    /// How far the log may be trimmed.
    pub trim: Trim,
}

/// Why a log is not trimmed that should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Batches lie on the disks of one data center alone.
    OneDataCenter,
    /// Views differ, and it is open which is the wrong one.
    Diverged,
    /// A member has not read further, or the second data center has not.
    HeldBack,
    /// It could be; who should do it does not, or fails.
    NotDone,
}

/// What an operator is to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// One data center is left.
    OneDataCenter,
    /// There are two again.
    TwoDataCenters,
    /// The log has not been trimmed for so long.
    Untrimmed(Millis, Why),
    /// It is trimmed again.
    TrimmedAgain,
    /// This node trims because those whose part it is do not.
    TakesOver,
}

/// What follows from a look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Trim so far, then look again.
    pub trim: Option<Position>,
    /// What an operator is to hear.
    pub news: Vec<News>,
}

/// Whether and how the log is trimmed.
#[derive(Debug, Default)]
pub struct Trimming {
    /// Where the view stood at earlier looks, oldest first, and at the last one that was long enough ago.
    stood: VecDeque<(Millis, Position)>,
    old: Option<Position>,
    trimmed: Option<Position>,
    /// Since when the log should be trimmed and is not, and since when it could be.
    untrimmed: Option<Millis>,
    due: Option<Millis>,
    /// When this node last had nothing more to trim, and when it took over.
    done: Option<Millis>,
    took_over: Option<Millis>,
    taken_over: u64,
    alone: Option<Millis>,
    told_alone: bool,
    told_untrimmed: Option<Millis>,
}

impl Trimming {
    /// For how long the log has not been trimmed although there is something that is old enough; 0 when all is well.
    #[must_use]
    pub fn untrimmed(&self, now: Millis) -> Millis {
        self.untrimmed.map_or(0, |since| now.saturating_sub(since))
    }

    /// Whether one data center is left.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.told_alone
    }

    /// How often this node began to trim because those whose part it was did not.
    #[must_use]
    pub fn taken_over(&self) -> u64 {
        self.taken_over
    }

    /// Looks what there is to do. `behind` weighs what lies behind a position, if that is known.
    pub fn look(&mut self, sight: &Sight, behind: impl Fn(Position) -> Option<u64>) -> Step {
        let Sight { now, trimmed, .. } = *sight;
        let wanted = self.wanted(sight).unwrap_or(trimmed);
        let possible = match sight.trim {
            Trim::UpTo(safe) => safe.min(wanted),
            Trim::OneDataCenter | Trim::Diverged => trimmed,
        };
        let moved = self.trimmed.replace(trimmed) != Some(trimmed);
        let since = |before: Option<Millis>, is: bool| before.filter(|_| is && !moved).or(is.then_some(now));
        self.untrimmed = since(self.untrimmed, wanted > trimmed);
        self.due = since(self.due, possible > trimmed);
        let mut news = Vec::new();
        self.notice_alone(sight, &mut news);
        self.notice_untrimmed(sight, possible > trimmed, &mut news);
        let turn = self.is_turn(sight, &mut news);
        let trim = (turn && possible > trimmed && self.is_worth_it(sight, possible, behind)).then(|| {
            let piece = Position { ordinal: possible.ordinal.min(trimmed.ordinal.saturating_add(PIECE)), ..possible };
            if piece == possible {
                self.done = Some(now);
            }
            piece
        });
        Step { trim, news }
    }

    /// Up to where the log should be trimmed, if everybody has it: what is old, or too much.
    fn wanted(&mut self, sight: &Sight) -> Option<Position> {
        self.stood.push_back((sight.now, sight.applied));
        while let Some((_, position)) = self.stood.pop_front_if(|(at, _)| sight.now.saturating_sub(*at) >= KEPT) {
            self.old = Some(position);
        }
        if Bug::KeptUnbounded.planted() { self.old } else { self.old.max(sight.most_kept) }
    }

    /// It is the part of the ready node with the lowest number. Two at once do no harm.
    fn is_turn(&mut self, sight: &Sight, news: &mut Vec<News>) -> bool {
        let Some(before) = sight.before else { return false };
        if before == 0 || Bug::NobodyTakesOver.planted() {
            return before == 0;
        }
        let within = |since: Option<Millis>, time: Millis| since.is_some_and(|at| sight.now.saturating_sub(at) < time);
        let patience = TAKE_OVER.saturating_mul(before as u64);
        if within(self.took_over, TAKEN_OVER_FOR) {
            return true;
        }
        let takes_over = self.due.is_some() && !within(self.due, patience);
        if takes_over {
            self.took_over = Some(sight.now);
            self.taken_over += 1;
            news.push(News::TakesOver);
        }
        takes_over
    }

    fn is_worth_it(&self, sight: &Sight, possible: Position, behind: impl Fn(Position) -> Option<u64>) -> bool {
        let rested = self.done.is_none_or(|done| sight.now.saturating_sub(done) >= EVERY);
        let much = || match (behind(sight.trimmed), behind(possible)) {
            (Some(all), Some(rest)) => all.saturating_sub(rest) >= sight.at_once,
            _ => false,
        };
        rested || much()
    }

    fn notice_alone(&mut self, sight: &Sight, news: &mut Vec<News>) {
        let is_alone = sight.trim == Trim::OneDataCenter;
        self.alone = self.alone.filter(|_| is_alone).or(is_alone.then_some(sight.now));
        let alone = self.alone.is_some_and(|since| sight.now.saturating_sub(since) >= ALONE_AFTER);
        if alone != std::mem::replace(&mut self.told_alone, alone) {
            news.push(if alone { News::OneDataCenter } else { News::TwoDataCenters });
        }
    }

    fn notice_untrimmed(&mut self, sight: &Sight, is_possible: bool, news: &mut Vec<News>) {
        let untrimmed = self.untrimmed(sight.now);
        if untrimmed < ALARM_EVERY {
            if self.told_untrimmed.take().is_some() {
                news.push(News::TrimmedAgain);
            }
            return;
        }
        if self.told_untrimmed.is_none_or(|told| sight.now.saturating_sub(told) >= ALARM_EVERY) {
            self.told_untrimmed = Some(sight.now);
            let why = match sight.trim {
                Trim::OneDataCenter => Why::OneDataCenter,
                Trim::Diverged => Why::Diverged,
                Trim::UpTo(_) if is_possible => Why::NotDone,
                Trim::UpTo(_) => Why::HeldBack,
            };
            news.push(News::Untrimmed(untrimmed, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ordinal: u64) -> Position {
        Position::new(1, ordinal)
    }

    /// A cell in which a batch of so many bytes is applied each 100 ms.
    struct Scene {
        trimming: Trimming,
        trimmed: Position,
        bytes: u64,
        room: u64,
        news: Vec<(Millis, News)>,
    }

    impl Scene {
        fn new(bytes: u64) -> Self {
            Self { trimming: Trimming::default(), trimmed: at(0), bytes, room: 768 << 20, news: Vec::new() }
        }

        /// Looks each second in `seconds`; gives what was trimmed when, if it `works`.
        fn play(
            &mut self,
            seconds: std::ops::Range<u64>,
            before: usize,
            works: bool,
            trim: impl Fn(Position) -> Trim,
        ) -> Vec<(u64, u64)> {
            let mut trims = Vec::new();
            for second in seconds {
                let (now, applied) = (second * 1000, at(second * 10));
                let behind = |bytes: u64, ordinal: u64| applied.ordinal.saturating_sub(ordinal) * bytes;
                let kept = self.room / KEPT_PART / self.bytes;
                let most_kept = (applied.ordinal > kept).then(|| at(applied.ordinal.saturating_sub(kept)));
                loop {
                    let (bytes, trimmed) = (self.bytes, self.trimmed);
                    let (before, at_once) = (Some(before), self.room / AT_ONCE_PART);
                    let sight = Sight { now, before, applied, trimmed, most_kept, at_once, trim: trim(applied) };
                    let step = self.trimming.look(&sight, |position| Some(behind(bytes, position.ordinal)));
                    self.news.extend(step.news.into_iter().map(|news| (second, news)));
                    let Some(up_to) = step.trim.filter(|_| works) else { break };
                    trims.push((second, up_to.ordinal));
                    self.trimmed = up_to;
                }
            }
            trims
        }
    }

    #[test]
    fn what_is_new_is_kept_and_the_rest_goes_every_five_seconds() {
        let mut scene = Scene::new(1000);
        let trims = scene.play(0..48, 0, true, Trim::UpTo);
        assert_eq!(trims, [(31, 10), (36, 60), (41, 110), (46, 160)]);
        assert_eq!(scene.news, []);
    }

    #[test]
    fn no_more_is_kept_than_a_part_of_the_room() {
        // 40 MiB a second.
        let mut scene = Scene::new(4 << 20);
        let trims = scene.play(0..20, 0, true, Trim::UpTo);
        assert_eq!(trims[..3], [(4, 8), (5, 18), (6, 28)], "what is much goes at once");
        assert_eq!(trims.last(), Some(&(19, 190 - 32)), "a sixth of the room is kept");
    }

    #[test]
    fn a_long_trim_goes_in_pieces() {
        let mut scene = Scene::new(1000);
        scene.play(0..300, 0, false, Trim::UpTo);
        let trims = scene.play(300..301, 0, true, Trim::UpTo);
        assert_eq!(trims, [(300, 1000), (300, 2000), (300, 2700)]);
    }

    #[test]
    fn the_next_node_takes_over_when_the_lowest_does_not_trim() {
        let mut second = Scene::new(1000);
        let trims = second.play(0..120, 1, true, Trim::UpTo);
        assert_eq!(trims[..3], [(43, 130), (48, 180), (53, 230)]);
        // From 43 on for a minute, then twelve seconds later again.
        let gap = trims.windows(2).map(|two| two[1].0 - two[0].0).max();
        assert!(gap.unwrap() <= 5 + 12 + 1, "{trims:?}");
        assert_eq!(second.news[0], (43, News::TakesOver));
        assert_eq!(second.trimming.taken_over(), 2);
        let mut third = Scene::new(1000);
        let trims = third.play(0..120, 2, true, Trim::UpTo);
        assert_eq!(trims[0].0, 31 + 24);
    }

    #[test]
    fn the_next_node_keeps_still_while_the_lowest_trims() {
        let mut scene = Scene::new(1000);
        for second in 0..120 {
            if second > 30 && second % 5 == 0 {
                scene.trimmed = at((second - 30) * 10);
            }
            assert_eq!(scene.play(second..second + 1, 1, true, Trim::UpTo), []);
        }
        assert_eq!(scene.news, []);
    }

    #[test]
    fn a_log_that_is_not_trimmed_is_an_alarm_that_says_why() {
        let untrimmed = |works, trim: fn(Position) -> Trim| {
            let mut scene = Scene::new(1000);
            scene.play(0..152, 0, works, trim);
            scene.news.into_iter().filter(|(_, news)| matches!(news, News::Untrimmed(..))).collect::<Vec<_>>()
        };
        let alarms = |why| [(91, News::Untrimmed(60_000, why)), (151, News::Untrimmed(120_000, why))];
        assert_eq!(untrimmed(false, Trim::UpTo), alarms(Why::NotDone));
        assert_eq!(untrimmed(true, |_| Trim::OneDataCenter), alarms(Why::OneDataCenter));
        assert_eq!(untrimmed(true, |_| Trim::Diverged), alarms(Why::Diverged));
        assert_eq!(untrimmed(true, |_| Trim::UpTo(at(0))), alarms(Why::HeldBack));
        assert_eq!(untrimmed(true, Trim::UpTo), []);
    }

    #[test]
    fn what_ends_is_told_too() {
        let mut scene = Scene::new(1000);
        scene.play(0..100, 0, true, |_| Trim::OneDataCenter);
        assert!(scene.trimming.is_alone() && scene.trimming.untrimmed(99_000) == 68_000);
        scene.play(100..102, 0, true, Trim::UpTo);
        assert!(!scene.trimming.is_alone());
        assert_eq!(
            scene.news,
            [
                (10, News::OneDataCenter),
                (91, News::Untrimmed(60_000, Why::OneDataCenter)),
                (100, News::TwoDataCenters),
                (100, News::TrimmedAgain)
            ]
        );
        assert!(scene.trimming.untrimmed(101_000) < 6_000);
    }
}
