//! The seal at the very first instruction: before libc has started, and before this program has relocated itself.
//!
//! **What the kernel offers.** It jumps to the address that the ELF header names (`e_entry`), with a stack on which lie the words, the environment
//! and the auxiliary vector (execve(2), getauxval(3)), and asks no more of a program than to go on from there. By hand:
//! `readelf -h corten | grep Entry`, and `LD_SHOW_AUXV=1 true`.
//!
//! **What we do.** What executes itself again ([`corten::sys::seal`]) starts twice, and the first start is thrown away: its relocations, its
//! thread's storage, its arena are 25 page faults for nothing. So the seal is tried here, where there is nothing yet: four questions to
//! the stack, four system calls. This is a short cut, not the truth: whatever is unusual, or refused, is left to
//! [`protect`](corten::sys::seal::protect), which looks again in any case, knows the other way, and has the words for what goes wrong.
//! *Rejected:* std's or libc's hooks before `main` (`.init_array`): both come after the relocation, which is most of the cost.
//!
//! **What goes wrong.** No address in memory is right yet: a static that holds a pointer, a table of strings, a panic's message, `errno`, a call
//! through the table of a shared library. What stands here is arithmetic on the stack, constants, and system calls; what
//! the compiler adds in a debug build (checks of overflow) are jumps that are not taken.

#![allow(unsafe_code)]

use corten::sys::{clock, seal};
use std::arch::{asm, naked_asm};
use std::ffi::c_char;
use std::mem::MaybeUninit;

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
const TRACE: u64 = name("--trace");
const TRACE_TO: u64 = name("--trace=");
const DESCRIPTOR: u64 = name("/dev/fd/");
const EXE: *const c_char = seal::EXE.as_ptr();
const EMPTY: *const c_char = c"".as_ptr();

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
    /// A word is the name of a verb that a container can see. It may be another verb's argument: main looks more closely.
    exposed: bool,
    /// A word is the option `--trace`.
    trace: bool,
    /// The effective user is root.
    root: bool,
    /// It was executed by a descriptor, as its sealed self is.
    by_descriptor: bool,
}

/// Reads count, words, null, environment, null, and pairs of the auxiliary vector up to AT_NULL.
///
/// # Safety
///
/// `stack` points to these.
unsafe fn read(stack: *const usize) -> Asked {
    let mut asked = Asked { exposed: false, trace: false, root: false, by_descriptor: false };
    // SAFETY: the vector's end is the last that is read, and each pointer to a word is a string that ends with NUL.
    unsafe {
        let mut at = stack.wrapping_add(1);
        while *at != 0 {
            let head = head(*at as *const u8);
            asked.exposed |= head == VERBS[0] || head == VERBS[1] || head == VERBS[2];
            asked.trace |= head == TRACE || head == TRACE_TO;
            at = at.wrapping_add(1);
        }
        if !asked.exposed {
            return asked;
        }
        at = at.wrapping_add(1);
        while *at != 0 {
            at = at.wrapping_add(1);
        }
        at = at.wrapping_add(1);
        while *at != libc::AT_NULL as usize {
            let value = *at.wrapping_add(1);
            asked.root |= *at == libc::AT_EUID as usize && value == 0;
            asked.by_descriptor |= *at == libc::AT_EXECFN as usize && head(value as *const u8) == DESCRIPTOR;
            at = at.wrapping_add(2);
        }
    }
    asked
}

/// `struct statfs` of the kernel's, on 64 bits: glibc hides the flags.
#[repr(C)]
struct Place {
    _before: [libc::c_ulong; 10],
    flags: libc::c_ulong,
    _after: [libc::c_ulong; 4],
}

/// What comes before libc: the seal, and the relocation.
///
/// # Safety
///
/// `stack` is what the kernel has laid down for this program, which has done nothing else yet.
unsafe extern "C" fn early(stack: *mut usize) {
    // SAFETY: the caller's word.
    unsafe { protect(stack) };
    // Only who stays is relocated. glibc's static start is not one that we know.
    if cfg!(all(target_env = "musl", target_feature = "crt-static")) {
        // SAFETY: the caller's word; libc, which comes next, finds an empty list.
        unsafe { crate::relocate::relocate(stack) };
    }
}

