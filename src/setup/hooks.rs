//! Hooks: programs of the caller that run at six moments of a container's life, see config.md of the runtime specification.
//!
//! **What the kernel offers.** Nothing of the kind: a hook is a child process, with pipes, and a pidfd to wait on with a timeout.
//!
//! **Try it.** `"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "cat >/tmp/state"]}]}` in config.json; the file then
//! holds the container's state as JSON.
//!
//! **What we do.** The hook gets the state on stdin, its arguments verbatim, and its own environment or else ours. What it prints is
//! kept, the last 4 KiB of it, for the error. One poll(2) watches the pidfd and both pipes, so that a hook that never
//! reads, prints without end, or leaves a child behind with the pipe open cannot hold us up. After its timeout it is killed.
//!
//! **What goes wrong.** The kind of failure decides what follows: up to startContainer it ends the container, poststart and
//! poststop only warn. No lock is held while a hook runs: it may ask for the container's state.

use crate::error::Error;
use crate::input::config::{Hook, Hooks};
use crate::sys::process::pidfd_open;
use crate::sys::signal::prepare_helper;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read, write};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `prestart`
    Prestart,
    /// `createRuntime`
    CreateRuntime,
    /// `createContainer`
    CreateContainer,
    /// `startContainer`
    StartContainer,
    /// `poststart`
    Poststart,
    /// `poststop`
    Poststop,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Prestart => "prestart",
            Kind::CreateRuntime => "createRuntime",
            Kind::CreateContainer => "createContainer",
            Kind::StartContainer => "startContainer",
            Kind::Poststart => "poststart",
            Kind::Poststop => "poststop",
        })
    }
}

/// One hook to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// When.
    pub kind: Kind,
    /// Its place among those of its kind, from 0.
    pub index: usize,
    /// What.
    pub hook: Hook,
}

/// The hooks of one kind, in order.
pub fn decide(hooks: &Hooks, kind: Kind) -> Vec<Action> {
    let hooks = match kind {
        Kind::Prestart => &hooks.prestart,
        Kind::CreateRuntime => &hooks.create_runtime,
        Kind::CreateContainer => &hooks.create_container,
        Kind::StartContainer => &hooks.start_container,
        Kind::Poststart => &hooks.poststart,
        Kind::Poststop => &hooks.poststop,
    };
    hooks.iter().cloned().enumerate().map(|(index, hook)| Action { kind, index, hook }).collect()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hook { path, args, timeout, .. } = &self.hook;
        f.write_str("pipe2(O_CLOEXEC); pipe2(O_CLOEXEC); [write(state)]; clone(); ")?;
        match args[..] {
            [] => write!(f, "execve({path:?}, [{path:?}]); ")?,
            _ => write!(f, "execve({path:?}, {args:?}); ")?,
        }
        let seconds = timeout.map(|seconds| format!("{seconds} s")).unwrap_or_default();
        write!(f, "pidfd_open(); [ppoll({seconds}); [write(state)]; [read()]]…; wait4(); [read()]")
    }
}

impl Action {
    /// Runs it.
    pub fn run(&self, state_json: &[u8]) -> Result<(), Error> {
        run(self.kind, self.index, &self.hook, state_json)
    }
}

/// Runs hooks whose failure changes nothing any more (poststart, poststop): each is logged, and the next one runs.
pub fn run_all_warning(kind: Kind, hooks: &[Hook], state_json: &[u8]) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(error) = run(kind, index, hook, state_json) {
            log::warn!("{error}");
        }
    }
}

/// How much of what a hook prints is kept.
const KEPT: usize = 4096;

/// Runs one hook with `state_json` on its stdin, and waits for it.
///
/// An error reads `error running createRuntime hook #0: exit status 1, stderr: …`, as with runc.
pub fn run(kind: Kind, index: usize, hook: &Hook, state_json: &[u8]) -> Result<(), Error> {
    let name = format!("error running {kind} hook #{index}");
    let (end, output) = execute(hook, state_json).map_err(|(call, errno)| {
        crate::error!("{name}: {}: {} ({call} = {errno:?})", hook.path.display(), crate::sys::plain(errno))
    })?;
    let how = match end {
        End::Exited(status) if status.success() => return Ok(()),
        End::Exited(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("killed by {}", crate::sys::process::signal_name(signal.unwrap_or_default())),
        },
        End::TimedOut => format!("ran past its timeout of {} s and was killed", hook.timeout.unwrap_or_default()),
    };
    let output = String::from_utf8_lossy(&output);
    Err(crate::error!("{name}: {how}, stderr: {}", output.trim_end()))
}

