//! An image's root: its layers, one over the other, and a directory that takes what the container writes.
//!
//! What the kernel offers: overlay, a file system made of directories. Those below (`lowerdir`) are only read, and any number of overlays may
//! share them; what is written goes to one above (`upperdir`). A file that is changed is copied up first, one that is removed
//! is hidden by a whiteout, a character device 0:0. Directories came as names in one string of at most 4095 bytes, until Linux 6.8 took them
//! one by one (`lowerdir+`) and 6.13 as descriptors (`FSCONFIG_SET_FD`).
//!
//! By hand: `mkdir low up work root; echo a >low/file; unshare -m sh -c 'mount -t overlay x -o lowerdir=low,upperdir=up,workdir=work root;
//! rm root/file; ls -l up'` shows the whiteout, and leaves no mount behind.
//!
//! What we do: the overlay is mounted by the child, in its own mount namespace: with the last process of the container it is gone, and
//! nobody has to unmount anything. Every directory is opened below the store by openat2(2) without following links, and given to the kernel as
//! a descriptor: by number where it takes numbers, as `/proc/self/fd/N` of mount(2) before 6.13, where 128 names of 64 digits would not fit.
//! Then it lies over the directory that root.path names, and from there on it is a root like any other.
//!
//! - `index=on`: an upper directory that another overlay uses is refused (EBUSY). Without it the kernel only warns in its log, and two
//!   containers would write into one directory. A file with several names stays one file when it is copied up.
//! - `redirect_dir=nofollow`, `metacopy=off`: what lies above is all that was changed, as it is, and no attribute of a file leads anywhere.
//! - `volatile` for a container that is removed at its end. The end of any other overlay writes the whole file system below to the disk: 100 ms
//!   with 300 MB waiting to be written by anybody, 0.2 ms without. What a program syncs in a volatile one is not on the disk either.
//! - Nothing for `xino`: in one store all directories lie on one file system, whose own inode numbers are unique already.
//!
//! What goes wrong: EINVAL for nearly everything, with the kernel's words in its context's log, or in dmesg for mount(2). An upper directory on an
//! overlay, on NFS or on a case-insensitive directory is refused. A descriptor has to be opened in the mount namespace that mounts: the
//! child opens all of them itself. A user namespace would want layers that belong to it, and is refused.

use super::Held;
use crate::input::Fault;
use crate::sys::mount::{self, Context};
use crate::sys::path::{self, Links};
use crate::sys::{Called, Failure, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The first kernel that takes directories of an overlay as descriptors.
const TAKES_DESCRIPTORS: (u32, u32) = (6, 13);

/// More layers than this are refused: Docker's limit, which images are made for. Their names by number fit into one page.
pub const MOST_LAYERS: usize = 128;

/// Bits of a mode by which others than the owner may change a directory.
const OTHERS_WRITE: u32 = 0o022;

/// What is asked: the directories of an image container. All absolute, in `store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The image store: nobody but its owner may write to it. The one path that may lead through links.
    pub store: PathBuf,
    /// The layers, the lowest first.
    pub lower: Vec<PathBuf>,
    /// Takes what the container writes. One container's alone.
    pub upper: PathBuf,
    /// An empty directory beside `upper`, on the same file system: the kernel's.
    pub work: PathBuf,
    /// What a crash of the host may do to what was written.
    pub after: After,
}

/// What becomes of `upper` when the container has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// It is kept: what programs sync is on the disk, and all of it when the container has ended.
    #[default]
    Kept,
    /// It is removed (`--rm`): nothing is written to the disk for its own sake.
    Removed,
}

/// How the directories reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// fsconfig(2), `FSCONFIG_SET_FD`.
    Descriptors,
    /// mount(2), as names in `/proc/self/fd`.
    Names,
}

/// The step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    store: PathBuf,
    /// Below the store, the uppermost first, as the kernel has them.
    lower: Vec<PathBuf>,
    upper: PathBuf,
    work: PathBuf,
    /// The directory that it is mounted on.
    place: PathBuf,
    after: After,
    /// SELinux: every file of it has this label.
    label: Option<String>,
    way: Way,
}

