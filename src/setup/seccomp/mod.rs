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
//! Docker's profile for x86_64, x86 and x32 becomes about 220 instructions in 0.1 ms; libseccomp takes 9 ms and more, and
//! makes 1,000 and more of them, which the kernel then takes longer to check.
//!
//! What goes wrong: installing needs `no_new_privs` or CAP_SYS_ADMIN (`EACCES`), and once it is installed the runtime itself lives
//! under it. So it is the last step before execve, with one exception: what asks an agent (`notify`, SCMP_ACT_NOTIFY) is installed
//! before `create` ends, because it is `create` that hands the listener to the agent. Then what comes after is made under the filter, as with runc: to
//! wait for the start, to run startContainer hooks, and the end of the rights where there is no `noNewPrivileges`. The agent answers for it.

use crate::input::Fault;
use crate::input::config::{Action, Arch, Seccomp, SeccompRule};
use crate::sys::seccomp::{self as kernel, Instruction};
use crate::sys::{self, Called, Failure};
use bpf::{Graph, Node, Question, Word};
use hash::Map;
use nix::errno::Errno;
use notify::Notify;
use rules::{List, Part, Reading};
use std::cell::OnceCell;
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;

pub mod bpf;
mod condition;
mod hash;
pub mod notify;
mod rules;
pub mod simulate;
pub mod table;

/// A filter. Its program is worked out when it is first asked for.
#[derive(Clone, Debug)]
pub struct Filter {
    /// `SECCOMP_FILTER_FLAG_*` bits; `NEW_LISTENER` is among them where a rule notifies.
    pub flags: u64,
    /// Where a rule notifies: who is asked.
    pub notify: Option<Notify>,
    /// Copies of a filter share what one of them has worked out.
    source: Rc<Source>,
}

/// What a filter is made from, and what became of it.
#[derive(Debug)]
struct Source {
    profile: Rc<Seccomp>,
    native: Arch,
    program: OnceCell<Result<Vec<Instruction>, Fault>>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Filter) -> bool {
        (self.flags, &self.notify, self.program()) == (other.flags, &other.notify, other.program())
    }
}

impl Filter {
    /// The program. A fault only where [`Filter::is_due`] and nobody has looked yet.
    pub fn program(&self) -> Result<&[Instruction], &Fault> {
        let Source { profile, native, program } = &*self.source;
        program.get_or_init(|| compile(profile, *native)).as_deref()
    }

    /// Somebody has worked it out before. Without effect where it is known already.
    pub fn give(&self, program: Vec<Instruction>) {
        let _ = self.source.program.set(Ok(program));
    }

    /// Is it still to be worked out?
    pub fn is_due(&self) -> bool {
        self.source.program.get().is_none()
    }

    /// How many instructions it has; 0 where it cannot be made.
    fn length(&self) -> usize {
        self.program().map_or(0, <[Instruction]>::len)
    }
}

/// This machine's architecture.
const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

/// Checks a profile for this machine. It is compiled later if it surely can be: the parent has time for that while the child makes the mounts.
pub fn decide(profile: &Rc<Seccomp>) -> Result<Filter, Vec<Fault>> {
    check(Rc::clone(profile), NATIVE)
}

/// Checks and compiles a profile for a machine of this architecture, which is filtered whether the profile lists it or not.
pub fn decide_for(profile: &Seccomp, native: Arch) -> Result<Filter, Vec<Fault>> {
    let filter = check(Rc::new(profile.clone()), native)?;
    filter.program().map_err(|fault| vec![fault.clone()])?;
    Ok(filter)
}

fn check(profile: Rc<Seccomp>, native: Arch) -> Result<Filter, Vec<Fault>> {
    let mut faults = Vec::new();
    let flags = flags(&profile, &mut faults);
    let (notifies, fits) = (notifies(&profile), surely_fits(&profile));
    let source = Source { profile, native, program: OnceCell::new() };
    let mut filter = Filter { flags, notify: None, source: Rc::new(source) };
    if notifies || !fits {
        let notify = match filter.program() {
            Ok(program) if notifies => notify::decide(&filter.source.profile, program, native),
            Ok(_) => None,
            Err(fault) => {
                faults.push(fault.clone());
                None
            }
        };
        filter.notify = notify;
    }
    if faults.is_empty() { Ok(filter) } else { Err(faults) }
}

