//! The same profile through libseccomp, fed as runc feeds it, and both programs run over many calls.

use crate::profile;
use corten::input::config::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompRule};
use corten::setup::seccomp::simulate::{self, Data};
use corten::setup::seccomp::{decide_for, table};
use corten::sys::seccomp::Instruction;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::collections::BTreeSet;
use std::io::{Read, Seek};

pub const ARCHES: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
const PODMAN: &str = "/usr/share/containers/seccomp.json";

fn scmp_arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X86 => ScmpArch::X86,
        Arch::X32 => ScmpArch::X32,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Arm => ScmpArch::Arm,
    }
}

fn scmp_action(action: Action) -> ScmpAction {
    match action {
        Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno(errno) => ScmpAction::Errno(errno.into()),
        Action::Notify => ScmpAction::Notify,
        Action::Trace(message) => ScmpAction::Trace(message),
        Action::Log => ScmpAction::Log,
        Action::Allow => ScmpAction::Allow,
    }
}

fn scmp_condition(arg: &SeccompArg) -> ScmpArgCompare {
    let (op, datum) = match arg.op {
        Operator::Ne => (ScmpCompareOp::NotEqual, arg.value),
        Operator::Lt => (ScmpCompareOp::Less, arg.value),
        Operator::Le => (ScmpCompareOp::LessOrEqual, arg.value),
        Operator::Eq => (ScmpCompareOp::Equal, arg.value),
        Operator::Ge => (ScmpCompareOp::GreaterEqual, arg.value),
        Operator::Gt => (ScmpCompareOp::Greater, arg.value),
        Operator::MaskedEq => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
    };
    ScmpArgCompare::new(arg.index.into(), op, datum)
}

/// libseccomp's answer to a profile.
pub struct Theirs {
    profile: Seccomp,
    program: Vec<Instruction>,
}

impl Theirs {
    pub fn new(profile: &Seccomp, native: Arch) -> Theirs {
        let default = scmp_action(profile.default_action);
        let mut filter = ScmpFilterContext::new(default).unwrap();
        if scmp_arch(native) != ScmpArch::native() {
            filter.add_arch(scmp_arch(native)).unwrap();
            filter.remove_arch(ScmpArch::native()).unwrap();
        }
        for &arch in &profile.architectures {
            filter.add_arch(scmp_arch(arch)).unwrap();
        }
        for rule in profile.rules.iter().filter(|rule| rule.action != profile.default_action) {
            let conditions: Vec<_> = rule.args.iter().map(scmp_condition).collect();
            let indexes: BTreeSet<_> = rule.args.iter().map(|arg| arg.index).collect();
            let apart = indexes.len() < rule.args.len();
            for name in rule.names.iter() {
                let Ok(call) = ScmpSyscall::from_name(name) else { continue };
                let action = scmp_action(rule.action);
                let lists: Vec<&[ScmpArgCompare]> =
                    if apart { conditions.chunks(1).collect() } else { vec![&conditions] };
                for list in lists {
                    // `EEXIST` for one condition with two actions: runc would stop, the rule is left out here.
                    let _ = filter.add_rule_conditional(action, call, list);
                }
            }
        }
        let mut file = tempfile::tempfile().unwrap();
        filter.export_bpf(&mut file).unwrap();
        file.rewind().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let program = bytes.as_chunks::<8>().0.iter().map(|b| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        });
        Theirs { profile: profile.clone(), program: program.collect() }
    }

    /// The verdict on a call, after the ENOSYS that runc puts before libseccomp's program.
    pub fn verdict(&self, newest: &[(Arch, u32)], data: &Data) -> u32 {
        let x32 = data.nr & table::X32_BIT != 0;
        let stub = newest.iter().any(|&(arch, number)| {
            let meant = match arch {
                Arch::X86_64 => !x32,
                Arch::X32 => x32,
                _ => true,
            };
            table::audit_arch(arch) == data.arch && meant && data.nr > number
        });
        if stub { 0x0005_0000 | libc::ENOSYS as u32 } else { simulate::run(&self.program, data).unwrap().returned }
    }

    /// runc's greatest number of each listed architecture, found by libseccomp's names.
    pub fn newest(&self) -> Vec<(Arch, u32)> {
        if matches!(self.profile.default_action, Action::Allow | Action::Log | Action::Trace(_)) {
            return Vec::new();
        }
        let names = || self.profile.rules.iter().flat_map(|rule| rule.names.iter());
        let number =
            |name: &str, arch| ScmpSyscall::from_name_by_arch(name, scmp_arch(arch)).ok().map(|c| c.as_raw_syscall());
        let greatest = |arch| names().filter_map(|name| number(name, arch)).max().filter(|&n| n > 0);
        self.profile.architectures.iter().filter_map(|&arch| greatest(arch).map(|n| (arch, n as u32))).collect()
    }
}

