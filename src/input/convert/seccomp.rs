//! `linux.seccomp`: the profile as it was written, its names turned into values.
//!
//! The numbers behind system calls are the compiler's business (`setup::seccomp`): a name that no architecture has is no fault, because profiles
//! are written for newer kernels too. Try it by hand: `jq '.linux.seccomp.syscalls[].action' config.json | sort | uniq -c`.

use super::{absolute, each, list};
use crate::input::config::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompRule};
use crate::input::place::{Place, Report};
use crate::input::spec;
use oci_spec::runtime::{self as oci, LinuxSeccompAction as Asked};

/// `EPERM`: what a refused call returns unless the profile says otherwise.
const EPERM: u16 = 1;
/// The kernel's largest errno (`MAX_ERRNO`); it cuts higher ones down without a word.
const MAX_ERRNO: u32 = 4095;

/// `linux.seccomp`.
pub fn seccomp(seccomp: spec::Seccomp, place: &Place, report: &mut Report) -> Seccomp {
    let default = (seccomp.default_action, seccomp.default_errno_ret);
    let mut architectures: Vec<Arch> = list(&seccomp.architectures).iter().filter_map(arch).collect();
    architectures.sort_unstable();
    architectures.dedup();
    let listener = seccomp.listener_path.as_deref().filter(|path| !path.as_os_str().is_empty());
    let notifies = |action| action == Asked::ScmpActNotify;
    let used = notifies(default.0) || list(&seccomp.syscalls).iter().any(|rule| notifies(rule.action));
    let converted = Seccomp {
        default_action: action(default.0, default.1, &place.key("defaultErrnoRet"), report),
        architectures,
        flags: list(&seccomp.flags).iter().map(flag).fold(0, |all, flag| all | flag),
        // "If the SCMP_ACT_NOTIFY action is not used this value is ignored", and so is what is wrong with it.
        listener_path: listener.filter(|_| used).map(|path| absolute(path, &place.key("listenerPath"), report)),
        listener_metadata: seccomp.listener_metadata.unwrap_or_default(),
        rules: each(seccomp.syscalls.unwrap_or_default(), &place.key("syscalls"), report, rule),
    };
    if !converted.listener_metadata.is_empty() && listener.is_none() {
        report.fault(place.key("listenerMetadata"), "set, but there is no listenerPath");
    }
    converted
}

fn rule(rule: spec::Syscall, place: &Place, report: &mut Report) -> SeccompRule {
    let at = place.key("names");
    if rule.names.is_empty() {
        report.fault(at, "is empty");
    }
    if let Some(n) = rule.names.iter().position(str::is_empty) {
        report.fault(at.index(n), "is empty");
    }
    SeccompRule {
        names: rule.names,
        action: action(rule.action, rule.errno_ret, &place.key("errnoRet"), report),
        args: each(list(&rule.args), &place.key("args"), report, arg),
    }
}

fn action(asked: Asked, errno: Option<u32>, place: &Place, report: &mut Report) -> Action {
    let most = match asked {
        Asked::ScmpActErrno => MAX_ERRNO,
        Asked::ScmpActTrace => u16::MAX.into(),
        _ => {
            if errno.is_some() {
                report.fault(place, "set, but the action is neither SCMP_ACT_ERRNO nor SCMP_ACT_TRACE");
            }
            0
        }
    };
    if let Some(errno) = errno.filter(|errno| most > 0 && *errno > most) {
        report.fault(place, format!("{errno} is above {most}"));
    }
    let value = errno.map_or(EPERM, |errno| u16::try_from(errno).unwrap_or(EPERM));
    match asked {
        Asked::ScmpActKill | Asked::ScmpActKillThread => Action::KillThread,
        Asked::ScmpActKillProcess => Action::KillProcess,
        Asked::ScmpActTrap => Action::Trap,
        Asked::ScmpActErrno => Action::Errno(value),
        Asked::ScmpActNotify => Action::Notify,
        Asked::ScmpActTrace => Action::Trace(value),
        Asked::ScmpActLog => Action::Log,
        Asked::ScmpActAllow => Action::Allow,
    }
}

fn arg(arg: &oci::LinuxSeccompArg, place: &Place, report: &mut Report) -> SeccompArg {
    use oci::LinuxSeccompOperator as Op;
    if arg.index() > 5 {
        report.fault(place.key("index"), format!("{} is above 5, the last argument of a system call", arg.index()));
    }
    let op = match arg.op() {
        Op::ScmpCmpNe => Operator::Ne,
        Op::ScmpCmpLt => Operator::Lt,
        Op::ScmpCmpLe => Operator::Le,
        Op::ScmpCmpEq => Operator::Eq,
        Op::ScmpCmpGe => Operator::Ge,
        Op::ScmpCmpGt => Operator::Gt,
        Op::ScmpCmpMaskedEq => Operator::MaskedEq,
    };
    let index = u8::try_from(arg.index()).unwrap_or(5);
    SeccompArg { index, op, value: arg.value(), value_two: arg.value_two().unwrap_or(0) }
}

/// The architectures that can make a call on a machine that Corten runs on; a rule for another one can never match.
fn arch(arch: &oci::Arch) -> Option<Arch> {
    match arch {
        oci::Arch::ScmpArchX86_64 => Some(Arch::X86_64),
        oci::Arch::ScmpArchX86 => Some(Arch::X86),
        oci::Arch::ScmpArchX32 => Some(Arch::X32),
        oci::Arch::ScmpArchAarch64 => Some(Arch::Aarch64),
        oci::Arch::ScmpArchArm => Some(Arch::Arm),
        _ => None,
    }
}

/// `SECCOMP_FILTER_FLAG_*` of `linux/seccomp.h`.
fn flag(flag: &oci::LinuxSeccompFilterFlag) -> u64 {
    use oci::LinuxSeccompFilterFlag as Flag;
    match flag {
        Flag::SeccompFilterFlagTsync => 1 << 0,
        Flag::SeccompFilterFlagLog => 1 << 1,
        Flag::SeccompFilterFlagSpecAllow => 1 << 2,
        Flag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
    }
}
