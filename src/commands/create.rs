//! `create`: everything up to the program, which waits to be started.

use super::{id, require_root, store};
use crate::cli::{Args, Invocation};
use crate::error::{Error, Result};
use crate::input::again::Wording;
use crate::input::bundle::Bundle;
use crate::input::bundle::faults_error;
use crate::input::config::{Config, ConsoleSize, Mount, Process};
use crate::input::host::Host;
use crate::plan::{self, Console, Plan, Request, Start};
use crate::run::trace::{Outcome, Trace};
use crate::run::{self, Context, wait};
use crate::setup::rootfs::Way;
use crate::setup::{label, program};
use crate::state::{self, FORMAT, State};
use crate::sys::spent::Spent;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::SystemTime;

/// The verb.
#[inline(never)]
pub fn create(invocation: &Invocation) -> Result<u8> {
    require_root()?;
    let host = Host::read();
    host.check_floor()?;
    let args = &invocation.args;
    let id = id(args)?;
    let bundle = Bundle::load(bundle_dir(args))?;
    check_console(&bundle, args, Foreground::No)?;
    let request = request(args, id.as_str(), &bundle, Start::WhenTold)?;
    let (plan, mut context) = make(invocation, &host, bundle, &request)?;
    run::finish_trace(&plan, &mut context, Outcome::Waits);
    Ok(0)
}

/// `--bundle`, or here.
pub fn bundle_dir(args: &Args) -> &Path {
    args.get_one::<PathBuf>("bundle").map_or(Path::new("."), PathBuf::as_path)
}

/// Is somebody here who could use the terminal?
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Foreground {
    /// The runtime stays and relays.
    Yes,
    /// The runtime returns.
    No,
}

/// A terminal needs somebody at its other end, and nobody waits for one that is not made.
pub fn check_console(bundle: &Bundle, args: &Args, foreground: Foreground) -> Result<()> {
    let wanted = bundle.config.process.as_ref().is_some_and(|p| p.terminal);
    check_terminal(wanted, console_socket(args).is_some(), foreground)
}

/// The same for any process.
pub fn check_terminal(wanted: bool, socket: bool, foreground: Foreground) -> Result<()> {
    match (wanted, socket, foreground) {
        (true, false, Foreground::No) => Err(Error::new("process.terminal is set, but nobody would hold the terminal: cannot allocate tty without setting up a console socket")
            .hint("give --console-socket, or run it in the foreground")),
        (false, true, _) => Err(Error::new("--console-socket is given, but process.terminal is not set: cannot use console socket if the runtime will not allocate a tty")),
        (true, true, Foreground::Yes) => Err(Error::new("--console-socket is for `create` and --detach: in the foreground the terminal is here")),
        (true, false, Foreground::Yes) if wait::caller_terminal().is_none() => Err(Error::new("process.terminal is set, but there is no terminal here")
            .hint("run it in a terminal, or set process.terminal to false")),
        _ => Ok(()),
    }
}

/// What the words ask beside the configuration. Relative paths are the caller's.
pub fn request(args: &Args, id: &str, bundle: &Bundle, start: Start) -> Result<Request> {
    Ok(Request {
        id: id.to_owned(),
        bundle: bundle.dir.clone(),
        start,
        console: console(args, bundle.config.process.as_ref()),
        pid_file: args.get_one::<PathBuf>("pid-file").map(|path| absolute(path)),
        pidfd_socket: args.get_one::<PathBuf>("pidfd-socket").map(|path| absolute(path)),
        keyring: if args.get_flag("no-new-keyring") { label::Keyring::Keep } else { label::Keyring::New },
        root: plan::Root::Bundle,
        way: if args.get_flag("no-pivot") { Way::Move } else { Way::Pivot },
        inherited: inherited(args)?,
    })
}

/// `run IMAGE` has no such option.
fn console_socket(args: &Args) -> Option<&PathBuf> {
    args.get_one("console-socket")
}

