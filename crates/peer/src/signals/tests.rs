use ieum_core::ids::RoomId;

use super::messages::{PEOPLE, TYPING};
use super::*;
use crate::signals::feed::Feed;

fn people(ids: impl IntoIterator<Item = u64>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}

fn said(node: NodeId, came: impl IntoIterator<Item = u64>) -> Said {
    Said { node, all: true, came: people(came), went: Vec::new(), typing: Vec::new() }
}

fn typing(room: u64) -> Typing {
    Typing { room: RoomId(room), user: UserId(1) }
}

/// Node 1 of a cell of three.
fn one() -> Arc<Signals> {
    let signals = Arc::new(Signals::default());
    signals.set_members([1, 2, 3].into());
    signals
}

#[test]
fn a_node_is_told_who_types_where_somebody_who_may_hear_it_is_there() {
    let signals = one();
    let mut feeds = [2, 3].map(|node| Feed::new(&signals, 1, node));
    feeds.iter_mut().for_each(|feed| assert!(feed.next().is_some_and(|said| said.all && said.node == 1)));
    signals.take("two", said(2, [20, 21]));
    signals.take("three", said(3, [30]));
    signals.tell(&[(typing(7), people([5, 21])), (typing(8), people([5])), (typing(9), people([20, 30]))]);
    let told = feeds.each_mut().map(|feed| feed.next().map(|said| said.typing));
    assert_eq!(told, [Some(vec![typing(7), typing(9)]), Some(vec![typing(9)])]);
    assert_eq!((signals.people_elsewhere(), signals.is_elsewhere(UserId(30))), (3, true));
    signals.forget("three");
    signals.tell(&[(typing(9), people([30]))]);
    assert_eq!(feeds[1].next(), None);
}

#[test]
fn who_is_no_member_is_told_nothing_and_not_believed() {
    let signals = one();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    signals.put_ear(Some(Arc::new(move |typing: &[Typing]| ear.lock().extend_from_slice(typing))));
    let mut feed = Feed::new(&signals, 1, 2);
    assert!(feed.next().is_some());
    let types = |node| Said { typing: vec![typing(7)], ..said(node, [20]) };
    assert!(signals.take("two", types(2)));
    signals.set_people(people([4]));
    signals.set_members([1, 3].into());
    signals.tell(&[(typing(7), people([20]))]);
    assert_eq!(feed.next(), None);
    assert!(signals.take("two", types(2)) && signals.take("four", types(4)));
    assert_eq!((heard.lock().len(), signals.people_elsewhere()), (1, 0));
    // Added again, it hears from the beginning who is there.
    signals.set_members([1, 2].into());
    assert_eq!(feed.next(), Some(Said { node: 1, ..said(1, [4]) }));
}

#[test]
fn a_node_that_does_not_keep_up_loses_the_oldest_and_knows_in_the_end_who_is_there() {
    let signals = one();
    signals.take("two", said(2, [20]));
    let mut feed = Feed::new(&signals, 1, 2);
    let all: Vec<(Typing, Vec<UserId>)> = (0..10_000).map(|room| (typing(room), people([20]))).collect();
    signals.tell(&all);
    let mut known = std::collections::BTreeSet::new();
    let mut take = |feed: &mut Feed| {
        let said = feed.next()?;
        assert!(said.came.len() + said.went.len() <= PEOPLE && said.typing.len() <= TYPING);
        if said.all {
            known.clear();
        }
        known.extend(said.came);
        said.went.iter().for_each(|person| assert!(known.remove(person)));
        Some((said.typing, known.iter().copied().collect::<Vec<_>>()))
    };
    let (latest, _) = take(&mut feed).unwrap();
    assert!(latest.iter().copied().eq((10_000 - TYPING as u64..10_000).map(typing)));
    // Who is there changes faster than it is told.
    for from in 0..5 {
        signals.set_people(people((from * 1_000..).step_by(1 + from as usize).take(6_000)));
        take(&mut feed);
    }
    let mut last = Vec::new();
    while let Some((_, people)) = take(&mut feed) {
        last = people;
    }
    assert_eq!(last, *signals.here());
}

#[test]
fn more_people_than_can_be_are_refused() {
    let signals = one();
    for part in 0..MOST_PEOPLE as u64 / 2_000 {
        assert!(signals.take("two", Said { all: false, ..said(2, part * 2_000..(part + 1) * 2_000) }));
    }
    assert!(!signals.take("two", Said { all: false, ..said(2, [u64::MAX]) }));
}
