//! A child that is lent its parent's memory: clone3(2) with `CLONE_VM|CLONE_VFORK`, as vfork(2) makes one.
//!
//! **What the kernel offers.** A plain fork copies the tables of all pages, afterwards each page is copied that either side writes to, and the child
//! meets page faults for code that the parent has mapped long ago; execve throws all of it away. With `CLONE_VM` there is one memory for
//! both, and with `CLONE_VFORK` the parent stands still until the child has executed its program or has ended. So nobody meets the other in it.
//! Tables of descriptors, directories, rights, signals and namespaces are each one's own, as with a fork. By hand: `strace -f corten exec web true`.
//!
//! **What we do.** The child goes on below the parent's frames on the same stack and never comes back into them. What it is given is a copy, bit by bit, of
//! what the parent holds: so it may take things out of it without the parent missing them. What lies behind pointers they have in common,
//! and therefore nothing is freed as long as the memory is lent ([`alloc::lend`]).
//!
//! **What goes wrong.** Who can trace the child can write to the parent's memory. Hence not for a child that a process with `CAP_SYS_PTRACE` can see.
//! A child that waits for a word of its parent waits forever: `plan/laws.rs` forbids it. The out-of-memory killer takes both: a parent that
//! has more to undo than `exec` must not do this.

use super::process::CloneArgs;
use super::{Called, Result, alloc};
use nix::errno::Errno;
use std::arch::asm;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What the child finds.
#[repr(C)]
struct Lent<'a, T, B> {
    given: *const T,
    beside: &'a B,
    child: fn(T, &B) -> !,
}

/// Makes a child that runs `child` with a copy of `given`, in the cgroup2 directory `cgroup` if there is one, and waits until it has executed
/// its program or ended. The pid, and a descriptor of the process.
///
/// The caller must be single-threaded, and its allocator [`alloc::Arena`]. What the child changes behind pointers of `given` is changed for the parent too: it may take out of lists what
/// it will, and put nothing into what is ordered.
pub fn clone3<T, B>(
    cgroup: Option<BorrowedFd<'_>>,
    given: &T,
    beside: &B,
    child: fn(T, &B) -> !,
) -> Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs::new((libc::CLONE_VM | libc::CLONE_VFORK) as u64, cgroup, &mut pidfd);
    let lent = Lent { given, beside, child };
    alloc::lend(true);
    // SAFETY: `args`, `pidfd` and `lent` outlive the call; the child has ended or left this memory when it returns.
    let made = unsafe { call(&raw mut args, &raw const lent) };
    alloc::lend(false);
    match made {
        // SAFETY: the kernel has just stored a new descriptor there, which nobody else owns.
        pid if pid > 0 => Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
        failed => Err(Errno::from_raw(-failed as i32)).called(|| "clone3(VM|VFORK)".into()),
    }
}

/// The child's side.
extern "C" fn begin<T, B>(lent: *const Lent<'_, T, B>) -> ! {
    // SAFETY: the parent's, who stands still. Of the two values of `given` the child's is never dropped, as `child` does not return; the
    // parent's is whole: nothing behind its pointers is freed meanwhile.
    let Lent { given, beside, child } = unsafe { lent.read() };
    // SAFETY: as above.
    child(unsafe { given.read() }, beside)
}

/// The call, raw, as the libc's wrapper would return twice on one stack. The pid, or minus the errno.
///
/// # Safety
///
/// `args` asks for `CLONE_VM|CLONE_VFORK` and no stack; all pointers are valid until the child has left.
#[cfg(target_arch = "x86_64")]
unsafe fn call<T, B>(args: *mut CloneArgs, lent: *const Lent<'_, T, B>) -> isize {
    let made;
    // SAFETY: the parent goes on behind the label with all its registers but the result and the two that `syscall` changes. The child has the same
    // stack pointer: it writes below, where nothing of the parent's is, and never comes back from the function that it calls.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {lent}",
            "call {begin}",
            "ud2",
            "2:",
            lent = in(reg) lent,
            begin = in(reg) begin::<T, B> as extern "C" fn(*const Lent<'_, T, B>) -> !,
            inlateout("rax") libc::SYS_clone3 as isize => made,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    made
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn call<T, B>(args: *mut CloneArgs, lent: *const Lent<'_, T, B>) -> isize {
    let made;
    // SAFETY: as above; `svc` changes the result alone.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, {lent}",
            "blr {begin}",
            "udf #0",
            "2:",
            lent = in(reg) lent,
            begin = in(reg) begin::<T, B> as extern "C" fn(*const Lent<'_, T, B>) -> !,
            in("x8") libc::SYS_clone3,
            inlateout("x0") args as isize => made,
            in("x1") size_of::<CloneArgs>(),
        );
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::alone;
    use crate::sys::process::{End, exit_now, wait};
    use std::cell::Cell;

    /// What a parent may hold.
    struct Given {
        list: Vec<String>,
        end: Option<OwnedFd>,
    }

    #[test]
    fn the_parent_finds_what_it_held_and_what_it_was_told() {
        alone("sys::lend::tests::the_parent_finds_what_it_held_and_what_it_was_told", || {
            let (ours, theirs) = crate::sys::socket::pair().unwrap();
            let given = Given { list: vec!["one".into(), "two".into()], end: Some(theirs) };
            let told = Cell::new(0);
            let (pid, pidfd) = clone3(None, &given, &told, |mut given, told| {
                // Taken out here: it is still there in the parent. Not freed, for tests have the system's allocator.
                let taken = std::mem::take(&mut given.list);
                drop(given.end.take());
                told.set(taken.len());
                std::mem::forget(taken);
                exit_now(7)
            })
            .unwrap();
            assert_eq!((&given.list[..], told.get()), (&["one".to_owned(), "two".to_owned()][..], 2));
            assert!(pid > 0);
            assert_eq!(wait(pidfd), Ok(End::Exited(7)));
            // The child has closed its own copy of the descriptor.
            crate::sys::socket::send(given.end.as_ref().unwrap(), b"still", None).unwrap();
            assert_eq!(crate::sys::socket::receive(&ours).unwrap().unwrap().bytes, b"still");
        });
    }

    #[test]
    fn a_child_that_dies_lets_its_parent_go_on() {
        alone("sys::lend::tests::a_child_that_dies_lets_its_parent_go_on", || {
            let (_, pidfd) = clone3(None, &(), &(), |(), ()| {
                // SAFETY: a signal to itself.
                unsafe { libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), libc::SIGKILL) };
                exit_now(1)
            })
            .unwrap();
            assert_eq!(wait(pidfd), Ok(End::Killed(libc::SIGKILL)));
        });
    }
}
