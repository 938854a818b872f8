//! Paths that are hidden, and paths that are read-only.
//!
//! What the kernel offers: a mount covers what lies below it. Over a file goes the null device, over a directory an empty
//! read-only tmpfs; a path becomes read-only by a clone of its own mount, put over itself with the read-only attribute.
//!
//! By hand: `mount --bind /dev/null /proc/kcore; mount --bind -o ro /proc/sys /proc/sys`.
//!
//! What we do, after the root was entered: whether a path exists and whether it is a directory depends on the root file system and
//! on the kernel, so it is asked of the opened descriptor, in the step. What does not exist needs no mask. All directories
//! share one tmpfs, and all files one null device.
//!
//! What goes wrong: `/dev/null` in the container is not the null device but a link to something, or a file, and the mask
//! shows what it should hide (CVE-2025-31133). It is opened without following links and must be the character device 1:3.

use super::Held;
use crate::sys::mount::{self, Change, Context, Reach, attr};
use crate::sys::path::{self, Links, clean};
use crate::sys::spent::Spent;
use crate::sys::{Called, Failure, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, makedev};
use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `linux.readonlyPaths`
    Readonly(Vec<PathBuf>),
    /// `linux.maskedPaths`
    Mask(Vec<PathBuf>),
}

/// Decides the steps: each path once, in order, read-only ones first, as a mask may lie in one.
pub fn decide(masked: &[PathBuf], readonly: &[PathBuf]) -> Vec<Action> {
    let mut actions = Vec::new();
    let (readonly, masked) = (once(readonly), once(masked));
    if !readonly.is_empty() {
        actions.push(Action::Readonly(readonly));
    }
    if !masked.is_empty() {
        actions.push(Action::Mask(masked));
    }
    actions
}

fn once(paths: &[PathBuf]) -> Vec<PathBuf> {
    // Not a search in what was found so far: a configuration may name 30,000.
    let mut seen = BTreeSet::new();
    paths.iter().map(|path| clean(path)).filter(|path| seen.insert(path.clone().into_os_string())).collect()
}

/// Attributes of the empty directory. It is a file system of its own, so its own read-only flag is set too.
const EMPTY: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
const NULL: &str = "/dev/null";

impl Action {
    /// The place in the configuration.
    pub fn place(&self) -> &'static str {
        match self {
            Action::Readonly(_) => "linux.readonlyPaths",
            Action::Mask(_) => "linux.maskedPaths",
        }
    }

    /// Covers the paths that exist below `held.root`.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        let (root, spent) = (path::opened(&held.root)?, &held.spent);
        match self {
            Action::Readonly(paths) => paths.iter().try_for_each(|path| readonly(root, path, spent)),
            Action::Mask(paths) => {
                let mut covers = Covers { root, null: None, empty: None, spent };
                paths.iter().try_for_each(|path| covers.mask(path))?;
                spent.take_all(covers.null.into_iter().chain(covers.empty));
                Ok(())
            }
        }
    }
}

fn readonly(root: BorrowedFd<'_>, path: &Path, spent: &Spent) -> Result<()> {
    let Some(there) = path::find_below(root, path, OFlag::O_PATH, Links::Follow)? else { return Ok(()) };
    // With what is mounted below, or the clone would uncover it.
    let tree =
        mount::clone_of(there.as_fd(), Reach::Tree).called(|| format!("open_tree({path:?}, CLONE|RECURSIVE)"))?;
    mount::change(tree.as_fd(), Reach::This, &Change::set(attr::RDONLY))
        .called(|| "mount_setattr(set=RDONLY)".into())?;
    mount::attach(tree.as_fd(), there.as_fd()).called(|| format!("move_mount({path:?})"))?;
    spent.take_all([tree, there]);
    Ok(())
}

/// What masks are made of, each made when first needed.
struct Covers<'a> {
    root: BorrowedFd<'a>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
    spent: &'a Spent,
}

impl Covers<'_> {
    fn mask(&mut self, path: &Path) -> Result<()> {
        let Some(there) = path::find_below(self.root, path, OFlag::O_PATH, Links::Follow)? else { return Ok(()) };
        self.cover(path, &there)?;
        self.spent.take(there);
        Ok(())
    }

    fn cover(&mut self, path: &Path, there: &OwnedFd) -> Result<()> {
        let put =
            |cover: &OwnedFd| mount::attach(cover.as_fd(), there.as_fd()).called(|| format!("move_mount({path:?})"));
        if path::kind(there)? != SFlag::S_IFDIR {
            let null = match &self.null {
                Some(null) => null,
                None => self.null.insert(null(self.root)?),
            };
            let cover = mount::clone_of(null.as_fd(), Reach::This).called(|| format!("open_tree({NULL:?}, CLONE)"))?;
            put(&cover)?;
            self.spent.take(cover);
            return Ok(());
        }
        match &self.empty {
            // A mount can be cloned once it has a place (before 6.15), so the first is the tmpfs itself.
            None => put(self.empty.insert(empty(self.spent)?)),
            Some(first) => {
                let cover = mount::clone_of(first.as_fd(), Reach::This).called(|| "open_tree(empty, CLONE)".into())?;
                put(&cover)?;
                self.spent.take(cover);
                Ok(())
            }
        }
    }
}

fn empty(spent: &Spent) -> Result<OwnedFd> {
    let context = Context::open("tmpfs")?;
    context.flag("ro")?;
    context.create()?;
    let mount = context.mount(EMPTY)?;
    spent.take(context.into_fd());
    Ok(mount)
}

/// The container's null device, as a descriptor of exactly that.
fn null(root: BorrowedFd<'_>) -> Result<OwnedFd> {
    let refused = |words: String| Failure::refused(format!("openat2(root, {NULL:?})"), Errno::ENODEV, words);
    let missing = "/dev/null does not exist in the container, and a file among the masked paths needs it";
    let found = path::find_below(root, Path::new(NULL), OFlag::O_PATH, Links::Refuse)?;
    let null = found.ok_or_else(|| refused(missing.into()))?;
    let stat = fstat(&null).called(|| "fstat".into())?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFCHR || stat.st_rdev != makedev(1, 3) {
        let words = format!("/dev/null in the container is {}, not the character device 1:3", path::word(kind));
        return Err(refused(words));
    }
    Ok(null)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Action::Readonly(paths) | Action::Mask(paths)) = self;
        for (index, path) in paths.iter().enumerate() {
            write!(f, "{}openat2(root, {path:?}); [", if index == 0 { "" } else { "; " })?;
            match self {
                Action::Readonly(_) => {
                    write!(f, "open_tree({path:?}, CLONE|RECURSIVE); mount_setattr(set=RDONLY)")?;
                }
                Action::Mask(_) => write!(
                    f,
                    "fstat(); [openat2(root, {NULL:?}); fstat()]; [fsopen(\"tmpfs\"); fsconfig(SET_FLAG, \"ro\"); \
                     fsconfig(CMD_CREATE); fsmount({})]; [open_tree(CLONE)]",
                    attr::names(EMPTY)
                )?,
            }
            write!(f, "; move_mount({path:?})]")?;
        }
        Ok(())
    }
}
