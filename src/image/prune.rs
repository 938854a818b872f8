//! Removing a tree by descriptor, all of it or all but what the current layer made.
//!
//! rm(1) walks by path or holds one descriptor per level; a hostile image can nest directories deeper than the longest path and than
//! the limit of open files. This walk holds one descriptor, goes down by name and up by `..`, and compares the inode it
//! comes back to with the one it left: if the tree was moved meanwhile, it stops. It never follows a symbolic link and never leaves the
//! file system it began on.

use crate::sys::dir::{self, Entry};
use crate::sys::{Called, Failure, Result};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Says of an entry, by its directory's inode and its name, that it stays.
pub type Keep<'a> = &'a dyn Fn(u64, &OsStr) -> bool;

/// Keeps nothing.
pub fn nothing(_: u64, _: &OsStr) -> bool {
    false
}

/// Removes `name` in `parent` and all below it, except what `keep` keeps and the directories that lead there. Nothing there is fine.
pub fn entry(parent: BorrowedFd<'_>, name: &OsStr, keep: Keep<'_>) -> Result<()> {
    let found = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        found => found.called(|| format!("fstatat({name:?}, SYMLINK_NOFOLLOW)"))?,
    };
    let above = fstat(parent).called(|| "fstat(directory)".into())?;
    let kept = keep(above.st_ino, name);
    if !is_directory(found.st_mode) {
        return if kept { Ok(()) } else { unlink(parent, name, UnlinkatFlags::NoRemoveDir) };
    }
    let empty = content(open(parent, name)?, keep)?;
    if kept || !empty { Ok(()) } else { unlink(parent, name, UnlinkatFlags::RemoveDir) }
}

/// One directory on the way down.
struct Level {
    inode: u64,
    name: OsString,
    /// What it held when it was entered and is still to be looked at.
    names: Vec<Entry>,
    /// Something in it stays, or it stays itself.
    kept: bool,
}

/// Removes what `directory` holds, except what `keep` keeps; says whether it is empty now.
pub fn content(directory: OwnedFd, keep: Keep<'_>) -> Result<bool> {
    let top = fstat(&directory).called(|| "fstat(directory)".into())?;
    let mut here = directory;
    let mut levels = vec![level(&here, OsString::new(), top.st_ino, false)?];
    loop {
        let Some(level_here) = levels.last_mut() else { return Ok(true) };
        if let Some(Entry { name, kind }) = level_here.names.pop() {
            let kept = keep(level_here.inode, &name);
            if !is_directory_entry(&here, &name, kind)? {
                match kept {
                    true => level_here.kept = true,
                    false => unlink(here.as_fd(), &name, UnlinkatFlags::NoRemoveDir)?,
                }
                continue;
            }
            // Many are empty: one call, where looking takes a dozen. Why it could not be done, the long way says.
            if !kept && unlinkat(&here, name.as_os_str(), UnlinkatFlags::RemoveDir).is_ok() {
                continue;
            }
            let below = open(here.as_fd(), &name)?;
            let found = fstat(&below).called(|| format!("fstat({name:?})"))?;
            if found.st_dev != top.st_dev {
                return Err(Failure::refused(
                    format!("openat({name:?})"),
                    Errno::EXDEV,
                    format!("{name:?} is a mount point"),
                ));
            }
            levels.push(level(&below, name, found.st_ino, kept)?);
            here = below;
            continue;
        }
        let Some(done) = levels.pop() else { return Ok(true) };
        let Some(above) = levels.last_mut() else { return Ok(!done.kept) };
        let up = open(here.as_fd(), OsStr::new(".."))?;
        let found = fstat(&up).called(|| "fstat(\"..\")".into())?;
        if (found.st_dev, found.st_ino) != (top.st_dev, above.inode) {
            let because = format!("{:?} was moved while it was removed", done.name);
            return Err(Failure::refused("openat(\"..\")", Errno::ESTALE, because));
        }
        here = up;
        match done.kept {
            true => above.kept = true,
            false => unlink(here.as_fd(), &done.name, UnlinkatFlags::RemoveDir)?,
        }
    }
}

fn level(directory: &OwnedFd, name: OsString, inode: u64, kept: bool) -> Result<Level> {
    let names = dir::list(directory).called(|| format!("getdents64({name:?})"))?;
    Ok(Level { inode, name, names, kept })
}

fn is_directory_entry(parent: &OwnedFd, name: &OsStr, kind: Option<SFlag>) -> Result<bool> {
    match kind {
        Some(kind) => Ok(kind == SFlag::S_IFDIR),
        None => fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map(|found| is_directory(found.st_mode))
            .called(|| format!("fstatat({name:?}, SYMLINK_NOFOLLOW)")),
    }
}

fn is_directory(mode: u32) -> bool {
    mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

fn open(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).called(|| format!("openat({name:?}, DIRECTORY|NOFOLLOW)"))
}

fn unlink(parent: BorrowedFd<'_>, name: &OsStr, what: UnlinkatFlags) -> Result<()> {
    unlinkat(parent, name, what).called(|| format!("unlinkat({name:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn at(path: &std::path::Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn deeper_than_any_path_and_any_descriptor_limit() {
        let place = tempfile::tempdir().unwrap();
        let mut here = at(place.path());
        for _ in 0..1100 {
            nix::sys::stat::mkdirat(&here, "directory", Mode::S_IRWXU).unwrap();
            here = open(here.as_fd(), OsStr::new("directory")).unwrap();
        }
        drop(here);
        entry(at(place.path()).as_fd(), OsStr::new("directory"), &nothing).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("tree/sub")).unwrap();
        fs::create_dir(place.path().join("canary")).unwrap();
        fs::write(place.path().join("canary/file"), "sings").unwrap();
        symlink("../../canary", place.path().join("tree/sub/link")).unwrap();
        entry(at(place.path()).as_fd(), OsStr::new("tree"), &nothing).unwrap();
        entry(at(place.path()).as_fd(), OsStr::new("missing"), &nothing).unwrap();
        assert!(!place.path().join("tree").exists());
        assert_eq!(fs::read_to_string(place.path().join("canary/file")).unwrap(), "sings");
    }

    #[test]
    fn what_is_kept_stays_with_the_directories_above_it() {
        let place = tempfile::tempdir().unwrap();
        let sub = place.path().join("tree/sub");
        fs::create_dir_all(&sub).unwrap();
        fs::create_dir(place.path().join("tree/gone")).unwrap();
        fs::write(sub.join("new"), "").unwrap();
        fs::write(sub.join("old"), "").unwrap();
        let inode = fs::metadata(&sub).unwrap().ino();
        let keep = |parent: u64, name: &OsStr| parent == inode && name == "new";
        assert!(!content(at(&place.path().join("tree")), &keep).unwrap());
        assert!(sub.join("new").exists() && !sub.join("old").exists() && !place.path().join("tree/gone").exists());
    }
}
