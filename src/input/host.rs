//! The host as a plan sees it: every fact that `plan` may ask of the machine, gathered once.
//!
//! A plan is a function of the configuration and of these facts, so a golden test fixes them and `explain` can print a plan
//! of another machine. A fact that cannot be read is assumed, and `assumed` says so.
//!
//! Try it by hand: `uname -r`; `stat -f -c %T /sys/fs/cgroup` (`cgroup2fs` is one unified hierarchy, `tmpfs` a directory of v1
//! hierarchies); `cat /sys/fs/cgroup/cgroup.controllers`; `grep ' - cgroup ' /proc/self/mountinfo`.
//!
//! The layout is decided by statfs(2), never by `/proc/self/cgroup`: that file lists v1 hierarchies also where a private mount
//! namespace shows a cgroup2 alone. mountinfo is only read when there is v1, since it is long on a machine with many containers.

use crate::error::{Error, Result};
use crate::sys::file::{self, End};
use nix::sys::stat::stat;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The oldest kernel that Corten works on: `CLONE_INTO_CGROUP`, `mount_setattr` and `cgroup.kill` are all there.
pub const KERNEL_FLOOR: (u32, u32) = (5, 14);

/// What is assumed where the kernel's release cannot be read, and what golden tests plan for.
const USUAL_KERNEL: (u32, u32) = (6, 12);

/// Where every distribution mounts its cgroups.
const CGROUP_MOUNT: &str = "/sys/fs/cgroup";

/// The controllers of a current kernel's cgroup2, in the kernel's order.
const USUAL_CONTROLLERS: [&str; 8] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

/// Facts about the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// How cgroups are mounted.
    pub cgroups: CgroupLayout,
    /// Effective user id of the caller.
    pub euid: u32,
    /// Are all ids of the caller, also the real and the saved ones, of user and group, 0?
    pub is_root: bool,
    /// Is the caller in the first user namespace? Then it owns every namespace that the caller is in.
    pub first_user_namespace: bool,
    /// What could not be read and was assumed instead, a sentence each.
    pub assumed: Vec<String>,
}

/// How the host mounts its cgroups, see cgroups(7).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CgroupLayout {
    /// One cgroup2 at this mount point (`/sys/fs/cgroup`).
    Unified {
        /// Mount point.
        mount: PathBuf,
        /// The words of its `cgroup.controllers`.
        controllers: Vec<String>,
    },
    /// v1 hierarchies; a hybrid host's empty cgroup2 is not used.
    Legacy {
        /// Sorted by mount point.
        hierarchies: Vec<Hierarchy>,
    },
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// Mount point, `/sys/fs/cgroup/cpu,cpuacct`.
    pub mount: PathBuf,
    /// Controllers, `["cpu", "cpuacct"]`, or `["name=systemd"]` for a named one.
    pub controllers: Vec<String>,
}

impl Host {
    /// Asks this machine. Never fails: what cannot be read is assumed and listed in `assumed`.
    pub fn read() -> Host {
        let mut assumed = Vec::new();
        let kernel = uname().ok().and_then(|names| parse_release(&names.release().to_string_lossy()));
        let kernel = kernel.unwrap_or_else(|| {
            assumed
                .push(format!("the kernel's release cannot be read: {}.{} is assumed", USUAL_KERNEL.0, USUAL_KERNEL.1));
            USUAL_KERNEL
        });
        let cgroups = read_layout(&mut assumed);
        // Its number is fixed: PROC_USER_INIT_INO in the kernel's proc_ns.h. By hand: `readlink /proc/self/ns/user`.
        let first_user_namespace = stat("/proc/self/ns/user").is_ok_and(|file| file.st_ino == 0xEFFF_FFFD);
        let (euid, is_root) = (crate::sys::start::euid(), crate::sys::start::is_root());
        Host { kernel, cgroups, euid, is_root, first_user_namespace, assumed }
    }

    /// A fixed machine for golden tests: kernel 6.12, one cgroup2 with every controller, root.
    pub fn fixed() -> Host {
        Host {
            kernel: USUAL_KERNEL,
            cgroups: usual_layout(),
            euid: 0,
            is_root: true,
            first_user_namespace: true,
            assumed: Vec::new(),
        }
    }

    /// The same machine with eight v1 hierarchies, two of them joint, and systemd's named one.
    pub fn fixed_v1() -> Host {
        let joint: [&[&str]; 8] = [
            &["blkio"],
            &["cpu", "cpuacct"],
            &["cpuset"],
            &["devices"],
            &["freezer"],
            &["memory"],
            &["pids"],
            &["name=systemd"],
        ];
        let hierarchy = |controllers: &[&str]| Hierarchy {
            mount: Path::new(CGROUP_MOUNT).join(controllers.join(",").trim_start_matches("name=")),
            controllers: controllers.iter().map(|word| (*word).to_owned()).collect(),
        };
        Host {
            cgroups: CgroupLayout::Legacy { hierarchies: joint.into_iter().map(hierarchy).collect() },
            ..Host::fixed()
        }
    }

    /// Refuses a kernel older than [`KERNEL_FLOOR`], and names both.
    pub fn check_floor(&self) -> Result<()> {
        if self.kernel >= KERNEL_FLOOR {
            return Ok(());
        }
        let (have, need) = (self.kernel, KERNEL_FLOOR);
        Err(Error::new(format!(
            "kernel {}.{} is too old: Linux {}.{} or later is needed",
            have.0, have.1, need.0, need.1
        )))
    }
}

/// Major and minor version out of `6.12.9-amd64`.
fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn usual_layout() -> CgroupLayout {
    let controllers = USUAL_CONTROLLERS.map(String::from).to_vec();
    CgroupLayout::Unified { mount: CGROUP_MOUNT.into(), controllers }
}

