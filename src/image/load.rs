//! Archives of images: what `docker save`, `podman save`, `skopeo copy … docker-archive:` and `oci-archive:` write.
//!
//! A tar with one of two tables of contents. Docker's is `manifest.json`: for each image the file of its configuration, those of its layers,
//! lowest first, and its names. The other is an OCI image layout, `index.json` and `blobs/` (see `layout`). Docker 25 and later write both into one
//! archive; then Docker's is read, because it has the names in full. By hand: `tar -xOf images.tar manifest.json | jq .`.
//!
//! Docker's table has no digests: the manifest is made here, and a layer that is not compressed has its diff_id for a digest. What is
//! compressed as a whole, or comes through a pipe, is written to a file of the store first, which has no name, and goes with the process.
//!
//! What goes wrong: the archive may come from a stranger. Names in it only look up other entries of it, never files of the host.

use super::archive::{Archive, Kind, show, told};
use super::digest::{self, Algorithm, Digest, Hasher};
use super::layout::tag_of;
use super::manifest::{DOCUMENT, Form, document, parse};
use super::named::Named;
use super::source::Source;
use super::store::Store;
use super::zstd;
use crate::error;
use crate::error::{Error, Result};
use crate::sys::Called;
use flate2::bufread::MultiGzDecoder;
use oci_spec::image::{Descriptor, MediaType};
use serde::Deserialize;
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

/// The most files in such an archive: a few per layer.
const MEMBERS: usize = 100_000;
/// The annotation with the full name that containerd writes.
const FULL_NAME: &str = "io.containerd.image.name";

/// An archive of images that can be read at any place.
pub struct Packed {
    file: File,
    members: HashMap<Vec<u8>, Member>,
    /// Manifests that are in no file.
    made: HashMap<String, Vec<u8>>,
    /// Where a blob is.
    places: HashMap<String, Member>,
    images: Vec<PackedImage>,
}

/// One image of an archive.
#[derive(Clone, Debug)]
pub struct PackedImage {
    /// Its manifest or its index.
    pub top: Descriptor,
    /// Full names, as `docker load` would give them.
    pub names: Vec<String>,
    /// As the archive has them: what `docker-archive:FILE:REF` looks for.
    pub tags: Vec<String>,
}

#[derive(Clone, Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// Another name; docker save writes these for layers that several images share.
    Same(Vec<u8>),
}

