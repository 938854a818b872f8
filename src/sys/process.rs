//! Making, watching and ending processes: clone3(2), pidfd_open(2), pidfd_send_signal(2), waitid(2).

use super::{Called, Result, check};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::fstat;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// `struct clone_args` of clone3(2), first 88 bytes (Linux 5.7).
#[repr(C, align(8))]
#[derive(Default)]
pub(super) struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArgs {
    /// A child whose pidfd goes to `pidfd`, and whose end is told by SIGCHLD.
    pub(super) fn new(flags: u64, cgroup: Option<BorrowedFd<'_>>, pidfd: &mut RawFd) -> CloneArgs {
        let mut args = CloneArgs {
            flags: flags | libc::CLONE_PIDFD as u64,
            pidfd: &raw mut *pidfd as u64,
            exit_signal: libc::SIGCHLD as u64,
            ..CloneArgs::default()
        };
        if let Some(cgroup) = cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        args
    }
}

/// Namespace flags by name, as clone3(2) and setns(2) take them.
pub const NAMESPACE_FLAGS: [(u64, &str); 8] = [
    (libc::CLONE_NEWUSER as u64, "NEWUSER"),
    (libc::CLONE_NEWPID as u64, "NEWPID"),
    (libc::CLONE_NEWNS as u64, "NEWNS"),
    (libc::CLONE_NEWNET as u64, "NEWNET"),
    (libc::CLONE_NEWIPC as u64, "NEWIPC"),
    (libc::CLONE_NEWUTS as u64, "NEWUTS"),
    (libc::CLONE_NEWCGROUP as u64, "NEWCGROUP"),
    (CLONE_NEWTIME, "NEWTIME"),
];

/// Not in libc for musl: `CLONE_NEWTIME`; only unshare(2) and setns(2) take it.
pub const CLONE_NEWTIME: u64 = 0x80;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Prints namespace flags as strace abbreviates them: `NEWPID|NEWNS`.
pub struct Flags(pub u64);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (flag, name) in NAMESPACE_FLAGS {
            if self.0 & flag != 0 {
                f.write_str(if first { "" } else { "|" })?;
                f.write_str(name)?;
                first = false;
            }
        }
        if first { f.write_str("0") } else { Ok(()) }
    }
}

/// Which side of the clone the caller is on.
pub enum Side {
    /// In the new process.
    Child,
    /// In the old one.
    Parent {
        /// Pid of the new process as the caller's pid namespace sees it.
        pid: i32,
        /// A descriptor that stays with this very process.
        pidfd: OwnedFd,
    },
}

/// Who becomes the new process's parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The caller.
    Caller,
    /// The caller's own parent (`CLONE_PARENT`): an intermediate hands its child over.
    CallersParent,
}

/// clone3(2): a plain fork with `flags` (`CLONE_NEW*`), born in the cgroup2 directory `cgroup` if one is given.
///
/// The caller must be single-threaded: the child may then go on as an ordinary program and allocate.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>, parent: Parent) -> Result<Side> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs::new(flags, cgroup, &mut pidfd);
    if parent == Parent::CallersParent {
        args.flags |= libc::CLONE_PARENT as u64;
        args.exit_signal = 0;
    }
    // SAFETY: without CLONE_VM the child gets a copy of the address space and returns here on a copy of this stack; `args` and
    // `pidfd` outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match check(pid).called(|| format!("clone3({})", Flags(flags)))? {
        0 => Ok(Side::Child),
        // SAFETY: the kernel has just stored a new descriptor there, which nobody else owns.
        pid => Ok(Side::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// The number of this process, asked for once: libc asks the kernel each time. Not for who is cloned from it.
pub fn own_pid() -> i32 {
    static OWN: OnceLock<i32> = OnceLock::new();
    *OWN.get_or_init(|| nix::unistd::getpid().as_raw())
}

/// pidfd_open(2). `ESRCH`: there is no such process.
pub fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers; the descriptor that it returns is ours alone.
    check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The number of a process in pidfs (Linux 6.9): no other one has it until the next boot. `None`: before, all descriptors of processes share one
/// anonymous inode. The two are told apart by their permissions, 0700 and 0600: statfs(2) would say it outright, in one call more. Were that to
/// change, processes would be known by their start time, as before.
pub fn inode(pidfd: impl AsFd) -> nix::Result<Option<u64>> {
    let found = fstat(pidfd)?;
    Ok((found.st_mode & 0o777 == 0o700).then_some(found.st_ino))
}

/// Has it ended, waited for or not? poll(2) says that a descriptor of a process is readable then.
pub fn has_ended(pidfd: impl AsFd) -> bool {
    let mut watched = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut watched, PollTimeout::ZERO), Ok(0))
}

