//! Locks of the store: flock(2), which the kernel drops when the holder dies.
//!
//! By hand: `flock -n STORE/lock echo free`. `lock` is shared by all who make or use something, and exclusive for who removes: what a pull
//! has found must not go before it has a name. `index.lock` is held for the moment in which index.json is replaced. Things under `tmp` are
//! locked themselves: what was renamed or removed while we waited is not what is there now, so the inode is compared afterwards.
//!
//! The order is `lock`, a layer, a blob, `index.lock`, and layers from the lowest up: who waits for one holds none that comes later.

use super::Store;
use crate::error::Result;
use crate::sys::{Called, Failure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// As long as it lives, nothing is removed from the store.
///
/// To be held from finding an image to the moment when its container is on record.
#[must_use]
pub struct Hold(#[allow(dead_code)] Flock<File>);

impl Store {
    /// Waits for a removal that is under way, and keeps others away.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold(wait(open(&self.path.join("lock"))?, FlockArg::LockShared)?))
    }

    /// Nobody holds the store and nobody will; `None` if somebody does.
    pub(super) fn alone(&self) -> Result<Option<Hold>> {
        Ok(attempt(open(&self.path.join("lock"))?)?.map(Hold))
    }

    /// The same, but it waits for all who hold the store.
    pub(super) fn at_last_alone(&self) -> Result<Hold> {
        Ok(Hold(wait(open(&self.path.join("lock"))?, FlockArg::LockExclusive)?))
    }

    pub(super) fn index_lock(&self) -> Result<Hold> {
        Ok(Hold(wait(open(&self.path.join("index.lock"))?, FlockArg::LockExclusive)?))
    }
}

/// Opens a file to lock, made if it is not there.
pub fn open(path: &Path) -> Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(AT_FDCWD, path, flags, Mode::S_IRUSR | Mode::S_IWUSR);
    Ok(opened.called(|| format!("openat({path:?}, O_CREAT)"))?.into())
}

/// Waits.
pub fn wait(mut file: File, how: FlockArg) -> Result<Flock<File>> {
    loop {
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(Failure { call: "flock".into(), errno, because: None }.into()),
        }
    }
}

/// Does not wait.
pub fn attempt(file: File) -> Result<Option<Flock<File>>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(locked)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(Failure { call: "flock(EX|NB)".into(), errno, because: None }.into()),
    }
}

/// Is what is locked still what stands at the path?
pub fn is_at(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().called(|| "fstat".into())?;
    Ok(std::fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
}
