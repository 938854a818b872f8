//! Which image is meant: `oci:DIR[:TAG]`.
//!
//! The words are skopeo's: the first colon after `oci:` ends the directory, so a tag may contain colons and slashes
//! (`oci:images:docker.io/library/busybox:latest`), and a directory whose name has a colon cannot be named.

use crate::error;
use crate::error::Result;
use std::path::PathBuf;

/// An image in a local OCI image layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The directory that holds `oci-layout`, `index.json` and `blobs`.
    pub layout: PathBuf,
    /// The value of the annotation `org.opencontainers.image.ref.name`; `None` takes the only image there is.
    pub tag: Option<String>,
}

impl Reference {
    /// Parses `oci:DIR[:TAG]`; nothing on the disk is looked at.
    pub fn parse(text: &str) -> Result<Self> {
        let hint = "write oci:DIR or oci:DIR:TAG, the directory of an OCI image layout";
        let Some(rest) = text.strip_prefix("oci:") else {
            return Err(error!("{text:?} does not begin with oci:").hint(hint));
        };
        let (layout, tag) = match rest.split_once(':') {
            Some((layout, tag)) => (layout, Some(tag)),
            None => (rest, None),
        };
        if layout.is_empty() {
            return Err(error!("{text:?} names no directory").hint(hint));
        }
        if tag == Some("") {
            return Err(error!("{text:?} has an empty tag").hint(hint));
        }
        Ok(Reference { layout: layout.into(), tag: tag.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_colon_ends_the_directory() {
        let parse = |text| Reference::parse(text).map(|r| (r.layout.to_str().unwrap().to_owned(), r.tag));
        assert_eq!(parse("oci:images"), Ok(("images".into(), None)));
        assert_eq!(parse("oci:/a/b:latest"), Ok(("/a/b".into(), Some("latest".into()))));
        assert_eq!(parse("oci:d:docker.io/x:1"), Ok(("d".into(), Some("docker.io/x:1".into()))));
    }

    #[test]
    fn what_is_not_a_reference_is_said_so() {
        for text in ["", "images", "docker:busybox", "oci:", "oci::tag", "oci:dir:"] {
            assert!(Reference::parse(text).unwrap_err().hint.is_some(), "{text}");
        }
    }
}
