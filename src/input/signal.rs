//! Signals as they are typed: `kill -l` lists them, and so does signal(7).

use crate::error::{Error, Result};
use crate::sys::process::RTMIN;
use nix::sys::signal::Signal;
use std::str::FromStr;

/// `KILL`, `SIGKILL`, `9`, `RTMIN+3`.
pub fn parse(word: &str) -> Result<i32> {
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
    use super::parse;

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
            assert_eq!(parse(word), Ok(number), "{word}");
        }
        for word in ["", "65", "-1", "NOPE", "RTMIN+31", "RTMIN-1", "SIGSIGKILL"] {
            assert!(parse(word).is_err(), "{word}");
        }
    }
}
