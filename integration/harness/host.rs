//! What the tests know of the machine they run on.

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// How cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A tree for each controller.
    V1,
    /// One tree.
    V2,
}

/// Asked of the file system, not of /proc/self/cgroup, which lists v1 in the light v2 layout too.
pub fn layout() -> Layout {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    *LAYOUT.get_or_init(|| {
        let kind = statfs("/sys/fs/cgroup").expect("/sys/fs/cgroup").filesystem_type();
        if kind == CGROUP2_SUPER_MAGIC { Layout::V2 } else { Layout::V1 }
    })
}

/// Whether a controller is there to be used.
pub fn has_controller(name: &str) -> bool {
    match layout() {
        Layout::V1 => hierarchy(name).is_some(),
        Layout::V2 => match name {
            // Part of the kernel's core, or a program rather than a controller.
            "freezer" | "devices" => true,
            "blkio" => has_controller("io"),
            _ => read("/sys/fs/cgroup/cgroup.controllers").split_whitespace().any(|c| c == name),
        },
    }
}

/// Where a v1 controller is mounted.
pub fn hierarchy(controller: &str) -> Option<PathBuf> {
    let mounts = read("/proc/self/mounts");
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind, options) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup" && options.split(',').any(|o| o == controller)).then(|| PathBuf::from(place))
    })
}

/// Every mounted cgroup tree, v1 and v2.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = read("/proc/self/mounts");
    let trees = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(place))
    });
    trees.collect()
}

/// All directories in all cgroup trees whose path contains a word, deepest first.
pub fn cgroups_named(word: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for tree in hierarchies() {
        walk(&tree, &mut |dir| {
            if dir.to_string_lossy().contains(word) {
                found.push(dir.to_owned());
            }
        });
    }
    found.sort_by_key(|dir| std::cmp::Reverse(dir.components().count()));
    found
}

fn walk(dir: &Path, see: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            see(&entry.path());
            walk(&entry.path(), see);
        }
    }
}

/// The directory of a container's cgroup: of that controller on v1, the only one on v2.
pub fn cgroup(id: &str, controller: &str) -> PathBuf {
    match layout() {
        Layout::V1 => hierarchy(controller).unwrap_or_else(|| panic!("no {controller} hierarchy")).join(id),
        Layout::V2 => Path::new("/sys/fs/cgroup").join(id),
    }
}

/// The names of all capabilities that a container can get here.
pub fn capabilities() -> Vec<String> {
    let bounding = status_field("self", "CapBnd");
    let bits = u64::from_str_radix(&bounding, 16).expect("hexadecimal");
    NAMES.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| format!("CAP_{name}")).collect()
}

/// A field of /proc/PID/status.
pub fn status_field(pid: impl std::fmt::Display, field: &str) -> String {
    let status = read(format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    let state = status_field(pid, "State");
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

/// A file's text; empty when it cannot be read.
pub fn read(path: impl AsRef<Path>) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Major and minor version of the kernel.
pub fn kernel() -> (u32, u32) {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    (numbers.next().expect("a release"), numbers.next().unwrap_or_default())
}

/// Whether a program is in PATH.
pub fn has_program(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(name).is_file())
}

/// By number, capabilities(7).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
