//! `run`: create and start in one, and in the foreground wait for the end.

use super::create::{Foreground, bundle_dir, check_console, make, request};
use super::{delete, require_root};
use crate::cli::{Args, Invocation};
use crate::error::{Error, Result};
use crate::input::bundle::Bundle;
use crate::input::config::{Hooks, User};
use crate::input::host::Host;
use crate::input::id::Id;
use crate::input::overrides::{self, Caller, Overrides};
use crate::input::user::{self, UserRequest};
use crate::plan::Start;
use crate::run::{parent, wait};
use crate::setup::hooks;
use crate::state;
use crate::state::status::Status;
use crate::sys::path;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The exit code of a program that SIGKILL ended: everybody's first question is whether it was the memory.
const KILLED: u8 = 128 + 9;

/// The verb.
#[inline(never)]
pub fn run(invocation: &Invocation) -> Result<u8> {
    require_root()?;
    let host = Host::read();
    host.check_floor()?;
    let args = &invocation.args;
    let (id, bundle) = subject(args)?;
    let detach = args.get_flag("detach");
    if detach && args.get_flag("rm") {
        return Err(Error::new("--rm with --detach: nobody stays to remove the container"));
    }
    if args.get_flag("keep") && args.get_flag("rm") {
        return Err(Error::new("--rm and --keep exclude each other"));
    }
    check_console(&bundle, args, if detach { Foreground::No } else { Foreground::Yes })?;
    let request = request(args, id.as_str(), &bundle, Start::AtOnce)?;
    let Hooks { poststart, poststop, .. } = bundle.config.hooks.clone();
    // Signals that arrive while the container is made wait until there is a process to forward them to.
    let signals = if detach { None } else { Some(wait::block_signals()?) };
    let (plan, mut context) = make(invocation, &host, bundle, &request)?;
    parent::wait_for_program(&plan, &mut context)?;
    if !poststart.is_empty() {
        let pid = context.first.as_ref().map(|(pid, _)| *pid);
        hooks::run_all_warning(
            hooks::Kind::Poststart,
            &poststart,
            &state::document(&context.state, Status::Running, pid),
        );
    }
    let (Some(signals), Some((_, pidfd))) = (signals, context.first.take()) else { return Ok(0) };
    let terminal = match context.console_end.take() {
        Some(end) => crate::sys::socket::receive(&end)?.and_then(|message| message.fd),
        None => None,
    };
    let code = wait::foreground(&pidfd, terminal, &signals);
    if matches!(code, Ok(KILLED)) && context.state.cgroup.oom_kills() > 0 {
        let limit = context.state.cgroup.memory_limit().unwrap_or_default();
        log::warn!("run {}: killed by the kernel at its memory limit ({limit})", context.state.id);
    }
    if !args.get_flag("keep")
        && let (Some(store), Some(entry)) = (&context.store, &context.entry)
    {
        delete::finish(store, entry, Some(&context.state), &poststop)?;
    }
    // The program ends here, and the kernel closes what is open.
    std::mem::forget((plan, context, pidfd, signals));
    code
}

/// The id and the bundle, with Docker's habits applied.
pub fn subject(args: &Args) -> Result<(Id, Bundle)> {
    let words: Vec<String> = args.get_many::<String>("words").unwrap_or_default().cloned().collect();
    let (name, words) = match args.get_one::<String>("name") {
        Some(name) => (name.clone(), words),
        None => match words.first() {
            Some(id) => (id.clone(), Vec::new()),
            None => return Err(Error::new("no id: give one, or --name ID")),
        },
    };
    let id = Id::parse(&name)?;
    let bundle = bundle(args, words)?;
    Ok((id, bundle))
}

/// The bundle, with Docker's habits applied.
pub fn bundle(args: &Args, words: Vec<String>) -> Result<Bundle> {
    let bundle = Bundle::load(bundle_dir(args))?;
    let many = |name: &str| args.get_many::<String>(name).unwrap_or_default().cloned().collect::<Vec<_>>();
    let one = |name: &str| args.get_one::<String>(name).cloned();
    let overrides = Overrides {
        caller: Caller::default(),
        terminal: args.get_flag("tty"),
        mounts: many("mount"),
        entrypoint: one("entrypoint"),
        args: words,
        env: many("env"),
        workdir: one("workdir"),
        user: one("user"),
        hostname: one("hostname"),
        network: one("network"),
    };
    if overrides.is_nothing() { Ok(bundle) } else { overridden(bundle, overrides) }
}

/// The bundle with what was said on the command line. Not inlined: most runs say nothing.
#[inline(never)]
fn overridden(mut bundle: Bundle, mut overrides: Overrides) -> Result<Bundle> {
    overrides.caller = Caller::here()?;
    let before = bundle.config.clone();
    overrides.apply(&mut bundle.config)?;
    if let Some(request) = overrides.user_request()? {
        let root = path::open_directory(&crate::plan::rootfs_path(&bundle.dir, &bundle.config))?;
        let found = look_up(&request, root.as_fd())?;
        if let Some(process) = &mut bundle.config.process {
            process.user = User { umask: process.user.umask, ..found };
        }
    }
    let is_changed = bundle.config != before;
    drop(before);
    if is_changed {
        bundle.raw = overrides::written(std::mem::take(&mut bundle.raw), &bundle.config)?;
    }
    Ok(bundle)
}

/// The largest passwd or group file that is read, in bytes.
const LARGEST_DATABASE: u64 = 4 << 20;

/// Asks the container's own files, opened below its root: the host's users are others.
pub fn look_up(request: &UserRequest, root: BorrowedFd<'_>) -> Result<User> {
    let read = |name: &str| -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let Some(file) = path::find_below(root, Path::new(name), flags, path::Links::Follow)? else {
            return Ok(Vec::new());
        };
        let mut bytes = Vec::new();
        File::from(file)
            .take(LARGEST_DATABASE)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::new(format!("{name} of the container: {e}")))?;
        Ok(bytes)
    };
    user::resolve(request, &read("/etc/passwd")?, &read("/etc/group")?)
}
