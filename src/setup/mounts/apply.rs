//! Executes one mount in the child.

use super::shown::{attach, setattr};
use super::{
    Action, Bind, Cloned, Content, Entered, Kind, Legacy, New, Remount, RootMode, Spot, Way, What, copy_up, early,
    whole,
};
use crate::setup::Held;
use crate::setup::options::Data;
use crate::sys::mount::{self, Change, Context, Reach, attr};
use crate::sys::path::{self, Links};
use crate::sys::spent::Spent;
use crate::sys::{Called, Failure, Result, at};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};
use nix::unistd::{fchdir, symlinkat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
const FILE: Mode = Mode::from_bits_truncate(0o644);
/// Permissions of a tmpfs whose target did not exist.
const STICKY: u32 = 0o1777;

impl Action {
    /// Makes the mount and attaches it below `held.root`.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        if let What::Early(bind) = &self.what {
            let tree = early::clone(bind)?;
            held.trees.push((self.at, tree));
            return Ok(());
        }
        let inherited = held.trees.iter().position(|(at, _)| *at == self.at).map(|i| held.trees.swap_remove(i).1);
        let (root, spent) = (path::opened(&held.root)?, &held.spent);
        let (mount, links) = match (&self.what, &held.dev) {
            (What::New(new @ New { spot: Spot::InDev(entered), .. }), Some(dev)) => {
                (new.apply_in(dev.as_fd(), *entered, &self.target, spent)?, Links::Refuse)
            }
            (What::New(new), _) => new.apply(root, &self.target, spent)?,
            (What::Bind(bind), _) => some(bind.apply(root, &self.target, inherited, spent)?),
            (What::Early(_), _) => unreachable!("handled above"),
            (What::Legacy(legacy), _) => some(legacy.apply(root, &self.target, spent)?),
            (What::Remount(remount), _) => (Some(remount.apply(root, &self.target)?), Links::Refuse),
            (What::Seal, _) => (Some(seal(root, &self.target)?), Links::Refuse),
        };
        if let Some(mount) = &mount {
            self.propagation.iter().try_for_each(|(how, reach)| change(mount, *reach, &Change::propagate(*how)))?;
        }
        let is_dev = path::clean(&self.target).as_os_str() == "/dev";
        // Through a symbolic link it may lie on /dev as well.
        if is_dev || links == Links::Follow {
            spent.take_all(held.dev.take());
        }
        if is_dev && self.is_empty_tmpfs() {
            held.dev = mount;
        } else {
            spent.take_all(mount);
        }
        Ok(())
    }
}

fn some((mount, links): (OwnedFd, Links)) -> (Option<OwnedFd>, Links) {
    (Some(mount), links)
}

fn change(mount: &OwnedFd, reach: Reach, what: &Change) -> Result<()> {
    if what.is_nothing() {
        return Ok(());
    }
    mount::change(mount.as_fd(), reach, what).called(|| setattr(reach, what)).map_err(|failure| match failure.errno {
        Errno::EPERM if what.clear != 0 => {
            failure.because(format!("{} is locked by the namespace that made the mount", attr::names(what.clear)))
        }
        _ => failure,
    })
}

fn put(mount: &OwnedFd, target: &OwnedFd, place: &Path) -> Result<()> {
    mount::attach(mount.as_fd(), target.as_fd()).called(|| attach(place)).map_err(|failure| {
        let kinds = (path::kind(mount), path::kind(target));
        match (failure.errno, kinds) {
            // move_mount(2) says EINVAL, where mount(2) says ENOTDIR.
            (_, (Ok(source), Ok(there))) if (source == SFlag::S_IFDIR) != (there == SFlag::S_IFDIR) => {
                failure.because(format!(
                    "{} in the root file system is {}, but the source is {}",
                    place.display(),
                    path::word(there),
                    path::word(source)
                ))
            }
            _ => failure,
        }
    })
}