/// An entry of Docker's manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Packed {
    /// Reads the table of contents of a file.
    pub fn open(path: &Path, store: &Store) -> Result<Self> {
        let file = File::open(path).called(|| format!("open({path:?})"))?;
        Self::read(file, store).map_err(|e| e.at(path.display()))
    }

    /// The same of a stream, such as standard input.
    pub fn read(stream: File, store: &Store) -> Result<Self> {
        let shape = shape(&stream)?;
        Self::from(stream, shape, store)
    }

    /// The images, in the archive's order.
    pub fn images(&self) -> &[PackedImage] {
        &self.images
    }

    /// The image with this name or tag, or the only one.
    pub fn image(&self, name: Option<&str>) -> Result<&PackedImage> {
        let tags = || {
            let all: Vec<&str> = self.images.iter().flat_map(|image| &image.tags).map(String::as_str).collect();
            if all.is_empty() { "no image has a name".to_owned() } else { format!("names: {}", all.join(", ")) }
        };
        let Some(name) = name else {
            return match &self.images[..] {
                [only] => Ok(only),
                all => Err(error!("the archive holds {} images: which one?", all.len()).detail(tags())),
            };
        };
        let full = Named::parse(name).map(|named| named.to_string()).ok();
        let is = |image: &&PackedImage| {
            image.tags.iter().any(|tag| tag == name) || full.as_ref().is_some_and(|full| image.names.contains(full))
        };
        self.images.iter().find(is).ok_or_else(|| error!("no image of the archive is named {name:?}").detail(tags()))
    }

    fn from(file: File, shape: Shape, store: &Store) -> Result<Self> {
        let file = readable(file, shape, store)?;
        let members = contents(&file)?;
        let mut packed = Packed { file, members, made: HashMap::new(), places: HashMap::new(), images: Vec::new() };
        if packed.members.contains_key(&b"manifest.json"[..]) {
            packed.docker()?;
        } else if packed.members.contains_key(&b"index.json"[..]) {
            packed.layout()?;
        } else {
            let e = error!("the archive has neither manifest.json nor index.json");
            return Err(
                e.hint("`docker save`, `podman save` and `skopeo copy IMAGE oci-archive:FILE` make one that has")
            );
        }
        Ok(packed)
    }

    /// Docker's table.
    fn docker(&mut self) -> Result<()> {
        let bytes = self.small(b"manifest.json")?;
        let listed: Vec<Listed> = parse(&bytes).map_err(|e| e.at("manifest.json"))?;
        for one in listed {
            let image =
                self.listed(&one).map_err(|e| e.at(format!("manifest.json: {}", show(one.config.as_bytes()))))?;
            self.images.push(image);
        }
        Ok(())
    }

    fn listed(&mut self, one: &Listed) -> Result<PackedImage> {
        let config = self.small(one.config.as_bytes())?;
        let read: oci_spec::image::ImageConfiguration = parse(&config)?;
        let diff_ids = read.rootfs().diff_ids();
        if diff_ids.len() != one.layers.len() {
            return Err(error!("{} layers, but {} diff_ids in the configuration", one.layers.len(), diff_ids.len()));
        }
        let mut layers = Vec::new();
        for (path, diff_id) in one.layers.iter().zip(diff_ids) {
            let at = |e: Error| e.at(show(path.as_bytes()));
            layers.push(self.layer(path.as_bytes(), &Digest::parse(diff_id).map_err(at)?).map_err(at)?);
        }
        let id = digest::of(Algorithm::Sha256, &config).to_string();
        let config = self.put(&id, MediaType::ImageConfig, config)?;
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let digest = digest::of(Algorithm::Sha256, &manifest).to_string();
        let top = self.put(&digest, MediaType::ImageManifest, manifest)?;
        let tags = one.repo_tags.clone().unwrap_or_default();
        let names = tags.iter().map(|tag| Ok(Named::parse(tag)?.to_string())).collect::<Result<_>>()?;
        Ok(PackedImage { top, names, tags })
    }

    /// A layer's file, described; its digest is computed only where nothing says it.
    fn layer(&mut self, path: &[u8], diff_id: &Digest) -> Result<Descriptor> {
        let (offset, size) = self.member(path)?;
        let mut start = [0; 4];
        let got = self.file.read_at(&mut start, offset).called(|| "pread".into())?;
        let start = &start[..got.min(size as usize)];
        let (media_type, digest) = if is_gzip(start) {
            (MediaType::ImageLayerGzip, self.hash(offset, size)?)
        } else if zstd::begins_like_it(start) {
            (MediaType::ImageLayerZstd, self.hash(offset, size)?)
        } else {
            (MediaType::ImageLayer, diff_id.clone())
        };
        let digest = digest.to_string();
        self.places.insert(digest.clone(), Member::File { offset, size });
        describe(media_type, &digest, size)
    }

    fn put(&mut self, digest: &str, media_type: MediaType, bytes: Vec<u8>) -> Result<Descriptor> {
        let described = describe(media_type, digest, bytes.len() as u64)?;
        self.made.insert(digest.to_owned(), bytes);
        Ok(described)
    }

    /// An OCI image layout.
    fn layout(&mut self) -> Result<()> {
        let bytes = self.small(b"index.json")?;
        let entries = document(&bytes, Form::Index).map_err(|e| e.at("index.json"))?.manifests.unwrap_or_default();
        for top in entries {
            let full = top.annotations().as_ref().and_then(|said| said.get(FULL_NAME));
            let tag = tag_of(&top).map(str::to_owned);
            // `latest` alone is a tag of nothing in particular: the image has an id only.
            let said = full.cloned().or_else(|| tag.clone().filter(|tag| tag.contains(['/', ':'])));
            let names = said.iter().filter_map(|name| Named::parse(name).ok()).map(|named| named.to_string()).collect();
            let tags = tag.into_iter().chain(full.cloned()).collect();
            match self.images.iter_mut().find(|known| known.top.digest() == top.digest()) {
                Some(known) => {
                    known.names.extend::<Vec<String>>(names);
                    known.tags.extend::<Vec<String>>(tags);
                }
                None => self.images.push(PackedImage { top, names, tags }),
            }
        }
        Ok(())
    }

    /// Where a file's content is.
    fn member(&self, path: &[u8]) -> Result<(u64, u64)> {
        let mut path = clean(path);
        for _ in 0..8 {
            match self.members.get(&path) {
                None => return Err(error!("{:?} is not in the archive", show(&path))),
                Some(Member::File { offset, size }) => return Ok((*offset, *size)),
                Some(Member::Same(other)) => path = other.clone(),
            }
        }
        Err(error!("{:?} leads through too many links", show(&path)))
    }

    fn small(&self, path: &[u8]) -> Result<Vec<u8>> {
        let (offset, size) = self.member(path)?;
        if size > DOCUMENT {
            return Err(error!("{} has more than {DOCUMENT} bytes", show(path)));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset).called(|| format!("pread({size} bytes)"))?;
        Ok(bytes)
    }

    fn hash(&self, offset: u64, size: u64) -> Result<Digest> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut section = Section { file: self.duplicate()?, at: offset, end: offset + size };
        let mut buffer = vec![0; 128 << 10];
        loop {
            match section.read(&mut buffer).map_err(told)? {
                0 => return Ok(hasher.digest()),
                got => hasher.update(&buffer[..got]),
            }
        }
    }

    fn duplicate(&self) -> Result<File> {
        Ok(self.file.try_clone().called(|| "fcntl(F_DUPFD_CLOEXEC)".into())?)
    }
}

