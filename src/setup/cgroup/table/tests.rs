//! Each limit beside the lines that it becomes, on both versions.

use super::*;
use crate::input::config::{BlockIo, Cpu, Memory, Throttle, WeightDevice};
use crate::setup::cgroup::{v1, v2};

/// A table as text: `file=value|value`, `?` for a file that may be absent, `a & b` for a pair, `<` for a check.
fn shown(table: &Table) -> Vec<String> {
    let one = |s: &Setting| {
        let absent = match &s.absent {
            Otherwise::Refuse => String::new(),
            Otherwise::Ignore => "?".to_owned(),
            Otherwise::Use(file, values) => format!(" or {file}={}", values.join("|")),
        };
        assert!(s.file.starts_with(&format!("{}.", s.controller)), "{s:?}");
        assert!(s.place.starts_with("linux.resources."), "{s:?}");
        format!("{}={}{absent}", s.file, s.values.join("|"))
    };
    let entry = |entry: &Entry| match entry {
        Entry::One(s) => one(s),
        Entry::Two(a, b) => format!("{} & {}", one(a), one(b)),
        Entry::Below { file, limit, .. } => format!("{file}<{limit}"),
    };
    table.entries.iter().map(entry).chain(table.faults.iter().map(|f| format!("! {f}"))).collect()
}

fn v1(resources: &Resources) -> Vec<String> {
    shown(&v1::table(resources))
}

fn v2(resources: &Resources) -> Vec<String> {
    shown(&v2::table(resources))
}

fn memory(limit: i64, swap: i64) -> Resources {
    let some = |n| (n != 0).then_some(n);
    Resources { memory: Memory { limit: some(limit), swap: some(swap), ..Memory::default() }, ..Resources::default() }
}

fn cpu(cpu: Cpu) -> Resources {
    Resources { cpu, ..Resources::default() }
}

#[test]
fn nothing_asked_is_nothing_written() {
    assert!(v1(&Resources::default()).is_empty());
    assert!(v2(&Resources::default()).is_empty());
    let zeros = Resources {
        memory: Memory { limit: Some(0), swap: Some(0), reservation: Some(0), kernel: Some(5), ..Memory::default() },
        cpu: Cpu { shares: Some(0), quota: Some(0), period: Some(0), cpus: Some(String::new()), ..Cpu::default() },
        block_io: BlockIo { weight: Some(0), ..BlockIo::default() },
        ..Resources::default()
    };
    assert!(v1(&zeros).is_empty(), "{:?}", v1(&zeros));
    assert!(v2(&zeros).is_empty(), "{:?}", v2(&zeros));
}

#[test]
fn memory_and_swap_are_one_number_on_version_1_and_two_on_version_2() {
    let cases: [(i64, i64, &[&str], &[&str]); 8] = [
        (100, 0, &["memory.limit_in_bytes=100"], &["memory.max=100"]),
        (
            100,
            300,
            &["memory.limit_in_bytes=100 & memory.memsw.limit_in_bytes=300"],
            &["memory.swap.max=200", "memory.max=100"],
        ),
        (
            100,
            100,
            &["memory.limit_in_bytes=100 & memory.memsw.limit_in_bytes=100"],
            &["memory.swap.max=0?", "memory.max=100"],
        ),
        (
            100,
            -1,
            &["memory.limit_in_bytes=100 & memory.memsw.limit_in_bytes=-1?"],
            &["memory.swap.max=max?", "memory.max=100"],
        ),
        (
            -1,
            0,
            &["memory.limit_in_bytes=-1 & memory.memsw.limit_in_bytes=-1?"],
            &["memory.swap.max=max?", "memory.max=max"],
        ),
        (
            -1,
            300,
            &["memory.limit_in_bytes=-1 & memory.memsw.limit_in_bytes=300"],
            &["memory.swap.max=300", "memory.max=max"],
        ),
        (0, -1, &["memory.memsw.limit_in_bytes=-1?"], &["memory.swap.max=max?"]),
        (0, 0, &[], &[]),
    ];
    for (limit, swap, one, two) in cases {
        assert_eq!(v1(&memory(limit, swap)), one, "{limit} {swap}");
        assert_eq!(v2(&memory(limit, swap)), two, "{limit} {swap}");
    }
    for table in [v1, v2] {
        let fault = |limit, swap| table(&memory(limit, swap)).last().unwrap().clone();
        assert!(fault(0, 5).starts_with("! linux.resources.memory.swap: "), "{}", fault(0, 5));
        assert!(fault(100, 50).starts_with("! linux.resources.memory.swap: "), "{}", fault(100, 50));
        assert!(fault(-2, 0).starts_with("! linux.resources.memory.limit: -2"), "{}", fault(-2, 0));
    }
}

