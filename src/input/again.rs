//! Reading a config.json again: the one that the state keeps was judged when the container was made.
//!
//! **What is left out.** The walk, which looks for what the types would misread ([`Wording`] says that there was nothing), and the rules of the
//! system-call filter, four fifths of the text with Docker's profile: `exec` has the filter compiled, and nobody else asks. By hand:
//! `jq -c 'del(.linux.seccomp.syscalls)' /run/corten/ID/config.json | wc -c`.
//!
//! *Rejected:* a second, shorter file beside the first: four system calls more in every `run`, for the sake of those that are followed by an `exec`.

use super::bundle::typed;
use super::config::Config;
use super::convert;
use super::place::Report;
use super::spec::Spec;
use std::ops::Range;

/// Do the types read a config.json as it was meant?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wording {
    /// Every key has its exact name, nothing is `null`: they do.
    Exact,
    /// It has to be rewritten first.
    Loose,
}

/// The configuration in a text of this exact wording, without the rules of its filter. `None`: read it as if for the first time.
pub fn read(text: &[u8]) -> Option<Config> {
    let text = std::str::from_utf8(text).ok()?;
    let shorter = rules(text.as_bytes()).map(|rules| [&text[..rules.start], &text[rules.end..]].concat());
    let spec: Spec = typed(shorter.as_deref().unwrap_or(text)).ok()?;
    let mut report = Report::default();
    let config = convert::config(spec, &mut report);
    report.faults.is_empty().then_some(config)
}

/// The way to the rules.
const KEYS: [&[u8]; 3] = [b"linux", b"seccomp", b"syscalls"];

/// What stands between the brackets of `linux.seccomp.syscalls`.
///
/// It counts brackets and steps over strings, so it is right for JSON alone. The key that is looked for is one of the objects that have been entered by
/// the keys before it: of `linux` at a depth of 1, of `seccomp` at 2.
fn rules(text: &[u8]) -> Option<Range<usize>> {
    let (mut at, mut depth, mut found) = (0, 0, 0);
    let mut begin = None;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'"' => {
                let end = end_of_string(text, at)?;
                let is_key = begin.is_none() && depth == found + 1 && KEYS.get(found) == Some(&&text[at..end]);
                at = end + 1;
                if is_key && let Some(value) = value_of_key(text, at) {
                    at = value;
                    match text.get(at) {
                        Some(b'{') if found < KEYS.len() - 1 => found += 1,
                        Some(b'[') if found == KEYS.len() - 1 => begin = Some(at + 1),
                        _ => return None,
                    }
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                match begin {
                    Some(begin) if depth == KEYS.len() => return Some(begin..at - 1),
                    // Out of an object on the way: what is looked for is not in it.
                    None if depth < found + 1 && found > 0 => return None,
                    _ => {}
                }
            }
            _ => {}
        }
    }
    None
}

/// Where the string ends that begins at `at`: the place of its second quote.
fn end_of_string(text: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Where the value begins, if the string that has ended before `at` was a key.
fn value_of_key(text: &[u8], at: usize) -> Option<usize> {
    let blank = |at: usize| text[at..].iter().position(|byte| !byte.is_ascii_whitespace()).map(|blanks| at + blanks);
    let colon = blank(at).filter(|at| text[*at] == b':')?;
    blank(colon + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::bundle::parse;
    use crate::input::template::{spec, to_json};
    use serde_json::{Value, json};

    /// What the template has, a filter, and what might be taken for one.
    fn document() -> Value {
        let mut document: Value = serde_json::from_str(&to_json(&spec())).unwrap();
        document["annotations"] = json!({"syscalls": "[", "linux": "{\"seccomp\":{\"syscalls\":[", "a\\\"b": "]"});
        document["linux"]["sysctl"] = json!({"net.seccomp": "syscalls"});
        document["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {"names": ["syscalls", "mount"], "action": "SCMP_ACT_ERRNO"},
                {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
            ],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"]
        });
        document
    }

    #[test]
    fn all_but_the_rules_is_as_it_was() {
        for text in [document().to_string(), format!("{:#}", document())] {
            let (mut config, _) = parse(text.as_bytes()).unwrap();
            let again = read(text.as_bytes()).unwrap();
            assert_ne!(again, config);
            std::rc::Rc::get_mut(config.linux.seccomp.as_mut().unwrap()).unwrap().rules.clear();
            assert_eq!(again, config);
        }
    }

    #[test]
    fn without_rules_nothing_is_left_out() {
        let mut document = document();
        document["linux"]["seccomp"]["syscalls"] = json!([]);
        let none = document.to_string();
        document["linux"].as_object_mut().unwrap().remove("seccomp");
        for text in [none, document.to_string()] {
            assert_eq!(read(text.as_bytes()), Some(parse(text.as_bytes()).unwrap().0), "{text}");
        }
    }

    #[test]
    fn the_rules_are_found_where_they_are_and_nowhere_else() {
        let found = |text: &str| rules(text.as_bytes()).map(|range| text[range].to_owned());
        for (text, inner) in [
            (r#"{"linux":{"seccomp":{"syscalls":[1,[2],{"a":"]"}]}}}"#, Some(r#"1,[2],{"a":"]"}"#)),
            ("{ \"linux\" : {\n\"seccomp\" :\t{ \"x\":[{}], \"syscalls\" : [ ] } } }", Some(" ")),
            (r#"{"a":{"linux":{"seccomp":{"syscalls":[1]}}}}"#, None),
            (r#"{"linux":{"a":{"seccomp":{"syscalls":[1]}}}}"#, None),
            (r#"{"linux":{"seccomp":{}},"syscalls":[1]}"#, None),
            (r#"{"linux":{"seccomp":{"syscalls":"[1]"}}}"#, None),
            (r#"{"a":"linux","linux":{"seccomp":{"syscalls":["\"]"]}}}"#, Some(r#""\"]""#)),
            (r#"{"linux":{"seccomp":{"syscalls":[1"#, None),
            (r#"["linux",{"seccomp":{"syscalls":[1]}}]"#, None),
            ("", None),
        ] {
            assert_eq!(found(text).as_deref(), inner, "{text}");
        }
    }
}
