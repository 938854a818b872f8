//! `exec`: another process in a running container.

use super::create::{Foreground, absolute, check_terminal, console, inherited, trace};
use super::delete::ended_within;
use super::run::look_up;
use super::{container, is_of_image, kept_config, program_code, whole_config};
use crate::cli::{Args, Invocation};
use crate::error::{Error, Result, io_words};
use crate::input::bundle;
use crate::input::bundle::faults_error;
use crate::input::config::{Capabilities, Config, Process, User};
use crate::input::overrides::Caller;
use crate::input::user::UserRequest;
use crate::input::variables::{apply_file, apply_variable, edit};
use crate::plan;
use crate::plan::exec::{Below, Request};
use crate::run::{self, Context, parent, wait};
use crate::setup::{caps, label, user};
use crate::state::State;
use crate::state::joining::Joining;
use crate::state::status::{self, Status};
use crate::state::store::{Entry, JOINING};
use crate::sys::Called;
use crate::sys::cred::capget;
use crate::sys::path;
use crate::sys::seccomp::Instruction;
use crate::sys::start;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// The verb. In a container of an image, Docker's exit codes tell whether the program is to blame.
#[inline(never)]
pub fn exec(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    // Asked before: afterwards this process may be in other namespaces.
    let is_of_image = is_of_image(&state);
    run(invocation, entry, state).map_err(|e| match program_code(&e) {
        Some(code) if is_of_image => e.code(code),
        _ => e,
    })
}

