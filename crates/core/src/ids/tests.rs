use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_position_reads_back(generation: u32, ordinal: u64) {
        let position = Position::new(generation, ordinal);
        prop_assert_eq!(position.to_string().parse(), Ok(position));
        prop_assert_eq!(Position::from_bytes(&position.to_bytes()), Ok(position));
    }

    #[test]
    fn no_text_makes_reading_a_position_panic(text in ".{0,40}", digits in "[0-9.+-]{0,45}") {
        for text in [text, digits] {
            if let Ok(position) = text.parse::<Position>() {
                let plain = text.split('.').map(|part| part.trim_start_matches('0')).collect::<Vec<_>>();
                let canonical = position.to_string();
                prop_assert_eq!(plain, canonical.split('.').map(|part| part.trim_start_matches('0')).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn ids_of_cells_are_apart_and_fit_a_json_number(a in (0..=MAX_CELL, 0u64..1 << 40), b in (0..=MAX_CELL, 0u64..1 << 40)) {
        let (x, y) = (compose(a.0, a.1), compose(b.0, b.1));
        prop_assert!(x < 1 << 53);
        prop_assert_eq!(a == b, x == y);
    }
}

#[test]
fn a_position_is_two_numbers_and_a_dot() {
    for bad in [
        "",
        ".",
        "1",
        "1.",
        ".1",
        "1.2.3",
        "+1.2",
        "1.-2",
        " 1.2",
        "1.2 ",
        "4294967296.1",
        "1.18446744073709551616",
        "١.٢",
    ] {
        assert!(bad.parse::<Position>().is_err(), "{bad}");
    }
    assert_eq!("1.2".parse(), Ok(Position::new(1, 2)));
}
