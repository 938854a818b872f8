//! Where the facts lie: one directory per id, appearing whole, replaced file by file, gone at once.
//!
//! - An id is taken by renaming a finished directory into place (`RENAME_NOREPLACE`): nobody ever sees half a record.
//! - What is about to exist is `intent.json`, what exists `state.json`, written to a temporary file and renamed. Not one name for both: ext4
//!   writes a file to the disk at once when it takes the place of another one, and who then removes it waits for that (0.3 ms).
//! - Changes to an entry are made under `flock` on its directory; nobody holds it across a hook or while waiting.
//! - Removing renames the directory away first: whoever wins the rename owns the rest. What a killed remover left behind is swept by the next.

use super::{FORMAT, State};
use crate::error::{Error, Result};
use crate::sys::Called;
use crate::sys::dir;
use crate::sys::file::{self, End};
use crate::sys::spent::Spent;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{UnlinkatFlags, unlinkat, write};
use std::cell::{Cell, OnceCell};
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a directory that is being made or removed begins with: no id can.
const TRANSIENT: char = '~';

/// All containers below one `--root`.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
}

/// One container's directory, open.
#[derive(Debug)]
pub struct Entry {
    dir: OwnedFd,
    path: PathBuf,
    /// Device and inode of the directory, once they were asked for.
    identity: OnceCell<(u64, u64)>,
    /// Files that were read or written: closed with the directory, or earlier if they are many.
    read: Spent,
    /// `held` was taken away by us.
    released: Cell<bool>,
}

/// An entry whose directory is locked against other changes, until it is dropped.
#[derive(Debug)]
pub struct Locked(File);

impl Locked {
    /// Unlocks it when others are closed: for who runs nothing meanwhile.
    pub fn unlock_with(self, spent: &Spent) {
        spent.take(self.0);
    }
}

/// The facts before there is a first process, and from then on.
const INTENT: &str = "intent.json";
const FACTS: &str = "state.json";
/// The configuration in force.
pub const CONFIGURATION: &str = "config.json";
/// What `exec` needs of it, and its filter, compiled ([`Joining`](super::joining::Joining)). Only where that was compiled while the child was at work.
pub const JOINING: &str = "exec";

/// The socket on which init waits for `start`.
pub const GATE: &str = "start";
/// A lock that init holds until execve or death.
pub const HELD: &str = "held";

/// Bytes of a long state.json or config.json: one read takes either.
const LONG_RECORD: usize = 16 << 10;

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

fn missing(path: &Path) -> Error {
    Error::new("container does not exist").detail(format!("looked in {}", path.parent().unwrap_or(path).display()))
}

