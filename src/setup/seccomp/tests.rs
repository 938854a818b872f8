//! The compiler judged by what a profile plainly says. Beside libseccomp it stands in `integration/seccomp`.

use super::notify::Courier;
use super::simulate::{Data, Verdict, run};
use super::*;
use crate::input::config::{Operator, SeccompArg, SeccompRule};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const KILL: u32 = 0;

fn arg(index: u8, op: Operator, value: u64) -> SeccompArg {
    SeccompArg { index, op, value, value_two: 0 }
}

fn rule(names: &[&str], action: Action, args: &[SeccompArg]) -> SeccompRule {
    SeccompRule { names: names.iter().copied().collect(), action, args: args.to_vec() }
}

fn profile(default_action: Action, rules: &[SeccompRule]) -> Seccomp {
    let architectures = vec![Arch::X86_64, Arch::X86, Arch::X32];
    Seccomp { default_action, architectures, rules: rules.to_vec(), ..Seccomp::default() }
}

fn ask(profile: &Seccomp, arch: Arch, nr: u32, args: [u64; 6]) -> Verdict {
    let filter = decide_for(profile, Arch::X86_64).unwrap();
    run(filter.program().unwrap(), &Data { nr, arch: table::audit_arch(arch), instruction_pointer: 0, args }).unwrap()
}

fn verdict(profile: &Seccomp, arch: Arch, nr: u32, args: [u64; 6]) -> u32 {
    ask(profile, arch, nr, args).returned
}

fn first(value: u64) -> [u64; 6] {
    [value, 0, 0, 0, 0, 0]
}

#[test]
fn explain_shows_the_call() {
    let mut profile = profile(Action::Errno(1), &[rule(&["read"], Action::Allow, &[])]);
    let count = decide_for(&profile, NATIVE).unwrap().program().unwrap().len();
    assert_eq!(
        decide_for(&profile, NATIVE).unwrap().to_string(),
        format!("seccomp(SECCOMP_SET_MODE_FILTER, 0, {count} instructions)")
    );
    profile.flags = kernel::LOG.bit | kernel::SPEC_ALLOW.bit | kernel::TSYNC.bit;
    let flags = "SECCOMP_FILTER_FLAG_LOG|SECCOMP_FILTER_FLAG_SPEC_ALLOW";
    assert_eq!(
        decide_for(&profile, NATIVE).unwrap().to_string(),
        format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags}, {count} instructions)")
    );
}

#[test]
fn a_notifying_rule_asks_for_a_listener() {
    let mut profile = profile(Action::Allow, &[rule(&["mkdir"], Action::Notify, &[])]);
    profile.listener_path = Some("/run/agent.sock".into());
    profile.flags = kernel::WAIT_KILLABLE_RECV.bit;
    assert_eq!(decide_for(&profile, NATIVE).unwrap().flags, kernel::WAIT_KILLABLE_RECV.bit | kernel::NEW_LISTENER.bit);
    assert_eq!(verdict(&profile, Arch::X86_64, 83, [0; 6]), 0x7fc0_0000);
}

