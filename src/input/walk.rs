//! A walk over the text of config.json that judges its keys before any type does, and the rewriting of what serde would misread.
//!
//! Go's decoder, which shaped the habits of every caller, takes `"CPU":{"Cpus":…}` for `cpu.cpus`, `null` for absent, and drops what it does
//! not know. serde takes names exactly. The walk reads the text once without building anything: it notes missing and doubled keys, NUL bytes,
//! unknown capabilities, and whether anything is there that the exact types would misread. Only then is a tree built and rewritten ([`rewrite`]).
//! Try it by hand: `jq -c 'paths|join(".")' config.json` shows the places that faults name.
//!
//! What goes wrong: derived types take an array for an object, so that `[]` would be a good config.json, and an object for a word. And a file may be
//! made to cost memory: a tree of 16 MiB of `{}` needs a hundred times that. So the walk counts, and its limits hold before anything is built.

use super::Fault;
use super::capability;
use super::keys::Node::{self, Capability, Leaf, SchedulerFlag, Unknown, Unsigned, Word};
use super::keys::{Key, Need};
use super::place::{Piece, Report, piece_at, place, quote};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// The most objects in one file. A tree of them costs about 700 bytes each; the kernel takes 340 lines of an id map.
pub const MAX_OBJECTS: usize = 8192;
/// The most values in one file, objects and arrays included: enough for every environment that execve(2) takes.
pub const MAX_VALUES: usize = 32_768;
/// The most bytes in all its strings and keys together: three times the arguments and environment that execve(2) takes with the usual limit of
/// the stack. Paths are kept several times over, in the configuration, the plan and its places.
///
/// Measured with `/usr/bin/time -v` on static musl, `explain` and `run`, 16 MiB of text in 36 shapes, each as large as these limits let it be:
/// the most is 57 MiB, for thousands of read-only mounts; a long environment takes 40 MiB.
pub const MAX_TEXT: usize = 6 << 20;
/// The longest string in bytes; execve(2) takes 128 KiB.
pub const MAX_STRING: usize = 1 << 20;

