//! What a container may do, and how much it may have, seen from inside.

use super::kit::{ended, place};
use super::options::{Among, Just, Not, refused, run, sees};
use std::fs;
use std::path::Path;

#[test]
fn rights() {
    let Some(place) = place() else { return };
    fs::write(
        place.path("nodirs.json"),
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#,
    )
    .unwrap();
    let status = |field: &str| format!("busybox grep '^{field}:' /proc/self/status");
    let (caps, mount) = (status("CapEff"), "busybox mount -t tmpfs x /tmp && echo mounted");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find(|line| line.starts_with("CapPrm:")).unwrap().replace("CapPrm", "CapEff");
    for (options, script, expected) in [
        (&[][..], caps.as_str(), Just("CapEff:\t00000000a80425fb")),
        (&["--cap-drop", "ALL"], &caps, Just("CapEff:\t0000000000000000")),
        (&["--cap-drop", "ALL", "--cap-add", "CHOWN"], "busybox chown 1:1 /tmp && echo done", Just("done")),
        (&["--cap-drop=CHOWN"], "busybox chown 1:1 /tmp", Among("Operation not permitted")),
        (&["--cap-add=SYS_ADMIN"], mount, Just("mounted")),
        (&[], mount, Among("permission denied")),
        (&["--cap-add=ALL"], &caps, Just(&all)),
        (&["--privileged"], &caps, Just(&all)),
        (&["--privileged"], mount, Just("mounted")),
        (&["--privileged"], &status("Seccomp"), Just("Seccomp:\t0")),
        (
            &["--privileged"],
            "busybox test -w /proc/sys/kernel/hostname && busybox grep -c 'sysfs rw' /proc/mounts",
            Just("1"),
        ),
        (&["--privileged"], "busybox ls /dev", Among("loop-control")),
        (&[], "busybox ls /dev", Not("loop-control")),
        (&[], "busybox wc -c </proc/keys; busybox grep -c '/proc/sys proc ro' /proc/mounts", Just("0\n1")),
        (&["--security-opt", "systempaths=unconfined"], "busybox grep -c '/proc/sys' /proc/mounts", Just("0")),
        (&[], &status("Seccomp"), Just("Seccomp:\t2")),
        (&["--security-opt=seccomp=unconfined"], &status("Seccomp"), Just("Seccomp:\t0")),
        (&["--security-opt", "seccomp=nodirs.json"], "busybox mkdir /tmp/x", Among("Operation not permitted")),
        (&["--security-opt", "no-new-privileges"], &status("NoNewPrivs"), Just("NoNewPrivs:\t1")),
        (
            &["--security-opt", "label=disable", "--security-opt", "apparmor=unconfined"],
            &status("NoNewPrivs"),
            Just("NoNewPrivs:\t0"),
        ),
        (&["-u", "7"], &caps, Just("CapEff:\t0000000000000000")),
    ] {
        sees(&place, options, script, expected);
    }
    refused(&place, &["--cap-add=NOPE"], "NOPE");
    refused(&place, &["--security-opt", "seccomp=/no/such.json"], "no such file");
}

#[test]
fn devices() {
    let Some(place) = place() else { return };
    let zero = "busybox head -c 3 /dev/z | busybox wc -c";
    sees(&place, &["--device", "/dev/zero:/dev/z"], zero, Just("3"));
    sees(&place, &["--device", "/dev/zero:/dev/z:r"], "busybox stat -c %t:%T /dev/z", Just("1:5"));
    sees(&place, &[], zero, Among("No such file"));
    if Path::new("/dev/fuse").exists() {
        // Made by hand, the node is there, and what it leads to is not.
        sees(&place, &[], "busybox mknod /tmp/f c 10 229; cat </tmp/f", Among("Operation not permitted"));
        sees(&place, &["--device=/dev/fuse:/dev/f:w"], "cat </dev/f", Among("Operation not permitted"));
        // Opened; a read without a mount is what it refuses.
        sees(&place, &["--device=/dev/fuse:/dev/f:rw"], "exec 3<>/dev/f && echo open", Just("open"));
    }
    refused(&place, &["--device", "/dev/nope"], "--device /dev/nope: ");
}

