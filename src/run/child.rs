//! The child's side: from the clone to the program, without a way back.
//!
//! It is a plain fork of a single-threaded process. It never logs and never returns: a failure is reported to the parent
//! (or, after the start gate, to who starts it), and the process ends.

use super::Context;
use super::gate::{self, Heard};
use crate::plan::Plan;
use crate::plan::step::{Gate, Side, Step};
use crate::setup::hooks;
use crate::setup::seccomp::notify;
use crate::sys::listener::Letters;
use crate::sys::process::exit_now;
use crate::sys::{Called, Failure, Result, socket};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, setsid, write};
use std::os::fd::AsFd;

/// Walks the child's lines from `from` on.
pub fn walk(plan: &Plan, from: usize, context: &mut Context) -> ! {
    for (index, line) in plan.lines.iter().enumerate().skip(from) {
        if line.side != Side::Child {
            continue;
        }
        if let Some(trace) = &context.trace {
            trace.begin(index);
        }
        let done = step(&line.step, context);
        if let Some(trace) = &context.trace {
            trace.end(index, done.as_ref().err().map(|failure| Some(failure.errno)));
        }
        if let Err(failure) = done {
            if let Some(to) = context.starter.as_ref().or(context.wire.as_ref()) {
                gate::report(to, &gate::Report::new(plan, index, &failure));
            }
            exit_now(1);
        }
    }
    // Every plan ends with an execve, which does not return either.
    exit_now(1)
}

fn step(step: &Step, context: &mut Context) -> Result<()> {
    let held = &mut context.held;
    match step {
        Step::Tell(Gate::Filtered) => hand_over(context),
        Step::Await(Gate::Answered) => {
            let messenger = context.held.messenger.take();
            notify::wait(messenger, wire(context)?.as_fd(), letters());
            Ok(())
        }
        // Once the gate is open the container runs, whether its starter lives to hear of it or not.
        Step::Tell(gate) if context.starter.is_some() => {
            let _ = gate::tell(wire(context)?, *gate);
            Ok(())
        }
        Step::Tell(gate) => gate::tell(wire(context)?, *gate),
        Step::Await(gate) => wait_for(*gate, context),
        Step::Attach(_) => attach(context),
        Step::Affinity(processors) => set_affinity(processors.as_deref()).called(|| step.to_string()),
        Step::Namespace(action) => action.apply(&mut context.namespaces),
        Step::IdMap(action) => action.apply(0),
        Step::Session => {
            // What is made from here on (mount points, nodes) must not depend on the caller's mask.
            umask(Mode::from_bits_retain(0o022));
            setsid().map(drop).called(|| step.to_string())
        }
        Step::OpenProc => {
            held.proc = Some(crate::sys::path::host_proc()?);
            Ok(())
        }
        Step::MountProc => {
            held.proc = Some(crate::sys::mount::Context::open("proc").and_then(|proc| {
                proc.create()?;
                proc.mount(0)
            })?);
            Ok(())
        }
        Step::OpenRoot => {
            held.root = Some(crate::sys::path::open_directory(std::path::Path::new("/"))?);
            Ok(())
        }
        Step::Rootfs(action) => action.apply(held),
        Step::Overlay(action) => action.apply(held),
        Step::Mount(action) => action.apply(held),
        Step::Device(action) => action.apply(held),
        Step::Mask(action) => action.apply(held),
        Step::Label(action) => action.apply(held),
        Step::Terminal(action) => action.apply(held),
        Step::Name(action) => action.apply(held),
        Step::Sysctl(action) => action.apply(held),
        Step::Limit(action) => action.apply(held),
        Step::User(action) => action.apply(held),
        Step::Caps(action) => action.apply(held),
        Step::Program(action) => action.apply(held),
        Step::Undumpable => nix::sys::prctl::set_dumpable(false).called(|| step.to_string()),
        Step::Messenger => {
            let thread = notify::prepare(wire(context)?.as_fd(), letters())?;
            context.held.messenger = Some(thread);
            Ok(())
        }
        Step::Seccomp(filter) => {
            held.listener = crate::setup::seccomp::apply(filter, held.filter.as_deref())?;
            Ok(())
        }
        Step::Hooks(kind, list) => run_hooks(*kind, list, context),
        Step::AwaitStart => await_start(context),
        other => Err(Failure::refused(other.to_string(), Errno::ENOSYS, "a step of the parent in the child's hands")),
    }
}

