//! `process`: who runs what, with which rights.
//!
//! A person's first look: `jq .process config.json`, `capsh --print`, `ulimit -a`, `chrt -m`. The kernel's own limits are judged here where they
//! are plain numbers, so that the fault names the field instead of a system call that says EINVAL.

use super::{each, list, path, text};
use crate::input::capability;
use crate::input::config::{Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
use crate::input::names::Names;
use crate::input::place::{Place, Report, quote};
use crate::input::spec;
use oci_spec::runtime::{self as oci, LinuxSchedulerPolicy as Policy, PosixRlimitType as Limit};
use std::rc::Rc;

/// The resource limits with their numbers in `asm-generic/resource.h`.
const RLIMITS: [(Limit, u32, &str); 16] = [
    (Limit::RlimitCpu, 0, "RLIMIT_CPU"),
    (Limit::RlimitFsize, 1, "RLIMIT_FSIZE"),
    (Limit::RlimitData, 2, "RLIMIT_DATA"),
    (Limit::RlimitStack, 3, "RLIMIT_STACK"),
    (Limit::RlimitCore, 4, "RLIMIT_CORE"),
    (Limit::RlimitRss, 5, "RLIMIT_RSS"),
    (Limit::RlimitNproc, 6, "RLIMIT_NPROC"),
    (Limit::RlimitNofile, 7, "RLIMIT_NOFILE"),
    (Limit::RlimitMemlock, 8, "RLIMIT_MEMLOCK"),
    (Limit::RlimitAs, 9, "RLIMIT_AS"),
    (Limit::RlimitLocks, 10, "RLIMIT_LOCKS"),
    (Limit::RlimitSigpending, 11, "RLIMIT_SIGPENDING"),
    (Limit::RlimitMsgqueue, 12, "RLIMIT_MSGQUEUE"),
    (Limit::RlimitNice, 13, "RLIMIT_NICE"),
    (Limit::RlimitRtprio, 14, "RLIMIT_RTPRIO"),
    (Limit::RlimitRttime, 15, "RLIMIT_RTTIME"),
];

/// The highest number of a cpu that a list may name: the largest `NR_CPUS` of any kernel configuration.
const MAX_CPU: u32 = 8191;
/// `process`.
pub fn process(process: spec::Process, place: &Place, report: &mut Report) -> Process {
    let args = process.args.unwrap_or_default();
    if args.is_empty() {
        report.fault(place.key("args"), "is empty: there is no program to run");
    } else if args[0].is_empty() {
        report.fault(place.key("args").index(0), "is empty: there is no program to run");
    }
    let env = process.env.unwrap_or_default();
    for at in 0..env.len() {
        // The entry itself is not shown: it may hold a secret.
        // Plainly: names are short, and a search made for long texts takes three times as long.
        match env.bytes(at).iter().position(|byte| *byte == b'=') {
            None => report.fault(place.key("env").index(at), "has no `=`"),
            Some(0) => report.fault(place.key("env").index(at), "has no name before the `=`"),
            Some(_) => {}
        }
    }
    let at = place.key("cwd");
    if process.cwd.is_relative() {
        report.fault(at, format!("{} is not an absolute path", quote(&process.cwd.to_string_lossy())));
    }
    Process {
        terminal: process.terminal.unwrap_or(false),
        console_size: process.console_size.as_ref().map(|size| console_size(size, &place.key("consoleSize"), report)),
        user: user(&process.user, &place.key("user"), report),
        args,
        env: Rc::new(env),
        cwd: path(&process.cwd, &at, report),
        capabilities: process.capabilities.as_ref().map(capabilities),
        rlimits: rlimits(list(&process.rlimits), &place.key("rlimits"), report),
        no_new_privileges: process.no_new_privileges.unwrap_or(false),
        apparmor_profile: text(process.apparmor_profile),
        selinux_label: text(process.selinux_label),
        oom_score_adj: process.oom_score_adj.inspect(|score| {
            if !(-1000..=1000).contains(score) {
                report.fault(place.key("oomScoreAdj"), format!("{score} is not between -1000 and 1000"));
            }
        }),
        io_priority: process.io_priority.as_ref().map(|io| io_priority(io, &place.key("ioPriority"), report)),
        scheduler: process.scheduler.as_ref().map(|s| scheduler(s, &place.key("scheduler"), report)),
        exec_cpu_affinity: process
            .exec_cpu_affinity
            .as_ref()
            .map(|lists| exec_cpu_affinity(lists, &place.key("execCPUAffinity"), report)),
    }
}

fn console_size(size: &oci::Box, place: &Place, report: &mut Report) -> ConsoleSize {
    let mut side = |value: u64, name| {
        u16::try_from(value).unwrap_or_else(|_| {
            report.fault(place.key(name), format!("{value} is above 65535"));
            0
        })
    };
    ConsoleSize { height: side(size.height(), "height"), width: side(size.width(), "width") }
}

fn user(user: &oci::User, place: &Place, report: &mut Report) -> User {
    // NGROUPS_MAX, see setgroups(2).
    const MOST_GROUPS: usize = 65536;
    let groups = list(user.additional_gids());
    if groups.len() > MOST_GROUPS {
        report.fault(place.key("additionalGids"), format!("{} groups, the kernel takes {MOST_GROUPS}", groups.len()));
    }
    let mut id = |value: u32, place: &Place| {
        if value == u32::MAX {
            report.fault(place, "4294967295 is -1, which is no id");
        }
        value
    };
    let (uid, gid) = (id(user.uid(), &place.key("uid")), id(user.gid(), &place.key("gid")));
    let at = place.key("additionalGids");
    let additional_gids = groups.iter().enumerate().map(|(n, gid)| id(*gid, &at.index(n))).collect();
    if let Some(umask) = user.umask().filter(|umask| *umask > 0o777) {
        report.fault(place.key("umask"), format!("{umask} is above 511, which is octal 777"));
    }
    User { uid, gid, umask: user.umask(), additional_gids }
}

fn capabilities(sets: &spec::Capabilities) -> Capabilities {
    // What is unknown was warned of by the walk, and means nothing.
    let bit = |name: &str| capability::number(name).map_or(0, |number| 1_u64 << number);
    let mask = |set: &Option<Names>| set.iter().flat_map(Names::iter).map(bit).fold(0, |mask, bit| mask | bit);
    Capabilities {
        bounding: mask(&sets.bounding),
        effective: mask(&sets.effective),
        inheritable: mask(&sets.inheritable),
        permitted: mask(&sets.permitted),
        ambient: mask(&sets.ambient),
    }
}

fn rlimits(limits: &[oci::PosixRlimit], place: &Place, report: &mut Report) -> Vec<Rlimit> {
    let limits = each(limits, place, report, |limit, place, report| {
        let (_, resource, name) = RLIMITS.iter().find(|known| known.0 == limit.typ()).unwrap_or(&RLIMITS[0]);
        if limit.soft() > limit.hard() {
            let cause = format!("{name}: the soft limit {} is above the hard limit {}", limit.soft(), limit.hard());
            report.fault(place, cause);
        }
        Rlimit { resource: *resource, name, soft: limit.soft(), hard: limit.hard() }
    });
    for (at, limit) in limits.iter().enumerate() {
        if limits[..at].iter().any(|other| other.resource == limit.resource) {
            report.fault(place.index(at), format!("{} is given twice", limit.name));
        }
    }
    limits
}

fn io_priority(io: &oci::LinuxIOPriority, place: &Place, report: &mut Report) -> IoPriority {
    let class = match io.class() {
        oci::IOPriorityClass::IoprioClassRt => 1,
        oci::IOPriorityClass::IoprioClassBe => 2,
        oci::IOPriorityClass::IoprioClassIdle => 3,
    };
    let priority = u8::try_from(io.priority()).ok().filter(|level| *level <= 7);
    if priority.is_none() {
        report.fault(place.key("priority"), format!("{} is not between 0 and 7", io.priority()));
    }
    IoPriority { class, priority: priority.unwrap_or(0) }
}

fn scheduler(asked: &oci::Scheduler, place: &Place, report: &mut Report) -> Scheduler {
    let policy = match asked.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        // The number is reserved, and sched_setattr(2) says EINVAL.
        Policy::SchedIso => {
            report.fault(place.key("policy"), "SCHED_ISO is not implemented by Linux");
            4
        }
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let nice = asked.nice().unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        report.fault(place.key("nice"), format!("{nice} is not between -20 and 19"));
    }
    let priority = asked.priority().unwrap_or(0);
    let real_time = matches!(asked.policy(), Policy::SchedFifo | Policy::SchedRr);
    if real_time && !(1..=99).contains(&priority) {
        report.fault(place.key("priority"), format!("{priority} is not between 1 and 99"));
    } else if !real_time && priority != 0 {
        report.fault(place.key("priority"), "set, but the policy is neither SCHED_FIFO nor SCHED_RR");
    }
    if !matches!(asked.policy(), Policy::SchedDeadline) {
        for (value, name) in [(asked.runtime(), "runtime"), (asked.deadline(), "deadline"), (asked.period(), "period")]
        {
            if value.is_some_and(|value| value != 0) {
                report.fault(place.key(name), "set, but the policy is not SCHED_DEADLINE");
            }
        }
    }
    Scheduler {
        policy,
        nice,
        priority: priority.max(0).unsigned_abs(),
        flags: list(asked.flags()).iter().map(scheduler_flag).fold(0, |all, flag| all | flag),
        runtime: asked.runtime().unwrap_or(0),
        deadline: asked.deadline().unwrap_or(0),
        period: asked.period().unwrap_or(0),
    }
}

