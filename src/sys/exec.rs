//! The last calls of a child: execve(2) and close_range(2).

use super::{Called, Result, check};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::AsFd;
use std::sync::Arc;

/// A program with its arguments and environment, laid out as execve(2) takes them.
///
/// Made early, because after the system-call filter even an allocation may be refused.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// What `argv` and `envp` point into.
    _strings: (Vec<CString>, Arc<[CString]>, Option<CString>),
}

impl Program {
    /// Lays out the arrays. `home`, if there is one, stands for the HOME of the environment.
    pub fn new(path: CString, args: Vec<CString>, env: Arc<[CString]>, home: Option<CString>) -> Self {
        let argv = args.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        let stays = |entry: &&CString| home.is_none() || !entry.as_bytes().starts_with(b"HOME=");
        let envp =
            env.iter().filter(stays).chain(&home).map(|entry| entry.as_ptr()).chain([std::ptr::null()]).collect();
        Program { path, argv, envp, _strings: (args, env, home) }
    }

    /// Path of the program.
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// execve(2): returns only when it failed.
    pub fn execute(&self) -> Errno {
        // SAFETY: both arrays end with a null pointer and point to C strings that `self` owns and nobody changes.
        unsafe { libc::execve(self.path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        Errno::last()
    }
}

/// close_range(2) with `CLOSE_RANGE_CLOEXEC`: every descriptor from `first` on is closed by the next execve.
pub fn close_on_exec_from(first: u32) -> nix::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: three integers; setting the flag closes nothing now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// The same without close_range(2): each descriptor that `proc` lists for this process.
pub fn close_on_exec_each(proc: impl AsFd, first: u32) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing =
        Dir::openat(&proc, "self/fd", flags, Mode::empty()).called(|| "openat(proc, \"self/fd\")".into())?;
    for entry in listing.iter() {
        let entry = entry.called(|| "getdents64(\"self/fd\")".into())?;
        let Some(number) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if number as u32 >= first {
            // SAFETY: takes integers; setting the flag closes nothing now, and a number that is free again is EBADF.
            check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())
                .called(|| format!("fcntl({number}, F_SETFD, FD_CLOEXEC)"))?;
        }
    }
    Ok(())
}
