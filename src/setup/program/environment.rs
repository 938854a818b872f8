//! What the program gets of the caller's environment and descriptors: `environ(7)`, `sd_listen_fds(3)`, `sd_notify(3)`.

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

/// The environment: each key once, at the place of its last entry, which wins.
pub fn environment<'a>(configured: &'a [String], inherited: &'a [String]) -> Vec<&'a String> {
    let all: Vec<&String> = configured.iter().chain(inherited).collect();
    // Sorted, not looked up one by one: there may be ten thousand, and who wrote them may wish to make it long. By number first: texts are
    // compared only where two numbers are the same, which whoever tries can bring about, and which then takes as long as sorting texts.
    let mut keys: Vec<(u64, usize)> = all.iter().map(|entry| number(entry)).zip(0..).collect();
    keys.sort_unstable();
    let mut wins = vec![true; all.len()];
    for alike in keys.chunk_by_mut(|(this, _), (next, _)| this == next).filter(|alike| alike.len() > 1) {
        alike.sort_unstable_by_key(|(_, at)| (key(all[*at]), *at));
        for pair in alike.windows(2) {
            let [(_, this), (_, next)] = [pair[0], pair[1]];
            wins[this] = key(all[this]) != key(all[next]);
        }
    }
    all.into_iter().zip(wins).filter(|(_, wins)| *wins).map(|(entry, _)| entry).collect()
}

fn key(entry: &str) -> &str {
    entry.find('=').map_or(entry, |at| &entry[..at])
}

/// A number for the entry's key: FNV-1a, 64 bits.
fn number(entry: &str) -> u64 {
    let bytes = entry.bytes().take_while(|byte| *byte != b'=');
    bytes.fold(0xcbf2_9ce4_8422_2325, |number, byte| (number ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_newlines_stay() {
        let (configured, inherited) = (strings(&["A=1", "B=x\ny=", "A=2", "PATH="]), strings(&["B=3"]));
        assert_eq!(environment(&configured, &inherited), ["A=2", "PATH=", "B=3"]);
        assert_eq!(environment(&configured[1..2], &[]), ["B=x\ny="]);
    }

    #[test]
    fn keys_whose_numbers_are_alike_are_still_two() {
        // A known pair with the same FNV-1a.
        let (one, two) = ("8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ");
        assert_eq!(number(one), number(two));
        let configured = strings(&[&format!("{one}=1"), &format!("{two}=2"), &format!("{one}=3"), "A="]);
        assert_eq!(environment(&configured, &[]), [&format!("{two}=2"), &format!("{one}=3"), "A="]);
    }

    proptest::proptest! {
        #[test]
        fn each_key_comes_once_where_its_last_entry_stands(configured in proptest::collection::vec("[ab]{0,2}(=[ab]?)?", 0..30)) {
            let last = |at: usize| !configured[at + 1..].iter().any(|later| key(later) == key(&configured[at]));
            let expected: Vec<&String> = (0..configured.len()).filter(|at| last(*at)).map(|at| &configured[at]).collect();
            proptest::prop_assert_eq!(environment(&configured, &[]), expected);
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
