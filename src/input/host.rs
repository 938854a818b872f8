//! The host as a plan sees it: every fact that `plan` may ask of the machine, gathered once.
//!
//! A plan is a function of the configuration and of these facts, so a golden test fixes them and `explain` can print a plan
//! of another machine. A fact that cannot be read is assumed, and `assumed` says so.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Facts about the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// How cgroups are mounted.
    pub cgroups: CgroupLayout,
    /// Effective user id of the caller.
    pub euid: u32,
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
