//! The mounts of the configuration, in order.
//!
//! What the kernel offers: a new file system (fsopen, fsconfig, fsmount) or a clone of a mount that is there (open_tree), both
//! as a descriptor with no place yet; mount_setattr(2) sets its attributes before anybody sees it; move_mount(2) puts it
//! on a directory, which is again named by a descriptor. Or mount(2), which makes a file system and attaches it in one call, on a path.
//!
//! By hand, inside `unshare -m`: `mount -t tmpfs -o nosuid,size=64k none /mnt`, and with strace the same calls can be seen.
//!
//! What we do, per mount: make it, finish its attributes, find the target below the root (or make it there: a directory, or a
//! file for a file), attach, set the propagation. The source of a bind is a path of the host, and opened when its turn
//! comes: it may be what an earlier mount has just made. A plain new file system (proc, a tmpfs, devpts, mqueue) is made by one
//! mount(2) on the directory that was opened and entered, and all others part by part: why there are two ways is told in `whole`. A tmpfs becomes read-only last, after what lies in it was made.
//! cgroups: on v2 a cgroup2 mount inside the new cgroup namespace, otherwise (where it would take 10 ms, and show the
//! whole tree) a bind of the container's own directory; on v1 a tmpfs with one bind for each hierarchy.
//!
//! A bind whose source is `/proc/PID/root/PATH` shares a mount of another container: open_tree(2) clones none of a foreign mount namespace, so the
//! parent enters that one for the moment of the call (`elsewhere`). So two containers have one `/dev/shm`.
//!
//! In a user namespace the child may not be able to reach the host's files, nor map their owners. So the parent clones such
//! sources before the clone (`early`), and the child attaches what it inherited. A mount shows mapped owners (`idmap`) by the maps
//! of a user namespace, which a process that does nothing holds for that moment.
//!
//! What goes wrong: `/proc` or `/sys` in the root is a symbolic link, and the mount lands elsewhere (CVE-2019-19921); something
//! else is mounted over `/proc`, and what the runtime writes there is lost (CVE-2019-16884). Both are refused. In a user
//! namespace sysfs can only be mounted with a network namespace of its own, so the host's is bound instead, its attributes
//! on the whole tree; and a bind keeps the attributes that the kernel has locked, because only what the words name is changed.

mod apply;
mod copy_up;
mod early;
mod elsewhere;
mod shown;
#[cfg(test)]
mod tests;
mod whole;

use crate::input::Fault;
use crate::input::config::{IdMapping, Mount};
use crate::setup::options::{self, Data, Options};
use crate::sys::mount::{Change, Reach, attr};
use crate::sys::path::{Links, clean, lies_in};
use nix::mount::MsFlags;
use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the decision depends on beside the mounts themselves.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The bundle, absolute: relative sources of binds begin here.
    pub bundle: &'a Path,
    /// The root file system on the host, absolute: a bind whose source lies in it may be made by an earlier mount.
    pub rootfs: &'a Path,
    /// The container's own cgroups.
    pub cgroups: Cgroups<'a>,
    /// The container has a cgroup namespace of its own, entered before the mounts.
    pub cgroup_namespace: bool,
    /// The container's user namespace.
    pub user: User<'a>,
    /// The container has a new network namespace, owned by its user namespace if there is one.
    pub network_namespace: bool,
    /// `linux.mountLabel`: the SELinux label of everything in a new file system.
    pub label: Option<&'a str>,
    /// May mounts change the working directory of the child?
    pub place: Place,
}

/// The working directory of who makes the mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nobody asks for it before the root is entered.
    Free,
    /// createContainer hooks begin where the runtime was called.
    Kept,
}

/// Whose ids the container has.
#[derive(Clone, Copy, Debug)]
pub enum User<'a> {
    /// The host's.
    Host,
    /// Those of a new user namespace.
    New {
        /// `linux.uidMappings`
        users: &'a [IdMapping],
        /// `linux.gidMappings`
        groups: &'a [IdMapping],
    },
    /// Those of the namespace that this file stands for.
    Joined(&'a Path),
}

/// The container's own cgroups, absolute paths on the host.
#[derive(Clone, Copy, Debug)]
pub enum Cgroups<'a> {
    /// cgroup v2: its directory.
    Unified(&'a Path),
    /// cgroup v1: one per mounted hierarchy.
    Legacy(&'a [OwnCgroup]),
}

/// The container's directory in one hierarchy of cgroup v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCgroup {
    /// Where the hierarchy is mounted on the host; the last name, `cpu,cpuacct`, is used inside too.
    pub mount: PathBuf,
    /// The container's directory on the host.
    pub directory: PathBuf,
}

