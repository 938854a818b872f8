//! Applies the entries of a layer to a directory on the host, as if that directory were `/`.
//!
//! Everything goes through descriptors. An entry's parent is opened with openat2(2) and `RESOLVE_IN_ROOT`, under which `..` and absolute
//! links stop at the root; the entry itself is made in that descriptor by its last component, by calls that do not follow a link there.
//! Following links in the parent is what Docker does and images rely on: with `lib -> usr/lib` in one layer and `lib/x` in the next,
//! the file belongs in `usr/lib`. `RESOLVE_BENEATH` or `RESOLVE_NO_SYMLINKS` would refuse these images, and protect no more.
//!
//! By hand: `mkdir r; ln -s / r/up; chroot r /bin/touch /up/x` makes `r/x`.
//!
//! What goes wrong: whiteouts hide only what the layers below brought, wherever in the archive they stand, so a layer remembers what it
//! made; chown(2) clears setuid and capabilities, so owner, mode, attributes and times come in this order; every name that is added
//! changes its directory's time, so the times of directories are set at the end of a layer.

use super::apart::{Apart, Times, Why, make_all, resolve};
use super::archive::{Entry, Kind, show};
use super::name::{self, Asks, Place};
use super::put::{device, fill, is_directory, meta, named, spec};
use super::{marks, prune, xattr};
use crate::error;
use crate::error::Result;
use crate::sys::{Called, path};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, fstat, fstatat, futimens, mkdirat, mknodat};
use nix::sys::time::TimeSpec;
use nix::unistd::{linkat, symlinkat};
use std::collections::hash_map::Entry::Vacant;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

/// Bytes copied at once.
const BUFFER: usize = 128 << 10;

/// The most directories that one layer may touch: each is remembered until its end, for its time. Those that an archive leaves out count too.
const DIRECTORIES: usize = 200_000;

/// An image's root while its layers are applied.
pub struct Tree {
    root: Rc<OwnedFd>,
    /// As the kernel names it.
    name: Option<PathBuf>,
    inode: u64,
    buffer: Vec<u8>,
}

/// One layer being applied.
pub struct Layer<'a> {
    tree: &'a mut Tree,
    made: Made,
    times: Times,
    /// The parent that was opened last: the next entry is most often its neighbour.
    last: Option<(Vec<u8>, Parent)>,
    apart: Option<Apart>,
}

/// Whether there is anything below that a whiteout could hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first layer: whiteouts mean nothing.
    Base,
    /// Any other.
    Upper,
    /// Any other, in a directory of its own: what it removes becomes marks, and what it needs from below is written down.
    Apart,
}

/// An open directory and its inode.
#[derive(Clone)]
struct Parent {
    fd: Rc<OwnedFd>,
    inode: u64,
}

/// What this layer made, as keyed hashes of (directory's inode, name): 8 bytes each. By path would be wrong, because a path may go through
/// a link; a clash of two hashes, which an image cannot bring about without the key, would leave one hidden file visible.
struct Made {
    key: RandomState,
    hashes: Option<HashSet<u64>>,
}

impl Made {
    fn add(&mut self, parent: u64, name: &OsStr) {
        if let Some(hashes) = &mut self.hashes {
            hashes.insert(self.key.hash_one((parent, name)));
        }
    }

    fn has(&self, parent: u64, name: &OsStr) -> bool {
        self.hashes.as_ref().is_some_and(|hashes| hashes.contains(&self.key.hash_one((parent, name))))
    }
}

impl Tree {
    /// The path of a directory below the root without the links by which it was reached; where nobody can tell, as it was reached.
    fn own_name(&self, directory: impl AsFd, reached: &[u8]) -> Vec<u8> {
        let whole = path::name(directory).ok();
        let own = whole.as_deref().zip(self.name.as_deref()).and_then(|(whole, root)| whole.strip_prefix(root).ok());
        own.map_or_else(|| reached.to_vec(), |own| own.as_os_str().as_bytes().to_vec())
    }

    /// Takes the empty directory that becomes the image's root.
    pub fn new(root: OwnedFd) -> Result<Self> {
        let inode = fstat(&root).called(|| "fstat(rootfs)".into())?.st_ino;
        Ok(Tree { name: path::name(&root).ok(), root: Rc::new(root), inode, buffer: vec![0; BUFFER] })
    }

