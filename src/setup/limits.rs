//! Limits and habits of the process: getrlimit(2), oom_score_adj (proc(5)), umask(2), personality(2), ioprio_set(2),
//! sched_setattr(2).
//!
//! **What the kernel offers.** Sixteen resource limits, each soft and hard: a process may move the soft one below the hard one,
//! and lower the hard one for good. The others are single values that a child inherits.
//!
//! **Try it.** `prlimit --nofile=10:20 sh -c 'ulimit -n; ulimit -Hn'`; `choom -n 500 -- cat /proc/self/oom_score_adj`;
//! `setarch --32bit uname -m`; `ionice -c 3 ionice`; `chrt --batch 0 chrt -p $$`.
//!
//! **What we do.** Each value is one call, shortly before the rights are given up. The limits come last of them, so that a low
//! one does not hit the runtime itself. Where the child stands in a user namespace, `apply_to` does it from outside: raising a
//! hard limit, and lowering the oom score, ask for rights on the host.
//!
//! **What goes wrong.** Without CAP_SYS_RESOURCE neither works; asking for what is already so does.

use crate::input::config::{IoPriority, Process, Rlimit, Scheduler};
use crate::sys::{Called, Failure, Result, cred, procfs};
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use std::fmt;
use std::os::fd::AsFd;

use super::Held;

/// One value to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `process.scheduler`
    Scheduler(Scheduler),
    /// `process.ioPriority`
    IoPriority(IoPriority),
    /// `process.oomScoreAdj`
    OomScoreAdj(i32),
    /// `linux.personality`
    Personality(u32),
    /// `process.user.umask`
    Umask(u32),
    /// One of `process.rlimits`
    Rlimit(Rlimit),
}

/// What is set, in order. `personality` is `linux.personality`.
pub fn decide(process: &Process, personality: Option<u32>) -> Vec<Action> {
    let single = [
        process.scheduler.map(Action::Scheduler),
        process.io_priority.map(Action::IoPriority),
        process.oom_score_adj.map(Action::OomScoreAdj),
        personality.map(Action::Personality),
        process.user.umask.map(Action::Umask),
    ];
    single.into_iter().flatten().chain(process.rlimits.iter().copied().map(Action::Rlimit)).collect()
}

/// Shows a limit.
struct Value(u64);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == u64::MAX { f.write_str("RLIM_INFINITY") } else { self.0.fmt(f) }
    }
}

/// `SCHED_*` of `linux/sched.h`.
const POLICIES: [(u32, &str); 6] = [
    (0, "SCHED_OTHER"),
    (1, "SCHED_FIFO"),
    (2, "SCHED_RR"),
    (3, "SCHED_BATCH"),
    (5, "SCHED_IDLE"),
    (6, "SCHED_DEADLINE"),
];

const IO_CLASSES: [&str; 4] = ["NONE", "RT", "BE", "IDLE"];

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Scheduler(Scheduler { policy, nice, priority, flags, runtime, deadline, period }) => {
                match POLICIES.iter().find(|(number, _)| number == policy) {
                    Some((_, name)) => write!(f, "sched_setattr({{{name}")?,
                    None => write!(f, "sched_setattr({{{policy}")?,
                }
                let values = [
                    ("nice", i128::from(*nice)),
                    ("priority", i128::from(*priority)),
                    ("flags", i128::from(*flags)),
                    ("runtime", i128::from(*runtime)),
                    ("deadline", i128::from(*deadline)),
                    ("period", i128::from(*period)),
                ];
                for (name, value) in values.iter().filter(|(_, value)| *value != 0) {
                    write!(f, ", {name}={value}")?;
                }
                f.write_str("})")
            }
            Action::IoPriority(IoPriority { class, priority }) => {
                let name = IO_CLASSES.get(usize::from(*class)).unwrap_or(&"?");
                write!(f, "ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_{name}|{priority})")
            }
            Action::OomScoreAdj(score) => write!(f, "openat2(proc, \"self/oom_score_adj\"); write(\"{score}\")"),
            Action::Personality(persona) => write!(f, "personality({persona:#x})"),
            Action::Umask(mask) => write!(f, "umask(0{mask:02o})"),
            Action::Rlimit(limit) => {
                let (soft, hard) = (Value(limit.soft), Value(limit.hard));
                write!(f, "prlimit64(0, {}, {{{soft}, {hard}}})", limit.name)
            }
        }
    }
}

