//! Registering, signing in and out.

use ieum_client::NewAccount;
use ieum_protocol::frames::Change;

use crate::Settings;
use crate::clock;
use crate::device::{self, Device};
use crate::error::Error;
use crate::text::{label, new_password, note, password, say};
use crate::words::words;

/// What the device is called in the account's list.
const DEVICE: &str = "ieum terminal";

pub(crate) async fn register(
    settings: &Settings,
    handle: String,
    name: String,
    invitation: Option<String>,
) -> Result<(), Error> {
    let store = device::fresh(settings)?;
    let http = device::http(settings)?;
    let password = new_password("IEUM_PASSWORD")?;
    let account = NewAccount { handle: handle.clone(), name, password, device: DEVICE.to_owned(), invitation };
    let identity = http.register(account).await?;
    let (user, device) = (identity.user, identity.device);
    device::keep(store, &http, identity).await?;
    say(&words!(
        "registered @{handle}: user {user}, device {device}",
        "@{handle} 가입 완료: 사용자 {user}, 기기 {device}"
    ))
}

pub(crate) async fn login(settings: &Settings, handle: &str) -> Result<(), Error> {
    let store = device::fresh(settings)?;
    let http = device::http(settings)?;
    let handle = handle.strip_prefix('@').unwrap_or(handle);
    let identity = http.sign_in(handle, &password()?, DEVICE).await?;
    let (user, device) = (identity.user, identity.device);
    device::keep(store, &http, identity).await?;
    say(&words!(
        "signed in as @{handle}: user {user}, device {device}",
        "@{handle} 로그인: 사용자 {user}, 기기 {device}"
    ))
}

pub(crate) async fn whoami(settings: &Settings) -> Result<(), Error> {
    let me = Device::open(settings).await?.http.me().await?;
    let (person, device) = (me.person, me.device);
    let (handle, name, user) = (label(&person.handle), label(&person.name), person.id);
    say(&words!("@{handle} {name} (user {user}, device {device})", "@{handle} {name} (사용자 {user}, 기기 {device})"))
}

pub(crate) async fn logout(settings: &Settings) -> Result<(), Error> {
    let Device { http, identity, store, waiting } = Device::open(settings).await?;
    http.log_out(identity.device).await?;
    // The file is in use until then.
    drop(store);
    device::forget(settings)?;
    if waiting > 0 {
        note(&words!(
            "{waiting} changes that had not been confirmed are given up",
            "확인되지 않은 변경 {waiting}건은 버려졌습니다"
        ));
    }
    say(&words!("logged out", "로그아웃했습니다"))
}

pub(crate) async fn devices(settings: &Settings) -> Result<(), Error> {
    for device in Device::open(settings).await?.http.devices().await? {
        let (mark, id, name, since) =
            (if device.this { "*" } else { " " }, device.id, label(&device.name), clock::time(device.added_at));
        say(&words!("{mark} {id} {name} (since {since})", "{mark} {id} {name} ({since}부터)"))?;
    }
    Ok(())
}

pub(crate) async fn log_out_other(settings: &Settings, device: u64) -> Result<(), Error> {
    let opened = Device::open(settings).await?;
    if opened.identity.device == device {
        drop(opened);
        return logout(settings).await;
    }
    opened.http.log_out(device).await?;
    say(&words!("device {device} is logged out", "기기 {device}을(를) 로그아웃했습니다"))
}

pub(crate) async fn rename(settings: &Settings, name: String) -> Result<(), Error> {
    let http = Device::open(settings).await?.http;
    http.change(&Change::SetName { name }).await?;
    let name = label(&http.me().await?.person.name);
    say(&words!("you are called {name} now", "이제 이름은 {name}입니다"))
}

pub(crate) async fn change_password(settings: &Settings) -> Result<(), Error> {
    let http = Device::open(settings).await?.http;
    let old = password()?;
    let new = new_password("IEUM_NEW_PASSWORD")?;
    http.change_password(&old, &new).await?;
    say(&words!("the password is changed", "비밀번호를 바꾸었습니다"))
}
