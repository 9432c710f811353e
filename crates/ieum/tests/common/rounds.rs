//! What the crash tests share: random moments, the crowd, and the check at the end.

use std::io::Write as _;
use std::time::{Duration, Instant};

use ieum_drill::crowd::{self, Crowd};
use ieum_drill::history;
use ieum_drill::server::Server;

use super::PATIENCE;

/// A line that is shown although the test passes.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Numbers from a seed, which is printed: `SEED=… cargo test …` draws the same again.
pub(crate) struct Random(ieum_drill::random::Random);

impl Random {
    pub(crate) fn seeded() -> Self {
        let fresh = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("SEED").ok().map_or_else(fresh, |text| text.parse().unwrap());
        note(&format!("SEED={seed}"));
        Self(ieum_drill::random::Random::new(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// Any moment within so many milliseconds.
    pub(crate) fn moment(&mut self, milliseconds: u64) -> Duration {
        Duration::from_micros(self.below(milliseconds * 1_000))
    }
}

/// Rounds of load and a crash.
pub(crate) struct Rounds {
    pub(crate) count: u32,
    /// A crash comes after at least so many acknowledged messages, and up to that many more.
    pub(crate) messages: u64,
    /// One crash in so many is followed by another while the node starts.
    pub(crate) twice: u32,
}

/// What the rounds gave.
pub(crate) struct Gave {
    pub(crate) acknowledged: u64,
    /// Acknowledged messages per second from the node's greeting to the crash, all rounds together.
    pub(crate) rate: f64,
}

impl Rounds {
    /// Lets a crowd write, crashes the node again and again, and checks at the end what everybody lived through. `crash` ends the node's
    /// process; it is started again at once.
    pub(crate) fn run(
        &self,
        server: &mut Server,
        random: &mut Random,
        mut crash: impl FnMut(&mut Server, u64),
    ) -> Gave {
        server.start(PATIENCE).unwrap();
        let endpoints = vec![server.address().parse().unwrap()];
        let crowd = Crowd::gather(&crowd::Options { endpoints, people: 120, in_flight: 32 }).unwrap();
        crowd.write();
        let (mut up, mut serves) = (Duration::ZERO, Instant::now());
        for round in 1..=self.count {
            crowd.wait_for(crowd.acknowledged() + self.messages + random.below(self.messages), PATIENCE).unwrap();
            // Not just when an acknowledgement has come.
            std::thread::sleep(random.moment(30));
            crash(server, random.below(u64::MAX));
            up += serves.elapsed();
            if round % self.twice == 0 {
                server.spawn().unwrap();
                std::thread::sleep(random.moment(500));
                crash(server, random.below(u64::MAX));
            }
            server.start(PATIENCE).unwrap();
            serves = Instant::now();
        }
        let acknowledged = crowd.acknowledged();
        let rate = acknowledged as f64 / up.as_secs_f64();
        note(&format!("{} rounds, {acknowledged} acknowledged, {rate:.0} messages/s while it was up", self.count));
        check(crowd);
        Gave { acknowledged, rate }
    }
}

/// Checks what everybody lived through against what the cell holds.
pub(crate) fn check(crowd: Crowd) {
    let acknowledged = crowd.acknowledged();
    crowd.rest(PATIENCE).unwrap();
    let rooms = crowd.read().unwrap();
    crowd.hear(&rooms, PATIENCE);
    let report = history::check(&crowd.leave(), &rooms);
    note(&format!("{} sent, {} held, {} heard", report.sent, report.held, report.heard));
    assert!(report.acknowledged >= acknowledged);
    assert!(report.violations.is_empty(), "{}", report.complaint());
}
