//! `kill`: a signal to the first process, or to all.

use super::{for_each, id, is_of_image, kept_config, known, say};
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::input::config::NamespaceKind;
use crate::input::id::Id;
use crate::input::signal;
use crate::state::State;
use crate::state::status::{self, Status};
use crate::state::store::Entry;
use crate::sys::process::pidfd_send_signal;

/// The verb. With `-s` all words are containers; without, as with runc, the second is the signal.
#[inline(never)]
pub fn kill(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let rest = args.get_many::<String>("rest").unwrap_or_default();
    let given = args.get_one::<String>("signal");
    if given.is_some() {
        let first = args.get_one::<String>("id").into_iter();
        let ids = first.chain(rest).map(|word| Id::parse(word)).collect::<Result<Vec<Id>>>()?;
        let signal = given.map(|word| signal::parse(word)).transpose()?;
        return for_each(&ids, |id| one(invocation, id, signal));
    }
    let several = |e: Error| e.hint("several containers: `corten kill -s SIGNAL ID…`");
    let rest: Vec<&String> = rest.collect();
    let signal = match rest.as_slice() {
        [] => None,
        [word] => Some(signal::parse(word).map_err(several)?),
        [_, word, ..] => return Err(several(Error::new(format!("{word}: one id and one signal are expected")))),
    };
    one(invocation, &id(args)?, signal).map(|()| 0)
}

/// Without a signal it is Docker's for a container of an image, and runc's for one of a bundle; and Docker prints what was typed when it is done.
fn one(invocation: &Invocation, id: &Id, signal: Option<i32>) -> Result<()> {
    let (_, entry, state) = known(invocation, id)?;
    if !is_of_image(&state) {
        return send(invocation, &entry, &state, signal.unwrap_or(libc::SIGTERM));
    }
    send(invocation, &entry, &state, signal.unwrap_or(libc::SIGKILL))?;
    say(&format!("{}\n", id.as_str()))
}

fn send(invocation: &Invocation, entry: &Entry, state: &State, signal: i32) -> Result<()> {
    let found = status::of(entry, state);
    // In a pid namespace of its own the death of init is everybody's; elsewhere the others stay behind.
    let all = invocation.args.get_flag("all")
        || signal == libc::SIGKILL && {
            let namespaces = kept_config(entry, state)?.linux.namespaces;
            !namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none())
        };
    if all {
        if found == Status::Stopped
            && !invocation.args.get_flag("all")
            && state.cgroup.pids().is_ok_and(|pids| pids.is_empty())
        {
            return Err(not_running());
        }
        state.cgroup.kill_all(signal)?;
        return Ok(());
    }
    if found == Status::Stopped {
        return Err(not_running());
    }
    let Some(pidfd) = state.init.as_ref().and_then(|init| init.open()) else { return Err(not_running()) };
    pidfd_send_signal(&pidfd, signal).map_err(|errno| {
        if errno == nix::errno::Errno::ESRCH {
            not_running()
        } else {
            Error::new(format!("pidfd_send_signal({signal}): {}", crate::sys::plain(errno)))
        }
    })?;
    if found == Status::Paused && signal == libc::SIGKILL {
        state.cgroup.thaw()?;
    }
    Ok(())
}

fn not_running() -> Error {
    Error::new("container not running")
}
