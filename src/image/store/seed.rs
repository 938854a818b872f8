//! Copies up what a layer wants from the layers below, before it is unpacked.
//!
//! The layer is then unpacked on top of the copies as if they were the layers below: a path leads through the link that is there, a hard link
//! finds its file. In the overlay a copy shows the same as what it covers. Overlayfs does likewise when a container links or
//! changes a file of its image ("copy up" in Documentation/filesystems/overlayfs.rst).

use super::super::put::{is_directory, spec};
use super::super::steps::{self, Step};
use super::below::{Below, Found, within};
use super::settle::{copy_meta, is_link, times};
use crate::error::Result;
use crate::image::pax::Time;
use crate::image::stream::Budget;
use crate::sys::Called;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, mkdirat, mknodat, utimensat,
};
use nix::unistd::{Gid, Uid, fchownat, linkat, symlinkat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Where copies of files are, by layer and inode: two names of one file stay two names of one file.
type Copied = HashMap<(usize, u64), Vec<u8>>;

/// Copies into the empty directory `root` what leads to these paths, links followed, and what is there.
pub fn seed(root: &OwnedFd, wanted: &[Vec<u8>], below: &Below, budget: &Budget) -> Result<()> {
    let mut copied = Copied::new();
    let mut directories = Vec::new();
    for path in wanted {
        let mut links = 0;
        steps::walk(root, path, &mut |here, above, name| {
            let all = [above, &[name.as_bytes().to_vec()]].concat();
            let whole = all.join(&b'/');
            match below.find(&all)? {
                Found::Nothing => Ok(Step::Stop),
                Found::Directory(merged) => {
                    let made = directory(here, name, below, merged[0], &whole)?;
                    directories.push((merged[0], whole));
                    Ok(Step::Into(made))
                }
                Found::Other(index, found) if is_link(&found) => {
                    let target = link(here, name, below, index, &whole)?;
                    links += 1;
                    // A link to itself can be wanted for its own sake, by a hard link. Who goes through it hears of it later.
                    Ok(if links > steps::LINKS { Step::Stop } else { Step::Link(target) })
                }
                Found::Other(index, found) => {
                    file(root, here, name, &Original { below, index, path: &whole, found }, &mut copied, budget)?;
                    Ok(Step::Stop)
                }
            }
        })?;
    }
    // What was put into them has changed their times.
    for (index, path) in directories {
        let like = fstat(below.fetch(index, &path, OFlag::O_PATH)?).called(|| "fstat(directory)".into())?;
        times(within(root, &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?.as_fd(), &like)?;
    }
    Ok(())
}

fn directory(here: &OwnedFd, name: &OsStr, below: &Below, index: usize, path: &[u8]) -> Result<OwnedFd> {
    let made = mkdirat(here, name, Mode::S_IRWXU);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = || openat(here, name, flags, Mode::empty()).called(|| format!("openat({name:?}, DIRECTORY)"));
    match made {
        Err(Errno::EEXIST) => {}
        made => {
            made.called(|| format!("mkdirat({name:?})"))?;
            let like = below.fetch(index, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            copy_meta(like.as_fd(), open()?.as_fd())?;
        }
    }
    Ok(open()?)
}

fn link(here: &OwnedFd, name: &OsStr, below: &Below, index: usize, path: &[u8]) -> Result<Vec<u8>> {
    let original = below.fetch(index, path, OFlag::O_PATH)?;
    let target = readlinkat(&original, "").called(|| format!("readlinkat({name:?})"))?;
    match symlinkat(&*target, here, name) {
        Err(Errno::EEXIST) => {}
        made => {
            made.called(|| format!("symlinkat({name:?})"))?;
            by_name(here, name, &fstat(&original).called(|| format!("fstat({name:?})"))?)?;
        }
    }
    Ok(target.as_bytes().to_vec())
}

/// A file of a layer below.
struct Original<'a> {
    below: &'a Below,
    index: usize,
    path: &'a [u8],
    found: FileStat,
}

fn file(
    root: &OwnedFd,
    here: &OwnedFd,
    name: &OsStr,
    original: &Original<'_>,
    copied: &mut Copied,
    budget: &Budget,
) -> Result<()> {
    let Original { below, index, path, found } = original;
    let key = (*index, found.st_ino);
    if let Some(other) = copied.get(&key) {
        return match linkat(root, OsStr::from_bytes(other), here, name, AtFlags::empty()) {
            Err(Errno::EEXIST) => Ok(()),
            linked => Ok(linked.called(|| format!("linkat({name:?})"))?),
        };
    }
    copied.insert(key, path.to_vec());
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    if kind != SFlag::S_IFREG {
        mknodat(here, name, kind, private, found.st_rdev).called(|| format!("mknodat({name:?})"))?;
        return by_name(here, name, found);
    }
    budget.take(found.st_size.unsigned_abs())?;
    let mut from = File::from(below.fetch(*index, path, OFlag::O_RDONLY)?);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let to = openat(here, name, flags, private).called(|| format!("openat({name:?}, CREAT|EXCL)"))?;
    let mut to = File::from(to);
    std::io::copy(&mut from, &mut to).called(|| format!("copy_file_range({name:?})"))?;
    Ok(copy_meta(from.as_fd(), to.as_fd())?)
}

/// Owner, mode and time of what cannot be opened.
fn by_name(here: &OwnedFd, name: &OsStr, found: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    fchownat(here, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .called(|| format!("fchownat({name:?})"))?;
    if !is_link(found) && !is_directory(found) {
        let mode = Mode::from_bits_truncate(found.st_mode & 0o7777);
        fchmodat(here, name, mode, FchmodatFlags::NoFollowSymlink).called(|| format!("fchmodat({name:?})"))?;
    }
    let time = spec(Time { seconds: found.st_mtime, nanoseconds: found.st_mtime_nsec as u32 });
    Ok(utimensat(here, name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .called(|| format!("utimensat({name:?})"))?)
}