impl Action {
    /// Sets the value for the calling process.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        let call = || self.to_string();
        match self {
            Action::Scheduler(wanted) => cred::set_scheduler(cred::SchedulerAttributes {
                size: 0,
                policy: wanted.policy,
                flags: wanted.flags,
                nice: wanted.nice,
                priority: wanted.priority,
                runtime: wanted.runtime,
                deadline: wanted.deadline,
                period: wanted.period,
            })
            .called(call)
            .map_err(|failure| explain_scheduler(failure, "scheduler")),
            Action::IoPriority(IoPriority { class, priority }) => cred::set_io_priority(*class, *priority)
                .called(call)
                .map_err(|failure| explain_scheduler(failure, "ioPriority")),
            Action::OomScoreAdj(score) => set_oom_score(held.proc()?, "self/oom_score_adj", *score),
            Action::Personality(persona) => cred::set_personality(*persona).called(call),
            Action::Umask(mask) => {
                umask(Mode::from_bits_truncate(*mask));
                Ok(())
            }
            Action::Rlimit(limit) => {
                set_limit(0, *limit).called(call).map_err(|failure| explain_limit(failure, *limit))
            }
        }
    }

    /// Sets a resource limit or the oom score of the process `pid` from outside: `proc` is a procfs that shows it.
    ///
    /// The other values concern the calling process only, and are refused.
    pub fn apply_to(&self, pid: i32, proc: impl AsFd) -> Result<()> {
        match self {
            Action::Rlimit(limit) => set_limit(pid, *limit)
                .called(|| self.to_string().replacen("(0", &format!("({pid}"), 1))
                .map_err(|failure| explain_limit(failure, *limit)),
            Action::OomScoreAdj(score) => set_oom_score(proc, &format!("{pid}/oom_score_adj"), *score),
            other => Err(Failure::refused(other.to_string(), Errno::EINVAL, "can only be set by the process itself")),
        }
    }
}

fn set_limit(pid: i32, limit: Rlimit) -> nix::Result<()> {
    cred::set_limit(pid, limit.resource, limit.soft, limit.hard)
}

fn explain_limit(failure: Failure, limit: Rlimit) -> Failure {
    let name = limit.name;
    match failure.errno {
        Errno::EPERM => {
            let now =
                cred::limit(0, limit.resource).map(|(_, hard)| format!(" above {}", Value(hard))).unwrap_or_default();
            failure.because(format!(
                "{name}: raising the hard limit{now} needs CAP_SYS_RESOURCE, which the runtime does not have"
            ))
        }
        Errno::EINVAL if limit.soft > limit.hard => failure.because(format!(
            "{name}: the soft limit {} is above the hard limit {}",
            Value(limit.soft),
            Value(limit.hard)
        )),
        _ => failure,
    }
}

fn explain_scheduler(failure: Failure, key: &str) -> Failure {
    match failure.errno {
        Errno::EPERM => {
            failure.because(format!("{key}: the runtime has no right to this (CAP_SYS_NICE), or the cgroup forbids it"))
        }
        Errno::EINVAL => failure.because(format!("{key}: the kernel refuses this combination of values")),
        Errno::EBUSY => failure.because(format!("{key}: the processors have no such bandwidth left")),
        _ => failure,
    }
}

