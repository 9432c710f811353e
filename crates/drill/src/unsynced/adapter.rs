//! Answers the kernel's FUSE requests from the model.
//!
//! The kernel is the only one who changes the files, so it may cache names, attributes and pages for as long as the session lives; writes go
//! through to us at once (no write-back cache), pages of a shared mapping when the kernel writes them back. Locks (`fcntl`, `flock`) are the
//! kernel's own business, since we don't offer any: they hold between all processes of the machine.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;
use parking_lot::Mutex;

use super::content::BLOCK;
use super::device::{Device, State};
use super::model::{Attributes, Kind, Model, Owner, SOCKET};

/// How long the kernel may cache: as long as it likes.
const CACHED: Duration = Duration::from_secs(3600);

/// The largest write that the kernel sends at once, in bytes.
const MAX_WRITE: u32 = 1024 * 1024;

/// The names in an open directory, taken when it is read from its beginning: stable while entries come and go.
type Listing = Arc<Vec<(OsString, u64, Kind)>>;

/// One FUSE session: from a mount until the power is cut.
pub(crate) struct Adapter {
    device: Arc<Device>,
    epoch: u64,
    handles: AtomicU64,
    listings: Mutex<BTreeMap<u64, Listing>>,
}

impl Adapter {
    pub(crate) fn new(device: Arc<Device>, epoch: u64) -> Self {
        Self { device, epoch, handles: AtomicU64::new(1), listings: Mutex::new(BTreeMap::new()) }
    }

    fn with<T>(&self, action: impl FnOnce(&mut Model) -> Result<T, Errno>) -> Result<T, fuser::Errno> {
        self.device.lock().model(self.epoch).and_then(action).map_err(errno)
    }

    /// Carries out a sync, or lets it hang.
    fn sync(&self, reply: ReplyEmpty, action: impl FnOnce(&mut Model) -> Result<(), Errno> + Send + 'static) {
        let mut state = self.device.lock();
        if let Some(parked) = state.stuck(self.epoch) {
            parked.push(Box::new(|model| answer(reply, model.and_then(action))));
            return;
        }
        let result = state.model(self.epoch).and_then(action);
        drop(state);
        answer(reply, result);
    }

    fn listing(&self, handle: FileHandle, directory: u64, offset: u64) -> Result<Listing, fuser::Errno> {
        if let Some(listing) = self.listings.lock().get(&handle.0).filter(|_| offset > 0) {
            return Ok(Arc::clone(listing));
        }
        let listing = self.with(|model| {
            let mut names = vec![
                (".".into(), directory, Kind::Directory),
                ("..".into(), model.parent(directory)?, Kind::Directory),
            ];
            names.extend(model.list(directory)?);
            Ok(Arc::new(names))
        })?;
        self.listings.lock().insert(handle.0, Arc::clone(&listing));
        Ok(listing)
    }
}

fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error as i32)
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn written(reply: ReplyWrite, result: Result<usize, Errno>) {
    match result {
        Ok(bytes) => reply.written(u32::try_from(bytes).unwrap_or(u32::MAX)),
        Err(error) => reply.error(errno(error)),
    }
}

fn store(model: &mut Model, inode: u64, offset: u64, data: &[u8], sync: bool) -> Result<usize, Errno> {
    let bytes = model.write(inode, offset, data)?;
    if sync {
        model.sync(inode, true)?;
    }
    Ok(bytes)
}

fn attr(of: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.inode),
        size: of.len,
        blocks: of.blocks * (BLOCK / 512),
        atime: of.modified,
        mtime: of.modified,
        ctime: of.modified,
        crtime: of.modified,
        kind: kind(of.kind),
        perm: (of.mode & 0o7777) as u16,
        nlink: if of.kind == Kind::Directory { 2 } else { of.links },
        uid: of.uid,
        gid: of.gid,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    }
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Socket => FileType::Socket,
    }
}

fn owner(request: &Request, mode: u32, umask: u32) -> Owner {
    Owner { mode: mode & !umask & 0o7777, uid: request.uid(), gid: request.gid() }
}

