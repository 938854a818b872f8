//! Which number has a system call, on which architecture?
//!
//! The kernel counts its calls separately for every architecture: `openat` is 257 on x86_64, 295 on x86, 56 on aarch64; a number
//! never changes once a kernel was released. By hand:
//!
//! ```text
//! $ grep -w __NR_openat /usr/include/x86_64-linux-gnu/asm/unistd_*.h
//! $ scmp_sys_resolver -a aarch64 openat        # from Debian's package seccomp
//! ```
//!
//! Here is one row per name and one column per architecture (`calls`). Names and numbers are two arrays without a pointer in
//! them: 483 `&str` would be relocated at every start of a static-pie program, whether it has a filter or not.
//!
//! What goes wrong: x86 has two doors to the same call. Before Linux 4.3, `socket` was only `socketcall(1, args)`, and System V ipc
//! only `ipc(n, …)`; a filter that closes one door and forgets the other closes nothing. See [`multiplexed`].

use crate::input::config::Arch;

/// No such call on that architecture.
const NONE: u16 = u16::MAX;

/// The bit that tells a call of x32 from one of x86_64; both have the same `AUDIT_ARCH`.
pub const X32_BIT: u32 = 1 << 30;

macro_rules! number {
    (_) => {
        NONE
    };
    ($n:literal) => {
        $n
    };
}

macro_rules! calls {
    ($($name:tt $x86_64:tt $x86:tt $x32:tt $aarch64:tt $arm:tt;)*) => {
        /// All names, each with a newline.
        pub(super) const NAMES: &str = concat!($(stringify!($name), "\n"),*);
        /// The numbers of each name.
        pub(super) static NUMBERS: [[u16; 5]; COUNT] =
            [$([number!($x86_64), number!($x86), number!($x32), number!($aarch64), number!($arm)]),*];
        const COUNT: usize = [$(stringify!($name)),*].len();
    };
}

mod calls;

/// Where each name begins in `calls::NAMES`; one more than there are names, so that the end of the last is here too.
static STARTS: [u16; calls::NUMBERS.len() + 1] = {
    let text = calls::NAMES.as_bytes();
    let mut starts = [0; calls::NUMBERS.len() + 1];
    let (mut at, mut row) = (0, 0);
    while at < text.len() {
        if text[at] == b'\n' {
            row += 1;
            starts[row] = at as u16 + 1;
        }
        at += 1;
    }
    starts
};

/// A name that at least one of our architectures has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call(u16);

/// Finds a system call by its name.
pub fn find(name: &str) -> Option<Call> {
    let (mut low, mut high) = (0, calls::NUMBERS.len());
    while low < high {
        let middle = (low + high) / 2;
        match Call(middle as u16).name().cmp(name) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
            std::cmp::Ordering::Equal => return Some(Call(middle as u16)),
        }
    }
    None
}

/// Every call, by name.
pub fn all() -> impl Iterator<Item = Call> {
    (0..calls::NUMBERS.len()).map(|row| Call(row as u16))
}

impl Call {
    /// Its name, as in the kernel's headers without `__NR_`.
    pub fn name(self) -> &'static str {
        let row = self.0 as usize;
        &calls::NAMES[STARTS[row] as usize..STARTS[row + 1] as usize - 1]
    }

    /// Its number as the kernel shows it to a filter, with [`X32_BIT`] for x32; `None` where the architecture lacks it.
    pub fn number(self, arch: Arch) -> Option<u32> {
        let column = match arch {
            Arch::X86_64 => 0,
            Arch::X86 => 1,
            Arch::X32 => 2,
            Arch::Aarch64 => 3,
            Arch::Arm => 4,
        };
        match calls::NUMBERS[self.0 as usize][column] {
            NONE => None,
            n if arch == Arch::X32 => Some(n as u32 | X32_BIT),
            n if arch == Arch::Arm && n >= 0xff00 => Some(0xf_0000 | (n as u32 & 0xff)),
            n => Some(n as u32),
        }
    }
}

/// The other door of x86: the number of the multiplexer, and what its first argument says for this call. From
/// `include/uapi/linux/net.h` (`SYS_SOCKET`…) and `include/uapi/linux/ipc.h` (`SEMOP`…).
pub fn multiplexed(name: &str) -> Option<(u32, u32)> {
    const SOCKETCALL: u32 = 102;
    const IPC: u32 = 117;
    Some(match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    })
}

