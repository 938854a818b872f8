//! The part that touches the disk: one [`Change`] after the other, as decided.
//!
//! A file of a cgroup is opened by its whole path, for one write or several, and closed: three calls for a limit, and a
//! descriptor of the directory would make them five. Nothing can be put in the way: a cgroup file system has no symbolic links, and only
//! who may change the cgroups of others can rename their directories.

use super::{Cgroup, Directory, Version, control};
use crate::sys::spent::Spent;
use crate::sys::{Called, Failure, Result, bpf};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// One thing to do to the cgroup tree before the container's first process is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Make the group's directory in one hierarchy. One that exists already is taken if it is empty and not frozen.
    Mkdir {
        /// For the error: `memory`, `cpu,cpuacct`; of version 2 the word `cgroup2`.
        hierarchy: String,
        /// The group's directory.
        directory: PathBuf,
        /// What lies between the mount point and it, the uppermost first: made when missing.
        parents: Vec<PathBuf>,
    },
    /// Version 2: have these controllers in the group, which the directories above it must pass on. Only those that are
    /// missing are enabled.
    Enable {
        /// The mount point.
        mount: PathBuf,
        /// The group's directory.
        directory: PathBuf,
        /// All that can be had.
        controllers: Vec<String>,
        /// Those without which a limit cannot be set, and the JSON place of that limit.
        needed: Vec<(String, String)>,
    },
    /// Version 1: an empty cpuset takes processors or memory nodes from above, otherwise no process could enter it.
    Inherit {
        /// The mount point.
        mount: PathBuf,
        /// The directory that must not be empty.
        directory: PathBuf,
        /// `cpuset.cpus` or `cpuset.mems`.
        file: &'static str,
    },
    /// Refuse a limit that is used up already.
    Check {
        /// The file with the present usage in bytes.
        path: PathBuf,
        /// The limit that will be set.
        limit: u64,
        /// Where it stands in the configuration.
        place: String,
    },
    /// Set a limit.
    Write(Write),
    /// Set two limits that the kernel checks against each other, in the order in which it takes them: where the first is refused
    /// (EINVAL) beside the present value of the second, the second is written before it.
    Pair {
        /// The usual first.
        first: Write,
        /// The usual second.
        second: Write,
    },
    /// Version 2: load a device program and attach it, in the place of what an earlier user of the group left there.
    DeviceProgram {
        /// The group's directory.
        directory: PathBuf,
        /// What [`super::Policy::program`] made.
        program: Vec<bpf::Instruction>,
    },
}

/// Values for one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The file, absolute.
    pub path: PathBuf,
    /// One write each.
    pub values: Vec<String>,
    /// The JSON place of what is asked: `linux.resources.memory.limit`.
    pub place: String,
    /// What to do if there is no such file.
    pub absent: Absent,
}

/// What a file's absence means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The limit cannot be set.
    Refused,
    /// There is nothing to set: the kernel behaves so anyway.
    Ignored,
    /// Another file serves.
    Instead {
        /// The other file.
        path: PathBuf,
        /// What it takes.
        values: Vec<String>,
    },
}

/// Where the group's directory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process has made it: nobody else has done anything to it.
    Made,
    /// It was there.
    Found,
}

/// The group of version 2, open.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Its directory.
    pub directory: BorrowedFd<'a>,
    /// Where that comes from.
    pub origin: Origin,
}

impl Change {
    /// As [`Change::apply`] for a directory to be made: was it?
    pub fn make(&self) -> Option<Result<Origin>> {
        match self {
            Change::Mkdir { hierarchy, directory, parents } => Some(make(hierarchy, directory, parents)),
            _ => None,
        }
    }

    /// Makes this directory.
    pub(super) fn mkdir(version: Version, directory: &Directory) -> Change {
        let hierarchy = match version {
            Version::V1 => directory.controllers.join(","),
            Version::V2 => "cgroup2".to_owned(),
        };
        Change::Mkdir { hierarchy, directory: directory.path.clone(), parents: directory.parents() }
    }

