//! Registering, signing in and out.

use ieum_client::NewAccount;

use crate::Settings;
use crate::device::{self, Device};
use crate::error::Error;
use crate::text::{note, password, plain, say};

/// What the device is called in the account's list.
const DEVICE: &str = "ieum terminal";

pub(crate) async fn register(
    settings: &Settings,
    handle: String,
    name: String,
    invitation: Option<String>,
) -> Result<(), Error> {
    let store = device::fresh(settings)?;
    let http = device::http(settings);
    let said = format!("registered @{handle}");
    let account = NewAccount { handle, name, password: password()?, device: DEVICE.to_owned(), invitation };
    let identity = http.register(account).await?;
    let said = format!("{said}: user {}, device {}", identity.user, identity.device);
    device::keep(store, &http, identity).await?;
    say(&said)
}

pub(crate) async fn login(settings: &Settings, handle: &str) -> Result<(), Error> {
    let store = device::fresh(settings)?;
    let http = device::http(settings);
    let handle = handle.strip_prefix('@').unwrap_or(handle);
    let identity = http.sign_in(handle, &password()?, DEVICE).await?;
    let said = format!("signed in as @{handle}: user {}, device {}", identity.user, identity.device);
    device::keep(store, &http, identity).await?;
    say(&said)
}

pub(crate) async fn whoami(settings: &Settings) -> Result<(), Error> {
    let me = Device::open(settings).await?.http.me().await?;
    let (person, device) = (me.person, me.device);
    say(&format!("@{} {} (user {}, device {device})", person.handle, plain(&person.name), person.id))
}

pub(crate) async fn logout(settings: &Settings) -> Result<(), Error> {
    let Device { http, identity, store, waiting } = Device::open(settings).await?;
    http.log_out(identity.device).await?;
    // The file is in use until then.
    drop(store);
    device::forget(settings)?;
    if waiting > 0 {
        note(&format!("{waiting} changes that had not been confirmed are given up"));
    }
    say("logged out")
}
