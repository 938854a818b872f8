//! The last part of every plan, which `exec` has too: from root in the container to the program.

use super::step::{Gate, Record, Side, Step, Whose};
use super::{Plan, Start};
use crate::input::config::{Config, Process};
use crate::setup::{caps, hooks, label, limits, program, seccomp, user};
use std::path::PathBuf;

/// Which program's start it is.
pub(super) enum Tail {
    /// The container's first process.
    Container { start: Start, told: Told },
    /// Another one. Its parent stands still until it runs, if it lends its memory.
    Exec { told: Told, lends: bool },
}

/// How the caller is told which process it is.
pub(super) struct Told {
    /// `--pid-file`
    pid_file: Option<PathBuf>,
    /// `--pidfd-socket` is given, and connected to by now.
    pidfd: bool,
}

impl Told {
    pub(super) fn of(pid_file: &Option<PathBuf>, pidfd_socket: &Option<PathBuf>) -> Told {
        Told { pid_file: pid_file.clone(), pidfd: pidfd_socket.is_some() }
    }
}

/// The last part, which `exec` has too: from root in the container to the program.
pub(super) fn become_program(
    plan: &mut Plan,
    process: &Process,
    config: &Config,
    program: program::Decision,
    filter: Option<seccomp::Filter>,
    before: user::Before,
    tail: &Tail,
) {
    let wait = matches!(tail, Tail::Container { start: Start::WhenTold, .. });
    // Without no_new_privs the filter takes CAP_SYS_ADMIN: then it comes before the rights end, and so do they after the start.
    let privileged = !process.no_new_privileges && filter.is_some();
    // Who asks an agent is connected to it by `create`, and filtered before `create` ends.
    let before_start = wait && filter.as_ref().is_some_and(|filter| filter.notify.is_some());
    for action in limits::decide(process, config.linux.personality) {
        plan.child(Step::Limit(action), "process", "while it still has the rights to");
    }
    plan.child(Step::Program(program.enter.clone()), "process.cwd", "root may enter what the user may not");
    let (early, rest) = identity(process, before);
    for step in early {
        plan.child(step, "process.user", "while the container's passwd can be read, and stdio handed over");
    }
    let labels = |plan: &mut Plan| {
        for action in label::decide(process) {
            plan.child(
                Step::Label(action),
                "process",
                "after everything that a label might forbid; before the filter, which might forbid to set it, and while there is the right to",
            );
        }
    };
    let lose_rights = |plan: &mut Plan| {
        for step in &rest {
            plan.child(
                step.clone(),
                "process",
                "the rights end here; each call comes before the one that takes its own right away",
            );
        }
        plan.child(
            Step::Program(program.confirm.clone()),
            "process.cwd",
            "a directory that only the user may enter, and one that lies outside",
        );
    };
    let filtered = |plan: &mut Plan, why| install(plan, filter.as_ref(), tail, why);
    const PRIVILEGED: &str = "without noNewPrivileges it takes CAP_SYS_ADMIN, so before the rights end";
    if !privileged {
        labels(plan);
        lose_rights(plan);
    }
    plan.child(Step::Program(program.find), "process.args", "what is missing is told by create, not by start");
    plan.child(Step::Program(program.close), "--preserve-fds", "nothing of the host's stays open in the program");
    if privileged && before_start {
        labels(plan);
        prepare(plan, filter.as_ref());
        filtered(plan, PRIVILEGED);
        lose_rights(plan);
    } else if before_start {
        prepare(plan, filter.as_ref());
        filtered(plan, "before create ends, which hands the listener to the agent; the agent answers for what follows");
    }
    let (told, whose) = match tail {
        Tail::Container { told, .. } => (told, Whose::First),
        Tail::Exec { told, .. } => (told, Whose::Joined),
    };
    if wait {
        plan.gate(Gate::Ready, Side::Child, "a failure up to here is create's");
    }
    if told.pidfd {
        plan.parent(Step::SendPidfd(whose), "--pidfd-socket", "before the container counts as made");
    }
    if let Some(path) = &told.pid_file {
        plan.parent(Step::PidFile(path.clone()), "--pid-file", "before the container counts as made");
    }
    if let Tail::Container { .. } = tail {
        // A foreground run records its process while the child is at work; create when the child has nothing left to do.
        plan.parent(
            Step::Record(if wait { Record::Ready } else { Record::Init }),
            "",
            "only a recorded container may live on",
        );
    }
    if !matches!(tail, Tail::Exec { lends: true, .. }) {
        plan.gate(Gate::Go, Side::Parent, "a child that never hears it ends: nobody would know of it");
    }
    if plan.lines.iter().any(|line| line.step == Step::Apart) {
        plan.child(
            Step::Affinity(None),
            "",
            "where the parent put it is over, and what the caller was bound to is not the container's",
        );
    }
    if wait {
        plan.child(Step::AwaitStart, "", "the container is created; start connects to its gate");
    }
    if let Tail::Container { .. } = tail {
        plan.hooks(
            Side::Child,
            hooks::Kind::StartContainer,
            &config.hooks.start_container,
            "in the container, right before the program",
        );
    }
    if privileged && !before_start {
        labels(plan);
        prepare(plan, filter.as_ref());
        filtered(plan, PRIVILEGED);
        lose_rights(plan);
    }
    if !privileged && !before_start {
        prepare(plan, filter.as_ref());
    }
    plan.child(Step::Tell(Gate::Executing), "", "end of file alone would be a death");
    if !wait {
        plan.parent(Step::Await(Gate::Executing), "", "end of file alone would be a death");
    }
    if !privileged && !before_start {
        filtered(plan, "after everything that the filter might refuse");
    }
    plan.child(Step::Program(program.execute), "process.args", "the program takes over");
}

