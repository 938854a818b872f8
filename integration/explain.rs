//! What `explain` prints is what happens: its calls, in order, side by side with strace's of the same bundle's `run`.
//!
//! A line of explain is read as a pattern (`explain/pattern.rs`), all of a side's lines as one machine that the calls of that
//! process must take from its beginning to its end. What a process does beside its plan (starting, memory, closing) is excused by
//! `explain_exclusions.txt`, a reason per line.

mod pattern;
mod trace;

use crate::harness::{Bundle, ConsoleSocket, OnDisk, Pty, add_mount, add_namespace, bind, drop_namespace, host, mount};
use pattern::{Machine, When};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use trace::Call;

/// One line of explain_exclusions.txt.
#[derive(Debug)]
struct Exclusion {
    side: &'static str,
    when: &'static str,
    name: &'static str,
    holds: &'static str,
}

/// `SIDE WHEN CALL [TEXT] | REASON`
fn exclusions() -> Vec<Exclusion> {
    let lines =
        include_str!("explain_exclusions.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (what, reason) = line.split_once(" | ").unwrap_or_else(|| panic!("no reason: {line}"));
            assert!(!reason.trim().is_empty(), "{line}");
            let mut words = what.trim().splitn(4, ' ').map(str::trim);
            let mut word = || words.next().unwrap_or("");
            let exclusion = Exclusion { side: word(), when: word(), name: word(), holds: word() };
            assert!(["parent", "child", "both"].contains(&exclusion.side), "{line}");
            assert!(["start", "between", "end", "always"].contains(&exclusion.when), "{line}");
            exclusion
        })
        .collect()
}

impl Exclusion {
    fn excuses(&self, side: &str, when: When, call: &Call) -> bool {
        let now = match when {
            When::Start => "start",
            When::Between => "between",
            When::End => "end",
        };
        (self.side == "both" || self.side == side)
            && (self.when == "always" || self.when == now)
            && self.name == call.name
            && call.text.contains(self.holds)
    }
}

/// Runs both and compares, each side by itself.
#[track_caller]
fn compare(bundle: &Bundle, options: &[&str]) {
    let dir = bundle.dir();
    let dir = dir.to_str().expect("UTF-8");
    bundle.write_config();
    // Both sit at the same terminal, if one is asked for: its size is an argument of a call.
    let terminal = (bundle.spec["process"]["terminal"] == true).then(|| Pty::new(24, 80));
    let explain = bundle.call(["explain", "--bundle", dir]).args(options).args([&bundle.id]);
    let explain = match &terminal {
        Some(pty) => explain.stdin_from(pty.slave()),
        None => explain,
    };
    let plan = explain.run().ok().out;
    let file = bundle.path("out/strace");
    let run = bundle
        .host("strace")
        .args(["-f", "-qq", "-y", "-s", "4096", "-o"])
        .args([file.as_os_str(), bundle.binary.as_os_str(), "--root".as_ref(), bundle.root().as_os_str()])
        .args(["run", "--bundle", dir])
        .args(options)
        .args([&bundle.id]);
    let run = match &terminal {
        Some(pty) => run.stdio(pty.slave(), pty.slave(), pty.slave()),
        None => run,
    };
    let run = run.run();
    assert!(run.status == 0, "{}", run.tell());
    if let Some(keep) = std::env::var_os("CORTEN_TRACES") {
        let keep = std::path::PathBuf::from(keep);
        std::fs::copy(&file, keep.join(format!("{}.strace", bundle.id))).expect("copied");
        std::fs::write(keep.join(format!("{}.explain", bundle.id)), &plan).expect("written");
    }
    assert_eq!(differences(&plan, &file, &["parent", "child"], &[]), Vec::<String>::new());
}

/// What differs between a plan's text and strace's file, on these sides. `beside`: parts of calls that are excused here alone.
pub fn differences(plan: &str, file: &Path, compared: &[&str], beside: &[&str]) -> Vec<String> {
    let steps = pattern::steps(plan);
    assert!(steps.len() > 20, "{plan}");
    let text = std::fs::read(file).expect("strace's output");
    let text = String::from_utf8_lossy(&text);
    let mut calls = trace::read(&text);
    let parent: i32 = text.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let child = first_process(&calls, parent);
    let mut sides =
        [("parent", calls.remove(&parent).expect("calls")), ("child", calls.remove(&child).expect("calls"))];
    // The program's own calls are not ours.
    let program = sides[1].1.iter().position(|call| call.name == "execve").expect("an execve");
    sides[1].1.truncate(program + 1);
    hooks_executed(calls, &mut sides);
    let exclusions = exclusions();
    let mut differences = Vec::new();
    for (side, calls) in sides.into_iter().filter(|(side, _)| compared.contains(side)) {
        let machine = Machine::new(&steps, side);
        let excused = |call: &Call, when| {
            beside.iter().any(|part| call.text.contains(part)) || exclusions.iter().any(|e| e.excuses(side, when, call))
        };
        if let Err(difference) = machine.compare(&calls, excused) {
            differences.push(format!("{side}: {difference}"));
        }
    }
    differences
}

