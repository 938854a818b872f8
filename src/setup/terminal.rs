//! The terminal: a pty of the container's own devpts, see pty(7).
//!
//! **What the kernel offers.** Opening a `ptmx` makes a pair: the master end is for who watches, the slave end is the terminal, and
//! has a name in that devpts mount. A session leader makes one its controlling terminal; then keys become signals.
//!
//! **Try it.** `script -qc tty /dev/null` shows a new one; `ls -l /dev/ptmx /dev/pts`; `stty size <$(tty)`.
//!
//! **What we do.** The child opens `pts/ptmx` below the container's /dev and sees that it is one. The slave comes from the master
//! itself (TIOCGPTPEER), not by name. It is given to the user, mounted on `/dev/console`, and becomes stdin, stdout and
//! stderr. The master goes to the caller's socket, or to the parent, by SCM_RIGHTS, and the child keeps no copy.
//!
//! **What goes wrong.** `/dev/pts/0` may be a link to anywhere, and so may `/dev/console` (CVE-2025-52565). Without a devpts mount
//! there is no terminal. The line discipline turns `\n` into `\r\n` (ONLCR); where we relay to the caller's terminal that does
//! it again, so it is cleared; who takes the master by a socket decides for itself, as with runc.

use crate::input::config::{ConsoleSize, Process};
use crate::sys::mount::{self, Reach};
use crate::sys::path::{self, Links};
use crate::sys::{Called, Failure, Result, procfs, socket, tty};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use super::Held;

/// Who gets the master end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watcher {
    /// The runtime, which relays between it and the caller's terminal of this size, if there is one.
    Here(Option<ConsoleSize>),
    /// Who listens on the console socket.
    Socket,
}

/// What happens to a `\n` that the program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newline {
    /// It stays as it is: ONLCR is cleared.
    Plain,
    /// It becomes `\r\n`, the kernel's default.
    Returned,
}

/// One thing to do about the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the pair.
    Open {
        /// Rows and columns; none: 0 by 0, until the watcher says.
        size: Option<ConsoleSize>,
        /// Who owns it, a uid of the container.
        owner: u32,
        /// ONLCR.
        newline: Newline,
    },
    /// Mount the slave on `/dev/console`.
    Console,
    /// Send the master through `held.console`.
    Send,
    /// Make the slave the controlling terminal and stdin, stdout, stderr. The child is a session leader by now.
    Control,
}

/// For a new container: as soon as its /dev is mounted.
pub fn decide_create(process: &Process, watcher: Watcher) -> Vec<Action> {
    let mut actions = decide_exec(process, watcher);
    actions.insert(1, Action::Console);
    actions
}

/// For another process in a container; `/dev/console` stays the first one's.
pub fn decide_exec(process: &Process, watcher: Watcher) -> Vec<Action> {
    let (given, newline) = match watcher {
        Watcher::Here(size) => (size, Newline::Plain),
        Watcher::Socket => (None, Newline::Returned),
    };
    let size = given.or(process.console_size).filter(|size| *size != ConsoleSize { height: 0, width: 0 });
    vec![Action::Open { size, owner: process.user.uid, newline }, Action::Send, Action::Control]
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open { size, owner, newline } => {
                f.write_str("openat2(root, \"dev/pts/ptmx\"); fstatfs(); fstat(); openat(proc, \"self/fd/N\", O_RDWR|O_NOCTTY); ioctl(TIOCSPTLCK, 0); ioctl(TIOCGPTPEER)")?;
                if let Some(ConsoleSize { height, width }) = size {
                    write!(f, "; ioctl(TIOCSWINSZ, {height}x{width})")?;
                }
                if *newline == Newline::Plain {
                    f.write_str("; ioctl(TCGETS); ioctl(TCSETS, -ONLCR)")?;
                }
                write!(f, "; fchown(slave, {owner})")
            }
            Action::Console => f.write_str(
                "openat2(root, \"dev\"); openat2(dev, \"console\"); [openat2(dev); openat(\"console\", O_CREAT|O_EXCL); openat(\"console\", O_PATH|O_NOFOLLOW); fstat()]; fstat(); open_tree(slave, CLONE); move_mount(\"console\")",
            ),
            Action::Send => f.write_str("ioctl(TIOCGPTN); sendmsg(console, master)"),
            Action::Control => f.write_str("ioctl(TIOCSCTTY); dup3(slave, 0); dup3(slave, 1); dup3(slave, 2)"),
        }
    }
}

impl Action {
    /// Does it.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        match self {
            Action::Open { size, owner, newline } => open_pair(*size, *owner, *newline, held),
            Action::Console => mount_console(held),
            Action::Send => {
                let missing =
                    || Failure::refused("sendmsg(console)", Errno::EBADF, "there is nobody to send the terminal to");
                let console = held.console.take().ok_or_else(missing)?;
                let master = held.master.take().ok_or_else(no_terminal)?;
                send_master(&console, &master)
            }
            Action::Control => {
                let slave = held.terminal.take().ok_or_else(no_terminal)?;
                tty::make_controlling(&slave).called(|| "ioctl(slave, TIOCSCTTY)".into())?;
                dup2_stdin(&slave)
                    .and_then(|()| dup2_stdout(&slave))
                    .and_then(|()| dup2_stderr(&slave))
                    .called(|| "dup2(slave)".into())
            }
        }
    }
}

