//! What the program finds itself to be: user, capabilities, limits, environment, directory, descriptors.

use crate::harness::{Bundle, add_mount, bind, drop_namespace, host, mount};
use serde_json::{Value, json};

/// Fields of /proc/self/status, `Name:\tvalue` lines.
fn status(fields: &str) -> String {
    format!("grep -E '^({fields}):' /proc/self/status")
}

fn with_process(script: &str, change: impl FnOnce(&mut Value)) -> Bundle {
    Bundle::busybox().sh(script).edit(|s| change(&mut s["process"]))
}

fn set(names: &[&str]) -> Value {
    names.iter().map(|n| format!("CAP_{n}")).collect::<Vec<_>>().into()
}

#[test]
fn user_and_group() {
    let b = with_process("id -u; id -g; id -G", |p| p["user"] = json!({"uid": 1000, "gid": 1001}));
    b.run().ok().stdout("1000\n1001\n1001\n");
}

#[test]
fn additional_groups_as_given() {
    let b = with_process(&status("Uid|Gid|Groups"), |p| {
        p["user"] = json!({"uid": 1, "gid": 2, "additionalGids": [5, 50, 4_000_000]});
    });
    b.run().ok().stdout("Uid:\t1\t1\t1\t1\nGid:\t2\t2\t2\t2\nGroups:\t5 50 4000000 \n");
}

#[test]
fn the_hosts_groups_are_dropped() {
    let b = Bundle::busybox().sh(&status("Groups"));
    b.write_config();
    let runtime = crate::harness::runtime().path.to_str().unwrap();
    let words =
        ["--groups", "7,8", "--reuid", "0", "--regid", "0", runtime, "--root", "root", "run", "-b", "bundle", &b.id];
    b.host("setpriv").args(words).run().ok().stdout("Groups:\t \n");
}

#[test]
fn umask() {
    with_process("umask; touch /x; stat -c %a /x", |p| p["user"]["umask"] = 0o027.into())
        .run()
        .ok()
        .stdout("0027\n640\n");
    Bundle::busybox().args(["sh", "-c", "umask"]).run().ok().stdout("0022\n");
}

#[test]
fn five_capability_sets() {
    let b = with_process(&status("Cap..."), |p| {
        p["capabilities"] = json!({
            "bounding": set(&["CHOWN", "KILL", "NET_RAW", "SYS_CHROOT"]),
            "permitted": set(&["CHOWN", "KILL", "NET_RAW"]),
            "effective": set(&["CHOWN", "KILL", "NET_RAW"]),
            "inheritable": set(&["KILL", "CHOWN"]),
            "ambient": set(&["KILL"]),
        });
        p["noNewPrivileges"] = false.into();
    });
    // Root's execve gives it inheritable and bounding.
    b.run().ok().stdout(
        "CapInh:\t0000000000000021\nCapPrm:\t0000000000042021\nCapEff:\t0000000000042021\n\
         CapBnd:\t0000000000042021\nCapAmb:\t0000000000000020\n",
    );
}

#[test]
fn ambient_capabilities_of_an_ordinary_user() {
    let b = with_process(&status("Cap..."), |p| {
        p["user"] = json!({"uid": 1000, "gid": 1000});
        let both = set(&["NET_BIND_SERVICE", "KILL"]);
        p["capabilities"] = json!({"bounding": both, "permitted": both, "inheritable": both, "effective": both, "ambient": set(&["NET_BIND_SERVICE"])});
    });
    b.run().ok().stdout(
        "CapInh:\t0000000000000420\nCapPrm:\t0000000000000400\nCapEff:\t0000000000000400\n\
         CapBnd:\t0000000000000420\nCapAmb:\t0000000000000400\n",
    );
}

#[test]
fn no_capabilities() {
    let none = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
                CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    with_process(&status("Cap..."), |p| p["capabilities"] = json!({})).run().ok().stdout(none);
    with_process(&status("Cap..."), |p| p["capabilities"] = json!({"bounding": []})).run().ok().stdout(none);
    // Without the property nothing is granted either.
    with_process(&status("Cap..."), |p| _ = p.as_object_mut().unwrap().remove("capabilities")).run().ok().stdout(none);
}