impl Store {
    /// The store at `path`, which need not exist yet.
    pub fn new(path: PathBuf) -> Self {
        Store { path }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is nothing here that another boot has written? So it is on a tmpfs, as `/run` is one.
    pub fn is_gone_with_boot(&self) -> bool {
        statfs(&self.path).is_ok_and(|about| about.filesystem_type() == TMPFS_MAGIC)
    }

    /// Takes an id: writes the record aside and renames it into place. The file is `held`, open and not locked yet.
    pub fn make(&self, state: &State, spent: &Spent) -> Result<(Entry, File)> {
        let transient = format!("{TRANSIENT}new-{}", state.creator.pid);
        let place = self.path.join(&transient);
        let made = mkdir(&place).or_else(|errno| match errno {
            Errno::ENOENT => {
                std::fs::create_dir_all(&self.path)
                    .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
                nix::sys::stat::fchmodat(
                    AT_FDCWD,
                    &self.path,
                    Mode::S_IRWXU,
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )?;
                mkdir(&place)
            }
            // Left by a killed process whose number is ours now.
            Errno::EEXIST => {
                let _ = std::fs::remove_dir_all(&place);
                mkdir(&place)
            }
            other => Err(other),
        });
        made.called(|| format!("mkdir({place:?})")).map_err(|e| Error::from(e).at("state"))?;
        let filled = self.fill(&place, state, spent);
        let taken = filled.and_then(|(dir, held)| {
            let target = self.path.join(&state.id);
            match crate::sys::rename_new(&place, &target) {
                Ok(()) => Ok((Entry::new(dir, target), held)),
                Err(Errno::EEXIST) => Err(self.taken(&state.id)),
                Err(errno) => {
                    Err(Err::<(), _>(errno).called(|| format!("renameat2({place:?}, {target:?})")).unwrap_err().into())
                }
            }
        });
        if taken.is_err() {
            let _ = std::fs::remove_dir_all(&place);
        }
        taken
    }

    fn fill(&self, place: &Path, state: &State, spent: &Spent) -> Result<(OwnedFd, File)> {
        let dir = file::open(place, DIRECTORY).called(|| format!("openat({place:?})"))?;
        // For reading: whoever gets hold of init's descriptor can do nothing with it.
        let filled = create(dir.as_fd(), HELD, OFlag::O_RDONLY)
            .and_then(|held| Ok((write_new(dir.as_fd(), INTENT, &encode(state))?, held)));
        let (facts, held) = filled.map_err(|e| Error::from(e).at("state"))?;
        spent.take(facts);
        Ok((dir, held.into()))
    }

    fn taken(&self, id: &str) -> Error {
        let who = self.find(id).ok().flatten().and_then(|entry| {
            let state = entry.load().ok()?;
            let status = super::status::of(&entry, &state);
            Some(state.init.map_or_else(|| format!(" ({status})"), |init| format!(" ({status}, pid {})", init.pid)))
        });
        Error::new(format!("this id is taken{}: container with given ID already exists", who.unwrap_or_default()))
            .hint(format!("`corten rm -f {id}`, or choose another id"))
    }

    /// Opens an id's directory, if there is one.
    pub fn find(&self, id: &str) -> Result<Option<Entry>> {
        let path = self.path.join(id);
        match file::open(&path, DIRECTORY) {
            Ok(dir) => Ok(Some(Entry::new(dir, path))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::from(Err::<(), _>(errno).called(|| format!("openat({path:?})")).unwrap_err())),
        }
    }

    /// Opens an id's directory, or says that there is none in the words that callers look for.
    pub fn get(&self, id: &str) -> Result<Entry> {
        self.find(id)?.ok_or_else(|| missing(&self.path.join(id)))
    }

    /// All containers, to be looked at one after the other; `None`: there never was one.
    pub fn all(&self) -> Result<Option<All>> {
        match file::open(&self.path, DIRECTORY) {
            Ok(root) => Ok(Some(All { ids: self.ids()?, root })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => {
                Err(Error::from(Err::<(), _>(errno).called(|| format!("openat({:?})", self.path)).unwrap_err()))
            }
        }
    }

    /// All ids, sorted.
    pub fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => {
                return Err(Error::from(Err::<(), _>(e).called(|| format!("openat({:?})", self.path)).unwrap_err()));
            }
        };
        let mut ids: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with(TRANSIENT))
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Takes an entry out of the store for good. `false`: somebody else did.
    ///
    /// The caller holds the entry's lock. `state`: its facts, if they are known; they tell what lies there.
    pub fn remove(&self, entry: &Entry, state: Option<&State>) -> Result<bool> {
        if !entry.is_linked() {
            return Ok(false);
        }
        let away = self.path.join(format!("{TRANSIENT}gone-{}", crate::sys::process::own_pid()));
        let rename = || nix::fcntl::renameat(AT_FDCWD, &entry.path, AT_FDCWD, &away);
        let renamed = rename().or_else(|errno| match errno {
            // Left by a killed process whose number is ours now.
            Errno::EEXIST | Errno::ENOTEMPTY => {
                let _ = std::fs::remove_dir_all(&away);
                rename()
            }
            other => Err(other),
        });
        match renamed {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(false),
            // A full disk still lets us remove.
            Err(_) => {
                std::fs::remove_dir_all(&entry.path).called(|| format!("unlinkat({:?})", entry.path))?;
                return Ok(true);
            }
        }
        // The older facts first: whoever has the directory open takes the newer ones where it finds them.
        let gate = state.is_none_or(|state| state.gate).then_some(GATE);
        let held = (!entry.released.get()).then_some(HELD);
        for name in [CONFIGURATION, JOINING, INTENT, FACTS].into_iter().chain(held).chain(gate) {
            let _ = unlinkat(&entry.dir, name, UnlinkatFlags::NoRemoveDir);
        }
        if unlinkat(AT_FDCWD, &away, UnlinkatFlags::RemoveDir).is_err() {
            std::fs::remove_dir_all(&away).called(|| format!("unlinkat({away:?})"))?;
        }
        Ok(true)
    }

