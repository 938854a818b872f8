//! The seccomp filter, seen from inside.

use crate::harness::{Bundle, Out};
use serde_json::{Value, json};

fn rule(names: &[&str], action: &str) -> Value {
    json!({"names": names, "action": action})
}

fn profile(default: &str, rules: Vec<Value>) -> Value {
    json!({
        "defaultAction": default,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules
    })
}

fn sh(profile: Value, script: &str) -> Bundle {
    Bundle::busybox().sh(script).edit(|s| s["linux"]["seccomp"] = profile)
}

/// Makes one system call with perl, and prints its result or errno.
fn call(profile: Value, call: &str) -> Out {
    let script = format!("$r = syscall({call}); print $r == -1 ? 'errno ' . ($! + 0) : $r");
    let b = Bundle::busybox().with_usr().args(["perl", "-e", &script]).edit(|s| s["linux"]["seccomp"] = profile);
    b.run()
}

const ALLOW: &str = "SCMP_ACT_ALLOW";
/// getpriority(2) on x86_64: takes two numbers, harmless.
const GETPRIORITY: i32 = 140;

#[test]
fn nothing_is_filtered_without_a_profile() {
    Bundle::busybox().args(["grep", "^Seccomp:", "/proc/self/status"]).run().ok().stdout("Seccomp:\t0\n");
    sh(profile(ALLOW, vec![rule(&["mkdir"], "SCMP_ACT_ERRNO")]), "grep ^Seccomp: /proc/self/status")
        .run()
        .ok()
        .stdout("Seccomp:\t2\n");
}

#[test]
fn errno() {
    let b = sh(profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]), "mkdir /x");
    b.run().code(1).stderr_has("Operation not permitted");
    let mut with = rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    with["errnoRet"] = 28.into();
    sh(profile(ALLOW, vec![with]), "mkdir /x").run().code(1).stderr_has("No space left");
}

#[test]
fn errno_zero_lies() {
    let mut with = rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    with["errnoRet"] = 0.into();
    sh(profile(ALLOW, vec![with]), "mkdir /x && test ! -e /x && echo lied").run().ok().stdout("lied\n");
}

#[test]
fn kill_and_trap() {
    for (action, code) in
        [("SCMP_ACT_KILL", 159), ("SCMP_ACT_KILL_PROCESS", 159), ("SCMP_ACT_KILL_THREAD", 159), ("SCMP_ACT_TRAP", 159)]
    {
        let b = sh(profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], action)]), "mkdir /x; exit $?");
        b.run().code(code);
    }
}

#[test]
fn log_lets_through() {
    sh(profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], "SCMP_ACT_LOG")]), "mkdir /x && echo made")
        .run()
        .ok()
        .stdout("made\n");
}

#[test]
fn trace_without_a_tracer() {
    let mut with = rule(&["mkdir", "mkdirat"], "SCMP_ACT_TRACE");
    with["errnoRet"] = 5.into();
    sh(profile(ALLOW, vec![with]), "mkdir /x").run().code(1).stderr_has("not implemented");
}

#[test]
fn a_profile_that_lets_only_a_list_through() {
    let b = Bundle::busybox().args(["sh", "-c", "echo fine; mkdir /x"]).edit(|s| {
        // Everything that busybox and the runtime's last steps need.
        let names = [
            "execve",
            "exit",
            "exit_group",
            "brk",
            "arch_prctl",
            "set_tid_address",
            "write",
            "writev",
            "read",
            "open",
            "openat",
            "close",
            "mmap",
            "munmap",
            "mprotect",
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "fork",
            "vfork",
            "clone",
            "clone3",
            "wait4",
            "getpid",
            "getppid",
            "getuid",
            "geteuid",
            "getgid",
            "getegid",
            "stat",
            "fstat",
            "newfstatat",
            "lstat",
            "ioctl",
            "fcntl",
            "dup",
            "dup2",
            "dup3",
            "uname",
            "getcwd",
            "readlink",
            "prlimit64",
            "set_robust_list",
            "rseq",
            "getrandom",
            "futex",
            "prctl",
            "setuid",
            "setgid",
            "setgroups",
            "capset",
            "capget",
            "chdir",
            "epoll_pwait",
            "epoll_ctl",
            "nanosleep",
            "tgkill",
            "gettid",
            "getdents64",
            "fchown",
            "statfs",
            "fstatfs",
            "sigaltstack",
            "poll",
            "sched_yield",
            "sched_getaffinity",
            "seccomp",
            "close_range",
            "sendto",
            "sendmsg",
            "recvfrom",
            "recvmsg",
            "fchdir",
            "epoll_create1",
            "faccessat2",
            "faccessat",
            "access",
            "eventfd2",
            "lseek",
            "umask",
            "kill",
            "getsockopt",
            "madvise",
        ];
        let mut p = profile("SCMP_ACT_ERRNO", vec![rule(&names, ALLOW)]);
        p["defaultErrnoRet"] = 13.into();
        s["linux"]["seccomp"] = p;
    });
    if !crate::harness::runtime().is_corten() {
        // runc 1.1 answers ENOSYS to what is newer than the newest call of the profile, and takes the default as EPERM else.
        b.run().code(1).stdout("fine\n");
        return;
    }
    b.run().code(1).stdout("fine\n").stderr_has("Permission denied");
}

