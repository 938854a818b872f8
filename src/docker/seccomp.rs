//! Docker's default filter of system calls: what is allowed, by what the call is about.
//!
//! What the kernel offers is seccomp(2); `setup::seccomp` compiles the profile. By hand: `docker run --rm busybox unshare -m true` says "Operation not
//! permitted", with `--cap-add SYS_ADMIN` it works, and so it does with `--security-opt seccomp=unconfined`.
//!
//! What we do: every call that is not in the table fails with EPERM. Most groups are for everyone; some come with a capability, because the kernel asks
//! for that anyway; a few exist on one architecture only. `clone` must not make namespaces without CAP_SYS_ADMIN, and as a filter cannot look behind
//! `clone3`'s pointer, that one answers ENOSYS, whereupon the C library takes `clone`. Sockets are of all families but two: AF_ALG (38) and
//! AF_VSOCK (40), which lead past every namespace.
//!
//! What goes wrong: a profile in a file (`--security-opt seccomp=FILE`) has Docker's own format, with conditions that OCI's does not have; it is resolved
//! here too. A condition that was overlooked would open what it should close, so an unknown key of a rule is an error.

use crate::error;
use crate::error::Result;
use crate::input::config::Arch;
use crate::setup::caps;
use serde_json::{Map, Value, json};

/// When a group is allowed.
enum When {
    Always,
    /// The container has this capability.
    Holds(&'static str),
    /// On these machines, as Docker's profile names them.
    On(&'static [&'static str]),
}

use When::{Always, Holds, On};