    /// Sweeps what processes that were killed in [`Store::make`] or [`Store::remove`] left behind. Beside many containers only one process in sixteen
    /// looks at all names, and the others at the first: the kernel takes half a microsecond for each, and no removal shall pay for a thousand.
    pub fn sweep(&self) {
        const ONE_IN: u8 = 16;
        // Not by the pid: a script may give all its children odd ones.
        let mut dice = [0];
        let _ = crate::sys::random::fill(&mut dice);
        let calls = if dice[0] % ONE_IN == 0 { usize::MAX } else { 1 };
        let is_transient = |name: &[u8]| name.first() == Some(&(TRANSIENT as u8));
        let left = file::open(&self.path, DIRECTORY).and_then(|root| dir::list_where(root, calls, is_transient));
        for entry in left.unwrap_or_default() {
            let Some(name) = entry.name.to_str() else { continue };
            let owner = name.rsplit('-').next().and_then(|pid| pid.parse::<i32>().ok());
            if owner.is_none_or(|pid| super::status::stat(pid).is_none()) {
                let _ = std::fs::remove_dir_all(self.path.join(name));
            }
        }
    }
}

/// All containers of a store. Each is looked at by its files alone, not by a directory and files in that: of hundreds that is felt.
#[derive(Debug)]
pub struct All {
    root: OwnedFd,
    ids: Vec<String>,
}

impl All {
    /// Their ids, sorted.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Puts the text of one's facts behind others; where it lies. `None` where they are not what and where they mostly are: [`Store::find`] knows more.
    /// Files are closed with others.
    pub fn record(&self, id: &str, texts: &mut Vec<u8>, spent: &Spent) -> Option<Range<usize>> {
        let file = self.open(id, FACTS).ok()?;
        let from = texts.len();
        let read = file::read_behind(&file, End::Less, LONG_RECORD, texts);
        spent.take(file);
        read.ok().map(|()| from..texts.len())
    }

    /// Does its init hold the lock?
    pub fn is_held(&self, id: &str, spent: &Spent) -> bool {
        let Ok(held) = self.open(id, HELD) else { return false };
        let is_held = held.try_lock_shared().is_err();
        // A lock of ours would be in the way of nobody but a second look: it goes with the descriptor.
        spent.take(held);
        is_held
    }

    fn open(&self, id: &str, name: &str) -> nix::Result<File> {
        let path = format!("{id}/{name}");
        openat(&self.root, path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
            .map(File::from)
    }
}

impl Entry {
    fn new(dir: OwnedFd, path: PathBuf) -> Self {
        Entry { dir, path, identity: OnceCell::new(), read: Spent::default(), released: Cell::new(false) }
    }

    /// The open directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Where files go that were read about this container.
    pub fn read_files(&self) -> &Spent {
        &self.read
    }

    /// Closes the directory and what was read in it.
    pub fn close(self) {
        self.read.close_with([self.dir]);
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is the directory still the one at its path? A remover renames it away.
    pub fn is_linked(&self) -> bool {
        let ours = self.identity.get().copied().or_else(|| {
            let found = fstat(&self.dir).ok()?;
            Some(*self.identity.get_or_init(|| (found.st_dev, found.st_ino)))
        });
        let there = fstatat(AT_FDCWD, &self.path, AtFlags::AT_SYMLINK_NOFOLLOW);
        there.is_ok_and(|there| ours == Some((there.st_dev, there.st_ino)))
    }

    /// Waits for the lock on this entry.
    pub fn lock(&self) -> Result<Locked> {
        // A lock belongs to the open file: a second descriptor of our own would not exclude another part of this process.
        let again = openat(&self.dir, ".", DIRECTORY, Mode::empty()).called(|| format!("openat({:?})", self.path))?;
        let file = File::from(again);
        file.lock().called(|| format!("flock({:?})", self.path))?;
        Ok(Locked(file))
    }

    /// The program runs, and nobody holds the lock any more: takes its file away, so that nobody need ask for it. One that is not there is not held;
    /// whoever is killed before only leaves a question more.
    pub fn release(&self) {
        self.released.set(unlinkat(&self.dir, HELD, UnlinkatFlags::NoRemoveDir).is_ok());
    }

    /// Reads the facts. An older format is understood; a newer one is refused by name.
    pub fn load(&self) -> Result<State> {
        let (name, read) = match self.open_file(FACTS) {
            Err(Errno::ENOENT) => (INTENT, self.read(INTENT)),
            file => (FACTS, self.read_opened(file, FACTS)),
        };
        let read = read.map_err(|error| {
            // Whoever removes it has renamed it away first: it was found a moment ago, and is gone.
            if self.is_linked() { error } else { missing(&self.path) }
        });
        decode(&read?).map_err(|e| e.at(self.path.join(name).display()))
    }

    /// Reads a file beside the facts.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        self.read_opened(self.open_file(name), name)
    }

