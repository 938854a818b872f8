//! What happens to a group when it exists: freeze and thaw, count, kill, remove.
//!
//! By hand, on version 2 (on version 1 the first two are `echo FROZEN` and `echo THAWED` into `freezer.state`):
//!
//! ```text
//! # echo 1 > cgroup.freeze; grep frozen cgroup.events     frozen 1, when the last process has stopped
//! # echo 0 > cgroup.freeze
//! # echo 1 > cgroup.kill                                  SIGKILL to all, also to those being born
//! # rmdir /sys/fs/cgroup/web                              EBUSY while a process or a sub-cgroup is left
//! ```
//!
//! Version 2 tells when something is done: `cgroup.events` can be polled. Version 1 tells nothing, so there the file is read again after a
//! pause that grows from 20 µs to 5 ms. Every wait ends after [`PATIENCE`]: a process may hang in the kernel for good.
//!
//! Version 1 has no `cgroup.kill` either. To kill a group faster than it forks it is frozen first, and what is frozen cannot end, so the
//! pids that are read cannot become those of others before the signal is sent.
//!
//! What goes wrong: inside the container there may be groups as well, nested deeper than a path can be long, frozen on their own, or
//! threaded (whose `cgroup.procs` cannot be read: their processes stand in the one above). The tree is therefore walked by
//! descriptor, one level at a time, and a group that is gone already is what was wanted.

use super::change::{open, open_directory, read_all, read_value, read_value_sparing, write_values};
use super::{Cgroup, Directory, Version};
use crate::sys::spent::Spent;
use crate::sys::{Called, Failure, Result, process};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long freezing, or the end of killed processes, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

impl Cgroup {
    /// The memory limit that is in force, as an assignment to its file: `memory.max = 4194304`.
    pub fn memory_limit(&self) -> Option<String> {
        let file = if self.version == Version::V1 { "memory.limit_in_bytes" } else { "memory.max" };
        let text = std::fs::read_to_string(self.directory("memory")?.path.join(file)).ok()?;
        Some(format!("{file} = {}", text.trim()))
    }

    /// Stops every process of the group; returns when all have stopped. Error after 2 s, and then nothing is frozen.
    pub fn freeze(&self) -> Result<()> {
        let directory = self.freezer()?;
        let own = nix::unistd::getpid().as_raw();
        if pids_below(&directory.path)?.contains(&own) {
            let call = format!("freeze({:?})", directory.path);
            return Err(Failure::refused(
                call,
                Errno::EDEADLK,
                format!("the caller, pid {own}, is in this cgroup itself"),
            ));
        }
        let frozen = match self.version {
            Version::V1 => freeze_v1(&directory.path)?,
            Version::V2 => {
                write_values(&directory.path.join("cgroup.freeze"), &["1".to_owned()])?;
                wait_for_event(&directory.path, "frozen 1", Instant::now() + PATIENCE)?
            }
        };
        if frozen {
            return Ok(());
        }
        self.thaw()?;
        let stuck = named(&pids_below(&directory.path)?);
        let call = format!("freeze({:?})", directory.path);
        Err(Failure::refused(
            call,
            Errno::EBUSY,
            format!("cgroup {} does not come to rest: {stuck}", directory.path.display()),
        ))
    }

    /// Lets the processes of the group run again. A group that is gone is no error.
    pub fn thaw(&self) -> Result<()> {
        let path = &self.freezer()?.path;
        match self.version {
            Version::V1 => gone_is_fine(write_values(&path.join("freezer.state"), &["THAWED".to_owned()])),
            Version::V2 => gone_is_fine(write_values(&path.join("cgroup.freeze"), &["0".to_owned()])),
        }
    }

    /// Every process of the group has stopped, or would stop at once if one entered. `false` for a group that is gone.
    pub fn is_frozen(&self) -> Result<bool> {
        self.is_frozen_by(read_value)
    }

    /// The processes of the group and of the groups within it, sorted, as our pid namespace numbers them.
    pub fn pids(&self) -> Result<Vec<i32>> {
        pids_below(&self.principal().path)
    }

    /// No process is left. `true` for a group that is gone.
    pub fn is_empty(&self) -> Result<bool> {
        match self.version {
            Version::V2 => match read_value(&self.principal().path.join("cgroup.events")) {
                Ok(events) => Ok(events.lines().any(|line| line == "populated 0")),
                Err(failure) if is_gone(failure.errno) => Ok(true),
                Err(failure) => Err(failure),
            },
            Version::V1 => Ok(self.pids()?.is_empty()),
        }
    }

