//! Admission that slows while the shared log runs out of room: a log that is full takes nothing at all until an operator helps.

use ieum_core::ids::Millis;
use ieum_log::Room;
use ieum_planted::Bug;

/// With this part of the room used it begins, and ends a little below: else it would go to and fro.
const BEGINS: (u64, u64) = (1, 2);
const ENDS: (u64, u64) = (7, 16);
/// A node takes so little that what is left would last it for so long: the less is left, the less it takes.
const LASTS_S: u64 = 300;
/// It takes something always.
const LEAST: u64 = 1024;

/// How much a node takes.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    /// Bytes a second; nothing when it takes all.
    rate: Option<u64>,
    /// What may be taken now; negative when more was.
    level: i64,
    at: Millis,
}

impl Brake {
    /// What is known of the log's room. Tells whether admission slows now and did not before, or the other way round.
    pub(crate) fn set(&mut self, room: Option<Room>) -> bool {
        let before = self.rate.is_some();
        let (part, whole) = if before { ENDS } else { BEGINS };
        let short = |room: &Room| room.used.saturating_mul(whole) >= room.most.saturating_mul(part);
        let short = room.filter(|room| short(room) && !Bug::BrakeIgnored.planted());
        self.rate = short.map(|room| (room.most.saturating_sub(room.used) / LASTS_S).max(LEAST));
        self.rate.is_some() != before
    }

    pub(crate) fn is_on(&self) -> bool {
        self.rate.is_some()
    }

    /// Whether something may be taken at `now`.
    pub(crate) fn admits(&mut self, now: Millis) -> bool {
        let passed = now.saturating_sub(self.at);
        let Some(rate) = self.rate else {
            (self.level, self.at) = (0, now);
            return true;
        };
        let most = i64::try_from(rate).unwrap_or(i64::MAX);
        let more = i64::try_from(rate.saturating_mul(passed) / 1000).unwrap_or(i64::MAX);
        if more > 0 {
            self.level = self.level.saturating_add(more).min(most);
            self.at = now;
        }
        self.level > 0
    }

    /// So many bytes were taken.
    pub(crate) fn charge(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.level = self.level.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn room(used: u64) -> Option<Room> {
        Some(Room { used: used * MIB, most: 768 * MIB })
    }

    #[test]
    fn it_slows_from_half_on_and_until_there_is_clearly_more() {
        let mut brake = Brake::default();
        for (used, changes, on) in
            [(383, false, false), (384, true, true), (383, false, true), (336, false, true), (335, true, false)]
        {
            assert_eq!((brake.set(room(used)), brake.is_on()), (changes, on), "{used} MiB used");
        }
        brake.set(room(700));
        assert!(brake.set(None) && !brake.is_on(), "a log without bounds");
    }

    /// What a node takes within ten minutes when commands of a KiB never end and nothing is trimmed.
    #[test]
    fn the_room_is_never_used_up() {
        let (mut brake, mut used, mut refused) = (Brake::default(), 384 * MIB, false);
        let mut after = Vec::new();
        for now in 0..600_000 {
            brake.set(Some(Room { used, most: 768 * MIB }));
            // Three nodes at once, and a thousand commands each a millisecond is more than any of them can take.
            for _ in 0..1_000 {
                if !brake.admits(now) {
                    refused = true;
                    break;
                }
                brake.charge(1024);
                used += 3 * 1024;
            }
            if now % 60_000 == 59_999 {
                after.push(used / MIB);
            }
        }
        assert!(refused);
        assert!(after.is_sorted() && (500..600).contains(&after[0]) && after[9] < 768, "{after:?}");
    }

    #[test]
    fn it_takes_by_the_clock_and_pays_back_what_was_too_much() {
        let mut brake = Brake::default();
        assert!(brake.admits(1_000));
        // 300 MiB left: one MiB a second.
        brake.set(room(468));
        assert!(!brake.admits(1_000), "it saves nothing up before it slows");
        assert!(brake.admits(1_001));
        brake.charge(2 << 20);
        assert!(!brake.admits(2_900));
        assert!(brake.admits(3_100));
        assert!(brake.admits(60_000));
        brake.charge(1 << 20);
        assert!(!brake.admits(60_000), "no more than a second's at once");
    }
}
