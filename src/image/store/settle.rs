//! Fits a layer that was unpacked on its own to the layers below it.
//!
//! Layers are unpacked at the same time, so none sees another. What it would have seen is put right here, when those below are there:
//! a directory that the archive leaves out has the owner, mode and times that it has below; a whiteout that hides nothing goes, because in a
//! directory that is not merged it would be listed; and where a directory was made in place of a link further down (`lib/x`, with
//! `lib -> usr/lib` below), or a hard link wanted a file from there, the layer has to be unpacked again, on a copy of what it wants (`seed`).
//!
//! By hand: `tar -C upper -x < layer.tar; mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay /mnt; ls -ld /mnt/*`.

use super::super::apart::{Apart, Why};
use super::super::put::is_directory;
use super::super::{archive, marks, xattr};
use super::below::{Below, Found, Within, join, within};
use crate::error;
use crate::error::Result;
use crate::sys::{self, Called};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A directory of the layer that is to be looked at.
struct Todo {
    path: Vec<u8>,
    /// What shows through it.
    below: Within,
    /// Whose owner, mode, attributes and times it gets.
    like: Option<usize>,
}

/// Settles a layer. Returns the paths that it wants from below; if there are any, the layer is not usable.
pub fn settle(root: &OwnedFd, apart: &Apart, below: &Below) -> Result<Vec<Vec<u8>>> {
    let wanted = wanted(apart, below)?;
    if !wanted.is_empty() {
        return Ok(wanted);
    }
    let inode = fstat(root).called(|| "fstat(layer)".into())?.st_ino;
    let all = below.root();
    let like = if apart.implicit.contains_key(&inode) { all.first().copied() } else { None };
    let mut todo = vec![Todo { path: Vec::new(), below: if apart.alone { Vec::new() } else { all }, like }];
    let mut hiding = Vec::new();
    // Without marks and with all directories described there is nothing to look for.
    let deep = apart.marks.is_some() || apart.implicit.keys().any(|known| *known != inode);
    while let Some(next) = todo.pop() {
        let directory = within(root, &next.path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let before = fstat(&directory).called(|| "fstat(directory)".into())?;
        if deep {
            look(&directory, &next, apart, below, &mut Finds { todo: &mut todo, hiding: &mut hiding })?;
        }
        match next.like {
            Some(index) => {
                let like = below.fetch(index, &next.path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                copy_meta(like.as_fd(), directory.as_fd())?;
            }
            None => times(directory.as_fd(), &before)?,
        }
    }
    // Those further down were found later.
    for path in hiding.iter().rev() {
        let cut = path.iter().rposition(|b| *b == b'/');
        let (parent, name) = (&path[..cut.unwrap_or(0)], &path[cut.map_or(0, |cut| cut + 1)..]);
        let parent = within(root, parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let before = fstat(&parent).called(|| "fstat(directory)".into())?;
        let own = within(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let own_before = fstat(&own).called(|| "fstat(directory)".into())?;
        marks::unset_opaque(&own)?;
        match unlinkat(&parent, OsStr::from_bytes(name), UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => times(own.as_fd(), &own_before)?,
            removed => removed.called(|| format!("unlinkat({:?}, REMOVEDIR)", archive::show(path)))?,
        }
        times(parent.as_fd(), &before)?;
    }
    Ok(Vec::new())
}

/// What the layer wants from below: targets of links, and links that it took for directories.
pub fn wanted(apart: &Apart, below: &Below) -> Result<Vec<Vec<u8>>> {
    let mut wanted = apart.wanted.clone();
    // Where a directory is missing below, all in it is. They come in the order in which they were made.
    let mut absent: HashSet<&[u8]> = HashSet::new();
    let mut in_the_way = None;
    for (path, why) in &apart.made {
        let above = path.iter().rposition(|b| *b == b'/').map_or(&b""[..], |cut| &path[..cut]);
        if absent.contains(above) {
            absent.insert(path);
            continue;
        }
        let words: Vec<Vec<u8>> = path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect();
        match below.find(&words)? {
            Found::Other(_, found) if is_link(&found) => wanted.push(path.clone()),
            Found::Other(..) if *why == Why::ToFill => {
                in_the_way.get_or_insert(path);
            }
            Found::Nothing => drop(absent.insert(path)),
            _ => {}
        }
    }
    match in_the_way {
        Some(path) if wanted.is_empty() => {
            let shown = archive::show(path);
            Err(error!("{shown:?} is not a directory in the layers below (ENOTDIR)"))
        }
        _ => Ok(wanted),
    }
}

struct Finds<'a> {
    todo: &'a mut Vec<Todo>,
    hiding: &'a mut Vec<Vec<u8>>,
}

/// Looks through one directory.
fn look(directory: &OwnedFd, here: &Todo, apart: &Apart, below: &Below, finds: &mut Finds<'_>) -> Result<()> {
    for (name, kind) in listing(directory)? {
        // The mark of the directory itself hides no name.
        if !matches!(kind, None | Some(Type::Directory | Type::CharacterDevice | Type::Fifo))
            || name == marks::OPAQUE_PIPE
        {
            continue;
        }
        let path = join(&here.path, &name);
        let call = || format!("fstatat({:?})", archive::show(&path));
        let found = fstatat(directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).called(call)?;
        if marks::is_whiteout(&found) {
            if matches!(below.child(&here.below, &here.path, &name)?, Found::Nothing) {
                unlinkat(directory, &*name, UnlinkatFlags::NoRemoveDir).called(|| format!("unlinkat({name:?})"))?;
            }
            continue;
        }
        if !is_directory(&found) {
            continue;
        }
        let why = apart.implicit.get(&found.st_ino).copied();
        let (merged, like) = match (below.child(&here.below, &here.path, &name)?, why) {
            (Found::Directory(merged), Some(_)) => (merged.clone(), merged.first().copied()),
            (Found::Directory(merged), None) => (merged, None),
            (Found::Nothing | Found::Other(..), Some(Why::ToHide)) => {
                finds.hiding.push(path.clone());
                (Vec::new(), None)
            }
            _ => (Vec::new(), None),
        };
        let opaque = match apart.marks {
            Some(form) => marks::is_opaque(within(directory, name.as_bytes(), OFlag::O_RDONLY)?, form)?,
            None => false,
        };
        finds.todo.push(Todo { path, below: if opaque { Vec::new() } else { merged }, like });
    }
    Ok(())
}

fn listing(directory: &OwnedFd) -> Result<Vec<(OsString, Option<Type>)>> {
    let own = directory.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC)".into())?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(own).called(|| "fdopendir".into())?.iter() {
        let entry = entry.called(|| "getdents64".into())?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsStr::from_bytes(name).to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Is this a symbolic link?
pub fn is_link(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits()
}

/// Owner, mode, attributes and times of one directory or file for another.
pub fn copy_meta(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> sys::Result<()> {
    let found = fstat(from).called(|| "fstat".into())?;
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    fchown(to, Some(uid), Some(gid)).called(|| format!("fchown({uid}, {gid})"))?;
    fchmod(to, Mode::from_bits_truncate(found.st_mode & 0o7777)).called(|| "fchmod".into())?;
    xattr::copy(from, to)?;
    times(to, &found)
}

/// Sets modification and access time back to what they were.
pub fn times(fd: BorrowedFd<'_>, found: &FileStat) -> sys::Result<()> {
    let time = TimeSpec::new(found.st_mtime, found.st_mtime_nsec);
    futimens(fd, &time, &time).called(|| "futimens".into())
}