/// Names by what they are about.
const ALLOWED: [(When, &str); 39] = [
    // Open, read, write, close.
    (
        Always,
        "open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek",
    ),
    (
        Always,
        "dup dup2 dup3 fcntl fcntl64 ioctl flock fsync fdatasync sync syncfs sync_file_range readahead fadvise64 fadvise64_64 fallocate",
    ),
    (
        Always,
        "truncate truncate64 ftruncate ftruncate64 copy_file_range sendfile sendfile64 splice tee vmsplice pipe pipe2",
    ),
    // What lies under a name.
    (
        Always,
        "access faccessat faccessat2 stat stat64 fstat fstat64 lstat lstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 statmount listmount",
    ),
    (
        Always,
        "mkdir mkdirat mknod mknodat link linkat symlink symlinkat readlink readlinkat rename renameat renameat2 rmdir unlink unlinkat",
    ),
    (
        Always,
        "chdir fchdir getcwd getdents getdents64 umask chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32",
    ),
    (
        Always,
        "utime utimes utimensat utimensat_time64 futimesat name_to_handle_at inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    ),
    (
        Always,
        "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr listxattrat",
    ),
    (Always, "removexattr lremovexattr fremovexattr removexattrat"),
    // Memory.
    (
        Always,
        "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock munlockall membarrier mseal remap_file_pages",
    ),
    (
        Always,
        "memfd_create memfd_secret cachestat map_shadow_stack pkey_alloc pkey_free pkey_mprotect process_mrelease",
    ),
    // Processes and threads.
    (
        Always,
        "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp setpgid getsid setsid",
    ),
    (
        Always,
        "process_vm_readv process_vm_writev ptrace pidfd_open pidfd_send_signal prctl seccomp uname sysinfo getrusage times getcpu rseq uretprobe",
    ),
    (
        Always,
        "landlock_create_ruleset landlock_add_rule landlock_restrict_self set_tid_address set_thread_area get_thread_area riscv_hwprobe",
    ),
    (
        Always,
        "futex futex_time64 futex_requeue futex_wait futex_waitv futex_wake get_robust_list set_robust_list restart_syscall",
    ),
    // Who one is, and what one may use.
    (
        Always,
        "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 getgroups getgroups32",
    ),
    (
        Always,
        "setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 setgroups setgroups32",
    ),
    (
        Always,
        "setfsuid setfsuid32 setfsgid setfsgid32 capget capset getrlimit setrlimit prlimit64 ugetrlimit getpriority setpriority ioprio_get ioprio_set",
    ),
    (
        Always,
        "sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler",
    ),
    (Always, "sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64"),
    // Signals.
    (
        Always,
        "kill tkill tgkill pause sigaltstack sigprocmask sigreturn signalfd signalfd4 rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo",
    ),
    (Always, "rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo"),
    // Clocks and timers. Setting a clock is refused by the kernel without CAP_SYS_TIME.
    (
        Always,
        "time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_adjtime clock_adjtime64 adjtimex nanosleep",
    ),
    (
        Always,
        "clock_nanosleep clock_nanosleep_time64 alarm getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64",
    ),
    (
        Always,
        "timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    ),
    // Waiting for many.
    (
        Always,
        "poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old",
    ),
    (
        Always,
        "epoll_pwait epoll_pwait2 eventfd eventfd2 io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64 getrandom",
    ),
    // Sockets; making one is below.
    (
        Always,
        "socketcall socketpair bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt",
    ),
    (Always, "send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64"),
    // System V and POSIX inter-process communication.
    (
        Always,
        "ipc msgget msgsnd msgrcv msgctl semget semop semctl semtimedop semtimedop_time64 shmget shmat shmdt shmctl",
    ),
    (
        Always,
        "mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64",
    ),
    // One architecture's own.
    (On(&["arm", "arm64"]), "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
    (On(&["amd64", "x32"]), "arch_prctl"),
    (On(&["amd64", "x32", "x86"]), "modify_ldt"),
    // With a capability.
    (
        Holds("CAP_SYS_ADMIN"),
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Holds("CAP_SYS_PTRACE"), "kcmp pidfd_getfd process_madvise"),
    (Holds("CAP_SYS_MODULE"), "delete_module init_module finit_module"),
    (Holds("CAP_SYS_TIME"), "settimeofday stime clock_settime clock_settime64"),
    (Holds("CAP_SYS_NICE"), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
];

/// Capabilities that bring a call or two.
const WITH: [(&str, &str); 9] = [
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
];

/// What personality(2) may be set to: Linux on 32 or 64 bits, with or without `UNAME26`, or none (a question).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// The flags of clone(2) that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u64 = 0x7E02_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The machine as Docker's profiles name it, and what its filters are for.
fn machine(arch: Arch) -> (&'static str, &'static [&'static str]) {
    match arch {
        Arch::X86_64 => ("amd64", &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        Arch::X86 => ("x86", &["SCMP_ARCH_X86"]),
        Arch::X32 => ("x32", &["SCMP_ARCH_X32"]),
        Arch::Aarch64 => ("arm64", &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        Arch::Arm => ("arm", &["SCMP_ARCH_ARM"]),
    }
}

fn allow(names: &[&str], args: Value) -> Value {
    let mut rule = json!({"action": "SCMP_ACT_ALLOW"});
    rule["names"] = names.iter().copied().collect();
    rule["args"] = args;
    rule
}

/// `linux.seccomp` for a container with these capabilities (bit n is capability n). Pure.
pub fn default(capabilities: u64, arch: Arch) -> Value {
    let holds = |name: &str| caps::number(name).is_some_and(|number| capabilities & 1 << number != 0);
    let (machine, architectures) = machine(arch);
    let mut names: Vec<&str> = Vec::new();
    for (when, group) in &ALLOWED {
        let applies = match when {
            Always => true,
            Holds(capability) => holds(capability),
            On(machines) => machines.contains(&machine),
        };
        if applies {
            names.extend(group.split(' '));
        }
    }
    for (_, group) in WITH.iter().filter(|(capability, _)| holds(capability)) {
        let more: Vec<&str> = group.split(' ').filter(|name| !names.contains(name)).collect();
        names.extend(more);
    }
    let compare = |index: u8, op: &str, value: u64| json!([{"index": index, "op": op, "value": value}]);
    let mut rules = vec![
        allow(&names, json!([])),
        allow(&["socket"], compare(0, "SCMP_CMP_LT", 38)),
        allow(&["socket"], compare(0, "SCMP_CMP_EQ", 39)),
        allow(&["socket"], compare(0, "SCMP_CMP_GT", 40)),
    ];
    rules.extend(PERSONALITIES.iter().map(|value| allow(&["personality"], compare(0, "SCMP_CMP_EQ", *value))));
    if !holds("CAP_SYS_ADMIN") {
        let none_of = json!([{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": NEW_NAMESPACES, "valueTwo": 0}]);
        rules.push(allow(&["clone"], none_of));
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "architectures": architectures,
    });
    profile["syscalls"] = rules.into();
    profile
}

/// Keys of a rule that OCI knows, and of conditions that it does not.
const RULE_KEYS: [&str; 9] =
    ["names", "name", "action", "errnoRet", "errno", "args", "includes", "excludes", "comment"];
const CONDITION_KEYS: [&str; 3] = ["caps", "arches", "minKernel"];

/// A profile in Docker's format, or in OCI's, as `linux.seccomp`: conditions are judged, and disappear. Pure.
pub fn resolve(text: &[u8], capabilities: u64, arch: Arch, kernel: (u32, u32)) -> Result<Value> {
    let mut profile: Map<String, Value> = serde_json::from_slice(text).map_err(|e| error!("{e}"))?;
    let (machine, native) = machine(arch);
    let map = profile.remove("archMap").filter(|map| !map.is_null());
    if let Some(map) = map {
        if profile.get("architectures").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            return Err(error!("has both architectures and archMap"));
        }
        let listed = map.as_array().ok_or_else(|| error!("archMap is not an array"))?;
        let row = listed.iter().find(|row| row["architecture"] == json!(native[0]));
        let below = row.and_then(|row| row["subArchitectures"].as_array()).cloned().unwrap_or_default();
        let all: Vec<Value> = row.map(|row| row["architecture"].clone()).into_iter().chain(below).collect();
        profile.insert("architectures".to_owned(), all.into());
    }
    let context = Context { capabilities, machine, kernel };
    let Some(rules) = profile.get_mut("syscalls").filter(|rules| !rules.is_null()) else { return Ok(profile.into()) };
    let rules = rules.as_array_mut().ok_or_else(|| error!("syscalls is not an array"))?;
    let mut kept = Vec::new();
    for (at, rule) in std::mem::take(rules).into_iter().enumerate() {
        kept.extend(context.resolve(rule).map_err(|e| e.at(format!("syscalls[{at}]")))?);
    }
    *rules = kept;
    Ok(profile.into())
}

struct Context {
    capabilities: u64,
    machine: &'static str,
    kernel: (u32, u32),
}

impl Context {
    /// The rule without its conditions, if they hold.
    fn resolve(&self, rule: Value) -> Result<Option<Value>> {
        let Value::Object(mut rule) = rule else { return Err(error!("is not an object")) };
        if let Some(key) = rule.keys().find(|key| !RULE_KEYS.contains(&key.as_str())) {
            return Err(error!("{} is unknown", super::quote(key)));
        }
        rule.remove("comment");
        // Podman's profiles have the errno's name beside its number.
        if rule.remove("errno").is_some_and(|name| name != json!("")) && !rule.contains_key("errnoRet") {
            return Err(error!("has errno without errnoRet"));
        }
        let (includes, excludes) = (condition(rule.remove("includes"))?, condition(rule.remove("excludes"))?);
        let holds = |name: &String| caps::number(name).is_some_and(|number| self.capabilities & 1 << number != 0);
        let here = |name: &String| name == self.machine;
        let included = includes.caps.iter().all(holds)
            && (includes.arches.is_empty() || includes.arches.iter().any(here))
            && includes.kernel.is_none_or(|least| self.kernel >= least);
        let excluded = excludes.caps.iter().any(holds)
            || excludes.arches.iter().any(here)
            || excludes.kernel.is_some_and(|least| self.kernel >= least);
        if !included || excluded {
            return Ok(None);
        }
        // An old form has one name.
        if let Some(name) = rule.remove("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty())) {
            if rule.get("names").and_then(Value::as_array).is_some_and(|names| !names.is_empty()) {
                return Err(error!("has both name and names"));
            }
            rule.insert("names".to_owned(), json!([name]));
        }
        Ok(Some(rule.into()))
    }
}

#[derive(Default)]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    kernel: Option<(u32, u32)>,
}

fn condition(value: Option<Value>) -> Result<Condition> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(Condition::default()) };
    let object = value.as_object().ok_or_else(|| error!("a condition is not an object"))?;
    if let Some(key) = object.keys().find(|key| !CONDITION_KEYS.contains(&key.as_str())) {
        return Err(error!("the condition {} is unknown", super::quote(key)));
    }
    let list = |key: &str| -> Result<Vec<String>> {
        match object.get(key) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(list) => serde_json::from_value(list.clone()).map_err(|_| error!("{key} is not a list of names")),
        }
    };
    let kernel = match object.get("minKernel") {
        None | Some(Value::Null) => None,
        Some(version) => {
            let parts = version.as_str().and_then(|text| text.split_once('.'));
            let read = parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
            Some(read.ok_or_else(|| error!("minKernel is not a version as \"4.8\""))?)
        }
    };
    Ok(Condition { caps: list("caps")?, arches: list("arches")?, kernel })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(profile: &Value) -> Vec<&str> {
        profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|rule| rule["names"].as_array().unwrap())
            .filter_map(Value::as_str)
            .collect()
    }

    fn mask(names: &[&str]) -> u64 {
        names.iter().filter_map(|name| caps::number(name)).map(|number| 1 << number).sum()
    }

    #[test]
    fn capabilities_bring_calls() {
        let none = default(0, Arch::X86_64);
        let admin = default(mask(&["CAP_SYS_ADMIN"]), Arch::X86_64);
        assert!(!names(&none).contains(&"mount") && names(&admin).contains(&"mount"));
        // Without it clone3 is there to be refused in another way.
        assert_eq!(none["syscalls"].as_array().unwrap().last().unwrap()["errnoRet"], 38);
        assert!(names(&none).contains(&"arch_prctl"));
        assert!(!names(&default(0, Arch::Aarch64)).contains(&"arch_prctl"));
        assert!(!names(&none).contains(&"io_uring_setup"));
    }

    #[test]
    fn no_name_stands_twice_and_every_capability_is_one() {
        let mut all: Vec<&str> = ALLOWED.iter().flat_map(|(_, group)| group.split(' ')).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let held = ALLOWED.iter().filter_map(|(when, _)| match when {
            Holds(name) => Some(*name),
            _ => None,
        });
        for name in held.chain(WITH.iter().map(|(name, _)| *name)) {
            assert!(caps::number(name).is_some(), "{name}");
        }
    }

    #[test]
    fn conditions_are_resolved() {
        let profile = br#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
            "syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_CHOWN"]},"excludes":{}},
                {"name":"b","action":"SCMP_ACT_ALLOW","includes":{"arches":["arm64"]}},
                {"names":["c"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
                {"names":["d"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_CHOWN"]},"comment":"x"}]}"#;
        let of = |capabilities, arch, kernel| resolve(profile, capabilities, arch, kernel).unwrap();
        let chown = mask(&["CAP_CHOWN"]);
        assert_eq!(names(&of(chown, Arch::X86_64, (6, 1))), ["a", "c"]);
        assert_eq!(names(&of(0, Arch::X86_64, (4, 7))), ["d"]);
        assert_eq!(names(&of(0, Arch::Aarch64, (4, 8))), ["b", "c", "d"]);
        assert_eq!(of(0, Arch::X86_64, (6, 1))["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        for (text, why) in [
            ("[]", "map"),
            (
                r#"{"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","include":{}}]}"#,
                "syscalls[0]: include is unknown",
            ),
            (r#"{"syscalls":[{"names":["a"],"includes":{"cap":[]}}]}"#, "the condition cap is unknown"),
            (r#"{"syscalls":[{"names":["a"],"includes":{"minKernel":"x"}}]}"#, "minKernel"),
        ] {
            let error = resolve(text.as_bytes(), 0, Arch::X86_64, (6, 1)).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
