//! `linux`: namespaces, id maps, devices and what else only Linux has.
//!
//! What this version does not do is refused here by its name (`intelRdt`, `netDevices`, `memoryPolicy`): a setting that is read and then
//! forgotten would be worse than none. Empty ones ask for nothing and pass.

use super::{absolute, each, id_mappings, list, resources, seccomp, text};
use crate::input::config::{Device, DeviceKind, Linux, Namespace, NamespaceKind, Propagation, TimeOffset};
use crate::input::place::{Place, Report, quote};
use crate::input::spec;
use oci_spec::runtime as oci;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Permission bits of a device node when none are given, as runc.
const DEVICE_MODE: u32 = 0o666;
/// `S_IFMT`: callers copy whole `st_mode`s into `fileMode`.
const FILE_TYPE: u32 = 0o170_000;
/// The kernel's 12 bits of major and 20 bits of minor number.
const MAX_MAJOR: i64 = 0xfff;
const MAX_MINOR: i64 = 0xf_ffff;

/// `linux`.
pub fn linux(linux: spec::Linux, place: &Place, report: &mut Report) -> Linux {
    let refused = [
        (linux.intel_rdt.is_some(), "intelRdt"),
        (linux.net_devices.as_ref().is_some_and(|devices| !devices.is_empty()), "netDevices"),
        (linux.memory_policy.is_some(), "memoryPolicy"),
    ];
    for (_, name) in refused.iter().filter(|(asked, _)| *asked) {
        report.fault(place.key(name), format!("this version of Corten has no {name}"));
    }
    Linux {
        namespaces: namespaces(list(&linux.namespaces), &place.key("namespaces"), report),
        uid_mappings: id_mappings(&linux.uid_mappings, &place.key("uidMappings"), report),
        gid_mappings: id_mappings(&linux.gid_mappings, &place.key("gidMappings"), report),
        time_offsets: time_offsets(&linux, &place.key("timeOffsets"), report),
        devices: each(list(&linux.devices), &place.key("devices"), report, device),
        cgroups_path: cgroups_path(linux.cgroups_path.as_deref(), &place.key("cgroupsPath"), report),
        resources: linux
            .resources
            .as_ref()
            .map(|r| resources::resources(r, &place.key("resources"), report))
            .unwrap_or_default(),
        sysctl: linux.sysctl.into_iter().flatten().collect(),
        seccomp: linux.seccomp.map(|s| Rc::new(seccomp::seccomp(s, &place.key("seccomp"), report))),
        rootfs_propagation: text(linux.rootfs_propagation)
            .and_then(|word| propagation(&word, &place.key("rootfsPropagation"), report)),
        masked_paths: paths(linux.masked_paths, &place.key("maskedPaths"), report),
        readonly_paths: paths(linux.readonly_paths, &place.key("readonlyPaths"), report),
        mount_label: text(linux.mount_label),
        personality: linux.personality.as_ref().map(|p| personality(p, &place.key("personality"), report)),
    }
}

fn namespaces(namespaces: &[oci::LinuxNamespace], place: &Place, report: &mut Report) -> Vec<Namespace> {
    use oci::LinuxNamespaceType as Type;
    let namespaces = each(namespaces, place, report, |namespace, place, report| {
        let kind = match namespace.typ() {
            Type::User => NamespaceKind::User,
            Type::Pid => NamespaceKind::Pid,
            Type::Mount => NamespaceKind::Mount,
            Type::Network => NamespaceKind::Network,
            Type::Ipc => NamespaceKind::Ipc,
            Type::Uts => NamespaceKind::Uts,
            Type::Cgroup => NamespaceKind::Cgroup,
            Type::Time => NamespaceKind::Time,
        };
        let file = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty());
        Namespace { kind, path: file.map(|path| absolute(path, &place.key("path"), report)) }
    });
    for (at, namespace) in namespaces.iter().enumerate() {
        if namespaces[..at].iter().any(|other| other.kind == namespace.kind) {
            report.fault(place.index(at), "a second namespace of this type");
        }
    }
    namespaces
}

