//! `exec`: another process in a container that exists. It joins where [`super::container`] creates, and shares its end.

use super::tail::{Tail, Told, become_program, compile_meanwhile};
use super::{Console, Plan, keep};
use crate::input::Fault;
use crate::input::config::{Config, NamespaceKind, Process};
use crate::plan::step::{Clone, Step};
use crate::setup::cgroup::{Cgroup, Directory, Version};
use crate::setup::{caps, idmap, label, namespaces, program, seccomp, terminal, user};
use crate::sys::seccomp::Instruction;
use std::path::PathBuf;

/// What is asked beside the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// Who asks.
    pub before: user::Before,
    /// The session keyring.
    pub keyring: label::Keyring,
    /// `--cgroup`: where below the container's cgroup.
    pub below: Vec<Below>,
    /// Pid of the container's first process.
    pub init: i32,
    /// Who gets the terminal, if there is one.
    pub console: Console,
    /// Where the pid goes.
    pub pid_file: Option<PathBuf>,
    /// Who gets a pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// What the caller hands on: `--preserve-fds`.
    pub inherited: program::Inherited,
    /// The container is paused: who joins it does nothing until it goes on.
    pub paused: bool,
    /// The container's filter, as it was compiled when that was made.
    pub filter: Option<Vec<Instruction>>,
}

/// One `--cgroup [CONTROLLER[,CONTROLLER]:]PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// v1: for the hierarchies of these controllers; empty: for all.
    pub controllers: Vec<String>,
    /// Relative, clean.
    pub path: PathBuf,
}

/// The directories to join, one per hierarchy.
fn directories(cgroup: &Cgroup, below: &[Below]) -> Vec<PathBuf> {
    let join = |directory: &Directory| {
        let named = |b: &&Below| b.controllers.iter().any(|name| directory.controllers.contains(name));
        let wanted = below.iter().find(named).or_else(|| below.iter().find(|b| b.controllers.is_empty()));
        wanted.map_or_else(|| directory.path.clone(), |b| directory.path.join(&b.path))
    };
    cgroup.directories.iter().map(join).collect()
}

/// May the child have its parent's memory ([`sys::lend`](crate::sys::lend))? Not where the parent has anything to do before the program runs; where the cgroup may be frozen, because then
/// the parent would be, too; and where a process of the container may trace it, for then that could write to the parent's memory.
fn may_lend(process: &Process, config: &Config, filter: Option<&seccomp::Filter>, request: &Request) -> bool {
    let told = request.pid_file.is_some() || request.pidfd_socket.is_some();
    let compiles = filter.is_some_and(|filter| filter.is_due() || filter.notify.is_some());
    let traces = |process: &Process| {
        let all = process
            .capabilities
            .as_ref()
            .map_or(0, |sets| sets.bounding | sets.effective | sets.permitted | sets.inheritable | sets.ambient);
        all & 1 << caps::SYS_PTRACE != 0
    };
    // Who else is in a pid namespace that was joined, and what they may, is not known.
    let joined = config.linux.namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_some());
    let traced = joined || traces(process) || config.process.as_ref().is_some_and(traces);
    !told && !compiles && !traced && !request.paused
}