    fn read_opened(&self, file: nix::Result<File>, name: &str) -> Result<Vec<u8>> {
        let file = file.called(|| format!("openat({:?})", self.path.join(name)))?;
        let bytes = file::read_rest(&file, End::Less, LONG_RECORD, usize::MAX);
        self.read.take(file);
        bytes.called(|| format!("read({:?})", self.path.join(name))).map_err(Error::from)
    }

    /// Opens a file beside the facts for reading.
    pub fn open_file(&self, name: &str) -> nix::Result<File> {
        openat(&self.dir, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty()).map(File::from)
    }

    /// Keeps something beside the facts. Before the first process is recorded: whoever finds that finds this.
    pub fn keep(&self, name: &str, bytes: &[u8], spent: &Spent) -> Result<()> {
        let kept = write_new(self.dir.as_fd(), name, bytes).map(|file| spent.take(file));
        kept.map_err(|failure| match failure.errno {
            Errno::ENOENT => Error::new("the container was deleted while it was being made"),
            _ => Error::from(failure).at("state"),
        })
    }

    /// Replaces the facts, whole. The caller holds the entry's lock.
    pub fn save(&self, state: &State) -> Result<()> {
        let transient = ".state";
        let saved = write_new(self.dir.as_fd(), transient, &encode(state)).and_then(|file| {
            self.read.take(file);
            nix::fcntl::renameat(&self.dir, transient, &self.dir, FACTS).called(|| format!("renameat({FACTS:?})"))
        });
        if saved.is_err() {
            let _ = unlinkat(&self.dir, transient, UnlinkatFlags::NoRemoveDir);
        }
        saved.map_err(|e| Error::from(e).at("state"))
    }
}

/// Reads the facts from their text.
pub fn decode(bytes: &[u8]) -> Result<State> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let newer =
        |format: u32| Error::new(format!("written by a newer corten (format {format}, this one knows up to {FORMAT})"));
    // As text, which is looked through once, and not string by string.
    let text = str::from_utf8(bytes).map_err(|e| Error::new(format!("the record is damaged: {e}")))?;
    match serde_json::from_str::<State>(text) {
        Ok(state) if state.format <= FORMAT => Ok(state),
        Ok(state) => Err(newer(state.format)),
        // Of a newer one only the format is sure to be where it is now.
        Err(damage) => Err(match serde_json::from_str(text) {
            Ok(Format { format }) if format > FORMAT => newer(format),
            _ => Error::new(format!("the record is damaged: {damage}")).hint("`corten delete -f` still cleans up"),
        }),
    }
}

fn encode(state: &State) -> Vec<u8> {
    serde_json::to_vec(state).expect("plain data with string keys")
}

fn mkdir(path: &Path) -> nix::Result<()> {
    nix::unistd::mkdir(path, Mode::S_IRWXU)
}

/// A file that was not there before.
fn create(dir: BorrowedFd<'_>, name: &str, access: OFlag) -> crate::sys::Result<OwnedFd> {
    let flags = access | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let call = || format!("openat({name:?}, O_CREAT|O_EXCL)");
    match openat(dir, name, flags, Mode::from_bits_retain(0o600)) {
        Err(Errno::EEXIST) => {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).called(|| format!("unlinkat({name:?})"))?;
            openat(dir, name, flags, Mode::from_bits_retain(0o600)).called(call)
        }
        other => other.called(call),
    }
}

/// Writes a whole file that was not there before; it is still open.
fn write_new(dir: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> crate::sys::Result<OwnedFd> {
    let fd = create(dir, name, OFlag::O_WRONLY)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = write(&fd, rest).called(|| format!("write({name:?})"))?;
        rest = &rest[written..];
    }
    Ok(fd)
}
