//! Writing what an entry says: data, owner, mode, attributes, times.
//!
//! What goes wrong: chown(2) clears setuid and capabilities, and writing changes the time. So: data, owner, mode, attributes, times.

use super::archive::{Entry, Extent, Node, told};
use super::pax::Time;
use super::{marks, xattr};
use crate::error;
use crate::error::Result;
use crate::sys::{self, Called};
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;

/// Writes a file's data. Holes stay holes.
pub fn fill(file: &mut File, size: u64, extents: &[Extent], content: &mut dyn Read, buffer: &mut [u8]) -> Result<()> {
    let mut at = 0;
    for extent in extents {
        if extent.offset != at {
            file.seek(SeekFrom::Start(extent.offset)).called(|| format!("lseek({})", extent.offset))?;
        }
        let mut left = extent.length;
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let got = content.read(&mut buffer[..want]).map_err(told)?;
            if got == 0 {
                return Err(error!("the archive is cut short"));
            }
            file.write_all(&buffer[..got]).called(|| format!("write({got} bytes)"))?;
            left -= got as u64;
        }
        at = extent.offset + extent.length;
    }
    if at != size {
        file.set_len(size).called(|| format!("ftruncate({size})"))?;
    }
    Ok(())
}

/// Owner, mode, attributes, in the order in which the one does not undo the other.
pub fn meta(fd: BorrowedFd<'_>, entry: &Entry, set: &[(std::ffi::CString, &[u8])]) -> sys::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchown(fd, Some(uid), Some(gid)).called(|| format!("fchown({uid}, {gid})"))?;
    fchmod(fd, Mode::from_bits_truncate(entry.mode)).called(|| format!("fchmod({:#o})", entry.mode))?;
    xattr::apply(fd, set)
}

/// The same for what cannot be opened, by its name in the directory where it was just made, never following it. Nobody else can put
/// something else there: the bundle is only the owner's until it is complete.
pub fn named(at: BorrowedFd<'_>, base: &OsStr, entry: &Entry, mode: Option<u32>) -> sys::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(at, base, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .called(|| format!("fchownat({base:?}, {uid}, {gid})"))?;
    if let Some(mode) = mode {
        fchmodat(at, base, Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink)
            .called(|| format!("fchmodat({base:?}, {mode:#o}, SYMLINK_NOFOLLOW)"))?;
    }
    let time = spec(entry.mtime);
    utimensat(at, base, &time, &time, UtimensatFlags::NoFollowSymlink).called(|| format!("utimensat({base:?})"))
}

/// Type and number for mknod(2). The kernel has 12 bits of major and 20 of minor. What would be a mark of a store is refused.
pub fn device(node: Node, mode: u32) -> Result<(SFlag, u64)> {
    let (kind, major, minor) = match node {
        Node::Fifo if mode == marks::PIPE_MODE => {
            return Err(error!("a pipe of mode 7000, which the store takes for a deleted file"));
        }
        Node::Fifo => return Ok((SFlag::S_IFIFO, 0)),
        Node::Character(0, 0) => {
            return Err(error!("a character device 0:0, which overlayfs takes for a deleted file"));
        }
        Node::Character(major, minor) => (SFlag::S_IFCHR, major, minor),
        Node::Block(major, minor) => (SFlag::S_IFBLK, major, minor),
    };
    match major < 1 << 12 && minor < 1 << 20 {
        true => Ok((kind, nix::sys::stat::makedev(major.into(), minor.into()))),
        false => Err(error!("there is no device {major}:{minor}")),
    }
}

/// Is this a directory?
pub fn is_directory(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

/// A time as the kernel has it.
pub fn spec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, time.nanoseconds.into())
}
