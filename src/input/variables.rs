//! Variables as Docker's options and files give them: `-e KEY=VALUE`, `-e KEY`, `--env-file FILE`.
//!
//! By hand: `printf 'A=1\n# no more\nHOME\n' >vars; docker run --rm --env-file vars busybox env`. What is set later replaces what was there, in its place.
//!
//! What goes wrong: a name alone is the caller's variable. Where the caller has none, `-e` takes it away, and a file says nothing.

use super::names::{self, Words};
use super::place::quote;
use crate::error;
use crate::error::{Error, Result};
use crate::sys::exec::Environment;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::rc::Rc;

impl Words for Environment {
    fn push(&mut self, word: &str) {
        Environment::push(self, word);
    }

    fn push_plain(&mut self, word: &str) {
        Environment::push_plain(self, word);
    }
}

impl<'de> Deserialize<'de> for Environment {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Environment, D::Error> {
        names::read(json)
    }
}

impl Serialize for Environment {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_seq(self.iter())
    }
}

/// Changes an environment as a list of its entries.
pub fn edit(env: &mut Rc<Environment>, change: impl FnOnce(&mut Vec<String>) -> Result<()>) -> Result<()> {
    let mut entries = env.iter().map(str::to_owned).collect();
    change(&mut entries)?;
    *env = Rc::new(entries.iter().map(String::as_str).collect());
    Ok(())
}

/// Sets one variable, `KEY=VALUE`; or `KEY`, which takes the caller's value, and removes the variable where the caller has none.
pub fn apply_variable(entry: &str, caller: &BTreeMap<String, String>, env: &mut Vec<String>) -> Result<()> {
    let (name, value) = match entry.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (entry, caller.get(entry).map(String::as_str)),
    };
    if name.is_empty() {
        return Err(Error::new(format!("-e {}: has no name before the `=`", quote(entry))));
    }
    let is_it = |old: &String| old.split_once('=').is_some_and(|(key, _)| key == name);
    // The last of two equal ones would win; leaving the first would show a stale value in /proc/PID/environ.
    let at = env.iter().position(is_it).unwrap_or(env.len());
    env.retain(|old| !is_it(old));
    if let Some(value) = value {
        env.insert(at, format!("{name}={value}"));
    }
    Ok(())
}

/// Sets what a file says.
pub fn apply_file(text: &[u8], caller: &BTreeMap<String, String>, env: &mut Vec<String>) -> Result<()> {
    for (number, line) in lines(text)? {
        if line.contains('=') || caller.contains_key(line) {
            apply_variable(line, caller, env).map_err(|e| e.at(format!("line {number}")))?;
        }
    }
    Ok(())
}

/// The lines of a file of variables and their numbers from 1: spaces in front fall away, lines with a `#` in front are comments. Quotes
/// mean nothing.
fn lines(text: &[u8]) -> Result<Vec<(usize, &str)>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|_| error!("is not UTF-8"))?;
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(error!("line {number}: has no name before the `=`"));
        }
        if name.contains(char::is_whitespace) {
            return Err(error!("line {number}: the name {} holds a space", quote(name)));
        }
        if line.contains('\0') {
            return Err(error!("line {number}: holds a NUL byte"));
        }
        found.push((number, line));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_variables() {
        let found = lines(b"\xef\xbb\xbfA=1\n  B=2 \nC\n\n# c\r\nE=\"q\"\n").unwrap();
        assert_eq!(found, [(1, "A=1"), (2, "B=2 "), (3, "C"), (6, "E=\"q\"")]);
        for (text, why) in [("=1", "line 1: has no name"), ("A=1\nD D=1", "line 2: the name \"D D\""), ("A=\0", "NUL")]
        {
            let error = lines(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(lines(b"A=\xff").is_err());
    }
}
