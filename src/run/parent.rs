//! The parent's side: everything that the host must do, and the undoing when it does not work out.

use super::gate::{self, Heard};
use super::trace::{Outcome, Trace};
use super::{Context, blame, pidfd};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::step::{Clone, Gate, Hold, Record, Step};
use crate::setup::seccomp;
use crate::setup::seccomp::notify::{self, Notify};
use crate::setup::{cgroup, hooks};
use crate::state::status::Status;
use crate::state::store::{CONFIGURATION, GATE, JOINING};
use crate::state::{self, joining};
use crate::sys::process::{self, End, Parent, Side, clone3, exit_now};
use crate::sys::{Called, Failure, file, lend, socket};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::prctl::set_dumpable;
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Does the parent's line `index`.
pub fn step(plan: &Plan, index: usize, context: &mut Context) -> Result<()> {
    let worded = |failure: Failure| blame(&plan.lines, index, &failure);
    match &plan.lines[index].step {
        Step::Tell(gate) => tell(context, *gate).map_err(worded),
        Step::Await(gate) => wait_for(*gate, context),
        Step::Record(what) => record(*what, context),
        Step::Cgroup(change @ cgroup::Change::Mkdir { directory, .. }) => {
            context.cgroup_origin = change.make().unwrap_or(Ok(cgroup::Origin::Found)).map_err(worded)?;
            context.cgroup_made.push(directory.clone());
            Ok(())
        }
        Step::Cgroup(change) => {
            let group = context.cgroup.as_ref();
            let group = group.map(|group| cgroup::Group { directory: group.as_fd(), origin: context.cgroup_origin });
            change.apply(group, &context.held.spent).map_err(worded)
        }
        Step::OpenTasks(files) => {
            let opened = files
                .iter()
                .map(|path| file::open(path, OFlag::O_WRONLY).called(|| format!("openat({path:?}, O_WRONLY)")));
            context.tasks = opened.collect::<crate::sys::Result<_>>().map_err(worded)?;
            Ok(())
        }
        Step::OpenCgroup(dir) => {
            let opened = file::open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY);
            context.cgroup = Some(opened.called(|| format!("openat({dir:?})")).map_err(worded)?);
            Ok(())
        }
        Step::OpenProc => {
            context.held.proc = Some(crate::sys::path::host_proc().map_err(worded)?);
            Ok(())
        }
        Step::CloneCgroup(dir) => {
            let clone = crate::sys::mount::clone_at(nix::fcntl::AT_FDCWD, dir, crate::sys::mount::Reach::This);
            context.cgroup = Some(clone.called(|| format!("open_tree({dir:?}, CLONE)")).map_err(worded)?);
            Ok(())
        }
        Step::Namespace(action) => {
            action.apply(&mut context.namespaces).map_err(worded)?;
            // setns(2) into a mount namespace enters its root, and what is born next is there.
            context.held.at_root |= action.enters_root();
            Ok(())
        }
        Step::Mount(action) => action.apply(&mut context.held).map_err(worded),
        Step::Console(socket) => console(socket.as_deref(), context).map_err(worded),
        Step::Hold(what) => hold(*what, context).map_err(worded),
        Step::Clone(how) if how.lends => lend(plan, index, context).map_err(worded),
        Step::Clone(how) => clone(how, context).map_err(worded),
        Step::IdMap(action) => action.apply(context.first.as_ref().map_or(0, |(pid, _)| *pid)).map_err(worded),
        // Inherited by the child. Nobody in the container can see this process itself: it stays in the host's pid namespace.
        step @ Step::Undumpable => set_dumpable(false).called(|| step.to_string()).map_err(worded),
        Step::Compile(filter) => {
            filter.program().map_err(|fault| worded(seccomp::not_made(filter, fault)))?;
            context.filter = Some(filter.clone());
            Ok(())
        }
        Step::Apart => {
            set_apart(context.first.as_ref().map_or(0, |(pid, _)| *pid));
            Ok(())
        }
        Step::Agent(path) => {
            context.agent = Some(notify::connect(path).map_err(worded)?);
            Ok(())
        }
        Step::Notify(notify) => send_listener(notify, context).map_err(worded),
        Step::Hooks(kind, list) => run_hooks(*kind, list, context),
        Step::PidFile(path) => write_pid_file(path, context).map_err(worded),
        Step::PidfdSocket(path) => {
            context.pidfd_socket = Some(pidfd::connect(path).map_err(worded)?);
            Ok(())
        }
        Step::SendPidfd(whose) => pidfd::send(*whose, context).map_err(worded),
        Step::OpenPidFile(path) => {
            context.pid_file = Some(create_file(path).map_err(worded)?);
            Ok(())
        }
        other => Err(Error::new(format!("{other}: a step of the child in the parent's hands"))),
    }
}

