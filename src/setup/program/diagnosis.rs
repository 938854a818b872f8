//! Why execve(2) refused a file: the errno is about the file, its interpreter or its loader, and only the file says which.

use crate::sys::plain;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the head of a file says about how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Head {
    /// `#!` with the interpreter, as the kernel reads it.
    Script(String),
    /// ELF: `e_machine`, and the loader of a dynamic one.
    Elf { machine: u16, loader: Option<String> },
    /// No bytes.
    Empty,
    /// Anything else.
    Other,
}

/// The cause in plain words: `name` as it was asked for, `path` where it was found.
pub(super) fn why(name: &str, path: &Path, errno: Errno) -> String {
    let object = if Path::new(name) == path { format!("{name:?}") } else { format!("{name:?} ({})", path.display()) };
    let words = plain(errno);
    let exists = |path: &str| Path::new(path).exists();
    match (errno, head(path)) {
        (Errno::ENOENT, Some(Head::Script(interpreter))) if interpreter.ends_with('\r') => {
            format!("{object}: {words}: its first line asks for {interpreter:?}: it has Windows line ends (CRLF)")
        }
        (Errno::ENOENT, Some(Head::Script(interpreter))) if !exists(&interpreter) => {
            format!("{object} exists, but its interpreter {interpreter} does not ({words})")
        }
        (Errno::ENOENT, Some(Head::Script(interpreter))) => {
            format!("{object} exists, and its interpreter {interpreter}, but not what that one needs ({words})")
        }
        (Errno::ENOENT, Some(Head::Elf { loader: Some(loader), .. })) => {
            format!("{object} exists, but its loader {loader} does not ({words})")
        }
        (Errno::EACCES, Some(Head::Script(interpreter))) => {
            format!("{object}: {words}: its interpreter {interpreter} may not be executed")
        }
        (Errno::ENOEXEC, Some(Head::Elf { machine: theirs, .. })) if machine(theirs) != std::env::consts::ARCH => {
            format!("{object}: {words}: it is for {}, and this machine is {}", machine(theirs), std::env::consts::ARCH)
        }
        (Errno::ENOEXEC, Some(Head::Elf { .. })) => format!("{object}: {words}: the ELF file is damaged"),
        (Errno::ENOEXEC, Some(Head::Empty)) => format!("{object}: {words}: the file is empty"),
        (Errno::ENOEXEC, Some(Head::Other)) => {
            format!("{object}: {words}: neither ELF nor a script that begins with #!")
        }
        (Errno::E2BIG, _) => format!("{object}: {words}: arguments and environment are larger than the kernel's limit"),
        _ => format!("{object}: {words}"),
    }
}

/// Reads at most a few kilobytes.
fn head(path: &Path) -> Option<Head> {
    // Not blocking: by now it may be a fifo.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(openat(AT_FDCWD, path, flags, Mode::empty()).ok()?);
    let mut bytes = [0; 256];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let read = |offset: u64, length: usize| {
        let mut part = vec![0; length];
        file.read_exact_at(&mut part, offset).ok().map(|()| part)
    };
    Some(classify(&bytes[..length], read))
}

/// Classifies the first bytes of a file; `read` reads more of it, offset and length.
fn classify(start: &[u8], read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Head {
    match start {
        [] => Head::Empty,
        [b'#', b'!', rest @ ..] => {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = line.trim_ascii_start();
            // The kernel ends the path at a blank or a tab; a carriage return belongs to it.
            let path = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).next().unwrap_or_default();
            Head::Script(String::from_utf8_lossy(path).into_owned())
        }
        [0x7f, b'E', b'L', b'F', class, order, ..] if start.len() >= 64 => {
            let elf = Elf { start, wide: *class == 2, big: *order == 2 };
            Head::Elf { machine: elf.number(start, 18, 2) as u16, loader: elf.loader(read) }
        }
        _ => Head::Other,
    }
}

/// The header of an ELF file, elf(5).
struct Elf<'a> {
    start: &'a [u8],
    /// 64 bits.
    wide: bool,
    /// Big-endian.
    big: bool,
}

