//! Reading ahead: inflating and hashing on one processor, while another makes the files.
//!
//! By hand: `gunzip -c BLOB | tar -x` does the same with two processes and a pipe. Buffers go round between two threads: full ones one way, empty ones
//! back. There are few of them, so a stream that is faster than the disk waits.
//!
//! What goes wrong: either side may fail first. If the reading side does, the other sees an archive that is cut short, which is not the cause; if
//! the making side does, the other has nobody to read for. The thread has ended when [`unpack`] returns.

use super::apply::Layer;
use super::stream::{Budget, Stream};
use super::unpack::entries;
use crate::error::{Error, Result};
use crate::sys::Called;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of a buffer, and how many are full at most.
const BUFFER: usize = 128 << 10;
const FULL: usize = 8;

/// Applies all entries of a layer's stream, and verifies it to its end. Returns how many bytes the archive had.
pub fn unpack(stream: Stream<'_>, layer: &mut Layer<'_>, budget: &Budget) -> Result<u64> {
    match attempt(stream, layer, budget, &|_| false)? {
        (bytes, None) => Ok(bytes),
        (_, Some(e)) => Err(e),
    }
}

/// The same, but an entry that cannot be made is no failure yet if `goes_on` says so of the layer: the stream is verified, and the error returned.
pub fn attempt(
    stream: Stream<'_>,
    layer: &mut Layer<'_>,
    budget: &Budget,
    goes_on: &dyn Fn(&Layer<'_>) -> bool,
) -> Result<(u64, Option<Error>)> {
    let round = Round::default();
    let (made, read) = std::thread::scope(|scope| -> Result<_> {
        let reading = std::thread::Builder::new().name("inflate".into());
        let reading =
            reading.spawn_scoped(scope, || read(stream, Side(&round))).called(|| "clone(CLONE_THREAD)".into())?;
        let mut ahead = Ahead { round: Side(&round), buffer: Vec::new(), at: 0 };
        let made = entries(&mut ahead, layer, budget);
        if made.is_err() && goes_on(layer) {
            io::copy(&mut ahead, &mut io::sink()).map_err(super::archive::told)?;
        }
        // Nobody waits for the reader any more.
        drop(ahead);
        Ok((made, reading.join().unwrap_or(Ok(None))))
    })?;
    // What could not be read is the cause of what could not be made; the verdict on a whole blob is not.
    match (made, read?) {
        (Ok(()), Some(verdict)) => Ok((verdict?, None)),
        (Ok(()), None) => Err(crate::error!("the reading thread stopped")),
        (Err(e), Some(Ok(bytes))) if goes_on(layer) => Ok((bytes, Some(e))),
        (Err(e), _) => Err(e),
    }
}

/// Fills buffers to the end of the stream, and compares the digests. `None`: the other side has given up.
fn read(mut stream: Stream<'_>, round: Side<'_>) -> Result<Option<Result<u64>>> {
    loop {
        let mut buffer = round.empty();
        buffer.resize(BUFFER, 0);
        let mut filled = 0;
        while filled < BUFFER {
            match stream.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(got) => filled += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(super::archive::told(e)),
            }
        }
        if filled == 0 {
            return Ok(Some(stream.finish()));
        }
        buffer.truncate(filled);
        if !round.send(buffer) {
            return Ok(None);
        }
    }
}

/// The buffers on their way. *Rejected:* std's channels, which keep 24 bytes for each thread; with them musl maps memory at the start of every verb.
#[derive(Default)]
struct Round {
    buffers: Mutex<Buffers>,
    changed: Condvar,
}

#[derive(Default)]
struct Buffers {
    full: VecDeque<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    /// One side has gone.
    is_over: bool,
}

/// One of the two sides; dropped, the other one is told.
struct Side<'a>(&'a Round);

impl Side<'_> {
    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.0.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer, a new one if none has come back.
    fn empty(&self) -> Vec<u8> {
        self.buffers().empty.pop().unwrap_or_default()
    }

    /// Hands a full one over, once there are few enough. Does anybody want it?
    fn send(&self, buffer: Vec<u8>) -> bool {
        let waits = |buffers: &mut Buffers| buffers.full.len() >= FULL && !buffers.is_over;
        let mut buffers = self.0.changed.wait_while(self.buffers(), waits).unwrap_or_else(PoisonError::into_inner);
        if buffers.is_over {
            return false;
        }
        buffers.full.push_back(buffer);
        self.0.changed.notify_one();
        true
    }

    /// The next full one, for one that is empty; none: the other side has gone, and all that it sent was taken.
    fn exchange(&self, empty: Vec<u8>) -> Option<Vec<u8>> {
        let waits = |buffers: &mut Buffers| buffers.full.is_empty() && !buffers.is_over;
        let mut buffers = self.0.changed.wait_while(self.buffers(), waits).unwrap_or_else(PoisonError::into_inner);
        let next = buffers.full.pop_front()?;
        if empty.capacity() > 0 {
            buffers.empty.push(empty);
        }
        self.0.changed.notify_one();
        Some(next)
    }
}

impl Drop for Side<'_> {
    fn drop(&mut self) {
        self.buffers().is_over = true;
        self.0.changed.notify_one();
    }
}

/// What was read ahead.
struct Ahead<'a> {
    round: Side<'a>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for Ahead<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            // The end, or an error that the other side keeps.
            let empty = std::mem::take(&mut self.buffer);
            self.buffer = self.round.exchange(empty).unwrap_or_default();
            self.at = 0;
            if self.buffer.is_empty() {
                return Ok(0);
            }
        }
        let want = into.len().min(self.buffer.len() - self.at);
        into[..want].copy_from_slice(&self.buffer[self.at..self.at + want]);
        self.at += want;
        Ok(want)
    }
}
