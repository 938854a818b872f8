//! oci-spec's types become ours, once, here: nothing behind this border knows an `Option` that has a default.
//!
//! The runtime specification leaves much optional, and Go's callers leave out what is zero, so an empty string and a limit of 0 mean
//! "not asked" in many places. Where oci-spec's types accept more than the specification, the value is judged here; what concerns two
//! fields at once is judged in [`check`](super::check). Try it by hand: `runc spec | jq .`, then break a line and see what `runc run` says of it.
//!
//! What is ours in [`spec`] is moved, not copied; oci-spec's types only lend what they hold.
//!
//! Each function takes one part, its [`Place`], and the [`Report`]; it notes what is wrong and returns something usable, so that the
//! faults behind it are found as well.

pub mod linux;
pub mod process;
pub mod resources;
pub mod seccomp;

use super::config::{Config, Hook, Hooks, IdMapping, Mount, Root};
use super::place::{Place, Report, quote};
use super::spec::{self, Spec};
use oci_spec::runtime as oci;
use std::path::{Path, PathBuf};

/// The longest path that the kernel takes, its final NUL not counted (`PATH_MAX`).
const MAX_PATH: usize = 4095;

/// The longest host or domain name (`__NEW_UTS_LEN`).
const MAX_UTS: usize = 64;

/// The whole configuration.
pub fn config(spec: Spec, report: &mut Report) -> Config {
    let top = Place::Root;
    let version = spec.oci_version;
    if !is_version_1(&version) {
        report.fault(top.key("ociVersion"), format!("{} is not a version 1.x of the specification", quote(&version)));
    }
    if spec.annotations.as_ref().is_some_and(|map| map.contains_key("")) {
        report.fault(top.key("annotations"), "has an empty key");
    }
    Config {
        oci_version: version,
        root: root(spec.root.as_ref(), &top.key("root"), report),
        process: spec.process.map(|p| process::process(p, &top.key("process"), report)),
        hostname: uts_name(spec.hostname, &top.key("hostname"), report),
        domainname: uts_name(spec.domainname, &top.key("domainname"), report),
        mounts: each(spec.mounts.unwrap_or_default(), &top.key("mounts"), report, mount),
        hooks: spec.hooks.as_ref().map(|h| hooks(h, &top.key("hooks"), report)).unwrap_or_default(),
        annotations: spec.annotations.into_iter().flatten().collect(),
        linux: spec.linux.map(|l| linux::linux(l, &top.key("linux"), report)).unwrap_or_default(),
    }
}

/// `1.0.2-dev`, `1.3.0+x`: three numbers, the first a 1.
fn is_version_1(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<&str> = core.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.len() == 3 && parts[0] == "1" && parts.iter().all(number)
}

fn root(root: Option<&oci::Root>, place: &Place, report: &mut Report) -> Root {
    let Some(root) = root else { return Root::default() };
    let at = place.key("path");
    if root.path().as_os_str().is_empty() {
        report.fault(at, "is empty");
    }
    Root { path: path(root.path(), &at, report), readonly: root.readonly().unwrap_or(false) }
}

fn uts_name(name: Option<String>, place: &Place, report: &mut Report) -> Option<String> {
    let name = text(name)?;
    if name.len() > MAX_UTS {
        report.fault(place, format!("has {} bytes, the kernel takes {MAX_UTS}", name.len()));
    }
    Some(name)
}

fn mount(mount: spec::Mount, place: &Place, report: &mut Report) -> Mount {
    let at = place.key("destination");
    let mut destination = path(mount.destination, &at, report);
    if destination.as_os_str().is_empty() {
        report.fault(at, "is empty");
    } else if destination.is_relative() {
        report.warn(at, format!("{} is not absolute, and so taken below /", quote(&destination.to_string_lossy())));
        destination = Path::new("/").join(destination);
    }
    let mappings = Mappings {
        uid: id_mappings(&mount.uid_mappings, &place.key("uidMappings"), report),
        gid: id_mappings(&mount.gid_mappings, &place.key("gidMappings"), report),
    };
    match (mappings.uid.is_empty(), mappings.gid.is_empty()) {
        (false, true) => report.fault(place.key("gidMappings"), "missing, but there are uidMappings"),
        (true, false) => report.fault(place.key("uidMappings"), "missing, but there are gidMappings"),
        _ => {}
    }
    Mount {
        destination,
        kind: mount.kind.unwrap_or_default(),
        source: mount.source.filter(|s| !s.as_os_str().is_empty()).map(|s| path(s, &place.key("source"), report)),
        options: mount.options.unwrap_or_default(),
        uid_mappings: mappings.uid,
        gid_mappings: mappings.gid,
    }
}

