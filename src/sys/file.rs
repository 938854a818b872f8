//! Files of the host, read in as few calls as the kernel needs: openat(2), read(2), close(2).
//!
//! libc's open(2) sets close-on-exec a second time by fcntl(2), for kernels before 2.6.23; std asks for a file's size and place
//! before it reads, and reads on until a call gives nothing. Both are right and hardly ever needed, a dozen times in each run.
//! Nor is memory zeroed that the kernel writes to: of a page for a line, only the line is ever touched.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// As much as is asked for at once where nothing is known: procfs gives no more than a page.
const PAGE: usize = 4 << 10;

/// What tells that a file has no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A read that gives less than was asked for: a regular file, a small file of procfs.
    Less,
    /// A read that gives nothing: a pipe, a long file of procfs, which come in pieces.
    Nothing,
}

/// openat(2) with `O_CLOEXEC`, relative to the working directory.
pub fn open(path: impl AsRef<Path>, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path.as_ref(), flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// As [`open`], but execve leaves it open.
pub(super) fn open_inherited(path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    openat(AT_FDCWD, path, flags, Mode::empty())
}

/// Reads a whole file of procfs, sysfs or the like. Bytes that are not UTF-8 are replaced.
pub fn read_text(path: impl AsRef<Path>, end: End) -> nix::Result<String> {
    let bytes = read_bytes(path, end)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
}

/// The same, as it is.
pub fn read_bytes(path: impl AsRef<Path>, end: End) -> nix::Result<Vec<u8>> {
    read_rest(open(path, OFlag::O_RDONLY)?, end, PAGE - 1, usize::MAX)
}

/// Reads on to the end, or until there are more than `most` bytes. `expected`: how many there may be; then one read is enough.
pub fn read_rest(file: impl AsFd, end: End, expected: usize, most: usize) -> nix::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_on(file.as_fd(), end, expected, most, &mut bytes)?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

/// The same behind what is there already. What was read before an error stays.
pub fn read_behind(file: impl AsFd, end: End, expected: usize, bytes: &mut Vec<u8>) -> nix::Result<()> {
    read_on(file.as_fd(), end, expected, usize::MAX, bytes)
}

/// The same into memory that is used again, in place of what is there.
pub fn read_again(file: impl AsFd, end: End, expected: usize, bytes: &mut Vec<u8>) -> nix::Result<()> {
    bytes.clear();
    read_behind(file, end, expected, bytes)
}

fn read_on(file: BorrowedFd<'_>, end: End, expected: usize, most: usize, bytes: &mut Vec<u8>) -> nix::Result<()> {
    // One more than is expected, so that the end is seen with it. Nothing is known where nothing is expected.
    let mut room = if expected == 0 { PAGE } else { expected + 1 };
    while bytes.len() <= most {
        let length = match read_more(file, bytes, room) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        if length == 0 || (end == End::Less && length < room) {
            break;
        }
        room = room.max(PAGE);
    }
    Ok(())
}

/// One read(2) of up to `room` bytes, behind those that are there. How many it gave.
fn read_more(file: BorrowedFd<'_>, bytes: &mut Vec<u8>, room: usize) -> nix::Result<usize> {
    bytes.reserve(room);
    let place = bytes.spare_capacity_mut().as_mut_ptr();
    // SAFETY: `reserve` has made sure that `room` bytes from `place` on are the vector's own, and nothing else refers to them.
    let length = Errno::result(unsafe { libc::read(file.as_raw_fd(), place.cast(), room) })? as usize;
    // SAFETY: the kernel has written this many bytes there, no more than `room`.
    unsafe { bytes.set_len(bytes.len() + length) };
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn files_are_read_to_their_end() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..3 * PAGE).map(|at| at as u8).collect();
        file.write_all(&content).unwrap();
        for end in [End::Less, End::Nothing] {
            for expected in [0, 1, PAGE, content.len() - 1, content.len(), content.len() + 1] {
                let open = open(file.path(), OFlag::O_RDONLY).unwrap();
                assert_eq!(read_rest(&open, end, expected, usize::MAX).unwrap(), content, "{end:?} {expected}");
            }
        }
        let open = open(file.path(), OFlag::O_RDONLY).unwrap();
        assert!((11..=PAGE + 1).contains(&read_rest(&open, End::Less, 0, 10).unwrap().len()));
    }

    #[test]
    fn pieces_are_joined() {
        let (out, input) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&input, b"one").unwrap();
        let other = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            nix::unistd::write(&input, b" two").unwrap();
        });
        assert_eq!(read_rest(&out, End::Nothing, 100, usize::MAX).unwrap(), b"one two");
        other.join().unwrap();
        let long = read_text("/proc/self/mountinfo", End::Nothing).unwrap();
        assert_eq!(long, std::fs::read_to_string("/proc/self/mountinfo").unwrap());
        assert_eq!(read_text("/nowhere", End::Less), Err(Errno::ENOENT));
    }
}
