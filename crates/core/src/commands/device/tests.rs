use super::*;
use crate::testing::{Cell, Person};

fn add(user: UserId) -> AddDevice {
    AddDevice { user, password: "$argon2id$1".to_owned(), secret_hash: [2; 32], name: "tablet".to_owned() }
}

fn added(cell: &mut Cell, person: Person) -> Person {
    match cell.anonymous(add(person.user)) {
        Ok(Accepted::DeviceAdded { device }) => Person { device, ..person },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_is_added_and_the_others_are_told() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let tablet = added(&mut cell, minji);
    assert_eq!(cell.told(minji), [&News::Devices]);
    assert_eq!(cell.ask(tablet, LogOut { device: minji.device }), Ok(Accepted::Done));
}

#[test]
fn a_device_is_added_for_the_password_that_was_checked() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let wrong = AddDevice { password: "$old".to_owned(), ..add(minji.user) };
    assert_eq!(cell.anonymous(wrong), Err(Reject::PasswordChanged));
    assert_eq!(cell.anonymous(add(UserId(404))), Err(Reject::UserUnknown));
    let unnamed = AddDevice { name: String::new(), ..add(minji.user) };
    assert_eq!(cell.anonymous(unnamed), Err(Reject::NameInvalid));
}

#[test]
fn an_account_has_at_most_20_devices() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    for _ in 1..20 {
        added(&mut cell, minji);
    }
    assert_eq!(cell.anonymous(add(minji.user)), Err(Reject::TooManyDevices));
    let another = cell.register("dohyun");
    added(&mut cell, another);
    cell.ok(minji, LogOut { device: minji.device });
    added(&mut cell, minji);
    assert_eq!(cell.anonymous(add(minji.user)), Err(Reject::TooManyDevices));
}

#[test]
fn a_logged_out_device_is_unknown_and_told() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    let tablet = added(&mut cell, minji);
    assert_eq!(
        cell.numbered(tablet.device, 1, 1, crate::commands::account::SetName { name: "a".to_owned() }),
        Ok(Accepted::Done)
    );
    cell.ok(minji, LogOut { device: tablet.device });
    assert!(cell.events.iter().any(|e| e.audience == Audience::Device(tablet.device) && e.news == News::LoggedOut));
    assert_eq!(cell.told(minji), [&News::Devices]);

    let rename = crate::commands::account::SetName { name: "b".to_owned() };
    assert_eq!(cell.numbered(tablet.device, 1, 1, rename.clone()), Err(Reject::DeviceUnknown), "also a retry");
    assert_eq!(cell.numbered(tablet.device, 2, 2, rename.clone()), Err(Reject::DeviceUnknown));
    assert_eq!(cell.http(tablet.device, 1, 1, rename), Err(Reject::DeviceUnknown));
    assert_eq!(crate::apply::owner_of(&cell.view, tablet.device).unwrap(), None);
    for slot in 0..SLOTS {
        assert_eq!(OUTCOMES.get(&cell.view, &(tablet.device, slot as u8)).unwrap(), None);
    }
}

#[test]
fn a_device_logs_itself_out() {
    let mut cell = Cell::found();
    let minji = cell.register("minji");
    assert_eq!(cell.numbered(minji.device, 1, 1, LogOut { device: minji.device }), Ok(Accepted::Done));
    assert_eq!(cell.numbered(minji.device, 1, 1, LogOut { device: minji.device }), Err(Reject::DeviceUnknown));
    assert_eq!(
        PROGRESS.get(&cell.view, &minji.device).unwrap(),
        None,
        "remembering the outcome does not bring it back"
    );
}

/// `device_unknown` would tell the asking device that it is the one that is gone, and that its number is free.
#[test]
fn another_persons_device_is_not_logged_out_and_the_number_is_used_up() {
    let mut cell = Cell::found();
    let [minji, dohyun] = cell.people();
    assert_eq!(cell.numbered(minji.device, 1, 1, LogOut { device: dohyun.device }), Err(Reject::NotAllowed));
    assert_eq!(cell.numbered(minji.device, 2, 2, LogOut { device: DeviceId(404) }), Err(Reject::NotAllowed));
    assert_eq!(cell.numbered(minji.device, 1, 9, LogOut { device: dohyun.device }), Err(Reject::NumberReused));
    assert_eq!(cell.anonymous(LogOut { device: dohyun.device }), Err(Reject::NotAllowed));
    assert!(DEVICES.has(&cell.view, &dohyun.device).unwrap());
}
