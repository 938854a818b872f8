//! `--filter KEY=VALUE`: which rows of a list are shown.
//!
//! By hand: `docker ps -a --filter status=exited --filter label=tier=web`. Several values of one key are alternatives, but labels must all be there; different
//! keys must all hold.
//!
//! What goes wrong: a key that is read and ignored shows too much, and `rm $(corten ps -q --filter …)` removes it. So unknown keys, and values that
//! cannot be of their key, are errors.

use super::{quote, wrong};
use crate::error;
use crate::error::Result;
use std::collections::BTreeMap;

/// What a value has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Any,
    Number,
    Bool,
    State,
}

/// The keys of one verb.
#[derive(Clone, Copy, Debug)]
pub struct Keys(&'static [(&'static str, Value)]);

/// The keys of `ps`.
pub const PS: Keys = Keys(&[
    ("ancestor", Value::Any),
    ("before", Value::Any),
    ("exited", Value::Number),
    ("id", Value::Any),
    ("label", Value::Any),
    ("name", Value::Any),
    ("network", Value::Any),
    ("since", Value::Any),
    ("status", Value::State),
]);

/// The keys of `images`.
pub const IMAGES: Keys = Keys(&[
    ("before", Value::Any),
    ("dangling", Value::Bool),
    ("label", Value::Any),
    ("reference", Value::Any),
    ("since", Value::Any),
    ("until", Value::Any),
]);

/// The keys of `prune`.
pub const PRUNE: Keys = Keys(&[("label", Value::Any), ("until", Value::Any)]);

/// The words of Docker for what a container does.
const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];

/// The filters of one command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<&'static str, Vec<String>>);

impl Filters {
    /// Reads them; `keys` are those of the verb.
    pub fn parse(texts: &[String], keys: Keys) -> Result<Filters> {
        let mut filters = Filters::default();
        for text in texts {
            let (key, value) = text.split_once('=').ok_or_else(|| wrong("--filter", text, "the form is KEY=VALUE"))?;
            let Some((key, kind)) = keys.0.iter().find(|(known, _)| *known == key.trim()) else {
                let known: Vec<&str> = keys.0.iter().map(|(known, _)| *known).collect();
                return Err(wrong("--filter", text, format!("{} is not one of {}", quote(key), known.join(", "))));
            };
            let value = value.trim();
            let good = match kind {
                Value::Any => !value.is_empty(),
                Value::Number => value.parse::<u8>().is_ok(),
                Value::Bool => boolean(value).is_some(),
                Value::State => STATES.contains(&value),
            };
            if !good {
                return Err(match kind {
                    Value::Any => wrong("--filter", text, "has no value"),
                    Value::Number => wrong("--filter", text, "the value is not an exit code from 0 to 255"),
                    Value::Bool => wrong("--filter", text, "the value is true or false"),
                    Value::State => wrong("--filter", text, format!("the value is not one of {}", STATES.join(", "))),
                });
            }
            filters.0.entry(key).or_default().push(value.to_owned());
        }
        Ok(filters)
    }

    /// The values of a key.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Does one of the key's values pass the test, or is there none?
    pub fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        self.values(key).is_empty() || self.values(key).iter().any(|value| test(value))
    }

    /// The value of a key that is true or false, if it is given.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.values(key).last().and_then(|value| boolean(value))
    }

    /// Are all the labels there? `KEY` or `KEY=VALUE`.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label").iter().all(|asked| match asked.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(asked),
        })
    }

    /// Is this container shown? `before` and `since` are the caller's to judge, who knows when the others were created.
    pub fn container(&self, row: &Row) -> bool {
        self.any("id", |id| row.id.starts_with(id))
            && self.any("name", |name| named(name, row.name))
            && self.any("status", |status| status == row.status)
            && self.any("exited", |code| row.exited.is_some_and(|exited| code.parse() == Ok(exited)))
            && self.any("ancestor", |image| row.images.contains(&image))
            && self.any("network", |network| network == row.network)
            && self.labels(row.labels)
    }
}

/// What a filter may ask of a container.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its whole id.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Docker's word: `created`, `running`, `paused`, `exited`.
    pub status: &'a str,
    /// Its exit code, where it has ended.
    pub exited: Option<u8>,
    /// The image by every name that it may be called: as typed, in full, its id and the short form of that.
    pub images: &'a [&'a str],
    /// `host`, `none`, `container:NAME`.
    pub network: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A part of the name; `^` and `$` hold it to the beginning and the end. Docker takes any regular expression, but this is what is written.
