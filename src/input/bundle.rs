//! A bundle: a directory with a config.json and, usually, a root file system beside it.
//!
//! Try it by hand: `mkdir -p b/rootfs && cd b && corten spec && jq . config.json`.
//!
//! Reading takes two passes. A walk over the text finds what no type can see, at a cost of a few microseconds and without building
//! anything; then oci-spec's types read it directly. Only a text that the types would misread or refuse is read a second way: as a tree,
//! rewritten to exact names and written out again, where every value of a wrong type is noted and taken out, until the rest can be read. So a wrong
//! type in one place does not hide an empty path in another: every fault is reported, each with its place.
//!
//! What goes wrong: a config.json is a stranger's file. It is measured before it is read, and the number and size of what it holds are
//! limited, so that no file makes us use more than 64 MiB.

use super::again::Wording;
use super::check::check;
use super::config::{Config, Process};
use super::keys::{self, Node};
use super::place::{Piece, Place, Report, place};
use super::spec::{self, Spec};
use super::walk::{self, Survey};
use super::{Fault, convert};
use crate::error::{Error, Result};
use crate::sys::file::{self, End};
use crate::sys::spent::Spent;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The largest config.json in bytes.
pub const MAX_CONFIG: usize = 16 << 20;

/// How many values of a wrong type are looked for: each costs another reading of the whole.
const MAX_TYPE_FAULTS: usize = 32;

/// How many faults are shown.
const MAX_SHOWN: usize = 30;

/// A bundle that was read and found good.
#[derive(Debug)]
pub struct Bundle {
    /// Absolute, without symbolic links.
    pub dir: PathBuf,
    /// What config.json asks for.
    pub config: Config,
    /// config.json as it was read: the state keeps it, and hooks may need what Corten does not know.
    pub raw: Vec<u8>,
    /// Do the types read it as it was meant?
    pub wording: Wording,
    /// What was ignored or read otherwise than written, a line each.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads and checks the bundle in a directory. All faults of its config.json are in one error.
    pub fn load(dir: &Path) -> Result<Bundle> {
        let shown = dir.display();
        let wrong = |errno| Error::new(format!("bundle {shown}: {}", named(errno)));
        let opened = file::open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY).map_err(wrong)?;
        // The kernel's own name of it, in one call: realpath(3) asks for each part of the path.
        let absolute = crate::sys::path::name(&opened).map_err(wrong)?;
        // Not blocking: a fifo without a writer would hold us up before we could see what it is.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&opened, "config.json", flags, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOENT => Error::new(format!("no config.json in {shown}")).hint("`corten spec` writes one"),
            errno => Error::new(format!("{shown}/config.json: {}", named(errno))),
        })?;
        let raw = read_limited(&file).map_err(|error| error.at(format!("{shown}/config.json")))?;
        Spent::default().close_with([file, opened]);
        let Parsed { config, warnings, wording } =
            parse_whole(&raw).map_err(|faults| faults_error(&faults, "config.json"))?;
        Ok(Bundle { dir: absolute, config, raw, wording, warnings })
    }
}

/// Reads a regular file of at most [`MAX_CONFIG`] bytes; a larger one is refused before it is read.
fn read_limited(file: &OwnedFd) -> Result<Vec<u8>> {
    let about = fstat(file).map_err(|errno| Error::new(named(errno)))?;
    match SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(Error::new("is a directory")),
        _ => return Err(Error::new("is not a regular file")),
    }
    let mut size = usize::try_from(about.st_size).unwrap_or(usize::MAX);
    let mut text = Vec::new();
    if size <= MAX_CONFIG {
        // It may grow meanwhile, so the limit holds while reading as well; and a file of procfs is regular, has no size, and comes in pieces.
        let end = if size == 0 { End::Nothing } else { End::Less };
        text = file::read_rest(file, end, size, MAX_CONFIG).map_err(|errno| Error::new(named(errno)))?;
        size = text.len();
    }
    if size > MAX_CONFIG {
        return Err(Error::new(format!("has {size} bytes or more; the most is {MAX_CONFIG} (16 MiB)")));
    }
    Ok(text)
}

fn named(errno: Errno) -> String {
    format!("{} ({})", crate::sys::plain(errno), crate::sys::name(errno))
}

