//! One step of a plan: what is done, on which side, for which part of the configuration, and why it stands there.

use crate::input::config::Hook;
use crate::setup::{
    caps, cgroup, dev, hooks, idmap, label, limits, mask, mounts, names, namespaces, overlay, program, rootfs, seccomp,
    sysctl, terminal, user,
};
use std::borrow::Cow;
use std::path::PathBuf;

/// Which process executes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The runtime.
    Parent,
    /// The process that becomes the program: the container's first one, or that of `exec`.
    Child,
}

/// A point that one side passes only after the other, see `run::gate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The id maps are written.
    Mapped,
    /// The network namespace is made, and here it is.
    Network,
    /// Everything that hooks may look at is there.
    Prepared,
    /// The hooks ran.
    Hooked,
    /// Nothing is left but to be started.
    Ready,
    /// The record is complete.
    Go,
    /// The next thing is execve.
    Executing,
    /// The filter is installed, and here is its listener.
    Filtered,
    /// The agent that answers for the filter has the listener.
    Answered,
}

impl Gate {
    const LETTERS: [(Gate, u8); 9] = [
        (Gate::Mapped, b'M'),
        (Gate::Network, b'N'),
        (Gate::Prepared, b'P'),
        (Gate::Hooked, b'H'),
        (Gate::Ready, b'R'),
        (Gate::Go, b'G'),
        (Gate::Executing, b'X'),
        (Gate::Filtered, b'F'),
        (Gate::Answered, b'A'),
    ];

    /// What is sent.
    pub fn letter(self) -> u8 {
        Self::LETTERS.iter().find(|(gate, _)| *gate == self).map_or(0, |(_, letter)| *letter)
    }

    /// What was received.
    pub fn from_letter(letter: u8) -> Option<Gate> {
        Self::LETTERS.iter().find(|(_, l)| *l == letter).map(|(gate, _)| *gate)
    }
}

/// What is written to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Before anything exists: what is about to.
    Intent,
    /// What the container is made by: for `exec`, hooks, and who looks.
    Configuration,
    /// The first process exists; the container is still being made.
    Init,
    /// As `Init`, and `create` is done.
    Ready,
}

/// How the container's first process is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clone {
    /// New namespaces, `CLONE_NEW*`.
    pub flags: u64,
    /// cgroup2 directory to be born in.
    pub into: Option<PathBuf>,
    /// Through a process that enters a user namespace first.
    pub intermediate: bool,
    /// The parent lends its memory and stands still until the child is the program, or has ended: `sys::lend`.
    pub lends: bool,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Passes a gate: says so to the other side.
    Tell(Gate),
    /// Waits until the other side has passed a gate.
    Await(Gate),
    /// Writes the state.
    Record(Record),
    /// Makes or limits a cgroup.
    Cgroup(cgroup::Change),
    /// Opens the `tasks` files (v1), for the child to write.
    OpenTasks(Vec<PathBuf>),
    /// Opens the cgroup2 directory to be born in.
    OpenCgroup(PathBuf),
    /// As [`Step::OpenCgroup`], through a mount of that directory alone: no `..` leads out of it, whoever gets hold of the descriptor.
    CloneCgroup(PathBuf),
    /// Writes `0` to each open `tasks` file.
    Attach(usize),
    /// Sets the processors it may run on; `None`: all that its cgroup has.
    Affinity(Option<Vec<u32>>),
    /// Puts the child on another processor than this one, if there is one, until it takes what it likes by [`Step::Affinity`].
    Apart,
    /// Opens, makes, joins namespaces.
    Namespace(namespaces::Action),
    /// Opens the socket that will be given the terminal: a client's, or our own.
    Console(Option<PathBuf>),
    /// Takes the locks and sockets that only init will hold.
    Hold(Hold),
    /// Makes the first process.
    Clone(Clone),
    /// Writes id maps, becomes root.
    IdMap(idmap::Action),
    /// A session of its own, and the file mask 022: setsid(2), umask(2).
    Session,
    /// Opens the host's procfs, for what is written there later.
    OpenProc,
    /// Makes a procfs of its own, attached nowhere: `exec` is born inside, where the host's must not be in reach.
    MountProc,
    /// The container's root.
    Rootfs(rootfs::Action),
    /// The container's root where it is an image's: its layers, one over the other, mounted over the directory of the root.
    Overlay(overlay::Action),
    /// One mount.
    Mount(mounts::Action),
    /// Device nodes and links.
    Device(dev::Action),
    /// Masked and read-only paths.
    Mask(mask::Action),
    /// Session keyring, AppArmor, SELinux.
    Label(label::Action),
    /// Terminal.
    Terminal(terminal::Action),
    /// Hooks of one kind.
    Hooks(hooks::Kind, Vec<Hook>),
    /// Host and domain name.
    Name(names::Action),
    /// One sysctl.
    Sysctl(sysctl::Action),
    /// Resource limits and the like.
    Limit(limits::Action),
    /// User and groups.
    User(user::Action),
    /// Capabilities and no-new-privileges.
    Caps(caps::Action),
    /// The program: looked up, closed around, executed.
    Program(program::Action),
    /// Makes itself and its children, until they execute something, undumpable: to trace them takes rights over the user namespace that
    /// owns their memory, the host's.
    Undumpable,
    /// Makes the thread that hands the listener over.
    Messenger,
    /// Works the filter's program out; [`Gate::Go`] takes it to the child. No system call.
    Compile(seccomp::Filter),
    /// The system-call filter.
    Seccomp(seccomp::Filter),
    /// Connects to the agent that answers for the filter.
    Agent(PathBuf),
    /// Sends the state and the listener to it.
    Notify(seccomp::notify::Notify),
    /// Writes the pid file.
    PidFile(PathBuf),
    /// Opens the pid file while the host's paths can be seen.
    OpenPidFile(PathBuf),
    /// Opens the root of the container that was joined.
    OpenRoot,
    /// Connects to the socket that will be given the process.
    PidfdSocket(PathBuf),
    /// Sends the process there.
    SendPidfd(Whose),
    /// Waits for `start`.
    AwaitStart,
}

/// Which process a pidfd means: the words that runc sends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The container's first.
    First,
    /// That of `exec`.
    Joined,
}

impl Whose {
    /// What is sent.
    pub fn word(self) -> &'static str {
        match self {
            Whose::First => "standard",
            Whose::Joined => "setns",
        }
    }
}

/// What init holds from its birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The lock that is let go of by execve or death.
    Lock,
    /// The start gate.
    Gate,
}

/// A step in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Who does it.
    pub side: Side,
    /// What.
    pub step: Step,
    /// For which part of the configuration; empty: for the making itself, or what the step itself says ([`Line::place`]).
    pub place: Cow<'static, str>,
    /// Why here.
    pub why: &'static str,
}

impl Line {
    /// For which part of the configuration: `mounts[3] /data`; empty: for the making itself. A mount's is only made here: there may be hundreds.
    pub fn place(&self) -> Cow<'_, str> {
        match &self.step {
            Step::Mount(action) => format!("{} {}", action.place(), action.target.display()).into(),
            _ => Cow::Borrowed(&self.place),
        }
    }
}
