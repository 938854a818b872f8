//! The program: working directory, environment, look-up in PATH, and execve(2).
//!
//! **What the kernel offers.** execve replaces the calling program by another and keeps the process: its id, its rights, its open
//! descriptors but those marked close-on-exec. The kernel looks nothing up in PATH; that is the caller's work.
//!
//! **Try it.** `env -i PATH=/bin sh -c 'cd /tmp && exec env'`; `chmod -x f; ./f`; `printf '#!/nothing\n' >g; chmod +x g; ./g`: the error
//! of the last is about the interpreter, but the kernel's words are the same as if `g` were missing.
//!
//! **What we do.** The directory is entered before the change of user, because only root may pass some, and again after it when
//! root may not (NFS). Then getcwd(2) must name a place inside the container (CVE-2024-21626). The program is looked up
//! as the user, before the container waits for its start, so that a missing one fails `create`. Every descriptor but
//! those that are passed on is marked close-on-exec.
//!
//! **What goes wrong.** execve says ENOENT also for a missing loader or interpreter: `diagnosis` reads the file's head and says
//! which. Clients look for `executable file not found in $PATH`, `no such file or directory` and `permission denied`.

use crate::input::Fault;
use crate::input::config::Process;
use crate::sys::exec::{self, Environment, Program};
use crate::sys::path::{self, Links};
use crate::sys::spent::Spent;
use crate::sys::{Called, Failure, Result, cred, plain};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, chdir, faccessat, fchdir};
use std::ffi::CString;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Held;

mod diagnosis;
mod environment;

pub use environment::{Inherited, NOTIFY_DIRECTORY, NOTIFY_SOCKET, environment, inherited, notify_variable};

/// One thing to do about the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the working directory where it is missing; after pivot_root, while the root can be written.
    MakeDirectory(PathBuf),
    /// Enter it, before the change of user.
    Enter(PathBuf),
    /// After the change of user: enter it if that was refused before, and see that it lies inside.
    Confirm(PathBuf),
    /// Look the program up and lay everything out for execve.
    Find {
        /// `argv`
        args: Vec<CString>,
        /// `KEY=value`, each key once. HOME is added where it is looked up. Shared, because there may be ten thousand.
        env: Rc<Environment>,
    },
    /// Mark every descriptor from this number on close-on-exec.
    CloseFrom(u32),
    /// execve; only a failure returns.
    Execute(Vec<CString>),
}

/// The actions, to be placed in the plan in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// After pivot_root. `None` for `/`. Not for `exec`, which changes nothing in a container.
    pub make: Option<Action>,
    /// Before the change of user.
    pub enter: Action,
    /// After the change of user.
    pub confirm: Action,
    /// After HOME was looked up and the user changed, before the gate.
    pub find: Action,
    /// Last but the filter and execve.
    pub close: Action,
    /// Last.
    pub execute: Action,
}

/// Decides for a process and what is passed on to it.
pub fn decide(process: &Process, inherited: &Inherited) -> std::result::Result<Decision, Fault> {
    let nul = |place: &str, at: usize| Fault::new(format!("{place}[{at}]"), "holds a NUL byte");
    let string = |place: &str, at: usize, text: &String| CString::new(text.as_bytes()).map_err(|_| nul(place, at));
    let args = process.args.iter().enumerate().map(|(at, text)| string("process.args", at, text));
    let args = args.collect::<std::result::Result<Vec<_>, _>>()?;
    if args.is_empty() {
        return Err(Fault::new("process.args", "empty: there is no program to run"));
    }
    let env = environment(&process.env, &inherited.env);
    let cwd = process.cwd.clone();
    Ok(Decision {
        make: (cwd != Path::new("/")).then(|| Action::MakeDirectory(cwd.clone())),
        enter: Action::Enter(cwd.clone()),
        confirm: Action::Confirm(cwd),
        find: Action::Find { args: args.clone(), env },
        close: Action::CloseFrom(3 + inherited.descriptors),
        execute: Action::Execute(args),
    })
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::MakeDirectory(cwd) => write!(f, "openat2(root, {cwd:?}); [{}]", path::shown_directory(cwd)),
            Action::Enter(cwd) if cwd == Path::new("/") => write!(f, "[{}]", shown_enter(cwd)),
            Action::Enter(cwd) => f.write_str(&shown_enter(cwd)),
            Action::Confirm(cwd) => write!(f, "[{}]; getcwd()", shown_enter(cwd)),
            Action::Find { args, .. } => {
                let name = args[0].to_string_lossy();
                match name.contains('/') {
                    true => write!(f, "faccessat({name:?}, X_OK); newfstatat({name:?})"),
                    false => write!(f, "[faccessat(\"$PATH/{name}\", X_OK); [newfstatat(\"$PATH/{name}\")]]…"),
                }
            }
            Action::CloseFrom(first) => write!(f, "close_range({first}, ~0, CLOSE_RANGE_CLOEXEC)"),
            Action::Execute(args) => {
                let path = args[0].to_string_lossy();
                let path = if path.contains('/') { path.into_owned() } else { format!("$PATH/{path}") };
                write!(f, "execve({path:?}, {args:?})")
            }
        }
    }
}

