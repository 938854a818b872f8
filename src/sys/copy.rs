//! memcpy(3), memmove(3) and memcmp(3), in place of musl's.
//!
//! **What the libc offers.** On x86_64 a few lines around `rep movsq`. Most processors take longer to begin that than to copy what is short, and most copies
//! of a `run` are of a few bytes: no other function took as much of its time in user space. By hand, where the binary has its symbols: `perf record -e
//! cpu-clock corten run …`, and `perf probe -x corten 'memcpy n=%dx'` for the lengths.
//!
//! **What we do.** As other libraries do: up to 128 bytes are read whole, by pieces that overlap in the middle, before any is written, so that it does
//! not matter whether the two places overlap. Longer ones go by 64 bytes, from the end that may be overwritten last.
//!
//! Two texts are compared by eight bytes, where musl's takes one at a time; the last eight overlap what was compared before.
//!
//! **What goes wrong.** Written in Rust it would call itself: the compiler knows a loop that copies, and puts memcpy in its place. So it is
//! assembly. Other architectures keep their libc's, which for aarch64 is a good one.

#![allow(unsafe_code)]

use std::arch::naked_asm;
use std::ffi::{c_int, c_void};

/// The same as memmove(3): places that overlap are no exception worth a second function.
#[cfg_attr(all(not(test), target_env = "musl"), unsafe(no_mangle))]
#[unsafe(naked)]
#[cfg_attr(any(test, not(target_env = "musl")), allow(dead_code))]
unsafe extern "C" fn memcpy(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void {
    naked_asm!("jmp {}", sym memmove)
}

/// Copies; returns `to`. rdi is where to, rsi where from, rdx the length, rax the result.
#[cfg_attr(all(not(test), target_env = "musl"), unsafe(no_mangle))]
#[unsafe(naked)]
#[cfg_attr(not(any(test, target_env = "musl")), allow(dead_code))]
unsafe extern "C" fn memmove(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jae 16f",
        "cmp edx, 8",
        "jae 8f",
        "cmp edx, 4",
        "jae 4f",
        "test edx, edx",
        "je 3f",
        // 1 to 3: the first, the middle, the last.
        "mov r8, rdx",
        "shr r8",
        "movzx ecx, byte ptr [rsi]",
        "movzx r9d, byte ptr [rsi + r8]",
        "movzx r10d, byte ptr [rsi + rdx - 1]",
        "mov byte ptr [rdi], cl",
        "mov byte ptr [rdi + r8], r9b",
        "mov byte ptr [rdi + rdx - 1], r10b",
        "3: ret",
        // 4 to 7: the first four, and the last four.
        "4: mov ecx, dword ptr [rsi]",
        "mov r8d, dword ptr [rsi + rdx - 4]",
        "mov dword ptr [rdi], ecx",
        "mov dword ptr [rdi + rdx - 4], r8d",
        "ret",
        "8: mov rcx, qword ptr [rsi]",
        "mov r8, qword ptr [rsi + rdx - 8]",
        "mov qword ptr [rdi], rcx",
        "mov qword ptr [rdi + rdx - 8], r8",
        "ret",
        // 16 to 32, and on from there.
        "16: movups xmm0, [rsi]",
        "movups xmm7, [rsi + rdx - 16]",
        "cmp rdx, 32",
        "ja 32f",
        "movups [rdi], xmm0",
        "movups [rdi + rdx - 16], xmm7",
        "ret",
        "32: movups xmm1, [rsi + 16]",
        "movups xmm6, [rsi + rdx - 32]",
        "cmp rdx, 64",
        "ja 64f",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + rdx - 32], xmm6",
        "movups [rdi + rdx - 16], xmm7",
        "ret",
        "64: movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups xmm4, [rsi + rdx - 64]",
        "movups xmm5, [rsi + rdx - 48]",
        "cmp rdx, 128",
        "ja 128f",
        "2: movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "movups [rdi + rdx - 64], xmm4",
        "movups [rdi + rdx - 48], xmm5",
        "movups [rdi + rdx - 32], xmm6",
        "movups [rdi + rdx - 16], xmm7",
        "ret",
        // More: the first 64 bytes and the last are in registers, and are written at the end. What is between goes by 64, of which the last
        // may be written a second time with the same. r8 is how far: where `to` lies in what is still to be read, from the end.
        "128: mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 6f",
        "mov r8d, 64",
        "lea r9, [rdx - 64]",
        "5: movups xmm8, [rsi + r8]",
        "movups xmm9, [rsi + r8 + 16]",
        "movups xmm10, [rsi + r8 + 32]",
        "movups xmm11, [rsi + r8 + 48]",
        "movups [rdi + r8], xmm8",
        "movups [rdi + r8 + 16], xmm9",
        "movups [rdi + r8 + 32], xmm10",
        "movups [rdi + r8 + 48], xmm11",
        "add r8, 64",
        "cmp r8, r9",
        "jb 5b",
        "jmp 2b",
        "6: lea r8, [rdx - 64]",
        "7: movups xmm8, [rsi + r8 - 64]",
        "movups xmm9, [rsi + r8 - 48]",
        "movups xmm10, [rsi + r8 - 32]",
        "movups xmm11, [rsi + r8 - 16]",
        "movups [rdi + r8 - 64], xmm8",
        "movups [rdi + r8 - 48], xmm9",
        "movups [rdi + r8 - 32], xmm10",
        "movups [rdi + r8 - 16], xmm11",
        "sub r8, 64",
        "cmp r8, 64",
        "ja 7b",
        "jmp 2b",
    )
}

