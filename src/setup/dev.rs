//! `/dev`: device nodes and the links beside them.
//!
//! What the kernel offers: mknodat(2) makes a node that stands for a driver (1:3 is the null device), with CAP_MKNOD in the
//! initial user namespace only. Elsewhere a node of the host can be bound over an empty file.
//!
//! By hand: `mknod -m 666 rootfs/dev/null c 1 3; ln -s /proc/self/fd rootfs/dev/fd`.
//!
//! What we do: the directory is found once below the root, and everything is made in that descriptor, name by name: six
//! devices that every program expects, those of the configuration (which win where both name one), the links to `/proc/self/fd`,
//! and `ptmx`. A node that is there already must be the one that was asked for. When `/dev` is a bind of the configuration
//! nothing is touched: it is somebody else's.
//!
//! What goes wrong: `/dev` or `/dev/null` in the root is a symbolic link, a fifo, a file (CVE-2025-31133): the link is followed
//! below the root only, anything that is not the device is refused. The umask would take bits from the mode, so it is
//! zero meanwhile, which is safe in a process of one thread; fchmodat afterwards would follow a link.

use super::Held;
use crate::input::Fault;
use crate::input::config::{Device, DeviceKind, Mount};
use crate::setup::options;
use crate::sys::path::{self, Links, clean};
use crate::sys::{Called, Failure, Result, mount};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, major, makedev, minor, mknodat, umask};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What every container has in `/dev`, by the runtime specification.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in `/dev`, and where they lead.
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Made only where the host has it.
const CORE: (&str, &str) = ("core", "/proc/kcore");

/// The multiplexer of the container's own devpts.
const PTMX: (&str, &str) = ("ptmx", "pts/ptmx");

/// How nodes come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// mknodat(2).
    Make,
    /// A bind of the host's node: in a user namespace.
    Bind,
}

/// Fills one directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// The directory inside the container.
    pub directory: PathBuf,
    nodes: Vec<Device>,
    means: Means,
    links: &'static [(&'static str, &'static str)],
}

/// Decides what is made, `/dev` first. Nothing when `/dev` is a bind.
pub fn decide(devices: &[Device], mounts: &[Mount], means: Means) -> std::result::Result<Vec<Action>, Vec<Fault>> {
    let is_bind = |m: &Mount| m.kind == "bind" || options::parse(&m.options).bind.is_some();
    if mounts.iter().any(|m| clean(&m.destination).as_os_str() == "/dev" && is_bind(m)) {
        return Ok(vec![]);
    }
    let default = |(path, major, minor): &(&str, u32, u32)| Device {
        path: path.into(),
        kind: DeviceKind::Char,
        major: *major,
        minor: *minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    let mut actions =
        vec![Action { directory: "/dev".into(), nodes: DEFAULT.iter().map(default).collect(), means, links: &LINKS }];
    let mut faults = Vec::new();
    // Where a directory is among the actions, and a node in its directory: a configuration may have thousands of either.
    let paths: Vec<PathBuf> = devices.iter().map(|device| clean(&device.path).into_owned()).collect();
    let mut directories = BTreeMap::from([(Path::new("/dev"), 0)]);
    let mut places: BTreeMap<&Path, usize> =
        DEFAULT.iter().enumerate().map(|(at, (path, ..))| (Path::new(*path), at)).collect();
    for (i, (device, path)) in devices.iter().zip(&paths).enumerate() {
        let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
            faults.push(Fault::new(format!("linux.devices[{i}].path"), "is the root itself"));
            continue;
        };
        // The link to the container's own multiplexer is always made.
        if *path == Path::new("/dev").join(PTMX.0) {
            continue;
        }
        let device = Device { path: path.clone(), ..device.clone() };
        let at = *directories.entry(parent).or_insert_with(|| {
            actions.push(Action { directory: parent.to_owned(), nodes: vec![], means, links: &[] });
            actions.len() - 1
        });
        let nodes = &mut actions[at].nodes;
        match places.entry(path) {
            Entry::Occupied(place) => nodes[*place.get()] = device,
            Entry::Vacant(place) => {
                place.insert(nodes.len());
                nodes.push(device);
            }
        }
    }
    if faults.is_empty() { Ok(actions) } else { Err(faults) }
}