impl Action {
    /// Does it.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        match self {
            Action::MakeDirectory(cwd) => make_directory(path::opened(&held.root)?, cwd),
            Action::Enter(cwd) if held.at_root && cwd == Path::new("/") => {
                held.entered = true;
                Ok(())
            }
            Action::Enter(cwd) => match enter(cwd, &held.spent) {
                // The user may pass where root may not: again after the change.
                Err(Errno::EACCES | Errno::EPERM) => Ok(()),
                other => {
                    other.called(|| self.to_string()).map_err(|failure| about_directory(failure, cwd))?;
                    held.entered = true;
                    Ok(())
                }
            },
            Action::Confirm(cwd) => {
                if !held.entered {
                    enter(cwd, &held.spent)
                        .called(|| format!("openat2({cwd:?}, RESOLVE_NO_MAGICLINKS)"))
                        .map_err(|failure| about_directory(failure, cwd))?;
                }
                confirm(cwd)
            }
            Action::Find { args, env } => {
                let home = held.home.as_ref().and_then(|home| CString::new(format!("HOME={home}")).ok());
                let path = find(&args[0], env)?;
                held.program = Some(Program::new(path, args.clone(), env.clone(), home));
                Ok(())
            }
            Action::CloseFrom(first) => match exec::close_on_exec_from(*first) {
                // An outer filter that does not know the call.
                Err(Errno::ENOSYS | Errno::EPERM) => exec::close_on_exec_each(held.proc()?, *first),
                other => other.called(|| self.to_string()),
            },
            Action::Execute(args) => {
                let missing =
                    || Failure::refused(self.to_string(), Errno::ENOENT, "the program has not been looked up");
                let program = held.program.as_ref().ok_or_else(missing)?;
                let errno = program.execute();
                let path = Path::new(std::ffi::OsStr::from_bytes(program.path().to_bytes()));
                let call = format!("execve({path:?}, {args:?})");
                Err(Failure::refused(call, errno, diagnosis::why(&args[0].to_string_lossy(), path, errno)))
            }
        }
    }
}

fn shown_enter(cwd: &Path) -> String {
    match cwd == Path::new("/") {
        true => "chdir(\"/\")".into(),
        false => format!("openat2({cwd:?}, O_PATH|O_DIRECTORY); fchdir()"),
    }
}

fn about_directory(failure: Failure, cwd: &Path) -> Failure {
    let words = match failure.errno {
        Errno::ELOOP => "leads through a link of /proc to something that is open, or through too many links".to_owned(),
        errno => plain(errno),
    };
    failure.because(format!("working directory {}: {words}", cwd.display()))
}

/// Makes what is missing of a path below `root`. Links are followed inside the root only, magic ones (`/proc/1/cwd`) never.
fn make_directory(root: BorrowedFd<'_>, cwd: &Path) -> Result<()> {
    match path::make_directory(root, cwd, Mode::from_bits_truncate(0o755), Links::Follow) {
        Ok(_) => Ok(()),
        // The user may pass where root may not; chdir will say.
        Err(failure) if matches!(failure.errno, Errno::EACCES | Errno::EPERM) => Ok(()),
        Err(failure) => {
            let words = plain(failure.errno);
            Err(failure.because(format!("working directory {}: cannot be made: {words}", cwd.display())))
        }
    }
}

