//! The containers made from images: a directory each, in the store.
//!
//! ```text
//! STORE/containers/HEX/        0700; HEX are the 64 digits of its id
//!           HEX/image          the digest of the image that it was made from
//!           HEX/record.json    its name, its command, how it is to be stopped, how it ended
//!           HEX/rootfs/        the directory that its root is mounted on; without overlay, its root
//!           HEX/upper/ work/   what it has written, and the kernel's own
//!           HEX/hosts …        files that are given to it
//! STORE/names/NAME -> HEX      whose name it is: a name is a file, so no two have the same
//! STORE/at-end/HEX             an empty file for each container that is to be removed at its end
//! ```
//!
//! By hand: `ls -l STORE/names`; `cat STORE/containers/*/record.json`; `flock -n STORE/containers/HEX echo nobody is at work with it`.
//!
//! What we do: a container appears by the rename of a whole directory and goes by a rename, so nobody sees half of one. Who makes it, and who runs
//! it in the foreground, holds flock(2) on its directory, which the kernel lets go of when that process dies. So what a killed process left
//! behind is known: a directory whose name begins with `~`, or a container that was to be removed at its end, of which the runtime knows
//! nothing any more, and with whose directory nobody is at work. The next command sweeps it.
//!
//! What goes wrong: a process can be killed between any two calls. A name, and a mark in `at-end`, is made before its container appears, and one
//! that leads nowhere counts for nothing. Names and appearances change under one lock, on `containers`, which is never held while a tree is removed.
//! The record is on the disk before the container appears, unless it goes at its end anyhow: after a crash of the host nobody asks for that.

mod ground;
pub mod record;
mod sweep;

pub use ground::Ground;
pub use record::{Record, Removal};

use super::prune;
use crate::error;
use crate::error::Result;
use crate::sys::file::{self, End};
use crate::sys::path::{self, Links};
use crate::sys::{self, Called, start};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat, stat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, symlinkat, unlinkat};
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// What a directory that is being made or removed begins with: no id does.
const TRANSIENT: &str = "~";
/// Digits of an id.
const ID_DIGITS: usize = 64;
/// As few digits may stand for an id: fewer are a typing error.
const PREFIX_DIGITS: usize = 4;
/// The longest record, in bytes.
const LONGEST_RECORD: usize = 4 << 20;
/// How often a removal goes on where another one is at the same tree.
const TRIES: usize = 8;

/// What overlay makes in its working directory: `incompat` where it is volatile, `index` where it has one.
const KERNELS: [(&str, UnlinkatFlags); 6] = [
    ("work/index", UnlinkatFlags::RemoveDir),
    ("work/work/incompat/volatile/dirty", UnlinkatFlags::NoRemoveDir),
    ("work/work/incompat/volatile", UnlinkatFlags::RemoveDir),
    ("work/work/incompat", UnlinkatFlags::RemoveDir),
    ("work/work", UnlinkatFlags::RemoveDir),
    ("work", UnlinkatFlags::RemoveDir),
];

const IMAGE: &str = "image";
const RECORD: &str = "record.json";

/// All containers of a store.
#[derive(Debug)]
pub struct Containers {
    store: PathBuf,
    /// Of the store's file system.
    device: u64,
    dir: OwnedFd,
    names: OwnedFd,
    at_end: OwnedFd,
}

/// One container's directory, open.
#[derive(Debug)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    path: PathBuf,
    dir: OwnedFd,
    /// Its name, where we gave it.
    name: Option<String>,
    /// Held: this process is at work with it.
    lock: Option<File>,
}

/// What a container is made with.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// A new id, see [`fresh_id`].
    pub id: &'a str,
    /// Its name is checked, and must be free.
    pub record: &'a Record,
    /// The digest of its image.
    pub image: &'a str,
    /// The directories of the image's layers, absolute, the lowest first.
    pub layers: &'a [PathBuf],
    /// How they become its root.
    pub ground: &'a Ground,
}