/// The right names of the flags that oci-spec writes otherwise, and its own names for them.
const MISNAMED_FLAGS: [(&str, &str); 2] =
    [("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// What the walk found.
#[derive(Default)]
pub struct Survey {
    /// Missing and doubled keys, NUL bytes.
    pub report: Report,
    /// The text holds something that serde would misread: it must be read as a tree and rewritten.
    pub rewrite: bool,
    unknown_capabilities: BTreeSet<String>,
    at: Vec<Piece>,
    objects: usize,
    values: usize,
    text: usize,
}

/// Walks over a text. An error is the one fault of a text that is no JSON, or too large in one of the limits above.
pub fn survey(text: &str, root: &'static Node) -> Result<Survey, Fault> {
    let mut survey = Survey::default();
    if let Err(error) = walk(&mut survey, serde_json::Deserializer::from_str(text), root) {
        return Err(syntax_fault(text.as_bytes(), &error, &survey.at));
    }
    if !survey.unknown_capabilities.is_empty() {
        let names: Vec<_> = survey.unknown_capabilities.iter().map(|name| quote(name)).collect();
        survey.report.warn("process.capabilities", format!("unknown, and so ignored: {}", names.join(", ")));
    }
    Ok(survey)
}

/// The one fault of bytes that are no text: where JSON first ends.
pub fn not_text(bytes: &[u8], root: &'static Node) -> Fault {
    let mut survey = Survey::default();
    match walk(&mut survey, serde_json::Deserializer::from_slice(bytes), root) {
        Err(error) => syntax_fault(bytes, &error, &survey.at),
        Ok(()) => Fault::new("", "not UTF-8"),
    }
}

fn walk<'de, R: serde_json::de::Read<'de>>(
    survey: &mut Survey,
    mut json: serde_json::Deserializer<R>,
    node: &'static Node,
) -> serde_json::Result<()> {
    Walk { survey, node }.deserialize(&mut json)?;
    json.end()
}

fn syntax_fault(text: &[u8], error: &serde_json::Error, at: &[Piece]) -> Fault {
    let (line, column) = (error.line(), error.column());
    let words = without_position(error);
    let cause = if text.iter().all(u8::is_ascii_whitespace) {
        "empty".to_owned()
    } else if error.is_data() {
        words
    } else if words == "recursion limit exceeded" {
        format!("line {line}, column {column}: nested deeper than 127 levels")
    } else if error.is_eof() {
        format!("line {line}, column {column}: the text ends in the middle")
    } else {
        format!("line {line}, column {column}: not JSON: {words}")
    };
    // Which of a thousand elements was one too many says nothing; neither does the inside of a deep nest.
    let fields = at.iter().position(|piece| matches!(piece, Piece::Index(_))).unwrap_or(at.len()).min(4);
    Fault::new(place(&at[..fields]), cause)
}

struct Walk<'a> {
    survey: &'a mut Survey,
    node: &'static Node,
}

/// What the walker of an object needs to know of a value.
#[derive(PartialEq)]
enum Seen {
    Null,
    Something,
}

impl Walk<'_> {
    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.survey.values += 1;
        if self.survey.values > MAX_VALUES { Err(E::custom(format!("more than {MAX_VALUES} values"))) } else { Ok(()) }
    }

    fn fault(&mut self, cause: impl Into<String>) {
        let place = place(&self.survey.at);
        self.survey.report.fault(place, cause);
    }

    fn word<E: serde::de::Error>(&mut self, text: &str) -> Result<Seen, E> {
        self.count()?;
        if text.len() > MAX_STRING {
            return Err(E::custom(format!("a string of {} bytes; the most is {MAX_STRING}", text.len())));
        }
        count_text(&mut self.survey.text, text)?;
        match self.node {
            Node::Unknown => {}
            Node::Capability if capability::number(text).is_none() => {
                if self.survey.unknown_capabilities.len() < 100 {
                    self.survey.unknown_capabilities.insert(text.chars().take(100).collect());
                }
                self.survey.rewrite = true;
            }
            Node::SchedulerFlag if MISNAMED_FLAGS.iter().any(|(right, _)| *right == text) => self.survey.rewrite = true,
            Node::SchedulerFlag if MISNAMED_FLAGS.iter().any(|(_, wrong)| *wrong == text) => {
                self.fault(format!("{text:?} is unknown"));
            }
            Node::Word if text.is_empty() => self.survey.rewrite = true,
            _ => {}
        }
        Ok(Seen::Something)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Seen, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<Seen, E> {
        self.count()?;
        Ok(Seen::Null)
    }

    fn visit_bool<E: serde::de::Error>(mut self, _: bool) -> Result<Seen, E> {
        self.count()?;
        Ok(Seen::Something)
    }

    fn visit_i64<E: serde::de::Error>(mut self, _: i64) -> Result<Seen, E> {
        self.count()?;
        Ok(Seen::Something)
    }

    fn visit_u64<E: serde::de::Error>(mut self, number: u64) -> Result<Seen, E> {
        self.count()?;
        if matches!(self.node, Node::Unsigned) && i64::try_from(number).is_err() {
            self.survey.rewrite = true;
        }
        Ok(Seen::Something)
    }

    fn visit_f64<E: serde::de::Error>(mut self, _: f64) -> Result<Seen, E> {
        self.count()?;
        Ok(Seen::Something)
    }

    // Without an escape there can be no NUL: a raw one is a syntax error.
    fn visit_borrowed_str<E: serde::de::Error>(mut self, text: &'de str) -> Result<Seen, E> {
        self.word(text)
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<Seen, E> {
        if !matches!(self.node, Node::Unknown) && text.contains('\0') {
            self.fault("contains a NUL byte");
        }
        self.word(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Seen, A::Error> {
        self.count()?;
        let node = match self.node {
            Node::List(node) => node,
            // serde's derived structs would take the elements for the fields in their order, and `[]` for a good config.json.
            Node::Object(_) => {
                self.fault("is an array, not an object");
                &Unknown
            }
            _ => &Unknown,
        };
        for at in 0.. {
            self.survey.at.push(Piece::Index(at));
            match list.next_element_seed(Walk { survey: self.survey, node })? {
                Some(Seen::Null) => self.survey.rewrite = true,
                Some(Seen::Something) => {}
                None => break,
            }
            self.survey.at.pop();
        }
        self.survey.at.pop();
        Ok(Seen::Something)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Seen, A::Error> {
        self.count()?;
        self.survey.objects += 1;
        if self.survey.objects > MAX_OBJECTS {
            return Err(A::Error::custom(format!("more than {MAX_OBJECTS} objects")));
        }
        let keys: &'static [Key] = match self.node {
            Node::Object(keys) => keys,
            Node::Map(_) | Node::List(_) | Node::Unknown => &[],
            // serde takes {"SCMP_ACT_LOG": null} for the word alone.
            _ => {
                self.fault("is an object, not a single value");
                &[]
            }
        };
        let mut seen = 0_u64;
        while let Some(found) = map.next_key_seed(Find { keys, node: self.node, text: &mut self.survey.text })? {
            let (piece, node, key) = match found {
                Found::Key { at, exact } => {
                    self.survey.rewrite |= !exact;
                    (Piece::Key(keys[at].name), keys[at].node, Some(at))
                }
                Found::Other(name) => {
                    let node = match self.node {
                        Node::Map(node) => node,
                        _ => &Unknown,
                    };
                    (Piece::Name(name), node, None)
                }
            };
            let has_nul = matches!((&piece, self.node), (Piece::Name(name), Node::Map(_)) if name.contains('\0'));
            self.survey.at.push(piece);
            if has_nul {
                self.fault("the name contains a NUL byte");
            }
            let value = map.next_value_seed(Walk { survey: self.survey, node })?;
            match (value, key) {
                (Seen::Null, _) => self.survey.rewrite = true,
                (Seen::Something, Some(at)) => {
                    if seen & (1 << at) != 0 {
                        self.fault("given twice");
                    }
                    seen |= 1 << at;
                }
                (Seen::Something, None) => {}
            }
            self.survey.at.pop();
        }
        for (at, key) in keys.iter().enumerate().filter(|(at, _)| seen & (1 << at) == 0) {
            match key.need {
                Need::Optional => {}
                Need::Required | Need::Filled(_) => {
                    self.survey.at.push(Piece::Key(keys[at].name));
                    self.fault("missing");
                    self.survey.at.pop();
                }
            }
        }
        Ok(Seen::Something)
    }
}

fn count_text<E: serde::de::Error>(sum: &mut usize, text: &str) -> Result<(), E> {
    *sum += text.len();
    if *sum > MAX_TEXT { Err(E::custom(format!("more than {MAX_TEXT} bytes in all strings"))) } else { Ok(()) }
}

/// Finds a key in the table without copying it.
struct Find<'a> {
    keys: &'static [Key],
    node: &'static Node,
    text: &'a mut usize,
}

enum Found {
    Key { at: usize, exact: bool },
    Other(String),
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Find<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Found, E> {
        if text.len() > MAX_STRING {
            return Err(E::custom(format!("a key of {} bytes; the most is {MAX_STRING}", text.len())));
        }
        count_text(self.text, text)?;
        if let Some(at) = self.keys.iter().position(|key| key.name == text) {
            return Ok(Found::Key { at, exact: true });
        }
        if let Some(at) = find_folded(self.keys, text) {
            return Ok(Found::Key { at, exact: false });
        }
        let is_ignored = !matches!(self.node, Node::Map(_));
        Ok(Found::Other(if is_ignored { text.chars().take(100).collect() } else { text.to_owned() }))
    }
}

fn find_folded(keys: &[Key], name: &str) -> Option<usize> {
    keys.iter().position(|key| key.name.eq_ignore_ascii_case(name))
}

/// Rewrites a tree into what oci-spec's types read rightly: exact names, no nulls, nothing unknown, stand-ins for what is missing.
pub fn rewrite(value: &mut Value, node: &'static Node) {
    match (node, value) {
        (Node::Object(keys), Value::Object(map)) => {
            map.retain(|_, inner| !inner.is_null());
            let strange: Vec<String> =
                map.keys().filter(|name| !keys.iter().any(|key| key.name == *name)).cloned().collect();
            for name in strange {
                let inner = map.remove(&name).unwrap_or_default();
                if let Some(at) = find_folded(keys, &name) {
                    map.entry(keys[at].name).or_insert(inner);
                }
            }
            for key in *keys {
                match (key.need, map.get_mut(key.name)) {
                    (_, Some(inner)) if is_empty_word(inner, key.node) => {
                        map.remove(key.name);
                    }
                    (_, Some(inner)) => rewrite(inner, key.node),
                    (Need::Filled(json), None) => {
                        map.insert(key.name.to_owned(), serde_json::from_str(json).unwrap_or_default());
                    }
                    (_, None) => {}
                }
            }
        }
        (Node::Map(inner), Value::Object(map)) => {
            map.retain(|_, value| !value.is_null());
            map.iter_mut().for_each(|(_, value)| rewrite(value, inner));
        }
        (Node::List(inner), Value::Array(list)) => {
            if matches!(inner, Node::Capability) {
                list.retain(|name| name.as_str().is_none_or(|name| capability::number(name).is_some()));
            }
            list.iter_mut().for_each(|value| rewrite(value, inner));
        }
        (Node::SchedulerFlag, Value::String(name)) => {
            if let Some((_, theirs)) = MISNAMED_FLAGS.iter().find(|(right, _)| right == name) {
                *name = (*theirs).to_owned();
            }
        }
        // The kernel rounds a hugetlb limit down to what fits its page counter, which is less than this.
        (Node::Unsigned, value) if value.as_u64().is_some_and(|number| i64::try_from(number).is_err()) => {
            *value = i64::MAX.into();
        }
        // Named by the walk as a fault; so that serde refuses them too.
        (Node::Object(_), value @ Value::Array(_)) => *value = Value::Bool(false),
        (Leaf | Word | Capability | SchedulerFlag | Unsigned, value @ Value::Object(_)) => *value = Value::Bool(false),
        _ => {}
    }
}

fn is_empty_word(value: &Value, node: &Node) -> bool {
    matches!(node, Node::Word) && value.as_str() == Some("")
}

/// What the types refused in a tree's text, and where.
pub fn type_fault(text: &[u8], error: &serde_json::Error) -> (Vec<Piece>, String) {
    let words = without_position(error);
    // The text is one line, so the column is an offset; where a word of a fixed set should be, it counts from 1.
    if !error.is_syntax() {
        return (piece_at(text, error.column()), plain_type_error(&words));
    }
    let at = error.column().saturating_sub(1);
    let value = text.get(at..).unwrap_or_default();
    let end = value.iter().position(|byte| b",]}".contains(byte)).unwrap_or(value.len());
    let found = match value.first() {
        Some(b'[') => "sequence".to_owned(),
        Some(b't' | b'f') => format!("boolean {}", value[..end].escape_ascii()),
        _ => format!("number {}", value[..end].escape_ascii()),
    };
    (piece_at(text, at), plain_type_error(&format!("invalid type: {found}, expected string or map")))
}

fn without_position(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let end = format!(" at line {} column {}", error.line(), error.column());
    words.strip_suffix(&end).unwrap_or(&words).to_owned()
}

/// serde's words for a wrong type in ours: `is the string "x", not a number from 0 to 4294967295`.
fn plain_type_error(words: &str) -> String {
    const EXPECTED: [(&str, &str); 12] = [
        ("u8", "a number from 0 to 255"),
        ("u16", "a number from 0 to 65535"),
        ("u32", "a number from 0 to 4294967295"),
        ("u64", "a number from 0 to 18446744073709551615"),
        ("usize", "a number, not below 0"),
        ("i32", "a whole number of 32 bits"),
        ("i64", "a whole number of 64 bits"),
        ("a boolean", "true or false"),
        ("a sequence", "an array"),
        ("a map", "an object"),
        ("path string", "a string"),
        ("string or map", "a string"),
    ];
    const FOUND: [(&str, &str); 4] =
        [("sequence", "an array"), ("map", "an object"), ("null", "null"), ("unit value", "null")];
    if let Some(name) = words.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected ")) {
        let known = name.1.trim_start_matches("one of ").replace('`', "");
        return format!("{} is unknown; it can be {known}", quote(name.0));
    }
    let Some((found, expected)) = words
        .strip_prefix("invalid type: ")
        .or_else(|| words.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return words.to_owned();
    };
    let expected = match EXPECTED.iter().find(|(theirs, _)| *theirs == expected) {
        Some((_, ours)) => ours,
        None if expected.starts_with("struct ") => "an object",
        None => expected,
    };
    let found: Cow<'_, str> = match FOUND.iter().find(|(theirs, _)| *theirs == found) {
        Some((_, ours)) => (*ours).into(),
        None => match found.char_indices().nth(80) {
            Some((end, _)) => format!("the {}…", found[..end].replace('`', "")).into(),
            None => format!("the {}", found.replace('`', "")).into(),
        },
    };
    format!("is {found}, not {expected}")
}