struct Mappings {
    uid: Vec<IdMapping>,
    gid: Vec<IdMapping>,
}

fn hooks(hooks: &oci::Hooks, place: &Place, report: &mut Report) -> Hooks {
    let mut all = |list_: &Option<Vec<oci::Hook>>, name| each(list(list_), &place.key(name), report, hook);
    Hooks {
        prestart: all(hooks.prestart(), "prestart"),
        create_runtime: all(hooks.create_runtime(), "createRuntime"),
        create_container: all(hooks.create_container(), "createContainer"),
        start_container: all(hooks.start_container(), "startContainer"),
        poststart: all(hooks.poststart(), "poststart"),
        poststop: all(hooks.poststop(), "poststop"),
    }
}

fn hook(hook: &oci::Hook, place: &Place, report: &mut Report) -> Hook {
    let timeout = hook.timeout().map(|seconds| {
        if seconds <= 0 {
            report.fault(place.key("timeout"), format!("{seconds} is not above 0"));
        }
        seconds.max(1).unsigned_abs()
    });
    Hook {
        path: absolute(hook.path(), &place.key("path"), report),
        args: list(hook.args()).to_vec(),
        env: hook.env().clone(),
        timeout,
    }
}

/// `uidMappings` and `gidMappings` of any kind: no empty lines, none beyond 32 bits, none that overlap, at most 340.
fn id_mappings(mappings: &Option<Vec<oci::LinuxIdMapping>>, place: &Place, report: &mut Report) -> Vec<IdMapping> {
    // UID_GID_MAP_MAX_EXTENTS, see user_namespaces(7).
    const MOST: usize = 340;
    let mappings = list(mappings);
    if mappings.is_empty() {
        return Vec::new();
    }
    if mappings.len() > MOST {
        report.fault(place, format!("{} lines, the kernel takes {MOST}", mappings.len()));
    }
    let mappings = each(mappings, place, report, |line, place, report| {
        let last = line.container_id().max(line.host_id()).checked_add(line.size());
        if line.size() == 0 {
            report.fault(place.key("size"), "is 0");
        } else if last.is_none() {
            report.fault(place, "reaches beyond 4294967295");
        }
        IdMapping { container_id: line.container_id(), host_id: line.host_id(), size: line.size() }
    });
    for (side, first) in
        [("containerID", (|line| line.container_id) as fn(&IdMapping) -> u32), ("hostID", |line| line.host_id)]
    {
        let mut spans: Vec<(u64, u64)> =
            mappings.iter().map(|line| (first(line).into(), u64::from(first(line)) + u64::from(line.size))).collect();
        spans.sort_unstable();
        if let Some(pair) = spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            report.fault(place, format!("two lines overlap at {side} {}", pair[1].0));
        }
    }
    mappings
}

/// An optional array as a slice.
fn list<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

/// An optional string; empty is absent, as Go's callers write it.
fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// Converts every element with its place.
fn each<T, U>(
    items: impl IntoIterator<Item = T>,
    place: &Place,
    report: &mut Report,
    convert: impl Fn(T, &Place, &mut Report) -> U,
) -> Vec<U> {
    items.into_iter().enumerate().map(|(at, item)| convert(item, &place.index(at), report)).collect()
}

fn path(path: impl Into<PathBuf>, place: &Place, report: &mut Report) -> PathBuf {
    let path = path.into();
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        report.fault(place, format!("a path of {length} bytes, the kernel takes {MAX_PATH}"));
    }
    path
}

fn absolute(of: &Path, place: &Place, report: &mut Report) -> PathBuf {
    if of.is_relative() {
        report.fault(place, format!("{} is not an absolute path", quote(&of.to_string_lossy())));
    }
    path(of, place, report)
}
