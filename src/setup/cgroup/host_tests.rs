//! The chapter on the machine's own cgroups, as root. Both versions on a hybrid host: its version-2 tree is a real one, only
//! without the usual controllers. Every group is called `corten-test-…` and is gone at the end.

use super::*;
use crate::input::config::{Cpu, DeviceKind, DeviceRule, Memory};
use crate::input::host::Hierarchy;
use crate::sys::spent::Spent;
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The mounts of `/proc/self/mountinfo`: mount point, type, options of the file system.
fn mounts() -> Vec<(PathBuf, String, String)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let words: Vec<&str> = right.split(' ').collect();
        Some((left.split(' ').nth(4)?.into(), words[0].to_owned(), words[2].to_owned()))
    };
    text.lines().filter_map(mount).collect()
}

/// The layouts that can be tried here. None: the reason is printed, and the test ends.
fn layouts() -> Vec<CgroupLayout> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return Vec::new();
    }
    let known =
        ["cpuset", "cpu", "cpuacct", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "name=systemd"];
    let mounts = mounts();
    let hierarchies: Vec<Hierarchy> = mounts
        .iter()
        .filter(|(_, kind, _)| kind == "cgroup")
        .map(|(mount, _, options)| Hierarchy {
            mount: mount.clone(),
            controllers: options.split(',').filter(|o| known.contains(o)).map(str::to_owned).collect(),
        })
        .collect();
    let mut found = Vec::new();
    if hierarchies.is_empty() {
        println!("version 1 skipped: not mounted");
    } else {
        found.push(CgroupLayout::Legacy { hierarchies });
    }
    match mounts.iter().find(|(_, kind, _)| kind == "cgroup2") {
        // Without controllers, so that the tests do not enable them side by side; one test does.
        Some((mount, ..)) => found.push(CgroupLayout::Unified { mount: mount.clone(), controllers: Vec::new() }),
        None => println!("version 2 skipped: not mounted"),
    }
    found
}

/// A group that is removed at the end of its test, with all that is in it, and the root's controllers set back.
struct Group {
    cgroup: Cgroup,
    changes: Vec<Change>,
    children: Vec<Child>,
    before: Option<(PathBuf, String)>,
}

impl Group {
    fn decided(path: &str, resources: &Resources, layout: &CgroupLayout) -> Group {
        let before = match layout {
            CgroupLayout::Unified { mount, .. } => {
                let file = mount.join("cgroup.subtree_control");
                let text = std::fs::read_to_string(&file).unwrap();
                Some((file, text))
            }
            CgroupLayout::Legacy { .. } => None,
        };
        let path = format!("/corten-test-{}-{path}", std::process::id());
        let (cgroup, changes) = decide(Some(&path), "x", resources, layout).unwrap();
        Group { cgroup, changes, children: Vec::new(), before }
    }

    fn made(path: &str, resources: &Resources, layout: &CgroupLayout) -> Group {
        let group = Group::decided(path, resources, layout);
        group.apply().unwrap();
        group
    }

    fn apply(&self) -> crate::sys::Result<()> {
        let spent = Spent::default();
        self.changes.iter().try_for_each(|change| change.apply(None, &spent))
    }