fn wire(context: &Context) -> crate::sys::Result<&OwnedFd> {
    context.wire.as_ref().ok_or_else(|| Failure::refused("sendmsg()", Errno::ENOTCONN, "there is no child"))
}

/// A child that is gone has left its reason on the wire, or died: the wait that follows says it.
fn tell(context: &Context, gate: Gate) -> crate::sys::Result<()> {
    let program =
        context.filter.as_ref().filter(|_| gate == Gate::Go).map(|filter| filter.program().unwrap_or_default());
    let told = match (program, &context.namespaces.network) {
        (Some(program), _) => gate::go_with(wire(context)?, program),
        (None, Some(network)) if gate == Gate::Network => gate::network(wire(context)?, network),
        (None, _) => gate::tell(wire(context)?, gate),
    };
    match told {
        // Reset: it ended without having read all that it was told.
        Err(failure) if matches!(failure.errno, Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        other => other,
    }
}

/// Waits for the child's word.
fn wait_for(gate: Gate, context: &mut Context) -> Result<()> {
    match gate::hear(wire(context)?)? {
        Heard::Gate(heard) if heard == gate => Ok(()),
        Heard::Listener(listener) if gate == Gate::Filtered => {
            context.notifications = Some(listener);
            Ok(())
        }
        other @ (Heard::Gate(_) | Heard::Listener(_) | Heard::Network(_) | Heard::GoWith(_)) => {
            Err(Error::new(format!("heard {other:?} while waiting for {gate:?}")))
        }
        // It is the child's step that failed, not this wait.
        Heard::Failed(report) => Err(Error { errno: None, ..report.into_error() }),
        Heard::End => Err(death(context)),
    }
}

/// After [`Gate::Executing`], to the program or its failure, after which all is undone. Prints the trace.
pub fn wait_for_program(plan: &Plan, context: &mut Context) -> Result<()> {
    let done = wait_for_end(context);
    super::finish_trace(plan, context, if done.is_ok() { Outcome::Executed } else { Outcome::Failed });
    match (&done, &context.entry) {
        (Ok(()), Some(entry)) => entry.release(),
        (Ok(()), None) => {}
        (Err(_), _) => undo(context),
    }
    done
}

/// End of file is success, a failure of execve is a message.
fn wait_for_end(context: &mut Context) -> Result<()> {
    match gate::hear(wire(context)?)? {
        Heard::End => Ok(()),
        Heard::Failed(report) => Err(report.into_error()),
        other @ (Heard::Gate(_) | Heard::Listener(_) | Heard::Network(_) | Heard::GoWith(_)) => {
            Err(Error::new(format!("heard {other:?} while waiting for the program")))
        }
    }
}

/// The first process ended without a word.
fn death(context: &mut Context) -> Error {
    let end = match context.first.take() {
        Some((_, pidfd)) => process::wait(&pidfd),
        None => Err(Errno::ECHILD),
    };
    match end {
        Ok(End::Killed(libc::SIGKILL)) if context.state.cgroup.oom_kills() > 0 => {
            let limit = context.state.cgroup.memory_limit().map(|limit| format!(" ({limit})")).unwrap_or_default();
            Error::new(format!("the first process was killed by its own memory limit{limit}"))
                .hint("linux.resources.memory.limit is too small for the program to start")
        }
        Ok(end) => Error::new(format!("the first process was {end} before it became the program")),
        Err(_) => Error::new("the first process is gone"),
    }
}

fn record(what: Record, context: &mut Context) -> Result<()> {
    let Some(store) = &context.store else { return Ok(()) };
    match what {
        Record::Intent => {
            let (entry, held) = store.make(&context.state, &context.held.spent)?;
            (context.entry, context.lock) = (Some(entry), Some(held));
            Ok(())
        }
        Record::Configuration => match &context.entry {
            Some(entry) => {
                let (text, spent) = (&context.configuration, &context.held.spent);
                entry.keep(CONFIGURATION, text, spent)?;
                match context.filter.as_ref().and_then(|filter| filter.program().ok()) {
                    Some(program) => entry.keep(JOINING, &joining::encode(text, context.state.exact, program), spent),
                    None => Ok(()),
                }
            }
            None => Err(Error::new("there is no container to keep it for")),
        },
        Record::Init | Record::Ready => {
            let (Some(entry), Some((pid, pidfd))) = (&context.entry, &context.first) else {
                return Err(Error::new("there is no process to record"));
            };
            if context.state.init.is_none() {
                context.state.init = context.state.creator.other(*pid, pidfd);
            }
            context.state.ready |= what == Record::Ready;
            let _lock = entry.lock()?;
            if !entry.is_linked() {
                return Err(Error::new("the container was deleted while it was being made"));
            }
            entry.save(&context.state)
        }
    }
}

fn hold(what: Hold, context: &mut Context) -> crate::sys::Result<()> {
    let Some(entry) = &context.entry else { return Ok(()) };
    match what {
        Hold::Lock => {
            // The lock belongs to the open file, which init shares: closing our descriptor does not let go of it.
            let locked = context.lock.as_ref().map_or(Ok(()), File::lock);
            locked.called(|| "flock(\"held\", LOCK_EX)".into())?;
        }
        Hold::Gate => context.listener = Some(socket::listen_at(entry.dir(), GATE)?),
    }
    Ok(())
}

fn console(socket_path: Option<&Path>, context: &mut Context) -> crate::sys::Result<()> {
    match socket_path {
        Some(path) => context.held.console = Some(crate::setup::terminal::connect(path)?),
        None => {
            let (ours, theirs) = socket::pair()?;
            (context.console_end, context.held.console) = (Some(ours), Some(theirs));
        }
    }
    Ok(())
}

/// One clone: returns on both sides. The child's context has a wire and no first process.
fn clone(how: &Clone, context: &mut Context) -> crate::sys::Result<()> {
    prepare(context)?;
    let side = if how.intermediate {
        through_intermediate(how, context)?
    } else {
        clone3(how.flags, context.cgroup.as_ref().map(AsFd::as_fd), Parent::Caller)?
    };
    match side {
        Side::Parent { pid, pidfd } => is_parent(context, pid, pidfd),
        Side::Child => is_child(context),
    }
    Ok(())
}

/// As [`clone`], for a child that is lent this memory: it walks its lines before this returns, in the parent alone.
fn lend(plan: &Plan, index: usize, context: &mut Context) -> crate::sys::Result<()> {
    prepare(context)?;
    let cgroup = context.cgroup.as_ref().map(AsFd::as_fd);
    let (pid, pidfd) = lend::clone3(cgroup, context, &(plan, index + 1), |mut context, at| {
        is_child(&mut context);
        super::child::walk(at.0, at.1, &mut context)
    })?;
    is_parent(context, pid, pidfd);
    Ok(())
}

/// What both sides will need. The child inherits what is open, and nothing that is spent is for it.
fn prepare(context: &mut Context) -> crate::sys::Result<()> {
    let (ours, theirs) = socket::pair()?;
    (context.wire, context.far) = (Some(ours), Some(theirs));
    context.held.spent.close();
    Ok(())
}

/// Who comes out of the clone with a child. What is init's alone is closed: a copy of ours would outlive it.
fn is_parent(context: &mut Context, pid: i32, pidfd: OwnedFd) {
    context.cloned = true;
    context.first = Some((pid, pidfd));
    let held = &mut context.held;
    let single = [context.listener.take(), held.console.take(), context.far.take()];
    let lock = context.lock.take().map(OwnedFd::from);
    let trees = held.trees.drain(..).map(|(_, tree)| tree);
    held.spent.close_with(single.into_iter().flatten().chain(lock).chain(context.tasks.drain(..)).chain(trees));
}

/// Who comes out of it as the child.
fn is_child(context: &mut Context) {
    let ours = std::mem::replace(&mut context.wire, context.far.take());
    // The agent's: whoever of the container gets hold of it could tell the agent anything; and it hears the end when all copies are closed.
    let agent = context.agent.take();
    let trace = context.trace.as_mut().and_then(Trace::take_file);
    let told = context.pidfd_socket.take();
    let parents = [context.console_end.take(), context.cgroup.take(), agent, told, trace, ours];
    let pid_file = context.pid_file.take().map(OwnedFd::from);
    context.held.spent.close_with(parents.into_iter().flatten().chain(pid_file));
    super::wait::restore_signals();
}

/// A joined user namespace with a new pid namespace: who enters the one cannot come back, and who stays outside cannot make the
/// other inside. So a short-lived process enters, clones a sibling of its own, hands over its pidfd, and ends.
fn through_intermediate(how: &Clone, context: &mut Context) -> crate::sys::Result<Side> {
    let (ours, theirs) = socket::pair()?;
    // v2: born in the cgroup by the rights of the host's root, and its child with it: inside the user namespace there are none.
    match clone3(0, context.cgroup.as_ref().map(AsFd::as_fd), Parent::Caller)? {
        Side::Parent { pidfd, .. } => {
            drop(theirs);
            let message = socket::receive(&ours)?;
            let _ = process::wait(&pidfd);
            let words = message.as_ref().map(|m| String::from_utf8_lossy(&m.bytes).into_owned()).unwrap_or_default();
            match message.and_then(|m| m.fd) {
                Some(pidfd) => Ok(Side::Parent { pid: words.parse().unwrap_or(0), pidfd }),
                None => Err(Failure::refused("clone3(CLONE_PARENT)", Errno::ECANCELED, words)),
            }
        }
        Side::Child => {
            drop(ours);
            let made = context.namespaces.enter_all().and_then(|()| {
                crate::setup::idmap::Action::BecomeRoot.apply(0)?;
                clone3(how.flags, None, Parent::CallersParent)
            });
            match made {
                Ok(Side::Child) => Ok(Side::Child),
                Ok(Side::Parent { pid, pidfd }) => {
                    use std::os::fd::AsRawFd;
                    let _ = socket::send(&theirs, pid.to_string().as_bytes(), Some(pidfd.as_raw_fd()));
                    exit_now(0)
                }
                Err(failure) => {
                    let _ = socket::send(&theirs, failure.to_string().as_bytes(), None);
                    exit_now(1)
                }
            }
        }
    }
}

/// A new process waits for the processor of its parent, if nobody moves it: on some machines the scheduler does so at once, on others (6.18, two
/// processors of a virtual machine) when the parent first sleeps, which is a millisecond too late. With one processor there is no other: then
/// nothing is changed (`EINVAL`).
fn set_apart(child: i32) {
    let Ok(here) = sched_getcpu() else { return };
    let mut others = CpuSet::new();
    let set = (0..CpuSet::count()).filter(|cpu| *cpu != here).try_for_each(|cpu| others.set(cpu));
    let _ = set.and_then(|()| sched_setaffinity(Pid::from_raw(child), &others));
}

#[inline(never)]
fn run_hooks(kind: hooks::Kind, list: &[crate::input::config::Hook], context: &mut Context) -> Result<()> {
    context.hooked = true;
    let pid = context.first.as_ref().map(|(pid, _)| *pid);
    let document = state::document(&context.state, Status::of_hook(kind), pid);
    for (index, hook) in list.iter().enumerate() {
        hooks::run(kind, index, hook, &document)?;
    }
    Ok(())
}

/// The listener goes to the agent, and with the connection closed no copy of it stays here: the calls of a container whose agent has left must
/// not wait for us.
#[inline(never)]
fn send_listener(notify: &Notify, context: &mut Context) -> crate::sys::Result<()> {
    let (Some(agent), Some(listener)) = (context.agent.take(), context.notifications.take()) else {
        return Err(Failure::refused("sendmsg(agent)", Errno::ENOTCONN, "there is no agent, or nothing to send to it"));
    };
    let pid = context.first.as_ref().map_or(0, |(pid, _)| *pid);
    let state = state::process_document(&context.state, context.status, pid, &notify.metadata);
    notify::send(agent, &notify.agent, &state, listener)
}

fn create_file(path: &Path) -> crate::sys::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(libc::O_CLOEXEC)
        .open(path)
        .called(|| format!("openat({path:?})"))
}

