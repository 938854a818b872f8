//! The configuration as Corten sees it: plain, complete, converted once.
//!
//! `config.json` is parsed by oci-spec's types (`super::bundle`), checked, and turned into these. Optional parts that have a
//! default carry it here; what stays an `Option` is really optional. Every path is as written in the file: nothing here
//! has touched the disk. Names follow the runtime specification.

use super::names::Names;
use crate::sys::exec::Environment;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

/// What one bundle asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `ociVersion`, as written.
    pub oci_version: String,
    /// `root`.
    pub root: Root,
    /// `process`. `create` and `run` need it; a bundle without it can only be looked at.
    pub process: Option<Process>,
    /// `hostname`.
    pub hostname: Option<String>,
    /// `domainname`.
    pub domainname: Option<String>,
    /// `mounts`, in order.
    pub mounts: Vec<Mount>,
    /// `hooks`.
    pub hooks: Hooks,
    /// `annotations`, sorted.
    pub annotations: BTreeMap<String, String>,
    /// `linux`.
    pub linux: Linux,
}

/// `root`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Root {
    /// Relative to the bundle, or absolute.
    pub path: PathBuf,
    /// The root is read-only inside the container.
    pub readonly: bool,
}

/// `process`: also what `exec --process` reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    /// Wants a terminal.
    pub terminal: bool,
    /// Rows and columns of the terminal, if given.
    pub console_size: Option<ConsoleSize>,
    /// Who runs it.
    pub user: User,
    /// Program and arguments; never empty after the check.
    pub args: Vec<String>,
    /// `KEY=value`, in order; the last of two equal keys wins. Shared with the plan: there may be ten thousand.
    pub env: Rc<Environment>,
    /// Absolute path inside the container.
    pub cwd: PathBuf,
    /// `None`: the key is absent, and the process gets no capabilities at all, as with runc.
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// `noNewPrivileges`.
    pub no_new_privileges: bool,
    /// `apparmorProfile`.
    pub apparmor_profile: Option<String>,
    /// `selinuxLabel`.
    pub selinux_label: Option<String>,
    /// `oomScoreAdj`, -1000 to 1000; `None` keeps the caller's.
    pub oom_score_adj: Option<i32>,
    /// `ioPriority`.
    pub io_priority: Option<IoPriority>,
    /// `scheduler`.
    pub scheduler: Option<Scheduler>,
    /// `execCPUAffinity`; only `exec` uses it.
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// `process.consoleSize`, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// `process.user`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User id inside the container.
    pub uid: u32,
    /// Group id inside the container.
    pub gid: u32,
    /// File mode creation mask; `None` keeps the caller's.
    pub umask: Option<u32>,
    /// Supplementary groups; the caller's are always dropped.
    pub additional_gids: Vec<u32>,
}

/// The five capability sets as bit masks: bit n is capability number n of `linux/capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Upper limit over every later execve.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Kept over execve of a file with inheritable capabilities.
    pub inheritable: u64,
    /// May be made effective.
    pub permitted: u64,
    /// Kept over execve of a plain program.
    pub ambient: u64,
}

/// One entry of `process.rlimits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// The number of `RLIMIT_*` on Linux (x86_64 and aarch64 agree).
    pub resource: u32,
    /// The name, `RLIMIT_NOFILE`.
    pub name: &'static str,
    /// Soft limit; `u64::MAX` is infinity.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is infinity.
    pub hard: u64,
}

/// `process.ioPriority`: class 1 realtime, 2 best effort, 3 idle; level 0 (high) to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_*`.
    pub class: u8,
    /// Level within the class.
    pub priority: u8,
}

/// `process.scheduler`, in the shape of `struct sched_attr` (sched_setattr(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// `SCHED_*` number.
    pub policy: u32,
    /// Nice value for `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// Static priority for `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nanoseconds, `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, `SCHED_DEADLINE`.
    pub period: u64,
}

/// `process.execCPUAffinity`: cpu numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecCpuAffinity {
    /// Before the process moves to the container's cgroup.
    pub initial: Option<Vec<u32>>,
    /// After it.
    pub r#final: Option<Vec<u32>>,
}

/// One entry of `mounts`; options are still the words of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// Inside the container, absolute.
    pub destination: PathBuf,
    /// File system type, `bind`, or empty.
    pub kind: String,
    /// Device, path, or a name that only shows in mountinfo.
    pub source: Option<PathBuf>,
    /// fstab-style words, see `setup::options`.
    pub options: Vec<String>,
    /// For `idmap` and `ridmap`.
    pub uid_mappings: Vec<IdMapping>,
    /// For `idmap` and `ridmap`.
    pub gid_mappings: Vec<IdMapping>,
}

