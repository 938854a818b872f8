//! Images that are on this machine already, outside of the store: `oci:DIR[:TAG]`, `docker-archive:FILE[:NAME]`, `oci-archive:FILE[:NAME]`.
//!
//! The words are skopeo's. By hand: `skopeo inspect docker-archive:images.tar:debian:12`. An image that is taken from a path gets no name in the
//! store: it has one where it lies. `load` gives it the names of the archive.

use super::layout::{Layout, tagged};
use super::load::Packed;
use super::manifest::{self, Image, Platform};
use super::reference::Reference;
use super::source::{self, Source};
use super::store::{Hold, Progress, Store, Stored};
use crate::error;
use crate::error::Result;
use std::fs::File;
use std::path::Path;

/// Prefixes of archives; both kinds are told apart by what is in them.
const ARCHIVES: [&str; 2] = ["docker-archive:", "oci-archive:"];

/// Does the text name an image by its path, whatever the store holds?
pub fn is_path(text: &str) -> bool {
    text.starts_with("oci:") || ARCHIVES.iter().any(|prefix| text.starts_with(prefix))
}

/// An image that is read where it lies.
pub struct Found {
    /// Where its blobs are.
    pub source: Box<dyn Source>,
    /// The image.
    pub image: Image,
    /// Of one in the store: nobody removes it meanwhile.
    _held: Option<Hold>,
}

/// Finds an image at a path, or in the store. That is opened only where it has to be: an archive that cannot be read at any place is written there first.
pub fn find(text: &str, platform: &Platform, store: &dyn Fn() -> Result<Store>) -> Result<Found> {
    if let Some(packed) = archive(text) {
        let (file, name) = packed?;
        let packed = Packed::open(file, &store()?).map_err(|e| e.at(text))?;
        let top = packed.image(name).map_err(|e| e.at(text))?.top.clone();
        let image = manifest::follow(&top, platform, &|descriptor| source::document(&packed, descriptor))?;
        return Ok(Found { source: Box::new(packed), image, _held: None });
    }
    if is_path(text) {
        let reference = Reference::parse(text)?;
        let layout = Layout::open(&reference.layout)?;
        let image = layout.image(reference.tag.as_deref(), platform)?;
        return Ok(Found { source: Box::new(layout), image, _held: None });
    }
    let store = store()?;
    let held = Some(store.hold()?);
    let stored = store.find(text)?.ok_or_else(|| {
        error!("there is no image {text:?} in {}", store.path().display()).hint(format!(
            "`corten pull {text}` gets it; an image at a path is oci:DIR, docker-archive:FILE or oci-archive:FILE"
        ))
    })?;
    let layout = Layout::open(store.path())?;
    let image = manifest::image(&stored.manifest, &|descriptor| source::document(&layout, descriptor))?;
    Ok(Found { source: Box::new(layout), image, _held: held })
}

/// The file of an archive, and which of its images; `None`: the text names no archive.
fn archive(text: &str) -> Option<Result<(&Path, Option<&str>)>> {
    let rest = ARCHIVES.iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let (file, name) = rest.split_once(':').map_or((rest, None), |(file, name)| (file, Some(name)));
    if file.is_empty() || name == Some("") {
        let e = error!("{text:?} names no archive").hint("write docker-archive:FILE or docker-archive:FILE:NAME");
        return Some(Err(e));
    }
    Some(Ok((Path::new(file), name)))
}

/// Adds the image at a path to the store, without a name.
pub fn add(store: &Store, text: &str, platform: &Platform, progress: &dyn Progress) -> Result<Stored> {
    let added = match archive(text).transpose()? {
        None => {
            let reference = Reference::parse(text)?;
            let layout = Layout::open(&reference.layout)?;
            let entries = layout.entries()?;
            let top = tagged(&entries, reference.tag.as_deref(), platform)?;
            store.add(&layout, top, platform, None, progress)
        }
        Some((file, name)) => {
            let packed = Packed::open(file, store)?;
            store.add(&packed, &packed.image(name)?.top, platform, None, progress)
        }
    };
    added.map_err(|e| e.at(text))
}

/// Adds all images of an archive, with their names: `load`. The file may be a pipe.
pub fn load(store: &Store, archive: File, platform: &Platform, progress: &dyn Progress) -> Result<Vec<Stored>> {
    let packed = Packed::read(archive, store)?;
    let mut loaded = Vec::new();
    for image in packed.images() {
        let mut stored = store.add(&packed, &image.top, platform, image.names.first().map(String::as_str), progress)?;
        for name in image.names.iter().skip(1) {
            store.tag(&stored, name)?;
            stored.names.push(name.clone());
        }
        loaded.push(stored);
    }
    Ok(loaded)
}
