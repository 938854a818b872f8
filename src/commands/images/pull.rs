//! `pull`: a registry's image into the store.
//!
//! By hand: `docker pull debian:12` prints the same lines, from `12: Pulling from library/debian` to the full name. Standard output is for both
//! progress and result; with `-q` it is the digest alone, so that `corten pull -q` can stand in a script.

use super::progress::{Kind, Shown};
use super::verbs::{image, platform, say, settings, short, store};
use crate::cli::Invocation;
use crate::error::Result;
use crate::image::manifest::Platform;
use crate::image::named::Named;
use crate::image::registry::Registry;
use crate::image::settings::Settings;
use crate::image::store::{Progress, Silent, Store, Stored};
use std::fmt;

/// What was pulled.
#[derive(Debug)]
pub struct Pulled {
    /// The image.
    pub image: Stored,
    /// What the name led to: the digest of a manifest, or of an index.
    pub digest: String,
    /// Was anything new?
    pub news: News,
}

/// Was anything new?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The name stood for this image before.
    No,
    /// It did not.
    Yes,
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            News::Yes => "Downloaded newer image for",
            News::No => "Image is up to date for",
        })
    }
}

/// Gets an image and gives it its name in the store.
pub fn fetch(
    store: &Store,
    named: &Named,
    platform: &Platform,
    settings: &Settings,
    progress: &dyn Progress,
) -> Result<Pulled> {
    let registry = Registry::connect(named, settings)?;
    let top = registry.resolve(named)?;
    let name = stored_name(named);
    let before = store.find(&name)?.map(|image| image.manifest.digest().clone());
    let added = store.add(&registry, &top, platform, Some(&name), progress);
    let image = added.map_err(|e| registry.discreet(e).at(named.familiar()))?;
    let news = if before.as_ref() == Some(image.manifest.digest()) { News::No } else { News::Yes };
    Ok(Pulled { image, digest: top.digest().to_string(), news })
}

/// The same for `run`, which lacks an image: what is to be told goes to standard error.
pub fn beside(store: &Store, named: &Named, platform: &Platform) -> Result<Stored> {
    let familiar = named.familiar();
    eprintln!("Unable to find image '{familiar}' locally");
    let settings = Settings::load()?;
    eprintln!("{}: Pulling from {}", named.wanted(), path(named));
    let shown = Shown::new(Kind::Run);
    let pulled = fetch(store, named, platform, &settings, &shown);
    drop(shown);
    let pulled = pulled?;
    eprintln!("Digest: {}\nStatus: {} {familiar}", pulled.digest, pulled.news);
    Ok(pulled.image)
}

/// What the image is called in the store: where a digest was given, a tag is not, because nobody said that it leads there.
fn stored_name(named: &Named) -> String {
    match &named.digest {
        Some(digest) => format!("{}@{digest}", named.name()),
        None => named.to_string(),
    }
}

/// The verb.
pub fn pull(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let named = Named::parse(image(args))?;
    let (platform, settings) = (platform(args)?, settings(args, &named.registry)?);
    let store = store(invocation)?;
    if args.get_flag("quiet") {
        let pulled = fetch(&store, &named, &platform, &settings, &Silent)?;
        return say(&format!("{}\n", pulled.digest)).map(|()| 0);
    }
    if !image(args).contains('@') && !image(args).ends_with(&format!(":{}", named.wanted())) {
        say("Using default tag: latest\n")?;
    }
    say(&format!("{}: Pulling from {}\n", named.wanted(), path(&named)))?;
    let shown = Shown::new(Kind::Pull);
    let pulled = fetch(&store, &named, &platform, &settings, &shown);
    drop(shown);
    let pulled = pulled?;
    log::debug!("image {}", short(&pulled.image.id.hex));
    let familiar = named.familiar();
    say(&format!("Digest: {}\nStatus: {} {familiar}\n{named}\n", pulled.digest, pulled.news)).map(|()| 0)
}

/// Docker names the registry only where it is not Docker Hub.
fn path(named: &Named) -> String {
    match named.registry.as_str() {
        crate::image::named::HUB => named.repository.clone(),
        _ => named.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_store() {
        let name = |text: &str| stored_name(&Named::parse(text).unwrap());
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(name("debian"), "docker.io/library/debian:latest");
        assert_eq!(name(&format!("debian@{digest}")), format!("docker.io/library/debian@{digest}"));
        assert_eq!(name(&format!("h:5000/x:1@{digest}")), format!("h:5000/x@{digest}"));
    }
}
