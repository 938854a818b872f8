//! `tmpcopyup`: a tmpfs begins with a copy of the directory that it covers.
//!
//! By hand: `cp -a /etc/. /mnt/`. Everything goes through descriptors, name by name, and no link is followed, because the root
//! file system may be changed by somebody else meanwhile. Owner, permissions, times of change and links are kept.

use crate::sys::{Called, Failure, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

const CLOEXEC: OFlag = OFlag::O_CLOEXEC.union(OFlag::O_NOFOLLOW);

/// Copies what is in one directory into another, which is empty. Both may be `O_PATH` descriptors.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut dir = Dir::openat(from, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | CLOEXEC, Mode::empty())
        .called(|| "openat(\".\")".into())?;
    let names: Vec<_> = dir
        .iter()
        .map(|entry| entry.map(|e| e.file_name().to_owned()))
        .collect::<nix::Result<_>>()
        .called(|| "getdents64".into())?;
    for name in names.iter().map(|name| OsStr::from_bytes(name.to_bytes())).filter(|n| *n != "." && *n != "..") {
        entry(from, to, name)?;
    }
    Ok(())
}

fn entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).called(|| format!("fstatat({name:?})"))?;
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match kind {
        SFlag::S_IFDIR => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | CLOEXEC;
            let source = openat(from, name, flags, Mode::empty()).called(|| format!("openat({name:?})"))?;
            mkdirat(to, name, Mode::S_IRWXU).called(|| format!("mkdirat({name:?})"))?;
            let copied = openat(to, name, flags, Mode::empty()).called(|| format!("openat({name:?})"))?;
            copy(source.as_fd(), copied.as_fd())?;
            own(to, name, &stat)?;
            fchmod(&copied, mode).called(|| format!("fchmod({name:?})"))?;
        }
        SFlag::S_IFREG => {
            let source = openat(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | CLOEXEC, Mode::empty())
                .called(|| format!("openat({name:?})"))?;
            let now = fstat(&source).called(|| format!("fstat({name:?})"))?;
            if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
                return Err(Failure::refused(
                    format!("openat({name:?})"),
                    Errno::EAGAIN,
                    format!("{name:?} was exchanged while it was copied"),
                ));
            }
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | CLOEXEC;
            let copied = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
                .called(|| format!("openat({name:?}, O_CREAT)"))?;
            let (mut source, mut copied) = (File::from(source), File::from(copied));
            std::io::copy(&mut source, &mut copied).called(|| format!("copy_file_range({name:?})"))?;
            own(to, name, &stat)?;
            fchmod(&copied, mode).called(|| format!("fchmod({name:?})"))?;
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).called(|| format!("readlinkat({name:?})"))?;
            symlinkat(target.as_os_str(), to, name).called(|| format!("symlinkat({name:?})"))?;
            own(to, name, &stat)?;
        }
        kind => {
            mknodat(to, name, kind, mode, stat.st_rdev).called(|| format!("mknodat({name:?})"))?;
            own(to, name, &stat)?;
        }
    }
    let modified = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec as _);
    utimensat(to, name, &TimeSpec::UTIME_OMIT, &modified, UtimensatFlags::NoFollowSymlink)
        .called(|| format!("utimensat({name:?})"))
}

/// Names in `to` are safe: the tmpfs has no place yet, so nobody else can reach it.
fn own(to: BorrowedFd<'_>, name: &OsStr, stat: &FileStat) -> Result<()> {
    if (stat.st_uid, stat.st_gid) == (0, 0) {
        return Ok(());
    }
    fchownat(to, name, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)), AtFlags::AT_SYMLINK_NOFOLLOW)
        .called(|| format!("fchownat({name:?})"))
}
