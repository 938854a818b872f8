//! One layer on its way into the store: made aside, settled, renamed.
//!
//! `tmp/layer-CHAINID/` is locked by whoever makes it, and becomes `layers/CHAINID/` by a rename: a layer that is there is whole. What a killed
//! process left is not locked, and is removed by the next who makes that layer, or by any pull ([`Store::sweep`]).

use super::super::ahead;
use super::super::apart::Apart;
use super::super::apply::{Layer, Position, Tree};
use super::super::digest::Digest;
use super::super::marks::Form;
use super::super::prune;
use super::super::stream::{Budget, Stream};
use super::below::Below;
use super::seed::seed;
use super::settle::{settle, wanted};
use super::{Store, lock, replace};
use crate::error;
use crate::error::{Error, Result};
use crate::sys::Called;
use crate::sys::file::{self, End};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often a layer is unpacked anew because the copies of what it wanted made it want more.
const ROUNDS: usize = 8;
/// How long a part of a blob is kept that nobody goes on with.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What layer.json says of a layer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Of the archive that it was unpacked from.
    pub diff_id: String,
    /// Bytes of that archive.
    pub archive: u64,
    /// Nothing below shows through: its root is opaque.
    pub alone: bool,
}

/// A layer that is being made.
pub struct Stage {
    path: PathBuf,
    target: PathBuf,
    /// The directory, locked.
    _lock: Flock<File>,
    diff: OwnedFd,
    unpacked: Option<Tried>,
}

/// A layer whose stream was read to its end.
struct Tried {
    apart: Apart,
    /// Of the archive.
    bytes: u64,
    /// Why it could not be unpacked; perhaps because it did not see the layers below.
    failed: Option<Error>,
}

impl Store {
    /// Locks a layer to be made; `None` if it is there, perhaps because another has just made it. `waits` is called before waiting.
    pub(super) fn stage(&self, chain: &Digest, waits: &dyn Fn()) -> Result<Option<Stage>> {
        let (path, target) = (self.temporary().join(format!("layer-{}", chain.hex)), self.layer(chain));
        loop {
            if target.exists() {
                return Ok(None);
            }
            super::make(&path)?;
            let open = || match File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                opened => opened.map(Some).called(|| format!("open({path:?})")),
            };
            let Some(directory) = open()? else { continue };
            let locked = match lock::attempt(directory)? {
                Some(locked) => locked,
                None => {
                    waits();
                    let Some(directory) = open()? else { continue };
                    lock::wait(directory, FlockArg::LockExclusive)?
                }
            };
            if !lock::is_at(&locked, &path)? {
                continue;
            }
            if target.exists() {
                remove(&self.temporary(), &path)?;
                return Ok(None);
            }
            return Ok(Some(Stage { diff: empty(&path)?, path, target, _lock: locked, unpacked: None }));
        }
    }

    /// Removes what killed processes left: layers at once, parts of blobs after a week.
    pub(super) fn sweep(&self, blobs: Sweep) -> Result<()> {
        let directory = self.temporary();
        for entry in fs::read_dir(&directory).called(|| format!("open({directory:?})"))? {
            let entry = entry.called(|| format!("getdents64({directory:?})"))?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if !name.starts_with("layer-") && !name.starts_with("blob-") && !name.starts_with("spool-") {
                continue;
            }
            let Ok(opened) = File::open(&path) else { continue };
            let Some(locked) = lock::attempt(opened)? else { continue };
            let old = || -> bool {
                let changed = locked.metadata().and_then(|meta| meta.modified());
                changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEPT))
            };
            let stays = name.starts_with("blob-") && blobs == Sweep::Old && !old();
            if !stays && lock::is_at(&locked, &path)? {
                remove(&directory, &path)?;
            }
        }
        Ok(())
    }

    /// What is known of a layer.
    pub(super) fn known(&self, chain: &Digest) -> Result<Known> {
        let path = self.layer(chain).join("layer.json");
        let bytes = file::read_bytes(&path, End::Less).called(|| format!("read({path:?})"))?;
        super::super::manifest::parse(&bytes).map_err(|e| e.at(path.display()))
    }
}

/// Which parts of blobs are left over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Those that nobody has gone on with for long.
    Old,
    /// All.
    All,
}

