//! The table of version 1: which file of which hierarchy takes what (Documentation/admin-guide/cgroup-v1 of the kernel).

use super::change::Change;
use super::devices::Policy;
use super::table::{self, Entry, Otherwise, Table, setting};
use super::{Absent, Cgroup, Version, Write};
use crate::input::Fault;
use crate::input::config::{BlockIo, Cpu, Memory, Resources, Throttle};
use crate::input::host::Hierarchy;

/// Hierarchies that a container joins. Of the named ones only systemd's, which is how `systemd-cgls` and others find it.
const JOINED: [&str; 15] = [
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
    "misc",
    "name=systemd",
];

/// The container gets a directory in this hierarchy.
pub(super) fn joined(hierarchy: &Hierarchy) -> bool {
    hierarchy.controllers.iter().any(|c| JOINED.contains(&c.as_str()))
}

/// All limits of `linux.resources` but the devices.
pub(super) fn table(resources: &Resources) -> Table {
    let mut table = Table::default();
    memory(&resources.memory, &mut table);
    cpu(&resources.cpu, &mut table);
    table::shared(resources, &mut table, ["limit_in_bytes", "rsvd.limit_in_bytes"]);
    block_io(&resources.block_io, &mut table);
    if let Some(class) = resources.network_class_id.filter(|&class| class != 0) {
        table.put(setting("net_cls", "net_cls.classid", class, "network.classID"));
    }
    if !resources.network_priorities.is_empty() {
        let lines = resources.network_priorities.iter().map(|(name, priority)| format!("{name} {priority}")).collect();
        table.put(setting("net_prio", "net_prio.ifpriomap", "", "network.priorities").values(lines));
    }
    if !resources.unified.is_empty() {
        table.refuse("linux.resources.unified", "names files of cgroup v2, and this host has version 1");
    }
    table
}

fn memory(memory: &Memory, table: &mut Table) {
    let limit = table::bytes(memory.limit, "memory.limit", table);
    let swap = table::bytes(memory.swap, "memory.swap", table);
    let limit_file = |value: i64| {
        let setting = setting("memory", "memory.limit_in_bytes", value, "memory.limit");
        if value == -1 { setting.lifting() } else { setting }
    };
    let swap_file = |value: i64| {
        let setting = setting("memory", "memory.memsw.limit_in_bytes", value, "memory.swap");
        if value == -1 { setting.lifting().otherwise(Otherwise::Ignore) } else { setting }
    };
    table::check_swap(limit, swap, table);
    match (limit, swap) {
        (Some(-1), None) => table.entries.push(Entry::Two(limit_file(-1), swap_file(-1))),
        (Some(limit), Some(swap)) => table.entries.push(Entry::Two(limit_file(limit), swap_file(swap))),
        (Some(limit), None) => table.put(limit_file(limit)),
        (None, Some(swap)) => table.put(swap_file(swap)),
        (None, None) => {}
    }
    if let Some(soft) = table::bytes(memory.reservation, "memory.reservation", table) {
        let setting = setting("memory", "memory.soft_limit_in_bytes", soft, "memory.reservation");
        table.put(if soft == -1 { setting.lifting() } else { setting });
    }
    if let Some(tcp) = table::bytes(memory.kernel_tcp, "memory.kernelTCP", table) {
        let setting = setting("memory", "memory.kmem.tcp.limit_in_bytes", tcp, "memory.kernelTCP");
        table.put(if tcp == -1 { setting.lifting() } else { setting });
    }
    match memory.swappiness {
        Some(value @ 0..=100) => table.put(setting("memory", "memory.swappiness", value, "memory.swappiness")),
        Some(value) => table.refuse("linux.resources.memory.swappiness", format!("{value} is not within 0 to 100")),
        None => {}
    }
    if memory.disable_oom_killer {
        table.put(setting("memory", "memory.oom_control", 1, "memory.disableOOMKiller"));
    }
}

