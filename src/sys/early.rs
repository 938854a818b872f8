//! The seal at the very first instruction: before libc has started, and before this program has relocated itself.
//!
//! **What the kernel offers.** It jumps to the address that the ELF header names (`e_entry`), with a stack on which lie the words, the environment
//! and the auxiliary vector (execve(2), getauxval(3)), and asks no more of a program than to go on from there. By hand:
//! `readelf -h corten | grep Entry`, and `LD_SHOW_AUXV=1 true`.
//!
//! **What we do.** The seal ([`corten::sys::seal`]) exchanges the program's own file under it ([`exchange`](crate::exchange)), which can be done as long as nothing was written
//! to the program's memory: here, and not later. So here the stack is asked who is asking, and a few system calls are made. This is a short cut, not the truth: whatever is unusual,
//! or refused, is left to [`protect`](corten::sys::seal::protect), which looks in `main`, knows other ways, and has the words for what goes wrong.
//! *Rejected:* std's or libc's hooks before `main` (`.init_array`): both come after the relocation.
//!
//! **What goes wrong.** No address in memory is right yet: a static that holds a pointer, a table of strings, a panic's message, `errno`, a call
//! through the table of a shared library. What stands here is arithmetic on the stack, constants, and system calls; what
//! the compiler adds in a debug build (checks of overflow) are jumps that are not taken.

#![allow(unsafe_code)]

use crate::exchange::{Strings, exchange};
use corten::sys::{clock, seal};
use std::arch::{asm, naked_asm};
use std::ffi::c_char;
use std::sync::atomic::{AtomicU64, Ordering};

unsafe extern "C" {
    /// libc's own beginning, for which the kernel's jump was meant.
    fn _start();
}

/// Where the kernel begins (build.rs names it to the linker): [`early`] with the stack as it lies, then libc's own beginning with the same
/// stack, and with the register in which a dynamic linker leaves it a function to call at the end.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _corten_start() {
    naked_asm!(
        "mov rdi, rsp",
        // Twice: the stack is aligned to 16 bytes where a function is called.
        "push rdx",
        "push rdx",
        "call {early}",
        "pop rdx",
        "pop rdx",
        "jmp {start}",
        early = sym early,
        start = sym _start,
    )
}

/// The same; x19 is one that a function gives back as it was.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _corten_start() {
    naked_asm!(
        "mov x19, x0",
        "mov x0, sp",
        "bl {early}",
        "mov x0, x19",
        "b {start}",
        early = sym early,
        start = sym _start,
    )
}

const VERBS: [u64; 3] = [name(seal::EXPOSED[0]), name(seal::EXPOSED[1]), name(seal::EXPOSED[2])];
const DESCRIPTOR: u64 = name("/dev/fd/");
/// The same number on all architectures; libc does not name it yet.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
const EXE: *const c_char = seal::EXE.as_ptr();
const EMPTY: *const c_char = c"".as_ptr();
/// See [`sealed`]. A static without a pointer: it has its place at once.
static BEGAN: AtomicU64 = AtomicU64::new(0);

/// At most eight bytes as a number, so that they are compared without a call and without a table.
const fn name(text: &str) -> u64 {
    let (mut number, mut at) = (0, 0);
    assert!(text.len() <= 8);
    while at < text.len() {
        number = number << 8 | text.as_bytes()[at] as u64;
        at += 1;
    }
    number
}

/// The [`name`] of a word's first eight bytes; none is zero, so a longer word is never taken for a shorter one.
///
/// # Safety
///
/// The word ends with NUL.
unsafe fn head(word: *const u8) -> u64 {
    let (mut number, mut at) = (0, 0);
    while at < 8 {
        // SAFETY: nothing is read behind the first NUL.
        let byte = unsafe { *word.wrapping_add(at) };
        if byte == 0 {
            break;
        }
        number = number << 8 | byte as u64;
        at += 1;
    }
    number
}

/// What the stack says.
struct Asked {
    /// A word is the name of a verb that a container can see. It may be another verb's argument, which costs no more than the seal.
    exposed: bool,
    /// The effective user is root.
    root: bool,
    /// It was executed by a descriptor, as its sealed self is.
    by_descriptor: bool,
    /// Side by side in the order of execve(2): the words, the environment, the file's name.
    strings: Strings,
}

