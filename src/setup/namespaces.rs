//! Namespaces: what a process may see of the machine, kind by kind, see namespaces(7).
//!
//! **What the kernel offers.** Eight kinds. A new one is made by clone3(2) or unshare(2), an existing one is joined by setns(2)
//! on its file under `/proc/PID/ns`. Two kinds are for children only: a process keeps its own pid namespace for life, and
//! a new time namespace takes its offsets before the first process enters it. A namespace belongs to the user
//! namespace in which it was made, and only who has rights there may change what it isolates.
//!
//! **Try it.** `unshare --pid --fork --mount-proc ps` shows two processes; `ls -l /proc/self/ns` names yours;
//! `nsenter -t PID -n ip addr` joins one.
//!
//! **What we do.** One clone3 makes all new ones at once, so that a new user namespace owns the others. Joined ones are
//! opened by the parent, while the host's paths can be seen, and entered by the child, the user namespace last: entering it
//! gives up the rights over the others. For a pid namespace to join, or a new time namespace, the parent changes what its
//! children get, clones, and takes that back. Only a *joined* user namespace with a *new* pid namespace costs a
//! second process: an intermediate enters it, clones with `CLONE_PARENT`, and ends.
//!
//! A network namespace takes the kernel longer than all the others together (0.5 of 0.75 ms), so where no user namespace has to own it
//! the clone goes without. The parent makes it meanwhile, for itself: it unshares, brings the loopback up, hands the
//! namespace's file to the child and goes back to its own. The child, busy with its first mounts, enters it before the first one that shows a
//! network, which is sysfs. By hand: `strace -r -f corten run web`.
//!
//! **What goes wrong.** On cgroup v1 the clone would take the caller's cgroup as the root of a new cgroup namespace, so there
//! the child unshares it after it moved. setns(2) of mount, user and time namespaces wants a single thread.

use crate::input::config::{Namespace, NamespaceKind, TimeOffset};
use crate::sys::process::{CLONE_NEWTIME, Flags};
use crate::sys::{Called, Failure, Result, file};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::write;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The `CLONE_NEW*` flag of a kind.
pub fn flag(kind: NamespaceKind) -> u64 {
    (match kind {
        NamespaceKind::User => libc::CLONE_NEWUSER,
        NamespaceKind::Pid => libc::CLONE_NEWPID,
        NamespaceKind::Mount => libc::CLONE_NEWNS,
        NamespaceKind::Network => libc::CLONE_NEWNET,
        NamespaceKind::Ipc => libc::CLONE_NEWIPC,
        NamespaceKind::Uts => libc::CLONE_NEWUTS,
        NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
        NamespaceKind::Time => return CLONE_NEWTIME,
    }) as u64
}

/// The name of a kind's file below `/proc/PID/ns`.
pub fn file(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::User => "user",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Network => "net",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    }
}

/// Every kind there is.
pub const KINDS: [NamespaceKind; 8] = [
    NamespaceKind::User,
    NamespaceKind::Pid,
    NamespaceKind::Mount,
    NamespaceKind::Network,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Cgroup,
    NamespaceKind::Time,
];

/// The name of a kind in the configuration.
pub fn word(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Mount => "mount",
        NamespaceKind::Network => "network",
        other => file(other),
    }
}

/// Which namespaces there will be, and who makes them when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrangement {
    /// For clone3.
    pub clone: u64,
    /// For unshare in the child once it has entered a joined user namespace.
    pub unshare: u64,
    /// The child unshares the cgroup namespace after it moved to its cgroup (v1).
    pub cgroup_after_attach: bool,
    /// To open, in the order in which the child enters them.
    pub joined: Vec<(NamespaceKind, PathBuf)>,
    /// A new time namespace, with its offsets.
    pub time: Option<Vec<TimeOffset>>,
    /// An intermediate process enters the user namespace and clones.
    pub intermediate: bool,
    /// The parent makes the network namespace after the clone, and the child enters it.
    pub network_meanwhile: bool,
}

/// Whether the caller can come back to a network namespace that it has left: that takes rights in the user namespace that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// The caller is in the first user namespace, which owns all that its processes are in.
    Possible,
    /// It may not be.
    Doubtful,
}

