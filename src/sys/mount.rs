//! The mount API of Linux 5.2 and later: mounts as descriptors that get a place only when they are finished.
//!
//! What the kernel offers: fsopen(2), fsconfig(2) and fsmount(2) make a new mount; open_tree(2) clones one that is there;
//! mount_setattr(2) (5.12) changes it while nobody can see it, open_tree_attr(2) (6.15) does both; move_mount(2) attaches it to a directory that is named by a
//! descriptor. mount(2) does all of that in one call on a path that can be swapped meanwhile, unless the path is `.`.
//!
//! By hand: `strace -e trace=fsopen,fsconfig,fsmount,move_mount mount -t tmpfs none /mnt` with util-linux 2.39 or later.
//!
//! What goes wrong: an error of fsconfig is nearly always EINVAL; the kernel's own words wait on the context's
//! descriptor, and [`Context`] reads them. A value of fsconfig holds at most 255 bytes. A detached tree can be mounted
//! into only since 6.15, so trees are attached from the root outwards.

use super::{Called, Failure, Result, check};
use nix::NixPath;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Attributes of one mount, the bits of `struct mount_attr`, see mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field that holds one of the three ways to keep access times.
    pub const ATIME: u64 = 0x70;
    /// Access times, at most once a day: the kernel's default.
    pub const RELATIME: u64 = 0x0;
    /// No access times.
    pub const NOATIME: u64 = 0x10;
    /// Access times always.
    pub const STRICTATIME: u64 = 0x20;
    /// No access times for directories.
    pub const NODIRATIME: u64 = 0x80;
    /// The mount shows mapped owners.
    pub const IDMAP: u64 = 0x0010_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;

    const NAMES: [(u64, &str); 9] = [
        (RDONLY, "RDONLY"),
        (NOSUID, "NOSUID"),
        (NODEV, "NODEV"),
        (NOEXEC, "NOEXEC"),
        (NOATIME, "NOATIME"),
        (STRICTATIME, "STRICTATIME"),
        (NODIRATIME, "NODIRATIME"),
        (IDMAP, "IDMAP"),
        (NOSYMFOLLOW, "NOSYMFOLLOW"),
    ];

    /// The names of the bits, `RDONLY|NOSUID`, and `0` for none.
    pub fn names(bits: u64) -> String {
        let mut words = Vec::new();
        let mut rest = bits;
        if bits & ATIME == ATIME {
            words.push("ATIME");
            rest &= !ATIME;
        }
        words.extend(NAMES.iter().filter(|(bit, _)| rest & bit != 0).map(|(_, name)| *name));
        if words.is_empty() { "0".into() } else { words.join("|") }
    }
}

/// How far a call on a mount reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// One mount.
    #[default]
    This,
    /// It and everything mounted below (`AT_RECURSIVE`).
    Tree,
}

impl Reach {
    fn flag(self) -> libc::c_int {
        match self {
            Reach::This => 0,
            Reach::Tree => libc::AT_RECURSIVE,
        }
    }
}

/// What mount_setattr(2) shall change. Clearing happens before setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Bits of [`attr`] to set.
    pub set: u64,
    /// Bits of [`attr`] to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`, or 0 to leave it.
    pub propagation: u64,
}

impl Change {
    /// Nothing to do.
    pub fn is_nothing(&self) -> bool {
        *self == Change::default()
    }

    /// Only attributes to set.
    pub fn set(bits: u64) -> Change {
        Change { set: bits, ..Change::default() }
    }

    /// Only a propagation, one of nix's `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`.
    pub fn propagate(how: nix::mount::MsFlags) -> Change {
        Change { propagation: how.bits(), ..Change::default() }
    }
}

