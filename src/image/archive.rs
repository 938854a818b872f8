//! A layer's archive as a stream of entries.
//!
//! A tar archive is blocks of 512 bytes: a header, then the content padded to whole blocks; two blocks of zeros end it
//! (pax(1) "ustar Interchange Format", tar(5)). By hand: `tar -tvf layer.tar`.
//!
//! Headers are read with the `tar` crate's `Header`; its iterator is not used, because it holds extended headers of any size in memory
//! and does not survive a newline in a binary attribute (see `pax`). An archive that two readers would read differently is refused:
//! two sizes for one entry (CVE-2025-62518), a link with content, a single block of zeros.

use super::pax::{self, Records, Time};
use crate::error;
use crate::error::{Error, Result};
use std::io::{self, Read};
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: usize = 512;
/// The most that one extended header may hold: attributes are at most 64 KiB each, names 4 KiB.
const EXTENDED: u64 = 1 << 20;
/// The most pieces of data in a sparse file.
const EXTENTS: usize = 1 << 16;
/// What a ustar size field holds at most: some writers put it where the real size is in a pax record.
const OCTAL_MAX: u64 = 0o77_777_777_777;

/// One file, directory, link or node, with all that is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name as it stands in the archive.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// Owner; never `u32::MAX`.
    pub uid: u32,
    /// Group; never `u32::MAX`.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data comes from [`Archive::content`], extent after extent.
    File {
        /// Length of the file, holes included.
        size: u64,
        /// Where the data goes: ascending, not overlapping, within `size`.
        extents: Vec<Extent>,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(Vec<u8>),
    /// Another name of this path in the image.
    Hardlink(Vec<u8>),
    /// A node of mknod(2).
    Node(Node),
}

/// What mknod(2) makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// A named pipe.
    Fifo,
    /// A character device, major and minor.
    Character(u32, u32),
    /// A block device, major and minor.
    Block(u32, u32),
}

/// A piece of a file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub length: u64,
}

impl Entry {
    /// How long the file is, holes included; 0 for what is not a file.
    pub fn length(&self) -> u64 {
        if let Kind::File { size, .. } = self.kind { size } else { 0 }
    }
}

/// A stream of entries.
pub struct Archive<R> {
    source: R,
    /// Content of the current entry that was not read yet.
    left: u64,
    /// Zeros that follow it to the next block.
    padding: u64,
}

impl<R: Read> Archive<R> {
    /// Reads an archive from its first byte.
    pub fn new(source: R) -> Self {
        Archive { source, left: 0, padding: 0 }
    }

