//! The rules against their meaning, spelled out without any cleverness; the programs run in an interpreter of their own.

use super::*;
use proptest::prelude::*;

/// What a process asks: kind, numbers, and the bits of access that it wants together.
#[derive(Clone, Copy, Debug)]
struct Request {
    kind: u8,
    major: u32,
    minor: u32,
    access: u8,
}

/// The meaning: each bit is decided by the last rule that matches, the default devices being the very last.
fn meaning(rules: &[DeviceRule], request: Request) -> bool {
    let bits = [READ, WRITE, MKNOD].into_iter().filter(|bit| request.access & bit != 0);
    bits.into_iter().all(|bit| {
        let matches = |kind: Option<DeviceKind>, major: Option<u32>, minor: Option<u32>| {
            let kind = kind.is_none_or(|kind| (kind == DeviceKind::Char) == (request.kind == CHAR));
            kind && major.is_none_or(|n| n == request.major) && minor.is_none_or(|n| n == request.minor)
        };
        let always = ALWAYS.iter().any(|&(kind, major, minor, access)| {
            let kind = if kind == CHAR { DeviceKind::Char } else { DeviceKind::Block };
            access & bit != 0 && matches(Some(kind), major, minor)
        });
        let asked = |rule: &DeviceRule| (rule.read, rule.write, rule.mknod);
        let last = rules.iter().rev().find(|rule| {
            let (read, write, mknod) = asked(rule);
            let bits = [(read, READ), (write, WRITE), (mknod, MKNOD)];
            bits.contains(&(true, bit)) && matches(rule.kind, rule.major, rule.minor)
        });
        always || last.is_some_and(|rule| rule.allow)
    })
}

/// The version-1 kernel on `devices.allow` and `devices.deny` (security/device_cgroup.c): one entry must grant all that is asked,
/// or, where the default is to allow, none may take a bit of it.
fn kernel_v1(files: &[(&str, Vec<String>)], request: Request) -> bool {
    let denies_all = files[0].0 == "devices.deny";
    assert_eq!(files[0].1, ["a"]);
    let mut entries = files[1..].iter().flat_map(|(_, lines)| lines).map(|line| {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let [kind, major, minor, letters] = words[..] else { panic!("{line:?}") };
        let number = |word: &str| (word != "*").then(|| word.parse::<u32>().unwrap());
        let access = letters.chars().map(|c| match c {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => panic!("{other}"),
        });
        (if kind == "c" { CHAR } else { BLOCK }, number(major), number(minor), access.fold(0, |a, b| a | b))
    });
    let fits = |&(kind, major, minor, _): &(u8, Option<u32>, Option<u32>, u8)| {
        kind == request.kind && major.is_none_or(|n| n == request.major) && minor.is_none_or(|n| n == request.minor)
    };
    if denies_all {
        entries.any(|entry| fits(&entry) && request.access & !entry.3 == 0)
    } else {
        !entries.any(|entry| fits(&entry) && request.access & entry.3 != 0)
    }
}