/// Zero while it lives.
struct Umask(Mode);

impl Umask {
    fn zero() -> Umask {
        Umask(umask(Mode::empty()))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        umask(self.0);
    }
}

impl Action {
    /// The place in the configuration; the defaults have none of their own.
    pub fn place(&self) -> String {
        format!("linux.devices {}", self.directory.display())
    }

    /// Makes the nodes and links below `held.root`.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        let mode = Mode::from_bits_truncate(0o755);
        let dir = match held.dev.take_if(|_| self.directory == Path::new("/dev")) {
            Some(dev) => dev,
            None => path::make_directory(path::opened(&held.root)?, &self.directory, mode, Links::Follow)?,
        };
        {
            let _umask = Umask::zero();
            self.nodes.iter().try_for_each(|node| match self.means {
                Means::Bind if node.kind != DeviceKind::Fifo => bind(&dir, node),
                _ => make(&dir, node),
            })?;
        }
        if self.links.is_empty() {
            return Ok(());
        }
        for (name, to) in self.links {
            link(&dir, name, to, Stale::Kept)?;
        }
        if has_kcore(held) {
            link(&dir, CORE.0, CORE.1, Stale::Kept)?;
        }
        link(&dir, PTMX.0, PTMX.1, Stale::Replaced)?;
        held.spent.take(dir);
        Ok(())
    }
}

fn has_kcore(held: &Held) -> bool {
    match &held.proc {
        Some(proc) => fstatat(proc, "kcore", AtFlags::AT_SYMLINK_NOFOLLOW).is_ok(),
        None => fstatat(AT_FDCWD, CORE.1, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok(),
    }
}

/// What happens to a name that is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stale {
    Kept,
    Replaced,
}

fn link(dir: &OwnedFd, name: &str, to: &str, stale: Stale) -> Result<()> {
    let called = || format!("symlinkat({to:?}, \"/dev/{name}\")");
    match symlinkat(to, dir, name) {
        Err(Errno::EEXIST) if stale == Stale::Kept => Ok(()),
        Err(Errno::EEXIST) => {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).called(|| format!("unlinkat(\"/dev/{name}\")"))?;
            symlinkat(to, dir, name).called(called)
        }
        done => done.called(called),
    }
}

fn kind(node: &Device) -> SFlag {
    match node.kind {
        DeviceKind::Block => SFlag::S_IFBLK,
        DeviceKind::Char => SFlag::S_IFCHR,
        DeviceKind::Fifo => SFlag::S_IFIFO,
    }
}

fn name(node: &Device) -> &OsStr {
    node.path.file_name().expect("decide refuses the root")
}

