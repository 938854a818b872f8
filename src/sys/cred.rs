//! What a process is and may do: ids, capabilities(7), limits, keyrings(7), scheduling.
//!
//! The ids are set by raw system calls: libc wraps them to change every thread at once and blocks all signals meanwhile, four
//! calls more each, and the child has one thread.

use super::check;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// `_LINUX_CAPABILITY_VERSION_3`: two words of 32 capabilities.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The three sets of capset(2), bit n for capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySets {
    /// In force.
    pub effective: u64,
    /// May be made effective.
    pub permitted: u64,
    /// Kept over execve of a file with inheritable capabilities.
    pub inheritable: u64,
}

/// capget(2) of the calling thread.
pub fn capget() -> nix::Result<CapabilitySets> {
    let mut header = CapHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut words = [CapWord::default(); 2];
    // SAFETY: version 3 makes the kernel fill in two words, which is what `words` holds.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, words.as_mut_ptr()) })?;
    let join = |word: fn(&CapWord) -> u32| u64::from(word(&words[0])) | u64::from(word(&words[1])) << 32;
    Ok(CapabilitySets {
        effective: join(|word| word.effective),
        permitted: join(|word| word.permitted),
        inheritable: join(|word| word.inheritable),
    })
}

/// capset(2) of the calling thread.
pub fn capset(sets: CapabilitySets) -> nix::Result<()> {
    let mut header = CapHeader { version: CAPABILITY_VERSION, pid: 0 };
    let word = |shift: u32| CapWord {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let words = [word(0), word(32)];
    // SAFETY: version 3 makes the kernel read two words, which is what `words` holds.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, words.as_ptr()) }).map(drop)
}

fn prctl(option: i32, argument: u64, second: u64) -> nix::Result<libc::c_long> {
    // SAFETY: called below with options that take integers only.
    check(unsafe { libc::syscall(libc::SYS_prctl, option, argument, second, 0, 0) })
}

/// Takes a capability out of the bounding set. `EINVAL`: the kernel has no such capability.
pub fn drop_bounding(capability: u8) -> nix::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// Is a capability in the bounding set?
pub fn in_bounding(capability: u8) -> nix::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, capability.into(), 0).map(|found| found == 1)
}

/// Empties the ambient set.
pub fn clear_ambient() -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Adds a capability to the ambient set; it must be permitted and inheritable.
pub fn raise_ambient(capability: u8) -> nix::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability.into()).map(drop)
}

/// prctl(2) `PR_SET_KEEPCAPS`: do the permitted capabilities survive a change from user 0 to another one?
pub fn set_keep_capabilities(keep: Keep) -> nix::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, (keep == Keep::Kept).into(), 0).map(drop)
}

/// For [`set_keep_capabilities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// They survive.
    Kept,
    /// They are lost, the kernel's default.
    Lost,
}

/// prctl(2) `PR_SET_NO_NEW_PRIVS`.
pub fn set_no_new_privileges() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// setgroups(2).
pub fn set_groups(groups: &[u32]) -> nix::Result<()> {
    // SAFETY: pointer and length are those of `groups`, which the kernel only reads.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// setresgid(2) with all three the same.
pub fn set_gid(gid: u32) -> nix::Result<()> {
    // SAFETY: three integers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// setresuid(2) with all three the same.
pub fn set_uid(uid: u32) -> nix::Result<()> {
    // SAFETY: three integers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct Rlimit64 {
    soft: u64,
    hard: u64,
}

/// prlimit(2): sets soft and hard limit of a process, 0 for the caller.
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let new = Rlimit64 { soft, hard };
    let old = std::ptr::null_mut::<Rlimit64>();
    // SAFETY: `new` is read during the call; a null pointer asks for no answer.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const new, old) }).map(drop)
}

/// prlimit(2): soft and hard limit of a process, 0 for the caller.
pub fn limit(pid: i32, resource: u32) -> nix::Result<(u64, u64)> {
    let mut old = Rlimit64::default();
    let new = std::ptr::null::<Rlimit64>();
    // SAFETY: `old` is writable and of the size that the kernel writes.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new, &raw mut old) })?;
    Ok((old.soft, old.hard))
}

/// personality(2).
pub fn set_personality(persona: u32) -> nix::Result<()> {
    // SAFETY: one integer.
    check(unsafe { libc::syscall(libc::SYS_personality, libc::c_ulong::from(persona)) }).map(drop)
}

/// ioprio_set(2) for the calling process: class 1 to 3, level 0 to 7.
pub fn set_io_priority(class: u8, level: u8) -> nix::Result<()> {
    const WHO_PROCESS: i32 = 1;
    let priority = i32::from(class) << 13 | i32::from(level);
    // SAFETY: three integers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) }).map(drop)
}

/// `struct sched_attr` of sched_setattr(2), first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedulerAttributes {
    /// Filled in by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// sched_setattr(2) for the calling thread.
pub fn set_scheduler(attributes: SchedulerAttributes) -> nix::Result<()> {
    let mut attributes = SchedulerAttributes { size: size_of::<SchedulerAttributes>() as u32, ..attributes };
    // SAFETY: `size` tells the kernel how much of `attributes` it may read.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attributes, 0) }).map(drop)
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> nix::Result<()> {
    // SAFETY: pointer and length are those of `name`, which the kernel only reads.
    check(unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) }).map(drop)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: leaves the caller's session keyring for a new one, and returns its serial number.
pub fn join_session_keyring(name: &str) -> nix::Result<i32> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: a C string that outlives the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })
        .map(|serial| serial as i32)
}

/// keyctl(2) `KEYCTL_DESCRIBE`: `type;uid;gid;permissions;name`.
pub fn describe_key(serial: i32) -> nix::Result<String> {
    let mut text = vec![0u8; 512];
    // SAFETY: pointer and length are those of `text`.
    let length = check(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::KEYCTL_DESCRIBE, serial, text.as_mut_ptr(), text.len())
    })?;
    text.truncate((length as usize).saturating_sub(1));
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// keyctl(2) `KEYCTL_SETPERM`.
pub fn set_key_permissions(serial: i32, permissions: u32) -> nix::Result<()> {
    // SAFETY: two integers.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM, serial, permissions) }).map(drop)
}

/// getcwd(2) as the kernel answers: `(unreachable)/x` when the directory lies outside of the root.
///
/// libc's getcwd would hide that behind `ENOENT`, or search for a path on its own.
pub fn working_directory() -> nix::Result<PathBuf> {
    let mut path = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: pointer and length are those of `path`.
    let length = check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    path.truncate((length as usize).saturating_sub(1));
    Ok(std::ffi::OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_can_be_read_again() {
        let sets = capget().unwrap();
        assert_eq!(sets.effective & !sets.permitted, 0);
        capset(sets).unwrap();
        assert_eq!(capget().unwrap(), sets);
        let (soft, hard) = limit(0, libc::RLIMIT_CORE).unwrap();
        set_limit(0, libc::RLIMIT_CORE, soft, hard).unwrap();
        assert_eq!(set_limit(0, 99, 0, 0), Err(Errno::EINVAL));
    }

    #[test]
    fn no_kernel_has_capability_63() {
        assert_eq!(in_bounding(63), Err(Errno::EINVAL));
    }

    #[test]
    fn the_working_directory_is_the_one_std_sees() {
        assert_eq!(working_directory().unwrap(), std::env::current_dir().unwrap());
    }
}
