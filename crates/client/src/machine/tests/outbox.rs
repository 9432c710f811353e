//! Exactly once, in order, as far as the client sees to it.

use super::*;

const A: &str = "ws://a:1";

fn live(n: u64) -> Driver {
    let mut driver = Driver::new(&[A]);
    driver.live(n, "1.10");
    driver
}

#[test]
fn a_command_whose_ack_was_lost_is_sent_again_with_the_same_number_and_id() {
    let mut driver = live(0);
    driver.submit("hi");
    let first = driver.cmds();
    driver.lose_connection();
    driver.live(1, "1.11");
    assert_eq!(driver.cmds(), first);
    driver.ack(1, "1.11");
    assert_eq!(driver.outcomes().len(), 1);
    driver.lose_connection();
    driver.live(1, "1.12");
    assert_eq!(driver.commands(), []);
}

#[test]
fn a_command_is_sent_only_once_the_store_has_it() {
    let mut driver = live(0);
    driver.machine.submit(CommandId(9), &say("hi")).unwrap();
    assert!(matches!(driver.machine.next_output(), Some(Output::Store(_))));
    assert_eq!(driver.machine.next_output(), None);
    driver.machine.stored(driver.moment(), Ok(()));
    assert!(matches!(driver.machine.next_output(), Some(Output::Send { .. })));
}

#[test]
fn a_command_that_the_store_did_not_take_is_given_up_and_its_number_goes_to_the_next() {
    let mut driver = live(0);
    driver.broken_store = true;
    let id = driver.submit("lost");
    assert_eq!(driver.outcomes(), [(id, Err(Failure::NotStored("disk full".into())), false)]);
    driver.broken_store = false;
    driver.submit("hi");
    assert_eq!(driver.commands(), pairs(&[(1, "hi")]));
}

#[test]
fn what_was_written_while_away_waits_for_the_counter_and_goes_in_order() {
    let mut driver = Driver::new(&[A]);
    driver.submit("a");
    driver.submit("b");
    assert_eq!(driver.saved.outbox[0].n, None);
    driver.live(41, "1.1");
    assert_eq!(driver.commands(), pairs(&[(42, "a"), (43, "b")]));
    assert_eq!(driver.saved.outbox[1].n, Some(43));
}

#[test]
fn the_next_process_sends_what_the_last_one_left() {
    let mut driver = live(0);
    driver.submit("a");
    driver.ack(1, "1.11");
    driver.submit("b");
    let mut driver = driver.restart();
    let hello = driver.live(1, "1.12");
    assert_eq!(hello.seen.as_deref(), Some("1.11"));
    assert_eq!(driver.commands(), pairs(&[(2, "b")]));
}

#[test]
fn at_most_64_are_under_way() {
    let mut driver = live(0);
    for n in 0..100 {
        driver.submit(&n.to_string());
    }
    assert_eq!(driver.commands().len(), 64);
    driver.ack(1, "1.11");
    driver.ack(2, "1.11");
    assert_eq!(driver.commands(), pairs(&[(65, "64"), (66, "65")]));
}

#[test]
fn a_full_outbox_and_a_change_that_is_too_large_say_so() {
    let mut limited = settings(&[A]);
    limited.limits.queue = 1;
    let mut driver = Driver::with(limited, Saved::default());
    let large = say(&"x".repeat(300_000));
    assert!(matches!(driver.machine.submit(CommandId(1), &large), Err(Failure::TooLarge { .. })));
    driver.submit("a");
    assert_eq!(driver.machine.submit(CommandId(2), &say("b")), Err(Failure::Full { limit: 1 }));
}

#[test]
fn refused_in_the_middle_of_a_pipeline_everything_from_there_is_sent_again_after_a_while() {
    let mut driver = live(0);
    for text in ["a", "b", "c", "d"] {
        driver.submit(text);
    }
    driver.commands();
    driver.refuse(2, Code::Busy.problem());
    driver.refuse(3, Code::OutOfOrder.problem());
    driver.ack(1, "1.11");
    driver.refuse(4, Code::OutOfOrder.problem());
    driver.run(499);
    assert_eq!(driver.commands(), []);
    driver.run(2);
    assert_eq!(driver.commands(), pairs(&[(2, "b"), (3, "c"), (4, "d")]));
}

