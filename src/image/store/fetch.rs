//! One blob on its way into the store: read once, written down as it is read.
//!
//! By hand: `curl -C - -o tmp/blob-HEX URL`, and `sha256sum tmp/blob-HEX`. The stream goes to whoever verifies and unpacks it (`stream`) and
//! at the same time to `tmp/blob-HEX`; when the verdict is there, the file is renamed into `blobs`. What breaks off is asked for again from
//! there; what a killed pull left is read back first, so that the digest is that of the whole blob.
//!
//! What goes wrong: the kept part is damaged, or of another blob that claims this digest. Then the verdict says so, the file is thrown
//! away, and one more attempt begins at nothing.

use super::super::digest::Digest;
use super::super::source::Source;
use super::add::{Event, Progress};
use super::{Store, lock};
use crate::error;
use crate::error::{Error, Result};
use crate::sys::Called;
use nix::fcntl::{Flock, FlockArg};
use oci_spec::image::Descriptor;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// How often a stream that breaks off is taken up again without a single byte between.
const ATTEMPTS: u32 = 5;
/// The first pause; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);

/// What all threads of a pull share.
pub struct Pull<'a> {
    /// Where blobs come from.
    pub source: &'a dyn Source,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// One of them has failed: the others end.
    pub cancelled: AtomicBool,
}

/// A blob being fetched, locked against others who want it too.
pub struct Incoming<'a> {
    pull: &'a Pull<'a>,
    descriptor: &'a Descriptor,
    digest: &'a Digest,
    file: &'a File,
    worth: &'a AtomicBool,
    size: u64,
    /// How much of the file is left from before.
    kept: u64,
    position: u64,
    stream: Option<Box<dyn Read + Send>>,
    failed: u32,
}

/// The file that a blob is written to.
pub struct Partial {
    path: PathBuf,
    file: Flock<File>,
    /// It was the source that failed, or another layer: what came is worth keeping.
    worth: AtomicBool,
}

/// A blob that is wanted.
pub enum Wanted {
    /// It is in the store.
    Present(File),
    /// It is to be fetched.
    Missing(Partial),
}

impl Store {
    /// Finds a blob, or locks it to be fetched: waits for others who are at it.
    pub(super) fn want(&self, digest: &Digest, size: u64, pull: &Pull<'_>) -> Result<Wanted> {
        let path = self.temporary().join(format!("blob-{}", digest.hex));
        let mut told = false;
        loop {
            if let Some(file) = self.present(digest, size)? {
                return Ok(Wanted::Present(file));
            }
            let file = match lock::attempt(lock::open(&path)?)? {
                Some(file) => file,
                None => {
                    if !told {
                        pull.progress.tell(digest, Event::Waiting);
                    }
                    told = true;
                    lock::wait(lock::open(&path)?, FlockArg::LockExclusive)?
                }
            };
            // Whoever had it has renamed it meanwhile.
            if lock::is_at(&file, &path)? {
                match self.present(digest, size)? {
                    Some(found) => {
                        drop(fs::remove_file(&path));
                        return Ok(Wanted::Present(found));
                    }
                    None => return Ok(Wanted::Missing(Partial { path, file, worth: AtomicBool::new(false) })),
                }
            }
        }
    }

    /// Opens a blob that is in the store.
    fn present(&self, digest: &Digest, size: u64) -> Result<Option<File>> {
        let path = self.blob(digest);
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            file => {
                let file = file.called(|| format!("open({path:?})"))?;
                // Not what was renamed there: a disk that was full, or a hand.
                Ok((file.metadata().called(|| format!("fstat({path:?})"))?.len() == size).then_some(file))
            }
        }
    }

    /// The verdict was good: the blob is in the store.
    pub(super) fn keep(&self, partial: &Partial, digest: &Digest) -> Result<()> {
        let (from, to) = (&partial.path, self.blob(digest));
        if let Some(directory) = to.parent() {
            super::make(directory)?;
        }
        Ok(fs::rename(from, &to).called(|| format!("rename({from:?}, {to:?})"))?)
    }
}