    /// The writes to limits that this is made of.
    pub(super) fn writes(&self) -> Vec<&Write> {
        match self {
            Change::Write(write) => vec![write],
            Change::Pair { first, second } => vec![first, second],
            _ => Vec::new(),
        }
    }

    /// Does it bind the container's program alone? The first process needs no device until then: the kernel takes 0.2 ms for a program.
    pub fn can_wait(&self) -> bool {
        matches!(self, Change::DeviceProgram { .. })
    }

    /// The JSON place that asks for it.
    pub fn place(&self) -> &str {
        match self {
            Change::Mkdir { .. } | Change::Enable { .. } => super::PATH_PLACE,
            Change::Inherit { .. } => "linux.resources.cpu",
            Change::Check { place, .. } => place,
            Change::Write(write) | Change::Pair { first: write, .. } => &write.place,
            Change::DeviceProgram { .. } => "linux.resources.devices",
        }
    }

    /// Does it. `group`: the group's directory of version 2, where it is open.
    pub fn apply(&self, group: Option<Group<'_>>, spent: &Spent) -> Result<()> {
        match self {
            Change::Mkdir { hierarchy, directory, parents } => make(hierarchy, directory, parents).map(drop),
            Change::Enable { mount, directory, controllers, needed } => {
                enable(mount, directory, controllers, needed, spent)
            }
            Change::Inherit { mount, directory, file } => inherit(mount, directory, file, spent).map(drop),
            Change::Check { path, limit, place } => check(path, *limit, place),
            Change::Write(write) => write.apply(spent),
            Change::Pair { first, second } => match first.apply(spent) {
                Err(failure) if failure.errno == Errno::EINVAL => {
                    second.apply(spent)?;
                    first.apply(spent)
                }
                other => other.and_then(|()| second.apply(spent)),
            },
            Change::DeviceProgram { directory, program } => match group {
                Some(group) => attach(group, directory, program, spent),
                None => {
                    let opened = open_directory(directory)?;
                    attach(Group { directory: opened.as_fd(), origin: Origin::Found }, directory, program, spent)?;
                    spent.take(opened);
                    Ok(())
                }
            },
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Mkdir { directory, parents, .. } => {
                f.write_str(&call(directory))?;
                if parents.is_empty() {
                    return Ok(());
                }
                let calls: Vec<String> = parents.iter().chain([directory]).map(|path| call(path)).collect();
                write!(f, "; [{}]", calls.join("; "))
            }
            Change::Enable { mount, directory, controllers, .. } => {
                let file = directory.join("cgroup.controllers");
                write!(f, "openat({file:?}); read(); [")?;
                for (index, parent) in above(mount, directory).iter().enumerate() {
                    let file = parent.join("cgroup.subtree_control");
                    let separator = if index == 0 { "" } else { "; " };
                    write!(
                        f,
                        "{separator}openat({file:?}); read(); [openat({file:?}); [write({})]]…",
                        plus(controllers)
                    )?;
                }
                write!(f, "]")
            }
            Change::Inherit { directory, file, .. } => {
                write!(f, "openat({:?}); read()", directory.join(file))?;
                let parent = directory.parent().unwrap_or(directory).join(file);
                write!(f, "; [openat({parent:?}); read(); write()]")
            }
            Change::Check { path, .. } => write!(f, "openat({path:?}); read()"),
            Change::Write(write) => write.fmt(f),
            Change::Pair { first, second } => write!(f, "{first}; {second}"),
            Change::DeviceProgram { directory, program } => write!(
                f,
                "[openat({directory:?})]; [bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)]; \
                 bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE, {} instructions); bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)",
                program.len()
            ),
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = |path: &Path, values: &[String]| {
            let writes: Vec<String> = values.iter().map(|value| format!("; write({value:?})")).collect();
            format!("openat({path:?}){}", writes.concat())
        };
        f.write_str(&calls(&self.path, &self.values))?;
        match &self.absent {
            Absent::Instead { path, values } => write!(f, "; [{}]", calls(path, values)),
            Absent::Refused | Absent::Ignored => Ok(()),
        }
    }
}

impl Write {
    /// The name of the file: `memory.max`.
    pub fn file(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    fn apply(&self, spent: &Spent) -> Result<()> {
        let write = |path, values| written(path, values).map(|file| spent.take(file));
        match write(&self.path, &self.values) {
            Err(failure) if failure.errno == Errno::ENOENT && self.absent == Absent::Ignored => Ok(()),
            Err(failure) if failure.errno == Errno::ENOENT => match &self.absent {
                Absent::Instead { path, values } => write(path, values).map_err(|failure| self.explained(failure)),
                _ => Err(self.explained(failure)),
            },
            other => other.map_err(|failure| self.explained(failure)),
        }
    }

    /// Says which limit was refused, and why as far as the errno tells.
    fn explained(&self, failure: Failure) -> Failure {
        let why = match failure.errno {
            Errno::ENOENT => format!("this kernel has no {}", self.file()),
            Errno::EBUSY if self.file().starts_with("memory.") => {
                "the cgroup uses more memory than that already".to_owned()
            }
            Errno::EINVAL | Errno::ERANGE => "the kernel does not take this value".to_owned(),
            Errno::ENODEV | Errno::ENXIO => "the host has no such device".to_owned(),
            Errno::EACCES | Errno::EPERM if self.file().starts_with("cpuset.") => {
                "the cgroup above does not have all of these".to_owned()
            }
            Errno::EACCES | Errno::EPERM => "this part of the cgroup tree may not be changed by the caller".to_owned(),
            Errno::EROFS => "the cgroup file system is mounted read-only".to_owned(),
            _ => return failure.because(self.place.clone()),
        };
        failure.because(format!("{}: {why}", self.place))
    }
}

fn make(hierarchy: &str, directory: &Path, parents: &[PathBuf]) -> Result<Origin> {
    let mkdir = |path: &Path| mkdirat(AT_FDCWD, path, Mode::from_bits_truncate(0o755));
    let mut made = mkdir(directory);
    if made == Err(Errno::ENOENT) {
        // The usual case is that they exist, so they are made only now.
        for parent in parents {
            match mkdir(parent) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno).called(|| call(parent)).map_err(|f| not_made(f, hierarchy, parent)),
            }
        }
        made = mkdir(directory);
    }
    match made {
        Ok(()) => Ok(Origin::Made),
        Err(Errno::EEXIST) => vacant(directory).map(|()| Origin::Found),
        Err(errno) => Err(errno).called(|| call(directory)).map_err(|failure| not_made(failure, hierarchy, directory)),
    }
}

