//! `push`: an image of the store to the registry that its name says.
//!
//! By hand: `corten tag web registry.lan:5000/web:2; corten push registry.lan:5000/web:2`, then `skopeo inspect docker://registry.lan:5000/web:2`.
//!
//! An image that was pulled from the same registry under another name needs no upload: the registry is asked to take its layers from there (`near`).
//!
//! What goes wrong: an image has the name of what it was pulled from, and goes there. So nothing is pushed but what was named with its registry.

use super::verbs::{image, say, settings, short, store, stored};
use crate::cli::Invocation;
use crate::error;
use crate::error::Result;
use crate::image::digest::Digest;
use crate::image::named::Named;
use crate::image::registry::Registry;
use crate::image::registry::push::{How, Pushed};
use crate::image::store::{Store, Stored};
use oci_spec::image::Descriptor;

/// The verb.
pub fn push(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let named = Named::parse(image(args))?;
    if let Some(digest) = &named.digest {
        return Err(error!("{}: a push needs a tag, not a digest ({digest})", named.familiar()));
    }
    let settings = settings(args, &named.registry)?;
    let store = store(invocation)?;
    let _held = store.hold()?;
    let all = if args.get_flag("all-tags") { tags(&store, &named, image(args))? } else { vec![named.clone()] };
    let images: Vec<(&Named, Stored)> =
        all.iter().map(|named| Ok((named, stored(&store, &named.to_string())?))).collect::<Result<_>>()?;
    let registry = Registry::connect(&named, &settings)?;
    let quiet = args.get_flag("quiet");
    if !quiet {
        say(&format!("The push refers to repository [{}]\n", named.name()))?;
    }
    for (named, image) in &images {
        let told = |blob: &Descriptor, how: How| {
            let layer = image.layers.iter().find(|layer| layer.blob.digest.to_string() == blob.digest().as_ref());
            // The configuration is no layer, and Docker says nothing of it.
            if let (false, Some(layer)) = (quiet, layer) {
                // What cannot be told is not worth an upload.
                let _ = say(&format!("{}: {}\n", short(&layer.blob.digest.hex), words(how)));
            }
        };
        let near = near(image, named);
        let pushed = Pushed { source: store.layout(), top: &image.manifest, near: near.as_deref(), told: &told };
        let digest: Digest = registry.push(named, &pushed)?;
        match quiet {
            true => say(&format!("{named}\n"))?,
            false => say(&format!("{}: digest: {digest} size: {}\n", named.wanted(), image.manifest.size()))?,
        }
    }
    Ok(0)
}

/// All names in the store of this repository.
fn tags(store: &Store, named: &Named, typed: &str) -> Result<Vec<Named>> {
    if typed.rsplit('/').next().is_some_and(|last| last.contains(':')) {
        return Err(error!("{typed}: --all-tags and a tag: only one of them"));
    }
    let all = store.images()?.into_iter().flat_map(|image| image.names);
    let mut tags: Vec<Named> = all
        .filter_map(|full| Named::parse(&full).ok())
        .filter(|other| other.name() == named.name() && other.tag.is_some())
        .collect();
    tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    if tags.is_empty() {
        return Err(error!("there is no image of {}", named.familiar_name()).hint("`corten images` lists them"));
    }
    Ok(tags)
}

/// Another repository of the same registry that has the image, by what it is called here.
fn near(image: &Stored, named: &Named) -> Option<String> {
    let others = image.digests.iter().filter_map(|full| Named::parse(full).ok());
    let mut others = others.filter(|other| other.registry == named.registry && other.repository != named.repository);
    others.next().map(|other| other.repository)
}

fn words(how: How) -> &'static str {
    match how {
        How::There => "Layer already exists",
        How::Mounted => "Mounted from another repository",
        How::Sent => "Pushed",
        How::Left => "Skipped: it is fetched from where its manifest says",
    }
}