/// Reads count, words, null, environment, null, and pairs of the auxiliary vector up to AT_NULL.
///
/// # Safety
///
/// `stack` points to these.
unsafe fn read(stack: *const usize) -> Asked {
    let strings = Strings { words: 0, environment: 0, end: 0 };
    let mut asked = Asked { exposed: false, root: false, by_descriptor: false, strings };
    // SAFETY: the vector's end is the last that is read, and each pointer to a word is a string that ends with NUL.
    unsafe {
        let mut at = stack.wrapping_add(1);
        asked.strings.words = *at;
        while *at != 0 {
            let head = head(*at as *const u8);
            asked.exposed |= head == VERBS[0] || head == VERBS[1] || head == VERBS[2];
            at = at.wrapping_add(1);
        }
        if !asked.exposed {
            return asked;
        }
        at = at.wrapping_add(1);
        asked.strings.environment = *at;
        while *at != 0 {
            at = at.wrapping_add(1);
        }
        at = at.wrapping_add(1);
        while *at != libc::AT_NULL as usize {
            let value = *at.wrapping_add(1);
            asked.root |= *at == libc::AT_EUID as usize && value == 0;
            if *at == libc::AT_EXECFN as usize {
                asked.by_descriptor = head(value as *const u8) == DESCRIPTOR;
                asked.strings.end = value;
            }
            at = at.wrapping_add(2);
        }
    }
    if asked.strings.environment == 0 {
        asked.strings.environment = asked.strings.end;
    }
    asked
}

/// What comes before libc: the seal, and the relocation.
///
/// # Safety
///
/// `stack` is what the kernel has laid down for this program, which has done nothing else yet.
unsafe extern "C" fn early(stack: *const usize) {
    // glibc's static start is not one that we know, and a dynamic linker has relocated and written before us.
    if cfg!(all(target_env = "musl", target_feature = "crt-static")) {
        // SAFETY: the caller's word; libc, which comes next, finds an empty list of relocations.
        unsafe {
            if crate::relocate::is_alone(stack) {
                let is_sealed = protect(stack);
                crate::relocate::relocate(is_sealed);
            }
        }
    }
}

/// Seals the program, or leaves it to main. True: it is, and the segment that is written to has its pages.
///
/// # Safety
///
/// As for [`early`], in a static program.
unsafe fn protect(stack: *const usize) -> bool {
    let began = clock::ticks();
    // SAFETY: the caller's word.
    let asked = unsafe { read(stack) };
    // What was executed by a descriptor is sealed, or is what main sealed after this was refused.
    if !asked.exposed || !asked.root || asked.by_descriptor || asked.strings.end == 0 {
        return false;
    }
    // SAFETY: the clone holds our own file, and is ours alone.
    unsafe {
        let clone = clone_read_only();
        if clone < 0 || !exchange(crate::relocate::symbols().0, stack.addr(), &asked.strings, clone as usize) {
            return false;
        }
        // Not the atomic's own function: where that is not inlined, it is called through a table of addresses.
        BEGAN.as_ptr().write_volatile(began);
        true
    }
}

/// A clone of our own file's mount, read-only: its descriptor, or minus the errno. One call since Linux 6.15, two before.
fn clone_read_only() -> isize {
    let flags = (seal::OPEN_TREE_CLONE | seal::CLOSE_ON_EXEC) as usize;
    let read_only = &const { seal::READ_ONLY };
    let (here, read_only) = (libc::AT_FDCWD as usize, (&raw const *read_only).addr());
    let size = size_of::<seal::MountAttributes>();
    // SAFETY: a path that ends with NUL, an empty one for AT_EMPTY_PATH, a constant of the size that is given; what is closed is ours alone.
    unsafe {
        let clone = call(SYS_OPEN_TREE_ATTR, [here, EXE.addr(), flags, read_only, size, 0]);
        if clone != -(libc::ENOSYS as isize) {
            return clone;
        }
        let clone = call(libc::SYS_open_tree, [here, EXE.addr(), flags, 0, 0, 0]);
        if clone < 0 {
            return clone;
        }
        let to = [clone as usize, EMPTY.addr(), libc::AT_EMPTY_PATH as usize, read_only, size, 0];
        let refused = call(libc::SYS_mount_setattr, to);
        if refused == 0 {
            return clone;
        }
        call(libc::SYS_close, [clone as usize, 0, 0, 0, 0, 0]);
        refused
    }
}