/// pidfd_send_signal(2) with a plain number, so that real-time signals go too.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> nix::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a borrowed descriptor, integers, and a null siginfo, which asks for the one that kill(2) makes.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) })
        .map(drop)
}

/// kill(2) with a plain number.
pub fn kill(pid: i32, signal: i32) -> nix::Result<()> {
    // SAFETY: two integers.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// exit(2) with this code.
    Exited(u8),
    /// Killed by this signal.
    Killed(i32),
}

impl End {
    /// The exit code that a shell would show: 128+n after signal n.
    pub fn code(self) -> u8 {
        match self {
            End::Exited(code) => code,
            End::Killed(signal) => 128u8.wrapping_add(signal as u8),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exited with {code}"),
            End::Killed(signal) => write!(f, "killed by {}", signal_name(*signal)),
        }
    }
}

/// Waits until a child ends, and reaps it. waitid(2) with `P_PIDFD`.
pub fn wait(pidfd: impl AsFd) -> nix::Result<End> {
    let fd = pidfd.as_fd().as_raw_fd();
    loop {
        let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` is writable and large enough; the descriptor is borrowed for the call.
        let done = unsafe { libc::waitid(libc::P_PIDFD, fd as libc::id_t, info.as_mut_ptr(), libc::WEXITED) };
        match check(done.into()) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
            Ok(_) => {}
        }
        // SAFETY: zeroed is a valid siginfo_t, and waitid has filled in the fields of SIGCHLD.
        let (code, status) = unsafe { (info.assume_init_ref().si_code, info.assume_init_ref().si_status()) };
        return Ok(if code == libc::CLD_EXITED { End::Exited(status as u8) } else { End::Killed(status) });
    }
}

/// Reaps one child that has ended, whichever: its pid and how. `None`: none has; `ECHILD`: there is none. (nix's waitpid has no word for a real-time
/// signal, and forgets who was ended by one.)
pub fn reap_any() -> nix::Result<Option<(i32, End)>> {
    let mut status = 0;
    loop {
        // SAFETY: the status is written to a local variable.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        return match check(pid.into()) {
            Err(Errno::EINTR) => continue,
            Err(errno) => Err(errno),
            Ok(0) => Ok(None),
            Ok(_) if libc::WIFEXITED(status) => Ok(Some((pid, End::Exited(libc::WEXITSTATUS(status) as u8)))),
            Ok(_) => Ok(Some((pid, End::Killed(libc::WTERMSIG(status))))),
        };
    }
}

/// `SIGTERM`, `SIGRTMIN+3`, or the number. The kernel's real-time signals begin at 32; glibc and musl keep the first for themselves and count from 34 and 35.
pub fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number >= RTMIN => format!("SIGRTMIN+{}", number - RTMIN),
        Err(_) => format!("signal {number}"),
    }
}

/// Where programs linked with glibc, and so most callers, begin to count real-time signals.
pub const RTMIN: i32 = 34;

/// Ends this process at once, without running destructors or flushing: what a forked child owes its parent.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// How a process that ended a while ago ended, as a wait status: `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT` (Linux 6.15), on a
/// pidfd that was opened before. `None`: the kernel does not tell.
pub fn exit_status(pidfd: &OwnedFd) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xFF, 11, struct pidfd_info), for its first 64 bytes.
    const PIDFD_GET_INFO: u64 = 0xC040_FF0B;
    let mut info = [0u64; 8];
    info[0] = PIDFD_INFO_EXIT;
    // SAFETY: the request reads and writes the 64 bytes that its number names, which live until the call returns.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, info.as_mut_ptr()) }.into()).ok()?;
    // struct pidfd_info: mask, cgroupid, then 32-bit pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid, exit_code.
    (info[0] & PIDFD_INFO_EXIT != 0).then(|| (info[7] >> 32) as i32)
}
