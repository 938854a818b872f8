//! The one thing asked of the network: bringing up an interface, see netdevice(7).

use super::{Called, Result, check};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsRawFd, OwnedFd};

/// Sets `IFF_UP` on the loopback device of the current network namespace. Returns the socket that was asked by, which has no other use.
pub fn loopback_up() -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .called(|| "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC)".into())?;
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as i16;
    // SAFETY: SIOCSIFFLAGS reads a struct ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())
        .map(|_| fd)
        .called(|| "ioctl(SIOCSIFFLAGS, {lo, IFF_UP})".into())
}
