//! A file system made and mounted by one mount(2), on a directory that was entered by its descriptor.
//!
//! fsopen, fsconfig for each parameter, fsmount and move_mount are five calls at least, and nine for a devpts. mount(2) says the same in
//! one, but wants a path. So the target is found and opened as for every other mount, and entered: the path is `.`, which nobody can
//! exchange. In the container's own `/dev` it is a name that was made a moment ago, in a tmpfs that nobody else has.
//!
//! By hand: `cd /mnt; strace -e trace=mount mount -i -t tmpfs -o size=64k none .` with `LIBMOUNT_FORCE_MOUNT2=always`.
//!
//! What mount(2) cannot do stays with fsopen: a mount that is read-only on a file system that is not (`MS_RDONLY` is for both, and
//! a sysfs is shared by all of its network namespace), a mount that has no place before it is finished, a value with a comma. Where mount(2)
//! fails it is tried once more with fsopen, whose words name the parameter; mount(2) has an errno only. The other way round, an overlay of many
//! layers is too long for fsconfig(2), and mount(2) is all there is.
//!
//! What goes wrong: the new mount lies on the directory, and no descriptor leads to it. Who needs one (the devices, in `/dev`) opens
//! the target anew, and somebody may have renamed it meanwhile. So what is found must be a tmpfs with nothing in it.

use super::apply::find_mounted;
use super::{Content, New, Way};
use crate::setup::options::Data;
use crate::sys::mount::attr;
use crate::sys::path::{self, Links, clean};
use crate::sys::{Called, Failure, Result, file};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::fchdir;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// fsconfig(2) copies at most 256 bytes, with the NUL.
const LONGEST: usize = 255;

/// mount(2) copies a page, with the NUL; `mode=1777,` may still come before what is known.
const PAGE: usize = 4096 - 1 - "mode=1777,".len();

/// File systems that understand mount(2) as they understand fsconfig(2), and that may be made twice: nothing of the host's is behind them.
const KINDS: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];

const FLAGS: [(u64, MsFlags); 8] = [
    (attr::RDONLY, MsFlags::MS_RDONLY),
    (attr::NOSUID, MsFlags::MS_NOSUID),
    (attr::NODEV, MsFlags::MS_NODEV),
    (attr::NOEXEC, MsFlags::MS_NOEXEC),
    (attr::NOATIME, MsFlags::MS_NOATIME),
    (attr::STRICTATIME, MsFlags::MS_STRICTATIME),
    (attr::NODIRATIME, MsFlags::MS_NODIRATIME),
    (attr::NOSYMFOLLOW, MsFlags::from_bits_retain(256)),
];

/// How a file system is made that gets no propagation of its own.
pub(super) fn way(new: &New, target: &Path) -> Way {
    let no_comma = |text: &str| !text.is_empty() && !text.contains(',');
    let plain = |data: &Data| no_comma(&data.key) && data.value.as_deref().is_none_or(no_comma);
    let one_atime = new.attributes & attr::ATIME != attr::NOATIME | attr::STRICTATIME;
    // How many files are in it could not be asked.
    let countable = !kept(new, target) || !new.data.iter().any(|data| data.key == "nr_inodes");
    let whole = KINDS.contains(&new.kind.as_str())
        && new.attributes & attr::RDONLY == 0
        && one_atime
        && new.flags.is_empty()
        && new.source.as_deref() != Some("")
        && new.data.iter().all(plain)
        && text(new, None).len() <= PAGE
        && (new.content, &new.instead, &new.root_label) == (Content::Empty, &None, &None)
        && countable;
    if whole { Way::Whole } else { Way::Parts }
}

/// Whether a parameter does not fit into fsconfig(2).
pub(super) fn too_long(new: &New) -> bool {
    new.data.iter().any(|data| data.value.as_ref().is_some_and(|value| value.len() > LONGEST))
}

/// Whether the new mount is needed as a descriptor: things are made in it.
pub(super) fn kept(new: &New, target: &Path) -> bool {
    new.kind == "tmpfs" && clean(target).as_os_str() == "/dev"
}

