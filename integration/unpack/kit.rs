//! What the tests are written in: archives, layouts, a place with a canary, pictures of trees.

use corten::error::{Error, Result};
use corten::image::manifest::Platform;
use corten::image::store::{Silent, Store};
use corten::image::{Limits, digest, local, unpack_within};
use corten::sys::at;
use nix::mount::{MsFlags, mount};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Says why a test does not run. Only root can set owners and make devices.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: unpacking sets owners, which takes root");
    }
    root
}

/// An archive being written. Names may be anything.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

/// What stands in a header besides its name.
#[derive(Clone)]
pub struct Head<'a> {
    pub kind: u8,
    pub mode: u32,
    pub owner: (u64, u64),
    pub mtime: u64,
    pub link: &'a str,
    pub device: (u32, u32),
    pub size: Option<u64>,
    pub pax: Vec<(&'a str, Vec<u8>)>,
}

impl Default for Head<'_> {
    fn default() -> Self {
        let (kind, owner, device) = (b'0', (0, 0), (0, 0));
        Head { kind, mode: 0o644, owner, mtime: 1_600_000_000, link: "", device, size: None, pax: Vec::new() }
    }
}

impl Tar {
    pub fn new() -> Self {
        Tar::default()
    }

    pub fn file(self, name: &str, content: &str) -> Self {
        self.entry(name, Head::default(), content.as_bytes())
    }

    pub fn dir(self, name: &str) -> Self {
        self.entry(name, Head { kind: b'5', mode: 0o755, ..Head::default() }, b"")
    }

    pub fn symlink(self, name: &str, link: &str) -> Self {
        self.entry(name, Head { kind: b'2', mode: 0o777, link, ..Head::default() }, b"")
    }

    pub fn hardlink(self, name: &str, link: &str) -> Self {
        self.entry(name, Head { kind: b'1', link, ..Head::default() }, b"")
    }

    pub fn xattr(self, name: &str, key: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{key}");
        let pax = vec![(key.as_str(), value.to_vec())];
        self.entry(name, Head { pax, ..Head::default() }, b"x")
    }

    /// Anything: long names and links go into a pax header.
    pub fn entry(mut self, name: &str, head: Head<'_>, content: &[u8]) -> Self {
        let mut pax = head.pax.clone();
        if name.len() > 100 || name.contains('\0') {
            pax.push(("path", name.as_bytes().to_vec()));
        }
        if head.link.len() > 100 {
            pax.push(("linkpath", head.link.as_bytes().to_vec()));
        }
        if !pax.is_empty() {
            let records: Vec<u8> = pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            self = self.raw("pax", &Head { kind: b'x', ..Head::default() }, &records);
        }
        self.raw(name, &head, content)
    }

