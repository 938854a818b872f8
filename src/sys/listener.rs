//! Handing a seccomp listener to the parent, by a process that the filter may hold up at any call: sendmsg(2), close(2), recvmsg(2), and
//! where not even these are granted, userfaultfd(2) and a thread.
//!
//! A filter holds for the thread that installs it. So another thread, made before, is free to call what it likes; the question is how the
//! filtered one tells it without a call. It touches a page that is not there: the kernel stops it and wakes who reads from
//! the userfaultfd, and lets it go on when that descriptor is closed. Nobody spins, nobody sleeps.
//!
//! *Rejected:* pidfd_getfd(2) in the parent. It asks for the right to trace, which the parent of an `exec` gave up with the
//! host's user namespace (EPERM), and which Yama may refuse to everybody. *Rejected:* another process that shares the table of descriptors:
//! it can be killed alone, and then both wait forever; a thread lives and dies with its process.

use super::{Called, Result, check};
use nix::errno::Errno;
use std::arch::asm;
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// Sends `letter` with the listener through `wire`, and closes the listener: two system calls, and no memory but the stack.
///
/// Our copy must go: as long as one is open, a call that is held up waits for an answer, even if the agent has left.
pub fn deliver(wire: BorrowedFd<'_>, letter: u8, listener: OwnedFd) -> nix::Result<()> {
    send_and_close(wire.as_raw_fd(), letter, listener.into_raw_fd())
}

/// Waits for the answer to it: a message of `letter` alone. Anything else, and the end, is `EPROTO`. One call, no memory.
pub fn await_answer(wire: BorrowedFd<'_>, letter: u8) -> nix::Result<()> {
    hear(wire.as_raw_fd(), letter)
}

fn send_and_close(wire: RawFd, mut letter: u8, listener: RawFd) -> nix::Result<()> {
    /// A `cmsghdr` with one descriptor behind it, as CMSG_SPACE(3) lays it out.
    #[repr(C)]
    struct Rights {
        header: libc::cmsghdr,
        listener: RawFd,
        _end: u32,
    }
    // SAFETY: a plain structure of the kernel's, for which zero is a value, also in what musl pads it with.
    let mut rights: Rights = unsafe { std::mem::zeroed() };
    // SAFETY: arithmetic on a constant.
    rights.header.cmsg_len = unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as _;
    rights.header.cmsg_level = libc::SOL_SOCKET;
    rights.header.cmsg_type = libc::SCM_RIGHTS;
    rights.listener = listener;
    let mut bytes = libc::iovec { iov_base: (&raw mut letter).cast(), iov_len: 1 };
    let mut message = message(&mut bytes);
    message.msg_control = (&raw mut rights).cast();
    message.msg_controllen = size_of::<Rights>() as _;
    // SAFETY: `message` points to one byte and to one whole control message, which live on this stack until the call returns.
    let sent = check(unsafe { libc::syscall(libc::SYS_sendmsg, wire, &raw const message, libc::MSG_NOSIGNAL) });
    // SAFETY: the caller gave the descriptor away; nobody else in this process uses its number.
    unsafe { libc::syscall(libc::SYS_close, listener) };
    sent.map(drop)
}

fn hear(wire: RawFd, letter: u8) -> nix::Result<()> {
    let mut heard = 0u8;
    let mut bytes = libc::iovec { iov_base: (&raw mut heard).cast(), iov_len: 1 };
    let mut message = message(&mut bytes);
    // SAFETY: `message` points to one byte, which lives on this stack until the call returns.
    let length = check(unsafe { libc::syscall(libc::SYS_recvmsg, wire, &raw mut message, 0) })?;
    if length == 1 && heard == letter { Ok(()) } else { Err(Errno::EPROTO) }
}

/// A message without control data.
fn message(bytes: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: a plain structure of the kernel's, for which zero is a value, also in what musl pads it with.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = bytes;
    message.msg_iovlen = 1;
    message
}

/// Ends this process without a system call, which might be held up: by an instruction that there is not, SIGILL.
pub fn trap() -> ! {
    // SAFETY: the instruction raises an exception and is never passed.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("ud2", options(noreturn))
    }
    // SAFETY: the same.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("udf #0", options(noreturn))
    }
}

/// A thread of this process, outside of the filter, that waits to [`deliver`] a listener and to hear the answer.
#[derive(Debug)]
pub struct Messenger {
    shared: *const Shared,
}

/// What is said, and what is answered.
#[derive(Clone, Copy, Debug)]
pub struct Letters {
    /// With the listener.
    pub listener: u8,
    /// When it is where it belongs.
    pub answer: u8,
}

