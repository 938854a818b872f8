//! The documents of an image: index, manifest, configuration, and the way from the one to the next.
//!
//! By hand: `jq .manifests index.json`, then `jq . blobs/sha256/HEX`, and so on down to the layers (image-spec, manifest.md,
//! image-index.md). Each document is named by the digest in the one above it.
//!
//! What goes wrong: a document that is an index and a manifest at once shows two images to two readers; an index that names an index
//! that names an index has no end; a configuration lists other layers than the manifest.

use super::digest::Digest;
use crate::error;
use crate::error::{Error, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, MediaType};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fmt;

/// The most that an index, a manifest or a configuration may have: what registries accept for a manifest.
pub const DOCUMENT: u64 = 4 << 20;
/// How deep an index may name an index.
const DEPTH: usize = 4;
/// How many layers overlayfs stacks (OVL_MAX_STACK).
const STACK: usize = 500;

/// What a media type says of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Index,
    Manifest,
    Config,
}

/// OCI's and Docker's names for the same documents.
pub(super) const FORMS: [(&str, Form); 6] = [
    ("application/vnd.oci.image.index.v1+json", Form::Index),
    ("application/vnd.docker.distribution.manifest.list.v2+json", Form::Index),
    ("application/vnd.oci.image.manifest.v1+json", Form::Manifest),
    ("application/vnd.docker.distribution.manifest.v2+json", Form::Manifest),
    ("application/vnd.oci.image.config.v1+json", Form::Config),
    ("application/vnd.docker.container.image.v1+json", Form::Config),
];

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// gzip, also of several members.
    Gzip,
    /// zstd, also of several frames.
    Zstd,
}

const LAYERS: [(&str, Compression); 10] = [
    ("application/vnd.oci.image.layer.v1.tar", Compression::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::Plain),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::Plain),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", Compression::Plain),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
];

/// An image, all but its layers verified.
#[derive(Clone, Debug)]
pub struct Image {
    /// Of its manifest.
    pub manifest: Descriptor,
    /// Of its configuration; that digest is the image's id.
    pub id: Descriptor,
    /// Its configuration.
    pub config: ImageConfiguration,
    /// The same as it is.
    pub config_json: Vec<u8>,
    /// From the lowest to the topmost.
    pub layers: Vec<LayerBlob>,
}

/// Where a layer is and what it must turn out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// Of the archive within.
    pub diff_id: Digest,
}

impl LayerBlob {
    /// As a source is asked for it.
    pub fn descriptor(&self) -> Result<Descriptor> {
        let digest: oci_spec::image::Digest =
            self.digest.to_string().parse().map_err(|e| error!("{}: {e}", self.digest))?;
        Ok(Descriptor::new(MediaType::ImageLayer, self.size, digest))
    }
}

/// Index and manifest in one: a document that is both at once is refused (CVE-2021-41190), which two types could not see.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

/// Operating system and architecture in Go's words: `linux`, `amd64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`
    pub architecture: String,
    /// `v8`, `v7`; `None` takes the one that every machine of the architecture runs.
    pub variant: Option<String>,
}

/// The kernel's names of architectures, and Go's.
const ARCHITECTURES: [(&str, &str); 3] = [("x86_64", "amd64"), ("aarch64", "arm64"), ("i386", "386")];

impl Platform {
    /// This machine's.
    pub fn here() -> Self {
        Platform { os: "linux".into(), architecture: in_go(std::env::consts::ARCH), variant: None }
    }

    /// Parses Docker's `OS/ARCHITECTURE[/VARIANT]`, or an architecture alone.
    pub fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match words[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => ("", "", None),
        };
        let word =
            |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if [os, architecture].into_iter().chain(variant).all(word) {
            return Ok(Platform {
                os: os.into(),
                architecture: in_go(architecture),
                variant: variant.map(str::to_owned),
            });
        }
        Err(error!("{text:?} is not a platform").hint("write linux/amd64 or linux/arm64/v8"))
    }
}