/// Each operator, below, at and above its value.
#[test]
fn operators() {
    let table: [(&str, u64, u64, [bool; 3]); 6] = [
        ("SCMP_CMP_NE", 5, 0, [true, false, true]),
        ("SCMP_CMP_LT", 5, 0, [true, false, false]),
        ("SCMP_CMP_LE", 5, 0, [true, true, false]),
        ("SCMP_CMP_EQ", 5, 0, [false, true, false]),
        ("SCMP_CMP_GE", 5, 0, [false, true, true]),
        ("SCMP_CMP_GT", 5, 0, [false, false, true]),
    ];
    for (op, value, two, matches) in table {
        let with = json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                          "args": [{"index": 1, "value": value, "valueTwo": two, "op": op}]});
        let p = profile(ALLOW, vec![with]);
        let script: String = [4, 5, 6]
            .iter()
            .map(|n| format!("$r = syscall({GETPRIORITY}, 0, {n}); print(($r == -1 && $! + 0 == 77) ? 'y' : 'n');"))
            .collect();
        let b = Bundle::busybox().with_usr().args(["perl", "-e", &script]).edit(|s| s["linux"]["seccomp"] = p);
        let wanted: String = matches.iter().map(|m| if *m { 'y' } else { 'n' }).collect();
        let out = b.run().ok();
        assert_eq!(out.out, wanted, "{op}");
    }
}

#[test]
fn masked_equality() {
    let with = json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                      "args": [{"index": 1, "value": 0xf0, "valueTwo": 0x50, "op": "SCMP_CMP_MASKED_EQ"}]});
    let p = profile(ALLOW, vec![with]);
    call(p.clone(), &format!("{GETPRIORITY}, 0, 0x5a")).ok().stdout("errno 77");
    call(p, &format!("{GETPRIORITY}, 0, 0x6a")).ok().stdout_has("errno 3");
}

#[test]
fn conditions_on_several_arguments() {
    let with = json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                      "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_GE"}]});
    let p = profile(ALLOW, vec![with]);
    call(p.clone(), &format!("{GETPRIORITY}, 0, 999999")).ok().stdout("errno 77");
    call(p.clone(), &format!("{GETPRIORITY}, 0, 4")).ok().stdout_lacks("errno 77");
    call(p, &format!("{GETPRIORITY}, 1, 999999")).ok().stdout_lacks("errno 77");
}

#[test]
fn sixty_four_bit_values() {
    let big: u64 = (1 << 32) + 5;
    let with = json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77,
                      "args": [{"index": 1, "value": big, "op": "SCMP_CMP_EQ"}]});
    let p = profile(ALLOW, vec![with]);
    call(p.clone(), &format!("{GETPRIORITY}, 0, {big}")).ok().stdout("errno 77");
    call(p, &format!("{GETPRIORITY}, 0, 5")).ok().stdout_lacks("errno 77");
}

