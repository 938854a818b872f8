//! Is a bundle meant, or an image? Decided from the words of `run` and `explain`, before either parser is built.
//!
//! Both forms share a verb: `corten run web` starts the bundle of this directory as runc does, `corten run debian bash` an image as Docker does. By hand:
//! `corten spec && corten explain web`, then `corten explain debian bash`.
//!
//! The rules, of which the first that fits decides:
//!
//! | what is given | form |
//! |---|---|
//! | `--bundle`, or another option that only runc has | bundle |
//! | `--image`, or an option that only images have | image |
//! | no word, or one while `./config.json` counts | bundle |
//! | more words | image, and its command |
//! | one word with `/`, `:` or `@`, or the name of a local image | image |
//!
//! What goes wrong: the same words mean one thing in one directory and another elsewhere. So a `config.json` that a stranger could have put there does not count; where
//! both readings are possible, and where a bare word is neither, both are named and nothing is run: nobody wants a mistyped id to be fetched from a registry.

use super::options::{OPTIONS, Takes, Whose};
use crate::error;
use crate::error::Result;
use std::ffi::OsString;

/// What the words are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A directory with a config.json, as runc has it.
    Bundle,
    /// An image, as Docker has it.
    Image,
}

/// The `config.json` of the current directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Here {
    /// There is none, or it has no `ociVersion`.
    Nothing,
    /// There is one that counts.
    Bundle,
    /// There is one, but it does not count: why, as `it belongs to user 1000`.
    Strange(String),
}

impl Here {
    /// Judges a config.json by its owner, its permission bits, and its text. Only our own or root's counts, and only if nobody else can write it.
    pub fn judge(owner: u32, mode: u32, caller: u32, text: &[u8]) -> Here {
        if !has_version(text) {
            return Here::Nothing;
        }
        match (owner, mode & 0o022) {
            (owner, _) if owner != 0 && owner != caller => Here::Strange(format!("it belongs to user {owner}")),
            (_, 0) => Here::Bundle,
            _ => Here::Strange(format!("others can write it (mode {:04o})", mode & 0o7777)),
        }
    }
}

/// Has it `ociVersion`? One that is no JSON, but names it, is a bundle's with a mistake: that reading has the better error.
fn has_version(text: &[u8]) -> bool {
    match serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(text) {
        Ok(keys) => keys.keys().any(|key| key.eq_ignore_ascii_case("ociVersion")),
        Err(_) => text.windows(12).any(|window| window == b"\"ociVersion\""),
    }
}

/// runc's options, which images do not have.
const BUNDLE: [(&str, Option<char>, Takes); 9] = [
    ("bundle", Some('b'), Takes::One("DIR")),
    ("pid-file", None, Takes::One("FILE")),
    ("console-socket", None, Takes::One("SOCKET")),
    ("pidfd-socket", None, Takes::One("SOCKET")),
    ("preserve-fds", None, Takes::One("N")),
    ("no-pivot", None, Takes::Flag),
    ("no-subreaper", None, Takes::Flag),
    ("no-new-keyring", None, Takes::Flag),
    ("keep", None, Takes::Flag),
];

/// The options of ours that both forms have, beside Docker's.
const OURS: [&str; 3] = ["trace", "help", "rootless"];

/// What was seen of the options.
#[derive(Debug, Default)]
struct Seen {
    /// The first that only bundles have, as typed.
    bundle: Option<String>,
    /// The first that only images have.
    image: Option<String>,
    name: bool,
    /// Is there one that neither has?
    unknown: bool,
    /// Where the words begin.
    words: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Bundle,
    Image,
    Both,
    Unknown,
}

fn long(name: &str) -> (Kind, Takes) {
    if let Some((.., takes)) = BUNDLE.iter().find(|(long, ..)| *long == name) {
        return (Kind::Bundle, *takes);
    }
    match OPTIONS.iter().find(|known| known.long == name || known.alias == Some(name)) {
        Some(known) if known.whose == Whose::Image => (Kind::Image, known.takes),
        Some(known) => (Kind::Both, known.takes),
        None if OURS.contains(&name) => (Kind::Both, Takes::Flag),
        None => (Kind::Unknown, Takes::Flag),
    }
}

