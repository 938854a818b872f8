//! The system-call filter.
//!
//! The kernel runs a small program before every system call of a process and does what it says: allow, fail with an errno, kill,
//! signal, log, ask a tracer or a supervisor. The program sees the number, the architecture and six arguments, never what a pointer
//! points to. It is inherited by children, survives execve, and cannot be taken off again. By hand:
//!
//! ```text
//! $ grep -E 'Seccomp|NoNewPrivs' /proc/self/status        # Seccomp: 2 is "filtered"
//! $ strace -e trace=seccomp corten run web
//! $ man 2 seccomp
//! ```
//!
//! A profile (`linux.seccomp`) names calls and actions; here it becomes a program, without libseccomp, whose meaning it keeps:
//!
//! | file | from | to |
//! |---|---|---|
//! | `table` | a name | its number on each architecture |
//! | `rules` | the profile, as runc and libseccomp read it | ranges of numbers, each with a verdict or with rules |
//! | `condition` | rules about arguments | questions of 32 bits |
//! | `bpf` | questions | instructions |
//! | `notify` | a listener | an agent that answers |
//! | `simulate` | instructions and a call | the verdict, for tests |
//!
//! Docker's profile for x86_64, x86 and x32 becomes about 220 instructions in 0.25 ms; libseccomp takes 9 ms and more, and
//! makes 1,000 and more of them, which the kernel then takes longer to check.
//!
//! What goes wrong: installing needs `no_new_privs` or CAP_SYS_ADMIN (`EACCES`), and once it is installed the runtime itself lives
//! under it. So it is the last step before execve, with one exception: what asks an agent (`notify`, SCMP_ACT_NOTIFY) is installed
//! before `create` ends, because it is `create` that hands the listener to the agent. Then what comes after is made under the filter, as with runc: to
//! wait for the start, to run startContainer hooks, and the end of the rights where there is no `noNewPrivileges`. The agent answers for it.

use crate::input::Fault;
use crate::input::config::{Action, Arch, Seccomp};
use crate::sys::seccomp::{self as kernel, Instruction};
use crate::sys::{self, Called};
use bpf::{Graph, Node, Question, Word};
use hash::Map;
use nix::errno::Errno;
use notify::Notify;
use rules::{List, Part, Reading};
use std::fmt;
use std::os::fd::OwnedFd;

pub mod bpf;
mod condition;
mod hash;
pub mod notify;
mod rules;
pub mod simulate;
pub mod table;

/// A filter, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `SECCOMP_FILTER_FLAG_*` bits; `NEW_LISTENER` is among them where a rule notifies.
    pub flags: u64,
    /// The program.
    pub program: Vec<Instruction>,
    /// Where a rule notifies: who is asked.
    pub notify: Option<Notify>,
}

/// Compiles a profile for this machine.
pub fn decide(profile: &Seccomp) -> Result<Filter, Vec<Fault>> {
    const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };
    decide_for(profile, NATIVE)
}

/// Compiles a profile for a machine of this architecture, which is filtered whether the profile lists it or not.
pub fn decide_for(profile: &Seccomp, native: Arch) -> Result<Filter, Vec<Fault>> {
    let mut faults = Vec::new();
    let flags = flags(profile, &mut faults);
    match compile(profile, native) {
        Ok(program) if faults.is_empty() => {
            let notify = notifies(profile).then(|| notify::decide(profile, &program, native)).flatten();
            return Ok(Filter { flags, program, notify });
        }
        Ok(_) => {}
        Err(fault) => faults.push(fault),
    }
    Err(faults)
}

/// Would this machine's filter keep the program itself from being executed? Then it could never start, and the runtime, under the filter
/// by then, might not even be allowed to say so.
pub fn refuses_execve(filter: &Filter) -> Option<Fault> {
    const GRANTED: [u32; 4] =
        [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_TRACE, libc::SECCOMP_RET_USER_NOTIF];
    let arch = table::audit_arch(if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 });
    let data = simulate::Data { nr: libc::SYS_execve as u32, arch, ..simulate::Data::default() };
    let verdict = simulate::run(&filter.program, &data)?;
    let granted = GRANTED.contains(&(verdict.returned & libc::SECCOMP_RET_ACTION_FULL));
    (!granted && !verdict.read_arguments)
        .then(|| Fault::new("linux.seccomp", "refuses execve, with which the program itself is started"))
}

