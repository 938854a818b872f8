//! Limits: each is read back from the kernel's file, and reached where reaching it can be seen.

use crate::harness::host::{self, Layout};
use crate::harness::{Bundle, OnDisk, add_mount, bind, runtime, soon};
use serde_json::{Value, json};
use std::time::Duration;

fn with_resources(resources: Value) -> Bundle {
    Bundle::busybox().args(["sleep", "1000"]).edit(|s| {
        for (key, value) in resources.as_object().unwrap() {
            s["linux"]["resources"][key] = value.clone();
        }
    })
}

/// Each limit, as v1 and v2 show it: controller, resources, v1's file and text, v2's file and text.
type Limit = (&'static str, Value, &'static str, &'static str, &'static str, &'static str);

fn check(limits: &[Limit]) {
    let mut missing: Vec<&str> = Vec::new();
    for (controller, resources, file1, text1, file2, text2) in limits {
        let (file, text) = if host::layout() == Layout::V1 { (file1, text1) } else { (file2, text2) };
        if !host::has_controller(controller) {
            missing.push(controller);
            continue;
        }
        let b = with_resources(resources.clone());
        let c = b.create();
        let read = host::read(host::cgroup(&b.id, controller).join(file));
        let has: Vec<_> = read.trim().lines().collect();
        assert!(has.contains(text), "{resources}: {file} is {read:?}, not {text:?}");
        drop(c);
    }
    if !missing.is_empty() {
        crate::harness::say_skipped("limits::values", &format!("this cgroup layout has no {} controller", missing[0]));
    }
}

#[test]
fn memory_limits() {
    let mib = 1 << 20;
    check(&[
        (
            "memory",
            json!({"memory": {"limit": 64 * mib}}),
            "memory.limit_in_bytes",
            "67108864",
            "memory.max",
            "67108864",
        ),
        (
            "memory",
            json!({"memory": {"reservation": 32 * mib}}),
            "memory.soft_limit_in_bytes",
            "33554432",
            "memory.low",
            "33554432",
        ),
        (
            "memory",
            json!({"memory": {"limit": -1}}),
            "memory.limit_in_bytes",
            "9223372036854771712",
            "memory.max",
            "max",
        ),
    ]);
}

#[test]
fn memory_and_swap() {
    needs_controller!("memory");
    let b = with_resources(json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}}));
    let dir = host::cgroup(&b.id, "memory");
    let c = b.create();
    match host::layout() {
        Layout::V1 if dir.join("memory.memsw.limit_in_bytes").exists() => {
            assert_eq!(host::read(dir.join("memory.memsw.limit_in_bytes")).trim(), (96 << 20).to_string());
        }
        Layout::V1 => skip!("this kernel does not account for swap"),
        // v2 counts the swap alone.
        Layout::V2 => assert_eq!(host::read(dir.join("memory.swap.max")).trim(), (32 << 20).to_string()),
    }
    drop(c);
}

#[test]
fn swappiness_and_oom_control() {
    if host::layout() == Layout::V2 {
        skip!("v2 has neither swappiness nor an OOM killer that can be disabled");
    }
    check(&[
        ("memory", json!({"memory": {"swappiness": 10}}), "memory.swappiness", "10", "", ""),
        ("memory", json!({"memory": {"disableOOMKiller": true}}), "memory.oom_control", "oom_kill_disable 1", "", ""),
    ]);
}

#[test]
fn cpu_limits() {
    // runc 1.1 still has the straight line from 2-262144 to 1-10000, which made 1024 shares a weight of 39.
    let weight = if runtime().is_corten() { "59" } else { "20" };
    check(&[
        ("cpu", json!({"cpu": {"shares": 512}}), "cpu.shares", "512", "cpu.weight", weight),
        (
            "cpu",
            json!({"cpu": {"quota": 50_000, "period": 100_000}}),
            "cpu.cfs_quota_us",
            "50000",
            "cpu.max",
            "50000 100000",
        ),
        (
            "cpu",
            json!({"cpu": {"quota": 5_000, "period": 10_000}}),
            "cpu.cfs_period_us",
            "10000",
            "cpu.max",
            "5000 10000",
        ),
        ("cpu", json!({"cpu": {"quota": -1}}), "cpu.cfs_quota_us", "-1", "cpu.max", "max 100000"),
    ]);
}

#[test]
fn cpu_burst_and_idle() {
    not_on_runc!("1.1 has neither burst nor idle");
    check(&[
        (
            "cpu",
            json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 10_000}}),
            "cpu.cfs_burst_us",
            "10000",
            "cpu.max.burst",
            "10000",
        ),
        ("cpu", json!({"cpu": {"idle": 1}}), "cpu.idle", "1", "cpu.idle", "1"),
    ]);
}

