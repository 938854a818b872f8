//! The root file system: how a directory becomes `/`.
//!
//! What the kernel offers: pivot_root(2) swaps the root of a mount namespace with a mount below it, and umount2(2) takes the
//! old one away. chroot(2) only changes where a process's paths begin, and the host's mounts stay around it.
//!
//! By hand: `unshare -m sh -c 'mount --rbind rootfs rootfs; cd rootfs; pivot_root . .; umount -l .; exec chroot . /bin/sh'`.
//!
//! What we do: first the whole namespace stops telling the host of its mounts. The directory is opened once; a clone of its
//! mount (pivot_root wants a mount) is put back over it and kept open as `held.root`, from where every path inside is resolved.
//! Both arguments of pivot_root are `.`: the old root comes to lie on top of the new one and is unmounted from there, so no
//! directory for it has to be made.
//!
//! What goes wrong: with a shared `/` a cloned mount hears of, and tells, the host; so propagation comes before any clone.
//! pivot_root says EINVAL when the mount below the new root, or the new root itself, is shared. An unbindable `/` cannot be
//! cloned at all, so that wish is only fulfilled at the end.

use super::Held;
use crate::input::config::{Propagation, Root};
use crate::sys::mount::{self, Change, Reach, attr};
use crate::sys::{Called, Failure, Result, path, procfs};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};
use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// How the directory becomes `/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// pivot_root(2), the normal way.
    #[default]
    Pivot,
    /// `--no-pivot`: the root is moved over `/` and entered with chroot(2). For a host whose `/` is the initial ramfs.
    Move,
    /// No mount namespace of its own: chroot(2) alone.
    Chroot,
}

/// Whether mounts made in the child could reach the host's namespace before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// `rootfsPropagation` is `shared`: binds stay peers of the host's mounts.
    Kept,
    /// Everything is a slave or private.
    Cut,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Sets the propagation of every mount in the new namespace. Before any clone of a mount.
    Propagate(Propagation),
    /// Opens the directory, clones its mount, puts the clone over it, keeps it as `held.root`.
    Open {
        /// Absolute path on the host.
        path: PathBuf,
        /// Kept: the mount below is made private, the clone a slave.
        ties: Ties,
    },
    /// Makes the mount that holds the directory private, for a root that is mounted over it by its own chapter.
    Part {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// Opens the directory as `held.root` as it is: there is no mount namespace.
    OpenOnly {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// Makes `held.root` the root of the namespace, and takes the old one away.
    Pivot {
        /// Kept: the old root is made a slave before it is unmounted, so that the host keeps its mounts.
        ties: Ties,
    },
    /// Moves `held.root` over `/`, and enters it.
    Move {
        /// Absolute path on the host: procfs and sysfs mounts outside of it are taken away first.
        path: PathBuf,
        /// Kept: the host's mounts outside of it are made slaves before, so that the host keeps them.
        ties: Ties,
    },
    /// Enters `held.root`.
    Chroot,
    /// Sets the propagation of the new root mount: what `rootfsPropagation` really asks for.
    Finish(Propagation),
    /// Makes the root mount read-only; mounts below keep what they have.
    Readonly,
}

/// The steps around the mounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Before the mounts: propagation, open.
    pub open: Vec<Action>,
    /// After the mounts and devices.
    pub enter: Vec<Action>,
    /// After masks and read-only paths.
    pub finish: Vec<Action>,
}

/// Where what becomes `/` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It lies in the directory.
    Directory,
    /// A file system of its own is mounted over the directory, right after [`Steps::open`], and kept as `held.root`.
    Mounted,
}

/// Decides the steps. `path` is the rootfs, absolute on the host.
pub fn decide(root: &Root, path: &Path, origin: Origin, propagation: Option<Propagation>, way: Way) -> Steps {
    let path = path.to_owned();
    let finish = if root.readonly { vec![Action::Readonly] } else { vec![] };
    if way == Way::Chroot {
        // Nothing may be changed on mounts that the host uses too: no propagation, no read-only root.
        return Steps { open: vec![Action::OpenOnly { path }], enter: vec![Action::Chroot], finish: vec![] };
    }
    let (early, ties) = match propagation {
        Some(Propagation::Shared) => (Propagation::Shared, Ties::Kept),
        Some(Propagation::Private | Propagation::Unbindable) => (Propagation::Private, Ties::Cut),
        Some(Propagation::Slave) | None => (Propagation::Slave, Ties::Cut),
    };
    let enter = if way == Way::Pivot { Action::Pivot { ties } } else { Action::Move { path: path.clone(), ties } };
    // `private`, `slave` and the default are true already: the clone has them from the tree that it was cloned from.
    let last = propagation.filter(|p| matches!(p, Propagation::Shared | Propagation::Unbindable)).map(Action::Finish);
    let open = match (origin, ties) {
        (Origin::Directory, _) => Some(Action::Open { path, ties }),
        (Origin::Mounted, Ties::Kept) => Some(Action::Part { path }),
        (Origin::Mounted, Ties::Cut) => None,
    };
    Steps {
        open: [Action::Propagate(early)].into_iter().chain(open).collect(),
        enter: vec![enter],
        finish: finish.into_iter().chain(last).collect(),
    }
}