/// What decides where a new cgroup namespace is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// Born in its cgroup by `CLONE_INTO_CGROUP`.
    InCgroup,
    /// Moves to its cgroup after the clone.
    Elsewhere,
}

/// Sorts the namespaces of the configuration.
pub fn decide(namespaces: &[Namespace], offsets: &[TimeOffset], birth: Birth, back: Return) -> Arrangement {
    let mut arrangement = Arrangement::default();
    let mut new = 0;
    for namespace in namespaces {
        match (&namespace.path, namespace.kind) {
            (Some(path), kind) => arrangement.joined.push((kind, path.clone())),
            (None, NamespaceKind::Time) => arrangement.time = Some(offsets.to_vec()),
            (None, NamespaceKind::Cgroup) if birth == Birth::Elsewhere => arrangement.cgroup_after_attach = true,
            (None, kind) => new |= flag(kind),
        }
    }
    // The user namespace last: with it go the rights over the others.
    arrangement.joined.sort_by_key(|(kind, _)| *kind == NamespaceKind::User);
    if arrangement.joins(NamespaceKind::User) {
        arrangement.intermediate = new & flag(NamespaceKind::Pid) != 0;
        if arrangement.intermediate { arrangement.clone = new } else { arrangement.unshare = new }
    } else {
        let network = flag(NamespaceKind::Network);
        arrangement.network_meanwhile =
            new & network != 0 && new & flag(NamespaceKind::User) == 0 && back == Return::Possible;
        arrangement.clone = if arrangement.network_meanwhile { new & !network } else { new };
    }
    arrangement
}

impl Arrangement {
    /// Is there one to join of this kind?
    pub fn joins(&self, kind: NamespaceKind) -> bool {
        self.joined.iter().any(|(joined, _)| *joined == kind)
    }
}

/// One thing to do about namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Parent: open the file of a namespace to join.
    Open(NamespaceKind, PathBuf),
    /// Parent: children will be born in the pid namespace that was opened.
    JoinPidForChildren,
    /// Parent: children will be born in a new time namespace with these offsets.
    NewTimeForChildren(Vec<TimeOffset>),
    /// Parent, after the clone: a new network namespace, in which it is for the moment.
    NewNetwork,
    /// Parent, after the clone: what it had of its own before, for itself and its children.
    Restore(NamespaceKind),
    /// Parent: enter these namespaces of a running process, all at once; `exec` is born inside.
    JoinProcess(i32, u64),
    /// Child of `exec`: enter those of the same process that it could not be born in.
    JoinLate(u64),
    /// Child: enter the namespace that was opened.
    Join(NamespaceKind),
    /// Child: make these.
    Unshare(u64),
    /// Whoever is in a new network namespace: its loopback device is down.
    LoopbackUp,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Open(_, path) => write!(f, "openat({path:?}, O_RDONLY); ioctl(NS_GET_NSTYPE)"),
            Action::JoinPidForChildren => write!(f, "openat(\"/proc/self/ns/pid\"); setns(pid, NEWPID)"),
            Action::NewTimeForChildren(offsets) => {
                write!(f, "openat(\"/proc/self/ns/time\"); unshare(NEWTIME)")?;
                if offsets.is_empty() {
                    Ok(())
                } else {
                    write!(f, "; openat(\"/proc/self/timens_offsets\"); write({:?})", lines(offsets))
                }
            }
            Action::NewNetwork => {
                write!(f, "openat(\"/proc/self/ns/net\"); unshare(NEWNET); openat(\"/proc/self/ns/net\")")
            }
            Action::Restore(kind) => write!(f, "setns(own {}, {})", file(*kind), Flags(flag(*kind))),
            Action::JoinProcess(_, flags) | Action::JoinLate(flags) => {
                write!(f, "setns(pidfd of init, {})", Flags(*flags))
            }
            Action::Join(kind) => write!(f, "setns({}, {})", file(*kind), Flags(flag(*kind))),
            Action::Unshare(flags) => write!(f, "unshare({})", Flags(*flags)),
            Action::LoopbackUp => write!(f, "socket(AF_INET, SOCK_DGRAM); ioctl(SIOCSIFFLAGS, {{lo, IFF_UP}})"),
        }
    }
}