/// Decides the step. `place` is the rootfs, absolute on the host, in the store too; `kernel` the major and minor version.
pub fn decide(
    asked: &Overlay,
    place: &Path,
    label: Option<&str>,
    kernel: (u32, u32),
) -> std::result::Result<Action, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut below = |path: &Path, what: &str| {
        let inside = path.strip_prefix(&asked.store).ok().filter(|rest| {
            *rest != Path::new("") && rest.components().all(|part| matches!(part, std::path::Component::Normal(_)))
        });
        if inside.is_none() {
            let cause = format!("{what} {} is not in the store {}", path.display(), asked.store.display());
            faults.push(Fault::new("image", cause));
        }
        inside.unwrap_or(path).to_owned()
    };
    let lower: Vec<PathBuf> = asked.lower.iter().rev().map(|path| below(path, "the layer")).collect();
    let upper = below(&asked.upper, "the directory for what is written,");
    let work = below(&asked.work, "the working directory");
    let place = below(place, "the root");
    match lower.len() {
        0 => faults.push(Fault::new("image", "has no layer: an overlay needs one below")),
        1..=MOST_LAYERS => {}
        many => {
            faults.push(Fault::new("image", format!("has {many} layers, and at most {MOST_LAYERS} can be stacked")));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let way = if kernel >= TAKES_DESCRIPTORS { Way::Descriptors } else { Way::Names };
    let label = label.filter(|label| !label.is_empty()).map(String::from);
    Ok(Action { store: asked.store.clone(), lower, upper, work, place, after: asked.after, label, way })
}

impl Action {
    /// Keys and values, a key alone without one.
    fn options(&self) -> Vec<(&'static str, Option<&str>)> {
        let mut all = vec![("index", Some("on")), ("redirect_dir", Some("nofollow")), ("metacopy", Some("off"))];
        all.extend(self.label.as_deref().map(|label| ("context", Some(label))));
        all.extend((self.after == After::Removed).then_some(("volatile", None)));
        all
    }

    /// Executes the step in the child: `held.root` is the overlay.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        let store = open_store(&self.store)?;
        let place = open(&store, &self.place, OFlag::O_PATH)?;
        let mounted = match self.way {
            Way::Descriptors => self.by_descriptor(&store, &place),
            Way::Names => self.by_name(&store, &place),
        };
        held.root = Some(mounted.map_err(|failure| self.why_not(failure, &store))?);
        Ok(())
    }

    fn by_descriptor(&self, store: &OwnedFd, place: &OwnedFd) -> Result<OwnedFd> {
        let overlay = Context::open("overlay")?;
        // As df(1) shows it, and as mount(2) has it.
        overlay.set("source", "overlay")?;
        let set = |key: &str, path: &Path| overlay.set_fd(key, open(store, path, OFlag::O_RDONLY)?.as_fd());
        self.lower.iter().try_for_each(|path| set("lowerdir+", path))?;
        set("upperdir", &self.upper)?;
        set("workdir", &self.work)?;
        for (key, value) in self.options() {
            match value {
                Some(value) => overlay.set(key, value)?,
                None => overlay.flag(key)?,
            }
        }
        overlay.create()?;
        let mounted = overlay.mount(0)?;
        mount::attach(mounted.as_fd(), place.as_fd()).called(|| format!("move_mount({:?})", self.place))?;
        Ok(mounted)
    }

    fn by_name(&self, store: &OwnedFd, place: &OwnedFd) -> Result<OwnedFd> {
        let opened = |path: &PathBuf| open(store, path, OFlag::O_PATH);
        let lower = self.lower.iter().map(opened).collect::<Result<Vec<_>>>()?;
        let (upper, work) = (opened(&self.upper)?, opened(&self.work)?);
        let names: Vec<String> = lower.iter().map(|fd| numbered(fd.as_fd())).collect();
        let mut words = vec![
            format!("lowerdir={}", names.join(":")),
            format!("upperdir={}", numbered(upper.as_fd())),
            format!("workdir={}", numbered(work.as_fd())),
        ];
        words.extend(self.options().iter().map(word));
        let (target, data) = (numbered(place.as_fd()), words.join(","));
        nix::mount::mount(Some("overlay"), target.as_str(), Some("overlay"), MsFlags::empty(), Some(data.as_str()))
            .called(|| format!("mount(\"overlay\", {:?}, \"overlay\", 0, {data:?})", self.place))?;
        // Its descriptor is that of the directory below.
        open(store, &self.place, OFlag::O_PATH)
    }

    /// The kernel says why in its log alone.
    fn why_not(&self, failure: Failure, store: &OwnedFd) -> Failure {
        let upper = self.store.join(&self.upper);
        let on = |kinds: &[FsType]| fstatfs(store).is_ok_and(|found| kinds.contains(&found.filesystem_type()));
        match failure.errno {
            Errno::EBUSY => failure.because(format!("a container that still runs writes to {}", upper.display())),
            Errno::EINVAL if on(&[OVERLAYFS_SUPER_MAGIC]) => {
                failure.because(format!("the file system of {} is an overlay itself", self.store.display()))
            }
            Errno::EINVAL if on(&[NFS_SUPER_MAGIC]) => {
                failure.because(format!("the file system of {} is NFS", self.store.display()))
            }
            _ => failure,
        }
    }
}

