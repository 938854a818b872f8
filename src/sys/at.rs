//! Extended attributes of an open file: xattr(7) by descriptor, which nix does not have.

use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

/// fsetxattr(2): creates or replaces one attribute. The descriptor is a real one, not `O_PATH`.
pub fn fsetxattr(fd: impl AsFd, name: &CStr, value: &[u8]) -> nix::Result<()> {
    // SAFETY: the name ends in NUL, and value's pointer is valid for value.len() bytes that the kernel only reads.
    let returned =
        unsafe { libc::fsetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(returned).map(drop)
}

/// fremovexattr(2): `ENODATA` when it is not there.
pub fn fremovexattr(fd: impl AsFd, name: &CStr) -> nix::Result<()> {
    // SAFETY: the name ends in NUL and outlives the call; nothing else is passed by pointer.
    let returned = unsafe { libc::fremovexattr(fd.as_fd().as_raw_fd(), name.as_ptr()) };
    Errno::result(returned).map(drop)
}

/// fgetxattr(2): the value, at most 64 KiB as the kernel has it (`XATTR_SIZE_MAX`).
pub fn fgetxattr(fd: impl AsFd, name: &CStr) -> nix::Result<Vec<u8>> {
    let mut value = vec![0u8; 64 << 10];
    // SAFETY: the name ends in NUL, and value's pointer is valid for value.len() bytes that the kernel may write.
    let returned =
        unsafe { libc::fgetxattr(fd.as_fd().as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(Errno::result(returned)? as usize);
    Ok(value)
}

/// flistxattr(2): the names; 64 KiB is the kernel's own limit for the whole list (`XATTR_LIST_MAX`).
pub fn flistxattr(fd: impl AsFd) -> nix::Result<Vec<CString>> {
    let mut list = vec![0u8; 64 << 10];
    // SAFETY: list's pointer is valid for list.len() bytes that the kernel may write.
    let returned = unsafe { libc::flistxattr(fd.as_fd().as_raw_fd(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(Errno::result(returned)? as usize);
    Ok(list.split(|b| *b == 0).filter(|name| !name.is_empty()).filter_map(|name| CString::new(name).ok()).collect())
}
