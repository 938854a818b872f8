//! exec: a second process in a container that runs.

use crate::harness::{Bundle, host, soon};
use serde_json::{Value, json};
use std::time::Duration;

fn sleeper() -> Bundle {
    Bundle::busybox().args(["sleep", "1000"])
}

#[test]
fn runs_a_command() {
    let b = sleeper();
    let c = b.start();
    c.exec(["echo", "hi"]).ok().stdout("hi\n").silent();
    c.sh("exit 42").code(42);
    c.sh("kill -TERM $$").code(143);
    c.sh("echo out; echo err >&2").ok().stdout("out\n").stderr_has("err");
}

#[test]
fn standard_input_reaches_it() {
    let b = sleeper();
    let _c = b.start();
    b.call(["exec", &b.id, "cat"]).stdin("typed\n").run().ok().stdout("typed\n");
}

#[test]
fn into_a_created_container() {
    let b = sleeper();
    let c = b.create();
    c.exec(["echo", "early"]).ok().stdout("early\n");
    assert_eq!(c.status(), "created");
    c.start().ok();
}

#[test]
fn into_a_stopped_container() {
    let b = sleeper();
    let c = b.start();
    c.stop();
    c.exec(["true"]).code(255).stderr_has("stopped");
    b.cli(["exec", "never-there", "true"]).fails().stderr_has("does not exist");
}

#[test]
fn what_it_inherits() {
    let b = sleeper().edit(|s| {
        s["process"]["env"] = json!(["PATH=/bin", "A=container", "B=b"]);
        s["process"]["cwd"] = "/tmp".into();
        s["process"]["user"] = json!({"uid": 0, "gid": 0, "additionalGids": [7]});
    });
    let c = b.start();
    c.sh("echo $A $B $HOME; pwd").ok().stdout("container b /root\n/tmp\n");
    c.exec_with(&["--env", "A=mine", "--env", "C=new"], &["sh", "-c", "echo $A $B $C"]).ok().stdout("mine b new\n");
    b.call(["exec", &b.id, "env"]).env("LEAK", "yes").run().ok().stdout_lacks("LEAK");
}

#[test]
fn another_directory() {
    let b = sleeper();
    let c = b.start();
    c.exec_with(&["--cwd", "/etc"], &["pwd"]).ok().stdout("/etc\n");
    c.exec_with(&["--cwd", "/no/such"], &["pwd"]).fails();
    c.exec_with(&["--cwd", "/etc/passwd"], &["pwd"]).fails();
    assert_eq!(c.status(), "running");
}

#[test]
fn another_user() {
    let b = sleeper();
    let c = b.start();
    c.exec_with(&["--user", "1000"], &["sh", "-c", "id -u; id -g"]).ok().stdout("1000\n0\n");
    c.exec_with(&["--user", "1000:50"], &["sh", "-c", "id -u; id -g"]).ok().stdout("1000\n50\n");
    c.exec_with(&["-u", "65534:65534"], &["sh", "-c", "id -u; echo $HOME"]).ok().stdout("65534\n/home\n");
    let out =
        c.exec_with(&["--user", "1000:50", "--additional-gids", "7", "--additional-gids", "8"], &["id", "-G"]).ok();
    assert_eq!(out.text(), "50 7 8");
}

/// Security, row 3.
#[test]
fn users_that_are_no_numbers() {
    not_on_runc!("1.1 looks a number that is too large up by name");
    let b = sleeper().file(
        "etc/passwd",
        0o644,
        "root:x:0:0::/root:/bin/sh\n4294967296:x:0:0::/:/bin/sh\na:x:0:0::/:/bin/sh\n",
    );
    let c = b.start();
    for user in ["4294967296", "-1", "1:", "1:2:3", "a", "1:a", "0x10", " 1", "1 "] {
        let out = c.exec_with(&["--user", user], &["id", "-u"]);
        assert!(out.status != 0 || out.text() != "0", "{user:?} became root{}", out.tell());
        out.fails().stderr_has_one_of(&["user", "uid"]);
    }
}

#[test]
fn a_process_from_a_file() {
    let b = sleeper();
    let c = b.start();
    let process = json!({
        "terminal": false, "user": {"uid": 12, "gid": 34, "additionalGids": [56]}, "args": ["sh", "-c", "id -u; id -g; id -G; pwd; env"],
        "env": ["PATH=/bin", "ONLY=this"], "cwd": "/var"
    });
    std::fs::write(b.path("process.json"), process.to_string()).unwrap();
    let out = b.cli(["exec", "--process", "process.json", &b.id]).ok();
    assert_eq!(out.lines()[..4], ["12", "34", "34 56", "/var"]);
    assert!(out.out.contains("ONLY=this") && out.out.contains("HOME=/") && !out.out.contains("TERM="), "{}", out.out);
    // From a pipe.
    let runtime = crate::harness::runtime().path.display();
    b.shell(&format!("cat process.json | {runtime} --root root exec --process /dev/stdin {}", b.id))
        .ok()
        .stdout_has("12\n");
    drop(c);
}