/// A filter that is not worked out yet is the parent's work while the child has its own.
pub(super) fn compile_meanwhile(plan: &mut Plan, filter: Option<&seccomp::Filter>) {
    if let Some(filter) = filter.filter(|filter| filter.is_due()) {
        plan.parent(Step::Compile(filter.clone()), "linux.seccomp", "while the child is busy, which gets it with go");
    }
}

/// What a filter that asks an agent needs before it is installed.
fn prepare(plan: &mut Plan, filter: Option<&seccomp::Filter>) {
    let Some(notify) = filter.and_then(|filter| filter.notify.as_ref()) else { return };
    if notify.courier == seccomp::notify::Courier::Thread {
        plan.child(
            Step::Messenger,
            "linux.seccomp",
            "the profile may hold up every call of who is filtered, and no other thread's",
        );
    }
}

/// The filter, and with one that asks an agent the way of its listener: to the parent, to the agent.
fn install(plan: &mut Plan, filter: Option<&seccomp::Filter>, tail: &Tail, why: &'static str) {
    let Some(filter) = filter else { return };
    plan.child(Step::Seccomp(filter.clone()), "linux.seccomp", why);
    let Some(notify) = &filter.notify else { return };
    plan.gate(Gate::Filtered, Side::Child, "until the agent has it, a call of the child may wait forever");
    // A process that joins has left the host's paths: it connected before.
    if let Tail::Container { .. } = tail {
        plan.parent(
            Step::Agent(notify.agent.clone()),
            "linux.seccomp.listenerPath",
            "only now: an agent that serves one after the other must not wait for hooks",
        );
    }
    plan.parent(
        Step::Notify(notify.clone()),
        "linux.seccomp.listenerPath",
        "before anything else of the child is awaited: the agent answers for it",
    );
    plan.gate(Gate::Answered, Side::Parent, "no program runs whose agent could not be told");
}

/// What comes before the rights end, and how they end.
fn identity(process: &Process, before: user::Before) -> (Vec<Step>, Vec<Step>) {
    let (early, change): (Vec<_>, Vec<_>) = user::decide(process, before)
        .into_iter()
        .partition(|action| matches!(action, user::Action::Home(_) | user::Action::Stdio(_)));
    let rights = caps::decide(process);
    let rest = rights.before.into_iter().map(Step::Caps).chain(change.into_iter().map(Step::User));
    let rest =
        rest.chain(rights.after.into_iter().map(Step::Caps)).chain(caps::no_new_privileges(process).map(Step::Caps));
    (early.into_iter().map(Step::User).collect(), rest.collect())
}