impl Elf<'_> {
    fn number(&self, bytes: &[u8], at: usize, size: usize) -> u64 {
        let field = bytes.get(at..at + size).unwrap_or_default().iter();
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if self.big { field.fold(0, join) } else { field.rev().fold(0, join) }
    }

    /// `PT_INTERP`, at most 4096 bytes of at most 128 program headers.
    fn loader(&self, read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<String> {
        const PT_INTERP: u64 = 3;
        let (offset, size, count) = if self.wide { ((32, 8), 54, 56) } else { ((28, 4), 42, 44) };
        let table = self.number(self.start, offset.0, offset.1);
        let (size, count) = (self.number(self.start, size, 2), self.number(self.start, count, 2));
        for at in 0..count.min(128) {
            let header = read(table.checked_add(at * size)?, if self.wide { 56 } else { 32 })?;
            if self.number(&header, 0, 4) == PT_INTERP {
                let (place, length) = if self.wide { ((8, 8), (32, 8)) } else { ((4, 4), (16, 4)) };
                let length = self.number(&header, length.0, length.1).min(4096);
                let name = read(self.number(&header, place.0, place.1), length as usize)?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                return Some(String::from_utf8_lossy(name).into_owned());
            }
        }
        None
    }
}

/// `e_machine` by the names of [`std::env::consts::ARCH`].
fn machine(number: u16) -> String {
    let known = [
        (3, "x86"),
        (8, "mips"),
        (20, "powerpc"),
        (21, "powerpc64"),
        (22, "s390x"),
        (40, "arm"),
        (62, "x86_64"),
        (183, "aarch64"),
        (243, "riscv64"),
        (258, "loongarch64"),
    ];
    known
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("machine {number}"), |(_, name)| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify_all(bytes: &[u8]) -> Head {
        classify(&bytes[..bytes.len().min(256)], |offset, length| {
            let from = usize::try_from(offset).ok()?;
            Some(bytes.get(from..from.checked_add(length)?)?.to_vec())
        })
    }

    /// A 64-bit little-endian ELF with one program header.
    fn elf(machine: u16, loader: &str) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 3;
        bytes[72] = 120;
        bytes[96] = loader.len() as u8 + 1;
        bytes.extend(loader.bytes());
        bytes.push(0);
        bytes
    }

    #[test]
    fn heads() {
        let script = |path: &str| Head::Script(path.into());
        assert_eq!(classify_all(b"#!/bin/sh\necho"), script("/bin/sh"));
        assert_eq!(classify_all(b"#! /usr/bin/env python3"), script("/usr/bin/env"));
        assert_eq!(classify_all(b"#!/bin/sh\r\necho"), script("/bin/sh\r"));
        assert_eq!(classify_all(b""), Head::Empty);
        assert_eq!(classify_all(b"\x7fELF"), Head::Other);
        let loader = "/lib/ld-musl-x86_64.so.1";
        assert_eq!(classify_all(&elf(62, loader)), Head::Elf { machine: 62, loader: Some(loader.into()) });
    }

    #[test]
    fn damaged_elf_headers_do_no_harm() {
        let good = elf(183, "/lib/ld.so");
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                classify_all(&bad);
                classify_all(&good[..at]);
            }
        }
    }

    #[test]
    fn the_object_and_the_cause_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let said = |content: &[u8], errno| {
            std::fs::write(&path, content).unwrap();
            why("x", &path, errno).replace(path.to_str().unwrap(), "/bin/x")
        };
        let words = "no such file or directory";
        assert_eq!(
            said(&elf(62, "/lib/none.so"), Errno::ENOENT),
            format!("\"x\" (/bin/x) exists, but its loader /lib/none.so does not ({words})")
        );
        assert_eq!(
            said(b"#!/bin/none -x\n", Errno::ENOENT),
            format!("\"x\" (/bin/x) exists, but its interpreter /bin/none does not ({words})")
        );
        assert!(said(b"#!/bin/sh\r\n", Errno::ENOENT).contains("Windows line ends (CRLF)"));
        assert!(said(&elf(22, ""), Errno::ENOEXEC).contains("exec format error: it is for s390x"));
        assert!(said(b"", Errno::ENOEXEC).ends_with("the file is empty"));
        assert_eq!(why("/none", Path::new("/none"), Errno::ENOENT), format!("\"/none\": {words}"));
    }
}
