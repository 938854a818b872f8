//! An OCI image layout on the disk, and the way from its index to an image: index, manifest, configuration.
//!
//! A layout is a directory with `oci-layout`, `index.json` and `blobs/sha256/HEX` (image-spec, image-layout.md). By hand:
//! `jq .manifests index.json`, then `jq . blobs/sha256/HEX`, and so on down to the layers. Everything below index.json is named by its
//! digest; what does not match its name and size is refused before it is parsed. The layout may come from a stranger: its files
//! are opened below its directory, and a pipe or device among them is not waited for.

use super::digest::{self, Digest};
use super::stream::Blob;
use crate::error;
use crate::error::{Error, Result};
use crate::sys::Called;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use oci_spec::image::{Descriptor, ImageConfiguration};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The most that an index, a manifest or a configuration may have: what registries accept for a manifest.
const DOCUMENT: u64 = 4 << 20;
/// How deep an index may name an index.
const DEPTH: usize = 4;
/// The annotation that holds a tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// What a media type says of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Index,
    Manifest,
    Config,
}

/// OCI's and Docker's names for the same documents.
const FORMS: [(&str, Form); 6] = [
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
}

const LAYERS: [(&str, Compression); 8] = [
    ("application/vnd.oci.image.layer.v1.tar", Compression::Plain),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::Plain),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::Plain),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar", Compression::Plain),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
];

/// An image, all but its layers verified.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its configuration.
    pub config: ImageConfiguration,
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

/// Index and manifest in one: a document that is both at once is refused (CVE-2021-41190), which two types could not see.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Operating system and architecture in Go's words: `linux`, `amd64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    /// `linux`
    pub os: &'static str,
    /// `amd64`, `arm64`
    pub architecture: &'static str,
}

impl Platform {
    /// This machine's.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Platform { os: "linux", architecture }
    }
}

/// An open image layout.
pub struct Layout {
    directory: OwnedFd,
}

impl Layout {
    /// Opens a layout and checks that it is one.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let directory = File::open(path).called(|| format!("open({path:?})"))?;
        if !directory.metadata().called(|| format!("fstat({path:?})"))?.is_dir() {
            return Err(error!("{shown} is not a directory"));
        }
        let layout = Layout { directory: directory.into() };
        let marker = layout.bounded("oci-layout").map_err(|e| {
            e.at(format!("{shown} is not an OCI image layout"))
                .hint("`skopeo copy docker://IMAGE oci:DIR:TAG` makes one")
        })?;
        let marker: Marker = parse(&marker).map_err(|e| e.at("oci-layout"))?;
        match marker.image_layout_version.split('.').next() {
            Some("1") => Ok(layout),
            _ => Err(error!("image layout version {:?} is not known (1.0.0 is)", marker.image_layout_version)),
        }
    }

    /// Finds the image with this tag, or the only one, for this platform.
    pub fn image(&self, tag: Option<&str>, platform: Platform) -> Result<Image> {
        let bytes = self.bounded("index.json")?;
        let manifests = document(&bytes, Form::Index).map_err(|e| e.at("index.json"))?.manifests.unwrap_or_default();
        let mut chosen = tagged(&manifests, tag, platform)?.clone();
        for _ in 0..DEPTH {
            let name = chosen.digest().to_string();
            match form(&chosen)? {
                Form::Manifest => {
                    return self.manifest(&chosen, platform).map_err(|e| e.at(format!("manifest {name}")));
                }
                Form::Index => {
                    let at = |e: Error| e.at(format!("index {name}"));
                    let index = document(&self.document(&chosen).map_err(at)?, Form::Index).map_err(at)?;
                    chosen = for_platform(&index.manifests.unwrap_or_default(), platform).map_err(at)?.clone();
                }
                Form::Config => return Err(error!("{name} is a configuration where a manifest should be")),
            }
        }
        Err(error!("the index names an index more than {DEPTH} times"))
    }

    /// Opens a blob; it is verified while it is read.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob> {
        let path = format!("blobs/{}/{}", digest.name(), digest.hex);
        let file = self.open_file(&path)?;
        let found = file.metadata().called(|| format!("fstat({path:?})"))?.len();
        match found == size {
            true => Ok(Blob::new(file, digest.clone(), size)),
            false => Err(error!("the blob has {found} bytes, not {size}")),
        }
    }

    fn manifest(&self, descriptor: &Descriptor, platform: Platform) -> Result<Image> {
        let document = document(&self.document(descriptor)?, Form::Manifest)?;
        let config = document.config.ok_or_else(|| error!("it names no configuration"))?;
        if form(&config)? != Form::Config {
            return Err(error!("its configuration is of type {}", config.media_type()));
        }
        let at = |e: Error| e.at(format!("configuration {}", config.digest()));
        let bytes = self.document(&config).map_err(at)?;
        let config: ImageConfiguration = parse(&bytes).map_err(at)?;
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        if (os.as_str(), architecture.as_str()) != (platform.os, platform.architecture) {
            let here = format!("{}/{}", platform.os, platform.architecture);
            return Err(error!("the image is for {os}/{architecture}, and this machine is {here}"));
        }
        if config.rootfs().typ() != "layers" {
            return Err(error!("rootfs of type {:?} is not known", config.rootfs().typ()));
        }
        let (layers, diff_ids) = (document.layers.unwrap_or_default(), config.rootfs().diff_ids());
        if layers.len() != diff_ids.len() {
            return Err(error!("{} layers, but {} diff_ids in the configuration", layers.len(), diff_ids.len()));
        }
        let layers = layers
            .iter()
            .zip(diff_ids)
            .enumerate()
            .map(|(n, (layer, diff_id))| self::layer(layer, diff_id).map_err(|e| e.at(format!("layers[{n}]"))));
        Ok(Image { layers: layers.collect::<Result<_>>()?, config })
    }

    /// A document's bytes, verified before anyone parses them.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let digest = Digest::parse(descriptor.digest().as_ref())?;
        if descriptor.size() > DOCUMENT {
            return Err(error!("it has {} bytes (at most {DOCUMENT})", descriptor.size()));
        }
        let file = self.open_file(&format!("blobs/{}/{}", digest.name(), digest.hex))?;
        let bytes = bounded(file, descriptor.size() + 1)?;
        if bytes.len() as u64 != descriptor.size() {
            return Err(error!("the blob does not have {} bytes", descriptor.size()));
        }
        let found = digest::of(digest.algorithm, &bytes);
        if found == digest { Ok(bytes) } else { Err(error!("the blob's digest is {found}")) }
    }

    fn bounded(&self, name: &str) -> Result<Vec<u8>> {
        let bytes = bounded(self.open_file(name)?, DOCUMENT + 1)?;
        if bytes.len() as u64 > DOCUMENT { Err(error!("{name} has more than {DOCUMENT} bytes")) } else { Ok(bytes) }
    }

    /// Links are followed as long as they stay in the layout. `O_NONBLOCK`: a pipe in place of a file must not hang us.
    fn open_file(&self, path: &str) -> Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = match openat2(&self.directory, path, how) {
            Err(Errno::ENOENT) => return Err(error!("{path} is not there")),
            Err(Errno::EXDEV) => return Err(error!("{path} is a link out of the layout")),
            file => File::from(file.called(|| format!("openat2({path:?}, BENEATH)"))?),
        };
        let regular = file.metadata().called(|| format!("fstat({path:?})"))?.is_file();
        if regular { Ok(file) } else { Err(error!("{path} is not a regular file")) }
    }
}