/// How a hook ended.
enum End {
    /// By itself.
    Exited(ExitStatus),
    /// By us.
    TimedOut,
}

type Step<T> = Result<T, (&'static str, Errno)>;

fn execute(hook: &Hook, state_json: &[u8]) -> Step<(End, Vec<u8>)> {
    let deadline = hook.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let mut pipes = Pipes::new(state_json)?;
    let mut child = pipes.spawn(hook)?;
    let watched = pidfd_open(child.id() as i32).map_err(|errno| ("pidfd_open", errno));
    let end = watched.and_then(|pidfd| pipes.relay_until(&pidfd, deadline));
    if !matches!(end, Ok(Over::Ended)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| ("waitid", errno(&e)))?;
    // What was printed last may still be in the pipe.
    pipes.receive();
    match end? {
        Over::Ended => Ok((End::Exited(status), pipes.kept)),
        Over::TimedOut => Ok((End::TimedOut, pipes.kept)),
    }
}

enum Over {
    Ended,
    TimedOut,
}

/// Our ends of a hook's stdin and of its stdout and stderr, which share a pipe.
struct Pipes<'a> {
    /// Kept open also by us: writing to a pipe that the hook has closed is then neither SIGPIPE nor an error.
    state_reader: OwnedFd,
    state: Option<OwnedFd>,
    unsent: &'a [u8],
    output: Option<OwnedFd>,
    /// The hook's end, until it has been spawned.
    output_writer: Option<OwnedFd>,
    kept: Vec<u8>,
}

