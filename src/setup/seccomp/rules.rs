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
//!
//! A profile is a few hundred names, most of them in one rule without conditions. So it is read once, into a table with a few bytes for every
//! call there is ([`Reading`]); each architecture then goes through that table in the order of its own numbers. Only rules with conditions are
//! kept as rules.

use super::condition::{Condition, Rule};
use super::table::{self, Call, X32_BIT};
use crate::input::config::{Action, Arch, Operator, Seccomp, SeccompArg};

/// What happens to a range of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The same for all arguments.
    Verdict(u32),
    /// The first rule that matches of these, counted in [`Section::lists`].
    Rules(u32),
}

/// One `AUDIT_ARCH`, with what happens to its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// All numbers: (first, what), ascending, the first at 0, each up to the next, no two neighbours the same.
    pub parts: Vec<(u32, Part)>,
    /// Rules with conditions, for the calls that have them.
    pub lists: Vec<List>,
}

/// The rules of one call, none of them without a condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List {
    /// The first that matches counts.
    pub rules: Vec<Rule>,
    /// How many bits of an argument they look at.
    pub bits: u32,
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

/// A profile by calls instead of by rules.
pub struct Reading<'a> {
    profile: &'a Seccomp,
    /// The machine's own architecture, then those that the profile lists.
    archs: Vec<Arch>,
    said: [Said; table::COUNT],
    /// Rules with conditions: sorted by call, and for each call in the profile's order.
    asking: Vec<Asking>,
}

/// What is said about one call.
#[derive(Clone, Copy, Default)]
struct Said {
    /// A rule names it, with any action.
    named: bool,
    /// There are rules with conditions.
    asks: bool,
    /// The first rule without, counted from 1; 0 where there is none.
    plain: u32,
}

/// A rule with conditions about a call, as the profile has it.
struct Asking {
    call: Call,
    /// Which rule.
    rule: usize,
    /// Of several conditions on one argument each is a rule of its own: which.
    only: Option<usize>,
    /// It is about another call, behind this door of x86 where the first argument says so.
    door: Option<u8>,
}

