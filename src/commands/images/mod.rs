//! The verbs on images and on the containers made from them.
//!
//! | verb | file |
//! |---|---|
//! | `run`, `explain` | `run`, `explain`; what they have in common is in `decide` |
//! | `pull`, `push` | `pull`, `push`; `progress` shows how far they are |
//! | `login`, `logout` | `login` |
//! | `load`, `save` | `archive` |
//! | `images` | `list`, with `rows` and `moment` |
//! | `history` | `history` |
//! | `rmi`, `tag` | `names` |
//! | `prune` | `prune` |
//!
//! What those on images have in common is in `verbs`.

mod archive;
pub mod containers;
mod decide;
pub mod documents;
pub mod explain;
mod history;
pub mod inspect;
mod list;
mod login;
mod moment;
mod names;
mod progress;
mod prune;
pub mod ps;
pub mod pull;
mod push;
mod rows;
pub mod run;
mod size;
pub mod verbs;

use super::delete::{self, Force};
use crate::cli::{Form, Invocation};
use crate::docker::configure::Pull;
use crate::docker::{self, Before, here};
use crate::error;
use crate::error::Result;
use crate::image::container::{Containers, Record};
use crate::image::local;
use crate::image::manifest::Platform;
use crate::image::named::Named;
use crate::image::store::{self, Silent, Store, Stored};
use crate::state::status::{self, Status};
use crate::state::store::{Entry, Store as Runtime};
use crate::sys::start;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where images are: `--store`, `CORTEN_STORE`, or `/var/lib/corten`; for an ordinary user the data directory of the XDG specification.
pub fn store_path(invocation: &Invocation) -> PathBuf {
    store_at(invocation.global.store.clone())
}

fn store_at(given: Option<PathBuf>) -> PathBuf {
    let from_environment = || std::env::var_os("CORTEN_STORE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let of_user = || {
        let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let data = || set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
        data().filter(|_| start::euid() != 0).map(|data| data.join("corten"))
    };
    given.or_else(from_environment).or_else(of_user).unwrap_or_else(|| store::DEFAULT.into())
}

/// Which form the words after `run` have. `store`: `--store`, if it was given.
pub fn form(words: &[OsString], store: Option<PathBuf>) -> Result<Form> {
    // Callers that drive us name their bundle, and need not wait for what would not be asked.
    let is_named =
        |word: &OsString| word.to_str().is_some_and(|word| word.starts_with("--bundle") || word.starts_with("-b"));
    let here = match words.iter().any(is_named) {
        true => docker::form::Here::Nothing,
        false => here::config_json(".".as_ref()),
    };
    let path = store_at(store);
    let known = |word: &str| {
        path.join("index.json").exists()
            && Store::open(&path).and_then(|store| store.find(word)).is_ok_and(|found| found.is_some())
    };
    Ok(match docker::form::form(words, &here, &known)? {
        docker::form::Form::Bundle => Form::Bundle,
        docker::form::Form::Image => Form::Image,
    })
}

fn platform(before: &Before) -> Platform {
    match &before.platform {
        None => Platform::here(),
        Some(asked) => {
            Platform { os: asked.os.clone(), architecture: asked.architecture.clone(), variant: asked.variant.clone() }
        }
    }
}

/// The image that is in the store, if it may be taken from there.
fn local(store: &Store, text: &str, before: &Before) -> Result<Option<Stored>> {
    if local::is_path(text) || before.pull == Pull::Always {
        return Ok(None);
    }
    let found = store.find(text)?.filter(|image| {
        let (os, architecture) = (image.config.os().to_string(), image.config.architecture().to_string());
        before.platform.as_ref().is_none_or(|asked| asked.os == os && asked.architecture == architecture)
    });
    match (found, before.pull) {
        (None, Pull::Never) => Err(error!("no image {text} here, and --pull=never")),
        (found, _) => Ok(found),
    }
}

/// Fetches the image, or takes it from its path.
fn obtain(invocation: &Invocation, store: &Store, text: &str, before: &Before) -> Result<Stored> {
    let platform = platform(before);
    if local::is_path(text) {
        return local::add(store, text, &platform, &Silent);
    }
    let _ = invocation;
    pull::beside(store, &Named::parse(text)?, &platform)
}

/// What the user should know, a line each.
fn report(_: &Invocation, warnings: &[String]) {
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
}

/// Removes what killed processes left behind.
fn sweep(containers: &Containers) -> Result<usize> {
    containers.sweep(&|id, record| lives(id, record))
}

/// Does the runtime know of it? What nobody waits for any more, and has ended, it is made to forget.
fn lives(id: &str, record: Option<&Record>) -> bool {
    let Some(record) = record else { return false };
    let runtime = Runtime::new(record.root.clone());
    match runtime.find(id) {
        Ok(Some(entry)) => !forgotten(&runtime, &entry),
        Ok(None) => false,
        // It could not be asked.
        Err(_) => true,
    }
}

/// Its `run` was killed, and later its program has ended by itself: what is left of both is removed. `false`: it has not ended.
fn forgotten(runtime: &Runtime, entry: &Entry) -> bool {
    let ended = entry.load().is_ok_and(|state| status::of(entry, &state) == Status::Stopped);
    ended && delete::remove(runtime, entry, Force::No).is_ok()
}

/// A running container, whose namespaces are to be shared: of an image by its name, of a bundle by its id.
fn find_running(containers: &Containers, runtime: &Runtime, word: &str) -> Result<docker::configure::Other> {
    let image = containers.find(word)?;
    let id = image.as_ref().map_or(word, |container| container.id.as_str());
    let entry = runtime.find(id)?.ok_or_else(|| error!("no container {word} is running"))?;
    let state = entry.load()?;
    let Some(init) = state.init.as_ref().filter(|_| status::of(&entry, &state) == Status::Running) else {
        return Err(error!("container {word} is not running"));
    };
    let hostname = match nix::unistd::gethostname() {
        Ok(own) => own.to_string_lossy().into_owned(),
        Err(_) => String::new(),
    };
    let config = super::kept_config(&entry, &state)?;
    Ok(docker::configure::Other {
        name: word.to_owned(),
        pid: init.pid,
        has_shm: config.mounts.iter().any(|mount| mount.destination == Path::new("/dev/shm")),
        hostname: config.hostname.unwrap_or(hostname),
        directory: image.map(|container| container.path().to_owned()),
    })
}

/// The containers of the store, if there ever were any.
fn containers(invocation: &Invocation) -> Result<Option<Containers>> {
    let path = store_path(invocation);
    // Who may not look into the store has no containers there.
    if !path.join("containers").exists() {
        return Ok(None);
    }
    Containers::open(&path).map(Some)
}
