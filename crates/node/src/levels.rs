//! Levels: which of them the cell is at, and what its members know (docs/operating/levels.md).

use std::ops::ControlFlow;

use ieum_core::ids::NodeId;
use ieum_core::kv::{self, Direction, Read};
use ieum_core::tables::cell::{NODES, ONLY, SETTINGS};

/// Where a cell stands among the levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// The active one.
    pub active: u32,
    /// The members, by number.
    pub members: Vec<Member>,
}

/// A member of the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Its data center.
    pub dc: String,
    /// The highest level that it knew when it started last.
    pub level: u32,
}

/// Why a level cannot become active.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is active.
    #[error("level {0} is active already")]
    Active(u32),
    /// A cell never goes back.
    #[error("the cell is at level {active} and never goes back to {asked}")]
    Lower {
        /// The active level.
        active: u32,
        /// The one asked for.
        asked: u32,
    },
    /// Members would stop, because they could not apply what comes.
    #[error(
        "level {asked} is more than these members know: {}. Start a build on them that knows it first; `ieum level` tells when all do",
        listed(behind)
    )]
    Unknown {
        /// The one asked for.
        asked: u32,
        /// Who does not know it.
        behind: Vec<Member>,
    },
}

fn listed(members: &[Member]) -> String {
    let each = members.iter().map(|m| format!("node {} in {} knows up to {}", m.node, m.dc, m.level));
    each.collect::<Vec<_>>().join(", ")
}

impl Levels {
    /// Those of the cell in `view`; none before it is founded.
    pub fn of(view: &impl Read) -> kv::Result<Option<Self>> {
        let Some(settings) = SETTINGS.get(view, &ONLY)? else { return Ok(None) };
        let mut members = Vec::new();
        NODES.range(view, &NodeId::MIN, &NodeId::MAX, Direction::Forward, |node, row| {
            members.push(Member { node, dc: row.dc, level: row.level });
            ControlFlow::Continue(())
        })?;
        Ok(Some(Self { active: settings.level, members }))
    }

    /// Why `level` cannot become active, if it cannot.
    #[must_use]
    pub fn refusal(&self, level: u32) -> Option<Refusal> {
        if level == self.active {
            return Some(Refusal::Active(level));
        }
        if level < self.active {
            return Some(Refusal::Lower { active: self.active, asked: level });
        }
        let behind: Vec<Member> = self.members.iter().filter(|member| member.level < level).cloned().collect();
        (!behind.is_empty()).then_some(Refusal::Unknown { asked: level, behind })
    }
}

/// What a cell at `active` lacks, in words.
fn lacking(active: u32) -> &'static str {
    if active < 2 { " Until then nobody can open a direct room, make a group or invite." } else { "" }
}

/// Tells the operator of a cell that is below what this build knows.
pub(crate) fn warn_if_below(view: &impl Read, known: u32) -> kv::Result<()> {
    let Some(Levels { active, .. }) = Levels::of(view)? else { return Ok(()) };
    if active < known {
        tracing::warn!(
            "the cell is at level {active} and this build knows {known}: what is newer is answered `unsupported`.{} When every member \
             runs a build that knows it (`ieum level` tells), say `ieum level activate {known}`: docs/operating/levels.md",
            lacking(active)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: NodeId, level: u32) -> Member {
        Member { node, dc: "a".to_owned(), level }
    }

    #[test]
    fn only_what_is_next_for_everybody_can_become_active() {
        let levels = Levels { active: 2, members: vec![member(1, 4), member(2, 3)] };
        assert_eq!(levels.refusal(3), None);
        assert_eq!(levels.refusal(2), Some(Refusal::Active(2)));
        assert_eq!(levels.refusal(1), Some(Refusal::Lower { active: 2, asked: 1 }));
        let behind = levels.refusal(4).unwrap();
        assert_eq!(behind, Refusal::Unknown { asked: 4, behind: vec![member(2, 3)] });
        assert!(behind.to_string().contains("node 2 in a knows up to 3."), "{behind}");
    }
}