/// Runs a program as the kernel would, with the few instructions that ours have. Panics where the verifier would refuse.
fn run(program: &[Instruction], request: Request) -> bool {
    let context = [u32::from(request.access) << 16 | u32::from(request.kind), request.major, request.minor];
    let mut registers: [Option<u32>; 6] = [None; 6];
    let mut at = 0;
    loop {
        let Instruction { code, registers: pair, offset, immediate } = program[at];
        let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
        let immediate = immediate as u32;
        at += 1;
        let jump = |taken: bool, at: usize| if taken { at.checked_add_signed(offset.into()).unwrap() } else { at };
        match code {
            0x61 => registers[to] = Some(context[offset as usize / 4]),
            0xb4 => registers[to] = Some(immediate),
            0xbc => registers[to] = registers[from],
            0x64 => registers[to] = Some(registers[to].unwrap() << immediate),
            0x4c => registers[to] = Some(registers[to].unwrap() | registers[from].unwrap()),
            0x54 => registers[to] = Some(registers[to].unwrap() & immediate),
            0x16 => at = jump(registers[to].unwrap() == immediate, at),
            0x46 => at = jump(registers[to].unwrap() & immediate != 0, at),
            0x56 => at = jump(registers[to].unwrap() != immediate, at),
            0x95 => return registers[usize::from(ANSWER)].unwrap() == 1,
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// Every instruction can be reached: the verifier refuses a program in which one cannot.
fn reachable(program: &[Instruction]) -> bool {
    let mut seen = vec![false; program.len()];
    let mut next = vec![0];
    while let Some(at) = next.pop() {
        if std::mem::replace(&mut seen[at], true) || program[at].code == 0x95 {
            continue;
        }
        next.push(at + 1);
        if program[at].code & 7 == 6 {
            assert!(program[at].offset >= 0, "a jump backwards");
            next.push((at + 1).checked_add_signed(program[at].offset.into()).unwrap());
        }
    }
    seen.into_iter().all(|seen| seen)
}

fn requests() -> Vec<Request> {
    let mut all = Vec::new();
    for kind in [CHAR, BLOCK] {
        for major in [0, 1, 5, 8, 10, 136, 300] {
            for minor in [0, 1, 2, 3, 200, 300_000] {
                all.extend((1..=ALL).map(|access| Request { kind, major, minor, access }));
            }
        }
    }
    all
}

fn rule(allow: bool, kind: char, major: Option<u32>, minor: Option<u32>, letters: &str) -> DeviceRule {
    let kind = match kind {
        'c' => Some(DeviceKind::Char),
        'b' => Some(DeviceKind::Block),
        'p' => Some(DeviceKind::Fifo),
        _ => None,
    };
    let has = |letter| letters.contains(letter);
    DeviceRule { allow, kind, major, minor, read: has('r'), write: has('w'), mknod: has('m') }
}

fn rules() -> impl Strategy<Value = Vec<DeviceRule>> {
    let number = |values: &'static [u32]| prop_oneof![Just(None), prop::sample::select(values).prop_map(Some)];
    let one = (
        any::<bool>(),
        prop::sample::select(vec!['a', 'b', 'c']),
        number(&[1, 5, 8, 300, 5000]),
        number(&[0, 1, 3, 300_000, 2_000_000]),
        prop::sample::select(vec!["r", "w", "m", "rw", "rm", "wm", "rwm", "rwm"]),
    );
    prop::collection::vec(
        one.prop_map(|(allow, kind, major, minor, access)| rule(allow, kind, major, minor, access)),
        0..8,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_program_means_what_the_rules_mean(rules in rules()) {
        let policy = Policy::decide(&rules).unwrap();
        let program = policy.program();
        prop_assert!(reachable(&program), "{:?}", program);
        for request in requests() {
            prop_assert_eq!(run(&program, request), meaning(&rules, request), "{:?} {:?}", request, policy);
        }
    }

    #[test]
    fn the_lines_mean_what_the_rules_mean(rules in rules()) {
        let policy = Policy::decide(&rules).unwrap();
        if let Ok(files) = policy.lines() {
            for request in requests() {
                prop_assert_eq!(kernel_v1(&files, request), meaning(&rules, request), "{:?} {:?}", request, files);
            }
        }
    }

    #[test]
    fn all_is_allowed_only_when_it_is(rules in rules()) {
        if Policy::decide(&rules).unwrap().allows_all() {
            prop_assert!(requests().into_iter().all(|request| meaning(&rules, request)));
        }
    }
}

/// What Docker asks for an ordinary container.
fn docker() -> Vec<DeviceRule> {
    let mut rules = vec![rule(false, 'a', None, None, "rwm")];
    let devices = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];
    rules.extend(devices.map(|(major, minor)| rule(true, 'c', Some(major), Some(minor), "rwm")));
    rules.push(rule(false, 'c', Some(10), Some(229), "rwm"));
    rules
}

#[test]
fn without_rules_a_container_has_the_default_devices() {
    let policy = Policy::decide(&[]).unwrap();
    assert_eq!(policy, Policy::decide(&[rule(false, 'a', None, None, "rwm")]).unwrap());
    assert_eq!(
        policy.lines().unwrap(),
        [
            ("devices.deny", vec!["a".to_owned()]),
            (
                "devices.allow",
                [
                    "c *:* m",
                    "b *:* m",
                    "c 1:3 rwm",
                    "c 1:5 rwm",
                    "c 1:7 rwm",
                    "c 1:8 rwm",
                    "c 1:9 rwm",
                    "c 5:0 rwm",
                    "c 5:2 rwm",
                    "c 10:200 rwm",
                    "c 136:* rwm",
                ]
                .map(str::to_owned)
                .to_vec()
            )
        ]
    );
    assert_eq!(policy.program().len(), 21);
}

#[test]
fn dockers_rules_add_the_console_and_nothing_else() {
    let policy = Policy::decide(&docker()).unwrap();
    let (default, lines) = (Policy::decide(&[]).unwrap().lines().unwrap(), policy.lines().unwrap());
    let more: Vec<&String> = lines[1].1.iter().filter(|line| !default[1].1.contains(line)).collect();
    assert_eq!(more, ["c 5:1 rwm"]);
    assert_eq!(policy.program().len(), 22);
}

#[test]
fn a_privileged_container_needs_no_program() {
    let policy = Policy::decide(&[rule(false, 'a', None, None, "rwm"), rule(true, 'a', None, None, "rwm")]).unwrap();
    assert!(policy.allows_all());
    assert_eq!(policy.lines().unwrap(), [("devices.allow", vec!["a".to_owned()])]);
    assert_eq!(policy.program().len(), 2);
}

#[test]
fn all_with_numbers_is_not_everything() {
    // The kernel of version 1 takes "a 10:1 rwm" for "everything".
    let policy = Policy::decide(&[rule(true, 'a', Some(10), Some(1), "rwm")]).unwrap();
    assert!(!policy.allows_all());
    let lines = policy.lines().unwrap();
    assert!(
        lines[1].1.contains(&"c 10:1 rwm".to_owned()) && lines[1].1.contains(&"b 10:1 rwm".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_hole_in_a_range_is_refused_on_version_1_only() {
    let rules = [rule(true, 'c', Some(8), None, "rw"), rule(false, 'c', Some(8), Some(3), "w")];
    let policy = Policy::decide(&rules).unwrap();
    let fault = policy.lines().unwrap_err();
    assert_eq!(
        fault.to_string(),
        "linux.resources.devices: \"c 8:3 w\" cannot be an exception within \"c 8:* rw\": \
         cgroup v1 keeps one default and its exceptions"
    );
    let program = policy.program();
    assert!(run(&program, Request { kind: CHAR, major: 8, minor: 3, access: READ }));
    assert!(!run(&program, Request { kind: CHAR, major: 8, minor: 3, access: READ | WRITE }));
}

#[test]
fn rules_that_make_no_sense_are_named() {
    let faults = Policy::decide(&[rule(true, 'p', None, None, "r"), rule(true, 'c', Some(1), None, "")]).unwrap_err();
    let places: Vec<_> = faults.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(places, ["linux.resources.devices[0].type", "linux.resources.devices[1].access"]);
    let many: Vec<DeviceRule> = (0..2000).map(|n| rule(true, 'c', Some(n), None, "r")).collect();
    assert_eq!(Policy::decide(&many).unwrap_err().len(), 1);
    // Rows and columns that cross make as many rules as there are crossings.
    let crossing: Vec<DeviceRule> =
        (0..500).flat_map(|n| [rule(true, 'c', Some(n), None, "r"), rule(true, 'c', None, Some(n), "w")]).collect();
    assert!(Policy::decide(&crossing).is_err());
}
