//! Paths below a root that somebody else may change while we walk.
//!
//! What the kernel offers: openat2(2) with `RESOLVE_IN_ROOT` treats a descriptor as `/`: `..` and absolute symbolic links stay
//! below it, and a rename during the walk is noticed (EAGAIN). It opens what exists; it does not make directories.
//!
//! By hand: `python3 -c 'import os; os.open("rootfs/etc", os.O_PATH)'` walks out through a symbolic link; openat2 does not.
//!
//! What we do: whatever exists is found by one openat2. What is missing is made one name at a time, each by mkdirat in a
//! descriptor of its parent and opened again without following links. A symbolic link to nothing is read, and the walk goes
//! on at what it names, still below the root. Two creators at once both succeed.
//!
//! What goes wrong: a path checked first and used later. So every function returns the descriptor itself.

use super::{Called, Failure, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What happens to symbolic links on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Followed, below the root.
    Follow,
    /// Refused with ELOOP, wherever they stand in the path.
    Refuse,
}

/// How often a walk starts anew: after a rename that disturbed it (EAGAIN), and for symbolic links as the kernel counts them.
const TRIES: usize = 128;
const LINKS: usize = 40;

fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlag, links: Links) -> nix::Result<OwnedFd> {
    let links = match links {
        Links::Follow => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        Links::Refuse => ResolveFlag::RESOLVE_NO_SYMLINKS,
    };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT | links);
    for _ in 0..TRIES {
        match openat2(root, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            done => return done,
        }
    }
    Err(Errno::EAGAIN)
}

/// Opens what is at `path` below `root`, absolute or not. Magic links are never followed.
///
/// ELOOP with [`Links::Refuse`]: there is a symbolic link. EAGAIN: somebody renames without pause.
pub fn open_below(root: BorrowedFd<'_>, path: &Path, flags: OFlag, links: Links) -> Result<OwnedFd> {
    resolve(root, path, flags, links).called(|| format!("openat2(root, {path:?})")).map_err(|f| explain(f, root, path))
}

/// The same, but nothing there (ENOENT, or a file where a directory must be) is `None`.
pub fn find_below(root: BorrowedFd<'_>, path: &Path, flags: OFlag, links: Links) -> Result<Option<OwnedFd>> {
    match resolve(root, path, flags, links) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno).called(|| format!("openat2(root, {path:?})")).map_err(|f| explain(f, root, path)),
    }
}

/// Like [`make_directory`], for a path that has just been found missing.
pub fn make_missing_directory(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: Links) -> Result<OwnedFd> {
    make(root, path, mode, links, Last::Directory)
}

/// Like [`make_file`], for a path that has just been found missing.
pub fn make_missing_file(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: Links) -> Result<OwnedFd> {
    make(root, path, mode, links, Last::File)
}

/// The directory at `path` below `root` as an `O_PATH` descriptor; what is missing is made with `mode` (and the umask).
pub fn make_directory(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: Links) -> Result<OwnedFd> {
    match resolve(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, links) {
        Err(Errno::ENOENT) => make(root, path, mode, links, Last::Directory),
        done => done.called(|| format!("openat2(root, {path:?})")).map_err(|f| explain(f, root, path)),
    }
}

