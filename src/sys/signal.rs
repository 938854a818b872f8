//! Signals as numbers and masks: rt_sigprocmask(2), signalfd(2), sigaction(2).
//!
//! libc's sets leave out the real-time signals that it keeps for itself; a signal to forward may be any of the 64.

use super::check;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A set of signals, bit n-1 for signal n.
pub type Mask = u64;

/// The mask of one signal.
pub const fn mask(signal: i32) -> Mask {
    1 << (signal - 1)
}

fn sigprocmask(how: i32, new: Mask) -> nix::Result<Mask> {
    let mut old: Mask = 0;
    // SAFETY: both masks are eight bytes, as the last argument says, and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const new, &raw mut old, size_of::<Mask>()) })?;
    Ok(old)
}

/// Adds to the blocked signals of the calling thread, and returns those blocked before.
pub fn block(signals: Mask) -> nix::Result<Mask> {
    sigprocmask(libc::SIG_BLOCK, signals)
}

/// Sets the blocked signals of the calling thread.
pub fn set_blocked(signals: Mask) -> nix::Result<()> {
    sigprocmask(libc::SIG_SETMASK, signals).map(drop)
}

/// A descriptor that reads blocked signals, close-on-exec and not blocking. signalfd(2)
pub fn descriptor(signals: Mask) -> nix::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the mask is eight bytes, as the third argument says, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const signals, size_of::<Mask>(), flags) })
        // SAFETY: the kernel has just made this descriptor, which nobody else owns.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The next pending signal of such a descriptor; `EAGAIN`: there is none.
pub fn next(descriptor: impl AsFd) -> nix::Result<i32> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let fd = descriptor.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one whole structure into memory of that size, or fails.
    check(unsafe { libc::read(fd, info.as_mut_ptr().cast(), size_of::<libc::signalfd_siginfo>()) } as libc::c_long)?;
    // SAFETY: made of integers, so zeroed is valid, and the read has filled it in.
    Ok(unsafe { info.assume_init_ref().ssi_signo } as i32)
}

/// Waits until such a descriptor has a signal.
pub fn wait_readable(descriptor: impl AsFd) -> nix::Result<()> {
    let mut wanted = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    match poll(&mut wanted, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The program of `command` will be in a process group of its own, in the foreground of the terminal that standard input is, if it is one, with no signal
/// blocked and SIGPIPE ending it again.
pub fn prepare_foreground(command: &mut Command) {
    let prepare = || {
        // SAFETY: takes integers; std's own standard input is open, or the second call fails. SIGTTOU is still blocked, or it would stop who
        // is not in the foreground yet.
        unsafe {
            libc::setpgid(0, 0);
            libc::tcsetpgrp(0, libc::getpid());
        }
        reset(libc::SIGPIPE).and_then(|()| set_blocked(0)).map_err(Into::into)
    };
    // SAFETY: between fork and exec the closure makes five system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// The program of `command` will start with no signal blocked (std alone would let it inherit ours), and be killed when this process dies.
pub fn prepare_helper(command: &mut Command) {
    let die_with_parent = || {
        // SAFETY: takes integers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into())
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(move || set_blocked(0).and_then(|()| die_with_parent().map(drop)).map_err(Into::into)) };
}

/// Gives a signal its default effect again.
pub fn reset(signal: i32) -> nix::Result<()> {
    // SAFETY: installs no handler.
    match unsafe { libc::signal(signal, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(nix::errno::Errno::last()),
        _ => Ok(()),
    }
}