/// The six hooks, each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Deprecated, before createRuntime, in the runtime's namespaces.
    pub prestart: Vec<Hook>,
    /// After the namespaces, before pivot_root, in the runtime's namespaces.
    pub create_runtime: Vec<Hook>,
    /// After the namespaces, before pivot_root, in the container's namespaces.
    pub create_container: Vec<Hook>,
    /// By `start`, in the container's namespaces, before the program.
    pub start_container: Vec<Hook>,
    /// By `start`, after the program began, in the runtime's namespaces.
    pub poststart: Vec<Hook>,
    /// By `delete`, after everything is gone, in the runtime's namespaces.
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments from `argv[0]` on; empty: the path alone.
    pub args: Vec<String>,
    /// Environment; `None` inherits the runtime's.
    pub env: Option<Vec<String>>,
    /// Seconds, greater than zero.
    pub timeout: Option<u64>,
}

/// `linux`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Linux {
    /// Namespaces to make or join; each kind at most once.
    pub namespaces: Vec<Namespace>,
    /// `uidMappings` of a new user namespace.
    pub uid_mappings: Vec<IdMapping>,
    /// `gidMappings` of a new user namespace.
    pub gid_mappings: Vec<IdMapping>,
    /// `timeOffsets`.
    pub time_offsets: Vec<TimeOffset>,
    /// Device nodes beyond the default ones.
    pub devices: Vec<Device>,
    /// `cgroupsPath`, as written.
    pub cgroups_path: Option<String>,
    /// Limits.
    pub resources: Resources,
    /// `sysctl`, sorted by key.
    pub sysctl: BTreeMap<String, String>,
    /// System-call filter.
    pub seccomp: Option<Rc<Seccomp>>,
    /// `rootfsPropagation`.
    pub rootfs_propagation: Option<Propagation>,
    /// `maskedPaths`, absolute.
    pub masked_paths: Vec<PathBuf>,
    /// `readonlyPaths`, absolute.
    pub readonly_paths: Vec<PathBuf>,
    /// `mountLabel` (SELinux).
    pub mount_label: Option<String>,
    /// `personality`: the persona for personality(2).
    pub personality: Option<u32>,
}

/// The eight kinds of namespaces, see namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamespaceKind {
    /// user_namespaces(7)
    User,
    /// pid_namespaces(7)
    Pid,
    /// mount_namespaces(7)
    Mount,
    /// network_namespaces(7)
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
    /// time_namespaces(7)
    Time,
}

/// One entry of `linux.namespaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Which kind.
    pub kind: NamespaceKind,
    /// `None`: a new one. Otherwise a namespace file to join.
    pub path: Option<PathBuf>,
}

/// One line of a uid_map, see user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id outside.
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// One entry of `linux.timeOffsets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: &'static str,
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanosecs: u32,
}

/// What kind of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// `b`
    Block,
    /// `c` and `u`
    Char,
    /// `p`
    Fifo,
}

/// One entry of `linux.devices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Inside the container, absolute.
    pub path: PathBuf,
    /// Kind of node.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits; 0o666 if absent, as runc.
    pub mode: u32,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// `linux.rootfsPropagation` and the propagation words of mounts, see mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// `private`
    Private,
    /// `shared`
    Shared,
    /// `slave`
    Slave,
    /// `unbindable`
    Unbindable,
}

/// `linux.resources`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// Device rules, in order; later ones win.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// Processor time and placement.
    pub cpu: Cpu,
    /// `pids.limit`: below zero (and 0, as runc) is no limit; `None` is not asked.
    pub pids_limit: Option<i64>,
    /// Block input and output.
    pub block_io: BlockIo,
    /// `hugepageLimits`: page size (`2MB`) and bytes.
    pub hugepage_limits: Vec<(String, u64)>,
    /// `network.classID`.
    pub network_class_id: Option<u32>,
    /// `network.priorities`: interface and priority.
    pub network_priorities: Vec<(String, u32)>,
    /// `rdma`: device, hca handles, hca objects.
    pub rdma: Vec<(String, Option<u32>, Option<u32>)>,
    /// `unified`: file name and content, sorted by name; v2 only.
    pub unified: BTreeMap<String, String>,
}

