//! The sealed binary: when, and by which of its ways. The attacks on it are in `security`.

use crate::harness::{Bundle, host, runtime};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statvfs::{FsFlags, statvfs};

/// The names of the program's own calls, in order. `more` are strace's options, but for the first where it is how open_tree_attr(2) is refused.
#[track_caller]
fn calls(b: &Bundle, more: &[&str], words: &[&str]) -> Vec<String> {
    let binary = b.binary.to_str().unwrap();
    let mut strace = b.host("strace");
    let refused =
        [("ENOSYS", libc::ENOSYS), ("EPERM", libc::EPERM)].into_iter().find(|(name, _)| more.first() == Some(name));
    if let Some((_, errno)) = refused {
        strace = strace.refusing(467, errno);
    }
    let more = &more[usize::from(refused.is_some())..];
    strace.args(["-qq", "-o", "calls"]).args(more).args([binary, "--root", "root"]).args(words).run();
    let text = host::read(b.path("calls"));
    text.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.to_owned()).collect()
}

/// A dynamic linker starts before any program: PT_INTERP in the program headers.
fn is_dynamic(binary: &std::path::Path) -> bool {
    let file = std::fs::read(binary).unwrap();
    let short = |at: usize| usize::from(u16::from_ne_bytes(file[at..at + 2].try_into().unwrap()));
    let headers = usize::try_from(u64::from_ne_bytes(file[32..40].try_into().unwrap())).unwrap();
    (0..short(56)).any(|n| short(headers + n * short(54)) == 3)
}

/// open_tree_attr(2), which strace knows since 6.16.
const OPEN_TREE_ATTR: [&str; 2] = ["open_tree_attr", "syscall_0x1d3"];

/// The seal is there before libc has made a call: what the kernel jumps to is our own entry, and the linker has not dropped it.
#[test]
fn comes_before_libc() {
    corten_only!("an entry of its own");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    if is_dynamic(&runtime().path) {
        skip!("this build is linked dynamically: ld.so makes the first calls");
    }
    // A copy, which does not lie on a read-only mount.
    let b = Bundle::busybox().with_copy_of(&runtime().path);
    for (words, sealed) in [
        (&["run", "-b", "none", &b.id][..], true),
        (&["--log", "log", "create", "-b", "none", &b.id], true),
        (&["exec", &b.id, "true"], true),
        (&["run", "--trace", "-b", "none", &b.id], true),
        (&["list"], false),
    ] {
        let calls = calls(&b, &[], words);
        let mut first = calls.iter().map(String::as_str).peekable();
        let begins = first.next() == Some("execve");
        let clones = first.next_if(|name| OPEN_TREE_ATTR.contains(name)).is_some();
        // Before Linux 6.15 it is asked in vain.
        let is_old = clones && first.next_if_eq(&"open_tree").is_some() && first.next() == Some("mount_setattr");
        let maps = first.next() == Some("openat")
            && first.by_ref().take_while(|name| *name == "mmap").count() >= 2
            // Two calls where the numbers are no neighbours: something was handed on.
            && first.next().is_some_and(|name| ["close_range", "close"].contains(&name));
        assert!(begins && clones == sealed && maps == sealed, "{words:?}, {is_old}: {calls:#?}");
        // Nothing is executed again, and nothing else looks after it.
        let again = calls.iter().filter(|name| ["open_tree", "execveat"].contains(&name.as_str())).count();
        assert_eq!(again, usize::from(is_old), "{words:?}: {calls:#?}");
    }
}

/// Where the short cut is refused main goes the same way, and where that is refused too, by memory.
#[test]
fn holds_where_a_clone_is_refused() {
    corten_only!("a seal in three tries");
    if !host::has_program("strace") {
        skip!("strace is not installed");
    }
    for (refused, in_memory) in [
        (&[][..], false),
        (&["ENOSYS"], false),
        (&["EPERM"], false),
        (&["ENOSYS", "-e", "inject=mount_setattr:error=EPERM:when=1"], false),
        // Of the ways to the file: it cannot be opened, a segment cannot be mapped, the executable is not changed.
        (&["-e", "inject=openat:error=EACCES:when=1"], false),
        (&["-e", "inject=mmap:error=ENOMEM:when=1"], false),
        (&["-e", "inject=mmap:error=ENOMEM:when=3"], false),
        (&["-e", "inject=prctl:error=EPERM:when=1"], false),
        (&["EPERM", "-e", "inject=open_tree:error=EPERM:when=1"], true),
        (&["EPERM", "-e", "inject=mount_setattr:error=EPERM:when=1"], true),
    ] {
        let b = Bundle::busybox().with_copy_of(&runtime().path).args(["sleep", "1000"]);
        b.write_config();
        // With a trace, whose beginning is put among the words and taken back.
        let calls = calls(&b, refused, &["create", "--trace=times", "-b", "bundle", &b.id]);
        let c = b.adopt(&b.id);
        assert_eq!(c.status(), "created", "{refused:?}: {calls:#?}");
        // What waits to be started executes the runtime's file.
        let exe = format!("/proc/{}/exe", c.pid());
        if in_memory {
            let file = std::fs::File::open(&exe).unwrap();
            let seals = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).expect("a memfd"));
            assert!(seals.contains(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL), "{refused:?}: {seals:?}");
        } else {
            let flags = statvfs(exe.as_str()).unwrap().flags();
            assert!(flags.contains(FsFlags::ST_RDONLY), "{refused:?}: {flags:?}");
        }
        let head = host::read(b.path("times")).lines().next().unwrap_or_default().to_owned();
        assert!(head.starts_with("trace of ") && !head.contains("sealed 0.0"), "{refused:?}: {head}");
        b.cli(["delete", "--force", &b.id]).ok();
    }
}
