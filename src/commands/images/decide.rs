//! What a container of an image is to be, for `run` and for `explain`: the options and the image meet the machine's answers.

use super::find_running;
use crate::cli::Invocation;
use crate::commands::create::console;
use crate::commands::store as runtime_store;
use crate::docker::{self, Facts, Options, here};
use crate::error;
use crate::error::Result;
use crate::image::container::{Containers, Ground};
use crate::input::bundle::Bundle;
use crate::input::host::Host;
use crate::input::overrides::Caller;
use crate::plan::{Request, Root, Start};
use crate::setup::caps;
use crate::setup::label;
use crate::setup::overlay::{After, Overlay};
use crate::setup::program::Inherited;
use crate::setup::rootfs::Way;
use crate::sys::file::{self, End};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use oci_spec::image::ImageConfiguration;
use std::path::{Path, PathBuf};

/// The reaper of `--init`: this program, in the container's directory.
pub const PROGRAM: &str = "docker-init";

/// The container that is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its directory in the store.
    pub directory: &'a Path,
    /// The directories of its image's layers, the lowest first.
    pub layers: &'a [PathBuf],
    /// What the image says.
    pub image: &'a ImageConfiguration,
    /// What was typed.
    pub options: &'a Options,
    /// By whom.
    pub caller: &'a Caller,
}

/// Decides. `containers`: where a container whose namespaces are to be shared is looked for.
pub fn configured(
    invocation: &Invocation,
    host: &Host,
    containers: Option<&Containers>,
    subject: &Subject,
) -> Result<docker::Container> {
    let accounts = crate::image::store::files(subject.layers, "etc", &["passwd", "group"])?;
    let runtime = runtime_store(invocation);
    let container = |word: &str| match (containers, &runtime) {
        (Some(containers), Ok(runtime)) => find_running(containers, runtime, word),
        (None, _) => Err(error!("no container {word} is running")),
        (_, Err(e)) => Err(e.clone()),
    };
    let facts = Facts {
        id: subject.id,
        rootfs: Path::new("rootfs"),
        directory: subject.directory,
        passwd: &accounts[0],
        group: &accounts[1],
        caller: subject.caller,
        hostname: &hostname()?,
        arch: here::ARCH,
        kernel: host.kernel,
        processors: &here::processors,
        // Whoever asks what would happen: it would be root's to do.
        held: if host.euid == 0 { here::held() } else { caps::ALL },
        program: &subject.directory.join(PROGRAM),
        read: &|path| read(path),
        devices: &here::devices,
        container: &container,
    };
    docker::configure(subject.image, subject.options, &facts)
}

/// What was decided, as a bundle in the container's directory. Its warnings have been told.
pub fn bundle(directory: PathBuf, decided: docker::Container) -> Bundle {
    let docker::Container { config, raw, wording, .. } = decided;
    Bundle { dir: directory, config, raw, wording, warnings: Vec::new() }
}

/// The plan's question. Its root is an overlay in the store, unless layers have to be copied there.
pub fn request(invocation: &Invocation, id: String, bundle: &Bundle, root: Root) -> Request {
    Request {
        id,
        bundle: bundle.dir.clone(),
        start: Start::AtOnce,
        root,
        console: console(&invocation.args, bundle.config.process.as_ref()),
        pid_file: None,
        pidfd_socket: None,
        keyring: label::Keyring::New,
        way: Way::Pivot,
        inherited: Inherited::default(),
    }
}

/// What lies in the root's directory; `directory` is the container's.
pub fn root(ground: &Ground, store: &Path, layers: Vec<PathBuf>, directory: &Path, after: After) -> Root {
    match ground {
        Ground::Copy { .. } => Root::Bundle,
        Ground::Overlay => Root::Overlay(Overlay {
            store: store.to_owned(),
            lower: layers,
            upper: directory.join("upper"),
            work: directory.join("work"),
            after,
        }),
    }
}

fn hostname() -> Result<String> {
    let name = nix::unistd::gethostname().map_err(|errno| error!("gethostname: {}", crate::sys::plain(errno)))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The largest file of the host that is read, in bytes.
const LARGEST: usize = 16 << 20;

fn read(path: &Path) -> Result<Vec<u8>> {
    let wrong = |errno: Errno| error!("{}: {}", path.display(), crate::error::io_words(&errno.into()));
    // To an empty read: it may be a pipe, or a file of procfs.
    let read = |file| file::read_rest(file, End::Nothing, 0, LARGEST);
    let bytes = file::open(path, OFlag::O_RDONLY).and_then(read).map_err(wrong)?;
    if bytes.len() > LARGEST { Err(error!("{}: more than {LARGEST} bytes", path.display())) } else { Ok(bytes) }
}
