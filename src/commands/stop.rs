//! `stop`: asks politely, waits, then kills.

use super::delete::{ended_within, wait_gone};
use super::target::{self, Target};
use super::{for_each, ids, say};
use crate::cli::Invocation;
use crate::error::Result;
use crate::input::id::Id;
use crate::input::signal;
use crate::state::status::{self, Status};
use crate::sys::process::pidfd_send_signal;

/// Where an image says which signal ends it gently (OCI image specification, conversion to a runtime configuration).
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// How many seconds it waits where nothing is said.
const PATIENCE: u64 = 10;

/// The verb.
#[inline(never)]
pub fn stop(invocation: &Invocation) -> Result<u8> {
    let asked = invocation.args.get_one::<u64>("time").copied();
    for_each(&ids(&invocation.args)?, |id| {
        let target = target::find(invocation, id)?;
        let done = target.done(id);
        end(target, id, asked)?;
        say(&done)
    })
}

fn end(target: Target, id: &Id, asked: Option<u64>) -> Result<()> {
    let image = target.image.as_ref();
    if image.is_some() && target.entry.is_none() {
        // It has ended, as was asked for.
        return Ok(());
    }
    let seconds = asked.or_else(|| image.and_then(|image| image.stop_timeout())).unwrap_or(PATIENCE);
    let own_signal = image.and_then(|image| image.stop_signal());
    let (_, entry) = target.known()?;
    let state = entry.load()?;
    let found = status::of(&entry, &state);
    let Some(pidfd) = state.init.as_ref().and_then(|init| init.open()) else {
        // A stopped container is what was asked for; processes without an init are ended all the same.
        return Ok(state.cgroup.kill_all(libc::SIGKILL)?);
    };
    let signal = own_signal
        .as_ref()
        .or(state.annotations.get(STOP_SIGNAL))
        .map_or(Ok(libc::SIGTERM), |word| signal::parse(word))?;
    let _ = pidfd_send_signal(&pidfd, signal);
    if found == Status::Paused {
        state.cgroup.thaw()?;
    }
    let patience = u16::try_from(seconds.saturating_mul(1000)).unwrap_or(u16::MAX);
    let mut left = seconds.saturating_mul(1000);
    loop {
        let slice = u16::try_from(left).unwrap_or(patience);
        if ended_within(&pidfd, slice) {
            break;
        }
        left = left.saturating_sub(u64::from(slice));
        if left == 0 {
            log::debug!("{}: still there after {seconds} s, SIGKILL", id.as_str());
            let _ = pidfd_send_signal(&pidfd, libc::SIGKILL);
            wait_gone(&state, &pidfd)?;
            break;
        }
    }
    Ok(state.cgroup.kill_all(libc::SIGKILL)?)
}
