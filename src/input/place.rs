//! Where a fault is, and the list of all faults.
//!
//! Every fault of a file is reported at once, so judging goes on after the first. A place is only turned into text when something is wrong
//! there: until then it is a chain of borrowed steps on the stack.

use super::Fault;
use std::fmt;

/// The most faults that are kept. A file with more is not one that a person mends line by line.
const MOST: usize = 500;

/// One step of a place.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A key of the specification.
    Key(&'static str),
    /// A key of the user's own.
    Name(String),
    /// An element.
    Index(usize),
}

/// The place as a person writes it: `mounts[3].destination`, `linux.sysctl["kernel.hostname"]`. Strange characters are escaped.
pub fn place(pieces: &[Piece]) -> String {
    let mut out = String::new();
    for piece in pieces {
        let first = out.is_empty();
        // Writing into a String cannot fail.
        let _ = match piece {
            Piece::Key(name) => write_key(&mut out, first, name),
            Piece::Name(name) => write_name(&mut out, first, name),
            Piece::Index(at) => fmt::Write::write_fmt(&mut out, format_args!("[{at}]")),
        };
    }
    out
}

/// The place in a JSON text without spaces of the value that begins or ends at an offset: what lies before it has opened every object and
/// array around the value, and named or counted the value itself.
pub fn piece_at(text: &[u8], offset: usize) -> Vec<Piece> {
    let text = &text[..offset.min(text.len())];
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'{' => pieces.push(Piece::Name(String::new())),
            b'[' => pieces.push(Piece::Index(0)),
            b'}' | b']' => drop(pieces.pop()),
            b',' => {
                if let Some(Piece::Index(number)) = pieces.last_mut() {
                    *number += 1;
                }
            }
            b'"' => {
                while text.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                if let (Some(b':'), Some(Piece::Name(name))) = (text.get(at), pieces.last_mut()) {
                    *name = serde_json::from_slice(&text[start..at]).unwrap_or_default();
                }
            }
            _ => {}
        }
    }
    pieces
}

fn write_key(out: &mut dyn fmt::Write, first: bool, name: &str) -> fmt::Result {
    write!(out, "{}{name}", if first { "" } else { "." })
}

fn write_name(out: &mut dyn fmt::Write, first: bool, name: &str) -> fmt::Result {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !name.is_empty() && name.len() < 64 && name.bytes().all(plain) {
        write_key(out, first, name)
    } else {
        write!(out, "[{}]", quote(name))
    }
}

/// A stranger's string in a message: quoted, escaped, and cut where it becomes long.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A place while it is being judged.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// The whole file.
    Root,
    /// A key of the specification.
    Key(&'a Place<'a>, &'static str),
    /// A key of the user's own.
    Name(&'a Place<'a>, &'a str),
    /// An element.
    Index(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    /// The place of a key within.
    pub fn key(&'a self, name: &'static str) -> Place<'a> {
        Place::Key(self, name)
    }

    /// The place of a free key within.
    pub fn name(&'a self, name: &'a str) -> Place<'a> {
        Place::Name(self, name)
    }

    /// The place of an element within.
    pub fn index(&'a self, at: usize) -> Place<'a> {
        Place::Index(self, at)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parent, is_first) = match self {
            Place::Root => return Ok(()),
            Place::Key(parent, _) | Place::Name(parent, _) | Place::Index(parent, _) => {
                (parent, matches!(parent, Place::Root))
            }
        };
        parent.fmt(f)?;
        match self {
            Place::Root => Ok(()),
            Place::Key(_, name) => write_key(f, is_first, name),
            Place::Name(_, name) => write_name(f, is_first, name),
            Place::Index(_, at) => write!(f, "[{at}]"),
        }
    }
}

/// Everything that was found wrong, and everything worth a warning.
#[derive(Debug, Default)]
pub struct Report {
    /// What makes the file unusable.
    pub faults: Vec<Fault>,
    /// What is ignored or read otherwise than written.
    pub warnings: Vec<Fault>,
}

impl Report {
    /// Notes a fault. The first one at a place is kept: what follows at the same place is a consequence.
    pub fn fault(&mut self, place: impl fmt::Display, cause: impl Into<String>) {
        if self.faults.len() >= MOST {
            return;
        }
        let place = place.to_string();
        if !self.faults.iter().any(|known| known.place == place) {
            self.faults.push(Fault { place, cause: cause.into() });
        }
    }

    /// Notes a warning.
    pub fn warn(&mut self, place: impl fmt::Display, what: impl fmt::Display) {
        if self.warnings.len() < MOST {
            self.warnings.push(Fault { place: place.to_string(), cause: what.to_string() });
        }
    }

    /// Takes over what another report holds, each at the place that `moved` makes of its place.
    pub fn take(&mut self, other: Report, moved: impl Fn(&str) -> String) {
        other.faults.into_iter().for_each(|fault| self.fault(moved(&fault.place), fault.cause));
        other.warnings.into_iter().for_each(|warning| self.warn(moved(&warning.place), warning.cause));
    }

    /// Whether a fault was found at this place or within it.
    pub fn touches(&self, place: &str) -> bool {
        self.faults.iter().any(|fault| {
            fault.place.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_a_place() {
        let text = br#"{"a":1,"b\"\\":[{"c":[true,"x]"]},-5],"d":{}}"#;
        let at = |found: &[u8]| text.windows(found.len()).position(|part| part == found).unwrap();
        for (offset, expected) in [
            (at(b"1"), "a"),
            (at(b"1") + 1, "a"),
            (at(b"true"), r#"["b\"\\"][0].c[0]"#),
            (at(b"\"x]\"") + 4, r#"["b\"\\"][0].c[1]"#),
            (at(b",-5"), r#"["b\"\\"][0]"#),
            (at(b"-5") + 2, r#"["b\"\\"][1]"#),
            (at(b"{}"), "d"),
            (at(b"{}") + 2, "d"),
            (text.len(), ""),
            (text.len() + 9, ""),
        ] {
            assert_eq!(place(&piece_at(text, offset)), expected, "{offset}");
        }
    }

    #[test]
    fn both_forms_write_a_place_alike() {
        let pieces =
            [Piece::Key("linux"), Piece::Key("sysctl"), Piece::Name("a.b\n".into()), Piece::Index(3), Piece::Key("x")];
        let (linux, sysctl, name, index);
        linux = Place::Root.key("linux");
        sysctl = linux.key("sysctl");
        name = sysctl.name("a.b\n");
        index = name.index(3);
        assert_eq!(place(&pieces), r#"linux.sysctl["a.b\n"][3].x"#);
        assert_eq!(index.key("x").to_string(), place(&pieces));
        assert_eq!(Place::Root.name("b-1").to_string(), "b-1");
    }

    #[test]
    fn one_fault_for_one_place() {
        let mut report = Report::default();
        report.fault("mounts[1]", "first");
        report.fault("mounts[1]", "second");
        report.fault("mounts[10]", "third");
        assert_eq!(report.faults.len(), 2);
        assert!(report.touches("mounts") && report.touches("mounts[1]") && !report.touches("mount"));
    }

    #[test]
    fn long_strings_are_cut() {
        assert!(quote(&"é".repeat(1000)).len() < 200);
        assert_eq!(quote("a\x1b[2J"), r#""a\u{1b}[2J""#);
    }
}
