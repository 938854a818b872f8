//! The foreground: what `run` and `exec` do while the program runs.
//!
//! **What the kernel offers.** signalfd(2) turns signals into something to poll, a pidfd the end of a process, and a pty's master
//! is a stream of bytes. One poll(2) watches all.
//!
//! **Try it.** `corten run web` in one terminal, `kill -TERM` to it from another: the program in the container gets the signal.
//! `stty -a` in a third, on the first one's terminal, shows `-icanon -echo` while `run -t` lasts.
//!
//! **What we do.** Signals are blocked before the container is made, so that none is lost, and forwarded from then on. With a
//! terminal, the caller's is made raw: keys go to the container as they are, and its line discipline alone makes signals of
//! them. Bytes go both ways through two buffers; whoever is slow holds up only its own direction. When the program ends, what
//! it wrote last is still read. Without a terminal the program has the caller's stdin, stdout and stderr, and nothing is relayed.
//!
//! **What goes wrong.** A caller's terminal left raw is unusable: it is restored by a guard on every way out. A master without an
//! open slave is always ready to report that, so we keep a slave open until the program ends. Writing to a terminal that is
//! stopped would block us: at most a page at a time, and only when poll says there is room.

use crate::error::Result;
use crate::sys::{Called, file, process, signal, tty};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{fstat, makedev};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Not forwarded: about our own children and sockets, about our own faults, about our own place in the shell's jobs, and those
/// that cannot be blocked. Real-time signals 32 and 33 are libc's.
const OURS: [i32; 16] = [
    libc::SIGCHLD,
    libc::SIGURG,
    libc::SIGPIPE,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGKILL,
    libc::SIGSTOP,
    32,
    33,
];

fn forwarded() -> signal::Mask {
    !OURS.iter().fold(0, |mask, number| mask | signal::mask(*number))
}

/// The signals that wait to be forwarded.
#[derive(Debug)]
pub struct Blocked {
    descriptor: OwnedFd,
}

/// Blocks what will be forwarded; before the clone, so that a signal in between is not lost.
pub fn block_signals() -> Result<Blocked> {
    signal::block(forwarded()).called(|| "rt_sigprocmask(SIG_BLOCK)".into())?;
    let descriptor = signal::descriptor(forwarded()).called(|| "signalfd4()".into())?;
    Ok(Blocked { descriptor })
}

/// In the child: no signal is blocked, and SIGPIPE, which Rust's runtime ignores, ends a program again.
pub fn restore_signals() {
    // Neither can fail: both arguments are valid.
    let _ = signal::set_blocked(0);
    let _ = signal::reset(libc::SIGPIPE);
}

/// The caller's terminal: whichever of stdin, stdout and stderr is one, else the controlling terminal.
pub fn caller_terminal() -> Option<OwnedFd> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let streams = [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()];
    if let Some(found) = streams.into_iter().find(|fd| tcgetattr(fd).is_ok()) {
        return found.try_clone_to_owned().ok();
    }
    // After joining a container its /dev/tty may be anything.
    let seen = file::open("/dev/tty", OFlag::O_PATH).ok()?;
    if fstat(&seen).ok()?.st_rdev != makedev(5, 0) {
        return None;
    }
    file::open("/dev/tty", OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK).ok()
}

/// Rows and columns of the caller's terminal; `None` without one, or where they are not known.
pub fn caller_size() -> Option<(u16, u16)> {
    caller_terminal().and_then(|terminal| tty::size(terminal).ok()).filter(|size| *size != (0, 0))
}