#[test]
fn processors_and_memory_nodes() {
    check(&[
        ("cpuset", json!({"cpu": {"cpus": "0"}}), "cpuset.cpus", "0", "cpuset.cpus", "0"),
        ("cpuset", json!({"cpu": {"mems": "0"}}), "cpuset.mems", "0", "cpuset.mems", "0"),
    ]);
    needs_controller!("cpuset");
    let b = Bundle::busybox().args(["grep", "Cpus_allowed_list", "/proc/self/status"]);
    b.edit(|s| s["linux"]["resources"]["cpu"] = json!({"cpus": "0"})).run().ok().stdout("Cpus_allowed_list:\t0\n");
}

#[test]
fn pids_limits() {
    check(&[
        ("pids", json!({"pids": {"limit": 100}}), "pids.max", "100", "pids.max", "100"),
        ("pids", json!({"pids": {"limit": -1}}), "pids.max", "max", "pids.max", "max"),
    ]);
}

#[test]
fn block_io_limits() {
    // The root disk's number.
    let Some(line) = host::read("/proc/partitions").lines().nth(2).map(str::to_owned) else { skip!("no block device") };
    let words: Vec<_> = line.split_whitespace().collect();
    let (major, minor): (u32, u32) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    needs_controller!("blkio");
    let throttle = json!([{"major": major, "minor": minor, "rate": 1_048_576}]);
    for (key, v1, v2) in [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps=1048576"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps=1048576"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops=1048576"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops=1048576"),
    ] {
        let b = with_resources(json!({"blockIO": {key: throttle}}));
        let c = b.create();
        let (file, text) = match host::layout() {
            Layout::V1 => (v1, format!("{major}:{minor} 1048576")),
            Layout::V2 => ("io.max", v2.to_owned()),
        };
        let read = host::read(host::cgroup(&b.id, "blkio").join(file));
        assert!(read.contains(&text), "{key}: {read}");
        drop(c);
    }
}

#[test]
fn huge_pages() {
    needs_controller!("hugetlb");
    check(&[(
        "hugetlb",
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}),
        "hugetlb.2MB.limit_in_bytes",
        "4194304",
        "hugetlb.2MB.max",
        "4194304",
    )]);
}

#[test]
fn a_controller_that_is_missing() {
    not_on_runc!("1.1 ignores limits of missing controllers, or not, by controller");
    if host::has_controller("rdma") && host::has_controller("hugetlb") {
        skip!("every controller is here");
    }
    let (resources, name) = match host::has_controller("hugetlb") {
        false => (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}), "hugetlb"),
        true => (json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), "rdma"),
    };
    let b = with_resources(resources);
    b.run().code(1).stderr_has(name);
}

#[test]
fn unified() {
    let b = with_resources(json!({"unified": {"pids.max": "77"}}));
    if host::layout() == Layout::V1 {
        b.run().code(1).stderr_has("unified");
        return;
    }
    if !host::has_controller("pids") {
        b.run().code(1).stderr_has("pids");
        // A file of the core, which every cgroup has.
        let b = with_resources(json!({"unified": {"cgroup.max.depth": "7"}}));
        let c = b.create();
        assert_eq!(host::read(host::cgroup(&b.id, "").join("cgroup.max.depth")), "7\n");
        drop(c);
    } else {
        let c = b.create();
        assert_eq!(host::read(host::cgroup(&b.id, "").join("pids.max")), "77\n");
        drop(c);
    }
    for key in ["../cgroup.procs", "a/b", "/etc/passwd", "no.such.file"] {
        with_resources(json!({"unified": {key: "1"}})).run().code(1);
    }
}

#[test]
fn the_oom_killer() {
    needs_controller!("memory");
    // dd's buffer is all touched.
    let b = Bundle::busybox().args(["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    let b = b.edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": 32 << 20}));
    let out = b.run().code(137);
    if runtime().is_corten() {
        out.stderr_has("memory limit").stderr_has(&(32 << 20).to_string());
    }
    // In a container that outlives it, the kernel's count says so.
    let b = Bundle::busybox().sh("dd if=/dev/zero of=/dev/null bs=200M count=1; echo $? > /code; exec sleep 1000");
    let b = b.edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": 32 << 20}));
    let c = b.start();
    c.wait_for_file("code");
    assert!(soon(|| host::read(b.in_rootfs("code")) == "137\n"), "the shell lives, dd was killed");
    let file = if host::layout() == Layout::V1 { "memory.oom_control" } else { "memory.events" };
    let events = host::read(host::cgroup(&b.id, "memory").join(file));
    assert!(events.lines().any(|line| line == "oom_kill 1"), "{events}");
    drop(c);
}