    /// How many processes of the group the kernel killed because a memory limit was reached. 0 where memory is not counted.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.version {
            Version::V1 => self.directory("memory").map(|directory| directory.path.join("memory.oom_control")),
            Version::V2 => Some(self.principal().path.join("memory.events")),
        };
        let text = file.and_then(|path| read_value(&path).ok()).unwrap_or_default();
        let number = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).map(str::parse);
        number.and_then(std::result::Result::ok).unwrap_or(0)
    }

    /// Sends a signal to every process of the group and of the groups within it, and to none that was born meanwhile without.
    ///
    /// With SIGKILL a frozen group is thawed, since on version 1 the signal would only then be felt; with any other it stays frozen. Returns
    /// when the signals are sent, not when the processes have ended. A group that is gone is no error.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if self.version == Version::V2 && signal == libc::SIGKILL {
            match gone_is_fine(write_values(&self.principal().path.join("cgroup.kill"), &["1".to_owned()])) {
                // A threaded group has no such file, and its threads are signalled one by one.
                Err(failure) if failure.errno == Errno::EOPNOTSUPP => {}
                other => return other,
            }
        }
        let was_frozen = self.is_frozen()?;
        let mut frozen = was_frozen;
        // Without a freezer, or when a process does not come to rest, those born meanwhile are met in the next round.
        let mut rounds = if signal == libc::SIGKILL { 20 } else { 1 };
        let mut known: Vec<i32> = Vec::new();
        let own = nix::unistd::getpid().as_raw();
        let others = || -> Result<Vec<i32>> { Ok(self.pids()?.into_iter().filter(|&pid| pid != own).collect()) };
        loop {
            let mut pids = others()?;
            if pids.is_empty() {
                break;
            }
            if !frozen && self.freeze().is_ok() {
                frozen = true;
                pids = others()?;
            }
            for &pid in pids.iter().filter(|pid| signal == libc::SIGKILL || !known.contains(pid)) {
                match process::kill(pid, signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => {
                        return Err(errno).called(|| format!("kill({pid}, {})", process::signal_name(signal)));
                    }
                }
            }
            rounds -= 1;
            let new = pids.iter().any(|pid| !known.contains(pid));
            known = pids;
            if frozen || rounds == 0 || !new {
                break;
            }
        }
        if signal == libc::SIGKILL {
            self.thaw_all()
        } else if frozen && !was_frozen {
            self.thaw()
        } else {
            Ok(())
        }
    }

    /// Kills whoever is left in the group and removes it. The removing is tried first: the kernel refuses it (EBUSY) as long as somebody
    /// is there or a group within, so where it succeeds there was nobody to kill.
    pub fn end(&self) -> Result<()> {
        let remove = |directory: &Directory| unlinkat(AT_FDCWD, &directory.path, UnlinkatFlags::RemoveDir);
        if self.directories.iter().all(|directory| matches!(remove(directory), Ok(()) | Err(Errno::ENOENT))) {
            return Ok(());
        }
        self.kill_all(libc::SIGKILL)?;
        self.remove()
    }

    /// Removes the group's directories, and those that were made within them. Waits up to 2 s for processes that are about to
    /// end; the error names those that stay. Directories that are gone already are no error.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let results: Vec<Result<()>> =
            self.directories.iter().map(|d| remove(&d.path, self.version, deadline)).collect();
        results.into_iter().collect()
    }

    /// The one directory where the processes are looked for: any would do, but only the freezer's can be frozen.
    fn principal(&self) -> &Directory {
        let by_name = ["freezer", "devices", "pids"].iter().find_map(|controller| self.directory(controller));
        by_name.unwrap_or(&self.directories[0])
    }

    pub(super) fn freezer(&self) -> Result<&Directory> {
        match self.version {
            Version::V2 => Ok(self.principal()),
            Version::V1 => self.directory("freezer").ok_or_else(|| {
                Failure::refused(
                    "openat(\"freezer.state\")",
                    Errno::ENOENT,
                    "this host's cgroups have no freezer controller",
                )
            }),
        }
    }

    /// The same; the file is closed with others.
    pub fn is_frozen_sparing(&self, spent: &Spent) -> Result<bool> {
        self.is_frozen_by(|path| read_value_sparing(path, spent))
    }

    fn is_frozen_by(&self, read: impl FnOnce(&Path) -> Result<String>) -> Result<bool> {
        let Ok(directory) = self.freezer() else { return Ok(false) };
        let (file, _) = self.version.freezer_file();
        self.version.says_frozen(read(&directory.path.join(file)))
    }

    /// Thaws the group and, on version 1, what is frozen within it on its own: those would never feel the signal.
    fn thaw_all(&self) -> Result<()> {
        let Ok(directory) = self.freezer() else { return Ok(()) };
        if self.version == Version::V2 {
            return self.thaw();
        }
        walk(&directory.path, &mut |visit| match visit {
            Visit::Enter(group) => {
                match openat(group, "freezer.state", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()) {
                    Ok(file) => match nix::unistd::write(&file, b"THAWED") {
                        Ok(_) => Ok(()),
                        Err(errno) if is_gone(errno) => Ok(()),
                        Err(errno) => Err(errno)
                            .called(|| format!("write({:?}, \"THAWED\")", directory.path.join("freezer.state"))),
                    },
                    Err(_) => Ok(()),
                }
            }
            Visit::Leave(..) => Ok(()),
        })
    }
}

