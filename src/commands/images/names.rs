//! `rmi` and `tag`: names are given and taken away, and an image without a name goes.
//!
//! By hand: `docker rmi web:1` says `Untagged:`, and `Deleted:` where that was the last name.

use super::verbs::{familiar, image, images, say, store, stored, united};
use crate::cli::Invocation;
use crate::error;
use crate::error::Result;
use crate::image::named::Named;
use crate::image::store::{Force, Removed, Store};

/// The verb. Those that can be removed are, whatever is wrong with the others; with `-f` an image that is not there is no error.
pub fn rmi(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let force = if args.get_flag("force") { Force::Yes } else { Force::No };
    let store = store(invocation)?;
    let (all, mut errors) = (images(args), Vec::new());
    for text in &all {
        if force == Force::Yes && matches!(store.find(text), Ok(None)) {
            eprintln!("corten: rmi: there is no image {text:?}");
            continue;
        }
        match stored(&store, text).and_then(|_| store.remove(text, force)).and_then(|removed| left(&store, removed)) {
            Ok(removed) => say(&told(&removed))?,
            Err(e) => errors.push(e),
        }
    }
    united(all.len(), errors).map(|()| 0)
}

/// An image may be there by two manifests, as pulled and as loaded: it is gone when both are.
pub fn left(store: &Store, mut removed: Removed) -> Result<Removed> {
    if !removed.deleted.is_empty() {
        let there = store.images()?;
        removed.deleted.retain(|id| !there.iter().any(|image| image.id.to_string() == *id));
    }
    Ok(removed)
}

/// Docker's lines for what is gone.
pub fn told(removed: &Removed) -> String {
    let untagged = removed.untagged.iter().map(|name| format!("Untagged: {}\n", familiar(name)));
    untagged.chain(removed.deleted.iter().map(|id| format!("Deleted: {id}\n"))).collect()
}

/// The verb.
pub fn tag(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let target = Named::parse(args.get_one::<String>("target").map(String::as_str).unwrap_or_default())?;
    if let Some(digest) = &target.digest {
        return Err(error!("{}: a name that is given cannot have a digest ({digest})", target.familiar()));
    }
    let store = store(invocation)?;
    let image = stored(&store, image(args))?;
    store.tag(&image, &target.to_string()).map(|()| 0)
}