/// 64 hexadecimal digits that nobody can guess.
pub fn fresh_id() -> Result<String> {
    let random = file::open("/dev/urandom", OFlag::O_RDONLY).called(|| "openat(\"/dev/urandom\")".into())?;
    let mut bytes = [0; ID_DIGITS / 2];
    std::io::Read::read_exact(&mut File::from(random), &mut bytes).called(|| "read(\"/dev/urandom\")".into())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// May a container have this name? As with Docker: a letter or digit, then letters, digits, `_`, `.` and `-`, two at least.
pub fn check_name(name: &str) -> Result<()> {
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = letters.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    if first && rest && (2..=255).contains(&name.len()) {
        return Ok(());
    }
    Err(error!("{name:?} is no name for a container: a letter or digit, then letters, digits, _ . -, two at least"))
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(is_digit)
}

fn is_digit(c: u8) -> bool {
    matches!(c, b'0'..=b'9' | b'a'..=b'f')
}

impl Containers {
    /// The containers of a store, which exists. It must be its owner's alone.
    pub fn open(store: &Path) -> Result<Containers> {
        let top = path::open_directory(store)?;
        let about = fstat(&top).called(|| format!("fstat({store:?})"))?;
        if about.st_uid != start::euid() || about.st_mode & 0o077 != 0 {
            return Err(error!("the image store {} is not its user's alone", store.display())
                .hint(format!("`chmod 700 {}`, if all in it is to be trusted", store.display())));
        }
        let below = |name: &str| -> Result<OwnedFd> {
            // Nearly always it is there.
            match openat(&top, name, DIRECTORY, Mode::empty()) {
                Err(Errno::ENOENT) => {}
                opened => return Ok(opened.called(|| format!("openat({:?})", store.join(name)))?),
            }
            match mkdirat(&top, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => Err(errno).called(|| format!("mkdirat({:?})", store.join(name)))?,
            }
            Ok(openat(&top, name, DIRECTORY, Mode::empty()).called(|| format!("openat({:?})", store.join(name)))?)
        };
        let (dir, names, at_end) = (below("containers")?, below("names")?, below("at-end")?);
        Ok(Containers { store: store.to_owned(), device: about.st_dev, dir, names, at_end })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.join("containers").join(name)
    }

    /// Until it is dropped, no container appears or goes, and no name changes.
    fn lock(&self) -> Result<File> {
        let again = openat(&self.dir, ".", DIRECTORY, Mode::empty()).called(|| "openat(containers)".into())?;
        let file = File::from(again);
        file.lock().called(|| "flock(containers, LOCK_EX)".into())?;
        Ok(file)
    }

    /// Opens what is in `containers`, if it is there.
    fn open_entry(&self, name: &str) -> Result<Option<Container>> {
        let path = self.path(name);
        match openat(&self.dir, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(Some(Container { id: name.to_owned(), path, dir, name: None, lock: None })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Err::<(), _>(errno).called(|| format!("openat({path:?})")).unwrap_err().into()),
        }
    }

    /// Makes a container. It is locked: this process is at work with it, until it is dropped.
    pub fn make(&self, making: &Making) -> Result<Container> {
        let name = &making.record.name;
        check_name(name)?;
        if !is_id(making.id) {
            return Err(error!("{:?} is no id: 64 hexadecimal digits", making.id));
        }
        let transient = format!("{TRANSIENT}new-{}", making.id);
        let made = {
            let _lock = self.lock()?;
            self.check_free(name)?;
            mkdirat(&self.dir, transient.as_str(), Mode::S_IRWXU)
                .called(|| format!("mkdirat({:?})", self.path(&transient)))?;
            self.open_entry(&transient)?.and_then(|made| made.locked().transpose()).transpose()?
        };
        let Some(made) = made else { return Err(error!("container {} was removed while it was made", making.id)) };
        made.fill(making)
            .and_then(|()| self.appear(made.path.as_path(), making))
            .map(|()| Container {
                id: making.id.to_owned(),
                path: self.path(making.id),
                name: Some(name.clone()),
                ..made
            })
            .inspect_err(|_| {
                let _ = prune::entry(self.dir.as_fd(), OsStr::new(&transient), &prune::nothing);
            })
    }

    /// The name first: where it leads to nothing, it counts for nothing.
    fn appear(&self, made: &Path, making: &Making) -> Result<()> {
        let (name, id) = (making.record.name.as_str(), making.id);
        let _lock = self.lock()?;
        self.check_free(name)?;
        symlinkat(id, &self.names, name).called(|| format!("symlinkat({id:?}, {name:?})"))?;
        if making.record.removal == Removal::AtEnd {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            drop(openat(&self.at_end, id, flags, Mode::S_IRUSR).called(|| format!("openat(at-end/{id}, O_CREAT)"))?);
        }
        let target = self.path(id);
        let renamed = sys::rename_new(made, &target);
        if renamed.is_err() {
            let _ = unlinkat(&self.names, name, UnlinkatFlags::NoRemoveDir);
            let _ = unlinkat(&self.at_end, id, UnlinkatFlags::NoRemoveDir);
        }
        Ok(renamed.called(|| format!("renameat2({made:?}, {target:?}, NOREPLACE)"))?)
    }

    /// Under the lock. A name that leads to nothing is taken away.
    fn check_free(&self, name: &str) -> Result<()> {
        let Some(id) = self.id_of(name)? else { return Ok(()) };
        if self.exists(&id) {
            return Err(error!("the name {name:?} is taken by container {}", &id[..12.min(id.len())])
                .hint(format!("`corten rm {name}`, or choose another name")));
        }
        Ok(unlinkat(&self.names, name, UnlinkatFlags::NoRemoveDir).called(|| format!("unlinkat(names/{name})"))?)
    }

    /// Whose name it is, whether that container is there or not.
    fn id_of(&self, name: &str) -> Result<Option<String>> {
        match readlinkat(&self.names, name) {
            Ok(id) => Ok(Some(id.to_string_lossy().into_owned())),
            Err(Errno::ENOENT | Errno::ENAMETOOLONG) => Ok(None),
            Err(errno) => Err(Err::<(), _>(errno).called(|| format!("readlinkat(names/{name})")).unwrap_err().into()),
        }
    }

    fn exists(&self, id: &str) -> bool {
        fstatat(&self.dir, id, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// By its name, its id, or the beginning of its id (four digits or more). The first that fits exactly wins.
    pub fn find(&self, word: &str) -> Result<Option<Container>> {
        if check_name(word).is_ok()
            && let Some(id) = self.id_of(word)?.filter(|id| is_id(id))
            && let Some(found) = self.open_entry(&id)?
        {
            return Ok(Some(found));
        }
        if is_id(word) {
            return self.open_entry(word);
        }
        if word.len() < PREFIX_DIGITS || !word.bytes().all(is_digit) {
            return Ok(None);
        }
        let mut fitting = self.ids()?.into_iter().filter(|id| id.starts_with(word));
        match (fitting.next(), fitting.next()) {
            (None, _) => Ok(None),
            (Some(id), None) => self.open_entry(&id),
            (Some(one), Some(other)) => Err(error!("{word} is the beginning of several ids: {one}, {other}")),
        }
    }

    /// What lies in `containers`, sorted.
    fn entries(&self) -> Result<Vec<String>> {
        names_in(self.dir.as_fd())
    }

    /// All ids, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        Ok(self.entries()?.into_iter().filter(|name| is_id(name)).collect())
    }

    /// All containers. One that goes meanwhile is left out.
    pub fn all(&self) -> Result<Vec<Container>> {
        self.ids()?.iter().filter_map(|id| self.open_entry(id).transpose()).collect()
    }

    /// Removes a container whose processes have ended. `false`: somebody else did.
    pub fn remove(&self, container: &Container) -> Result<bool> {
        let away = format!("{TRANSIENT}gone-{}", container.id);
        let was_told = {
            let _lock = self.lock()?;
            if !container.is_linked() {
                return Ok(false);
            }
            let was_told = self.take_name(container)?;
            renameat(&self.dir, container.id.as_str(), &self.dir, away.as_str())
                .called(|| format!("renameat({:?}, {:?})", container.path, self.path(&away)))?;
            let _ = unlinkat(&self.at_end, container.id.as_str(), UnlinkatFlags::NoRemoveDir);
            was_told
        };
        // Its name leads to nothing now.
        if !was_told {
            self.sweep_names(&[])?;
        }
        // Who sweeps leaves it alone meanwhile; if somebody else is at work with it, because of him.
        let _lock = container.lock.is_none().then(|| container.locked_again()).transpose()?;
        // Names that are known are four directories less to be listed. What else is there, and why, the walk says.
        let _ = KERNELS.iter().try_for_each(|(name, what)| unlinkat(&container.dir, *name, *what));
        self.prune(&away).map(|()| true)
    }

    /// Removes a tree that a sweeper may be at, too.
    fn prune(&self, name: &str) -> Result<()> {
        let mut last = Ok(());
        for _ in 0..TRIES {
            last = prune::entry(self.dir.as_fd(), OsStr::new(name), &prune::nothing);
            match &last {
                Err(failure) if matches!(failure.errno, Errno::ENOENT | Errno::ESTALE | Errno::ENOTEMPTY) => {}
                _ => break,
            }
        }
        Ok(last?)
    }

    /// Under the lock. The name may be another's by now. `false`: the record cannot be read, and does not tell it.
    fn take_name(&self, container: &Container) -> Result<bool> {
        let name = container.name.clone().map_or_else(|| container.record().map(|record| record.name), Ok);
        let Ok(name) = name else { return Ok(false) };
        if check_name(&name).is_ok() && self.id_of(&name)?.as_deref() == Some(&container.id) {
            let gone = unlinkat(&self.names, name.as_str(), UnlinkatFlags::NoRemoveDir);
            gone.called(|| format!("unlinkat(names/{name})"))?;
        }
        Ok(true)
    }
}

impl Container {
    /// Its directory: `rootfs`, `upper`, `work` and the files that are given to it lie in it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it, and those that it lies in; mode 0755 until it is filled.
    pub fn directory(&self, name: &Path) -> Result<OwnedFd> {
        let mode = Mode::from_bits_truncate(0o755);
        Ok(path::make_missing_directory(self.dir.as_fd(), name, mode, Links::Refuse)?)
    }

    /// Its open directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The same, locked: this process is at work with it until it is dropped. `None`: another one is.
    pub fn locked(self) -> Result<Option<Container>> {
        Ok(self.locked_again()?.map(|lock| Container { lock: Some(lock), ..self }))
    }

    /// Is another process at work with it?
    pub fn is_taken(&self) -> bool {
        matches!(self.locked_again(), Ok(None))
    }

    fn locked_again(&self) -> Result<Option<File>> {
        let again = openat(&self.dir, ".", DIRECTORY, Mode::empty()).called(|| format!("openat({:?})", self.path))?;
        let file = File::from(again);
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => {
                Err(Err::<(), _>(e).called(|| format!("flock({:?}, LOCK_EX|LOCK_NB)", self.path)).unwrap_err().into())
            }
        }
    }

    /// Is the directory still the one at its path? Who removes it renames it away.
    pub fn is_linked(&self) -> bool {
        let identity = |about: nix::sys::stat::FileStat| (about.st_dev, about.st_ino);
        matches!((fstat(&self.dir), stat(&self.path)), (Ok(ours), Ok(there)) if identity(ours) == identity(there))
    }

    /// The digest of its image.
    pub fn image(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read(IMAGE)?).trim_end().to_owned())
    }

    /// What is known of it.
    pub fn record(&self) -> Result<Record> {
        Record::from_bytes(&self.read(RECORD)?).map_err(|e| e.at(self.path.join(RECORD).display()))
    }

    /// Replaces what is known of it, whole.
    pub fn save(&self, record: &Record) -> Result<()> {
        let aside = ".record";
        let _ = unlinkat(&self.dir, aside, UnlinkatFlags::NoRemoveDir);
        self.write_record(aside, record)?;
        Ok(renameat(&self.dir, aside, &self.dir, RECORD)
            .called(|| format!("renameat({:?}, {RECORD:?})", self.path.join(aside)))?)
    }

    fn write_record(&self, name: &str, record: &Record) -> Result<()> {
        let file = self.write(name, &record.to_bytes(), Mode::from_bits_truncate(0o600))?;
        if record.removal == Removal::Kept {
            file.sync_data().called(|| format!("fdatasync({:?})", self.path.join(name)))?;
        }
        Ok(())
    }

    /// Makes a new file beside the record, such as `hosts`.
    pub fn write(&self, name: &str, bytes: &[u8], mode: Mode) -> Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made =
            openat(&self.dir, name, flags, mode).called(|| format!("openat({:?}, O_CREAT)", self.path.join(name)));
        let mut file = File::from(made?);
        file.write_all(bytes).called(|| format!("write({:?})", self.path.join(name)))?;
        // The caller's file mask is no statement about the container.
        fchmod(&file, mode).called(|| format!("fchmod({:?})", self.path.join(name)))?;
        Ok(file)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            openat(&self.dir, name, flags, Mode::empty()).called(|| format!("openat({:?})", self.path.join(name)))?;
        let read = file::read_rest(&file, End::Less, 4096, LONGEST_RECORD);
        Ok(read.called(|| format!("read({:?})", self.path.join(name)))?)
    }

    fn fill(&self, making: &Making) -> Result<()> {
        self.write(IMAGE, format!("{}\n", making.image).as_bytes(), Mode::from_bits_truncate(0o600))?;
        // In place: nobody sees the directory yet.
        self.write_record(RECORD, making.record)?;
        self.subdirectory("rootfs")?;
        match making.ground {
            Ground::Overlay => {
                self.subdirectory("work")?;
                self.subdirectory("upper")?;
                // What the kernel shows of `/` is the uppermost directory's.
                making.layers.last().map_or(Ok(()), |layer| as_root(layer, &self.open_subdirectory("upper")?))
            }
            Ground::Copy { .. } => Ok(super::copy::layers(making.layers, self.open_subdirectory("rootfs")?.as_fd())?),
        }
    }

    fn subdirectory(&self, name: &str) -> Result<()> {
        Ok(mkdirat(&self.dir, name, Mode::S_IRWXU).called(|| format!("mkdirat({:?})", self.path.join(name)))?)
    }

    fn open_subdirectory(&self, name: &str) -> Result<OwnedFd> {
        Ok(path::open_below(self.dir.as_fd(), Path::new(name), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Links::Refuse)?)
    }
}

/// Owner and mode of a layer's own directory.
fn as_root(layer: &Path, upper: &OwnedFd) -> Result<()> {
    let about = stat(layer).called(|| format!("stat({layer:?})"))?;
    let (user, group) = (Uid::from_raw(about.st_uid), Gid::from_raw(about.st_gid));
    fchown(upper, Some(user), Some(group)).called(|| "fchown(upper)".into())?;
    Ok(fchmod(upper, Mode::from_bits_truncate(about.st_mode & 0o7777)).called(|| "fchmod(upper)".into())?)
}

/// Sorted.
fn names_in(dir: BorrowedFd<'_>) -> Result<Vec<String>> {
    let entries = sys::dir::list(dir).called(|| "getdents64(containers)".into())?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