fn in_go(architecture: &str) -> String {
    lookup(&ARCHITECTURES, architecture).unwrap_or(architecture).to_owned()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Goes from an index or a manifest to the image for this platform. `get` gives a document's bytes, verified.
pub fn follow(top: &Descriptor, platform: &Platform, get: &dyn Fn(&Descriptor) -> Result<Vec<u8>>) -> Result<Image> {
    let mut chosen = top.clone();
    for _ in 0..DEPTH {
        let name = chosen.digest().to_string();
        match form(&chosen)? {
            Form::Manifest => {
                return manifest(&chosen, platform, get).map_err(|e| e.at(format!("manifest {name}")));
            }
            Form::Index => {
                let at = |e: Error| e.at(format!("index {name}"));
                let index = document(&get(&chosen).map_err(at)?, Form::Index).map_err(at)?;
                chosen = for_platform(&index.manifests.unwrap_or_default(), platform).map_err(at)?.clone();
            }
            Form::Config => return Err(error!("{name} is a configuration where a manifest should be")),
        }
    }
    Err(error!("the index names an index more than {DEPTH} times"))
}

/// An image whose manifest is at hand, whatever machine it is for.
pub fn image(manifest: &Descriptor, get: &dyn Fn(&Descriptor) -> Result<Vec<u8>>) -> Result<Image> {
    let document = document(&get(manifest)?, Form::Manifest)?;
    let id = document.config.ok_or_else(|| error!("it names no configuration"))?;
    if form(&id)? != Form::Config {
        return Err(error!("its configuration is of type {}", id.media_type()));
    }
    let at = |e: Error| e.at(format!("configuration {}", id.digest()));
    let config_json = get(&id).map_err(at)?;
    let config: ImageConfiguration = parse(&config_json).map_err(at)?;
    if config.rootfs().typ() != "layers" {
        return Err(error!("rootfs of type {:?} is not known", config.rootfs().typ()));
    }
    let (layers, diff_ids) = (document.layers.unwrap_or_default(), config.rootfs().diff_ids());
    if layers.len() != diff_ids.len() {
        return Err(error!("{} layers, but {} diff_ids in the configuration", layers.len(), diff_ids.len()));
    }
    if layers.len() > STACK {
        return Err(error!("{} layers (at most {STACK})", layers.len()));
    }
    let layers = layers
        .iter()
        .zip(diff_ids)
        .enumerate()
        .map(|(n, (layer, diff_id))| self::layer(layer, diff_id).map_err(|e| e.at(format!("layers[{n}]"))));
    Ok(Image { manifest: manifest.clone(), id, layers: layers.collect::<Result<_>>()?, config, config_json })
}

fn manifest(
    descriptor: &Descriptor,
    platform: &Platform,
    get: &dyn Fn(&Descriptor) -> Result<Vec<u8>>,
) -> Result<Image> {
    let image = image(descriptor, get)?;
    let (os, architecture) = (image.config.os().to_string(), image.config.architecture().to_string());
    match (&os, &architecture) == (&platform.os, &platform.architecture) {
        true => Ok(image),
        false => {
            let here = if *platform == Platform::here() { "this machine is" } else { "asked was" };
            Err(error!("the image is for {os}/{architecture}, and {here} {platform}"))
        }
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| error!("{e}"))
}

/// Parses an index or a manifest and checks that it is one and not the other.
pub(super) fn document(bytes: &[u8], expected: Form) -> Result<Document> {
    let document: Document = parse(bytes)?;
    if document.fs_layers.is_some() || document.schema_version != Some(2) {
        return Err(error!("schemaVersion is not 2"));
    }
    if let Some(said) = &document.media_type
        && lookup(&FORMS, said) != Some(expected)
    {
        return Err(error!("its mediaType is {said}"));
    }
    let both = document.manifests.is_some() && (document.layers.is_some() || document.config.is_some());
    match (both, expected) {
        (true, _) => Err(error!("it is an index and a manifest at once")),
        (false, Form::Index) if document.layers.is_some() || document.config.is_some() => {
            Err(error!("it is a manifest"))
        }
        (false, Form::Manifest) if document.manifests.is_some() => Err(error!("it is an index")),
        _ => Ok(document),
    }
}

fn layer(descriptor: &Descriptor, diff_id: &str) -> Result<LayerBlob> {
    let said = descriptor.media_type().to_string();
    let compression = lookup(&LAYERS, &said).ok_or_else(|| error!("layers of type {said} are not supported"))?;
    let digest = Digest::parse(descriptor.digest().as_ref())?;
    Ok(LayerBlob { digest, size: descriptor.size(), compression, diff_id: Digest::parse(diff_id)? })
}

fn form(descriptor: &Descriptor) -> Result<Form> {
    let said = descriptor.media_type().to_string();
    lookup(&FORMS, &said).ok_or_else(|| error!("documents of type {said} are not supported").at(descriptor.digest()))
}

fn lookup<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// Those for this platform; of several variants, those that every machine of the architecture runs.
pub(super) fn fitting<'a>(manifests: impl Iterator<Item = &'a Descriptor>, platform: &Platform) -> Vec<&'a Descriptor> {
    let variant = |d: &Descriptor| d.platform().as_ref().and_then(|p| p.variant().clone());
    let asked = |d: &&Descriptor| platform.variant.is_none() || variant(d) == platform.variant;
    let fit: Vec<_> = manifests.filter(|d| matches(d, platform)).filter(asked).collect();
    let plain: Vec<_> =
        fit.iter().copied().filter(|d| matches!(variant(d).as_deref(), None | Some("v1" | "v8"))).collect();
    if plain.is_empty() { fit } else { plain }
}

/// Chooses among the entries of an index of platforms.
fn for_platform<'a>(manifests: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    match (manifests, fitting(manifests.iter(), platform).first().copied()) {
        (_, Some(fit)) => Ok(fit),
        ([only], None) if only.platform().is_none() => Ok(only),
        _ => {
            let named = manifests.iter().filter_map(|d| d.platform().as_ref());
            let named: Vec<String> = named.map(|p| format!("{}/{}", p.os(), p.architecture())).collect();
            Err(error!("no image for {platform}").detail(format!("there are: {}", named.join(", "))))
        }
    }
}

fn matches(descriptor: &Descriptor, platform: &Platform) -> bool {
    let said = descriptor.platform().as_ref();
    said.is_some_and(|p| p.os().to_string() == platform.os && p.architecture().to_string() == platform.architecture)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
