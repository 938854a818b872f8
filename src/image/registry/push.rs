//! Sending: what the registry lacks, from the bottom up.
//!
//! A manifest is accepted when all that it names is there, so layers and configuration go first, then the manifest, and an index last of all. By hand:
//!
//! ```sh
//! curl -sI $R/v2/NAME/blobs/sha256:L                                           # 200: it is there already
//! curl -si -X POST "$R/v2/NAME/blobs/uploads/?mount=sha256:L&from=OTHER"       # 201: taken from another repository; 202: Location: …
//! curl -si -X PUT --data-binary @layer "$LOCATION&digest=sha256:L"             # 201
//! curl -si -X PUT -H 'Content-Type: …' --data-binary @manifest $R/v2/NAME/manifests/TAG
//! ```
//!
//! What goes wrong: an upload that is cut has left something at its place, and every registry takes a different view of what; it begins anew, at a
//! new place. Layers that may not be given away (`urls`) stay where they are.

use super::document::{LARGEST, is_document};
use super::http::{Again, Answer, Ask, Content, Fault, Tried, is_busy};
use super::place::{Place, Scope};
use super::refusal::refused;
use super::{Registry, Shared};
use crate::error;
use crate::error::{Error, Result};
use crate::image::digest::{self, Digest};
use crate::image::named::Named;
use crate::image::source::Source;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use std::collections::HashSet;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use ureq::http::Method;

/// How many blobs go at the same time.
const AT_ONCE: usize = 3;
/// How deep an index may name an index.
const DEPTH: usize = 4;

/// What is sent, and where it is read from.
pub struct Pushed<'a> {
    /// The blobs. They are sent as they are read: the registry verifies them.
    pub source: &'a dyn Source,
    /// An index, which goes with all that it names, or a manifest.
    pub top: &'a Descriptor,
    /// A repository of the same registry that may have the blobs already: `library/debian`.
    pub near: Option<&'a str>,
    /// Is told of each blob: there before, taken from `near`, or sent.
    pub told: &'a (dyn Fn(&Descriptor, How) + Sync),
}

/// How a blob came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was.
    There,
    /// From another repository of the registry.
    Mounted,
    /// From here.
    Sent,
    /// Not at all: it is fetched from where its `urls` say.
    Left,
}

/// A manifest or index, its bytes verified.
struct Document {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

impl Registry {
    /// Sends an image to the registry itself, never to a mirror, and gives it the name's tag. A name with a digest and no tag must have the digest of
    /// what is sent. Returns the digest by which the registry has it now.
    pub fn push(&self, named: &Named, pushed: &Pushed<'_>) -> Result<Digest> {
        let shared = &self.0;
        let place = shared.registry();
        let at = |e: Error| self.discreet(e).at(named.familiar());
        if (&place.host, &place.repository) != (&named.registry, &named.repository) {
            return Err(at(error!("not an image of {}/{}", place.host, place.repository)));
        }
        let top = Digest::parse(pushed.top.digest().as_ref()).map_err(at)?;
        if let Some(digest) = named.digest.as_ref().filter(|digest| **digest != top) {
            return Err(at(error!("the image has the digest {top}, not {digest}")));
        }
        let (documents, blobs) = collect(pushed).map_err(at)?;
        blobs_up(shared, place, pushed, &blobs).map_err(at)?;
        for document in &documents {
            let reference = match (&document.descriptor == pushed.top, &named.tag) {
                (true, Some(tag)) => tag.clone(),
                _ => document.descriptor.digest().to_string(),
            };
            document_up(shared, place, document, &reference).map_err(at)?;
        }
        Ok(top)
    }
}

/// What is to be sent: documents, those that are named before those that name them, and blobs.
fn collect(pushed: &Pushed<'_>) -> Result<(Vec<Document>, Vec<Descriptor>)> {
    let (mut documents, mut blobs) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    below(pushed.source, pushed.top, DEPTH, &mut seen, &mut documents, &mut blobs)?;
    Ok((documents, blobs))
}

fn below(
    source: &dyn Source,
    descriptor: &Descriptor,
    depth: usize,
    seen: &mut HashSet<String>,
    documents: &mut Vec<Document>,
    blobs: &mut Vec<Descriptor>,
) -> Result<()> {
    if !seen.insert(descriptor.digest().to_string()) {
        return Ok(());
    }
    let at = |e: Error| e.at(descriptor.digest());
    if depth == 0 {
        return Err(at(error!("an index names an index more than {DEPTH} times")));
    }
    let bytes = document(source, descriptor).map_err(at)?;
    let wrong = |e: serde_json::Error| at(error!("it is not what its type says: {e}"));
    if is_index(descriptor.media_type()) {
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(wrong)?;
        for child in index.manifests() {
            below(source, child, depth - 1, seen, documents, blobs)?;
        }
    } else {
        let manifest: ImageManifest = serde_json::from_slice(&bytes).map_err(wrong)?;
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            if seen.insert(blob.digest().to_string()) {
                blobs.push(blob.clone());
            }
        }
    }
    documents.push(Document { descriptor: descriptor.clone(), bytes });
    Ok(())
}

fn is_index(media_type: &MediaType) -> bool {
    super::document::TYPES[..2].contains(&media_type.as_ref())
}

