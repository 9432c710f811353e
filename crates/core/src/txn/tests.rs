use proptest::prelude::*;

use super::*;
use crate::testing::Rows;

type Written = Vec<(u8, Option<u8>)>;

fn writes() -> impl Strategy<Value = Written> {
    proptest::collection::vec((0u8..12, proptest::option::of(any::<u8>())), 0..10)
}

fn visited(read: &dyn Read, from: u8, to: u8, direction: Direction, limit: usize) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    read.scan(&[from], &[to], direction, &mut |key, value| {
        found.push((key[0], value[0]));
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .unwrap();
    found
}

proptest! {
    /// Over a view, kept writes and a running command's, reads are as over the one map that they add up to.
    #[test]
    fn reads_see_the_latest_of_three_layers(
        view in writes(), kept in writes(), running in writes(),
        (from, to) in (0u8..13, 0u8..13), forward: bool, limit in 1usize..14,
    ) {
        let mut rows = Rows::default();
        let put = |rows: &mut Rows, writes: &Written| for (key, value) in writes {
            match value {
                Some(value) => rows.0.insert(vec![*key], vec![*value].into()),
                None => rows.0.remove(&vec![*key]),
            };
        };
        put(&mut rows, &view);
        let mut txn = Txn::new(&rows);
        for (writes, keep) in [(&kept, true), (&running, false)] {
            for (key, value) in writes {
                txn.set(vec![*key], value.map(|v| vec![v].into()));
            }
            if keep { txn.keep(); }
        }
        let mut sum = rows.clone();
        put(&mut sum, &kept);
        let mut undone = sum.clone();
        put(&mut sum, &running);
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        prop_assert_eq!(visited(&txn, from, to, direction, limit), visited(&sum, from, to, direction, limit));
        for key in 0..13u8 {
            prop_assert_eq!(txn.get(&[key]).unwrap(), sum.get(&[key]).unwrap());
        }

        txn.undo();
        prop_assert_eq!(visited(&txn, 0, 13, direction, 99), visited(&undone, 0, 13, direction, 99));
        let writes = txn.finish();
        undone = rows.clone();
        undone.commit(&writes);
        let mut expected = rows.clone();
        put(&mut expected, &kept);
        prop_assert_eq!(undone, expected);
    }
}
