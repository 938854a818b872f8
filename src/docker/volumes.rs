//! An image's `VOLUME`s: directories whose content is not the image's.
//!
//! By hand: `docker run --rm --read-only postgres df /var/lib/postgresql/data`. Docker makes a volume without a name for each, filled with what the image has
//! there. A program sees that it can write there with `--read-only`, that it is no overlay (another overlay can be made in it), and that the
//! directory exists though no layer has it. So the root's overlay alone will not do.
//!
//! What we do: a directory in the container's own, filled from the layers and bound into place. It goes with the container, as the rest of what that has
//! written: there are no verbs on volumes that could find it afterwards. A mount that was asked for at the same place takes it.
//!
//! What goes wrong: the paths are a stranger's. They are cleaned here and resolved below the layers, where links cannot lead out (`image::volume`).

use crate::error;
use crate::error::Result;
use crate::input::config::Mount;
use crate::sys::path::clean;
use oci_spec::image::Config;
use std::path::{Component, Path, PathBuf};

/// The directory in the container's own that holds them.
pub const DIRECTORY: &str = "volumes";

/// A directory to be made, and filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where it is mounted, and where the image has its content.
    pub place: PathBuf,
    /// Its name in the container's directory: `volumes/0`.
    pub directory: PathBuf,
}

/// The image's volumes at places that nothing else was asked for, in the order of their places.
pub fn volumes(image: &Config, asked: &[Mount]) -> Result<Vec<Volume>> {
    let mut places: Vec<PathBuf> = image.volumes().iter().flatten().map(|text| place(text)).collect::<Result<_>>()?;
    places.sort();
    places.dedup();
    places.retain(|place| !asked.iter().any(|mount| clean(&mount.destination) == *place));
    let numbered = places.into_iter().enumerate();
    Ok(numbered.map(|(n, place)| Volume { place, directory: Path::new(DIRECTORY).join(n.to_string()) }).collect())
}

fn place(text: &str) -> Result<PathBuf> {
    let whole = Path::new("/").join(text);
    let wrong = |why: &str| Err(error!("the image's VOLUME {}: {why}", super::quote(text)));
    match clean(&whole) {
        _ if whole.components().any(|part| part == Component::ParentDir) => wrong("has .. in it"),
        place if place == Path::new("/") => wrong("is the root itself"),
        place => Ok(place.into_owned()),
    }
}

impl Volume {
    /// Its mount; `container` is the container's directory.
    pub fn mount(&self, container: &Path) -> Mount {
        Mount {
            destination: self.place.clone(),
            kind: "bind".to_owned(),
            source: Some(container.join(&self.directory)),
            options: ["rbind", "rprivate"].map(String::from).to_vec(),
            ..Mount::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(volumes_of_image: &str, asked: &[&str]) -> std::result::Result<Vec<(String, String)>, String> {
        let image: Config = serde_json::from_str(&format!(r#"{{"Volumes":{volumes_of_image}}}"#)).unwrap();
        let asked: Vec<Mount> =
            asked.iter().map(|place| Mount { destination: place.into(), ..Mount::default() }).collect();
        let shown = |path: &Path| path.display().to_string();
        let found = volumes(&image, &asked).map_err(|e| e.to_string())?;
        Ok(found.iter().map(|volume| (shown(&volume.place), shown(&volume.directory))).collect())
    }

    #[test]
    fn each_place_once_unless_something_else_was_asked_for_there() {
        let volume = |place: &str, directory: &str| (place.to_owned(), directory.to_owned());
        assert_eq!(of("null", &[]), Ok(vec![]));
        assert_eq!(
            of(r#"{"/var/lib/db/":{},"data":{},"/data":{},"/a":{}}"#, &["/a/"]),
            Ok(vec![volume("/data", "volumes/0"), volume("/var/lib/db", "volumes/1")])
        );
        for (text, why) in [("/", "is the root itself"), ("/a/../b", "has ..")] {
            let error = of(&format!("{{{text:?}:{{}}}}"), &[]).expect_err(text);
            assert!(error.contains(why) && error.contains("the image's VOLUME"), "{error}");
        }
    }
}