/// Where the container finds its own limit, for each layout of cgroups.
struct Group {
    controller: &'static str,
    v1: &'static str,
    v2: &'static str,
}

#[test]
fn limits() {
    let Some(place) = place() else { return };
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
    let has = |controller: &str| match &unified {
        Some(all) => all.split_whitespace().any(|one| one == controller),
        None => Path::new("/sys/fs/cgroup").join(controller).exists(),
    };
    let group = |controller, v1, v2| Group { controller, v1, v2 };
    let processors = std::thread::available_parallelism().unwrap().get();
    for (options, place_of, v1, v2) in [
        (&["-m", "64m"][..], group("memory", "memory.limit_in_bytes", "memory.max"), "67108864", "67108864"),
        (&["-m", "64m"], group("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"), "134217728", "67108864"),
        (
            &["-m=64m", "--memory-swap=96m"],
            group("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
            "100663296",
            "33554432",
        ),
        (&["--cpus", "0.5"], group("cpu", "cpu.cfs_quota_us", "cpu.max"), "50000", "50000 100000"),
        (&["--cpu-shares", "512"], group("cpu", "cpu.shares", "cpu.weight"), "512", "59"),
        (&["--cpuset-cpus", "0"], group("cpuset", "cpuset.cpus", "cpuset.cpus"), "0", "0"),
        (&["--pids-limit", "9"], group("pids", "pids.max", "pids.max"), "9", "9"),
        (&["--pids-limit=-1"], group("pids", "pids.max", "pids.max"), "max", "max"),
    ] {
        if !has(place_of.controller) {
            // Not ignored: a limit that is forgotten is worse than none. No limit at all needs nobody.
            if options != ["--pids-limit=-1"] {
                refused(&place, options, place_of.controller);
            }
            continue;
        }
        let (file, expected) = match unified {
            Some(_) => (format!("/sys/fs/cgroup/{}", place_of.v2), v2),
            None => (format!("/sys/fs/cgroup/{}/{}", place_of.controller, place_of.v1), v1),
        };
        sees(&place, options, &format!("cat {file}"), Just(expected));
    }
    if has("cpuset") && processors > 1 {
        sees(&place, &["--cpuset-cpus", "1"], "busybox nproc", Just("1"));
    }
    if has("pids") {
        sees(&place, &["--pids-limit", "4"], "for i in 1 2 3 4 5 6; do sleep 1 & done", Among("can't fork"));
    }
    if has("memory") {
        let done = run(
            &place,
            &["-m", "16m", "--memory-swap", "16m"],
            "x=$(busybox head -c 60000000 /dev/zero | busybox tr '\\0' x)",
        );
        assert!(done.code == 137 && done.err.contains("memory limit"), "{} {}", done.code, done.err);
    }
    refused(&place, &["--cpus", "9999"], "is not between");
    refused(&place, &["--memory-swap", "1g"], "needs --memory");
    // Below that one; it stays, as a parent that had to be made does.
    let parent = format!("corten-options-{}", std::process::id());
    sees(
        &place,
        &["--cgroup-parent", &format!("/{parent}"), "--cgroupns=host"],
        "cat /proc/self/cgroup",
        Among(&format!(":/{parent}/")),
    );
    let made = std::iter::once("/sys/fs/cgroup".into())
        .chain(fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()))
        .map(|hierarchy| hierarchy.join(&parent));
    for directory in made.filter(|path| path.exists()) {
        fs::remove_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    }
}

