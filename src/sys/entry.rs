//! Where the binary begins: `main`, as the C library calls it. A module of the binary, not of the library, which has no `main`.
//!
//! std's own beginning makes twelve calls: it looks whether 0, 1 and 2 are open, ignores SIGPIPE, and puts a handler with a stack of
//! its own behind the guard page, whose only work is a sentence about a stack that ran over. The first two are done in
//! [`corten::sys::start`]; the third is left to the kernel's SIGSEGV. By hand: `strace -c corten --version`.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// musl hands the words to `main` alone: `std::env::args` is empty.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let word = |at: usize| -> OsString {
        // SAFETY: libc calls main with `count` pointers to strings that end with NUL and that nobody changes.
        let word = unsafe { CStr::from_ptr(*words.add(at)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    let words = (0..usize::try_from(count).unwrap_or(0)).map(word).collect();
    // Flushes stdout, as std does after its own main.
    std::process::exit(crate::begin(words).into())
}