#[test]
fn a_server_that_lives_but_does_not_answer_commands_is_left() {
    let mut driver = Driver::new(&[A, "ws://b:1"]);
    driver.live(0, "1.10");
    let first = driver.connects.last().cloned();
    driver.submit("a");
    driver.submit("b");
    driver.refuse(1, Code::Busy.problem());
    for _ in 0..99 {
        driver.run(100);
        driver.frame(&ServerFrame::Pong { id: 1, pos: "1.10".into() });
    }
    assert_eq!((driver.closes, driver.commands().len()), (0, 2));
    driver.random = 150;
    driver.run(100);
    assert_eq!(driver.closes, 1);
    driver.live(0, "1.10");
    assert_ne!(driver.connects.last().cloned(), first);
    assert_eq!(driver.commands(), pairs(&[(1, "a"), (2, "b")]));
}

#[test]
fn refused_again_and_again_the_waits_grow_and_stay_bounded() {
    let mut driver = live(0);
    driver.random = u64::MAX;
    driver.submit("a");
    for _ in 0..20 {
        driver.sent.clear();
        driver.refuse(1, Code::Busy.problem());
        let before = driver.now;
        for _ in 0..100 {
            driver.frame(&ServerFrame::Pong { id: 1, pos: "1.10".into() });
            driver.run(100);
            if !driver.commands().is_empty() {
                break;
            }
        }
        assert!((500..=5_700).contains(&(driver.now - before)), "{}", driver.now - before);
    }
}

#[test]
fn a_rejected_command_uses_up_its_number_and_is_not_kept() {
    let mut driver = live(0);
    let id = driver.submit("a");
    driver.submit("b");
    driver.reject(1, Code::RoomUnknown);
    let problem = Box::new(Code::RoomUnknown.problem());
    assert_eq!(driver.outcomes(), [(id, Err(Failure::Rejected(problem)), false)]);
    driver.ack(2, "1.11");
    assert_eq!(driver.saved.kept.len(), 1);
    driver.submit("c");
    assert_eq!(driver.commands().last(), pairs(&[(3, "c")]).last());
}

#[test]
fn too_old_is_reported_and_not_sent_again() {
    for refused in [false, true] {
        let mut driver = live(0);
        let id = driver.submit("a");
        match refused {
            true => driver.refuse(1, Code::TooOld.problem()),
            false => driver.reject(1, Code::TooOld),
        }
        assert_eq!(driver.outcomes(), [(id, Err(Failure::TooOld), false)]);
        driver.lose_connection();
        driver.commands();
        driver.live(80, "1.11");
        assert_eq!(driver.commands(), []);
        driver.submit("b");
        assert_eq!(driver.commands(), pairs(&[(81, "b")]));
    }
}

#[test]
fn a_number_that_was_another_commands_is_replaced() {
    // The store was put back from a copy: its counter is behind.
    let mut driver = live(0);
    driver.submit("a");
    let mut driver = driver.restart();
    driver.live(5, "1.20");
    assert_eq!(driver.commands(), pairs(&[(1, "a")]));
    driver.reject(1, Code::NumberReused);
    assert_eq!(driver.outcomes(), []);
    assert_eq!(driver.commands(), pairs(&[(6, "a")]));
    assert_eq!(driver.saved.outbox.len(), 1);
}

#[test]
fn a_number_given_while_away_that_somebody_else_used_is_replaced_before_it_is_sent() {
    let mut driver = live(0);
    driver.lose_connection();
    driver.submit("a");
    driver.live(3, "1.20");
    assert_eq!(driver.commands(), pairs(&[(4, "a")]));
}

#[test]
fn after_a_generation_change_what_was_acknowledged_is_offered_again_before_what_is_newer() {
    let mut driver = live(0);
    for n in 1..=4 {
        driver.submit(&format!("m{n}"));
        if n < 4 {
            driver.ack(n, &format!("1.{}", 10 + n));
        }
    }
    let first = driver.cmds();
    driver.outcomes();
    driver.lose_connection();
    // The log was restored to where it knew one command.
    driver.live(1, "2.1");
    let again = driver.cmds();
    assert_eq!(again, first[1..]);
    driver.ack(2, "2.2");
    driver.ack(3, "2.3");
    driver.ack(4, "2.4");
    let again: Vec<bool> = driver.outcomes().into_iter().map(|(_, _, again)| again).collect();
    assert_eq!(again, [true, true, false]);
    driver.submit("m5");
    assert_eq!(driver.commands(), pairs(&[(5, "m5")]));
}

