//! The last calls of a child: execve(2) and close_range(2).

use super::{Called, Result, check};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::ffi::{CStr, CString, c_char};
use std::fmt;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;

/// The environment of a program, `NAME=VALUE` each: one behind the other with a NUL behind each, in one block that execve(2) can be pointed into.
///
/// As a list of strings ten thousand have ten thousand blocks of memory, and ten thousand more as C strings: with the pages that this touched it was
/// a third of what such an environment cost.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    text: String,
    /// Behind the NUL of each.
    ends: Vec<u32>,
}

impl Environment {
    /// Adds an entry, up to its first NUL.
    pub fn push(&mut self, entry: &str) {
        self.push_plain(entry.split('\0').next().unwrap_or_default());
    }

    /// Adds an entry that is known to have no NUL: where it has one, it would end there for the program.
    pub fn push_plain(&mut self, entry: &str) {
        self.text.reserve(entry.len() + 1);
        self.text.push_str(entry);
        self.text.push('\0');
        // execve(2) takes a few megabytes.
        self.ends.push(self.text.len() as u32);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The one at a place below [`Environment::len`].
    pub fn get(&self, at: usize) -> &str {
        &self.text[self.range(at)]
    }

    /// The same as bytes: without a look at whether they are whole letters, which for many is half of the time.
    #[inline]
    pub fn bytes(&self, at: usize) -> &[u8] {
        &self.text.as_bytes()[self.range(at)]
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        (0..self.len()).map(|at| self.get(at))
    }

    /// The value of a name: its last, which counts.
    pub fn value(&self, name: &str) -> Option<&str> {
        let is_it =
            |at: &usize| self.bytes(*at).strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='));
        let at = (0..self.len()).rev().find(is_it)?;
        Some(&self.get(at)[name.len() + 1..])
    }

    #[inline]
    fn range(&self, at: usize) -> Range<usize> {
        at.checked_sub(1).map_or(0, |before| self.ends[before] as usize)..self.ends[at] as usize - 1
    }
}

impl<'a> FromIterator<&'a str> for Environment {
    fn from_iter<I: IntoIterator<Item = &'a str>>(entries: I) -> Environment {
        let mut all = Environment::default();
        entries.into_iter().for_each(|entry| all.push(entry));
        all
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A program with its arguments and environment, laid out as execve(2) takes them.
///
/// Made early, because after the system-call filter even an allocation may be refused.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    /// What `argv` and `envp` point into.
    _strings: (Vec<CString>, Rc<Environment>, Option<CString>),
}

impl Program {
    /// Lays out the arrays. `home`, if there is one, stands for the HOME of the environment.
    pub fn new(path: CString, args: Vec<CString>, env: Rc<Environment>, home: Option<CString>) -> Self {
        let argv = args.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
        let mut envp = Vec::with_capacity(env.len() + 2);
        let stays = |at: &usize| home.is_none() || !env.bytes(*at).starts_with(b"HOME=");
        envp.extend((0..env.len()).filter(stays).map(|at| env.bytes(at).as_ptr().cast()));
        envp.extend(home.iter().map(|entry| entry.as_ptr()));
        envp.push(std::ptr::null());
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
