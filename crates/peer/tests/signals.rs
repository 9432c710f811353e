//! Who types and who is there, between real nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::sync::Arc;

use common::{Present, add, join};
use ieum_core::ids::{RoomId, UserId};
use ieum_core::query::typing::Typing;
use ieum_log::memory::Memory as Shared;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

fn typing(room: u64) -> Typing {
    Typing { room: RoomId(room), user: UserId(1) }
}

/// What comes to a node's ear.
fn ear(present: &Present) -> UnboundedReceiver<Typing> {
    let (told, hears) = unbounded_channel();
    present.circle.signals().put_ear(Some(Arc::new(move |typing: &[Typing]| {
        // The test may have ended.
        let _ = typing.iter().try_for_each(|typing| told.send(*typing));
    })));
    hears
}

/// Waits until a node knows of so many people elsewhere. Each look follows something that was heard; reports come twice a second.
async fn knows(present: &Present, people: usize) {
    present.until(|circle| circle.signals().people_elsewhere() == people).await;
}

/// Types in a room, again and again as a person does, until it is heard, before anything else.
async fn types_until_heard(typist: &Present, (people, room): (&[u64], u64), ear: &mut UnboundedReceiver<Typing>) {
    let people: Vec<UserId> = people.iter().map(|person| UserId(*person)).collect();
    let mut own = typist.circle.report();
    loop {
        typist.circle.signals().tell(&[(typing(room), people.clone())]);
        tokio::select! {
            heard = ear.recv() => {
                assert_eq!(heard, Some(typing(room)));
                return;
            }
            said = own.changed() => said.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_who_types_elsewhere_where_somebody_may_hear_it() {
    let (root, log) = (tempfile::tempdir().unwrap(), Arc::new(Shared::new(1)));
    let mut first = join(&log, &root.path().join("1"), 1, &[]).await;
    for node in [2, 3] {
        first.member.ask(add(node)).await;
    }
    let known = [first.address.clone()];
    let second = join(&log, &root.path().join("2"), 2, &known).await;
    let third = join(&log, &root.path().join("3"), 3, &known).await;
    let (mut at_second, mut at_third) = (ear(&second), ear(&third));
    for (present, people) in [(&first, vec![10, 11]), (&second, vec![20]), (&third, vec![30, 31])] {
        present.circle.signals().set_people(people.into_iter().map(UserId).collect());
    }
    for (present, people) in [(&first, 3), (&second, 4), (&third, 3)] {
        knows(present, people).await;
    }
    // Told where somebody who may hear it is, and only there: what the second hears first is of the next room.
    types_until_heard(&first, (&[10, 31], 7), &mut at_third).await;
    types_until_heard(&first, (&[20], 8), &mut at_second).await;
    second.circle.signals().set_people(Vec::new());
    knows(&first, 2).await;
    for present in [second, third, first] {
        present.leave().await;
    }
}
