//! What to do about it: one table, keyed by the step and the errno.

use crate::plan::step::Step;
use crate::setup::namespaces::Action as Namespace;
use crate::sys::Failure;
use nix::errno::Errno;

/// The hint for a failed step, if there is one worth giving.
pub fn hint(step: &Step, failure: &Failure) -> Option<String> {
    let words = match (step, failure.errno) {
        (Step::Cgroup(_), Errno::EROFS) => "the cgroup file system is read-only here: run where it can be written",
        (Step::Cgroup(_), Errno::EACCES | Errno::EPERM) => "making cgroups needs root, or a delegated subtree",
        (Step::Cgroup(_), Errno::ENOSPC) => "too many cgroups: see /proc/cgroups and cgroup.max.descendants",
        (Step::Clone(_), Errno::EPERM) => "making namespaces needs root (CAP_SYS_ADMIN)",
        (Step::Clone(_) | Step::Namespace(Namespace::NewNetwork | Namespace::Unshare(_)), Errno::ENOSPC) => {
            "a limit in /proc/sys/user/max_*_namespaces is reached"
        }
        (Step::Clone(_), Errno::EAGAIN) => "a limit on processes is reached: RLIMIT_NPROC, pids.max or kernel.pid_max",
        (Step::Overlay(_), Errno::EINVAL) => {
            "`dmesg | tail` may have the kernel's words; the store must not lie on an overlay, NFS or a case-insensitive directory"
        }
        (Step::Overlay(_), Errno::ENODEV) => {
            "`modprobe overlay`: the kernel has it as a module that could not be loaded"
        }
        (Step::Overlay(_), Errno::ESTALE) => {
            "the container was made of other layers, or its store was copied from elsewhere"
        }
        (Step::IdMap(_), Errno::EINVAL) => "the ranges must not overlap, and id 0 must be mapped",
        (Step::Console(_), Errno::ENOENT | Errno::ECONNREFUSED) => {
            "the caller of --console-socket must listen before it calls us"
        }
        (Step::PidfdSocket(_), Errno::ENOENT | Errno::ECONNREFUSED) => {
            "the caller of --pidfd-socket must listen before it calls us"
        }
        (Step::Agent(_), Errno::ENOENT | Errno::ECONNREFUSED) => {
            "the agent must listen there before the container is made"
        }
        (Step::Messenger, Errno::EAGAIN) => {
            "linux.resources.pids.limit, or RLIMIT_NPROC, must leave room for one thread more"
        }
        (Step::Limit(_), Errno::EPERM | Errno::EACCES) => "raising it needs CAP_SYS_RESOURCE",
        _ => return None,
    };
    Some(words.to_owned())
}
