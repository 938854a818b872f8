//! `start`: opens the gate of a created container, and waits until its program runs.

use super::delete::{PATIENCE_MS, ended_within};
use super::{container, kept_config, may_have};
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::plan::step::Gate;
use crate::run::gate::{self, Heard};
use crate::setup::hooks;
use crate::state::State;
use crate::state::status::{self, Status};
use crate::state::store::{CONFIGURATION, Entry, HELD};
use crate::sys::process::{End, signal_name};
use crate::sys::socket;
use nix::errno::Errno;
use std::os::fd::OwnedFd;

/// The verb.
#[inline(never)]
pub fn start(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    let init = state.init.as_ref();
    // Opened before the gate: the kernel tells how it ended only to who held it then.
    let pidfd = init.and_then(status_open);
    let found = match status::of(&entry, &state) {
        Status::Created => Status::Created,
        _ => settled(&entry, &state, pidfd.as_ref()),
    };
    match found {
        Status::Created => {}
        Status::Paused if status::is_held(entry.open_file(HELD)) => {
            return Err(Error::new("cannot start a paused container").hint("`corten resume` it first"));
        }
        Status::Stopped => return Err(stopped(init.map(|i| i.pid), pidfd.as_ref())),
        other => return Err(Error::new(format!("cannot start an already {other} container"))),
    }
    let connection = match socket::connect_at(entry.dir(), "start") {
        Ok(connection) => connection,
        Err(failure) if failure.errno == Errno::ECONNREFUSED => return Err(refused(&entry, &state, pidfd.as_ref())),
        Err(failure) => return Err(failure.into()),
    };
    let (mut accepted, mut executing) = (false, false);
    loop {
        match gate::hear(&connection)? {
            Heard::Gate(Gate::Go) => accepted = true,
            Heard::Gate(Gate::Executing) => executing = true,
            other @ (Heard::Gate(_) | Heard::Listener(_) | Heard::Network(_) | Heard::GoWith(_)) => {
                return Err(Error::new(format!("heard {other:?} from init")));
            }
            Heard::Failed(report) => return Err(report.into_error()),
            Heard::End if executing => break,
            Heard::End if accepted => return Err(stopped(init.map(|i| i.pid), pidfd.as_ref())),
            Heard::End => return Err(refused(&entry, &state, pidfd.as_ref())),
        }
    }
    entry.release();
    if !may_have(&entry.read(CONFIGURATION)?, b"poststart") {
        return Ok(0);
    }
    let config = kept_config(&entry, &state)?;
    if !config.hooks.poststart.is_empty() {
        let document = crate::state::document(&state, Status::Running, init.map(|i| i.pid));
        hooks::run_all_warning(hooks::Kind::Poststart, &config.hooks.poststart, &document);
    }
    Ok(0)
}

fn status_open(init: &crate::state::Process) -> Option<OwnedFd> {
    init.open()
}

/// Nobody accepted: another start was first, or init died.
fn refused(entry: &Entry, state: &State, pidfd: Option<&OwnedFd>) -> Error {
    match settled(entry, state, pidfd) {
        Status::Stopped => stopped(state.init.as_ref().map(|i| i.pid), pidfd),
        _ => Error::new("cannot start an already running container: another start was first"),
    }
}

/// The status. Init may be on its way out: its gate and its lock are closed one after the other, and then it is dead.
fn settled(entry: &Entry, state: &State, pidfd: Option<&OwnedFd>) -> Status {
    let found = status::of(entry, state);
    let lives = || state.init.as_ref().and_then(|init| status::stat(init.pid)).is_some_and(|stat| !stat.is_ending);
    match pidfd {
        Some(pidfd) if found != Status::Stopped && !lives() => {
            ended_within(pidfd, PATIENCE_MS);
            status::of(entry, state)
        }
        _ => found,
    }
}

/// How init ended, as far as the kernel still tells.
fn stopped(pid: Option<i32>, pidfd: Option<&OwnedFd>) -> Error {
    let zombie = pid.and_then(status::stat).filter(|stat| stat.state == 'Z').map(|stat| stat.exit_status);
    let end = zombie
        .or_else(|| pidfd.and_then(crate::sys::process::exit_status))
        .map(|status| if status & 0x7f == 0 { End::Exited((status >> 8) as u8) } else { End::Killed(status & 0x7f) });
    Error::new(match end {
        Some(End::Killed(signal)) => {
            format!("cannot start a stopped container: its first process was killed by {}", signal_name(signal))
        }
        Some(end) => format!("cannot start a stopped container: its first process {end}"),
        None => "cannot start a stopped container: its first process is gone".to_owned(),
    })
}