impl Source for Packed {
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
        let digest = blob.digest().to_string();
        if let Some(bytes) = self.made.get(&digest) {
            let rest = bytes.get(from as usize..).unwrap_or_default().to_vec();
            return Ok(Box::new(io::Cursor::new(rest)));
        }
        let (offset, size) = match self.places.get(&digest) {
            Some(Member::File { offset, size }) => (*offset, *size),
            _ => {
                let digest = Digest::parse(&digest)?;
                self.member(format!("blobs/{}/{}", digest.name(), digest.hex).as_bytes())?
            }
        };
        Ok(Box::new(Section { file: self.duplicate()?, at: offset + from.min(size), end: offset + size }))
    }
}

/// A piece of a file, read by position: several threads share the descriptor.
struct Section {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = (self.end - self.at).min(into.len() as u64) as usize;
        let got = self.file.read_at(&mut into[..want], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

fn describe(media_type: MediaType, digest: &str, size: u64) -> Result<Descriptor> {
    let parsed: oci_spec::image::Digest = digest.parse().map_err(|e| error!("{digest}: {e}"))?;
    Ok(Descriptor::new(media_type, size, parsed))
}

fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

/// Can it be read at any place?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    File,
    Stream,
}

fn shape(file: &File) -> Result<Shape> {
    let regular = file.metadata().called(|| "fstat(archive)".into())?.is_file();
    Ok(if regular { Shape::File } else { Shape::Stream })
}

/// The archive as such a file: itself, or a copy without a name.
fn readable(file: File, shape: Shape, store: &Store) -> Result<File> {
    let mut stream = BufReader::with_capacity(128 << 10, file);
    let start = stream.fill_buf().map_err(told)?;
    let mut inflated: Box<dyn Read> = match (is_gzip(start), zstd::begins_like_it(start)) {
        (true, _) => Box::new(MultiGzDecoder::new(stream)),
        (_, true) => Box::new(zstd::Frames::new(stream)),
        _ if shape == Shape::File => {
            let mut file = stream.into_inner();
            file.seek(SeekFrom::Start(0)).called(|| "lseek(0)".into())?;
            return Ok(file);
        }
        _ => Box::new(stream),
    };
    let mut copy = store.spool()?;
    let most = store.limits().bytes;
    let copied = io::copy(&mut (&mut inflated).take(most + 1), &mut copy).map_err(told)?;
    if copied > most {
        return Err(error!("the archive has more than {most} bytes: refused as a bomb"));
    }
    copy.flush().called(|| "write".into())?;
    copy.seek(SeekFrom::Start(0)).called(|| "lseek(0)".into())?;
    Ok(copy)
}

/// Counts what was read.
struct Counted<R>(R, Rc<Cell<u64>>);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(into)?;
        self.1.set(self.1.get() + got as u64);
        Ok(got)
    }
}

/// Every file of the archive by name, and where its content begins.
fn contents(file: &File) -> Result<HashMap<Vec<u8>, Member>> {
    let at = Rc::new(Cell::new(0));
    let mut archive = Archive::new(Counted(BufReader::with_capacity(128 << 10, file), at.clone()));
    let mut members = HashMap::new();
    while let Some(entry) = archive.next_entry()? {
        let name = clean(&entry.path);
        let member = match entry.kind {
            Kind::File { size, extents } if extents.iter().map(|extent| extent.length).sum::<u64>() == size => {
                Member::File { offset: at.get(), size }
            }
            Kind::Symlink(target) if !target.starts_with(b"/") => {
                let parent = name.iter().rposition(|b| *b == b'/').map_or(&b""[..], |cut| &name[..cut]);
                Member::Same(clean(&[parent, b"/", &target].concat()))
            }
            Kind::Hardlink(target) => Member::Same(clean(&target)),
            _ => continue,
        };
        members.insert(name, member);
        if members.len() > MEMBERS {
            return Err(error!("the archive has more than {MEMBERS} files"));
        }
    }
    Ok(members)
}

/// A name without `.`, `..` and doubled slashes: a key, nothing that is opened.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut words: Vec<&[u8]> = Vec::new();
    for word in path.split(|b| *b == b'/') {
        match word {
            b"" | b"." => {}
            b".." => drop(words.pop()),
            _ => words.push(word),
        }
    }
    words.join(&b'/')
}
