//! Overlayfs's marks: what a layer removes, in a directory of its own.
//!
//! A *whiteout* is a character device 0:0: the name is gone. A directory with the attribute `trusted.overlay.opaque=y` is *opaque*: nothing
//! below it shows through (Documentation/filesystems/overlayfs.rst). By hand: `mknod upper/gone c 0 0`,
//! `setfattr -n trusted.overlay.opaque -v y upper/dir`.
//!
//! What goes wrong: only a directory that is merged hides its whiteouts; in one that stands alone they are listed and cannot be opened. So a
//! whiteout that hides nothing is taken away again (`store::settle`). An image cannot make these marks itself: see `xattr` and `apply`.

use crate::sys::{Called, Result, at};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag, mknodat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

const OPAQUE: &std::ffi::CStr = c"trusted.overlay.opaque";

/// Makes a whiteout where nothing is.
pub fn whiteout(at: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    mknodat(at, name, SFlag::S_IFCHR, Mode::empty(), 0).called(|| format!("mknodat({name:?}, S_IFCHR, 0:0)"))
}

/// Is this a whiteout?
pub fn is_whiteout(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && found.st_rdev == 0
}

/// Makes an open directory opaque.
pub fn set_opaque(directory: impl AsFd) -> Result<()> {
    at::fsetxattr(directory, OPAQUE, b"y").called(|| format!("fsetxattr({OPAQUE:?}, \"y\")"))
}

/// Is an open directory opaque?
pub fn is_opaque(directory: impl AsFd) -> Result<bool> {
    match at::fgetxattr(directory, OPAQUE) {
        Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(false),
        value => value.map(|value| value == b"y").called(|| format!("fgetxattr({OPAQUE:?})")),
    }
}