impl<'a> Pipes<'a> {
    fn new(unsent: &'a [u8]) -> Step<Self> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| ("pipe2", errno));
        let ((state_reader, state), (output, output_writer)) = (pipe()?, pipe()?);
        for fd in [&state, &output] {
            // Our end alone: the hook's is another open file.
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| ("fcntl", errno))?;
        }
        let (state, output, output_writer) = (Some(state), Some(output), Some(output_writer));
        let mut pipes = Pipes { state_reader, state, unsent, output, output_writer, kept: Vec::new() };
        pipes.send();
        Ok(pipes)
    }

    fn spawn(&mut self, hook: &Hook) -> Step<Child> {
        let again = |fd: &OwnedFd| fd.try_clone().map_err(|e| ("fcntl", errno(&e)));
        let writer = self.output_writer.take().ok_or(("execve", Errno::EBADF))?;
        let mut command = Command::new(&hook.path);
        command.stdin(again(&self.state_reader)?).stdout(again(&writer)?).stderr(writer);
        if let [name, args @ ..] = &hook.args[..] {
            command.arg0(name).args(args);
        }
        if let Some(env) = &hook.env {
            command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
        }
        // Ours wait to be forwarded; a hook that never hears SIGTERM is not what its author tested.
        // And one whose runtime was killed has nobody left to work for.
        prepare_helper(&mut command);
        command.spawn().map_err(|e| ("execve", errno(&e)))
    }

    /// Feeds stdin and collects the output until the process behind `pidfd` has ended.
    fn relay_until(&mut self, pidfd: &OwnedFd, deadline: Option<Instant>) -> Step<Over> {
        loop {
            let mut watched = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            watched.extend(self.output.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            watched.extend(self.state.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
            match poll(&mut watched, remaining(deadline)) {
                Err(Errno::EINTR) => continue,
                other => other.map_err(|errno| ("poll", errno))?,
            };
            if watched[0].any() == Some(true) {
                return Ok(Over::Ended);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Over::TimedOut);
            }
            self.send();
            self.receive();
        }
    }

    /// Writes what fits, and closes stdin after the last byte.
    fn send(&mut self) {
        while let Some(state) = self.state.as_ref().filter(|_| !self.unsent.is_empty()) {
            match write(state, self.unsent) {
                Ok(written) => self.unsent = &self.unsent[written..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => break,
            }
        }
        self.state = None;
    }

    /// Reads at most what a pipe holds, and keeps the end.
    fn receive(&mut self) {
        let mut bytes = [0; 64 << 10];
        let Some(output) = &self.output else { return };
        match read(output, &mut bytes) {
            Ok(0) => self.output = None,
            Ok(length) => {
                self.kept.extend(&bytes[..length]);
                self.kept.drain(..self.kept.len().saturating_sub(KEPT));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => self.output = None,
        }
    }
}

fn remaining(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // Rounded up, so as not to wake just before it; a longer one is waited for in parts.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Hook {
        let args = ["sh", "-c", script].map(String::from).to_vec();
        Hook { path: "/bin/sh".into(), args, ..Hook::default() }
    }

    fn said(hook: &Hook, state: &[u8]) -> String {
        run(Kind::CreateRuntime, 3, hook, state).unwrap_err().to_string()
    }

    #[test]
    fn the_state_arrives_whole_and_the_arguments_verbatim() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let state: Vec<u8> = (0..1 << 20).map(|at| b"0123456789"[at % 10]).collect();
        let mut hook = shell("cat >$0; echo \"$1\" >>$0");
        hook.args.extend([file.to_str().unwrap().to_owned(), "a  'b'".to_owned()]);
        run(Kind::Prestart, 0, &hook, &state).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), [&state[..], b"a  'b'\n"].concat());
    }

    #[test]
    fn env_replaces_ours_when_given() {
        let alone = Hook { env: Some(vec!["A=x=y".into()]), ..shell("echo $A$HOME; test -z \"$CARGO\"; exit 9") };
        assert_eq!(said(&alone, b""), "error running createRuntime hook #3: exit status 9, stderr: x=y");
        let inherited = shell("test -n \"$PATH\"");
        run(Kind::Poststop, 0, &inherited, b"").unwrap();
    }

    #[test]
    fn the_error_ends_with_the_last_that_was_printed() {
        let said = said(&shell("yes x | head -c 3000000 >&2; echo last; kill -9 $$"), b"{}");
        assert!(said.starts_with("error running createRuntime hook #3: killed by SIGKILL, stderr: "), "{said}");
        assert!(said.ends_with("x\nlast") && said.len() < KEPT + 100, "{said}");
    }

    #[test]
    fn one_that_does_not_read_or_leaves_a_child_behind_does_not_hold_us_up() {
        let state = vec![b' '; 1 << 20];
        let begun = Instant::now();
        run(Kind::CreateRuntime, 0, &shell("exec <&-; sleep 0.1"), &state).unwrap();
        run(Kind::CreateRuntime, 0, &shell("sleep 5 & exit 0"), &state).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn no_signal_is_blocked_in_a_hook() {
        let before = crate::sys::signal::block(crate::sys::signal::mask(libc::SIGTERM)).unwrap();
        let said = said(&shell("kill -TERM $$; echo survived"), b"");
        crate::sys::signal::set_blocked(before).unwrap();
        assert_eq!(said, "error running createRuntime hook #3: killed by SIGTERM, stderr: ");
    }

    #[test]
    fn the_timeout_is_kept() {
        let begun = Instant::now();
        let hook = Hook { timeout: Some(1), ..shell("echo begun; exec sleep 30") };
        let said = said(&hook, b"{}");
        assert_eq!(
            said,
            "error running createRuntime hook #3: ran past its timeout of 1 s and was killed, stderr: begun"
        );
        assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_missing_hook_is_named() {
        let said = said(&Hook { path: "/none".into(), ..Hook::default() }, b"{}");
        assert_eq!(said, "error running createRuntime hook #3: /none: no such file or directory (execve = ENOENT)");
    }

    #[test]
    fn decides_by_kind() {
        let hooks = Hooks {
            poststop: vec![shell("a"), Hook { path: "/x".into(), timeout: Some(2), ..Hook::default() }],
            ..Hooks::default()
        };
        assert_eq!(decide(&hooks, Kind::Prestart), []);
        let shown: Vec<String> = decide(&hooks, Kind::Poststop).iter().map(Action::to_string).collect();
        assert_eq!(
            shown[0],
            "pipe2(O_CLOEXEC); pipe2(O_CLOEXEC); [write(state)]; clone(); execve(\"/bin/sh\", [\"sh\", \"-c\", \"a\"]); \
             pidfd_open(); [ppoll(); [write(state)]; [read()]]…; wait4(); [read()]"
        );
        assert!(shown[1].contains("execve(\"/x\", [\"/x\"]); pidfd_open(); [ppoll(2 s);"), "{}", shown[1]);
    }
}
