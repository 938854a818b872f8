//! Where blobs come from: a registry, a layout on the disk, an archive.
//!
//! Who takes blobs wants the same of all of them: the bytes of a descriptor, from some offset on. By hand, from a registry:
//! `curl -L -r 1000- https://HOST/v2/NAME/blobs/sha256:HEX`; from a layout: `tail -c +1001 blobs/sha256/HEX`.
//!
//! What goes wrong: a source is a stranger. Its bytes are not verified here: whoever reads them compares them with the digest and the
//! size that the descriptor names, before anything depends on them.

use crate::error::Result;
use oci_spec::image::Descriptor;
use std::io::Read;

/// What blobs are read from, by several threads at once.
pub trait Source: Sync {
    /// The bytes of a blob or document, from the offset `from` (in bytes) to the end. They are not verified. A source that cannot begin
    /// in the middle reads and drops what comes before.
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>>;
}
