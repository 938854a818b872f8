//! Forgetting images, and removing what no image names any more.
//!
//! First the name goes, by one rename of index.json; then what nobody names. A kill between the two leaves files that cost space and nothing
//! else, and the next removal takes them. While somebody pulls or is about to run an image, nothing is removed: see `lock`.
//!
//! By hand: `jq -r '.manifests[].digest' index.json`, and on from there; what is in `blobs` and not on that list can go.

use super::super::digest::Digest;
use super::super::marks::Form;
use super::images::{Force, Stored};
use super::index::{name_of, take_name};
use super::stage::{Sweep, remove};
use super::{Hold, Store, names};
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Ids of images that are gone.
    pub deleted: Vec<String>,
    /// Bytes of blobs and layers that are free again; 0 while somebody pulls, and it is left to the next time.
    pub freed: u64,
}

/// Which images `prune` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those without a name.
    Nameless,
    /// All that no container uses.
    Unused,
}

impl Store {
    /// `rmi`: takes away the name that `text` is, or all names if it is an id; an image without a name goes, unless it is in use.
    pub fn remove(&self, text: &str, force: Force) -> Result<Removed> {
        let image = self.find(text)?.ok_or_else(|| error!("there is no image {text:?}"))?;
        let id = &image.id.hex[..12];
        let by_id = image.id.hex.starts_with(text.strip_prefix("sha256:").unwrap_or(text));
        let all: Vec<String> = self
            .layout()
            .entries()?
            .iter()
            .filter(|e| e.digest() == image.manifest.digest())
            .filter_map(|e| Some(name_of(e)?.to_owned()))
            .collect();
        let meant = self.meant(text, &all);
        let going = match meant {
            Some(name) => vec![name],
            None if by_id && all.len() > 1 && force == Force::No => {
                let e = error!("image {id} has {} names: {}", all.len(), all.join(", "));
                return Err(e.hint("remove them one by one, or say -f"));
            }
            None => all.clone(),
        };
        let last = going.len() == all.len();
        let users = self.users(&image)?;
        if last && !users.is_empty() && force == Force::No {
            let users: Vec<&str> = users.iter().map(|user| user.get(..12).unwrap_or(user)).collect();
            let e = error!("image {id} is in use by {}", users.join(", "));
            return Err(e.hint("`corten rm` removes the container; -f takes only the name away"));
        }
        let mut removed = Removed { untagged: going.clone(), ..Removed::default() };
        // Not while somebody may be about to use it: then it stays without a name, for `prune`.
        let alone = self.alone()?;
        let forgotten = last && alone.is_some() && self.users(&image)?.is_empty();
        self.change(|entries| {
            for name in &going {
                take_name(entries, name, None);
            }
            if forgotten {
                entries.retain(|entry| entry.digest() != image.manifest.digest() || name_of(entry).is_some());
            }
            Ok(())
        })?;
        if forgotten {
            removed.deleted.push(image.id.to_string());
        }
        removed.freed = alone.map_or(Ok(0), |alone| self.collect(&alone))?;
        Ok(removed)
    }

    /// The full name that was typed, if it was a name.
    fn meant(&self, text: &str, all: &[String]) -> Option<String> {
        super::images::spellings(text).into_iter().find(|full| all.contains(full))
    }

    /// Removes images that no container uses, and what killed processes left.
    pub fn prune(&self, which: Which) -> Result<Removed> {
        let Some(alone) = self.alone()? else {
            return Err(error!("the store is in use by a pull or a container that is being made")
                .hint("try again when it has ended"));
        };
        let mut removed = Removed::default();
        for image in self.images()? {
            let named = image.names.len() + image.digests.len() > 0;
            if (named && which == Which::Nameless) || !self.users(&image)?.is_empty() {
                continue;
            }
            self.forget(&image)?;
            removed.untagged.extend(image.names);
            removed.deleted.push(image.id.to_string());
        }
        self.sweep(Sweep::All)?;
        removed.freed = self.collect(&alone)?;
        Ok(removed)
    }

    fn forget(&self, image: &Stored) -> Result<()> {
        self.change(|entries| {
            entries.retain(|entry| entry.digest() != image.manifest.digest());
            Ok(())
        })
    }

    /// Removes blobs and layers that no image names. Returns how many bytes they had.
    pub(super) fn collect(&self, _alone: &Hold) -> Result<u64> {
        let (mut blobs, mut layers) = (HashSet::new(), HashSet::new());
        for image in self.images()? {
            blobs.insert(Digest::parse(image.manifest.digest().as_ref())?.hex);
            blobs.insert(image.id.hex);
            for layer in image.layers {
                blobs.insert(layer.blob.digest.hex);
                layers.insert(layer.chain.hex);
            }
        }
        let mut freed = 0;
        for algorithm in ["sha256", "sha512"] {
            let directory = self.path().join("blobs").join(algorithm);
            for name in names(&directory)? {
                if !blobs.contains(&name) {
                    let path = directory.join(&name);
                    freed += path.symlink_metadata().map_or(0, |meta| meta.len());
                    fs::remove_file(&path).called(|| format!("unlink({path:?})"))?;
                }
            }
        }
        let directory = self.path().join("layers");
        for name in names(&directory)? {
            if !layers.contains(&name) {
                let (path, gone) = (directory.join(&name), self.temporary().join(format!("layer-{name}.gone")));
                freed +=
                    [Form::Kernels, Form::Pipes].map(|form| disk(&path.join(form.directory()))).iter().sum::<u64>();
                // Away in one call: half a layer is never to be seen.
                fs::rename(&path, &gone).called(|| format!("rename({path:?}, {gone:?})"))?;
                remove(&self.temporary(), &gone)?;
            }
        }
        Ok(freed)
    }
}

/// Bytes that a tree takes on the disk; what cannot be read counts as nothing.
fn disk(path: &std::path::Path) -> u64 {
    let mut total = 0;
    let mut todo = vec![path.to_owned()];
    while let Some(path) = todo.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        total += meta.blocks() * 512 / meta.nlink().max(1).min(if meta.is_dir() { 1 } else { u64::MAX });
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    total
}
