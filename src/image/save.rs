//! Writes images into an archive: `docker load`, `podman load` and skopeo read it, and `load` here.
//!
//! Two forms. *Docker's* has the layers not compressed, named by their diff_id, the configuration, and `manifest.json` with the names; the
//! image comes out of it with the same id, though not with the same manifest. *OCI's* is an image layout with the blobs as they are.
//! By hand: `tar -tvf images.tar`.
//!
//! A tar says a file's size before its content, so the size of an inflated layer comes from the record of its unpacking. What is read is verified
//! on the way, and a blob that is damaged ends the archive with an error.

use super::archive::told;
use super::digest::Digest;
use super::layout::TAG;
use super::store::{Store, Stored};
use super::stream::{Blob, Budget, Stream};
use crate::error;
use crate::error::Result;
use crate::sys::Called;
use serde_json::json;
use std::collections::HashSet;
use std::io::{self, Read, Write};

/// What kind of archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What `docker save` writes: manifest.json.
    Docker,
    /// An OCI image layout in a tar.
    Oci,
}

/// An image to be saved, and the full names that it has in the archive.
pub type Named<'a> = (&'a Stored, Vec<String>);

/// Writes an archive of these images.
pub fn save(store: &Store, images: &[Named<'_>], form: Form, out: &mut dyn Write) -> Result<()> {
    let _held = store.hold()?;
    let mut tar = Writer { out, written: HashSet::new() };
    match form {
        Form::Docker => docker(store, images, &mut tar)?,
        Form::Oci => oci(store, images, &mut tar)?,
    }
    tar.end()
}

fn docker(store: &Store, images: &[Named<'_>], tar: &mut Writer<'_>) -> Result<()> {
    let mut listed = Vec::new();
    for (image, names) in images {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}.tar", layer.blob.diff_id.hex);
            if tar.begins(&name) {
                let budget = Budget::new(store.limits());
                let blob = store.layout().blob(&layer.blob.digest, layer.blob.size)?;
                let mut stream = Stream::new(blob, &layer.blob, &budget);
                let at = |e: crate::error::Error| e.at(format!("layer {}", layer.blob.digest));
                tar.file(&name, layer.archive, &mut stream).map_err(at)?;
                stream.finish().map_err(at)?;
            }
            layers.push(name);
        }
        let config = format!("{}.json", image.id.hex);
        tar.bytes(&config, &image.config_json)?;
        let names: Vec<String> = names
            .iter()
            .map(|name| super::named::Named::parse(name).map_or(name.clone(), |named| named.familiar()))
            .collect();
        listed.push(json!({"Config": config, "RepoTags": names, "Layers": layers}));
    }
    tar.bytes("manifest.json", json!(listed).to_string().as_bytes())
}

fn oci(store: &Store, images: &[Named<'_>], tar: &mut Writer<'_>) -> Result<()> {
    tar.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut entries = Vec::new();
    for (image, names) in images {
        let manifest = Digest::parse(image.manifest.digest().as_ref())?;
        let documents = [(manifest, image.manifest.size()), (image.id.clone(), image.config_json.len() as u64)];
        let layers = image.layers.iter().map(|layer| (layer.blob.digest.clone(), layer.blob.size));
        for (digest, size) in layers.chain(documents) {
            let name = format!("blobs/{}/{}", digest.name(), digest.hex);
            if tar.begins(&name) {
                let mut blob: Blob<'_> = store.layout().blob(&digest, size)?;
                tar.file(&name, size, &mut blob)?;
                blob.verify().map_err(|e| e.at(&digest))?;
            }
        }
        let mut entry = serde_json::to_value(&image.manifest).map_err(|e| error!("{e}"))?;
        for name in names {
            entry["annotations"] = json!({ TAG: name });
            entries.push(entry.clone());
        }
        if names.is_empty() {
            entries.push(entry);
        }
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    tar.bytes("index.json", index.to_string().as_bytes())
}

/// A tar being written.
struct Writer<'a> {
    out: &'a mut dyn Write,
    written: HashSet<String>,
}

impl Writer<'_> {
    /// Is this the first file of this name?
    fn begins(&mut self, name: &str) -> bool {
        self.written.insert(name.to_owned())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut &bytes[..])
    }

    /// One file; the content must have exactly this size.
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(told)?;
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // In octal up to 8 GiB, beyond that as GNU tar does.
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())?;
        let mut buffer = vec![0; 128 << 10];
        let mut left = size;
        while left > 0 {
            let want = left.min(buffer.len() as u64) as usize;
            match content.read(&mut buffer[..want]) {
                Ok(0) => return Err(error!("the content of {name} is {left} bytes too short")),
                Ok(got) => {
                    self.write(&buffer[..got])?;
                    left -= got as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(told(e)),
            }
        }
        let padding = size.wrapping_neg() % 512;
        self.write(&[0; 512][..padding as usize])
    }

    fn end(self) -> Result<()> {
        self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush()).called(|| "write".into())?;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.out.write_all(bytes).called(|| format!("write({} bytes)", bytes.len()))?)
    }
}
