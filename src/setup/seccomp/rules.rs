//! What a profile means: for each number of each architecture, the rules that count.
//!
//! Profiles are written for runc and libseccomp, and so are read as these two do (found by trying libseccomp 2.5.4):
//!
//! - A rule whose action is the default's says nothing. A name that an architecture does not have is skipped there.
//! - Several conditions on one argument cannot be all asked for: then every condition of that rule is a rule of its own.
//! - A rule without conditions beats those with, wherever it stands; of two, the first counts.
//! - Where rules with conditions overlap and disagree, their order in the profile does not count. One whose conditions begin another
//!   one's comes before it (the shorter wins), then [`Condition::order`] decides. Two with the same conditions and different
//!   actions libseccomp refuses, and runc with it; here the first counts.
//! - On x86 a rule about `socket` is also one about `socketcall(1, …)`, with its condition on the first argument replaced: a filter
//!   cannot see behind the pointer where the real arguments are. A profile that allows `socket` for some families only
//!   therefore allows them all through that door; to close it, it must not list x86.
//! - Numbers above the greatest one that the profile names get ENOSYS, see `newer`.

use super::condition::{Condition, Rule};
use super::table::{self, Call, X32_BIT};
use crate::input::config::{Action, Arch, Operator, Seccomp, SeccompArg};

/// What happens to a range of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The same for all arguments.
    Verdict(u32),
    /// The first rule that matches, for arguments of this many bits.
    Rules(Vec<Rule>, u32),
}

/// One `AUDIT_ARCH`, with what happens to its numbers: (first, what), ascending, the first at 0, each up to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// All numbers.
    pub parts: Vec<(u32, Part)>,
}

/// `SECCOMP_RET_KILL_THREAD`, for an architecture that the profile does not list, as libseccomp.
pub const WRONG_ARCH: u32 = 0;

/// `SECCOMP_RET_*` of an action, see seccomp(2).
pub fn verdict(action: Action) -> u32 {
    match action {
        Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | errno as u32,
        Action::Notify => 0x7fc0_0000,
        Action::Trace(message) => 0x7ff0_0000 | message as u32,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

/// The profile, worked out for the machine's own architecture and those that it lists, the own one first.
pub fn sections(profile: &Seccomp, native: Arch) -> Vec<Section> {
    let mut all = vec![Numbers::new(native)];
    for &arch in &profile.architectures {
        if all.iter().all(|numbers| numbers.arch != arch) {
            all.push(Numbers::new(arch));
        }
    }
    for rule in &profile.rules {
        let alternatives = if rule.action == profile.default_action { Vec::new() } else { alternatives(&rule.args) };
        for name in &rule.names {
            let Some(call) = table::find(name) else { continue };
            for numbers in &mut all {
                numbers.add(name, call, verdict(rule.action), &alternatives);
            }
        }
    }
    let mut sections: Vec<Section> = Vec::new();
    for numbers in &all {
        let arch = table::audit_arch(numbers.arch);
        if sections.iter().all(|section| section.arch != arch) {
            let parts = match numbers.arch {
                Arch::X86_64 | Arch::X32 => {
                    let of = |arch| all.iter().find(|numbers| numbers.arch == arch);
                    shared(profile, of(Arch::X86_64), of(Arch::X32))
                }
                _ => alone(profile, numbers),
            };
            sections.push(Section { arch, parts });
        }
    }
    sections
}

/// What has to hold: one list, of which all must, or several of one condition each, where an argument has several.
fn alternatives(args: &[SeccompArg]) -> Vec<Vec<SeccompArg>> {
    let repeated = args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|before| before.index == arg.index));
    if repeated { args.iter().map(|&arg| vec![arg]).collect() } else { vec![args.to_vec()] }
}

/// What a profile says about the numbers of one architecture.
struct Numbers {
    arch: Arch,
    /// In the profile's order.
    rules: Vec<(u32, Rule)>,
    /// The greatest number that the profile names, with any action.
    greatest: u32,
}

impl Numbers {
    fn new(arch: Arch) -> Numbers {
        Numbers { arch, rules: Vec::with_capacity(512), greatest: 0 }
    }

    fn add(&mut self, name: &str, call: Call, verdict: u32, alternatives: &[Vec<SeccompArg>]) {
        let number = call.number(self.arch);
        // The call itself has no number in libseccomp when it has two doors, so these do not count as known either.
        let door = if self.arch == Arch::X86 { table::multiplexed(name) } else { None };
        if door.is_none() {
            self.greatest = self.greatest.max(number.unwrap_or(0));
        }
        for args in alternatives {
            if let Some((multiplexer, value)) = door {
                let which = SeccompArg { index: 0, op: Operator::Eq, value: value.into(), value_two: 0 };
                let others = args.iter().copied().filter(|arg| arg.index != 0);
                self.rule(multiplexer, verdict, std::iter::once(which).chain(others));
            }
            if let Some(number) = number {
                self.rule(number, verdict, args.iter().copied());
            }
        }
    }

    fn rule(&mut self, number: u32, verdict: u32, args: impl Iterator<Item = SeccompArg>) {
        let bits = table::argument_bits(self.arch);
        let mut conditions: Vec<Condition> = args.map(|arg| Condition::new(&arg, bits)).collect();
        conditions.retain(|condition| condition.constant() != Some(true));
        conditions.sort_by_key(Condition::index);
        if conditions.iter().all(|condition| condition.constant().is_none()) {
            self.rules.push((number, Rule { verdict, conditions }));
        }
    }