/// Numbers that are worth a try.
fn numbers(newest: &[(Arch, u32)]) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..600).chain((0..600).map(|n| n | table::X32_BIT)).collect();
    let edges = newest.iter().map(|&(_, n)| n).chain([1 << 30, 1 << 31, 3 << 30, 0xf_0000, 0xf_0005, u32::MAX]);
    numbers.extend(edges.flat_map(|n| [n.wrapping_sub(1), n, n.wrapping_add(1)]));
    numbers.sort();
    numbers.dedup();
    numbers
}

/// Values around every operand of the profile, in both halves.
fn values(profile: &Seccomp, index: u8) -> Vec<u64> {
    let args = profile.rules.iter().flat_map(|rule| &rule.args).filter(|arg| arg.index == index);
    let operands = args.flat_map(|arg| [arg.value, arg.value_two, arg.value & arg.value_two]);
    let mut values: Vec<u64> = operands
        .flat_map(|v| [v, v.wrapping_sub(1), v.wrapping_add(1), v ^ 1 << 32, v ^ 1 << 31, v & 0xffff_ffff, !v, v << 32])
        .chain([0, 1, u64::MAX, 1 << 32, 0xffff_ffff])
        .collect();
    values.sort();
    values.dedup();
    values
}

/// Argument lists: every pair of interesting values of two arguments, and for the multiplexers small first ones.
fn arguments(profile: &Seccomp) -> Vec<[u64; 6]> {
    let mut lists = vec![[0; 6], [u64::MAX; 6]];
    let columns: Vec<Vec<u64>> = (0..6).map(|index| values(profile, index)).collect();
    for first in 0..6 {
        for &a in &columns[first] {
            for second in first + 1..6 {
                for &b in &columns[second] {
                    let mut list = [0; 6];
                    (list[first], list[second]) = (a, b);
                    lists.push(list);
                    if second + 1 < 6 {
                        list[second + 1] = columns[second + 1][(a ^ b) as usize % columns[second + 1].len()];
                        lists.push(list);
                    }
                }
            }
        }
    }
    for door in 0..26 {
        lists.extend([[door, 0, 0, 0, 0, 0], [door, 9, 9, 2, 0, 1], [door | 1 << 32, 0, 9, 0, 0, 0]]);
    }
    lists.sort();
    lists.dedup();
    lists
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Compared {
    pub calls: usize,
    pub different: Vec<String>,
}

/// Numbers of x32 that the kernel's headers have (linux-libc-dev 6.12) and libseccomp 2.5 does not.
fn unknown_on_x32(nr: u32) -> bool {
    ["map_shadow_stack", "uretprobe", "uprobe"].iter().any(|name| {
        let theirs =
            ScmpSyscall::from_name_by_arch(name, scmp_arch(Arch::X32)).map_or(-1, |call| call.as_raw_syscall());
        theirs < 0 && table::find(name).and_then(|call| call.number(Arch::X32)) == Some(nr)
    })
}

/// Runs both over many calls. Calls whose arguments neither looks at are tried with two lists of arguments only.
pub fn compare(profile: &Seccomp, native: Arch) -> Compared {
    let theirs = Theirs::new(profile, native);
    let ours = decide_for(profile, native).unwrap();
    let newest = theirs.newest();
    let lists = arguments(profile);
    let mut compared = Compared::default();
    let mut arches: Vec<u32> = ARCHES.map(table::audit_arch).into_iter().chain([0, 0xc000_0015]).collect();
    arches.dedup();
    for arch in arches {
        for nr in numbers(&newest) {
            let data = Data { nr, arch, ..Data::default() };
            let reads = simulate::run(ours.program().unwrap(), &data).unwrap().read_arguments
                || simulate::run(&theirs.program, &data).unwrap().read_arguments;
            for args in if reads { &lists[..] } else { &[[0; 6], [u64::MAX; 6]][..] } {
                let data = Data { nr, arch, instruction_pointer: 0xdead_beef_0000_1234, args: *args };
                let (a, b) =
                    (simulate::run(ours.program().unwrap(), &data).unwrap().returned, theirs.verdict(&newest, &data));
                compared.calls += 1;
                if a != b && !unknown_on_x32(nr) {
                    compared
                        .different
                        .push(format!("{nr:#x} on {arch:#x} with {args:x?}: ours {a:#x}, libseccomp {b:#x}"));
                }
            }
        }
    }
    compared
}

fn same(profile: &Seccomp, native: Arch) -> usize {
    let compared = compare(profile, native);
    assert!(
        compared.different.is_empty(),
        "{} calls differ, the first {}",
        compared.different.len(),
        compared.different[0]
    );
    compared.calls
}

const CAPABILITIES: [&[&str]; 3] = [
    &["CAP_CHOWN", "CAP_KILL", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE"],
    &["CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE", "CAP_BPF", "CAP_SYS_PTRACE"],
    &["CAP_AUDIT_WRITE"],
];

#[test]
fn dockers_profile() {
    let docker = profile::dockers();
    for capabilities in CAPABILITIES {
        for native in [Arch::X86_64, Arch::Aarch64] {
            let Some(profile) = profile::load(&docker, capabilities, native) else { return };
            let filter = decide_for(&profile, native).unwrap();
            let theirs = Theirs::new(&profile, native).program.len();
            println!(
                "{native:?}, {} capabilities: {} instructions, libseccomp {theirs}",
                capabilities.len(),
                filter.program().unwrap().len()
            );
            assert!(filter.program().unwrap().len() <= 400);
            // Debian's libseccomp 2.5.4 knows nothing after futex_requeue: these names say nothing to it.
            let known = Seccomp { rules: known_to_libseccomp(&profile), ..profile.clone() };
            println!("{} calls compared", same(&known, native));
        }
    }
}

fn known_to_libseccomp(profile: &Seccomp) -> Vec<SeccompRule> {
    let mut rules = profile.rules.clone();
    for rule in &mut rules {
        rule.names = rule.names.iter().filter(|name| ScmpSyscall::from_name(name).is_ok()).collect();
    }
    rules
}

#[test]
fn podmans_profile() {
    // Without CAP_AUDIT_WRITE there are conditions on two arguments.
    for capabilities in CAPABILITIES.into_iter().chain([&["CAP_SYS_CHROOT"][..]]) {
        for native in [Arch::X86_64, Arch::Aarch64] {
            let Some(profile) = profile::load(PODMAN, capabilities, native) else { return };
            same(&Seccomp { rules: known_to_libseccomp(&profile), ..profile }, native);
        }
    }
}

/// Rules of one call that disagree: libseccomp has an order of its own, whatever the profile's.
#[test]
fn rules_that_disagree() {
    use Operator::{Eq, Ge, Gt, Le, Lt, MaskedEq, Ne};
    /// Conditions of one rule: index, operator, and both values.
    type Args = &'static [(u8, Operator, u64, u64)];
    let sets: &[&[Args]] = &[
        &[&[(0, Eq, 4, 0)], &[(0, Lt, 5, 0)]],
        &[&[(0, Eq, 4, 0)], &[(0, Gt, 3, 0)]],
        // With a third one in between, libseccomp contradicts itself above 32 bits.
        &[&[(0, Gt, 4, 0)], &[(0, Ge, 9, 0)]],
        &[&[(0, Lt, 5, 0)], &[(0, Lt, 10, 0)], &[(0, Le, 7, 0)]],
        &[&[(0, Eq, 1, 0)], &[(1, Eq, 2, 0)], &[(5, Eq, 2, 0)]],
        &[&[(0, Eq, 1, 0)], &[(0, Eq, 1, 0), (1, Eq, 2, 0)]],
        &[&[(1, Eq, 1, 0)], &[(0, Eq, 1, 0), (1, Eq, 1, 0)]],
        &[&[(0, MaskedEq, 0xff, 4)], &[(0, MaskedEq, 0xf0, 0)], &[(0, Eq, 4, 0)]],
        &[&[(0, Eq, 4, 0)], &[], &[(0, Ne, 4, 0)]],
        &[&[], &[]],
    ];
    for set in sets {
        for backwards in [false, true] {
            let mut rules: Vec<SeccompRule> = set
                .iter()
                .zip([Action::Allow, Action::Trap, Action::Errno(9)])
                .map(|(args, action)| {
                    let args =
                        args.iter().map(|&(index, op, value, value_two)| SeccompArg { index, op, value, value_two });
                    SeccompRule { names: ["ioctl"].into_iter().collect(), action, args: args.collect() }
                })
                .collect();
            // The shorter after the longer is `EEXIST` to libseccomp.
            if backwards && set.iter().all(|args| args.len() == 1) {
                rules.reverse();
            }
            rules.push(SeccompRule { names: ["close"].into_iter().collect(), action: Action::Allow, args: Vec::new() });
            let architectures = vec![Arch::X86_64, Arch::X86];
            let profile = Seccomp { default_action: Action::Errno(1), architectures, rules, ..Seccomp::default() };
            let compared = compare(&profile, Arch::X86_64);
            let first = compared.different.first();
            assert!(first.is_none(), "{set:?}, backwards {backwards}: {first:?}");
        }
    }
}

/// Names and numbers, each way.
#[test]
fn table_agrees_with_libseccomp() {
    for call in table::all() {
        for arch in ARCHES {
            let theirs =
                ScmpSyscall::from_name_by_arch(call.name(), scmp_arch(arch)).map_or(-1, |c| c.as_raw_syscall());
            let ours = call.number(arch);
            let (multiplexed, newer) = (table::door(call).is_some(), ours.is_some_and(|n| n & !table::X32_BIT > 456));
            // libseccomp 2.5 does not know them, or not on x32; the kernel's headers (linux-libc-dev 6.12) have them.
            let unknown = matches!(call.name(), "uretprobe" | "uprobe" | "map_shadow_stack");
            assert!(
                ours == u32::try_from(theirs).ok()
                    || multiplexed && theirs < 0
                    || newer && theirs == -1
                    || unknown && theirs < 0,
                "{} on {arch:?}: ours {ours:?}, libseccomp {theirs}",
                call.name()
            );
        }
    }
    for arch in ARCHES {
        for number in (0..600).chain(0xf_0000..0xf_0010) {
            let number = if arch == Arch::X32 { number | 1 << 30 } else { number };
            if let Ok(name) = ScmpSyscall::from_raw_syscall(number).get_name_by_arch(scmp_arch(arch)) {
                assert_eq!(
                    table::find(&name).and_then(|call| call.number(arch)),
                    Some(number as u32),
                    "{name} on {arch:?}"
                );
            }
        }
    }
}
