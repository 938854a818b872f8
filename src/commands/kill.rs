//! `kill`: a signal to the first process, or to all.

use super::{container, kept_config};
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::input::config::NamespaceKind;
use crate::state::status::{self, Status};
use crate::sys::process::{RTMIN, pidfd_send_signal};
use nix::sys::signal::Signal;
use std::str::FromStr;

/// The verb.
#[inline(never)]
pub fn kill(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    let signal = parse_signal(invocation.args.get_one::<String>("signal").map(String::as_str).unwrap_or("SIGTERM"))?;
    let found = status::of(&entry, &state);
    // In a pid namespace of its own the death of init is everybody's; elsewhere the others stay behind.
    let all = invocation.args.get_flag("all")
        || signal == libc::SIGKILL && {
            let namespaces = kept_config(&entry)?.linux.namespaces;
            !namespaces.iter().any(|n| n.kind == NamespaceKind::Pid && n.path.is_none())
        };
    if all {
        if found == Status::Stopped
            && !invocation.args.get_flag("all")
            && state.cgroup.pids().is_ok_and(|pids| pids.is_empty())
        {
            return Err(not_running());
        }
        state.cgroup.kill_all(signal)?;
        return Ok(0);
    }
    if found == Status::Stopped {
        return Err(not_running());
    }
    let Some(pidfd) = state.init.as_ref().and_then(|init| init.open()) else { return Err(not_running()) };
    pidfd_send_signal(&pidfd, signal).map_err(|errno| {
        if errno == nix::errno::Errno::ESRCH {
            not_running()
        } else {
            Error::new(format!("pidfd_send_signal({signal}): {}", crate::sys::plain(errno)))
        }
    })?;
    if found == Status::Paused && signal == libc::SIGKILL {
        state.cgroup.thaw()?;
    }
    Ok(0)
}

fn not_running() -> Error {
    Error::new("container not running")
}

/// `KILL`, `SIGKILL`, `9`, `RTMIN+3`.
pub fn parse_signal(word: &str) -> Result<i32> {
    let unknown = || Error::new(format!("unknown signal {word:?}"));
    if let Ok(number) = word.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| {
        if rest.is_empty() { Some(0) } else { rest[1..].parse::<i32>().ok().filter(|n| (0..=30).contains(n)) }
    };
    if let Some(rest) = name.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+')) {
        return offset(rest).map(|n| RTMIN + n).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        return offset(rest).map(|n| 64 - n).ok_or_else(unknown);
    }
    Signal::from_str(&format!("SIG{name}")).map(|signal| signal as i32).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals_have_names_and_numbers() {
        for (word, number) in [
            ("KILL", 9),
            ("SIGKILL", 9),
            ("9", 9),
            ("sigterm", 15),
            ("0", 0),
            ("SIGRTMIN+3", 37),
            ("RTMAX", 64),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse_signal(word), Ok(number), "{word}");
        }
        for word in ["", "65", "-1", "NOPE", "RTMIN+31", "RTMIN-1", "SIGSIGKILL"] {
            assert!(parse_signal(word).is_err(), "{word}");
        }
    }
}
