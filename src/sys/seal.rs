//! The binary protected: nothing in a container can open our own executable for writing (CVE-2019-5736).
//!
//! **What goes wrong.** A process in the container finds the runtime at `/proc/PID/exe` while that joins the container, keeps
//! the link open until the runtime has ended (until then writing is ETXTBSY), and writes. The next run of the runtime, as root on the
//! host, is the attacker's program.
//!
//! **What we do.** Before anything else, have our own file on a detached, read-only clone of its mount: `open_tree(OPEN_TREE_CLONE)`,
//! `mount_setattr(MOUNT_ATTR_RDONLY)`, both at once by `open_tree_attr` since Linux 6.15. `/proc/PID/exe` then leads to a mount on which nothing opens for
//! writing, and which nobody can change: it hangs nowhere. It holds only while no descriptor of the clone is open, so that is closed before anything else happens.
//!
//! **Where.** At the very first instruction of the program the running program is given that file (`sys/early.rs`, `sys/exchange.rs`). Whatever is refused there comes here,
//! where `main` begins, and the program is executed again from the clone (`execveat(AT_EMPTY_PATH)`): the same for a container, and the cost of a second
//! start. Rejected: a copy in a memfd, which costs more and is memory for each process; it is the way out only where a mount cannot be cloned.
//!
//! **Not done** here when the file lies on a read-only mount, or is sealed already: that also ends the recursion.

use super::{Called, Failure, Result, check};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// The verbs that run while a container's processes can see them.
pub const EXPOSED: [&str; 3] = ["run", "create", "exec"];
/// Our own file.
pub const EXE: &CStr = c"/proc/self/exe";
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC);
/// open_tree(2): a detached clone, not the mount itself.
pub const OPEN_TREE_CLONE: u64 = 1;
/// The clone closes itself at execve; a build for one test leaves it open, so that the test of the attack can be seen to fail.
pub const CLOSE_ON_EXEC: u64 = if cfg!(feature = "leak-seal") { 0 } else { libc::O_CLOEXEC as u64 };
const MOUNT_ATTR_RDONLY: u64 = 1;
/// Every seal that keeps a memfd's content: `F_SEAL_SEAL|SHRINK|GROW|WRITE`.
const SEALS: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug)]
pub struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// What the clone becomes.
pub const READ_ONLY: MountAttributes = MountAttributes { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns: 0 };

/// Re-executes the program from its sealed self, if the verb is one that a container can see. Returns when nothing is to do.
/// `began` is handed on: see [`handed_on`](super::clock::handed_on).
pub fn protect(verb: Option<&str>, words: &[OsString], began: Option<u64>) -> Result<()> {
    if !verb.is_some_and(|verb| EXPOSED.contains(&verb)) || super::start::euid() != 0 {
        return Ok(());
    }
    if is_safe(EXE)? {
        return Ok(());
    }
    let sealed = clone_read_only(EXE).or_else(|_| copy_to_memory(EXE))?;
    if let Some(began) = began {
        super::clock::hand_on(began);
    }
    let failure = execute(&sealed, words);
    Err(failure)
}

/// On a read-only mount, or sealed memory?
fn is_safe(exe: &CStr) -> Result<bool> {
    let place = statfs(exe).called(|| "statfs(\"/proc/self/exe\")".into())?;
    if place.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    // Only what lies in a tmpfs, as a memfd does, can be sealed. It answers on a descriptor that is really open.
    if place.filesystem_type() != TMPFS_MAGIC {
        return Ok(false);
    }
    let readable = openat(AT_FDCWD, exe, READ, Mode::empty()).called(|| "openat(\"/proc/self/exe\")".into())?;
    // SAFETY: F_GET_SEALS takes no argument; the descriptor lives until the call returns.
    let seals = unsafe { libc::fcntl(readable.as_raw_fd(), libc::F_GET_SEALS) };
    Ok(seals >= 0 && seals & SEALS == SEALS)
}

fn clone_read_only(exe: &CStr) -> Result<OwnedFd> {
    // SAFETY: a path that ends with NUL, and integers; the descriptor that is returned is ours alone.
    let clone = unsafe {
        let fd =
            libc::syscall(libc::SYS_open_tree, AT_FDCWD.as_raw_fd(), exe.as_ptr(), OPEN_TREE_CLONE | CLOSE_ON_EXEC);
        check(fd).map(|fd| OwnedFd::from_raw_fd(fd as RawFd))
    }
    .called(|| "open_tree(\"/proc/self/exe\", OPEN_TREE_CLONE)".into())?;
    let attributes = READ_ONLY;
    // SAFETY: an empty path for AT_EMPTY_PATH, and a struct of the size that is given, alive until the call returns.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            clone.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })
    .called(|| "mount_setattr(clone, MOUNT_ATTR_RDONLY)".into())?;
    Ok(clone)
}

fn copy_to_memory(exe: &CStr) -> Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memory =
        memfd_create(c"corten", flags).called(|| "memfd_create(MFD_ALLOW_SEALING)".into()).map_err(|failure| {
            match failure.errno {
                Errno::EACCES => failure.because(
                    "vm.memfd_noexec = 2 forbids executable memory, and the mount of the binary cannot be cloned",
                ),
                _ => failure,
            }
        })?;
    let original = openat(AT_FDCWD, exe, READ, Mode::empty()).called(|| "openat(\"/proc/self/exe\")".into())?;
    let (mut from, mut to) = (std::fs::File::from(original), std::fs::File::from(memory));
    std::io::copy(&mut from, &mut to).called(|| "sendfile()".into())?;
    // SAFETY: F_ADD_SEALS takes an integer.
    check(unsafe { libc::fcntl(to.as_raw_fd(), libc::F_ADD_SEALS, SEALS) }.into())
        .called(|| "fcntl(F_ADD_SEALS)".into())?;
    Ok(to.into())
}

/// Executes the descriptor with our own words and environment; returns only the reason why not.
fn execute(sealed: &OwnedFd, words: &[OsString]) -> Failure {
    let words: Vec<CString> = words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
    let mut pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: both lists end with a null pointer and hold pointers to strings that end with NUL; nothing else runs in this
    // process that could change the environment.
    let done = check(unsafe {
        libc::syscall(
            libc::SYS_execveat,
            sealed.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environ,
            libc::AT_EMPTY_PATH,
        )
    });
    let errno = done.err().unwrap_or(Errno::EIO);
    Failure { call: "execveat(sealed)".into(), errno, because: None }
}