    /// What happens to each number that a rule is about, up to the greatest one that counts, ascending.
    fn parts(&self, up_to: u32) -> Vec<(u32, Part)> {
        let mut rules: Vec<&(u32, Rule)> = self.rules.iter().filter(|(number, _)| *number <= up_to).collect();
        rules.sort_by_key(|(number, _)| *number);
        let bits = table::argument_bits(self.arch);
        let part = |rules: &[&(u32, Rule)]| {
            if let Some((_, rule)) = rules.iter().find(|(_, rule)| rule.conditions.is_empty()) {
                return Part::Verdict(rule.verdict);
            }
            let mut rules: Vec<Rule> = rules.iter().map(|(_, rule)| rule.clone()).collect();
            rules.sort_by(order);
            Part::Rules(rules, bits)
        };
        rules.chunk_by(|a, b| a.0 == b.0).map(|rules| (rules[0].0, part(rules))).collect()
    }

    /// The first number that is newer than the profile, which gets ENOSYS instead of the default: a C library then falls back on an
    /// older call, where EPERM makes the program fail. As runc: for architectures that the profile lists (not for a native one
    /// that it forgot), and only where the default refuses (who is asked, or traces, may know the call).
    fn newer(&self, profile: &Seccomp) -> Option<u32> {
        let refuses =
            !matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace(_) | Action::Notify);
        let counts = refuses && self.greatest > 0 && profile.architectures.contains(&self.arch);
        counts.then(|| self.greatest + 1)
    }
}

/// Unconditional rules never get here. The shorter list first, where it begins the longer.
fn order(a: &Rule, b: &Rule) -> std::cmp::Ordering {
    let pairs = a.conditions.iter().zip(&b.conditions);
    pairs.map(|(a, b)| a.order(b)).find(|order| order.is_ne()).unwrap_or(a.conditions.len().cmp(&b.conditions.len()))
}

/// Numbers below this are x86_64's; from here on it depends on who looks: runc at this one bit, libseccomp at anything above.
const X32: u32 = X32_BIT;

fn alone(profile: &Seccomp, numbers: &Numbers) -> Vec<(u32, Part)> {
    let mut base = vec![(0, Part::Verdict(verdict(profile.default_action)))];
    let newer = numbers.newer(profile);
    base.extend(newer.map(|first| (first, ENOSYS)));
    overlay(base, numbers.parts(newer.map_or(u32::MAX, |first| first - 1)))
}

/// x86_64 and x32 in one section. At least one of them is there.
fn shared(profile: &Seccomp, x86_64: Option<&Numbers>, x32: Option<&Numbers>) -> Vec<(u32, Part)> {
    let default = Part::Verdict(verdict(profile.default_action));
    let wrong = Part::Verdict(WRONG_ARCH);
    let newer_64 = x86_64.and_then(|numbers| numbers.newer(profile));
    let newer_32 = x32.and_then(|numbers| numbers.newer(profile));
    let when = |there: bool| if there { default.clone() } else { wrong.clone() };
    let mut base = vec![(0, when(x86_64.is_some()))];
    base.extend(newer_64.map(|first| (first, ENOSYS)));
    base.push((X32, when(x32.is_some())));
    base.extend(newer_32.map(|first| (first, ENOSYS)));
    base.push((0x8000_0000, newer_64.map_or(when(x32.is_some()), |_| ENOSYS)));
    base.push((0xc000_0000, newer_32.map_or(when(x32.is_some()), |_| ENOSYS)));
    // -1 is how a tracer skips a call: not an x32 call, whatever its bits say.
    base.push((u32::MAX, newer_32.map_or(default, |_| ENOSYS)));
    let mut calls = x86_64.map(|numbers| numbers.parts(newer_64.unwrap_or(X32) - 1)).unwrap_or_default();
    calls.extend(x32.map(|numbers| numbers.parts(newer_32.unwrap_or(2 * X32) - 1)).unwrap_or_default());
    overlay(base, calls)
}

/// What calls newer than the profile get.
const ENOSYS: Part = Part::Verdict(0x0005_0000 | libc::ENOSYS as u32);

/// Single numbers laid over ranges; both ascending.
fn overlay(base: Vec<(u32, Part)>, calls: Vec<(u32, Part)>) -> Vec<(u32, Part)> {
    let mut parts: Vec<(u32, Part)> = Vec::with_capacity(base.len() + 2 * calls.len());
    let mut calls = calls.into_iter().peekable();
    for (at, (first, part)) in base.iter().enumerate() {
        let end = base.get(at + 1).map_or(u32::MAX, |next| next.0 - 1);
        let mut next = Some(*first);
        while let Some((number, call)) = calls.next_if(|call| call.0 <= end) {
            if let Some(gap) = next.filter(|&gap| gap < number) {
                parts.push((gap, part.clone()));
            }
            parts.push((number, call));
            next = number.checked_add(1).filter(|&n| n <= end);
        }
        parts.extend(next.map(|gap| (gap, part.clone())));
    }
    parts
}
