//! The container's id: the one word by which every verb finds a container.
//!
//! It becomes a directory below `--root` and a part of the cgroup's path, so it must be able to be nothing but a name. Try by hand what it
//! must not be able to do: `mkdir -p /run/corten/../../etc/x`.
//!
//! We take runc's alphabet (`^[\w+.-]+$` in ASCII, neither `.` nor `..`) and are stricter in two points: a leading dash is refused, because a
//! shell's `--flag` with a typing error would become a container; and the length ends at 255 bytes, where a directory's name ends
//! (`NAME_MAX`): a longer one passes runc's check and dies later in mkdir(2).

use crate::error::{Error, Result};
use std::fmt;

/// The longest id in bytes: `NAME_MAX` of Linux, because the id names a directory.
pub const MAX_LENGTH: usize = 255;

/// An id that was checked: safe as the name of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    /// Checks an id as it was typed.
    pub fn parse(text: &str) -> Result<Id> {
        let strange = |c: &char| !(c.is_ascii_alphanumeric() || "_+.-".contains(*c));
        let cause = if text.is_empty() {
            "the id is empty".to_owned()
        } else if text.len() > MAX_LENGTH {
            format!("the id has {} bytes, the longest name of a directory has {MAX_LENGTH}", text.len())
        } else if let Some(c) = text.chars().find(strange) {
            format!("invalid id {text:?}: {c:?} is not one of A-Z a-z 0-9 _ + . -")
        } else if text == "." || text == ".." {
            format!("invalid id {text:?}: it would name a directory that exists already")
        } else if text.starts_with('-') {
            format!("invalid id {text:?}: it begins with a dash, as an option does")
        } else {
            return Ok(Id(text.to_owned()));
        };
        Err(Error::new(cause))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_runc_takes() {
        for good in ["web", "a", "A.b_c+d-9", "..a", "...", "_", "+x", &"a".repeat(255)] {
            assert_eq!(Id::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn refuses_what_could_be_more_than_a_name() {
        let long = "a".repeat(256);
        let kilobyte = "a".repeat(1024);
        for (bad, why) in [
            ("", "empty"),
            (".", "exists already"),
            ("..", "exists already"),
            ("a/b", "'/'"),
            ("/", "'/'"),
            ("../x", "'/'"),
            ("-f", "dash"),
            ("--all", "dash"),
            ("a b", "' '"),
            ("a\0b", "'\\0'"),
            ("a\nb", "'\\n'"),
            ("é", "'é'"),
            ("a:b", "':'"),
            (&long, "256 bytes"),
            (&kilobyte, "1024 bytes"),
        ] {
            let error = Id::parse(bad).expect_err(bad).to_string();
            assert!(error.contains(why), "{bad:?} gave {error:?}");
        }
    }
}
