//! What `corten spec` writes: a configuration to start from.
//!
//! The content is that of `runc spec`, so that what one reads about runc holds here too: a shell on a read-only root, the usual
//! mounts, five new namespaces, three harmless capabilities. On a machine with one cgroup2 a sixth namespace, cgroup, is added, as runc does.
//! Try it by hand: `runc spec && less config.json`.
//!
//! The tables here are written as they stand. oci-spec's types could be filled in and written instead, but they know every key there is, for
//! 80 KB of code that writes no more than this; and they keep capabilities in hash sets, so that the file would differ from run to run.

use super::host::CgroupLayout;
use serde::Serialize;
use std::collections::BTreeMap;

/// The version of the runtime specification that new configurations name.
pub const OCI_VERSION: &str = "1.3.0";

/// A configuration to be written. What an image may change is public.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    oci_version: &'static str,
    /// The program.
    pub process: Process,
    /// Its root file system.
    pub root: Root,
    hostname: &'static str,
    mounts: &'static [Mount],
    /// Free text; not written while empty.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    linux: Linux,
}

/// `process`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    terminal: bool,
    /// Who runs it.
    pub user: User,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=VALUE`
    pub env: Vec<String>,
    /// Absolute, in the container.
    pub cwd: String,
    capabilities: Capabilities,
    rlimits: [Rlimit; 1],
    no_new_privileges: bool,
}

/// `process.user`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// In the container.
    pub uid: u32,
    /// In the container.
    pub gid: u32,
    /// Not written while empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// `root`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Root {
    path: &'static str,
    /// Whether the program cannot change it.
    pub readonly: bool,
}

type Words = &'static [&'static str];

// No inheritable capabilities: with them, a file's inheritable bits would come into force inside (CVE-2022-29162).
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Capabilities {
    bounding: Words,
    effective: Words,
    permitted: Words,
    ambient: Words,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Rlimit {
    #[serde(rename = "type")]
    name: &'static str,
    hard: u64,
    soft: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Mount {
    destination: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    source: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: Words,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    resources: Resources,
    namespaces: Vec<Namespace>,
    masked_paths: Words,
    readonly_paths: Words,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Resources {
    devices: [Device; 1],
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Device {
    allow: bool,
    access: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: &'static str,
}

const fn mount(destination: &'static str, kind: &'static str, source: &'static str, options: Words) -> Mount {
    Mount { destination, kind, source, options }
}

static MOUNTS: [Mount; 7] = [
    mount("/proc", "proc", "proc", &[]),
    mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

const MASKED: Words = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READONLY: Words = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const CAPABILITIES: Words = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

const ENV: [&str; 2] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"];

/// The configuration that `corten spec` writes on a host with v1 hierarchies.
pub fn spec() -> Template {
    build(&["pid", "network", "ipc", "uts", "mount"])
}

/// The configuration that `corten spec` writes on a host with this layout: with a cgroup namespace where there is one cgroup2.
pub fn spec_for(layout: &CgroupLayout) -> Template {
    match layout {
        CgroupLayout::Legacy { .. } => spec(),
        CgroupLayout::Unified { .. } => build(&["pid", "network", "ipc", "uts", "mount", "cgroup"]),
    }
}

fn build(namespaces: &[&'static str]) -> Template {
    Template {
        oci_version: OCI_VERSION,
        process: Process {
            terminal: true,
            user: User::default(),
            args: vec!["sh".to_owned()],
            env: ENV.map(str::to_owned).to_vec(),
            cwd: "/".to_owned(),
            capabilities: Capabilities {
                bounding: CAPABILITIES,
                effective: CAPABILITIES,
                permitted: CAPABILITIES,
                ambient: CAPABILITIES,
            },
            rlimits: [Rlimit { name: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
            no_new_privileges: true,
        },
        root: Root { path: "rootfs", readonly: true },
        hostname: "corten",
        mounts: &MOUNTS,
        annotations: BTreeMap::new(),
        linux: Linux {
            resources: Resources { devices: [Device { allow: false, access: "rwm" }] },
            namespaces: namespaces.iter().map(|kind| Namespace { kind }).collect(),
            masked_paths: MASKED,
            readonly_paths: READONLY,
        },
    }
}

/// Pretty JSON, indented by tabs as runc's and ended by a newline, the same at every call.
pub fn to_json(template: &Template) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    template.serialize(&mut serializer).expect("string keys only, and memory does not fail");
    out.push(b'\n');
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::host::Host;

    #[test]
    fn the_text_is_tidy_and_reads_back() {
        let text = to_json(&spec());
        assert!(
            text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,\n"),
            "{text}"
        );
        assert!(text.ends_with("\n}\n"));
        assert!(
            text.contains("\"CAP_AUDIT_WRITE\",\n\t\t\t\t\"CAP_KILL\",\n\t\t\t\t\"CAP_NET_BIND_SERVICE\"\n\t\t\t]"),
            "{text}"
        );
        let read: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
        assert_eq!(read.version(), OCI_VERSION);
        assert_eq!(*read.mounts(), Some(oci_spec::runtime::get_default_mounts()));
    }

    #[test]
    fn no_inheritable_capabilities() {
        assert!(!to_json(&spec()).contains("inheritable"));
    }

    #[test]
    fn a_cgroup_namespace_where_there_is_one_cgroup2() {
        assert!(to_json(&spec_for(&Host::fixed().cgroups)).contains("\"type\": \"cgroup\"\n\t\t\t}\n\t\t]"));
        assert_eq!(spec_for(&Host::fixed_v1().cgroups), spec());
    }

    #[test]
    fn is_what_runc_writes() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(done) = std::process::Command::new("runc").arg("spec").current_dir(dir.path()).output() else {
            eprintln!("skipped: no runc in PATH");
            return;
        };
        assert!(done.status.success(), "{done:?}");
        let theirs = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        let ours = to_json(&spec_for(&Host::read().cgroups));
        // The whole text, with the order of its keys: only the version and the name are ours.
        let rest = |text: &str| -> Vec<String> {
            let own = |line: &&str| !line.starts_with("\t\"ociVersion\"") && !line.starts_with("\t\"hostname\"");
            text.lines().filter(own).map(str::to_owned).collect()
        };
        assert_eq!(rest(&ours), rest(&theirs));
    }
}
