//! Which container a word means, for the verbs that know both kinds.
//!
//! Those of bundles are known to the runtime alone, as long as they are not removed. Those of images have a directory in the store, from their making until
//! they are removed, and the runtime knows them by their 64 digits while their program lives.
//!
//! By hand: `ls /run/corten /var/lib/corten/containers /var/lib/corten/names`.
//!
//! What goes wrong: a name that is an id too. The runtime's own ids come first and exactly, then names, ids, and the beginnings of ids of images'
//! containers; the beginning of a bundle's id or of a name means nothing (`rm -f web` beside `web2`).

#[cfg(feature = "image")]
pub use super::images::containers::Image;
use super::store;
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::input::id::Id;
use crate::state::store::{Entry, Store};

/// A container by what was typed.
pub struct Target {
    /// Where the runtime's state of it lies, or would lie.
    pub store: Store,
    /// What the runtime knows of it; `None`, its program has ended and that is over, or there never was any.
    pub entry: Option<Entry>,
    /// Its directory in the image store; `None`, it was made from a bundle.
    pub image: Option<Image>,
    /// The runtime's id.
    id: Id,
}

impl Target {
    /// Is there any such container?
    #[cfg(feature = "image")]
    pub fn is_something(&self) -> bool {
        self.entry.is_some() || self.image.is_some()
    }

    /// What is printed when all is done: the word that was typed, as Docker has it. Of a bundle's container nothing is said, as with runc.
    pub fn done(&self, word: &Id) -> String {
        self.image.as_ref().map_or_else(String::new, |_| format!("{}\n", word.as_str()))
    }

    /// What the runtime knows, or why there is nothing in the words that callers look for.
    pub fn known(self) -> Result<(Store, Entry)> {
        match (self.entry, self.image) {
            (Some(entry), _) => Ok((self.store, entry)),
            (None, Some(_)) => Err(Error::new("container not running: its program has ended")),
            (None, None) => self.store.get(self.id.as_str()).map(|entry| (self.store, entry)),
        }
    }
}

/// Looks it up.
pub fn find(invocation: &Invocation, word: &Id) -> Result<Target> {
    let store = store(invocation)?;
    let entry = store.find(word.as_str())?;
    Ok(match Image::find(invocation, word, entry.is_some())? {
        None => Target { store, entry, image: None, id: word.clone() },
        Some(image) => {
            let id = Id::parse(image.id())?;
            match entry {
                Some(entry) => Target { store, entry: Some(entry), image: Some(image), id },
                None => {
                    // It may have been made with another `--root`.
                    let store = image.runtime().unwrap_or(store);
                    Target { entry: store.find(id.as_str())?, store, image: Some(image), id }
                }
            }
        }
    })
}

/// Without the feature `image` there is none.
#[cfg(not(feature = "image"))]
pub enum Image {}

#[cfg(not(feature = "image"))]
impl Image {
    fn find(_: &Invocation, _: &Id, _: bool) -> Result<Option<Image>> {
        Ok(None)
    }

    fn id(&self) -> &str {
        match *self {}
    }

    fn runtime(&self) -> Option<Store> {
        match *self {}
    }

    /// What `stop` sends.
    pub fn stop_signal(&self) -> Option<String> {
        match *self {}
    }

    /// How many seconds `stop` waits.
    pub fn stop_timeout(&self) -> Option<u64> {
        match *self {}
    }

    /// May it be removed?
    pub fn may_go(&self) -> Result<()> {
        match *self {}
    }

    /// Removes it.
    pub fn remove(&self) -> Result<()> {
        match *self {}
    }
}
