//! Files below a kept descriptor of procfs: what is read and written there is the kernel's own file and nothing that was
//! mounted over it.

use super::file::{self, End};
use super::{Called, Failure, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Opens `path` below the procfs `proc`, close-on-exec.
pub fn open(proc: impl AsFd, path: &str, flags: OFlag) -> Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let call = || format!("openat2(proc, {path:?})");
    // `self` and `thread-self` are plain links; a magic one, or another mount, is not followed.
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV);
    match openat2(&proc, path, how) {
        // An outer filter that does not know the call: open, then look at what it is.
        Err(Errno::ENOSYS) => {
            let fd = openat(&proc, path, flags, Mode::empty()).called(call)?;
            match fstatfs(&fd).called(|| "fstatfs()".into())?.filesystem_type() {
                PROC_SUPER_MAGIC => Ok(fd),
                _ => Err(covered(path)),
            }
        }
        Err(Errno::EXDEV) => Err(covered(path)),
        other => other.called(call),
    }
}

fn covered(path: &str) -> Failure {
    Failure::refused(
        format!("openat2(proc, {path:?})"),
        Errno::EXDEV,
        format!("/proc/{path}: something is mounted over it"),
    )
}

/// Opens once more what an `O_PATH` descriptor stands for, now to use it: open(2) of the link in `self/fd`.
pub fn reopen(proc: impl AsFd, fd: impl AsFd, flags: OFlag) -> nix::Result<OwnedFd> {
    let link = format!("self/fd/{}", fd.as_fd().as_raw_fd());
    openat(&proc, link.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// Writes `content` by one write(2), as files of procfs want it.
pub fn write(proc: impl AsFd, path: &str, content: &str) -> Result<()> {
    let fd = open(proc, path, OFlag::O_WRONLY)?;
    let call = || format!("write({path:?}, {content:?})");
    match nix::unistd::write(&fd, content.as_bytes()).called(call)? {
        written if written == content.len() => Ok(()),
        written => {
            Err(Failure::refused(call(), Errno::EIO, format!("only {written} of {} bytes were taken", content.len())))
        }
    }
}

/// Reads a whole file. Bytes that are not UTF-8 are replaced.
pub fn read(proc: impl AsFd, path: &str) -> Result<String> {
    let file = open(proc, path, OFlag::O_RDONLY)?;
    let bytes = file::read_rest(&file, End::Nothing, 0, usize::MAX).called(|| format!("read({path:?})"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc() -> OwnedFd {
        nix::fcntl::open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn own_files_are_reached_and_links_out_of_it_are_not() {
        assert_eq!(
            read(proc(), "thread-self/comm").unwrap(),
            std::fs::read_to_string("/proc/thread-self/comm").unwrap()
        );
        assert!(open(proc(), "self/root/etc/passwd", OFlag::O_RDONLY).is_err());
        assert!(open(proc(), "../etc/passwd", OFlag::O_RDONLY).is_err());
        assert_eq!(read(proc(), "self/nothing").unwrap_err().errno, Errno::ENOENT);
    }
}
