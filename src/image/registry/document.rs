//! Manifests and indexes: what a tag leads to.
//!
//! HEAD is enough: it answers with digest, type and size, and Docker Hub does not count it. By hand:
//! `curl -sI -H 'Accept: application/vnd.oci.image.index.v1+json, …' https://HOST/v2/NAME/manifests/TAG`.
//!
//! What goes wrong: registries that leave out a header, or do not know HEAD: then the document is read and its digest computed. A registry that
//! is not told which types we know converts the document to the oldest one, whose digest is another.

use super::http::{Answer, Ask, Client};
use super::place::{Place, Scope};
use super::refusal::refused;
use crate::error;
use crate::error::{Error, Result};
use crate::image::digest::{self, Algorithm, Digest};
use crate::image::named::Named;
use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;
use std::str::FromStr;
use ureq::http::Method;

/// The most that a document may have, in bytes: what registries accept.
pub const LARGEST: u64 = 4 << 20;

/// The types that we know, OCI's and Docker's.
pub const TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Is this an index or a manifest, which lie elsewhere than blobs?
pub fn is_document(media_type: &MediaType) -> bool {
    TYPES.contains(&media_type.as_ref())
}

/// All types in one `Accept`.
pub fn accept() -> String {
    TYPES.join(", ")
}

/// What the name's tag or digest leads to at this place.
pub fn resolve(client: &Client, place: &Place, named: &Named) -> Result<Descriptor> {
    let wanted = named.wanted();
    let ask = |method: Method| -> Result<Answer> {
        let url = place.url(client, &format!("{}/manifests/{wanted}", place.repository)).map_err(|f| f.error)?;
        let ask = Ask::new(method, url).header("accept", accept());
        place.ask(client, ask, &Scope::Pull(place.repository.clone())).map_err(|f| f.error)
    };
    let head = ask(Method::HEAD)?;
    match head.status {
        200 => {
            if let Some(found) = described(&head, named.digest.as_ref())? {
                return Ok(found);
            }
        }
        // Whoever does not know HEAD may know GET, which also explains a refusal: HEAD has no body.
        _ if head.status < 500 => {}
        _ => return Err(refused(&Method::HEAD, head)),
    }
    let got = ask(Method::GET)?;
    if got.status != 200 {
        return Err(refused(&Method::GET, got));
    }
    let said = (got.header("docker-content-digest").map(str::to_owned), media_type(&got));
    let bytes = got.bytes(LARGEST).map_err(|fault| fault.error)?;
    computed(&bytes, said, named.digest.as_ref())
}

/// What the head of an answer says, if it says all of it.
fn described(head: &Answer, wanted: Option<&Digest>) -> Result<Option<Descriptor>> {
    let (Some(said), Some(kind)) = (head.header("docker-content-digest"), media_type(head)) else { return Ok(None) };
    let length = head.header("content-length").and_then(|length| length.parse::<u64>().ok());
    let (Some(length), Ok(said)) = (length.filter(|length| *length > 0), Digest::parse(said)) else { return Ok(None) };
    if let Some(wanted) = wanted.filter(|wanted| **wanted != said) {
        return Err(error!("asked for {wanted}, and the registry has {said}"));
    }
    if length > LARGEST {
        return Err(error!("its manifest has {length} bytes (at most {LARGEST})"));
    }
    if !is_document(&kind) {
        return Ok(None);
    }
    descriptor(kind, length, &said).map(Some)
}

/// What a document is, read as a whole.
fn computed(bytes: &[u8], said: (Option<String>, Option<MediaType>), wanted: Option<&Digest>) -> Result<Descriptor> {
    let (said, kind) = said;
    let algorithm = wanted.map_or(Algorithm::Sha256, |wanted| wanted.algorithm);
    let found = digest::of(algorithm, bytes);
    if let Some(wanted) = wanted.filter(|wanted| **wanted != found) {
        return Err(error!("asked for {wanted}, and got a document with {found}"));
    }
    match said.as_deref().map(Digest::parse) {
        Some(Ok(said)) if said.algorithm == algorithm && said != found => {
            return Err(error!("the registry says {said}, and sends a document with {found}"));
        }
        _ => {}
    }
    let head: Head = serde_json::from_slice(bytes).map_err(|e| error!("what it has is no manifest: {e}"))?;
    let own = head.media_type.map(|own| MediaType::from(own.as_str()));
    let guess = || if head.manifests.is_some() { MediaType::ImageIndex } else { MediaType::ImageManifest };
    let kind = own.or(kind.filter(is_document)).unwrap_or_else(guess);
    match is_document(&kind) {
        true => descriptor(kind, bytes.len() as u64, &found),
        false => Err(error!("documents of type {kind} are not supported")),
    }
}

/// The `Content-Type` without its parameters.
fn media_type(answer: &Answer) -> Option<MediaType> {
    let text = answer.header("content-type")?.split(';').next()?.trim();
    (!text.is_empty()).then(|| MediaType::from(text))
}

fn descriptor(kind: MediaType, size: u64, digest: &Digest) -> Result<Descriptor> {
    let digest = oci_spec::image::Digest::from_str(&digest.to_string()).map_err(|e| -> Error { error!("{e}") })?;
    Ok(Descriptor::new(kind, size, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_describe_themselves() {
        let index = br#"{"schemaVersion": 2, "manifests": []}"#;
        let found = computed(index, (None, Some(MediaType::from("text/plain"))), None).unwrap();
        assert_eq!((found.media_type(), found.size()), (&MediaType::ImageIndex, index.len() as u64));
        let docker = br#"{"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}"#;
        assert_eq!(computed(docker, (None, None), None).unwrap().media_type().as_ref(), TYPES[3]);
        let other = digest::of(Algorithm::Sha256, b"other");
        assert!(computed(docker, (None, None), Some(&other)).unwrap_err().cause.contains("asked for"));
        let said = (Some(other.to_string()), None);
        assert!(computed(docker, said, None).unwrap_err().cause.contains("the registry says"));
        let old = br#"{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}"#;
        assert!(computed(old, (None, None), None).unwrap_err().cause.contains("not supported"));
        assert!(computed(b"<html>", (None, None), None).unwrap_err().cause.contains("no manifest"));
    }
}