fn bounded(file: File, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).called(|| "read".into())?;
    Ok(bytes)
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| error!("{e}"))
}

/// Parses an index or a manifest and checks that it is one and not the other.
fn document(bytes: &[u8], expected: Form) -> Result<Document> {
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
    let Some(compression) = lookup(&LAYERS, &said) else {
        let zstd = said.ends_with("zstd");
        let e = error!("layers of type {said} are not supported");
        return Err(if zstd { e.hint("`skopeo copy --dest-compress-format gzip` converts zstd") } else { e });
    };
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

fn tag_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(TAG).map(String::as_str)
}

/// Chooses among the entries of index.json.
fn tagged<'a>(manifests: &'a [Descriptor], tag: Option<&str>, platform: Platform) -> Result<&'a Descriptor> {
    let mut tags: Vec<&str> = manifests.iter().filter_map(tag_of).collect();
    tags.sort_unstable();
    tags.dedup();
    let listed = match tags.is_empty() {
        true => "no image has a tag".to_owned(),
        false => format!("tags: {}", tags.join(", ")),
    };
    let found: Vec<&Descriptor> = manifests.iter().filter(|d| tag.is_none() || tag_of(d) == tag).collect();
    match (&found[..], tag) {
        ([], _) if manifests.is_empty() => Err(error!("the layout holds no image")),
        ([], tag) => Err(error!("no image is tagged {:?}", tag.unwrap_or_default()).detail(listed)),
        ([only], _) => Ok(only),
        (_, None) if tags.len() > 1 => {
            Err(error!("the layout holds {} images: which one?", found.len()).detail(listed))
        }
        _ => match &fitting(found.iter().copied(), platform)[..] {
            [only] => Ok(only),
            fit => {
                let (fit, all) = (fit.len(), found.len());
                Err(error!("{fit} of {all} images fit {}/{}", platform.os, platform.architecture).detail(listed))
            }
        },
    }
}

/// Those for this platform; of several variants, those that every machine of the architecture runs.
fn fitting<'a>(manifests: impl Iterator<Item = &'a Descriptor>, platform: Platform) -> Vec<&'a Descriptor> {
    let fit: Vec<_> = manifests.filter(|d| matches(d, platform)).collect();
    let variant = |d: &Descriptor| d.platform().as_ref().and_then(|p| p.variant().clone());
    let plain: Vec<_> =
        fit.iter().copied().filter(|d| matches!(variant(d).as_deref(), None | Some("v1" | "v8"))).collect();
    if plain.is_empty() { fit } else { plain }
}

/// Chooses among the entries of an index of platforms.
fn for_platform(manifests: &[Descriptor], platform: Platform) -> Result<&Descriptor> {
    match (manifests, fitting(manifests.iter(), platform).first().copied()) {
        (_, Some(fit)) => Ok(fit),
        ([only], None) if only.platform().is_none() => Ok(only),
        _ => {
            let named = manifests.iter().filter_map(|d| d.platform().as_ref());
            let named: Vec<String> = named.map(|p| format!("{}/{}", p.os(), p.architecture())).collect();
            Err(error!("no image for {}/{}", platform.os, platform.architecture)
                .detail(format!("there are: {}", named.join(", "))))
        }
    }
}

fn matches(descriptor: &Descriptor, platform: Platform) -> bool {
    let said = descriptor.platform().as_ref();
    said.is_some_and(|p| p.os().to_string() == platform.os && p.architecture().to_string() == platform.architecture)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
