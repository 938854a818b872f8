//! A file system whose parameters are too long for fsconfig(2), such as an overlay of many layers.
//!
//! mount(2) takes a page of them, but wants a path. The target is entered by its descriptor, so the path is `.`, which nobody can
//! exchange; then the process goes back to where it was.

use super::New;
use super::apply::find_mounted;
use crate::setup::options::Data;
use crate::sys::mount::attr;
use crate::sys::{Called, Result, file};
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::unistd::fchdir;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// fsconfig(2) copies at most 256 bytes, with the NUL.
const LONGEST: usize = 255;

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

/// Whether a parameter does not fit.
pub(super) fn needed(new: &New) -> bool {
    new.data.iter().any(|data| data.value.as_ref().is_some_and(|value| value.len() > LONGEST))
}

/// As one calls it.
pub(super) fn shown(new: &New, target: &Path) -> String {
    let words: Vec<String> = new.flags.iter().map(|flag| flag.to_string()).chain(new.data.iter().map(word)).collect();
    let (kind, attributes) = (&new.kind, attr::names(new.attributes));
    format!("mount({:?}, {target:?}, {kind:?}, {attributes}, {:?})", source(new), words.join(","))
}

fn word(data: &Data) -> String {
    match &data.value {
        // A label may hold commas; SELinux takes it in quotes.
        Some(value) if data.key.ends_with("context") => format!("{}=\"{value}\"", data.key),
        Some(value) => format!("{}={value}", data.key),
        None => data.key.clone(),
    }
}

fn source(new: &New) -> &str {
    new.source.as_deref().unwrap_or("none")
}

/// Mounts on `place`, and gives the mount.
pub(super) fn apply(new: &New, root: BorrowedFd<'_>, place: &OwnedFd, target: &Path) -> Result<OwnedFd> {
    let flags =
        FLAGS.iter().filter(|(bit, _)| new.attributes & bit != 0).fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    let words: Vec<String> = new.flags.iter().map(|flag| flag.to_string()).chain(new.data.iter().map(word)).collect();
    let back = file::open(".", OFlag::O_PATH).called(|| "openat(\".\", O_PATH)".into())?;
    fchdir(place).called(|| format!("fchdir({target:?})"))?;
    let done = mount(Some(source(new)), ".", Some(new.kind.as_str()), flags, Some(words.join(",").as_str()));
    fchdir(&back).called(|| "fchdir(\".\")".into())?;
    done.called(|| shown(new, target))?;
    find_mounted(root, target)
}