/// What both threads know. Never freed: execve takes it away with everything else.
#[derive(Debug)]
struct Shared {
    /// Registered with the userfaultfd, and never touched before the delivery.
    page: *const u8,
    faults: RawFd,
    wire: RawFd,
    letters: Letters,
    listener: AtomicI32,
}

/// `struct uffdio_api` of linux/userfaultfd.h.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_API: u64 = 0xaa;
// _IOWR(0xaa, 0x3f, struct uffdio_api) and _IOWR(0xaa, 0x00, struct uffdio_register).
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
/// Enough for a read and a sendmsg.
const STACK: usize = 64 << 10;

impl Messenger {
    /// Makes the thread. `wire` stays the caller's, and must stay open until the delivery.
    pub fn new(wire: BorrowedFd<'_>, letters: Letters) -> Result<Messenger> {
        let page = memory(page_size())?;
        let flags = libc::O_CLOEXEC | UFFD_USER_MODE_ONLY;
        // SAFETY: takes flags and returns a new descriptor.
        let faults = check(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) })
            .called(|| "userfaultfd(O_CLOEXEC|UFFD_USER_MODE_ONLY)".into())?;
        // SAFETY: the kernel has just made this descriptor for us.
        let faults = unsafe { OwnedFd::from_raw_fd(faults as RawFd) };
        let mut api = Api { api: UFFD_API, features: 0, ioctls: 0 };
        // SAFETY: reads and writes the 24 bytes that the number of the request names.
        check(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_API as _, &raw mut api) }.into())
            .called(|| "ioctl(UFFDIO_API)".into())?;
        let mut register = Register {
            start: page.addr() as u64,
            length: page_size() as u64,
            mode: UFFDIO_REGISTER_MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: reads and writes the 32 bytes of `register`; the range is the page that was just mapped.
        check(unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_REGISTER as _, &raw mut register) }.into())
            .called(|| "ioctl(UFFDIO_REGISTER)".into())?;
        let stack = memory(STACK)?;
        let shared = Box::leak(Box::new(Shared {
            page,
            faults: faults.into_raw_fd(),
            wire: wire.as_raw_fd(),
            letters,
            listener: AtomicI32::new(-1),
        }));
        // SAFETY: the stack is fresh memory of that size, used by this thread alone, and neither it nor `shared` is ever freed.
        check(unsafe { thread(stack.add(STACK), shared) } as libc::c_long).called(|| "clone(CLONE_THREAD)".into())?;
        Ok(Messenger { shared })
    }

    /// Gives it the listener, without a system call. It is delivered by [`Messenger::wait`].
    pub fn take(&self, listener: OwnedFd) {
        // SAFETY: it was leaked in `new`, so it lives on.
        unsafe { &*self.shared }.listener.store(listener.into_raw_fd(), Ordering::Release);
    }

    /// Has the thread deliver it, without a system call of this one. Returns when the answer is there; if none comes, the process ends.
    pub fn wait(self) {
        // SAFETY: it was leaked in `new`; the page is mapped for reading, and the kernel holds this thread here until the other one has
        // closed the userfaultfd.
        unsafe { (*self.shared).page.read_volatile() };
    }
}

/// What the thread does. While it does more than wait, the other one is held in its page fault: never do both use errno.
extern "C" fn wait_and_deliver(shared: *const Shared) -> ! {
    // SAFETY: leaked by the thread that made this one.
    let shared = unsafe { &*shared };
    // struct uffd_msg; what it says is known: there is one page.
    let mut event = [0u64; 4];
    // SAFETY: writes at most those 32 bytes, which live until the call returns.
    let read = unsafe { libc::syscall(libc::SYS_read, shared.faults, event.as_mut_ptr(), size_of_val(&event)) };
    let listener = shared.listener.load(Ordering::Acquire);
    let letters = shared.letters;
    let done = read as usize == size_of_val(&event)
        && send_and_close(shared.wire, letters.listener, listener).is_ok()
        && hear(shared.wire, letters.answer).is_ok();
    if !done {
        super::process::exit_now(1);
    }
    // SAFETY: nobody else has this descriptor: closing it lets the other thread go on, with a page of zeros. Then this thread ends, alone.
    unsafe {
        libc::syscall(libc::SYS_close, shared.faults);
        libc::syscall(libc::SYS_exit, 0);
    }
    trap()
}

fn page_size() -> usize {
    // SAFETY: takes a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// Fresh memory that is never given back.
fn memory(length: usize) -> Result<*mut u8> {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping where the kernel finds room.
    let found = unsafe { libc::mmap(std::ptr::null_mut::<c_void>(), length, access, kind, -1, 0) };
    let found = if found == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(found.cast()) };
    found.called(|| format!("mmap({length})"))
}