/// The file at `path` below `root` as an `O_PATH` descriptor; when missing, an empty one is made with `mode`, its directories with 0755.
///
/// What is there may be of any kind.
pub fn make_file(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: Links) -> Result<OwnedFd> {
    match resolve(root, path, OFlag::O_PATH, links) {
        Err(Errno::ENOENT) => make(root, path, mode, links, Last::File),
        done => done.called(|| format!("openat2(root, {path:?})")).map_err(|f| explain(f, root, path)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Directory,
    File,
}

/// The calls of [`make_missing_directory`] as `explain` shows them: `[…]…` any number of times, for the directories above.
pub fn shown_directory(path: &Path) -> String {
    let path = clean(path);
    format!("{}; mkdirat({path:?}, 0755); openat({path:?}, O_PATH|O_NOFOLLOW)", shown_parents(&path))
}

/// The calls of [`make_missing_file`], or of the other where what goes there is a directory.
pub fn shown_either(path: &Path) -> String {
    let path = clean(path);
    format!(
        "{}; [mkdirat({path:?}, 0755)]; [openat({path:?}, O_CREAT|O_EXCL)]; openat({path:?}, O_PATH|O_NOFOLLOW); [fstat()]",
        shown_parents(&path)
    )
}

fn shown_parents(path: &Path) -> String {
    match path.parent() {
        Some(parent) if parent != Path::new("/") => {
            format!("openat2(root, {parent:?}); [openat2(root)]…; [mkdirat(0755); openat(O_PATH|O_NOFOLLOW)]…")
        }
        _ => "openat2(root, \"/\")".to_owned(),
    }
}

/// Round after round, until nothing on the way is missing or a symbolic link to what is missing.
fn make(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: Links, last: Last) -> Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..TRIES + LINKS {
        match round(root, &path, mode, links, last)? {
            Round::Done(fd) => return Ok(fd),
            Round::Again(next) => path = next,
        }
    }
    let words = format!("{} leads through too many symbolic links", path.display());
    Err(Failure::refused(format!("openat2(root, {path:?})"), Errno::ELOOP, words))
}

enum Round {
    Done(OwnedFd),
    /// The same place, by another path: a link was read, or somebody has changed something meanwhile.
    Again(PathBuf),
}

/// Opens the longest part that exists, then makes name after name.
fn round(root: BorrowedFd<'_>, path: &Path, mode: Mode, links: Links, last: Last) -> Result<Round> {
    let names: Vec<&Path> = names(path);
    let whole = |names: &[&Path]| names.iter().fold(PathBuf::from("/"), |path, name| path.join(name));
    // The whole path was missing a moment ago, so its parent is the first to ask for.
    let mut there = names.len().saturating_sub(1);
    let mut dir = loop {
        let prefix = whole(&names[..there]);
        match resolve(root, &prefix, OFlag::O_PATH | OFlag::O_DIRECTORY, links) {
            Ok(fd) => break fd,
            Err(Errno::ENOENT) if there > 0 => there -= 1,
            Err(errno) => {
                return Err(errno)
                    .called(|| format!("openat2(root, {prefix:?})"))
                    .map_err(|f| explain(f, root, &prefix));
            }
        }
    };
    // `new/../x` means `x`: there is no way up from what is not there, so it is taken out by its letters.
    if let Some(up) = (there + 1..names.len()).find(|i| names[*i] == Path::new("..")) {
        let rest = names[..up - 1].iter().chain(&names[up + 1..]).copied().collect::<Vec<_>>();
        return Ok(Round::Again(whole(&rest)));
    }
    for (i, name) in names.iter().enumerate().skip(there) {
        let file = last == Last::File && i + 1 == names.len();
        let made = if file {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&dir, *name, flags, mode).map(drop)
        } else {
            let mode = if last == Last::File { Mode::from_bits_truncate(0o755) } else { mode };
            mkdirat(&dir, *name, mode)
        };
        match made {
            // Somebody was faster, or it is a link to nothing.
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) if file => return Err(cannot(errno, format!("openat(root, {path:?}, O_CREAT)"), path)),
            Err(errno) => return Err(cannot(errno, format!("mkdirat(root, {path:?})"), path)),
        }
        let flags = if file { OFlag::O_PATH } else { OFlag::O_PATH | OFlag::O_DIRECTORY };
        let opened = openat(&dir, *name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
        dir = match opened {
            // O_PATH|O_NOFOLLOW opens a link itself.
            Ok(fd) if !file || kind(&fd)? != SFlag::S_IFLNK => fd,
            Err(Errno::ENOENT) => return Ok(Round::Again(path.to_owned())),
            Ok(_) | Err(Errno::ENOTDIR | Errno::ELOOP) => {
                let call = || format!("openat2(root, {path:?})");
                return match readlinkat(&dir, *name) {
                    Ok(_) if links == Links::Refuse => {
                        Err(Errno::ELOOP).called(call).map_err(|f| explain(f, root, path))
                    }
                    // An absolute link replaces what stands before it, as Path::join does it.
                    Ok(to) => {
                        let to = whole(&names[..i]).join(Path::new(&to));
                        Ok(Round::Again(names[i + 1..].iter().fold(to, |path, name| path.join(name))))
                    }
                    // No link.
                    Err(Errno::EINVAL) => Err(Errno::ENOTDIR).called(call).map_err(|f| explain(f, root, path)),
                    Err(_) => Ok(Round::Again(path.to_owned())),
                };
            }
            Err(errno) => return Err(errno).called(|| format!("openat({name:?} of {path:?})")),
        };
    }
    Ok(Round::Done(dir))
}

fn cannot(errno: Errno, call: String, path: &Path) -> Failure {
    let words =
        format!("{} is missing in the root file system and cannot be made: {}", path.display(), super::plain(errno));
    Failure::refused(call, errno, words)
}

/// The names of a path in order, without `/` and `.`; `..` stays.
fn names(path: &Path) -> Vec<&Path> {
    path.components()
        .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
        .map(|c| Path::new(c.as_os_str()))
        .collect()
}