fn call(directory: &Path) -> String {
    format!("mkdirat({directory:?}, 0755)")
}

fn not_made(failure: Failure, hierarchy: &str, directory: &Path) -> Failure {
    let why = match failure.errno {
        Errno::EROFS => "the cgroup file system is mounted read-only",
        Errno::EACCES | Errno::EPERM => "this part of the cgroup tree is not delegated to the caller",
        Errno::EAGAIN => {
            "a cgroup above has as many cgroups below it as its cgroup.max.descendants or cgroup.max.depth lets it"
        }
        Errno::ENOSPC => "the kernel has no room for another cgroup",
        Errno::ENOENT => "the hierarchy is not mounted there",
        _ => return failure.because(format!("cgroup {} of {hierarchy} cannot be made", directory.display())),
    };
    failure.because(format!("cgroup {} of {hierarchy} cannot be made: {why}", directory.display()))
}

/// A directory that was there before us may be taken when nobody lives in it: its processes would share our limits and die with the
/// container; and a frozen one would freeze the first process before it can say a word.
fn vacant(directory: &Path) -> Result<()> {
    let refused = |why: String| Err(Failure::refused(call(directory), Errno::EEXIST, why));
    let pids = control::pids_below(directory)?;
    if !pids.is_empty() {
        return refused(format!("cgroup {} is in use: {}", directory.display(), control::named(&pids)));
    }
    if control::directory_is_frozen(directory)? {
        return refused(format!("cgroup {} is frozen", directory.display()));
    }
    Ok(())
}

