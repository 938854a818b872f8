//! Device rules: which device nodes the container may open and make.
//!
//! A device node is only a name for a pair of numbers, so a container with CAP_MKNOD could make itself the host's disk. The
//! kernel asks the cgroup on every open and mknod of a device. Version 1 keeps a list: `devices.deny` and `devices.allow` take one line
//! at a time (`c 1:3 rwm`: kind, major:minor, read write mknod), after `a` has set the rule for all the rest. Version 2 has no
//! file for it: an eBPF program attached to the directory gets kind, access and numbers, and answers 1 or 0.
//!
//! By hand, on version 1:
//!
//! ```text
//! # mkdir /sys/fs/cgroup/devices/try && cd /sys/fs/cgroup/devices/try
//! # echo a > devices.deny; echo 'c 1:3 rwm' > devices.allow; cat devices.list
//! c 1:3 rwm
//! # (echo 0 > tasks; head -c1 /dev/zero)
//! head: cannot open '/dev/zero' for reading: Operation not permitted
//! ```
//!
//! What we do: everything is denied at first; then come the rules of the configuration in order, then the devices that every
//! container has ([`ALWAYS`]), which a configuration cannot take away: the order of runc. For each bit of access the last
//! rule that matches the device decides, and an open for reading and writing needs both bits. [`Policy::decide`] drops what has no
//! effect, and the rest becomes lines or a program.
//!
//! What goes wrong: version 1 knows one default and its exceptions, so a rule that takes one device out of a range allowed before it
//! cannot be written there; it would be ignored silently, so we refuse it. The length of the program costs time at every
//! container's start (the verifier, and memory protection of its code): a program of 78 instructions loads in 350 µs, a short one in 60.

use crate::input::Fault;
use crate::input::config::{DeviceKind, DeviceRule};
use crate::sys::bpf::Instruction;

/// Where the rules stand in the configuration.
const PLACE: &str = "linux.resources.devices";

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

/// `BPF_DEVCG_DEV_*`: one bit each, so that a mask can name both.
const BLOCK: u8 = 1;
const CHAR: u8 = 2;

/// What every container may use, whatever its rules say: the devices of the runtime specification's default list, terminals,
/// and, as runc has it for those who came to rely on it, mknod of anything (which gives no access) and /dev/net/tun.
const ALWAYS: [(u8, Option<u32>, Option<u32>, u8); 11] = [
    (CHAR, None, None, MKNOD),
    (BLOCK, None, None, MKNOD),
    (CHAR, Some(1), Some(3), ALL),    // null
    (CHAR, Some(1), Some(5), ALL),    // zero
    (CHAR, Some(1), Some(7), ALL),    // full
    (CHAR, Some(1), Some(8), ALL),    // random
    (CHAR, Some(1), Some(9), ALL),    // urandom
    (CHAR, Some(5), Some(0), ALL),    // tty
    (CHAR, Some(5), Some(2), ALL),    // ptmx
    (CHAR, Some(10), Some(200), ALL), // net/tun
    (CHAR, Some(136), None, ALL),     // pts/*
];

/// More rules than anybody writes. It bounds the time spent here, and the program stays within the 16 bits of a jump.
const MOST: usize = 1024;

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device may be used.
    Allow,
    /// It may not.
    Deny,
}

/// One rule for one kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    verdict: Verdict,
    kind: u8,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Rule {
    /// Every device that `other` is about, this one is about too.
    fn covers(&self, other: &Rule) -> bool {
        let holds = |mine: Option<u32>, theirs| mine.is_none() || mine == theirs;
        self.kind == other.kind && holds(self.major, other.major) && holds(self.minor, other.minor)
    }

    /// There is a device that both are about.
    fn meets(&self, other: &Rule) -> bool {
        let agree = |mine: Option<u32>, theirs: Option<u32>| mine.is_none() || theirs.is_none() || mine == theirs;
        self.kind == other.kind && agree(self.major, other.major) && agree(self.minor, other.minor)
    }

    /// Kind, numbers and access as `devices.allow` reads them: `c 136:* rwm`.
    fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|l| l.1)
            .collect();
        let kind = if self.kind == CHAR { 'c' } else { 'b' };
        format!("{kind} {}:{} {letters}", number(self.major), number(self.minor))
    }
}

/// Which devices a container may use: the rules of one configuration with all that has no effect left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For what no rule matches.
    default: Verdict,
    /// The first that matches decides. Only verdicts other than the default's, unless an exception has exceptions.
    rules: Vec<Rule>,
}

