//! A profile: a device, kept in one file.

use std::path::{Path, PathBuf};

use ieum_client::store::{Disk, Identity, Store as _, Write};
use ieum_client::{Client, Events, Http, HttpError, Options, Position, Trust};
use ieum_protocol::errors::Code;
use ieum_protocol::frames::{Change, Done};

use crate::Settings;
use crate::error::Error;

/// A device that is signed in.
pub(crate) struct Device {
    pub(crate) http: Http,
    pub(crate) identity: Identity,
    pub(crate) store: Disk,
    /// How many commands wait in the outbox.
    pub(crate) waiting: usize,
}

impl Device {
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Error> {
        let nobody = || Error::NobodySignedIn(settings.profile.clone());
        let path = path(settings)?;
        if !path.exists() {
            return Err(nobody());
        }
        let mut store = Disk::open(path)?;
        let identity = store.identity()?.ok_or_else(nobody)?;
        let saved = store.load()?;
        let http = http(settings)?;
        http.use_identity(identity.clone()).await;
        if let Some(seen) = &saved.seen {
            http.note(&seen.to_string()).await;
        }
        Ok(Self { http, identity, store, waiting: saved.outbox.len() })
    }

    /// Connects.
    pub(crate) fn connect(self, settings: &Settings) -> Result<(Client, Events, Http), Error> {
        let options = Options { trust: trust(settings)?, ..Options::new(settings.server.clone()) };
        let (client, events) = Client::open(options, self.store)?;
        Ok((client, events, self.http))
    }
}

/// Calls to the servers, by nobody yet.
pub(crate) fn http(settings: &Settings) -> Result<Http, Error> {
    Ok(Http::new(settings.server.clone(), trust(settings)?))
}

/// The authorities that browsers trust, and a company's own if there is one.
fn trust(settings: &Settings) -> Result<Trust, Error> {
    let Some(path) = &settings.ca else { return Ok(Trust::web()) };
    let pem = std::fs::read(path).map_err(|source| Error::Authorities { path: path.clone(), source })?;
    Ok(Trust::web_and(&pem)?)
}

/// Opens the profile's file for a device that is to be signed in; before the server is asked, so that its answer can be kept.
pub(crate) fn fresh(settings: &Settings) -> Result<Disk, Error> {
    let path = path(settings)?;
    if let Some(folder) = path.parent() {
        make_folder(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    }
    let mut store = Disk::open(path)?;
    match store.identity()? {
        Some(_) => Err(Error::SignedInAlready(settings.profile.clone())),
        None => Ok(store),
    }
}

/// Keeps who the device is, and what it has seen.
pub(crate) async fn keep(mut store: Disk, http: &Http, identity: Identity) -> Result<(), Error> {
    let mut writes = vec![Write::Identity(identity)];
    writes.extend(http.seen().await.map(|seen| Write::Seen(Position::read(&seen))));
    store.commit(&writes).map_err(Error::NotKept)
}

/// Forgets the device.
pub(crate) fn forget(settings: &Settings) -> Result<(), Error> {
    let path = path(settings)?;
    for end in ["", "-wal", "-shm"] {
        let mut file = path.clone().into_os_string();
        file.push(end);
        match std::fs::remove_file(&file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::Remove { path: file.into(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// A room's number, or the direct room with whoever has the handle.
pub(crate) async fn room(http: &Http, to: &str) -> Result<u64, Error> {
    if let Ok(room) = to.parse() {
        return Ok(room);
    }
    let handle = handle(to);
    let open = Change::OpenDirect { handle: handle.clone() };
    naming(http, &open, &[handle]).await?.room.ok_or(Error::NoRoom)
}

/// A handle as people write it.
pub(crate) fn handle(written: &str) -> String {
    written.strip_prefix('@').unwrap_or(written).to_owned()
}

/// Makes a change that names people by handle; when one of them is nobody's, says which.
pub(crate) async fn naming(http: &Http, change: &Change, handles: &[String]) -> Result<Done, Error> {
    let failed = match http.change(change).await {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    if matches!(&failed, HttpError::Problem(problem) if problem.known() == Some(Code::UserUnknown)) {
        for handle in handles {
            user(http, handle).await?;
        }
    }
    Err(failed.into())
}

/// Whoever has the handle.
pub(crate) async fn user(http: &Http, written: &str) -> Result<u64, Error> {
    let handle = handle(written);
    let person = http.find_user(&handle).await?;
    person.map(|person| person.id).ok_or(Error::NobodyHas(handle))
}

fn path(settings: &Settings) -> Result<PathBuf, Error> {
    let profile = &settings.profile;
    if profile.is_empty() || !profile.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_')) {
        return Err(Error::ProfileName(profile.clone()));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = set("IEUM_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share/ieum")));
    Ok(folder.ok_or(Error::NoHome)?.join(format!("{profile}.ieum")))
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
