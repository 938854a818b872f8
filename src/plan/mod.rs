//! 2. What will happen: every step that makes a container, in order, with the reason for its place.
//!
//! Pure: a plan is a function of the configuration, the request and the facts of the host. It is executed (`run`),
//! printed (`explain`), and blamed (an error names its step). To learn how a container comes to be, read
//! [`container`] from top to bottom.

pub mod exec;
pub mod explain;
#[cfg(test)]
mod golden;
pub mod laws;
mod request;
pub mod step;
mod tail;

use crate::input::Fault;
use crate::input::config::{Config, Namespace, NamespaceKind};
use crate::input::host::{CgroupLayout, Host};
use crate::setup::cgroup::Cgroup;
use crate::setup::namespaces::{Birth, Return};
use crate::setup::rootfs::Way;
use crate::setup::{
    cgroup, dev, hooks, idmap, label, mask, mounts, names, namespaces, overlay, program, rootfs, seccomp, sysctl,
    terminal, user,
};
use crate::sys::path::{clean, lies_in};
pub use request::{Console, Request, Root, Start};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use step::{Clone, Gate, Hold, Line, Record, Side, Step};
use tail::{Tail, Told, become_program, compile_meanwhile};

/// An ordered list of steps, for both sides of the clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub lines: Vec<Line>,
}

/// As many steps as most containers have: a list that grew would leave as much memory behind as it has.
const USUAL: usize = 80;

impl Plan {
    fn push(&mut self, side: Side, step: Step, place: impl Into<Cow<'static, str>>, why: &'static str) {
        self.lines.push(Line { side, step, place: place.into(), why });
    }

    fn parent(&mut self, step: Step, place: impl Into<Cow<'static, str>>, why: &'static str) {
        self.push(Side::Parent, step, place, why);
    }

    fn child(&mut self, step: Step, place: impl Into<Cow<'static, str>>, why: &'static str) {
        self.push(Side::Child, step, place, why);
    }

    fn gate(&mut self, gate: Gate, from: Side, why: &'static str) {
        let to = if from == Side::Parent { Side::Child } else { Side::Parent };
        self.push(from, Step::Tell(gate), "", why);
        self.push(to, Step::Await(gate), "", why);
    }

    fn hooks(&mut self, side: Side, kind: hooks::Kind, list: &[crate::input::config::Hook], why: &'static str) {
        if !list.is_empty() {
            self.push(side, Step::Hooks(kind, list.to_vec()), format!("hooks.{kind}"), why);
        }
    }
}

