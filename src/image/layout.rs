//! An OCI image layout on the disk.
//!
//! A layout is a directory with `oci-layout`, `index.json` and `blobs/sha256/HEX` (image-spec, image-layout.md). By hand:
//! `jq .manifests index.json`; the way on from there is in `manifest`. Everything below index.json is named by its
//! digest; what does not match its name and size is refused before it is parsed. The layout may come from a stranger: its files
//! are opened below its directory, and a pipe or device among them is not waited for.

use super::digest::Digest;
use super::manifest::{self, DOCUMENT, Form, Image, Platform, document, fitting, parse};
use super::source;
use super::stream::Blob;
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use crate::sys::file::{self, End};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use oci_spec::image::Descriptor;
use serde::Deserialize;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The annotation that holds a tag.
pub const TAG: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// An open image layout.
pub struct Layout {
    directory: OwnedFd,
}

impl Layout {
    /// Opens a layout and checks that it is one.
    pub fn open(path: &Path) -> Result<Self> {
        match file::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(Errno::ENOTDIR) if path.exists() => Err(error!("{} is not a directory", path.display())),
            directory => Layout::within(directory.called(|| format!("open({path:?})"))?, path),
        }
    }

    /// The same in an open directory; `path` is what it is called.
    pub fn within(directory: OwnedFd, path: &Path) -> Result<Self> {
        let shown = path.display();
        let layout = Layout { directory };
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
    pub fn image(&self, tag: Option<&str>, platform: &Platform) -> Result<Image> {
        let manifests = self.entries()?;
        let chosen = tagged(&manifests, tag, platform)?;
        manifest::follow(chosen, platform, &|descriptor| source::document(self, descriptor))
    }

    /// The entries of index.json.
    pub fn entries(&self) -> Result<Vec<Descriptor>> {
        let bytes = self.bounded("index.json")?;
        Ok(document(&bytes, Form::Index).map_err(|e| e.at("index.json"))?.manifests.unwrap_or_default())
    }

    /// Opens a blob; it is verified while it is read.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob<'static>> {
        Ok(Blob::new(self.blob_file(digest, size)?, digest.clone(), size))
    }

    /// Opens a blob's file. Unverified but for its size.
    pub fn blob_file(&self, digest: &Digest, size: u64) -> Result<File> {
        let path = format!("blobs/{}/{}", digest.name(), digest.hex);
        let (file, found) = self.open_file(&path)?;
        if found == size { Ok(file) } else { Err(error!("the blob has {found} bytes, not {size}")) }
    }

    fn bounded(&self, name: &str) -> Result<Vec<u8>> {
        let bytes = file::read_rest(self.open_file(name)?.0, End::Less, 4096, DOCUMENT as usize);
        let bytes = bytes.called(|| format!("read({name:?})"))?;
        if bytes.len() as u64 > DOCUMENT { Err(error!("{name} has more than {DOCUMENT} bytes")) } else { Ok(bytes) }
    }

    /// A file, and how long it is. Links are followed as long as they stay in the layout. `O_NONBLOCK`: a pipe in place of a file must not hang us.
    fn open_file(&self, path: &str) -> Result<(File, u64)> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = match openat2(&self.directory, path, how) {
            Err(Errno::ENOENT) => return Err(error!("{path} is not there")),
            Err(Errno::EXDEV) => return Err(error!("{path} is a link out of the layout")),
            file => File::from(file.called(|| format!("openat2({path:?}, BENEATH)"))?),
        };
        let about = file.metadata().called(|| format!("fstat({path:?})"))?;
        if about.is_file() { Ok((file, about.len())) } else { Err(error!("{path} is not a regular file")) }
    }
}

/// The name that an entry of index.json has.
pub fn tag_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(TAG).map(String::as_str)
}

/// Chooses among the entries of index.json.
pub fn tagged<'a>(manifests: &'a [Descriptor], tag: Option<&str>, platform: &Platform) -> Result<&'a Descriptor> {
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
                Err(error!("{fit} of {all} images fit {platform}").detail(listed))
            }
        },
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
