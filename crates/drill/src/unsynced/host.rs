//! Mounts the file system, and mounts it anew when the power comes back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use nix::mount::{MntFlags, umount2};
use parking_lot::Mutex;

use super::adapter::Adapter;
use super::device::Device;
use super::model::Model;
use crate::error::{Error, Naming as _};

/// Threads that answer the kernel.
const THREADS: usize = 4;

/// How long unmounting waits for a session that nobody uses to end (it takes a millisecond); one that is in use stays.
const FAREWELL: Duration = Duration::from_millis(100);

/// A mounted file system; unmounted when dropped.
pub struct Host {
    mountpoint: PathBuf,
    pub(super) device: Arc<Device>,
    session: Mutex<Option<BackgroundSession>>,
}

impl Host {
    /// Mounts the model on a folder that exists.
    pub fn mount(model: Model, mountpoint: &Path) -> Result<Self, Error> {
        let mountpoint = mountpoint.canonicalize().naming(|| format!("finding {}", mountpoint.display()))?;
        let host = Self { mountpoint, device: Arc::new(Device::new(model)), session: Mutex::new(None) };
        host.start()?;
        Ok(host)
    }

    /// Serves the durable state again after a power cut.
    pub(super) fn restore(&self) -> Result<(), Error> {
        if self.device.lock().is_powered() {
            return Err(Error::other("restoring the power", "it was not cut"));
        }
        self.stop();
        self.device.lock().begin();
        self.start()
    }

    fn start(&self) -> Result<(), Error> {
        if !Path::new("/dev/fuse").exists() {
            let hint = "there is no /dev/fuse: load the module (modprobe fuse), or give the container the device (--device /dev/fuse)";
            return Err(Error::other("mounting", hint));
        }
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("ieum-unsynced".to_owned()),
            MountOption::Subtype("ieum-unsynced".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoAtime,
        ];
        // Others than the owner may be let in by root only (or by `user_allow_other` in /etc/fuse.conf).
        config.acl = if nix::unistd::geteuid().is_root() { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(THREADS);
        config.clone_fd = true;
        let adapter = Adapter::new(Arc::clone(&self.device), self.device.lock().epoch());
        let started = Session::new(adapter, &self.mountpoint, &config).and_then(Session::spawn).naming(|| {
            format!("mounting on {} (needs root, or fusermount3 from the package fuse3)", self.mountpoint.display())
        })?;
        *self.session.lock() = Some(started);
        Ok(())
    }

    /// Unmounts. What is still open stays with the old session, which answers EIO; its threads end when the last of it is closed.
    fn stop(&self) {
        let Some(session) = self.session.lock().take() else { return };
        // Without root this fails, and dropping the session asks fusermount3.
        if umount2(&self.mountpoint, MntFlags::MNT_DETACH).is_ok() {
            let deadline = Instant::now() + FAREWELL;
            while !session.guard.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Releases what hangs and unmounts.
    pub fn unmount(&self) {
        self.device.lock().unstick();
        self.stop();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.unmount();
    }
}