#[test]
fn the_rest_of_memory() {
    let all = Memory {
        limit: Some(100),
        reservation: Some(50),
        kernel_tcp: Some(20),
        swappiness: Some(0),
        disable_oom_killer: true,
        check_before_update: true,
        ..Memory::default()
    };
    let resources = Resources { memory: all, ..Resources::default() };
    assert_eq!(
        v1(&resources),
        [
            "memory.limit_in_bytes=100",
            "memory.soft_limit_in_bytes=50",
            "memory.kmem.tcp.limit_in_bytes=20",
            "memory.swappiness=0",
            "memory.oom_control=1"
        ]
    );
    assert_eq!(v2(&resources), ["memory.current<100", "memory.max=100", "memory.low=50"]);
    let bad = Resources { memory: Memory { swappiness: Some(101), ..Memory::default() }, ..Resources::default() };
    assert_eq!(v1(&bad), ["! linux.resources.memory.swappiness: 101 is not within 0 to 100"]);
}

#[test]
fn shares_become_weights_as_with_runc() {
    // The three points that the curve was made for, what lies beyond them, and two from between.
    for (shares, weight) in [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 30, 10_000), (512, 59), (2048, 174)]
    {
        let written = v2(&cpu(Cpu { shares: Some(shares), ..Cpu::default() }));
        assert_eq!(written, [format!("cpu.weight={weight}")], "{shares}");
    }
    assert_eq!(v1(&cpu(Cpu { shares: Some(1024), ..Cpu::default() })), ["cpu.shares=1024"]);
    for bad in [1, 262_145] {
        let fault = format!("! linux.resources.cpu.shares: {bad} is not within 2 to 262144");
        assert_eq!(v1(&cpu(Cpu { shares: Some(bad), ..Cpu::default() })), [fault]);
    }
}

#[test]
fn time_of_the_processor() {
    let all = Cpu {
        quota: Some(50_000),
        period: Some(100_000),
        burst: Some(0),
        realtime_period: Some(1_000_000),
        realtime_runtime: Some(950_000),
        cpus: Some("0-1".to_owned()),
        mems: Some("0".to_owned()),
        idle: Some(1),
        shares: Some(1024),
    };
    assert_eq!(
        v1(&cpu(all.clone())),
        [
            "cpu.rt_period_us=1000000",
            "cpu.rt_runtime_us=950000",
            "cpu.shares=1024",
            "cpu.cfs_period_us=100000 & cpu.cfs_quota_us=50000",
            "cpu.cfs_burst_us=0",
            "cpu.idle=1",
            "cpuset.cpus=0-1",
            "cpuset.mems=0",
        ]
    );
    assert_eq!(
        v2(&cpu(all)),
        ["cpu.weight=100", "cpu.max=50000 100000", "cpu.max.burst=0", "cpu.idle=1", "cpuset.cpus=0-1", "cpuset.mems=0"]
    );
    let one = |quota, period| Cpu { quota, period, ..Cpu::default() };
    assert_eq!(v2(&cpu(one(Some(-1), None))), ["cpu.max=max 100000"]);
    assert_eq!(v2(&cpu(one(None, Some(5000)))), ["cpu.max=max 5000"]);
    assert_eq!(v2(&cpu(one(Some(7000), None))), ["cpu.max=7000 100000"]);
    assert_eq!(v1(&cpu(one(Some(-7), None))), ["cpu.cfs_quota_us=-1"]);
    assert_eq!(v1(&cpu(one(None, Some(5000)))), ["cpu.cfs_period_us=5000"]);
}

#[test]
fn pids() {
    for (limit, value) in [(100, "100"), (0, "max"), (-1, "max"), (-100, "max")] {
        let resources = Resources { pids_limit: Some(limit), ..Resources::default() };
        assert_eq!(v1(&resources), [format!("pids.max={value}")]);
        assert_eq!(v2(&resources), [format!("pids.max={value}")]);
    }
}