fn no_terminal() -> Failure {
    Failure::refused("ioctl()", Errno::EBADF, "the terminal has not been opened")
}

const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

fn open_pair(size: Option<ConsoleSize>, owner: u32, newline: Newline, held: &mut Held) -> Result<()> {
    let call = "openat2(root, \"dev/pts/ptmx\")";
    let root = path::opened(&held.root)?;
    // First by O_PATH: opening a device can do anything, looking at it cannot.
    let found = path::open_below(root, Path::new("dev/pts/ptmx"), OFlag::O_PATH, Links::Follow);
    let found = found.map_err(|failure| match failure.errno {
        Errno::ENOENT | Errno::ENOTDIR => failure
            .because("process.terminal: the container has no devpts mounted at /dev/pts, which a terminal comes from"),
        _ => failure,
    })?;
    check_ptmx(&found)?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master =
        procfs::reopen(held.proc()?, &found, flags).called(|| call.into()).map_err(|failure| match failure.errno {
            Errno::ENOSPC => failure.because("process.terminal: no terminals left (kernel.pty.max)"),
            _ => failure,
        })?;
    tty::unlock(&master).called(|| "ioctl(master, TIOCSPTLCK, 0)".into())?;
    let slave = tty::peer(&master).called(|| "ioctl(master, TIOCGPTPEER)".into())?;
    if let Some(ConsoleSize { height, width }) = size {
        tty::set_size(&master, (height, width)).called(|| format!("ioctl(master, TIOCSWINSZ, {height}x{width})"))?;
    }
    if newline == Newline::Plain {
        let mut modes = tcgetattr(&slave).called(|| "ioctl(slave, TCGETS)".into())?;
        modes.output_flags.remove(OutputFlags::ONLCR);
        tcsetattr(&slave, SetArg::TCSANOW, &modes).called(|| "ioctl(slave, TCSETS)".into())?;
    }
    // The group stays as the options of the devpts mount say.
    fchown(&slave, Some(Uid::from_raw(owner)), None).called(|| format!("fchown(slave, {owner})")).map_err(
        |failure| match failure.errno {
            Errno::EINVAL => failure
                .because(format!("uid {owner} is not mapped in the container's user namespace (linux.uidMappings)")),
            _ => failure,
        },
    )?;
    (held.master, held.terminal) = (Some(master), Some(slave));
    Ok(())
}

/// A multiplexer: character device 5:2 on a devpts.
fn check_ptmx(found: &OwnedFd) -> Result<()> {
    let kind = fstatfs(found).called(|| "fstatfs(\"dev/pts/ptmx\")".into())?.filesystem_type();
    let stat = fstat(found).called(|| "fstat(\"dev/pts/ptmx\")".into())?;
    let device =
        SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR && stat.st_rdev == makedev(5, 2);
    if kind == DEVPTS_SUPER_MAGIC && device {
        return Ok(());
    }
    let because = "process.terminal: /dev/pts/ptmx of the container is not the multiplexer of a devpts";
    Err(Failure::refused("fstatfs(\"dev/pts/ptmx\")", Errno::ENOTTY, because))
}

fn mount_console(held: &mut Held) -> Result<()> {
    let slave = held.terminal.as_ref().ok_or_else(no_terminal)?;
    let dev = path::open_below(
        path::opened(&held.root)?,
        Path::new("dev"),
        OFlag::O_PATH | OFlag::O_DIRECTORY,
        Links::Follow,
    )?;
    let redirected = |errno| {
        Failure::refused(
            "openat(\"dev/console\")",
            errno,
            "process.terminal: /dev/console of the container is a link or a directory",
        )
    };
    // From the directory in hand; a link at the name itself is not followed.
    let console = path::make_file(dev.as_fd(), Path::new("console"), Mode::from_bits_truncate(0o600), Links::Refuse);
    let console =
        console.map_err(|failure| if failure.errno == Errno::ELOOP { redirected(Errno::ELOOP) } else { failure })?;
    if matches!(path::kind(&console)?, SFlag::S_IFDIR | SFlag::S_IFLNK) {
        return Err(redirected(Errno::EISDIR));
    }
    let tree = mount::clone_of(slave.as_fd(), Reach::This).called(|| "open_tree(slave, CLONE)".into())?;
    mount::attach(tree.as_fd(), console.as_fd()).called(|| "move_mount(slave, \"dev/console\")".into())
}

/// Connects to the caller's console socket: a stream, see unix(7).
pub fn connect(path: &Path) -> Result<OwnedFd> {
    socket::connect_stream(path).map_err(|failure| {
        let words = crate::sys::plain(failure.errno);
        failure.because(format!("console socket {}: {words}", path.display()))
    })
}

/// Sends a master as runc does: one message, the name of the terminal with the descriptor.
pub fn send_master(console: &OwnedFd, master: &OwnedFd) -> Result<()> {
    let number = tty::number(master).called(|| "ioctl(master, TIOCGPTN)".into())?;
    socket::send(console, format!("/dev/pts/{number}").as_bytes(), Some(master.as_raw_fd()))
}

#[cfg(test)]
mod tests;