/// How a process is put into a container. `config` is the container's.
pub fn process(process: &Process, config: &Config, cgroup: &Cgroup, request: &Request) -> Result<Plan, Vec<Fault>> {
    let mut plan = Plan::default();
    let mut faults = Vec::new();
    let filter = config.linux.seccomp.as_ref().and_then(|profile| keep(seccomp::decide(profile), &mut faults));
    if let (Some(filter), Some(known)) = (&filter, &request.filter) {
        filter.give(known.clone());
    }
    faults.extend(filter.as_ref().and_then(seccomp::refuses_execve));
    let program = keep(program::decide(process, &request.inherited).map_err(|fault| vec![fault]), &mut faults);
    let (Some(program), true) = (program, faults.is_empty()) else { return Err(faults) };
    let users = config.linux.namespaces.iter().any(|n| n.kind == NamespaceKind::User);

    // ── Opened while the host's paths can be seen: after the join the parent is inside, too ──
    if let Some(path) = &request.pid_file {
        plan.parent(Step::OpenPidFile(path.clone()), "--pid-file", "a path of the host");
    }
    if let Some(path) = &request.pidfd_socket {
        plan.parent(Step::PidfdSocket(path.clone()), "--pidfd-socket", "a path of the host");
    }
    let directories = directories(cgroup, &request.below);
    let into = (cgroup.version == Version::V2).then(|| directories[0].clone());
    let tasks: Vec<PathBuf> = directories.iter().map(|directory| directory.join("tasks")).collect();
    match &into {
        Some(dir) => {
            plan.parent(Step::CloneCgroup(dir.clone()), "cgroup", "the process is born in the container's cgroup")
        }
        None => plan.parent(Step::OpenTasks(tasks.clone()), "cgroup", "a path of the host"),
    }
    if process.terminal {
        plan.parent(
            Step::Console(request.console.socket()),
            "process.terminal",
            "the child will send the terminal's master end through it",
        );
    }
    if let Some(notify) = filter.as_ref().and_then(|filter| filter.notify.as_ref()) {
        plan.parent(Step::Agent(notify.agent.clone()), "linux.seccomp.listenerPath", "a path of the host");
    }
    plan.parent(
        Step::Undumpable,
        "",
        "the child is born so: it has more rights than the container, whose processes see it from its first moment",
    );
    let flags = config.linux.namespaces.iter().map(|n| namespaces::flag(n.kind)).fold(0, |all, one| all | one);
    // systemd mounts cgroup2 with nsdelegate: who is in a cgroup namespace can make nobody's place outside it another one, nor take its own
    // into it. So the clone comes first; and the user namespace last, since a joined cgroup namespace may be the host's.
    let cgroup_namespace = namespaces::flag(NamespaceKind::Cgroup);
    let late = match &into {
        Some(_) if flags & cgroup_namespace != 0 => flags & (cgroup_namespace | namespaces::flag(NamespaceKind::User)),
        _ => 0,
    };
    plan.parent(
        Step::Namespace(namespaces::Action::JoinProcess(request.init, flags & !late)),
        "linux.namespaces",
        "by a pidfd: the number cannot change hands; what is born next has nothing of the host's to show",
    );
    let lends = may_lend(process, config, filter.as_ref(), request);
    plan.parent(
        Step::Clone(Clone { flags: 0, into: into.clone(), intermediate: false, lends }),
        "",
        "a process keeps its pid namespace for life: only a child is inside",
    );
    compile_meanwhile(&mut plan, filter.as_ref());

    if late != 0 {
        plan.child(
            Step::Namespace(namespaces::Action::JoinLate(late)),
            "linux.namespaces cgroup",
            "with nsdelegate nobody is born into a cgroup from within a cgroup namespace",
        );
    }
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    if let (Some(list), None) = (affinity.initial, &into) {
        plan.child(
            Step::Affinity(Some(list)),
            "process.execCPUAffinity.initial",
            "for as long as it is outside the container's cgroup",
        );
    }
    if into.is_none() {
        plan.child(Step::Attach(tasks.len()), "cgroup", "a process that moves itself does not wait for a grace period");
    }
    plan.child(
        Step::Affinity(affinity.r#final),
        "process.execCPUAffinity.final",
        "what the caller was bound to is not the container's",
    );
    if users {
        plan.child(
            Step::IdMap(idmap::Action::BecomeRoot),
            "linux.namespaces user",
            "the caller's own ids mean nothing inside",
        );
    }
    plan.child(Step::Session, "", "of its own: not the caller's file mask, terminal or signals");
    if let Some(action) = label::keyring(process, &request.id, request.keyring) {
        plan.child(Step::Label(action), "", "the keys of the container, by the keyring's name");
    }
    let given = |label: &Option<String>| label.as_ref().is_some_and(|text| !text.is_empty());
    if process.terminal
        || process.oom_score_adj.is_some()
        || given(&process.apparmor_profile)
        || given(&process.selinux_label)
    {
        plan.child(
            Step::MountProc,
            "",
            "the container's own /proc is the container's to change, and the host's must not be in reach",
        );
    }
    if process.terminal {
        plan.child(Step::OpenRoot, "root", "the container's devpts is found from here");
        for action in terminal::decide_exec(process, request.console.watcher()) {
            plan.child(Step::Terminal(action), "process.terminal", "from the container's own devpts");
        }
    }
    let tail = Tail::Exec { told: Told::of(&request.pid_file, &request.pidfd_socket), lends };
    let before = if users { user::Before::Unknown } else { request.before };
    become_program(&mut plan, process, config, program, filter, before, &tail);
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::config::{Capabilities, Namespace};

    #[test]
    fn memory_is_lent_to_a_child_that_needs_no_word_and_that_nobody_traces() {
        let with = |bounding: u64| Process {
            capabilities: Some(Capabilities { bounding, ..Capabilities::default() }),
            ..Process::default()
        };
        let of = |process: Process| Config { process: Some(process), ..Config::default() };
        let (plain, tracer) = (with(caps::ALL & !(1 << caps::SYS_PTRACE)), with(1 << caps::SYS_PTRACE));
        let (config, request) = (of(plain.clone()), Request::default());
        assert!(may_lend(&plain, &config, None, &request));
        assert!(may_lend(&Process::default(), &Config::default(), None, &request));
        assert!(!may_lend(&tracer, &config, None, &request));
        assert!(!may_lend(&plain, &of(tracer), None, &request));
        // An ambient one outlives execve, whatever the bounding set says.
        let mut ambient = plain.clone();
        ambient.capabilities = Some(Capabilities { ambient: 1 << caps::SYS_PTRACE, ..Capabilities::default() });
        assert!(!may_lend(&plain, &of(ambient), None, &request));
        let mut joined = of(plain.clone());
        joined.linux.namespaces = vec![Namespace { kind: NamespaceKind::Pid, path: Some("/proc/7/ns/pid".into()) }];
        assert!(!may_lend(&plain, &joined, None, &request));
        for request in [
            Request { paused: true, ..Request::default() },
            Request { pid_file: Some("/run/pid".into()), ..Request::default() },
            Request { pidfd_socket: Some("/run/socket".into()), ..Request::default() },
        ] {
            assert!(!may_lend(&plain, &config, None, &request), "{request:?}");
        }
    }
}