/// Whole or not at all: a reader that polls for the file finds a number in it.
fn write_pid_file(path: &Path, context: &mut Context) -> crate::sys::Result<()> {
    let pid = context.first.as_ref().map_or(0, |(pid, _)| *pid).to_string();
    if let Some(mut file) = context.pid_file.take() {
        return file.write_all(pid.as_bytes()).called(|| format!("write({path:?})"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = create_file(&aside).and_then(|mut file| {
        file.write_all(pid.as_bytes()).called(|| format!("write({path:?})"))?;
        std::fs::rename(&aside, path).called(|| format!("rename({path:?})"))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    written
}

/// Undoes what the plan made so far, in reverse. What cannot be undone is named in the log; `delete --force` tries again.
pub fn undo(context: &mut Context) {
    context.wire = None;
    if let Some((_, pidfd)) = context.first.take() {
        let _ = process::pidfd_send_signal(&pidfd, libc::SIGKILL);
        let _ = process::wait(&pidfd);
    }
    let (Some(store), Some(entry)) = (&context.store, &context.entry) else { return };
    if context.cloned {
        let cgroup = &context.state.cgroup;
        if let Err(failure) = cgroup.end() {
            log::warn!("{failure}");
            return;
        }
    } else {
        // A cgroup that was refused because somebody is in it is left as it was found.
        for directory in context.cgroup_made.iter().rev() {
            let _ = std::fs::remove_dir(directory);
        }
    }
    match entry.lock().and_then(|_lock| store.remove(entry, Some(&context.state))) {
        Ok(true) if context.hooked => {
            let config = crate::input::bundle::parse(&context.configuration).ok();
            let poststop = config.map(|(config, _)| config.hooks.poststop).unwrap_or_default();
            let document = state::document(&context.state, Status::Stopped, None);
            hooks::run_all_warning(hooks::Kind::Poststop, &poststop, &document);
        }
        Ok(_) => {}
        Err(error) => log::warn!("{error}"),
    }
}