#[test]
fn all_capabilities() {
    let all = host::status_field("self", "CapBnd");
    let out = Bundle::busybox().privileged().sh(&status("CapPrm|CapEff|CapBnd")).run().ok();
    assert_eq!(out.out.matches(&all).count(), 3, "{}", out.out);
}

#[test]
fn an_unknown_capability_is_ignored() {
    let b = with_process(&status("CapEff"), |p| {
        let caps = set(&["KILL", "MOON_LANDING"]);
        p["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
    b.run().ok().stdout("CapEff:\t0000000000000020\n");
}

#[test]
fn capabilities_matter() {
    let b = Bundle::busybox().args(["chown", "1:1", "/etc/passwd"]);
    b.run().code(1).stderr_has("not permitted");
    Bundle::busybox().privileged().args(["chown", "1:1", "/etc/passwd"]).run().ok();
}

#[test]
fn no_new_privileges() {
    for (given, shown) in [(true, "1"), (false, "0")] {
        let b = with_process(&status("NoNewPrivs"), |p| p["noNewPrivileges"] = given.into());
        b.run().ok().stdout(&format!("NoNewPrivs:\t{shown}\n"));
    }
    // A set-user-id program: with it, nothing is gained.
    for (given, euid) in [(true, "1000"), (false, "0")] {
        let b = Bundle::busybox().with_usr().args(["/bin/su-perl", "-e", "print $>"]).edit(|s| {
            s["process"]["noNewPrivileges"] = given.into();
            s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        });
        b.shell("cp /usr/bin/perl bundle/rootfs/bin/su-perl && chmod 4755 bundle/rootfs/bin/su-perl").ok();
        b.run().ok().stdout(euid);
    }
}

#[test]
fn resource_limits() {
    let b = with_process("ulimit -n; ulimit -Hn; ulimit -c; ulimit -s; ulimit -f", |p| {
        p["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 200, "hard": 300},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 4_194_304, "hard": 8_388_608},
            {"type": "RLIMIT_FSIZE", "soft": 51_200, "hard": 102_400}
        ]);
    });
    b.run().ok().stdout("200\n300\n0\n4096\n100\n");
}

#[test]
fn every_limit_by_name() {
    let limits = [
        ("CPU", "Max cpu time"),
        ("FSIZE", "Max file size"),
        ("DATA", "Max data size"),
        ("STACK", "Max stack size"),
        ("CORE", "Max core file size"),
        ("RSS", "Max resident set"),
        ("NPROC", "Max processes"),
        ("NOFILE", "Max open files"),
        ("MEMLOCK", "Max locked memory"),
        ("AS", "Max address space"),
        ("LOCKS", "Max file locks"),
        ("SIGPENDING", "Max pending signals"),
        ("MSGQUEUE", "Max msgqueue size"),
        ("NICE", "Max nice priority"),
        ("RTPRIO", "Max realtime priority"),
        ("RTTIME", "Max realtime timeout"),
    ];
    // Whatever the hard limits are here, one more down is allowed.
    let own = host::read("/proc/self/limits");
    for (name, title) in limits {
        let line = own.lines().find(|l| l.starts_with(title)).unwrap();
        let hard = line[title.len()..].split_whitespace().nth(1).unwrap();
        let hard: u64 = hard.parse().unwrap_or(1 << 40).min(1 << 40);
        let soft = hard / 2;
        let b = with_process(&format!("grep '^{title}' /proc/self/limits"), |p| {
            p["rlimits"] = json!([{"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard}]);
        });
        let out = b.run().ok();
        let shown: Vec<_> = out.out[title.len()..].split_whitespace().collect();
        assert_eq!(shown[..2], [soft.to_string(), hard.to_string()], "{name}");
    }
}

#[test]
fn an_unknown_limit_is_an_error() {
    let b = with_process("true", |p| p["rlimits"] = json!([{"type": "RLIMIT_MOON", "soft": 1, "hard": 1}]));
    b.run().code(1).stderr_has("RLIMIT_MOON");
}

#[test]
fn a_soft_limit_above_the_hard_one() {
    let b = with_process("true", |p| p["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 10}]));
    b.run().code(1);
}

#[test]
fn a_limit_named_twice() {
    not_on_runc!("1.1 takes the last");
    let one = json!({"type": "RLIMIT_NOFILE", "soft": 20, "hard": 20});
    let b = with_process("true", |p| p["rlimits"] = json!([one, one]));
    b.run().code(1).stderr_has("RLIMIT_NOFILE");
}

#[test]
fn oom_score() {
    // Only upwards: lowering it needs CAP_SYS_RESOURCE.
    let own: i32 = host::read("/proc/self/oom_score_adj").trim().parse().unwrap();
    let wanted = (own + 100).min(1000);
    let b = with_process("cat /proc/self/oom_score_adj", |p| p["oomScoreAdj"] = wanted.into());
    b.run().ok().stdout(&format!("{wanted}\n"));
    with_process("cat /proc/self/oom_score_adj", |_| ()).run().ok().stdout(&format!("{own}\n"));
}

/// What takes CAP_SYS_RESOURCE of the runtime, and must not need it of the container.
#[test]
fn beyond_the_callers_limits() {
    needs_capability!("SYS_RESOURCE");
    let b = with_process("ulimit -Hn; cat /proc/self/oom_score_adj", |p| {
        p["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5000, "hard": 6000}]);
        p["oomScoreAdj"] = (-500).into();
    });
    b.write_config();
    let runtime = crate::harness::runtime().path.to_str().unwrap();
    let words = ["--nofile=1000:1000", runtime, "--root", "root", "run", "-b", "bundle", &b.id];
    b.host("prlimit").args(words).run().ok().stdout("6000\n-500\n");
}

#[test]
fn beyond_the_callers_limits_without_the_right() {
    if host::capabilities().contains(&"CAP_SYS_RESOURCE".to_owned()) {
        skip!("this machine has CAP_SYS_RESOURCE");
    }
    let b = with_process("true", |p| p["oomScoreAdj"] = (-500).into());
    let out = b.run();
    if crate::harness::runtime().is_corten() {
        out.code(1).stderr_has("oom_score_adj").stderr_has("EACCES");
    }
    let b =
        with_process("true", |p| p["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 1 << 20, "hard": 1 << 30}]));
    let out = b.run();
    if crate::harness::runtime().is_corten() {
        out.code(1).stderr_has("RLIMIT_NOFILE").stderr_has("EPERM");
    }
}

#[test]
fn the_environment() {
    let b = with_process("unused", |p| {
        p["args"] = json!(["env"]);
        p["env"] = json!(["PATH=/bin", "A=1", "B=two words", "EMPTY=", "HOME=/here"]);
    });
    let b2 = b.call(["--version"]).env("LEAK", "from outside");
    drop(b2);
    let out = b.run_call::<&str>([]).env("LEAK", "from outside").run().ok();
    let mut lines = out.lines();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=two words", "EMPTY=", "HOME=/here", "PATH=/bin"]);
}

#[test]
fn home_comes_from_passwd() {
    for (uid, home) in [(0, "/root"), (65_534, "/home"), (4242, "/")] {
        let b = with_process("echo $HOME", |p| p["user"]["uid"] = uid.into());
        b.run().ok().stdout(&format!("{home}\n"));
    }
    with_process("echo $HOME", |p| p["env"] = json!(["PATH=/bin", "HOME=/mine"])).run().ok().stdout("/mine\n");
    with_process("echo $HOME", |p| p["env"] = json!(["PATH=/bin", "HOME="])).edit(|_| ()).run().ok();
}

#[test]
fn an_empty_home_is_filled() {
    not_on_runc!("1.1 leaves an empty HOME");
    with_process("echo $HOME", |p| p["env"] = json!(["PATH=/bin", "HOME="])).run().ok().stdout("/root\n");
}

#[test]
fn the_last_of_equal_variables_wins() {
    let b = with_process("echo $A; env | grep -c ^A=", |p| p["env"] = json!(["PATH=/bin", "A=1", "A=2"]));
    b.run().ok().stdout("2\n1\n");
}

#[test]
fn newlines_in_variables_and_arguments() {
    let b = with_process("unused", |p| {
        p["env"] = json!(["PATH=/bin", "A=1\n2\n"]);
        p["args"] = json!(["sh", "-c", "printf '%s|%s|' \"$A\" \"$0\" \"$1\"", "x\ny", "",]);
    });
    b.run().ok().stdout("1\n2\n|x\ny|||");
}

#[test]
fn arguments_verbatim() {
    let b = with_process("unused", |p| p["args"] = json!(["printf", "[%s]", "a b", "$HOME", "*", "ä", ""]));
    b.run().ok().stdout("[a b][$HOME][*][ä][]");
}

#[test]
fn a_very_long_argument() {
    let long = "x".repeat(100_000);
    let b = with_process("unused", |p| p["args"] = json!(["sh", "-c", "echo ${#0}", long]));
    b.run().ok().stdout("100000\n");
}

#[test]
fn the_working_directory() {
    with_process("pwd", |p| p["cwd"] = "/etc".into()).run().ok().stdout("/etc\n");
    with_process("pwd -P", |p| p["cwd"] = "/etc/../tmp".into()).run().ok().stdout("/tmp\n");
    let b = with_process("pwd -P", |p| p["cwd"] = "/link".into());
    std::os::unix::fs::symlink("etc", b.in_rootfs("link")).unwrap();
    b.run().ok().stdout("/etc\n");
}

#[test]
fn a_working_directory_in_a_mount() {
    let b =
        with_process("pwd", |p| p["cwd"] = "/t/a".into()).edit(|s| add_mount(s, mount("/t/a", "tmpfs", "tmpfs", &[])));
    b.run().ok().stdout("/t/a\n");
}

#[test]
fn a_working_directory_that_only_the_user_may_enter() {
    let b = with_process("pwd", |p| {
        p["cwd"] = "/home/me".into();
        p["user"] = json!({"uid": 1000, "gid": 1000});
    });
    b.shell(
        "mkdir -p bundle/rootfs/home/me && chown 1000:1000 bundle/rootfs/home/me && chmod 700 bundle/rootfs/home/me",
    )
    .ok();
    b.run().ok().stdout("/home/me\n");
}

#[test]
fn a_working_directory_that_only_root_may_enter() {
    let b = with_process("pwd", |p| {
        p["cwd"] = "/closed".into();
        p["user"] = json!({"uid": 1000, "gid": 1000});
    });
    b.shell("mkdir -m 700 bundle/rootfs/closed").ok();
    let out = b.run();
    if out.status != 0 {
        out.stderr_has("/closed");
    }
}

#[test]
fn a_working_directory_that_is_a_file() {
    with_process("pwd", |p| p["cwd"] = "/etc/passwd".into())
        .run()
        .fails()
        .stderr_has("/etc/passwd")
        .stderr_has("not a directory");
    with_process("pwd", |p| p["cwd"] = "relative".into()).run().code(1).stderr_has("cwd");
}

#[test]
fn the_program_is_looked_for_in_path() {
    let b = Bundle::busybox().file("opt/a/tool", 0o755, "#!/bin/sh\necho a $0\n").file(
        "opt/b/tool",
        0o755,
        "#!/bin/sh\necho b\n",
    );
    let b = b.edit(|s| {
        s["process"]["args"] = json!(["tool"]);
        s["process"]["env"] = json!(["PATH=/nowhere:/opt/a:/opt/b"]);
    });
    b.run().ok().stdout("a /opt/a/tool\n");
    let b = b.edit(|s| s["process"]["env"] = json!(["PATH=/opt/b:/opt/a"]));
    b.run().ok().stdout("b\n");
}

#[test]
fn a_program_relative_to_the_working_directory() {
    let b = Bundle::busybox().file("opt/tool", 0o755, "#!/bin/sh\necho here\n").edit(|s| {
        s["process"]["args"] = json!(["./tool"]);
        s["process"]["cwd"] = "/opt".into();
    });
    b.run().ok().stdout("here\n");
}

#[test]
fn a_program_that_cannot_be_executed_fails_at_create() {
    let b = Bundle::busybox().args(["no-such-program"]);
    b.create_call::<&str>(&b.id, []).run().code(1).stderr_has("no-such-program").stderr_has("not");
    b.cli(["state", &b.id]).fails();
}

#[test]
fn only_three_descriptors() {
    let b = Bundle::busybox().sh("ls /proc/$$/fd; true");
    b.run().ok().stdout("0\n1\n2\n");
    // Nor do the caller's come in.
    b.write_config();
    let runtime = crate::harness::runtime().path.display();
    let script = format!("exec 3</etc/passwd 4</etc 9</dev/null; {runtime} --root root run -b bundle {}", b.id);
    b.shell(&script).ok().stdout("0\n1\n2\n");
}

/// Otherwise the runtime's own next descriptor would be the program's standard input.
#[test]
fn closed_standard_streams_become_the_null_device() {
    corten_only!("with runc they are what its shim makes of them");
    let b = Bundle::busybox().sh("all=$(for n in 0 1 2; do readlink /proc/$$/fd/$n; done); echo \"$all\" >/result");
    b.write_config();
    let runtime = crate::harness::runtime().path.display();
    b.shell(&format!("{runtime} --root root run -b bundle {} <&- >&- 2>&-", b.id)).ok();
    assert_eq!(std::fs::read_to_string(b.in_rootfs("result")).unwrap(), "/dev/null\n/dev/null\n/dev/null\n");
}

#[test]
fn preserved_descriptors() {
    let b = Bundle::busybox().sh("ls /proc/$$/fd; cat <&3; cat <&4");
    b.write_config();
    std::fs::write(b.path("three"), "third\n").unwrap();
    std::fs::write(b.path("four"), "fourth\n").unwrap();
    let runtime = crate::harness::runtime().path.display();
    let script = format!("exec 3<three 4<four 5</etc; {runtime} --root root run --preserve-fds 2 -b bundle {}", b.id);
    b.shell(&script).ok().stdout("0\n1\n2\n3\n4\nthird\nfourth\n");
}

#[test]
fn a_preserved_descriptor_that_is_not_open() {
    let b = Bundle::busybox();
    b.run_with(["--preserve-fds", "20"]).code(1);
}

#[test]
fn listen_fds() {
    let b = Bundle::busybox().sh("echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    b.write_config();
    std::fs::write(b.path("three"), "third\n").unwrap();
    let runtime = crate::harness::runtime().path.display();
    let script = format!("exec 3<three; LISTEN_FDS=1 LISTEN_PID=$$ exec {runtime} --root root run -b bundle {}", b.id);
    b.shell(&script).ok().stdout("1 1\nthird\n");
}

#[test]
fn notify_socket() {
    let b = Bundle::busybox().with_usr().args([
        "perl",
        "-MSocket",
        "-e",
        "socket(S, PF_UNIX, SOCK_DGRAM, 0); send(S, \"READY=1\\nSTATUS=up\", 0, sockaddr_un($ENV{NOTIFY_SOCKET})) or die $!; sleep 2",
    ]);
    let socket = std::os::unix::net::UnixDatagram::bind(b.path("notify")).unwrap();
    socket.set_read_timeout(Some(crate::harness::timeout())).unwrap();
    let run = b.run_call::<&str>([]).env("NOTIFY_SOCKET", b.path("notify")).spawn();
    let mut text = [0; 256];
    let length = socket.recv(&mut text).expect("a message through the container's socket");
    let text = String::from_utf8_lossy(&text[..length]).into_owned();
    assert!(text.contains("READY=1"), "{text}");
    run.wait().ok();
}

#[test]
fn sysctls() {
    let b = Bundle::busybox()
        .sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max")
        .edit(|s| {
            s["linux"]["sysctl"] =
                json!({"net.ipv4.ip_forward": "1", "kernel.shmmni": "1234", "fs.mqueue.msg_max": "20"});
        });
    let before = host::read("/proc/sys/kernel/shmmni");
    b.run().ok().stdout("1\n1234\n20\n");
    assert_eq!(host::read("/proc/sys/kernel/shmmni"), before);
}

#[test]
fn a_sysctl_of_the_host_is_refused() {
    for name in ["vm.swappiness", "kernel.core_pattern", "fs.file-max", "kernel.panic", "../kernel/panic"] {
        let b = Bundle::busybox().edit(|s| s["linux"]["sysctl"] = json!({name: "1"}));
        b.run().code(1).stderr_has(name);
    }
    for (name, namespace) in [("net.ipv4.ip_forward", "network"), ("kernel.shmmni", "ipc")] {
        let b = Bundle::busybox().edit(|s| {
            s["linux"]["sysctl"] = json!({name: "1"});
            drop_namespace(s, namespace);
        });
        b.run().code(1).stderr_has(name);
    }
    let b = Bundle::busybox().edit(|s| s["linux"]["sysctl"] = json!({"net.no.such.thing": "1"}));
    b.run().code(1).stderr_has_one_of(&["net.no.such.thing", "net/no/such/thing"]);
}

#[test]
fn a_sysctl_may_not_set_the_host_name() {
    not_on_runc!("1.1 lets kernel.domainname through");
    let b = Bundle::busybox().edit(|s| s["linux"]["sysctl"] = json!({"kernel.hostname": "x"}));
    b.run().code(1).stderr_has("kernel.hostname");
}

#[test]
fn personality() {
    not_on_runc!("1.1 has no personality");
    let b = Bundle::busybox().args(["uname", "-m"]).edit(|s| s["linux"]["personality"] = json!({"domain": "LINUX32"}));
    b.run().ok().stdout("i686\n");
    let b = Bundle::busybox().args(["uname", "-m"]).edit(|s| s["linux"]["personality"] = json!({"domain": "LINUX"}));
    b.run().ok().stdout("x86_64\n");
    let b = Bundle::busybox().edit(|s| s["linux"]["personality"] = json!({"domain": "MOON"}));
    b.run().code(1).stderr_has("MOON");
}

#[test]
fn io_priority() {
    not_on_runc!("1.1 has no ioPriority");
    let b = with_process("ionice -p $$", |p| p["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    b.run().ok().stdout_has("best-effort: prio 6");
}

#[test]
fn scheduler() {
    not_on_runc!("1.1 has no scheduler");
    let b = with_process("chrt -p $$ || cat /proc/self/stat", |p| {
        p["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5})
    });
    let out = b.edit(|s| s["process"]["args"] = json!(["cat", "/proc/self/stat"])).run().ok();
    let fields: Vec<_> = out.out.split(' ').collect();
    assert_eq!((fields[18], fields[40]), ("5", "3"), "nice and policy: {}", out.out);
}

#[test]
fn the_signal_state_is_fresh() {
    let b = Bundle::busybox().sh(&status("SigBlk|SigIgn"));
    b.write_config();
    let runtime = crate::harness::runtime().path.display();
    // nohup's ignored SIGHUP is the caller's affair.
    let out = b.shell(&format!("trap '' USR1; {runtime} --root root run -b bundle {}", b.id)).ok();
    let blocked = out.lines()[0].split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(blocked, "0000000000000000");
}

#[test]
fn a_bound_passwd_is_the_containers() {
    let b = Bundle::busybox();
    std::fs::write(b.path("passwd"), "me:x:77:77::/mine:/bin/sh\n").unwrap();
    let passwd = b.path("passwd");
    let b = b.sh("echo $HOME").edit(|s| {
        s["process"]["user"]["uid"] = 77.into();
        add_mount(s, bind(&passwd, "/etc/passwd", &["bind", "ro"]));
    });
    b.run().ok().stdout("/mine\n");
}

#[test]
fn unknown_properties_are_ignored() {
    let b = with_process("echo fine", |p| p["frobnicate"] = json!({"deep": [1, 2]}));
    b.edit(|s| s["org.example.unknown"] = 1.into()).run().ok().stdout("fine\n");
}

#[test]
fn keys_in_any_case() {
    let b = Bundle::busybox().args(["hostname"]).edit(|s| {
        s.as_object_mut().unwrap().remove("hostname");
        s["HostName"] = "shouted".into();
    });
    b.run().ok().stdout("shouted\n");
}

#[test]
fn versions_of_the_specification() {
    for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.0", "1.3.0"] {
        Bundle::busybox().edit(|s| s["ociVersion"] = version.into()).run().ok();
    }
    not_on_runc!("1.1 looks at no version");
    for version in ["invalid", "2.0.0", ""] {
        Bundle::busybox().edit(|s| s["ociVersion"] = version.into()).run().code(1).stderr_has("ociVersion");
    }
}

/// Neither where the caller is bound to nor where the child was put while it was made. (A program is bound in vain only to what its
/// cgroup has not.)
#[test]
fn all_processors() {
    not_on_runc!("1.1 keeps the caller's affinity");
    let b = Bundle::busybox().args(["grep", "Cpus_allowed:", "/proc/self/status"]);
    b.write_config();
    let all = b.shell("grep Cpus_allowed: /proc/1/status").ok().out;
    let dir = b.dir();
    let runtime = crate::harness::runtime().path.display();
    for round in 0..10 {
        let bound = if round % 2 == 0 { "taskset -c 0" } else { "env" };
        let script = format!("{bound} {runtime} --root root run --bundle {} {}", dir.display(), b.id);
        b.shell(&script).ok().stdout(&all);
    }
}
