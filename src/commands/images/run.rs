//! `run IMAGE`: from an image to a program in the foreground, as Docker has it.
//!
//! By hand: `corten pull busybox; corten run --rm busybox id`, and meanwhile `ls /var/lib/corten/containers`. The image is found or fetched,
//! the container gets a directory of its own in the store, and then it is a container like any other: the same plan, with an overlay for a root. When the
//! program has ended, what the runtime knew of it goes; with `--rm` its directory too, otherwise that stays until `rm`.
//!
//! What goes wrong: whoever is killed here leaves a directory and perhaps a running program. The directory is locked while somebody is at work
//! with it, so the next command knows what nobody comes back for (`image::container`).

use super::decide::{self, PROGRAM, Subject};
use super::{obtain, report, sweep};
use crate::cli::Invocation;
use crate::commands::create::make;
use crate::commands::{delete, program_code, require_root, store as runtime_store};
use crate::docker::configure::{Ended, Input};
use crate::docker::{self, Before, Options, here};
use crate::error;
use crate::error::{Error, Result};
use crate::image::container::{self, Container, Containers, Making, Record, Removal};
use crate::image::store::{Store, Stored};
use crate::input::bundle::Bundle;
use crate::input::host::Host;
use crate::input::overrides::Caller;
use crate::logger::rfc3339;
use crate::plan::Request;
use crate::run::{parent, wait};
use crate::setup::overlay::After;
use crate::state::status::boot;
use crate::state::store::CONFIGURATION;
use crate::sys::process::signal_name;
use nix::sys::stat::Mode;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

/// Docker's exit code where nothing was run because of us.
const OURS: u8 = 125;

/// The verb.
#[inline(never)]
pub fn run(invocation: &Invocation) -> Result<u8> {
    begin(invocation).map_err(|e| {
        let code = e.code.or_else(|| program_code(&e)).unwrap_or(OURS);
        e.code(code)
    })
}

fn begin(invocation: &Invocation) -> Result<u8> {
    require_root()?;
    let host = Host::read();
    host.check_floor()?;
    let options = Options::typed(invocation.args.matches())?;
    let caller = Caller::here()?;
    let before = docker::before(&options, &caller, here::ARCH)?;
    if let Some(file) = before.cidfile.as_deref().filter(|file| file.symlink_metadata().is_ok()) {
        return Err(error!("--cidfile {}: the file is there already", file.display())
            .hint("the container that it names may still run; remove the file"));
    }
    if options.tty && wait::caller_terminal().is_none() {
        return Err(error!("-t: the input device is not a TTY").hint("leave -t out where there is no terminal"));
    }
    let store = Store::open(&super::store_path(invocation))?;
    let containers = Containers::open(store.path())?;
    sweep(&containers)?;
    // Until its container is on record, an image that was found must not go.
    let hold = store.hold()?;
    let (image, hold) = match super::local(&store, &options.image, &before)? {
        Some(image) => (image, hold),
        // Who fetches waits for nobody who removes; what it fetched is held by its name.
        None => {
            drop(hold);
            let image = obtain(invocation, &store, &options.image, &before)?;
            (image, store.hold()?)
        }
    };
    let made = prepare(invocation, &host, &store, &containers, &image, &options, &before, &caller)?;
    drop(hold);
    let removed = |e: Error| match containers.remove(&made.container) {
        Ok(_) => e,
        Err(why) => e.detail(format!("and {} could not be removed: {why}", made.container.path().display())),
    };
    let code = foreground(invocation, &host, made.bundle, &made.request, before.cidfile.as_deref()).map_err(removed)?;
    match made.record.removal {
        Removal::AtEnd => drop(containers.remove(&made.container)?),
        Removal::Kept => {
            let ended = container::record::Ended { at: rfc3339(SystemTime::now()), code };
            let saved = made.container.save(&Record { ended: Some(ended), ..made.record });
            // `rm -f` ended it, and has taken it away.
            if made.container.is_linked() {
                saved?;
            }
        }
    }
    // The program ends here, and the kernel closes what is open.
    std::mem::forget((store, containers, made.container));
    Ok(code)
}

/// A container that is on record, and what is to be run in it.
struct Made {
    container: Container,
    record: Record,
    bundle: Bundle,
    request: Request,
}

