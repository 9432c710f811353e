//! The task that trims the log that the nodes of a cell share, or sees to it that somebody does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ieum_core::ids::{NodeId, Position};
use ieum_core::kv::Kv;
use ieum_log::Log;
use ieum_log::journaled::Journaled;
use ieum_node::peers::Agreement;
use ieum_node::service::Handle;
use ieum_node::trimming::{AT_ONCE_PART, KEPT_PART, News, Sight, Step, Trimming, Why, nearest};
use ieum_node::{core_position, log_position};

use crate::circle::Circle;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A piece that is not trimmed within this time has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// The room of a log that tells of none.
const ROOM: u64 = 768 << 20;

/// How the cell is, as far as trimming and agreement go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Batches lie on the disks of one data center alone.
    pub one_data_center: bool,
    /// Views of the cell differ.
    pub views_differ: bool,
    /// For how long the shared log has not been trimmed although there is something to trim.
    pub untrimmed: Duration,
    /// Members that run and that the shared log no longer reaches back to.
    pub left_behind: usize,
    /// How often this node trimmed because those whose part it was did not.
    pub taken_over: u64,
    /// How often trimming failed.
    pub failures: u64,
}

/// What the task knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    trimming: Trimming,
    left_behind: BTreeSet<NodeId>,
    /// What the log had forgotten when it was last asked.
    pub(crate) trimmed: Option<Position>,
    failures: u64,
}

impl Circle {
    /// How the cell is.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let views_differ = self.agreement() != Agreement::Same;
        let state = self.trimming.lock();
        Figures {
            one_data_center: state.trimming.is_alone(),
            views_differ,
            untrimmed: Duration::from_millis(state.trimming.untrimmed(self.now())),
            left_behind: state.left_behind.len(),
            taken_over: state.trimming.taken_over(),
            failures: state.failures,
        }
    }

    /// Trims the shared log whenever that is this node's part.
    pub(crate) async fn trim_on<L: Log, K: Kv, T: Send + 'static>(
        self: Arc<Self>,
        node: Handle<K, T>,
        log: Arc<Journaled<L>>,
    ) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            look.tick().await;
            self.trim_what_there_is(node.applied(), &log).await;
        }
    }

    /// Trims piece by piece as long as it is this node's part and there is something to trim.
    pub(crate) async fn trim_what_there_is<L: Log>(&self, applied: Position, log: &Journaled<L>) {
        while let Some(up_to) = self.look_what_to_trim(applied, log).await {
            if !self.trim(up_to, log).await {
                break;
            }
            // A log in memory never waits.
            tokio::task::yield_now().await;
        }
    }

    async fn look_what_to_trim<L: Log>(&self, applied: Position, log: &Journaled<L>) -> Option<Position> {
        let trimmed = match tokio::time::timeout(PATIENCE, log.shared().trimmed_to()).await {
            Ok(Ok(trimmed)) => core_position(trimmed),
            // What could not be read is no less untrimmed; appends say what is wrong.
            Ok(Err(_)) | Err(_) => return None,
        };
        let room = log.room();
        let most = room.map_or(ROOM, |room| room.most);
        let most_kept = log.back_by(most / KEPT_PART).map(core_position);
        let nearest = nearest(room, most_kept);
        let own = self.report().borrow().clone();
        let now = self.now();
        let (before, trim, left_behind) = {
            let peers = self.peers.lock();
            (peers.before(&own, now), peers.trim(&own, nearest, now), peers.left_behind(&own, trimmed, now))
        };
        let sight = Sight { now, before, applied, trimmed, most_kept, at_once: most / AT_ONCE_PART, trim };
        let Step { trim, news } = {
            let mut state = self.trimming.lock();
            for node in left_behind.difference(&state.left_behind) {
                tracing::error!(
                    node,
                    "alarm: the shared log no longer reaches back to a member that runs; it will have to resync"
                );
            }
            (state.left_behind, state.trimmed) = (left_behind, Some(trimmed));
            state.trimming.look(&sight, |position| log.behind(log_position(position)))
        };
        news.into_iter().for_each(tell);
        trim
    }

    /// Trims; tells whether it did.
    async fn trim<L: Log>(&self, up_to: Position, log: &Journaled<L>) -> bool {
        let error: Box<dyn std::error::Error + Send + Sync> =
            match tokio::time::timeout(PATIENCE, log.shared().trim(log_position(up_to))).await {
                Ok(Ok(())) => return true,
                Ok(Err(error)) => error.into(),
                Err(late) => late.into(),
            };
        self.trimming.lock().failures += 1;
        tracing::error!(error = ieum_node::chain(error.as_ref()), %up_to, "the shared log was not trimmed");
        false
    }
}

fn tell(news: News) {
    match news {
        News::OneDataCenter => tracing::error!(
            "alarm: one data center is left. The shared log is not trimmed, and takes less and less, until nodes of a second one are there"
        ),
        News::TwoDataCenters => tracing::info!("there are nodes of two data centers again"),
        News::Untrimmed(ms, why) => {
            tracing::error!(seconds = ms / 1000, why = words(why), "alarm: the shared log is not trimmed")
        }
        News::TrimmedAgain => tracing::info!("the shared log is trimmed again"),
        News::TakesOver => {
            tracing::error!("alarm: the nodes whose part it is do not trim the shared log; this one does it for them");
        }
    }
}

fn words(why: Why) -> &'static str {
    match why {
        Why::OneDataCenter => "one data center is left",
        Why::Diverged => "views differ, and it is open which is the wrong one, or it still serves",
        Why::HeldBack => "a member, or all of the second data center, has not read further",
        Why::NotDone => "it could be: who should do it does not, or fails",
    }
}
