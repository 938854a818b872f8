//! Brings an image into the store: documents, then the layers, several at a time, each read once.
//!
//! By hand, for one layer: `curl URL | tee blob | gunzip | tee >(sha256sum >&2) | tar -x`. A layer is hashed, written down, inflated, hashed
//! again and unpacked in one pass, in a directory of its own; layers do not see one another until they are settled, from the lowest up, each
//! when all below it are there. All threads have ended when `add` returns: a process that clones must have one only.

use super::super::apply::Position;
use super::super::digest::Digest;
use super::super::manifest::{Image, LayerBlob, Platform, follow};
use super::super::source::{self, Source};
use super::super::stream::{Blob, Budget, Stream};
use super::fetch::{Pull, Wanted};
use super::images::{Stored, chains};
use super::stage::{Stage, Sweep};
use super::{Store, unpacked};
use crate::error;
use crate::error::{Error, Result};
use oci_spec::image::{Descriptor, PlatformBuilder};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// How many layers at once. More would not be faster where two processors inflate, and each needs its window.
const WORKERS: usize = 3;

/// What happens to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A layer of this many bytes belongs to the image.
    Expected {
        /// Of the blob.
        size: u64,
    },
    /// It is in the store already.
    Present,
    /// Another process is at it.
    Waiting,
    /// It goes on here, after an interruption.
    Resumed {
        /// Bytes that are there.
        from: u64,
    },
    /// It has come this far.
    Read {
        /// Bytes from its beginning.
        bytes: u64,
    },
    /// It is unpacked, and can be seen.
    Unpacked,
}

/// Who is told how a pull goes on; from several threads.
pub trait Progress: Sync {
    /// Something happened to this blob.
    fn tell(&self, blob: &Digest, event: Event);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn tell(&self, _: &Digest, _: Event) {}
}

/// One layer of the image.
struct Part<'a> {
    blob: &'a LayerBlob,
    descriptor: Descriptor,
    chain: Digest,
}

/// Layers that wait for those below them.
struct Ready<'a> {
    /// From the lowest, how many are in the store.
    published: usize,
    waiting: BTreeMap<usize, Option<Stage>>,
    lower: Vec<PathBuf>,
    budget: &'a Budget,
}

