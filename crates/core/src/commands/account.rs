//! Accounts.

use crate::codec::record;
use crate::commands::device::add_device;
use crate::event::{Audience, News};
use crate::ids::UserId;
use crate::outcome::{Accepted, Reject};
use crate::scope::{Actor, Run, Scope, Step, check_name};
use crate::tables::accounts::{HANDLES, INVITATIONS, USERS, User};

record! {
    /// A new account with its first device.
    pub struct Register {
        /// 3 to 30 characters of a-z, 0-9, `_` and `.`.
        pub handle: String,
        /// What others see.
        pub name: String,
        /// The password's hash as a PHC string.
        pub password: String,
        /// BLAKE3 of the first device's secret.
        pub secret_hash: [u8; 32],
        /// The first device's name.
        pub device_name: String,
        /// BLAKE3 of the invitation code, where one was asked for.
        pub invitation: Option<[u8; 32]>,
    }
}

record! {
    /// The person changes their name.
    pub struct SetName {
        /// The new name.
        pub name: String,
    }
}

record! {
    /// The person changes their password.
    pub struct SetPassword {
        /// The hash that the old password was checked against.
        pub old: String,
        /// The new password's hash as a PHC string.
        pub new: String,
    }
}

/// Shortest handle, in characters, each of which is one byte.
const MIN_HANDLE: usize = 3;
/// Longest handle.
pub const MAX_HANDLE: usize = 30;

/// Longest PHC string that is kept.
const MAX_PASSWORD_HASH: usize = 256;

/// Whether `handle` can be a handle.
pub(crate) fn check_handle(handle: &str) -> Result<(), Reject> {
    let fits = (MIN_HANDLE..=MAX_HANDLE).contains(&handle.len())
        && handle.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.');
    if fits { Ok(()) } else { Err(Reject::HandleInvalid) }
}

impl Run for Register {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        if scope.actor != Actor::Nobody && !matches!(scope.actor, Actor::Node(_)) {
            return Err(Reject::NotAllowed.into());
        }
        check_handle(&self.handle)?;
        check_name(&self.name)?;
        if self.password.len() > MAX_PASSWORD_HASH {
            return Err(Reject::Invalid.into());
        }
        if HANDLES.has(scope.view(), &self.handle)? {
            return Err(Reject::HandleTaken.into());
        }
        if let Some(code) = &self.invitation {
            use_invitation(scope, code)?;
        }
        let user = UserId(scope.count(|c| &mut c.users)?);
        let row = User {
            handle: self.handle.clone(),
            name: self.name.clone(),
            password: self.password.clone(),
            registered_at: scope.now,
        };
        USERS.put(scope.txn, &user, &row);
        HANDLES.put(scope.txn, &self.handle, &user);
        let device = add_device(scope, user, self.secret_hash, &self.device_name)?;
        Ok(Accepted::Registered { user, device })
    }
}

fn use_invitation(scope: &mut Scope<'_, '_>, code: &[u8; 32]) -> Step<()> {
    let mut invitation = INVITATIONS.get(scope.view(), code)?.ok_or(Reject::InvitationInvalid)?;
    if invitation.uses_left == 0 || invitation.expires_at <= scope.now {
        return Err(Reject::InvitationInvalid.into());
    }
    invitation.uses_left -= 1;
    INVITATIONS.put(scope.txn, code, &invitation);
    Ok(())
}

impl Run for SetName {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        check_name(&self.name)?;
        let mut row = USERS.get(scope.view(), &user)?.ok_or(Reject::UserUnknown)?;
        row.name.clone_from(&self.name);
        USERS.put(scope.txn, &user, &row);
        scope.tell(Audience::User(user), News::Profile { name: self.name.clone() });
        Ok(Accepted::Done)
    }
}

impl Run for SetPassword {
    fn run(&self, scope: &mut Scope<'_, '_>) -> Step<Accepted> {
        let (user, _) = scope.person()?;
        let mut row = USERS.get(scope.view(), &user)?.ok_or(Reject::UserUnknown)?;
        if row.password != self.old {
            return Err(Reject::PasswordChanged.into());
        }
        if self.new.len() > MAX_PASSWORD_HASH {
            return Err(Reject::Invalid.into());
        }
        row.password.clone_from(&self.new);
        USERS.put(scope.txn, &user, &row);
        Ok(Accepted::Done)
    }
}

#[cfg(test)]
mod tests;
