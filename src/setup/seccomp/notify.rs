//! Asking an agent: SCMP_ACT_NOTIFY.
//!
//! The kernel holds a call up until who has the *listener*, a descriptor that seccomp(2) returns, has said what becomes of it: an
//! invented result, an errno, or that the call goes on. An agent of the host gets the listener through a socket
//! (`linux.seccomp.listenerPath`), with the state of the container as JSON; from there on it answers for every
//! process under the filter. See seccomp_unotify(2).
//!
//! The process that installs the filter is the first to be held up, and the parent that sends the listener on has not got it yet. So between
//! seccomp(2) and the agent having the listener there is no call that the profile might hold up:
//!
//! | the profile, about sendmsg, close and recvmsg | who hands the listener to the parent, and waits for its word |
//! |---|---|
//! | grants them whatever the arguments | the process itself, by these calls |
//! | anything else | a thread made before, which the filter does not hold for, see `sys::listener` |
//!
//! Nothing of it stays in the container: the process closes its copy, because a listener that is open somewhere keeps calls waiting, even if the
//! agent has left. Without an agent they are ENOSYS. The process is undumpable all the while, or another one of the
//! container could trace it, take the listener, and answer for the agent. And no program is executed before the agent has it.

use super::{simulate, table};
use crate::input::config::{Arch, Seccomp};
use crate::sys::listener::{self, Letters, Messenger};
use crate::sys::seccomp::Instruction;
use crate::sys::{self, Called, Failure, socket};
use nix::errno::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Who is asked, and how the listener gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// `listenerPath`: where the agent listens.
    pub agent: PathBuf,
    /// `listenerMetadata`, for the agent.
    pub metadata: String,
    /// From the filtered process to its parent.
    pub courier: Courier,
}

/// Who hands the listener to the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Courier {
    /// The filtered process: the filter grants what it takes.
    Itself,
    /// A thread of it that is not filtered.
    Thread,
}

/// Decides for a profile with its program.
pub fn decide(profile: &Seccomp, program: &[Instruction], native: Arch) -> Option<Notify> {
    let agent = profile.listener_path.clone()?;
    let grants = |name| {
        let nr = table::find(name).and_then(|call| call.number(native));
        let data = nr.map(|nr| simulate::Data { nr, arch: table::audit_arch(native), ..simulate::Data::default() });
        let verdict = data.and_then(|data| simulate::run(program, &data));
        let granted = [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG];
        verdict.is_some_and(|verdict| !verdict.read_arguments && granted.contains(&verdict.returned))
    };
    let courier =
        if ["sendmsg", "close", "recvmsg"].into_iter().all(grants) { Courier::Itself } else { Courier::Thread };
    Some(Notify { agent, metadata: profile.listener_metadata.clone(), courier })
}

/// Makes the thread that will hand the listener over through `wire`.
pub fn prepare(wire: BorrowedFd<'_>, letters: Letters) -> sys::Result<Messenger> {
    Messenger::new(wire, letters).map_err(|failure| match failure.errno {
        Errno::EAGAIN => failure.because("there is no room for the thread that hands the seccomp listener over"),
        Errno::ENOSYS | Errno::EPERM => failure.because(
            "a profile that does not grant sendmsg, recvmsg and close takes userfaultfd(2), which is not to be had here",
        ),
        _ => failure,
    })
}

/// Hands the listener to the parent. What fails here cannot be told any more: the process ends, and the parent hears that.
pub fn hand_over(messenger: Option<&Messenger>, wire: BorrowedFd<'_>, letters: Letters, listener: OwnedFd) {
    match messenger {
        Some(messenger) => messenger.take(listener),
        None => listener::deliver(wire, letters.listener, listener).unwrap_or_else(|_| listener::trap()),
    }
}

/// Waits until the agent has it. A parent that has ended without saying so takes the process with it.
pub fn wait(messenger: Option<Messenger>, wire: BorrowedFd<'_>, letters: Letters) {
    match messenger {
        Some(messenger) => messenger.wait(),
        None => listener::await_answer(wire, letters.answer).unwrap_or_else(|_| listener::trap()),
    }
}

/// Connects to the agent.
pub fn connect(agent: &Path) -> sys::Result<OwnedFd> {
    socket::connect_stream(agent).map_err(|failure| about(failure, agent))
}

/// Sends the state with the listener. One state per connection, which ends with it.
pub fn send(to: OwnedFd, agent: &Path, state: &[u8], listener: OwnedFd) -> sys::Result<()> {
    socket::send_stream(&to, state, &listener)
        .called(|| format!("sendmsg({} bytes)", state.len()))
        .map_err(|failure| about(failure, agent))
}

fn about(failure: Failure, agent: &Path) -> Failure {
    let words = sys::plain(failure.errno);
    failure.because(format!("seccomp agent {}: {words}", agent.display()))
}
