//! The program's own file exchanged for its read-only self, while it runs.
//!
//! **What the kernel offers.** A process has an executable, at which `/proc/PID/exe` leads, and a process may name another one: `prctl(PR_SET_MM,
//! PR_SET_MM_MAP)` with `exe_fd` (PR_SET_MM(2const)), made for programs that bring back what was frozen. The kernel refuses (EBUSY) as long as a
//! mapping of the old file is left. Who may: CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE; before Linux 5.9 CAP_SYS_ADMIN.
//!
//! **What we do.** The file is opened once more by the read-only clone of its mount, and each of the program's segments is mapped from that, over itself. What
//! lies there is the same, so the instruction behind the call is the one that would have come. Then the executable is named. It takes the place
//! of a second execve: no new memory, no second start. *Rejected:* PR_SET_MM_EXE_FILE, which asks no more but needs CAP_SYS_RESOURCE.
//!
//! **What goes wrong.** The segment that is written to is the file's again. So it must come before anything is written there: before the
//! relocation, and never where a dynamic linker was first. Behind its end in the last page the kernel had put zeros, for `.bss` begins there; so do we.
//! Wherever it is refused, nothing is lost: the mappings are as good as the old ones, and `main` seals the program by an execve.

#![allow(unsafe_code)]

use crate::early::call;
use corten::sys::seal;
use libc::{Elf64_Ehdr, Elf64_Phdr, PF_R, PF_W, PF_X, PROT_EXEC, PROT_READ, PROT_WRITE, PT_LOAD};
use std::mem::MaybeUninit;

const PAGE: usize = 4096;
const PR_SET_MM_MAP: usize = 14;
const LEAKS: bool = seal::CLOSE_ON_EXEC == 0;
const FOLDER: &[u8] = b"/proc/self/fd/";
/// The longest number of a descriptor, and NUL.
type Path = [u8; FOLDER.len() + 10 + 1];

/// Where the kernel has put the words and the environment, for what `/proc/PID/cmdline` and `environ` show.
pub struct Strings {
    pub words: usize,
    pub environment: usize,
    pub end: usize,
}

/// `struct prctl_mm_map` of `linux/prctl.h`.
#[repr(C)]
struct Map {
    code: [usize; 2],
    data: [usize; 2],
    /// Where brk(2) begins: here as without address randomization, behind the data, which saves asking where it was.
    heap: [usize; 2],
    stack: usize,
    words: [usize; 2],
    environment: [usize; 2],
    auxiliary: usize,
    auxiliary_size: u32,
    executable: u32,
}

/// Makes what lies at `clone` the program's executable, and closes that. False: it is as it was.
///
/// # Safety
///
/// The program is static, and has neither been relocated nor written to anything but the stack. `clone` holds the program's own file.
pub unsafe fn exchange(base: usize, stack: usize, strings: &Strings, clone: usize) -> bool {
    let mut path = MaybeUninit::<Path>::uninit();
    // SAFETY: a path that ends with NUL; the descriptor is ours alone.
    unsafe {
        name(clone, path.as_mut_ptr());
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as usize;
        let file = call(libc::SYS_openat, [libc::AT_FDCWD as usize, path.as_ptr().addr(), flags, 0, 0, 0]);
        let done = file >= 0 && over_itself(base, stack, strings, file as usize);
        // One call where nothing lies between them. A build for one test leaves the clone open.
        if file as usize == clone + 1 && !LEAKS {
            call(libc::SYS_close_range, [clone, clone + 1, 0, 0, 0, 0]);
            return done;
        }
        if file >= 0 {
            call(libc::SYS_close, [file as usize, 0, 0, 0, 0, 0]);
        }
        if !LEAKS {
            call(libc::SYS_close, [clone, 0, 0, 0, 0, 0]);
        }
        done
    }
}

