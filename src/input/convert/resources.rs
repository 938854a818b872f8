//! `linux.resources`: the limits, also what `update --resources` reads.
//!
//! A limit of 0 means "not asked", because Go's callers write zeros for what they leave alone (`docker update` sends a dozen of them); the
//! exceptions are fields that runc keeps as pointers: `pids.limit`, `cpu.burst`, `cpu.idle`, `swappiness`. Which file of the cgroup a value ends in is
//! the business of `setup::cgroup`; whether the value can be one at all is judged here.

use super::linux::{major, minor};
use super::{each, list, text};
use crate::input::config::{BlockIo, Cpu, DeviceKind, DeviceRule, Memory, Resources, Throttle, WeightDevice};
use crate::input::place::{Place, Report, quote};
use oci_spec::runtime as oci;

/// `linux.resources`.
pub fn resources(resources: &oci::LinuxResources, place: &Place, report: &mut Report) -> Resources {
    let network = resources.network().as_ref();
    let mut rdma: Vec<_> = resources
        .rdma()
        .iter()
        .flatten()
        .map(|(device, limits)| (device.clone(), limits.hca_handles(), limits.hca_objects()))
        .collect();
    rdma.sort_unstable();
    let priorities = network.map(|n| list(n.priorities())).unwrap_or_default();
    Resources {
        devices: each(list(resources.devices()), &place.key("devices"), report, device_rule),
        memory: resources.memory().as_ref().map(|m| memory(m, &place.key("memory"), report)).unwrap_or_default(),
        cpu: resources.cpu().as_ref().map(|c| cpu(c, &place.key("cpu"), report)).unwrap_or_default(),
        pids_limit: resources.pids().as_ref().map(|pids| pids.limit()),
        block_io: resources
            .block_io()
            .as_ref()
            .map(|io| block_io(io, &place.key("blockIO"), report))
            .unwrap_or_default(),
        hugepage_limits: each(list(resources.hugepage_limits()), &place.key("hugepageLimits"), report, hugepage_limit),
        network_class_id: network.and_then(|n| n.class_id()),
        network_priorities: priorities.iter().map(|p| (p.name().clone(), p.priority())).collect(),
        rdma,
        unified: resources
            .unified()
            .iter()
            .flatten()
            .inspect(|(name, _)| unified_name(name, &place.key("unified"), report))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    }
}

fn device_rule(rule: &oci::LinuxDeviceCgroup, place: &Place, report: &mut Report) -> DeviceRule {
    use oci::LinuxDeviceType as Type;
    let kind = match rule.typ() {
        None | Some(Type::A) => None,
        Some(Type::B) => Some(DeviceKind::Block),
        Some(Type::C | Type::U) => Some(DeviceKind::Char),
        Some(Type::P) => {
            report.fault(place.key("type"), "\"p\" is a fifo, for which there are no rules");
            None
        }
    };
    let access = rule.access().as_deref().unwrap_or_default();
    if access.is_empty() {
        report.fault(place.key("access"), "is empty; it holds letters of rwm");
    } else if access.chars().any(|letter| !"rwm".contains(letter)) {
        report.fault(place.key("access"), format!("{} holds other letters than rwm", quote(access)));
    }
    // -1 is Go's way of writing "every".
    let number = |number: Option<i64>| number.filter(|number| *number != -1);
    DeviceRule {
        allow: rule.allow(),
        kind,
        major: number(rule.major()).map(|n| major(n, &place.key("major"), report)),
        minor: number(rule.minor()).map(|n| minor(n, &place.key("minor"), report)),
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    }
}

fn memory(memory: &oci::LinuxMemory, place: &Place, report: &mut Report) -> Memory {
    let mut bytes = |value: Option<i64>, name| {
        if let Some(value) = value.filter(|value| *value < -1) {
            report.fault(place.key(name), format!("{value} is neither a number of bytes nor -1 for no limit"));
        }
        asked(value)
    };
    let (limit, reservation) = (bytes(memory.limit(), "limit"), bytes(memory.reservation(), "reservation"));
    let (swap, kernel) = (bytes(memory.swap(), "swap"), bytes(memory.kernel(), "kernel"));
    let kernel_tcp = bytes(memory.kernel_tcp(), "kernelTCP");
    // Old Docker wrote -1 here as an unsigned number.
    let swappiness = memory.swappiness().filter(|value| *value != u64::MAX);
    if let Some(value) = swappiness.filter(|value| *value > 100) {
        report.fault(place.key("swappiness"), format!("{value} is above 100"));
    }
    Memory {
        limit,
        reservation,
        swap,
        kernel,
        kernel_tcp,
        swappiness,
        disable_oom_killer: memory.disable_oom_killer().unwrap_or(false),
        check_before_update: memory.check_before_update().unwrap_or(false),
    }
}