impl Stage {
    /// Unpacks a stream into the stage, verified to its end.
    pub fn unpack(&mut self, position: Position, stream: Stream<'_>, budget: &Budget) -> Result<()> {
        let mut tree = Tree::new(self.diff.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC)".into())?)?;
        let mut layer = tree.layer(position);
        let ignorant = |layer: &Layer<'_>| layer.apart().is_some_and(|apart| apart.made.len() + apart.wanted.len() > 0);
        let (bytes, failed) = ahead::attempt(stream, &mut layer, budget, &ignorant)?;
        self.unpacked = Some(Tried { apart: layer.finish()?, bytes, failed });
        Ok(())
    }

    /// Fits it to the layers below, and lets it be seen: from then on there is no stage. `again` gives the layer's stream once more.
    pub fn publish<'b>(
        &mut self,
        diff_id: &Digest,
        lower: &[PathBuf],
        budget: &'b Budget,
        again: &dyn Fn() -> Result<Stream<'b>>,
    ) -> Result<()> {
        let mut seeds: Vec<Vec<u8>> = Vec::new();
        let mut round = 0;
        let (alone, archive, marks) = loop {
            let Some(Tried { apart, bytes, failed }) = self.unpacked.take() else {
                return Err(error!("the layer was not unpacked"));
            };
            let below = Below::open(lower)?;
            let wanted = match (&failed, lower.is_empty()) {
                (None, true) => Vec::new(),
                (None, false) => settle(&self.diff, &apart, &below)?,
                (Some(_), _) => wanted(&apart, &below).unwrap_or_default(),
            };
            if failed.is_none() && wanted.is_empty() {
                break (apart.alone, bytes, apart.marks);
            }
            let known = seeds.len();
            seeds.extend(wanted.iter().filter(|path| !seeds.contains(path)).cloned().collect::<Vec<_>>());
            if let (true, Some(e)) = (seeds.len() == known, failed) {
                return Err(e);
            }
            if seeds.len() == known {
                let path = super::super::archive::show(&wanted[0]);
                return Err(error!("a hard link to {path:?}, which is not there (ENOENT)"));
            }
            round += 1;
            if round > ROUNDS {
                return Err(error!("its names lead through the layers below more than {ROUNDS} times"));
            }
            budget.give_back(bytes, 0);
            self.diff = empty(&self.path)?;
            seed(&self.diff, &seeds, &below, budget)?;
            self.unpack(Position::Apart, again()?, budget)?;
        };
        if marks == Some(Form::Pipes) {
            let [from, to] = [Form::Kernels, Form::Pipes].map(|form| self.path.join(form.directory()));
            fs::rename(&from, &to).called(|| format!("rename({from:?}, {to:?})"))?;
        }
        let known = Known { diff_id: diff_id.to_string(), archive, alone };
        let json = serde_json::to_vec(&known).map_err(|e| error!("layer.json: {e}"))?;
        replace(&self.path.join("layer.json.new"), &self.path.join("layer.json"), &json)?;
        Ok(fs::rename(&self.path, &self.target).called(|| format!("rename({:?}, {:?})", self.path, self.target))?)
    }

    /// Removes what is in it, to begin anew.
    pub fn clear(&mut self) -> Result<()> {
        self.diff = empty(&self.path)?;
        Ok(())
    }

    /// Removes what was made.
    pub fn discard(self) {
        if let Some(parent) = self.path.parent() {
            drop(remove(parent, &self.path));
        }
    }
}

/// Empties a stage, and makes the directory that the layer goes to.
fn empty(stage: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let directory = file::open(stage, flags).called(|| format!("open({stage:?}, DIRECTORY)"))?;
    prune::content(directory, &prune::nothing)?;
    let diff = stage.join(Form::Kernels.directory());
    super::make(&diff)?;
    let diff = file::open(&diff, flags).called(|| format!("open({diff:?}, DIRECTORY)"))?;
    // What a layer has that says nothing of its root.
    fchmod(&diff, Mode::from_bits_truncate(0o755)).called(|| "fchmod(diff, 0755)".into())?;
    Ok(diff)
}

/// Removes something of the store and all below it.
pub fn remove(parent: &Path, path: &Path) -> Result<()> {
    let parent = file::open(parent, OFlag::O_RDONLY | OFlag::O_DIRECTORY).called(|| format!("open({parent:?})"))?;
    match prune::entry(parent.as_fd(), path.file_name().unwrap_or(OsStr::new(".")), &prune::nothing) {
        Err(failure) if failure.errno == Errno::ENOENT => Ok(()),
        removed => Ok(removed?),
    }
}