/// chdir(2), but not through `/proc/*/fd` and the like: such a link leads to whatever the runtime has open (CVE-2024-21626).
fn enter(cwd: &Path, spent: &Spent) -> nix::Result<()> {
    if cwd == Path::new("/") {
        return chdir(cwd);
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = openat2(AT_FDCWD, cwd, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS))?;
    fchdir(&directory)?;
    spent.take(directory);
    Ok(())
}

/// The working directory must be a place that the container can name.
fn confirm(cwd: &Path) -> Result<()> {
    let outside = |errno| {
        let because = format!("working directory {}: lies outside of the container", cwd.display());
        Err(Failure::refused("getcwd()", errno, because))
    };
    match cred::working_directory() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) => outside(Errno::EXDEV),
        Err(Errno::ENOENT) => outside(Errno::ENOENT),
        Err(errno) => Err(errno).called(|| "getcwd()".into()),
    }
}

/// The path of the program: as it is when it holds a slash, else the first executable file of that name in PATH.
fn find(name: &CString, env: &Environment) -> Result<CString> {
    let text = name.to_bytes();
    if text.contains(&b'/') {
        let path = Path::new(std::ffi::OsStr::from_bytes(text));
        return match executable(path) {
            Ok(()) => Ok(name.clone()),
            Err((errno, why)) => {
                let call = format!("faccessat({path:?}, X_OK)");
                Err(Failure::refused(call, errno, format!("{:?}: {why}", path.display().to_string())))
            }
        };
    }
    let shown = name.to_string_lossy();
    let search = env.value("PATH");
    let mut refused = None;
    let directories = search.filter(|_| !text.is_empty()).into_iter().flat_map(|search| search.split(':'));
    for directory in directories {
        let directory = if directory.is_empty() { "." } else { directory };
        let bytes = [directory.as_bytes(), b"/", text].concat();
        let path = Path::new(std::ffi::OsStr::from_bytes(&bytes));
        match executable(path) {
            Ok(()) => return Ok(CString::new(bytes).unwrap_or_default()),
            // Another directory may have it; if none does, this is the reason.
            Err((Errno::EACCES, why)) if refused.is_none() => refused = Some((path.to_owned(), why)),
            Err(_) => {}
        }
    }
    if let Some((path, why)) = refused {
        let because = format!("{shown:?}: {}: {why}", path.display());
        return Err(Failure::refused(format!("faccessat({path:?}, X_OK)"), Errno::EACCES, because));
    }
    let searched = search.unwrap_or("PATH is not set");
    let because = format!("{shown:?}: executable file not found in $PATH ({searched})");
    Err(Failure::refused(format!("faccessat(\"$PATH/{shown}\", X_OK)"), Errno::ENOENT, because))
}

/// May the calling user execute this file? If not: the errno and its words.
fn executable(path: &Path) -> std::result::Result<(), (Errno, String)> {
    // Real and effective ids are the same by now, so plain access(2) asks about the right ones.
    let access = faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::empty());
    let found = match access {
        Ok(()) | Err(Errno::EACCES) => fstatat(AT_FDCWD, path, AtFlags::empty()),
        Err(errno) => return Err((errno, plain(errno))),
    };
    let denied = || plain(Errno::EACCES);
    let kind = found.map(|found| (SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT, found.st_mode & 0o7777));
    Err(match (access, kind) {
        (_, Ok((SFlag::S_IFDIR, _))) => (Errno::EACCES, format!("is a directory: {}", denied())),
        (Ok(()), Ok((SFlag::S_IFREG, _))) => return Ok(()),
        (_, Ok((SFlag::S_IFREG, mode))) => {
            let noexec = statvfs(path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
            let why = if noexec {
                "its file system is mounted noexec".into()
            } else {
                format!("not executable (mode {mode:04o})")
            };
            (Errno::EACCES, format!("{}: {why}", denied()))
        }
        (_, Ok(_)) => (Errno::EACCES, format!("{}: not a regular file", denied())),
        (_, Err(errno)) => (errno, plain(errno)),
    })
}

#[cfg(test)]
mod tests;
