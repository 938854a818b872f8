//! What the program gets of the caller's environment and descriptors: `environ(7)`, `sd_listen_fds(3)`, `sd_notify(3)`.

use crate::sys::exec::Environment;
use std::rc::Rc;

/// Descriptors and variables that come from the caller, not from the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// How many descriptors from 3 on stay open.
    pub descriptors: u32,
    /// `KEY=value`, stronger than the configuration's.
    pub env: Vec<String>,
}

/// Where the directory with the notification socket is bound in the container, as with runc.
pub const NOTIFY_DIRECTORY: &str = "/run/notify";
/// The name of the socket in [`NOTIFY_DIRECTORY`].
pub const NOTIFY_SOCKET: &str = "notify.sock";

/// The variable that tells the program about [`NOTIFY_SOCKET`].
pub fn notify_variable() -> String {
    format!("NOTIFY_SOCKET={NOTIFY_DIRECTORY}/{NOTIFY_SOCKET}")
}

/// What is passed on: sockets of `LISTEN_FDS`, if `LISTEN_PID` says they are meant for `pid` (ours), and then `preserve`
/// descriptors more (`--preserve-fds`). The program is pid 1 of its container, and is told so.
pub fn inherited(variable: impl Fn(&str) -> Option<String>, pid: impl Fn() -> u32, preserve: u32) -> Inherited {
    let number = |key: &str| variable(key).and_then(|text| text.parse::<u32>().ok());
    let sockets = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(pid())).unwrap_or(0);
    let env = if sockets == 0 { vec![] } else { vec![format!("LISTEN_FDS={sockets}"), "LISTEN_PID=1".into()] };
    Inherited { descriptors: sockets.saturating_add(preserve), env }
}

/// The environment: each name once, at the place of its last entry, which wins.
pub fn environment(configured: &Rc<Environment>, inherited: &[String]) -> Rc<Environment> {
    if inherited.is_empty() && all_differ(configured) {
        return Rc::clone(configured);
    }
    let all: Vec<&str> = configured.iter().chain(inherited.iter().map(String::as_str)).collect();
    let name = |at: usize| name(all[at].as_bytes());
    let mut sorted: Vec<usize> = (0..all.len()).collect();
    sorted.sort_unstable_by_key(|at| (name(*at), *at));
    let mut wins = vec![true; all.len()];
    for pair in sorted.windows(2) {
        wins[pair[0]] = name(pair[0]) != name(pair[1]);
    }
    Rc::new(all.into_iter().zip(wins).filter(|(_, wins)| *wins).map(|(entry, _)| entry).collect())
}

/// Does each name come once? Nearly always, so this is asked before anything is sorted, which takes ten times as long. A `false` may be wrong: a table is
/// slow where names fall on one place of it, which whoever chooses them can bring about, so there is an end to the tries.
fn all_differ(entries: &Environment) -> bool {
    // 0 is a free place, and else the number of an entry, from 1.
    let mut table = vec![0_u32; (2 * entries.len()).next_power_of_two()];
    let last = table.len() - 1;
    let mut tries = 8 * entries.len();
    for at in 0..entries.len() {
        let this = name(entries.bytes(at));
        let mut place = hash(this);
        while table[place & last] != 0 {
            let other = name(entries.bytes(table[place & last] as usize - 1));
            if tries == 0 || other == this {
                return false;
            }
            tries -= 1;
            place = place.wrapping_add(1);
        }
        table[place & last] = at as u32 + 1;
    }
    true
}

/// Plainly, byte by byte: names are short.
fn name(entry: &[u8]) -> &[u8] {
    entry.iter().position(|byte| *byte == b'=').map_or(entry, |at| &entry[..at])
}