#[test]
fn what_was_too_old_to_be_answered_is_offered_again_after_a_generation_change() {
    for refused in [false, true] {
        let mut driver = live(0);
        driver.submit("a");
        let first = driver.cmds();
        match refused {
            true => driver.refuse(1, Code::TooOld.problem()),
            false => driver.reject(1, Code::TooOld),
        }
        driver.lose_connection();
        // The log was restored to before it.
        driver.live(0, "2.1");
        assert_eq!(driver.cmds(), first);
    }
}

#[test]
fn offered_again_commands_keep_their_ids_and_get_new_numbers_where_some_are_missing() {
    let mut driver = live(0);
    driver.submit("a");
    driver.submit("rejected");
    driver.submit("c");
    let first = driver.cmds();
    driver.ack(1, "1.11");
    driver.reject(2, Code::RoomUnknown);
    driver.ack(3, "1.12");
    // It is the same in the next process.
    let mut driver = driver.restart();
    driver.live(0, "2.1");
    let again = driver.cmds();
    assert_eq!(again.iter().map(|cmd| cmd.n).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((&again[0].id, &again[1].id), (&first[0].id, &first[2].id));
    // The connection breaks before the answers: nothing is given a third number.
    driver.lose_connection();
    driver.live(1, "2.2");
    assert_eq!(driver.cmds(), again);
}

#[test]
fn what_was_acknowledged_long_ago_is_forgotten_while_connected_only() {
    let mut driver = live(0);
    driver.submit("old");
    driver.ack(1, "1.11");
    driver.run(0);
    driver.now += 290_000;
    driver.submit("new");
    driver.ack(2, "1.12");
    driver.now += 20_000;
    driver.frame(&ServerFrame::Pong { id: 1, pos: "1.13".into() });
    assert_eq!(driver.saved.kept.len(), 1);
    driver.commands();
    // A cell that is dark for an hour does not make the client forget.
    driver.lose_connection();
    driver.now += 3_600_000;
    driver.live(0, "2.1");
    assert_eq!(driver.commands(), pairs(&[(1, "new")]));
}

#[test]
fn a_server_that_knows_less_without_a_new_generation_is_left() {
    let mut driver = Driver::new(&[A, "ws://b:1"]);
    let first = {
        driver.live(0, "1.10");
        driver.connects.last().cloned()
    };
    driver.submit("a");
    driver.ack(1, "1.11");
    driver.lose_connection();
    driver.until_connect();
    driver.connected();
    driver.welcome(0, "1.10");
    assert_eq!(driver.waiting_for().map(|(why, _)| why), Some(Some(Why::Behind)));
    driver.until_connect();
    assert_eq!(driver.connects.last().cloned(), first);
}

#[test]
fn what_no_server_takes_ends_and_its_number_goes_to_something_harmless() {
    let mut driver = live(0);
    let id = driver.submit("a");
    driver.submit("b");
    driver.commands();
    driver.refuse(1, Code::TooLarge.problem());
    driver.refuse(2, Code::OutOfOrder.problem());
    let problem = Box::new(Code::TooLarge.problem());
    assert_eq!(driver.outcomes(), [(id, Err(Failure::NotTaken(problem)), false)]);
    let again = driver.cmds();
    assert_eq!(again[0].change, Change::Read { room: 0, seq: 0 });
    assert_ne!(again[0].id, id.to_string());
    assert_eq!((again[1].n, text_of(&again[1].change)), (2, "b".to_owned()));
    driver.reject(1, Code::RoomUnknown);
    assert_eq!(driver.outcomes(), []);
}

#[test]
fn a_command_that_ends_every_session_is_found_and_given_up() {
    for code in [Code::BadFrame, Code::TooLarge] {
        ends_every_session(code);
    }
}

fn ends_every_session(code: Code) {
    let mut driver = live(0);
    driver.submit("a");
    let bad = driver.submit("bad");
    driver.submit("c");
    driver.bye(code.problem());
    driver.commands();
    driver.live(0, "1.10");
    assert_eq!(driver.commands(), pairs(&[(1, "a")]));
    driver.ack(1, "1.11");
    assert_eq!(driver.commands(), pairs(&[(2, "bad")]));
    driver.outcomes();
    driver.bye(code.problem());
    assert_eq!(driver.outcomes().first().map(|(id, _, _)| *id), Some(bad));
    driver.live(1, "1.11");
    assert_eq!(driver.commands().len(), 2);
}

#[test]
fn a_command_is_not_forgotten_when_sent() {
    let mut driver = live(0);
    driver.submit("a");
    assert_eq!(driver.machine.waiting().count(), 1);
    assert_eq!(driver.saved.outbox.len(), 1);
    driver.lose_connection();
    driver.commands();
    driver.live(0, "1.10");
    assert_eq!(driver.commands(), pairs(&[(1, "a")]));
}

#[test]
fn what_a_full_disk_did_not_take_goes_before_the_next_commit() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.1");
    driver.submit("a");
    driver.submit("b");
    driver.broken_store = true;
    driver.ack(1, "1.2");
    driver.ack(2, "1.3");
    assert_eq!(driver.saved.outbox.len(), 2, "the store took nothing");
    driver.submit("lost");
    driver.broken_store = false;
    driver.submit("c");
    let left: Vec<Option<u64>> = driver.saved.outbox.iter().map(|command| command.n).collect();
    assert_eq!((left, driver.saved.answered), (vec![Some(3)], 2));
    assert_eq!(driver.saved.seen, Some(Position::read("1.3")));
    assert_eq!(driver.saved.kept.len(), 2);
    // Where nothing else is to be stored, the last commit is at the end.
    driver.broken_store = true;
    driver.ack(3, "1.4");
    driver.broken_store = false;
    driver.machine.stop();
    driver.settle();
    assert!(driver.saved.outbox.is_empty());
}