impl<'a> Reading<'a> {
    /// Reads a profile for a machine of this architecture.
    pub fn new(profile: &'a Seccomp, native: Arch) -> Reading<'a> {
        let mut archs = vec![native];
        archs.extend(profile.architectures.iter().filter(|arch| **arch != native));
        let mut reading = Reading { profile, archs, said: [Said::default(); table::COUNT], asking: Vec::new() };
        for (at, rule) in profile.rules.iter().enumerate() {
            for name in rule.names.iter() {
                let Some(call) = table::find(name) else { continue };
                reading.said[call.row()].named = true;
                if rule.action != profile.default_action {
                    reading.add(at, &rule.args, call);
                }
            }
        }
        reading.asking.sort_by_key(|asking| asking.call);
        reading
    }

    fn add(&mut self, rule: usize, args: &[SeccompArg], call: Call) {
        let door = if self.archs.contains(&Arch::X86) { table::door(call) } else { None };
        if args.is_empty() {
            let said = &mut self.said[call.row()];
            said.plain = if said.plain == 0 { rule as u32 + 1 } else { said.plain };
        }
        let repeated =
            args.iter().enumerate().any(|(at, arg)| args[..at].iter().any(|before| before.index == arg.index));
        for only in if repeated { 0..args.len() } else { 0..1 } {
            let only = repeated.then_some(only);
            if let Some(door) = door {
                self.said[door.through.row()].asks = true;
                self.asking.push(Asking { call: door.through, rule, only, door: Some(door.first) });
            }
            if !args.is_empty() {
                self.said[call.row()].asks = true;
                self.asking.push(Asking { call, rule, only, door: None });
            }
        }
    }

    /// The sections of the filter, that of the machine's own architecture first.
    pub fn sections(&self) -> impl DoubleEndedIterator<Item = Section> {
        let audit = |arch: &Arch| table::audit_arch(*arch);
        let is_first = move |at: &usize| self.archs[..*at].iter().all(|arch| audit(arch) != audit(&self.archs[*at]));
        (0..self.archs.len()).filter(is_first).map(|at| match self.archs[at] {
            Arch::X86_64 | Arch::X32 => self.shared(),
            arch => self.alone(arch),
        })
    }

    fn alone(&self, arch: Arch) -> Section {
        let mut section = Section::new(arch);
        let newer = self.newer(arch);
        self.lay(&mut section, arch, 0, newer.map_or(u32::MAX, |first| first - 1));
        if let Some(first) = newer {
            section.push(first, ENOSYS);
        }
        section
    }

    /// x86_64 and x32 in one section. At least one of them is there.
    fn shared(&self) -> Section {
        let mut section = Section::new(Arch::X86_64);
        let (mut newer_64, mut newer_32) = (None, None);
        // Numbers below this are x86_64's; from here on it depends on who looks: runc at this one bit, libseccomp at anything above.
        const X32: u32 = X32_BIT;
        if self.archs.contains(&Arch::X86_64) {
            newer_64 = self.newer(Arch::X86_64);
            self.lay(&mut section, Arch::X86_64, 0, newer_64.unwrap_or(X32) - 1);
            if let Some(first) = newer_64 {
                section.push(first, ENOSYS);
            }
        } else {
            section.push(0, Part::Verdict(WRONG_ARCH));
        }
        let mut above = Part::Verdict(WRONG_ARCH);
        if self.archs.contains(&Arch::X32) {
            above = self.default();
            newer_32 = self.newer(Arch::X32);
            self.lay(&mut section, Arch::X32, X32, newer_32.unwrap_or(2 * X32) - 1);
            if let Some(first) = newer_32 {
                section.push(first, ENOSYS);
            }
        } else {
            section.push(X32, above);
        }
        section.push(2 * X32, newer_64.map_or(above, |_| ENOSYS));
        section.push(3 * X32, newer_32.map_or(above, |_| ENOSYS));
        // -1 is how a tracer skips a call: not an x32 call, whatever its bits say.
        section.push(u32::MAX, newer_32.map_or(self.default(), |_| ENOSYS));
        section
    }

    fn default(&self) -> Part {
        Part::Verdict(verdict(self.profile.default_action))
    }

    /// The first number that is newer than the profile, which gets ENOSYS instead of the default: a C library then falls back on an
    /// older call, where EPERM makes the program fail. As runc: for architectures that the profile lists (not for a native one
    /// that it forgot), and only where the default refuses (who is asked, or traces, may know the call).
    fn newer(&self, arch: Arch) -> Option<u32> {
        let default = self.profile.default_action;
        let refuses = !matches!(default, Action::Allow | Action::Log | Action::Trace(_) | Action::Notify);
        if !refuses || !self.profile.architectures.contains(&arch) {
            return None;
        }
        // The call itself has no number in libseccomp when it has two doors, so these do not count as known either.
        let known = |call: &Call| self.said[call.row()].named && (arch != Arch::X86 || table::door(*call).is_none());
        let greatest = table::by_number(arch).rev().find(known)?.number(arch)?;
        (greatest > 0).then(|| greatest + 1)
    }

    /// Lays the calls of an architecture over the default, for numbers from `first` to `last`.
    fn lay(&self, section: &mut Section, arch: Arch, first: u32, last: u32) {
        let (mut next, default) = (first, self.default());
        for call in table::by_number(arch) {
            let Some(number) = call.number(arch).filter(|number| *number <= last) else { break };
            let Some(part) = self.part(call, arch, &mut section.lists) else { continue };
            if next < number {
                section.push(next, default);
            }
            section.push(number, part);
            next = number + 1;
        }
        if next <= last {
            section.push(next, default);
        }
    }

    /// What the rules about a call say, if there are any.
    fn part(&self, call: Call, arch: Arch, lists: &mut Vec<List>) -> Option<Part> {
        let said = self.said[call.row()];
        let mut plain = (said.plain as usize).checked_sub(1);
        if said.asks {
            let bits = table::argument_bits(arch);
            let asking = &self.asking[self.asking.partition_point(|asking| asking.call < call)..];
            let here = |asking: &&Asking| asking.door.is_none() || arch == Arch::X86;
            let mut rules = Vec::new();
            for asking in asking.iter().take_while(|asking| asking.call == call).filter(here) {
                match plain {
                    // Only an earlier one that turns out to ask for nothing could count.
                    Some(plain) if plain <= asking.rule => break,
                    _ => {}
                }
                match self.rule(asking, bits) {
                    Some(rule) if rule.conditions.is_empty() => plain = Some(asking.rule),
                    Some(rule) => rules.push(rule),
                    None => {}
                }
            }
            if plain.is_none() && !rules.is_empty() {
                rules.sort_by(order);
                lists.push(List { rules, bits });
                return Some(Part::Rules(lists.len() as u32 - 1));
            }
        }
        plain.map(|at| Part::Verdict(verdict(self.profile.rules[at].action)))
    }

    /// The rule with what it asks of arguments of this many bits. `None`: it holds for none.
    fn rule(&self, asking: &Asking, bits: u32) -> Option<Rule> {
        let rule = &self.profile.rules[asking.rule];
        let args = asking.only.map_or(&rule.args[..], |at| &rule.args[at..=at]);
        let door =
            asking.door.map(|first| SeccompArg { index: 0, op: Operator::Eq, value: first.into(), value_two: 0 });
        let others = args.iter().copied().filter(|arg| door.is_none() || arg.index != 0);
        let mut conditions = Vec::with_capacity(args.len() + 1);
        conditions.extend(door.into_iter().chain(others).map(|arg| Condition::new(&arg, bits)));
        conditions.retain(|condition| condition.constant() != Some(true));
        conditions.sort_by_key(Condition::index);
        let possible = conditions.iter().all(|condition| condition.constant().is_none());
        possible.then(|| Rule { verdict: verdict(rule.action), conditions })
    }
}

impl Section {
    fn new(arch: Arch) -> Section {
        Section { arch: table::audit_arch(arch), parts: Vec::with_capacity(256), lists: Vec::new() }
    }

    /// The numbers from here on, if that is not what the ones before get.
    fn push(&mut self, first: u32, part: Part) {
        if self.parts.last().is_none_or(|last| last.1 != part) {
            self.parts.push((first, part));
        }
    }
}

/// Unconditional rules never get here. The shorter list first, where it begins the longer.
fn order(a: &Rule, b: &Rule) -> std::cmp::Ordering {
    let pairs = a.conditions.iter().zip(&b.conditions);
    pairs.map(|(a, b)| a.order(b)).find(|order| order.is_ne()).unwrap_or(a.conditions.len().cmp(&b.conditions.len()))
}

/// What calls newer than the profile get.
const ENOSYS: Part = Part::Verdict(0x0005_0000 | libc::ENOSYS as u32);