/// The process hands its listener over by itself only where the filter cannot stand in its way.
#[test]
fn who_hands_the_listener_over() {
    let is = |default, rules: &[SeccompRule]| {
        let mut profile = profile(default, rules);
        profile.listener_path = Some("/run/agent.sock".into());
        profile.listener_metadata = "m".into();
        let notify = decide_for(&profile, Arch::X86_64).unwrap().notify.expect("it notifies");
        assert_eq!((notify.agent.to_str(), &*notify.metadata), (Some("/run/agent.sock"), "m"));
        notify.courier
    };
    let asks = |name| rule(&[name], Action::Notify, &[]);
    for harmless in ["mkdir", "write", "execve", "sendto", "exit_group"] {
        assert_eq!(is(Action::Allow, &[asks(harmless)]), Courier::Itself, "{harmless}");
        assert_eq!(is(Action::Log, &[asks(harmless)]), Courier::Itself, "{harmless}");
    }
    assert_eq!(is(Action::Allow, &[asks("sendmsg")]), Courier::Thread);
    assert_eq!(is(Action::Allow, &[asks("close")]), Courier::Thread);
    assert_eq!(is(Action::Allow, &[asks("recvmsg")]), Courier::Thread);
    assert_eq!(is(Action::Notify, &[rule(&["execve"], Action::Allow, &[])]), Courier::Thread);
    assert_eq!(is(Action::Notify, &[rule(&["sendmsg", "close", "recvmsg"], Action::Allow, &[])]), Courier::Itself);
    let refused = rule(&["sendmsg"], Action::Errno(1), &[]);
    assert_eq!(is(Action::Allow, &[asks("mkdir"), refused]), Courier::Thread);
    let sometimes = rule(&["close"], Action::Errno(1), &[arg(0, Operator::Eq, 0)]);
    assert_eq!(is(Action::Allow, &[asks("mkdir"), sometimes]), Courier::Thread);
    let traced = rule(&["close"], Action::Trace(1), &[]);
    assert_eq!(is(Action::Allow, &[asks("mkdir"), traced]), Courier::Thread);
    let mut ignored = profile(Action::Allow, &[]);
    ignored.listener_path = Some("/run/agent.sock".into());
    assert_eq!(decide_for(&ignored, NATIVE).unwrap().notify, None);
}

#[test]
fn faults_of_notifying_come_together() {
    for profile in [profile(Action::Notify, &[]), profile(Action::Allow, &[rule(&["write"], Action::Notify, &[])])] {
        let places: Vec<_> = decide_for(&profile, NATIVE).unwrap_err().into_iter().map(|fault| fault.place).collect();
        assert_eq!(places, ["linux.seccomp.listenerPath"]);
    }
    let mut profile = profile(Action::Allow, &[]);
    profile.flags = kernel::WAIT_KILLABLE_RECV.bit;
    assert_eq!(decide_for(&profile, NATIVE).unwrap_err()[0].place, "linux.seccomp.flags");
}

#[test]
fn newer_calls_get_enosys_where_the_default_refuses() {
    let rules = [rule(&["read", "openat"], Action::Allow, &[])];
    for (default, newer) in [
        (Action::Errno(1), ENOSYS),
        (Action::KillThread, ENOSYS),
        (Action::KillProcess, ENOSYS),
        (Action::Trap, ENOSYS),
        (Action::Allow, ALLOW),
        (Action::Log, 0x7ffc_0000),
        (Action::Trace(3), 0x7ff0_0003),
        (Action::Notify, 0x7fc0_0000),
    ] {
        let profile = Seccomp { listener_path: Some("/run/agent.sock".into()), ..profile(default, &rules) };
        assert_eq!(verdict(&profile, Arch::X86_64, 258, [0; 6]), newer, "{default:?}");
        assert_eq!(verdict(&profile, Arch::X86_64, 256, [0; 6]), rules::verdict(default), "{default:?}, a known call");
        assert_eq!(verdict(&profile, Arch::X86, 296, [0; 6]), newer, "{default:?}");
        assert_eq!(verdict(&profile, Arch::X32, 258 | table::X32_BIT, [0; 6]), newer, "{default:?}");
    }
}

#[test]
fn newest_counts_names_of_any_action_on_listed_architectures() {
    let mut profile =
        profile(Action::Errno(1), &[rule(&["read"], Action::Allow, &[]), rule(&["openat"], Action::Errno(1), &[])]);
    assert_eq!(verdict(&profile, Arch::X86_64, 257, [0; 6]), EPERM);
    assert_eq!(verdict(&profile, Arch::X86_64, 258, [0; 6]), ENOSYS);
    profile.architectures = vec![Arch::X86];
    assert_eq!(verdict(&profile, Arch::X86_64, 258, [0; 6]), EPERM, "native, but not listed");
    profile = self::profile(Action::Errno(1), &[rule(&["read"], Action::Allow, &[])]);
    assert_eq!(verdict(&profile, Arch::X86_64, 1, [0; 6]), EPERM, "number 0 alone is no newest call, as with runc");
}

