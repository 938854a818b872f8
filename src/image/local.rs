//! Images that are on this machine already, outside of the store: `oci:DIR[:TAG]`, `docker-archive:FILE[:NAME]`, `oci-archive:FILE[:NAME]`.
//!
//! The words are skopeo's. By hand: `skopeo inspect docker-archive:images.tar:debian:12`. An image that is taken from a path gets no name in the
//! store: it has one where it lies. `load` gives it the names of the archive.

use super::layout::{Layout, tagged};
use super::load::Packed;
use super::manifest::Platform;
use super::reference::Reference;
use super::store::{Progress, Store, Stored};
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

/// Adds the image at a path to the store, without a name.
pub fn add(store: &Store, text: &str, platform: &Platform, progress: &dyn Progress) -> Result<Stored> {
    let added = match ARCHIVES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        None => {
            let reference = Reference::parse(text)?;
            let layout = Layout::open(&reference.layout)?;
            let entries = layout.entries()?;
            let top = tagged(&entries, reference.tag.as_deref(), platform)?;
            store.add(&layout, top, platform, None, progress)
        }
        Some(rest) => {
            let (file, name) = rest.split_once(':').map_or((rest, None), |(file, name)| (file, Some(name)));
            if file.is_empty() || name == Some("") {
                return Err(
                    error!("{text:?} names no archive").hint("write docker-archive:FILE or docker-archive:FILE:NAME")
                );
            }
            let packed = Packed::open(Path::new(file), store)?;
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
