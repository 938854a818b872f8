//! `delete` and `rm`: end what is left, remove what was made, in an order that a second call can always complete.
//!
//! Kill, wait, remove the cgroups, take the record away (whoever wins that owns the rest), run the poststop hooks. Killed
//! anywhere, what remains is still found by its record.

use super::{for_each, id, ids, may_have, say, store, target};
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::input::config::{Hook, Resources};
use crate::input::host::Host;
use crate::setup::{cgroup, hooks};
use crate::state::status::{self, Status};
use crate::state::store::{CONFIGURATION, Entry, Store};
use crate::state::{State, document};
use crate::sys::process::pidfd_send_signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, OwnedFd};

/// May a running container be ended?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Yes.
    Yes,
    /// Only one that has ended, or was never started.
    No,
}

/// How long a killed process may take to go, in milliseconds: one in an uninterruptible wait does not.
pub const PATIENCE_MS: u16 = 10_000;

/// How long a killed process takes that nothing holds up, in milliseconds.
const SOON_MS: u16 = 100;

/// The verb `delete`: runc's words and exit codes.
#[inline(never)]
pub fn delete(invocation: &Invocation) -> Result<u8> {
    let force = if invocation.args.get_flag("force") { Force::Yes } else { Force::No };
    let id = id(&invocation.args)?;
    let store = store(invocation)?;
    store.sweep();
    match store.find(id.as_str())? {
        Some(entry) => remove(&store, &entry, force).map(|()| 0),
        None if force == Force::Yes => Ok(0),
        None => store.get(id.as_str()).map(|_| 0),
    }
}

/// The verb `rm`: Docker's habits. A container of an image goes with what it has written; whether its program ended by itself or by force, the
/// runtime may know nothing of it any more.
#[inline(never)]
pub fn rm(invocation: &Invocation) -> Result<u8> {
    let force = if invocation.args.get_flag("force") { Force::Yes } else { Force::No };
    store(invocation)?.sweep();
    for_each(&ids(&invocation.args)?, |id| {
        let target = target::find(invocation, id)?;
        let Some(image) = &target.image else {
            let (store, entry) = target.known()?;
            return remove(&store, &entry, force);
        };
        match (&target.entry, force) {
            (Some(entry), _) => remove(&target.store, entry, force)?,
            (None, Force::No) => image.may_go()?,
            (None, Force::Yes) => {}
        }
        image.remove()?;
        say(&target.done(id))
    })
}

/// Removes a container, ending it first if that is asked for or if it was never started.
pub fn remove(store: &Store, entry: &Entry, force: Force) -> Result<()> {
    let state = match entry.load() {
        Ok(state) => state,
        Err(error) if force == Force::Yes => return remove_damaged(store, entry, &error),
        Err(error) => return Err(error),
    };
    let found = status::of(entry, &state);
    if force == Force::No && !matches!(found, Status::Stopped | Status::Created) {
        return Err(Error::new(format!("cannot delete container that is not stopped: {found}"))
            .hint(format!("`corten stop {0}` first, or `corten rm -f {0}`", state.id)));
    }
    if found == Status::Creating
        && let Some(creator) = state.creator.open()
    {
        // It would go on making what is being taken away. Its child ends with it.
        let _ = pidfd_send_signal(&creator, libc::SIGKILL);
        ended_within(&creator, PATIENCE_MS);
    }
    if let Some(pidfd) = state.init.as_ref().and_then(|init| init.open()) {
        let _ = pidfd_send_signal(&pidfd, libc::SIGKILL);
        // A frozen process takes its signal when it is thawed. One that does not go by that hangs on others of its namespace, which
        // may have frozen themselves in cgroups of their own.
        let _ = state.cgroup.thaw();
        if !ended_within(&pidfd, SOON_MS) {
            state.cgroup.kill_all(libc::SIGKILL)?;
            wait_gone(&state, &pidfd)?;
        }
    }
    finish(store, entry, Some(&state), &poststop_hooks(entry))
}

/// A record that cannot be read is removed by force. The kept configuration says where the cgroup is, and with it who is in it; without
/// that nothing else is touched: it might be anybody's.
fn remove_damaged(store: &Store, entry: &Entry, error: &Error) -> Result<()> {
    let id = entry.path().file_name().unwrap_or_default().to_string_lossy();
    let cgroup = super::whole_config(entry).ok().and_then(|config| {
        let path = config.linux.cgroups_path.as_deref();
        cgroup::decide(path, &id, &Resources::default(), &Host::read().cgroups).ok()
    });
    match cgroup {
        Some((cgroup, _)) => {
            log::warn!("{}; its processes and its cgroup are found by the kept configuration", error.cause);
            cgroup.end()?;
        }
        None => log::warn!("{}; only the record is removed", error.cause),
    }
    finish(store, entry, None, &[])
}

/// Init has ended: the rest of its processes, its cgroup, its record, its poststop hooks.
pub fn finish(store: &Store, entry: &Entry, state: Option<&State>, poststop: &[Hook]) -> Result<()> {
    if let Some(state) = state {
        state.cgroup.end()?;
    }
    let lock = entry.lock()?;
    let removed = store.remove(entry, state)?;
    // No lock across a hook.
    if poststop.is_empty() {
        lock.unlock_with(entry.read_files())
    } else {
        drop(lock)
    }
    if let (true, Some(state)) = (removed && !poststop.is_empty(), state) {
        hooks::run_all_warning(hooks::Kind::Poststop, poststop, &document(state, Status::Stopped, None));
    }
    Ok(())
}

fn poststop_hooks(entry: &Entry) -> Vec<Hook> {
    let Ok(bytes) = entry.read(CONFIGURATION) else { return Vec::new() };
    if !may_have(&bytes, b"poststop") {
        return Vec::new();
    }
    crate::input::bundle::parse(&bytes).map(|(config, _)| config.hooks.poststop).unwrap_or_default()
}

/// Waits until a process has ended; a bounded time.
pub fn wait_gone(state: &State, pidfd: &OwnedFd) -> Result<()> {
    if ended_within(pidfd, PATIENCE_MS) {
        return Ok(());
    }
    let pid = state.init.as_ref().map_or(0, |init| init.pid);
    let doing = status::stat(pid).map_or('?', |stat| stat.state);
    let channel = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    Err(Error::new(format!("process {pid} does not end after SIGKILL: state {doing}, waiting in {channel}"))
        .hint("try again when what it waits for is over"))
}

/// Did the process end within this time?
pub fn ended_within(pidfd: &OwnedFd, milliseconds: u16) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::from(milliseconds)) {
            Err(nix::errno::Errno::EINTR) => continue,
            found => return found.is_ok_and(|ready| ready > 0),
        }
    }
}