/// How a container is made, and the cgroup that it will have.
///
/// Read it from top to bottom; the last words of each line say why it stands where it stands.
pub fn container(config: &Config, host: &Host, request: &Request) -> Result<(Plan, Cgroup), Vec<Fault>> {
    let mut plan = Plan { lines: Vec::with_capacity(USUAL) };
    let linux = &config.linux;
    let process =
        config.process.as_ref().ok_or_else(|| vec![Fault::new("process", "missing: there is nothing to run")])?;
    let unified = matches!(host.cgroups, CgroupLayout::Unified { .. });
    let has = |kind| linux.namespaces.iter().any(|n| n.kind == kind);
    let new = |kind| linux.namespaces.iter().any(|n| n.kind == kind && n.path.is_none());
    let users = new(NamespaceKind::User);
    let arrangement = namespaces::decide(
        &linux.namespaces,
        &linux.time_offsets,
        if unified { Birth::InCgroup } else { Birth::Elsewhere },
        if host.first_user_namespace { Return::Possible } else { Return::Doubtful },
    );

    // Everything that can be wrong is found before anything is done, and reported together.
    let mut faults = check(config);
    let image = keep(image_root(config, host, request), &mut faults).flatten();
    let (cgroup, changes) =
        keep(cgroup::decide(linux.cgroups_path.as_deref(), &request.id, &linux.resources, &host.cgroups), &mut faults)
            .unzip();
    let decided = decide_mounts(config, request, cgroup.as_ref());
    let mounted = keep(decided, &mut faults).unwrap_or_default();
    let means = if has(NamespaceKind::User) { dev::Means::Bind } else { dev::Means::Make };
    let nodes = keep(dev::decide(&linux.devices, &config.mounts, means), &mut faults).unwrap_or_default();
    let filter = linux.seccomp.as_ref().and_then(|profile| keep(seccomp::decide(profile), &mut faults));
    faults.extend(filter.as_ref().and_then(seccomp::refuses_execve));
    let program = keep(program::decide(process, &request.inherited).map_err(|fault| vec![fault]), &mut faults);
    let (Some(cgroup), Some(program), true) = (cgroup, program, faults.is_empty()) else { return Err(faults) };
    let changes = changes.unwrap_or_default();

    let into = unified.then(|| cgroup.directories[0].path.clone());

    // ── What the host must do, while nothing of the container exists ──
    plan.parent(Step::Record(Record::Intent), "", "written down before it exists: delete finds it after any crash");
    let (limits, for_the_program): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| !change.can_wait());
    for change in limits {
        let place = change.place().to_owned();
        plan.parent(Step::Cgroup(change), place, "limits stand before the first process exists");
    }
    if let Some(directory) = &into {
        plan.parent(
            Step::OpenCgroup(directory.clone()),
            "linux.cgroupsPath",
            "the first process is born in its cgroup: nothing to migrate",
        );
    } else {
        plan.parent(
            Step::OpenTasks(cgroup.tasks()),
            "linux.cgroupsPath",
            "a child in a user namespace may write them, but not open them",
        );
    }
    for (kind, path) in &arrangement.joined {
        let place = format!("linux.namespaces {}", namespaces::word(*kind));
        plan.parent(
            Step::Namespace(namespaces::Action::Open(*kind, path.clone())),
            place,
            "the host's paths can still be seen",
        );
    }
    if arrangement.joins(NamespaceKind::Pid) {
        plan.parent(
            Step::Namespace(namespaces::Action::JoinPidForChildren),
            "linux.namespaces pid",
            "a process keeps its pid namespace for life: only a child can be in another",
        );
    }
    if let Some(offsets) = &arrangement.time {
        plan.parent(
            Step::Namespace(namespaces::Action::NewTimeForChildren(offsets.clone())),
            "linux.timeOffsets",
            "offsets can be written until the first process enters",
        );
    }
    if process.terminal {
        plan.parent(
            Step::Console(request.console.socket()),
            "process.terminal",
            "the child will send the terminal's master end through it",
        );
    }
    if let Some(path) = &request.pidfd_socket {
        plan.parent(Step::PidfdSocket(path.clone()), "--pidfd-socket", "where nobody listens, nothing is made");
    }
    for action in mounts::early(&mounted) {
        plan.parent(Step::Mount(action), "", "with rights that the child will not have; it inherits the descriptor");
    }
    plan.parent(Step::Hold(Hold::Lock), "", "execve or death lets go of it: that tells created from running");
    if request.start == Start::WhenTold {
        plan.parent(Step::Hold(Hold::Gate), "", "it listens before init exists: no start can come too early");
    }

    // ── The clone ──
    if !users {
        plan.parent(
            Step::Undumpable,
            "",
            "the child is born so: who shares its pid namespace sees it from its first moment",
        );
    }
    let clone = Clone { flags: arrangement.clone, into, intermediate: arrangement.intermediate, lends: false };
    plan.parent(
        Step::Clone(clone),
        "linux.namespaces",
        "one call makes every namespace; a user namespace owns the others made with it",
    );
    if arrangement.joins(NamespaceKind::Pid) {
        plan.parent(
            Step::Namespace(namespaces::Action::Restore(NamespaceKind::Pid)),
            "linux.namespaces pid",
            "hooks belong to the host's",
        );
    }
    if arrangement.time.is_some() {
        plan.parent(
            Step::Namespace(namespaces::Action::Restore(NamespaceKind::Time)),
            "linux.namespaces time",
            "hooks and timers belong to the host's",
        );
    }
    // Not for a child that is filtered before it is let go: it takes its processors back then.
    let apart = !unified && filter.as_ref().is_none_or(|filter| filter.notify.is_none());
    if apart {
        plan.parent(
            Step::Apart,
            "",
            "both have work: where the scheduler leaves the child here, it would begin when the parent waits",
        );
    }
    if arrangement.network_meanwhile {
        network_meanwhile(&mut plan, config);
    }
    if users {
        plan.parent(
            Step::IdMap(idmap::Action::Write(idmap::Map::Users, linux.uid_mappings.clone())),
            "linux.uidMappings",
            "until then every id inside is nobody",
        );
        plan.parent(
            Step::IdMap(idmap::Action::Write(idmap::Map::Groups, linux.gid_mappings.clone())),
            "linux.gidMappings",
            "until then every id inside is nobody",
        );
    }

    // ── The child finds its place ──
    if !unified {
        plan.child(
            Step::Attach(cgroup.tasks().len()),
            "linux.cgroupsPath",
            "a process that moves itself does not wait for a grace period",
        );
    }
    if !apart {
        plan.child(Step::Affinity(None), "", "what the caller was bound to is not the container's");
    }
    if users {
        plan.gate(Gate::Mapped, Side::Parent, "only who is mapped can become root of the namespace");
        plan.child(
            Step::IdMap(idmap::Action::BecomeRoot),
            "linux.uidMappings",
            "root of the user namespace has the rights over the others",
        );
        plan.child(
            Step::Undumpable,
            "",
            "not before its id maps are written: they would not be its own; and after a change of ids, which may undo it",
        );
    }
    for change in for_the_program {
        let place = change.place().to_owned();
        plan.parent(
            Step::Cgroup(change),
            place,
            "until it goes on the child is ours: what binds the program can be made meanwhile",
        );
    }
    compile_meanwhile(&mut plan, filter.as_ref());
    plan.parent(
        Step::Record(Record::Configuration),
        "",
        "before there is a process on record that somebody may exec into",
    );
    if !arrangement.intermediate {
        for (kind, _) in arrangement.joined.iter().filter(|(kind, _)| *kind != NamespaceKind::Pid) {
            let place = format!("linux.namespaces {}", namespaces::word(*kind));
            plan.child(
                Step::Namespace(namespaces::Action::Join(*kind)),
                place,
                "the user namespace last: with it go the rights over the others",
            );
        }
        if arrangement.joins(NamespaceKind::User) {
            plan.child(
                Step::IdMap(idmap::Action::BecomeRoot),
                "linux.namespaces user",
                "root of the user namespace has the rights over the others",
            );
        }
        if arrangement.unshare != 0 {
            plan.child(
                Step::Namespace(namespaces::Action::Unshare(arrangement.unshare)),
                "linux.namespaces",
                "made inside the joined user namespace, so that it owns them",
            );
        }
    }
    if arrangement.cgroup_after_attach {
        plan.child(
            Step::Namespace(namespaces::Action::Unshare(namespaces::flag(NamespaceKind::Cgroup))),
            "linux.namespaces cgroup",
            "the cgroup that it has now becomes the root that it sees",
        );
    }
    plan.child(Step::Session, "", "of its own: not the caller's file mask, terminal or signals");
    if let Some(action) = label::keyring(process, &request.id, request.keyring) {
        plan.child(Step::Label(action), "", "the caller's session keys are not the container's");
    }
    if new(NamespaceKind::Network) && !arrangement.network_meanwhile {
        plan.child(
            Step::Namespace(namespaces::Action::LoopbackUp),
            "linux.namespaces network",
            "a new network namespace has only a lo that is down",
        );
    }
    plan.child(
        Step::OpenProc,
        "",
        "what is written to /proc later goes to the host's procfs, which the container cannot replace",
    );

    // ── The file system, while the host's can still be seen ──
    let way = if has(NamespaceKind::Mount) { request.way } else { Way::Chroot };
    let origin = if image.is_some() { rootfs::Origin::Mounted } else { rootfs::Origin::Directory };
    let place = rootfs_path(&request.bundle, config);
    let root = rootfs::decide(&config.root, &place, origin, linux.rootfs_propagation, way);
    for action in root.open {
        plan.child(Step::Rootfs(action), "root", "no mount made here may reach the host, so before the first one");
    }
    if let Some(action) = image {
        plan.child(
            Step::Overlay(action),
            "image",
            "in its own mount namespace, with which it goes; every path below begins at it",
        );
    }
    // From the first mount that shows a network on, all wait for that; there is time for the nodes, unless a later mount could cover them.
    let mut mounted = mounted;
    let waits = mounted.iter().position(mounts::Action::sees_network).filter(|_| arrangement.network_meanwhile);
    let waiting = mounted.split_off(waits.unwrap_or(mounted.len()));
    let covered = waiting.iter().any(|later| lies_in(&clean(&later.target), "/dev"));
    let (early, late) = if covered { (Vec::new(), nodes) } else { (nodes, Vec::new()) };
    mount_all(&mut plan, mounted);
    devices(&mut plan, early);
    if arrangement.network_meanwhile {
        enter_network(&mut plan);
    }
    mount_all(&mut plan, waiting);
    devices(&mut plan, late);
    if process.terminal {
        for action in terminal::decide_create(process, request.console.watcher()) {
            plan.child(
                Step::Terminal(action),
                "process.terminal",
                "from the container's own devpts; its master goes to who watches",
            );
        }
    }
    hooks_before_pivot(&mut plan, config);
    for action in root.enter {
        plan.child(Step::Rootfs(action), "root", "chroot can be escaped; a pivoted root has no way back");
    }

    // ── Inside ──
    if let Some(action) = program.make.clone() {
        plan.child(Step::Program(action), "process.cwd", "while the root can still be written");
    }
    for action in names::decide(config) {
        plan.child(Step::Name(action), "hostname", "while it still has the rights over its uts namespace");
    }
    for action in sysctl::decide(config) {
        let place = format!("linux.sysctl {}", action.key);
        plan.child(Step::Sysctl(action), place, "through the kept procfs: the container's may be read-only or masked");
    }
    for action in mask::decide(&linux.masked_paths, &linux.readonly_paths, &config.mounts, host.kernel) {
        let place = if matches!(action, mask::Action::Mask(_)) { "linux.maskedPaths" } else { "linux.readonlyPaths" };
        plan.child(Step::Mask(action), place, "resolved inside the new root: no path can lead out of it any more");
    }
    for action in mounts::decide_late(&config.mounts) {
        plan.child(Step::Mount(action), "", "read-only only now that everything in it is made");
    }
    for action in root.finish {
        plan.child(Step::Rootfs(action), "root", "read-only only now that everything in it is made");
    }
    let tail = Tail::Container { start: request.start, told: Told::of(&request.pid_file, &request.pidfd_socket) };
    let before = if host.is_root && !has(NamespaceKind::User) { user::Before::Root } else { user::Before::Unknown };
    become_program(&mut plan, process, config, program, filter, before, &tail);
    Ok((plan, cgroup))
}