/// One mount: how it is made, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Which of `mounts` it is.
    at: usize,
    /// Inside the container, as written.
    pub target: PathBuf,
    what: What,
    /// After it is attached, in order.
    propagation: Vec<(MsFlags, Reach)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    New(New),
    Bind(Bind),
    /// The parent's part of a bind.
    Early(Bind),
    Legacy(Legacy),
    Remount(Remount),
    /// A tmpfs becomes read-only.
    Seal,
}

/// A file system of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
struct New {
    kind: String,
    /// What mountinfo shows as source, or a device.
    source: Option<String>,
    flags: Vec<&'static str>,
    data: Vec<Data>,
    attributes: u64,
    links: Links,
    mode: RootMode,
    content: Content,
    spot: Spot,
    way: Way,
    /// What is bound instead where the namespace may not mount it: the container's own cgroup.
    instead: Option<PathBuf>,
    /// SELinux label of its root, where the file system has none for all its files.
    root_label: Option<String>,
}

/// By which calls a new file system comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// fsopen(2), fsconfig(2) for each parameter, fsmount(2), move_mount(2): whatever can be said.
    Parts,
    /// mount(2) says it all on a directory that was entered; if that fails, part by part, to hear why.
    Whole,
    /// mount(2), for a parameter that fsconfig(2) cannot take.
    Long,
}

/// Where the permissions of a new file system's root come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RootMode {
    /// From its data, or its own default.
    Own,
    /// From the directory that it covers (tmpfs).
    Covered,
}

/// How the target is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spot {
    /// Below the root, where it may lead through what the root file system holds; made when missing.
    Anywhere,
    /// A name in the tmpfs that is the container's `/dev`: nothing of that name is there yet, and nobody else has seen it.
    InDev(Entered),
}

/// Whether mounts before have made that `/dev` the working directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    No,
    Yes,
}

/// What lies in a new file system at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Empty,
    /// What lies in the directory that it covers (`tmpcopyup`).
    Covered,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bind {
    /// Absolute on the host, or in the root of another process.
    source: PathBuf,
    /// That process: its mounts are in a namespace of its own.
    within: Option<i32>,
    reach: Reach,
    this: Change,
    tree: Change,
    links: Links,
    source_must_be: Kind,
    cloned_by: Cloned,
    idmap: Option<IdMap>,
}

/// Who clones the source of a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cloned {
    /// The child, when the mount's turn comes.
    Child,
    /// The parent, before the clone: only it may map owners.
    Parent,
    /// Both, and the parent's is used where the child has no access: a clone of its own keeps the attributes that the kernel has
    /// locked for the namespace, the parent's does not.
    Both,
}

/// Owners shown other than they are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IdMap {
    reach: Reach,
    owner: Owner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// A user namespace made for this with these maps.
    Maps { users: Vec<IdMapping>, groups: Vec<IdMapping> },
    /// The namespace that the container joins.
    Namespace(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    /// A procfs, since it goes to `/proc`.
    Proc,
}

/// The tree of cgroup v1.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Legacy {
    /// Host directory and name below the target.
    binds: Vec<(PathBuf, String)>,
    /// `cpu` → `cpu,cpuacct`.
    links: Vec<(String, String)>,
    attributes: u64,
    /// Of the tmpfs.
    data: Vec<Data>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Remount {
    /// Of the file system; nothing here: it is not touched.
    flags: Vec<&'static str>,
    data: Vec<Data>,
    this: Change,
    tree: Change,
}

/// File systems without a device: a read-only mount of them needs no read-only file system.
const VIRTUAL: [&str; 7] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Files of procfs that may be covered: what lxcfs emulates, as with runc.
const OVER_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Who labels its files itself: the policy says how (`genfscon`), and the option would be refused.
const OWN_LABELS: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];

/// What a cgroup mount always gets.
const CGROUP: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC;

impl Action {
    /// The place in the configuration: `mounts[3]`.
    pub fn place(&self) -> String {
        format!("mounts[{}]", self.at)
    }

    /// Does it only close what was mounted before, after everything in it is made?
    pub fn seals(&self) -> bool {
        matches!(self.what, What::Seal)
    }

    /// Does it mount a tmpfs in which nothing is yet?
    fn is_empty_tmpfs(&self) -> bool {
        matches!(&self.what, What::New(new) if new.kind == "tmpfs" && new.content == Content::Empty && new.way != Way::Long)
    }

