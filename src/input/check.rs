//! What only shows when two fields are looked at together: a hostname and no namespace to set it in, a sysctl of the host.
//!
//! Namespaces decide what a setting reaches. Try it by hand: `unshare -u hostname x` changes a name that nobody else sees, `hostname x` the
//! machine's. So whatever is set inside must have its namespace in the list, new or joined; otherwise it would be the host that is changed
//! (CVE-2022-0811 was a sysctl of that kind). The same checks run again after the command line changed the configuration.

use super::config::{Config, NamespaceKind};
use super::place::{Place, Report, quote};

/// Judges a whole configuration. Where the namespaces themselves are at fault, what depends on them is left alone.
pub fn check(config: &Config, report: &mut Report) {
    let top = Place::Root;
    let linux = top.key("linux");
    if report.touches("linux.namespaces") {
        return;
    }
    let has = |kind| config.linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    let is_new = |kind| config.linux.namespaces.iter().any(|n| n.kind == kind && n.path.is_none());
    let mut needs = |set: bool, kind, place: &Place, name: &str| {
        if set && !has(kind) {
            report.fault(place, format!("set, but there is no {name} namespace"));
        }
    };
    use NamespaceKind::{Mount, Time, User, Uts};
    needs(config.hostname.is_some(), Uts, &top.key("hostname"), "uts");
    needs(config.domainname.is_some(), Uts, &top.key("domainname"), "uts");
    needs(!config.linux.uid_mappings.is_empty(), User, &linux.key("uidMappings"), "user");
    needs(!config.linux.gid_mappings.is_empty(), User, &linux.key("gidMappings"), "user");
    needs(!config.linux.time_offsets.is_empty(), Time, &linux.key("timeOffsets"), "time");
    // Without one of its own, masking would be done to the host's files.
    needs(!config.linux.masked_paths.is_empty(), Mount, &linux.key("maskedPaths"), "mount");
    needs(!config.linux.readonly_paths.is_empty(), Mount, &linux.key("readonlyPaths"), "mount");

    if !config.linux.time_offsets.is_empty() && has(Time) && !is_new(Time) {
        report.fault(linux.key("timeOffsets"), "set, but the time namespace is an existing one");
    }
    if is_new(User) {
        for (mappings, name) in
            [(&config.linux.uid_mappings, "uidMappings"), (&config.linux.gid_mappings, "gidMappings")]
        {
            if mappings.is_empty() && !report.touches(&format!("linux.{name}")) {
                report.fault(linux.key(name), "missing, but there is a new user namespace");
            }
        }
    }
    for (key, value) in &config.linux.sysctl {
        if let Err(cause) = sysctl(key, value, has) {
            report.fault(linux.key("sysctl").name(key), cause);
        }
    }
}

/// The sysctls of System V IPC, per ipc namespace: see ipc_namespaces(7).
const IPC_SYSCTLS: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

fn sysctl(key: &str, value: &str, has: impl Fn(NamespaceKind) -> bool) -> Result<(), String> {
    let parts = sysctl_parts(key).ok_or("is not the name of a sysctl")?;
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (kind, name) = match words[..] {
        ["kernel", "hostname"] => return Err("is set by `hostname`".to_owned()),
        ["kernel", "domainname"] => (NamespaceKind::Uts, "uts"),
        ["kernel", name] if IPC_SYSCTLS.contains(&name) => (NamespaceKind::Ipc, "ipc"),
        ["fs", "mqueue", _] => (NamespaceKind::Ipc, "ipc"),
        ["net", _, ..] => (NamespaceKind::Network, "network"),
        _ => return Err("belongs to the whole host, not to a namespace".to_owned()),
    };
    if !has(kind) {
        return Err(format!("set, but there is no {name} namespace"));
    }
    if value.trim_end_matches('\n').chars().any(|c| c.is_control() && c != '\t') {
        return Err(format!("the value {} is not one line", quote(value)));
    }
    Ok(())
}

/// The components of a sysctl's name below `/proc/sys`. Separated by dots, where a slash stands for a dot within a name, or by slashes:
/// the first separator decides, as sysctl(8) has it (`net.ipv4.conf.eth0/1.forwarding`, `net/ipv4/conf/eth0.1/forwarding`).
///
/// `None` if it is no such name: an empty component, `.` or `..`, or a strange character.
pub fn sysctl_parts(key: &str) -> Option<Vec<String>> {
    let separator = key.chars().find(|c| *c == '.' || *c == '/')?;
    let other = if separator == '.' { '/' } else { '.' };
    let parts: Vec<String> = key.split(separator).map(|part| part.replace(other, ".")).collect();
    let good = |part: &String| {
        !part.is_empty() && part != "." && part != ".." && part.chars().all(|c| c.is_ascii_graphic() && c != '/')
    };
    parts.iter().all(good).then_some(parts)
}
