//! The bundle while it is being made: whole, or not there.
//!
//! Everything is made in `BUNDLE/.corten-unpack`, which only its owner can enter, and moved up at the end, config.json last: a bundle with a
//! config.json is complete. A failure removes what was made. A kill -9 leaves that one directory, which the next unpack of the bundle
//! removes; nothing outside the bundle is ever touched. (A sibling that is renamed to BUNDLE at the end would replace the directory of someone
//! who stands in it, and cannot replace a mount point.)

use super::prune;
use crate::error;
use crate::error::{Error, Result};
use crate::sys::{Called, Failure};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where everything is made.
const STAGE: &str = ".corten-unpack";

/// A bundle that is not complete.
pub struct Staged {
    path: PathBuf,
    origin: Origin,
    /// The bundle, locked: two unpacks of one bundle cannot both think the other's stage is left over.
    bundle: Flock<OwnedFd>,
    stage: OwnedFd,
    /// Where the image goes.
    pub rootfs: OwnedFd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Found,
    Made,
}

impl Staged {
    /// Makes the bundle, or takes an empty directory.
    ///
    /// A bundle that is made has mode 0700: an image's setuid programs are not for the host's users (CVE-2021-41091).
    pub fn begin(path: &Path) -> Result<Self> {
        let origin = match mkdir(path, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => Origin::Found,
            made => made.map(|()| Origin::Made).called(|| format!("mkdir({path:?})"))?,
        };
        Self::stage(path, origin).inspect_err(|_| {
            if origin == Origin::Made {
                let _ = std::fs::remove_dir(path);
            }
        })
    }

    fn stage(path: &Path, origin: Origin) -> Result<Self> {
        let directory = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let bundle = open(path, directory, Mode::empty()).called(|| format!("open({path:?}, DIRECTORY)"))?;
        let bundle = Flock::lock(bundle, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => error!("{}: another unpack is under way", path.display()),
            errno => Failure { call: format!("flock({path:?}, EX|NB)"), errno, because: None }.into(),
        })?;
        let mut listing = Dir::from_fd(bundle.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC)".into())?)
            .called(|| "fdopendir".into())?;
        for entry in listing.iter() {
            let entry = entry.called(|| format!("getdents64({path:?})"))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") && name != STAGE.as_bytes() {
                let hint = "unpack into a new directory, or an empty one";
                return Err(error!("{} is not empty", path.display()).hint(hint));
            }
        }
        prune::entry(bundle.as_fd(), OsStr::new(STAGE), &prune::nothing)?;
        let make = || -> crate::sys::Result<(OwnedFd, OwnedFd)> {
            mkdirat(&*bundle, STAGE, Mode::S_IRWXU).called(|| format!("mkdirat({STAGE:?})"))?;
            let stage = openat(&*bundle, STAGE, directory | OFlag::O_NOFOLLOW, Mode::empty());
            let stage = stage.called(|| format!("openat({STAGE:?})"))?;
            mkdirat(&stage, "rootfs", Mode::S_IRWXU).called(|| "mkdirat(\"rootfs\")".into())?;
            let rootfs = openat(&stage, "rootfs", directory | OFlag::O_NOFOLLOW, Mode::empty());
            let rootfs = rootfs.called(|| "openat(\"rootfs\")".into())?;
            // What an image has that says nothing of its root.
            fchmod(&rootfs, Mode::from_bits_truncate(0o755)).called(|| "fchmod(rootfs, 0755)".into())?;
            Ok((stage, rootfs))
        };
        match make() {
            Ok((stage, rootfs)) => Ok(Staged { path: path.to_owned(), origin, bundle, stage, rootfs }),
            Err(failure) => {
                let _ = prune::entry(bundle.as_fd(), OsStr::new(STAGE), &prune::nothing);
                Err(failure.into())
            }
        }
    }

    /// Writes config.json and lets the bundle be seen.
    pub fn complete(&self, config: &[u8]) -> Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&self.stage, "config.json", flags, Mode::from_bits_truncate(0o644));
        let mut file = File::from(file.called(|| "openat(\"config.json\", CREAT|EXCL)".into())?);
        file.write_all(config).called(|| "write(config.json)".into())?;
        for name in ["rootfs", "config.json"] {
            renameat(&self.stage, name, &*self.bundle, name).called(|| format!("renameat({STAGE}/{name}, {name})"))?;
        }
        unlinkat(&*self.bundle, STAGE, UnlinkatFlags::RemoveDir).called(|| format!("unlinkat({STAGE:?})"))?;
        Ok(())
    }

    /// Removes what was made, and adds to `e` what could not be.
    pub fn discard(self, e: Error) -> Error {
        let removed = ["config.json", "rootfs", STAGE]
            .into_iter()
            .try_for_each(|name| prune::entry(self.bundle.as_fd(), OsStr::new(name), &prune::nothing));
        match (removed, self.origin) {
            (Err(failure), _) => e.detail(format!("and {} could not be removed: {failure}", self.path.display())),
            (Ok(()), Origin::Found) => e,
            (Ok(()), Origin::Made) => self.remove(e),
        }
    }

    /// rmdir(2) by path: it removes nothing that is not an empty directory, and only if it is still the one that was made.
    fn remove(self, e: Error) -> Error {
        let same = |found: std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            fstat(&*self.bundle).is_ok_and(|ours| (ours.st_dev, ours.st_ino) == (found.dev(), found.ino()))
        };
        match std::fs::symlink_metadata(&self.path).is_ok_and(same) {
            true => match std::fs::remove_dir(&self.path) {
                Ok(()) => e,
                Err(why) => e.detail(format!("and {} could not be removed: {why}", self.path.display())),
            },
            false => e,
        }
    }
}
