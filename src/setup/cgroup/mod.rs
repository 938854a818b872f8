//! Control groups: what a container may use, and which processes are its own.
//!
//! The kernel offers a tree of directories. Making a directory makes a group, writing to its files sets limits, and a process that is
//! put into it keeps all its descendants there: it cannot leave, so the group is the one sure list of a container's
//! processes. There are two forms (cgroups(7)). Version 2 is one tree, usually at `/sys/fs/cgroup`. Version 1 is a tree for each
//! controller, `/sys/fs/cgroup/memory` and so on, and a container has a directory of the same name in each; a hybrid host mounts a
//! version-2 tree beside them, which has no controllers, and which is left alone.
//!
//! By hand:
//!
//! ```text
//! # mkdir /sys/fs/cgroup/try                        version 2           # mkdir /sys/fs/cgroup/memory/try     version 1
//! # echo 64M > /sys/fs/cgroup/try/memory.max                            # echo 64M > …/memory/try/memory.limit_in_bytes
//! # echo $$ > /sys/fs/cgroup/try/cgroup.procs                           # echo 0 > …/memory/try/tasks
//! # rmdir /sys/fs/cgroup/try                        once it is empty
//! ```
//!
//! What we do: [`decide`] turns `linux.cgroupsPath` and `linux.resources` into the directories of one container and a list of
//! [`Change`]s, made before the container's first process exists, so that no instant of its life is without limits. The process is
//! born in its group ([`Cgroup::open_directory`], for `CLONE_INTO_CGROUP`) or puts itself there ([`Cgroup::tasks`]). `control` is what
//! happens to the group afterwards: freeze, kill, remove.
//!
//! - `v1` and `v2` are two tables: which file, with which value, for each limit; `table` is what they have in common, `devices` makes
//!   the rules for devices.
//! - `change` is the part that touches the disk.
//!
//! A path is always taken below the mount point's root, absolute or not: what `/proc/self/cgroup` says of the caller depends on
//! namespaces and mounts, and a container's place must not depend on where its runtime was called from. Directories above the group that
//! had to be made stay when it is removed, as with runc: others may have come to use them.
//!
//! What goes wrong: attaching is where the time goes. The first write to `cgroup.procs` after an idle time waits for an RCU grace
//! period, 10 ms and more, in both versions. Only a single-threaded process that writes `0` to `tasks`, or a clone into the group, does not wait.
//!
//! A limit whose controller the host lacks is refused by name. What runc ignores is ignored here too: `memory.kernel` everywhere;
//! on version 2 `swappiness`, `disableOOMKiller`, `kernelTCP`, real-time scheduling, leaf weights and `network`, which it does
//! not have; on any host the wish for no limit where there is no controller that could set one.

mod change;
mod control;
mod devices;
mod many;
mod table;
mod v1;
mod v2;

#[cfg(test)]
mod host_tests;

pub use change::{Absent, Change, Group, Origin, Write};
pub use devices::{Policy, Verdict};
pub use many::{Freezers, Group as RecordedGroup};

use crate::input::Fault;
use crate::input::config::Resources;
use crate::input::host::CgroupLayout;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use table::{Entry, Otherwise, Setting};

/// Where the path stands in the configuration.
const PATH_PLACE: &str = "linux.cgroupsPath";

/// The group of one container: what the state records, and all that is needed to use the group later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// Which form the host has.
    pub version: Version,
    /// Below the root of each hierarchy, clean and absolute: `/web`, `/docker/6d3f…`.
    pub path: String,
    /// Version 2: exactly one. Version 1: one for each hierarchy that the container joins.
    pub directories: Vec<Directory>,
}

/// The two forms of cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// A hierarchy for each controller, or for several together; also on a hybrid host.
    V1,
    /// One hierarchy.
    V2,
}