impl Partial {
    /// The stream of the blob, what is kept of it first.
    pub fn incoming<'a>(
        &'a self,
        pull: &'a Pull<'a>,
        descriptor: &'a Descriptor,
        digest: &'a Digest,
    ) -> Result<Incoming<'a>> {
        let size = descriptor.size();
        let mut kept = self.length()?;
        if kept > size {
            self.forget()?;
            kept = 0;
        }
        if kept > 0 {
            pull.progress.tell(digest, Event::Resumed { from: kept });
        }
        Ok(Incoming {
            pull,
            descriptor,
            digest,
            file: &self.file,
            worth: &self.worth,
            size,
            kept,
            position: 0,
            stream: None,
            failed: 0,
        })
    }

    /// How much is there.
    pub fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().called(|| format!("fstat({:?})", self.path))?.len())
    }

    /// Is what came worth keeping, though it did not become a layer?
    pub fn is_worth(&self) -> bool {
        self.worth.load(Relaxed)
    }

    /// Throws away what is there.
    pub fn forget(&self) -> Result<()> {
        Ok(self.file.set_len(0).called(|| format!("ftruncate({:?}, 0)", self.path))?)
    }

    /// Writes all of it at once, whatever was there.
    pub fn fill(&self, bytes: &[u8]) -> Result<()> {
        self.forget()?;
        Ok(self.file.write_all_at(bytes, 0).called(|| format!("pwrite({:?})", self.path))?)
    }

    /// Removes the file: what came is of no use.
    pub fn remove(self) {
        drop(fs::remove_file(&self.path));
    }
}

impl Incoming<'_> {
    /// Reads on from the source; `None` when it broke off and is to be asked again.
    fn fetch(&mut self, into: &mut [u8]) -> Result<Option<usize>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.pull.source.open(self.descriptor, self.position)?),
        };
        match stream.read(into) {
            Ok(0) => Err(error!("the stream ends after {} of {} bytes", self.position, self.size)),
            Ok(got) => Ok(Some(got)),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(e) => Err(super::super::archive::told(e)),
        }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        if self.position < self.kept {
            let want = (self.kept - self.position).min(into.len() as u64) as usize;
            let got = self.file.read_at(&mut into[..want], self.position)?;
            self.position += got as u64;
            return if got == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(got) };
        }
        // Not one byte more than was announced is asked for, let alone written down.
        let want = (self.size - self.position).min(into.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        loop {
            if self.pull.cancelled.load(Relaxed) {
                self.worth.store(true, Relaxed);
                return Err(io::Error::other(error!("another layer could not be had")));
            }
            match self.fetch(&mut into[..want]) {
                Ok(Some(got)) => {
                    self.file.write_all_at(&into[..got], self.position)?;
                    self.position += got as u64;
                    self.failed = 0;
                    self.pull.progress.tell(self.digest, Event::Read { bytes: self.position });
                    return Ok(got);
                }
                Ok(None) => {}
                Err(e) => self.pause(e)?,
            }
        }
    }
}

impl Incoming<'_> {
    /// Waits before the next attempt; the error itself when there have been enough, or when nothing ever came.
    fn pause(&mut self, e: Error) -> io::Result<()> {
        self.failed += 1;
        let never = self.stream.take().is_none() && self.position == self.kept && self.failed == 1;
        if never || self.failed >= ATTEMPTS {
            self.worth.store(true, Relaxed);
            return Err(io::Error::other(e));
        }
        log::debug!("{}: {}; again from {}", self.digest, e.cause, self.position);
        self.pull.progress.tell(self.digest, Event::Resumed { from: self.position });
        std::thread::sleep(PAUSE * 2u32.pow(self.failed - 1));
        Ok(())
    }
}