impl Store {
    /// Adds the image that `top` is, or that it has for this platform, and gives it a name.
    ///
    /// What is in the store already is not fetched. On an error the blobs and layers that are whole stay, and the image has no name.
    pub fn add(
        &self,
        source: &dyn Source,
        top: &Descriptor,
        platform: &Platform,
        name: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Stored> {
        self.distrust()?;
        let held = self.hold()?;
        let unsynced = self.unsynced()?;
        self.sweep(Sweep::Old)?;
        let pull = Pull { source, progress, cancelled: AtomicBool::new(false) };
        let budget = Budget::new(&self.limits);
        let image = self.documents(&pull, top, platform);
        let image = image.and_then(|image| self.layers_in(&pull, &image, &budget).map(|()| image));
        // Also what came of a pull that failed: it stays. The first error is the one to be told.
        let synced = self.sync(unsynced);
        let image = image?;
        synced?;
        let manifest = plain(&image)?;
        self.name(&manifest, name, Some(top.digest().as_ref()))?;
        let stored = self.stored(&manifest)?;
        drop(held);
        Ok(stored)
    }

    /// Manifest and configuration: fetched or found, verified, written down.
    fn documents(&self, pull: &Pull<'_>, top: &Descriptor, platform: &Platform) -> Result<Image> {
        let source = pull.source;
        let own = |descriptor: &Descriptor| source::document(self.layout(), descriptor);
        let get = |descriptor: &Descriptor| own(descriptor).or_else(|_| source::document(source, descriptor));
        let image = follow(top, platform, &get)?;
        for descriptor in [&image.id, &image.manifest] {
            if own(descriptor).is_err() {
                let bytes = source::document(source, descriptor)?;
                let digest = Digest::parse(descriptor.digest().as_ref())?;
                if let Wanted::Missing(partial) = self.want(&digest, descriptor.size(), pull)? {
                    partial.fill(&bytes)?;
                    self.keep(&partial, &digest)?;
                }
            }
        }
        Ok(image)
    }

    fn layers_in(&self, pull: &Pull<'_>, image: &Image, budget: &Budget) -> Result<()> {
        let parts: Vec<Part<'_>> = chains(&image.layers)
            .into_iter()
            .zip(&image.layers)
            .map(|(chain, blob)| Ok(Part { blob, descriptor: blob.descriptor()?, chain }))
            .collect::<Result<_>>()?;
        for part in &parts {
            pull.progress.tell(&part.blob.digest, Event::Expected { size: part.blob.size });
        }
        let next = AtomicUsize::new(0);
        let ready = Mutex::new(Ready { published: 0, waiting: BTreeMap::new(), lower: Vec::new(), budget });
        let first = Mutex::new(None::<Error>);
        let work = || {
            while !pull.cancelled.load(Relaxed) {
                let n = next.fetch_add(1, Relaxed);
                let Some(part) = parts.get(n) else { break };
                let at = |e: Error| e.at(format!("layers[{n}] {}", part.blob.digest));
                let stage = self.part(pull, n, part, budget).map_err(at);
                let done = stage.and_then(|stage| self.publish(pull, &parts, n, stage, &ready));
                if let Err(e) = done {
                    pull.cancelled.store(true, Relaxed);
                    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                    first.get_or_insert(e);
                }
            }
        };
        std::thread::scope(|scope| {
            let more = WORKERS.min(parts.len()).saturating_sub(1);
            for _ in 0..more {
                // A thread that cannot be had is one less.
                drop(std::thread::Builder::new().name("layer".into()).spawn_scoped(scope, work));
            }
            work();
        });
        for stage in ready.into_inner().unwrap_or_else(PoisonError::into_inner).waiting.into_values().flatten() {
            stage.discard();
        }
        first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Fetches a layer's blob and unpacks it. `None`: the layer was there.
    fn part(&self, pull: &Pull<'_>, n: usize, part: &Part<'_>, budget: &Budget) -> Result<Option<Stage>> {
        let digest = &part.blob.digest;
        let waits = || pull.progress.tell(digest, Event::Waiting);
        let mut stage = self.stage(&part.chain, &waits)?;
        let done = self.blob_in(pull, n, part, stage.as_mut(), budget);
        match (done, stage) {
            (Ok(()), stage) => Ok(stage),
            (Err(e), Some(stage)) => {
                stage.discard();
                Err(e)
            }
            (Err(e), None) => Err(e),
        }
    }

    fn blob_in(
        &self,
        pull: &Pull<'_>,
        n: usize,
        part: &Part<'_>,
        mut stage: Option<&mut Stage>,
        budget: &Budget,
    ) -> Result<()> {
        let (blob, digest) = (part.blob, &part.blob.digest);
        let position = if n == 0 { Position::Base } else { Position::Apart };
        let unpack = |from: Blob<'_>, stage: &mut Option<&mut Stage>| match stage {
            Some(stage) => stage.unpack(position, Stream::new(from, blob, budget), budget),
            None => from.verify(),
        };
        let partial = match self.want(digest, blob.size, pull)? {
            Wanted::Present(file) => {
                pull.progress.tell(digest, Event::Present);
                if stage.is_none() {
                    return Ok(());
                }
                let done = unpack(Blob::new(file, digest.clone(), blob.size), &mut stage);
                if done.is_ok() || self.sound(blob)? {
                    return done;
                }
                // It went bad on the disk.
                stage.iter_mut().try_for_each(|stage| stage.clear())?;
                return self.blob_in(pull, n, part, stage, budget);
            }
            Wanted::Missing(partial) => partial,
        };
        let kept = partial.length()?;
        let attempt = |stage: &mut Option<&mut Stage>| {
            let incoming = partial.incoming(pull, &part.descriptor, digest)?;
            unpack(Blob::new(incoming, digest.clone(), blob.size), stage)
        };
        let mut done = attempt(&mut stage);
        if done.is_err() && kept > 0 && !partial.is_worth() {
            // What came is not the blob; perhaps only what was kept is not.
            partial.forget()?;
            stage.iter_mut().try_for_each(|stage| stage.clear())?;
            done = attempt(&mut stage);
        }
        match done {
            Ok(()) => self.keep(&partial, digest),
            Err(e) => {
                if !partial.is_worth() || partial.length()? == 0 {
                    partial.remove();
                }
                Err(e)
            }
        }
    }

    /// Is the blob what its name says? If not, it is removed.
    fn sound(&self, blob: &LayerBlob) -> Result<bool> {
        let good = self.layout().blob(&blob.digest, blob.size)?.verify().is_ok();
        if !good {
            drop(std::fs::remove_file(self.blob(&blob.digest)));
        }
        Ok(good)
    }

    /// Puts layer `n` among those that are ready, and publishes all whose turn it is.
    fn publish(
        &self,
        pull: &Pull<'_>,
        parts: &[Part<'_>],
        n: usize,
        stage: Option<Stage>,
        ready: &Mutex<Ready<'_>>,
    ) -> Result<()> {
        let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.waiting.insert(n, stage);
        loop {
            let next = ready.published;
            let Some(stage) = ready.waiting.remove(&next) else { return Ok(()) };
            let part = &parts[next];
            if let Some(mut stage) = stage {
                let again = || {
                    let blob = self.layout().blob(&part.blob.digest, part.blob.size)?;
                    Ok(Stream::new(blob, part.blob, ready.budget))
                };
                let at = |e: Error| e.at(format!("layers[{next}] {}", part.blob.digest));
                let done = stage.publish(&part.blob.diff_id, &ready.lower, ready.budget, &again);
                if let Err(e) = done {
                    stage.discard();
                    return Err(at(e));
                }
            }
            if self.known(&part.chain)?.alone {
                ready.lower.clear();
            }
            ready.lower.push(unpacked(self.path(), &part.chain));
            ready.published += 1;
            pull.progress.tell(&part.blob.digest, Event::Unpacked);
        }
    }
}

/// The manifest's descriptor without what others wrote on it, and with the platform that the configuration names.
fn plain(image: &Image) -> Result<Descriptor> {
    let from = &image.manifest;
    let mut plain = Descriptor::new(from.media_type().clone(), from.size(), from.digest().clone());
    let platform =
        PlatformBuilder::default().os(image.config.os().clone()).architecture(image.config.architecture().clone());
    plain.set_platform(Some(platform.build().map_err(|e| error!("{e}"))?));
    Ok(plain)
}