fn time_offsets(linux: &spec::Linux, place: &Place, report: &mut Report) -> Vec<TimeOffset> {
    let mut offsets = Vec::new();
    for (name, offset) in linux.time_offsets.iter().flatten() {
        let at = place.name(name);
        let clock = match name.as_str() {
            "monotonic" => "monotonic",
            "boottime" => "boottime",
            _ => {
                report.fault(at, "no such clock: there are monotonic and boottime");
                continue;
            }
        };
        let nanosecs = offset.nanosecs().unwrap_or(0);
        if nanosecs >= 1_000_000_000 {
            report.fault(at.key("nanosecs"), format!("{nanosecs} is a second or more"));
        }
        offsets.push(TimeOffset { clock, secs: offset.secs().unwrap_or(0), nanosecs });
    }
    // oci-spec has a hash map here, whose order changes from run to run.
    offsets.sort_by_key(|offset| offset.clock);
    offsets
}

fn device(device: &oci::LinuxDevice, place: &Place, report: &mut Report) -> Device {
    use oci::LinuxDeviceType as Type;
    let kind = match device.typ() {
        Type::B => DeviceKind::Block,
        Type::C | Type::U => DeviceKind::Char,
        Type::P => DeviceKind::Fifo,
        Type::A => {
            report.fault(place.key("type"), "\"a\" is for rules; a node is one of c, b, u, p");
            DeviceKind::Char
        }
    };
    let mode = device.file_mode().unwrap_or(DEVICE_MODE) & !FILE_TYPE;
    if mode > 0o7777 {
        report.fault(place.key("fileMode"), format!("{mode} is above 4095, which is octal 7777"));
    }
    Device {
        path: absolute(device.path(), &place.key("path"), report),
        kind,
        major: device_number(device.major(), MAX_MAJOR, &place.key("major"), report),
        minor: device_number(device.minor(), MAX_MINOR, &place.key("minor"), report),
        mode,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    }
}

/// A major number of any device.
pub fn major(number: i64, place: &Place, report: &mut Report) -> u32 {
    device_number(number, MAX_MAJOR, place, report)
}

/// A minor number of any device.
pub fn minor(number: i64, place: &Place, report: &mut Report) -> u32 {
    device_number(number, MAX_MINOR, place, report)
}

fn device_number(number: i64, most: i64, place: &Place, report: &mut Report) -> u32 {
    if !(0..=most).contains(&number) {
        report.fault(place, format!("{number} is not between 0 and {most}"));
    }
    u32::try_from(number).unwrap_or(0)
}

fn cgroups_path(path: Option<&Path>, place: &Place, report: &mut Report) -> Option<String> {
    let path = path?.to_str()?;
    if path.is_empty() {
        return None;
    }
    if path.split(['/', ':']).any(|part| part == "..") {
        report.fault(place, format!("{} leads out of the cgroup tree", quote(path)));
    }
    super::path(Path::new(path), place, report);
    Some(path.to_owned())
}

fn propagation(word: &str, place: &Place, report: &mut Report) -> Option<Propagation> {
    // With and without the leading r: Docker writes `rslave`, the specification `slave`.
    let known = match word.strip_prefix('r').unwrap_or(word) {
        "private" => Some(Propagation::Private),
        "shared" => Some(Propagation::Shared),
        "slave" => Some(Propagation::Slave),
        "unbindable" => Some(Propagation::Unbindable),
        _ => None,
    };
    if known.is_none() {
        report.fault(place, format!("{} is unknown; it can be private, shared, slave, unbindable", quote(word)));
    }
    known
}

fn paths(paths: Option<Vec<String>>, place: &Place, report: &mut Report) -> Vec<PathBuf> {
    each(paths.unwrap_or_default(), place, report, |of, place, report| absolute(Path::new(&of), place, report))
}

/// `PER_LINUX` and `PER_LINUX32` of personality(2).
fn personality(personality: &oci::LinuxPersonality, place: &Place, report: &mut Report) -> u32 {
    if !list(personality.flags()).is_empty() {
        report.fault(place.key("flags"), "no flags are defined by the specification");
    }
    match personality.domain() {
        oci::LinuxPersonalityDomain::PerLinux => 0,
        oci::LinuxPersonalityDomain::PerLinux32 => 8,
    }
}