/// Compares as unsigned bytes: below, equal to or above zero. rdi and rsi where, rdx the length, eax the result.
#[cfg_attr(all(not(test), target_env = "musl"), unsafe(no_mangle))]
#[unsafe(naked)]
#[cfg_attr(not(any(test, target_env = "musl")), allow(dead_code))]
unsafe extern "C" fn memcmp(one: *const c_void, other: *const c_void, length: usize) -> c_int {
    naked_asm!(
        "cmp rdx, 8",
        "jb 3f",
        "2: mov rax, qword ptr [rdi]",
        "mov rcx, qword ptr [rsi]",
        "cmp rax, rcx",
        "jne 6f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rdx, 8",
        "jae 2b",
        // Eight bytes were equal, so the last eight can be read.
        "mov rax, qword ptr [rdi + rdx - 8]",
        "mov rcx, qword ptr [rsi + rdx - 8]",
        "cmp rax, rcx",
        "jne 6f",
        "xor eax, eax",
        "ret",
        // Up to seven.
        "3: xor r8d, r8d",
        "4: cmp r8, rdx",
        "je 5f",
        "movzx eax, byte ptr [rdi + r8]",
        "movzx ecx, byte ptr [rsi + r8]",
        "inc r8",
        "sub eax, ecx",
        "je 4b",
        "ret",
        "5: xor eax, eax",
        "ret",
        // The first byte that differs is the one of the greatest weight, turned round.
        "6: bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::{memcmp, memmove};
    use std::cmp::Ordering;
    use std::ffi::c_void;

    /// Every length, and every distance of two places that overlap or nearly.
    #[test]
    fn as_a_copy_by_bytes() {
        const MOST: usize = 330;
        let before: Vec<u8> = (0..3 * MOST).map(|at| (at * 31 + at / 7) as u8).collect();
        for length in 0..MOST {
            for to in (0..2 * MOST).filter(|to| to.abs_diff(MOST) < 70 || to % 41 == 0) {
                let (mut ours, mut theirs) = (before.clone(), before.clone());
                theirs.copy_within(MOST..MOST + length, to);
                let base: *mut c_void = ours.as_mut_ptr().cast();
                // SAFETY: both places lie in the vector, which has three times the greatest length.
                let returned = unsafe { memmove(base.add(to), base.add(MOST), length) };
                assert!(returned == base.wrapping_add(to) && ours == theirs, "{length} bytes from {MOST} to {to}");
            }
        }
    }

    /// Every length, every place of a difference, of the least and of the highest bit, in both directions.
    #[test]
    fn as_a_comparison_by_bytes() {
        const MOST: usize = 50;
        // SAFETY: both have the length.
        let ours = |one: &[u8], other: &[u8]| unsafe { memcmp(one.as_ptr().cast(), other.as_ptr().cast(), one.len()) };
        let text: Vec<u8> = (0..MOST).map(|at| (at * 37 + 90) as u8).collect();
        for length in 0..=MOST {
            let one = &text[..length];
            let same = text[..length].to_vec();
            assert_eq!(ours(one, &same), 0, "{length}");
            for (at, bit) in (0..length).flat_map(|at| [(at, 1), (at, 0x80)]) {
                let mut other = one.to_vec();
                other[at] ^= bit;
                // What comes behind says the opposite.
                if let Some(next) = other.get_mut(at + 1) {
                    *next = if one[at] < one[at] ^ bit { 0 } else { 0xff };
                }
                let expected = one.cmp(&other);
                assert_eq!(ours(one, &other).cmp(&0), expected, "{at} of {length}");
                assert_eq!(ours(&other, one).cmp(&0), expected.reverse(), "{at} of {length}");
                assert_ne!(expected, Ordering::Equal);
            }
        }
    }
}