/// `AUDIT_ARCH_*` of `linux/audit.h`: what the kernel puts into `seccomp_data.arch`. x86_64 and x32 share theirs.
pub fn audit_arch(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 | Arch::X32 => 0xc000_003e,
        Arch::X86 => 0x4000_0003,
        Arch::Aarch64 => 0xc000_00b7,
        Arch::Arm => 0x4000_0028,
    }
}

/// How many bits of an argument count. The kernel hands x32 its arguments in 64-bit registers, but libseccomp looks at the low half
/// alone, and so do we.
pub fn argument_bits(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 | Arch::Aarch64 => 64,
        Arch::X86 | Arch::X32 | Arch::Arm => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHES: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

    #[test]
    fn names_are_sorted_and_found() {
        let names: Vec<_> = all().map(Call::name).collect();
        assert!(names.windows(2).all(|w| w[0] < w[1]), "not sorted by bytes: find() would miss");
        assert!(all().all(|call| find(call.name()) == Some(call)));
        assert_eq!((find(""), find("zzz"), find("open "), find("ope")), (None, None, None, None));
    }

    #[test]
    fn numbers_are_unique_within_an_architecture() {
        for arch in ARCHES {
            let mut numbers: Vec<_> = all().filter_map(|call| call.number(arch)).collect();
            let count = numbers.len();
            numbers.sort();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "{arch:?} gives two names one number");
        }
    }

    #[test]
    fn well_known_numbers() {
        let number = |name, arch| find(name).and_then(|call: Call| call.number(arch));
        assert_eq!(ARCHES.map(|arch| number("openat", arch)), [257, 295, 0x4000_0101, 56, 322].map(Some));
        assert_eq!(ARCHES.map(|arch| number("file_setattr", arch)), [469, 469, 0x4000_01d5, 469, 469].map(Some));
        assert_eq!(ARCHES.map(|arch| number("open", arch)), [Some(2), Some(5), Some(0x4000_0002), None, Some(5)]);
        assert_eq!(number("set_tls", Arch::Arm), Some(0x000f_0005));
        assert_eq!(number("break", Arch::X86), Some(17), "a Rust keyword is a name like any other");
        assert_eq!(number("ioctl", Arch::X32), Some(0x4000_0202));
    }

    /// The installed kernel headers are the authority. Older ones know fewer calls, never other numbers.
    #[test]
    fn agrees_with_the_kernels_headers() {
        let folder = "/usr/include/x86_64-linux-gnu/asm";
        for (arch, file) in [(Arch::X86_64, "unistd_64.h"), (Arch::X86, "unistd_32.h"), (Arch::X32, "unistd_x32.h")] {
            let Ok(text) = std::fs::read_to_string(format!("{folder}/{file}")) else {
                println!("skipped: no {folder}/{file}");
                continue;
            };
            let mut seen = 0;
            for line in text.lines() {
                let Some((name, value)) = line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' '))
                else {
                    continue;
                };
                let bit = if value.contains("X32_SYSCALL_BIT") { X32_BIT } else { 0 };
                let digits: String = value.rsplit(' ').next().unwrap().chars().filter(char::is_ascii_digit).collect();
                let Ok(value) = digits.parse::<u32>() else { continue };
                let ours = find(name).and_then(|call| call.number(arch));
                // A header newer than the table is told by number, not failed: new calls come with every kernel.
                assert!(
                    ours == Some(value | bit) || value > 469 && value < 512,
                    "{name} is {value} in {file}, here {ours:?}"
                );
                seen += 1;
            }
            assert!(seen > 300, "{file} was not understood");
        }
    }

    /// The list that newer architectures share is kept for all of them in one file.
    #[test]
    fn agrees_with_the_generic_header() {
        let file = "/usr/include/asm-generic/unistd.h";
        let Ok(text) = std::fs::read_to_string(file) else {
            println!("skipped: no {file}");
            return;
        };
        let mut seen = 0;
        for line in text.lines() {
            let Some((name, value)) = line.strip_prefix("#define __NR_").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let Ok(value) = value.trim().parse::<u32>() else { continue };
            if let Some(ours) = find(name).and_then(|call| call.number(Arch::Aarch64)) {
                assert_eq!(ours, value, "{name} in {file}");
                seen += 1;
            }
        }
        assert!(seen > 250, "{file} was not understood: {seen}");
    }
}
