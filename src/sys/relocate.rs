//! The program's own relocation, before libc's.
//!
//! **What the linker leaves.** A program that may lie anywhere has words that must hold addresses: tables of functions, texts of constants. They lie side by
//! side in `.data.rel.ro`, as distances from the program's beginning, and who starts it adds where that is. `DT_RELR` lists them: an address, then
//! words whose bits say which of the 63 words behind are meant too. By hand: `readelf -r corten`, `readelf -S corten | grep relr`.
//!
//! **What we do.** A static program relocates itself; musl looks at each of the 63 bits in turn, which takes 90,000 instructions for our 6,600
//! words: as many as all the rest of `state`. Here it is half of that. And the pages, which are the file's until they are written to, are asked for
//! in one call instead of thirty page faults. Then the list's length in `.dynamic` is set to zero, so that musl finds nothing left to do.
//! *Rejected:* a program that lies at a fixed address. Its addresses would be known to who attacks it.
//!
//! **What goes wrong.** What [`early`](crate::early) says of code that runs before its addresses are right holds here. A program that a dynamic linker has
//! loaded is relocated already: the kernel names that linker (`AT_BASE`).

#![allow(unsafe_code)]

use std::arch::asm;

const DT_NULL: usize = 0;
const DT_RELRSZ: usize = 35;
const DT_RELR: usize = 36;
const MADV_POPULATE_WRITE: usize = 23;
const PAGE: usize = 4096;
/// Bits of a word that say something: the lowest tells it from an address.
const BITS: usize = usize::BITS as usize - 1;

/// Relocates the program, once. Are the pages ours already?
///
/// # Safety
///
/// [`is_alone`], the program's own code has not begun, and nothing else will relocate what the list names.
pub unsafe fn relocate(has_pages: bool) {
    // SAFETY: the caller's word. The linker makes both symbols; `.dynamic` ends with DT_NULL and is writable until libc protects it.
    unsafe {
        let (base, mut entry) = symbols();
        let (mut list, mut size) = (0, std::ptr::null_mut());
        while *entry != DT_NULL {
            match *entry {
                DT_RELR => list = *entry.wrapping_add(1),
                DT_RELRSZ => size = entry.wrapping_add(1),
                _ => {}
            }
            entry = entry.wrapping_add(2);
        }
        if list == 0 || size.is_null() {
            return;
        }
        let list = (base + list) as *const usize;
        let end = list.byte_add(*size);
        if !has_pages {
            populate(base, list, end);
        }
        apply(base, list, end);
        size.write_volatile(0);
    }
}

/// No dynamic linker was here before? The auxiliary vector lies behind the words and the environment.
///
/// # Safety
///
/// `stack` is what the kernel has laid down.
pub unsafe fn is_alone(stack: *const usize) -> bool {
    // SAFETY: count, words, null, environment, null, pairs up to AT_NULL.
    unsafe {
        let mut at = stack.wrapping_add(*stack + 2);
        while *at != 0 {
            at = at.wrapping_add(1);
        }
        at = at.wrapping_add(1);
        while *at != libc::AT_NULL as usize {
            if *at == libc::AT_BASE as usize {
                return *at.wrapping_add(1) == 0;
            }
            at = at.wrapping_add(2);
        }
    }
    true
}

/// Where the program begins, and its `.dynamic`. Not as statics of Rust's: those are looked up in a table that is not relocated yet.
#[inline(always)]
pub fn symbols() -> (usize, *mut usize) {
    let (base, dynamic);
    // SAFETY: two additions to the address of the instruction itself.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("lea {}, [rip + __ehdr_start]", "lea {}, [rip + _DYNAMIC]", out(reg) base, out(reg) dynamic,
            options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: the same.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("adrp {0}, __ehdr_start", "add {0}, {0}, :lo12:__ehdr_start", "adrp {1}, _DYNAMIC", "add {1}, {1}, :lo12:_DYNAMIC",
            out(reg) base, out(reg) dynamic, options(pure, nomem, nostack, preserves_flags));
    }
    (base, dynamic)
}

/// Makes the pages that will be written to ours, in one call. Where it fails each is a page fault, as ever.
///
/// # Safety
///
/// The list is that of the program at `base`.
unsafe fn populate(base: usize, list: *const usize, end: *const usize) {
    if list == end {
        return;
    }
    // SAFETY: the list is not empty and begins with an address; every word of it can be read. The range is within the program's writable segment.
    unsafe {
        let (first, mut last, mut at) = (*list, *list, list);
        while at < end {
            last = if *at & 1 == 0 { *at } else { last + BITS * size_of::<usize>() };
            at = at.wrapping_add(1);
        }
        let from = (base + first) & !(PAGE - 1);
        let length = (base + last) - from;
        crate::early::call(libc::SYS_madvise, [from, length & !(PAGE - 1), MADV_POPULATE_WRITE, 0, 0, 0]);
    }
}

/// Adds the beginning to each word that the list names.
///
/// # Safety
///
/// As for [`populate`], and nobody did it before.
unsafe fn apply(base: usize, mut list: *const usize, end: *const usize) {
    let mut place = std::ptr::null_mut::<usize>();
    // SAFETY: the list names words of the program's own, which can be written to.
    unsafe {
        while list < end {
            let word = *list;
            if word & 1 == 0 {
                place = (base + word) as *mut usize;
                *place = (*place).wrapping_add(base);
                place = place.wrapping_add(1);
            } else {
                let mut bits = word >> 1;
                while bits != 0 {
                    let at = place.wrapping_add(bits.trailing_zeros() as usize);
                    *at = (*at).wrapping_add(base);
                    bits &= bits - 1;
                }
                place = place.wrapping_add(BITS);
            }
            list = list.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_that_is_named_and_no_other() {
        let mut words = [0_usize; 200];
        let base = words.as_mut_ptr().expose_provenance();
        let at = |word: usize| word * size_of::<usize>();
        // Word 1; of the 63 behind it the 1st and the 63rd; of the 63 behind those the 2nd; word 190.
        let list = [at(1), 1 << 1 | 1 << 63 | 1, 1 << 2 | 1, at(190)];
        // SAFETY: the list names words of the array alone.
        unsafe { apply(base, list.as_ptr(), list.as_ptr_range().end) };
        let changed: Vec<usize> = (0..words.len()).filter(|at| words[*at] != 0).collect();
        assert_eq!(changed, [1, 2, 64, 66, 190]);
        assert!(changed.iter().all(|at| words[*at] == base));
    }
}