impl Policy {
    /// From `linux.resources.devices`. Faults: a rule for fifos, a rule without access.
    pub fn decide(rules: &[DeviceRule]) -> Result<Policy, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut default = Verdict::Deny;
        let mut list: Vec<Rule> = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            let kinds: &[u8] = match rule.kind {
                None => &[CHAR, BLOCK],
                Some(DeviceKind::Char) => &[CHAR],
                Some(DeviceKind::Block) => &[BLOCK],
                Some(DeviceKind::Fifo) => {
                    faults.push(Fault::new(format!("{PLACE}[{i}].type"), "a fifo is not a device that a cgroup knows"));
                    continue;
                }
            };
            let verdict = if rule.allow { Verdict::Allow } else { Verdict::Deny };
            let access = [(rule.mknod, MKNOD), (rule.read, READ), (rule.write, WRITE)];
            let access = access.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
            if access == 0 {
                faults.push(Fault::new(format!("{PLACE}[{i}].access"), "empty, it takes at least one of r, w and m"));
            }
            if kinds.len() == 2 && rule.major.is_none() && rule.minor.is_none() && access == ALL {
                default = verdict;
                list.clear();
                continue;
            }
            if rule.major.is_some_and(|n| n >= 1 << 12) || rule.minor.is_some_and(|n| n >= 1 << 20) {
                // No device has such numbers: they do not fit the kernel's dev_t.
                continue;
            }
            list.extend(kinds.iter().map(|&kind| Rule { verdict, kind, major: rule.major, minor: rule.minor, access }));
        }
        if list.len() > MOST {
            faults.push(too_many(list.len()));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        list.extend(ALWAYS.map(|(kind, major, minor, access)| Rule {
            verdict: Verdict::Allow,
            kind,
            major,
            minor,
            access,
        }));
        list.reverse();
        let rules = simplify(default, list);
        if rules.len() > 2 * MOST { Err(vec![too_many(rules.len())]) } else { Ok(Policy { default, rules }) }
    }

    /// Everything is allowed: nothing needs to be enforced.
    pub fn allows_all(&self) -> bool {
        self.default == Verdict::Allow && self.rules.is_empty()
    }

    /// What to write on version 1: for each file its lines, in order. Fault: an exception within an exception.
    pub fn lines(&self) -> Result<Vec<(&'static str, Vec<String>)>, Fault> {
        if let Some(hole) = self.rules.iter().find(|rule| rule.verdict == self.default) {
            let outer = self
                .rules
                .iter()
                .find(|rule| rule.verdict != self.default && rule.meets(hole) && rule.access & hole.access != 0);
            return Err(Fault::new(
                PLACE,
                format!(
                    "{:?} cannot be an exception within {:?}: cgroup v1 keeps one default and its exceptions",
                    hole.line(),
                    outer.map(Rule::line).unwrap_or_default()
                ),
            ));
        }
        let (whole, exceptions) = match self.default {
            Verdict::Deny => ("devices.deny", "devices.allow"),
            Verdict::Allow => ("devices.allow", "devices.deny"),
        };
        let mut files = vec![(whole, vec!["a".to_owned()])];
        if !self.rules.is_empty() {
            files.push((exceptions, self.rules.iter().map(Rule::line).collect()));
        }
        Ok(files)
    }

    /// The program for version 2.
    pub fn program(&self) -> Vec<Instruction> {
        let plain = self.default == Verdict::Deny && self.rules.iter().all(|rule| rule.verdict == Verdict::Allow);
        if plain { allow_list(&self.rules) } else { ordered(self.default, &self.rules) }
    }
}

fn too_many(rules: usize) -> Fault {
    Fault::new(PLACE, format!("{rules} rules with a meaning of their own, at most {MOST} are taken"))
}

/// Drops the rules of a list, most important first, that decide nothing, and puts together those that say the same.
fn simplify(default: Verdict, list: Vec<Rule>) -> Vec<Rule> {
    let mut kept: Vec<Rule> = Vec::new();
    for mut rule in list {
        // A rule that agrees with an earlier one is left whole (on v1 "c 1:3 rwm" lets a nested runtime grant all three,
        // "c 1:3 rw" beside "c *:* m" does not); bits that an earlier one decides the other way are gone.
        let hidden =
            kept.iter().filter(|k| k.covers(&rule) && k.verdict != rule.verdict).fold(0, |all, k| all | k.access);
        let decided = kept.iter().filter(|k| k.covers(&rule)).fold(0, |all, k| all | k.access);
        rule.access &= if rule.verdict == default { !decided } else { !hidden };
        if rule.access != 0 && rule.access & !decided != 0 {
            kept.push(rule);
        }
    }
    // From the least important up: a rule that says what would hold without it is only needed above one that says otherwise.
    let mut below: Vec<Rule> = Vec::new();
    for rule in kept.into_iter().rev() {
        if rule.verdict != default
            || below.iter().any(|b| b.verdict != default && b.meets(&rule) && b.access & rule.access != 0)
        {
            below.push(rule);
        }
    }
    below.reverse();
    if below.iter().all(|rule| rule.verdict != default) { widen(below) } else { below }
}

