//! Can the kernel stack layers where the store lies? Asked once per boot, by trying.
//!
//! What the kernel offers: no question. Overlay may be a module that is not there; it refuses to write on another overlay, on NFS, on
//! case-insensitive directories; elsewhere it mounts with a warning and then cannot hide a file, because the file system below has no whiteouts or
//! keeps no `trusted` attributes, or shows what is hidden in its listings, because directories below do not say which name is a device (`mkfs.xfs -n ftype=0`,
//! `mkfs.ext4 -O ^filetype`). A list of good file systems would be wrong with the next kernel.
//!
//! By hand: the example of an overlay in `setup/overlay.rs`, with the four directories in the store.
//!
//! What we do: an overlay of two directories in the store is made and not attached, so no mount appears anywhere, and a file of the lower
//! one is removed through it, and no longer listed. What came out is written to `STORE/ground`, with the boot and the file system that it holds for, since
//! a store can be moved: it takes a third of a millisecond.

use super::{Container, Containers, TRANSIENT};
use crate::error::Result;
use crate::image::marks::{Form, OPAQUE};
use crate::image::prune;
use crate::sys::file::{self, End};
use crate::sys::mount::Context;
use crate::sys::{Called, Failure, at, plain};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

/// How an image's layers become a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ground {
    /// The kernel stacks them.
    Overlay,
    /// They are copied, one over the other.
    Copy {
        /// Why, in plain words.
        because: String,
    },
}

const FILE: &str = "ground";

impl Ground {
    /// What holds for these layers: those that were unpacked where the kernel cannot stack them are copied wherever the store has got to.
    pub fn for_layers(self, layers: &[PathBuf]) -> Ground {
        match (&self, layers.iter().find(|layer| Form::of_layer(layer) == Form::Pipes)) {
            (Ground::Overlay, Some(layer)) => Ground::Copy {
                because: format!(
                    "{} was unpacked where the file system takes no whiteouts; `corten rmi` and `corten pull` unpack it anew",
                    layer.display()
                ),
            },
            _ => self,
        }
    }
}

impl Containers {
    /// What was found out about this store since the boot.
    pub fn noted(&self, boot: &str) -> Option<Ground> {
        file::read_text(self.store.join(FILE), End::Less).ok().and_then(|text| parse(&text, &self.moment(boot)))
    }

    /// When and where an answer holds; empty: never.
    fn moment(&self, boot: &str) -> String {
        if boot.is_empty() { String::new() } else { format!("{boot} {:x}", self.device) }
    }

    /// What the store stands on. `boot`: the boot's id, `/proc/sys/kernel/random/boot_id`.
    pub fn ground(&self, boot: &str) -> Result<Ground> {
        if let Some(known) = self.noted(boot) {
            return Ok(known);
        }
        let found = self.probe()?;
        // Who cannot write it asks again the next time.
        let aside = self.store.join(format!("{FILE}.{}", std::process::id()));
        let _ = std::fs::write(&aside, format(&found, &self.moment(boot)))
            .and_then(|()| std::fs::rename(&aside, self.store.join(FILE)));
        Ok(found)
    }

    fn probe(&self) -> Result<Ground> {
        let name = format!("{TRANSIENT}ground-{}", std::process::id());
        let scratch = {
            let _lock = self.lock()?;
            // Left by a killed process whose number is ours now.
            prune::entry(self.dir.as_fd(), OsStr::new(&name), &prune::nothing)?;
            mkdirat(&self.dir, name.as_str(), Mode::S_IRWXU).called(|| format!("mkdirat({:?})", self.path(&name)))?;
            self.open_entry(&name)?.and_then(|made| made.locked().transpose()).transpose()?
        };
        let tried = scratch.as_ref().map_or(Ok(()), attempt);
        self.prune(&name)?;
        Ok(match tried {
            Ok(()) => Ground::Overlay,
            Err(failure) => {
                let words = failure.because.unwrap_or_else(|| plain(failure.errno));
                Ground::Copy { because: format!("{}: {words}", failure.call) }
            }
        })
    }
}