/// The error that shows all faults of a file.
pub fn faults_error(faults: &[Fault], file: &str) -> Error {
    let line = |fault: &Fault| if fault.place.is_empty() { fault.cause.clone() } else { fault.to_string() };
    let error = match faults {
        [only] => return Error::new(format!("{file}: {}", line(only))),
        _ => Error::new(format!("{} faults in {file}", faults.len())),
    };
    let error = faults.iter().take(MAX_SHOWN).fold(error, |error, fault| error.detail(line(fault)));
    match faults.len().checked_sub(MAX_SHOWN) {
        Some(more @ 1..) => error.detail(format!("and {more} more")),
        _ => error,
    }
}

/// A config.json that was read and found good.
#[derive(Debug)]
pub struct Parsed {
    /// What it asks for.
    pub config: Config,
    /// As in [`Bundle`].
    pub warnings: Vec<String>,
    /// As in [`Bundle`].
    pub wording: Wording,
}

/// Reads the text of a config.json. Pure. The second part of the result are warnings.
pub fn parse(text: &[u8]) -> std::result::Result<(Config, Vec<String>), Vec<Fault>> {
    parse_whole(text).map(|parsed| (parsed.config, parsed.warnings))
}

/// The same, with its wording.
pub fn parse_whole(text: &[u8]) -> std::result::Result<Parsed, Vec<Fault>> {
    let mut read: Loaded<Spec> = read(text, &keys::CONFIG)?;
    let readable = read.value.is_some();
    let config = read.convert(convert::config);
    if readable {
        check(&config, &mut read.report);
    }
    let wording = read.wording;
    finish(config, read.report).map(|(config, warnings)| Parsed { config, warnings, wording })
}

/// Reads the text of the file of `exec --process`. Pure. The second part of the result are warnings.
pub fn parse_process(text: &[u8]) -> std::result::Result<(Process, Vec<String>), Vec<Fault>> {
    let mut read: Loaded<spec::Process> = read(text, &keys::PROCESS)?;
    let process = read.convert(|process, report| convert::process::process(process, &Place::Root, report));
    finish(process, read.report)
}

fn finish<T>(value: T, report: Report) -> std::result::Result<(T, Vec<String>), Vec<Fault>> {
    if report.faults.is_empty() {
        Ok((value, report.warnings.iter().map(ToString::to_string).collect()))
    } else {
        Err(report.faults)
    }
}

/// What reading gave.
struct Loaded<T> {
    /// `None` where the whole is of a wrong type.
    value: Option<T>,
    report: Report,
    wording: Wording,
    gone: Removed,
}

impl<T> Loaded<T> {
    fn convert<U: Default>(&mut self, convert: impl Fn(T, &mut Report) -> U) -> U {
        let Some(value) = self.value.take() else { return U::default() };
        let mut report = Report::default();
        let converted = convert(value, &mut report);
        self.report.take(report, |place| self.gone.place_in_file(place));
        converted
    }
}

fn read<T: DeserializeOwned>(text: &[u8], root: &'static Node) -> std::result::Result<Loaded<T>, Vec<Fault>> {
    // Once for all: a reader of bytes looks at every string again.
    let Ok(text) = std::str::from_utf8(text) else { return Err(vec![walk::not_text(text, root)]) };
    let survey = walk::survey(text, root).map_err(|fault| vec![fault])?;
    let hopeful = !survey.rewrite && survey.report.faults.is_empty();
    if hopeful && let Ok(value) = typed(text) {
        return Ok(Loaded {
            value: Some(value),
            report: survey.report,
            wording: Wording::Exact,
            gone: Removed::default(),
        });
    }
    Ok(read_as_tree(text, root, survey))
}

/// The only place where the types are read, from the only kind of source: each further kind is 100 KB of code and more.
#[inline(never)]
pub(super) fn typed<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_str(text)
}

