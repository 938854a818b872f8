//! Which image of a registry is meant: Docker's names, as people write them and in full.
//!
//! `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, the grammar of the distribution project's reference package. What stands before the first slash is a
//! host only if it looks like one: it has a dot or a colon, is `localhost`, or has a capital letter. Otherwise the image is Docker
//! Hub's: `debian` is `docker.io/library/debian:latest`, `user/web` is `docker.io/user/web:latest`.
//!
//! By hand: `docker pull debian` says `docker.io/library/debian:latest` in its last line.
//!
//! What goes wrong: a name becomes a part of an address. What passes here has no `..`, no `?`, no `%` and no empty component.

use super::digest::Digest;
use crate::error;
use crate::error::{Error, Result};
use std::fmt;

/// Docker Hub, as names have it.
pub const HUB: &str = "docker.io";
/// Docker Hub's old name.
const OLD_HUB: &str = "index.docker.io";
/// Where Docker Hub keeps what nobody in particular owns.
const LIBRARY: &str = "library/";
/// The longest name that registries know: host and path.
const LONGEST: usize = 255;
/// The longest tag.
const LONGEST_TAG: usize = 128;

/// An image in a registry. `Display` is the full form, `docker.io/library/debian:12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Host, and port where one was given: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`.
    pub registry: String,
    /// `library/debian`
    pub repository: String,
    /// `12`; `None` only where a digest is given without one.
    pub tag: Option<String>,
    /// What the tag must lead to; it decides, the tag is only said.
    pub digest: Option<Digest>,
}

impl Named {
    /// Parses a name and completes it. An error says which part is wrong, and why.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).map_err(|e| e.at(format!("image name {text:?}")))
    }

    /// Host and repository, without tag and digest: `docker.io/library/debian`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// As Docker prints it: without `docker.io/`, and without `library/` there. The tag stays.
    pub fn familiar(&self) -> String {
        format!("{}{}", self.familiar_name(), self.rest())
    }

    /// The familiar form without tag and digest: the column REPOSITORY of `docker images`.
    pub fn familiar_name(&self) -> String {
        let official = self.repository.strip_prefix(LIBRARY).filter(|path| !path.contains('/'));
        let short = official.unwrap_or(&self.repository);
        // On Docker Hub, a first component that looks like a host must not be taken for one.
        if self.registry == HUB && split_host(short).0 == HUB { short.to_owned() } else { self.name() }
    }

    /// What a registry is asked for: the digest where there is one, otherwise the tag.
    pub fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
        }
    }

    fn rest(&self) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        tag.chain(self.digest.iter().map(|digest| format!("@{digest}"))).collect()
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name(), self.rest())
    }
}

fn parse(text: &str) -> Result<Named> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(error!("it begins with {scheme}://").hint("a name has no scheme: HOST[:PORT]/PATH[:TAG]"));
    }
    let (before, digest) = match text.split_once('@') {
        Some((before, digest)) => (before, Some(Digest::parse(digest)?)),
        None => (text, None),
    };
    // A colon behind the last slash begins the tag, an earlier one the host's port.
    let colon = before.rfind(':').filter(|colon| !before[*colon..].contains('/'));
    let (name, tag) = match colon {
        Some(colon) => (&before[..colon], Some(&before[colon + 1..])),
        None => (before, None),
    };
    if name.is_empty() {
        return Err(error!("it is empty"));
    }
    if name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(error!("64 hexadecimal digits are an id, not a name"));
    }
    let (registry, path) = split_host(name);
    let registry = if registry == OLD_HUB { HUB } else { registry };
    check_host(registry)?;
    let library = if registry == HUB && !path.contains('/') { LIBRARY } else { "" };
    let repository = format!("{library}{path}");
    check_path(&repository)?;
    if registry.len() + 1 + repository.len() > LONGEST {
        return Err(error!("it has more than {LONGEST} characters"));
    }
    tag.map_or(Ok(()), check_tag)?;
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Named { registry: registry.to_owned(), repository, tag, digest })
}

/// Host and path: the host is Docker Hub where the first component does not look like one.
fn split_host(name: &str) -> (&str, &str) {
    let looks_like_one = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
    };
    match name.split_once('/') {
        Some((first, path)) if looks_like_one(first) => (first, path),
        _ => (HUB, name),
    }
}

/// A host as a name has it: components of letters, digits and inner hyphens, or an address of IPv6 in brackets; then a port.
pub fn check_host(host: &str) -> Result<()> {
    let wrong = |why: &str| Err(error!("the host {host:?} {why}"));
    let (bare, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, after)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return wrong("is not an address of IPv6");
                }
                match after.strip_prefix(':') {
                    None if !after.is_empty() => return wrong("has something behind its bracket that is no port"),
                    port => (None, port),
                }
            }
            None => return wrong("has no closing bracket"),
        },
        None => match host.split_once(':') {
            Some((bare, port)) => (Some(bare), Some(port)),
            None => (Some(host), None),
        },
    };
    if let Some(bare) = bare {
        for component in bare.split('.') {
            let inner = component.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if component.is_empty() || !inner || component.starts_with('-') || component.ends_with('-') {
                return wrong("is not the name of a host");
            }
        }
    }
    match port.map(str::parse::<u16>) {
        None => Ok(()),
        Some(Ok(number)) if number > 0 && port.is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit())) => Ok(()),
        Some(_) => wrong("has a port that is not a number from 1 to 65535"),
    }
}

