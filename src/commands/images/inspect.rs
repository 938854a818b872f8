//! `inspect`: containers of both kinds, and images.
//!
//! By hand: `docker inspect --format '{{.State.Pid}}' web`, `docker inspect --type image debian:12`.
//!
//! A container's document holds what the runtime knows, with the names of its specification, and beside it Docker's fields, which begin with capitals. A
//! word is a container before it is an image, as with Docker; `--type` says otherwise.

use super::containers::Known;
use super::size::{self, Size};
use super::{documents, store_path};
use crate::cli::Invocation;
use crate::commands::{inspect::of, target};
use crate::docker::format::Format;
use crate::error;
use crate::error::Result;
use crate::image::store::Store;
use crate::input::id::Id;
use crate::state::status;
use serde_json::Value;
use std::path::PathBuf;

/// What a word may mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Either,
    Container,
    Image,
}

/// The verb. A word that means nothing fails the whole call, and nothing is printed.
#[inline(never)]
pub fn inspect(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let format = args.get_one::<String>("format").map(|text| Format::parse(text, "")).transpose()?;
    let kind = match args.get_one::<String>("type").map(String::as_str) {
        None => Kind::Either,
        Some("container") => Kind::Container,
        Some(_) => Kind::Image,
    };
    let path = store_path(invocation);
    let store = if path.join("index.json").exists() { Some(Store::open(&path)?) } else { None };
    let words = args.get_many::<String>("id").unwrap_or_default();
    let all: Vec<Value> =
        words.map(|word| one(invocation, store.as_ref(), word, kind).map_err(|e| e.at(word))).collect::<Result<_>>()?;
    match format {
        Some(format) => print!("{}", format.inspect(&all)?),
        None => println!("{:#}", Value::from(all)),
    }
    Ok(0)
}

fn one(invocation: &Invocation, store: Option<&Store>, word: &str, kind: Kind) -> Result<Value> {
    // What cannot be a container's id may still be an image's name.
    let id = if kind == Kind::Image { None } else { Id::parse(word).ok() };
    let target = id.map(|id| target::find(invocation, &id)).transpose()?;
    let target = match target {
        Some(target) if target.is_something() => {
            return container(target, store, invocation.args.get_flag("size").then(|| store_path(invocation)));
        }
        other => other,
    };
    if kind != Kind::Container
        && let Some(image) = store.map(|store| store.find(word)).transpose()?.flatten()
    {
        return documents::image(&image);
    }
    match (kind, target) {
        (Kind::Image, _) => Err(error!("there is no image of that name")),
        (_, Some(target)) => target.known().map(|_| Value::Null),
        (_, None) => Err(error!("there is no container and no image of that name")),
    }
}

/// `measured`: the store, if sizes are wanted.
fn container(target: target::Target, store: Option<&Store>, measured: Option<PathBuf>) -> Result<Value> {
    let found = target.entry.as_ref().map(|entry| entry.load().map(|state| (status::of(entry, &state), state)));
    let found = found.transpose()?;
    let mut document = match (&target.entry, &found) {
        (Some(entry), Some((status, state))) => of(entry, state, *status),
        _ => Value::Object(Default::default()),
    };
    let known = match (target.image, found) {
        (Some(image), found) => image.known(found)?,
        (None, Some((status, state))) => Known::of_bundle(target.store, status, state),
        (None, None) => return Ok(document),
    };
    if let Some(fields) = document.as_object_mut() {
        fields.extend(documents::container(&known, store));
        if let (Some(path), Some((container, _))) = (measured, &known.image) {
            let size = Size::of(container, &size::images(&path));
            fields.insert("SizeRw".to_owned(), size.own.into());
            fields.insert("SizeRootFs".to_owned(), size.whole.unwrap_or(size.own).into());
        }
    }
    Ok(document)
}
