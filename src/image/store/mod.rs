//! The images on this machine.
//!
//! ```text
//! STORE/                   0700: an image's setuid programs are not for the host's users (CVE-2021-41091)
//!   oci-layout  index.json  blobs/sha256/HEX      an OCI image layout; names are org.opencontainers.image.ref.name
//!   layers/CHAINID/diff/                          a layer unpacked as overlayfs takes it, once for all images that begin with the same layers
//!   layers/CHAINID/unstackable/                   or, where the file system takes no whiteouts, with marks that only a copy understands (`marks`)
//!   layers/CHAINID/layer.json                     what is known of it
//!   containers/ID/image                           who uses an image: holds the digest of its manifest or its id
//!   tmp/blob-HEX  tmp/layer-CHAINID/              what is being made, each locked by whoever makes it
//!   tmp/unsynced-BOOT-…                           a pull has written what is not on the disk yet
//!   lock  index.lock
//! ```
//!
//! By hand: `skopeo inspect oci:STORE:docker.io/library/debian:12`; `jq . STORE/index.json`; `mount -t overlay -o
//! ro,lowerdir=STORE/layers/B/diff:STORE/layers/A/diff none /mnt`. The chain id of a layer is the digest of the digests below it
//! (image-spec, config.md "Layer ChainID"): `printf '%s %s' CHAINID DIFFID | sha256sum`.
//!
//! Everything becomes visible by one rename(2), after the verdict. A blob or layer that is there is whole, so a pull that was killed goes on
//! where it stood. Whoever makes something holds its flock(2); the kernel drops it when the process dies, however it dies, so what is
//! locked is being made, and what is not is left over. What has a name is on the disk (`disk`). `add` pulls and unpacks (`fetch`, `stage`, `settle`), `images` is all that asks and
//! forgets, `collect` removes what nobody names.
//!
//! What goes wrong: two pulls of one layer; a collector that removes what a pull has just found; a kill between any two calls.

mod add;
mod below;
mod collect;
mod disk;
mod fetch;
mod images;
mod index;
mod lock;
mod seed;
mod settle;
mod stage;

pub use add::{Event, Progress, Silent};
pub use below::{Below, Found, Within, files, join};
pub use collect::{Removed, Which};
pub use images::{Force, Line, Stored, StoredLayer, chains};
pub use lock::Hold;

use super::layout::Layout;
use super::manifest::DOCUMENT;
use super::marks::Form;
use super::stream::Limits;
use crate::error;
use crate::error::Result;
use crate::sys::{self, Called, file, start};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::mkdir;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where the store is when nothing else is said.
pub const DEFAULT: &str = "/var/lib/corten";

/// A store in a directory.
pub struct Store {
    path: PathBuf,
    limits: Limits,
    layout: Layout,
}

impl Store {
    /// Opens the store, and makes it if it is not there. It must belong to the caller, who alone may enter.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || file::open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW);
        let opened = match open() {
            Err(Errno::ENOENT) => {
                make_from_nothing(path)?;
                open()
            }
            opened => opened,
        };
        let me = start::euid();
        let not_ours = || {
            let words = error!("{} is not a directory of uid {me} that nobody else may write", path.display());
            words.hint("say --store DIR, or set CORTEN_STORE")
        };
        let top = match opened {
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(not_ours()),
            opened => opened.called(|| format!("open({path:?}, O_PATH|O_DIRECTORY|O_NOFOLLOW)"))?,
        };
        let about = fstat(&top).called(|| format!("fstat({path:?})"))?;
        if about.st_uid != me || about.st_mode & 0o022 != 0 {
            return Err(not_ours());
        }
        if about.st_mode & 0o077 != 0 {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(path, private).called(|| format!("chmod({path:?}, 0700)"))?;
        }
        let path = sys::path::name(&top).called(|| format!("readlink(\"/proc/self/fd\") of {path:?}"))?;
        // Another tool's layout has no containers, and who was killed here may have left no layout.
        let is_there = |name: &&str| fstatat(&top, *name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok();
        if !["containers", "index.json", "oci-layout"].iter().all(is_there) {
            for name in ["blobs", "blobs/sha256", "layers", "tmp", "containers"] {
                make(&path.join(name))?;
            }
            index::begin(&path)?;
        }
        Ok(Store { limits: Limits::default(), layout: Layout::within(top, &path)?, path })
    }

    /// The same store with other limits for what an image may use up.
    pub fn within(self, limits: Limits) -> Self {
        Store { limits, ..self }
    }

    /// Its directory, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store as an OCI image layout: a source of all blobs that it has.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What an image may use up.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A file of the store that has no name, and goes when it is closed.
    pub fn spool(&self) -> Result<fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = self.temporary();
        let mut options = fs::File::options();
        options.read(true).write(true).mode(0o600);
        match options.clone().custom_flags(libc::O_TMPFILE).open(&path) {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            opened => return Ok(opened.called(|| format!("open({path:?}, TMPFILE)"))?),
        }
        // Some file systems cannot: then it has a name for a moment, which `sweep` knows.
        let path = path.join(format!("spool-{}", std::process::id()));
        let spool = options.create_new(true).open(&path).called(|| format!("open({path:?}, CREAT|EXCL)"))?;
        fs::remove_file(&path).called(|| format!("unlink({path:?})"))?;
        Ok(spool)
    }

    /// Where a blob is, or would be.
    pub(super) fn blob(&self, digest: &super::digest::Digest) -> PathBuf {
        self.path.join("blobs").join(digest.name()).join(&digest.hex)
    }

    fn temporary(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Where a layer is, or would be.
    fn layer(&self, chain: &super::digest::Digest) -> PathBuf {
        self.path.join("layers").join(&chain.hex)
    }
}

/// The directory of an unpacked layer; where it is not in the store, the one that it would have.
pub fn unpacked(store: &Path, chain: &super::digest::Digest) -> PathBuf {
    let of = |form: Form| store.join("layers").join(&chain.hex).join(form.directory());
    let (usual, other) = (of(Form::Kernels), of(Form::Pipes));
    if !usual.is_dir() && other.is_dir() { other } else { usual }
}

/// The store's own directory, and those above it.
fn make_from_nothing(path: &Path) -> Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        // `~/.local/share` of somebody who is new here; its mode is what the XDG specification says.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(above);
        made.called(|| format!("mkdir({above:?}, 0700)"))?;
    }
    make(path)
}

/// mkdir(2), 0700; one that is there is taken.
fn make(path: &Path) -> Result<()> {
    match mkdir(path, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        made => Ok(made.called(|| format!("mkdir({path:?}, 0700)"))?),
    }
}

/// What is in a directory; nothing where there is none.
fn names(directory: &Path) -> Result<Vec<String>> {
    let listed = match fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.called(|| format!("open({directory:?})"))?,
    };
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(listed.map(name).collect::<std::io::Result<_>>().called(|| format!("getdents64({directory:?})"))?)
}

/// Writes a small file so that it is whole or not there. `temporary` is a name that nobody else uses.
fn replace(temporary: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    debug_assert!(bytes.len() as u64 <= 4 * DOCUMENT);
    let write = || -> std::io::Result<()> {
        use std::io::Write;
        let mut file = fs::File::create(temporary)?;
        file.write_all(bytes)?;
        // A rename that outlives a power failure, with content that does not, would be an empty index.
        file.sync_data()
    };
    write().called(|| format!("write({temporary:?})"))?;
    Ok(fs::rename(temporary, path).called(|| format!("rename({temporary:?}, {path:?})"))?)
}