/// The directories from the mount point down to the one above `directory`.
fn above(mount: &Path, directory: &Path) -> Vec<PathBuf> {
    let mut above: Vec<PathBuf> =
        directory.ancestors().skip(1).take_while(|path| path.starts_with(mount)).map(Path::to_owned).collect();
    above.reverse();
    above
}

fn plus(controllers: &[impl AsRef<str>]) -> String {
    controllers.iter().map(|c| format!("+{}", c.as_ref())).collect::<Vec<_>>().join(" ")
}

fn enable(
    mount: &Path,
    directory: &Path,
    controllers: &[String],
    needed: &[(String, String)],
    spent: &Spent,
) -> Result<()> {
    let missing_in = |path: PathBuf| -> Result<Vec<&String>> {
        let there = read_value_sparing(&path, spent)?;
        Ok(controllers.iter().filter(|c| !there.split_whitespace().any(|word| word == c.as_str())).collect())
    };
    if missing_in(directory.join("cgroup.controllers"))?.is_empty() {
        return Ok(());
    }
    for parent in above(mount, directory) {
        let file = parent.join("cgroup.subtree_control");
        let missing = missing_in(file.clone())?;
        if missing.is_empty() || write_values(&file, &[plus(&missing)]).is_ok() {
            continue;
        }
        // All or none are enabled by one write. One that nobody asked for may be missing.
        for controller in missing {
            let Err(failure) = write_values(&file, &[format!("+{controller}")]) else { continue };
            if let Some((_, place)) = needed.iter().find(|(name, _)| name == controller) {
                let why = match failure.errno {
                    Errno::EBUSY => "has processes of its own, and such a cgroup cannot pass controllers on",
                    Errno::ENOENT => "does not have it itself",
                    Errno::EOPNOTSUPP => "is threaded",
                    Errno::EACCES | Errno::EPERM => "is not delegated to the caller",
                    Errno::EROFS => "is mounted read-only",
                    _ => "does not pass it on",
                };
                let because = format!("{place} needs the {controller} controller, but {} {why}", parent.display());
                return Err(failure.because(because));
            }
        }
    }
    Ok(())
}

/// Fills an empty cpuset file from the directory above, which may be empty itself. Returns what is in it at the end.
fn inherit(mount: &Path, directory: &Path, file: &str, spent: &Spent) -> Result<String> {
    let path = directory.join(file);
    let there = open(&path, if directory == mount { OFlag::O_RDONLY } else { OFlag::O_RDWR })?;
    let value = read_once(&there, &path)?;
    let Some(parent) = directory.parent().filter(|_| value.is_empty() && directory != mount) else {
        spent.take(there);
        return Ok(value);
    };
    let value = inherit(mount, parent, file, spent)?;
    write_once(&there, &path, &value)
        .map_err(|f| f.because(format!("cpuset {} cannot take the {file} of the one above it", directory.display())))?;
    spent.take(there);
    Ok(value)
}

fn check(path: &Path, limit: u64, place: &str) -> Result<()> {
    // As in runc, only what can be read is checked.
    let usage = read_value(path).ok().and_then(|text| text.parse::<u64>().ok());
    match usage {
        Some(usage) if limit <= usage => Err(Failure::refused(
            format!("openat({path:?}); read()"),
            Errno::EBUSY,
            format!("{place}: {limit} is not more than the {usage} bytes in use"),
        )),
        _ => Ok(()),
    }
}

