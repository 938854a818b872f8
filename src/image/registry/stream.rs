//! A blob as it comes: one reader, however often the connection is cut.
//!
//! `Range: bytes=N-` asks for the rest (RFC 9110, 14.2). By hand: `curl -L -r 1000- …/blobs/sha256:HEX`. A registry may answer with the whole (200 in place
//! of 206): then what is known is read and dropped.
//!
//! What goes wrong: a server that cuts every connection would be asked for ever. So many tries in a row without a worthwhile piece in between, and
//! it is an error; and no more is read than the descriptor says there is.

use super::Shared;
use super::document::{accept, is_document};
use super::http::{Again, Answer, Ask, Fault, Tried, cut};
use super::place::{Place, Scope};
use super::refusal::refused;
use crate::error;
use crate::error::{Error, Result};
use oci_spec::image::Descriptor;
use std::io::{self, Read};
use std::sync::Arc;
use ureq::http::Method;

/// What makes a try worthwhile, in bytes.
const WORTHWHILE: u64 = 64 << 10;
/// As much as is dropped at once.
const PIECE: u64 = 64 << 10;

/// Opens a blob or document at this place.
pub(crate) fn open(shared: &Arc<Shared>, at: usize, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
    if from > blob.size() {
        return Err(error!("it has {} bytes, and {from} are said to be known", blob.size()));
    }
    let mut stream =
        Stream { shared: shared.clone(), place: at, blob: blob.clone(), at: from, since: 0, tries: 1, body: None };
    // Now, so that what is not there is told before anything is read.
    stream.body = Some(stream.ask().map_err(|fault| fault.error)?);
    Ok(Box::new(stream))
}

struct Stream {
    shared: Arc<Shared>,
    place: usize,
    blob: Descriptor,
    /// How many bytes were given, or known before.
    at: u64,
    /// How many since the last cut.
    since: u64,
    tries: u32,
    body: Option<Box<dyn Read + Send>>,
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            if room.is_empty() {
                return Ok(0);
            }
            let fault = match self.piece(room) {
                Ok(0) if self.at == self.blob.size() => return Ok(0),
                Ok(0) => Fault { error: error!("the connection was cut"), again: Again::Maybe },
                Ok(more) => return self.take(more),
                Err(fault) => fault,
            };
            self.again(fault)?;
        }
    }
}

impl Stream {
    fn place(&self) -> &Place {
        &self.shared.places[self.place]
    }

    fn piece(&mut self, room: &mut [u8]) -> Tried<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            none => none.insert(open_rest(&self.shared, self.place, &self.blob, self.at)?),
        };
        body.read(room).map_err(cut)
    }

    /// So many bytes are given.
    fn take(&mut self, more: usize) -> io::Result<usize> {
        self.at += more as u64;
        self.since += more as u64;
        if self.since >= WORTHWHILE {
            self.tries = 1;
        }
        if self.at > self.blob.size() {
            return Err(self.error(error!("it has more than {} bytes", self.blob.size())));
        }
        Ok(more)
    }

    /// Prepares another try, or gives up.
    fn again(&mut self, fault: Fault) -> io::Result<()> {
        self.body = None;
        let fault = Fault { error: self.shared.client.sent.discreet(fault.error), ..fault };
        let patience = &self.shared.client.settings.patience;
        if fault.again != Again::Maybe || self.tries >= patience.tries {
            let tries = self.tries;
            let e = fault.error.at(&self.place().host);
            let e =
                e.detail(format!("{} of {} bytes came, the last of {tries} tries failed", self.at, self.blob.size()));
            return Err(self.error(e));
        }
        let pause = self.shared.client.pause(self.tries);
        log::debug!("{}: {} at byte {}: on in {pause:?}", self.blob.digest(), fault.error.cause, self.at);
        std::thread::sleep(pause);
        (self.tries, self.since) = (self.tries + 1, 0);
        Ok(())
    }

    fn error(&self, e: Error) -> io::Error {
        io::Error::other(e.at(self.blob.digest()))
    }

    fn ask(&self) -> Tried<Box<dyn Read + Send>> {
        open_rest(&self.shared, self.place, &self.blob, self.at)
    }
}

/// Asks for a blob from this byte on.
fn open_rest(shared: &Arc<Shared>, at: usize, blob: &Descriptor, from: u64) -> Tried<Box<dyn Read + Send>> {
    let (client, place, digest, size) = (&shared.client, &shared.places[at], blob.digest(), blob.size());
    if from == size {
        return Ok(Box::new(io::empty()));
    }
    let kind = if is_document(blob.media_type()) { "manifests" } else { "blobs" };
    let mut ask = Ask::new(Method::GET, place.url(client, &format!("{}/{kind}/{digest}", place.repository))?);
    if kind == "manifests" {
        ask = ask.header("accept", accept());
    }
    if from > 0 {
        ask = ask.header("range", format!("bytes={from}-"));
    }
    let answer = place.ask(client, ask, &Scope::Pull(place.repository.clone()))?;
    let skip = begin(&answer, from)?;
    let Some(skip) = skip else { return Err(refused(&Method::GET, answer).into()) };
    if let Some(said) = answer.header("docker-content-digest").filter(|said| *said != digest.as_ref()) {
        return Err(error!(
            "{}: asked for {digest}, and the registry answers with {}",
            place.host,
            super::http::printable(said)
        )
        .into());
    }
    if let Some(length) = answer.header("content-length").and_then(|length| length.parse::<u64>().ok())
        && length != size - from + skip
    {
        let due = size - from + skip;
        return Err(error!("{}: the registry sends {length} bytes, not {due}", place.host).into());
    }
    let mut body = answer.into_reader();
    let mut left = skip;
    while left > 0 {
        let dropped = io::copy(&mut body.by_ref().take(left.min(PIECE)), &mut io::sink()).map_err(cut)?;
        if dropped == 0 {
            return Err(Fault { error: error!("the connection was cut"), again: Again::Maybe });
        }
        left -= dropped;
    }
    Ok(body)
}

/// How many bytes of the answer come before what was asked for; `None`: it is a refusal.
fn begin(answer: &Answer, from: u64) -> Tried<Option<u64>> {
    match answer.status {
        200 => Ok(Some(from)),
        206 => {
            let range = answer.header("content-range").unwrap_or_default();
            let start: Option<u64> =
                range.trim_start_matches("bytes").trim().split('-').next().and_then(|start| start.parse().ok());
            match start {
                Some(start) if start <= from => Ok(Some(from - start)),
                _ => Err(error!("asked for the bytes from {from} on, and got others").into()),
            }
        }
        _ => Ok(None),
    }
}