/// The group's directory in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// `["cpu", "cpuacct"]`, `["name=systemd"]`; in version 2 all that the host's root has.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted: `/sys/fs/cgroup/cpu,cpuacct`.
    pub mount: PathBuf,
    /// The directory itself, absolute: `/sys/fs/cgroup/cpu,cpuacct/web`.
    pub path: PathBuf,
}

impl Directory {
    /// The directories between the mount point and this one, the uppermost first.
    fn parents(&self) -> Vec<PathBuf> {
        let mut above: Vec<_> =
            self.path.ancestors().skip(1).take_while(|p| **p != self.mount).map(Path::to_owned).collect();
        above.reverse();
        above
    }
}

impl Cgroup {
    /// The group's directory in the hierarchy of a version-1 controller, or the only one of version 2 when that has the controller.
    pub fn directory(&self, controller: &str) -> Option<&Directory> {
        self.directories.iter().find(|d| d.controllers.iter().any(|c| c == controller))
    }
}

/// Decides the group of one container, and all that must be done before its first process can be put there, in order.
///
/// `cgroups_path` is `linux.cgroupsPath`; without it the group is `/<id>`. Reads nothing from the disk: `layout` says all.
pub fn decide(
    cgroups_path: Option<&str>,
    id: &str,
    resources: &Resources,
    layout: &CgroupLayout,
) -> Result<(Cgroup, Vec<Change>), Vec<Fault>> {
    let mut faults = Vec::new();
    let path = match cgroups_path.filter(|path| !path.is_empty()) {
        Some(path) => clean(path).unwrap_or_else(|fault| {
            faults.push(fault);
            String::new()
        }),
        None => format!("/{id}"),
    };
    let cgroup = match layout {
        CgroupLayout::Unified { mount, controllers } => Cgroup {
            version: Version::V2,
            directories: vec![Directory {
                controllers: controllers.clone(),
                mount: mount.clone(),
                path: below(mount, &path),
            }],
            path,
        },
        CgroupLayout::Legacy { hierarchies } => Cgroup {
            version: Version::V1,
            directories: hierarchies
                .iter()
                .enumerate()
                .filter(|(i, h)| v1::joined(h) && !hierarchies[..*i].iter().any(|e| e.controllers == h.controllers))
                .map(|(_, h)| Directory {
                    controllers: h.controllers.clone(),
                    mount: h.mount.clone(),
                    path: below(&h.mount, &path),
                })
                .collect(),
            path,
        },
    };
    let table = match cgroup.version {
        Version::V1 => v1::table(resources),
        Version::V2 => v2::table(resources),
    };
    faults.extend(table.faults);
    let entries = table.entries.into_iter().map(|entry| resolve(entry, &cgroup));
    let changes = entries.filter_map(|result| result.map_err(|fault| faults.push(fault)).ok().flatten()).collect();
    let policy = Policy::decide(&resources.devices).map_err(|more| faults.extend(more)).ok();
    let changes = match cgroup.version {
        Version::V1 => v1::arrange(&cgroup, resources, changes, policy.as_ref()),
        Version::V2 => v2::arrange(&cgroup, changes, policy.as_ref()),
    };
    match changes {
        Err(fault) => faults.push(fault),
        Ok(changes) if faults.is_empty() => return Ok((cgroup, changes)),
        Ok(_) => {}
    }
    Err(faults)
}

/// The path as the kernel will see it. Fault: it leads outside, or nowhere.
fn clean(path: &str) -> Result<String, Fault> {
    let refuse = |cause: &str| Err(Fault::new(PATH_PLACE, format!("{path:?} {cause}")));
    if path.contains(['\0', '\n']) {
        return refuse("has a character that no cgroup's name can have");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return refuse("has \"..\" in it, which could lead to a cgroup of somebody else");
    }
    if parts.is_empty() {
        return refuse("is the root, which belongs to the host: name a cgroup below it");
    }
    Ok(format!("/{}", parts.join("/")))
}

fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