/// `SCHED_FLAG_*` of `linux/sched.h`.
fn scheduler_flag(flag: &oci::LinuxSchedulerFlag) -> u64 {
    use oci::LinuxSchedulerFlag as Flag;
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

fn exec_cpu_affinity(lists: &spec::Affinity, place: &Place, report: &mut Report) -> ExecCpuAffinity {
    let mut read = |list: &Option<String>, name| {
        cpu_list(list.as_deref()?).map_err(|cause| report.fault(place.key(name), cause)).ok().flatten()
    };
    ExecCpuAffinity { initial: read(&lists.initial, "initial"), r#final: read(&lists.r#final, "final") }
}

/// `0-2, 7` as numbers, sorted; empty is absent.
fn cpu_list(text: &str) -> Result<Option<Vec<u32>>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let mut cpus = std::collections::BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| {
            let digits = digits.trim();
            let strict = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let number = strict.then(|| digits.parse::<u32>().ok()).flatten();
            let number = number.ok_or_else(|| format!("{} is not a list of cpus as 0-3,7", quote(text)))?;
            if number > MAX_CPU { Err(format!("cpu {number} is above {MAX_CPU}")) } else { Ok(number) }
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {} runs backwards", quote(part)));
        }
        cpus.extend(first..=last);
    }
    Ok(Some(cpus.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists() {
        assert_eq!(cpu_list("0-2, 7"), Ok(Some(vec![0, 1, 2, 7])));
        assert_eq!(cpu_list("3,1,1-2"), Ok(Some(vec![1, 2, 3])));
        assert_eq!(cpu_list(" "), Ok(None));
        for bad in ["a", "1-", "-1", "1,,2", "2-1", "1-2-3", "0-4294967295", "+1", "٣"] {
            assert!(cpu_list(bad).is_err(), "{bad}");
        }
    }
}