/// As mount(2) takes it. A label may hold commas; it goes in quotes.
fn word(option: &(&'static str, Option<&str>)) -> String {
    match option {
        ("context", Some(label)) => format!("context=\"{label}\""),
        (key, Some(value)) => format!("{key}={value}"),
        (key, None) => (*key).to_owned(),
    }
}

/// The name by which this process may call an open directory.
fn numbered(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A directory in the store. No link leads to it, and none out of it.
fn open(store: &OwnedFd, path: &Path, access: OFlag) -> Result<OwnedFd> {
    path::open_below(store.as_fd(), path, access | OFlag::O_DIRECTORY, Links::Refuse)
}

/// The store, which is nobody's but ours: who could rename a layer would choose what the container's programs are.
fn open_store(store: &Path) -> Result<OwnedFd> {
    let fd = path::open_directory(store)?;
    let found = fstat(&fd).called(|| format!("fstat({store:?})"))?;
    let refused = |because: String| Err(Failure::refused(format!("fstat({store:?})"), Errno::EPERM, because));
    if found.st_uid != crate::sys::start::euid() {
        return refused(format!("the image store {} belongs to user {}", store.display(), found.st_uid));
    }
    if found.st_mode & OTHERS_WRITE != 0 {
        return refused(format!("others than its owner may write to the image store {}", store.display()));
    }
    Ok(fd)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = |path: &Path| self.store.join(path);
        write!(f, "openat({:?}, O_PATH|O_DIRECTORY); fstat(); openat2({:?}, O_PATH)", self.store, full(&self.place))?;
        match self.way {
            Way::Descriptors => {
                f.write_str("; fsopen(\"overlay\"); fsconfig(SET_STRING, \"source\", \"overlay\")")?;
                let lower = self.lower.iter().map(|path| ("lowerdir+", path));
                for (key, path) in lower.chain([("upperdir", &self.upper), ("workdir", &self.work)]) {
                    write!(f, "; openat2({:?}); fsconfig(SET_FD, {key:?})", full(path))?;
                }
                for (key, value) in self.options() {
                    match value {
                        Some(value) => write!(f, "; fsconfig(SET_STRING, {key:?}, {value:?})")?,
                        None => write!(f, "; fsconfig(SET_FLAG, {key:?})")?,
                    }
                }
                write!(f, "; fsconfig(CMD_CREATE); fsmount(0); move_mount({:?})", full(&self.place))
            }
            Way::Names => {
                for path in self.lower.iter().chain([&self.upper, &self.work]) {
                    write!(f, "; openat2({:?}, O_PATH)", full(path))?;
                }
                // By numbers that are known when the time comes.
                let lower = vec!["fd"; self.lower.len()].join(", ");
                write!(f, "; mount(\"overlay\", root, \"overlay\", lowerdir={{{lower}}}, upperdir=fd, workdir=fd")?;
                self.options().iter().try_for_each(|option| write!(f, ", {}", word(option)))?;
                write!(f, "); openat2({:?}, O_PATH)", full(&self.place))
            }
        }
    }
}

#[cfg(test)]
mod tests;
