//! `explain IMAGE`: the plan of `run IMAGE`, without privileges and without touching anything.
//!
//! By hand: `corten explain oci:layout:tag -m 64m | grep overlay`. The image is one of the store, if it can be read (it is root's alone), or one at a path.
//! Nothing is fetched and nothing unpacked: the layers' directories have the names that they would get.
//!
//! What goes wrong: a user or group by name stands in the image's files. Where the layers are not unpacked, only numbers can be told.

use super::decide::{self, Subject};
use super::{local, store_path};
use crate::cli::Invocation;
use crate::commands::explain::print;
use crate::commands::say;
use crate::docker::{self, Options, here};
use crate::error;
use crate::error::{Error, Result};
use crate::image::container::{Containers, Ground};
use crate::image::local as paths;
use crate::image::store::{Store, chains, unpacked};
use crate::input::bundle::faults_error;
use crate::input::host::Host;
use crate::input::overrides::Caller;
use crate::plan;
use crate::setup::overlay::After;
use crate::state::status::boot;
use oci_spec::image::ImageConfiguration;
use std::path::{Path, PathBuf};

/// What stands for the id, as with a bundle.
const ID: &str = "ID";

/// The verb. It plans for root.
#[inline(never)]
pub fn explain(invocation: &Invocation) -> Result<u8> {
    if invocation.args.get_flag("rootless") {
        return Err(Error::new("--rootless: a plan for an ordinary user is not in this version"));
    }
    let options = Options::typed(invocation.args.matches())?;
    let caller = Caller::here()?;
    let before = docker::before(&options, &caller, here::ARCH)?;
    let place = std::path::absolute(store_path(invocation)).map_err(|e| error!("--store: {e}"))?;
    // Opened where it is there: that would make it.
    let known = place.join("index.json").exists();
    let store = known.then(|| Store::open(&place)).transpose()?;
    let (image, layers) = match &store {
        Some(store) if !paths::is_path(&options.image) => match local(store, &options.image, &before)? {
            Some(image) => (image.config.clone(), store.layers(&image)?),
            None => return Err(nowhere(&options.image, &place)),
        },
        None if !paths::is_path(&options.image) => return Err(nowhere(&options.image, &place)),
        _ => at_path(&options.image, &super::platform(&before), &place)?,
    };
    let mut host = Host { is_root: true, ..Host::read() };
    let directory = place.join("containers").join(ID);
    let there: &[PathBuf] = if layers.iter().all(|layer| layer.is_dir()) { &layers } else { &[] };
    let subject =
        Subject { id: ID, directory: &directory, layers: there, image: &image, options: &options, caller: &caller };
    let containers = store.as_ref().map(|store| Containers::open(store.path())).transpose()?;
    let configured = decide::configured(invocation, &host, containers.as_ref(), &subject).map_err(|e| {
        let unpacked = there.len() == layers.len();
        if unpacked { e } else { e.detail("the image is not unpacked in the store: names of its users are not known") }
    })?;
    super::report(invocation, &configured.warnings);
    let noted = containers.as_ref().and_then(|containers| containers.noted(&boot()));
    let ground = noted.unwrap_or_else(|| {
        host.assumed.push(format!("{} can hold an overlay", place.display()));
        Ground::Overlay
    });
    let ground = ground.for_layers(&layers);
    if let Ground::Copy { because } = &ground {
        let (to, shown) = (directory.join("rootfs"), place.display());
        say(&format!(
            "copied first: the image's layers to {}; {shown} cannot hold an overlay of them: {because}\n",
            to.display()
        ))?;
    }
    let after = if options.rm { After::Removed } else { After::Kept };
    let root = decide::root(&ground, &place, layers, &directory, after);
    let bundle = decide::bundle(directory, configured);
    let request = decide::request(invocation, ID.to_owned(), &bundle, root);
    let (plan, _) =
        plan::container(&bundle.config, &host, &request).map_err(|found| faults_error(&found, "the configuration"))?;
    print(&plan, &format!("run {}", options.image), &host)
}

fn nowhere(image: &str, store: &Path) -> Error {
    error!("there is no image {image:?} in {}, or not for this user", store.display()).hint(format!(
        "`corten pull {image}` gets it; one at a path (oci:DIR, docker-archive:FILE) everybody can explain"
    ))
}

/// What an image at a path says, and where its layers would be.
fn at_path(
    text: &str,
    platform: &crate::image::manifest::Platform,
    store: &Path,
) -> Result<(ImageConfiguration, Vec<PathBuf>)> {
    let found = paths::find(text, platform, &|| Store::open(store))?;
    let layers = chains(&found.image.layers).iter().map(|chain| unpacked(store, chain)).collect();
    Ok((found.image.config, layers))
}
