//! The table of version 2: which file takes what (Documentation/admin-guide/cgroup-v2.rst of the kernel).
//!
//! The configuration speaks the language of version 1, so some values are converted; the formulas are runc's.

use super::change::Change;
use super::devices::Policy;
use super::table::{self, Entry, Otherwise, Table, setting};
use super::{Cgroup, Version};
use crate::input::Fault;
use crate::input::config::{BlockIo, Cpu, Memory, Resources, Throttle};

/// The period of a quota that comes without one, in microseconds: the kernel's default.
const DEFAULT_PERIOD: u64 = 100_000;

/// Files that every cgroup has and that act on processes instead of limiting them: `"cgroup.procs": "1"` would pull the host's init
/// into the container.
const NOT_RESOURCES: [&str; 6] =
    ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control"];

/// All limits of `linux.resources` but the devices. What version 2 does not have is left out silently, as runc does.
pub(super) fn table(resources: &Resources) -> Table {
    let mut table = Table::default();
    memory(&resources.memory, &mut table);
    cpu(&resources.cpu, &mut table);
    table::shared(resources, &mut table, ["max", "rsvd.max"]);
    block_io(&resources.block_io, &mut table);
    for (key, value) in &resources.unified {
        unified(key, value, &mut table);
    }
    table
}

/// A limit where -1 is written `max`.
fn or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

fn memory(memory: &Memory, table: &mut Table) {
    let limit = table::bytes(memory.limit, "memory.limit", table);
    let swap = table::bytes(memory.swap, "memory.swap", table);
    table::check_swap(limit, swap, table);
    if memory.check_before_update {
        for (value, place) in [(swap, "linux.resources.memory.swap"), (limit, "linux.resources.memory.limit")] {
            if let Some(limit @ 1..) = value {
                let limit = limit as u64;
                table.entries.push(Entry::Below { controller: "memory", file: "memory.current", limit, place });
            }
        }
    }
    // Version 1 counts memory and swap together, version 2 each on its own.
    let swap = match (limit, swap) {
        (Some(-1), None) => Some(-1),
        (_, None) => None,
        (_, Some(-1)) => Some(-1),
        (Some(-1), Some(swap)) => Some(swap),
        (limit, Some(swap)) => Some((swap - limit.unwrap_or(0)).max(0)),
    };
    if let Some(swap) = swap {
        let setting = setting("memory", "memory.swap.max", or_max(swap), "memory.swap");
        // A kernel without swap accounting has no such file; no limit and no swap at all are then what it does anyway.
        table.put(match swap {
            -1 => setting.lifting().otherwise(Otherwise::Ignore),
            0 => setting.otherwise(Otherwise::Ignore),
            _ => setting,
        });
    }
    for (value, file, place) in [
        (limit, "memory.max", "memory.limit"),
        (table::bytes(memory.reservation, "memory.reservation", table), "memory.low", "memory.reservation"),
    ] {
        if let Some(value) = value {
            let setting = setting("memory", file, or_max(value), place);
            table.put(if value == -1 { setting.lifting() } else { setting });
        }
    }
}

/// Shares (2 to 262144, normally 1024) as a weight (1 to 10000, normally 100): a curve through these three pairs, since runc
/// 1.3.2 and crun 1.23. The straight line of earlier versions made 39 of the normal 1024.
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0);
            // 1024 must not become 101 where a C library's log2 is off by one bit.
            (weight - 1e-9).ceil() as u64
        }
    }
}

fn cpu(cpu: &Cpu, table: &mut Table) {
    if let Some(shares) = cpu.shares.filter(|&n| n != 0) {
        table.put(setting("cpu", "cpu.weight", weight_of_shares(shares), "cpu.shares"));
    }
    let (quota, period) = (cpu.quota.filter(|&n| n != 0), cpu.period.filter(|&n| n != 0));
    if quota.is_some() || period.is_some() {
        let place = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        let limited = quota.filter(|&n| n > 0);
        let value = format!("{} {}", or_max(limited.unwrap_or(-1)), period.unwrap_or(DEFAULT_PERIOD));
        let setting = setting("cpu", "cpu.max", value, place);
        table.put(if limited.is_none() { setting.lifting() } else { setting });
    }
    // After the quota, which it may not exceed.
    if let Some(burst) = cpu.burst {
        table.put(setting("cpu", "cpu.max.burst", burst, "cpu.burst"));
    }
    // After the weight, which an idle group does not take.
    if let Some(idle) = cpu.idle {
        table.put(setting("cpu", "cpu.idle", idle, "cpu.idle"));
    }
}

