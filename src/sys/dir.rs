//! What is in a directory: getdents64(2), into memory on the stack.
//!
//! libc's fdopendir(3) asks what the descriptor is, sets flags that it has, and maps pages for its buffer, which are unmapped again at the end. By hand:
//! `strace corten images` against `strace ls`.

use super::check;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use nix::unistd::{Whence, lseek};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// Bytes that are asked for at once: some fifty names.
const BUFFER: usize = 2 << 10;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Not `.`, not `..`.
    pub name: OsString,
    /// The file type as in a mode (`S_IFDIR`); `None` where the file system does not say.
    pub kind: Option<SFlag>,
}

/// All that is in an open directory, from its beginning, in the order of the file system.
pub fn list(directory: impl AsFd) -> nix::Result<Vec<Entry>> {
    list_where(directory, usize::MAX, |_| true)
}

/// The same of names that are `wanted`, among those that the kernel gives in so many calls, some fifty each. The others cost no memory.
pub fn list_where(directory: impl AsFd, calls: usize, wanted: impl Fn(&[u8]) -> bool) -> nix::Result<Vec<Entry>> {
    let directory = directory.as_fd();
    let mut entries = Vec::new();
    let mut buffer = [0_u8; BUFFER];
    // Somebody may have read it before.
    lseek(directory, 0, Whence::SeekSet)?;
    let mut left = calls;
    while left > 0 {
        let (fd, room) = (directory.as_raw_fd(), buffer.len());
        // SAFETY: the pointer and the length are those of a buffer of our own; the descriptor is borrowed for the call.
        let got = check(unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), room) });
        match got {
            Err(Errno::EINTR) => continue,
            got => match usize::try_from(got?).unwrap_or_default() {
                0 => break,
                filled => entries.extend(records(&buffer[..filled], &wanted)),
            },
        }
        left -= 1;
    }
    Ok(entries)
}

/// The records of linux_dirent64: inode and offset of 8 bytes each, the record's length of 2, the type of 1, then the name and NUL.
fn records(mut bytes: &[u8], wanted: impl Fn(&[u8]) -> bool) -> impl Iterator<Item = Entry> {
    const LENGTH: usize = 16;
    const TYPE: usize = 18;
    const NAME: usize = 19;
    std::iter::from_fn(move || {
        loop {
            let length = usize::from(u16::from_ne_bytes(*bytes.get(LENGTH..)?.first_chunk()?));
            let (record, rest) = bytes.split_at_checked(length.max(NAME))?;
            bytes = rest;
            let name = record[NAME..].split(|byte| *byte == 0).next().unwrap_or_default();
            if !matches!(name, b"." | b"..") && wanted(name) {
                // The four bits of a mode that say it, shifted: DT_DIR is S_IFDIR >> 12.
                let kind = SFlag::from_bits_truncate(u32::from(record[TYPE]) << 12);
                let name = OsStr::from_bytes(name).to_owned();
                return Some(Entry { name, kind: (!kind.is_empty()).then_some(kind) });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn in_one_call_only_some() {
        let place = tempfile::tempdir().unwrap();
        for n in 100..400 {
            fs::write(place.path().join(format!("{n}{}", "x".repeat(20))), "").unwrap();
        }
        let root = File::open(place.path()).unwrap();
        let ends_with_a_seven = |name: &[u8]| name[2] == b'7';
        assert_eq!(list_where(&root, usize::MAX, ends_with_a_seven).unwrap().len(), 30);
        let some = list_where(&root, 1, |_| true).unwrap().len();
        assert!((1..100).contains(&some), "{some}");
        assert!(list_where(&root, 0, |_| true).unwrap().is_empty());
    }

    #[test]
    fn the_names_that_std_finds() {
        let place = tempfile::tempdir().unwrap();
        // More than one buffer, names of every length.
        for n in 1..=255 {
            fs::write(place.path().join("n".repeat(n)), "").unwrap();
        }
        fs::create_dir(place.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", place.path().join("link")).unwrap();
        let open = File::open(place.path()).unwrap();
        for _again in 0..2 {
            let found = list(&open).unwrap();
            let mut names: Vec<_> = found.iter().map(|entry| entry.name.clone()).collect();
            let mut told: Vec<_> =
                fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            told.sort();
            assert_eq!(names, told);
            let kind = |name: &str| found.iter().find(|entry| entry.name == name).unwrap().kind;
            assert_eq!(kind("directory"), Some(SFlag::S_IFDIR));
            assert_eq!((kind("link"), kind("n")), (Some(SFlag::S_IFLNK), Some(SFlag::S_IFREG)));
        }
    }

    #[test]
    fn what_is_no_directory() {
        assert_eq!(list(File::open("/dev/null").unwrap()), Err(Errno::ENOTDIR));
        let place = tempfile::tempdir().unwrap();
        let (open, sub) = (File::open(place.path()).unwrap(), place.path().join("sub"));
        assert_eq!(list(&open), Ok(Vec::new()));
        fs::create_dir(&sub).unwrap();
        let gone = File::open(&sub).unwrap();
        fs::remove_dir(&sub).unwrap();
        assert_eq!(list(&gone), Err(Errno::ENOENT));
    }
}
