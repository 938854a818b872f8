//! Reading a config.json again: the one that the state keeps was judged when the container was made.
//!
//! **What is left out.** The walk, which looks for what the types would misread ([`Wording`] says that there was nothing), and the rules of the
//! system-call filter, four fifths of the text with Docker's profile: `exec` has the filter compiled, and nobody else asks. `exec`, which is to be quick,
//! needs a few parts only: they are written down beside the filter, in one file, when the container is made ([`to_join`]). By hand:
//! `jq -c '{process, linux: {namespaces: .linux.namespaces}}' /run/corten/ID/config.json | wc -c`.

use super::bundle::typed;
use super::config::Config;
use super::convert;
use super::place::Report;
use super::spec::Spec;

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
    read_parts(without(text, &RULES).as_deref().unwrap_or(text))
}

/// What `exec` needs of a text of this exact wording, for [`read_parts`].
pub fn to_join(text: &[u8]) -> Option<Vec<u8>> {
    without(text, &NOT_TO_JOIN)
}

/// The configuration in what was shortened.
pub fn read_parts(text: &[u8]) -> Option<Config> {
    let spec: Spec = typed(std::str::from_utf8(text).ok()?).ok()?;
    let mut report = Report::default();
    let config = convert::config(spec, &mut report);
    report.faults.is_empty().then_some(config)
}

/// A key that is left out, or what is left out of its value.
enum Gone {
    Value(&'static [u8]),
    Within(&'static [u8], &'static [Gone]),
}

use Gone::{Value, Within};

const RULES: [Gone; 1] = [Within(b"linux", &[Within(b"seccomp", &[Value(b"syscalls")])])];

/// What is large, and made with the container: whoever joins it finds it there.
const NOT_TO_JOIN: [Gone; 5] = [
    Value(b"mounts"),
    Value(b"hooks"),
    Value(b"annotations"),
    Value(b"root"),
    Within(
        b"linux",
        &[
            Within(b"seccomp", &[Value(b"syscalls")]),
            Value(b"resources"),
            Value(b"devices"),
            Value(b"maskedPaths"),
            Value(b"readonlyPaths"),
            Value(b"sysctl"),
            Value(b"uidMappings"),
            Value(b"gidMappings"),
        ],
    ),
];

/// The text with `null` for what is gone. It counts brackets and steps over strings, so it is right for JSON alone; `None`: it is none, or no object.
fn without(text: &[u8], gone: &[Gone]) -> Option<Vec<u8>> {
    let begin = after_blanks(text, 0)?;
    let mut shorter = Vec::with_capacity(text.len());
    if text[begin] != b'{' {
        return None;
    }
    object(text, begin + 1, gone, &mut shorter)?;
    // The brace is the text's own, which is one value.
    shorter.insert(0, b'{');
    Some(shorter)
}

/// Copies an object from behind its brace, and gives the place behind its end.
fn object(text: &[u8], begin: usize, gone: &[Gone], to: &mut Vec<u8>) -> Option<usize> {
    let (mut at, mut copied) = (begin, begin);
    loop {
        at = after_blanks(text, at)?;
        match text[at] {
            b'}' => {
                to.extend(&text[copied..=at]);
                return Some(at + 1);
            }
            b',' => at += 1,
            b'"' => {
                let end = end_of_string(text, at + 1)?;
                let key = &text[at + 1..end];
                let colon = after_blanks(text, end + 1).filter(|at| text[*at] == b':')?;
                let value = after_blanks(text, colon + 1)?;
                at = match gone.iter().find(|gone| matches!(gone, Value(name) | Within(name, _) if *name == key)) {
                    Some(Within(_, inner)) if text[value] == b'{' => {
                        to.extend(&text[copied..=value]);
                        copied = object(text, value + 1, inner, to)?;
                        copied
                    }
                    Some(Value(_)) => {
                        to.extend(&text[copied..value]);
                        to.extend(b"null");
                        copied = end_of_value(text, value)?;
                        copied
                    }
                    _ => end_of_value(text, value)?,
                };
            }
            _ => return None,
        }
    }
}

/// The place behind a value that begins at `at`.
fn end_of_value(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match text.get(at)? {
            b'"' => at = end_of_string(text, at + 1)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return Some(at),
            _ => {}
        }
        at += 1;
    }
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

fn after_blanks(text: &[u8], at: usize) -> Option<usize> {
    text.get(at..)?.iter().position(|byte| !byte.is_ascii_whitespace()).map(|blanks| at + blanks)
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
        let left = |text: &str| without(text.as_bytes(), &RULES).map(|left| String::from_utf8(left).unwrap());
        for (text, shorter) in [
            (
                r#"{"linux":{"seccomp":{"syscalls":[1,[2],{"a":"]"}]}}}"#,
                Some(r#"{"linux":{"seccomp":{"syscalls":null}}}"#),
            ),
            (
                "{ \"linux\" : {\n\"seccomp\" :\t{ \"x\":[{}], \"syscalls\" : [ ] , \"y\": 1 } } }",
                Some("{ \"linux\" : {\n\"seccomp\" :\t{ \"x\":[{}], \"syscalls\" : null, \"y\": 1 } } }"),
            ),
            (
                r#"{"a":{"linux":{"seccomp":{"syscalls":[1]}}}}"#,
                Some(r#"{"a":{"linux":{"seccomp":{"syscalls":[1]}}}}"#),
            ),
            (
                r#"{"linux":{"a":{"seccomp":{"syscalls":[1]}}}}"#,
                Some(r#"{"linux":{"a":{"seccomp":{"syscalls":[1]}}}}"#),
            ),
            (r#"{"linux":{"seccomp":{}},"syscalls":[1]}"#, Some(r#"{"linux":{"seccomp":{}},"syscalls":[1]}"#)),
            (r#"{"linux":5,"a":{}}"#, Some(r#"{"linux":5,"a":{}}"#)),
            (
                r#"{"a":"linux","linux":{"seccomp":{"syscalls":["\"]"]}},"b":"\\"}"#,
                Some(r#"{"a":"linux","linux":{"seccomp":{"syscalls":null}},"b":"\\"}"#),
            ),
            (r#"{"linux":{"seccomp":{"syscalls":[1"#, None),
            (r#"["linux",{"seccomp":{"syscalls":[1]}}]"#, None),
            ("", None),
        ] {
            assert_eq!(left(text).as_deref(), shorter, "{text}");
        }
    }

    #[test]
    fn who_joins_finds_what_he_needs() {
        for text in [document().to_string(), format!("{:#}", document())] {
            let config = parse(text.as_bytes()).unwrap().0;
            let short = to_join(text.as_bytes()).unwrap();
            assert!(short.len() < text.len() / 2, "{}", short.escape_ascii());
            let again = read_parts(&short).unwrap();
            assert_eq!((&again.process, &again.linux.namespaces), (&config.process, &config.linux.namespaces));
            assert_eq!(again.linux.personality, config.linux.personality);
            let (again, config) = (again.linux.seccomp.unwrap(), config.linux.seccomp.unwrap());
            assert!(again.rules.is_empty() && again.flags == config.flags && again.flags != 0);
            assert_eq!(again.default_action, config.default_action);
        }
    }
}