/// Two processors' worth of work in a tenth of one: the kernel holds it back, and counts how often.
#[test]
fn throttling_is_counted() {
    needs_controller!("cpu");
    let b = Bundle::busybox().sh("while :; do :; done");
    let b = b.edit(|s| s["linux"]["resources"]["cpu"] = json!({"quota": 10_000, "period": 100_000}));
    let c = b.start();
    let stat = |key: &str| {
        let text = host::read(host::cgroup(&b.id, "cpu").join("cpu.stat"));
        text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    assert!(soon(|| stat("nr_throttled ") >= 5), "{} of {} periods", stat("nr_throttled "), stat("nr_periods "));
    let used = || {
        let stat = host::read(format!("/proc/{}/stat", c.pid()));
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(String::from).collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (before, clock) = (used(), std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    // Ticks of 10 ms. A tenth is asked for; a third is allowed for how coarsely they are counted.
    let allowed = clock.elapsed().as_millis() as u64 / 30;
    assert!(used() - before <= allowed, "{} ticks, {allowed} allowed", used() - before);
}

/// Only the processors named, also for who asks for others.
#[test]
fn other_processors_cannot_be_had() {
    needs_controller!("cpuset");
    let b = Bundle::busybox().sh("taskset -p 0x2 $$; grep Cpus_allowed_list /proc/self/status");
    let out = b.edit(|s| s["linux"]["resources"]["cpu"] = json!({"cpus": "0"})).run().ok();
    out.stdout_has("Cpus_allowed_list:\t0\n");
}

/// What goes beyond the rate waits.
#[test]
fn a_slow_disk() {
    needs_controller!("blkio");
    let time = |limits: &dyn Fn(u64) -> Value| {
        let b = Bundle::busybox().sh("dd if=/dev/zero of=/disk/file bs=64k count=32 oflag=direct 2>/dev/null");
        let (folder, device) = OnDisk::make(&b.id)?;
        let b = b.edit(|s| {
            add_mount(s, bind(folder.path(), "/disk", &["bind"]));
            s["linux"]["resources"]["blockIO"] = limits(device);
        });
        let out = b.run();
        // Before the bundle, which looks for what is left.
        drop(folder);
        (out.status == 0).then_some(out.took)
    };
    let Some(free) = time(&|_| json!({})) else { skip!("no disk here takes direct writes") };
    let throttle = |device| {
        let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
        json!({"throttleWriteBpsDevice": [{"major": major, "minor": minor, "rate": 1 << 20}]})
    };
    let slow = time(&throttle).expect("as before");
    // 2 MiB at 1 MiB a second.
    assert!(slow > Duration::from_millis(1200) && slow > free, "{slow:?}, without a limit {free:?}");
}

#[test]
fn no_more_processes_than_allowed() {
    needs_controller!("pids");
    let b = Bundle::busybox().sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 5 & done; echo all");
    let b = b.edit(|s| s["linux"]["resources"]["pids"] = json!({"limit": 10}));
    b.run().fails().stderr_has("fork");
    let b = Bundle::busybox().sh("(for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done); touch /done; exec sleep 1000");
    let b = b.edit(|s| s["linux"]["resources"]["pids"] = json!({"limit": 5}));
    let c = b.start();
    assert!(soon(|| {
        let events = host::read(host::cgroup(&b.id, "pids").join("pids.events"));
        events.lines().any(|line| line.strip_prefix("max ").is_some_and(|n| n != "0"))
    }));
    let current = host::read(host::cgroup(&b.id, "pids").join("pids.current"));
    assert!(current.trim().parse::<u32>().unwrap() <= 5, "{current}");
    drop(c);
}

/// F28: whatever the limit, it starts, or an error comes at once.
#[test]
fn small_memory_limits() {
    needs_controller!("memory");
    for kib in [256, 512, 1024, 2048, 3072, 4096, 6144, 8192] {
        let b = Bundle::busybox().edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": kib * 1024}));
        let out = b.run();
        assert!(out.took < crate::harness::seconds(10), "{kib} KiB: {:?}", out.took);
        if out.status != 0 && runtime().is_corten() {
            out.stderr_has("memory");
        }
    }
}

/// F29.
#[test]
fn tiny_pids_limits() {
    needs_controller!("pids");
    for limit in 1..4 {
        let b = Bundle::busybox().edit(|s| s["linux"]["resources"]["pids"] = json!({"limit": limit}));
        let out = b.run();
        if runtime().is_corten() {
            assert!(out.status == 0 || out.err.contains("pids"), "{}", out.tell());
        }
    }
}

#[test]
fn shares_of_zero_mean_nothing() {
    needs_controller!("cpu");
    with_resources(json!({"cpu": {"shares": 0}})).create();
}

#[test]
fn values_that_the_kernel_refuses() {
    needs_controller!("cpu");
    let b = with_resources(json!({"cpu": {"quota": 5}}));
    b.run().code(1).stderr_has_one_of(&["cpu.cfs_quota_us", "cpu.max"]);
    needs_controller!("cpuset");
    let b = with_resources(json!({"cpu": {"cpus": "4000"}}));
    b.run().code(1).stderr_has("cpuset.cpus");
}
