//! `spec`: writes the configuration to begin with.

use super::create::bundle_dir;
use crate::cli::Args;
use crate::error::{Error, Result, io_words};
use crate::input::template;
use std::fs::File;
use std::io::Write;

/// The verb. A config.json that is there already is never overwritten.
#[inline(never)]
pub fn spec(args: &Args) -> Result<u8> {
    let path = bundle_dir(args).join("config.json");
    let mut file = File::create_new(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(format!("{} exists already", path.display())).hint("remove it first, or edit it")
        }
        _ => Error::new(format!("{}: {}", path.display(), io_words(&e))),
    })?;
    let text = template::to_json(&template::spec());
    file.write_all(text.as_bytes()).map_err(|e| Error::new(format!("{}: {}", path.display(), io_words(&e))))?;
    Ok(0)
}
