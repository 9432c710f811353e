//! Devices: signing in adds one, logging out removes it.

use crate::codec::record;
use crate::event::{Audience, News};
use crate::ids::{DeviceId, UserId};
use crate::outcome::{Accepted, Reject};
use crate::scope::{MAX_DEVICES, Run, Scope, Step, check_name};
use crate::tables::accounts::{DEVICES, Device, PROGRESS, Progress, USER_DEVICES, USERS};
use crate::tables::once::{OUTCOMES, SLOTS};

record! {
    /// Somebody who knew the password gets a new device.
    pub struct AddDevice {
        /// Whose it will be.
        pub user: UserId,
        /// The hash that the password was checked against; if it changed since, the check no longer counts.
        pub password: String,
        /// BLAKE3 of the device's secret.
        pub secret_hash: [u8; 32],
        /// What its owner sees in the list of devices.
        pub name: String,
    }
}

record! {
    /// A device is logged out: its secret, tokens and sessions are worth nothing from here on.
    pub struct LogOut {
        /// Which, of the person's own.
        pub device: DeviceId,
    }
}

/// Gives `user` a device.
pub(crate) fn add_device(scope: &mut Scope<'_, '_>, user: UserId, secret_hash: [u8; 32], name: &str) -> Step<DeviceId> {
    check_name(name)?;
    scope.hold(user, |h| {
        if h.devices >= MAX_DEVICES {
            return Err(Reject::TooManyDevices);
        }
        h.devices += 1;
        Ok(())
    })?;
    let device = DeviceId(scope.count(|c| &mut c.devices)?);
    let row = Device { user, secret_hash, name: name.to_owned(), added_at: scope.now };
    DEVICES.put(scope.txn, &device, &row);
    USER_DEVICES.put(scope.txn, &(user, device), &true);
    PROGRESS.put(scope.txn, &device, &Progress { user, last: 0 });
    Ok(device)
}

impl Run for AddDevice {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let account = USERS.get(scope.view(), &self.user)?.ok_or(Reject::UserUnknown)?;
        if account.password != self.password {
            return Err(Reject::PasswordChanged.into());
        }
        let device = add_device(scope, self.user, self.secret_hash, &self.name)?;
        scope.tell(Audience::User(self.user), News::Devices);
        Ok(Accepted::DeviceAdded { device })
    }
}

impl Run for LogOut {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        // Not `DeviceUnknown`: that says of the asking device that it is logged out, and leaves its number unused.
        let row = DEVICES.get(scope.view(), &self.device)?.filter(|d| d.user == user).ok_or(Reject::NotAllowed)?;
        DEVICES.remove(scope.txn, &self.device);
        USER_DEVICES.remove(scope.txn, &(row.user, self.device));
        PROGRESS.remove(scope.txn, &self.device);
        for slot in 0..SLOTS {
            OUTCOMES.remove(scope.txn, &(self.device, slot as u8));
        }
        scope.hold(row.user, |h| {
            h.devices = h.devices.saturating_sub(1);
            Ok(())
        })?;
        scope.tell(Audience::Device(self.device), News::LoggedOut);
        scope.tell(Audience::User(row.user), News::Devices);
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests;
