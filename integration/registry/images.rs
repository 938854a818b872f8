//! Images without a program in them: a registry does not care.

use crate::kit::{Layout, noise, sha256};
use oci_spec::image::Descriptor;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Something of an image: its descriptor and its bytes.
pub struct Blob {
    pub descriptor: Value,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(kind: &str, bytes: Vec<u8>) -> Self {
        Blob { descriptor: json!({"mediaType": kind, "digest": sha256(&bytes), "size": bytes.len()}), bytes }
    }

    pub fn descriptor(&self) -> Descriptor {
        serde_json::from_value(self.descriptor.clone()).unwrap()
    }

    pub fn digest(&self) -> String {
        self.descriptor["digest"].as_str().unwrap().to_owned()
    }
}

/// A manifest, its configuration, and layers of so many bytes.
pub fn image(seed: u64, architecture: &str, layers: &[usize]) -> Vec<Blob> {
    // What skopeo reads of a layer is nothing, of a configuration hardly anything.
    let layers: Vec<Blob> =
        layers.iter().enumerate().map(|(n, size)| Blob::new(LAYER, noise(seed * 100 + n as u64, *size))).collect();
    let diff_ids: Vec<String> = layers.iter().map(Blob::digest).collect();
    let config = json!({"os": "linux", "architecture": architecture, "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = Blob::new(CONFIG, config.to_string().into_bytes());
    let descriptors: Vec<&Value> = layers.iter().map(|layer| &layer.descriptor).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor, "layers": descriptors});
    let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
    [manifest, config].into_iter().chain(layers).collect()
}

/// A layout with one image.
pub fn single(seed: u64, layers: &[usize]) -> Layout {
    let blobs = image(seed, "amd64", layers);
    let top = blobs[0].descriptor.clone();
    write(blobs, top)
}

/// A layout with an index of two platforms.
pub fn double(seed: u64) -> Layout {
    let (amd64, arm64) = (image(seed, "amd64", &[1000, 2000]), image(seed + 1, "arm64", &[3000]));
    let entry = |blobs: &[Blob], architecture: &str| {
        let mut entry = blobs[0].descriptor.clone();
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let all = [entry(&amd64, "amd64"), entry(&arm64, "arm64")];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all});
    let index = Blob::new(INDEX, index.to_string().into_bytes());
    let top = index.descriptor.clone();
    write(amd64.into_iter().chain(arm64).chain([index]), top)
}

fn write(blobs: impl IntoIterator<Item = Blob>, top: Value) -> Layout {
    let dir = tempfile::Builder::new().prefix("registry-layout-").tempdir().unwrap();
    let put = |path: &Path, bytes: &[u8]| fs::write(dir.path().join(path), bytes).unwrap();
    fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
    for blob in blobs {
        put(Path::new(&format!("blobs/{}", blob.digest().replace(':', "/"))), &blob.bytes);
    }
    put(Path::new("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut tagged = top.clone();
    tagged["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
    put(Path::new("index.json"), json!({"schemaVersion": 2, "manifests": [tagged]}).to_string().as_bytes());
    Layout { dir, top: serde_json::from_value(top).unwrap() }
}