/// Decides what the container is, and makes its directory.
#[allow(clippy::too_many_arguments)]
fn prepare(
    invocation: &Invocation,
    host: &Host,
    store: &Store,
    containers: &Containers,
    image: &Stored,
    options: &Options,
    before: &Before,
    caller: &Caller,
) -> Result<Made> {
    let id = here::new_id()?;
    let directory = store.path().join("containers").join(&id);
    let layers = store.layers(image)?;
    let subject = Subject { id: &id, directory: &directory, layers: &layers, image: &image.config, options, caller };
    let configured = decide::configured(invocation, host, Some(containers), &subject)?;
    report(invocation, &configured.warnings);
    // What is there may be a file, or a socket.
    for directory in configured.make.iter().filter(|path| !path.exists()) {
        std::fs::create_dir_all(directory)
            .map_err(|e| error!("{}: {}", directory.display(), crate::error::io_words(&e)))?;
    }
    let name = match &before.name {
        Some(name) => name.clone(),
        None => here::new_name(|name| containers.find(name).is_ok_and(|found| found.is_some()))?,
    };
    let record = Record {
        format: container::record::FORMAT,
        name,
        image: options.image.clone(),
        command: configured.config.process.as_ref().map(|process| process.args.clone()).unwrap_or_default(),
        created: rfc3339(SystemTime::now()),
        labels: configured.labels.clone(),
        stop_signal: Some(signal_name(configured.stop_signal)),
        stop_timeout: configured.stop_timeout.and_then(|seconds| u32::try_from(seconds).ok()),
        removal: if configured.ended == Ended::Goes { Removal::AtEnd } else { Removal::Kept },
        root: runtime_store(invocation)?.path().to_owned(),
        ended: None,
    };
    let ground = containers.ground(&boot())?.for_layers(&layers);
    let digest = image.manifest.digest().to_string();
    let container =
        containers.make(&Making { id: &id, record: &record, image: &digest, layers: &layers, ground: &ground })?;
    let filled = configured.files.iter().try_for_each(|file| {
        let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        container.write(name, &file.content, Mode::from_bits_truncate(0o644)).map(drop)
    });
    let program = || if options.init { copy_program(&directory.join(PROGRAM)) } else { Ok(()) };
    let volumes = || {
        configured.volumes.iter().try_for_each(|volume| {
            let directory = container.directory(&volume.directory)?;
            let filled = crate::image::volume::fill(&layers, &volume.place, directory.as_fd());
            filled.map_err(|e| e.at(format!("the image's VOLUME {}", volume.place.display())))
        })
    };
    // What the runtime keeps goes with the program; `inspect` shows it afterwards.
    let kept = || match record.removal {
        Removal::AtEnd => Ok(()),
        Removal::Kept => container.write(CONFIGURATION, &configured.raw, Mode::from_bits_truncate(0o600)).map(drop),
    };
    if let Err(e) = filled
        .and_then(|()| program())
        .and_then(|()| volumes())
        .and_then(|()| kept())
        .and_then(|()| input(configured.input))
    {
        let _ = containers.remove(&container);
        return Err(e);
    }
    let after = if record.removal == Removal::AtEnd { After::Removed } else { After::Kept };
    let root = decide::root(&ground, store.path(), layers, &directory, after);
    let bundle = decide::bundle(directory, configured);
    let request = decide::request(invocation, id, &bundle, root);
    Ok(Made { container, record, bundle, request })
}

/// Runs it to its end. Afterwards nothing of it is left but its directory in the store.
fn foreground(
    invocation: &Invocation,
    host: &Host,
    bundle: Bundle,
    request: &Request,
    cidfile: Option<&Path>,
) -> Result<u8> {
    let signals = wait::block_signals()?;
    if let Some(file) = cidfile {
        write_cidfile(file, &request.id)?;
    }
    let ran = make(invocation, host, bundle, request).and_then(|(plan, mut context)| {
        parent::wait_for_program(&plan, &mut context)?;
        let Some((_, pidfd)) = context.first.take() else { return Err(Error::new("there is no first process")) };
        let terminal = match context.console_end.take() {
            Some(end) => crate::sys::socket::receive(&end)?.and_then(|message| message.fd),
            None => None,
        };
        let code = wait::foreground(&pidfd, terminal, &signals)?;
        if code == 128 + 9 && context.state.cgroup.oom_kills() > 0 {
            let limit = context.state.cgroup.memory_limit().unwrap_or_default();
            log::warn!("run {}: killed by the kernel at its memory limit ({limit})", context.state.id);
        }
        if let (Some(store), Some(entry)) = (&context.store, &context.entry) {
            delete::finish(store, entry, Some(&context.state), &[])?;
        }
        Ok(code)
    });
    if ran.is_err()
        && let Some(file) = cidfile
    {
        let _ = std::fs::remove_file(file);
    }
    ran
}

/// Not over a file that is there.
fn write_cidfile(file: &Path, id: &str) -> Result<()> {
    use std::io::Write;
    let made = std::fs::File::options().write(true).create_new(true).open(file);
    made.and_then(|mut made| made.write_all(id.as_bytes()))
        .map_err(|e| error!("--cidfile {}: {}", file.display(), crate::error::io_words(&e)))
}

/// A copy: by now this program is executed from a mount that hangs nowhere (`sys::seal`), so that its own link leads to no path of the host; and what a container
/// with the right to mount could write to must not be the host's.
fn copy_program(to: &Path) -> Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let copied = std::fs::copy("/proc/self/exe", to).and_then(|_| std::fs::set_permissions(to, mode));
    copied.map_err(|e| error!("--init: {}: {}", to.display(), crate::error::io_words(&e)))
}

/// Without `-i` a container has nothing to read.
fn input(input: Input) -> Result<()> {
    match input {
        Input::Caller => Ok(()),
        Input::Null => Ok(crate::sys::start::null_input()?),
    }
}