/// As one calls it on `place`; `mode` is that of its root, where it is asked for.
pub(super) fn shown(new: &New, place: &str, mode: Option<u32>) -> String {
    let text = text(new, mode);
    call(new, place, &if text.is_empty() { text } else { format!(", {text:?}") })
}

/// The same, where the mode of its root will only be known in the step: so there is no whole text to be quoted.
pub(super) fn shown_covering(new: &New, place: &str) -> String {
    let words = new.data.iter().map(|data| format!(", {}", word(data)));
    call(new, place, &[", mode=st_mode".to_owned()].into_iter().chain(words).collect::<String>())
}

fn call(new: &New, place: &str, text: &str) -> String {
    let source = new.source.as_ref().map_or("none".to_owned(), |source| format!("{source:?}"));
    format!("mount({source}, {place:?}, {:?}, {}{text})", new.kind, attr::names(new.attributes))
}

/// What becomes of a mount that mount(2) has refused.
pub(super) fn shown_again(new: &New, target: &Path) -> String {
    format!("[fsopen({:?}); [fsconfig()]…; [fsmount(); move_mount({target:?})]]", new.kind)
}

fn word(data: &Data) -> String {
    match &data.value {
        // A label may hold commas; SELinux takes it in quotes.
        Some(value) if data.key.ends_with("context") => format!("{}=\"{value}\"", data.key),
        Some(value) => format!("{}={value}", data.key),
        None => data.key.clone(),
    }
}

fn text(new: &New, mode: Option<u32>) -> String {
    let mode = mode.map(|mode| format!("mode={mode:o}"));
    let words = new.flags.iter().map(|flag| flag.to_string()).chain(new.data.iter().map(word));
    mode.into_iter().chain(words).collect::<Vec<_>>().join(",")
}

/// Mounts on `place`, below the working directory.
pub(super) fn mount<P: ?Sized + NixPath>(new: &New, place: &P, mode: Option<u32>) -> nix::Result<()> {
    let flags =
        FLAGS.iter().filter(|(bit, _)| new.attributes & bit != 0).fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    let text = Some(text(new, mode)).filter(|text| !text.is_empty());
    nix::mount::mount(new.source.as_deref(), place, Some(new.kind.as_str()), flags, text.as_deref())
}

/// Enters the directory that `place` is, and mounts on it.
pub(super) fn mount_on(new: &New, place: &OwnedFd, mode: Option<u32>) -> nix::Result<()> {
    fchdir(place)?;
    mount(new, ".", mode)
}

/// The tmpfs that was just mounted on the target: nothing else may be found there.
pub(super) fn top(root: BorrowedFd<'_>, target: &Path) -> Result<OwnedFd> {
    let top = path::open_below(root, target, OFlag::O_PATH | OFlag::O_DIRECTORY, Links::Refuse)?;
    let found = fstatfs(top.as_fd()).called(|| "fstatfs()".into())?;
    // Its root is a file too.
    if found.filesystem_type() == TMPFS_MAGIC && found.files().saturating_sub(found.files_free()) == 1 {
        return Ok(top);
    }
    let words = format!("{} was exchanged while a tmpfs was mounted on it", target.display());
    Err(Failure::refused(format!("openat2(root, {target:?})"), Errno::EAGAIN, words))
}

/// Mounts what is too long for fsconfig(2), gives the mount, and goes back to where the process was.
pub(super) fn apply_long(new: &New, root: BorrowedFd<'_>, place: &OwnedFd, target: &Path) -> Result<OwnedFd> {
    let back = file::open(".", OFlag::O_PATH).called(|| "openat(\".\", O_PATH)".into())?;
    fchdir(place).called(|| format!("fchdir({target:?})"))?;
    let done = mount(new, ".", None);
    fchdir(&back).called(|| "fchdir(\".\")".into())?;
    done.called(|| shown(new, &target.to_string_lossy(), None))?;
    find_mounted(root, target)
}
