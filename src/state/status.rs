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

use super::store::Entry;
use super::{Process, State};
use crate::setup::hooks::Kind;
use crate::sys::file::{self, End};
use std::fmt;
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
    static BOOT: OnceLock<String> = OnceLock::new();
    let read = || file::read_text("/proc/sys/kernel/random/boot_id", End::Less).unwrap_or_default();
    BOOT.get_or_init(|| read().trim().to_owned()).clone()
}

impl Process {
    /// Describes a living process.
    pub fn of(pid: i32, boot: &str) -> Option<Process> {
        stat(pid).map(|stat| Process { pid, start_time: stat.start_time, boot: boot.to_owned() })
    }

    /// Is this very process alive? A zombie is not.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|now| now.start_time == self.start_time && !matches!(now.state, 'Z' | 'X'))
            && self.boot == boot()
    }

    /// A descriptor of this very process; `None` when it is gone. Opened first, checked after: the number cannot change hands between.
    pub fn open(&self) -> Option<std::os::fd::OwnedFd> {
        let pidfd = crate::sys::process::pidfd_open(self.pid).ok()?;
        self.is_alive().then_some(pidfd)
    }
}

/// Derives the status.
pub fn of(entry: &Entry, state: &State) -> Status {
    let Some(init) = &state.init else {
        return if state.creator.is_alive() { Status::Creating } else { Status::Stopped };
    };
    if !init.is_alive() {
        return Status::Stopped;
    }
    if is_held(entry) {
        return match (state.gate, state.ready) {
            (true, true) if state.cgroup.is_frozen().unwrap_or(false) => Status::Paused,
            (true, true) => Status::Created,
            _ => Status::Creating,
        };
    }
    if state.cgroup.is_frozen().unwrap_or(false) { Status::Paused } else { Status::Running }
}

/// Is init still before its execve? It holds the lock on a close-on-exec descriptor: exec or death lets go of it.
pub fn is_held(entry: &Entry) -> bool {
    entry.open_file("held").is_ok_and(|file| file.try_lock_shared().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_parser() {
        let line = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 1 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9";
        let stat = parse_stat(line).expect("a whole line");
        assert_eq!((stat.state, stat.start_time, stat.exit_status), ('S', 4711, 9));
        assert!(parse_stat("7 (short) S 1").is_none());
    }

    #[test]
    fn another_process_of_the_same_number_is_not_it() {
        let own = Process::of(std::process::id() as i32, &boot()).expect("this process");
        assert!(own.is_alive());
        assert!(!Process { start_time: own.start_time + 1, ..own.clone() }.is_alive());
        assert!(!Process { boot: "another".into(), ..own }.is_alive());
    }
}
