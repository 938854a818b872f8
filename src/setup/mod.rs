//! 3. One chapter for each thing that makes a container. Chapters do not import one another.
//!
//! A chapter has two halves: `decide`, pure, turns the configuration into actions that a plan carries; `apply` executes one
//! action. An action's `Display` is what `explain` prints: the system calls with their real arguments, in order,
//! joined by `; `, those that depend on what is found in square brackets.

use crate::sys::exec::Program;
use crate::sys::listener::Messenger;
use crate::sys::seccomp::Instruction;
use crate::sys::spent::Spent;
use crate::sys::{Failure, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub mod caps;
pub mod cgroup;
pub mod dev;
pub mod hooks;
pub mod idmap;
pub mod label;
pub mod limits;
pub mod mask;
pub mod mounts;
pub mod names;
pub mod namespaces;
pub mod options;
pub mod overlay;
pub mod program;
pub mod rootfs;
pub mod seccomp;
pub mod sysctl;
pub mod terminal;
pub mod user;

/// What the child holds open from one step to another. Everything is `O_CLOEXEC`.
#[derive(Debug, Default)]
pub struct Held {
    /// The container's root, attached in the child's mount namespace: every path below it is resolved from here.
    pub root: Option<OwnedFd>,
    /// The host's procfs, checked to be one: `thread-self/attr`, `sys`, `self/fd` are reached through it, never by path.
    pub proc: Option<OwnedFd>,
    /// The container's own `/dev`, an empty tmpfs that nobody else has seen, from its mount to the making of what lies in it.
    pub dev: Option<OwnedFd>,
    /// Trees that the parent cloned for the mount of a number (`mounts[3]`), taken by it: see `mounts::early`.
    pub trees: Vec<(usize, OwnedFd)>,
    /// The slave side of the container's terminal.
    pub terminal: Option<OwnedFd>,
    /// The master side, until it is sent away.
    pub master: Option<OwnedFd>,
    /// The socket that the master side is sent through.
    pub console: Option<OwnedFd>,
    /// `HOME` from the container's passwd, where the configuration has none.
    pub home: Option<String>,
    /// The working directory is `/`, because that has just been entered.
    pub at_root: bool,
    /// The working directory was entered before the change of user.
    pub entered: bool,
    /// The program that was found, laid out for execve.
    pub program: Option<Program>,
    /// Descriptors that no step needs any more.
    pub spent: Spent,
    /// The program of the filter, as the parent sent it.
    pub filter: Option<Vec<Instruction>>,
    /// The thread that will hand the listener over, outside of the filter.
    pub messenger: Option<Messenger>,
    /// What the filter returned, until it is handed over.
    pub listener: Option<OwnedFd>,
}

impl Held {
    /// The kept procfs.
    pub fn proc(&self) -> Result<BorrowedFd<'_>> {
        let missing = || Failure::refused("openat2(proc)", Errno::EBADF, "the host's procfs has not been opened");
        self.proc.as_ref().map(OwnedFd::as_fd).ok_or_else(missing)
    }
}
