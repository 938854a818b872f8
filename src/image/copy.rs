//! A root copied from layers, where the kernel cannot stack them.
//!
//! A layer in overlay's form is a directory with two kinds of marks: a character device 0:0 hides the name that it has, and the attribute
//! `trusted.overlay.opaque` hides all that lies below its directory (overlayfs.rst, "whiteouts and opaque directories"). Where not even
//! those can be made, there are pipes in their place (`marks`). Both are understood here.
//!
//! By hand: `cp -a --reflink=auto layer1/. root/`, then `cp -a` of the next, and `rm -r` of what its marks hide.
//!
//! What we do: layer by layer, the lowest first, name by name through descriptors, never following a link. Data is copied by
//! copy_file_range(2), which shares the blocks where the file system can (btrfs, xfs), and holes stay holes. Files of one layer with several
//! names keep them. Owner, mode, attributes and times are the uppermost layer's.
//!
//! What goes wrong: it takes the time and the space of the whole image, for each container. Directories may be nested deeper than a path or
//! the limit of descriptors reaches: the walk holds one of either side, goes down by name and up by `..`, which nobody else may change here.

use super::marks::{self, Form};
use super::prune;
use crate::sys::{Called, Result, at};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, linkat, lseek, symlinkat};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Attributes that are overlay's, not the image's.
const OVERLAYS_OWN: &[u8] = b"trusted.overlay.";
/// The longest path that linkat(2) takes, with some room.
const LONG_PATH: usize = 4000;

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Copies layers, the lowest first, into an empty directory, whose own owner, mode and time become those of the uppermost layer.
pub fn layers(lower: &[PathBuf], to: BorrowedFd<'_>) -> Result<()> {
    for layer in lower {
        let from = openat(nix::fcntl::AT_FDCWD, layer, DIRECTORY, Mode::empty())
            .called(|| format!("openat({layer:?}, O_DIRECTORY|O_NOFOLLOW)"))?;
        let into = openat(to, ".", DIRECTORY, Mode::empty()).called(|| "openat(root)".into())?;
        Copy { root: to, links: HashMap::new() }.tree(from, into)?;
    }
    Ok(())
}

/// One layer on its way.
struct Copy<'a> {
    root: BorrowedFd<'a>,
    /// Files with several names: by device and inode, the first name's path below the root.
    links: HashMap<(u64, u64), PathBuf>,
}

/// A directory that is being copied.
struct Level {
    name: OsString,
    about: FileStat,
    /// What is still to be copied.
    names: Vec<OsString>,
}

impl Copy<'_> {
    fn tree(&mut self, from: OwnedFd, to: OwnedFd) -> Result<()> {
        let (mut from, mut to) = (from, to);
        let mut levels = vec![enter(&from, &to, OsString::new())?];
        loop {
            let Some(level) = levels.last_mut() else { return Ok(()) };
            let Some(name) = level.names.pop() else {
                same_attributes(&from, &to)?;
                let done = levels.pop();
                done.iter().try_for_each(|done| close(&to, &done.about))?;
                if levels.is_empty() {
                    return Ok(());
                }
                (from, to) = (open(&from, OsStr::new(".."))?, open(&to, OsStr::new(".."))?);
                continue;
            };
            let about = stat(&from, &name)?;
            if marks::is_whiteout(&about) {
                prune::entry(to.as_fd(), &name, &prune::nothing)?;
                continue;
            }
            if kind(&about) != SFlag::S_IFDIR {
                prune::entry(to.as_fd(), &name, &prune::nothing)?;
                self.leaf(&from, &to, &name, &about, &levels)?;
                continue;
            }
            match fstatat(&to, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(there) if kind(&there) == SFlag::S_IFDIR => {}
                there => {
                    if there.is_ok() {
                        prune::entry(to.as_fd(), &name, &prune::nothing)?;
                    }
                    mkdirat(&to, name.as_os_str(), Mode::S_IRWXU).called(|| format!("mkdirat({name:?})"))?;
                }
            }
            (from, to) = (open(&from, &name)?, open(&to, &name)?);
            levels.push(enter(&from, &to, name)?);
        }
    }

    /// Anything but a directory.
    fn leaf(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, about: &FileStat, levels: &[Level]) -> Result<()> {
        if about.st_nlink > 1 {
            let identity = (about.st_dev, about.st_ino);
            if let Some(first) = self.links.get(&identity) {
                return linkat(self.root, first.as_path(), to, name, AtFlags::empty())
                    .called(|| format!("linkat({first:?}, {name:?})"));
            }
            let path: PathBuf = levels.iter().skip(1).map(|level| Path::new(&level.name)).collect();
            if path.as_os_str().len() < LONG_PATH {
                self.links.insert(identity, path.join(name));
            }
        }
        let mode = Mode::from_bits_truncate(about.st_mode & 0o7777);
        match kind(about) {
            SFlag::S_IFREG => return file(from, to, name, about),
            SFlag::S_IFLNK => {
                let target = readlinkat(from, name).called(|| format!("readlinkat({name:?})"))?;
                symlinkat(target.as_os_str(), to, name).called(|| format!("symlinkat({name:?})"))?;
            }
            kind => mknodat(to, name, kind, mode, about.st_rdev).called(|| format!("mknodat({name:?})"))?,
        }
        let (user, group) = owner(about);
        fchownat(to, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW).called(|| format!("fchownat({name:?})"))?;
        if kind(about) != SFlag::S_IFLNK {
            fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).called(|| format!("fchmodat({name:?})"))?;
        }
        let (accessed, modified) = times(about);
        utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
            .called(|| format!("utimensat({name:?})"))
    }
}