/// Stays with a child until it ends: forwards signals, relays its terminal if it has one. Returns its exit code, 128+n after
/// signal n.
pub fn foreground(pidfd: &OwnedFd, terminal: Option<OwnedFd>, signals: &Blocked) -> Result<u8> {
    let mut relay = terminal.map(Relay::new).transpose()?;
    loop {
        let mut ends = vec![(End::Program, pidfd.as_fd(), PollFlags::POLLIN)];
        ends.push((End::Signals, signals.descriptor.as_fd(), PollFlags::POLLIN));
        relay.iter().for_each(|relay| relay.watch(&mut ends));
        let mut watched: Vec<PollFd> = ends.iter().map(|(_, fd, wanted)| PollFd::new(*fd, *wanted)).collect();
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.called(|| "poll()".into())?,
        };
        let found = watched.iter().map(|one| one.revents().unwrap_or(PollFlags::empty()));
        let ready: Vec<_> =
            ends.iter().map(|(end, ..)| *end).zip(found).filter(|(_, found)| !found.is_empty()).collect();
        drop(ends);
        for (end, found) in &ready {
            match (end, &mut relay) {
                (End::Program, _) => {}
                (End::Signals, relay) => forward(signals, pidfd, relay.as_ref()),
                (End::Master, Some(relay)) => relay.master_ready(*found),
                (End::Input, Some(relay)) => relay.read_input(),
                (End::Output, Some(relay)) => relay.write_output(),
                (_, None) => {}
            }
        }
        if ready.iter().any(|(end, _)| *end == End::Program) {
            if let Some(relay) = relay {
                relay.finish();
            }
            return Ok(process::wait(pidfd).called(|| "waitid(pidfd)".into())?.code());
        }
    }
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Program,
    Signals,
    Master,
    Input,
    Output,
}

fn forward(signals: &Blocked, pidfd: &OwnedFd, relay: Option<&Relay>) {
    while let Ok(number) = signal::next(&signals.descriptor) {
        match (number, relay) {
            (libc::SIGWINCH, None) => continue,
            (libc::SIGWINCH, Some(relay)) => {
                relay.follow_size();
                continue;
            }
            // The shell may have set its own modes meanwhile.
            (libc::SIGCONT, Some(Relay { raw: Some(raw), .. })) => raw.enter(),
            _ => {}
        }
        // It may have ended just now; the pidfd says so next.
        let _ = process::pidfd_send_signal(pidfd, number);
    }
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    sent: usize,
}

impl Buffer {
    /// As much as is read at once.
    const CAPACITY: usize = 16 << 10;
    /// As much as is written at once: what a pipe takes without blocking once poll says that it has room.
    const CHUNK: usize = 4 << 10;

    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Reads once, into the empty buffer: the number of bytes, 0 at the end.
    fn fill(&mut self, from: BorrowedFd<'_>) -> nix::Result<usize> {
        self.bytes.resize(Self::CAPACITY, 0);
        let length = read(from, &mut self.bytes);
        self.bytes.truncate(*length.as_ref().unwrap_or(&0));
        self.sent = 0;
        length
    }

    /// Writes once.
    fn drain(&mut self, to: BorrowedFd<'_>) -> nix::Result<()> {
        let until = self.bytes.len().min(self.sent + Self::CHUNK);
        self.sent += write(to, &self.bytes[self.sent..until])?;
        Ok(())
    }

    fn clear(&mut self) {
        (self.sent, self.bytes) = (0, Vec::new());
    }
}

fn passing(errno: Errno) -> bool {
    matches!(errno, Errno::EAGAIN | Errno::EINTR)
}

/// The caller's terminal, raw until this is dropped.
#[derive(Debug)]
struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    fn new(terminal: OwnedFd) -> Option<Self> {
        let before = tcgetattr(&terminal).ok()?;
        let raw = Raw { terminal, before };
        raw.enter();
        Some(raw)
    }

    fn enter(&self) {
        let mut modes = self.before.clone();
        cfmakeraw(&mut modes);
        // As runc: the container's terminal leaves a newline as it is, and this one returns the carriage.
        modes.output_flags.insert(OutputFlags::OPOST & self.before.output_flags);
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &modes);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Both directions between the container's terminal and the caller.
#[derive(Debug)]
struct Relay {
    master: Option<OwnedFd>,
    /// Held open so that the master does not hang up while the program has closed its own.
    slave: Option<OwnedFd>,
    raw: Option<Raw>,
    keys: Buffer,
    screen: Buffer,
    input: Option<std::io::Stdin>,
    output: Option<std::io::Stdout>,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Self> {
        // Our own open file by now: the child has closed its copy.
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
            .called(|| "fcntl(master, F_SETFL)".into())?;
        let relay = Relay {
            slave: tty::peer(&master).ok(),
            master: Some(master),
            raw: caller_terminal().and_then(Raw::new),
            keys: Buffer::default(),
            screen: Buffer::default(),
            input: Some(std::io::stdin()),
            output: Some(std::io::stdout()),
        };
        relay.follow_size();
        Ok(relay)
    }