/// One device rule of `linux.resources.devices`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `None`: all kinds (`a`).
    pub kind: Option<DeviceKind>,
    /// `None`: every major.
    pub major: Option<u32>,
    /// `None`: every minor.
    pub minor: Option<u32>,
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `m`
    pub mknod: bool,
}

/// `linux.resources.memory`, in bytes; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Hard limit.
    pub limit: Option<i64>,
    /// Soft limit.
    pub reservation: Option<i64>,
    /// Memory plus swap.
    pub swap: Option<i64>,
    /// Kernel memory; ignored by current kernels.
    pub kernel: Option<i64>,
    /// TCP buffers, v1 only.
    pub kernel_tcp: Option<i64>,
    /// 0 to 100, v1 only.
    pub swappiness: Option<u64>,
    /// v1 only.
    pub disable_oom_killer: bool,
    /// Refuse a limit below the usage.
    pub check_before_update: bool,
}

/// `linux.resources.cpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Relative weight, 2 to 262144.
    pub shares: Option<u64>,
    /// Microseconds per period; below zero is no limit.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds, v1 only.
    pub realtime_runtime: Option<i64>,
    /// Microseconds, v1 only.
    pub realtime_period: Option<u64>,
    /// List form, `0-2,5`.
    pub cpus: Option<String>,
    /// List form.
    pub mems: Option<String>,
    /// 1: SCHED_IDLE for the whole group.
    pub idle: Option<i64>,
}

/// `linux.resources.blockIO`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000, v1 only.
    pub leaf_weight: Option<u16>,
    /// Per device.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second.
    pub throttle_read_bps: Vec<Throttle>,
    /// Bytes per second.
    pub throttle_write_bps: Vec<Throttle>,
    /// Operations per second.
    pub throttle_read_iops: Vec<Throttle>,
    /// Operations per second.
    pub throttle_write_iops: Vec<Throttle>,
}

/// Weight of one block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightDevice {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000.
    pub leaf_weight: Option<u16>,
}

/// Limit of one block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// `linux.seccomp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seccomp {
    /// For calls that no rule matches.
    pub default_action: Action,
    /// Architectures beside the native one, which is always filtered too.
    pub architectures: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*` bits that were asked for.
    pub flags: u64,
    /// `listenerPath`, absolute; only where an action is [`Action::Notify`].
    pub listener_path: Option<PathBuf>,
    /// `listenerMetadata`.
    pub listener_metadata: String,
    /// In order; where two match the same call, libseccomp's precedence decides.
    pub rules: Vec<SeccompRule>,
}

/// What the kernel does with a system call, see seccomp(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Action {
    /// `SCMP_ACT_KILL` and `SCMP_ACT_KILL_THREAD`
    #[default]
    KillThread,
    /// `SCMP_ACT_KILL_PROCESS`
    KillProcess,
    /// `SCMP_ACT_TRAP`
    Trap,
    /// `SCMP_ACT_ERRNO` with its errno
    Errno(u16),
    /// `SCMP_ACT_NOTIFY`
    Notify,
    /// `SCMP_ACT_TRACE` with its message
    Trace(u16),
    /// `SCMP_ACT_LOG`
    Log,
    /// `SCMP_ACT_ALLOW`
    Allow,
}

/// Architectures that the filter compiler knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// `SCMP_ARCH_X86_64`
    X86_64,
    /// `SCMP_ARCH_X86`
    X86,
    /// `SCMP_ARCH_X32`
    X32,
    /// `SCMP_ARCH_AARCH64`
    Aarch64,
    /// `SCMP_ARCH_ARM`
    Arm,
}

/// One entry of `linux.seccomp.syscalls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeccompRule {
    /// Names; one that an architecture does not have is skipped there.
    pub names: Names,
    /// What happens on a match.
    pub action: Action,
    /// All must hold, except that several on one index are alternatives, as runc reads them.
    pub args: Vec<SeccompArg>,
}

/// One condition on an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u8,
    /// Comparison; unsigned 64 bits.
    pub op: Operator,
    /// Operand; for `MaskedEq` the mask.
    pub value: u64,
    /// For `MaskedEq` the value.
    pub value_two: u64,
}

/// `SCMP_CMP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `==`
    Eq,
    /// `>=`
    Ge,
    /// `>`
    Gt,
    /// `arg & value == value_two`
    MaskedEq,
}
