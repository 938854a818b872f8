//! Kernel parameters of the container's namespaces, see proc(5) and sysctl(8).
//!
//! **What the kernel offers.** Files below `/proc/sys`. Most are the machine's; those of `net`, of System V and POSIX queues, and
//! the names belong to a namespace, and a process sees those of its own.
//!
//! **Try it.** `unshare --net sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'; cat /proc/sys/net/ipv4/ip_forward`: still 0.
//!
//! **What we do.** The child, inside its namespaces, writes each value by one write(2) below the kept descriptor of procfs, so
//! that nothing the container mounts over `/proc` can redirect it (CVE-2025-52881).
//!
//! **What goes wrong.** A key that is not namespaced would change the host: refused before anything starts. A key may be written
//! with dots or slashes; with slashes, a dot belongs to the name: `net/ipv4/conf/eth0.1/forwarding`.

use crate::input::Fault;
use crate::input::config::{Config, NamespaceKind};
use crate::sys::{Failure, Result, procfs};
use nix::errno::Errno;
use std::fmt;

use super::Held;

/// One parameter to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// As the configuration has it.
    pub key: String,
    /// As the configuration has it.
    pub value: String,
}

/// All of `linux.sysctl`, sorted by key.
pub fn decide(config: &Config) -> Vec<Action> {
    config.linux.sysctl.iter().map(|(key, value)| Action { key: key.clone(), value: value.clone() }).collect()
}

/// Keys of the ipc namespace beside `fs.mqueue.*`.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// What is wrong with `linux.sysctl`: keys that no namespace holds, or whose namespace the container does not have.
pub fn faults(config: &Config) -> Vec<Fault> {
    let has = |kind| config.linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    let cause = |key: &str, value: &str| {
        let path = path(key);
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Some("not the name of a kernel parameter".to_owned());
        }
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Some("its value holds a control character".to_owned());
        }
        let (kind, name) = if IPC.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
            (NamespaceKind::Ipc, "ipc")
        } else if path.starts_with("net/") {
            (NamespaceKind::Network, "network")
        } else if path == "kernel/domainname" {
            (NamespaceKind::Uts, "uts")
        } else if path == "kernel/hostname" {
            return Some("conflicts with `hostname`, which sets the same".to_owned());
        } else {
            return Some("not in a namespace: it would change the host".to_owned());
        };
        (!has(kind)).then(|| format!("set, but there is no {name} namespace: it would change the host"))
    };
    let place = |key: &String| format!("linux.sysctl.{key}");
    config.linux.sysctl.iter().filter_map(|(key, value)| Some(Fault::new(place(key), cause(key, value)?))).collect()
}

/// The file of a key below `/proc/sys`. Where the first separator is a dot, dots separate and a slash stands for a dot.
fn path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(first) if key[first..].starts_with('.') => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = path(&self.key);
        write!(f, "openat2(proc, \"sys/{path}\"); write({:?})", self.value)
    }
}

impl Action {
    /// Writes the value.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        let explain = |failure: Failure| match failure.errno {
            Errno::ENOENT => failure.because(format!("sysctl {}: this kernel has no such parameter", self.key)),
            Errno::EINVAL | Errno::ERANGE => {
                failure.because(format!("sysctl {}: the kernel refuses the value {:?}", self.key, self.value))
            }
            Errno::EACCES | Errno::EPERM | Errno::EROFS => {
                failure.because(format!("sysctl {}: may not be written by the container's root", self.key))
            }
            _ => failure,
        };
        procfs::write(held.proc()?, &format!("sys/{}", path(&self.key)), &self.value).map_err(explain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::config::{Linux, Namespace};
    use crate::sys::alone::{alone, is_alone, is_root};

    fn config(keys: &[(&str, &str)], kinds: &[NamespaceKind]) -> Config {
        let sysctl = keys.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let namespaces = kinds.iter().map(|kind| Namespace { kind: *kind, path: None }).collect();
        Config { linux: Linux { sysctl, namespaces, ..Linux::default() }, ..Config::default() }
    }

    #[test]
    fn dots_and_slashes_name_the_same_file() {
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eno2.100/rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
        assert_eq!(path("net.ipv4.conf.eno2/100.rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
    }

    #[test]
    fn only_keys_of_own_namespaces_pass() {
        use NamespaceKind::{Ipc, Network, Uts};
        let good = [("fs.mqueue.msg_max", "10"), ("kernel.sem", "250\t32000"), ("net.core.somaxconn", "1")];
        assert_eq!(faults(&config(&good, &[Ipc, Network])), []);
        assert_eq!(faults(&config(&good, &[Network])).len(), 2);
        assert_eq!(faults(&config(&[("kernel.domainname", "x")], &[Uts])), []);
        let bad = [
            ("kernel.core_pattern", "|/x"),
            ("kernel.hostname", "x"),
            ("net/../kernel/core_pattern", "x"),
            ("net.ipv4.x", "1\n2"),
            ("user.max_user_namespaces", "1"),
            ("", "x"),
            ("net..x", "1"),
        ];
        let found = faults(&config(&bad, &[Ipc, Network, Uts]));
        assert_eq!(found.len(), bad.len(), "{found:?}");
        assert_eq!(
            found[1].to_string(),
            "linux.sysctl.kernel.core_pattern: not in a namespace: it would change the host"
        );
    }

    #[test]
    fn explain_shows_the_file() {
        let shown = decide(&config(&[("net.ipv4.ip_forward", "1")], &[]))[0].to_string();
        assert_eq!(shown, r#"openat2(proc, "sys/net/ipv4/ip_forward"); write("1")"#);
    }

    #[test]
    fn values_are_written_in_the_namespace_alone() {
        if !is_root() {
            return;
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
        alone("setup::sysctl::tests::values_are_written_in_the_namespace_alone", || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWIPC).unwrap();
            let mut held = Held { proc: Some(crate::sys::path::host_proc().unwrap()), ..Held::default() };
            let mut apply = |key: &str, value: &str| Action { key: key.into(), value: value.into() }.apply(&mut held);
            apply("kernel.msgmax", "4321").unwrap();
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap(), "4321\n");
            let because = apply("kernel.msgmax", "many").unwrap_err().because.unwrap();
            assert_eq!(because, "sysctl kernel.msgmax: the kernel refuses the value \"many\"");
            let because = apply("kernel.none", "1").unwrap_err().because.unwrap();
            assert_eq!(because, "sysctl kernel.none: this kernel has no such parameter");
        });
        let now = std::fs::read_to_string("/proc/sys/kernel/msgmax").unwrap();
        assert!(is_alone() || now == host);
    }
}