/// Makes a list in which one exception alone answers each question, as the kernel's list on v1 and the program on v2 want it:
/// where two meet, what they grant together is granted by one. Ends early with more than twice [`MOST`].
fn widen(mut rules: Vec<Rule>) -> Vec<Rule> {
    let mut grown = true;
    while grown {
        grown = false;
        for i in 1..rules.len() {
            for j in 0..i {
                let (a, b) = (rules[i], rules[j]);
                let access = a.access | b.access;
                if !a.meets(&b) || a.access == access && b.access == access {
                    continue;
                }
                let common = Rule { major: a.major.or(b.major), minor: a.minor.or(b.minor), access, ..a };
                if rules.iter().any(|r| r.covers(&common) && r.access & access == access) {
                    continue;
                }
                grown = true;
                match rules.iter_mut().find(|r| r.covers(&common) && common.covers(r)) {
                    Some(same) => same.access |= access,
                    None => rules.push(common),
                }
                if rules.len() > 2 * MOST {
                    return rules;
                }
            }
        }
    }
    let all = rules.clone();
    let granted_by = |me: usize, other: usize| {
        let (rule, by) = (&all[me], &all[other]);
        let more = by.covers(rule) && by.access & rule.access == rule.access;
        // Of two equal ones the first stays.
        more && (!rule.covers(by) || by.access != rule.access || other < me)
    };
    let stays = (0..all.len()).filter(|&me| !(0..all.len()).any(|other| other != me && granted_by(me, other)));
    let mut rules: Vec<Rule> = stays.map(|me| all[me]).collect();
    rules.sort_by_key(|r| (r.major.map_or(-1, i64::from), r.minor.map_or(-1, i64::from), r.kind != CHAR));
    rules
}

/// Register 0 is the answer, 1 the kernel's `struct bpf_cgroup_dev_ctx`.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
/// `access << 16 | kind`.
const REQUEST: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;
/// `major << 20 | minor`: both numbers in one comparison.
const BOTH: u8 = 5;

/// Where a jump goes; turned into a distance when the program is whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Here,
    Allow,
    Deny,
    Label(usize),
}

/// A program in the making.
#[derive(Default)]
struct Assembler {
    code: Vec<(Instruction, Target)>,
    labels: Vec<usize>,
}

impl Assembler {
    fn put(&mut self, code: u8, registers: u8, offset: i16, immediate: u32) {
        self.code.push((Instruction { code, registers, offset, immediate: immediate as i32 }, Target::Here));
    }

    /// `to = *(u32 *)(context + offset)`: BPF_LDX | BPF_MEM | BPF_W.
    fn load(&mut self, to: u8, offset: i16) {
        self.put(0x61, CONTEXT << 4 | to, offset, 0);
    }

    /// `register = value`: BPF_ALU | BPF_MOV | BPF_K.
    fn set(&mut self, register: u8, value: u32) {
        self.put(0xb4, register, 0, value);
    }

    fn exit(&mut self) {
        self.put(0x95, 0, 0, 0);
    }

    /// A conditional jump on the lower 32 bits of a register: BPF_JMP32 | operation | BPF_K.
    fn jump(&mut self, operation: u8, register: u8, value: u32, target: Target) {
        self.code.push((
            Instruction { code: 0x06 | operation, registers: register, offset: 0, immediate: value as i32 },
            target,
        ));
    }

    fn label(&mut self) -> usize {
        self.labels.push(usize::MAX);
        self.labels.len() - 1
    }

    fn place(&mut self, label: usize) {
        self.labels[label] = self.code.len();
    }

    /// Loads the numbers that these rules compare.
    fn load_numbers(&mut self, rules: &[Rule]) {
        let exact = rules.iter().any(|r| r.major.is_some() && r.minor.is_some());
        if exact || rules.iter().any(|r| r.major.is_some()) {
            self.load(MAJOR, 4);
        }
        if exact || rules.iter().any(|r| r.minor.is_some()) {
            self.load(MINOR, 8);
        }
        if exact {
            self.put(0xbc, MAJOR << 4 | BOTH, 0, 0); // both = major
            self.put(0x64, BOTH, 0, 20); // both <<= 20
            self.put(0x4c, MINOR << 4 | BOTH, 0, 0); // both |= minor
        }
    }

    /// Jumps on whether the request is about this rule's numbers.
    fn compare(&mut self, operation: u8, rule: &Rule, target: Target) {
        match (rule.major, rule.minor) {
            (Some(major), Some(minor)) => self.jump(operation, BOTH, major << 20 | minor, target),
            (Some(major), None) => self.jump(operation, MAJOR, major, target),
            (None, Some(minor)) => self.jump(operation, MINOR, minor, target),
            (None, None) => {}
        }
    }