fn letter(letter: char) -> (Kind, Takes) {
    let bundle = BUNDLE.iter().find(|(_, short, _)| *short == Some(letter)).map(|(name, ..)| *name);
    let name = bundle.or_else(|| OPTIONS.iter().find(|known| known.short == Some(letter)).map(|known| known.long));
    name.map_or((Kind::Unknown, Takes::Flag), long)
}

impl Seen {
    fn note(&mut self, kind: Kind, word: &str) {
        match kind {
            Kind::Bundle => drop(self.bundle.get_or_insert_with(|| word.to_owned())),
            Kind::Image => drop(self.image.get_or_insert_with(|| word.to_owned())),
            Kind::Both => {}
            Kind::Unknown => self.unknown = true,
        }
    }
}

/// Reads options until the first word that is none.
fn scan(words: &[String]) -> Seen {
    let mut seen = Seen::default();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let attached;
        let takes;
        if word == "--" {
            break;
        } else if let Some(rest) = word.strip_prefix("--") {
            let (name, value) = rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)));
            let (kind, found) = long(name);
            seen.note(kind, &format!("--{name}"));
            seen.name |= name == "name";
            (attached, takes) = (value.is_some(), found);
        } else if word.len() > 1 && word.starts_with('-') {
            let rest = &word[1..];
            // Go's flags take one dash, and so runc's callers write it.
            let name = rest.split('=').next().unwrap_or_default();
            if let Some((.., found)) = BUNDLE.iter().find(|(long, ..)| *long == name) {
                seen.note(Kind::Bundle, &format!("-{name}"));
                (attached, takes) = (rest.contains('='), *found);
            } else {
                let mut letters = rest.char_indices();
                let last = letters.find_map(|(place, c)| {
                    let (kind, found) = letter(c);
                    seen.note(kind, &format!("-{c}"));
                    (found != Takes::Flag).then_some((place + c.len_utf8() < rest.len(), found))
                });
                (attached, takes) = last.unwrap_or((false, Takes::Flag));
            }
        } else {
            at -= 1;
            break;
        }
        if takes != Takes::Flag && !attached {
            at += 1;
        }
    }
    seen.words = at.min(words.len());
    seen
}

/// A word that could be an id as well as an image.
fn bare(word: &str) -> bool {
    !word.contains(['/', ':', '@'])
}

/// Which form the words after `run` or `explain` have. `local` says whether there is a local image of that name. Pure.
pub fn form(words: &[OsString], here: &Here, local: &dyn Fn(&str) -> bool) -> Result<Form> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut seen = scan(&words);
    let mut rest = &words[seen.words..];
    // With a bundle, options may follow the id: `run web --bundle B`. A command would have a word among them, or options that we do not know.
    if let [first, after @ ..] = rest
        && !after.is_empty()
        && !seen.name
        && bare(first)
    {
        let behind = scan(after);
        if behind.words == after.len() && !behind.unknown && behind.image.is_none() {
            let counts = *here == Here::Bundle || behind.bundle.is_some();
            seen.bundle = seen.bundle.or(behind.bundle);
            rest = if counts { &rest[..1] } else { rest };
        }
    }
    match (&seen.bundle, &seen.image) {
        (Some(bundle), Some(image)) => {
            return Err(error!("{bundle} with {image}: the one is for a bundle, the other for an image"));
        }
        (Some(_), None) => return Ok(Form::Bundle),
        (None, Some(_)) => return Ok(Form::Image),
        (None, None) => {}
    }
    match rest {
        [] => Ok(Form::Bundle),
        [word] => match here {
            Here::Bundle if local(word) => {
                Err(error!("{word}: both the bundle of this directory and a local image are meant")
                    .detail(format!("as a bundle: `corten run --bundle . {word}`"))
                    .detail(format!("as an image: `corten run --image {word}`")))
            }
            Here::Bundle => Ok(Form::Bundle),
            _ if !bare(word) || local(word) => Ok(Form::Image),
            // Its parser says which option is unknown, which matters more than what the word is.
            _ if seen.unknown => Ok(Form::Bundle),
            Here::Strange(why) => Err(neither(word).detail(format!("the config.json here does not count: {why}"))),
            Here::Nothing => Err(neither(word)),
        },
        _ => Ok(Form::Image),
    }
}

