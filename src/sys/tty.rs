//! Terminals: ioctl_tty(2) on both ends of a pty(7).

use super::check;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `TIOCSPTLCK` with 0: the slave of this master may be opened.
pub fn unlock(master: impl AsFd) -> nix::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: the kernel reads one int during the call.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK as _, &raw const locked) }.into()).map(drop)
}

/// `TIOCGPTPEER`: opens the slave of this very master, whatever lies at its path. Not our controlling terminal, close-on-exec.
pub fn peer(master: impl AsFd) -> nix::Result<OwnedFd> {
    const TIOCGPTPEER: u32 = 0x5441;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), TIOCGPTPEER as _, flags) }.into())
        // SAFETY: the kernel has just made this descriptor, which nobody else owns.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `TIOCGPTN`: N of `/dev/pts/N`.
pub fn number(master: impl AsFd) -> nix::Result<u32> {
    let mut number: libc::c_uint = 0;
    // SAFETY: the kernel writes one unsigned int.
    check(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) }.into())?;
    Ok(number)
}

/// `TIOCGWINSZ`: rows and columns.
pub fn size(terminal: impl AsFd) -> nix::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) }.into())?;
    Ok((size.ws_row, size.ws_col))
}

/// `TIOCSWINSZ`: rows and columns. What runs in the foreground of the terminal gets SIGWINCH.
pub fn set_size(terminal: impl AsFd, (rows, columns): (u16, u16)) -> nix::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) }.into()).map(drop)
}

/// `TIOCSCTTY`: the terminal becomes that of the calling session, which must have none.
pub fn make_controlling(terminal: impl AsFd) -> nix::Result<()> {
    // SAFETY: the argument is a number: 0, do not steal it.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) }.into()).map(drop)
}