/// The slow way: as a tree, rewritten, and without what has a wrong type. The tree is built anew for each try, because it goes once it is
/// text: a tree that stays beside the types it becomes would double the memory.
fn read_as_tree<T: DeserializeOwned>(text: &str, root: &'static Node, survey: Survey) -> Loaded<T> {
    let mut loaded = Loaded { value: None, report: survey.report, wording: Wording::Loose, gone: Removed::default() };
    for _ in 0..MAX_TYPE_FAULTS {
        let mut tree: Value = match serde_json::from_str(text) {
            Ok(tree) => tree,
            // The walk read the same text without a fault in its grammar.
            Err(error) => {
                loaded.report.fault("", error.to_string());
                return loaded;
            }
        };
        walk::rewrite(&mut tree, root);
        if !loaded.gone.remove_from(&mut tree) {
            return loaded;
        }
        let exact = tree.to_string();
        drop(tree);
        let (pieces, words) = match typed(&exact) {
            Ok(value) => {
                loaded.value = Some(value);
                return loaded;
            }
            Err(error) => walk::type_fault(exact.as_bytes(), &error),
        };
        // The walk has named every missing key already, by the place of the key itself.
        if !words.starts_with("missing field") || loaded.report.faults.is_empty() {
            loaded.report.fault(place(&loaded.gone.original(&pieces)), words);
        }
        if pieces.is_empty() {
            return loaded;
        }
        loaded.gone.next = pieces;
    }
    loaded.report.fault("", format!("more than {MAX_TYPE_FAULTS} values have a wrong type"));
    loaded
}

/// What was taken out of the tree. An element that is gone moves those behind it, but a fault names the place in the file.
#[derive(Default)]
struct Removed {
    /// The place of an array, and the numbers of the elements that are gone, sorted.
    elements: BTreeMap<String, Vec<usize>>,
    /// What is gone, each by its place in the tree of its time.
    places: Vec<Vec<Piece>>,
    /// What goes next.
    next: Vec<Piece>,
}

impl Removed {
    /// The place in the file of a place in the tree.
    fn original(&self, pieces: &[Piece]) -> Vec<Piece> {
        let mut out: Vec<Piece> = Vec::new();
        for piece in pieces {
            let piece = match piece {
                Piece::Index(at) => Piece::Index(self.index_in_file(&place(&out), *at)),
                other => other.clone(),
            };
            out.push(piece);
        }
        out
    }

    fn index_in_file(&self, array: &str, at: usize) -> usize {
        let gone = self.elements.get(array).map(Vec::as_slice).unwrap_or_default();
        gone.iter().fold(at, |at, gone| if *gone <= at { at + 1 } else { at })
    }

    /// The same for a place that is text already.
    fn place_in_file(&self, place: &str) -> String {
        if self.elements.is_empty() {
            return place.to_owned();
        }
        let mut out = String::new();
        for part in place.split_inclusive('[') {
            // `[` within a quoted name is followed by digits and `]` only if someone made it so, and then only a message is odd.
            match part.split_once(']').and_then(|(digits, rest)| Some((digits.parse::<usize>().ok()?, rest))) {
                Some((at, rest)) => {
                    let array = out.strip_suffix('[').unwrap_or_default();
                    let at = self.index_in_file(array, at);
                    out.push_str(&format!("{at}]{rest}"));
                }
                None => out.push_str(part),
            }
        }
        out
    }

    /// Takes out of a new tree what was taken out of the one before, and the next. `false` if the next is nowhere, up to the root.
    fn remove_from(&mut self, tree: &mut Value) -> bool {
        for place in &self.places {
            remove(tree, place);
        }
        let mut next = std::mem::take(&mut self.next);
        let nothing_to_do = next.is_empty();
        while !next.is_empty() {
            if remove(tree, &next) {
                self.note(next);
                return true;
            }
            next.pop();
        }
        nothing_to_do
    }

    fn note(&mut self, pieces: Vec<Piece>) {
        let original = self.original(&pieces);
        if let Some((Piece::Index(at), array)) = original.split_last() {
            let gone = self.elements.entry(place(array)).or_default();
            gone.push(*at);
            gone.sort_unstable();
        }
        self.places.push(pieces);
    }
}

/// Takes a value out of a tree; `false` if there is none at that place.
fn remove(tree: &mut Value, pieces: &[Piece]) -> bool {
    let Some((last, parents)) = pieces.split_last() else { return false };
    let parent = parents.iter().try_fold(tree, |value, piece| match piece {
        Piece::Index(at) => value.get_mut(at),
        Piece::Name(name) => value.get_mut(name),
        Piece::Key(name) => value.get_mut(name),
    });
    match (parent, last) {
        (Some(Value::Object(map)), Piece::Name(name)) => map.remove(name).is_some(),
        (Some(Value::Object(map)), Piece::Key(name)) => map.remove(*name).is_some(),
        (Some(Value::Array(list)), Piece::Index(at)) if *at < list.len() => {
            list.remove(*at);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "bundle_tests/mod.rs"]
mod tests;
