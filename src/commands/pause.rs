//! `pause` and `resume`: the freezer.

use super::{container, require};
use crate::cli::Invocation;
use crate::error::Result;
use crate::state::status::Status;

/// The verb `pause`.
#[inline(never)]
pub fn pause(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    require(&entry, &state, &[Status::Running, Status::Created], "container not running")?;
    state.cgroup.freeze()?;
    Ok(0)
}

/// The verb `resume`.
#[inline(never)]
pub fn resume(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    require(&entry, &state, &[Status::Paused], "container not paused")?;
    state.cgroup.thaw()?;
    Ok(0)
}
