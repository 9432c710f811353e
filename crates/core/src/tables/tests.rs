use proptest::prelude::*;

use super::*;
use crate::testing::Rows;

fn bytes_of(key: &impl Key) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.put_key(&mut bytes);
    bytes
}

fn back<K: Key>(key: &K) -> Option<K> {
    let bytes = bytes_of(key);
    let mut rest = bytes.as_slice();
    K::take_key(&mut rest).filter(|_| rest.is_empty())
}

proptest! {
    #[test]
    fn the_order_of_keys_is_the_order_of_their_bytes(a: (u64, u32, u64), b: (u64, u32, u64)) {
        let key = |(room, generation, ordinal)| (RoomId(room), Position::new(generation, ordinal), ordinal);
        let (x, y) = (key(a), key(b));
        prop_assert_eq!(x.cmp(&y), bytes_of(&x).cmp(&bytes_of(&y)));
        prop_assert_eq!(back(&x), Some(x));
    }

    #[test]
    fn keys_of_text_and_bytes_read_back(time: u64, text in ".*", raw: Vec<u8>, id: [u8; 16]) {
        prop_assert_eq!(back(&text), Some(text.clone()));
        let key = (time, Bytes::from(raw));
        prop_assert_eq!(back(&key), Some(key.clone()));
        prop_assert_eq!(back(&(RoomId(time), id)), Some((RoomId(time), id)));
    }

    #[test]
    fn within_visits_what_starts_with_its_part(keys in proptest::collection::btree_set(edge_pair(), 0..20), part in edge(), after in edge()) {
        const TABLE: Table<(u64, u64), u64> = Table::new(9);
        const NEIGHBOUR: Table<(u64, u64), u64> = Table::new(10);
        let mut rows = Rows::default();
        for key in &keys {
            rows.put(&TABLE, key, &key.1);
            rows.put(&NEIGHBOUR, key, &0);
        }
        for after in [None, Some((part, after))] {
            let mut found = Vec::new();
            TABLE.within(&rows, &part, after.as_ref(), |key, value| {
                found.push((key, value));
                ControlFlow::Continue(())
            }).unwrap();
            let expected = keys.iter().filter(|key| key.0 == part && after.is_none_or(|after| **key > after));
            prop_assert_eq!(found, expected.map(|key| (*key, key.1)).collect::<Vec<_>>());
        }
    }
}

/// Numbers at the ends of bytes.
fn edge() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..3, 254u64..258, Just(u64::MAX), Just(u64::MAX - 1)]
}

fn edge_pair() -> impl Strategy<Value = (u64, u64)> {
    (edge(), edge())
}

#[test]
fn a_row_that_cannot_be_read_is_an_error_of_the_store() {
    const TABLE: Table<u64, u64> = Table::new(9);
    let mut rows = Rows::default();
    rows.0.insert(TABLE.key(&1), vec![0xff].into());
    let error = TABLE.get(&rows, &1).unwrap_err();
    assert_eq!(error.operation, "read a row");
    let walk = |rows: &Rows| TABLE.range(rows, &0u64, &9u64, Direction::Forward, |_, _| ControlFlow::Continue(()));
    assert!(walk(&rows).is_err());
    let mut short = Rows::default();
    short.0.insert(vec![9, 0, 0, 0, 0, 0, 0, 0, 0], vec![1].into());
    short.0.insert(vec![9, 0, 0], vec![1].into());
    assert!(TABLE.range(&short, &0u8, &1u8, Direction::Forward, |_, _| ControlFlow::Continue(())).is_err());
}
