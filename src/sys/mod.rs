//! The kernel's calls: the only place with `unsafe`.
//!
//! What nix has is used from nix, directly, all over the program; here stands what nix lacks (clone3, the mount API of
//! Linux 5.2 and later, pidfds, seccomp, bpf). A failed call is shown as strace would show it.
#![allow(unsafe_code)]

pub mod alloc;
#[cfg(test)]
pub mod alone;
pub mod at;
pub mod bpf;
pub mod clock;
pub mod cred;
pub mod dir;
pub mod exec;
pub mod file;
pub mod lend;
pub mod listener;
pub mod mount;
pub mod net;
pub mod path;
pub mod process;
pub mod procfs;
pub mod random;
pub mod seal;
pub mod seccomp;
pub mod share;
pub mod signal;
pub mod socket;
pub mod spent;
pub mod start;
pub mod tty;

use nix::errno::Errno;
use std::fmt;

/// A system call that failed: `open_tree("/srv/data") = ENOENT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The call with its real arguments, as strace writes it.
    pub call: String,
    /// Why it failed.
    pub errno: Errno,
    /// The cause in plain words, where more is known than the errno says: `/proc in the rootfs is a symbolic link`.
    pub because: Option<String>,
}

impl Failure {
    /// A failure of our own judgement about what a call found: the errno is the one that fits best.
    #[cold]
    #[inline(never)]
    pub fn refused(call: impl Into<String>, errno: Errno, because: impl Into<String>) -> Self {
        Failure { call: call.into(), errno, because: Some(because.into()) }
    }

    /// Says the cause in plain words.
    #[cold]
    #[inline(never)]
    pub fn because(mut self, words: impl Into<String>) -> Self {
        self.because = Some(words.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.call, name(self.errno), plain(self.errno))
    }
}

impl std::error::Error for Failure {}

/// What a call returns.
pub type Result<T> = std::result::Result<T, Failure>;

/// Turns an errno into a [`Failure`] that shows the call.
pub trait Called<T> {
    /// `call` is only formatted when it failed.
    fn called(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Called<T> for nix::Result<T> {
    fn called(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| failed(errno, call))
    }
}

impl<T> Called<T> for std::io::Result<T> {
    fn called(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| failed(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)), call))
    }
}

/// Out of the way of what succeeds: see "Size" in docs/design.md.
#[cold]
#[inline(never)]
fn failed(errno: Errno, call: impl FnOnce() -> String) -> Failure {
    Failure { call: call(), errno, because: None }
}

/// The errno's name: `ENOENT`.
pub fn name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// The errno in plain words, as strerror(3) has them: `no such file or directory`.
pub fn plain(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// The result of a raw system call as nix has it.
///
/// For callers of `libc::syscall` within this module.
pub(crate) fn check(returned: libc::c_long) -> nix::Result<libc::c_long> {
    if returned == -1 { Err(Errno::last()) } else { Ok(returned) }
}

/// What kind of namespace a file is: its `CLONE_NEW*` flag. ioctl_ns(2), `NS_GET_NSTYPE`.
pub fn namespace_type(fd: impl std::os::fd::AsFd) -> nix::Result<u64> {
    use std::os::fd::AsRawFd;
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: the request takes no argument; the descriptor is borrowed for the call.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) }.into()).map(|kind| kind as u64)
}

/// Where a descriptor leads, for messages: the target of its link in `/proc/self/fd`.
pub fn describe(fd: impl std::os::fd::AsFd) -> String {
    path::name(fd).map_or_else(|_| "?".to_owned(), |path| path.display().to_string())
}

/// renameat2(2) with `RENAME_NOREPLACE`: `EEXIST` where the new name is taken. nix has it for glibc alone.
pub fn rename_new(from: &std::path::Path, to: &std::path::Path) -> nix::Result<()> {
    use nix::NixPath;
    let renamed = from.with_nix_path(|from| {
        to.with_nix_path(|to| {
            // SAFETY: two paths that end with NUL and live until the call returns, and integers.
            check(unsafe {
                libc::syscall(
                    libc::SYS_renameat2,
                    libc::AT_FDCWD,
                    from.as_ptr(),
                    libc::AT_FDCWD,
                    to.as_ptr(),
                    libc::RENAME_NOREPLACE,
                )
            })
        })
    });
    renamed??.map(drop)
}

/// Is there an open descriptor of this number? fcntl(2), `F_GETFD`.
pub fn is_open(number: u32) -> bool {
    let Ok(number) = i32::try_from(number) else { return false };
    // SAFETY: takes integers and changes nothing.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) }.into()).is_ok()
}
