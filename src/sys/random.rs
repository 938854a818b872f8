//! Random bytes of the kernel, getrandom(2). No file is opened, so it works where there is no /dev.

use super::check;
use nix::errno::Errno;

/// Fills a buffer of 256 bytes or less; larger ones piece by piece. Waits, early at boot, until the kernel has gathered enough.
pub fn fill(buffer: &mut [u8]) -> nix::Result<()> {
    for piece in buffer.chunks_mut(256) {
        loop {
            // SAFETY: the pointer and the length are those of a buffer that is borrowed for the call.
            let got = unsafe { libc::getrandom(piece.as_mut_ptr().cast(), piece.len(), 0) };
            // Up to 256 bytes come whole, or not at all where a signal arrives first.
            match check(got as libc::c_long) {
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}