#[test]
fn a_bad_process_file() {
    let b = sleeper();
    let _c = b.start();
    b.cli(["exec", "--process", "not-there.json", &b.id]).fails().stderr_has("not-there.json");
    for text in ["", "{", "[]", "{\"args\": []}", "{\"args\": [\"true\"], \"cwd\": \"\"}"] {
        std::fs::write(b.path("p.json"), text).unwrap();
        b.cli(["exec", "--process", "p.json", &b.id]).fails();
    }
}

#[test]
fn detached() {
    let b = sleeper();
    let c = b.start();
    let exec = b.call(["exec", "--detach", "--pid-file", "exec.pid", &b.id, "sleep", "500"]).run().ok();
    assert!(exec.took < crate::harness::seconds(5));
    let pid: i32 = host::read(b.path("exec.pid")).parse().unwrap();
    assert!(host::alive(pid));
    // runc returns a moment before its child executes the program.
    assert!(soon(|| host::read(format!("/proc/{pid}/cmdline")).starts_with("sleep\x00500")));
    c.stop();
    assert!(soon(|| !host::alive(pid)), "it goes with the container");
}

#[test]
fn capabilities() {
    let b = sleeper();
    let c = b.start();
    let show = ["grep", "-E", "^Cap(Inh|Eff|Bnd|Amb):", "/proc/self/status"];
    c.exec(show).ok().stdout(
        "CapInh:\t0000000000000000\nCapEff:\t0000000020000420\nCapBnd:\t0000000020000420\nCapAmb:\t0000000000000000\n",
    );
    // Security, row 8: inheritable stays empty.
    let out = c.exec_with(&["--cap", "CAP_CHOWN", "--cap", "CAP_NET_RAW"], &show).ok();
    assert_eq!(out.lines()[1], "CapEff:\t0000000020002421");
    assert_eq!(out.lines()[2], "CapBnd:\t0000000020002421");
    if crate::harness::runtime().is_corten() {
        assert_eq!(out.lines()[0], "CapInh:\t0000000000000000");
    }
}

#[test]
fn no_new_privileges() {
    let b = sleeper().edit(|s| s["process"]["noNewPrivileges"] = false.into());
    let c = b.start();
    let show = ["grep", "NoNewPrivs", "/proc/self/status"];
    c.exec(show).ok().stdout("NoNewPrivs:\t0\n");
    c.exec_with(&["--no-new-privs"], &show).ok().stdout("NoNewPrivs:\t1\n");
}