fn set_oom_score(proc: impl AsFd, path: &str, score: i32) -> Result<()> {
    match procfs::write(&proc, path, &score.to_string()) {
        Err(failure) if failure.errno == Errno::EACCES => {
            let now = procfs::read(&proc, path).unwrap_or_default();
            if now.trim() == score.to_string() {
                return Ok(());
            }
            Err(failure.because(format!(
                "oomScoreAdj: lowering it from {} to {score} needs CAP_SYS_RESOURCE, which the runtime does not have",
                now.trim()
            )))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::config::User;
    use crate::sys::alone::alone;

    #[test]
    fn limits_come_last() {
        let rlimit = Rlimit { resource: 7, name: "RLIMIT_NOFILE", soft: 1024, hard: u64::MAX };
        let process = Process {
            scheduler: Some(Scheduler { policy: 3, nice: -5, ..Scheduler::default() }),
            io_priority: Some(IoPriority { class: 2, priority: 4 }),
            oom_score_adj: Some(-7),
            rlimits: vec![rlimit],
            ..Process::default()
        };
        let shown: Vec<String> = decide(&process, Some(8)).iter().map(Action::to_string).collect();
        let wanted = [
            "sched_setattr({SCHED_BATCH, nice=-5})",
            "ioprio_set(IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_BE|4)",
            "openat2(proc, \"self/oom_score_adj\"); write(\"-7\")",
            "personality(0x8)",
            "prlimit64(0, RLIMIT_NOFILE, {1024, RLIM_INFINITY})",
        ];
        assert_eq!(shown, wanted);
        let asked = Process { user: User { umask: Some(0o27), ..User::default() }, ..Process::default() };
        assert_eq!(decide(&asked, None), [Action::Umask(0o27)]);
        assert_eq!(decide(&Process::default(), None), []);
    }

    #[test]
    fn values_are_set_and_refusals_explained() {
        alone("setup::limits::tests::values_are_set_and_refusals_explained", || {
            let mut held = Held { proc: Some(crate::sys::path::host_proc().unwrap()), ..Held::default() };
            let mut apply = |action: Action| action.apply(&mut held);
            let limit = |soft, hard| Rlimit { resource: libc::RLIMIT_NOFILE, name: "RLIMIT_NOFILE", soft, hard };
            apply(Action::Rlimit(limit(10, 20))).unwrap();
            assert_eq!(cred::limit(0, libc::RLIMIT_NOFILE), Ok((10, 20)));
            let because = apply(Action::Rlimit(limit(30, 20))).unwrap_err().because.unwrap();
            assert_eq!(because, "RLIMIT_NOFILE: the soft limit 30 is above the hard limit 20");
            let before: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap().trim().parse().unwrap();
            apply(Action::OomScoreAdj(before)).unwrap();
            apply(Action::OomScoreAdj(before.max(0) + 7)).unwrap();
            apply(Action::Umask(0o27)).unwrap();
            assert_eq!(umask(Mode::empty()).bits(), 0o27);
            apply(Action::IoPriority(IoPriority { class: 3, priority: 0 })).unwrap();
            apply(Action::Scheduler(Scheduler { policy: 3, nice: 5, ..Scheduler::default() })).unwrap();
            apply(Action::Personality(8)).unwrap();
            assert_eq!(nix::sys::utsname::uname().unwrap().machine(), "i686");
            apply(Action::Personality(0)).unwrap();
            // Without the right to raise.
            let sets = cred::capget().unwrap();
            let without = sets.effective & !(1 << 24);
            cred::capset(cred::CapabilitySets { effective: without, permitted: without, inheritable: 0 }).unwrap();
            let because = apply(Action::Rlimit(limit(30, 40))).unwrap_err().because.unwrap();
            assert_eq!(
                because,
                "RLIMIT_NOFILE: raising the hard limit above 20 needs CAP_SYS_RESOURCE, which the runtime does not have"
            );
            let failure = apply(Action::OomScoreAdj(-1000)).unwrap_err();
            assert_eq!(failure.errno, Errno::EACCES);
            let now = before.max(0) + 7;
            assert_eq!(
                failure.because.unwrap(),
                format!(
                    "oomScoreAdj: lowering it from {now} to -1000 needs CAP_SYS_RESOURCE, which the runtime does not have"
                )
            );
        });
    }

    #[test]
    fn another_process_gets_its_limits_from_outside() {
        let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        let proc = crate::sys::path::host_proc().unwrap();
        let pid = child.id() as i32;
        let limit = Rlimit { resource: libc::RLIMIT_CORE, name: "RLIMIT_CORE", soft: 0, hard: 0 };
        let done = [Action::Rlimit(limit), Action::OomScoreAdj(900)].map(|action| action.apply_to(pid, &proc));
        let refused = Action::Umask(0).apply_to(pid, &proc);
        let found = (cred::limit(pid, libc::RLIMIT_CORE), procfs::read(&proc, &format!("{pid}/oom_score_adj")));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((done, refused.is_err()), ([Ok(()), Ok(())], true));
        assert_eq!(found, (Ok((0, 0)), Ok("900\n".into())));
    }
}
