//! The machine's answers to what the rest of this chapter asks: the only file of it that looks at the host.
//!
//! By hand: `find /dev -type c -o -type b | xargs ls -l`, `grep CapPrm /proc/self/status`, `nproc`.
//!
//! What goes wrong: /dev holds what is no device of the host's but of a mount of its own (terminals, shared memory). Those are left out, as Docker does; and a
//! link is not followed, or `/dev/fd` would lead into this process.

use super::form::Here;
use crate::error;
use crate::error::{Result, io_words};
use crate::input::config::{Arch, Device, DeviceKind};
use crate::sys::cred::capget;
use crate::sys::file::{self, End};
use nix::sys::stat::{SFlag, major, minor};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Directories and files of /dev that are of a container's own: `pts`, `shm`, `mqueue` are mounted anew, `console` is its terminal.
const OWN: [&str; 9] = ["pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"];

/// The largest config.json whose `ociVersion` is looked for, in bytes.
const LARGEST: u64 = 16 << 20;

/// The device node at a path, or all below a directory. A path that is a link is followed, links below it are not.
pub fn devices(path: &Path) -> Result<Vec<Device>> {
    let about = std::fs::metadata(path).map_err(|e| error!("{}", io_words(&e)))?;
    if !about.is_dir() {
        return device(path, &about).map(|device| vec![device]).ok_or_else(|| error!("is no device"));
    }
    let mut found = Vec::new();
    below(path, &mut found)?;
    found.sort_by(|a: &Device, b| a.path.cmp(&b.path));
    Ok(found)
}

fn below(directory: &Path, found: &mut Vec<Device>) -> Result<()> {
    let shown = |e: std::io::Error| error!("{}: {}", directory.display(), io_words(&e));
    for entry in std::fs::read_dir(directory).map_err(shown)? {
        let entry = entry.map_err(shown)?;
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        // It may go away meanwhile: a disk is unplugged.
        let Ok(about) = entry.path().symlink_metadata() else { continue };
        if about.is_dir() {
            below(&entry.path(), found)?;
        } else {
            found.extend(device(&entry.path(), &about));
        }
    }
    Ok(())
}

fn device(path: &Path, about: &std::fs::Metadata) -> Option<Device> {
    let kind = match SFlag::from_bits_truncate(about.mode()) & SFlag::S_IFMT {
        SFlag::S_IFCHR => DeviceKind::Char,
        SFlag::S_IFBLK => DeviceKind::Block,
        _ => return None,
    };
    let number = |part: u64| u32::try_from(part).ok();
    Some(Device {
        path: path.to_owned(),
        kind,
        major: number(major(about.rdev()))?,
        minor: number(minor(about.rdev()))?,
        mode: about.mode() & 0o7777,
        uid: about.uid(),
        gid: about.gid(),
    })
}

/// The capabilities that this process may have in force: bit n is capability n. `CapPrm` of proc_pid_status(5), which the kernel would have to write out whole.
pub fn held() -> u64 {
    capget().map(|sets| sets.permitted).unwrap_or_default()
}

/// How many processors are online.
pub fn processors() -> u32 {
    // Not available_parallelism, which heeds the affinity and the cgroup of this process: the container has others.
    let text = file::read_text("/sys/devices/system/cpu/online", End::Less).unwrap_or_default();
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<u32>().ok());
    last.map_or(1, |last| last + 1)
}

/// The architecture that this program was built for, which is the machine's.
pub const ARCH: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

/// The config.json of a directory, as `form` wants to know it.
pub fn config_json(directory: &Path) -> Here {
    let path = directory.join("config.json");
    let Ok(named) = std::fs::symlink_metadata(&path) else { return Here::Nothing };
    let about = if named.is_symlink() { std::fs::metadata(&path) } else { Ok(named.clone()) };
    let Ok(about) = about else { return Here::Nothing };
    if !about.is_file() || about.len() > LARGEST {
        return Here::Nothing;
    }
    let (text, caller) = (std::fs::read(&path).unwrap_or_default(), crate::sys::start::euid());
    let judged = Here::judge(about.uid(), about.mode(), caller, &text);
    match judged {
        // What it leads to may be root's; `rootfs` beside the link would still be the stranger's.
        Here::Bundle if ![0, caller].contains(&named.uid()) => {
            Here::Strange(format!("it is a link that belongs to user {}", named.uid()))
        }
        judged => judged,
    }
}

/// A new id: 64 hexadecimal digits of the kernel's randomness.
pub fn new_id() -> Result<String> {
    loop {
        let mut random = [0; super::names::DIGITS / 2];
        fill(&mut random)?;
        if let Some(id) = super::names::id(&random) {
            return Ok(id);
        }
    }
}

/// A new name that `taken` does not know.
pub fn new_name(taken: impl Fn(&str) -> bool) -> Result<String> {
    // As many as all tries take, at once: 256 bytes are one call.
    let mut random = [0; 4 * 2 * super::names::TRIES];
    fill(&mut random)?;
    let mut numbers = random.as_chunks::<4>().0.iter().map(|bytes| u32::from_ne_bytes(*bytes)).cycle();
    Ok(super::names::generate(|| numbers.next().unwrap_or_default(), taken))
}

fn fill(buffer: &mut [u8]) -> Result<()> {
    crate::sys::random::fill(buffer).map_err(|errno| error!("getrandom: {}", crate::sys::plain(errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let null = devices(Path::new("/dev/null")).unwrap();
        assert_eq!((null[0].major, null[0].minor, null[0].kind), (1, 3, DeviceKind::Char));
        let all = devices(Path::new("/dev")).unwrap();
        assert!(all.contains(&null[0]) && !all.iter().any(|device| device.path.starts_with("/dev/pts")));
        for (path, why) in [("/dev/nope", "ENOENT"), ("/etc/passwd", "is no device")] {
            assert!(devices(Path::new(path)).unwrap_err().to_string().contains(why), "{path}");
        }
        assert!(processors() >= 1);
    }

    #[test]
    fn ids_and_names_differ() {
        let (one, two) = (new_id().unwrap(), new_id().unwrap());
        assert!(super::super::names::is_generated(&one) && one != two);
        assert!(new_name(|_| false).unwrap().contains('_'));
    }

    #[test]
    fn config_json_of_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(config_json(directory.path()), Here::Nothing);
        let path = directory.path().join("config.json");
        std::fs::write(&path, r#"{"ociVersion":"1.0.0"}"#).unwrap();
        assert_eq!(config_json(directory.path()), Here::Bundle);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(matches!(config_json(directory.path()), Here::Strange(_)));
    }
}