/// When the program began that was sealed here; none was.
pub fn sealed() -> Option<u64> {
    Some(BEGAN.load(Ordering::Relaxed)).filter(|began| *began != 0)
}

/// A system call: what it returns, or minus the errno. Not libc's: that writes `errno`, which is not there yet.
///
/// # Safety
///
/// That of the call.
#[inline(always)]
pub unsafe fn call(number: libc::c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel changes what the call promises, the result's register, and the two that the instruction itself needs.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack))
    }
    // SAFETY: the same; it changes the result's register alone.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f, options(nostack))
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten::cli::guess_verb;
    use std::ffi::{CStr, CString, OsString};

    /// A stack as the kernel lays it down, and what its pointers point to.
    struct Stack {
        places: Vec<usize>,
        _texts: Vec<CString>,
    }

    fn stack(words: &[&str], environment: &[&str], euid: usize, file: &CStr) -> Stack {
        let texts: Vec<_> = words.iter().chain(environment).map(|text| CString::new(*text).unwrap()).collect();
        let mut pointers = texts.iter().map(|text| text.as_ptr().addr());
        let mut places = vec![words.len()];
        places.extend(pointers.by_ref().take(words.len()));
        places.push(0);
        places.extend(pointers);
        places.push(0);
        places.extend([libc::AT_UID as usize, 7, libc::AT_EUID as usize, euid]);
        places.extend([libc::AT_EXECFN as usize, file.as_ptr().addr(), libc::AT_NULL as usize, 0]);
        Stack { places, _texts: texts }
    }

    fn read_from(words: &[&str], euid: usize, file: &CStr) -> Asked {
        // SAFETY: what `stack` makes.
        unsafe { read(stack(words, &["run=create", "exec"], euid, file).places.as_ptr()) }
    }

    #[test]
    fn what_main_protects_is_seen() {
        let pool = [
            "run",
            "create",
            "exec",
            "delete",
            "--root",
            "--log=run",
            "--trace",
            "--trace=x",
            "-b",
            "runs",
            "creat",
            "",
        ];
        for first in pool {
            for second in pool {
                for third in pool {
                    let words = ["corten", first, second, third];
                    let owned: Vec<_> = words.iter().map(OsString::from).collect();
                    let asked = read_from(&words, 0, c"/bin/corten");
                    let exposed = guess_verb(&owned).is_some_and(|verb| seal::EXPOSED.contains(&verb.as_str()));
                    assert!(asked.exposed || !exposed, "{words:?}");
                    assert_eq!(asked.root, asked.exposed);
                }
            }
        }
    }

    #[test]
    fn what_it_need_not_see() {
        for words in
            [&[][..], &["corten"], &["corten", "delete", "web"], &["corten", "create-not"], &["corten", "running"]]
        {
            assert!(!read_from(words, 0, c"corten").exposed, "{words:?}");
        }
        assert!(!read_from(&["corten", "run", "web"], 1000, c"").root);
        for (file, by_descriptor) in [(c"/dev/fd/3", true), (c"/dev/fd", false), (c"/usr/bin/corten", false)] {
            assert_eq!(read_from(&["corten", "run", "web"], 0, file).by_descriptor, by_descriptor, "{file:?}");
        }
    }

    #[test]
    fn where_the_strings_lie() {
        for (words, environment) in [(&["corten", "run", "web"][..], &["A=b", "C=d"][..]), (&["corten", "run"], &[])] {
            let made = stack(words, environment, 0, c"corten");
            // SAFETY: what `stack` makes.
            let strings = unsafe { read(made.places.as_ptr()) }.strings;
            assert_eq!(strings.words, made.places[1]);
            let file = *made.places.iter().rev().nth(2).unwrap();
            assert_eq!(strings.end, file);
            assert_eq!(strings.environment, if environment.is_empty() { file } else { made.places[words.len() + 2] });
        }
    }
}
