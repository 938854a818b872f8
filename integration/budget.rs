//! How many system calls a verb makes. A count is exact where a time is not.
//!
//! By hand: `strace -f -c corten run web`. The program's own calls count, for they are the same every time. The container has what Docker
//! gives one: 14 capabilities, masked paths, a system-call filter. Each budget is what is made today and a few more, so that an
//! increase is seen; crun 1.27 makes 869 for the same `run` on v1 and 610 on v2, and 378 and 319 for `exec`.
//! So with memory: `grep VmHWM /proc/PID/status` of a `run` in the foreground.

use crate::harness::Bundle;
use crate::harness::host::{self, Layout};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use std::path::PathBuf;

/// KiB that `run` and `exec` may take at their peak, with images: `run` takes 1,544 to 1,572.
const MEMORY: u64 = 1800;

/// Docker's settings for a program.
fn bundle(program: &[&str]) -> Bundle {
    let caps = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";
    let caps: Vec<String> = caps.split(' ').map(|name| format!("CAP_{name}")).collect();
    Bundle::busybox().args(program.iter().copied()).edit(|spec| {
        spec["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
        spec["process"]["rlimits"] = json!([]);
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
            "syscalls": [{"names": ["mount", "reboot"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
        });
        if let Layout::V1 = host::layout() {
            spec["linux"]["resources"]["memory"] = json!({"limit": 268_435_456});
            spec["linux"]["resources"]["pids"] = json!({"limit": 200});
            spec["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 100_000, "period": 100_000});
        }
    })
}

/// The total of `strace -f -c` of a verb that must succeed.
#[track_caller]
fn count(b: &Bundle, words: &[&str]) -> u64 {
    let binary = b.binary.to_str().unwrap();
    b.host("strace").args(["-f", "-c", "-o", "count", binary, "--root", "root"]).args(words).run().ok();
    let table = host::read(b.path("count"));
    let total = table.lines().rev().find(|l| l.trim_end().ends_with("total")).expect("a total");
    total.split_whitespace().nth(3).expect("a column of calls").parse().expect("a number")
}

/// On v1 for 8 hierarchies, on v2.
fn within(verb: &str, count: u64, v1: u64, v2: u64) {
    let limit = match host::layout() {
        Layout::V1 => v1,
        // A whole tree's controllers are asked for and enabled, and limits are written, two calls each; the light one has hardly any. Where it is a virtual
        // machine's, its kernel is older: two calls for each read-only path before 6.15, three more for each process without pidfs before 6.9.
        Layout::V2 if host::has_controller("memory") => v2 + 30,
        Layout::V2 => v2,
    };
    assert!(count <= limit, "{verb} makes {count} system calls, and {limit} are allowed");
}

#[test]
fn run() {
    not_on_runc!("makes five thousand");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    let b = bundle(&["/bin/true"]);
    b.write_config();
    let n = count(&b, &["run", "-b", "bundle", &b.id]);
    within("run", n, 348, 250);
}

#[test]
fn exec() {
    not_on_runc!("makes five thousand");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    let b = bundle(&["sleep", "1000"]);
    let _c = b.start();
    let n = count(&b, &["exec", &b.id, "/bin/true"]);
    within("exec", n, 137, 115);
}

/// Instructions in user space of a verb that makes no container: valgrind executes them one by one, and its number is the same every time.
fn instructions(b: &Bundle, words: &[&str]) -> u64 {
    let binary = b.binary.to_str().unwrap();
    let out = b.host("valgrind").args(["--tool=callgrind", "--callgrind-out-file=/dev/null", binary]).args(words).run();
    let collected = out.err.lines().find_map(|line| line.split_once("Collected : ")).expect("a number of valgrind's");
    collected.1.trim().parse().expect("a number")
}

/// What each needs today with the compiler of today, and a fifth more.
#[test]
fn instructions_of_reading_and_planning() {
    not_on_runc!("cannot explain");
    if !host::has_program("valgrind") {
        skip!("valgrind is not installed");
    }
    let b = bundle(&["/bin/true"]);
    if !is_small(&b) {
        skip!("not a release build");
    }
    b.write_config();
    for (words, most) in [
        (&["--version"][..], 80_000),
        (&["state", "nope"], 100_000),
        (&["explain", "--bundle", b.dir().to_str().unwrap()], 3_000_000),
    ] {
        let count = instructions(&b, words);
        assert!(count <= most, "{words:?} takes {count} instructions, and {most} are allowed");
    }
}

/// The peak of a process's memory in KiB: what `ru_maxrss` will say of it.
fn peak(pid: i32) -> u64 {
    let status = host::read(format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A build that is not optimized for size is told by its own: its code is memory too.
fn is_small(b: &Bundle) -> bool {
    std::fs::metadata(&b.binary).unwrap().len() <= 7 << 20
}

/// A file system in memory, gone with the value.
struct InMemory(PathBuf);

impl InMemory {
    fn new(folder: String) -> InMemory {
        let folder = PathBuf::from(folder);
        std::fs::create_dir(&folder).expect("mkdir");
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=32m")).expect("mount");
        InMemory(folder)
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

#[test]
fn memory_of_the_foreground() {
    not_on_runc!("takes fourteen megabytes");
    // First, so that it goes last: the bundle is taken away with the binary that lies in it, and looks for what is left with its id.
    let in_memory;
    let mut b = bundle(&["sh", "-c", "echo up; exec sleep 1000"]);
    if !is_small(&b) {
        skip!("not a release build");
    }
    // On a disk a file that has just been written lies in the page cache in large pieces, which are mapped whole.
    in_memory = InMemory::new(format!("/tmp/memory-{}", std::process::id()));
    let copy = in_memory.0.join("corten");
    std::fs::copy(&b.binary, &copy).expect("copy");
    b.binary = copy;
    let mut run = b.run_call::<&str>([]).spawn();
    run.wait_for("up");
    let c = b.adopt(&b.id);
    let most = peak(run.pid());
    assert!(most <= MEMORY, "run takes {most} KiB at its peak, and {MEMORY} are allowed");
    let mut exec = b.call(["exec", &b.id, "sh", "-c", "echo here; sleep 1000"]).spawn();
    exec.wait_for("here");
    let most = peak(exec.pid());
    assert!(most <= MEMORY, "exec takes {most} KiB at its peak, and {MEMORY} are allowed");
    c.kill("KILL").ok();
    exec.wait();
    run.wait();
}

#[test]
fn create_start_state_delete() {
    not_on_runc!("makes five thousand");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    let b = bundle(&["sleep", "1000"]);
    b.write_config();
    let create = b.host("strace").args([
        "-f",
        "-c",
        "-o",
        "count",
        b.binary.to_str().unwrap(),
        "--root",
        "root",
        "create",
        "-b",
        "bundle",
        &b.id,
    ]);
    // strace waits for all that it traces, and the first process does not end: it is let go of with the container.
    let create = create.spawn();
    let c = b.adopt(&b.id);
    crate::harness::soon(|| b.status(&b.id) == "created");
    c.kill("KILL").ok();
    create.wait();
    b.cli(["delete", "--force", &b.id]).ok();
    let table = host::read(b.path("count"));
    let total = table.lines().rev().find(|l| l.trim_end().ends_with("total")).expect("a total");
    let n: u64 = total.split_whitespace().nth(3).unwrap().parse().unwrap();
    within("create", n, 325, 240);
    let c = b.create();
    within("start", count(&b, &["start", &b.id]), 39, 39);
    within("state", count(&b, &["state", &b.id]), 43, 43);
    within("kill", count(&b, &["kill", &b.id, "USR1"]), 31, 31);
    drop(c);
    let _c = b.start();
    within("delete", count(&b, &["delete", "--force", &b.id]), 70, 62);
}