/// Of all processes the one that makes a session of its own; hooks and helpers do not.
fn first_process(calls: &BTreeMap<i32, Vec<Call>>, parent: i32) -> i32 {
    let mut others = calls.iter().filter(|(pid, _)| **pid != parent);
    let found = others.find(|(_, calls)| calls.iter().any(|call| call.name == "setsid"));
    *found.expect("a child").0
}

/// A hook's execve is a call of the process that makes it: explain prints it on the side that waits for it.
fn hooks_executed(others: BTreeMap<i32, Vec<Call>>, sides: &mut [(&str, Vec<Call>); 2]) {
    let mut executed: Vec<Call> =
        others.into_values().filter_map(|calls| calls.into_iter().find(|call| call.name == "execve")).collect();
    executed.sort_by_key(|call| call.begun);
    for call in executed {
        let made = |calls: &[Call]| {
            let makes = |other: &Call| other.begun < call.begun && other.name == "clone";
            calls.iter().rposition(makes).map(|at| (calls[at].begun, at))
        };
        let (side, (_, at)) = (0..2)
            .filter_map(|side| Some((side, made(&sides[side].1)?)))
            .max_by_key(|(_, made)| *made)
            .expect("its maker");
        sides[side].1.insert(at + 1, call);
    }
}

fn strace_is_missing() -> bool {
    !host::has_program("strace")
}

#[test]
fn the_default_template() {
    corten_only!("explain");
    if strace_is_missing() {
        skip!("strace is not installed");
    }
    let bundle = Bundle::busybox();
    bundle.call(["spec", "--bundle"]).args([bundle.dir()]).run().ok();
    let text = std::fs::read(bundle.dir().join("config.json")).expect("config.json");
    let template: Value = serde_json::from_slice(&text).expect("JSON");
    let path = bundle.spec["linux"]["cgroupsPath"].clone();
    let bundle = bundle.edit(|spec| {
        *spec = template;
        spec["process"]["args"] = json!(["true"]);
        spec["linux"]["cgroupsPath"] = path;
    });
    compare(&bundle, &[]);
}

#[test]
fn as_docker_asks() {
    corten_only!("explain");
    if strace_is_missing() {
        skip!("strace is not installed");
    }
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE"
    ]);
    let bundle = Bundle::busybox().args(["/bin/true"]).file("etc/hosts", 0o644, "").edit(|spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [10, 20], "umask": 18});
        spec["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
        spec["process"]["noNewPrivileges"] = json!(false);
        spec["process"]["oomScoreAdj"] = json!(100);
        spec["process"]["cwd"] = json!("/srv/app");
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
        spec["linux"]["resources"] = json!({
            "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}],
            "pids": if host::has_controller("pids") { json!({"limit": 100}) } else { json!(null) },
            "memory": if host::has_controller("memory") { json!({"limit": 67_108_864}) } else { json!(null) },
        });
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["mount", "reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
        });
    });
    let hosts = bundle.path("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("written");
    let bundle = bundle.edit(|spec| add_mount(spec, bind(hosts, "/etc/hosts", &["rbind", "rprivate"])));
    let (pid, socket) = (bundle.path("pid"), ConsoleSocket::new(&bundle.path("pidfd.sock")));
    compare(&bundle, &["--pid-file", pid.to_str().expect("UTF-8"), "--pidfd-socket", &socket.path]);
}

#[test]
fn host_network_and_binds() {
    corten_only!("explain");
    if strace_is_missing() {
        skip!("strace is not installed");
    }
    let bundle = Bundle::busybox();
    let (dir, file) = (bundle.mkdir("data/deep"), bundle.path("data/file"));
    std::fs::write(&file, "x").expect("written");
    let bundle = bundle.edit(|spec| {
        drop_namespace(spec, "network");
        drop_namespace(spec, "cgroup");
        spec["root"]["readonly"] = json!(true);
        spec["linux"]["rootfsPropagation"] = json!("private");
        add_mount(spec, bind(&dir, "/mnt", &["rbind", "ro", "nosuid"]));
        add_mount(spec, bind(&file, "/made/here/file", &["bind", "rslave"]));
        add_mount(spec, mount("/scratch", "tmpfs", "tmpfs", &["tmpcopyup", "ro", "size=1m"]));
        add_mount(spec, mount("/mnt", "", "", &["remount", "bind", "nodev"]));
        spec["linux"]["devices"] = json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6},
            {"path": "/dev/deep/fifo", "type": "p"}
        ]);
    });
    compare(&bundle, &["--no-pivot"]);
}

