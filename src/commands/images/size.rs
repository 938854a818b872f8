//! What a container takes on the disk: what it has written, and with its image's layers, which others may share.
//!
//! By hand: `docker ps -s`; `du -s STORE/containers/ID/upper`. As with Docker volumes do not count.

use crate::docker::human;
use crate::image::container::Container;
use crate::image::store::{Store, Stored};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Of what it has written.
    pub own: u64,
    /// Of its whole root; `None`: its image is not known any more.
    pub whole: Option<u64>,
}

impl Size {
    /// Measures a container. That takes a walk; what cannot be read, or goes meanwhile, counts for nothing.
    pub fn of(container: &Container, images: &[Stored]) -> Size {
        let own = written(&container.path().join("upper"));
        let digest = container.image().unwrap_or_default();
        let image = images.iter().find(|image| image.manifest.digest().as_ref() == digest);
        Size { own, whole: image.map(|image| image.unpacked() + own) }
    }

    /// As Docker has it: `4.1kB (virtual 77.9MB)`.
    pub fn words(self) -> String {
        let own = human::size(self.own);
        self.whole.map_or_else(|| own.clone(), |whole| format!("{own} (virtual {})", human::size(whole)))
    }
}

/// The images of a store; none if there is no store.
pub fn images(store: &Path) -> Vec<Stored> {
    match store.join("index.json").exists() {
        true => Store::open(store).and_then(|store| store.images()).unwrap_or_default(),
        false => Vec::new(),
    }
}

fn written(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let about = path.symlink_metadata().ok()?;
        Some(if about.is_dir() { written(&path) } else { about.blocks() * 512 })
    };
    entries.filter_map(size).sum()
}
