//! `kill`: a signal to the first process, or to all.

use super::{container, kept_config};
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::input::config::NamespaceKind;
use crate::input::signal;
use crate::state::status::{self, Status};
use crate::sys::process::pidfd_send_signal;

/// The verb.
#[inline(never)]
pub fn kill(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    let signal = signal::parse(invocation.args.get_one::<String>("signal").map(String::as_str).unwrap_or("SIGTERM"))?;
    let found = status::of(&entry, &state);
    // In a pid namespace of its own the death of init is everybody's; elsewhere the others stay behind.
    let all = invocation.args.get_flag("all")
        || signal == libc::SIGKILL && {
            let namespaces = kept_config(&entry)?.linux.namespaces;
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
        return Ok(0);
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
    Ok(0)
}

fn not_running() -> Error {
    Error::new("container not running")
}