fn lines(offsets: &[TimeOffset]) -> String {
    offsets.iter().map(|o| format!("{} {} {}\n", o.clock, o.secs, o.nanosecs)).collect()
}

/// Namespace files held open: those to join, and the caller's own to return to.
#[derive(Debug, Default)]
pub struct Opened {
    to_join: Vec<(NamespaceKind, OwnedFd)>,
    own: Vec<(NamespaceKind, OwnedFd)>,
    /// A new network namespace, on its way from the parent to the child.
    pub network: Option<OwnedFd>,
    /// What a network namespace was asked by to bring up its loopback.
    pub asked_by: Option<OwnedFd>,
    /// A pidfd of the process to join.
    pub init: Option<OwnedFd>,
}

impl Opened {
    /// The child has got the network namespace.
    pub fn take_network(&mut self, network: OwnedFd) {
        self.to_join.push((NamespaceKind::Network, network));
    }

    /// Enters everything that was opened, in order.
    pub fn enter_all(&self) -> Result<()> {
        self.to_join.iter().try_for_each(|(kind, _)| enter(&self.to_join, *kind))
    }
}

impl Action {
    /// Is the working directory the root of a mount namespace afterwards?
    pub fn enters_root(&self) -> bool {
        matches!(self, Action::JoinProcess(_, flags) if flags & libc::CLONE_NEWNS as u64 != 0)
    }

    /// Does it, on whichever side the plan says.
    pub fn apply(&self, opened: &mut Opened) -> Result<()> {
        match self {
            Action::Open(kind, path) => {
                let fd = file::open(path, OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK)
                    .called(|| format!("openat({path:?})"))
                    .map_err(|failure| match failure.errno {
                        Errno::ENOENT => failure.because(format!("{} does not exist", path.display())),
                        _ => failure,
                    })?;
                check_kind(&fd, *kind, path)?;
                opened.to_join.push((*kind, fd));
                Ok(())
            }
            Action::JoinPidForChildren => {
                opened.own.push((NamespaceKind::Pid, own(NamespaceKind::Pid)?));
                enter(&opened.to_join, NamespaceKind::Pid)
            }
            Action::NewTimeForChildren(offsets) => {
                opened.own.push((NamespaceKind::Time, own(NamespaceKind::Time)?));
                unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME as i32)).called(|| "unshare(NEWTIME)".into())?;
                if offsets.is_empty() {
                    return Ok(());
                }
                let path = "/proc/self/timens_offsets";
                let fd = file::open(path, OFlag::O_WRONLY).called(|| format!("openat({path:?})"))?;
                write(&fd, lines(offsets).as_bytes())
                    .map(drop)
                    .called(|| format!("write({path:?}, {:?})", lines(offsets)))
            }
            Action::NewNetwork => {
                opened.own.push((NamespaceKind::Network, own(NamespaceKind::Network)?));
                unshare(CloneFlags::CLONE_NEWNET).called(|| "unshare(NEWNET)".into())?;
                opened.network = Some(own(NamespaceKind::Network)?);
                Ok(())
            }
            Action::Restore(kind) => enter(&opened.own, *kind),
            Action::JoinProcess(_, flags) | Action::JoinLate(flags) => {
                let Some(init) = &opened.init else {
                    return Err(Failure::refused(self.to_string(), Errno::ESRCH, "its first process is gone"));
                };
                setns(init, CloneFlags::from_bits_retain(*flags as i32)).called(|| self.to_string())
            }
            Action::Join(kind) => enter(&opened.to_join, *kind),
            Action::Unshare(flags) => unshare(CloneFlags::from_bits_retain(*flags as i32)).called(|| self.to_string()),
            Action::LoopbackUp => {
                // Closed with the namespace itself, which is open beside it.
                opened.asked_by = Some(crate::sys::net::loopback_up()?);
                Ok(())
            }
        }
    }
}

fn own(kind: NamespaceKind) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{}", file(kind));
    file::open(&path, OFlag::O_RDONLY).called(|| format!("openat({path:?})"))
}

fn enter(files: &[(NamespaceKind, OwnedFd)], kind: NamespaceKind) -> Result<()> {
    let call = || format!("setns({}, {})", file(kind), Flags(flag(kind)));
    let Some((_, fd)) = files.iter().find(|(opened, _)| *opened == kind) else {
        return Err(Failure::refused(call(), Errno::EBADF, "its file was not opened"));
    };
    setns(fd, CloneFlags::from_bits_retain(flag(kind) as i32)).called(call)
}

