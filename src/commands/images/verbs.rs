//! What the verbs on images have in common: they ask the store and registries, and print as Docker does.
//!
//! By hand: `docker VERB --help` says the same, but for what is refused by name.
//!
//! What goes wrong: a word that is a name, an id, and the beginning of another's id at once. The store decides (`Store::find`): names first.

pub(super) use crate::commands::say;

use super::{archive, history, list, login, names, prune, pull, push, store_path};
use crate::cli::{self, Args, Invocation};
use crate::error;
use crate::error::{Error, Result};
use crate::image::manifest::Platform;
use crate::image::named::Named;
use crate::image::settings::Settings;
use crate::image::store::{Store, Stored};

/// The verb; `main`'s exit code. As with Docker 0, or 1 where anything went wrong.
#[inline(never)]
pub fn run(invocation: &Invocation) -> Result<u8> {
    if let Some(words) = cli::images::refusal(&invocation.verb, &invocation.args) {
        return Err(Error::new(words));
    }
    if ["pull", "load"].contains(&invocation.verb.as_str()) {
        may_unpack()?;
    }
    match invocation.verb.as_str() {
        "pull" => pull::pull(invocation),
        "push" => push::push(invocation),
        "login" => login::login(&invocation.args),
        "logout" => login::logout(&invocation.args),
        "load" => archive::load(invocation),
        "save" => archive::save(invocation),
        "images" => list::images(invocation),
        "rmi" => names::rmi(invocation),
        "tag" => names::tag(invocation),
        "history" => history::history(invocation),
        "prune" => prune::prune(invocation),
        other => Err(error!("{other}: no verb on images")),
    }
}

/// Layers are unpacked where they arrive, with the owners that they name.
pub fn may_unpack() -> Result<()> {
    match crate::sys::start::euid() {
        0 => Ok(()),
        _ => Err(error!("needs root: unpacking sets owners, and doing without is not in this version")
            .hint("`sudo corten …`")),
    }
}

/// The store of this invocation, made if it is not there.
pub(super) fn store(invocation: &Invocation) -> Result<Store> {
    let path = store_path(invocation);
    Store::open(&path).map_err(|e| match e.hint {
        None => e.hint("--store DIR or CORTEN_STORE name another place for images"),
        Some(_) => e,
    })
}

/// The image that is meant, which must be in the store.
pub(super) fn stored(store: &Store, text: &str) -> Result<Stored> {
    let none = || error!("there is no image {text:?} in {}", store.path().display());
    store.find(text)?.ok_or_else(|| none().hint("`corten images` lists them, `corten pull` gets one"))
}

/// The image given to the verb.
pub(super) fn image(args: &Args) -> &str {
    args.get_one::<String>("image").map(String::as_str).unwrap_or_default()
}

/// All images given to the verb.
pub(super) fn images(args: &Args) -> Vec<&str> {
    args.get_many::<String>("image").unwrap_or_default().map(String::as_str).collect()
}

/// What is known of registries, with the flags.
pub(super) fn settings(args: &Args, registry: &str) -> Result<Settings> {
    let mut settings = Settings::load()?;
    if args.get_flag("plain-http") {
        settings.plain_http.push(registry.to_owned());
    }
    Ok(settings)
}

/// `--platform`, or this machine's.
pub(super) fn platform(args: &Args) -> Result<Platform> {
    let asked = args.get_one::<String>("platform");
    asked.map_or_else(|| Ok(Platform::here()), |text| Platform::parse(text).map_err(|e| e.at("--platform")))
}

/// A full name in its short form: `debian:12`. What is none stays as it is.
pub(super) fn familiar(name: &str) -> String {
    Named::parse(name).map_or_else(|_| name.to_owned(), |named| named.familiar())
}

/// The beginning of an id, as Docker shows it: 12 digits.
pub(super) fn short(hex: &str) -> &str {
    &hex[..hex.len().min(12)]
}

/// One error of several things' errors: the others are done all the same.
pub(super) fn united(of: usize, mut errors: Vec<Error>) -> Result<()> {
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        many => Err(errors.into_iter().fold(error!("{many} of {of} images"), |sum, e| {
            let sum = e.details.into_iter().fold(sum.detail(e.cause), Error::detail);
            match e.hint {
                Some(hint) if sum.hint.is_none() => sum.hint(hint),
                _ => sum,
            }
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_united() {
        assert_eq!(united(2, Vec::new()), Ok(()));
        assert_eq!(united(2, vec![error!("a").hint("h")]).unwrap_err().to_string(), "a\n  hint: h");
        let both = united(3, vec![error!("a").detail("more"), error!("b").hint("h")]).unwrap_err();
        assert_eq!(both.to_string(), "2 of 3 images\n  a\n  more\n  b\n  hint: h");
    }
}
