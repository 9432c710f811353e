//! As whom a command works on a node's data: what root makes in another user's folder, a service that runs as that user cannot open.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Uid, User, geteuid};

/// Root would leave files behind that the data's owner cannot open.
#[derive(Debug, thiserror::Error)]
#[error(
    "the data in {folder} is {owner}'s, who could not open what root writes there: run this as that user, such as `runuser -u {owner} -- ieum …`, \
     or, if it is to be root's, `chown -R root: {folder}`"
)]
pub(crate) struct NotOurs {
    folder: String,
    owner: String,
}

/// Refuses root in a folder that is somebody else's. Anybody else the kernel refuses.
pub(crate) fn check(folder: &Path) -> Result<(), NotOurs> {
    let owner = match std::fs::metadata(folder) {
        Ok(about) => Uid::from_raw(about.uid()),
        // Whoever makes it will own it; of what else is wrong the command itself says more.
        Err(_) => return Ok(()),
    };
    if !geteuid().is_root() || owner.is_root() {
        return Ok(());
    }
    let name = User::from_uid(owner).map_err(io::Error::from).ok().flatten().map(|user| user.name);
    Err(NotOurs { folder: folder.display().to_string(), owner: name.unwrap_or_else(|| owner.to_string()) })
}