#[test]
fn what_a_full_disk_did_not_take_is_tried_again_while_nothing_else_is_stored() {
    let mut driver = Driver::new(&["ws://a:1"]);
    driver.live(0, "1.1");
    driver.submit("a");
    driver.broken_store = true;
    driver.ack(1, "1.2");
    driver.frame(&ServerFrame::Pong { id: 1, pos: "1.2".into() });
    assert_eq!(driver.saved.outbox.len(), 1, "there is no room yet");
    driver.broken_store = false;
    driver.frame(&ServerFrame::Pong { id: 2, pos: "1.2".into() });
    assert!(driver.saved.outbox.is_empty());
    assert_eq!((driver.saved.answered, driver.saved.kept.len()), (1, 1));
}

#[test]
fn a_server_that_says_an_absurd_number_is_left() {
    for n in [u64::MAX, (1 << 63) + 5, (1 << 53) - 1] {
        let mut driver = Driver::new(&["ws://a:1", "ws://b:1"]);
        driver.submit("a");
        let broken = driver.until_connect();
        driver.connected();
        driver.welcome(n, "1.1");
        assert_eq!(driver.commands(), []);
        assert_ne!(driver.until_connect(), broken);
        driver.connected();
        driver.welcome(0, "1.1");
        assert_eq!(driver.commands(), [(1, "a".to_owned())]);
    }
}

#[test]
fn a_position_where_no_log_is_strands_no_device() {
    let mut driver = Driver::new(&["ws://a:1"]);
    let poison = "18446744073709551615.5";
    driver.live(0, poison);
    driver.submit("a");
    driver.ack(1, poison);
    driver.lose_connection();
    let hello = driver.live(1, "1.7");
    assert_eq!((hello.cursor, hello.seen), (None, None));
    // A device that believed one before is freed.
    let saved = Saved { seen: Some(Position::read(poison)), cursor: Some(Position::read("x")), ..driver.saved.clone() };
    let mut driver = Driver::with(driver.machine.settings.clone(), saved);
    let hello = driver.live(1, "1.7");
    assert_eq!((hello.cursor, hello.seen), (None, None));
    assert_eq!(driver.saved.seen, Some(Position::read("1.7")));
}
