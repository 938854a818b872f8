//! What a layer finds below it: the layers under it, merged as overlayfs merges them.
//!
//! By hand: `mount -t overlay -o ro,lowerdir=B:A overlay /mnt; ls -l /mnt/PATH`. A mount of our own would answer the same questions; but it
//! takes rights that unpacking otherwise does not, and fails where the store itself lies on an overlay.
//!
//! The uppermost layer that has a name decides. If it is a directory, the directories of that name further down are merged with it, as
//! far as the first that is opaque, and as the first whiteout or other thing in their place.

use super::super::archive;
use super::super::marks::{self, Form};
use super::super::put::is_directory;
use crate::error::Result;
use crate::sys::Called;
use crate::sys::file::{self, End};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, fstatat};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The layers below one.
pub struct Below {
    /// From the topmost to the lowest that can be seen, with the form of their marks.
    roots: Vec<(OwnedFd, Form)>,
}

/// Which of the layers have a directory, topmost first, as indices.
pub type Within = Vec<usize>;

/// What is there.
pub enum Found {
    /// Nothing.
    Nothing,
    /// A directory, merged from these layers.
    Directory(Within),
    /// Something else, in this layer.
    Other(usize, FileStat),
}

impl Below {
    /// Opens the layers, given from the lowest to the topmost.
    pub fn open(layers: &[PathBuf]) -> Result<Self> {
        let open = |path: &PathBuf| {
            let root = file::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY).called(|| format!("open({path:?})"))?;
            Ok((root, Form::of_layer(path)))
        };
        Ok(Below { roots: layers.iter().rev().map(open).collect::<crate::sys::Result<_>>()? })
    }

    /// The root, which all layers have.
    pub fn root(&self) -> Within {
        (0..self.roots.len()).collect()
    }

    /// Looks a name up in a directory.
    pub fn child(&self, within: &[usize], directory: &[u8], name: &OsStr) -> Result<Found> {
        let path = join(directory, name);
        let mut merged = Within::new();
        for &index in within {
            let (root, form) = &self.roots[index];
            let found = match fstatat(root, OsStr::from_bytes(&path), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => continue,
                found => found.called(|| format!("fstatat({:?})", archive::show(&path)))?,
            };
            if marks::is_whiteout(&found) {
                break;
            }
            if !is_directory(&found) {
                if merged.is_empty() {
                    return Ok(Found::Other(index, found));
                }
                break;
            }
            merged.push(index);
            if marks::is_opaque(self.fetch(index, &path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?, *form)? {
                break;
            }
        }
        Ok(if merged.is_empty() { Found::Nothing } else { Found::Directory(merged) })
    }

    /// Looks a path up, one component at a time; no links.
    pub fn find(&self, path: &[Vec<u8>]) -> Result<Found> {
        let (mut within, mut directory) = (self.root(), Vec::new());
        for (n, name) in path.iter().enumerate() {
            match self.child(&within, &directory, OsStr::from_bytes(name))? {
                Found::Directory(merged) => within = merged,
                other if n + 1 == path.len() => return Ok(other),
                _ => return Ok(Found::Nothing),
            }
            directory = join(&directory, OsStr::from_bytes(name));
        }
        Ok(Found::Directory(within))
    }

    /// Opens a path of one layer; no links.
    pub fn fetch(&self, index: usize, path: &[u8], flags: OFlag) -> Result<OwnedFd> {
        within(&self.roots[index].0, path, flags)
    }
}

/// The most that is read of an image's `/etc/passwd` or `/etc/group`.
const ACCOUNTS: u64 = 4 << 20;

/// Small files of one directory of an image, whole: `etc`, and `passwd` in it. The layers are given from the lowest to the topmost. Empty where there is
/// none, or no regular one.
pub fn files(layers: &[PathBuf], directory: &str, names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let below = Below::open(layers)?;
    let Found::Directory(within) = below.child(&below.root(), b"", OsStr::new(directory))? else {
        return Ok(vec![Vec::new(); names.len()]);
    };
    names.iter().map(|name| one(&below, &within, directory, name)).collect()
}

fn one(below: &Below, within: &[usize], directory: &str, name: &str) -> Result<Vec<u8>> {
    let Found::Other(index, found) = below.child(within, directory.as_bytes(), OsStr::new(name))? else {
        return Ok(Vec::new());
    };
    if found.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(Vec::new());
    }
    let path = join(directory.as_bytes(), OsStr::new(name));
    let opened = below.fetch(index, &path, OFlag::O_RDONLY)?;
    let bytes = file::read_rest(opened, End::Less, 4096, ACCOUNTS as usize)
        .called(|| format!("read({:?})", archive::show(&path)))?;
    match bytes.len() as u64 > ACCOUNTS {
        true => Err(crate::error!("the image's /{directory}/{name} has more than {ACCOUNTS} bytes")),
        false => Ok(bytes),
    }
}

/// Opens a path without links below a root.
pub fn within(root: &OwnedFd, path: &[u8], flags: OFlag) -> Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(resolve);
    let name = if path.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(path) };
    Ok(openat2(root, name, how).called(|| format!("openat2({:?}, BENEATH|NO_SYMLINKS)", archive::show(path)))?)
}

/// A path with one more component.
pub fn join(directory: &[u8], name: &OsStr) -> Vec<u8> {
    match directory.is_empty() {
        true => name.as_bytes().to_vec(),
        false => [directory, b"/", name.as_bytes()].concat(),
    }
}
