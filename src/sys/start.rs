//! What a program must see to before it opens anything.
//!
//! What goes wrong: a caller that has closed 0, 1 or 2. The next descriptor that is opened gets that number, and everybody takes it for
//! standard output: messages go into a file of ours, and the container's program inherits it. By hand: `corten run web 0<&- 2>&-`.

use super::{Called, Result, check};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{BorrowedFd, IntoRawFd};

/// Opens `/dev/null` for each of 0, 1 and 2 that is closed, and lets a write to a pipe that nobody reads fail (`EPIPE`) instead of killing us.
pub fn prepare() -> Result<()> {
    let mut streams = [0, 1, 2].map(|number| {
        // SAFETY: poll(2) says whether a number is open; it does nothing else with it.
        PollFd::new(unsafe { BorrowedFd::borrow_raw(number) }, PollFlags::empty())
    });
    poll(&mut streams, PollTimeout::ZERO).called(|| "poll(0, 1, 2)".into())?;
    let closed = |stream: &&PollFd| stream.revents().is_some_and(|found| found.contains(PollFlags::POLLNVAL));
    for _ in streams.iter().filter(closed) {
        // It takes the lowest number that is free, and stays open.
        let null = super::file::open_inherited("/dev/null", OFlag::O_RDWR);
        let _stays = null.called(|| "openat(\"/dev/null\")".into())?.into_raw_fd();
    }
    // SAFETY: installs no handler.
    check(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } as libc::c_long)
        .map(drop)
        .called(|| "rt_sigaction(SIGPIPE)".into())
}

/// Standard input becomes `/dev/null`.
pub fn null_input() -> Result<()> {
    let null = super::file::open("/dev/null", nix::fcntl::OFlag::O_RDONLY).called(|| "openat(\"/dev/null\")".into())?;
    nix::unistd::dup2_stdin(&null).called(|| "dup2(/dev/null, 0)".into())
}

/// Was this program started as root in every respect? Real and effective ids, of user and group; execve(2) copies the saved ones.
pub fn is_root() -> bool {
    // SAFETY: reads the vector that the kernel has put on the stack.
    [libc::AT_UID, libc::AT_EUID, libc::AT_GID, libc::AT_EGID].into_iter().all(|id| unsafe { libc::getauxval(id) == 0 })
}

/// The effective user id that this program was started with: the kernel laid it down beside the arguments, see getauxval(3).
pub fn euid() -> u32 {
    // SAFETY: reads the vector that the kernel has put on the stack.
    unsafe { libc::getauxval(libc::AT_EUID) as u32 }
}