/// A file of a removed cgroup: ENOENT when it is opened, ENODEV when it was open already.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

fn gone_is_fine(result: Result<()>) -> Result<()> {
    result.or_else(|failure| if is_gone(failure.errno) { Ok(()) } else { Err(failure) })
}

/// The next pause of a wait that cannot be woken.
fn pause(before: &mut Duration) {
    std::thread::sleep(*before);
    *before = (*before * 2).min(Duration::from_millis(5));
}

/// Writes FROZEN until the kernel says so. A process that is in the kernel at that moment is asked again by each write.
fn freeze_v1(directory: &Path) -> Result<bool> {
    let state = directory.join("freezer.state");
    let deadline = Instant::now() + PATIENCE;
    let mut delay = Duration::from_micros(20);
    loop {
        write_values(&state, &["FROZEN".to_owned()])?;
        if read_value(&state)? == "FROZEN" {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        pause(&mut delay);
    }
}

/// Waits until `cgroup.events` has this line. `false`: it was not so by the deadline.
fn wait_for_event(directory: &Path, line: &str, deadline: Instant) -> Result<bool> {
    let path = directory.join("cgroup.events");
    let events = open(&path, OFlag::O_RDONLY)?;
    let mut buffer = [0; 512];
    loop {
        let length = nix::sys::uio::pread(&events, &mut buffer, 0).called(|| format!("pread({path:?})"))?;
        if String::from_utf8_lossy(&buffer[..length]).lines().any(|l| l == line) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = PollTimeout::try_from(left.as_millis() as i32 + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).called(|| format!("poll({path:?}, POLLPRI)")),
        }
    }
}