fn cpu(cpu: &oci::LinuxCpu, place: &Place, report: &mut Report) -> Cpu {
    let mut set = |list: &Option<String>, name| {
        let list = text(list.clone())?;
        if !list.bytes().all(|b| b.is_ascii_digit() || b"-, \n".contains(&b)) {
            report.fault(place.key(name), format!("{} is not a list as 0-3,7", quote(&list)));
        }
        Some(list)
    };
    let (cpus, mems) = (set(cpu.cpus(), "cpus"), set(cpu.mems(), "mems"));
    if let Some(idle) = cpu.idle().filter(|idle| !(0..=1).contains(idle)) {
        report.fault(place.key("idle"), format!("{idle} is neither 0 nor 1"));
    }
    Cpu {
        shares: asked(cpu.shares()),
        quota: asked(cpu.quota()),
        burst: cpu.burst(),
        period: asked(cpu.period()),
        realtime_runtime: asked(cpu.realtime_runtime()),
        realtime_period: asked(cpu.realtime_period()),
        cpus,
        mems,
        idle: cpu.idle(),
    }
}

fn block_io(io: &oci::LinuxBlockIo, place: &Place, report: &mut Report) -> BlockIo {
    let mut all = |devices: &Option<Vec<oci::LinuxThrottleDevice>>, name| {
        each(list(devices), &place.key(name), report, |device, place, report| Throttle {
            major: major(device.major(), &place.key("major"), report),
            minor: minor(device.minor(), &place.key("minor"), report),
            rate: device.rate(),
        })
    };
    let throttle_read_bps = all(io.throttle_read_bps_device(), "throttleReadBpsDevice");
    let throttle_write_bps = all(io.throttle_write_bps_device(), "throttleWriteBpsDevice");
    let throttle_read_iops = all(io.throttle_read_iops_device(), "throttleReadIOPSDevice");
    let throttle_write_iops = all(io.throttle_write_iops_device(), "throttleWriteIOPSDevice");
    let weight_device = |device: &oci::LinuxWeightDevice, place: &Place, report: &mut Report| WeightDevice {
        major: major(device.major(), &place.key("major"), report),
        minor: minor(device.minor(), &place.key("minor"), report),
        weight: weight(device.weight(), &place.key("weight"), report),
        leaf_weight: weight(device.leaf_weight(), &place.key("leafWeight"), report),
    };
    BlockIo {
        weight: weight(io.weight(), &place.key("weight"), report),
        leaf_weight: weight(io.leaf_weight(), &place.key("leafWeight"), report),
        weight_device: each(list(io.weight_device()), &place.key("weightDevice"), report, weight_device),
        throttle_read_bps,
        throttle_write_bps,
        throttle_read_iops,
        throttle_write_iops,
    }
}

fn weight(weight: Option<u16>, place: &Place, report: &mut Report) -> Option<u16> {
    let weight = asked(weight)?;
    if !(10..=1000).contains(&weight) {
        report.fault(place, format!("{weight} is not between 10 and 1000"));
    }
    Some(weight)
}

fn hugepage_limit(limit: &oci::LinuxHugepageLimit, place: &Place, report: &mut Report) -> (String, u64) {
    let size = limit.page_size();
    // The size becomes a part of a file's name: `hugetlb.2MB.max`.
    let digits = size.strip_suffix("KB").or_else(|| size.strip_suffix("MB")).or_else(|| size.strip_suffix("GB"));
    let well_formed =
        |digits: &str| !digits.starts_with('0') && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !digits.is_some_and(well_formed) {
        report.fault(place.key("pageSize"), format!("{} is not a size as 64KB, 2MB, 1GB", quote(size)));
    }
    let bytes = u64::try_from(limit.limit()).unwrap_or_else(|_| {
        report.fault(place.key("limit"), format!("{} is below 0", limit.limit()));
        0
    });
    (size.clone(), bytes)
}

/// A key of `unified` is the name of a file in the cgroup's directory, and nothing else.
fn unified_name(name: &str, place: &Place, report: &mut Report) {
    let has_dot = name.split_once('.').is_some_and(|(controller, file)| !controller.is_empty() && !file.is_empty());
    if name.contains('/') || !has_dot || name.starts_with('.') {
        report.fault(place.name(name), "is not the name of a cgroup file as memory.high");
    }
}

/// Zero is Go's way of not asking.
fn asked<T: Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}
