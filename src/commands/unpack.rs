//! `unpack`: an image from a local OCI layout becomes a bundle.

use crate::error::Result;
use clap::ArgMatches;
use std::path::PathBuf;

/// The verb.
#[inline(never)]
pub fn unpack(args: &ArgMatches) -> Result<u8> {
    let image = args.get_one::<String>("image").expect("required");
    let bundle = args.get_one::<PathBuf>("bundle").expect("required");
    crate::image::unpack(image, bundle)?;
    Ok(0)
}