#[test]
fn block_devices() {
    let throttle = |rate| vec![Throttle { major: 8, minor: 0, rate }];
    let io = BlockIo {
        weight: Some(500),
        leaf_weight: Some(300),
        weight_device: vec![WeightDevice { major: 8, minor: 16, weight: Some(1000), leaf_weight: Some(10) }],
        throttle_read_bps: vec![Throttle { major: 8, minor: 0, rate: 1024 }, Throttle { major: 8, minor: 16, rate: 5 }],
        throttle_write_bps: throttle(2048),
        throttle_read_iops: throttle(10),
        throttle_write_iops: throttle(0),
    };
    let resources = Resources { block_io: io, ..Resources::default() };
    assert_eq!(
        v1(&resources),
        [
            "blkio.bfq.weight=500 or blkio.weight=500",
            "blkio.leaf_weight=300",
            "blkio.bfq.weight_device=8:16 1000 or blkio.weight_device=8:16 1000",
            "blkio.leaf_weight_device=8:16 10",
            "blkio.throttle.read_bps_device=8:0 1024|8:16 5",
            "blkio.throttle.write_bps_device=8:0 2048",
            "blkio.throttle.read_iops_device=8:0 10",
            "blkio.throttle.write_iops_device=8:0 0",
        ]
    );
    assert_eq!(
        v2(&resources),
        [
            "io.bfq.weight=500 or io.weight=4950",
            "io.bfq.weight=8:16 1000 or io.weight=8:16 10000",
            "io.max=8:0 rbps=1024 wbps=2048 riops=10 wiops=max|8:16 rbps=5",
        ]
    );
    let bad = Resources { block_io: BlockIo { weight: Some(1001), ..BlockIo::default() }, ..Resources::default() };
    assert_eq!(v2(&bad), ["! linux.resources.blockIO.weight: 1001 is not within 10 to 1000"]);
}

#[test]
fn huge_pages_and_what_is_no_page_size() {
    let of = |size: &str| Resources { hugepage_limits: vec![(size.to_owned(), 9)], ..Resources::default() };
    assert_eq!(v1(&of("2MB")), ["hugetlb.2MB.limit_in_bytes=9", "hugetlb.2MB.rsvd.limit_in_bytes=9?"]);
    assert_eq!(v2(&of("1GB")), ["hugetlb.1GB.max=9", "hugetlb.1GB.rsvd.max=9?"]);
    for bad in ["../../memory/x", "2MB/../..", "2M", "MB", "02MB", "", "2MB\0", "-2MB", "2mb", "2MBKB", "2 MB"] {
        let fault = v2(&of(bad)).join("; ");
        assert!(fault.starts_with("! linux.resources.hugepageLimits[0].pageSize: "), "{bad:?}: {fault}");
        assert_eq!(v1(&of(bad)).len(), 1, "{bad:?}");
    }
}

#[test]
fn network_and_rdma() {
    let resources = Resources {
        network_class_id: Some(0x10_0001),
        network_priorities: vec![("eth0".to_owned(), 5), ("lo".to_owned(), 1)],
        rdma: vec![
            ("mlx5_1".to_owned(), Some(3), Some(10_000)),
            ("mlx4_0".to_owned(), None, Some(7)),
            ("x".to_owned(), None, None),
        ],
        ..Resources::default()
    };
    let rdma = "rdma.max=mlx5_1 hca_handle=3 hca_object=10000|mlx4_0 hca_object=7";
    assert_eq!(v1(&resources), [rdma, "net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5|lo 1"]);
    assert_eq!(v2(&resources), [rdma]);
}

#[test]
fn unified_names_files_and_nothing_else() {
    let of = |key: &str, value: &str| {
        let unified = [(key.to_owned(), value.to_owned())].into();
        Resources { unified, ..Resources::default() }
    };
    assert_eq!(v2(&of("memory.high", "1000")), ["memory.high=1000"]);
    assert_eq!(v2(&of("io.max", "8:0 riops=1\n8:16 riops=2\n")), ["io.max=8:0 riops=1|8:16 riops=2"]);
    assert_eq!(v2(&of("cgroup.max.depth", "2")), ["cgroup.max.depth=2"]);
    for bad in [
        "../memory.max",
        "a/b.c",
        "memory..",
        "..",
        "memory",
        ".max",
        "memory.",
        "cgroup.procs",
        "cgroup.kill",
        "",
        "x.\0",
    ] {
        let fault = v2(&of(bad, "1")).join("; ");
        assert!(fault.starts_with(&format!("! linux.resources.unified.{bad}: ")), "{bad:?}: {fault}");
    }
    let refused = v1(&of("memory.high", "1000"));
    assert_eq!(refused, ["! linux.resources.unified: names files of cgroup v2, and this host has version 1"]);
}
