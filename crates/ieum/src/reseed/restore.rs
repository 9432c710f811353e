//! `ieum restore` in a cell with etcd: a backup is put into the folder of one node, and the log of its cell begins behind it in an etcd that is
//! empty. What other nodes hold beyond the backup leaves the cell with that, so they are asked first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ieum_core::ids::{NodeId, Position};
use ieum_log_etcd::record::{self, Begun};
use ieum_node::backup::{self, About, Reaches, Restored};
use ieum_node::folder::Folder;
use ieum_node::reseed::{Seen, can_begin, list, named, numbers, without_each};
use ieum_planted::Bug;
use tokio::time::Instant;

use super::ask::{Stay, ask};
use crate::Failure;
use crate::bar::Bar;
use crate::config::Config;
use crate::shared;

/// Restores the backup `from` into the folder of one node and begins the log of its cell.
pub(crate) fn restore(
    config: &Config,
    from: &Path,
    replace: bool,
    without: &[NodeId],
    bar: &Bar,
) -> Result<Restored, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let etcd = shared::etcd(config)?;
    let found = runtime.block_on(record::look_patiently(&etcd))?;
    if let Some(held) = found.log {
        return Err(format!(
            "etcd holds a log already, of cell {} up to {}: a cell with etcd is restored into an empty one. Stop all nodes, and give it an etcd \
             that holds nothing",
            held.cell, held.last
        )
        .into());
    }
    let about = backup::about(from)?;
    let cell = about.meta.cell;
    if cell != config.node.cell {
        return Err(
            format!("this is a backup of cell {cell}, not of cell {}: correct [node] cell", config.node.cell).into()
        );
    }
    let folder = Folder::new(&config.node.data);
    let own = Own { node: config.node.number, reaches: backup::reaches(&folder)? };
    let seen = runtime.block_on(ask(config, Stay::Free))?;
    may_restore(&about, &own, &seen, without)?;
    let restored = backup::restore_shared(&folder, from, replace, newest(&seen), &bar.watch())?;
    let (predecessor, until) = (backup::predecessor(&restored.from), Instant::now() + etcd.patience);
    match runtime.block_on(record::begin(&etcd, &found, restored.generation, predecessor, until))? {
        Begun::Here => Ok(restored),
        Begun::Changed => Err("the backup is in the data folder, but somebody else has begun a log in this etcd meanwhile: restore again with \
                               --replace when etcd is empty"
            .into()),
    }
}

/// The node into whose folder it is restored.
struct Own {
    node: NodeId,
    /// How far the data reaches that is there.
    reaches: Reaches,
}

/// The latest generation that the others tell of.
fn newest(seen: &Seen) -> u32 {
    let stood = seen.stood.values().map(|stood| stood.stand.applied.generation);
    stood.chain(seen.runs.values().map(|at| at.generation)).max().unwrap_or_default()
}

/// What is said of a way that loses less than a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A node has a view that a generation can begin with.
    Reseed,
    /// The node itself may have one.
    OwnMay,
    /// Only journals are left of what is beyond the backup.
    None,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reseed => {
                "Nothing is lost with `ieum log reseed`, which begins the log anew from the node that has most"
            }
            Self::OwnMay => {
                "Start the node of this folder: if it halts and has a view, nothing is lost with `ieum log reseed`. If it has none, the backup \
                 is brought up to the end of its journal with --journal"
            }
            Self::None => {
                "Only journals hold it, and no generation can begin without a view: with --journal the backup is brought up to the end of one of \
                 them, and nothing is lost (docs/operating/restore.md)"
            }
        })
    }
}

/// Why nothing is restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Obstacle {
    #[error("node {0} runs or has halted, and it is its data that would be replaced: stop it first")]
    OwnRuns(NodeId),
    #[error(
        "node {} runs, and what it has applied beyond the backup would leave the cell. Stop it if its log is not lost; else it halts by itself. \
         To go on all the same say {}",
        numbers(nodes),
        without_each(nodes)
    )]
    Runs { nodes: Vec<NodeId> },
    #[error(
        "the backup ends at {backup}, but {}: what was acknowledged behind the backup would leave the cell. {way}. To go back to the backup \
         all the same say {}",
        nodes.iter().map(|(node, at)| format!("node {node} stands at {at}")).collect::<Vec<_>>().join(" and "),
        without_each(nodes.iter().map(|(node, _)| node))
    )]
    Beyond { backup: Position, nodes: Vec<(NodeId, Position)>, way: Way },
    #[error(
        "how far the data reaches that lies in the folder of node {node} is not known ({reason}), and it may be beyond the backup. Put back what \
         is missing if it is anywhere. To give it up all the same say --without {node}"
    )]
    OwnUnknown { node: NodeId, reason: String },
    #[error(
        "{} missing{}, and may hold more than the backup. Start {} if that can be done: a node halts where there is no log, and says where \
         it stands; one whose data is gone ends again, and is to be given up. To go on all the same say {}",
        named(missing), list(silent), if missing.len() == 1 { "it" } else { "them" },
        without_each(missing.iter().map(|(node, _)| node))
    )]
    Missing { missing: Vec<(NodeId, String)>, silent: Vec<String> },
    #[error("node {0} is no member of the cell: --without is for members that are given up")]
    NotAMember(NodeId),
}