    /// Is it the parent's part, before the clone?
    pub fn is_early(&self) -> bool {
        matches!(self.what, What::Early(_))
    }

    /// Does what is mounted depend on the network namespace of who mounts it? sysfs shows its devices, a network's file system speaks through it.
    pub fn sees_network(&self) -> bool {
        const BLIND: [&str; 5] = ["proc", "tmpfs", "devpts", "mqueue", "cgroup2"];
        matches!(&self.what, What::New(new) if !BLIND.contains(&new.kind.as_str()))
    }
}

/// Decides the mounts, in order. All faults at once.
pub fn decide(mounts: &[Mount], facts: &Facts) -> Result<Vec<Action>, Vec<Fault>> {
    let mut actions = Vec::with_capacity(mounts.len());
    let mut faults = Vec::new();
    for (i, mount) in mounts.iter().enumerate() {
        match one(i, mount, facts) {
            Ok(action) => actions.push(action),
            Err(mut more) => faults.append(&mut more),
        }
    }
    find_dev(&mut actions);
    if faults.is_empty() { Ok(actions) } else { Err(faults) }
}

/// Finds the targets that are names in a tmpfs on `/dev`: pts, shm, mqueue.
fn find_dev(actions: &mut [Action]) {
    // What was mounted on or below such a /dev since; `None`: it is no tmpfs, or a later mount lies on it.
    let mut taken: Option<Vec<PathBuf>> = None;
    // Is it the working directory?
    let mut entered = Entered::No;
    for action in actions {
        let target = clean(&action.target);
        if let (What::New(new), Some(taken)) = (&mut action.what, &taken) {
            let plain = new.instead.is_none() && new.content == Content::Empty && new.way != Way::Long;
            if target.parent() == Some(Path::new("/dev"))
                && plain
                && !taken.iter().any(|other| other.starts_with(&target))
            {
                new.spot = Spot::InDev(entered);
            }
        }
        if let What::New(New { way: Way::Whole, spot, .. }) = &action.what {
            entered = if *spot == Spot::Anywhere { Entered::No } else { Entered::Yes };
        }
        match &mut taken {
            _ if target.as_os_str() == "/dev" => {
                taken = action.is_empty_tmpfs().then(Vec::new);
                entered = Entered::No;
            }
            Some(taken) if lies_in(&target, "/dev") => taken.push(target.into_owned()),
            _ => {}
        }
    }
}

/// Decides what becomes read-only at the end: after the devices were made, before or after the root was entered.
pub fn decide_late(mounts: &[Mount]) -> Vec<Action> {
    let sealed = |mount: &Mount| {
        if mount.kind != "tmpfs" {
            return false;
        }
        let options = options::parse(&mount.options);
        let readonly = (options.this.set | options.tree.set) & attr::RDONLY != 0;
        options.bind.is_none() && !options.remount && readonly
    };
    // Mostly there is none. Not as paths: those are compared part by part.
    let place = |mount: &Mount| clean(&mount.destination).into_owned().into_os_string();
    let last = || mounts.iter().enumerate().map(|(i, mount)| (place(mount), i)).collect::<BTreeMap<_, _>>();
    let last = LazyCell::new(last);
    let last_there = |i: usize| last.get(&place(&mounts[i])) == Some(&i);
    let seal = |(i, mount): (usize, &Mount)| Action {
        at: i,
        target: mount.destination.clone(),
        what: What::Seal,
        propagation: vec![],
    };
    mounts.iter().enumerate().filter(|(i, mount)| sealed(mount) && last_there(*i)).map(seal).collect()
}

/// The parent's part, before the clone: trees that only it may clone or map. They are kept in `held.trees`, which the child inherits.
pub fn early(actions: &[Action]) -> Vec<Action> {
    let early = |action: &Action| match &action.what {
        What::Bind(bind) if bind.cloned_by != Cloned::Child => {
            Some(Action { what: What::Early(bind.clone()), propagation: vec![], ..action.clone() })
        }
        _ => None,
    };
    actions.iter().filter_map(early).collect()
}

