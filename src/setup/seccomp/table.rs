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
//! them: 483 `&str` would be relocated at every start of a static-pie program, whether it has a filter or not. The compiler of
//! this program has worked out two ways into them: from a name by its hash ([`find`]), and by ascending number ([`by_number`]).
//!
//! What goes wrong: x86 has two doors to the same call. Before Linux 4.3, `socket` was only `socketcall(1, args)`, and System V ipc
//! only `ipc(n, …)`; a filter that closes one door and forgets the other closes nothing. See [`door`].

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

/// How many calls there are.
pub const COUNT: usize = calls::NUMBERS.len();

/// Rows by the hash of their name, or [`NONE`]. Two places for each name, and who finds his taken goes to the next.
static PLACES: [u16; PLACE_COUNT] = {
    let mut places = [NONE; PLACE_COUNT];
    let mut row = 0;
    while row < COUNT {
        let mut at = hash(calls::NAMES.as_bytes(), STARTS[row] as usize, STARTS[row + 1] as usize - 1);
        while places[at] != NONE {
            at = (at + 1) % PLACE_COUNT;
        }
        places[at] = row as u16;
        row += 1;
    }
    places
};

const PLACE_COUNT: usize = 1024;

/// Where to look first for the name that lies there in a text.
const fn hash(text: &[u8], mut at: usize, end: usize) -> usize {
    let mut mixed = 0_u32;
    while at < end {
        mixed = (mixed ^ text[at] as u32).wrapping_mul(0x9e37_79b1);
        at += 1;
    }
    (mixed >> 22) as usize % PLACE_COUNT
}

/// The rows that an architecture has, by ascending number, for each column.
static ORDER: [[u16; COUNT]; 5] = {
    let mut order = [[NONE; COUNT]; 5];
    let mut column = 0;
    while column < 5 {
        // By a raw number, of which the private ones of arm come last in either form.
        let mut rows = [NONE; RAW];
        let mut row = 0;
        while row < COUNT {
            let raw = calls::NUMBERS[row][column];
            if raw != NONE {
                rows[raw_place(raw)] = row as u16;
            }
            row += 1;
        }
        let (mut raw, mut at) = (0, 0);
        while raw < RAW {
            if rows[raw] != NONE {
                order[column][at] = rows[raw];
                at += 1;
            }
            raw += 1;
        }
        column += 1;
    }
    order
};

/// More than the greatest ordinary number, and 256 for arm's private ones.
const RAW: usize = 1024;

const fn raw_place(raw: u16) -> usize {
    if raw < ARM_PRIVATE { raw as usize } else { RAW - 256 + (raw & 0xff) as usize }
}

/// From here on a number of the table stands for one of arm's private range.
const ARM_PRIVATE: u16 = 0xff00;

/// A name that at least one of our architectures has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call(u16);

/// Finds a system call by its name.
pub fn find(name: &str) -> Option<Call> {
    let mut at = hash(name.as_bytes(), 0, name.len());
    loop {
        match PLACES[at] {
            NONE => return None,
            row if Call(row).name() == name => return Some(Call(row)),
            _ => at = (at + 1) % PLACE_COUNT,
        }
    }
}

/// The calls of an architecture by ascending number.
pub fn by_number(arch: Arch) -> impl DoubleEndedIterator<Item = Call> {
    let rows = &ORDER[column(arch)];
    rows[..rows.partition_point(|&row| row != NONE)].iter().map(|&row| Call(row))
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

    /// Which one it is of [`COUNT`].
    pub fn row(self) -> usize {
        self.0 as usize
    }

    /// Its number as the kernel shows it to a filter, with [`X32_BIT`] for x32; `None` where the architecture lacks it.
    pub fn number(self, arch: Arch) -> Option<u32> {
        match calls::NUMBERS[self.0 as usize][column(arch)] {
            NONE => None,
            n if arch == Arch::X32 => Some(n as u32 | X32_BIT),
            n if n >= ARM_PRIVATE => Some(0xf_0000 | (n as u32 & 0xff)),
            n => Some(n as u32),
        }
    }
}

fn column(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
        Arch::Aarch64 => 3,
        Arch::Arm => 4,
    }
}

