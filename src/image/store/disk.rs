//! What is on the disk: an image that has a name is whole even after a power failure.
//!
//! By hand: `sync -f STORE` between the last file of a layer and the new index.json. The kernel writes files back when it likes, and a rename
//! may reach the disk before what was renamed. Asking for each of ten thousand files (fsync) takes as many waits; so one syncfs(2) is made for
//! a whole pull, before its image gets a name.
//!
//! Until then blobs and layers can be seen that are whole, but not on the disk. So a pull leaves a mark, `tmp/unsynced-BOOT-…`, on the disk
//! before anything else and removed after the sync. A mark of an earlier boot says that the power failed meanwhile: what no image names is
//! not trusted then, and goes. A mark of this boot that nobody has locked is of a killed pull; the next pull syncs for both.
//!
//! What goes wrong: syncfs(2) waits for others who write to the same file system. *Rejected:* an fsync(2) for each layer's blob beside it, as
//! containerd has: the unpacked files are what is run.

use super::{Store, lock};
use crate::error::Result;
use crate::sys::Called;
use crate::sys::file::{self, End};
use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};
use nix::unistd::{fsync, syncfs};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const MARK: &str = "unsynced-";

/// What was written is not on the disk yet.
#[must_use]
pub struct Unsynced {
    /// Its own, or those that killed pulls left; locked.
    marks: Vec<(PathBuf, Flock<File>)>,
    /// The store, open since before the first write: the sync tells what could not be written since then.
    store: OwnedFd,
}

impl Store {
    /// Removes what an earlier boot may have left spoilt. Not to be called by who holds the store: it waits for them.
    pub(super) fn distrust(&self) -> Result<()> {
        let ours = format!("{MARK}{}-", boot());
        if self.marks()?.iter().all(|name| name.starts_with(&ours)) {
            return Ok(());
        }
        let alone = self.at_last_alone()?;
        // Somebody else may have done it while we waited.
        let old: Vec<String> = self.marks()?.into_iter().filter(|name| !name.starts_with(&ours)).collect();
        if !old.is_empty() {
            let shown = self.path().display();
            log::warn!("the machine stopped during a pull: what no image of {shown} names is removed");
            self.collect(&alone)?;
        }
        old.iter().try_for_each(|name| unlink(&self.temporary().join(name)))
    }

    /// To be called before anything is written.
    pub(super) fn unsynced(&self) -> Result<Unsynced> {
        let (store, mut marks) = (directory(self.path())?, Vec::new());
        for name in self.marks()? {
            let path = self.temporary().join(name);
            let Ok(opened) = File::open(&path) else { continue };
            if let Some(locked) = lock::attempt(opened)?
                && lock::is_at(&locked, &path)?
            {
                marks.push((path, locked));
            }
        }
        while marks.is_empty() {
            let mut random = [0; 8];
            crate::sys::random::fill(&mut random).called(|| "getrandom".into())?;
            let name = format!("{MARK}{}-{:016x}", boot(), u64::from_ne_bytes(random));
            let path = self.temporary().join(name);
            // Between the two calls another pull may take it for one that was left.
            if let Some(locked) = lock::attempt(lock::open(&path)?)?
                && lock::is_at(&locked, &path)?
            {
                marks.push((path, locked));
            }
        }
        // The mark must not come later than what it speaks of.
        fsync(directory(&self.temporary())?).called(|| format!("fsync({:?})", self.temporary()))?;
        Ok(Unsynced { marks, store })
    }

    /// Waits until all is on the disk.
    pub(super) fn sync(&self, unsynced: Unsynced) -> Result<()> {
        syncfs(&unsynced.store).called(|| format!("syncfs({:?})", self.path()))?;
        unsynced.marks.iter().try_for_each(|(path, _)| unlink(path))
    }

    /// Waits until the names in the store's own directory are on the disk.
    pub(super) fn sync_names(&self) -> Result<()> {
        Ok(fsync(directory(self.path())?).called(|| format!("fsync({:?})", self.path()))?)
    }

    fn marks(&self) -> Result<Vec<String>> {
        let all = super::names(&self.temporary())?;
        Ok(all.into_iter().filter(|name| name.starts_with(MARK)).collect())
    }
}

fn directory(path: &Path) -> Result<OwnedFd> {
    Ok(file::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).called(|| format!("open({path:?}, DIRECTORY)"))?)
}

fn unlink(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(()),
        removed => Ok(removed.called(|| format!("unlink({path:?})"))?),
    }
}

/// Which boot this is; where it cannot be known, all are one.
fn boot() -> String {
    let read = file::read_text("/proc/sys/kernel/random/boot_id", End::Less).unwrap_or_default();
    read.trim().to_owned()
}
