//! Paths that are hidden, and paths that are read-only.
//!
//! What the kernel offers: a mount covers what lies below it. Over a file goes the null device, over a directory an empty
//! read-only tmpfs; a path becomes read-only by a clone of its own mount, put over itself with the read-only attribute.
//!
//! By hand: `mount --bind /dev/null /proc/kcore; mount --bind -o ro /proc/sys /proc/sys`.
//!
//! What we do, after the root was entered: whether a path exists and whether it is a directory depends on the root file system and
//! on the kernel, so it is asked of the opened descriptor, in the step. What does not exist needs no mask. All directories
//! share one tmpfs, and all files one null device. Since Linux 6.15 a clone is made read-only by the call that makes it, below a procfs of
//! the container's own: it changes all that it clones, and what else is mounted there is no read-only path.
//!
//! What goes wrong: `/dev/null` in the container is not the null device but a link to something, or a file, and the mask
//! shows what it should hide (CVE-2025-31133). It is opened without following links and must be the character device 1:3.

use super::{Held, options};
use crate::input::config::Mount;
use crate::sys::mount::{self, Change, Context, Reach, attr};
use crate::sys::path::{self, Links, clean, lies_in};
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
    Readonly(Vec<(PathBuf, Clone)>),
    /// `linux.maskedPaths`
    Mask(Vec<PathBuf>),
}

/// How the clone that covers a path becomes read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clone {
    /// open_tree(2), then mount_setattr(2): what is mounted below the path stays as it is.
    Changed,
    /// open_tree_attr(2): one call, which changes all that it clones, so where nothing is mounted below.
    Readonly,
}

/// The first kernel with open_tree_attr(2).
const ONE_CALL: (u32, u32) = (6, 15);

/// Decides the steps: each path once, in order, read-only ones first, as a mask may lie in one. `kernel`: major and minor version.
pub fn decide(masked: &[PathBuf], readonly: &[PathBuf], mounts: &[Mount], kernel: (u32, u32)) -> Vec<Action> {
    let mut actions = Vec::new();
    let (readonly, masked) = (once(readonly), once(masked));
    if !readonly.is_empty() {
        let below = if kernel >= ONE_CALL { mounts_of_proc(mounts) } else { None };
        let clone = |path: &Path| match &below {
            Some(below) if path.starts_with(PROC) && !below.iter().any(|other| related(other, path)) => Clone::Readonly,
            _ => Clone::Changed,
        };
        actions.push(Action::Readonly(readonly.into_iter().map(|path| (path.clone(), clone(&path))).collect()));
    }
    if !masked.is_empty() {
        actions.push(Action::Mask(masked));
    }
    actions
}

const PROC: &str = "/proc";

/// What the configuration mounts below a `/proc` that is a new procfs; nothing else can be mounted there. `None`: it is no such.
fn mounts_of_proc(mounts: &[Mount]) -> Option<BTreeSet<PathBuf>> {
    let mut below = None;
    for mount in mounts {
        let target = clean(&mount.destination);
        if !lies_in(&target, PROC) {
            continue;
        }
        let options = options::parse(&mount.options);
        if options.remount {
            continue;
        }
        if target.as_os_str() == PROC {
            below = (mount.kind == "proc" && options.bind.is_none()).then(BTreeSet::new);
        } else if let Some(below) = &mut below {
            below.insert(target.into_owned());
        }
    }
    below
}

fn related(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn once(paths: &[PathBuf]) -> Vec<PathBuf> {
    // Not a search in what was found so far: a configuration may name 30,000.
    let mut seen = BTreeSet::new();
    paths
        .iter()
        .map(|path| clean(path).into_owned())
        .filter(|path| seen.insert(path.clone().into_os_string()))
        .collect()
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
            Action::Readonly(paths) => paths.iter().try_for_each(|(path, clone)| readonly(root, path, *clone, spent)),
            Action::Mask(paths) => {
                let mut covers = Covers { root, null: None, empty: None, spent };
                paths.iter().try_for_each(|path| covers.mask(path))?;
                spent.take_all(covers.null.into_iter().chain(covers.empty));
                Ok(())
            }
        }
    }
}

fn readonly(root: BorrowedFd<'_>, path: &Path, clone: Clone, spent: &Spent) -> Result<()> {
    let Some(there) = path::find_below(root, path, OFlag::O_PATH, Links::Follow)? else { return Ok(()) };
    let change = Change::set(attr::RDONLY);
    let tree = match clone {
        // An outer filter may not know the call: what two say instead is true everywhere.
        Clone::Readonly => mount::clone_changed(there.as_fd(), Reach::Tree, &change).ok(),
        Clone::Changed => None,
    };
    let tree = match tree {
        Some(tree) => tree,
        None => clone_and_change(&there, path, &change)?,
    };
    mount::attach(tree.as_fd(), there.as_fd()).called(|| format!("move_mount({path:?})"))?;
    spent.take_all([tree, there]);
    Ok(())
}

