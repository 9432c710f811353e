//! Accounts and devices.

use ieum_core::commands::Command;
use ieum_core::ids::{DeviceId, UserId};
use ieum_core::outcome::{Accepted, Reject};

use super::{Counted, Device, Model, Person, Step, Told};

/// An account has so many devices at most.
const MOST_DEVICES: usize = 20;

/// A name is 1 to 50 characters, none of them a control character.
pub(super) fn is_name(name: &str) -> bool {
    (1..=50).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

fn is_handle(handle: &str) -> bool {
    (3..=30).contains(&handle.len())
        && handle.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.')
}

impl Model {
    pub(super) fn found(&self, handle: &str) -> Option<u64> {
        self.handles.get(handle).copied()
    }

    pub(super) fn with_id(&self, id: u64) -> Option<u64> {
        self.people.contains_key(&id).then_some(id)
    }

    pub(super) fn of_nobody(&mut self, who: Option<(u64, u64)>, command: &Command) -> Step {
        match command {
            Command::Register(register) => {
                if who.is_some() {
                    return Err(Reject::NotAllowed);
                }
                if !is_handle(&register.handle) {
                    return Err(Reject::HandleInvalid);
                }
                if !is_name(&register.name) || !is_name(&register.device_name) {
                    return Err(Reject::NameInvalid);
                }
                if self.handles.contains_key(&register.handle) {
                    return Err(Reject::HandleTaken);
                }
                let user = self.count(Counted::People);
                self.handles.insert(register.handle.clone(), user);
                self.people.insert(
                    user,
                    Person { name: register.name.clone(), password: register.password.clone(), ..Person::default() },
                );
                let device = self.add_device(user);
                Ok(Accepted::Registered { user: UserId(user), device: DeviceId(device) })
            }
            Command::AddDevice(add) => {
                let user = add.user.0;
                let person = self.people.get(&user).ok_or(Reject::UserUnknown)?;
                if person.password != add.password {
                    return Err(Reject::PasswordChanged);
                }
                if !is_name(&add.name) {
                    return Err(Reject::NameInvalid);
                }
                let devices = self.devices.values().filter(|device| device.user == user && device.out.is_none());
                if devices.count() >= MOST_DEVICES {
                    return Err(Reject::TooManyDevices);
                }
                let device = self.add_device(user);
                self.tell([user], &Told::Devices);
                Ok(Accepted::DeviceAdded { device: DeviceId(device) })
            }
            _ => Err(Reject::NotAllowed),
        }
    }

    fn add_device(&mut self, user: u64) -> u64 {
        let device = self.count(Counted::Devices);
        self.devices.insert(device, Device { user, last: 0, out: None });
        device
    }

    pub(super) fn set_name(&mut self, user: u64, name: &str) -> Step {
        if !is_name(name) {
            return Err(Reject::NameInvalid);
        }
        if let Some(person) = self.people.get_mut(&user) {
            name.clone_into(&mut person.name);
        }
        self.tell([user], &Told::Profile { name: name.to_owned() });
        Ok(Accepted::Done)
    }

    pub(super) fn set_password(&mut self, user: u64, old: &str, new: &str) -> Step {
        let person = self.people.get_mut(&user).ok_or(Reject::UserUnknown)?;
        if person.password != old {
            return Err(Reject::PasswordChanged);
        }
        if new.len() > 256 {
            return Err(Reject::Invalid);
        }
        new.clone_into(&mut person.password);
        Ok(Accepted::Done)
    }

    pub(super) fn log_out(&mut self, user: u64, device: u64) -> Step {
        if self.user_of(device) != Some(user) {
            return Err(Reject::NotAllowed);
        }
        let told = self.people.get(&user).map_or(0, |person| person.told.len());
        if let Some(device) = self.devices.get_mut(&device) {
            device.out = Some((self.at, told));
        }
        self.tell([user], &Told::Devices);
        Ok(Accepted::Done)
    }
}