fn flag(propagation: Propagation) -> MsFlags {
    match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
    }
}

impl Action {
    /// Why it stands where it stands.
    pub fn why(&self) -> &'static str {
        match self {
            Action::Propagate(_) => "before any mount is cloned: with a shared / the host would hear of every one",
            Action::Open { .. } => {
                "opened once, and a mount of its own, as pivot_root wants; every path below begins at it"
            }
            Action::OpenOnly { .. } => "opened once; every path below begins at it",
            Action::Part { .. } => "what is mounted on a shared mount appears on the host, too",
            Action::Pivot { .. } => "chroot can be escaped by fchdir; a pivoted root has no way back",
            Action::Move { .. } => "--no-pivot: the host's / is the initial ramfs, which pivot_root refuses",
            Action::Chroot => "no mount namespace of its own: only the paths of this process change",
            Action::Finish(_) => "not before: pivot_root refuses a shared root, and open_tree an unbindable one",
            Action::Readonly => "after everything that is made in it",
        }
    }

    /// Executes the step in the child.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        match self {
            Action::Propagate(how) => set_propagation("/", Reach::Tree, *how),
            Action::Open { path, ties } => {
                held.root = Some(attach_root(path, *ties)?);
                Ok(())
            }
            Action::Part { path } => privatize_parent(&open_root(path)?),
            Action::OpenOnly { path } => {
                held.root = Some(open_root(path)?);
                Ok(())
            }
            Action::Pivot { ties } => {
                fchdir(root(held)?).called(|| "fchdir(root)".into())?;
                pivot_root(".", ".").called(|| "pivot_root(\".\", \".\")".into()).map_err(why_not)?;
                if *ties == Ties::Kept {
                    set_propagation(".", Reach::Tree, Propagation::Slave)?;
                }
                // The working directory is the new root since fchdir, and the program's is entered later.
                umount2(".", MntFlags::MNT_DETACH).called(|| "umount2(\".\", MNT_DETACH)".into())?;
                held.at_root = true;
                Ok(())
            }
            Action::Move { path, ties } => {
                uncover(held, path, *ties)?;
                let root = root(held)?;
                fchdir(root).called(|| "fchdir(root)".into())?;
                mount::attach_at(root, AT_FDCWD, "/").called(|| "move_mount(root, \"/\")".into())?;
                enter()
            }
            Action::Chroot => {
                fchdir(root(held)?).called(|| "fchdir(root)".into())?;
                enter()
            }
            Action::Finish(how) => set_propagation("/", Reach::This, *how),
            Action::Readonly => mount::change_at("/", Reach::This, &Change::set(attr::RDONLY))
                .called(|| "mount_setattr(\"/\", set=RDONLY)".into()),
        }
    }
}

/// Takes away every procfs and sysfs of the host. chroot leaves the host's mounts in the namespace, and with one of these in
/// reach a process with CAP_SYS_ADMIN could mount an unmasked one (the kernel allows what is visible already).
fn uncover(held: &Held, rootfs: &Path, ties: Ties) -> Result<()> {
    let own;
    let proc = match &held.proc {
        Some(proc) => proc,
        None => {
            own = path::host_proc()?;
            &own
        }
    };
    let info = procfs::read(proc, "thread-self/mountinfo")?;
    let outside: Vec<(PathBuf, &str)> = mount_points(&info).filter(|(place, _)| !place.starts_with(rootfs)).collect();
    if ties == Ties::Kept {
        // One by one, because all of them at once would be those of the container, too.
        outside.iter().try_for_each(|(place, _)| {
            match mount::change_at(place, Reach::This, &Change::propagate(MsFlags::MS_SLAVE)) {
                // Hidden below another mount, so out of reach.
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
                Err(errno) => Err(errno).called(|| format!("mount_setattr({place:?}, SLAVE)")),
            }
        })?;
    }
    for (place, _) in outside.into_iter().filter(|(_, kind)| ["proc", "sysfs"].contains(kind)) {
        match umount2(&place, MntFlags::MNT_DETACH) {
            // Gone with an outer one.
            Ok(()) | Err(Errno::ENOENT) => {}
            // Locked: in a user namespace. Then it is hidden.
            Err(Errno::EINVAL | Errno::EPERM) => {
                let hide = nix::mount::mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>);
                hide.called(|| format!("mount(\"tmpfs\", {place:?})"))?;
            }
            Err(errno) => return Err(errno).called(|| format!("umount2({place:?}, MNT_DETACH)")),
        }
    }
    Ok(())
}

/// Mount points and types in the text of a mountinfo (proc(5)), innermost last.
fn mount_points(info: &str) -> impl Iterator<Item = (PathBuf, &str)> {
    info.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        Some((unescape(before.split(' ').nth(4)?), after.split(' ').next()?))
    })
}

/// `\\040` is a space in mountinfo.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(|o| std::str::from_utf8(o).ok());
        match octal.and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

fn enter() -> Result<()> {
    chroot(".").called(|| "chroot(\".\")".into())?;
    chdir("/").called(|| "chdir(\"/\")".into())
}