#[test]
fn other_architectures_are_killed() {
    let mut profile = profile(Action::Allow, &[]);
    assert_eq!(verdict(&profile, Arch::Aarch64, 0, [0; 6]), KILL);
    assert_eq!(verdict(&profile, Arch::X32, table::X32_BIT, [0; 6]), ALLOW);
    profile.architectures.clear();
    assert_eq!(verdict(&profile, Arch::X86, 0, [0; 6]), KILL);
    assert_eq!(verdict(&profile, Arch::X32, table::X32_BIT, [0; 6]), KILL);
    assert_eq!(verdict(&profile, Arch::X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(verdict(&profile, Arch::X86_64, u32::MAX, [0; 6]), ALLOW, "a tracer's way to skip a call");
}

#[test]
fn a_rule_without_conditions_wins_and_the_first_of_them() {
    let one = rule(&["read"], Action::Errno(1), &[arg(0, Operator::Eq, 3)]);
    let (two, three) = (rule(&["read"], Action::Allow, &[]), rule(&["read"], Action::Trap, &[]));
    for rules in [[&one, &two, &three], [&two, &one, &three], [&two, &three, &one]] {
        let profile = profile(Action::KillThread, &rules.map(Clone::clone));
        assert_eq!(verdict(&profile, Arch::X86_64, 0, first(3)), ALLOW);
    }
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let args = [arg(0, Operator::Eq, 1), arg(0, Operator::Eq, 2), arg(1, Operator::Eq, 3)];
    let profile = profile(Action::Errno(1), &[rule(&["close"], Action::Allow, &args)]);
    let allowed = |args| verdict(&profile, Arch::X86_64, 3, args) == ALLOW;
    assert!(allowed([1, 0, 0, 0, 0, 0]) && allowed([2, 0, 0, 0, 0, 0]) && allowed([9, 3, 0, 0, 0, 0]));
    assert!(!allowed([9, 0, 0, 0, 0, 0]) && !allowed([1 << 32 | 1, 0, 0, 0, 0, 0]));
}

#[test]
fn a_multiplexed_call_has_two_doors() {
    let rules = [rule(&["socket"], Action::Allow, &[arg(0, Operator::Eq, 2)]), rule(&["semop"], Action::Allow, &[])];
    let mut profile = profile(Action::Errno(1), &rules);
    profile.rules.push(rule(&["clone3"], Action::Allow, &[]));
    assert_eq!(verdict(&profile, Arch::X86, 359, first(2)), ALLOW);
    assert_eq!(verdict(&profile, Arch::X86, 359, first(16)), EPERM);
    assert_eq!(verdict(&profile, Arch::X86, 102, first(1)), ALLOW);
    assert_eq!(verdict(&profile, Arch::X86, 102, first(2)), EPERM);
    assert_eq!(verdict(&profile, Arch::X86, 117, first(1)), ALLOW);
    assert_eq!(verdict(&profile, Arch::X86_64, 65, first(7)), ALLOW);
}

/// What the kernel needs for its bitmap, and how long the way is for the rest.
#[test]
fn a_plain_verdict_reads_no_argument_and_is_found_soon() {
    let names: Vec<_> = table::all().map(table::Call::name).filter(|name| name.len() % 3 != 0).collect();
    let personality = rule(&["personality"], Action::Allow, &[arg(0, Operator::Eq, 8)]);
    let profile = profile(Action::Errno(1), &[rule(&names, Action::Allow, &[]), personality]);
    for nr in 0..500 {
        let found = ask(&profile, Arch::X86_64, nr, [0; 6]);
        assert!(!found.read_arguments || nr == 135, "{nr}");
        assert!(found.steps <= 16, "{nr} takes {} steps", found.steps);
    }
}

/// Docker's three rules: one look at the high half, and no comparison twice.
#[test]
fn rules_share_their_questions() {
    let socket = |op, value| rule(&["socket"], Action::Allow, &[arg(0, op, value)]);
    let mut profile =
        profile(Action::Errno(1), &[socket(Operator::Lt, 38), socket(Operator::Eq, 39), socket(Operator::Gt, 40)]);
    profile.architectures.clear();
    let filter = decide_for(&profile, Arch::X86_64).unwrap();
    // arch, number: 2 loads, 4 comparisons. socket: 2 loads, 4 comparisons. 3 verdicts.
    assert!(filter.program().unwrap().len() <= 15, "{:#?}", filter.program().unwrap());
    for (value, expected) in
        [(0, ALLOW), (37, ALLOW), (38, EPERM), (39, ALLOW), (40, EPERM), (41, ALLOW), (1 << 32, ALLOW)]
    {
        assert_eq!(verdict(&profile, Arch::X86_64, 41, first(value)), expected, "{value}");
    }
}

/// Verdicts and subtrees out of the reach of 8 bits.
#[test]
fn far_jumps() {
    let rules: Vec<_> = table::all()
        .enumerate()
        .map(|(at, call)| {
            rule(&[call.name()], Action::Errno(at as u16 + 100), &[arg((at % 6) as u8, Operator::Ge, at as u64 + 5)])
        })
        .collect();
    let mut profile = profile(Action::Allow, &rules);
    profile.architectures = vec![Arch::X86_64];
    let program = decide_for(&profile, Arch::X86_64).unwrap().program().unwrap().to_vec();
    assert!(program.len() > 1000);
    let arch = table::audit_arch(Arch::X86_64);
    let verdict = |nr, args| run(&program, &Data { nr, arch, instruction_pointer: 0, args }).unwrap().returned;
    for (at, call) in table::all().enumerate() {
        let Some(nr) = call.number(Arch::X86_64) else { continue };
        let mut args = [0; 6];
        args[at % 6] = at as u64 + 4;
        assert_eq!(verdict(nr, args), ALLOW, "{}", call.name());
        args[at % 6] += 1;
        assert_eq!(verdict(nr, args), 0x0005_0000 + at as u32 + 100, "{}", call.name());
    }
}

/// So many rules about one call.
fn many(count: u64) -> Vec<SeccompRule> {
    (0..count).map(|n| rule(&["read"], Action::Allow, &[arg(0, Operator::Eq, 3 * n)])).collect()
}

#[test]
fn a_profile_of_more_than_the_kernel_takes_is_refused() {
    let fits = profile(Action::Errno(1), &many(1000));
    assert_eq!(verdict(&fits, Arch::X86_64, 0, first(2997)), ALLOW);
    assert_eq!(verdict(&fits, Arch::X86_64, 0, first(2998)), EPERM);
    let faults = decide_for(&profile(Action::Errno(1), &many(5000)), NATIVE).unwrap_err();
    assert_eq!(faults[0].place, "linux.seccomp.syscalls");
    assert!(faults[0].cause.contains("4096"), "{}", faults[0]);
}

const NAMES: [&str; 6] = ["read", "socket", "clone", "personality", "mmap", "openat"];
const VALUES: [u64; 10] = [0, 1, 2, 5, 38, 1 << 31, 0xffff_ffff, 1 << 32, (1 << 32) + 5, u64::MAX];
const OPERATORS: [Operator; 7] =
    [Operator::Ne, Operator::Lt, Operator::Le, Operator::Eq, Operator::Ge, Operator::Gt, Operator::MaskedEq];

fn any_rule() -> impl Strategy<Value = SeccompRule> {
    let arg = (0..3_u8, select(&OPERATORS[..]), select(&VALUES[..]), select(&VALUES[..]))
        .prop_map(|(index, op, value, value_two)| SeccompArg { index, op, value, value_two });
    (select(&NAMES[..]), 1..5_u16, vec(arg, 0..4))
        .prop_map(|(name, errno, args)| rule(&[name], Action::Errno(errno), &args))
}

/// What the rules of a part say, one after the other.
fn plainly(part: Part, lists: &[List], default: u32, args: &[u64; 6]) -> u32 {
    match part {
        Part::Verdict(verdict) => verdict,
        Part::Rules(at) => {
            let List { rules, bits } = &lists[at as usize];
            let matching =
                rules.iter().find(|rule| rule.conditions.iter().all(|condition| condition.holds(args, *bits)));
            matching.map_or(default, |rule| rule.verdict)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// However rules overlap and disagree, the program says what the first that matches says.
    #[test]
    fn programs_say_what_rules_say(rules in vec(any_rule(), 0..25), values in vec(select(&VALUES[..]), 3), delta in 0..3_u64) {
        let profile = profile(Action::KillProcess, &rules);
        let filter = decide_for(&profile, Arch::X86_64).unwrap();
        let value = |at: usize| values[at].wrapping_add(delta).wrapping_sub(1);
        let sections: Vec<_> = Reading::new(&profile, Arch::X86_64).sections().collect();
        for args in [[value(0), value(1), value(2), 0, 0, 0], [value(1), 0, value(0), 0, 0, 0], [0; 6], [u64::MAX; 6]] {
            for section in &sections {
                for &(nr, part) in &section.parts {
                    let data = Data { nr, arch: section.arch, instruction_pointer: 0, args };
                    let expected = plainly(part, &section.lists, 0x8000_0000, &args);
                    prop_assert_eq!(run(filter.program().unwrap(), &data).unwrap().returned, expected, "{:?}", data);
                }
            }
        }
    }

    /// The kernel refuses a jump beyond the end, and so does the simulator; here every instruction is looked at.
    #[test]
    fn programs_are_well_formed(rules in vec(any_rule(), 0..40)) {
        let program = decide_for(&profile(Action::Errno(1), &rules), Arch::X86_64).unwrap().program().unwrap().to_vec();
        for (at, instruction) in program.iter().enumerate() {
            let skip = match instruction.code {
                bpf::code::RETURN => continue,
                bpf::code::JUMP => instruction.k as usize,
                _ => instruction.jt.max(instruction.jf) as usize,
            };
            prop_assert!(at + 1 + skip < program.len());
        }
        prop_assert_eq!(program.last().unwrap().code, bpf::code::RETURN);
    }
}

#[test]
fn what_surely_fits_is_worked_out_later_and_means_the_same() {
    let grants = |names: &[&str]| Rc::new(profile(Action::Errno(1), &[rule(names, Action::Allow, &[])]));
    for (profile, refused) in [
        (grants(&["execve", "read"]), false),
        (grants(&["read"]), true),
        (Rc::new(profile(Action::Allow, &[rule(&["execve"], Action::Errno(1), &[])])), true),
    ] {
        let (later, now) = (decide(&profile).unwrap(), decide_for(&profile, NATIVE).unwrap());
        assert!(later.is_due() && !now.is_due());
        assert_eq!(refuses_execve(&later).is_some(), refused);
        assert!(later.is_due(), "one call is looked at without the whole");
        assert_eq!(refuses_execve(&now).is_some(), refused);
        // A copy knows what the first has worked out.
        let copy = later.clone();
        assert_eq!(later.program(), now.program());
        assert!(!copy.is_due());
    }
    let notifies = Seccomp {
        listener_path: Some("/a".into()),
        ..profile(Action::Allow, &[rule(&["mkdir"], Action::Notify, &[])])
    };
    assert!(!decide(&Rc::new(notifies)).unwrap().is_due());
    assert!(!decide(&Rc::new(profile(Action::Errno(1), &many(500)))).unwrap().is_due());
    assert_eq!(decide(&Rc::new(profile(Action::Errno(1), &many(5000)))).unwrap_err().len(), 1);
}