fn wire(context: &Context) -> Result<&std::os::fd::OwnedFd> {
    context
        .starter
        .as_ref()
        .or(context.wire.as_ref())
        .ok_or_else(|| Failure::refused("sendmsg()", Errno::ENOTCONN, "nobody listens"))
}

/// What is said about the listener.
fn letters() -> Letters {
    Letters { listener: Gate::Filtered.letter(), answer: Gate::Answered.letter() }
}

/// Right after the filter: from there until the answer no memory is asked for, and nothing is called that the profile does not grant.
fn hand_over(context: &mut Context) -> Result<()> {
    let listener = context.held.listener.take().ok_or_else(|| {
        Failure::refused("sendmsg(filtered)", Errno::EBADF, "the filter has no listener to hand over")
    })?;
    notify::hand_over(context.held.messenger.as_ref(), wire(context)?.as_fd(), letters(), listener);
    Ok(())
}

/// A parent that died closes its end: then there is no container either.
fn wait_for(gate: Gate, context: &mut Context) -> Result<()> {
    match gate::hear(wire(context)?)? {
        Heard::Gate(heard) if heard == gate => {}
        Heard::Network(namespace) if gate == Gate::Network => context.namespaces.take_network(namespace),
        Heard::GoWith(program) if gate == Gate::Go => context.held.filter = Some(program),
        _ => exit_now(1),
    }
    Ok(())
}

/// cgroup v1: a single-threaded process that writes "0" to `tasks` moves itself in 45 µs; its pid written to
/// `cgroup.procs` waits 11 ms for a grace period of the kernel.
fn attach(context: &mut Context) -> Result<()> {
    for tasks in context.tasks.drain(..) {
        write(&tasks, b"0").called(|| format!("write({}, \"0\")", crate::sys::describe(&tasks)))?;
        context.held.spent.take(tasks);
    }
    context.held.spent.close();
    Ok(())
}

/// What the caller was bound to is not the container's. The kernel takes away what the cgroup does not have.
fn set_affinity(processors: Option<&[u32]>) -> nix::Result<()> {
    let mut set = CpuSet::new();
    match processors {
        Some(list) => list.iter().try_for_each(|cpu| set.set(*cpu as usize))?,
        None => (0..CpuSet::count()).try_for_each(|cpu| set.set(cpu))?,
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

fn await_start(context: &mut Context) -> Result<()> {
    let Some(listener) = context.listener.take() else {
        return Err(Failure::refused("accept4()", Errno::EBADF, "the start gate is not open"));
    };
    // The parent's end: from here on there is only the starter. The wait may be long: what is not needed any more is not left open.
    context.held.spent.close_with(context.wire.take());
    loop {
        let starter = socket::accept(&listener)?;
        // A starter that was killed before it could hear this has started nothing: the next one may. Dropping the listener then
        // resets the connections of those who came second.
        if gate::tell(&starter, Gate::Go).is_ok() {
            context.starter = Some(starter);
            return Ok(());
        }
    }
}

#[inline(never)]
fn run_hooks(kind: hooks::Kind, list: &[crate::input::config::Hook], context: &Context) -> Result<()> {
    // A hook may take its time and look at this process.
    context.held.spent.close();
    // The pid as the host sees it: the kept procfs is the host's.
    let own = context.held.proc.as_ref().and_then(|proc| nix::fcntl::readlinkat(proc.as_fd(), "self").ok());
    let pid = own.and_then(|name| name.to_str()?.parse().ok());
    let document = crate::state::document(&context.state, crate::state::status::Status::of_hook(kind), pid);
    for (index, hook) in list.iter().enumerate() {
        hooks::run(kind, index, hook, &document).map_err(|error| {
            Failure::refused(format!("execve({:?})", hook.path), Errno::ECANCELED, error.to_string())
        })?;
    }
    Ok(())
}