    /// A shell that puts itself into the group, or one below it, and then runs `script`.
    fn run(&mut self, below: &str, script: &str) -> u32 {
        let file = if self.cgroup.version == Version::V1 { "tasks" } else { "cgroup.procs" };
        // A new cpuset is empty, and takes nobody: those below the group's own are left out.
        let joined = self.cgroup.directories.iter().filter(|d| below.is_empty() || d.controllers != ["cpuset"]);
        let files = joined.map(|d| d.path.join(below).join(file));
        let child = Command::new("/bin/sh")
            .arg("-c")
            .arg(format!("for f; do echo 0 > \"$f\" || exit 99; done; {script}"))
            .arg("sh")
            .args(files.filter(|file| file.exists()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    /// Like `run`, and returns when it sleeps in the group.
    fn sleeper(&mut self, below: &str) -> i32 {
        let pid = self.run(below, "exec sleep 1000") as i32;
        let comm = format!("/proc/{pid}/comm");
        eventually(|| std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n"));
        pid
    }

    /// The exit code of `script` in the group.
    fn exit_code(&mut self, script: &str) -> Option<i32> {
        self.run("", script);
        self.children.pop().unwrap().wait().unwrap().code()
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let directory = self.cgroup.directory(controller).unwrap_or(&self.cgroup.directories[0]);
        std::fs::read_to_string(directory.path.join(file)).unwrap().trim().to_owned()
    }

    /// Collects the children that ended, so that they do not stay as zombies.
    fn reap(&mut self) {
        self.children.retain_mut(|child| child.try_wait().unwrap().is_none());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.cgroup.kill_all(libc::SIGKILL);
        let deadline = Instant::now() + Duration::from_secs(5);
        while !self.children.is_empty() && Instant::now() < deadline {
            self.children.retain_mut(|child| child.kill().is_err() || child.try_wait().is_ok_and(|end| end.is_none()));
            std::thread::sleep(Duration::from_millis(1));
        }
        let removed = self.cgroup.remove();
        for directory in &self.cgroup.directories {
            for parent in directory.parents().iter().rev() {
                let _ = std::fs::remove_dir(parent);
            }
        }
        if let Some((file, text)) = &self.before {
            let now = std::fs::read_to_string(file).unwrap_or_default();
            for word in now.split_whitespace().filter(|word| !text.split_whitespace().any(|w| w == *word)) {
                let _ = std::fs::write(file, format!("-{word}"));
            }
        }
        if !std::thread::panicking() {
            removed.unwrap();
            assert!(self.cgroup.directories.iter().all(|d| !d.path.exists()));
        }
    }
}

fn eventually(mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what() {
        assert!(Instant::now() < deadline, "it does not come to pass");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn device(kind: DeviceKind, major: u32, minor: u32) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(kind),
        major: Some(major),
        minor: Some(minor),
        read: true,
        write: false,
        mknod: false,
    }
}

#[test]
fn limits_are_written_before_a_process_enters() {
    for layout in layouts().iter().filter(|l| matches!(l, CgroupLayout::Legacy { .. })) {
        let resources = Resources {
            memory: Memory {
                limit: Some(64 << 20),
                swap: Some(96 << 20),
                reservation: Some(32 << 20),
                kernel_tcp: Some(4 << 20),
                swappiness: Some(10),
                disable_oom_killer: true,
                ..Memory::default()
            },
            cpu: Cpu {
                shares: Some(512),
                quota: Some(50_000),
                period: Some(200_000),
                burst: Some(10_000),
                cpus: Some("0".to_owned()),
                ..Cpu::default()
            },
            pids_limit: Some(50),
            ..Resources::default()
        };
        let mut group = Group::made("limits/below", &resources, layout);
        for (controller, file, value) in [
            ("memory", "memory.limit_in_bytes", "67108864"),
            ("memory", "memory.memsw.limit_in_bytes", "100663296"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("memory", "memory.kmem.tcp.limit_in_bytes", "4194304"),
            ("memory", "memory.swappiness", "10"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_period_us", "200000"),
            ("cpu", "cpu.cfs_burst_us", "10000"),
            ("cpuset", "cpuset.cpus", "0"),
            ("pids", "pids.max", "50"),
        ] {
            assert_eq!(group.read(controller, file), value, "{file}");
        }
        assert!(group.read("memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
        assert_eq!(group.cgroup.oom_kills(), 0);
        assert_ne!(group.read("cpuset", "cpuset.mems"), "");
        assert_eq!(group.cgroup.tasks().iter().filter(|path| path.exists()).count(), group.cgroup.directories.len());
        let pid = group.sleeper("");
        assert_eq!(group.cgroup.pids().unwrap(), [pid]);
        let place = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        for directory in &group.cgroup.directories {
            let line = format!(":{}:{}", directory.controllers.join(","), group.cgroup.path);
            assert!(place.lines().any(|l| l.ends_with(&line)), "{line} is not in {place}");
        }
        // Limits that only fit in the other order are set again, up and down.
        for (limit, swap) in [(200 << 20, 300 << 20), (50 << 20, 60 << 20), (-1, 0), (10 << 20, 10 << 20)] {
            let memory = Memory { limit: Some(limit), swap: Some(swap), ..Memory::default() };
            let again = Group::decided("limits/below", &Resources { memory, ..Resources::default() }, layout);
            let pair = again.changes.iter().find(|change| matches!(change, Change::Pair { .. })).unwrap();
            pair.apply(None, &Spent::default())
                .unwrap_or_else(|failure| panic!("{limit} {swap}: {failure} {:?}", failure.because));
            std::mem::forget(again);
        }
        assert_eq!(group.read("memory", "memory.memsw.limit_in_bytes"), (10 << 20).to_string());
    }
}

#[test]
fn version_2_enables_the_controllers_that_a_limit_needs() {
    for layout in layouts() {
        let CgroupLayout::Unified { mount, .. } = layout else { continue };
        let controllers = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap();
        let controllers: Vec<String> = controllers.split_whitespace().map(str::to_owned).collect();
        if !controllers.iter().any(|c| c == "hugetlb")
            || !Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists()
        {
            println!("skipped: no hugetlb controller, or no huge pages of 2 MB");
            continue;
        }
        let layout = CgroupLayout::Unified { mount, controllers };
        let resources = Resources { hugepage_limits: vec![("2MB".to_owned(), 4 << 20)], ..Resources::default() };
        let group = Group::made("huge/one/two", &resources, &layout);
        assert_eq!(group.read("hugetlb", "hugetlb.2MB.max"), "4194304");
        assert_eq!(group.read("hugetlb", "hugetlb.2MB.rsvd.max"), "4194304");

        // A process in the cgroup above makes it unable to pass controllers on.
        let unified =
            Resources { unified: [("hugetlb.2MB.max".to_owned(), "0".to_owned())].into(), ..Resources::default() };
        let mut full = Group::made("full", &Resources::default(), &layout);
        full.sleeper("");
        let within = Group::decided("full/within", &unified, &layout);
        let failure = within.apply().unwrap_err();
        let because = failure.because.clone().unwrap();
        assert!(because.contains("linux.resources.unified.hugetlb.2MB.max needs the hugetlb controller"), "{because}");
        assert!(because.contains("has processes of its own"), "{because}");
    }
}

#[test]
fn devices_are_refused_unless_a_rule_allows_them() {
    // /dev/kmsg (1:11) is no default device, /dev/zero is.
    let open = "exec 3< /dev/kmsg";
    for layout in layouts() {
        let mut group = Group::made("devices", &Resources::default(), &layout);
        assert_eq!(group.exit_code("exec 3< /dev/zero && exit 7"), Some(7));
        assert_ne!(group.exit_code(&format!("{open} && exit 7")), Some(7), "{layout:?}");
        let mknod = "d=$(mktemp -d) && mknod $d/n c 1 11 && rm -r $d && exit 7";
        assert_eq!(group.exit_code(mknod), Some(7));

        // Applied to the same group again, the new rules take the place of the old ones, where programs would add up.
        let resources = Resources { devices: vec![device(DeviceKind::Char, 1, 11)], ..Resources::default() };
        let again = Group::decided("devices", &resources, &layout);
        again.apply().unwrap();
        std::mem::forget(again);
        assert_eq!(group.exit_code(&format!("{open} && exit 7")), Some(7), "{layout:?}");
        assert_ne!(group.exit_code("exec 3> /dev/kmsg && exit 7"), Some(7), "{layout:?}");
        if group.cgroup.version == Version::V2 {
            let directory = group.cgroup.open_directory().unwrap();
            assert_eq!(crate::sys::bpf::attached_device_programs(directory.as_fd()).unwrap().len(), 1);
        }
    }
}

#[test]
fn the_verifier_accepts_the_programs_without_locked_memory() {
    const CHILD: &str = "CORTEN_TEST_NO_MEMLOCK";
    if layouts().is_empty() {
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        let me = std::env::current_exe().unwrap();
        let name = "setup::cgroup::host_tests::the_verifier_accepts_the_programs_without_locked_memory";
        let run = Command::new("prlimit").arg("--memlock=0:0").arg(me).args(["--exact", name]).env(CHILD, "1").output();
        let output = run.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let rule =
        |allow, kind, major, minor| DeviceRule { allow, kind, major, minor, read: true, write: true, mknod: true };
    let char = Some(DeviceKind::Char);
    for rules in [
        vec![],
        vec![rule(true, None, None, None)],
        vec![rule(true, char, None, None)],
        vec![rule(true, char, None, None), rule(true, Some(DeviceKind::Block), None, None)],
        vec![rule(true, None, None, None), rule(false, char, Some(4000), None), rule(false, None, None, Some(7))],
        vec![rule(true, char, Some(8), None), rule(false, char, Some(8), Some(3))],
        (0..1000).map(|n| rule(true, char, Some(n), Some(n))).collect(),
        (0..1000).map(|n| rule(n % 2 == 0, char, if n % 3 == 0 { None } else { Some(n) }, Some(n % 5))).collect(),
    ] {
        let program = Policy::decide(&rules).unwrap().program();
        if let Err(failure) = crate::sys::bpf::load_device_program(&program) {
            panic!("{} rules, {} instructions: {failure} {:?}", rules.len(), program.len(), failure.because);
        }
    }
    // A program that the verifier refuses is refused with its words.
    let bad = Policy::decide(&[]).unwrap().program()[..3].to_vec();
    let failure = crate::sys::bpf::load_device_program(&bad).unwrap_err();
    assert!(failure.because.is_some(), "{failure:?}");
}

#[test]
fn a_group_in_use_is_refused_and_an_empty_one_is_taken() {
    for layout in layouts() {
        let mut group = Group::made("taken", &Resources::default(), &layout);
        group.apply().unwrap();

        group.cgroup.freeze().unwrap();
        let failure = group.apply().unwrap_err();
        assert!(failure.because.clone().unwrap().ends_with("is frozen"), "{failure:?}");
        group.cgroup.thaw().unwrap();

        for directory in &group.cgroup.directories {
            std::fs::create_dir(directory.path.join("inner")).unwrap();
        }
        let pid = group.sleeper("inner");
        let start = Instant::now();
        let failure = group.apply().unwrap_err();
        assert!(start.elapsed() < Duration::from_millis(500));
        assert!(failure.because.clone().unwrap().ends_with(&format!("is in use: process {pid}")), "{failure:?}");
    }
}

#[test]
fn frozen_processes_stand_still_and_go_on() {
    for layout in layouts() {
        let mut group = Group::made("freeze", &Resources::default(), &layout);
        assert!(!group.cgroup.is_frozen().unwrap());
        assert!(group.cgroup.is_empty().unwrap());
        let pid = group.run("", "while :; do :; done") as i32;
        eventually(|| !group.cgroup.is_empty().unwrap());
        for _ in 0..2 {
            group.cgroup.freeze().unwrap();
            assert!(group.cgroup.is_frozen().unwrap());
        }
        let ticks = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(')').next().unwrap().split(' ').nth(12).unwrap().parse::<u64>().unwrap()
        };
        let before = ticks();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(ticks(), before);
        for _ in 0..2 {
            group.cgroup.thaw().unwrap();
            assert!(!group.cgroup.is_frozen().unwrap());
        }
        eventually(|| ticks() > before);
    }
}

#[test]
fn a_signal_reaches_every_process_also_in_groups_within_and_frozen_ones() {
    for layout in layouts() {
        let mut group = Group::made("kill", &Resources::default(), &layout);
        for directory in &group.cgroup.directories {
            std::fs::create_dir_all(directory.path.join("a/b")).unwrap();
        }
        let mut pids = vec![group.sleeper(""), group.sleeper("a"), group.sleeper("a/b")];
        pids.sort_unstable();
        assert_eq!(group.cgroup.pids().unwrap(), pids);

        // A group within that froze itself, in a group that is frozen as well.
        let inner = Cgroup {
            directories: group
                .cgroup
                .directories
                .iter()
                .cloned()
                .map(|d| Directory { path: d.path.join("a"), ..d })
                .collect(),
            ..group.cgroup.clone()
        };
        inner.freeze().unwrap();
        group.cgroup.freeze().unwrap();
        group.cgroup.kill_all(libc::SIGCONT).unwrap();
        assert!(group.cgroup.is_frozen().unwrap(), "another signal leaves a frozen group frozen");
        group.cgroup.kill_all(libc::SIGKILL).unwrap();
        eventually(|| group.cgroup.is_empty().unwrap());
        group.reap();
        group.cgroup.remove().unwrap();

        // Everything again on a group that is gone.
        group.cgroup.kill_all(libc::SIGKILL).unwrap();
        group.cgroup.thaw().unwrap();
        assert!(group.cgroup.is_empty().unwrap() && !group.cgroup.is_frozen().unwrap());
        assert!(group.cgroup.pids().unwrap().is_empty());
        group.cgroup.remove().unwrap();
        assert!(group.cgroup.freeze().is_err());
    }
}

#[test]
fn another_signal_is_sent_once_to_each() {
    for layout in layouts() {
        let mut group = Group::made("term", &Resources::default(), &layout);
        group.sleeper("");
        group.sleeper("");
        group.cgroup.kill_all(libc::SIGTERM).unwrap();
        eventually(|| group.cgroup.is_empty().unwrap());
        for child in &mut group.children {
            let status = child.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGTERM));
        }
        group.children.clear();
    }
}

#[test]
fn a_fork_bomb_ends() {
    for layout in layouts() {
        let pids_limit = matches!(layout, CgroupLayout::Legacy { .. }).then_some(300);
        let mut group = Group::made("bomb", &Resources { pids_limit, ..Resources::default() }, &layout);
        // Each starts two more and ends, so there is always somebody new; bounded where the kernel does not do it.
        let bomb = "n=0; f() { n=$((n+1)); [ $n -gt 12 ] && exec sleep 1000; f & f & wait; }; f";
        group.run("", bomb);
        eventually(|| group.cgroup.pids().unwrap().len() > 50);
        let start = Instant::now();
        group.cgroup.kill_all(libc::SIGKILL).unwrap();
        eventually(|| group.cgroup.is_empty().unwrap());
        group.cgroup.remove().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn removal_takes_what_is_nested_however_deep() {
    for layout in layouts() {
        let group = Group::made("deep", &Resources::default(), &layout);
        for directory in &group.cgroup.directories {
            let mut here: OwnedFd = super::change::open_directory(&directory.path).unwrap();
            let name = "n".repeat(200);
            for _ in 0..25 {
                // Together longer than the 4096 bytes of a path.
                nix::sys::stat::mkdirat(&here, name.as_str(), Mode::from_bits_truncate(0o755)).unwrap();
                nix::sys::stat::mkdirat(&here, "beside", Mode::from_bits_truncate(0o755)).unwrap();
                let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
                here = nix::fcntl::openat(&here, name.as_str(), flags, Mode::empty()).unwrap();
            }
        }
        assert!(group.cgroup.pids().unwrap().is_empty());
        group.cgroup.remove().unwrap();
        assert!(group.cgroup.directories.iter().all(|d| !d.path.exists()));
    }
}

#[test]
fn threads_in_groups_of_their_own_are_found_killed_and_removed() {
    for layout in layouts() {
        if matches!(layout, CgroupLayout::Legacy { .. }) {
            continue;
        }
        let mut group = Group::made("threads", &Resources::default(), &layout);
        let threaded = group.cgroup.directories[0].path.join("t");
        std::fs::create_dir(&threaded).unwrap();
        std::fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
        let pid = group.sleeper("");
        std::fs::write(threaded.join("cgroup.threads"), pid.to_string()).unwrap();
        assert_eq!(group.cgroup.pids().unwrap(), [pid]);
        group.cgroup.kill_all(libc::SIGKILL).unwrap();
        eventually(|| group.cgroup.is_empty().unwrap());
        group.cgroup.remove().unwrap();
    }
}

#[test]
fn a_group_that_cannot_be_removed_names_who_is_left() {
    for layout in layouts() {
        let mut group = Group::made("stays", &Resources::default(), &layout);
        let pid = group.sleeper("");
        let start = Instant::now();
        let failure = group.cgroup.remove().unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        assert_eq!(failure.errno, nix::errno::Errno::EBUSY);
        assert!(failure.because.clone().unwrap().ends_with(&format!("still has process {pid}")), "{failure:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named_with_its_controller() {
    let layout = CgroupLayout::Legacy {
        hierarchies: vec![Hierarchy { mount: "/proc/self".into(), controllers: vec!["memory".to_owned()] }],
    };
    let everything =
        DeviceRule { allow: true, kind: None, major: None, minor: None, read: true, write: true, mknod: true };
    let resources = Resources { devices: vec![everything], ..Resources::default() };
    let (_, changes) = decide(Some("/corten-test/x"), "x", &resources, &layout).unwrap();
    let failure = changes[0].apply(None, &Spent::default()).unwrap_err();
    let because = failure.because.clone().unwrap();
    assert!(because.starts_with("cgroup /proc/self/corten-test of memory cannot be made: "), "{because}");
}
