//! Where the blobs of an image come from: a registry, a layout on the disk, an archive.
//!
//! A source promises nothing: its bytes are a stranger's until their digest has been compared, and whoever reads does that
//! (`stream`, `store`). Nor is it asked to resume well; `store` asks again from where a stream broke off.

use super::digest::{self, Digest};
use super::layout::Layout;
use super::manifest::DOCUMENT;
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use oci_spec::image::Descriptor;
use std::io::{Read, Seek, SeekFrom};

/// What blobs are fetched from, by several threads at once.
pub trait Source: Sync {
    /// Opens the blob's bytes from offset `from` to the end. Unverified. A source that cannot begin in the middle reads and drops.
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>>;
}

/// A layout that is a directory.
impl Source for Layout {
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
        let digest = Digest::parse(blob.digest().as_ref())?;
        let mut file = self.blob_file(&digest, blob.size())?;
        if from > 0 {
            file.seek(SeekFrom::Start(from)).called(|| format!("lseek({from})"))?;
        }
        Ok(Box::new(file))
    }
}

/// Reads a document whole and compares its size and digest, before anyone parses it. At most 4 MiB.
pub fn document(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let digest = Digest::parse(descriptor.digest().as_ref())?;
    if descriptor.size() > DOCUMENT {
        return Err(error!("it has {} bytes (at most {DOCUMENT})", descriptor.size()));
    }
    // Room for the end as well: two reads instead of a series of pieces that grow.
    let mut bytes = Vec::with_capacity(descriptor.size() as usize + 1);
    source.open(descriptor, 0)?.take(descriptor.size() + 1).read_to_end(&mut bytes).map_err(super::archive::told)?;
    if bytes.len() as u64 != descriptor.size() {
        return Err(error!("the blob does not have {} bytes", descriptor.size()));
    }
    let found = digest::of(digest.algorithm, &bytes);
    if found == digest { Ok(bytes) } else { Err(error!("the blob's digest is {found}")) }
}