/// Whether nothing leaves the cell with a restore that the operator has not given up by number.
fn may_restore(backup: &About, own: &Own, seen: &Seen, without: &[NodeId]) -> Result<(), Obstacle> {
    if Bug::RestoreAsksNobody.planted() {
        return Ok(());
    }
    if seen.runs.contains_key(&own.node) || seen.stood.contains_key(&own.node) {
        return Err(Obstacle::OwnRuns(own.node));
    }
    // Members that were added after the backup are known to those who have halted.
    let of_stood = seen.stood.values().flat_map(|stood| stood.stand.members.iter());
    let members: BTreeMap<_, _> = of_stood.chain(&backup.members).cloned().collect();
    let is_here = |node: &NodeId| seen.stood.contains_key(node) || seen.empty.contains(node) || *node == own.node;
    let is_known = |node: &NodeId| members.contains_key(node) || seen.runs.contains_key(node) || is_here(node);
    if let Some(stranger) = without.iter().find(|node| !is_known(node)) {
        return Err(Obstacle::NotAMember(*stranger));
    }
    let counts = |node: &NodeId| !without.contains(node);
    let nodes: Vec<_> = seen.runs.keys().copied().filter(counts).collect();
    if !nodes.is_empty() {
        return Err(Obstacle::Runs { nodes });
    }
    let end = backup.meta.position;
    let stood = seen.stood.values().map(|stood| (stood.node, stood.stand.applied, stood.stand.digest));
    // Whoever is as far and has something else has what the backup has not.
    let beyond =
        stood.filter(|(_, at, digest)| *at > end || (*at == end && digest.is_some_and(|it| it != backup.meta.digest)));
    let here = if let Reaches::To(at) = own.reaches { Some((own.node, at)).filter(|_| at > end) } else { None };
    let nodes: Vec<_> = beyond.map(|(node, at, _)| (node, at)).chain(here).filter(|(node, _)| counts(node)).collect();
    if !nodes.is_empty() {
        let has_view = nodes.iter().any(|(node, _)| seen.stood.get(node).is_some_and(can_begin));
        let own_may = nodes.iter().any(|(node, _)| *node == own.node);
        let way = if has_view { Way::Reseed } else { Way::None };
        return Err(Obstacle::Beyond { backup: end, nodes, way: if own_may && !has_view { Way::OwnMay } else { way } });
    }
    if let Reaches::Unknown(reason) = &own.reaches
        && counts(&own.node)
    {
        return Err(Obstacle::OwnUnknown { node: own.node, reason: reason.clone() });
    }
    let missing: Vec<_> = members.into_iter().filter(|(node, _)| !is_here(node) && counts(node)).collect();
    if missing.is_empty() { Ok(()) } else { Err(Obstacle::Missing { missing, silent: seen.silent.clone() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_node::halt::Stand;
    use ieum_node::snapshot::Meta;
    use ieum_peer::Stood;

    fn members() -> Vec<(NodeId, String)> {
        [(1, "a"), (2, "b"), (3, "c")].map(|(node, dc)| (node, dc.to_owned())).to_vec()
    }

    /// Who has halted where, of a cell whose backup ends at 4.40.
    fn seen(stood: impl IntoIterator<Item = (NodeId, u64)>) -> Seen {
        let (digest, others) = (Some([7; 32]), Vec::new());
        let stand =
            |ordinal| Stand { applied: Position::new(4, ordinal), digest, members: members(), others: others.clone() };
        let stood = stood.into_iter().map(|(node, at)| (node, Stood { node, dc: "x".to_owned(), stand: stand(at) }));
        Seen { stood: stood.collect(), ..Seen::default() }
    }

    fn asked(seen: &Seen, without: &[NodeId], reaches: Option<u64>) -> Result<(), String> {
        let to = |ordinal| Reaches::To(Position::new(4, ordinal));
        asked_with(seen, without, reaches.map_or(Reaches::Nowhere, to))
    }

    fn asked_with(seen: &Seen, without: &[NodeId], reaches: Reaches) -> Result<(), String> {
        let meta = Meta { cell: 1, position: Position::new(4, 40), digest: [7; 32] };
        let own = Own { node: 1, reaches };
        may_restore(&About { meta, members: members() }, &own, seen, without).map_err(|obstacle| obstacle.to_string())
    }

    #[test]
    fn nothing_beyond_the_backup_leaves_the_cell_unless_it_is_given_up_by_number() {
        assert_eq!(asked(&seen([(2, 40), (3, 39)]), &[], None), Ok(()));
        let reason = asked(&seen([(2, 41), (3, 40)]), &[], None).unwrap_err();
        assert!(reason.contains("node 2 stands at 4.41") && reason.contains("`ieum log reseed`"), "{reason}");
        assert!(reason.ends_with("say --without 2"), "{reason}");
        assert_eq!(asked(&seen([(2, 41), (3, 40)]), &[2], None), Ok(()));
        let reason = asked(&seen([(2, 41), (3, 42)]), &[2], None).unwrap_err();
        assert!(reason.contains("node 3 stands at 4.42") && !reason.contains("node 2"), "{reason}");
        // As far, but with something else.
        let mut other = seen([(2, 40), (3, 40)]);
        other.stood.get_mut(&3).unwrap().stand.digest = Some([8; 32]);
        assert!(asked(&other, &[], None).unwrap_err().contains("node 3 stands at 4.40"));
        // In a later generation.
        let mut later = seen([(2, 40), (3, 1)]);
        later.stood.get_mut(&3).unwrap().stand.applied = Position::new(5, 0);
        assert!(asked(&later, &[], None).unwrap_err().contains("node 3 stands at 5.0"));
    }

    #[test]
    fn what_lies_in_the_folder_itself_counts_as_what_another_node_has() {
        let reason = asked(&seen([(2, 40), (3, 40)]), &[], Some(41)).unwrap_err();
        assert!(reason.contains("node 1 stands at 4.41") && reason.ends_with("say --without 1"), "{reason}");
        assert_eq!(asked(&seen([(2, 40), (3, 40)]), &[1], Some(41)), Ok(()));
        assert_eq!(asked(&seen([(2, 40), (3, 40)]), &[], Some(40)), Ok(()));
        let stop = asked(&seen([(1, 40), (2, 40), (3, 40)]), &[1], None).unwrap_err();
        assert!(stop.contains("stop it first"), "{stop}");
    }

    #[test]
    fn what_lies_in_the_folder_and_cannot_be_read_has_to_be_given_up_by_number() {
        let level = seen([(2, 40), (3, 40)]);
        let unknown = || Reaches::Unknown("its journal cannot be read".to_owned());
        let reason = asked_with(&level, &[], unknown()).unwrap_err();
        assert!(reason.contains("its journal cannot be read") && reason.ends_with("say --without 1"), "{reason}");
        assert_eq!(asked_with(&level, &[1], unknown()), Ok(()));
    }

    /// Reseed and restore must not send the operator to each other.
    #[test]
    fn a_reseed_is_promised_only_where_somebody_has_a_view() {
        let mut journals = seen([(2, 42), (3, 40)]);
        let stand = &mut journals.stood.get_mut(&2).unwrap().stand;
        (stand.digest, stand.members) = (None, vec![]);
        let reason = asked(&journals, &[], None).unwrap_err();
        assert!(reason.contains("Only journals hold it") && !reason.contains("reseed"), "{reason}");
        let reason = asked(&seen([(2, 40), (3, 40)]), &[], Some(41)).unwrap_err();
        assert!(reason.contains("if it halts and has a view"), "{reason}");
        assert!(asked(&seen([(2, 42), (3, 40)]), &[], Some(41)).unwrap_err().contains("Nothing is lost with"));
    }

    #[test]
    fn who_is_named_may_be_given_up() {
        // Added after the backup, and without a view that tells of it.
        let mut later = seen([(2, 40), (3, 40), (4, 42)]);
        let stand = &mut later.stood.get_mut(&4).unwrap().stand;
        (stand.digest, stand.members) = (None, vec![]);
        assert!(asked(&later, &[], None).unwrap_err().ends_with("say --without 4"));
        assert_eq!(asked(&later, &[4], None), Ok(()));
    }

    #[test]
    fn the_generations_that_others_are_in_are_known() {
        let mut all = seen([(2, 40)]);
        assert_eq!(newest(&Seen::default()), 0);
        assert_eq!(newest(&all), 4);
        all.runs.insert(3, Position::new(9, 1));
        assert_eq!(newest(&all), 9);
    }

    #[test]
    fn nothing_is_restored_beside_a_node_that_runs_or_that_nobody_has_asked() {
        let mut running = seen([(2, 40)]);
        running.runs.insert(3, Position::new(4, 50));
        let reason = asked(&running, &[], None).unwrap_err();
        assert!(reason.starts_with("node 3 runs") && reason.ends_with("say --without 3"), "{reason}");
        assert_eq!(asked(&running, &[3], None), Ok(()));
        let reason = asked(&seen([(2, 40)]), &[], None).unwrap_err();
        assert!(
            reason.contains("node 3 in data center c is missing") && reason.ends_with("say --without 3"),
            "{reason}"
        );
        assert_eq!(asked(&seen([(2, 40)]), &[3], None), Ok(()));
        // One that the backup does not know of yet.
        let mut more = seen([(2, 40), (3, 40)]);
        more.stood.get_mut(&2).unwrap().stand.members.push((4, "a".to_owned()));
        assert!(asked(&more, &[], None).unwrap_err().contains("node 4 in data center a is missing"));
        assert_eq!(asked(&more, &[4], None), Ok(()));
        assert!(asked(&more, &[9], None).unwrap_err().contains("node 9 is no member"));
    }
}