/// The other door of x86, a call through which this one can be made too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    /// `socketcall` or `ipc`.
    pub through: Call,
    /// What its first argument says for this call.
    pub first: u8,
}

/// Calls that have two doors. From `include/uapi/linux/net.h` (`SYS_SOCKET`…) and `include/uapi/linux/ipc.h` (`SEMOP`…).
const MULTIPLEXED: [(&str, &str, u8); 32] = [
    ("socket", "socketcall", 1),
    ("bind", "socketcall", 2),
    ("connect", "socketcall", 3),
    ("listen", "socketcall", 4),
    ("accept", "socketcall", 5),
    ("getsockname", "socketcall", 6),
    ("getpeername", "socketcall", 7),
    ("socketpair", "socketcall", 8),
    ("send", "socketcall", 9),
    ("recv", "socketcall", 10),
    ("sendto", "socketcall", 11),
    ("recvfrom", "socketcall", 12),
    ("shutdown", "socketcall", 13),
    ("setsockopt", "socketcall", 14),
    ("getsockopt", "socketcall", 15),
    ("sendmsg", "socketcall", 16),
    ("recvmsg", "socketcall", 17),
    ("accept4", "socketcall", 18),
    ("recvmmsg", "socketcall", 19),
    ("sendmmsg", "socketcall", 20),
    ("semop", "ipc", 1),
    ("semget", "ipc", 2),
    ("semctl", "ipc", 3),
    ("semtimedop", "ipc", 4),
    ("msgsnd", "ipc", 11),
    ("msgrcv", "ipc", 12),
    ("msgget", "ipc", 13),
    ("msgctl", "ipc", 14),
    ("shmat", "ipc", 21),
    ("shmdt", "ipc", 22),
    ("shmget", "ipc", 23),
    ("shmctl", "ipc", 24),
];

/// For each row its door: the row of the other call, and the first argument.
static DOORS: [(u16, u8); COUNT] = {
    let mut doors = [(NONE, 0); COUNT];
    let mut at = 0;
    while at < MULTIPLEXED.len() {
        let (name, through, first) = MULTIPLEXED[at];
        doors[row_of(name) as usize] = (row_of(through), first);
        at += 1;
    }
    doors
};

/// [`find`] while this program is compiled. A name that the table lacks stops that.
const fn row_of(name: &str) -> u16 {
    let (names, name) = (calls::NAMES.as_bytes(), name.as_bytes());
    let mut row = 0;
    loop {
        let start = STARTS[row] as usize;
        let mut same = 0;
        while same < name.len() && names[start + same] == name[same] {
            same += 1;
        }
        if same == name.len() && names[start + same] == b'\n' {
            return row as u16;
        }
        row += 1;
    }
}

/// The other door of x86, if this call has one.
pub fn door(call: Call) -> Option<Door> {
    let (through, first) = DOORS[call.row()];
    (through != NONE).then_some(Door { through: Call(through), first })
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
        assert!(names.windows(2).all(|w| w[0] < w[1]), "not sorted by bytes");
        assert!(all().all(|call| find(call.name()) == Some(call)));
        assert_eq!((find(""), find("zzz"), find("open "), find("ope")), (None, None, None, None));
    }

    #[test]
    fn calls_come_by_number() {
        for arch in ARCHES {
            let mut numbers: Vec<_> = all().filter_map(|call| call.number(arch)).collect();
            numbers.sort();
            let found: Vec<_> = by_number(arch).map(|call| call.number(arch).unwrap()).collect();
            assert_eq!(found, numbers, "{arch:?}");
        }
    }

    #[test]
    fn doors_are_found() {
        let doors = all().filter_map(|call| door(call).map(|door| (call.name(), door.through.name(), door.first)));
        let mut all: Vec<_> = MULTIPLEXED.to_vec();
        all.sort();
        assert_eq!(doors.collect::<Vec<_>>(), all);
        assert_eq!(door(find("shmctl").unwrap()), Some(Door { through: find("ipc").unwrap(), first: 24 }));
        assert_eq!([102, 117], ["socketcall", "ipc"].map(|name| find(name).unwrap().number(Arch::X86).unwrap()));
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
