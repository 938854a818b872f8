//! `unpack`: an image, of the store or at a path, becomes a bundle.

use super::images::store_path;
use super::images::verbs::may_unpack;
use crate::cli::Invocation;
use crate::error::Result;
use crate::image::local;
use crate::image::manifest::Platform;
use crate::image::store::Store;
use std::path::PathBuf;

/// The verb.
#[inline(never)]
pub fn unpack(invocation: &Invocation) -> Result<u8> {
    may_unpack()?;
    let args = &invocation.args;
    let image = args.get_one::<String>("image").expect("required");
    let bundle = args.get_one::<PathBuf>("bundle").expect("required");
    let found = local::find(image, &Platform::here(), &|| Store::open(&store_path(invocation)))?;
    crate::image::unpack(&found, bundle).map(|()| 0)
}