/// What is at the target, and whether links had to be followed. A path without symbolic links is where it says; through a link it
/// must not end in a procfs.
fn find(root: BorrowedFd<'_>, target: &Path, flags: OFlag, links: Links) -> Result<(Option<OwnedFd>, Links)> {
    match path::find_below(root, target, flags, Links::Refuse) {
        Err(failure) if failure.errno == Errno::ELOOP && links == Links::Follow => {
            let found = path::find_below(root, target, flags, Links::Follow)?;
            Ok((found.map(|fd| outside_proc(fd, target)).transpose()?, Links::Follow))
        }
        done => Ok((done?, Links::Refuse)),
    }
}

fn outside_proc(fd: OwnedFd, target: &Path) -> Result<OwnedFd> {
    if path::is_proc(&fd)? {
        let words =
            format!("{} leads through a symbolic link into /proc, where nothing may be covered", target.display());
        return Err(Failure::refused(format!("openat2(root, {target:?})"), Errno::ELOOP, words));
    }
    Ok(fd)
}

/// The directory at the target, whether it was there before, and whether links had to be followed.
fn directory(root: BorrowedFd<'_>, target: &Path, links: Links) -> Result<(OwnedFd, Was, Links)> {
    match find(root, target, OFlag::O_PATH | OFlag::O_DIRECTORY, links)? {
        (Some(fd), links) => Ok((fd, Was::There, links)),
        (None, links) => Ok((missing_directory(root, target, links)?, Was::Missing, links)),
    }
}

fn missing_directory(root: BorrowedFd<'_>, target: &Path, links: Links) -> Result<OwnedFd> {
    let fd = path::make_missing_directory(root, target, DIRECTORY, links)?;
    if links == Links::Follow { outside_proc(fd, target) } else { Ok(fd) }
}