/// The path with `.`, `..` and doubled slashes taken out by their letters, absolute: `/a/../b` is `/b`.
pub fn clean(path: &Path) -> Cow<'_, Path> {
    // Most are, and every mount is asked several times: to look is less than to take a path apart.
    if is_clean(path.as_os_str().as_bytes()) {
        return Cow::Borrowed(path);
    }
    // Not by growing: that would double the memory of many long paths.
    let mut out = PathBuf::with_capacity(path.as_os_str().len() + 1);
    out.push("/");
    for component in path.components() {
        match component {
            Component::ParentDir => _ = out.pop(),
            Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    Cow::Owned(out)
}

/// Whether a clean path is a clean directory, or lies in it. By their letters: `Path::starts_with` takes both apart, which is twenty times as much.
pub fn lies_in(path: &Path, directory: &str) -> bool {
    let rest = path.as_os_str().as_bytes().strip_prefix(directory.as_bytes());
    rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

fn is_clean(path: &[u8]) -> bool {
    let names = |rest: &[u8]| rest.split(|byte| *byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    path.strip_prefix(b"/").is_some_and(|rest| rest.is_empty() || names(rest))
}

/// The kind of file behind a descriptor (`S_IFDIR`, `S_IFREG`, …).
pub fn kind(fd: impl AsFd) -> Result<SFlag> {
    let stat = fstat(fd).called(|| "fstat".into())?;
    Ok(SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT)
}

/// The words for ELOOP and ENOTDIR: which part of the path it is. Asks again, so it can be wrong when somebody is renaming.
fn explain(failure: Failure, root: BorrowedFd<'_>, path: &Path) -> Failure {
    if failure.because.is_some() || !matches!(failure.errno, Errno::ELOOP | Errno::ENOTDIR) {
        return failure;
    }
    let names = names(path);
    for end in 1..=names.len() {
        let prefix = names[..end].iter().fold(PathBuf::from("/"), |path, name| path.join(name));
        let Ok(fd) = resolve(root, &prefix, OFlag::O_PATH | OFlag::O_NOFOLLOW, Links::Follow) else { break };
        let Ok(found) = kind(&fd) else { break };
        if found == SFlag::S_IFLNK && failure.errno == Errno::ELOOP {
            return failure.because(format!("{} in the root file system is a symbolic link", prefix.display()));
        }
        if found != SFlag::S_IFDIR && found != SFlag::S_IFLNK && failure.errno == Errno::ENOTDIR {
            return failure.because(format!(
                "{} in the root file system is {}, not a directory",
                prefix.display(),
                word(found)
            ));
        }
    }
    failure
}

/// A kind of file in words, with its article: `a symbolic link`.
pub fn word(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFREG => "a regular file",
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFCHR => "a character device",
        SFlag::S_IFBLK => "a block device",
        SFlag::S_IFIFO => "a fifo",
        SFlag::S_IFSOCK => "a socket",
        _ => "something unknown",
    }
}

/// Inode number of a procfs's root directory, the same on every kernel.
const PROC_ROOT: u64 = 1;

/// The host's procfs as an `O_PATH` descriptor: really a procfs, and its root, not a bind mount of a part of it.
pub fn host_proc() -> Result<OwnedFd> {
    let called = || "open(\"/proc\")".to_owned();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Not open(2): libc's sets the flag once more by fcntl.
    let fd = openat(AT_FDCWD, "/proc", flags, Mode::empty()).called(called)?;
    if !is_proc(&fd)? || fstat(&fd).called(called)?.st_ino != PROC_ROOT {
        return Err(Failure::refused(called(), Errno::ENOTDIR, "/proc on the host is not a whole procfs"));
    }
    Ok(fd)
}

/// Whether a descriptor lies on a procfs, by the magic number of fstatfs(2).
pub fn is_proc(fd: impl AsFd) -> Result<bool> {
    Ok(fstatfs(fd).called(|| "fstatfs".into())?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// Opens a directory of the host by a path that the administrator gave, as `O_PATH`.
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty()).called(|| format!("open({path:?}, O_PATH|O_DIRECTORY)"))
}

/// Where a descriptor leads, as the kernel names it: absolute, without symbolic links. readlink(2) of `/proc/self/fd/N`.
pub fn name(fd: impl AsFd) -> nix::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    readlinkat(AT_FDCWD, link.as_str()).map(PathBuf::from)
}

/// The root descriptor that an earlier step must have opened.
pub fn opened(root: &Option<OwnedFd>) -> Result<BorrowedFd<'_>> {
    let missing = || Failure::refused("openat2(root)", Errno::EBADF, "the root file system was not opened before");
    root.as_ref().map(AsFd::as_fd).ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_lies_in_a_directory_or_only_begins_like_it() {
        for (path, lies) in [("/dev", true), ("/dev/pts", true), ("/devil", false), ("/", false), ("/a/dev", false)] {
            assert_eq!(lies_in(Path::new(path), "/dev"), lies, "{path}");
            assert_eq!(Path::new(path).starts_with("/dev"), lies, "{path}");
        }
    }

    #[test]
    fn paths_are_cleaned_by_their_letters() {
        for (given, cleaned) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            (".", "/"),
            ("/..", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("/a//b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../a", "/a"),
            ("/a/..", "/"),
            ("a/b", "/a/b"),
            ("/.a/..b/...", "/.a/..b/..."),
        ] {
            // As letters: paths that are written differently may be equal.
            assert_eq!(clean(Path::new(given)).as_os_str(), cleaned, "{given:?}");
            assert_eq!(is_clean(given.as_bytes()), given == cleaned, "{given:?}");
        }
    }
}
