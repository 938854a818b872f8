//! The status of a container, derived from its facts and from the kernel.
//!
//! | init | its lock `held` | status |
//! |---|---|---|
//! | not recorded, creator alive | | creating |
//! | not recorded, creator dead | | stopped |
//! | dead, a zombie, another process, another boot | | stopped |
//! | alive | held, `create` not finished, or no gate | creating |
//! | alive | held | created, or paused if its cgroup is frozen |
//! | alive | free: it has executed its program | running, or paused if its cgroup is frozen |

use super::store::{Entry, HELD};
use super::{Process, State};
use crate::setup::hooks::Kind;
use crate::sys::file::{self, End};
use crate::sys::process;
use crate::sys::spent::Spent;
use nix::fcntl::OFlag;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

/// `status` of the runtime specification, and `paused` as runc has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `create` or `run` is at work.
    Creating,
    /// Waits for `start`.
    Created,
    /// The program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Init has ended.
    Stopped,
}

impl Status {
    /// What a hook of this kind is told, as the runtime specification's table of hooks has it.
    pub fn of_hook(kind: Kind) -> Status {
        match kind {
            Kind::Prestart | Kind::CreateRuntime | Kind::CreateContainer => Status::Creating,
            Kind::StartContainer => Status::Created,
            Kind::Poststart => Status::Running,
            Kind::Poststop => Status::Stopped,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// Fields of `/proc/PID/stat` that tell a process from another.
pub struct Stat {
    /// `R`, `S`, `Z` …
    pub state: char,
    /// It is on its way out (`PF_EXITING`): its descriptors may be closed already, and it is no zombie yet.
    pub is_ending: bool,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// While it is a zombie: its wait status.
    pub exit_status: i32,
}

/// Parses the line of `/proc/PID/stat`, see proc_pid_stat(5). The name may hold spaces and parentheses.
pub fn parse_stat(line: &str) -> Option<Stat> {
    const PF_EXITING: u32 = 0x4;
    let rest: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
    Some(Stat {
        state: rest.first()?.chars().next()?,
        is_ending: rest.get(6)?.parse::<u32>().ok()? & PF_EXITING != 0,
        start_time: rest.get(19)?.parse().ok()?,
        exit_status: rest.last()?.parse().ok()?,
    })
}

/// Reads it; `None`: no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&file::read_text(format!("/proc/{pid}/stat"), End::Less).ok()?)
}

/// This boot of the machine. It cannot change while we run: read once, also for a list of many containers.
pub fn boot() -> String {
    boot_sparing(&Spent::default())
}

/// The same; the file is closed with others.
pub fn boot_sparing(spent: &Spent) -> String {
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || {
        let file = file::open("/proc/sys/kernel/random/boot_id", OFlag::O_RDONLY).ok()?;
        let bytes = file::read_rest(&file, End::Less, 0, usize::MAX).ok();
        spent.take(file);
        String::from_utf8(bytes?).ok()
    };
    BOOT.get_or_init(|| read().unwrap_or_default().trim().to_owned()).clone()
}

impl Process {
    /// Describes this process.
    ///
    /// `gone_with_boot`: so is the record ([`Store::is_gone_with_boot`](super::store::Store::is_gone_with_boot)), and the boot need not be in it.
    ///
    /// By pidfs, whose inode is asked for in a microsecond; `/proc/PID/stat`, which the kernel writes out in ten, only where there is none.
    pub fn own(gone_with_boot: bool, spent: &Spent) -> Option<Process> {
        let pid = process::own_pid();
        let boot =
            if gone_with_boot { String::new() } else { Some(boot_sparing(spent)).filter(|boot| !boot.is_empty())? };
        let pidfd = process::pidfd_open(pid).ok()?;
        let inode = process::inode(&pidfd).ok()?;
        spent.take(pidfd);
        let start_time = if inode.is_some() { None } else { Some(stat(pid)?.start_time) };
        Some(Process { pid, inode, start_time, boot })
    }

    /// Describes another living process, in the way in which this one is.
    pub fn other(&self, pid: i32, pidfd: impl AsFd) -> Option<Process> {
        let (inode, start_time) = match self.inode {
            Some(_) => (process::inode(pidfd).ok()?, None),
            None => (None, Some(stat(pid)?.start_time)),
        };
        Some(Process { pid, inode, start_time, boot: self.boot.clone() })
    }

    /// Is this very process alive? A zombie is not.
    pub fn is_alive(&self) -> bool {
        match self.inode {
            Some(_) => self.open().is_some(),
            None => self.has_started_then() && self.is_of_this_boot(&Spent::default()),
        }
    }

    /// A descriptor of this very process; `None` when it is gone. Opened first, checked after: the number cannot change hands between.
    pub fn open(&self) -> Option<OwnedFd> {
        self.open_sparing(&Spent::default())
    }

    /// The same; what is read for it is closed with others.
    pub fn open_sparing(&self, spent: &Spent) -> Option<OwnedFd> {
        self.open_even_ended(spent).filter(|pidfd| self.inode.is_none() || !process::has_ended(pidfd))
    }

    /// The same, and perhaps of a zombie: who asks after many can ask for that together.
    pub fn open_even_ended(&self, spent: &Spent) -> Option<OwnedFd> {
        let pidfd = process::pidfd_open(self.pid).ok()?;
        let is_it = match self.inode {
            Some(_) => process::inode(&pidfd) == Ok(self.inode),
            None => self.has_started_then(),
        };
        (is_it && self.is_of_this_boot(spent)).then_some(pidfd)
    }

    fn is_of_this_boot(&self, spent: &Spent) -> bool {
        self.boot.is_empty() || self.boot == boot_sparing(spent)
    }

    fn has_started_then(&self) -> bool {
        stat(self.pid).is_some_and(|now| Some(now.start_time) == self.start_time && !matches!(now.state, 'Z' | 'X'))
    }
}

/// Derives the status.
pub fn of(entry: &Entry, state: &State) -> Status {
    with_init(entry, state, state.init.as_ref().and_then(Process::open).as_ref())
}

/// The same with init open, as [`Process::open`] gives it: `None`, it is gone.
pub fn with_init(entry: &Entry, state: &State, init: Option<&OwnedFd>) -> Status {
    derive(
        state,
        init,
        || is_held(entry.open_file(HELD)),
        || state.cgroup.is_frozen_sparing(entry.read_files()).unwrap_or(false),
    )
}

/// The same, with the lock and the freezer looked at in one's own way, if at all.
pub fn derive(
    state: &State,
    init: Option<&OwnedFd>,
    is_held: impl FnOnce() -> bool,
    is_frozen: impl FnOnce() -> bool,
) -> Status {
    match (&state.init, init) {
        (Some(_), Some(_)) => {}
        (Some(_), None) => return Status::Stopped,
        (None, _) if state.creator.is_alive() => return Status::Creating,
        (None, _) => return Status::Stopped,
    }
    of_living(state.gate, state.ready, is_held, is_frozen)
}

/// Of a container whose init is alive.
pub fn of_living(gate: bool, ready: bool, is_held: impl FnOnce() -> bool, is_frozen: impl FnOnce() -> bool) -> Status {
    if is_held() {
        return match (gate, ready) {
            (true, true) if is_frozen() => Status::Paused,
            (true, true) => Status::Created,
            _ => Status::Creating,
        };
    }
    if is_frozen() { Status::Paused } else { Status::Running }
}

/// Is init still before its execve? It holds the lock on a close-on-exec descriptor: exec or death lets go of it.
pub fn is_held(held: nix::Result<File>) -> bool {
    held.is_ok_and(|file| file.try_lock_shared().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a kernel without pidfs would have it.
    fn in_the_old_way(process: &Process) -> Process {
        Process { inode: None, start_time: stat(process.pid).map(|stat| stat.start_time), ..process.clone() }
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_parser() {
        let line = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 1 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9";
        let stat = parse_stat(line).expect("a whole line");
        assert_eq!((stat.state, stat.start_time, stat.exit_status), ('S', 4711, 9));
        assert!(parse_stat("7 (short) S 1").is_none());
    }

    #[test]
    fn another_process_of_the_same_number_is_not_it() {
        let own = Process::own(false, &Spent::default()).expect("this process");
        let pidfd = process::pidfd_open(own.pid).expect("this process");
        for known in [&own, &in_the_old_way(&own)] {
            assert_eq!(known.other(own.pid, &pidfd).as_ref(), Some(known));
            assert!(known.is_alive() && known.open().is_some(), "{known:?}");
            let next = |number: Option<u64>| number.map(|number| number + 1);
            let other = Process { inode: next(known.inode), start_time: next(known.start_time), ..known.clone() };
            for wrong in [other, Process { boot: "another".into(), ..known.clone() }] {
                assert!(!wrong.is_alive() && wrong.open().is_none(), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive_before_it_is_waited_for() {
        let mut child = std::process::Command::new("/bin/sleep").arg("100").spawn().expect("sleep");
        let pid = child.id() as i32;
        let pidfd = process::pidfd_open(pid).expect("the child");
        let own = Process::own(false, &Spent::default()).expect("this process").other(pid, &pidfd).expect("the child");
        let by_time = in_the_old_way(&own);
        assert!(own.is_alive() && by_time.is_alive());
        child.kill().expect("killed");
        while stat(pid).is_some_and(|stat| stat.state != 'Z') {
            std::thread::yield_now();
        }
        assert!(!own.is_alive() && !by_time.is_alive(), "a zombie");
        child.wait().expect("waited for");
        assert!(!own.is_alive() && !by_time.is_alive(), "gone");
    }
}
