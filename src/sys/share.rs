//! Memory that both sides of the clone see: mmap(2) with `MAP_SHARED|MAP_ANONYMOUS`.
//!
//! A plain fork copies all memory of its parent, and neither sees what the other writes. Pages that were mapped shared before stay one
//! and the same, so a number can be told without a system call: a store here, a load there. By hand: `grep zero /proc/PID/maps`.

use super::check;
use std::sync::atomic::AtomicU64;

/// This many numbers, all zero, for as long as the process and its children live.
pub fn numbers(count: usize) -> nix::Result<&'static [AtomicU64]> {
    let length = count.max(1) * size_of::<AtomicU64>();
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: asks for new memory at a place of the kernel's choice; nothing that exists is changed.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
    check(place as libc::c_long)?;
    // SAFETY: the kernel has just mapped `length` bytes there, page-aligned and zero, which is a valid number; nobody unmaps them, and
    // whoever else writes to them does so through the same type.
    Ok(unsafe { std::slice::from_raw_parts(place.cast(), count) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{Parent, Side, clone3, exit_now, wait};
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn a_child_tells_without_a_call() {
        let shared = numbers(1000).unwrap();
        match clone3(0, None, Parent::Caller).unwrap() {
            Side::Child => {
                shared[999].store(7, Relaxed);
                exit_now(0)
            }
            Side::Parent { pidfd, .. } => wait(pidfd).unwrap(),
        };
        assert_eq!((shared[0].load(Relaxed), shared[999].load(Relaxed)), (0, 7));
    }
}
