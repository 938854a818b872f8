//! What a container has that nobody asked for.
//!
//! Facts of Docker, seen in the configuration that it hands to its runtime (28.2, and 20.10 by `docker run --runtime` with a wrapper that copies it).
//! The rights are what a program of an ordinary image needs to believe itself root, and no more: see capabilities(7), and `setup::mask` for why
//! parts of /proc are hidden.

use super::options::Options;
use crate::input::config::Mount;

/// The capabilities of a container, by name.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Hidden: what tells of the host, or of other containers.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// To be looked at only.
pub const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Set in a network namespace of its own: there every port is the container's, and every group may ping.
pub const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Where a program is looked for when the image does not say.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One mount of every container.
pub struct Row {
    destination: &'static str,
    kind: &'static str,
    source: &'static str,
    options: &'static [&'static str],
    protection: Protection,
}

/// Whether the container may write there.
enum Protection {
    /// It may.
    None,
    /// Only with `--privileged`.
    ReadOnly,
}

impl Row {
    /// The mount, which `--privileged` may write to.
    pub fn mount(&self, options: &Options) -> Mount {
        let protected = matches!(self.protection, Protection::ReadOnly) && !options.privileged;
        let words = self.options.iter().copied().chain(protected.then_some("ro"));
        Mount {
            destination: self.destination.into(),
            kind: self.kind.to_owned(),
            source: Some(self.source.into()),
            options: words.map(str::to_owned).collect(),
            ..Mount::default()
        }
    }
}

const fn row(destination: &'static str, kind: &'static str, options: &'static [&'static str]) -> Row {
    Row { destination, kind, source: kind, options, protection: Protection::None }
}

impl Row {
    const fn read_only(self) -> Row {
        Row { protection: Protection::ReadOnly, ..self }
    }
}

/// In the order in which they are made. /dev/shm is not among them: it depends on `--ipc`.
pub const MOUNTS: [Row; 6] = [
    row("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    row("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    row("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    row("/sys", "sysfs", &["nosuid", "noexec", "nodev"]).read_only(),
    row("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev"]).read_only(),
    row("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
];
