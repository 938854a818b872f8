//! What images there are, and what they are called.
//!
//! By hand: `jq -r '.manifests[] | .annotations["org.opencontainers.image.ref.name"]' index.json`. An image's id is the digest of its
//! configuration, so the same image under two names has one id. The name that a person types may leave out `docker.io/`, `library/` and
//! `:latest`; a name comes before an id that begins with the same digits.

use super::super::digest::{self, Algorithm, Digest};
use super::super::manifest::{self, LayerBlob};
use super::super::named::Named;
use super::super::source;
use super::index::{name_of, resolved, take_name};
use super::{Store, unpacked};
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use oci_spec::image::{Descriptor, ImageConfiguration};
use std::fs;
use std::path::PathBuf;

/// An image in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Of its manifest: media type, digest, size, platform.
    pub manifest: Descriptor,
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// Its configuration, as far as the specification knows it.
    pub config: ImageConfiguration,
    /// Its configuration as it is: Docker's has fields of its own (`Healthcheck`).
    pub config_json: Vec<u8>,
    /// Its full names, with tag: `docker.io/library/debian:12`.
    pub names: Vec<String>,
    /// By which digests it was had: `docker.io/library/debian@sha256:…`.
    pub digests: Vec<String>,
    /// From the lowest to the topmost.
    pub layers: Vec<StoredLayer>,
}

/// A layer of an image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLayer {
    /// Its blob.
    pub blob: LayerBlob,
    /// The name of its directory.
    pub chain: Digest,
    /// Bytes of the archive in the blob.
    pub archive: u64,
    /// Nothing below it shows through. `None`: it is not unpacked yet, if another tool put the image here.
    pub alone: Option<bool>,
}

impl Stored {
    /// Bytes of the unpacked layers, about as `docker images` counts them.
    pub fn unpacked(&self) -> u64 {
        self.layers.iter().map(|layer| layer.archive).sum()
    }

    /// Bytes of the blobs.
    pub fn blobs(&self) -> u64 {
        let documents = self.manifest.size() + self.config_json.len() as u64;
        documents + self.layers.iter().map(|layer| layer.blob.size).sum::<u64>()
    }
}

/// Whether what stands in the way is overridden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// No.
    No,
    /// Names are taken away; what is in use stays.
    Yes,
}

/// One step of how an image was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// RFC 3339, as the builder wrote it.
    pub created: Option<String>,
    /// The command.
    pub created_by: String,
    /// The builder's remark.
    pub comment: String,
    /// Bytes of the archive of its layer, 0 if it has none.
    pub size: u64,
}

impl Store {
    /// All images, in the order of index.json; those without a name too.
    pub fn images(&self) -> Result<Vec<Stored>> {
        let mut seen: Vec<Descriptor> = Vec::new();
        let entries = self.layout().entries()?;
        for entry in &entries {
            if !seen.iter().any(|known| known.digest() == entry.digest()) {
                seen.push(entry.clone());
            }
        }
        seen.iter().map(|entry| self.among(&entries, entry)).collect()
    }

    /// The image that is meant: a full or familiar name, `NAME@DIGEST`, an id or 4 digits or more of one. `None`: there is none.
    pub fn find(&self, text: &str) -> Result<Option<Stored>> {
        let entries = self.layout().entries()?;
        let spelled = spellings(text);
        let named = spelled.iter().find_map(|full| entries.iter().find(|entry| name_of(entry) == Some(full)));
        let by_digest = || {
            let (repository, digest) = text.split_once('@')?;
            let repositories = spellings(repository);
            entries.iter().find(|entry| {
                let same = [Some(entry.digest().as_ref()), resolved(entry)].contains(&Some(digest));
                same && name_of(entry)
                    .is_some_and(|name| repositories.iter().any(|wanted| repository_of(wanted) == repository_of(name)))
            })
        };
        if let Some(entry) = named.or_else(by_digest) {
            return self.among(&entries, entry).map(Some);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if hex.len() < 4 || hex.len() > 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut found: Vec<Stored> = self.images()?;
        found.retain(|image| image.id.hex.starts_with(hex));
        // The same image by two manifests, as it was pulled and as it was loaded.
        found.sort_by(|a, b| a.id.hex.cmp(&b.id.hex));
        found.dedup_by(|a, b| a.id == b.id);
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => {
                let listed = found.iter().map(|image| image.id.hex[..12].to_owned()).collect::<Vec<_>>().join(", ");
                Err(error!("{text:?} is the beginning of {} ids: {listed}", found.len()))
            }
        }
    }

    /// Gives an image another name, taking it away from whatever had it. The name is a full one, with tag.
    pub fn tag(&self, image: &Stored, name: &str) -> Result<()> {
        let _held = self.hold()?;
        self.name(&image.manifest, Some(name), None)
    }

    /// Takes one full name away. `false`: nothing had it.
    pub fn untag(&self, name: &str) -> Result<bool> {
        self.change(|entries| Ok(take_name(entries, name, None)))
    }

