//! What the words may name, and what they gave.
//!
//! clap keeps a parser of all options, and looks at each. A verb has up to sixty and is given two, so its parser is made of those alone that some word may be
//! ([`Asked`]); what that understands, it understands as the parser of all does, and where it understands nothing that one is asked. By hand:
//! `valgrind --tool=callgrind corten state x`.

use clap::ArgMatches;
use clap::parser::{MatchesError, ValuesRef};
use std::any::Any;
use std::ffi::OsString;

/// Which options a parser needs: those that one of these words may be, or all.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a>(pub(super) Option<&'a [OsString]>);

impl Asked<'_> {
    /// Every option there is.
    pub const ALL: Asked<'static> = Asked(None);

    /// Could a word be an option of one of these names, or have its letter among others? A value may look so too: one option too many does no harm.
    pub fn may_be(self, names: &[&str], letters: &[char]) -> bool {
        let Some(words) = self.0 else { return true };
        words.iter().map(|word| word.as_encoded_bytes()).any(|word| match word.strip_prefix(b"--") {
            Some(rest) => names.iter().any(|name| rest.starts_with(name.as_bytes())),
            None => word.first() == Some(&b'-') && letters.iter().any(|letter| word.contains(&(*letter as u8))),
        })
    }
}

/// What was given to a verb. An option that its parser was made without was not given.
#[derive(Clone, Debug, Default)]
pub struct Args(ArgMatches);

impl From<ArgMatches> for Args {
    fn from(matches: ArgMatches) -> Args {
        Args(matches)
    }
}

impl Args {
    /// Was it given? Of an option that takes no value.
    pub fn get_flag(&self, name: &str) -> bool {
        self.get_one(name).copied().unwrap_or(false)
    }

    /// Its value, the last one.
    pub fn get_one<T: Any + Clone + Send + Sync>(&self, name: &str) -> Option<&T> {
        known(name, self.0.try_get_one(name))
    }

    /// All its values.
    pub fn get_many<T: Any + Clone + Send + Sync>(&self, name: &str) -> Option<ValuesRef<'_, T>> {
        known(name, self.0.try_get_many(name))
    }

    /// Was it given, or has it a default?
    pub fn contains_id(&self, name: &str) -> bool {
        self.0.try_contains_id(name).unwrap_or(false)
    }

    /// As clap has them.
    pub fn matches(&self) -> &ArgMatches {
        &self.0
    }
}

/// A wrong type is a mistake of ours, an unknown name is none.
fn known<T>(name: &str, found: Result<Option<T>, MatchesError>) -> Option<T> {
    match found {
        Ok(found) => found,
        Err(MatchesError::UnknownArgument { .. }) => None,
        Err(wrong) => panic!("--{name}: {wrong}"),
    }
}