fn missing_file(root: BorrowedFd<'_>, target: &Path, links: Links) -> Result<OwnedFd> {
    let fd = path::make_missing_file(root, target, FILE, links)?;
    if links == Links::Follow { outside_proc(fd, target) } else { Ok(fd) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Was {
    There,
    Missing,
}

fn configure(context: &Context, flags: &[&'static str], data: &[Data]) -> Result<()> {
    flags.iter().try_for_each(|key| context.flag(key))?;
    data.iter().try_for_each(|data| match &data.value {
        Some(value) => context.set(&data.key, value),
        None => context.flag(&data.key),
    })
}

/// The SELinux label of a file system's root.
fn set_label(mount: &OwnedFd, label: &str) -> Result<()> {
    // What fsmount gives is O_PATH, and takes no attributes.
    let root = openat(mount, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .called(|| "openat(mount, \".\")".into())?;
    at::fsetxattr(&root, c"security.selinux", label.as_bytes())
        .called(|| format!("fsetxattr(\"security.selinux\", {label:?})"))
        .map_err(no_selinux)
}

fn no_selinux(failure: Failure) -> Failure {
    failure.because("linux.mountLabel: SELinux is not enabled on this host, or does not know the label")
}

impl New {
    /// In the container's own `/dev`, by name. No descriptor where mount(2) made it.
    fn apply_in(&self, dev: BorrowedFd<'_>, entered: Entered, target: &Path, spent: &Spent) -> Result<Option<OwnedFd>> {
        let name = target.file_name().unwrap_or_default();
        mkdirat(dev, name, DIRECTORY).called(|| format!("mkdirat({target:?})"))?;
        let mode = self.mode_in_dev();
        if self.way == Way::Whole {
            if entered == Entered::No {
                fchdir(dev).called(|| "fchdir(\"/dev\")".into())?;
            }
            if whole::mount(self, name, mode).is_ok() {
                return Ok(None);
            }
        }
        let mount = self.make(mode, spent)?;
        if let Some(label) = &self.root_label {
            set_label(&mount, label)?;
        }
        mount::attach_at(mount.as_fd(), dev, name).called(|| attach(target))?;
        Ok(Some(mount))
    }

    /// Of what lies in a `/dev` where nothing of that name was before.
    pub(super) fn mode_in_dev(&self) -> Option<u32> {
        (self.mode == RootMode::Covered).then_some(STICKY)
    }

    fn apply(&self, root: BorrowedFd<'_>, target: &Path, spent: &Spent) -> Result<(Option<OwnedFd>, Links)> {
        let (place, was, links) = directory(root, target, self.links)?;
        let mode = match (self.mode, was) {
            (RootMode::Own, _) => None,
            (RootMode::Covered, Was::Missing) => Some(STICKY),
            (RootMode::Covered, Was::There) => Some(fstat(&place).called(|| "fstat".into())?.st_mode & 0o7777),
        };
        if self.way == Way::Long {
            return Ok((Some(whole::apply_long(self, root, &place, target)?), links));
        }
        let kept = whole::kept(self, target);
        // Where it is opened again no link may have led there: it could lead elsewhere by now.
        if self.way == Way::Whole && !(kept && links == Links::Follow) && whole::mount_on(self, &place, mode).is_ok() {
            let top = if kept { Some(whole::top(root, target)?) } else { None };
            spent.take(place);
            return Ok((top, links));
        }
        let mount = match (self.make(mode, spent), &self.instead) {
            (Err(failure), Some(own)) if matches!(failure.errno, Errno::EPERM | Errno::EBUSY) => {
                let own = mount::clone_at(AT_FDCWD, own, Reach::Tree)
                    .called(|| format!("open_tree({own:?}, CLONE|RECURSIVE)"))?;
                change(&own, Reach::This, &Change::set(self.attributes))?;
                own
            }
            (made, _) => made?,
        };
        if let Some(label) = &self.root_label {
            set_label(&mount, label)?;
        }
        if self.content == Content::Covered {
            copy_up::copy(place.as_fd(), mount.as_fd())?;
        }
        put(&mount, &place, target)?;
        spent.take(place);
        Ok((Some(mount), links))
    }

    fn make(&self, mode: Option<u32>, spent: &Spent) -> Result<OwnedFd> {
        let make = || {
            let context = Context::open(&self.kind)?;
            if let Some(source) = &self.source {
                context.set("source", source)?;
            }
            if let Some(mode) = mode {
                context.set("mode", &format!("{mode:o}"))?;
            }
            configure(&context, &self.flags, &self.data)?;
            context.create()?;
            let mount = context.mount(self.attributes)?;
            spent.take(context.into_fd());
            Ok(mount)
        };
        make().map_err(|failure: Failure| match (failure.errno, self.kind.as_str()) {
            _ if failure.call.starts_with("fsconfig(SET_STRING, \"context\"") => no_selinux(failure),
            (Errno::EPERM, "proc") => failure
                .because("procfs can only be mounted by who owns the pid namespace: a user namespace needs a new one"),
            (Errno::EPERM, "sysfs") => failure.because("sysfs can only be mounted by who owns the network namespace"),
            (Errno::EPERM, "mqueue") => failure
                .because("mqueue can only be mounted by who owns the ipc namespace: a user namespace needs a new one"),
            (Errno::EPERM, kind) if failure.because.is_none() => {
                failure.because(format!("file system {kind:?} may not be mounted in this user namespace"))
            }
            _ => failure,
        })
    }
}

impl Bind {
    fn apply(
        &self,
        root: BorrowedFd<'_>,
        target: &Path,
        inherited: Option<OwnedFd>,
        spent: &Spent,
    ) -> Result<(OwnedFd, Links)> {
        let tree = match (self.cloned_by, inherited) {
            (Cloned::Child, _) => self.clone_source()?,
            (Cloned::Both, Some(tree)) => self.clone_source().or_else(|failure| match failure.errno {
                Errno::EACCES | Errno::EPERM => Ok(tree),
                _ => Err(failure),
            })?,
            (Cloned::Parent, Some(tree)) => tree,
            (_, None) => {
                let words = "the parent has not cloned it before the clone";
                return Err(Failure::refused(format!("open_tree({:?}, CLONE)", self.source), Errno::EBADF, words));
            }
        };
        if self.source_must_be == Kind::Proc && !path::is_proc(&tree)? {
            let words = format!(
                "host path {} is not a procfs, and only a procfs may be mounted on /proc",
                self.source.display()
            );
            return Err(Failure::refused(format!("fstatfs({:?})", self.source), Errno::EINVAL, words));
        }
        change(&tree, Reach::This, &self.this)?;
        change(&tree, Reach::Tree, &self.tree)?;
        let (found, links) = find(root, target, OFlag::O_PATH, self.links)?;
        let place = match found {
            Some(fd) => fd,
            None if path::kind(&tree)? == SFlag::S_IFDIR => missing_directory(root, target, links)?,
            None => missing_file(root, target, links)?,
        };
        put(&tree, &place, target)?;
        spent.take(place);
        Ok((tree, links))
    }

    pub(super) fn clone_source(&self) -> Result<OwnedFd> {
        let recursive = if self.reach == Reach::Tree { "|RECURSIVE" } else { "" };
        let called = || format!("open_tree({:?}, CLONE{recursive})", self.source);
        mount::clone_at(AT_FDCWD, &self.source, self.reach).called(called).map_err(|failure| {
            let path = self.source.display();
            match failure.errno {
                Errno::ENOENT => failure.because(format!("host path {path} does not exist")),
                Errno::ENOTDIR => failure.because(format!("a part of host path {path} is a file, not a directory")),
                Errno::EINVAL => failure.because(format!(
                    "the mount of host path {path} is unbindable, or hides a locked one (then: rbind)"
                )),
                _ => failure,
            }
        })
    }
}

impl Legacy {
    fn apply(&self, root: BorrowedFd<'_>, target: &Path, spent: &Spent) -> Result<(OwnedFd, Links)> {
        let (place, _, links) = directory(root, target, Links::Follow)?;
        let context = Context::open("tmpfs")?;
        context.set("mode", "755")?;
        configure(&context, &[], &self.data).map_err(no_selinux)?;
        context.create()?;
        let top = context.mount(self.attributes & !attr::RDONLY)?;
        put(&top, &place, target)?;
        spent.take_all([place, context.into_fd()]);
        // Names below `top` are safe: nobody else has ever seen this tmpfs.
        for (directory, name) in &self.binds {
            let place = target.join(name);
            mkdirat(&top, name.as_str(), DIRECTORY).called(|| format!("mkdirat({place:?})"))?;
            let own = mount::clone_at(AT_FDCWD, directory, Reach::This)
                .called(|| format!("open_tree({directory:?}, CLONE)"))?;
            mount::attach_at(own.as_fd(), top.as_fd(), name.as_str()).called(|| attach(&place))?;
            spent.take(own);
        }
        for (link, to) in &self.links {
            symlinkat(to.as_str(), &top, link.as_str())
                .called(|| format!("symlinkat({to:?}, {:?})", target.join(link)))?;
        }
        // One call for the whole tree, while nothing of the container runs yet.
        change(&top, Reach::Tree, &Change::set(self.attributes))?;
        Ok((top, links))
    }
}

impl Remount {
    fn apply(&self, root: BorrowedFd<'_>, target: &Path) -> Result<OwnedFd> {
        let there = path::open_below(root, target, OFlag::O_PATH, Links::Follow)?;
        let not_a_mount = |failure: Failure| match failure.errno {
            Errno::EINVAL => {
                failure.because(format!("{} is not a mount point, and remount changes one", target.display()))
            }
            _ => failure,
        };
        change(&there, Reach::This, &self.this).map_err(not_a_mount)?;
        change(&there, Reach::Tree, &self.tree).map_err(not_a_mount)?;
        if !(self.flags.is_empty() && self.data.is_empty()) {
            let context = Context::pick(there.as_fd())?;
            configure(&context, &self.flags, &self.data)?;
            context.reconfigure()?;
        }
        Ok(there)
    }
}

/// The uppermost mount at the target.
pub(super) fn find_mounted(root: BorrowedFd<'_>, target: &Path) -> Result<OwnedFd> {
    path::open_below(root, target, OFlag::O_PATH, Links::Follow)
}

fn seal(root: BorrowedFd<'_>, target: &Path) -> Result<OwnedFd> {
    let there = find_mounted(root, target)?;
    change(&there, Reach::This, &Change::set(attr::RDONLY))?;
    Ok(there)
}