/// # Safety
///
/// As for [`exchange`]; `file` is the program's own, open for reading.
unsafe fn over_itself(base: usize, stack: usize, strings: &Strings, file: usize) -> bool {
    let (mut code, mut data, mut end_of_data) = ([0; 2], [0; 2], 0);
    // SAFETY: the ELF header and its table lie at the program's beginning; what is mapped holds what was there, but for what is behind the file's part of the last
    // page, which becomes zero.
    unsafe {
        let header = base as *const Elf64_Ehdr;
        let mut segment = (base + (*header).e_phoff as usize) as *const Elf64_Phdr;
        let end = segment.wrapping_add((*header).e_phnum as usize);
        while segment != end {
            let Elf64_Phdr { p_type, p_flags, p_offset, p_vaddr, p_filesz, p_memsz, .. } = *segment;
            segment = segment.wrapping_add(1);
            if p_type != PT_LOAD {
                continue;
            }
            let (first, last) = (base + p_vaddr as usize, base + p_vaddr as usize + p_filesz as usize);
            let from = first & !(PAGE - 1);
            let to = (last + PAGE - 1) & !(PAGE - 1);
            let mut access = 0;
            if p_flags & PF_R != 0 {
                access |= PROT_READ;
            }
            let mut how = libc::MAP_PRIVATE | libc::MAP_FIXED;
            if p_flags & PF_W != 0 {
                access |= PROT_WRITE;
                // Nearly all of it will be written to: in one call instead of a page fault for each page.
                how |= libc::MAP_POPULATE;
                data = [first, last];
                end_of_data = (first + p_memsz as usize + PAGE - 1) & !(PAGE - 1);
            }
            if p_flags & PF_X != 0 {
                access |= PROT_EXEC;
                code = [first, last];
            }
            let place = p_offset as usize & !(PAGE - 1);
            if call(libc::SYS_mmap, [from, to - from, access as usize, how as usize, file, place]) != from as isize {
                return false;
            }
            if p_flags & PF_W != 0 {
                let mut at = last;
                while at < to {
                    (at as *mut u8).write_volatile(0);
                    at += 1;
                }
            }
        }
        let map = Map {
            code,
            data,
            heap: [end_of_data, end_of_data],
            stack,
            words: [strings.words, strings.environment],
            environment: [strings.environment, strings.end],
            auxiliary: 0,
            auxiliary_size: 0,
            executable: file as u32,
        };
        call(
            libc::SYS_prctl,
            [libc::PR_SET_MM as usize, PR_SET_MM_MAP, (&raw const map).addr(), size_of::<Map>(), 0, 0],
        ) == 0
    }
}

/// Writes the path of a descriptor, and NUL.
///
/// # Safety
///
/// `to` is memory for it.
unsafe fn name(descriptor: usize, to: *mut Path) {
    let to: *mut u8 = to.cast();
    let (mut digits, mut rest) = (1, descriptor);
    while rest >= 10 {
        rest /= 10;
        digits += 1;
    }
    // SAFETY: the folder, the digits from the last, NUL: each byte is written once, and there are at most ten digits.
    unsafe {
        let mut at = 0;
        while at < FOLDER.len() {
            to.wrapping_add(at).write_volatile(FOLDER[at]);
            at += 1;
        }
        to.wrapping_add(at + digits).write_volatile(0);
        rest = descriptor;
        while digits > 0 {
            digits -= 1;
            to.wrapping_add(at + digits).write_volatile(b'0' + (rest % 10) as u8);
            rest /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn the_path_of_a_descriptor() {
        for (descriptor, path) in [
            (0, c"/proc/self/fd/0"),
            (9, c"/proc/self/fd/9"),
            (10, c"/proc/self/fd/10"),
            (2_147_483_647, c"/proc/self/fd/2147483647"),
        ] {
            let mut written = MaybeUninit::<Path>::uninit();
            // SAFETY: memory for it, which then ends with NUL.
            let read = unsafe {
                name(descriptor, written.as_mut_ptr());
                CStr::from_ptr(written.as_ptr().cast())
            };
            assert_eq!(read, path);
        }
    }

    #[test]
    fn as_the_kernel_has_it() {
        assert_eq!((size_of::<Map>(), std::mem::offset_of!(Map, executable)), (104, 100));
    }
}
