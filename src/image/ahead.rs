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
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

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
    let (full, filled) = sync_channel(FULL);
    let (empty, emptied) = channel();
    let (made, read) = std::thread::scope(|scope| -> Result<_> {
        let reading = std::thread::Builder::new().name("inflate".into());
        let reading =
            reading.spawn_scoped(scope, || read(stream, full, emptied)).called(|| "clone(CLONE_THREAD)".into())?;
        let mut ahead = Ahead { filled, empty, buffer: Vec::new(), at: 0 };
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
fn read(mut stream: Stream<'_>, full: SyncSender<Vec<u8>>, emptied: Receiver<Vec<u8>>) -> Result<Option<Result<u64>>> {
    loop {
        let mut buffer = emptied.try_recv().unwrap_or_default();
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
        if full.send(buffer).is_err() {
            return Ok(None);
        }
    }
}

/// What was read ahead.
struct Ahead {
    filled: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            // The end, or an error that the other side keeps.
            let Ok(next) = self.filled.recv() else { return Ok(0) };
            drop(self.empty.send(std::mem::replace(&mut self.buffer, next)));
            self.at = 0;
        }
        let want = into.len().min(self.buffer.len() - self.at);
        into[..want].copy_from_slice(&self.buffer[self.at..self.at + want]);
        self.at += want;
        Ok(want)
    }
}