fn read_layout(assumed: &mut Vec<String>) -> CgroupLayout {
    let mount = Path::new(CGROUP_MOUNT);
    if statfs(mount).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC) {
        return match file::read_text(mount.join("cgroup.controllers"), End::Less) {
            Ok(text) => CgroupLayout::Unified {
                mount: mount.into(),
                controllers: text.split_ascii_whitespace().map(String::from).collect(),
            },
            Err(errno) => {
                assumed.push(format!(
                    "{CGROUP_MOUNT}/cgroup.controllers cannot be read ({}): every controller is assumed",
                    crate::sys::name(errno)
                ));
                usual_layout()
            }
        };
    }
    let mountinfo = file::read_bytes("/proc/self/mountinfo", End::Nothing).unwrap_or_default();
    let hierarchies = parse_hierarchies(&mountinfo);
    if hierarchies.is_empty() {
        assumed.push(format!("no cgroups are mounted: one cgroup2 at {CGROUP_MOUNT} is assumed"));
        return usual_layout();
    }
    CgroupLayout::Legacy { hierarchies }
}

/// The v1 hierarchies of a mountinfo (proc_pid_mountinfo(5)), sorted by mount point. Of several mounts of one hierarchy the one below
/// `/sys/fs/cgroup` is taken, and of those the first.
fn parse_hierarchies(mountinfo: &[u8]) -> Vec<Hierarchy> {
    // Words of a v1 superblock that are no controllers, see cgroup1_show_options in the kernel.
    const FLAGS: [&[u8]; 7] =
        [b"rw", b"ro", b"noprefix", b"xattr", b"clone_children", b"cpuset_v2_mode", b"favordynmods"];
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        // Of any number of fields the fifth is the mount point; behind a lone dash come type, source and the superblock's options.
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(mount), Some(_), Some(b"cgroup")) = (words.nth(4), words.find(|word| *word == b"-"), words.next())
        else {
            continue;
        };
        let Some(options) = words.nth(1) else { continue };
        let is_controller = |word: &&[u8]| !FLAGS.contains(word) && !word.starts_with(b"release_agent=");
        let text = |word| String::from_utf8_lossy(word).into_owned();
        let controllers: Vec<String> = options.split(|byte| *byte == b',').filter(is_controller).map(text).collect();
        let mount = unescape(mount);
        match found.iter_mut().find(|other| other.controllers == controllers) {
            Some(other) if !other.mount.starts_with(CGROUP_MOUNT) && mount.starts_with(CGROUP_MOUNT) => {
                other.mount = mount
            }
            Some(_) => {}
            None => found.push(Hierarchy { mount, controllers }),
        }
    }
    // As text: the parts of a path, compared one by one, would cost more than all the rest.
    found.sort_by(|a, b| a.mount.as_os_str().cmp(b.mount.as_os_str()));
    found
}

/// Undoes mountinfo's octal escapes: `\040` is a space.
fn unescape(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes[at..].strip_prefix(b"\\").and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_read_as_two_numbers() {
        assert_eq!(parse_release("6.18.44-fc-v509\n"), Some((6, 18)));
        assert_eq!(parse_release("5.14-rc1"), Some((5, 14)));
        assert_eq!(parse_release("6"), None);
        assert_eq!(parse_release(""), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let host = Host::read();
        assert_eq!(host.assumed, Vec::<String>::new());
        assert!(host.check_floor().is_ok(), "{:?}", host.kernel);
        match host.cgroups {
            CgroupLayout::Unified { mount, .. } => assert_eq!(mount, Path::new(CGROUP_MOUNT)),
            CgroupLayout::Legacy { hierarchies } => assert!(!hierarchies.is_empty()),
        }
    }

    #[test]
    fn an_old_kernel_is_named() {
        let old = Host { kernel: (5, 10), ..Host::fixed() };
        assert_eq!(old.check_floor().unwrap_err().to_string(), "kernel 5.10 is too old: Linux 5.14 or later is needed");
        assert!(Host { kernel: (5, 14), ..Host::fixed() }.check_floor().is_ok());
        assert!(Host { kernel: (6, 0), ..Host::fixed() }.check_floor().is_ok());
    }

    #[test]
    fn mountinfo_gives_each_hierarchy_once() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            90 31 0:30 / /mnt/my\\040cg rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:31 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
            32 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,release_agent=/lib/x,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            42 31 0:39 / /a\\040b rw - cgroup cgroup ro,pids\n\
            broken line\n";
        let found: Vec<_> = parse_hierarchies(text.as_bytes())
            .into_iter()
            .map(|h| (h.mount.display().to_string(), h.controllers.join(",")))
            .collect();
        let expected = [
            ("/a b", "pids"),
            ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
            ("/sys/fs/cgroup/memory", "memory"),
            ("/sys/fs/cgroup/systemd", "name=systemd"),
        ];
        assert_eq!(found, expected.map(|(mount, words)| (mount.to_owned(), words.to_owned())));
    }

    #[test]
    fn the_fixed_hosts_stay_as_they_are() {
        let CgroupLayout::Unified { controllers, .. } = Host::fixed().cgroups else { panic!("not unified") };
        assert_eq!(controllers.join(" "), "cpuset cpu io memory hugetlb pids rdma misc");
        let CgroupLayout::Legacy { hierarchies } = Host::fixed_v1().cgroups else { panic!("not v1") };
        let mounts: Vec<_> = hierarchies.iter().map(|h| h.mount.to_str().unwrap()).collect();
        assert!(mounts.is_sorted(), "{mounts:?}");
        assert!(mounts.contains(&"/sys/fs/cgroup/cpu,cpuacct"));
        assert!(mounts.contains(&"/sys/fs/cgroup/systemd"));
    }
}