    fn raw(mut self, name: &str, head: &Head<'_>, content: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        let put = |field: &mut [u8], text: &str| {
            let text = &text.as_bytes()[..text.len().min(100)];
            field[..text.len()].copy_from_slice(text);
        };
        put(&mut header.as_old_mut().name, name);
        put(&mut header.as_old_mut().linkname, head.link);
        header.as_old_mut().linkflag = [head.kind];
        header.set_mode(head.mode);
        header.set_uid(head.owner.0);
        header.set_gid(head.owner.1);
        header.set_mtime(head.mtime);
        header.set_size(head.size.unwrap_or(content.len() as u64));
        header.set_device_major(head.device.0).unwrap();
        header.set_device_minor(head.device.1).unwrap();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.append(content)
    }

    /// A file in GNU's old sparse format: offset and length of its pieces, and their data.
    pub fn sparse(self, name: &str, pieces: &[(u64, u64)], size: u64, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(5);
        header.set_size(data.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        for (piece, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
            piece.set_offset(*offset);
            piece.set_length(*length);
        }
        gnu.set_real_size(size);
        header.set_cksum();
        self.append(header.as_bytes()).append(data)
    }

    /// Bytes as they are, filled up to a block.
    pub fn append(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (body..).find(|length| *length == body + length.to_string().len()).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An image at a path becomes a bundle.
pub fn unpack(reference: &str, bundle: &Path) -> corten::error::Result<()> {
    unpack_within(reference, bundle, &Limits::default()).map(drop)
}

/// zstd is not written here; the program of that name is asked. `None`: there is none.
pub fn zstd(bytes: &[u8], args: &[&str]) -> Option<Vec<u8>> {
    let started = Command::new("zstd").args(args).arg("-qc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut started) = started else {
        eprintln!("skipped: needs the program zstd");
        return None;
    };
    let (mut input, bytes) = (started.stdin.take().unwrap(), bytes.to_vec());
    let writing = std::thread::spawn(move || input.write_all(&bytes));
    let done = started.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    Some(done.stdout)
}

pub fn sha256(bytes: &[u8]) -> String {
    digest::of(digest::Algorithm::Sha256, bytes).to_string()
}

/// A temporary directory with a canary tree, an image layout and room for a bundle.
pub struct Place {
    pub dir: tempfile::TempDir,
    before: Picture,
}

pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("image-unpack-").tempdir().unwrap();
        let canary = dir.path().join("canary");
        fs::create_dir_all(canary.join("sub")).unwrap();
        fs::write(canary.join("shadow"), "root:secret").unwrap();
        fs::write(canary.join("sub/file"), "sings").unwrap();
        fs::set_permissions(canary.join("shadow"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("sub/file", canary.join("link")).unwrap();
        let before = Picture::of(&canary, Detail::Everything);
        Place { dir, before }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The absolute path of a file in the canary.
    pub fn canary(&self, name: &str) -> String {
        self.path("canary").join(name).to_str().unwrap().to_owned()
    }

    /// Nothing outside the bundle has changed, and nothing but what this kit made is there.
    #[track_caller]
    pub fn canary_sings(&self) {
        assert_eq!(Picture::of(&self.path("canary"), Detail::Everything), self.before);
        for entry in fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(["canary", "layout", "bundle", "other"].contains(&&*name), "{name} was made beside the bundle");
        }
    }

    pub fn rootfs(&self) -> PathBuf {
        self.path("bundle/rootfs")
    }

    pub fn reference(&self) -> String {
        format!("oci:{}", self.path("layout").display())
    }

    /// Writes a layout whose one image has these layers, all gzip, then unpacks it.
    pub fn unpack(&self, layers: &[Tar]) -> Result<()> {
        self.unpack_with(layers, r#"{}"#, &Limits::default())
    }

    pub fn unpack_with(&self, layers: &[Tar], config: &str, limits: &Limits) -> Result<()> {
        let mut layout = Layout::new(&self.path("layout"));
        for layer in layers {
            let archive = layer.clone().end();
            layout.layer(GZIP, &gzip(&archive), &sha256(&archive));
        }
        layout.finish(config);
        self.go(limits).map(drop)
    }

    /// Unpacks what is in the layout; afterwards there is a whole bundle or none.
    pub fn go(&self, limits: &Limits) -> Result<Vec<String>> {
        let _ = fs::remove_dir_all(self.path("bundle"));
        let done = unpack_within(&self.reference(), &self.path("bundle"), limits);
        match &done {
            Ok(_) => {
                assert!(self.path("bundle/config.json").is_file());
                assert_eq!(fs::read_dir(self.path("bundle")).unwrap().count(), 2);
            }
            Err(_) => assert!(!self.path("bundle").exists(), "a bundle is left after an error"),
        }
        done
    }

    /// The layers are refused with these words, flattened and in overlay form, and nothing is left.
    #[track_caller]
    pub fn refuses(&self, layers: &[Tar], words: &str) {
        self.refuses_bundle(layers, words);
        match self.stored(&Limits::default()) {
            Ok(_) => panic!("stored, and should be refused: {words}"),
            Err(e) => assert_says(&e, words),
        }
        self.canary_sings();
    }

    /// The layers could be unpacked, but a bundle is not made of them.
    #[track_caller]
    pub fn refuses_bundle(&self, layers: &[Tar], words: &str) {
        match self.unpack(layers) {
            Ok(()) => panic!("unpacked, and should be refused: {words}"),
            Err(e) => assert_says(&e, words),
        }
        self.canary_sings();
    }

    /// The layers are accepted in both forms, and show the same tree.
    #[track_caller]
    pub fn accepts(&self, layers: &[Tar]) {
        if let Err(e) = self.unpack(layers) {
            panic!("refused: {e}");
        }
        match self.stored(&Limits::default()) {
            Ok(overlay) => same_trees(Picture::of(&self.rootfs(), Detail::Archived), overlay),
            Err(e) => panic!("refused in overlay form: {e}"),
        }
        self.canary_sings();
    }

    /// Adds what is in the layout to a new store; shows what the layers show when they are mounted on one another.
    pub fn stored(&self, limits: &Limits) -> Result<Picture> {
        let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
        let store = Store::open(&at.path().join("store")).unwrap().within(*limits);
        let added = local::add(&store, &self.reference(), &Platform::here(), &Silent);
        let left: Vec<PathBuf> = fs::read_dir(store.path().join("tmp")).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
        added.map(|image| mounted(store.layers(&image).unwrap()))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.rootfs().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn has(&self, path: &str) -> bool {
        self.rootfs().join(path).symlink_metadata().is_ok()
    }
}

#[track_caller]
pub fn assert_says(e: &Error, words: &str) {
    assert!(e.to_string().contains(words), "{e}\n  does not say: {words}");
}

/// An OCI image layout being written.
pub struct Layout {
    pub path: PathBuf,
    pub layers: Vec<serde_json::Value>,
    pub diff_ids: Vec<String>,
}

impl Layout {
    pub fn new(path: &Path) -> Self {
        let _ = fs::remove_dir_all(path);
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { path: path.to_owned(), layers: Vec::new(), diff_ids: Vec::new() }
    }

    /// Writes a blob and describes it.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = sha256(bytes);
        fs::write(self.file(&digest), bytes).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    pub fn file(&self, digest: &str) -> PathBuf {
        self.path.join("blobs").join(digest.replace(':', "/"))
    }

    pub fn layer(&mut self, media_type: &str, blob: &[u8], diff_id: &str) {
        self.layers.push(self.blob(media_type, blob));
        self.diff_ids.push(diff_id.to_owned());
    }

    /// The configuration, with `config` as the part that the program gets.
    pub fn configuration(&self, config: &str) -> serde_json::Value {
        let architecture = if env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
        serde_json::json!({
            "os": "linux", "architecture": architecture, "created": "2024-01-01T00:00:00Z",
            "config": serde_json::from_str::<serde_json::Value>(config).unwrap(),
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        })
    }

    pub fn manifest(&self, config: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": self.layers})
    }

    pub fn index(&self, manifests: serde_json::Value) {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    pub fn finish(&self, config: &str) {
        let config = self.blob(CONFIG, self.configuration(config).to_string().as_bytes());
        let manifest = self.blob(MANIFEST, self.manifest(config).to_string().as_bytes());
        self.index(serde_json::json!([manifest]));
    }
}

/// How much of a tree is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Also number of links and change time: nothing was even touched.
    Everything,
    /// What an archive says.
    Archived,
}

/// A tree as text, a line for each path.
#[derive(Debug, PartialEq, Eq)]
pub struct Picture(pub BTreeMap<PathBuf, String>);

impl Picture {
    pub fn of(root: &Path, detail: Detail) -> Self {
        let mut picture = BTreeMap::new();
        let mut todo = vec![root.to_owned()];
        let mut names = BTreeMap::new();
        while let Some(path) = todo.pop() {
            let meta = path.symlink_metadata().unwrap();
            let kind = meta.file_type();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let mut line = format!(
                "{:o} {}:{} {}.{:09} {:x}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.rdev()
            );
            if detail == Detail::Everything {
                line += &format!(" {} links, changed {}.{}", meta.nlink(), meta.ctime(), meta.ctime_nsec());
            }
            if kind.is_dir() {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if kind.is_symlink() {
                line += &format!(" -> {:?}", fs::read_link(&path).unwrap());
            } else if kind.is_file() {
                line += &format!(" {} bytes {}", meta.size(), sha256(&fs::read(&path).unwrap()));
            } else {
                assert!(kind.is_fifo() || kind.is_char_device() || kind.is_block_device());
            }
            if kind.is_dir() || kind.is_file() {
                line += &xattrs(&path);
            }
            if !kind.is_dir() {
                names.entry(meta.ino()).or_insert_with(Vec::new).push(name.clone());
            }
            picture.insert(name, line);
        }
        // Two names of one file.
        for names in names.values_mut().filter(|names| names.len() > 1) {
            names.sort();
            let all = format!(" {names:?}");
            names.iter().for_each(|name| picture.get_mut(name).unwrap().push_str(&all));
        }
        Picture(picture)
    }
}

fn xattrs(path: &Path) -> String {
    let file = fs::File::open(path).unwrap();
    let mut names: Vec<CString> = at::flistxattr(&file).unwrap();
    names.sort();
    names.iter().map(|name| format!(" {name:?}={:02x?}", at::fgetxattr(&file, name).unwrap())).collect()
}

/// What layers show together, mounted in a mount namespace that ends with the thread.
pub fn mounted(layers: Vec<PathBuf>) -> Picture {
    let shown = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let at = tempfile::Builder::new().prefix("image-store-mount-").tempdir().unwrap();
        // One layer alone is no overlay: an empty one is put below it.
        let (empty, here) = (at.path().join("empty"), at.path().join("mnt"));
        fs::create_dir(&empty).unwrap();
        fs::create_dir(&here).unwrap();
        let mut options = OsString::from("lowerdir=");
        for layer in layers.iter().rev() {
            options.push(layer);
            options.push(":");
        }
        options.push(&empty);
        mount(Some("overlay"), &here, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_os_str())).unwrap();
        let picture = Picture::of(&here, Detail::Archived);
        // Detached: what another test starts has our descriptors until its execve.
        nix::mount::umount2(&here, nix::mount::MntFlags::MNT_DETACH).unwrap();
        picture
    };
    std::thread::spawn(shown).join().unwrap()
}

/// Compares every path. Where the image says nothing of a directory, its time is that of the unpacking.
#[track_caller]
pub fn same_trees(flat: Picture, overlay: Picture) {
    let (flat, overlay) = (told_times(flat), told_times(overlay));
    for (name, line) in &flat.0 {
        assert_eq!(overlay.0.get(name), Some(line), "{}", name.display());
    }
    assert_eq!(overlay, flat);
}

/// Times of the last hour are those of the test's run, not of an archive.
fn told_times(mut picture: Picture) -> Picture {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for line in picture.0.values_mut() {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let seconds: u64 = words[2].split('.').next().unwrap().parse().unwrap_or(0);
        if now - seconds.min(now) < 3600 {
            words[2] = "now".into();
        }
        *line = words.join(" ");
    }
    picture
}