/// Finds the directory for an entry. `None`: nothing to do. Fault: the host does not have the controller.
fn resolve(entry: Entry, cgroup: &Cgroup) -> Result<Option<Change>, Fault> {
    let directory = |controller: &str, place: &str| match cgroup.directory(controller) {
        Some(directory) => Ok(directory.path.as_path()),
        // These are in every cgroup of version 2, whatever its controllers.
        None if cgroup.version == Version::V2 && controller == "cgroup" => Ok(cgroup.directories[0].path.as_path()),
        None => Err(Fault::new(place, format!("this host's cgroups have no {controller} controller"))),
    };
    let write = |setting: Setting| -> Result<Option<Write>, Fault> {
        let directory = match directory(&setting.controller, &setting.place) {
            Err(_) if setting.lifts => return Ok(None),
            other => other?,
        };
        Ok(Some(Write {
            path: directory.join(&setting.file),
            values: setting.values,
            place: setting.place,
            absent: match setting.absent {
                Otherwise::Refuse => Absent::Refused,
                Otherwise::Ignore => Absent::Ignored,
                Otherwise::Use(file, values) => Absent::Instead { path: directory.join(file), values },
            },
        }))
    };
    Ok(match entry {
        Entry::One(setting) => write(setting)?.map(Change::Write),
        Entry::Two(first, second) => match (write(first)?, write(second)?) {
            (Some(first), Some(second)) => Some(Change::Pair { first, second }),
            (one, other) => one.or(other).map(Change::Write),
        },
        Entry::Below { controller, file, limit, place } => {
            Some(Change::Check { path: directory(controller, place)?.join(file), limit, place: place.to_owned() })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::config::{DeviceRule, Memory};
    use crate::input::host::Hierarchy;

    pub(super) fn v1(controllers: &[&str]) -> CgroupLayout {
        let hierarchy = |names: &&str| Hierarchy {
            mount: Path::new("/sys/fs/cgroup").join(names.trim_start_matches("name=")),
            controllers: names.split(',').map(str::to_owned).collect(),
        };
        CgroupLayout::Legacy { hierarchies: controllers.iter().map(hierarchy).collect() }
    }

    pub(super) fn v2(controllers: &str) -> CgroupLayout {
        let controllers = controllers.split_whitespace().map(str::to_owned).collect();
        CgroupLayout::Unified { mount: "/sys/fs/cgroup".into(), controllers }
    }

    fn allow_all() -> Resources {
        let all =
            DeviceRule { allow: true, kind: None, major: None, minor: None, read: true, write: true, mknod: true };
        Resources { devices: vec![all], ..Resources::default() }
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes.iter().map(Change::to_string).collect()
    }

    #[test]
    fn paths_are_taken_below_the_root_and_cannot_leave_it() {
        let path = |given| decide(given, "web", &allow_all(), &v2("memory")).map(|(cgroup, _)| cgroup.path);
        assert_eq!(path(None).unwrap(), "/web");
        assert_eq!(path(Some("")).unwrap(), "/web");
        assert_eq!(path(Some("/a/b")).unwrap(), "/a/b");
        assert_eq!(path(Some("a//./b/")).unwrap(), "/a/b");
        assert_eq!(path(Some("a..b/..c")).unwrap(), "/a..b/..c");
        for bad in ["/", ".", "//", "..", "/a/../b", "../../etc", "a/..", "a\nb", "a\0b"] {
            let faults = path(Some(bad)).unwrap_err();
            assert_eq!(faults.len(), 1, "{bad:?}: {faults:?}");
            assert_eq!(faults[0].place, "linux.cgroupsPath", "{bad:?}");
        }
    }

    #[test]
    fn version_2_makes_one_directory_and_enables_what_is_missing() {
        let resources = Resources {
            memory: Memory { limit: Some(64 << 20), ..Memory::default() },
            pids_limit: Some(100),
            ..allow_all()
        };
        let (cgroup, changes) = decide(Some("/docker/web"), "web", &resources, &v2("cpu memory pids")).unwrap();
        assert_eq!(cgroup.directories[0].path, Path::new("/sys/fs/cgroup/docker/web"));
        assert_eq!(
            shown(&changes),
            [
                r#"mkdirat("/sys/fs/cgroup/docker/web", 0755); [mkdirat("/sys/fs/cgroup/docker", 0755); mkdirat("/sys/fs/cgroup/docker/web", 0755)]"#,
                r#"openat("/sys/fs/cgroup/docker/web/cgroup.controllers"); read(); [openat("/sys/fs/cgroup/cgroup.subtree_control"); read(); [openat("/sys/fs/cgroup/cgroup.subtree_control"); [write(+cpu +memory +pids)]]…; openat("/sys/fs/cgroup/docker/cgroup.subtree_control"); read(); [openat("/sys/fs/cgroup/docker/cgroup.subtree_control"); [write(+cpu +memory +pids)]]…]"#,
                r#"openat("/sys/fs/cgroup/docker/web/memory.max"); write("67108864")"#,
                r#"openat("/sys/fs/cgroup/docker/web/pids.max"); write("100")"#,
            ]
        );
    }

    #[test]
    fn version_1_makes_a_directory_in_each_hierarchy_that_runc_joins() {
        let layout = v1(&["cpu,cpuacct", "memory", "name=systemd", "name=elogind", "cpuset", "memory"]);
        let resources = Resources { memory: Memory { limit: Some(4096), ..Memory::default() }, ..allow_all() };
        let (cgroup, changes) = decide(None, "web", &resources, &layout).unwrap();
        let joined: Vec<String> = cgroup.directories.iter().map(|d| d.controllers.join(",")).collect();
        assert_eq!(joined, ["cpu,cpuacct", "memory", "name=systemd", "cpuset"]);
        assert_eq!(
            shown(&changes),
            [
                r#"mkdirat("/sys/fs/cgroup/cpu,cpuacct/web", 0755)"#,
                r#"mkdirat("/sys/fs/cgroup/memory/web", 0755)"#,
                r#"mkdirat("/sys/fs/cgroup/systemd/web", 0755)"#,
                r#"mkdirat("/sys/fs/cgroup/cpuset/web", 0755)"#,
                r#"openat("/sys/fs/cgroup/cpuset/web/cpuset.cpus"); read(); [openat("/sys/fs/cgroup/cpuset/cpuset.cpus"); read(); write()]"#,
                r#"openat("/sys/fs/cgroup/cpuset/web/cpuset.mems"); read(); [openat("/sys/fs/cgroup/cpuset/cpuset.mems"); read(); write()]"#,
                r#"openat("/sys/fs/cgroup/memory/web/memory.limit_in_bytes"); write("4096")"#,
            ]
        );
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_by_name() {
        let resources = Resources {
            memory: Memory { limit: Some(64 << 20), swap: Some(-1), ..Memory::default() },
            pids_limit: Some(0),
            network_class_id: Some(5),
            ..allow_all()
        };
        let faults = |layout| decide(None, "web", &resources, &layout).unwrap_err();
        assert_eq!(
            faults(v1(&["pids"])).iter().map(Fault::to_string).collect::<Vec<_>>(),
            [
                "linux.resources.memory.limit: this host's cgroups have no memory controller",
                "linux.resources.network.classID: this host's cgroups have no net_cls controller",
            ]
        );
        assert_eq!(
            faults(v2("cpu")).iter().map(Fault::to_string).collect::<Vec<_>>(),
            ["linux.resources.memory.limit: this host's cgroups have no memory controller"]
        );
    }

    #[test]
    fn the_state_keeps_the_group_as_it_was() {
        let (cgroup, _) = decide(None, "web", &allow_all(), &v1(&["cpu,cpuacct", "name=systemd"])).unwrap();
        let text = serde_json::to_string(&cgroup).unwrap();
        assert_eq!(serde_json::from_str::<Cgroup>(&text).unwrap(), cgroup);
        assert!(text.contains(r#""version":"v1""#), "{text}");
    }
}
