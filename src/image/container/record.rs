//! What is known of a container made from an image, beside what the runtime knows while it lives: one JSON file.
//!
//! By hand: `cat STORE/containers/HEX/record.json`.
//!
//! What goes wrong: a newer version writes what an older one does not know. [`FORMAT`] says which; an older one refuses a newer by name.

use crate::error;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// The facts about one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] of the version that wrote it.
    pub format: u32,
    /// Given by `--name`, or made up. Unique in the store.
    pub name: String,
    /// The image as it was asked for: `debian:12`.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it was made: RFC 3339, UTC.
    pub created: String,
    /// The image's and those of `--label`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What `stop` sends first: `SIGTERM` where nothing is said.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// How many seconds `stop` waits before it kills.
    #[serde(default)]
    pub stop_timeout: Option<u32>,
    /// What becomes of it when its program has ended.
    pub removal: Removal,
    /// The runtime's `--root`, where its state lies while it lives.
    pub root: PathBuf,
    /// How it ended, once it has.
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// `--rm`, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// It goes when its program has ended.
    AtEnd,
    /// It stays until it is removed.
    Kept,
}

/// The end of its program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When: RFC 3339, UTC.
    pub at: String,
    /// Exit code, 128+n after signal n.
    pub code: u8,
}

impl Record {
    /// Reads it from its text.
    pub fn from_bytes(bytes: &[u8]) -> Result<Record> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |e: serde_json::Error| error!("the record is damaged: {e}").hint("`corten rm -f` removes it");
        let Format { format } = serde_json::from_slice(bytes).map_err(damaged)?;
        if format > FORMAT {
            return Err(error!("written by a newer corten (format {format}, this one knows up to {FORMAT})"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Its text.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain data with string keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_and_newer_formats() {
        let least = r#"{"format":1,"name":"web","image":"debian:12","command":["sh"],"created":"2026-01-02T03:04:05Z",
                        "removal":"at-end","root":"/run/corten","unknown":1}"#;
        let record = Record::from_bytes(least.as_bytes()).unwrap();
        assert_eq!((record.removal, record.ended.as_ref(), record.labels.len()), (Removal::AtEnd, None, 0));
        assert_eq!(Record::from_bytes(&record.to_bytes()).unwrap(), record);
        let newer = least.replace("\"format\":1", "\"format\":2");
        assert!(Record::from_bytes(newer.as_bytes()).unwrap_err().cause.contains("newer corten"));
        for text in ["", "{}", "[]", &least[..40]] {
            assert!(Record::from_bytes(text.as_bytes()).unwrap_err().cause.contains("damaged"), "{text}");
        }
    }
}
