//! What a layer removes, in a directory of its own: overlayfs's marks, and ours where the file system takes none of those.
//!
//! A *whiteout* is a character device 0:0: the name is gone. A directory with the attribute `trusted.overlay.opaque=y` is *opaque*: nothing
//! below it shows through (Documentation/filesystems/overlayfs.rst). By hand: `mknod upper/gone c 0 0`,
//! `setfattr -n trusted.overlay.opaque -v y upper/dir`.
//!
//! On an overlay itself nobody can make a whiteout (EPERM of `ovl_mknod`), nor set that attribute before Linux 6.7 (EOPNOTSUPP). There a named pipe of mode 7000
//! stands for the whiteout, and one that is called `.corten.opaque` makes its directory opaque: `mkfifo -m 7000 upper/gone`. Only a copy understands those
//! (`copy`), so such a layer lies in a directory that is called otherwise: nobody mounts it by mistake, not even after the store has moved.
//!
//! Why not the archive's own `.wh.NAME`: it stands beside the name, so what comes later in its place would not meet it; and an image that is built
//! with a store in it, or `docker commit`, would take it for a whiteout of its own, and drop it. A socket would be dropped as well, an attribute too.
//!
//! What goes wrong: only a directory that is merged hides its whiteouts; in one that stands alone they are listed and cannot be opened. So a
//! whiteout that hides nothing is taken away again (`store::settle`). An image cannot make these marks itself: see `xattr`, `name` and `apply`.

use crate::sys::{Called, Result, at};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mknodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The attribute and the value by which a directory hides all below it.
pub const OPAQUE: (&CStr, &[u8]) = (c"trusted.overlay.opaque", b"y");
/// The pipe by which it does so elsewhere. No image may have this name.
pub const OPAQUE_PIPE: &str = ".corten.opaque";
/// The mode of a pipe that is a mark: no image may have such a pipe, and nobody makes one by chance.
pub const PIPE_MODE: u32 = 0o7000;

/// Which marks a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Overlayfs's.
    Kernels,
    /// Ours: the layer can be copied, and not be mounted.
    Pipes,
}

impl Form {
    /// What the file system takes, found out by trying in the layer's own directory. Never a mixture: where the attribute can be set and
    /// no whiteout be made, as on an overlay since Linux 6.7, it has another name for who looks from outside.
    pub fn of_ground(root: &OwnedFd) -> Result<Form> {
        let refused = |errno| matches!(errno, Errno::EPERM | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL);
        match mknodat(root, OPAQUE_PIPE, SFlag::S_IFCHR, Mode::empty(), 0) {
            Err(errno) if refused(errno) => return Ok(Form::Pipes),
            made => made.called(|| "mknodat(S_IFCHR, 0:0)".into())?,
        }
        unlinkat(root, OPAQUE_PIPE, UnlinkatFlags::NoRemoveDir).called(|| "unlinkat(whiteout)".into())?;
        match at::fsetxattr(root, OPAQUE.0, OPAQUE.1) {
            Err(errno) if refused(errno) => return Ok(Form::Pipes),
            set => set.called(|| format!("fsetxattr({:?}, \"y\")", OPAQUE.0))?,
        }
        at::fremovexattr(root, OPAQUE.0).called(|| format!("fremovexattr({:?})", OPAQUE.0))?;
        Ok(Form::Kernels)
    }

    /// What a layer's directory is called.
    pub fn directory(self) -> &'static str {
        match self {
            Form::Kernels => "diff",
            Form::Pipes => "unstackable",
        }
    }

    /// Which marks the layer in this directory has.
    pub fn of_layer(path: &Path) -> Form {
        if path.file_name() == Some(OsStr::new(Form::Pipes.directory())) { Form::Pipes } else { Form::Kernels }
    }
}

/// Makes a whiteout where nothing is.
pub fn whiteout(at: BorrowedFd<'_>, name: &OsStr, form: Form) -> Result<()> {
    match form {
        Form::Kernels => {
            mknodat(at, name, SFlag::S_IFCHR, Mode::empty(), 0).called(|| format!("mknodat({name:?}, S_IFCHR, 0:0)"))
        }
        Form::Pipes => pipe(at, name).called(|| format!("mknodat({name:?}, S_IFIFO|{PIPE_MODE:o})")),
    }
}

fn pipe(at: BorrowedFd<'_>, name: &OsStr) -> nix::Result<()> {
    mknodat(at, name, SFlag::S_IFIFO, Mode::from_bits_truncate(PIPE_MODE), 0)
}

/// Is this a whiteout, of either form?
pub fn is_whiteout(found: &FileStat) -> bool {
    let kind = found.st_mode & SFlag::S_IFMT.bits();
    (kind == SFlag::S_IFCHR.bits() && found.st_rdev == 0) || found.st_mode == SFlag::S_IFIFO.bits() | PIPE_MODE
}

/// Makes an open directory opaque.
pub fn set_opaque(directory: impl AsFd, form: Form) -> Result<()> {
    let directory = directory.as_fd();
    match form {
        Form::Kernels => {
            at::fsetxattr(directory, OPAQUE.0, OPAQUE.1).called(|| format!("fsetxattr({:?}, \"y\")", OPAQUE.0))
        }
        Form::Pipes => match pipe(directory, OsStr::new(OPAQUE_PIPE)) {
            Err(Errno::EEXIST) => Ok(()),
            made => made.called(|| format!("mknodat({OPAQUE_PIPE:?}, S_IFIFO|{PIPE_MODE:o})")),
        },
    }
}

/// Is an open directory opaque?
pub fn is_opaque(directory: impl AsFd, form: Form) -> Result<bool> {
    match form {
        Form::Kernels => match at::fgetxattr(directory, OPAQUE.0) {
            Err(Errno::ENODATA | Errno::ENOTSUP) => Ok(false),
            value => value.map(|value| value == OPAQUE.1).called(|| format!("fgetxattr({:?})", OPAQUE.0)),
        },
        Form::Pipes => match fstatat(directory, OPAQUE_PIPE, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(false),
            found => found.map(|found| is_whiteout(&found)).called(|| format!("fstatat({OPAQUE_PIPE:?})")),
        },
    }
}

/// Takes our mark away again. Overlayfs's is no name, and keeps no directory from being removed.
pub fn unset_opaque(directory: impl AsFd) -> Result<()> {
    match unlinkat(directory, OPAQUE_PIPE, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        gone => gone.called(|| format!("unlinkat({OPAQUE_PIPE:?})")),
    }
}