/// Who gets the terminal of a process. Without one nobody asks how large the caller's is.
pub fn console(args: &Args, process: Option<&Process>) -> Console {
    let size = || wait::caller_size().map(|(height, width)| ConsoleSize { height, width });
    match console_socket(args) {
        Some(path) => Console::Socket(absolute(path)),
        None => Console::Here(process.filter(|process| process.terminal).and_then(|_| size())),
    }
}

/// `NOTIFY_SOCKET` of the caller goes on to the program (sd_notify(3)): the socket itself is bound where the variable says.
fn hand_on_notify(config: &mut Config) {
    let Some(socket) = std::env::var("NOTIFY_SOCKET").ok().filter(|path| path.starts_with('/')) else { return };
    let Some(process) = &mut config.process else { return };
    Rc::make_mut(&mut process.env).push(&program::notify_variable());
    config.mounts.push(Mount {
        destination: Path::new(program::NOTIFY_DIRECTORY).join(program::NOTIFY_SOCKET),
        kind: "bind".into(),
        source: Some(socket.into()),
        options: vec!["bind".into()],
        ..Mount::default()
    });
}

/// Descriptors and variables that go on to the program.
pub fn inherited(args: &Args) -> Result<program::Inherited> {
    let preserve = args.get_one::<u32>("preserve-fds").copied().unwrap_or(0);
    let inherited = program::inherited(|key| std::env::var(key).ok(), std::process::id, preserve);
    // Nothing of ours is open at these numbers yet: what is not open now would be a descriptor of the runtime later.
    match (3..inherited.descriptors.saturating_add(3)).find(|fd| !crate::sys::is_open(*fd)) {
        None => Ok(inherited),
        Some(fd) => Err(Error::new(format!("--preserve-fds: descriptor {fd} is not open"))),
    }
}

/// A path as the caller means it.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `--trace`, if it is given.
pub fn trace(invocation: &Invocation, plan: &Plan) -> Result<Option<Trace>> {
    let to = invocation.args.get_one::<PathBuf>("trace");
    to.map(|to| Trace::open(to, plan, invocation.began)).transpose()
}

/// Plans and executes. On success the container exists, and `create` is done or the program is about to run.
pub fn make(invocation: &Invocation, host: &Host, mut bundle: Bundle, request: &Request) -> Result<(Plan, Context)> {
    if invocation.global.systemd_cgroup {
        return Err(Error::new("--systemd-cgroup: the systemd cgroup driver is not in this version"));
    }
    for warning in &bundle.warnings {
        log::warn!("{warning}");
    }
    hand_on_notify(&mut bundle.config);
    let (plan, cgroup) =
        plan::container(&bundle.config, host, request).map_err(|found| faults_error(&found, "config.json"))?;
    let spent = Spent::default();
    let store = store(invocation)?;
    let state = State {
        format: FORMAT,
        id: request.id.clone(),
        oci_version: bundle.config.oci_version.clone(),
        bundle: bundle.dir.clone(),
        rootfs: plan::rootfs_path(&bundle.dir, &bundle.config),
        annotations: bundle.config.annotations.clone(),
        owner: host.euid,
        created: crate::logger::rfc3339(SystemTime::now()),
        creator: state::Process::own(store.is_gone_with_boot(), &spent)
            .ok_or_else(|| Error::new("/proc is not readable"))?,
        init: None,
        gate: request.start == Start::WhenTold,
        ready: false,
        image_container: match &request.root {
            plan::Root::Overlay(_) => Some(bundle.dir.clone()),
            plan::Root::Bundle => None,
        },
        keeps_keyring: request.keyring == label::Keyring::Keep,
        exact: bundle.wording == Wording::Exact,
        cgroup,
    };
    let mut context = Context::new(state, bundle.dir.clone());
    context.held.spent = spent;
    context.store = Some(store);
    context.configuration = bundle.raw;
    context.trace = trace(invocation, &plan)?;
    run::execute(&plan, &mut context)?;
    Ok((plan, context))
}