fn named(asked: &str, name: &str) -> bool {
    let (begins, rest) = asked.strip_prefix('^').map_or((false, asked), |rest| (true, rest));
    let (ends, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match (begins, ends) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// Does a pattern with `*`, `?` and `[a-z]` match the whole text? As in Go's `path.Match`, `*` and `?` stop at a slash: `reference=debian*`.
pub fn glob(pattern: &str, text: &str) -> bool {
    fn matches(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                let most = text.iter().position(|c| *c == '/').unwrap_or(text.len());
                (0..=most).any(|taken| matches(&pattern[1..], &text[taken..]))
            }
            (Some('?'), Some(c)) => *c != '/' && matches(&pattern[1..], &text[1..]),
            (Some('['), Some(c)) => match pattern.iter().position(|p| *p == ']') {
                Some(end) if end > 1 => one_of(&pattern[1..end], *c) && matches(&pattern[end + 1..], &text[1..]),
                _ => false,
            },
            (Some('\\'), Some(c)) => pattern.get(1) == Some(c) && matches(&pattern[2..], &text[1..]),
            (Some(p), Some(c)) => p == c && matches(&pattern[1..], &text[1..]),
            _ => false,
        }
    }
    fn one_of(set: &[char], c: char) -> bool {
        let (inverted, set) = if set[0] == '^' { (true, &set[1..]) } else { (false, set) };
        let mut at = 0;
        let mut found = false;
        while at < set.len() {
            if set.get(at + 1) == Some(&'-') && at + 2 < set.len() {
                found |= (set[at]..=set[at + 2]).contains(&c);
                at += 3;
            } else {
                found |= set[at] == c;
                at += 1;
            }
        }
        found != inverted
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Each further star multiplies the work.
    pattern.iter().filter(|c| **c == '*').count() <= 8 && matches(&pattern, &text)
}

/// `until=`: a length as `24h`, `90m`, `1h30m`, in seconds before now.
pub fn until(text: &str) -> Result<u64> {
    let wrong = || error!("until {}: not a length of time as 24h or 1h30m", quote(text));
    let mut seconds: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let unit = match rest[end..].chars().next() {
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(wrong()),
        };
        seconds = number.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
        rest = &rest[end + 1..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Filters> {
        Filters::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), PS)
    }

    #[test]
    fn containers() {
        let labels = [("tier".to_owned(), "web".to_owned())].into();
        let row = Row {
            id: "abcdef",
            name: "quiet_fox",
            status: "exited",
            exited: Some(3),
            images: &["debian", "docker.io/library/debian:latest"],
            network: "host",
            labels: &labels,
        };
        for (filters, shown) in [
            (&[][..], true),
            (&["status=exited"], true),
            (&["status=running", "status=exited"], true),
            (&["status=running"], false),
            (&["exited=3"], true),
            (&["exited=0"], false),
            (&["id=abc"], true),
            (&["id=bc"], false),
            (&["name=fox"], true),
            (&["name=^fox"], false),
            (&["name=^/quiet_fox$"], true),
            (&["label=tier"], true),
            (&["label=tier=web"], true),
            (&["label=tier=web", "label=other"], false),
            (&["ancestor=debian"], true),
            (&["ancestor=alpine"], false),
            (&["network=none"], false),
            (&["name=fox", "status=running"], false),
        ] {
            assert_eq!(parse(filters).unwrap().container(&row), shown, "{filters:?}");
        }
    }

    #[test]
    fn what_cannot_be_asked() {
        for (text, why) in [
            ("status", "the form is KEY=VALUE"),
            ("colour=red", "colour is not one of ancestor, before"),
            ("status=up", "not one of created"),
            ("exited=x", "exit code"),
            ("name=", "has no value"),
        ] {
            let error = parse(&[text]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let images = Filters::parse(&["dangling=true".to_owned()], IMAGES).unwrap();
        assert_eq!((images.flag("dangling"), images.flag("x")), (Some(true), None));
        assert!(Filters::parse(&["dangling=x".to_owned()], IMAGES).is_err());
    }

    #[test]
    fn patterns_and_lengths() {
        for (pattern, text, yes) in [
            ("debian*", "debian", true),
            ("debian*", "debian:12", true),
            ("*/debian", "library/debian", true),
            ("*", "library/debian", false),
            ("d?b[a-h]an", "debian", false),
            ("d?b[a-i]?n", "debian", true),
            ("[^d]ebian", "debian", false),
            ("deb", "debian", false),
            ("[", "[", false),
        ] {
            assert_eq!(glob(pattern, text), yes, "{pattern} {text}");
        }
        assert_eq!((until("24h"), until("1h30m"), until("5s")), (Ok(86_400), Ok(5400), Ok(5)));
        for text in ["", "24", "h", "1d", "-1h", "99999999999999999999h"] {
            assert!(until(text).is_err(), "{text}");
        }
    }
}
