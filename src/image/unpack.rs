//! The whole way from an image to a bundle: one in a layout or an archive is read where it lies, and one of the store from its blobs.

use super::ahead;
use super::apply::{Layer, Position, Tree};
use super::archive::{Archive, told};
use super::bundle::Staged;
use super::config::convert;
use super::local::{self, Found};
use super::manifest::{Image, LayerBlob, Platform};
use super::source::Source;
use super::stream::{Blob, Budget, Limits, Stream};
use crate::error;
use crate::error::{Error, Result};
use crate::input::template;
use crate::sys::Called;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most that is read of the image's `/etc/passwd` and `/etc/group`.
const ACCOUNTS: u64 = 4 << 20;

/// Unpacks an image into a bundle: `rootfs` and `config.json`.
///
/// `bundle` is made, or is an empty directory. On an error nothing is left of what was made.
pub fn unpack(image: &Found, bundle: &Path) -> Result<()> {
    for label in begin(image, bundle, &Limits::default())? {
        log::warn!("label {label} is a setting of a runtime; it is not in config.json");
    }
    Ok(())
}

/// The same of an image at a path (`oci:DIR[:TAG]`), with limits of the caller's choice. Returns the labels that did not become annotations.
pub fn unpack_within(reference: &str, bundle: &Path, limits: &Limits) -> Result<Vec<String>> {
    let none = || Err(error!("{reference} is not in an image layout"));
    begin(&local::find(reference, &Platform::here(), &none)?, bundle, limits)
}

fn begin(found: &Found, bundle: &Path, limits: &Limits) -> Result<Vec<String>> {
    let staged = Staged::begin(bundle)?;
    match fill(found.source.as_ref(), &found.image, &staged, limits) {
        Ok(left_out) => Ok(left_out),
        Err(e) => Err(staged.discard(e)),
    }
}

fn fill(source: &dyn Source, image: &Image, staged: &Staged, limits: &Limits) -> Result<Vec<String>> {
    let mut tree = Tree::new(staged.rootfs.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC)".into())?)?;
    let budget = Budget::new(limits);
    for (n, blob) in image.layers.iter().enumerate() {
        let position = if n == 0 { Position::Base } else { Position::Upper };
        let at = |e: Error| e.at(format!("layers[{n}] {}", blob.digest));
        layer(source, blob, &mut tree, position, &budget).map_err(at)?;
    }
    let (passwd, group) = (account(&tree, "/etc/passwd")?, account(&tree, "/etc/group")?);
    let converted = convert(&image.config, template::spec(), &passwd, &group)?;
    staged.complete(template::to_json(&converted.spec).as_bytes())?;
    Ok(converted.left_out)
}

/// Applies one layer, verifying it on the way.
fn layer(source: &dyn Source, blob: &LayerBlob, tree: &mut Tree, position: Position, budget: &Budget) -> Result<()> {
    let bytes = Blob::new(source.open(&blob.descriptor()?, 0)?, blob.digest.clone(), blob.size);
    let stream = Stream::new(bytes, blob, budget);
    let mut layer = tree.layer(position);
    ahead::unpack(stream, &mut layer, budget)?;
    layer.finish().map(drop)
}

/// Applies all entries of an archive, and reads on to the end of the stream.
pub fn entries(source: impl Read, layer: &mut Layer<'_>, budget: &Budget) -> Result<()> {
    // No buffer of its own: headers are blocks, content goes straight into the writing buffer.
    let mut archive = Archive::new(source);
    while let Some(entry) = archive.next_entry()? {
        budget.entry(entry.length()).map_err(|e| e.at(super::archive::show(&entry.path)))?;
        layer.apply(&entry, &mut archive.content())?;
    }
    // What follows the end of an archive is padding: not looked at, but part of the digest.
    std::io::copy(&mut archive.into_source(), &mut std::io::sink()).map_err(told)?;
    Ok(())
}

/// Reads one of the image's account files, links resolved below its root. An image need not have one.
fn account(tree: &Tree, path: &str) -> Result<Vec<u8>> {
    let file = match tree.open(OsStr::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO | Errno::ENODEV) => return Ok(Vec::new()),
        file => File::from(file.called(|| format!("openat2(rootfs, {path:?}, IN_ROOT)"))?),
    };
    let found = file.metadata().called(|| format!("fstat({path:?})"))?;
    if !found.is_file() {
        return Err(error!("the image's {path} is not a regular file"));
    }
    if found.len() > ACCOUNTS {
        return Err(error!("the image's {path} has {} bytes (at most {ACCOUNTS})", found.len()));
    }
    let mut bytes = Vec::new();
    file.take(ACCOUNTS).read_to_end(&mut bytes).called(|| format!("read({path:?})"))?;
    Ok(bytes)
}
