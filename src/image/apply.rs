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

use super::archive::{Entry, Extent, Kind, Node, show, told};
use super::name::{self, Asks, Place};
use super::pax::Time;
use super::{prune, xattr};
use crate::error;
use crate::error::Result;
use crate::sys::{self, Called};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

/// Bytes copied at once.
const BUFFER: usize = 128 << 10;
/// How many symbolic links one path may lead through, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;
/// The mode of directories that an archive leaves out.
const COMMON: Mode = Mode::from_bits_truncate(0o755);

/// An image's root while its layers are applied.
pub struct Tree {
    root: Rc<OwnedFd>,
    inode: u64,
    buffer: Vec<u8>,
}

/// One layer being applied.
pub struct Layer<'a> {
    tree: &'a mut Tree,
    made: Made,
    /// The directories that change, by inode: where, and the time they get in the end.
    times: HashMap<u64, (Vec<u8>, TimeSpec)>,
    /// The parent that was opened last: the next entry is most often its neighbour.
    last: Option<(Vec<u8>, Parent)>,
}

/// Whether there is anything below that a whiteout could hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first layer: whiteouts mean nothing.
    Base,
    /// Any other.
    Upper,
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
    /// Takes the empty directory that becomes the image's root.
    pub fn new(root: OwnedFd) -> Result<Self> {
        let inode = fstat(&root).called(|| "fstat(rootfs)".into())?.st_ino;
        Ok(Tree { root: Rc::new(root), inode, buffer: vec![0; BUFFER] })
    }

    /// Begins a layer.
    pub fn layer(&mut self, position: Position) -> Layer<'_> {
        let hashes = (position == Position::Upper).then(HashSet::new);
        Layer { tree: self, made: Made { key: RandomState::new(), hashes }, times: HashMap::new(), last: None }
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
                let place = self.parent(&parent, Missing::Made)?;
                self.make(&place, &parent, base, entry, &set, content)?;
                self.made.add(place.inode, base);
                Ok(())
            }
        }
    }

    /// Sets the times of the directories that changed. To be called after the last entry.
    pub fn finish(self) -> Result<()> {
        for (inode, (path, time)) in &self.times {
            let path = OsStr::from_bytes(path);
            // It may have been removed again, or something else stands there now.
            let Ok(directory) = self.tree.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) else { continue };
            if fstat(&directory).called(|| format!("fstat({path:?})"))?.st_ino == *inode {
                futimens(&directory, time, time).called(|| format!("futimens({path:?})"))?;
            }
        }
        Ok(())
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
        if !set.is_empty() && !matches!(entry.kind, Kind::File { .. } | Kind::Directory) {
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
                    Place::Below { parent, base: name } => (self.parent(&parent, Missing::AnError)?, name),
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
                let (kind, number) = device(*node)?;
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
        let open = || {
            openat(at, base, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        };
        let fd = match open() {
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                self.afresh(at, base, || mkdirat(at, base, Mode::S_IRWXU), || format!("mkdirat({base:?})"))?;
                open()
            }
            opened => opened,
        };
        let fd = fd.called(|| format!("openat({base:?}, DIRECTORY|NOFOLLOW)"))?;
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
        self.times.insert(inode, (path.to_vec(), spec(entry.mtime)));
        Ok(())
    }

    /// Removes what the layers below put at `name` in `parent`, or in all of `parent`.
    fn hide(&mut self, parent: &[u8], name: Option<&OsStr>) -> Result<()> {
        if self.made.hashes.is_none() {
            return Ok(());
        }
        let place = match self.parent(parent, Missing::AnError) {
            Ok(place) => place,
            // Nothing there, nothing to hide.
            Err(_) if matches!(self.tree.open(OsStr::from_bytes(parent), OFlag::O_PATH), Err(Errno::ENOENT)) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        self.last = None;
        let keep = |parent: u64, name: &OsStr| self.made.has(parent, name);
        match name {
            Some(name) => prune::entry(place.fd.as_fd(), name, &keep)?,
            None => {
                let listed =
                    openat(&*place.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
                prune::content(listed.called(|| format!("openat({:?}, DIRECTORY)", show(parent)))?, &keep)?;
            }
        }
        Ok(())
    }

    /// Opens the directory `path`, and remembers its time before it changes.
    fn parent(&mut self, path: &[u8], missing: Missing) -> Result<Parent> {
        if let Some((last, parent)) = &self.last
            && last == path
        {
            return Ok(parent.clone());
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let fd = match self.tree.open(OsStr::from_bytes(path), flags) {
            Err(Errno::ENOENT) if missing == Missing::Made => make_all(&self.tree.root, path)?,
            opened => opened.called(|| format!("openat2(rootfs, {:?}, IN_ROOT)", show(path)))?,
        };
        let found = fstat(&fd).called(|| format!("fstat({:?})", show(path)))?;
        let time = TimeSpec::new(found.st_mtime, found.st_mtime_nsec);
        self.times.entry(found.st_ino).or_insert_with(|| (path.to_vec(), time));
        let parent = Parent { fd: Rc::new(fd), inode: found.st_ino };
        self.last = Some((path.to_vec(), parent.clone()));
        Ok(parent)
    }
}

/// What becomes of a parent that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is made, with mode 0755 and owner 0, as other tools do for archives that leave directories out.
    Made,
    AnError,
}

/// Makes the directories of `path` that are missing. openat2 cannot create on the way, so this walks by hand: a stack of descriptors, which
/// `..` pops and an absolute link empties, cannot be left.
fn make_all(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let call = |what: &'static str, name: &OsStr| format!("{what}({name:?}) below {:?}", show(path));
    let words = |path: &[u8]| -> Vec<Vec<u8>> { path.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect() };
    let duplicate = || root.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC, rootfs)".into());
    let mut stack = vec![duplicate()?];
    let mut todo = words(path);
    let mut links = 0;
    while let Some(word) = todo.pop() {
        let name = OsStr::from_bytes(&word);
        match &word[..] {
            b"" | b"." => continue,
            b".." => {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            _ => {}
        }
        let Some(here) = stack.last() else { continue };
        match mkdirat(here, name, COMMON) {
            // Once more, because the caller's umask had a say.
            Ok(()) => fchmodat(here, name, COMMON, FchmodatFlags::NoFollowSymlink).called(|| call("fchmodat", name))?,
            Err(Errno::EEXIST) => {}
            made => made.called(|| call("mkdirat", name))?,
        }
        let found = openat(here, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        let found = found.called(|| call("openat", name))?;
        let kind =
            SFlag::from_bits_truncate(fstat(&found).called(|| call("fstat", name))?.st_mode & SFlag::S_IFMT.bits());
        match kind {
            SFlag::S_IFDIR => stack.push(found),
            SFlag::S_IFLNK => {
                links += 1;
                if links > LINKS {
                    return Err(error!("{:?} leads through more than {LINKS} symbolic links", show(path)));
                }
                let target = nix::fcntl::readlinkat(&found, "").called(|| call("readlinkat", name))?;
                if target.as_bytes().starts_with(b"/") {
                    stack = vec![duplicate()?];
                }
                todo.extend(words(target.as_bytes()));
            }
            _ => return Err(error!("{name:?} in {:?} is not a directory", show(path))),
        }
    }
    Ok(stack.pop().map_or_else(duplicate, Ok)?)
}

/// Writes a file's data. Holes stay holes.
fn fill(file: &mut File, size: u64, extents: &[Extent], content: &mut dyn Read, buffer: &mut [u8]) -> Result<()> {
    let mut at = 0;
    for extent in extents {
        if extent.offset != at {
            file.seek(SeekFrom::Start(extent.offset)).called(|| format!("lseek({})", extent.offset))?;
        }
        let mut left = extent.length;
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            let got = content.read(&mut buffer[..want]).map_err(told)?;
            if got == 0 {
                return Err(error!("the archive is cut short"));
            }
            file.write_all(&buffer[..got]).called(|| format!("write({got} bytes)"))?;
            left -= got as u64;
        }
        at = extent.offset + extent.length;
    }
    if at != size {
        file.set_len(size).called(|| format!("ftruncate({size})"))?;
    }
    Ok(())
}

/// Owner, mode, attributes, in the order in which the one does not undo the other.
fn meta(fd: BorrowedFd<'_>, entry: &Entry, set: &[(std::ffi::CString, &[u8])]) -> sys::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchown(fd, Some(uid), Some(gid)).called(|| format!("fchown({uid}, {gid})"))?;
    fchmod(fd, Mode::from_bits_truncate(entry.mode)).called(|| format!("fchmod({:#o})", entry.mode))?;
    xattr::apply(fd, set)
}

/// The same for what cannot be opened, by its name in the directory where it was just made, never following it. Nobody else can put
/// something else there: the bundle is only the owner's until it is complete.
fn named(at: BorrowedFd<'_>, base: &OsStr, entry: &Entry, mode: Option<u32>) -> sys::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(at, base, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .called(|| format!("fchownat({base:?}, {uid}, {gid})"))?;
    if let Some(mode) = mode {
        fchmodat(at, base, Mode::from_bits_truncate(mode), FchmodatFlags::NoFollowSymlink)
            .called(|| format!("fchmodat({base:?}, {mode:#o}, SYMLINK_NOFOLLOW)"))?;
    }
    let time = spec(entry.mtime);
    utimensat(at, base, &time, &time, UtimensatFlags::NoFollowSymlink).called(|| format!("utimensat({base:?})"))
}

/// Type and number for mknod(2). The kernel has 12 bits of major and 20 of minor.
fn device(node: Node) -> Result<(SFlag, u64)> {
    let (kind, major, minor) = match node {
        Node::Fifo => return Ok((SFlag::S_IFIFO, 0)),
        Node::Character(0, 0) => {
            return Err(error!("a character device 0:0, which overlayfs takes for a deleted file"));
        }
        Node::Character(major, minor) => (SFlag::S_IFCHR, major, minor),
        Node::Block(major, minor) => (SFlag::S_IFBLK, major, minor),
    };
    match major < 1 << 12 && minor < 1 << 20 {
        true => Ok((kind, nix::sys::stat::makedev(major.into(), minor.into()))),
        false => Err(error!("there is no device {major}:{minor}")),
    }
}

fn is_directory(found: &FileStat) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

fn spec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, time.nanoseconds.into())
}