const THREAD: libc::c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM;

/// clone(2) of a thread that runs [`wait_and_deliver`] on a stack of its own. The libc does not hear of it: its threads make setresuid a
/// matter of signals between them, and its clone() refuses to make others.
///
/// # Safety
///
/// `stack_end` is the end of memory, aligned to 16 bytes, that nobody else uses, and `shared` is valid; both forever.
#[cfg(target_arch = "x86_64")]
unsafe fn thread(stack_end: *mut u8, shared: *const Shared) -> isize {
    let made;
    // SAFETY: the old thread goes on behind the label with all its registers but the result and the two that `syscall` changes; the new
    // one finds its own in them, and never comes back from the function that it calls.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {shared}",
            "call {run}",
            "ud2",
            "2:",
            shared = in(reg) shared,
            run = in(reg) wait_and_deliver as extern "C" fn(*const Shared) -> !,
            inlateout("rax") libc::SYS_clone as isize => made,
            in("rdi") THREAD as isize,
            in("rsi") stack_end,
            in("rdx") 0,
            in("r10") 0,
            in("r8") 0,
            out("rcx") _,
            out("r11") _,
        );
    }
    errno_of(made)
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn thread(stack_end: *mut u8, shared: *const Shared) -> isize {
    let made;
    // SAFETY: as above; `svc` changes the result alone.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {shared}",
            "blr {run}",
            "udf #0",
            "2:",
            shared = in(reg) shared,
            run = in(reg) wait_and_deliver as extern "C" fn(*const Shared) -> !,
            in("x8") libc::SYS_clone,
            inlateout("x0") THREAD as isize => made,
            in("x1") stack_end,
            in("x2") 0,
            in("x3") 0,
            in("x4") 0,
        );
    }
    errno_of(made)
}

/// The kernel's own result, -errno, as the libc has it.
fn errno_of(returned: isize) -> isize {
    if returned < 0 {
        Errno::set_raw(-returned as i32);
        return -1;
    }
    returned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::os::fd::AsFd;

    const LETTERS: Letters = Letters { listener: b'F', answer: b'A' };

    /// A socket in place of a listener: it arrives, and when the receiver lets go of it, its peer hears the end: no copy is left.
    fn delivered(how: fn(BorrowedFd<'_>, OwnedFd)) {
        let (ours, theirs) = socket::pair().expect("a pair");
        let (peer, listener) = socket::pair().expect("a pair");
        // Answered beforehand: there is nobody to do it meanwhile.
        socket::send(&ours, b"A", None).expect("sent");
        how(theirs.as_fd(), listener);
        let message = socket::receive(&ours).expect("a message").expect("not the end");
        assert_eq!(message.bytes, b"F");
        let received = message.fd.expect("a descriptor");
        socket::send(&received, b"alive", None).expect("sent");
        assert_eq!(socket::receive(&peer).expect("a message").expect("not the end").bytes, b"alive");
        drop(received);
        assert!(socket::receive(&peer).expect("an end").is_none(), "a copy is left");
        // The answer was taken.
        drop(ours);
        assert!(socket::receive(&theirs).expect("an end").is_none());
    }

    #[test]
    fn a_listener_is_delivered_and_closed() {
        delivered(|wire, listener| {
            deliver(wire, LETTERS.listener, listener).expect("delivered");
            await_answer(wire, LETTERS.answer).expect("answered");
        });
    }

    #[test]
    fn a_messenger_delivers_it_for_who_may_not_call() {
        delivered(|wire, listener| {
            let messenger = Messenger::new(wire, LETTERS).expect("a thread");
            messenger.take(listener);
            messenger.wait();
        });
    }

    #[test]
    fn only_the_answer_is_one() {
        let (ours, theirs) = socket::pair().expect("a pair");
        socket::send(&ours, b"G", None).expect("sent");
        assert_eq!(await_answer(theirs.as_fd(), b'A'), Err(Errno::EPROTO));
        drop(ours);
        assert_eq!(await_answer(theirs.as_fd(), b'A'), Err(Errno::EPROTO));
    }

    #[test]
    fn the_instruction_that_there_is_not_ends_the_process() {
        let test = "sys::listener::tests::the_instruction_that_there_is_not_ends_the_process";
        if crate::sys::alone::is_alone() {
            trap();
        }
        let output = crate::sys::alone::command(test).output().expect("another process");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(libc::SIGILL));
    }
}
