//! Names in an archive: cut into components, and whiteouts told from files.
//!
//! What an image may name is decided here, before anything is opened. `..` is refused rather than resolved: no builder writes it, and its
//! meaning would depend on symbolic links.

use super::archive::show;
use super::marks;
use crate::error;
use crate::error::Result;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// The longest component (`NAME_MAX`) and the longest path without its NUL (`PATH_MAX`).
const COMPONENT: usize = 255;
const PATH: usize = 4095;

/// Where an entry goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// The root itself.
    Root,
    /// `base` in `parent`; `parent` is relative, cleaned, and empty for the root.
    Below {
        /// Components joined by `/`.
        parent: Vec<u8>,
        /// The last component.
        base: &'a OsStr,
    },
}

/// What an entry's name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks<'a> {
    /// To be made.
    Make(Place<'a>),
    /// Remove `name` of the layers below from `parent` (`.wh.NAME`).
    Hide {
        /// As in [`Place::Below`].
        parent: Vec<u8>,
        /// Neither empty nor `.` nor `..`.
        name: &'a OsStr,
    },
    /// Remove from this directory all that the layers below put there (`.wh..wh..opq`).
    HideAll(Vec<u8>),
    /// Nothing: bookkeeping of aufs (`.wh..wh.plnk`), which old builders left in.
    Nothing,
}

/// Cuts a name into components: empty ones and `.` fall out, a leading `/` means the root of the image.
pub fn place(path: &[u8]) -> Result<Place<'_>> {
    if path.len() > PATH {
        return Err(error!("a name of {} bytes (at most {PATH})", path.len()));
    }
    if path.contains(&0) {
        return Err(error!("a name with a NUL byte"));
    }
    let mut components = Vec::new();
    for component in path.split(|b| *b == b'/').filter(|component| !matches!(*component, b"" | b".")) {
        if component == b".." {
            return Err(error!("a name with .. in it"));
        }
        if component.len() > COMPONENT {
            return Err(error!("a name of {} bytes between slashes (at most {COMPONENT})", component.len()));
        }
        components.push(component);
    }
    Ok(match components.split_last() {
        None => Place::Root,
        Some((base, parent)) => Place::Below { parent: parent.join(&b'/'), base: OsStr::from_bytes(base) },
    })
}

/// Reads an entry's name as the layer format has it (image-spec, layer.md "Whiteouts").
pub fn asks(path: &[u8]) -> Result<Asks<'_>> {
    let Place::Below { parent, base } = place(path)? else { return Ok(Asks::Make(Place::Root)) };
    let mut above = parent.split(|b| *b == b'/');
    if base == marks::OPAQUE_PIPE || above.clone().any(|component| component == marks::OPAQUE_PIPE.as_bytes()) {
        return Err(error!("{} is a name of the store's own", marks::OPAQUE_PIPE));
    }
    if parent.starts_with(b".wh..wh.") {
        return Ok(Asks::Nothing);
    }
    if above.any(|component| component.starts_with(b".wh.")) {
        return Err(error!("a whiteout with something below it"));
    }
    let Some(hidden) = base.as_bytes().strip_prefix(b".wh.") else {
        return Ok(Asks::Make(Place::Below { parent, base }));
    };
    match hidden {
        b".wh..opq" => Ok(Asks::HideAll(parent)),
        b"" | b"." | b".." => Err(error!("a whiteout of {:?}", show(hidden))),
        _ if hidden.starts_with(b".wh.") => Ok(Asks::Nothing),
        _ => Ok(Asks::Hide { parent, name: OsStr::from_bytes(hidden) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(parent: &str, base: &'static str) -> Place<'static> {
        Place::Below { parent: parent.as_bytes().to_vec(), base: OsStr::new(base) }
    }

    #[test]
    fn places() {
        for root in ["", "/", ".", "./", ".//./"] {
            assert_eq!(place(root.as_bytes()), Ok(Place::Root), "{root}");
        }
        assert_eq!(place(b"etc/passwd"), Ok(below("etc", "passwd")));
        assert_eq!(place(b"/./a//b/c/"), Ok(below("a/b", "c")));
        assert_eq!(place(b"..."), Ok(below("", "...")));
    }

    #[test]
    fn names_that_are_refused() {
        let (long, deep) = ("n".repeat(256), "a/".repeat(5000));
        for name in ["..", "../x", "a/../../x", "a/..", "/..", "a\0b", &long, &deep] {
            assert!(place(name.as_bytes()).is_err(), "{name}");
        }
    }

    #[test]
    fn whiteouts() {
        let hide = |parent: &str, name: &'static str| Ok(Asks::Hide { parent: parent.into(), name: OsStr::new(name) });
        assert_eq!(asks(b".wh.x"), hide("", "x"));
        assert_eq!(asks(b"etc/.wh.x"), hide("etc", "x"));
        assert_eq!(asks(b"etc/.wh..."), Err(error!("a whiteout of \"..\"")));
        assert_eq!(asks(b"etc/.wh....."), hide("etc", "...."));
        assert_eq!(asks(b"etc/.wh..wh..opq"), Ok(Asks::HideAll(b"etc".to_vec())));
        assert_eq!(asks(b".wh..wh.plnk/1.2"), Ok(Asks::Nothing));
        assert_eq!(asks(b".wh..wh.aufs"), Ok(Asks::Nothing));
        for name in [".wh.", ".wh..", ".wh...", "etc/.wh./", "a/.wh.b/c", "a/.corten.opaque", "a/.corten.opaque/b"] {
            assert!(asks(name.as_bytes()).is_err(), "{name}");
        }
    }
}