/// Components of lower-case letters and digits, joined within by one `.`, one or two `_`, or any number of `-`.
fn check_path(path: &str) -> Result<()> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        let lower = path.to_ascii_lowercase();
        return Err(error!("{path:?} has capital letters").hint(format!("names are in lower case: {lower}")));
    }
    for component in path.split('/') {
        let wrong = |why: &str| -> Error { error!("the component {component:?} {why}") };
        if component.is_empty() {
            return Err(error!("{path:?} has an empty component"));
        }
        let other = component.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-'));
        if let Some(other) = other {
            return Err(wrong(&format!("has {other:?}: only a-z, 0-9, '.', '_' and '-' may be in it")));
        }
        let edge = |c: char| matches!(c, '.' | '_' | '-');
        if component.starts_with(edge) || component.ends_with(edge) {
            return Err(wrong("begins or ends with '.', '_' or '-'"));
        }
        let mut between = component.split(|c: char| !edge(c)).filter(|s| !s.is_empty());
        if let Some(two) = between.find(|s| !matches!(*s, "." | "_" | "__") && s.bytes().any(|b| b != b'-')) {
            return Err(wrong(&format!("has {two:?} between letters: one '.', one or two '_', or '-'")));
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<()> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let wrong = |why: &str| Err(error!("the tag {tag:?} {why}"));
    match tag.as_bytes() {
        [] => wrong("is empty"),
        _ if tag.len() > LONGEST_TAG => wrong("has more than 128 characters"),
        [first, ..] if !word(*first) => wrong("does not begin with a letter, a digit or '_'"),
        bytes if bytes.iter().any(|b| !word(*b) && !matches!(b, b'.' | b'-')) => {
            wrong("has other characters than letters, digits, '_', '.' and '-'")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_are_completed() {
        // What is written, its full form, and its familiar one.
        for (written, full, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("user/web", "docker.io/user/web:latest", "user/web:latest"),
            ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("host:5000/x", "host:5000/x:latest", "host:5000/x:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
            ("Host/x", "Host/x:latest", "Host/x:latest"),
            ("quay.io/a/b/c__d-e--f.g", "quay.io/a/b/c__d-e--f.g:latest", "quay.io/a/b/c__d-e--f.g:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            ("[2001:db8::1]/x:_t.-", "[2001:db8::1]/x:_t.-", "[2001:db8::1]/x:_t.-"),
            ("library/x/y", "docker.io/library/x/y:latest", "library/x/y:latest"),
            ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker.io/localhost/x:latest"),
        ] {
            let named = Named::parse(written).unwrap();
            assert_eq!((named.to_string().as_str(), named.familiar().as_str()), (full, familiar), "{written}");
            assert_eq!(Named::parse(full).unwrap(), named);
            assert_eq!(Named::parse(familiar).unwrap(), named);
        }
    }

    #[test]
    fn a_digest_decides() {
        let both = Named::parse(&format!("x:12@{DIGEST}")).unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/x:12@{DIGEST}"));
        assert_eq!((both.tag.as_deref(), both.wanted().as_str()), (Some("12"), DIGEST));
        let alone = Named::parse(&format!("x@{DIGEST}")).unwrap();
        assert_eq!((alone.tag.as_deref(), alone.familiar()), (None, format!("x@{DIGEST}")));
        assert_eq!(Named::parse("x").unwrap().wanted(), "latest");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "a".repeat(256);
        let tag = format!("x:{}", "t".repeat(129));
        for (text, words) in [
            ("", "empty"),
            (":12", "empty"),
            ("Debian", "capital letters"),
            ("docker.io/Debian", "capital letters"),
            ("https://quay.io/x", "begins with https://"),
            ("a//b", "empty component"),
            ("/b", "empty component"),
            ("a/", "empty component"),
            ("a/../b", "\"..\""),
            ("quay.io/a/../b", "\"..\""),
            ("a..b", "\"..\" between"),
            ("a___b", "\"___\" between"),
            ("a._b", "\"._\" between"),
            ("a-", "ends with"),
            ("-a", "begins or"),
            ("a%2fb", "'%'"),
            ("a b", "' '"),
            ("a?b", "'?'"),
            ("x:", "tag \"\" is empty"),
            ("x:-a", "does not begin"),
            ("x:a+b", "other characters"),
            (&tag, "more than 128"),
            (&long, "more than 255"),
            ("x@sha256:abc", "64 lower-case"),
            ("x@md5:abc", "neither sha256"),
            ("host:port/x", "1 to 65535"),
            ("host:0/x", "1 to 65535"),
            ("host:+5/x", "1 to 65535"),
            ("ho_st.de/x", "not the name of a host"),
            ("-host.de/x", "not the name of a host"),
            ("user@host.de/x", "not a digest"),
            ("[::1/x", "closing bracket"),
            ("[1.2]:5/x", "IPv6"),
            (&DIGEST[7..], "an id"),
            ("x\n", "'\\n'"),
        ] {
            let e = Named::parse(text).expect_err(text).to_string();
            assert!(e.contains(words), "{text}: {e}");
        }
    }
}
