//! Registries: images over HTTP, as the OCI distribution specification has it.
//!
//! Four requests are enough to get an image. By hand, against a registry without TLS and without a login:
//!
//! ```sh
//! curl -sI -H 'Accept: application/vnd.oci.image.index.v1+json' $R/v2/NAME/manifests/TAG        # Docker-Content-Digest: sha256:I
//! curl -s $R/v2/NAME/manifests/sha256:I | jq .manifests                                         # one manifest for each platform
//! curl -s $R/v2/NAME/manifests/sha256:M | jq '.config, .layers'
//! curl -sL $R/v2/NAME/blobs/sha256:L >layer.tar.gz
//! ```
//!
//! What we do: `resolve` asks what a tag leads to, [`Source::open`] gives the bytes of what is known by its digest, `push` sends. `place` is one
//! registry or mirror and our credentials for it, `http` what can go wrong on the way, `watch` leaves servers that drip, `stream` goes on where
//! a connection was cut, `url`, `challenge`, `proxy`, `trust`, `discreet` and `refusal` are what their names say.
//!
//! What goes wrong: everything, all the time. Connections are cut, servers are busy, mirrors are stale, proxies answer with pages. What
//! may help is tried again, a few times; what may not is told at once. Whatever comes is a stranger's until its digest was computed: by who
//! reads it, not here.

pub mod challenge;
pub mod discreet;
pub mod document;
pub mod http;
pub mod login;
pub mod place;
pub mod proxy;
pub mod push;
pub mod refusal;
pub mod stream;
pub mod trust;
pub mod url;
pub mod watch;

use super::named::Named;
use super::settings::Settings;
use super::source::Source;
use crate::error;
use crate::error::{Error, Result};
use http::Client;
use oci_spec::image::Descriptor;
use place::Place;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// One repository of a registry, with the mirrors that are asked before it. It may be used by several threads.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

/// What readers of blobs keep beyond the borrow of a [`Registry`].
pub(crate) struct Shared {
    client: Client,
    /// Mirrors in order, then the registry.
    places: Vec<Place>,
    /// Which place resolved the name: its blobs are asked for there first.
    chosen: AtomicUsize,
}

impl Registry {
    /// Prepares to ask the registry of this name. Nobody is asked yet, and no credentials are looked up.
    pub fn connect(named: &Named, settings: &Settings) -> Result<Self> {
        let mirrors = settings.mirrors.get(&named.registry).into_iter().flatten();
        let mut places: Vec<Place> = mirrors
            .map(|mirror| match mirror.path.as_str() {
                "" => Place::new(&mirror.host, named.repository.as_str()),
                path => Place::new(&mirror.host, format!("{path}/{}", named.repository)),
            })
            .collect();
        places.push(Place::new(&named.registry, named.repository.as_str()));
        let chosen = AtomicUsize::new(0);
        Ok(Registry(Arc::new(Shared { client: Client::new(settings.clone()), places, chosen })))
    }

    /// What the tag or digest of this name leads to: an index or a manifest, with its media type, its size, and its digest. The name's
    /// repository must be the one that was connected to.
    pub fn resolve(&self, named: &Named) -> Result<Descriptor> {
        let shared = &self.0;
        let registry = shared.registry();
        if (&registry.host, &registry.repository) != (&named.registry, &named.repository) {
            return Err(error!("{named}: not an image of {}/{}", registry.host, registry.repository));
        }
        let found = shared.first(|place, at| {
            let found = document::resolve(&shared.client, place, named)?;
            shared.chosen.store(at, Relaxed);
            Ok(found)
        });
        found.map_err(|e| e.at(named.familiar()))
    }

    /// An error about what came from there, without what repeats a secret.
    pub fn discreet(&self, e: Error) -> Error {
        self.0.client.sent.discreet(e)
    }
}

impl Shared {
    fn registry(&self) -> &Place {
        self.places.last().expect("the registry itself is always there")
    }

    /// The first place that gives something, the chosen one before the others. An error is that of the registry itself, with a line for each mirror.
    fn first<T>(&self, mut ask: impl FnMut(&Place, usize) -> Result<T>) -> Result<T> {
        let chosen = self.chosen.load(Relaxed);
        let order = (chosen..self.places.len()).chain(0..chosen);
        let mut faults: Vec<(usize, Error)> = Vec::new();
        for at in order {
            match ask(&self.places[at], at) {
                Ok(found) => return Ok(found),
                Err(e) => {
                    let e = self.client.sent.discreet(e);
                    log::debug!("{}: {}", self.places[at].host, e.cause);
                    faults.push((at, e));
                }
            }
        }
        let last = self.places.len() - 1;
        let own = faults.iter().position(|(at, _)| *at == last).map(|own| faults.remove(own).1);
        let own = own.unwrap_or_else(|| error!("nobody was asked"));
        Err(faults
            .iter()
            .fold(own, |e, (at, fault)| e.detail(format!("mirror {}: {}", self.places[*at].host, fault.cause))))
    }
}

/// Blobs, manifests and indexes by digest. The reader goes on by itself where a connection is cut, a few times.
impl Source for Registry {
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
        self.0.first(|_, at| stream::open(&self.0, at, blob, from)).map_err(|e| e.at(blob.digest()))
    }
}
