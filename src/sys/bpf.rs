//! bpf(2), as much as a device program of a version-2 cgroup needs: load, attach, replace, detach, ask what is attached.
//!
//! nix has nothing of bpf(2). Every call passes a `union bpf_attr`, of which the kernel reads as many bytes as it is told and
//! takes the rest for zero; so each command has its own small structure here, in the layout of `linux/bpf.h`.

use super::{Called, Result, check};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_TYPE_CGROUP_DEVICE: u32 = 6;

/// The programs of one cgroup stand beside each other, and sub-cgroups may add theirs: a device must pass all of them.
const ALLOW_MULTI: u32 = 1 << 1;
/// The new program takes the place of one that is attached, with no moment between.
const REPLACE: u32 = 1 << 2;

/// How many attached programs are looked at. The kernel itself allows 64 in one cgroup (`BPF_CGROUP_MAX_PROGS`).
const MOST_PROGRAMS: usize = 64;

/// One eBPF instruction, `struct bpf_insn` of `linux/bpf.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Class, operation and operand kind.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four (little-endian machines).
    pub registers: u8,
    /// Jump distance in instructions, or offset in memory.
    pub offset: i16,
    /// Constant operand.
    pub immediate: i32,
}

#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// One bpf(2).
///
/// # Safety
///
/// `A` is laid out as the kernel expects it for `command`, and every address within it is good for the length beside it.
unsafe fn bpf<A>(command: libc::c_int, attributes: &mut A) -> nix::Result<libc::c_long> {
    // SAFETY: the pointer and the size describe the same value; what it holds is the caller's word.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) })
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
///
/// RLIMIT_MEMLOCK is not raised: since Linux 5.11 programs count as the cgroup's memory, and raising a hard limit would need a
/// right that a runtime inside a container does not have. Without a log at first, because the log is what makes loading
/// slow; the verifier's words are asked for in a second call when it refused.
pub fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd> {
    match load(instructions, &mut []) {
        Ok(program) => Ok(program),
        Err(errno @ (Errno::EINVAL | Errno::EACCES | Errno::E2BIG)) => {
            let mut log = vec![0u8; 64 << 10];
            let second = load(instructions, &mut log);
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            let words = String::from_utf8_lossy(&log[..end]);
            let last = words.lines().rfind(|line| !line.is_empty() && !line.starts_with("processed ")).unwrap_or("");
            let failure = second.or(Err(errno)).called(|| load_call(instructions));
            failure
                .map_err(|f| if last.is_empty() { f } else { f.because(format!("the kernel's verifier says: {last}")) })
        }
        Err(errno) => Err(errno).called(|| load_call(instructions)).map_err(|failure| match errno {
            Errno::EPERM => failure.because("loading a device program needs CAP_BPF and CAP_NET_ADMIN on the host"),
            _ => failure,
        }),
    }
}

/// The call as `explain` and errors show it.
fn load_call(instructions: &[Instruction]) -> String {
    format!("bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions)", instructions.len())
}

fn load(instructions: &[Instruction], log: &mut [u8]) -> nix::Result<OwnedFd> {
    let mut attributes = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: if log.is_empty() { 0 } else { 1 },
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"corten_devices\0\0",
    };
    // SAFETY: `Load` is the layout of BPF_PROG_LOAD up to prog_name; the three addresses are those of slices and a literal
    // that outlive the call, and the counts are their lengths.
    let mut load = || unsafe { bpf(PROG_LOAD, &mut attributes) };
    // The verifier gives up when a signal is pending, be it blocked or one that only stops and continues us.
    let fd = (0..5)
        .find_map(|_| load().map_or_else(|errno| (errno != Errno::EAGAIN).then_some(Err(errno)), |fd| Some(Ok(fd))));
    let fd = fd.unwrap_or(Err(Errno::EAGAIN))?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor (close-on-exec, as all of bpf's are) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches a device program to the cgroup at `directory`; with `replaced`, in the place of that one and without a gap.
pub fn attach_device_program(
    directory: BorrowedFd,
    program: BorrowedFd,
    replaced: Option<BorrowedFd>,
) -> nix::Result<()> {
    let mut attributes = Attach {
        target_fd: directory.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 },
        replace_bpf_fd: replaced.map_or(0, |old| old.as_raw_fd() as u32),
    };
    // SAFETY: `Attach` is the layout of BPF_PROG_ATTACH up to replace_bpf_fd, and holds numbers only.
    unsafe { bpf(PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Detaches a device program from the cgroup at `directory`.
pub fn detach_device_program(directory: BorrowedFd, program: BorrowedFd) -> nix::Result<()> {
    let mut attributes = Attach {
        target_fd: directory.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        attach_flags: 0,
        replace_bpf_fd: 0,
    };
    // SAFETY: as in `attach_device_program`; the kernel reads the same structure for BPF_PROG_DETACH.
    unsafe { bpf(PROG_DETACH, &mut attributes) }.map(drop)
}

/// The ids of the device programs that are attached to the cgroup at `directory` itself, its ancestors' left out.
pub fn attached_device_programs(directory: BorrowedFd) -> nix::Result<Vec<u32>> {
    let mut ids = [0u32; MOST_PROGRAMS];
    let mut attributes = Query {
        target_fd: directory.as_raw_fd() as u32,
        attach_type: ATTACH_TYPE_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MOST_PROGRAMS as u32,
        reserved: 0,
    };
    // SAFETY: `Query` is the layout of BPF_PROG_QUERY up to prog_cnt and its padding; prog_ids is the address of an array
    // of prog_cnt u32 that lives until after the call.
    unsafe { bpf(PROG_QUERY, &mut attributes) }?;
    Ok(ids[..(attributes.prog_cnt as usize).min(MOST_PROGRAMS)].to_vec())
}

/// A descriptor of the loaded program with this id. Needs CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    let mut attributes = ById { prog_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: `ById` is the layout of BPF_PROG_GET_FD_BY_ID, and holds numbers only.
    let fd = unsafe { bpf(PROG_GET_FD_BY_ID, &mut attributes) }?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
