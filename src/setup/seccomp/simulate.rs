//! What would a filter say? An interpreter for the part of classic BPF that seccomp filters use.
//!
//! The kernel offers no way to ask a filter without making the call; so tests run it here, over every number and every interesting
//! argument, ours beside libseccomp's. By hand: `scmp_bpf_sim` in libseccomp's sources, or `strace -c` and courage.
//!
//! It tells too whether an argument was read: the kernel keeps a bitmap of the calls that a filter allows after looking at nothing
//! but number and architecture (`CONFIG_SECCOMP_CACHE`, Linux 5.11), and does not run the filter for them at all.

use super::bpf::code::*;
use crate::sys::seccomp::Instruction;

/// A system call as a filter sees it: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Data {
    /// System call number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the program made the call.
    pub instruction_pointer: u64,
    /// Arguments.
    pub args: [u64; 6],
}

/// What a filter said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `SECCOMP_RET_*` with its data.
    pub returned: u32,
    /// It looked at more than number and architecture.
    pub read_arguments: bool,
    /// Instructions executed.
    pub steps: usize,
}

impl Data {
    /// The 32 bits at an offset of `struct seccomp_data`, little-endian.
    fn word(&self, offset: u32) -> Option<u32> {
        let half = |value: u64| if offset.is_multiple_of(8) { value as u32 } else { (value >> 32) as u32 };
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            8 | 12 => Some(half(self.instruction_pointer)),
            16..64 if offset.is_multiple_of(4) => Some(half(self.args[(offset as usize - 16) / 8])),
            _ => None,
        }
    }
}

/// Runs a filter. `None`: the kernel would not have taken this program, or it uses what no seccomp compiler emits.
pub fn run(program: &[Instruction], data: &Data) -> Option<Verdict> {
    let (mut at, mut accumulator, mut steps, mut read_arguments) = (0_usize, 0_u32, 0, false);
    loop {
        let Instruction { code, jt, jf, k } = *program.get(at)?;
        at += 1;
        steps += 1;
        let mut branch = |holds: bool| at += if holds { jt } else { jf } as usize;
        match code {
            LOAD => {
                read_arguments |= k > 4;
                accumulator = data.word(k)?;
            }
            JUMP => at += k as usize,
            JUMP_EQUAL => branch(accumulator == k),
            JUMP_GREATER => branch(accumulator > k),
            JUMP_GREATER_EQUAL => branch(accumulator >= k),
            JUMP_SET => branch(accumulator & k != 0),
            AND => accumulator &= k,
            RETURN => return Some(Verdict { returned: k, read_arguments, steps }),
            _ => return None,
        }
    }
}
