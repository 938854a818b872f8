//! A mount of another process's mount namespace, cloned there and brought back as a descriptor.
//!
//! By hand, as root: `nsenter -t PID -m` shows its mounts, and `mount --bind /proc/PID/root/dev/shm /mnt` is refused (EINVAL): what is cloned has to be mounted in
//! the namespace of who clones. Once cloned it has no place in any, and can be attached in every one.
//!
//! What goes wrong: setns(2) into a mount namespace leads to its root, and coming back to the root of our own: who was chrooted, or stood elsewhere, is put
//! back. The path is another container's, which may change it: no link of it is followed.

use crate::sys::mount::{self, Reach};
use crate::sys::path::{self, Links};
use crate::sys::{Called, Failure, Result, file, process};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{chroot, fchdir};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Clones what is mounted at `source` in the root of process `pid`.
pub(super) fn clone(pid: i32, source: &Path, reach: Reach) -> Result<OwnedFd> {
    let open = |path: &str, flags: OFlag| file::open(path, flags).called(|| format!("openat({path:?})"));
    let own = open("/proc/self/ns/mnt", OFlag::O_RDONLY)?;
    let (root, here) = (open("/", OFlag::O_PATH)?, open(".", OFlag::O_PATH)?);
    let theirs = process::pidfd_open(pid).called(|| format!("pidfd_open({pid})")).map_err(|failure| {
        let words = format!("process {pid}, whose mounts are shared, has ended");
        if failure.errno == Errno::ESRCH { failure.because(words) } else { failure }
    })?;
    setns(&theirs, CloneFlags::CLONE_NEWNS).called(|| format!("setns(pidfd of {pid}, NEWNS)"))?;
    let cloned = there(pid, source, reach);
    // Whatever came of it: nothing else may be done there.
    setns(&own, CloneFlags::CLONE_NEWNS)
        .and_then(|()| fchdir(&root))
        .and_then(|()| chroot("."))
        .and_then(|()| fchdir(&here))
        .called(|| "setns(own, NEWNS)".into())?;
    cloned
}

fn there(pid: i32, source: &Path, reach: Reach) -> Result<OwnedFd> {
    let root = path::open_directory(Path::new("/"))?;
    let found = path::open_below(root.as_fd(), source, OFlag::O_PATH, Links::Refuse).map_err(|failure: Failure| {
        let path = source.display();
        match failure.errno {
            Errno::ENOENT => failure.because(format!("process {pid} has no {path}")),
            Errno::ELOOP => failure.because(format!("{path} of process {pid} leads through a symbolic link")),
            _ => failure,
        }
    })?;
    mount::clone_of(found.as_fd(), reach).called(|| format!("open_tree({source:?}, CLONE)"))
}

/// The same as `explain` prints it.
pub(super) fn shown(pid: i32, source: &Path, reach: Reach) -> String {
    let recursive = if reach == Reach::Tree { "|RECURSIVE" } else { "" };
    format!(
        "openat(\"/proc/self/ns/mnt\"); openat(\"/\", O_PATH); openat(\".\", O_PATH); pidfd_open({pid}); setns(pidfd of {pid}, NEWNS); \
         openat(\"/\", O_PATH); openat2(root, {source:?}); open_tree({source:?}, CLONE{recursive}); setns(own, NEWNS); fchdir(\"/\"); \
         chroot(\".\"); fchdir(\".\")"
    )
}