fn run(invocation: &Invocation, entry: Entry, state: State) -> Result<u8> {
    let args = &invocation.args;
    let pidfd = state.init.as_ref().and_then(|init| init.open_sparing(entry.read_files()));
    let mut allowed = vec![Status::Running, Status::Created];
    if args.get_flag("ignore-paused") {
        allowed.push(Status::Paused);
    }
    let status = match status::with_init(&entry, &state, pidfd.as_ref()) {
        found if allowed.contains(&found) => found,
        Status::Paused => {
            return Err(Error::new("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        found => return Err(Error::new(format!("cannot exec in a container that is not running: it is {found}"))),
    };
    let (Some(init), Some(pidfd)) = (state.init.clone(), pidfd) else {
        return Err(Error::new("container not running: its first process has just ended"));
    };
    let (config, filter) = kept(&entry, &state)?;
    let process = process(args, &config, &user_of(&state, init.pid, &pidfd))?;
    let detach = args.get_flag("detach");
    check_terminal(
        process.terminal,
        args.contains_id("console-socket"),
        if detach { Foreground::No } else { Foreground::Yes },
    )?;
    let request = Request {
        id: state.id.clone(),
        before: if start::is_root() { user::Before::Root } else { user::Before::Unknown },
        keyring: if state.keeps_keyring { label::Keyring::Keep } else { label::Keyring::Joined },
        below: args.get_many::<String>("cgroup").unwrap_or_default().map(|text| below(text)).collect::<Result<_>>()?,
        init: init.pid,
        console: console(args, Some(&process)),
        pid_file: args.get_one::<PathBuf>("pid-file").map(|path| absolute(path)),
        pidfd_socket: args.get_one::<PathBuf>("pidfd-socket").map(|path| absolute(path)),
        inherited: inherited(args)?,
        paused: status == Status::Paused,
        filter,
    };
    let plan = plan::exec::process(&process, &config, &state.cgroup, &request)
        .map_err(|found| faults_error(&found, "process"))?;
    let bundle = state.bundle.clone();
    let mut context = Context::new(state, bundle);
    context.namespaces.init = Some(pidfd);
    context.status = status;
    // Nothing of the host's that is not needed may be open in the child: a process of the container may trace it from its birth.
    entry.close();
    let signals = if detach { None } else { Some(wait::block_signals()?) };
    context.trace = trace(invocation, &plan)?;
    run::execute(&plan, &mut context)?;
    parent::wait_for_program(&plan, &mut context)?;
    let (Some(signals), Some((_, pidfd))) = (signals, context.first.take()) else { return Ok(0) };
    let terminal = match context.console_end.take() {
        Some(end) => crate::sys::socket::receive(&end)?.and_then(|message| message.fd),
        None => None,
    };
    let code = wait::foreground(&pidfd, terminal, &signals);
    // The program ends here, and the kernel closes what is open.
    std::mem::forget((plan, context, pidfd, signals));
    code
}

/// The configuration, and the filter as it was compiled when the container was made. One that is not whole is compiled anew.
fn kept(entry: &Entry, state: &State) -> Result<(Config, Option<Vec<Instruction>>)> {
    let joining = entry.read(JOINING).ok().and_then(|bytes| Joining::decode(&bytes));
    let (config, filter) = joining.map_or((None, None), |joining| (joining.config, Some(joining.filter)));
    let config = match config {
        Some(config) => config,
        None => kept_config(entry, state)?,
    };
    match (&config.linux.seccomp, filter) {
        (Some(_), None) => Ok((whole_config(entry)?, None)),
        (_, filter) => Ok((config, filter)),
    }
}

/// `--cgroup [CONTROLLER[,CONTROLLER]:]PATH`, never upwards.
fn below(text: &str) -> Result<Below> {
    let (controllers, path) = text.split_once(':').unwrap_or(("", text));
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || path.contains('\0') {
        return Err(Error::new(format!("--cgroup {text}: leads out of the container's own cgroup")));
    }
    let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Ok(Below { controllers, path: parts.iter().collect() })
}

/// Understands `--user`: in a container of an image as Docker does, names and their groups looked up in its own files; elsewhere two numbers, as runc.
fn user_of(state: &State, init: i32, pidfd: &OwnedFd) -> impl Fn(&str) -> Result<User> {
    let is_of_image = is_of_image(state);
    move |text| {
        if !is_of_image {
            return numeric_user(text);
        }
        let at = |e: Error| e.at("--user");
        let request = UserRequest::parse(text).map_err(at)?;
        if let Some(user) = request.fixed() {
            return Ok(user);
        }
        // Its root as it sees it, whatever it has mounted there. What has ended meanwhile may have left its number to a stranger.
        let root = path::open_directory(&PathBuf::from(format!("/proc/{init}/root")))?;
        if ended_within(pidfd, 0) {
            return Err(Error::new("container not running: its first process has just ended"));
        }
        look_up(&request, root.as_fd()).map_err(at)
    }
}

/// `--process FILE`, or the container's own process with the words given.
fn process(args: &Args, config: &Config, user_of: &dyn Fn(&str) -> Result<User>) -> Result<Process> {
    let words: Vec<String> = args.get_many::<String>("args").unwrap_or_default().cloned().collect();
    if let Some(path) = args.get_one::<PathBuf>("process") {
        if !words.is_empty() {
            return Err(Error::new("--process gives the whole process: no command beside it"));
        }
        // `--tty` may stand beside it, as conmon writes it: whether there is a terminal is what the document says.
        const WHOLE: [&str; 8] =
            ["cwd", "env", "env-file", "user", "additional-gids", "cap", "apparmor", "process-label"];
        let given = WHOLE.into_iter().find(|name| args.contains_id(name));
        if let Some(name) = given.or_else(|| ["no-new-privs", "privileged"].into_iter().find(|n| args.get_flag(n))) {
            return Err(Error::new(format!("--process gives the whole process: no --{name} beside it")));
        }
        let bytes = read_whole("--process", path)?;
        let (process, warnings) =
            bundle::parse_process(&bytes).map_err(|found| faults_error(&found, &path.display().to_string()))?;
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        return Ok(process);
    }
    if words.is_empty() {
        return Err(Error::new("no command: give one, or --process FILE"));
    }
    let mut process = config.process.clone().unwrap_or_default();
    process.args = words;
    process.terminal = args.get_flag("tty");
    process.console_size = None;
    let many = |name: &str| args.get_many::<String>(name).unwrap_or_default().cloned().collect::<Vec<_>>();
    let (files, entries) = (many("env-file"), many("env"));
    if files.len() + entries.len() > 0 {
        let caller = Caller::here()?;
        edit(&mut process.env, |env| variables(&files, &entries, &caller, env))?;
    }
    if let Some(cwd) = args.get_one::<String>("cwd") {
        if !cwd.starts_with('/') {
            return Err(Error::new(format!("--cwd {cwd}: not an absolute path")));
        }
        process.cwd = cwd.into();
    }
    if let Some(user) = args.get_one::<String>("user") {
        process.user = user_of(user)?;
    }
    process.user.additional_gids.extend(args.get_many::<u32>("additional-gids").unwrap_or_default());
    process.no_new_privileges |= args.get_flag("no-new-privs");
    if let Some(profile) = args.get_one::<String>("apparmor") {
        process.apparmor_profile = Some(profile.clone());
    }
    if let Some(label) = args.get_one::<String>("process-label") {
        process.selinux_label = Some(label.clone());
    }
    if args.get_flag("privileged") {
        // Filter and profile stay, as with Docker. Nobody can give what he has not.
        let all = caps::ALL & capget().called(|| "capget()".into())?.permitted;
        process.capabilities =
            Some(Capabilities { bounding: all, effective: all, permitted: all, ..Capabilities::default() });
    }
    for name in many("cap") {
        let number = caps::number(&name).ok_or_else(|| Error::new(format!("--cap {name}: no such capability")))?;
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        // Never inheritable (CVE-2022-29162): that would survive into programs with file capabilities.
        sets.bounding |= 1 << number;
        sets.effective |= 1 << number;
        sets.permitted |= 1 << number;
    }
    Ok(process)
}

/// `--env-file`, then `--env`, as in `run`.
fn variables(files: &[String], entries: &[String], caller: &Caller, env: &mut Vec<String>) -> Result<()> {
    for file in files {
        let text = read_whole("--env-file", &caller.dir.join(file))?;
        apply_file(&text, &caller.env, env).map_err(|e| e.at(format!("--env-file {file}")))?;
    }
    entries.iter().try_for_each(|entry| apply_variable(entry, &caller.env, env))
}

/// `UID[:GID]`, strictly: a number that is none must never become root.
fn numeric_user(text: &str) -> Result<User> {
    let number = |part: &str| {
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<u32>()
            .ok()
            .filter(|n| plain && *n != u32::MAX)
            .ok_or_else(|| Error::new(format!("--user {text}: not UID[:GID]")))
    };
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    Ok(User { uid: number(uid)?, gid: gid.map_or(Ok(0), number)?, umask: None, additional_gids: Vec::new() })
}

/// Reads it whole, from a file or a pipe.
fn read_whole(option: &str, path: &Path) -> Result<Vec<u8>> {
    let wrong = |e: std::io::Error| Error::new(format!("{option} {}: {}", path.display(), io_words(&e)));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(wrong)?.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > LARGEST_DOCUMENT {
        return Err(Error::new(format!("{option} {}: larger than 16 MiB", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Config, numeric_user};

    #[test]
    fn nothing_beside_a_process_document_is_ignored() {
        for words in [
            "--env A=b",
            "--cwd /",
            "--user 1",
            "--cap CAP_KILL",
            "--no-new-privs",
            "-g 7",
            "--env-file f",
            "--privileged",
        ] {
            let line = format!("corten exec --process /nowhere {words} web");
            let found =
                crate::cli::parse(line.split(' ').map(Into::into).collect(), |_, _| Ok(crate::cli::Form::Bundle))
                    .expect("understood");
            let error = super::process(&found.args, &Config::default(), &numeric_user).expect_err(words);
            assert!(error.cause.contains("beside it"), "{words}: {error}");
        }
    }

    #[test]
    fn a_user_is_a_number_or_refused() {
        let user = numeric_user("1000:7").expect("plain");
        assert_eq!((user.uid, user.gid), (1000, 7));
        for wrong in ["4294967296", "4294967295", "-1", "+1", "1:", ":1", "1:2:3", "a", "", " 1"] {
            assert!(numeric_user(wrong).is_err(), "{wrong:?}");
        }
    }
}