fn cpu(cpu: &Cpu, table: &mut Table) {
    // Before any process is there: one with a real-time policy cannot enter a group that has no such time.
    if let Some(period) = cpu.realtime_period.filter(|&n| n != 0) {
        table.put(setting("cpu", "cpu.rt_period_us", period, "cpu.realtimePeriod"));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|&n| n != 0) {
        table.put(setting("cpu", "cpu.rt_runtime_us", runtime, "cpu.realtimeRuntime"));
    }
    match cpu.shares {
        None | Some(0) => {}
        // The kernel would silently take the nearest value that it has.
        Some(shares @ 2..=262_144) => table.put(setting("cpu", "cpu.shares", shares, "cpu.shares")),
        Some(shares) => table.refuse("linux.resources.cpu.shares", format!("{shares} is not within 2 to 262144")),
    }
    let period = cpu.period.filter(|&n| n != 0).map(|n| setting("cpu", "cpu.cfs_period_us", n, "cpu.period"));
    let quota = cpu.quota.filter(|&n| n != 0).map(|n| match n {
        1.. => setting("cpu", "cpu.cfs_quota_us", n, "cpu.quota"),
        _ => setting("cpu", "cpu.cfs_quota_us", -1, "cpu.quota").lifting(),
    });
    match (period, quota) {
        (Some(period), Some(quota)) => table.entries.push(Entry::Two(period, quota)),
        (period, quota) => table.entries.extend(period.or(quota).map(Entry::One)),
    }
    if let Some(burst) = cpu.burst {
        table.put(setting("cpu", "cpu.cfs_burst_us", burst, "cpu.burst"));
    }
    // After the shares, which an idle group does not take.
    if let Some(idle) = cpu.idle {
        table.put(setting("cpu", "cpu.idle", idle, "cpu.idle"));
    }
}

fn block_io(io: &BlockIo, table: &mut Table) {
    // CFQ's own files went with CFQ in Linux 5.0; a kernel without BFQ may have its own under the old names.
    if let Some(weight) = table::weight(io.weight, "blockIO.weight", table) {
        let old = Otherwise::Use("blkio.weight", vec![weight.to_string()]);
        table.put(setting("blkio", "blkio.bfq.weight", weight, "blockIO.weight").otherwise(old));
    }
    if let Some(weight) = table::weight(io.leaf_weight, "blockIO.leafWeight", table) {
        table.put(setting("blkio", "blkio.leaf_weight", weight, "blockIO.leafWeight"));
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        let number = format!("{}:{}", device.major, device.minor);
        let place = format!("blockIO.weightDevice[{i}].weight");
        if let Some(weight) = table::weight(device.weight, &place, table) {
            let line = format!("{number} {weight}");
            let old = Otherwise::Use("blkio.weight_device", vec![line.clone()]);
            table.put(setting("blkio", "blkio.bfq.weight_device", line, &place).otherwise(old));
        }
        let place = format!("blockIO.weightDevice[{i}].leafWeight");
        if let Some(weight) = table::weight(device.leaf_weight, &place, table) {
            table.put(setting("blkio", "blkio.leaf_weight_device", format!("{number} {weight}"), &place));
        }
    }
    let throttles: [(&[Throttle], &str, &str); 4] = [
        (&io.throttle_read_bps, "read_bps_device", "throttleReadBpsDevice"),
        (&io.throttle_write_bps, "write_bps_device", "throttleWriteBpsDevice"),
        (&io.throttle_read_iops, "read_iops_device", "throttleReadIOPSDevice"),
        (&io.throttle_write_iops, "write_iops_device", "throttleWriteIOPSDevice"),
    ];
    for (list, file, place) in throttles.into_iter().filter(|(list, ..)| !list.is_empty()) {
        let lines = list.iter().map(|t| format!("{}:{} {}", t.major, t.minor, t.rate)).collect();
        table.put(setting("blkio", format!("blkio.throttle.{file}"), "", &format!("blockIO.{place}")).values(lines));
    }
}

/// All changes in order: the directories, the cpuset that must not stay empty, the limits, the devices.
pub(super) fn arrange(
    cgroup: &Cgroup,
    resources: &Resources,
    limits: Vec<Change>,
    policy: Option<&Policy>,
) -> Result<Vec<Change>, Fault> {
    let mut changes: Vec<Change> = cgroup.directories.iter().map(|d| Change::mkdir(Version::V1, d)).collect();
    if let Some(cpuset) = cgroup.directory("cpuset") {
        // A new cpuset has no processors and no memory, and refuses every process. What the configuration sets is written
        // below; then only the directories above, which may be new as well, must have something to give.
        for (file, asked) in [("cpuset.cpus", &resources.cpu.cpus), ("cpuset.mems", &resources.cpu.mems)] {
            let asked = asked.as_ref().is_some_and(|list| !list.is_empty());
            let from =
                if asked { cpuset.path.parent().filter(|p| *p != cpuset.mount) } else { Some(cpuset.path.as_path()) };
            changes.extend(from.map(|directory| Change::Inherit {
                mount: cpuset.mount.clone(),
                directory: directory.to_owned(),
                file,
            }));
        }
    }
    changes.extend(limits);
    let Some(policy) = policy else { return Ok(changes) };
    match cgroup.directory("devices") {
        Some(devices) => changes.extend(policy.lines()?.into_iter().map(|(file, values)| {
            let path = devices.path.join(file);
            Change::Write(Write { path, values, place: "linux.resources.devices".to_owned(), absent: Absent::Refused })
        })),
        None if policy.allows_all() => {}
        None => return Err(Fault::new("linux.resources.devices", "this host's cgroups have no devices controller")),
    }
    Ok(changes)
}