    /// Gives the container's terminal the size of the caller's.
    fn follow_size(&self) {
        let (Some(master), Some(raw)) = (&self.master, &self.raw) else { return };
        if let Ok(size) =
            tty::size(&raw.terminal).and_then(|size| if size == (0, 0) { Err(Errno::ENOTTY) } else { Ok(size) })
            && tty::size(master) != Ok(size)
        {
            let _ = tty::set_size(master, size);
        }
    }

    /// Each direction is read when its buffer is empty, and written when it is not.
    fn watch<'a>(&'a self, ends: &mut Vec<(End, BorrowedFd<'a>, PollFlags)>) {
        if let Some(master) = &self.master {
            let mut wanted = PollFlags::empty();
            wanted.set(PollFlags::POLLIN, self.screen.is_empty());
            wanted.set(PollFlags::POLLOUT, !self.keys.is_empty());
            if !wanted.is_empty() {
                ends.push((End::Master, master.as_fd(), wanted));
            }
            if let Some(input) = self.input.as_ref().filter(|_| self.keys.is_empty()) {
                ends.push((End::Input, input.as_fd(), PollFlags::POLLIN));
            }
        }
        if let Some(output) = self.output.as_ref().filter(|_| !self.screen.is_empty()) {
            ends.push((End::Output, output.as_fd(), PollFlags::POLLOUT));
        }
    }

    fn master_ready(&mut self, found: PollFlags) {
        if found.contains(PollFlags::POLLOUT) && !self.keys.is_empty() {
            self.write_keys();
        }
        if found.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) && self.screen.is_empty() {
            self.read_master();
        }
    }

    fn write_keys(&mut self) {
        let Some(master) = &self.master else { return };
        match self.keys.drain(master.as_fd()) {
            Err(errno) if !passing(errno) => self.keys.clear(),
            _ => {}
        }
    }

    /// EIO, or rarely end of file, says that no slave is open any more.
    fn read_master(&mut self) {
        let Some(master) = &self.master else { return };
        match self.screen.fill(master.as_fd()) {
            Err(errno) if passing(errno) => {}
            Ok(0) | Err(_) => self.master = None,
            // Nobody looks: the program goes on all the same.
            Ok(_) if self.output.is_none() => self.screen.clear(),
            Ok(_) => {}
        }
    }

    /// The end of our stdin ends nothing in the container: a terminal has no end of file, as with runc.
    fn read_input(&mut self) {
        let Some(input) = &self.input else { return };
        match self.keys.fill(input.as_fd()) {
            Err(errno) if passing(errno) => {}
            Ok(0) | Err(_) => self.input = None,
            Ok(_) => {}
        }
    }

    fn write_output(&mut self) {
        let Some(output) = &self.output else { return };
        match self.screen.drain(output.as_fd()) {
            Err(errno) if !passing(errno) => {
                self.output = None;
                self.screen.clear();
            }
            _ => {}
        }
    }

    /// The program has ended: what it wrote last is read and written out, and the caller's terminal restored.
    fn finish(mut self) {
        self.slave = None;
        // More than a pty holds: somebody else who still writes to it does not keep us.
        for _ in 0..(1 << 20) / Buffer::CAPACITY {
            self.flush();
            match &self.master {
                Some(master) if matches!(self.screen.fill(master.as_fd()), Ok(1..)) => {}
                _ => break,
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(output) = self.output.as_ref().filter(|_| !self.screen.is_empty()) {
            // A caller's stdout that does not block is waited for here.
            let _ = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            self.write_output();
        }
    }
}

#[cfg(test)]
mod tests;
