//! The outermost objects of config.json: the whole, `process`, `linux` and its `seccomp`. All else that is in them are oci-spec's types.
//!
//! oci-spec's own `Spec` also reads the parts for Windows, Solaris, z/OS, FreeBSD and virtual machines, and its `Process` brings a regular
//! expression for `execCPUAffinity`, which reads `0-3, 7` wrongly. Nothing here would use the former, and the engine behind the latter is a fifth
//! of a program. `linux` and `seccomp` are here for the names of system calls, nearly 400 in Docker's profile: oci-spec has a string for each,
//! [`Names`] one for all of a rule, which conversion can take out of the type. So these are ours, field by field as the specification has
//! them; docs/design.md, Size, has the figures.

use super::names::Names;
use crate::sys::exec::Environment;
use oci_spec::runtime as oci;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// config.json as it is written: an absent key is `None`, whatever its default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the specification that the file follows.
    #[serde(default)]
    pub oci_version: String,
    /// The root file system.
    pub root: Option<oci::Root>,
    /// In their order.
    pub mounts: Option<Vec<Mount>>,
    /// The container's first process.
    pub process: Option<Process>,
    /// The name of the uts namespace.
    pub hostname: Option<String>,
    /// The NIS domain of the uts namespace.
    pub domainname: Option<String>,
    /// Programs to run at turns of the container's life.
    pub hooks: Option<oci::Hooks>,
    /// Free text for whoever reads it.
    pub annotations: Option<BTreeMap<String, String>>,
    /// What only Linux has.
    pub linux: Option<Linux>,
}

/// A mount as it is written. Not oci-spec's: its parts can only be copied out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Inside the container.
    pub destination: PathBuf,
    /// The file system; absent for a bind.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What is mounted.
    pub source: Option<PathBuf>,
    /// As mount(8) has them.
    pub options: Option<Vec<String>>,
    /// See mount_setattr(2), `MOUNT_ATTR_IDMAP`.
    pub uid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    /// The same for groups.
    pub gid_mappings: Option<Vec<oci::LinuxIdMapping>>,
}

/// `process` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// A terminal for the program's three descriptors.
    pub terminal: Option<bool>,
    /// Its size.
    pub console_size: Option<oci::Box>,
    /// Who runs; absent is root.
    #[serde(default)]
    pub user: oci::User,
    /// The program and its arguments.
    pub args: Option<Vec<String>>,
    /// `NAME=VALUE`
    pub env: Option<Environment>,
    /// The directory to start in.
    #[serde(default)]
    pub cwd: PathBuf,
    /// Absent: as Corten was started.
    pub capabilities: Option<Capabilities>,
    /// See setrlimit(2).
    pub rlimits: Option<Vec<oci::PosixRlimit>>,
    /// See prctl(2), `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: Option<bool>,
    /// The name of a loaded profile.
    pub apparmor_profile: Option<String>,
    /// `/proc/self/oom_score_adj`
    pub oom_score_adj: Option<i32>,
    /// The SELinux context of the program.
    pub selinux_label: Option<String>,
    /// See ioprio_set(2).
    pub io_priority: Option<oci::LinuxIOPriority>,
    /// See sched_setattr(2).
    pub scheduler: Option<oci::Scheduler>,
    /// The cpus of `exec` before and after it joins the cgroup.
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<Affinity>,
}

/// `process.capabilities` as it is written. Not oci-spec's sets: those begin by asking the kernel for a random number, and turn each name into upper
/// case by the tables of Unicode.
#[derive(Debug, Default, Deserialize)]
pub struct Capabilities {
    /// What execve may still give.
    pub bounding: Option<Names>,
    /// What counts.
    pub effective: Option<Names>,
    /// What execve hands on to files that take it.
    pub inheritable: Option<Names>,
    /// What may be made effective.
    pub permitted: Option<Names>,
    /// What execve hands on to any file.
    pub ambient: Option<Names>,
}

/// `process.execCPUAffinity` as it is written: lists of cpus as `0-3,7`.
#[derive(Debug, Default, Deserialize)]
pub struct Affinity {
    /// Before joining the cgroup.
    pub initial: Option<String>,
    /// After.
    pub r#final: Option<String>,
}

/// `linux` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// Network devices of the host to move; not in this version.
    pub net_devices: Option<BTreeMap<String, oci::LinuxNetDevice>>,
    /// See user_namespaces(7).
    pub uid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    /// The same for groups.
    pub gid_mappings: Option<Vec<oci::LinuxIdMapping>>,
    /// Files below `/proc/sys`.
    pub sysctl: Option<BTreeMap<String, String>>,
    /// Limits of the cgroup.
    pub resources: Option<oci::LinuxResources>,
    /// Where the cgroup is.
    pub cgroups_path: Option<PathBuf>,
    /// Namespaces to make or join.
    pub namespaces: Option<Vec<oci::LinuxNamespace>>,
    /// Device nodes to make.
    pub devices: Option<Vec<oci::LinuxDevice>>,
    /// The system-call filter.
    pub seccomp: Option<Seccomp>,
    /// `slave`, `private`, …
    pub rootfs_propagation: Option<String>,
    /// Paths that are hidden.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written to.
    pub readonly_paths: Option<Vec<String>>,
    /// The SELinux context of mounts.
    pub mount_label: Option<String>,
    /// Not in this version.
    pub intel_rdt: Option<oci::LinuxIntelRdt>,
    /// Not in this version.
    pub memory_policy: Option<oci::LinuxMemoryPolicy>,
    /// See personality(2).
    pub personality: Option<oci::LinuxPersonality>,
    /// What time namespaces add to the clocks.
    pub time_offsets: Option<BTreeMap<String, oci::LinuxTimeOffset>>,
}

/// `linux.seccomp` as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seccomp {
    /// For calls that no rule is about.
    pub default_action: oci::LinuxSeccompAction,
    /// The errno of `defaultAction`, where that has one.
    pub default_errno_ret: Option<u32>,
    /// Beside the machine's own.
    pub architectures: Option<Vec<oci::Arch>>,
    /// See seccomp(2).
    pub flags: Option<Vec<oci::LinuxSeccompFilterFlag>>,
    /// The socket of the agent.
    pub listener_path: Option<PathBuf>,
    /// A text for it.
    pub listener_metadata: Option<String>,
    /// The rules.
    pub syscalls: Option<Vec<Syscall>>,
}

/// A rule of `linux.seccomp.syscalls` as it is written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Syscall {
    /// Which calls it is about.
    pub names: Names,
    /// What becomes of them.
    pub action: oci::LinuxSeccompAction,
    /// The errno of `action`, where that has one.
    pub errno_ret: Option<u32>,
    /// Conditions on arguments.
    pub args: Option<Vec<oci::LinuxSeccompArg>>,
}
