//! Installing a seccomp filter, see seccomp(2).

use super::check;
use std::os::fd::{FromRawFd, OwnedFd};

/// One instruction of classic BPF, in the layout of `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do: `BPF_*`.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jt: u8,
    /// How many when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; 8] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    /// Out of memory: eight bytes.
    pub fn from_bytes([a, b, jt, jf, c, d, e, f]: [u8; 8]) -> Self {
        Instruction { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes([c, d, e, f]) }
    }
}

/// A program as it lies in memory.
pub fn to_bytes(program: &[Instruction]) -> Vec<u8> {
    program.iter().flat_map(|instruction| instruction.to_bytes()).collect()
}

/// Out of memory: what is behind the last whole instruction is left out.
pub fn from_bytes(bytes: &[u8]) -> Vec<Instruction> {
    bytes.as_chunks::<8>().0.iter().copied().map(Instruction::from_bytes).collect()
}

/// More instructions the kernel does not take (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Bits for the flags of [`install`]; names and values are the kernel's (`linux/seccomp.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The bit.
    pub bit: u64,
    /// Its name in the manual.
    pub name: &'static str,
}

/// All threads at once.
pub const TSYNC: Flag = Flag { bit: 1 << 0, name: "SECCOMP_FILTER_FLAG_TSYNC" };
/// Log every action but allow.
pub const LOG: Flag = Flag { bit: 1 << 1, name: "SECCOMP_FILTER_FLAG_LOG" };
/// Leave the mitigation of speculative store bypass off.
pub const SPEC_ALLOW: Flag = Flag { bit: 1 << 2, name: "SECCOMP_FILTER_FLAG_SPEC_ALLOW" };
/// Return a descriptor on which a supervisor hears of `SECCOMP_RET_USER_NOTIF`.
pub const NEW_LISTENER: Flag = Flag { bit: 1 << 3, name: "SECCOMP_FILTER_FLAG_NEW_LISTENER" };
/// Another thread's refusal is `-ESRCH`.
pub const TSYNC_ESRCH: Flag = Flag { bit: 1 << 4, name: "SECCOMP_FILTER_FLAG_TSYNC_ESRCH" };
/// Only a fatal signal interrupts a call that the supervisor has received (Linux 5.19).
pub const WAIT_KILLABLE_RECV: Flag = Flag { bit: 1 << 5, name: "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" };

/// Every flag, by its bit.
pub const FLAGS: [Flag; 6] = [TSYNC, LOG, SPEC_ALLOW, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV];

/// `seccomp(SECCOMP_SET_MODE_FILTER, flags, program)` for the calling thread. With [`NEW_LISTENER`] the listener comes back, `O_CLOEXEC`.
///
/// Needs `no_new_privs` or CAP_SYS_ADMIN in the own user namespace; without them it is `EACCES`. There is no way back.
pub fn install(flags: u64, program: &[Instruction]) -> nix::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;
    // More would be cut off by the u16 and install another filter than was meant.
    let len = u16::try_from(program.len()).map_err(|_| nix::errno::Errno::EINVAL)?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` points to `len` instructions in `program`, which outlives the call and has the layout of `sock_filter`; the
    // kernel copies them and writes nothing.
    let returned = check(unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags as libc::c_ulong, &raw const filter)
    })?;
    if flags & NEW_LISTENER.bit == 0 {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER a success is a fresh descriptor that nothing else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(returned as libc::c_int) }))
}