#[test]
fn unknown_names_are_ignored() {
    let b = sh(profile(ALLOW, vec![rule(&["no_such_call", "mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]), "mkdir /x");
    b.run().code(1).stderr_has("not permitted");
}

#[test]
fn unknown_words_are_errors() {
    for (place, value) in [
        ("/linux/seccomp/defaultAction", "SCMP_ACT_MOON"),
        ("/linux/seccomp/architectures/0", "SCMP_ARCH_MOON"),
        ("/linux/seccomp/syscalls/0/action", "SCMP_ACT_MOON"),
        ("/linux/seccomp/syscalls/0/args/0/op", "SCMP_CMP_MOON"),
    ] {
        let with = json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]});
        let b = sh(profile(ALLOW, vec![with]), "true").edit(|s| *s.pointer_mut(place).unwrap() = value.into());
        b.run().code(1).stderr_has("MOON");
    }
}

#[test]
fn x32_calls_are_filtered_too() {
    let p = profile(ALLOW, vec![json!({"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77})]);
    // 0x40000000 is the bit of the x32 table; without the kernel's support it is ENOSYS.
    let out = call(p, "0x40000000 + 39").ok();
    assert!(out.out == "errno 77" || out.out == "errno 38", "{}", out.out);
}

#[test]
fn the_filter_holds_without_no_new_privileges() {
    let b = sh(profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]), "mkdir /x");
    let b = b.privileged().edit(|s| s["process"]["noNewPrivileges"] = false.into());
    b.run().code(1).stderr_has("not permitted");
}

#[test]
fn the_filter_holds_for_an_ordinary_user() {
    for nnp in [true, false] {
        let b = sh(
            profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]),
            "mkdir /tmp/x; grep ^Seccomp: /proc/self/status",
        );
        let b = b.edit(|s| {
            s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
            s["process"]["noNewPrivileges"] = nnp.into();
        });
        b.run().ok().stdout("Seccomp:\t2\n").stderr_has("not permitted");
    }
}

/// The profile refuses calls that the runtime itself made before: it comes last.
#[test]
fn the_filter_comes_last() {
    let refused = [
        "mount",
        "umount2",
        "pivot_root",
        "setns",
        "unshare",
        "sethostname",
        "chroot",
        "mknod",
        "mknodat",
        "setuid",
        "setgid",
        "setgroups",
        "capset",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsmount",
        "mount_setattr",
        "openat2",
    ];
    let b = sh(profile(ALLOW, vec![rule(&refused, "SCMP_ACT_KILL_PROCESS")]), "echo alive");
    let b = if crate::harness::runtime().is_corten() {
        b
    } else {
        b.edit(|s| s["process"]["noNewPrivileges"] = true.into())
    };
    b.run().ok().stdout("alive\n");
}

/// What is kept for `exec` may be gone or cut off, whatever the wording of config.json: then config.json says it.
#[test]
fn what_joins_is_filtered_whatever_is_kept_of_the_filter() {
    corten_only!("this state file");
    for loose in [false, true] {
        let p = profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]);
        let mut b = sh(p, "exec sleep 1000").edit(|s| s["process"]["env"] = json!(["PATH=/bin", "MINE=1"]));
        if loose {
            b = b.edit(|s| {
                let filter = s["linux"].as_object_mut().unwrap().remove("seccomp").unwrap();
                s["linux"]["Seccomp"] = filter;
            });
        }
        let c = b.start();
        let kept = b.root().join(&b.id).join("exec");
        let whole = std::fs::read(&kept).unwrap();
        for end in [whole.len(), whole.len() - 1, 12, 11, 4, 3, 0] {
            std::fs::write(&kept, &whole[..end]).unwrap();
            c.exec(["sh", "-c", "echo $MINE; mkdir /x"]).code(1).stdout("1\n").stderr_has("not permitted");
        }
        std::fs::remove_file(&kept).unwrap();
        c.exec(["sh", "-c", "echo $MINE; mkdir /x"]).code(1).stdout("1\n").stderr_has("not permitted");
    }
}

#[test]
fn flags() {
    not_on_runc!("1.1 refuses all flags");
    let mut p = profile(ALLOW, vec![rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]);
    p["flags"] = json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"]);
    sh(p.clone(), "mkdir /x").run().code(1).stderr_has("not permitted");
    p["flags"] = json!(["SECCOMP_FILTER_FLAG_MOON"]);
    sh(p, "true").run().code(1).stderr_has("SECCOMP_FILTER_FLAG_MOON");
}

#[test]
fn newer_calls_are_not_there() {
    // A call above the newest of the profile answers ENOSYS rather than EPERM, so that programs fall back.
    let names: Vec<&str> = vec![
        "execve",
        "exit",
        "exit_group",
        "brk",
        "arch_prctl",
        "set_tid_address",
        "write",
        "read",
        "open",
        "openat",
        "close",
        "mmap",
        "munmap",
        "mprotect",
        "rt_sigaction",
        "rt_sigprocmask",
        "getpid",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "stat",
        "fstat",
        "newfstatat",
        "lstat",
        "ioctl",
        "fcntl",
        "dup",
        "dup2",
        "dup3",
        "readlink",
        "prlimit64",
        "set_robust_list",
        "getrandom",
        "futex",
        "prctl",
        "setuid",
        "setgid",
        "setgroups",
        "capset",
        "capget",
        "chdir",
        "lseek",
        "pread64",
        "access",
        "sigaltstack",
        "rt_sigreturn",
        "epoll_ctl",
        "epoll_pwait",
        "nanosleep",
        "getcwd",
        "getdents64",
        "fchown",
        "fstatfs",
        "statfs",
        "getppid",
        "gettid",
        "tgkill",
        "sched_yield",
        "madvise",
        "clone",
        "uname",
        "getgroups",
        "gettimeofday",
        "clock_gettime",
        "time",
        "sendto",
        "sendmsg",
        "recvfrom",
        "recvmsg",
        "getsockopt",
        "umask",
    ];
    let mut p = profile("SCMP_ACT_ERRNO", vec![rule(&names, ALLOW)]);
    p["defaultErrnoRet"] = 1.into();
    // 9999 does not exist yet; 83 (mkdir) is old, and not allowed.
    call(p.clone(), "9999").ok().stdout("errno 38");
    call(p, "83, my $path = \"/x\", 0").ok().stdout("errno 1");
}

#[test]
fn dockers_profile() {
    // A profile of its size: 400 names, some by argument.
    let names: Vec<String> = include_str!("seccomp_names.txt").split_whitespace().map(str::to_owned).collect();
    let p = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": names, "action": ALLOW},
            {"names": ["personality"], "action": ALLOW, "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": ALLOW, "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": ALLOW, "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
        ]
    });
    let b = sh(p, "mkdir /x && ls / | wc -l && unshare -U true")
        .edit(|s| s["process"]["user"] = json!({"uid": 0, "gid": 0}));
    b.run().code(1).stdout("13\n").stderr_has("not permitted");
}