fn enter(from: &OwnedFd, to: &OwnedFd, name: OsString) -> Result<Level> {
    let about = fstat(from).called(|| format!("fstat({name:?})"))?;
    let own = from.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC)".into())?;
    let mut listing = Dir::from_fd(own).called(|| "fdopendir".into())?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry.called(|| format!("getdents64({name:?})"))?;
        let found = entry.file_name().to_bytes();
        if found != b"." && found != b".." {
            names.push(OsStr::from_bytes(found).to_owned());
        }
    }
    if marks::is_opaque(from, Form::Kernels)? || names.iter().any(|name| name == marks::OPAQUE_PIPE) {
        prune::content(open(to, OsStr::new("."))?, &prune::nothing)?;
    }
    Ok(Level { name, about, names })
}

/// The last of a directory: what lies in it changes its time no more.
fn close(to: &OwnedFd, about: &FileStat) -> Result<()> {
    finish(to, about, OsStr::new("."))
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &OsStr, about: &FileStat) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let source = openat(from, name, flags, Mode::empty()).called(|| format!("openat({name:?}, NOFOLLOW)"))?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made =
        openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR).called(|| format!("openat({name:?}, O_CREAT)"))?;
    let (source, made) = (File::from(source), File::from(made));
    let size = about.st_size as u64;
    data(&source, &made, size).called(|| format!("copy_file_range({name:?}, {size} bytes)"))?;
    let (source, made) = (OwnedFd::from(source), OwnedFd::from(made));
    let (user, group) = owner(about);
    fchown(&made, user, group).called(|| format!("fchown({name:?})"))?;
    same_attributes(&source, &made)?;
    finish_owned(&made, about, name)
}

/// What holds data, and holes as holes. std calls copy_file_range(2), and what there is where that cannot be had.
fn data(from: &File, to: &File, size: u64) -> std::io::Result<()> {
    let (mut from, mut to, mut at) = (from, to, 0);
    while at < size {
        let begin = match lseek(from, at as i64, Whence::SeekData) {
            Ok(begin) => begin as u64,
            // A hole up to the end.
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            Err(errno) => return Err(errno.into()),
        };
        let end = lseek(from, begin as i64, Whence::SeekHole).map_or(size, |end| size.min(end as u64));
        from.seek(SeekFrom::Start(begin))?;
        to.seek(SeekFrom::Start(begin))?;
        if std::io::copy(&mut from.take(end - begin), &mut to)? != end - begin {
            return Err(Errno::EIO.into());
        }
        at = end.max(begin + 1);
    }
    to.set_len(size)
}

/// Owner, mode, times: of a directory.
fn finish(to: &OwnedFd, about: &FileStat, name: &OsStr) -> Result<()> {
    let (user, group) = owner(about);
    fchown(to, user, group).called(|| format!("fchown({name:?})"))?;
    finish_owned(to, about, name)
}

/// Mode and times: chown(2) took away setuid.
fn finish_owned(to: &OwnedFd, about: &FileStat, name: &OsStr) -> Result<()> {
    fchmod(to, Mode::from_bits_truncate(about.st_mode & 0o7777)).called(|| format!("fchmod({name:?})"))?;
    let (accessed, modified) = times(about);
    futimens(to, &accessed, &modified).called(|| format!("futimens({name:?})"))
}

/// The attributes of the one, and no others. After chown(2), which drops `security.capability`.
fn same_attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let images = |fd: &OwnedFd| match at::flistxattr(fd) {
        Ok(names) => Ok(names.into_iter().filter(|name| !name.as_bytes().starts_with(OVERLAYS_OWN)).collect()),
        Err(Errno::EOPNOTSUPP) => Ok(HashSet::new()),
        Err(errno) => Err(errno).called(|| "flistxattr()".into()),
    };
    let (wanted, there): (HashSet<_>, HashSet<_>) = (images(from)?, images(to)?);
    for name in there.difference(&wanted) {
        match at::fremovexattr(to, name) {
            // The host's policy labels what is made.
            Ok(()) | Err(Errno::ENODATA | Errno::EPERM | Errno::EACCES) => {}
            Err(errno) => return Err(errno).called(|| format!("fremovexattr({name:?})")),
        }
    }
    for name in wanted {
        let value = at::fgetxattr(from, &name).called(|| format!("fgetxattr({name:?})"))?;
        at::fsetxattr(to, &name, &value).called(|| format!("fsetxattr({name:?})")).map_err(|failure| match failure
            .errno
        {
            Errno::EOPNOTSUPP => failure.because(format!("the file system cannot keep the attribute {name:?}")),
            _ => failure,
        })?;
    }
    Ok(())
}

fn owner(about: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(about.st_uid)), Some(Gid::from_raw(about.st_gid)))
}

fn times(about: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(about.st_atime, about.st_atime_nsec as _), TimeSpec::new(about.st_mtime, about.st_mtime_nsec as _))
}

fn kind(about: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT
}

fn stat(parent: &OwnedFd, name: &OsStr) -> Result<FileStat> {
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).called(|| format!("fstatat({name:?}, SYMLINK_NOFOLLOW)"))
}

fn open(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    openat(parent, name, DIRECTORY, Mode::empty()).called(|| format!("openat({name:?}, O_DIRECTORY|O_NOFOLLOW)"))
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