    /// The directories of an image's layers in overlay form, lowest first. Their topmost has the owner, mode and times of the image's root.
    pub fn layers(&self, image: &Stored) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for layer in &image.layers {
            let diff = unpacked(self.path(), &layer.chain);
            if !diff.is_dir() {
                let e = error!("layer {} of image {} is not in the store", layer.chain, image.id);
                return Err(e.hint("pull or load the image again"));
            }
            let alone = layer.alone.map_or_else(|| self.known(&layer.chain).map(|known| known.alone), Ok);
            if alone? {
                paths.clear();
            }
            paths.push(diff);
        }
        Ok(paths)
    }

    /// Containers that use the image, by the names of their directories.
    pub fn users(&self, image: &Stored) -> Result<Vec<String>> {
        let (manifest, id) = (image.manifest.digest().to_string(), image.id.to_string());
        Ok(self
            .in_use()?
            .into_iter()
            .filter(|(_, used)| [&manifest, &id].contains(&used))
            .map(|(who, _)| who)
            .collect())
    }

    /// All containers and the digests of their images: `containers/ID/image`.
    fn in_use(&self) -> Result<Vec<(String, String)>> {
        let directory = self.path().join("containers");
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).called(|| format!("open({directory:?})"))? {
            let entry = entry.called(|| format!("getdents64({directory:?})"))?;
            // What begins with ~ is being made, by somebody who holds the store, or removed.
            if entry.file_name().as_encoded_bytes().starts_with(b"~") {
                continue;
            }
            let path = entry.path().join("image");
            match fs::read_to_string(&path) {
                Ok(digest) => found.push((entry.file_name().to_string_lossy().into_owned(), digest.trim().to_owned())),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(Err::<(), _>(e).called(|| format!("read({path:?})")).unwrap_err().into()),
            }
        }
        Ok(found)
    }

    /// How the image was built, from the first step to the last.
    pub fn history(&self, image: &Stored) -> Vec<Line> {
        let mut sizes = image.layers.iter().map(|layer| layer.archive);
        let steps = image.config.history().as_deref().unwrap_or_default().iter();
        let mut lines: Vec<Line> = steps
            .map(|step| {
                let empty = step.empty_layer().unwrap_or(false);
                Line {
                    created: step.created().clone(),
                    created_by: step.created_by().clone().unwrap_or_default(),
                    comment: step.comment().clone().unwrap_or_default(),
                    size: if empty { 0 } else { sizes.next().unwrap_or(0) },
                }
            })
            .collect();
        // Layers that the history does not mention.
        let missing = |size| Line { created: None, created_by: String::new(), comment: String::new(), size };
        lines.extend(sizes.map(missing));
        lines
    }

    /// All that is known of the image with this manifest.
    pub(super) fn stored(&self, manifest: &Descriptor) -> Result<Stored> {
        self.among(&self.layout().entries()?, manifest)
    }

    /// The same, with the entries of index.json at hand.
    fn among(&self, entries: &[Descriptor], manifest: &Descriptor) -> Result<Stored> {
        let at = |e: crate::error::Error| e.at(format!("image {}", manifest.digest()));
        let get = |descriptor: &Descriptor| source::document(self.layout(), descriptor);
        let image = manifest::image(manifest, &get).map_err(at)?;
        let (mut names, mut digests) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| entry.digest() == manifest.digest()) {
            let Some(name) = name_of(entry) else { continue };
            if !name.contains('@') {
                names.push(name.to_owned());
            }
            let digest = format!("{}@{}", repository_of(name), resolved(entry).unwrap_or(entry.digest().as_ref()));
            if !digests.contains(&digest) {
                digests.push(digest);
            }
        }
        let layers = chains(&image.layers).into_iter().zip(image.layers).map(|(chain, blob)| {
            let known = self.known(&chain).ok();
            let (archive, alone) = known.map_or((0, None), |known| (known.archive, Some(known.alone)));
            StoredLayer { blob, chain, archive, alone }
        });
        let mut manifest = manifest.clone();
        manifest.set_annotations(None);
        let id = Digest::parse(image.id.digest().as_ref())?;
        let (config, config_json) = (image.config, image.config_json);
        Ok(Stored { layers: layers.collect(), id, config, config_json, names, digests, manifest })
    }
}

/// The chain ids of layers, lowest first (image-spec, config.md "Layer ChainID").
pub fn chains(layers: &[LayerBlob]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for layer in layers {
        chains.push(match chains.last() {
            None => layer.diff_id.clone(),
            Some(below) => digest::of(Algorithm::Sha256, format!("{below} {}", layer.diff_id).as_bytes()),
        });
    }
    chains
}

/// The full names that a text may stand for: as it is, and completed.
pub fn spellings(text: &str) -> Vec<String> {
    let full = Named::parse(text).map(|named| named.to_string());
    full.into_iter().chain([text.to_owned()]).collect()
}

/// A name without tag and digest.
pub fn repository_of(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_tags() {
        for (name, repository) in [
            ("a:1", "a"),
            ("h:5000/a", "h:5000/a"),
            ("h:5000/a:1", "h:5000/a"),
            ("a@sha256:0", "a"),
            ("a:1@sha256:0", "a"),
        ] {
            assert_eq!(repository_of(name), repository);
        }
        assert!(spellings("debian").contains(&"docker.io/library/debian:latest".to_owned()));
        assert!(spellings("h:5000/a").contains(&"h:5000/a:latest".to_owned()));
    }

    #[test]
    fn chain_ids_hang_together() {
        let layer = |text: &str| LayerBlob {
            digest: digest::of(Algorithm::Sha256, b"blob"),
            size: 1,
            compression: manifest::Compression::Plain,
            diff_id: digest::of(Algorithm::Sha256, text.as_bytes()),
        };
        let (ab, ba) = (chains(&[layer("a"), layer("b")]), chains(&[layer("b"), layer("a")]));
        assert_eq!(ab[0], layer("a").diff_id);
        let both = format!("{} {}", layer("a").diff_id, layer("b").diff_id);
        assert_eq!(ab[1], digest::of(Algorithm::Sha256, both.as_bytes()));
        assert_ne!(ab[1], ba[1]);
    }
}