/// A document's bytes, verified: what we say to a registry is true.
fn document(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    if !is_document(descriptor.media_type()) {
        return Err(error!("documents of type {} are not supported", descriptor.media_type()));
    }
    let wanted = Digest::parse(descriptor.digest().as_ref())?;
    let mut bytes = Vec::new();
    let read = source.open(descriptor, 0)?.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(|e| error!("{}", crate::error::io_words(&e)))?;
    let found = digest::of(wanted.algorithm, &bytes);
    if found == wanted { Ok(bytes) } else { Err(error!("its content has the digest {found}")) }
}

/// Sends blobs, a few at a time. The first error ends it; what is under way is finished.
fn blobs_up(shared: &Shared, place: &Place, pushed: &Pushed<'_>, blobs: &[Descriptor]) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let first: Mutex<Option<Error>> = Mutex::new(None);
    let work = || {
        while !failed.load(Relaxed)
            && let Some(blob) = blobs.get(next.fetch_add(1, Relaxed))
        {
            match blob_up(shared, place, pushed, blob) {
                Ok(how) => (pushed.told)(blob, how),
                Err(e) => {
                    failed.store(true, Relaxed);
                    let mut first = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    first.get_or_insert(e.at(blob.digest()));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(blobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

fn blob_up(shared: &Shared, place: &Place, pushed: &Pushed<'_>, blob: &Descriptor) -> Result<How> {
    // Docker's "foreign" layers, OCI's "nondistributable" ones.
    if blob.urls().as_ref().is_some_and(|urls| !urls.is_empty()) {
        return Ok(How::Left);
    }
    let (client, name) = (&shared.client, &place.repository);
    let mut tries = 1;
    loop {
        let fault = match send_blob(shared, place, pushed, blob) {
            Ok(how) => return Ok(how),
            Err(fault) => Fault { error: client.sent.discreet(fault.error), ..fault },
        };
        if fault.again != Again::Maybe || tries >= client.settings.patience.tries {
            return Err(fault.error);
        }
        let pause = client.pause(tries);
        log::debug!("{name}: {}: {}: anew in {pause:?}", blob.digest(), fault.error.cause);
        std::thread::sleep(pause);
        tries += 1;
    }
}

/// One try: is it there, can it be had from near, and otherwise an upload.
fn send_blob(shared: &Shared, place: &Place, pushed: &Pushed<'_>, blob: &Descriptor) -> Tried<How> {
    let (client, name, digest) = (&shared.client, &place.repository, blob.digest().to_string());
    let scope = match pushed.near.filter(|near| near != name) {
        Some(near) => Scope::Mount(name.clone(), near.to_owned()),
        None => Scope::Push(name.clone()),
    };
    let head = Ask::new(Method::HEAD, place.url(client, &format!("{name}/blobs/{digest}"))?);
    let head = place.ask(client, head, &scope)?;
    match head.status {
        200 => return Ok(How::There),
        404 | 405 => {}
        _ => return Err(expected(&Method::HEAD, head)),
    }
    let mut url = place.url(client, &format!("{name}/blobs/uploads/"))?;
    if let Scope::Mount(_, near) = &scope {
        url = url.with("mount", &digest).with("from", near);
    }
    let begun = place.ask(client, Ask::new(Method::POST, url).content(Content::Bytes(b"")), &scope)?;
    match begun.status {
        201 => return Ok(How::Mounted),
        202 => {}
        _ => return Err(expected(&Method::POST, begun)),
    }
    let Some(location) = begun.header("location") else {
        return Err(error!("the registry begins an upload and does not say where").into());
    };
    let upload = begun.url.join(location)?;
    client.sent.query(&upload);
    if upload.origin.scheme < begun.url.origin.scheme {
        return Err(error!("the upload would go from https to {}, which is refused", upload.origin).into());
    }
    let open = || pushed.source.open(blob, 0);
    let put = Ask::new(Method::PUT, upload.with("digest", &digest))
        .header("content-type", "application/octet-stream")
        .content(Content::Stream(blob.size(), &open));
    // No second try here: what was begun is used up by the first.
    let done = place.ask_once(client, put, &scope)?;
    if done.status != 201 && done.status != 204 {
        return Err(expected(&Method::PUT, done));
    }
    Ok(How::Sent)
}

fn document_up(shared: &Shared, place: &Place, document: &Document, reference: &str) -> Result<()> {
    let (client, name) = (&shared.client, &place.repository);
    let url = place.url(client, &format!("{name}/manifests/{reference}")).map_err(|fault| fault.error)?;
    let put = Ask::new(Method::PUT, url)
        .header("content-type", document.descriptor.media_type().to_string())
        .content(Content::Bytes(&document.bytes));
    let done = place.ask(client, put, &Scope::Push(name.clone())).map_err(|fault| fault.error)?;
    match done.status {
        200..=204 => {}
        _ => return Err(refused(&Method::PUT, done)),
    }
    let said = done.header("docker-content-digest");
    match said.filter(|said| *said != document.descriptor.digest().as_ref()) {
        Some(said) => Err(error!("the registry keeps the manifest as {}", super::http::printable(said))),
        None => Ok(()),
    }
}

/// A refusal, and whether another try may help.
fn expected(method: &Method, answer: Answer) -> Fault {
    let again = if is_busy(answer.status) { Again::Maybe } else { Again::Never };
    Fault { error: refused(method, answer), again }
}