/// As strace names the members, without those that are zero: `set=RDONLY, clear=NOEXEC, SLAVE`.
impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use nix::mount::MsFlags as Ms;
        let mut words = Vec::new();
        if self.set != 0 {
            words.push(format!("set={}", attr::names(self.set)));
        }
        if self.clear != 0 {
            words.push(format!("clear={}", attr::names(self.clear)));
        }
        const KINDS: [(Ms, &str); 4] = [
            (Ms::MS_SHARED, "SHARED"),
            (Ms::MS_SLAVE, "SLAVE"),
            (Ms::MS_PRIVATE, "PRIVATE"),
            (Ms::MS_UNBINDABLE, "UNBINDABLE"),
        ];
        words.extend(KINDS.iter().filter(|(bit, _)| self.propagation & bit.bits() != 0).map(|(_, w)| w.to_string()));
        f.write_str(&words.join(", "))
    }
}

/// Its number, the same on every architecture; libc does not have it for all of them.
const OPEN_TREE_ATTR: libc::c_long = 467;
const OPEN_TREE_CLONE: libc::c_int = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_int = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_int = 0x40;
const FSOPEN_CLOEXEC: libc::c_int = 1;
const FSMOUNT_CLOEXEC: libc::c_int = 1;
const FSPICK_CLOEXEC: libc::c_int = 1;
const FSPICK_EMPTY_PATH: libc::c_int = 8;

/// The `cmd` of fsconfig(2).
#[derive(Clone, Copy)]
enum Cmd {
    SetFlag = 0,
    SetString = 1,
    SetFd = 5,
    Create = 6,
    Reconfigure = 7,
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: every caller passes what a system call has just returned as a new descriptor (checked not to be -1), which
    // nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

fn open_tree(at: BorrowedFd<'_>, path: &(impl ?Sized + NixPath), flags: libc::c_int) -> nix::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: open_tree(2) reads the path, which lives through the call, and no other memory of ours.
    path.with_nix_path(|p| check(unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), p.as_ptr(), flags) }))?
        .map(owned)
}

/// A detached clone of the mount at `path` below `at`, `open_tree(OPEN_TREE_CLONE)`. Follows symbolic links.
pub fn clone_at(at: BorrowedFd<'_>, path: &(impl ?Sized + NixPath), reach: Reach) -> nix::Result<OwnedFd> {
    open_tree(at, path, OPEN_TREE_CLONE | reach.flag())
}

/// A detached clone of what a descriptor stands for, a directory or a file.
///
/// EINVAL: the mount is unbindable, belongs to another mount namespace, or (not recursive) hides a locked mount.
pub fn clone_of(fd: BorrowedFd<'_>, reach: Reach) -> nix::Result<OwnedFd> {
    open_tree(fd, "", OPEN_TREE_CLONE | libc::AT_EMPTY_PATH | reach.flag())
}

/// The same with attributes changed before anybody sees it, in one call instead of mount_setattr(2) after: open_tree_attr(2), Linux 6.15.
/// What is cloned is changed, a whole tree as a whole.
pub fn clone_changed(fd: BorrowedFd<'_>, reach: Reach, what: &Change) -> nix::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | libc::AT_EMPTY_PATH | libc::O_CLOEXEC | reach.flag();
    let it = MountAttr { set: what.set, clear: what.clear, propagation: what.propagation, userns: 0 };
    let (ptr, size) = (&raw const it, size_of::<MountAttr>());
    // SAFETY: the empty path is a static string; `it` has the layout of struct mount_attr, `size` is its size, and it lives through the call.
    check(unsafe { libc::syscall(OPEN_TREE_ATTR, fd.as_raw_fd(), c"".as_ptr(), flags, ptr, size) }).map(owned)
}

fn move_mount(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    path: &(impl ?Sized + NixPath),
    flags: libc::c_int,
) -> nix::Result<()> {
    let flags = flags | MOVE_MOUNT_F_EMPTY_PATH;
    path.with_nix_path(|p| {
        // SAFETY: both paths are terminated strings that live through the call; move_mount(2) only reads them.
        check(unsafe {
            libc::syscall(libc::SYS_move_mount, from.as_raw_fd(), c"".as_ptr(), to.as_raw_fd(), p.as_ptr(), flags)
        })
    })?
    .map(drop)
}

