use std::collections::BTreeSet;

use super::*;

/// Numbers are in logs and words in clients: neither may change.
#[test]
fn every_reason_has_its_own_number_and_word() {
    let numbers: Vec<u8> = Reject::ALL.iter().map(|reject| reject.to_bytes()[0]).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u8), "dense, none given twice");
    assert_eq!(Reject::ALL.iter().map(|reject| reject.code()).collect::<BTreeSet<_>>().len(), Reject::ALL.len());
    for reject in Reject::ALL {
        assert_eq!(Reject::from_bytes(&reject.to_bytes()), Ok(*reject));
    }
    assert!(Reject::from_bytes(&[0]).is_err());
    assert!(Reject::from_bytes(&[Reject::ALL.len() as u8 + 1]).is_err());
}