fn attach(group: Group<'_>, directory: &Path, program: &[bpf::Instruction], spent: &Spent) -> Result<()> {
    let Group { directory: group, origin } = group;
    let ids = match origin {
        Origin::Made => Vec::new(),
        Origin::Found => bpf::attached_device_programs(group)
            .called(|| format!("bpf(BPF_PROG_QUERY, {directory:?}, BPF_CGROUP_DEVICE)"))?,
    };
    let old = ids
        .into_iter()
        .map(|id| bpf::program_by_id(id).called(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})")))
        .collect::<Result<Vec<OwnedFd>>>()?;
    let new = bpf::load_device_program(program)?;
    bpf::attach_device_program(group, new.as_fd(), old.first().map(OwnedFd::as_fd))
        .called(|| format!("bpf(BPF_PROG_ATTACH, {directory:?}, BPF_CGROUP_DEVICE)"))?;
    for more in old.iter().skip(1) {
        bpf::detach_device_program(group, more.as_fd())
            .called(|| format!("bpf(BPF_PROG_DETACH, {directory:?}, BPF_CGROUP_DEVICE)"))?;
    }
    spent.take_all(old.into_iter().chain([new]));
    Ok(())
}

impl Cgroup {
    /// Version 1: the `tasks` file of every directory. The parent opens them and the child writes `0` to each: a child in a user
    /// namespace may use them, not open them.
    pub fn tasks(&self) -> Vec<PathBuf> {
        self.directories.iter().map(|directory| directory.path.join("tasks")).collect()
    }

    /// Version 2: the directory, for `CLONE_INTO_CGROUP`. On version 1 that of the first hierarchy, which has no such use.
    pub fn open_directory(&self) -> Result<OwnedFd> {
        open_directory(&self.directories[0].path)
    }
}

/// Opens a directory for use in other calls.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .called(|| format!("openat({path:?}, O_RDONLY|O_DIRECTORY)"))
}

/// Opens a file of a cgroup.
pub(super) fn open(path: &Path, access: OFlag) -> Result<OwnedFd> {
    openat(AT_FDCWD, path, access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()).called(|| {
        let access = match access {
            OFlag::O_RDONLY => "O_RDONLY",
            OFlag::O_WRONLY => "O_WRONLY",
            _ => "O_RDWR",
        };
        format!("openat({path:?}, {access})")
    })
}

/// Writes each value with a write of its own, as the kernel wants the lines of a list.
pub(super) fn write_values(path: &Path, values: &[String]) -> Result<()> {
    written(path, values).map(drop)
}

/// The same; the file is still open.
fn written(path: &Path, values: &[String]) -> Result<OwnedFd> {
    let file = open(path, OFlag::O_WRONLY)?;
    values.iter().try_for_each(|value| write_once(&file, path, value))?;
    Ok(file)
}

fn write_once(file: &OwnedFd, path: &Path, value: &str) -> Result<()> {
    nix::unistd::write(file, value.as_bytes()).called(|| format!("write({path:?}, {value:?})")).map(drop)
}

/// The content of a file with one value, without the newline.
pub(super) fn read_value(path: &Path) -> Result<String> {
    read_once(&open(path, OFlag::O_RDONLY)?, path)
}

/// The same; the file is closed with others.
pub(super) fn read_value_sparing(path: &Path, spent: &Spent) -> Result<String> {
    let file = open(path, OFlag::O_RDONLY)?;
    let value = read_once(&file, path);
    spent.take(file);
    value
}

/// The same, of a file below a directory that is open.
pub(super) fn read_value_below_sparing(directory: BorrowedFd<'_>, path: &Path, spent: &Spent) -> Result<String> {
    let file = openat(directory, path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    let file = file.called(|| format!("openat({path:?}, O_RDONLY)"))?;
    let text = read_once(&file, path);
    spent.take(file);
    text
}

fn read_once(file: &OwnedFd, path: &Path) -> Result<String> {
    let mut buffer = [0; 4096];
    let length = nix::unistd::read(file, &mut buffer).called(|| format!("read({path:?})"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

/// The whole of a file that may be long.
pub(super) fn read_all(path: &Path) -> Result<String> {
    let file = open(path, OFlag::O_RDONLY)?;
    let mut content = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match nix::unistd::read(&file, &mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&content).into_owned()),
            Ok(length) => content.extend_from_slice(&buffer[..length]),
            Err(errno) => return Err(errno).called(|| format!("read({path:?})")),
        }
    }
}