fn root(held: &Held) -> Result<BorrowedFd<'_>> {
    path::opened(&held.root)
}

fn set_propagation(place: &str, reach: Reach, how: Propagation) -> Result<()> {
    let change = Change::propagate(flag(how));
    mount::change_at(place, reach, &change).called(|| shown(place, reach, &change))
}

fn shown(place: &str, reach: Reach, change: &Change) -> String {
    let recursive = if reach == Reach::Tree { "RECURSIVE, " } else { "" };
    format!("mount_setattr({place:?}, {recursive}{change})")
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    path::open_directory(path).map_err(|failure| match failure.errno {
        Errno::ENOENT => failure.because(format!("the root file system {} does not exist", path.display())),
        Errno::ENOTDIR => failure.because(format!("the root file system {} is not a directory", path.display())),
        _ => failure,
    })
}

fn attach_root(path: &Path, ties: Ties) -> Result<OwnedFd> {
    let place = open_root(path)?;
    if ties == Ties::Kept {
        privatize_parent(&place)?;
    }
    let tree =
        mount::clone_of(place.as_fd(), Reach::Tree).called(|| format!("open_tree({path:?}, CLONE|RECURSIVE)"))?;
    if ties == Ties::Kept {
        let slave = Change::propagate(MsFlags::MS_SLAVE);
        mount::change(tree.as_fd(), Reach::Tree, &slave).called(|| shown("", Reach::Tree, &slave))?;
    }
    mount::attach(tree.as_fd(), place.as_fd()).called(|| format!("move_mount({path:?})"))?;
    Ok(tree)
}

/// Makes the mount that holds a directory private, in this namespace only, or the attached root would appear on the host. A volume
/// on the very same mount loses its tie to the host, as with runc; a rootfs that is a mount of its own has no such neighbour. Its root is found by going up until mount_setattr stops saying EINVAL.
fn privatize_parent(place: &OwnedFd) -> Result<()> {
    let private = Change::propagate(MsFlags::MS_PRIVATE);
    let mut at = place.try_clone().called(|| "dup(root)".into())?;
    loop {
        match mount::change(at.as_fd(), Reach::This, &private) {
            Err(Errno::EINVAL) => {}
            done => return done.called(|| shown("..", Reach::This, &private)),
        }
        let up = openat(&at, "..", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .called(|| "openat(\"..\")".into())?;
        let here = |fd: &OwnedFd| nix::sys::stat::fstat(fd).map(|s| (s.st_dev, s.st_ino)).called(|| "fstat".into());
        if here(&up)? == here(&at)? {
            return Err(Errno::EINVAL).called(|| shown("/", Reach::This, &private));
        }
        at = up;
    }
}

fn why_not(failure: Failure) -> Failure {
    match failure.errno {
        Errno::EINVAL => failure.because(
            "the root file system cannot become `/`: its mount is shared, or the host's `/` is the initial ramfs (then: --no-pivot)",
        ),
        _ => failure,
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |place: &str, reach, how| shown(place, reach, &Change::propagate(flag(how)));
        match self {
            Action::Propagate(how) => f.write_str(&set("/", Reach::Tree, *how)),
            Action::Open { path, ties: Ties::Cut } => {
                write!(f, "openat({path:?}, O_PATH|O_DIRECTORY); open_tree(CLONE|RECURSIVE); move_mount({path:?})")
            }
            Action::Open { path, ties: Ties::Kept } => write!(
                f,
                "openat({path:?}, O_PATH|O_DIRECTORY); mount_setattr(PRIVATE); [openat(\"..\"); fstat(); fstat(); mount_setattr(PRIVATE)]…; \
                 open_tree(CLONE|RECURSIVE); mount_setattr(RECURSIVE, SLAVE); move_mount({path:?})"
            ),
            Action::Part { path } => write!(
                f,
                "openat({path:?}, O_PATH|O_DIRECTORY); mount_setattr(PRIVATE); [openat(\"..\"); fstat(); fstat(); mount_setattr(PRIVATE)]…"
            ),
            Action::OpenOnly { path } => write!(f, "openat({path:?}, O_PATH|O_DIRECTORY)"),
            Action::Pivot { ties } => {
                f.write_str("fchdir(root); pivot_root(\".\", \".\"); ")?;
                if *ties == Ties::Kept {
                    write!(f, "{}; ", set(".", Reach::Tree, Propagation::Slave))?;
                }
                f.write_str("umount2(\".\", MNT_DETACH)")
            }
            Action::Move { .. } => f.write_str("openat2(proc, \"thread-self/mountinfo\"); read(); [mount_setattr(SLAVE)]…; [[umount2(MNT_DETACH)]; [mount(\"tmpfs\")]]…; fchdir(root); move_mount(root, \"/\"); chroot(\".\"); chdir(\"/\")"),
            Action::Chroot => f.write_str("fchdir(root); chroot(\".\"); chdir(\"/\")"),
            Action::Finish(how) => f.write_str(&set("/", Reach::This, *how)),
            Action::Readonly => f.write_str(&shown("/", Reach::This, &Change::set(attr::RDONLY))),
        }
    }
}
