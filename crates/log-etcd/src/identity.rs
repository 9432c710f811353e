//! Whose log the node expects, and what a member that it connects to has to show.

use ieum_log::Position;
use ieum_log::sqlite::Predecessor;
use ieum_planted::Bug;

use crate::ends::Ends;
use crate::keys::Cell;

/// What is known of the log. It is filled in by the first member that answers, and every later connection is held to it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The cell that it has to be of.
    pub(crate) cell: u32,
    /// Whether to make a log where there is none.
    pub(crate) create: bool,
    pub(crate) generation: Option<u32>,
    /// How the generation before ended, as soon as a member has shown it.
    pub(crate) predecessor: Option<Predecessor>,
    /// etcd's own number of the cluster.
    pub(crate) cluster: Option<u64>,
    /// What the node's view has applied.
    pub(crate) applied: Option<Position>,
}

impl Identity {
    /// Takes what a member says of the cell, or says why it is not to be used.
    pub(crate) fn admit(&mut self, cluster: u64, found: Option<Cell>) -> Result<u32, String> {
        let found = found.ok_or_else(|| {
            "this etcd holds no log of ours: give the endpoints of the cell's etcd, or begin a cell in it with `ieum serve --found`"
                .to_owned()
        })?;
        if found.cell != self.cell && !Bug::EtcdCellUnchecked.planted() {
            let (found, asked) = (found.cell, self.cell);
            return Err(format!(
                "this etcd holds the log of cell {found}, not of cell {asked}: set the cell's number right, or give the endpoints of \
                 its own etcd"
            ));
        }
        if self.cluster.is_some_and(|known| known != cluster) {
            return Err(format!(
                "this member belongs to another etcd cluster ({cluster:x}) than the others: give endpoints of one cluster"
            ));
        }
        if let Some(known) = self.generation.or(self.applied.map(|applied| applied.generation))
            && known != found.generation
        {
            let found = found.generation;
            return Err(format!(
                "the log is in generation {found} and this node in generation {known}: the cell was reseeded, and of the two the earlier is given up"
            ));
        }
        (self.cluster, self.generation) = (Some(cluster), Some(found.generation));
        self.predecessor = found.predecessor;
        Ok(found.generation)
    }

    /// Refuses a log that ends before what is known to have been in it.
    pub(crate) fn check_end(&self, ends: &Ends, seen: u64) -> Result<(), String> {
        let known = seen.max(self.applied.map_or(0, |applied| applied.ordinal));
        if ends.last >= known || Bug::EtcdEndUnchecked.planted() {
            return Ok(());
        }
        let last = ends.last;
        Err(format!(
            "the log ends at batch {last}, but batch {known} was in it: this etcd was restored from a backup or lost its data; reseed the \
             cell with `ieum log reseed`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { cell: 7, create: false, generation: None, predecessor: None, cluster: None, applied: None }
    }

    const OURS: Option<Cell> = Some(Cell { cell: 7, generation: 3, predecessor: None });

    #[test]
    fn the_first_member_tells_and_the_others_have_to_agree() {
        let mut known = identity();
        assert_eq!(known.admit(99, OURS), Ok(3));
        assert_eq!(known.admit(99, OURS), Ok(3));
        assert!(known.admit(98, OURS).unwrap_err().contains("another etcd cluster"));
        let reseeded = known.admit(99, Some(Cell { cell: 7, generation: 4, predecessor: None })).unwrap_err();
        assert!(reseeded.contains("generation 4") && reseeded.contains("reseeded"), "{reseeded}");
    }

    #[test]
    fn foreign_and_empty_clusters_are_refused() {
        assert!(identity().admit(1, None).unwrap_err().contains("no log of ours"));
        assert!(
            identity()
                .admit(1, Some(Cell { cell: 8, generation: 3, predecessor: None }))
                .unwrap_err()
                .contains("cell 8, not of cell 7")
        );
        let applied = Some(Position { generation: 2, ordinal: 5 });
        Identity { applied, ..identity() }.admit(1, OURS).unwrap_err();
    }

    #[test]
    fn a_log_that_ends_early_is_refused() {
        let ends = Ends {
            revision: 9,
            last: 10,
            last_revision: 8,
            first_revision: 1,
            trim: crate::keys::Trim::default(),
            trim_put_at: 0,
        };
        let applied = |ordinal| Identity { applied: Some(Position { generation: 3, ordinal }), ..identity() };
        assert_eq!(applied(10).check_end(&ends, 10), Ok(()));
        applied(11).check_end(&ends, 0).unwrap_err();
        applied(0).check_end(&ends, 11).unwrap_err();
    }
}