impl Version {
    /// The file that tells whether a group is frozen, and the lines that say so. The version is known: one file, not two.
    pub(super) fn freezer_file(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Version::V1 => ("freezer.state", &["FROZEN", "FREEZING"]),
            Version::V2 => ("cgroup.events", &["frozen 1"]),
        }
    }

    /// What that file says. A group that is gone is not frozen.
    pub(super) fn says_frozen(self, read: Result<String>) -> Result<bool> {
        match read {
            Ok(text) => Ok(text.lines().any(|line| self.freezer_file().1.contains(&line))),
            Err(failure) if is_gone(failure.errno) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Whether a directory of either version is frozen, or in one that is. One that cannot be frozen, or is gone, is not.
pub(super) fn directory_is_frozen(directory: &Path) -> Result<bool> {
    for (file, frozen) in [("cgroup.events", &["frozen 1"][..]), ("freezer.state", &["FROZEN", "FREEZING"])] {
        match read_value(&directory.join(file)) {
            Ok(text) => return Ok(text.lines().any(|line| frozen.contains(&line))),
            Err(failure) if is_gone(failure.errno) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(false)
}

/// The processes of a directory and of those within it, sorted. Empty for one that is gone.
pub(super) fn pids_below(directory: &Path) -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    let mut top = true;
    let mut add =
        |text: &str| pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
    walk(directory, &mut |visit| {
        let Visit::Enter(group) = visit else { return Ok(()) };
        let read = |name: &str| -> nix::Result<String> {
            let file = openat(group, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
            read_to_end(&file)
        };
        match read("cgroup.procs") {
            Ok(text) => add(&text),
            Err(errno) if is_gone(errno) => {}
            // Threaded. Within our group its processes are those of a group above it; at the top its threads are all we see.
            Err(Errno::EOPNOTSUPP) if top => add(&read("cgroup.threads").unwrap_or_default()),
            Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno).called(|| format!("read({:?})", directory.join("cgroup.procs"))),
        }
        top = false;
        Ok(())
    })?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn read_to_end(file: &OwnedFd) -> nix::Result<String> {
    let mut content = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(file, &mut buffer)? {
            0 => return Ok(String::from_utf8_lossy(&content).into_owned()),
            length => content.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Pids in words: `processes 12, 13 and 14`, at most ten of them.
pub(super) fn named(pids: &[i32]) -> String {
    match pids {
        [] => "no process that is visible from here".to_owned(),
        [one] => format!("process {one}"),
        [..] => {
            let some: Vec<String> = pids.iter().take(10).map(i32::to_string).collect();
            let more = pids.len() - some.len();
            let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("processes {}{rest}", some.join(", "))
        }
    }
}

/// A moment of a [`walk`].
enum Visit<'a> {
    /// In this directory, before those within it.
    Enter(BorrowedFd<'a>),
    /// Back from the directory of this name, in the one that holds it.
    Leave(BorrowedFd<'a>, &'a str),
}

/// Visits a directory and all those within it, however deep, with two descriptors. One that goes away meanwhile is skipped.
fn walk(top: &Path, visit: &mut dyn FnMut(Visit<'_>) -> Result<()>) -> Result<()> {
    let mut here = match open_directory(top) {
        Ok(directory) => directory,
        Err(failure) if is_gone(failure.errno) => return Ok(()),
        Err(failure) => return Err(failure),
    };
    visit(Visit::Enter(here.as_fd()))?;
    // For each level the name by which it was entered, and what is still to be visited in it.
    let mut levels: Vec<(String, Vec<String>)> = vec![(String::new(), groups_in(&here, top)?)];
    while let Some((name, left)) = levels.last_mut() {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        if let Some(next) = left.pop() {
            match openat(&here, next.as_str(), flags, Mode::empty()) {
                Ok(directory) => {
                    here = directory;
                    visit(Visit::Enter(here.as_fd()))?;
                    let within = groups_in(&here, top)?;
                    levels.push((next, within));
                }
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(errno).called(|| format!("openat({top:?}…, {next:?})")),
            }
        } else {
            let name = std::mem::take(name);
            levels.pop();
            if !levels.is_empty() {
                here =
                    openat(&here, "..", flags, Mode::empty()).called(|| format!("openat({top:?}…{name:?}, \"..\")"))?;
                visit(Visit::Leave(here.as_fd(), &name))?;
            }
        }
    }
    Ok(())
}

/// The names of the groups in a directory. Their number is known from its links, so a directory without any is not read.
fn groups_in(directory: &OwnedFd, top: &Path) -> Result<Vec<String>> {
    let status = fstat(directory).called(|| format!("fstat({top:?}…)"))?;
    if status.st_nlink <= 2 {
        return Ok(Vec::new());
    }
    let call = || format!("getdents({top:?}…)");
    let mut listing = Dir::openat(directory, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).called(call)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry.called(call)?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

/// Removes one directory. Tried at once; looked into only when that fails.
fn remove(directory: &Path, version: Version, deadline: Instant) -> Result<()> {
    let mut delay = Duration::from_micros(20);
    loop {
        match unlinkat(AT_FDCWD, directory, UnlinkatFlags::RemoveDir) {
            Ok(()) => return Ok(()),
            Err(errno) if is_gone(errno) => return Ok(()),
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => {}
            // A read-only file system says so even of what does not exist.
            Err(Errno::EROFS) if !directory.exists() => return Ok(()),
            Err(errno) => return Err(errno).called(|| rmdir(directory)),
        }
        // Groups inside, the deepest first. What is still in use keeps the ones above it; they are tried again.
        walk(directory, &mut |visit| {
            if let Visit::Leave(parent, name) = visit {
                match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
                    Ok(()) | Err(Errno::EBUSY | Errno::ENOTEMPTY | Errno::ENOENT) => {}
                    Err(errno) => {
                        return Err(errno).called(|| format!("unlinkat({directory:?}…, {name:?}, AT_REMOVEDIR)"));
                    }
                }
            }
            Ok(())
        })?;
        if Instant::now() > deadline {
            let pids = pids_below(directory)?;
            let why = match directory_is_frozen(directory) {
                Ok(true) => "is frozen with",
                _ => "still has",
            };
            let because = format!("cgroup {} {why} {}", directory.display(), named(&pids));
            return Err(Failure::refused(rmdir(directory), Errno::EBUSY, because));
        }
        match version {
            Version::V2
                if read_all(&directory.join("cgroup.events")).is_ok_and(|e| e.lines().any(|l| l == "populated 1")) =>
            {
                gone_is_fine(wait_for_event(directory, "populated 0", deadline).map(drop))?;
            }
            _ => pause(&mut delay),
        }
    }
}

fn rmdir(directory: &Path) -> String {
    format!("unlinkat({directory:?}, AT_REMOVEDIR)")
}