    /// Sets the distances. `allow` and `deny` are where those jumps go.
    fn finish(self, allow: usize, deny: usize) -> Vec<Instruction> {
        let place = |(here, (mut instruction, target)): (usize, (Instruction, Target))| {
            let there = match target {
                Target::Here => return instruction,
                Target::Allow => allow,
                Target::Deny => deny,
                Target::Label(label) => self.labels[label],
            };
            instruction.offset = (there as i64 - here as i64 - 1) as i16;
            instruction
        };
        self.code.into_iter().enumerate().map(place).collect()
    }
}

const EQUAL: u8 = 0x10;
const ANY_BIT: u8 = 0x40;
const DIFFERS: u8 = 0x50;

/// The program for "nothing but these". One jump per device: kind and access are tested once for all the rules that share
/// them, by a single mask, because a rule fits when the request has no bit of the other kind and none of an access that is not granted.
fn allow_list(rules: &[Rule]) -> Vec<Instruction> {
    // The rules by (kinds, access). A rule that stands there for both kinds is one rule.
    let mut groups: Vec<(u8, u8, Vec<Rule>)> = Vec::new();
    for rule in rules {
        let twin = rules.contains(&Rule { kind: (BLOCK | CHAR) ^ rule.kind, ..*rule });
        let kinds = if twin { BLOCK | CHAR } else { rule.kind };
        if twin && rule.kind == BLOCK {
            continue;
        }
        match groups.iter_mut().find(|(k, a, _)| (*k, *a) == (kinds, rule.access)) {
            Some((_, _, group)) => group.push(*rule),
            None => groups.push((kinds, rule.access, vec![*rule])),
        }
    }
    // A rule for every number needs none, so it comes first and answers mknod before the numbers are loaded.
    groups.sort_by_key(|(_, _, group)| !group.iter().any(|r| r.major.is_none() && r.minor.is_none()));

    let mut a = Assembler::default();
    a.load(REQUEST, 0);
    a.set(ANSWER, 1);
    let mut loaded = false;
    for (i, (kinds, access, group)) in groups.iter().enumerate() {
        if !loaded && group.iter().any(|r| r.major.is_some() || r.minor.is_some()) {
            let rest: Vec<Rule> = groups[i..].iter().flat_map(|g| g.2.iter().copied()).collect();
            a.load_numbers(&rest);
            loaded = true;
        }
        let unfit = u32::from(!kinds & (BLOCK | CHAR)) | u32::from(!access & ALL) << 16;
        let next = if i + 1 == groups.len() { Target::Deny } else { Target::Label(a.label()) };
        if unfit != 0 {
            a.jump(ANY_BIT, REQUEST, unfit, next);
        }
        for rule in group {
            match (rule.major, rule.minor) {
                (None, None) => a.exit(),
                _ => a.compare(EQUAL, rule, Target::Allow),
            }
        }
        if unfit == 0 && group.iter().any(|r| r.major.is_none() && r.minor.is_none()) {
            // Everything was allowed rule by rule. The verifier refuses what can never be reached.
            return a.finish(0, 0);
        }
        if let Target::Label(label) = next {
            a.place(label);
        }
    }
    let deny = a.code.len();
    a.set(ANSWER, 0);
    a.exit();
    a.finish(deny + 1, deny)
}

/// The program for any list of rules, most important first. A rule that allows takes its bits out of the request, and when
/// none is left the answer is yes; a rule that denies looks whether one of its bits is still asked for.
fn ordered(default: Verdict, rules: &[Rule]) -> Vec<Instruction> {
    let mut a = Assembler::default();
    if !rules.is_empty() {
        a.load(REQUEST, 0);
    }
    a.load_numbers(rules);
    for rule in rules {
        let next = a.label();
        a.jump(ANY_BIT, REQUEST, u32::from(rule.kind ^ (BLOCK | CHAR)), Target::Label(next));
        a.compare(DIFFERS, rule, Target::Label(next));
        let bits = u32::from(rule.access) << 16;
        match rule.verdict {
            Verdict::Allow => {
                a.put(0x54, REQUEST, 0, !bits); // request &= !bits
                a.jump(ANY_BIT, REQUEST, u32::from(ALL) << 16, Target::Label(next));
                a.set(ANSWER, 1);
                a.exit();
            }
            Verdict::Deny => a.jump(ANY_BIT, REQUEST, bits, Target::Deny),
        }
        a.place(next);
    }
    a.set(ANSWER, if default == Verdict::Allow { 1 } else { 0 });
    a.exit();
    let deny = a.code.len();
    if a.code.iter().any(|(_, target)| *target == Target::Deny) {
        a.set(ANSWER, 0);
        a.exit();
    }
    a.finish(deny, deny)
}

#[cfg(test)]
mod tests;