/// Is it so small that the kernel takes whatever comes of it? A number costs three instructions at most on each of three architectures (two that
/// lead to it and a verdict), a condition about as much as four numbers.
fn surely_fits(profile: &Seccomp) -> bool {
    let numbers = profile.rules.iter().map(|rule| rule.names.iter().count() * (1 + 4 * rule.args.len()));
    numbers.sum::<usize>() * 9 < kernel::MAX_INSTRUCTIONS
}

/// Would this machine's filter keep the program itself from being executed? Then it could never start, and the runtime, under the filter
/// by then, might not even be allowed to say so.
pub fn refuses_execve(filter: &Filter) -> Option<Fault> {
    const GRANTED: [u32; 4] =
        [libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_LOG, libc::SECCOMP_RET_TRACE, libc::SECCOMP_RET_USER_NOTIF];
    let data =
        simulate::Data { nr: libc::SYS_execve as u32, arch: table::audit_arch(NATIVE), ..simulate::Data::default() };
    let verdict = match filter.is_due() {
        // What the whole says about one call is what its rules about that call say.
        true => simulate::run(&compile(&about("execve", &filter.source.profile), NATIVE).ok()?, &data)?,
        false => simulate::run(filter.program().ok()?, &data)?,
    };
    let granted = GRANTED.contains(&(verdict.returned & libc::SECCOMP_RET_ACTION_FULL));
    (!granted && !verdict.read_arguments)
        .then(|| Fault::new("linux.seccomp", "refuses execve, with which the program itself is started"))
}

/// A profile of the rules about one call alone.
fn about(name: &str, profile: &Seccomp) -> Seccomp {
    let rules = profile.rules.iter().filter(|rule| rule.names.iter().any(|other| other == name));
    let rules = rules.map(|rule| SeccompRule {
        names: [name].into_iter().collect(),
        action: rule.action,
        args: rule.args.clone(),
    });
    Seccomp {
        default_action: profile.default_action,
        architectures: profile.architectures.clone(),
        rules: rules.collect(),
        ..Seccomp::default()
    }
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
    let mut graph = Graph::default();
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

/// Installs the filter for the calling thread: this program, or the filter's own. With a notifying rule the supervisor's descriptor comes back.
pub fn apply(filter: &Filter, program: Option<&[Instruction]>) -> sys::Result<Option<OwnedFd>> {
    let program = match program {
        Some(program) => program,
        None => filter.program().map_err(|fault| not_made(filter, fault))?,
    };
    kernel::install(filter.flags, program).called(|| filter.to_string()).map_err(|failure| match failure.errno {
        Errno::EACCES => failure.because("a filter needs noNewPrivileges or CAP_SYS_ADMIN"),
        Errno::EBUSY if filter.notify.is_some() => {
            failure.because("a filter that Corten itself is under has a listener already, and the kernel allows one")
        }
        Errno::EINVAL if filter.flags & kernel::WAIT_KILLABLE_RECV.bit != 0 => {
            failure.because(format!("{} needs Linux 5.19", kernel::WAIT_KILLABLE_RECV.name))
        }
        _ => failure,
    })
}

/// A filter that could not be compiled.
pub fn not_made(filter: &Filter, fault: &Fault) -> Failure {
    Failure::refused(filter.to_string(), Errno::E2BIG, fault.to_string())
}

/// The call, as `explain` shows it.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            kernel::FLAGS.iter().filter(|flag| self.flags & flag.bit != 0).map(|flag| flag.name).collect();
        let flags = if names.is_empty() { "0".to_owned() } else { names.join("|") };
        write!(f, "seccomp(SECCOMP_SET_MODE_FILTER, {flags}, {} instructions)", self.length())
    }
}

#[cfg(test)]
mod tests;