/// The parent's part of the network: the new namespace is handed on, and left.
fn network_meanwhile(plan: &mut Plan, config: &Config) {
    let place = "linux.namespaces network";
    plan.parent(
        Step::Namespace(namespaces::Action::NewNetwork),
        place,
        "it takes the kernel as long as all the others together: the child is at work meanwhile",
    );
    let up = Step::Namespace(namespaces::Action::LoopbackUp);
    let told = Step::Tell(Gate::Network);
    let why = "the child could not open it: this process is not in its /proc";
    // The child's own hooks may want the network, and nothing else before the program does: the child need not wait for it.
    if config.hooks.create_container.is_empty() {
        plan.parent(told, place, why);
        plan.parent(up, place, "a new network namespace has only a lo that is down; the program will find it up");
    } else {
        plan.parent(up, place, "a new network namespace has only a lo that is down; the child's hooks will find it up");
        plan.parent(told, place, why);
    }
    plan.parent(
        Step::Namespace(namespaces::Action::Restore(NamespaceKind::Network)),
        place,
        "hooks belong to the host's",
    );
}

fn mount_all(plan: &mut Plan, actions: Vec<mounts::Action>) {
    for action in actions {
        plan.child(Step::Mount(action), "", "before the root is entered: its source is a path of the host");
    }
}