/// Executes the program again from its sealed self, or does nothing.
///
/// # Safety
///
/// As for [`early`].
unsafe fn protect(stack: *mut usize) {
    let began = clock::ticks();
    // SAFETY: the caller's word.
    let asked = unsafe { read(stack) };
    if !asked.exposed || !asked.root || asked.by_descriptor {
        return;
    }
    let flags = (seal::OPEN_TREE_CLONE | seal::CLOSE_ON_EXEC) as usize;
    // SAFETY: a path that ends with NUL, and integers.
    let clone = unsafe { call(libc::SYS_open_tree, [libc::AT_FDCWD as usize, EXE.addr(), flags, 0, 0]) };
    if clone < 0 {
        return;
    }
    let mut place = MaybeUninit::<Place>::uninit();
    let read_only = &const { seal::READ_ONLY };
    let (at, size) = (libc::AT_EMPTY_PATH as usize, size_of::<seal::MountAttributes>());
    // SAFETY: memory of the size that the kernel fills, read only where it did; an empty path for AT_EMPTY_PATH, and a constant of the size that is given; both lists of pointers are the kernel's own, on the stack,
    // and are as they were when execveat has failed; the descriptor is ours alone.
    unsafe {
        let read_only = (&raw const *read_only).addr();
        // Asked of the clone, which is as its original is: a path would have to be looked up once more.
        if call(libc::SYS_fstatfs, [clone as usize, place.as_mut_ptr().addr(), 0, 0, 0]) == 0
            && (*place.as_ptr()).flags & libc::ST_RDONLY == 0
            && call(libc::SYS_mount_setattr, [clone as usize, EMPTY.addr(), at, read_only, size]) == 0
        {
            if asked.trace {
                let mut text = MaybeUninit::<Text>::uninit();
                write(began, text.as_mut_ptr());
                let environment = make_room(stack, text.as_ptr().addr());
                call(libc::SYS_execveat, [clone as usize, EMPTY.addr(), stack.addr(), environment.addr(), at]);
                take_back(stack);
            } else {
                let words = stack.wrapping_add(1);
                let environment = words.wrapping_add(*stack).wrapping_add(1);
                call(libc::SYS_execveat, [clone as usize, EMPTY.addr(), words.addr(), environment.addr(), at]);
            }
        }
        call(libc::SYS_close, [clone as usize, 0, 0, 0, 0]);
    }
}

// ---- The beginning is handed on to the sealed program, in its environment: see clock::handed_on ----

const NAME: &[u8] = clock::HANDED_ON.as_bytes();
const DIGITS: usize = 20;
/// `NAME=00001234567890123456` and NUL.
type Text = [u8; NAME.len() + 1 + DIGITS + 1];

/// Volatile, here and below: of a loop that copies, the compiler would make a call.
///
/// # Safety
///
/// `to` is memory for it.
unsafe fn write(began: u64, to: *mut Text) {
    let to: *mut u8 = to.cast();
    let (mut at, mut left) = (0, began);
    // SAFETY: every byte of the text is written once: the name, the sign, the digits from the last, NUL.
    unsafe {
        while at < NAME.len() {
            to.wrapping_add(at).write_volatile(NAME[at]);
            at += 1;
        }
        to.wrapping_add(at).write_volatile(b'=');
        at += DIGITS + 1;
        to.wrapping_add(at).write_volatile(0);
        while at > NAME.len() + 1 {
            at -= 1;
            to.wrapping_add(at).write_volatile(b'0' + (left % 10) as u8);
            left /= 10;
        }
    }
}

/// Moves the words, and the null behind them, down to where their count was, and puts `text` into the place that is now free in front of the environment,
/// whose new beginning is returned. Their own new beginning is `stack`.
///
/// # Safety
///
/// As for [`read`].
unsafe fn make_room(stack: *mut usize, text: usize) -> *mut usize {
    let mut at = stack;
    // SAFETY: stays between the count and the null behind the words.
    unsafe {
        loop {
            let next = *at.wrapping_add(1);
            at.write_volatile(next);
            at = at.wrapping_add(1);
            if next == 0 {
                break;
            }
        }
        at.write_volatile(text);
    }
    at
}

/// Undoes [`make_room`].
///
/// # Safety
///
/// It was done.
unsafe fn take_back(stack: *mut usize) {
    let (mut at, mut moved) = (stack, 0);
    // SAFETY: stays between the count's place and the place behind the words' null, which was their null before.
    unsafe {
        let mut word = *at;
        while word != 0 {
            at = at.wrapping_add(1);
            let next = *at;
            at.write_volatile(word);
            word = next;
            moved += 1;
        }
        at.wrapping_add(1).write_volatile(0);
        stack.write_volatile(moved);
    }
}

/// A system call: what it returns, or minus the errno. Not libc's: that writes `errno`, which is not there yet.
///
/// # Safety
///
/// That of the call.
#[inline(always)]
pub unsafe fn call(number: libc::c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel changes what the call promises, the result's register, and the two that the instruction itself needs.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _, options(nostack))
    }
    // SAFETY: the same; it changes the result's register alone.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e, options(nostack))
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten::cli::{asks_trace, guess_verb};
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
                    assert_eq!(asked.trace, asks_trace(&owned), "{words:?}");
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
    fn the_beginning_is_handed_on_and_taken_back() {
        for words in [&["corten", "run", "--trace", "web"][..], &["corten"], &[]] {
            let mut made = stack(words, &["A=b"], 0, c"");
            let before = made.places.clone();
            let mut text = MaybeUninit::<Text>::uninit();
            // SAFETY: memory for the text, which is then whole; and what `stack` makes.
            let (text, environment) = unsafe {
                write(u64::MAX - 1, text.as_mut_ptr());
                let text = CStr::from_bytes_with_nul(text.assume_init_ref()).unwrap();
                (text, make_room(made.places.as_mut_ptr(), text.as_ptr().addr()))
            };
            assert_eq!(text.to_str().unwrap(), "CORTEN_BEGAN=18446744073709551614");
            let count = words.len();
            assert_eq!(made.places[..count], before[1..=count]);
            assert_eq!((made.places[count], made.places[count + 1]), (0, text.as_ptr().addr()));
            assert_eq!(made.places[count + 2..], before[count + 2..]);
            assert_eq!(environment.cast_const(), &raw const made.places[count + 1]);
            // SAFETY: it was made.
            unsafe { take_back(made.places.as_mut_ptr()) };
            assert_eq!(made.places, before);
        }
    }
}