fn clone_and_change(there: &OwnedFd, path: &Path, change: &Change) -> Result<OwnedFd> {
    // With what is mounted below, or the clone would uncover it.
    let tree =
        mount::clone_of(there.as_fd(), Reach::Tree).called(|| format!("open_tree({path:?}, CLONE|RECURSIVE)"))?;
    mount::change(tree.as_fd(), Reach::This, change).called(|| "mount_setattr(set=RDONLY)".into())?;
    Ok(tree)
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
        match self {
            Action::Readonly(paths) => {
                for (index, (path, clone)) in paths.iter().enumerate() {
                    let and = if index == 0 { "" } else { "; " };
                    let pair = format!("open_tree({path:?}, CLONE|RECURSIVE); mount_setattr(set=RDONLY)");
                    let calls = match clone {
                        Clone::Changed => pair,
                        Clone::Readonly => {
                            format!("open_tree_attr({path:?}, CLONE|RECURSIVE, set=RDONLY); [{pair}]")
                        }
                    };
                    write!(f, "{and}openat2(root, {path:?}); [{calls}; move_mount({path:?})]")?;
                }
            }
            Action::Mask(paths) => {
                for (index, path) in paths.iter().enumerate() {
                    let and = if index == 0 { "" } else { "; " };
                    write!(
                        f,
                        "{and}openat2(root, {path:?}); [fstat(); [openat2(root, {NULL:?}); fstat()]; [fsopen(\"tmpfs\"); \
                         fsconfig(SET_FLAG, \"ro\"); fsconfig(CMD_CREATE); fsmount({})]; [open_tree(CLONE)]; move_mount({path:?})]",
                        attr::names(EMPTY)
                    )?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|word| word.to_string()).collect();
        Mount { destination: destination.into(), kind: kind.into(), options, ..Mount::default() }
    }

    #[test]
    fn one_call_where_nothing_else_is_mounted() {
        let readonly = ["/proc/sys", "/proc/bus", "/proc/uptime", "/sys/x", "/proc"].map(PathBuf::from);
        let decided = |mounts: &[Mount], kernel| match &decide(&[], &readonly, mounts, kernel)[..] {
            [Action::Readonly(paths)] => paths.iter().map(|(_, clone)| *clone == Clone::Readonly).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let proc = mount("/proc/", "proc", &[]);
        assert_eq!(decided(std::slice::from_ref(&proc), (6, 15)), [true, true, true, false, true]);
        assert_eq!(decided(std::slice::from_ref(&proc), (6, 14)), [false; 5], "an older kernel");
        assert_eq!(decided(&[], (7, 0)), [false; 5], "whatever the root file system has at /proc");
        let bound = [mount("/proc", "proc", &["rbind"])];
        assert_eq!(decided(&bound, (6, 15)), [false; 5]);
        let covered = [proc.clone(), mount("/proc/uptime", "bind", &["bind"])];
        assert_eq!(decided(&covered, (6, 15)), [true, true, false, false, false]);
        let below = [proc.clone(), mount("/proc/sys/crypto/fips_enabled", "bind", &["bind"])];
        assert_eq!(decided(&below, (6, 15)), [false, true, true, false, false]);
        let again = [proc, mount("/proc", "", &["remount", "nosuid"])];
        assert_eq!(decided(&again, (6, 15)), [true, true, true, false, true]);
    }

    #[test]
    fn the_plan_shows_which() {
        let text = |kernel| decide(&[], &["/proc/bus".into()], &[mount("/proc", "proc", &[])], kernel)[0].to_string();
        assert_eq!(
            text((6, 12)),
            "openat2(root, \"/proc/bus\"); [open_tree(\"/proc/bus\", CLONE|RECURSIVE); mount_setattr(set=RDONLY); move_mount(\"/proc/bus\")]"
        );
        assert_eq!(
            text((6, 18)),
            "openat2(root, \"/proc/bus\"); [open_tree_attr(\"/proc/bus\", CLONE|RECURSIVE, set=RDONLY); \
             [open_tree(\"/proc/bus\", CLONE|RECURSIVE); mount_setattr(set=RDONLY)]; move_mount(\"/proc/bus\")]"
        );
    }
}