#[test]
fn a_user_namespace() {
    corten_only!("explain");
    if strace_is_missing() {
        skip!("strace is not installed");
    }
    let bundle = Bundle::busybox().user_namespace();
    let Some((disk, _)) = OnDisk::make(&bundle.id) else { skip!("there is no disk to map owners on") };
    let bundle = bundle.edit(|spec| {
        add_mount(spec, bind(disk.path(), "/mnt", &["rbind"]));
        add_mount(spec, bind(disk.path(), "/mapped", &["bind", "idmap"]));
        spec["process"]["user"] = json!({"uid": 7, "gid": 8});
    });
    compare(&bundle, &[]);
    drop(disk);
}

#[test]
fn hooks_a_terminal_and_clocks() {
    corten_only!("explain");
    if strace_is_missing() {
        skip!("strace is not installed");
    }
    let hook = json!([{"path": "/bin/true", "args": ["true", "--hook"]}]);
    let bundle = Bundle::busybox().edit(|spec| {
        for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            spec["hooks"][kind] = hook.clone();
        }
        spec["process"]["terminal"] = json!(true);
        spec["process"]["consoleSize"] = json!({"height": 30, "width": 100});
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        add_namespace(spec, "time", None);
        add_namespace(spec, "ipc", Some("/proc/self/ns/ipc"));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 100}});
        spec["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != "/dev/mqueue");
    });
    compare(&bundle, &[]);
}

#[test]
fn needs_no_privileges() {
    corten_only!("explain");
    let b = Bundle::busybox();
    b.write_config();
    let as_root = b.cli(["explain", "-b", "bundle", &b.id]).ok().out;
    b.shell("chmod -R a+rX . && chmod a+rwx out").ok();
    std::fs::copy(&b.binary, b.path("corten")).unwrap();
    let words = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "./corten",
        "--root",
        "root",
        "explain",
        "-b",
        "bundle",
        &b.id,
    ];
    let out = b.host("setpriv").args(words).run().ok();
    assert_eq!(out.out, as_root, "it plans for root");
    assert!(host::cgroups_named(&b.id).is_empty() && !b.root().join(&b.id).exists(), "and does nothing");
}

#[test]
fn each_line_is_whole() {
    corten_only!("explain");
    let b = Bundle::busybox().edit(|s| add_mount(s, bind("/srv", "/data", &["bind"])));
    b.write_config();
    let text = b.cli(["explain", "-b", "bundle", &b.id]).ok().out;
    let steps: Vec<_> =
        text.lines().filter(|l| l.split_whitespace().next().is_some_and(|w| w.parse::<u32>().is_ok())).collect();
    assert!(steps.len() > 20, "{text}");
    for (n, step) in steps.iter().enumerate() {
        let words: Vec<_> = step.split_whitespace().collect();
        assert_eq!(words[0], (n + 1).to_string());
        assert!(["parent", "child"].contains(&words[1]), "{step}");
        assert!(words[2].contains('('), "a call: {step}");
        let page = words.last().unwrap();
        assert!(page.ends_with(')') && page.contains('('), "a man page: {step}");
    }
    let last = steps.last().unwrap();
    assert!(text.contains("\"/srv\"") && text.contains("\"/data\""), "real arguments");
    assert!(
        steps.iter().filter(|s| s.contains("execve(\"")).count() == 1 && last.contains("execve(\""),
        "one program, at the end: {text}"
    );
}

#[test]
fn shows_dockers_flags() {
    corten_only!("explain");
    let b = Bundle::busybox();
    b.write_config();
    let words = [
        "explain",
        "-b",
        "bundle",
        "--name",
        &b.id,
        "--network=host",
        "--mount",
        "type=bind,source=/srv,target=/src,readonly",
        "--entrypoint",
        "/bin/ls",
    ];
    let out = b.cli(words).ok().stdout_has("\"/srv\"").stdout_has("\"/src\"").stdout_has("/bin/ls");
    assert!(!out.out.contains("NEWNET"), "{}", out.out);
}

#[test]
fn a_faulty_configuration_is_not_explained() {
    corten_only!("explain");
    let b = Bundle::busybox().edit(|s| s["process"]["cwd"] = "relative".into());
    b.write_config();
    b.cli(["explain", "-b", "bundle", &b.id]).code(1).stderr_has("process.cwd");
}