/// A number for a name, from eight bytes at a time (the factor is PCG's), the upper half folded in.
fn hash(name: &[u8]) -> usize {
    let (words, rest) = name.as_chunks::<8>();
    let rest = rest.iter().fold(name.len() as u64, |word, byte| word << 8 | u64::from(*byte));
    let words = words.iter().map(|word| u64::from_le_bytes(*word)).chain([rest]);
    let number =
        words.fold(0, |number: u64, word| (number.rotate_left(23) ^ word).wrapping_mul(6_364_136_223_846_793_005));
    (number ^ number >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    /// What comes out, as a list.
    fn given(configured: &[&str], inherited: &[&str]) -> Vec<String> {
        let configured = Rc::new(configured.iter().copied().collect());
        environment(&configured, &strings(inherited)).iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_newlines_stay() {
        assert_eq!(given(&["A=1", "B=x\ny=", "A=2", "PATH="], &["B=3"]), ["A=2", "PATH=", "B=3"]);
        assert_eq!(given(&["B=x\ny="], &[]), ["B=x\ny="]);
        assert_eq!(given(&[], &["A=1"]), ["A=1"]);
    }

    #[test]
    fn what_has_each_name_once_is_shared_and_not_copied() {
        let env: Rc<Environment> = Rc::new(["A=1", "AB=1", "B="].into_iter().collect());
        assert!(Rc::ptr_eq(&environment(&env, &[]), &env));
    }

    #[test]
    fn names_that_fall_on_one_place_are_still_two() {
        // Four entries have eight places.
        let (one, two) =
            ("A", (0..).map(|n| n.to_string()).find(|n| hash(n.as_bytes()) % 8 == hash(b"A") % 8).unwrap());
        let [first, second, third] = [format!("{one}=1"), format!("{two}=2"), format!("{one}=3")];
        assert_eq!(given(&[&first, &second, "B="], &[]), [&first, &second, "B="]);
        assert_eq!(given(&[&first, &second, &third, "B="], &[]), [&second, &third, "B="]);
    }

    #[test]
    fn names_that_fall_on_one_place_are_given_up_on() {
        // Of names without end a 64th falls on each of 64 places: eight times as many tries as names are not enough for these.
        let names = (0_u32..).map(|n| n.to_string()).filter(|name| hash(name.as_bytes()) % 64 == 7).take(32);
        let entries: Vec<String> = names.map(|name| format!("{name}=x")).collect();
        let env: Environment = entries.iter().map(String::as_str).collect();
        assert!(!all_differ(&env));
        assert_eq!(given(&entries.iter().map(String::as_str).collect::<Vec<_>>(), &[]), entries);
    }

    proptest::proptest! {
        #[test]
        fn each_key_comes_once_where_its_last_entry_stands(configured in proptest::collection::vec("[ab]{0,2}(=[ab]?)?", 0..30)) {
            let all: Vec<&str> = configured.iter().map(String::as_str).collect();
            let last = |at: usize| !all[at + 1..].iter().any(|later| name(later.as_bytes()) == name(all[at].as_bytes()));
            let expected: Vec<&str> = (0..all.len()).filter(|at| last(*at)).map(|at| all[at]).collect();
            proptest::prop_assert_eq!(given(&all, &[]), expected);
        }
    }

    #[test]
    fn listening_sockets_are_passed_only_to_whom_they_are_meant_for() {
        let caller = |key: &str| match key {
            "LISTEN_FDS" => Some("2".to_owned()),
            "LISTEN_PID" => Some("77".to_owned()),
            _ => None,
        };
        let all = inherited(caller, || 77, 1);
        assert_eq!(all, Inherited { descriptors: 3, env: strings(&["LISTEN_FDS=2", "LISTEN_PID=1"]) });
        assert_eq!(inherited(caller, || 78, 1), Inherited { descriptors: 1, env: vec![] });
        assert_eq!(inherited(|_| None, || 1, u32::MAX).descriptors, u32::MAX);
        assert_eq!(notify_variable(), "NOTIFY_SOCKET=/run/notify/notify.sock");
    }
}