/// A weight of version 1 (10 to 1000) on the scale of `io.weight` (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

fn block_io(io: &BlockIo, table: &mut Table) {
    // BFQ's own file keeps the scale of version 1; without BFQ there may be io.weight, which has its own.
    if let Some(weight) = table::weight(io.weight, "blockIO.weight", table) {
        let other = Otherwise::Use("io.weight", vec![io_weight(weight).to_string()]);
        table.put(setting("io", "io.bfq.weight", weight, "blockIO.weight").otherwise(other));
    }
    for (i, device) in io.weight_device.iter().enumerate() {
        let place = format!("blockIO.weightDevice[{i}].weight");
        if let Some(weight) = table::weight(device.weight, &place, table) {
            let line = |value: u64| format!("{}:{} {value}", device.major, device.minor);
            let other = Otherwise::Use("io.weight", vec![line(io_weight(weight))]);
            table.put(setting("io", "io.bfq.weight", line(weight.into()), &place).otherwise(other));
        }
    }
    // One line for each device, with all that is asked for it.
    let mut lines: Vec<((u32, u32), String)> = Vec::new();
    let mut first = None;
    let throttles: [(&[Throttle], &str, &str); 4] = [
        (&io.throttle_read_bps, "rbps", "throttleReadBpsDevice"),
        (&io.throttle_write_bps, "wbps", "throttleWriteBpsDevice"),
        (&io.throttle_read_iops, "riops", "throttleReadIOPSDevice"),
        (&io.throttle_write_iops, "wiops", "throttleWriteIOPSDevice"),
    ];
    for (list, key, place) in throttles {
        for throttle in list {
            first.get_or_insert(place);
            let device = (throttle.major, throttle.minor);
            let rate = if throttle.rate == 0 { "max".to_owned() } else { throttle.rate.to_string() };
            match lines.iter_mut().find(|(number, _)| *number == device) {
                Some((_, line)) => line.push_str(&format!(" {key}={rate}")),
                None => lines.push((device, format!("{}:{} {key}={rate}", device.0, device.1))),
            }
        }
    }
    if let Some(place) = first {
        let lines = lines.into_iter().map(|(_, line)| line).collect();
        table.put(setting("io", "io.max", "", &format!("blockIO.{place}")).values(lines));
    }
}

fn unified(key: &str, value: &str, table: &mut Table) {
    let place = format!("unified.{key}");
    let full = format!("linux.resources.{place}");
    if key.contains('/') || key.contains("..") || key.contains('\0') {
        return table.refuse(full, "is not the plain name of a file");
    }
    let Some((controller, rest)) = key.split_once('.').filter(|(c, rest)| !c.is_empty() && !rest.is_empty()) else {
        return table.refuse(full, "is not of the form CONTROLLER.PARAMETER");
    };
    if NOT_RESOURCES.contains(&key) {
        return table.refuse(full, format!("cgroup.{rest} is no limit: it would act on processes or on other cgroups"));
    }
    let lines = if value.is_empty() { vec![String::new()] } else { value.lines().map(str::to_owned).collect() };
    table.put(setting(controller, key, "", &place).values(lines));
}

/// All changes in order: the directory, the controllers in it, the limits, the devices.
pub(super) fn arrange(cgroup: &Cgroup, limits: Vec<Change>, policy: Option<&Policy>) -> Result<Vec<Change>, Fault> {
    let directory = &cgroup.directories[0];
    let mut changes = vec![Change::mkdir(Version::V2, directory)];
    if !directory.controllers.is_empty() {
        // All of them, as runc: what is not limited can still be measured.
        let mut needed: Vec<(String, String)> = Vec::new();
        for write in limits.iter().flat_map(Change::writes) {
            let controller = directory.controllers.iter().find(|c| write.file().starts_with(&format!("{c}.")));
            if let Some(controller) = controller.filter(|c| !needed.iter().any(|(known, _)| known == *c)) {
                needed.push((controller.clone(), write.place.clone()));
            }
        }
        changes.push(Change::Enable {
            mount: directory.mount.clone(),
            directory: directory.path.clone(),
            controllers: directory.controllers.clone(),
            needed,
        });
    }
    changes.extend(limits);
    if let Some(policy) = policy.filter(|policy| !policy.allows_all()) {
        changes.push(Change::DeviceProgram { directory: directory.path.clone(), program: policy.program() });
    }
    Ok(changes)
}
