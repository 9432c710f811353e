use super::*;
use crate::commands::operate::AddInvitation;
use crate::testing::{CELL, Cell, MINUTE, START, id, register};

#[test]
fn a_registration_gives_an_account_and_its_first_device() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    assert_eq!(minji.user.0, crate::ids::compose(CELL, 1));
    assert_eq!(minji.device.0, crate::ids::compose(CELL, 1));
    assert_eq!(HANDLES.get(&cell.view, &"minji".to_owned()).unwrap(), Some(minji.user));
    let row = USERS.get(&cell.view, &minji.user).unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.registered_at), ("minji", START));
    assert_eq!(crate::apply::owner_of(&cell.view, minji.device).unwrap(), Some(minji.user));
    assert_ne!(cell.register("dohyun").user, minji.user);
}

#[test]
fn a_handle_is_somebodys() {
    let mut cell = Cell::found();
    cell.register("minji");
    assert_eq!(cell.anonymous(register("minji")), Err(Reject::HandleTaken));
}

#[test]
fn a_handle_has_3_to_30_of_its_characters() {
    let mut cell = Cell::found();
    for handle in ["abc", "a_b.9", &"x".repeat(30)] {
        assert!(cell.anonymous(register(handle)).is_ok(), "{handle}");
    }
    for handle in ["", "ab", &"x".repeat(31), "Abc", "a-b-c", "민지야", "a b c", "abc\0", "a,bc"] {
        assert_eq!(cell.anonymous(register(handle)), Err(Reject::HandleInvalid), "{handle}");
    }
}

#[test]
fn a_name_has_1_to_50_characters_and_no_control_characters() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    for name in ["민", &"민".repeat(50), "a b", "\u{a0}", "~"] {
        assert!(cell.ask(minji, SetName { name: name.to_owned() }).is_ok(), "{name}");
    }
    for name in ["", &"민".repeat(51), "a\nb", "\u{7f}", "\u{9f}", "\u{1f}"] {
        let refused = Err(Reject::NameInvalid);
        assert_eq!(cell.ask(minji, SetName { name: name.to_owned() }), refused, "{name}");
        assert_eq!(cell.anonymous(Register { name: name.to_owned(), ..register("other") }), refused);
        assert_eq!(cell.anonymous(Register { device_name: name.to_owned(), ..register("other") }), refused);
    }
    assert_eq!(HANDLES.get(&cell.view, &"other".to_owned()).unwrap(), None, "a rejected one leaves nothing");
}

#[test]
fn whoever_is_signed_in_does_not_register() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    assert_eq!(cell.ask(minji, register("another")), Err(Reject::NotAllowed));
    assert!(cell.node(register("another")).is_ok(), "an operator registers people through a node");
}

#[test]
fn a_password_hash_has_at_most_256_bytes() {
    let mut cell = Cell::found();
    let with = |length| Register { password: "p".repeat(length), ..register("minji") };
    assert_eq!(cell.anonymous(with(257)), Err(Reject::Invalid));
    assert!(cell.anonymous(with(256)).is_ok());
}

#[test]
fn a_new_name_is_told_to_the_persons_devices() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    cell.ok(minji, SetName { name: "민지".to_owned() });
    assert_eq!(cell.told(minji), [&News::Profile { name: "민지".to_owned() }]);
    assert!(cell.told(dohyun).is_empty());
    assert_eq!(USERS.get(&cell.view, &minji.user).unwrap().unwrap().name, "민지");
}

#[test]
fn a_password_changes_only_from_the_one_that_was_checked() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let change = |old: &str, new: &str| SetPassword { old: old.to_owned(), new: new.to_owned() };
    assert_eq!(cell.ask(minji, change("$other", "$2")), Err(Reject::PasswordChanged));
    assert_eq!(cell.ask(minji, change("$argon2id$1", &"p".repeat(257))), Err(Reject::Invalid));
    assert_eq!(cell.ask(minji, change("$argon2id$1", "$2")), Ok(Accepted::Done));
    assert_eq!(cell.ask(minji, change("$argon2id$1", "$3")), Err(Reject::PasswordChanged));
}

#[test]
fn nobody_and_nodes_have_no_profile() {
    let mut cell = Cell::found();
    let rename = SetName { name: "x".to_owned() };
    let change = SetPassword { old: String::new(), new: String::new() };
    assert_eq!(cell.anonymous(rename.clone()), Err(Reject::NotAllowed));
    assert_eq!(cell.node(rename), Err(Reject::NotAllowed));
    assert_eq!(cell.anonymous(change), Err(Reject::NotAllowed));
}

mod invitations {
    use super::*;

    const CODE: [u8; 32] = [9; 32];

    fn invited(handle: &str) -> Register {
        Register { invitation: Some(CODE), ..register(handle) }
    }

    fn code(uses: u32, minutes: u64) -> AddInvitation {
        AddInvitation { code_hash: CODE, uses, expires_at: START + minutes * MINUTE }
    }

    #[test]
    fn a_code_is_good_for_so_many_accounts() {
        let mut cell = Cell::found();
        assert_eq!(cell.anonymous(invited("first")), Err(Reject::InvitationInvalid));
        cell.node(code(2, 1)).unwrap();
        assert!(cell.anonymous(invited("first")).is_ok());
        assert_eq!(cell.anonymous(invited("first")), Err(Reject::HandleTaken), "does not use the code up");
        assert!(cell.anonymous(invited("second")).is_ok());
        assert_eq!(cell.anonymous(invited("third")), Err(Reject::InvitationInvalid));
    }

    #[test]
    fn a_code_ends_in_cell_time_and_is_forgotten() {
        let mut cell = Cell::found();
        cell.node(code(9, 1)).unwrap();
        cell.wait(MINUTE - 1);
        assert!(cell.anonymous(invited("just.in.time")).is_ok());
        cell.wait(1);
        assert_eq!(cell.anonymous(invited("too.late")), Err(Reject::InvitationInvalid));
        assert_eq!(INVITATIONS.get(&cell.view, &CODE).unwrap(), None);
    }

    #[test]
    fn a_code_added_again_lives_until_its_new_end() {
        let mut cell = Cell::found();
        cell.node(code(1, 1)).unwrap();
        cell.node(code(5, 10)).unwrap();
        cell.wait(2 * MINUTE);
        cell.batch(vec![]);
        assert!(cell.anonymous(invited("after.the.old.end")).is_ok());
        assert_eq!(INVITATIONS.get(&cell.view, &CODE).unwrap().unwrap().uses_left, 4);
    }

    #[test]
    fn only_nodes_add_codes_that_can_be_used() {
        let mut cell = Cell::found();
        let minji = cell.register("minji");
        assert_eq!(cell.ask(minji, code(1, 1)), Err(Reject::NotAllowed));
        assert_eq!(cell.anonymous(code(1, 1)), Err(Reject::NotAllowed));
        assert_eq!(cell.node(code(0, 1)), Err(Reject::Invalid));
        assert_eq!(cell.node(code(1, 0)), Err(Reject::Invalid), "over already");
    }
}

#[test]
fn a_retried_registration_makes_one_account() {
    let mut cell = Cell::found();
    let origin = crate::batch::Origin::Anonymous { key: id(1), request: id(2) };
    let first = cell.run(origin.clone(), register("minji"));
    assert_eq!(cell.run(origin, register("minji")), first);
    assert_eq!(cell.register("dohyun").user.0, crate::ids::compose(CELL, 2));
}