/// Everything that an image's container needs of the file system below.
fn attempt(scratch: &Container) -> crate::sys::Result<()> {
    let directory = |name: &str| -> crate::sys::Result<OwnedFd> {
        mkdirat(&scratch.dir, name, Mode::S_IRWXU).called(|| format!("mkdirat({name:?})"))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&scratch.dir, name, flags, Mode::empty()).called(|| format!("openat({name:?})"))
    };
    let (lower, upper, work) = (directory("lower")?, directory("upper")?, directory("work")?);
    at::fsetxattr(&lower, OPAQUE.0, OPAQUE.1).called(|| format!("fsetxattr({:?})", OPAQUE.0))?;
    at::fremovexattr(&lower, OPAQUE.0).called(|| format!("fremovexattr({:?})", OPAQUE.0))?;
    mknodat(&lower, "whiteout", SFlag::S_IFCHR, Mode::empty(), 0).called(|| "mknodat(S_IFCHR, 0:0)".into())?;
    let create = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    drop(openat(&lower, "file", create, Mode::S_IRUSR).called(|| "openat(\"file\", O_CREAT)".into())?);
    let overlay = Context::open("overlay")?;
    // By numbers: each kernel takes them, and three are short enough for it.
    for (key, fd) in [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)] {
        overlay.set(key, &format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
    }
    overlay.set("index", "on")?;
    // Or the end of it would wait for the disk.
    overlay.flag("volatile")?;
    overlay.create()?;
    let mounted = overlay.mount(0)?;
    unlinkat(&mounted, "file", UnlinkatFlags::NoRemoveDir).called(|| "unlinkat(overlay, \"file\")".into())?;
    let hidden = fstatat(&upper, "file", AtFlags::AT_SYMLINK_NOFOLLOW).called(|| "fstatat(whiteout)".into())?;
    if SFlag::from_bits_truncate(hidden.st_mode) & SFlag::S_IFMT != SFlag::S_IFCHR {
        return Err(Failure::refused("unlinkat(overlay, \"file\")", Errno::EOPNOTSUPP, "no whiteout came of it"));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(&mounted, ".", flags, Mode::empty()).called(|| "openat(overlay, \".\")".into())?;
    for entry in listing.iter() {
        if entry.called(|| "getdents64(overlay)".into())?.file_name() == c"file" {
            let words = "a file that was removed is still listed: the file system's directories do not tell what their names are (d_type)";
            return Err(Failure::refused("getdents64(overlay)", Errno::EOPNOTSUPP, words));
        }
    }
    Ok(())
}

const STACKS: &str = "overlay";
const COPIES: &str = "copy ";

fn format(ground: &Ground, moment: &str) -> String {
    match ground {
        Ground::Overlay => format!("{moment}\n{STACKS}\n"),
        Ground::Copy { because } => format!("{moment}\n{COPIES}{because}\n"),
    }
}

fn parse(text: &str, moment: &str) -> Option<Ground> {
    let (noted, rest) = text.strip_suffix('\n')?.split_once('\n')?;
    match (noted == moment && !moment.is_empty(), rest.strip_prefix(COPIES)) {
        (false, _) => None,
        (true, Some(because)) => Some(Ground::Copy { because: because.to_owned() }),
        (true, None) => (rest == STACKS).then_some(Ground::Overlay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_holds_for_its_boot_and_place() {
        for ground in [Ground::Overlay, Ground::Copy { because: "no overlay".into() }] {
            let text = format(&ground, "boot-1");
            assert_eq!(parse(&text, "boot-1"), Some(ground));
            for (text, boot) in [(&text[..], "boot-2"), (&text[..], ""), (&text[..text.len() - 1], "boot-1"), ("", "")]
            {
                assert_eq!(parse(text, boot), None, "{text:?}");
            }
        }
    }
}