/// A file that is no namespace, or of another kind, is refused by name: setns(2) says only EINVAL.
fn check_kind(fd: &OwnedFd, kind: NamespaceKind, path: &std::path::Path) -> Result<()> {
    let call = format!("ioctl({path:?}, NS_GET_NSTYPE)");
    match crate::sys::namespace_type(fd) {
        Ok(found) if found == flag(kind) => Ok(()),
        Ok(found) => {
            let is = KINDS.iter().find(|kind| flag(**kind) == found).map_or("another", |kind| word(*kind));
            let words = format!("{} is a {is} namespace, not a {} namespace", path.display(), word(kind));
            Err(Failure::refused(call, Errno::EINVAL, words))
        }
        Err(_) => Err(Failure::refused(call, Errno::EINVAL, format!("{} is not a namespace file", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: NamespaceKind) -> Namespace {
        Namespace { kind, path: None }
    }

    fn at(kind: NamespaceKind, path: &str) -> Namespace {
        Namespace { kind, path: Some(path.into()) }
    }

    #[test]
    fn one_clone_makes_all_new_ones() {
        let all =
            decide(&[new(NamespaceKind::Pid), new(NamespaceKind::Cgroup)], &[], Birth::InCgroup, Return::Possible);
        assert_eq!(Flags(all.clone).to_string(), "NEWPID|NEWCGROUP");
        assert!(!all.cgroup_after_attach);
    }

    #[test]
    fn on_v1_the_cgroup_namespace_waits_for_the_move() {
        let all =
            decide(&[new(NamespaceKind::Pid), new(NamespaceKind::Cgroup)], &[], Birth::Elsewhere, Return::Possible);
        assert_eq!(Flags(all.clone).to_string(), "NEWPID");
        assert!(all.cgroup_after_attach);
    }

    #[test]
    fn a_joined_user_namespace_comes_last_and_owns_the_new_ones() {
        let all = decide(
            &[at(NamespaceKind::User, "/u"), at(NamespaceKind::Network, "/n"), new(NamespaceKind::Mount)],
            &[],
            Birth::InCgroup,
            Return::Possible,
        );
        assert_eq!(all.joined.last().map(|(kind, _)| *kind), Some(NamespaceKind::User));
        assert_eq!((Flags(all.clone).to_string(), Flags(all.unshare).to_string()), ("0".into(), "NEWNS".into()));
        assert!(!all.intermediate);
    }

    #[test]
    fn only_a_joined_user_with_a_new_pid_namespace_needs_an_intermediate() {
        let all =
            decide(&[at(NamespaceKind::User, "/u"), new(NamespaceKind::Pid)], &[], Birth::InCgroup, Return::Possible);
        assert!(all.intermediate);
        assert_eq!(Flags(all.clone).to_string(), "NEWPID");
    }

    #[test]
    fn the_network_is_made_meanwhile_unless_a_user_namespace_must_own_it() {
        let kinds = [NamespaceKind::Pid, NamespaceKind::Network];
        let of = |more: Option<Namespace>, back| {
            let all: Vec<_> = kinds.into_iter().map(new).chain(more).collect();
            let all = decide(&all, &[], Birth::InCgroup, back);
            (all.network_meanwhile, Flags(all.clone).to_string(), Flags(all.unshare).to_string())
        };
        assert_eq!(of(None, Return::Possible), (true, "NEWPID".into(), "0".into()));
        assert_eq!(of(None, Return::Doubtful), (false, "NEWPID|NEWNET".into(), "0".into()));
        assert_eq!(
            of(Some(new(NamespaceKind::User)), Return::Possible),
            (false, "NEWUSER|NEWPID|NEWNET".into(), "0".into())
        );
        assert_eq!(
            of(Some(at(NamespaceKind::User, "/u")), Return::Possible),
            (false, "NEWPID|NEWNET".into(), "0".into())
        );
        assert!(!decide(&[at(NamespaceKind::Network, "/n")], &[], Birth::InCgroup, Return::Possible).network_meanwhile);
    }
}
