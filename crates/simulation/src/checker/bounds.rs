//! Bounds that hold at every moment: who is kept waiting by a node that does not keep up is told, and queues stay as short as they may be.

use crate::failure::{Broken, Check, holds};
use crate::network::Link;
use crate::node::{Node, Serving};
use crate::world::{Event, World};

/// How often it is looked.
const EVERY: u64 = 500;
/// A node ticks every second, a tick that is not back after 1.5 s means that it does not keep up, and that is looked at four times a second.
const TOLD: u64 = 3_100;
/// The same of what was applied and reaches nobody.
const TOLD_UNDELIVERED: u64 = 2_600;
/// How far ahead the clock of a node that is alone may be when nothing has gone wrong with it.
const AHEAD: u64 = 10_000;
/// What a session's queue may hold beyond its bounds: the end of its stream, and one message of the greatest length.
const ONE_MORE: (usize, usize) = (1, 64 * 1024);
/// What one frame may have on top of what waits.
const FRAME: usize = 256 * 1024;

impl World {
    /// Looks at everybody.
    pub(crate) fn look_around(&mut self) -> Check {
        self.after(EVERY, Event::Look);
        self.look_at_requests()?;
        let now = self.now();
        self.time_is_right()?;
        self.room_lasts()?;
        self.look_at_nodes()?;
        self.names_are_for_those_who_share_a_room()?;
        if self.views.on {
            self.differences_end()?;
        }
        for host in &self.hosts {
            let Some(node) = host.node.as_ref().filter(|_| host.frozen_until <= now) else { continue };
            let since = host.frozen_until.max(self.healed.unwrap_or(0));
            self.nobody_hangs(node, since)
                .and_then(|()| self.queues_are_bounded(node))
                .map_err(|Broken(what)| Broken(format!("node {}: {what}", host.number())))?;
        }
        for device in &self.devices {
            if let Some(process) = device.process.as_ref().filter(|process| !process.stopped) {
                process.wires.look(now).map_err(|Broken(what)| Broken(format!("device {}: {what}", device.index)))?;
            }
        }
        Ok(())
    }

    /// A node that is alone is outvoted by nobody: its clock may be off by some seconds, and where it jumps cell time does not go with it.
    fn time_is_right(&self) -> Check {
        let ahead = self.model.time().saturating_sub(self.true_time());
        holds(self.hosts.len() > 1 || ahead <= AHEAD, || format!("cell time is {ahead} ms ahead"))
    }

    /// Invariant 6: a node that does not keep up has no sessions for long.
    fn nobody_hangs(&self, node: &Node, since: u64) -> Check {
        let now = self.now();
        let alone = now - node.own_at.max(since);
        let undelivered = node.undelivered_since.map_or(0, |waits| now - waits.max(since));
        if alone <= TOLD && undelivered <= TOLD_UNDELIVERED {
            return Ok(());
        }
        let kept = |(link, serving): (&Link, &Serving)| {
            let takes = self.network.untaken(*link) <= Self::window();
            (takes && matches!(serving, Serving::Live(_) | Serving::Opening(_))).then_some(*link)
        };
        let left: Vec<Link> = node.sessions.iter().filter_map(kept).collect();
        holds(left.is_empty(), || {
            format!(
                "sessions {left:?} were not told, and nothing has come back for {alone} ms, {undelivered} undelivered"
            )
        })
    }

    fn queues_are_bounded(&self, node: &Node) -> Check {
        let sessions = node.hub.sessions();
        holds(sessions <= node.most_sessions, || format!("{sessions} sessions"))?;
        let (items, bytes) = (node.queue.0 + ONE_MORE.0, node.queue.1 + ONE_MORE.1);
        for (link, serving) in &node.sessions {
            let untaken = self.network.untaken(*link);
            let most = Self::window() + bytes + FRAME;
            holds(untaken <= most, || format!("{untaken} bytes are on the way of session {link}"))?;
            if let Serving::Live(live) = serving {
                let waits = live.session().waits();
                holds(waits.0 <= items && waits.1 <= bytes, || format!("{waits:?} wait in session {link}"))?;
            }
        }
        Ok(())
    }
}

/// What a device may ask of a node, in the plainest form: so much at once, and so much a second.
#[derive(Debug)]
pub(crate) struct Budget {
    left: f64,
    at: u64,
}

impl Budget {
    pub(crate) fn new(burst: u32, now: u64) -> Self {
        Self { left: f64::from(burst), at: now }
    }

    /// The node has taken a command that costs so much.
    pub(crate) fn spends(&mut self, cost: u32, (per_second, burst): (u32, u32), now: u64) -> Check {
        let (most, cost) = (f64::from(burst), f64::from(cost.min(burst)));
        self.left = (self.left + (now - self.at) as f64 * f64::from(per_second) / 1_000.0).min(most) - cost;
        self.at = now;
        holds(self.left > -0.1, || format!("a device has given commands for {} more than it may", -self.left))
    }
}

/// What a change costs a device: a token, and one more for each ten people; of an archive's entries ten cost one.
pub(crate) fn cost(change: &ieum_protocol::frames::Change) -> u32 {
    use ieum_protocol::frames::Change;
    let tens = |count: usize| u32::try_from(count.div_ceil(10)).unwrap_or(u32::MAX);
    match change {
        Change::AddToArchive { entries, .. } => tens(entries.len()).max(1),
        Change::CreateGroup { handles, .. } | Change::Invite { handles, .. } => 1 + tens(handles.len()),
        _ => 1,
    }
}