/// Device nodes and links.
fn devices(plan: &mut Plan, actions: Vec<dev::Action>) {
    for action in actions {
        let place = action.directory.display().to_string();
        plan.child(
            Step::Device(action),
            place,
            "after its file system is mounted, and while the host's nodes can be seen",
        );
    }
}

/// The child's part.
fn enter_network(plan: &mut Plan) {
    let place = "linux.namespaces network";
    plan.child(Step::Await(Gate::Network), place, "before the first mount that shows a network");
    plan.child(
        Step::Namespace(namespaces::Action::Join(NamespaceKind::Network)),
        place,
        "before the first mount that shows a network",
    );
}

/// prestart and createRuntime hooks look at the container from outside, createContainer hooks from inside, all before pivot_root.
fn hooks_before_pivot(plan: &mut Plan, config: &Config) {
    let hooks = &config.hooks;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        plan.gate(Gate::Prepared, Side::Child, "namespaces and mounts are there, the old root still is");
        plan.parent(Step::Record(Record::Init), "", "hooks ask for the state");
        plan.hooks(
            Side::Parent,
            hooks::Kind::Prestart,
            &hooks.prestart,
            "in the runtime's namespaces, before pivot_root",
        );
        plan.hooks(
            Side::Parent,
            hooks::Kind::CreateRuntime,
            &hooks.create_runtime,
            "in the runtime's namespaces, before pivot_root",
        );
        plan.gate(Gate::Hooked, Side::Parent, "what hooks arrange (a network) is there before anything depends on it");
    }
    plan.hooks(
        Side::Child,
        hooks::Kind::CreateContainer,
        &hooks.create_container,
        "in the container's namespaces, with the host's files",
    );
}