fn make(dir: &OwnedFd, node: &Device) -> Result<()> {
    let mode = Mode::from_bits_truncate(node.mode & 0o7777);
    match mknodat(dir, name(node), kind(node), mode, makedev(node.major.into(), node.minor.into())) {
        Ok(()) if (node.uid, node.gid) == (0, 0) => Ok(()),
        Ok(()) => {
            // The owner is set on what is really there: the name may be somebody else's by now.
            let made = same(open_node(dir.as_fd(), node)?, node, "in the root file system")?;
            let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
            fchownat(&made, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
                .called(|| format!("fchownat({:?}, {}, {})", node.path, node.uid, node.gid))
        }
        Err(Errno::EEXIST) => same(open_node(dir.as_fd(), node)?, node, "in the root file system").map(drop),
        // Root in a user namespace that is not ours: the runtime itself runs in a container.
        Err(Errno::EPERM) if node.kind != DeviceKind::Fifo => bind(dir, node),
        done => done.called(|| shown(node)),
    }
}

fn open_node(dir: BorrowedFd<'_>, node: &Device) -> Result<OwnedFd> {
    openat(dir, name(node), OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .called(|| format!("openat({:?}, O_PATH|O_NOFOLLOW)", node.path))
}

/// Refuses what is not the device that was asked for.
fn same(found: OwnedFd, node: &Device, place: &str) -> Result<OwnedFd> {
    let stat = fstat(&found).called(|| "fstat".into())?;
    let is = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let numbers = node.kind == DeviceKind::Fifo || stat.st_rdev == makedev(node.major.into(), node.minor.into());
    if is == kind(node) && numbers {
        return Ok(found);
    }
    let numbers = |kind: SFlag, rdev| match kind {
        SFlag::S_IFCHR | SFlag::S_IFBLK => format!("{} {}:{}", path::word(kind), major(rdev), minor(rdev)),
        kind => path::word(kind).to_owned(),
    };
    let want = numbers(kind(node), makedev(node.major.into(), node.minor.into()));
    let words = format!("{} {place} is {}, not {want}", node.path.display(), numbers(is, stat.st_rdev));
    Err(Failure::refused(shown(node), Errno::EEXIST, words))
}

fn bind(dir: &OwnedFd, node: &Device) -> Result<()> {
    let called = || format!("open_tree({:?}, CLONE)", node.path);
    let source = mount::clone_at(AT_FDCWD, &node.path, mount::Reach::This).called(called)?;
    let source = same(source, node, "on the host")?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(dir, name(node), flags, Mode::from_bits_truncate(0o666)) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno).called(|| format!("openat({:?}, O_CREAT|O_EXCL)", node.path)),
    }
    let target = open_node(dir.as_fd(), node)?;
    if path::kind(&target)? == SFlag::S_IFLNK {
        let words = format!("{} in the root file system is a symbolic link", node.path.display());
        return Err(Failure::refused(format!("openat({:?}, O_PATH|O_NOFOLLOW)", node.path), Errno::ELOOP, words));
    }
    mount::attach(source.as_fd(), target.as_fd()).called(|| format!("move_mount({:?})", node.path))
}

fn shown(node: &Device) -> String {
    let letter = match node.kind {
        DeviceKind::Block => "S_IFBLK",
        DeviceKind::Char => "S_IFCHR",
        DeviceKind::Fifo => return format!("mknodat({:?}, S_IFIFO|{:04o})", node.path, node.mode),
    };
    format!("mknodat({:?}, {letter}|{:04o}, {}:{})", node.path, node.mode, node.major, node.minor)
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = &self.directory;
        // A tmpfs that was mounted there is still open.
        let (open, close) = if directory == Path::new("/dev") { ("[", "]") } else { ("", "") };
        let made = path::shown_directory(directory);
        write!(f, "{open}openat2(root, {directory:?}); [{made}]{close}; umask(000)")?;
        for node in &self.nodes {
            let path = &node.path;
            if self.means == Means::Bind && node.kind != DeviceKind::Fifo {
                write!(
                    f,
                    "; open_tree({path:?}, CLONE); fstat(); openat({path:?}, O_CREAT|O_EXCL); openat({path:?}, O_PATH|O_NOFOLLOW); \
                     fstat(); move_mount({path:?})"
                )?;
                continue;
            }
            write!(f, "; {}", shown(node))?;
            if (node.uid, node.gid) != (0, 0) {
                let (uid, gid) = (node.uid, node.gid);
                write!(f, "; openat({path:?}, O_PATH|O_NOFOLLOW); fstat(); fchownat({path:?}, {uid}, {gid})")?;
            }
        }
        f.write_str("; umask()")?;
        if self.links.is_empty() {
            return Ok(());
        }
        for (name, to) in self.links {
            write!(f, "; symlinkat({to:?}, \"/dev/{name}\")")?;
        }
        write!(f, "; newfstatat(proc, \"kcore\"); [symlinkat({:?}, \"/dev/{}\")]", CORE.1, CORE.0)?;
        write!(f, "; symlinkat({:?}, \"/dev/{}\")", PTMX.1, PTMX.0)
    }
}