/// As Docker does: what is typed beats the files, those beat the container's; a name alone is the caller's.
#[test]
fn exec_takes_variables_from_the_caller_and_from_files() {
    let Some(place) = place() else { return };
    let options = ["-e", "OWN=image", "-e", "GONE=1", "-e", "KEPT=1"];
    let web = place.begin("web", &options, "exec sleep 1000");
    place.begin_bundle("bundled");
    fs::write(place.path("vars"), "OWN=file\n# no\n  FILED=a b\nGIVEN\nKEPT\nNOWHERE\n").unwrap();
    fs::write(place.path("more"), "FILED=\"c\"\n").unwrap();
    let exec = |words: &[&str]| {
        let mut command = place.command("root");
        command.current_dir(place.path(".")).env("GIVEN", "the caller's").env_remove("GONE").env_remove("KEPT");
        let done = command.env_remove("NOWHERE").arg("exec").args(words).output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8_lossy(&done.stderr))
    };
    let own = |text: &str| -> Vec<String> {
        let ours = ["OWN=", "GONE=", "KEPT=", "FILED=", "GIVEN=", "NOWHERE="];
        let mut all: Vec<String> =
            text.lines().filter(|l| ours.iter().any(|name| l.starts_with(name))).map(String::from).collect();
        all.sort();
        all
    };
    for (options, expected) in [
        (&[][..], &["GONE=1", "KEPT=1", "OWN=image"][..]),
        (&["-e", "OWN=typed", "-e", "OWN=twice"], &["GONE=1", "KEPT=1", "OWN=twice"]),
        (&["-e", "GIVEN", "-e", "NOWHERE", "-e", "GONE"], &["GIVEN=the caller's", "KEPT=1", "OWN=image"]),
        (&["--env-file", "vars"], &["FILED=a b", "GIVEN=the caller's", "GONE=1", "KEPT=1", "OWN=file"]),
        (
            &["-e", "OWN=typed", "--env-file=vars", "--env-file", "more"],
            &["FILED=\"c\"", "GIVEN=the caller's", "GONE=1", "KEPT=1", "OWN=typed"],
        ),
    ] {
        let (code, out) = exec(&[options, &["web", "busybox", "env"]].concat());
        assert_eq!(
            (code, own(&out)),
            (Some(0), expected.iter().map(|s| (*s).to_owned()).collect()),
            "{options:?}: {out}"
        );
    }
    // A bundle's container the same.
    let (code, out) = exec(&["-e", "GIVEN", "--env-file", "more", "bundled", "busybox", "env"]);
    assert_eq!((code, own(&out)), (Some(0), vec!["FILED=\"c\"".to_owned(), "GIVEN=the caller's".to_owned()]), "{out}");
    fs::write(place.path("bad"), "A=1\n=2\n").unwrap();
    for (options, why) in [
        (["--env-file", "no-such"], "no-such: no such file"),
        (["--env-file", "bad"], "--env-file bad: line 2: has no name"),
        (["-e", "=x"], "has no name"),
    ] {
        let (code, out) = exec(&[&options[..], &["web", "busybox", "env"]].concat());
        assert!(code == Some(255) && out.contains(why), "{options:?}: {code:?} {out}");
    }
    place.ok(&["stop", "-t", "0", "web"]);
    ended(web);
}

/// All capabilities and nothing else: dockerd leaves filter and profile as they are (`execSetPlatformOpt`).
#[test]
fn exec_privileged_has_all_capabilities_under_the_same_filter() {
    let Some(place) = place() else { return };
    let web = place.begin("web", &["-u", "7"], "exec sleep 1000");
    place.begin_bundle("bundled");
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let none = "0000000000000000";
    let fields = |words: &[&str]| -> Vec<String> {
        let show = ["busybox", "grep", "-E", "^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|Seccomp):", "/proc/self/status"];
        let out = place.ok(&[&["exec"], words, &show].concat());
        out.lines().map(|line| line.split('\t').next_back().unwrap().to_owned()).collect()
    };
    // Root: all in force. Who is not root has the bounding set, as execve(2) leaves it.
    assert_eq!(fields(&["--privileged", "-u", "0", "web"]), [none, all, all, all, none, "2"]);
    assert_eq!(fields(&["--privileged", "web"]), [none, none, none, all, none, "2"]);
    assert_eq!(fields(&["-u", "0", "web"])[3], "00000000a80425fb");
    assert_eq!(fields(&["--privileged", "bundled"]), [none, all, all, all, none, "0"]);
    // The next one has what the container has.
    assert_eq!(fields(&["web"]), [none, none, none, "00000000a80425fb", none, "2"]);
    place.ok(&["stop", "-t", "0", "web"]);
    ended(web);
}