fn entry(reply: ReplyEntry, result: Result<Attributes, fuser::Errno>) {
    match result {
        Ok(found) => reply.entry(&CACHED, &attr(&found), Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn empty(reply: ReplyEmpty, result: Result<(), fuser::Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Errors name the nearest value that is allowed; the default does as well.
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.with(|model| model.lookup(parent.0, name)));
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|model| model.attributes(inode.0)) {
            Ok(found) => reply.attr(&CACHED, &attr(&found)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let result = self.with(|model| {
            let now = model.attributes(inode.0)?;
            let mode = mode.map_or(now.mode, |mode| mode & 0o7777 | now.mode & !0o7777);
            let owner = Owner { mode, uid: uid.unwrap_or(now.uid), gid: gid.unwrap_or(now.gid) };
            model.set_owner(inode.0, owner)?;
            if let Some(len) = size {
                model.set_len(inode.0, len)?;
            }
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => model.set_modified(inode.0, time)?,
                Some(TimeOrNow::Now) => model.set_modified(inode.0, SystemTime::now())?,
                None => {}
            }
            model.attributes(inode.0)
        });
        match result {
            Ok(found) => reply.attr(&CACHED, &attr(&found)),
            Err(error) => reply.error(error),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        let mut owner = owner(request, mode, umask);
        match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => {}
            SFlag::S_IFSOCK => owner.mode |= SOCKET,
            _ => return reply.error(fuser::Errno::EPERM),
        }
        entry(reply, self.with(|model| model.create_file(parent.0, name, owner)));
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        entry(reply, self.with(|model| model.create_directory(parent.0, name, owner(request, mode, umask))));
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.with(|model| model.unlink(parent.0, name)));
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.with(|model| model.remove_directory(parent.0, name)));
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let replace = match flags {
            flags if flags.is_empty() => true,
            RenameFlags::RENAME_NOREPLACE => false,
            _ => return reply.error(fuser::Errno::EINVAL),
        };
        empty(reply, self.with(|model| model.rename((parent.0, name), (new_parent.0, new_name), replace)));
    }

    fn link(&self, _request: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        entry(reply, self.with(|model| model.link(inode.0, parent.0, name)));
    }

    fn open(&self, _request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.with(|model| model.open(inode.0)) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let result = self.with(|model| {
            let created = model.create_file(parent.0, name, owner(request, mode, umask))?;
            model.open(created.inode)?;
            Ok(created)
        });
        match result {
            Ok(found) => {
                reply.created(&CACHED, &attr(&found), Generation(0), FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.with(|model| model.read(inode.0, offset, size as usize)) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // O_SYNC includes O_DSYNC.
        let sync = OFlag::from_bits_truncate(flags.0).contains(OFlag::O_DSYNC);
        let mut state = self.device.lock();
        if let Some(parked) = state.stuck(self.epoch) {
            let data = data.to_vec();
            parked.push(Box::new(move |model| {
                written(reply, model.and_then(|model| store(model, inode.0, offset, &data, sync)));
            }));
            return;
        }
        let result = State::model(&mut state, self.epoch).and_then(|model| store(model, inode.0, offset, data, sync));
        drop(state);
        written(reply, result);
    }

    fn release(
        &self,
        _request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        empty(reply, self.with(|model| model.release(inode.0)));
    }

    fn fsync(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        self.sync(reply, move |model| model.sync(inode.0, data_only));
    }

    fn fsyncdir(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.sync(reply, move |model| model.sync_directory(inode.0));
    }

    fn opendir(&self, _request: &Request, _inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(self.handles.fetch_add(1, Ordering::Relaxed)), FopenFlags::empty());
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listing = match self.listing(handle, inode.0, offset) {
            Ok(listing) => listing,
            Err(error) => return reply.error(error),
        };
        for (index, (name, inode, is)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(*inode), index as u64 + 1, kind(*is), name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.listings.lock().remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        match self.with(|model| Ok(model.space())) {
            Ok((all, free)) => reply.statfs(all, free, free, 1 << 20, 1 << 20, BLOCK as u32, 255, BLOCK as u32),
            Err(error) => reply.error(error),
        }
    }
}
