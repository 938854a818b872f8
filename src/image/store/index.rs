//! index.json: which images there are, and what they are called.
//!
//! An entry for each name, and one without a name for an image that has none. By hand: `jq '.manifests[] | [.digest, .annotations]' index.json`.
//! The file is replaced as a whole, under a lock, so that two changes do not lose one; who reads needs no lock.

use super::super::layout::TAG;
use super::super::manifest::parse;
use super::{Store, lock, replace};
use crate::error::Result;
use nix::fcntl::FlockArg;
use oci_spec::image::Descriptor;
use std::collections::HashMap;
use std::path::Path;

/// The digest that the name stood for where the image came from, of an index or of the manifest itself.
pub const RESOLVED: &str = "io.github.corten.resolved";

const MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Makes an empty layout where none is.
pub fn begin(path: &Path) -> Result<()> {
    if ["index.json", "oci-layout"].iter().all(|name| path.join(name).exists()) {
        return Ok(());
    }
    let _held = lock::wait(lock::open(&path.join("index.lock"))?, FlockArg::LockExclusive)?;
    for (name, content) in [("index.json", empty()), ("oci-layout", MARKER.to_owned())] {
        if !path.join(name).exists() {
            replace(&path.join("tmp").join(name), &path.join(name), content.as_bytes())?;
        }
    }
    Ok(())
}

fn empty() -> String {
    serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []})
        .to_string()
}

impl Store {
    /// Changes the entries.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Vec<Descriptor>) -> Result<T>) -> Result<T> {
        let _held = self.index_lock()?;
        let before = self.layout.entries()?;
        let mut after = before.clone();
        let done = change(&mut after)?;
        if after != before {
            let mut index: serde_json::Value = parse(empty().as_bytes())?;
            index["manifests"] = serde_json::to_value(&after).map_err(|e| crate::error!("index.json: {e}"))?;
            let bytes = serde_json::to_vec_pretty(&index).map_err(|e| crate::error!("index.json: {e}"))?;
            replace(&self.temporary().join("index.json"), &self.path.join("index.json"), &bytes)?;
            // Or a pull that has told its digest, and a removal that has freed the disk, would be undone by a power failure.
            self.sync_names()?;
        }
        Ok(done)
    }

    /// Gives a manifest a name, or none. The image that had the name keeps an entry without one.
    pub(super) fn name(&self, manifest: &Descriptor, name: Option<&str>, resolved: Option<&str>) -> Result<()> {
        self.change(|entries| {
            let known = resolved
                .or_else(|| entries.iter().filter(|e| e.digest() == manifest.digest()).find_map(self::resolved));
            let new = entry(manifest, name, known);
            if let Some(name) = name {
                take_name(entries, name, Some(manifest));
            }
            let others = entries.iter().any(|e| e.digest() == manifest.digest() && name_of(e).is_some());
            // An image without a name has one entry, and one with a name none of that kind.
            entries.retain(|e| e.digest() != manifest.digest() || name_of(e).is_some());
            if name.is_some() || !others {
                entries.push(new);
            }
            Ok(())
        })
    }
}

/// An entry of index.json.
fn entry(manifest: &Descriptor, name: Option<&str>, resolved: Option<&str>) -> Descriptor {
    let mut entry = manifest.clone();
    let said = [(TAG, name), (RESOLVED, resolved)]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
    let said: HashMap<String, String> = said.collect();
    entry.set_annotations((!said.is_empty()).then_some(said));
    entry
}

/// Takes a name away from whatever has it; an image that had no other, and is not `heir`, stays as one without a name.
pub fn take_name(entries: &mut Vec<Descriptor>, name: &str, heir: Option<&Descriptor>) -> bool {
    let Some(at) = entries.iter().position(|e| name_of(e) == Some(name)) else { return false };
    let had = entries.remove(at);
    let named = entries.iter().any(|e| e.digest() == had.digest());
    if !named && heir.is_none_or(|heir| heir.digest() != had.digest()) {
        entries.insert(at, entry(&had, None, resolved(&had)));
    }
    true
}

/// The name of an entry.
pub fn name_of(entry: &Descriptor) -> Option<&str> {
    super::super::layout::tag_of(entry)
}

/// What the name of an entry stood for.
pub fn resolved(entry: &Descriptor) -> Option<&str> {
    entry.annotations().as_ref()?.get(RESOLVED).map(String::as_str)
}