/// The overlay, where the root is an image's.
fn image_root(config: &Config, host: &Host, request: &Request) -> Result<Option<overlay::Action>, Vec<Fault>> {
    let Root::Overlay(asked) = &request.root else { return Ok(None) };
    let namespaces = &config.linux.namespaces;
    let mut faults = Vec::new();
    if namespaces.iter().any(|n| n.kind == NamespaceKind::User) {
        let cause =
            "a user namespace: an image's layers belong to the host's users, and mapping them is not in this version";
        faults.push(Fault::new("linux.namespaces user", cause));
    }
    if !namespaces.iter().any(|n| n.kind == NamespaceKind::Mount && n.path.is_none()) {
        let cause = "an image's root needs a new one: with it goes what is mounted, and in any other that would stay";
        faults.push(Fault::new("linux.namespaces mount", cause));
    }
    let place = rootfs_path(&request.bundle, config);
    let decided = overlay::decide(asked, &place, config.linux.mount_label.as_deref(), host.kernel);
    let decided = keep(decided, &mut faults);
    if faults.is_empty() { Ok(decided) } else { Err(faults) }
}

fn decide_mounts(
    config: &Config,
    request: &Request,
    cgroup: Option<&Cgroup>,
) -> Result<Vec<mounts::Action>, Vec<Fault>> {
    let namespaces = &config.linux.namespaces;
    let has = |kind| namespaces.iter().any(|n| n.kind == kind);
    let Some(cgroup) = cgroup else { return Ok(Vec::new()) };
    let own: Vec<mounts::OwnCgroup> = cgroup
        .directories
        .iter()
        .map(|d| mounts::OwnCgroup { mount: d.mount.clone(), directory: d.path.clone() })
        .collect();
    let user = match namespaces.iter().find(|n| n.kind == NamespaceKind::User) {
        None => mounts::User::Host,
        Some(Namespace { path: Some(path), .. }) => mounts::User::Joined(path),
        Some(_) => mounts::User::New { users: &config.linux.uid_mappings, groups: &config.linux.gid_mappings },
    };
    let facts = mounts::Facts {
        bundle: &request.bundle,
        rootfs: &rootfs_path(&request.bundle, config),
        cgroups: match cgroup.version {
            cgroup::Version::V2 => mounts::Cgroups::Unified(&own[0].directory),
            cgroup::Version::V1 => mounts::Cgroups::Legacy(&own),
        },
        cgroup_namespace: has(NamespaceKind::Cgroup),
        user,
        network_namespace: namespaces.iter().any(|n| n.kind == NamespaceKind::Network && n.path.is_none()),
        label: config.linux.mount_label.as_deref().filter(|label| !label.is_empty()),
        place: if config.hooks.create_container.is_empty() { mounts::Place::Free } else { mounts::Place::Kept },
    };
    mounts::decide(&config.mounts, &facts)
}

/// The root file system on the host.
pub fn rootfs_path(bundle: &Path, config: &Config) -> PathBuf {
    bundle.join(&config.root.path)
}

/// What only the whole shows.
fn check(config: &Config) -> Vec<Fault> {
    let linux = &config.linux;
    let mut faults = Vec::new();
    if !linux.namespaces.iter().any(|n| n.kind == NamespaceKind::Mount) {
        for (there, place) in [
            (!config.mounts.is_empty(), "mounts"),
            (!linux.masked_paths.is_empty(), "linux.maskedPaths"),
            (!linux.readonly_paths.is_empty(), "linux.readonlyPaths"),
            (config.root.readonly, "root.readonly"),
        ] {
            if there {
                faults.push(Fault::new(place, "set, but there is no mount namespace: it would change the host"));
            }
        }
    }
    faults
}

/// Keeps the value, or the faults.
fn keep<T>(decided: Result<T, Vec<Fault>>, faults: &mut Vec<Fault>) -> Option<T> {
    match decided {
        Ok(value) => Some(value),
        Err(found) => {
            faults.extend(found);
            None
        }
    }
}