fn neither(word: &str) -> error::Error {
    error!("no config.json here and no local image {word}")
        .hint(format!("`corten run --image {word}` fetches the image, --bundle DIR names a bundle"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str, here: &Here) -> std::result::Result<Form, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        form(&words, here, &|name| name == "local" || name == "reg/local").map_err(|e| e.to_string())
    }

    #[test]
    fn without_a_config_json() {
        for line in [
            "debian bash",
            "-it debian bash",
            "debian:12",
            "reg/app",
            "app@sha256:0",
            "-it --name i-love-potato --network=host --mount type=bind,source=/Code,target=/home --entrypoint /bin/bash debian:12",
            "local",
            "--image debian",
            "--image web ls",
            "-v /a:/b debian",
            "-v/a:/b debian",
            "-itv /a:/b debian",
            "-m 1g debian",
            "--memory=1g debian",
            "nginx -g daemon",
            "nginx --help",
            "busybox -d",
            "debian tool --bundle b",
            "-- debian -x",
            "--net host debian ls",
        ] {
            assert_eq!(of(line, &Here::Nothing), Ok(Form::Image), "{line}");
        }
        for line in [
            "--bundle b web",
            "-b b web",
            "-bb web",
            "web --bundle b",
            "web --bundle=b -d",
            "--pid-file p web",
            "-no-subreaper -bundle=/b -detach web",
            "--keep web",
            "",
            "--name web",
            "--preserve-fds 3 web",
        ] {
            assert_eq!(of(line, &Here::Nothing), Ok(Form::Bundle), "{line}");
        }
    }

    #[test]
    fn with_a_config_json() {
        for line in [
            "web",
            "-it web",
            "--name web sh",
            "web -d",
            "web --rm --name x",
            "debian:12",
            "--trace web",
            "--trace=t web",
        ] {
            assert_eq!(of(line, &Here::Bundle), Ok(Form::Bundle), "{line}");
        }
        for line in ["debian bash", "-v /a:/b web", "--image web", "--rm --privileged web", "web sh -c x"] {
            assert_eq!(of(line, &Here::Bundle), Ok(Form::Image), "{line}");
        }
    }

    #[test]
    fn what_is_not_clear_is_not_run() {
        for (line, here, words) in [
            ("local", Here::Bundle, "local: both the bundle of this directory and a local image"),
            ("--name x reg/local", Here::Bundle, "reg/local: both"),
            ("web", Here::Nothing, "no config.json here and no local image web"),
            ("-it --rm web", Here::Nothing, "no config.json here and no local image web"),
            ("web", Here::Strange("it belongs to user 1000".into()), "does not count: it belongs to user 1000"),
            ("--bundle b -v /a:/b web", Here::Nothing, "--bundle with -v: the one is for a bundle"),
            ("--keep --memory 1g web", Here::Bundle, "--keep with --memory"),
        ] {
            let error = of(line, &here).expect_err(line);
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn a_strangers_config_json_does_not_count() {
        let text = br#"{"ociVersion":"1.0.0"}"#;
        assert_eq!(Here::judge(0, 0o644, 1000, text), Here::Bundle);
        assert_eq!(Here::judge(1000, 0o100_600, 1000, text), Here::Bundle);
        assert_eq!(Here::judge(0, 0o644, 0, b"{\"name\":\"webpack\"}"), Here::Nothing);
        assert_eq!(Here::judge(0, 0o644, 0, b"{\"ociVersion\":\"1\","), Here::Bundle);
        assert_eq!(Here::judge(1000, 0o644, 0, text), Here::Strange("it belongs to user 1000".into()));
        assert_eq!(Here::judge(0, 0o100_664, 0, text), Here::Strange("others can write it (mode 0664)".into()));
        assert_eq!(Here::judge(0, 0o646, 0, text), Here::Strange("others can write it (mode 0646)".into()));
    }
}