    /// The next entry; what was not read of the last one is skipped. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut records = Records::default();
        let (mut long_name, mut long_link) = (None, None);
        let mut announced = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if announced { Err(error!("the archive ends after an extended header")) } else { Ok(None) };
            };
            let kind = header.entry_type();
            let size = header.entry_size().map_err(told)?;
            let extended = matches!(
                kind,
                EntryType::XHeader | EntryType::XGlobalHeader | EntryType::GNULongName | EntryType::GNULongLink
            );
            if !extended {
                return self.entry(&header, size, records, long_name, long_link).map(Some);
            }
            let bytes = self.extended(size)?;
            match kind {
                EntryType::XGlobalHeader => pax::check_global(&bytes)?,
                // One header per entry, as Go and tar(1) write: a second would be merged by some readers and replaced by others.
                EntryType::XHeader if records != Records::default() => {
                    return Err(error!("two extended headers for one entry"));
                }
                EntryType::XHeader => pax::read(&bytes, &mut records)?,
                EntryType::GNULongName => long_name = Some(name(bytes)),
                _ => long_link = Some(name(bytes)),
            }
            announced |= kind != EntryType::XGlobalHeader;
        }
    }

    /// The data of the current entry: all extents one after another.
    pub fn content(&mut self) -> impl Read + '_ {
        Content(self)
    }

    /// The stream, for what follows the end of the archive.
    pub fn into_source(self) -> R {
        self.source
    }

    fn entry(
        &mut self,
        header: &Header,
        header_size: u64,
        records: Records,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let path = records.path.or(long_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let at = |e: Error| e.at(show(&path));
        let size = match records.size {
            Some(size) if size != header_size && header_size != 0 && header_size != OCTAL_MAX => {
                return Err(at(error!("two sizes for one entry, {header_size} in its header and {size} before it")));
            }
            Some(size) => size,
            None => header_size,
        };
        let target = || {
            let header = || header.link_name_bytes().map(|name| name.into_owned());
            records.linkpath.clone().or(long_link.clone()).or_else(header).unwrap_or_default()
        };
        let device = || -> Result<(u32, u32)> {
            let (major, minor) = (header.device_major().map_err(told)?, header.device_minor().map_err(told)?);
            Ok((major.unwrap_or(0), minor.unwrap_or(0)))
        };
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let kind = match header.entry_type() {
            // Before ustar there was no type for directories.
            EntryType::Regular if header.as_old().linkflag == [0] && path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File {
                size,
                extents: (size > 0).then_some(Extent { offset: 0, length: size }).into_iter().collect(),
            },
            EntryType::GNUSparse => self.sparse(header, size).map_err(at)?,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(target()),
            EntryType::Link => Kind::Hardlink(target()),
            EntryType::Fifo => Kind::Node(Node::Fifo),
            EntryType::Char => device().map(|(major, minor)| Kind::Node(Node::Character(major, minor))).map_err(at)?,
            EntryType::Block => device().map(|(major, minor)| Kind::Node(Node::Block(major, minor))).map_err(at)?,
            other => return Err(at(error!("entries of type {:?} are not supported", char::from(other.as_byte())))),
        };
        if size != 0 && !matches!(kind, Kind::File { .. }) {
            return Err(at(error!("it has {size} bytes of content, which only a file can have")));
        }
        let id = |found: u64| {
            let id = u32::try_from(found).ok().filter(|id| *id != u32::MAX);
            id.ok_or_else(|| error!("{found} is not a valid owner").at(show(&path)))
        };
        let told = |e| told(e).at(show(&path));
        let uid = records.uid.map_or_else(|| header.uid().map_err(told), Ok)?;
        let gid = records.gid.map_or_else(|| header.gid().map_err(told), Ok)?;
        // A base-256 time before 1970 comes out of the crate as its two's complement.
        let seconds = || header.mtime().map(|seconds| Time { seconds: seconds as i64, nanoseconds: 0 }).map_err(told);
        let mtime = records.mtime.map_or_else(seconds, Ok)?;
        let mode = header.mode().map_err(told)? & 0o7777;
        Ok(Entry { uid: id(uid)?, gid: id(gid)?, kind, mode, mtime, xattrs: records.xattrs, path })
    }

    /// GNU's old sparse format: the extents stand in the header and in the blocks after it.
    fn sparse(&mut self, header: &Header, size: u64) -> Result<Kind> {
        let gnu = header.as_gnu().ok_or_else(|| error!("a sparse file without a GNU header"))?;
        let whole = gnu.real_size().map_err(told)?;
        let mut listed = Vec::new();
        let mut list = |headers: &[tar::GnuSparseHeader]| -> Result<()> {
            for header in headers.iter().filter(|header| !header.is_empty()) {
                listed.push(Extent { offset: header.offset().map_err(told)?, length: header.length().map_err(told)? });
            }
            if listed.len() > EXTENTS { Err(error!("a sparse file of more than {EXTENTS} pieces")) } else { Ok(()) }
        };
        list(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            if !self.block(block.as_mut_bytes())? {
                return Err(error!("the archive ends in a sparse header"));
            }
            list(block.sparse())?;
            more = block.is_extended();
        }
        let (mut end, mut data) = (0u64, 0u64);
        for extent in &listed {
            let next = extent.offset.checked_add(extent.length).filter(|next| *next <= whole);
            if extent.offset < end || next.is_none() {
                return Err(error!("the pieces of a sparse file overlap or lie outside it"));
            }
            end = next.unwrap_or(end);
            data += extent.length;
        }
        if data != size {
            return Err(error!("the pieces of a sparse file have {data} bytes, and its content {size}"));
        }
        listed.retain(|extent| extent.length > 0);
        Ok(Kind::File { size: whole, extents: listed })
    }

    /// The next header that is not the end, its checksum verified.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes() == &[0; BLOCK] {
            let mut second = [0; BLOCK];
            return match self.block(&mut second)? && second != [0; BLOCK] {
                true => Err(error!("data after a block of zeros")),
                false => Ok(None),
            };
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(error!("this is not a tar archive, or it is damaged: a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Fills one block; `false` when the stream ends before it.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.source.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(cut_short()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(told(e)),
            }
        }
        Ok(true)
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENDED {
            return Err(error!("an extended header of {size} bytes (at most {EXTENDED})"));
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let mut bytes = Vec::with_capacity(size as usize);
        self.content().read_to_end(&mut bytes).map_err(told)?;
        Ok(bytes)
    }

    /// To the next header. An archive may end within the padding of its last entry: umoci leaves it out, and Go reads that.
    fn skip(&mut self) -> Result<()> {
        let (left, padding) = (std::mem::take(&mut self.left), std::mem::take(&mut self.padding));
        let mut pass = |bytes| io::copy(&mut (&mut self.source).take(bytes), &mut io::sink()).map_err(told);
        if pass(left)? != left {
            return Err(cut_short());
        }
        pass(padding).map(drop)
    }
}

/// Ends where the entry's content ends; a stream that ends before is an error.
struct Content<'a, R>(&'a mut Archive<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = self.0.left.min(into.len() as u64) as usize;
        if want == 0 {
            return Ok(0);
        }
        let got = self.0.source.read(&mut into[..want])?;
        self.0.left -= got as u64;
        if got == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(got) }
    }
}

/// A GNU long name: up to its NUL.
fn name(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
    bytes
}

fn cut_short() -> Error {
    error!("the archive is cut short")
}

/// A name as it is shown, at most 200 characters of it.
pub fn show(path: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(path).escape_debug().take(201).collect();
    if text.chars().count() > 200 { format!("{}...", text.chars().take(200).collect::<String>()) } else { text }
}

/// What reading a stream ended with: an [`Error`] of ours that passed through, or the kernel's.
pub fn told(e: io::Error) -> Error {
    if let Some(ours) = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return ours.clone();
    }
    match (e.raw_os_error(), e.kind()) {
        (Some(errno), _) => {
            let errno = nix::errno::Errno::from_raw(errno);
            error!("read = {} ({})", crate::sys::name(errno), crate::sys::plain(errno))
        }
        (None, io::ErrorKind::UnexpectedEof) => cut_short(),
        (None, _) => error!("{e}"),
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