/// Attaches a mount to exactly the directory or file behind `target`: no path is walked.
///
/// ENOTDIR: a directory meets a file. EINVAL: the target is in another mount namespace. ELOOP: onto itself.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    move_mount(mount, target, "", MOVE_MOUNT_T_EMPTY_PATH)
}

/// Attaches a mount to `name` in a directory that nobody but us can change.
pub fn attach_at(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &(impl ?Sized + NixPath)) -> nix::Result<()> {
    move_mount(mount, dir, name, 0)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

fn setattr(
    at: BorrowedFd<'_>,
    path: &(impl ?Sized + NixPath),
    flags: libc::c_int,
    change: MountAttr,
) -> nix::Result<()> {
    let (ptr, size) = (&raw const change, size_of::<MountAttr>());
    path.with_nix_path(|p| {
        // SAFETY: `change` has the layout of struct mount_attr, `size` is its size, and it and the path live through the call.
        check(unsafe { libc::syscall(libc::SYS_mount_setattr, at.as_raw_fd(), p.as_ptr(), flags, ptr, size) })
    })?
    .map(drop)
}

/// mount_setattr(2) on the mount that a descriptor stands for; it must be the root of that mount, or EINVAL.
pub fn change(mount: BorrowedFd<'_>, reach: Reach, what: &Change) -> nix::Result<()> {
    let it = MountAttr { set: what.set, clear: what.clear, propagation: what.propagation, userns: 0 };
    setattr(mount, "", libc::AT_EMPTY_PATH | reach.flag(), it)
}

/// mount_setattr(2) on the mount at `path`, below the working directory when it is relative.
pub fn change_at(path: &(impl ?Sized + NixPath), reach: Reach, what: &Change) -> nix::Result<()> {
    let it = MountAttr { set: what.set, clear: what.clear, propagation: what.propagation, userns: 0 };
    setattr(nix::fcntl::AT_FDCWD, path, reach.flag(), it)
}

/// Makes a detached mount show its files with the owners that a user namespace maps them to.
///
/// EINVAL: the file system does not support it. EPERM: the namespace is the initial one, or the caller may not.
pub fn idmap(mount: BorrowedFd<'_>, reach: Reach, userns: BorrowedFd<'_>) -> nix::Result<()> {
    let it = MountAttr { set: attr::IDMAP, clear: 0, propagation: 0, userns: userns.as_raw_fd() as u64 };
    setattr(mount, "", libc::AT_EMPTY_PATH | reach.flag(), it)
}

/// A file system that is being configured: the descriptor of fsopen(2) or fspick(2).
#[derive(Debug)]
pub struct Context {
    fd: OwnedFd,
}

impl Context {
    /// fsopen(2). ENODEV: the kernel has no such file system.
    pub fn open(kind: &str) -> Result<Context> {
        let called = || format!("fsopen({kind:?})");
        // SAFETY: the name lives through the call, and fsopen(2) only reads it.
        let fd = kind.with_nix_path(|k| check(unsafe { libc::syscall(libc::SYS_fsopen, k.as_ptr(), FSOPEN_CLOEXEC) }));
        match fd.and_then(|done| done) {
            Ok(fd) => Ok(Context { fd: owned(fd) }),
            Err(Errno::ENODEV) => Err(Failure {
                call: called(),
                errno: Errno::ENODEV,
                because: Some(format!("the kernel knows no file system {kind:?}")),
            }),
            Err(errno) => Err(errno).called(called),
        }
    }

    /// fspick(2): the file system of a mount that is there, to be configured anew.
    pub fn pick(mount: BorrowedFd<'_>) -> Result<Context> {
        let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
        // SAFETY: the empty path is a static string, and fspick(2) writes nothing of ours.
        check(unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) })
            .map(|fd| Context { fd: owned(fd) })
            .called(|| "fspick(mount)".into())
    }

    fn config(&self, cmd: Cmd, key: Option<&str>, value: Option<&str>) -> nix::Result<()> {
        let text = |s: Option<&str>| s.map(CString::new).transpose().map_err(|_| Errno::EINVAL);
        let (key, value) = (text(key)?, text(value)?);
        let pointer = |s: &Option<CString>| s.as_ref().map_or(std::ptr::null(), |s| s.as_ptr());
        let (k, v) = (pointer(&key), pointer(&value));
        // SAFETY: `k` and `v` are null or point into `key` and `value`, which live through the call.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, self.fd.as_raw_fd(), cmd as libc::c_int, k, v, 0) }).map(drop)
    }

    /// Sets a parameter, `size` to `65536k`. At most 255 bytes each.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.config(Cmd::SetString, Some(key), Some(value))
            .called(|| format!("fsconfig(SET_STRING, {key:?}, {value:?})"))
            .map_err(|failure| self.explain(failure))
    }

    /// Sets a parameter without a value, `sync`.
    pub fn flag(&self, key: &str) -> Result<()> {
        self.config(Cmd::SetFlag, Some(key), None)
            .called(|| format!("fsconfig(SET_FLAG, {key:?})"))
            .map_err(|failure| self.explain(failure))
    }

    /// Sets a parameter to what a descriptor stands for, `lowerdir+` of an overlay to a directory. The kernel opens no path.
    ///
    /// EINVAL: this file system takes no descriptor there (overlay: before 6.13). EBADF: an `O_PATH` descriptor, before 6.15.
    pub fn set_fd(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        let called = || format!("fsconfig(SET_FD, {key:?})");
        let key = CString::new(key).map_err(|_| Errno::EINVAL).called(called)?;
        let (context, cmd, none) = (self.fd.as_raw_fd(), Cmd::SetFd as libc::c_int, std::ptr::null::<libc::c_char>());
        // SAFETY: the key ends with NUL and lives through the call, the value is null, the rest are numbers.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, context, cmd, key.as_ptr(), none, value.as_raw_fd()) })
            .map(drop)
            .called(called)
            .map_err(|failure| self.explain(failure))
    }

    /// Makes the file system from the parameters, or finds the one that has them already.
    pub fn create(&self) -> Result<()> {
        self.config(Cmd::Create, None, None)
            .called(|| "fsconfig(CMD_CREATE)".into())
            .map_err(|failure| self.explain(failure))
    }

    /// Changes a picked file system to the parameters.
    pub fn reconfigure(&self) -> Result<()> {
        self.config(Cmd::Reconfigure, None, None)
            .called(|| "fsconfig(CMD_RECONFIGURE)".into())
            .map_err(|failure| self.explain(failure))
    }

    /// A detached mount of it with these bits of [`attr`]. A context cannot be mounted twice.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        // SAFETY: fsmount(2) takes numbers only.
        check(unsafe { libc::syscall(libc::SYS_fsmount, self.fd.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
            .map(owned)
            .called(|| format!("fsmount({})", attr::names(attributes)))
            .map_err(|failure| self.explain(failure))
    }

    /// Its descriptor, when it was mounted.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// What the kernel wrote to the context: lines like `e tmpfs: Bad value for 'size'`.
    fn explain(&self, failure: Failure) -> Failure {
        let mut words = Vec::new();
        let mut line = [0; 512];
        // Each read takes one message; ENODATA after the last.
        while let Ok(n @ 1..) = nix::unistd::read(&self.fd, &mut line) {
            let text = String::from_utf8_lossy(&line[..n]);
            let text = text.trim_end();
            // The severity comes first: `e `, `w `, `i `.
            words.push(["e ", "w ", "i "].iter().find_map(|s| text.strip_prefix(s)).unwrap_or(text).to_owned());
        }
        if words.is_empty() { failure } else { failure.because(words.join("; ")) }
    }
}
