//! zstd: a blob of frames, one after another (RFC 8878).
//!
//! By hand: `zstd -dc BLOB | tar -t`, and `zstd -lv BLOB` shows the window of a frame. `zstd:chunked` appends frames that are to be skipped.
//!
//! What goes wrong: a frame says how much memory its reader needs, up to 3.75 TiB. The RFC asks readers for 8 MiB, which is what
//! `zstd -19` writes; more is refused, because every layer that is unpacked at the same time needs as much.

use crate::error;
use crate::error::Error;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

/// The most that a frame may ask for.
const WINDOW: u64 = 8 << 20;
const MAGIC: u32 = 0xfd2f_b528;
/// 16 magic numbers of frames that are not for us.
const SKIPPED: u32 = 0x184d_2a50;

/// The content of all frames.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    within: bool,
    seen: bool,
}

impl<R: BufRead> Frames<R> {
    /// From the first byte of a blob.
    pub fn new(source: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        Frames { source, decoder, within: false, seen: false }
    }

    /// The stream that the frames come from.
    pub fn get_ref(&self) -> &R {
        &self.source
    }

    /// The same, given back.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// To the next frame with content; `false` at the end.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return if self.seen { Ok(false) } else { Err(refused("it is empty")) };
            }
            let magic = self.word()?;
            if magic & !0xf == SKIPPED {
                let length = self.word()?.into();
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? != length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            if magic != MAGIC {
                return Err(refused("a frame does not begin like one"));
            }
            self.seen = true;
            self.decoder.init(magic.to_le_bytes().chain(&mut self.source)).map_err(|e| match e {
                FrameDecoderError::WindowSizeTooBig { requested, max } => {
                    let e = error!("this zstd stream takes {requested} bytes of memory to read (at most {max})");
                    io::Error::other(e.hint("`zstd --ultra` and `--long` make such; level 19 and below do not"))
                }
                e => damaged(e),
            })?;
            return Ok(true);
        }
    }

    fn word(&mut self) -> io::Result<u32> {
        let mut word = [0; 4];
        self.source.read_exact(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.within && self.decoder.is_finished() && self.decoder.can_collect() == 0 {
                self.within = false;
            }
            if !self.within {
                self.within = self.next()?;
                if !self.within {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.source, one).map_err(damaged)?;
            }
            match self.decoder.read(into)? {
                0 if !into.is_empty() => {}
                got => return Ok(got),
            }
        }
    }
}

fn refused(words: &str) -> io::Error {
    io::Error::other(error!("this is not a zstd stream: {words}"))
}

/// The reading below may have failed with words of its own.
fn damaged(e: FrameDecoderError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(inner) = cause {
        if let Some(read) = inner.downcast_ref::<io::Error>() {
            return match read.get_ref().and_then(|ours| ours.downcast_ref::<Error>()) {
                Some(ours) => io::Error::other(ours.clone()),
                None => read.raw_os_error().map_or_else(|| read.kind().into(), io::Error::from_raw_os_error),
            };
        }
        cause = inner.source();
    }
    io::Error::other(error!("the zstd stream is damaged: {e}"))
}

/// Are these the first bytes of such a stream?
pub fn begins_like_it(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}
