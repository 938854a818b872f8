//! A layer as one stream: bytes, digest of the blob, gzip or zstd, digest of the archive, limits.
//!
//! By hand: `tee >(sha256sum >&2) < BLOB | gunzip | tee >(sha256sum >&2) | tar -x`. What is unpacked is what was hashed, byte for
//! byte: verifying a file first and opening it again would leave time to change it. So the verdict comes last, and until then nothing
//! that was made counts.

use super::digest::{Digest, Hasher};
use super::manifest::{Compression, LayerBlob};
use super::zstd::Frames;
use crate::error;
use crate::error::{Error, Result};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes read from the disk at once.
const BUFFER: usize = 128 << 10;

/// What an image may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all archives together, and of any one file.
    pub bytes: u64,
    /// Entries of all archives together.
    pub entries: u64,
    /// How many bytes may come out of a layer for each that went in...
    pub ratio: u64,
    /// ...once this many have come out: a file of zeros is not yet an attack.
    pub ratio_from: u64,
}

impl Default for Limits {
    /// Well above the largest images in use: 128 GiB, 4 million entries, 200 to 1 beyond 1 GiB (gzip can do 1,030 to 1).
    fn default() -> Self {
        Limits { bytes: 128 << 30, entries: 4_000_000, ratio: 200, ratio_from: 1 << 30 }
    }
}

/// What an image has left, shared by the threads that unpack its layers.
pub struct Budget {
    limits: Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    /// Begins with all of it.
    pub fn new(limits: &Limits) -> Self {
        Budget { limits: *limits, bytes: limits.bytes.into(), entries: limits.entries.into() }
    }

    /// Takes one entry of this length: a file may not be longer than what is left, even if it has only holes.
    pub fn entry(&self, length: u64) -> Result<()> {
        take(&self.entries, 1).ok_or_else(|| error!("the layers have too many entries: refused as a bomb"))?;
        match length > self.bytes.load(Relaxed) {
            true => Err(error!("a file of {length} bytes: refused as a bomb")),
            false => Ok(()),
        }
    }

    /// Gives back what was taken for something that is done again.
    pub fn give_back(&self, bytes: u64, entries: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.entries.fetch_add(entries, Relaxed);
    }

    /// Takes bytes.
    pub fn take(&self, bytes: u64) -> Result<()> {
        let words = || error!("the layers have more than {} bytes: refused as a bomb", self.limits.bytes);
        take(&self.bytes, bytes).ok_or_else(words)
    }
}

fn take(left: &AtomicU64, wanted: u64) -> Option<()> {
    // Not fetch_update: Rust 1.99 calls it try_update, which 1.89 does not have.
    let mut seen = left.load(Relaxed);
    loop {
        match left.compare_exchange_weak(seen, seen.checked_sub(wanted)?, Relaxed, Relaxed) {
            Ok(_) => return Some(()),
            Err(now) => seen = now,
        }
    }
}

/// A blob being read.
pub struct Blob<'a> {
    source: Box<dyn Read + Send + 'a>,
    expected: Digest,
    size: u64,
    read: u64,
    hasher: Hasher,
}

impl<'a> Blob<'a> {
    /// A blob from its first byte.
    pub fn new(source: impl Read + Send + 'a, expected: Digest, size: u64) -> Self {
        let hasher = Hasher::new(expected.algorithm);
        Blob { source: Box::new(source), expected, size, read: 0, hasher }
    }

    /// Reads what is left and compares.
    pub fn verify(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink()).map_err(super::archive::told)?;
        if self.read != self.size {
            return Err(error!("the blob has {} bytes, not {}", self.read, self.size));
        }
        let found = self.hasher.digest();
        if found == self.expected { Ok(()) } else { Err(error!("the blob's digest is {found}, not {}", self.expected)) }
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read(into)?;
        self.read += got as u64;
        if self.read > self.size {
            return Err(io::Error::other(error!("the blob has more than {} bytes", self.size)));
        }
        self.hasher.update(&into[..got]);
        Ok(got)
    }
}

enum Inflate<'a> {
    Plain(Box<BufReader<Blob<'a>>>),
    Gzip(Box<MultiGzDecoder<BufReader<Blob<'a>>>>),
    Zstd(Box<Frames<BufReader<Blob<'a>>>>),
}

impl<'a> Inflate<'a> {
    fn blob(&self) -> &Blob<'a> {
        match self {
            Inflate::Plain(reader) => reader.get_ref(),
            Inflate::Gzip(decoder) => decoder.get_ref().get_ref(),
            Inflate::Zstd(frames) => frames.get_ref().get_ref(),
        }
    }

    fn into_blob(self) -> Blob<'a> {
        match self {
            Inflate::Plain(reader) => reader.into_inner(),
            Inflate::Gzip(decoder) => decoder.into_inner().into_inner(),
            Inflate::Zstd(frames) => frames.into_inner().into_inner(),
        }
    }
}

/// The archive of a layer, verified when [`Stream::finish`] has returned.
pub struct Stream<'a> {
    source: Inflate<'a>,
    diff_id: Digest,
    /// `None` for a plain layer whose blob is the archive: one digest is enough.
    hasher: Option<Hasher>,
    came_out: u64,
    budget: &'a Budget,
}

impl<'a> Stream<'a> {
    /// Begins.
    pub fn new(blob: Blob<'a>, layer: &LayerBlob, budget: &'a Budget) -> Self {
        let same = layer.compression == Compression::Plain && layer.digest == layer.diff_id;
        let hasher = (!same).then(|| Hasher::new(layer.diff_id.algorithm));
        let reader = BufReader::with_capacity(BUFFER, blob);
        let source = match layer.compression {
            Compression::Plain => Inflate::Plain(Box::new(reader)),
            Compression::Gzip => Inflate::Gzip(Box::new(MultiGzDecoder::new(reader))),
            Compression::Zstd => Inflate::Zstd(Box::new(Frames::new(reader))),
        };
        Stream { source, diff_id: layer.diff_id.clone(), hasher, came_out: 0, budget }
    }

    /// Reads to the end and compares both digests. Returns how many bytes the archive had.
    pub fn finish(mut self) -> Result<u64> {
        io::copy(&mut self, &mut io::sink()).map_err(super::archive::told)?;
        if let Some(hasher) = self.hasher {
            let found = hasher.digest();
            if found != self.diff_id {
                return Err(error!("the archive's digest is {found}, not the diff_id {}", self.diff_id));
            }
        }
        self.source.into_blob().verify()?;
        Ok(self.came_out)
    }

    fn within(&self, got: u64) -> std::result::Result<(), Error> {
        self.budget.take(got)?;
        let (limits, went_in) = (&self.budget.limits, self.source.blob().read.max(1));
        if self.came_out > limits.ratio_from && self.came_out / went_in > limits.ratio {
            return Err(error!("the layer unpacks to more than {} times its size: refused as a bomb", limits.ratio));
        }
        Ok(())
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = match &mut self.source {
            Inflate::Plain(reader) => reader.read(into)?,
            Inflate::Gzip(decoder) => decoder.read(into)?,
            Inflate::Zstd(frames) => frames.read(into)?,
        };
        self.came_out += got as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&into[..got]);
        }
        self.within(got as u64).map_err(io::Error::other)?;
        Ok(got)
    }
}
