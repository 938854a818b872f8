//! Descriptors whose use is over, closed together.
//!
//! What the kernel offers: close_range(2) closes all numbers of a range in one call. By hand: `strace -e trace=close_range corten run web`.
//!
//! What we do: who is done with a descriptor hands it over here instead of closing it. They are closed when there are 64 of them,
//! where none may be left open (before the clone, before the wait for `start`), and in a run's first process not at all: each is close-on-exec.
//!
//! What goes wrong: what is still open can still be used, also by somebody who gets hold of this process. So nothing is spent here that
//! leads to what the container does not have: such a descriptor (a directory of the host, a file of a cgroup in the child) is closed at once.

use super::check;
use std::cell::RefCell;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// As many are left open at most: more than an ordinary run has, and far below the usual limit of 1024.
const MOST: usize = 64;

/// Descriptors that nobody uses any more. Dropped, they are closed; execve and exit do that themselves.
#[derive(Debug, Default)]
pub struct Spent(RefCell<Vec<OwnedFd>>);

impl Spent {
    /// Takes one over.
    pub fn take(&self, fd: impl Into<OwnedFd>) {
        self.0.borrow_mut().push(fd.into());
        if self.0.borrow().len() >= MOST {
            self.close();
        }
    }

    /// Takes several over.
    pub fn take_all(&self, fds: impl IntoIterator<Item = OwnedFd>) {
        fds.into_iter().for_each(|fd| self.take(fd));
    }

    /// Takes several over and closes all at once.
    pub fn close_with(&self, fds: impl IntoIterator<Item = OwnedFd>) {
        self.0.borrow_mut().extend(fds);
        self.close();
    }

    /// Closes all, with one call for each row of neighbouring numbers.
    pub fn close(&self) {
        let mut numbers: Vec<RawFd> = self.0.take().into_iter().map(IntoRawFd::into_raw_fd).collect();
        numbers.sort_unstable();
        for row in numbers.chunk_by(|one, next| one + 1 == *next) {
            close_row(row);
        }
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        self.close();
    }
}

/// Closes neighbours, which the caller owns.
fn close_row(row: &[RawFd]) {
    if let [first, .., last] = row {
        // SAFETY: three integers; every number of the range is in `row`, whose descriptors the caller has given up.
        let closed = check(unsafe { libc::syscall(libc::SYS_close_range, *first, *last, 0) });
        if closed.is_ok() {
            return;
        }
    }
    // One alone; or an outer filter does not know the call.
    for number in row {
        // SAFETY: the caller has given this descriptor up and nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(*number) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::alone;
    use crate::sys::{file, is_open};
    use nix::fcntl::OFlag;
    use std::os::fd::AsRawFd;

    fn some() -> OwnedFd {
        file::open("/", OFlag::O_PATH).unwrap()
    }

    #[test]
    fn exactly_what_was_handed_over_is_closed() {
        // Alone: another thread might take a number that has just become free.
        alone("sys::spent::tests::exactly_what_was_handed_over_is_closed", || {
            let spent = Spent::default();
            let (mut kept, mut gone) = (Vec::new(), Vec::new());
            for at in 0..MOST - 1 {
                let fd = some();
                if at % 5 == 2 {
                    kept.push(fd);
                } else {
                    gone.push(fd.as_raw_fd() as u32);
                    spent.take(fd);
                }
            }
            assert!(gone.iter().all(|number| is_open(*number)));
            spent.close();
            assert!(!gone.iter().any(|number| is_open(*number)));
            assert!(kept.iter().all(|fd| is_open(fd.as_raw_fd() as u32)));
            spent.close();

            let number = {
                let spent = Spent::default();
                let fd = some();
                let number = fd.as_raw_fd() as u32;
                spent.close_with([]);
                spent.take(fd);
                assert!(is_open(number));
                number
            };
            assert!(!is_open(number), "closed when dropped");
        });
    }

    #[test]
    fn not_many_are_left_open() {
        let spent = Spent::default();
        for _ in 0..5 * MOST {
            spent.take(some());
            assert!(spent.0.borrow().len() < MOST);
        }
    }
}