#[test]
fn limits_and_umask_are_the_containers() {
    let b = sleeper().edit(|s| {
        s["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 234}]);
        s["process"]["user"]["umask"] = 0o077.into();
    });
    let c = b.start();
    c.sh("ulimit -Hn").ok().stdout("234\n");
    if crate::harness::runtime().is_corten() {
        // Go's runtime raises the soft one at its start, and runc's init loses that race with runc's exec now and then (opencontainers/runc#4195).
        c.sh("ulimit -n").ok().stdout("123\n");
        c.sh("umask").ok().stdout("0077\n");
    }
}

#[test]
fn a_missing_program_changes_nothing() {
    let b = sleeper();
    let c = b.start();
    let before = (c.pid(), crate::harness::processes_of(&b.id).len());
    c.exec(["no-such-program"]).code(255).stderr_has("no-such-program");
    c.exec(["/etc/passwd"]).code(255).stderr_has("/etc/passwd").stderr_has("permission denied");
    c.exec(["/etc"]).code(255).stderr_has("/etc");
    assert_eq!(c.status(), "running");
    assert!(soon(|| (c.pid(), crate::harness::processes_of(&b.id).len()) == before));
}

#[test]
fn only_three_descriptors() {
    let b = sleeper();
    let c = b.start();
    c.sh("ls /proc/$$/fd; true").ok().stdout("0\n1\n2\n");
    std::fs::write(b.path("three"), "third\n").unwrap();
    let runtime = crate::harness::runtime().path.display();
    let script = format!(
        "exec 3<three 4</etc; {runtime} --root root exec --preserve-fds 1 {} sh -c 'ls /proc/$$/fd; cat <&3'",
        b.id
    );
    b.shell(&script).ok().stdout("0\n1\n2\n3\nthird\n");
    b.shell(&format!("exec 4</etc; {runtime} --root root exec {} sh -c 'ls /proc/$$/fd; true'", b.id))
        .ok()
        .stdout("0\n1\n2\n");
}

#[test]
fn options_before_the_id_only_belong_to_us() {
    let b = sleeper();
    let c = b.start();
    // What follows the id is the command's, with dashes and all.
    c.exec(["echo", "-n", "--user", "-t"]).ok().stdout("--user -t");
    b.cli(["exec", &b.id, "sh", "-c", "echo $0 $1", "--cwd", "x"]).ok().stdout("--cwd x\n");
}

#[test]
fn nothing_to_execute() {
    let b = sleeper();
    let _c = b.start();
    b.cli(["exec", &b.id]).fails();
}

#[test]
fn the_processors_are_all_again() {
    // F: the caller's affinity is not the container's.
    let b = sleeper();
    let c = b.start();
    let all = c.exec(["grep", "Cpus_allowed:", "/proc/self/status"]).ok().out;
    not_on_runc!("1.1 keeps the caller's affinity");
    let runtime = crate::harness::runtime().path.display();
    let script = format!("taskset -c 0 {runtime} --root root exec {} grep Cpus_allowed: /proc/self/status", b.id);
    b.shell(&script).ok().stdout(&all);
}

#[test]
fn the_hosts_null_device_keeps_its_owner() {
    let owner = |path: &str| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    let b = sleeper();
    let c = b.start();
    c.exec_with(&["--user", "1000"], &["true"]).ok();
    assert_eq!(owner("/dev/null"), 0);
    drop(c);
    let b = Bundle::busybox().edit(|s| s["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    b.run().ok();
    assert_eq!(owner("/dev/null"), 0);
}

#[test]
fn many_at_once() {
    let b = sleeper();
    let c = b.start();
    let running: Vec<_> =
        (0..30).map(|n| b.call(["exec", &b.id, "sh", "-c", &format!("echo {n}; exit {n}")]).spawn()).collect();
    for (n, exec) in running.into_iter().enumerate() {
        exec.wait().code(n as i32).stdout(&format!("{n}\n"));
    }
    assert_eq!(crate::harness::processes_of(&b.id).len(), 1);
    drop(c);
}

/// F19: exec against kill: a clear end, and no orphan.
#[test]
fn against_kill_and_delete() {
    for delay in [0, 3, 6, 10, 15, 25] {
        let b = sleeper();
        let c = b.start();
        let exec = b.call(["exec", &b.id, "sleep", "1000"]).spawn();
        std::thread::sleep(Duration::from_millis(delay));
        c.kill("KILL").ok();
        let out = exec.wait().fails();
        assert!(out.status == 137 || !out.err.is_empty(), "{}", out.tell());
        b.cli(["delete", "-f", &b.id]).ok();
    }
}

#[test]
fn into_a_user_namespace() {
    let b = sleeper().user_namespace();
    let c = b.start();
    c.sh("id -u; touch /made; stat -c %u /made").ok().stdout("0\n0\n");
    c.exec_with(&["--user", "1000:50"], &["sh", "-c", "id -u; id -g"]).ok().stdout("1000\n50\n");
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(b.in_rootfs("made")).unwrap());
    assert_eq!(uid, 100_000);
}

#[test]
fn into_joined_namespaces() {
    let one = sleeper();
    let first = one.start();
    let b = sleeper().edit(|s| {
        for (kind, file) in [("network", "net"), ("ipc", "ipc")] {
            crate::harness::add_namespace(s, kind, Some(&format!("/proc/{}/ns/{file}", first.pid())));
        }
    });
    let c = b.start();
    let theirs = std::fs::read_link(format!("/proc/{}/ns/net", first.pid())).unwrap();
    assert_eq!(c.exec(["readlink", "/proc/self/ns/net"]).ok().text(), theirs.to_str().unwrap());
}

#[test]
fn its_seccomp_filter_is_the_containers() {
    let b = sleeper().edit(|s| {
        s["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42}]
        });
    });
    let c = b.start();
    c.exec(["mkdir", "/x"]).fails().stderr_has("No message of desired type");
    let seccomp = c.exec(["grep", "^Seccomp:", "/proc/self/status"]).ok();
    assert_eq!(seccomp.text(), "Seccomp:\t2");
}

/// A process that takes over nothing: even its root is the container's.
#[test]
fn after_the_roots_program_was_deleted() {
    let b = sleeper();
    let c = b.start();
    c.sh("rm /bin/ls; /bin/ls").code(127);
    c.exec(["true"]).ok();
    let state: Value = c.state();
    assert_eq!(state["status"], "running");
}