    /// Begins a layer.
    pub fn layer(&mut self, position: Position) -> Layer<'_> {
        let hashes = (position != Position::Base).then(HashSet::new);
        let made = Made { key: RandomState::new(), hashes };
        let apart = (position == Position::Apart).then(|| {
            let implicit = HashMap::from([(self.inode, Why::ToFill)]);
            Apart { implicit, ..Apart::default() }
        });
        Layer { tree: self, made, times: HashMap::new(), last: None, apart }
    }

    /// Opens a path of the image, links resolved below its root.
    pub fn open(&self, path: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
        below(&self.root, path, flags)
    }
}

/// openat2(2) below a root. `RESOLVE_NO_XDEV`: there are no mounts in a tree that was just made, so one that appears is not ours.
fn below(root: &OwnedFd, path: &OsStr, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    let path = if path.is_empty() { OsStr::new(".") } else { path };
    // EAGAIN: something was renamed somewhere on the host while `..` was resolved.
    let mut opened = openat2(root, path, how);
    for _ in 0..100 {
        if !matches!(opened, Err(Errno::EAGAIN)) {
            break;
        }
        opened = openat2(root, path, how);
    }
    opened
}

impl Layer<'_> {
    /// Applies one entry; `content` gives a file's data, extent after extent.
    pub fn apply(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.act(entry, content).map_err(|e| e.at(show(&entry.path)))
    }

    fn act(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let set = xattr::decide(&entry.xattrs)?;
        match name::asks(&entry.path)? {
            Asks::Nothing => Ok(()),
            Asks::Hide { parent, name } => self.hide(&parent, Some(name)),
            Asks::HideAll(parent) => self.hide(&parent, None),
            Asks::Make(Place::Root) if entry.kind == Kind::Directory => {
                let root = self.tree.open(OsStr::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                let root = root.called(|| "openat2(rootfs)".into())?;
                self.directory_meta(root.as_fd(), self.tree.inode, b"", entry, &set)
            }
            Asks::Make(Place::Root) => Err(error!("the root of the image is not a directory")),
            Asks::Make(Place::Below { parent, base }) => {
                let Some(place) = self.parent(&parent, Missing::Made)? else { return Ok(()) };
                self.make(&place, &parent, base, entry, &set, content)?;
                self.made.add(place.inode, base);
                Ok(())
            }
        }
    }

    /// Sets the times of the directories that changed. To be called after the last entry.
    pub fn finish(self) -> Result<Apart> {
        for (inode, (path, time)) in &self.times {
            let path = OsStr::from_bytes(path);
            // It may have been removed again, or something else stands there now.
            let Ok(directory) = self.tree.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) else { continue };
            if fstat(&directory).called(|| format!("fstat({path:?})"))?.st_ino == *inode {
                futimens(&directory, time, time).called(|| format!("futimens({path:?})"))?;
            }
        }
        Ok(self.apart.unwrap_or_default())
    }

    /// What the layer needs from those below, as far as it came. `None` for one that does not stand apart.
    pub fn apart(&self) -> Option<&Apart> {
        self.apart.as_ref()
    }

    fn make(
        &mut self,
        place: &Parent,
        parent: &[u8],
        base: &OsStr,
        entry: &Entry,
        set: &[(std::ffi::CString, &[u8])],
        content: &mut dyn Read,
    ) -> Result<()> {
        // A hard link may repeat the attributes of its target, which has them: umoci writes that.
        if !set.is_empty() && !matches!(entry.kind, Kind::File { .. } | Kind::Directory | Kind::Hardlink(_)) {
            return Err(error!("attribute {:?} on something that is neither a file nor a directory", set[0].0));
        }
        let at = place.fd.as_fd();
        match &entry.kind {
            Kind::File { size, extents } => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let private = Mode::S_IRUSR | Mode::S_IWUSR;
                let file = self.afresh(
                    at,
                    base,
                    || openat(at, base, flags, private),
                    || format!("openat({base:?}, CREAT|EXCL)"),
                )?;
                let mut file = File::from(file);
                fill(&mut file, *size, extents, content, &mut self.tree.buffer)?;
                meta(file.as_fd(), entry, set)?;
                let time = spec(entry.mtime);
                futimens(&file, &time, &time).called(|| "futimens".into())?;
            }
            Kind::Directory => {
                let (fd, inode) = self.directory(at, base)?;
                let path = [parent, base.as_bytes()].join(if parent.is_empty() { &b""[..] } else { &b"/"[..] });
                self.directory_meta(fd.as_fd(), inode, &path, entry, set)?;
            }
            Kind::Symlink(target) => {
                let target = OsStr::from_bytes(target);
                self.afresh(at, base, || symlinkat(target, at, base), || format!("symlinkat({target:?}, {base:?})"))?;
                named(at, base, entry, None)?;
            }
            Kind::Hardlink(target) => {
                let (from, name) = match name::place(target).map_err(|e| e.at("the target of a hard link"))? {
                    Place::Root => return Err(error!("a hard link to the root")),
                    Place::Below { parent, base: name } => match self.target(&parent, name, target)? {
                        Some(place) => (place, name),
                        None => return Ok(()),
                    },
                };
                if (from.inode, name) == (place.inode, base) {
                    return Err(error!("a hard link to itself"));
                }
                // Without AT_SYMLINK_FOLLOW a link to a symbolic link is a second name of that link. EXDEV stays an error: a copy
                // would be another file.
                let link = || linkat(&*from.fd, name, at, base, AtFlags::empty());
                self.afresh(at, base, link, || format!("linkat({:?}, {base:?})", show(target)))?;
            }
            Kind::Node(node) => {
                let (kind, number) = device(*node, entry.mode)?;
                let private = Mode::S_IRUSR | Mode::S_IWUSR;
                self.afresh(
                    at,
                    base,
                    || mknodat(at, base, kind, private, number),
                    || format!("mknodat({base:?}, {node:?})"),
                )?;
                named(at, base, entry, Some(entry.mode))?;
            }
        }
        Ok(())
    }

    /// Calls `make`; if something is in the way, removes it and calls again.
    fn afresh<T>(
        &mut self,
        at: BorrowedFd<'_>,
        base: &OsStr,
        mut make: impl FnMut() -> nix::Result<T>,
        call: impl FnOnce() -> String,
    ) -> Result<T> {
        let mut made = make();
        if matches!(made, Err(Errno::EEXIST)) {
            self.last = None;
            prune::entry(at, base, &prune::nothing)?;
            made = make();
        }
        Ok(made.called(call)?)
    }

    /// Makes a directory, or takes the one that is there; only a real one, never a link to one.
    fn directory(&mut self, at: BorrowedFd<'_>, base: &OsStr) -> Result<(OwnedFd, u64)> {
        let there = match mkdirat(at, base, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => {
                let found = fstatat(at, base, AtFlags::AT_SYMLINK_NOFOLLOW).called(|| format!("fstatat({base:?})"))?;
                is_directory(&found)
            }
            made => made.map(|()| false).called(|| format!("mkdirat({base:?})"))?,
        };
        // What is replaced may hide a directory below, which is not to show through the new one.
        let mut replaced = false;
        let open = || {
            openat(at, base, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        };
        let fd = match open() {
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                self.afresh(at, base, || mkdirat(at, base, Mode::S_IRWXU), || format!("mkdirat({base:?})"))?;
                replaced = true;
                open()
            }
            opened => opened,
        };
        let fd = fd.called(|| format!("openat({base:?}, DIRECTORY|NOFOLLOW)"))?;
        if let (true, Some(apart)) = (replaced, &mut self.apart) {
            marks::set_opaque(&fd, apart.form(&self.tree.root)?)?;
        }
        if there {
            xattr::clear(fd.as_fd())?;
        }
        let inode = fstat(&fd).called(|| format!("fstat({base:?})"))?.st_ino;
        Ok((fd, inode))
    }

    fn directory_meta(
        &mut self,
        fd: BorrowedFd<'_>,
        inode: u64,
        path: &[u8],
        entry: &Entry,
        set: &[(std::ffi::CString, &[u8])],
    ) -> Result<()> {
        meta(fd, entry, set)?;
        if let Some(apart) = &mut self.apart {
            apart.implicit.remove(&inode);
        }
        self.times.insert(inode, (self.tree.own_name(fd, path), spec(entry.mtime)));
        Ok(())
    }

    /// Removes what the layers below put at `name` in `parent`, or in all of `parent`.
    fn hide(&mut self, parent: &[u8], name: Option<&OsStr>) -> Result<()> {
        if self.made.hashes.is_none() {
            return Ok(());
        }
        let missing = if self.apart.is_some() { Missing::MadeToHide } else { Missing::AnError };
        let place = match self.parent(parent, missing) {
            Ok(Some(place)) => place,
            Ok(None) => return Ok(()),
            // Nothing there, or no directory: nothing to hide.
            Err(_) if self.is_missing(parent) => return Ok(()),
            Err(e) => return Err(e),
        };
        self.last = None;
        let keep = |parent: u64, name: &OsStr| self.made.has(parent, name);
        let directory = |at: BorrowedFd<'_>, name: &OsStr| {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(at, name, flags, Mode::empty()).called(|| format!("openat({name:?}, DIRECTORY)"))
        };
        let at = place.fd.as_fd();
        match name {
            Some(name) => prune::entry(at, name, &keep)?,
            None => drop(prune::content(directory(at, OsStr::new("."))?, &keep)?),
        }
        let Some(apart) = &mut self.apart else { return Ok(()) };
        let form = apart.form(&self.tree.root)?;
        match name {
            None if place.inode == self.tree.inode => apart.alone = true,
            None => marks::set_opaque(directory(at, OsStr::new("."))?, form)?,
            Some(name) => match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => marks::whiteout(at, name, form)?,
                found if is_directory(&found.called(|| format!("fstatat({name:?})"))?) => {
                    marks::set_opaque(directory(at, name)?, form)?;
                }
                _ => {}
            },
        }
        Ok(())
    }

    /// Is there no directory of this name?
    fn is_missing(&self, path: &[u8]) -> bool {
        let opened = self.tree.open(OsStr::from_bytes(path), OFlag::O_PATH | OFlag::O_DIRECTORY);
        matches!(opened, Err(Errno::ENOENT | Errno::ENOTDIR))
    }

    /// The directory that has the target of a hard link; `None` if that must come from below, which is written down.
    fn target(&mut self, parent: &[u8], name: &OsStr, target: &[u8]) -> Result<Option<Parent>> {
        let found = self.parent(parent, Missing::AnError);
        let Some(apart) = &mut self.apart else { return found };
        if let Ok(Some(place)) = &found {
            match fstatat(&*place.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // The layer itself has removed it.
                Ok(found) if marks::is_whiteout(&found) => {
                    return Err(Errno::ENOENT).called(|| format!("linkat({:?})", show(target)))?;
                }
                // A directory that the layer does not describe may be a link below.
                Ok(there) if is_directory(&there) && apart.implicit.contains_key(&there.st_ino) => {}
                Ok(_) => return found,
                Err(_) => {}
            }
        }
        apart.wanted.push(resolve(&self.tree.root, target)?);
        Ok(None)
    }

    /// Opens the directory `path`, and remembers its time before it changes.
    fn parent(&mut self, path: &[u8], missing: Missing) -> Result<Option<Parent>> {
        if let Some((last, parent)) = &self.last
            && last == path
        {
            return Ok(Some(parent.clone()));
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let fd = match self.tree.open(OsStr::from_bytes(path), flags) {
            // Not a directory: it may be a whiteout.
            Err(Errno::ENOENT | Errno::ENOTDIR) if missing != Missing::AnError && self.apart.is_some() => {
                let why = if missing == Missing::Made { Why::ToFill } else { Why::ToHide };
                let Some(made) = make_all(&self.tree.root, path, why, self.apart.as_mut(), &mut self.times)? else {
                    return Ok(None);
                };
                made
            }
            Err(Errno::ENOENT) if missing == Missing::Made => {
                let Some(made) = make_all(&self.tree.root, path, Why::ToFill, None, &mut self.times)? else {
                    return Ok(None);
                };
                made
            }
            opened => opened.called(|| format!("openat2(rootfs, {:?}, IN_ROOT)", show(path)))?,
        };
        let found = fstat(&fd).called(|| format!("fstat({:?})", show(path)))?;
        if let Vacant(new) = self.times.entry(found.st_ino) {
            // Under its own name: a link on the way may be gone when the times are set.
            let time = TimeSpec::new(found.st_mtime, found.st_mtime_nsec);
            new.insert((self.tree.own_name(&fd, path), time));
        }
        if self.times.len() > DIRECTORIES {
            return Err(error!("more than {DIRECTORIES} directories in a layer: refused as a bomb"));
        }
        if let (Missing::Made, Some(why)) =
            (missing, self.apart.as_mut().and_then(|a| a.implicit.get_mut(&found.st_ino)))
        {
            *why = Why::ToFill;
        }
        let parent = Parent { fd: Rc::new(fd), inode: found.st_ino };
        self.last = Some((path.to_vec(), parent.clone()));
        Ok(Some(parent))
    }
}

/// What becomes of a parent that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is made, with mode 0755 and owner 0, as other tools do for archives that leave directories out.
    Made,
    /// The same, for a whiteout.
    MadeToHide,
    AnError,
}
