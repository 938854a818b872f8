//! Directories that an archive leaves out, and what a layer that stands apart has to say of them.
//!
//! By hand: `tar -cf layer.tar usr/lib/x` writes `usr/lib/x` and neither `usr` nor `usr/lib`. On the layers below, those two are what they
//! are there; in a layer that is unpacked on its own they have to be made, and to be told later from those that the layer describes.

use super::archive::show;
use super::marks::{self, Form};
use super::steps::{self, Step};
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

/// The mode of directories that an archive leaves out.
const COMMON: Mode = Mode::from_bits_truncate(0o755);

/// The directories that change, by inode: where, and the time they get in the end.
pub type Times = HashMap<u64, (Vec<u8>, TimeSpec)>;

/// What a layer that stands apart needs from those below it. Nothing of it for other layers.
#[derive(Debug, Default)]
pub struct Apart {
    /// Directories that the layer does not describe, by inode: theirs is what the layers below say of them.
    pub implicit: HashMap<u64, Why>,
    /// Where they were made, without links; some may be gone since.
    pub made: Vec<(Vec<u8>, Why)>,
    /// Of which form its marks are; `None`: there are none.
    pub marks: Option<Form>,
    /// The layer's root hides all below. Overlayfs does not look for that mark on a root.
    pub alone: bool,
    /// Names that hard links were to be made to and that are not in the layer. Those links are not there.
    pub wanted: Vec<Vec<u8>>,
}

impl Apart {
    /// The form of the marks of the layer in `root`, for who makes one.
    pub fn form(&mut self, root: &OwnedFd) -> Result<Form> {
        let form = self.marks.map_or_else(|| Form::of_ground(root), Ok)?;
        self.marks = Some(form);
        Ok(form)
    }
}

/// What a directory was made for that the layer does not describe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// For something to be in it.
    ToFill,
    /// For a whiteout: if there is nothing below, it should not be there.
    ToHide,
}

/// Makes the directories of `path` that are missing, links followed below the root.
///
/// In a layer that stands apart, a whiteout on the way is something that is gone: a directory made there is new, and shows nothing of what
/// was there before. `None`: nothing is made for who only wants to hide what is gone.
pub fn make_all(
    root: &OwnedFd,
    path: &[u8],
    why: Why,
    mut apart: Option<&mut Apart>,
    times: &mut Times,
) -> Result<Option<OwnedFd>> {
    let call = |what: &'static str, name: &OsStr| format!("{what}({name:?}) below {:?}", show(path));
    let mut hidden = false;
    // What lies below an opaque directory of this layer is not what lies below the layer.
    let mut opaque = apart.as_ref().is_some_and(|apart| apart.alone);
    let walked = steps::walk(root, path, &mut |here, above, name| {
        let before = fstat(here).called(|| call("fstat", name))?;
        let open = |flags| openat(here, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        let make = || match mkdirat(here, name, COMMON) {
            // Once more, because the caller's umask had a say.
            Ok(()) => fchmodat(here, name, COMMON, FchmodatFlags::NoFollowSymlink)
                .map(|()| true)
                .called(|| call("fchmodat", name)),
            Err(Errno::EEXIST) => Ok(false),
            made => made.map(|()| true).called(|| call("mkdirat", name)),
        };
        let made = make()?;
        if made {
            let time = TimeSpec::new(before.st_mtime, before.st_mtime_nsec);
            times.entry(before.st_ino).or_insert_with(|| (above.join(&b'/'), time));
        }
        let mut found = open(OFlag::O_PATH).called(|| call("openat", name))?;
        let stat = fstat(&found).called(|| call("fstat", name))?;
        if let Some(apart) = &mut apart {
            if made {
                apart.implicit.insert(stat.st_ino, why);
                if !opaque {
                    apart.made.push((below(above, name), why));
                }
            } else if marks::is_whiteout(&stat) {
                if why == Why::ToHide {
                    hidden = true;
                    return Ok(Step::Stop);
                }
                unlinkat(here, name, UnlinkatFlags::NoRemoveDir).called(|| call("unlinkat", name))?;
                make()?;
                found = open(OFlag::O_RDONLY | OFlag::O_DIRECTORY).called(|| call("openat", name))?;
                marks::set_opaque(&found, apart.form(root)?)?;
                opaque = true;
                return Ok(Step::Into(found));
            } else if let Some(form) = apart.marks
                && stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
            {
                opaque |= marks::is_opaque(open(OFlag::O_RDONLY).called(|| call("openat", name))?, form)?;
            }
        }
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Ok(Step::Into(found)),
            SFlag::S_IFLNK => link(&found, name),
            _ => Err(error!("{name:?} in {:?} is not a directory", show(path))),
        }
    })?;
    Ok((!hidden).then_some(walked.directory))
}

fn below(above: &[Vec<u8>], name: &OsStr) -> Vec<u8> {
    [above, &[name.as_bytes().to_vec()]].concat().join(&b'/')
}

fn link(found: &OwnedFd, name: &OsStr) -> Result<Step> {
    let target = nix::fcntl::readlinkat(found, "").called(|| format!("readlinkat({name:?})"))?;
    Ok(Step::Link(target.as_bytes().to_vec()))
}

/// Where `path` leads, as far as this layer knows.
pub fn resolve(root: &OwnedFd, path: &[u8]) -> Result<Vec<u8>> {
    let walked = steps::walk(root, path, &mut |here, _, name| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(found) = openat(here, name, flags, Mode::empty()) else { return Ok(Step::Stop) };
        let mode = fstat(&found).called(|| format!("fstat({name:?})"))?.st_mode;
        match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR => Ok(Step::Into(found)),
            SFlag::S_IFLNK => link(&found, name),
            _ => Ok(Step::Stop),
        }
    })?;
    Ok(walked.resolved())
}