fn one(i: usize, mount: &Mount, facts: &Facts) -> Result<Action, Vec<Fault>> {
    let options = options::parse(&mount.options);
    let target = clean(&mount.destination);
    let mut faults = Vec::new();
    let mut fault = |member: &str, cause: &str| faults.push(Fault::new(format!("mounts[{i}].{member}"), cause));
    let binds = options.bind.is_some() || mount.kind == "bind";
    // A clean path is its letters: as a path it would be compared part by part.
    let (is_proc, is_root) = (target.as_os_str() == "/proc", target.as_os_str() == "/");
    if is_root {
        fault("destination", "is the root itself, which root.path says");
    }
    if mount.kind.is_empty() && !binds && !options.remount {
        fault("type", "missing, and there is no bind among the options");
    }
    if binds && !options.remount && mount.source.is_none() {
        fault("source", "missing: a bind needs a path");
    }
    if is_proc && !binds && !options.remount && mount.kind != "proc" {
        fault("type", "only a procfs may be mounted on /proc");
    }
    if !is_proc && lies_in(&target, "/proc") && !OVER_PROC.iter().any(|p| target.as_os_str() == *p) {
        fault(
            "destination",
            "lies inside /proc, where only a few files may be covered (cpuinfo, meminfo, stat, uptime, …)",
        );
    }
    if options.copy_up && (mount.kind != "tmpfs" || binds) {
        fault("options", "tmpcopyup is for tmpfs only");
    }
    let maps = (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty());
    let idmapped = options.idmap.is_some() || maps != (true, true);
    if idmapped && !binds {
        fault("options", "idmap and ridmap are for binds only");
    }
    match (idmapped, maps) {
        (_, (true, false)) => fault("uidMappings", "missing: gidMappings alone map no users"),
        (_, (false, true)) => fault("gidMappings", "missing: uidMappings alone map no groups"),
        (true, (true, true)) if matches!(facts.user, User::Host) => {
            fault("uidMappings", "missing: idmap without a user namespace must say how to map");
        }
        _ => {}
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let propagation = options.propagation.clone();
    let mut what = what(mount, &target, options, facts);
    if let What::New(new) = &mut what {
        new.way = match facts.place {
            _ if whole::too_long(new) => Way::Long,
            Place::Free if propagation.is_empty() => whole::way(new, &target),
            _ => Way::Parts,
        };
    }
    Ok(Action { at: i, target: mount.destination.clone(), what, propagation })
}

fn what(mount: &Mount, target: &Path, options: Options, facts: &Facts) -> What {
    // Where a link would lead the runtime's own writes astray, none is followed.
    let special = target.as_os_str() == "/proc"
        || target.as_os_str() == "/sys"
        || ["proc", "sysfs"].contains(&mount.kind.as_str());
    let links = if special { Links::Refuse } else { Links::Follow };
    if options.remount {
        let (flags, data) = if options.bind.is_some() { (vec![], vec![]) } else { (options.flags, options.data) };
        return What::Remount(Remount { flags, data, this: options.this, tree: options.tree });
    }
    let bind = |source: PathBuf, reach, options: &Options| {
        let source_must_be = if target.as_os_str() == "/proc" { Kind::Proc } else { Kind::Any };
        let (this, tree) = (options.this, options.tree);
        let (within, cloned_by, idmap) = (None, Cloned::Child, None);
        Bind { source, within, reach, this, tree, links, source_must_be, cloned_by, idmap }
    };
    if options.bind.is_some() || mount.kind == "bind" {
        let source = facts.bundle.join(mount.source.as_deref().unwrap_or(Path::new("")));
        // What an earlier mount may have made is not there before the clone.
        let outside = !matches!(facts.user, User::Host) && !source.starts_with(facts.rootfs);
        let idmap = idmap(mount, &options, facts);
        let (within, source) = match in_root_of(&source) {
            Some((pid, path)) => (Some(pid), path),
            None => (None, source),
        };
        let cloned_by = match (&idmap, within, outside) {
            (Some(_), _, _) | (_, Some(_), _) => Cloned::Parent,
            (None, None, true) => Cloned::Both,
            (None, None, false) => Cloned::Child,
        };
        let bind = bind(source, options.bind.unwrap_or_default(), &options);
        return What::Bind(Bind { cloned_by, idmap, within, ..bind });
    }
    match (mount.kind.as_str(), facts.cgroups) {
        ("sysfs", _) if !matches!(facts.user, User::Host) && !facts.network_namespace => {
            let merged = Change {
                set: options.this.set | options.tree.set,
                clear: options.tree.clear & attr::ATIME | options.this.clear & attr::ATIME,
                propagation: 0,
            };
            What::Bind(bind("/sys".into(), Reach::Tree, &Options { this: Change::default(), tree: merged, ..options }))
        }
        ("cgroup", Cgroups::Legacy(own)) => What::Legacy(Legacy {
            data: context("tmpfs", &[], facts.label).into_iter().collect(),
            ..legacy(own, &options)
        }),
        ("cgroup" | "cgroup2", Cgroups::Unified(own)) if !facts.cgroup_namespace => {
            let this = Change { set: options.this.set | CGROUP, ..options.this };
            What::Bind(bind(own.to_owned(), Reach::Tree, &Options { this, ..options }))
        }
        // Whose cgroup namespace it is decides the kernel: a joined one may belong to another user namespace.
        ("cgroup" | "cgroup2", Cgroups::Unified(own)) => {
            What::New(New { instead: Some(own.to_owned()), ..new("cgroup2", mount, options, links) })
        }
        (kind, _) => {
            let mut new = new(kind, mount, options, links);
            new.data.extend(context(kind, &new.data, facts.label));
            new.root_label = facts.label.filter(|_| kind == "mqueue").map(String::from);
            What::New(new)
        }
    }
}

/// `/proc/PID/root/PATH` as the process and the path in its root: open_tree(2) clones mounts of the caller's own namespace alone.
fn in_root_of(source: &Path) -> Option<(i32, PathBuf)> {
    if !lies_in(source, "/proc") {
        return None;
    }
    let rest = source.strip_prefix("/proc").ok()?;
    let mut parts = rest.components().map(|part| part.as_os_str().to_str());
    let pid = parts.next()??.parse().ok().filter(|pid| *pid > 0)?;
    (parts.next()?? == "root").then(|| (pid, Path::new("/").join(rest.components().skip(2).collect::<PathBuf>())))
}

/// The option that labels a whole new file system, unless the mount's own options do. An mqueue takes none: its root is labelled
/// once it is there, and the queues follow.
fn context(kind: &str, data: &[Data], label: Option<&str>) -> Option<Data> {
    let said =
        data.iter().any(|data| ["context", "fscontext", "defcontext", "rootcontext"].contains(&data.key.as_str()));
    let takes = !said && kind != "mqueue" && !OWN_LABELS.contains(&kind);
    label.filter(|_| takes).map(|label| Data { key: "context".into(), value: Some(label.into()) })
}

fn idmap(mount: &Mount, options: &Options, facts: &Facts) -> Option<IdMap> {
    let reach = options.idmap.unwrap_or_default();
    let owner = match facts.user {
        _ if !mount.uid_mappings.is_empty() => {
            Owner::Maps { users: mount.uid_mappings.clone(), groups: mount.gid_mappings.clone() }
        }
        _ if options.idmap.is_none() => return None,
        User::New { users, groups } => Owner::Maps { users: users.to_vec(), groups: groups.to_vec() },
        User::Joined(path) => Owner::Namespace(path.to_owned()),
        User::Host => return None,
    };
    Some(IdMap { reach, owner })
}

fn new(kind: &str, mount: &Mount, options: Options, links: Links) -> New {
    let mut attributes = options.this.set | options.tree.set;
    let mut flags = options.flags;
    if attributes & attr::RDONLY != 0 && !VIRTUAL.contains(&kind) {
        flags.push("ro");
    }
    if kind == "tmpfs" {
        // Mount points and devices in it have still to be made: decide_late sets it.
        attributes &= !attr::RDONLY;
    }
    let has_mode = options.data.iter().any(|data| data.key == "mode");
    New {
        kind: kind.to_owned(),
        source: mount.source.as_ref().map(|path| path.to_string_lossy().into_owned()),
        flags,
        data: options.data,
        attributes,
        links,
        mode: if kind == "tmpfs" && !has_mode { RootMode::Covered } else { RootMode::Own },
        content: if options.copy_up { Content::Covered } else { Content::Empty },
        spot: Spot::Anywhere,
        way: Way::Parts,
        instead: None,
        root_label: None,
    }
}

fn legacy(own: &[OwnCgroup], options: &Options) -> Legacy {
    let mut binds: Vec<(PathBuf, String)> = Vec::new();
    let mut links = Vec::new();
    for cgroup in own {
        let Some(name) = cgroup.mount.file_name().map(|name| name.to_string_lossy().into_owned()) else { continue };
        if name.contains(',') {
            links.extend(name.split(',').map(|part| (part.to_owned(), name.clone())));
        }
        binds.push((cgroup.directory.clone(), name));
    }
    // A hierarchy that is mounted under its own name needs no link.
    links.retain(|(link, _)| !binds.iter().any(|(_, name)| name == link));
    Legacy { binds, links, attributes: options.this.set | options.tree.set | CGROUP, data: vec![] }
}