/// Does anything in it ask an agent?
fn notifies(profile: &Seccomp) -> bool {
    profile.default_action == Action::Notify || profile.rules.iter().any(|rule| rule.action == Action::Notify)
}

/// The flags that the kernel gets, and what is wrong with notifying.
fn flags(profile: &Seccomp, faults: &mut Vec<Fault>) -> u64 {
    let notifies = notifies(profile);
    if notifies && profile.listener_path.is_none() {
        faults.push(Fault::new("linux.seccomp.listenerPath", "not set, but an action is SCMP_ACT_NOTIFY"));
    }
    if !notifies && profile.flags & kernel::WAIT_KILLABLE_RECV.bit != 0 {
        let cause = format!("{} needs an action that is SCMP_ACT_NOTIFY", kernel::WAIT_KILLABLE_RECV.name);
        faults.push(Fault::new("linux.seccomp.flags", cause));
    }
    // There is one thread, and the kernel refuses TSYNC beside NEW_LISTENER; runc leaves it out too.
    let asked = profile.flags & !(kernel::TSYNC.bit | kernel::TSYNC_ESRCH.bit);
    if notifies { asked | kernel::NEW_LISTENER.bit } else { asked }
}

fn compile(profile: &Seccomp, native: Arch) -> Result<Vec<Instruction>, Fault> {
    let too_large = |what: String| {
        let most = kernel::MAX_INSTRUCTIONS;
        Fault::new("linux.seccomp.syscalls", format!("{what}; the kernel takes filters of up to {most} instructions"))
    };
    let reading = Reading::new(profile, native);
    let mut graph = Graph::new();
    let default = rules::verdict(profile.default_action);
    let mut root = graph.verdict(rules::WRONG_ARCH);
    // The own architecture is asked for first, so it is put on top last.
    for section in reading.sections().rev() {
        let mut met: Map<&List, Node> = Map::default();
        let mut parts: Vec<(u32, Node)> = Vec::with_capacity(section.parts.len());
        for &(first, part) in &section.parts {
            let node = match part {
                Part::Verdict(verdict) => graph.verdict(verdict),
                Part::Rules(at) => {
                    let list = &section.lists[at as usize];
                    match met.get(list) {
                        Some(&node) => node,
                        None => {
                            let node = condition::first_match(&mut graph, &list.rules, list.bits, default).ok_or_else(
                                || too_large("the rules of one call need more questions than fit".into()),
                            )?;
                            met.insert(list, node);
                            node
                        }
                    }
                }
            };
            if parts.last().is_none_or(|&(_, before)| before != node) {
                parts.push((first, node));
            }
        }
        let tree = graph.ranges(Word::NUMBER, &parts);
        root = graph.ask(Word::ARCH, Question::Equal(section.arch), tree, root);
        if graph.size() > 4 * kernel::MAX_INSTRUCTIONS {
            return Err(too_large(format!("{} questions", graph.size())));
        }
    }
    let program = bpf::assemble(&graph, root);
    match program.len() {
        length if length > kernel::MAX_INSTRUCTIONS => Err(too_large(format!("{length} instructions"))),
        _ => Ok(program),
    }
}

/// Installs the filter for the calling thread. With a notifying rule the supervisor's descriptor comes back.
pub fn apply(filter: &Filter) -> sys::Result<Option<OwnedFd>> {
    kernel::install(filter.flags, &filter.program).called(|| filter.to_string()).map_err(|failure| {
        match failure.errno {
            Errno::EACCES => failure.because("a filter needs noNewPrivileges or CAP_SYS_ADMIN"),
            Errno::EBUSY if filter.notify.is_some() => failure
                .because("a filter that Corten itself is under has a listener already, and the kernel allows one"),
            Errno::EINVAL if filter.flags & kernel::WAIT_KILLABLE_RECV.bit != 0 => {
                failure.because(format!("{} needs Linux 5.19", kernel::WAIT_KILLABLE_RECV.name))
            }
            _ => failure,
        }
    })
}

/// The call, as `explain` shows it.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            kernel::FLAGS.iter().filter(|flag| self.flags & flag.bit != 0).map(|flag| flag.name).collect();
        let flags = if names.is_empty() { "0".to_owned() } else { names.join("|") };
        write!(f, "seccomp(SECCOMP_SET_MODE_FILTER, {flags}, {} instructions)", self.program.len())
    }
}

#[cfg(test)]
mod tests;
