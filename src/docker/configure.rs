//! The sequence: an image's configuration and the options become a config.json, and a list of what else is to be done.
//!
//! By hand: `docker create --name w -m 64m busybox && docker inspect w`. The result is written as JSON and read by `input::bundle`, the same way as a bundle's. So
//! there is one border with one set of checks, the text that is kept beside the container is what was judged, and it is a valid config.json of OCI
//! that other runtimes can run. Filling in the types directly would save a tenth of a millisecond, and would be a second way in.
//!
//! What goes wrong: a fault that the checks find names a place of config.json that nobody wrote (`linux.sysctl["net.x"]`), so it
//! is translated back into the option that did (`--sysctl net.x`).

use super::files;
use super::limits;
use super::mounts;
use super::network::{self, Namespace};
use super::options::Options;
use super::platform::{self, Platform};
use super::privileges::{self, Masks};
use super::process;
use super::volumes::Volume;
use super::{defaults, wrong};
use crate::error;
use crate::error::{Error, Result};
use crate::input::Fault;
use crate::input::again::Wording;
use crate::input::bundle;
use crate::input::config::{Arch, Config, Device};
use crate::input::overrides::Caller;
use crate::input::signal;
use crate::input::template::OCI_VERSION;
use oci_spec::image::{Config as ImageConfig, ImageConfiguration};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Another container, whose namespaces are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// As it was asked for.
    pub name: String,
    /// Its first process, alive.
    pub pid: i32,
    /// Its host name.
    pub hostname: String,
    /// It has something mounted at /dev/shm.
    pub has_shm: bool,
    /// Where its `hosts`, `hostname` and `resolv.conf` lie; none for a container of a bundle.
    pub directory: Option<PathBuf>,
}

/// All that is asked of the machine. Functions are asked at most once for each option.
pub struct Facts<'a> {
    /// The new container's id, 64 hexadecimal digits.
    pub id: &'a str,
    /// Where its root is, or will be: `root.path`.
    pub rootfs: &'a Path,
    /// The container's own directory on the host, absolute: [`Container::files`] lie in it.
    pub directory: &'a Path,
    /// The image's `/etc/passwd`, empty if there is none.
    pub passwd: &'a [u8],
    /// The image's `/etc/group`.
    pub group: &'a [u8],
    /// Who typed the options.
    pub caller: &'a Caller,
    /// The host's name.
    pub hostname: &'a str,
    /// The machine's architecture.
    pub arch: Arch,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// How many processors there are.
    pub processors: &'a dyn Fn() -> u32,
    /// The caller's permitted capabilities, bit n is capability n.
    pub held: u64,
    /// This program as a file in the container's directory, which `--init` binds into the container.
    pub program: &'a Path,
    /// A whole file of the host: `--env-file`, a profile, `/etc/hosts`.
    pub read: &'a dyn Fn(&Path) -> Result<Vec<u8>>,
    /// A device node, or all below a directory, without terminals (`/dev/pts`) and consoles.
    pub devices: &'a dyn Fn(&Path) -> Result<Vec<Device>>,
    /// A running container by name or id.
    pub container: &'a dyn Fn(&str) -> Result<Other>,
}

/// A file to be written before the container is made, mode 0644.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Absolute, in [`Facts::directory`].
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

/// What standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The caller's (`-i`).
    Caller,
    /// `/dev/null`: without `-i` a container reads nothing, and leaves the terminal's input alone.
    Null,
}

/// What happens to the container when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It stays until `rm`.
    Stays,
    /// It goes (`--rm`).
    Goes,
}

/// When the image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Even if it is here.
    Always,
    /// If it is not here.
    Missing,
    /// Not at all.
    Never,
}

/// What is asked before there is an image: read it first, with [`before`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// `--pull`
    pub pull: Pull,
    /// `--platform`
    pub platform: Option<Platform>,
    /// `--name`, a valid one.
    pub name: Option<String>,
    /// `--cidfile`, absolute. It must not exist: refuse it before anything is done.
    pub cidfile: Option<PathBuf>,
}

/// A container to be made.
#[derive(Clone, Debug)]
pub struct Container {
    /// What is to be run.
    pub config: Config,
    /// The same as the text of a config.json.
    pub raw: Vec<u8>,
    /// Do the types read it as it was meant?
    pub wording: Wording,
    /// What was ignored, a line each.
    pub warnings: Vec<String>,
    /// Files to be written first.
    pub files: Vec<File>,
    /// Directories of the host that `-v` makes where nothing is.
    pub make: Vec<PathBuf>,
    /// Directories of the container's own, to be made and filled from the image.
    pub volumes: Vec<Volume>,
    /// Standard input.
    pub input: Input,
    /// `--rm`
    pub ended: Ended,
    /// What `stop` sends.
    pub stop_signal: i32,
    /// How long `stop` waits, in seconds; `None`: for ever.
    pub stop_timeout: Option<u64>,
    /// The image's labels, and those of `--label`.
    pub labels: BTreeMap<String, String>,
    /// `host`, `none` or `container:NAME`, as `inspect` shows it.
    pub network: String,
}

/// The word under which `stop` finds a container's signal among its annotations (image-spec, conversion.md).
const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";

/// Docker's wait before SIGKILL, in seconds.
const STOP_TIMEOUT: u64 = 10;

/// Reads what has to be known before the image is looked for.
pub fn before(options: &Options, caller: &Caller, arch: Arch) -> Result<Before> {
    let pull = match options.pull.as_deref() {
        None | Some("missing" | "") => Pull::Missing,
        Some("always") => Pull::Always,
        Some("never") => Pull::Never,
        Some(other) => return Err(wrong("--pull", other, "is none of always, missing and never")),
    };
    if let Some(name) = options.name.as_deref() {
        super::names::check(name).map_err(|cause| wrong("--name", name, cause))?;
    }
    let platform = options.platform.as_deref().filter(|platform| !platform.is_empty());
    Ok(Before {
        pull,
        platform: platform.map(|text| platform::parse(text, arch)).transpose()?,
        name: options.name.clone(),
        cidfile: mounts::cidfile(options, caller)?,
    })
}

/// Decides what the container is. Pure but for what it asks of [`Facts`].
pub fn configure(image: &ImageConfiguration, options: &Options, facts: &Facts) -> Result<Container> {
    let nothing = ImageConfig::default();
    let image = image.config().as_ref().unwrap_or(&nothing);
    let namespaces = network::namespaces(options, facts)?;
    namespaces.check(options)?;
    let granted = privileges::privileges(options, facts)?;
    let user = process::user(options, image, facts)?;
    let (files, mut ours) = files::files(options, &namespaces, facts)?;
    if options.init {
        let read_only = Options { read_only: true, ..Options::default() };
        ours.push(mounts::file(facts.program.to_owned(), process::INIT, &read_only));
    }
    let asked = mounts::asked(options, image, facts)?;
    let (nodes, rules) = limits::devices(options, facts)?;
    let mut resources = limits::resources(options, facts.processors)?;
    resources.insert("devices".to_owned(), rules.into());
    let stop_signal = stop_signal(options, image)?;

    let mut process = json!({
        "terminal": options.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids},
        "args": process::args(options, image)?,
        "env": process::env(options, image, &namespaces.hostname, facts)?,
        "cwd": process::cwd(options, image)?,
        "capabilities": privileges::sets(granted.capabilities, user.uid),
        "rlimits": limits::rlimits(options)?,
        "noNewPrivileges": granted.no_new_privileges,
    });
    if let Some(profile) = granted.apparmor {
        process["apparmorProfile"] = profile.into();
    }
    // Put in where they are: the macro would copy what is named in it, and the filter is long.
    let mut linux = json!({});
    linux["namespaces"] = namespaces.written().into();
    linux["resources"] = resources.into();
    linux["devices"] = nodes.into();
    linux["sysctl"] = limits::sysctl(options, &namespaces.network)?.into();
    if let Some(parent) = options.cgroup_parent.as_deref().filter(|parent| !parent.is_empty()) {
        linux["cgroupsPath"] =
            cgroup(parent, facts.id).map_err(|cause| wrong("--cgroup-parent", parent, cause))?.into();
    }
    if granted.masks == Masks::Kept {
        linux["maskedPaths"] = json!(defaults::MASKED);
        linux["readonlyPaths"] = json!(defaults::READONLY);
    }
    if let Some(seccomp) = granted.seccomp {
        linux["seccomp"] = seccomp;
    }
    let mut document = json!({
        "ociVersion": OCI_VERSION,
        "root": {"path": facts.rootfs, "readonly": options.read_only},
        "annotations": {STOP_SIGNAL: crate::sys::process::signal_name(stop_signal)},
    });
    document["process"] = process;
    document["mounts"] = mounts::all(options, namespaces.shm(limits::shm(options)?), asked.mounts, ours).into();
    document["linux"] = linux;
    if namespaces.uts != Namespace::Host {
        document["hostname"] = namespaces.hostname.clone().into();
    }
    // Not `to_string`, which goes through a formatter, piece by piece.
    let raw = serde_json::to_vec(&document).map_err(|e| error!("config.json: {e}"))?;
    let bundle::Parsed { config, warnings: told, wording } =
        bundle::parse_whole(&raw).map_err(|faults| of_options(&faults, options))?;
    let mut warnings = namespaces.warnings(options);
    warnings.extend(told);
    Ok(Container {
        config,
        raw,
        wording,
        warnings,
        files,
        make: asked.make,
        volumes: asked.volumes,
        input: if options.interactive { Input::Caller } else { Input::Null },
        ended: if options.rm { Ended::Goes } else { Ended::Stays },
        stop_signal,
        stop_timeout: stop_timeout(options)?,
        labels: labels(options, image)?,
        network: options.network.clone().unwrap_or_else(|| "host".to_owned()),
    })
}

fn cgroup(parent: &str, id: &str) -> std::result::Result<String, &'static str> {
    match parent.split('/').any(|part| part == "..") {
        true => Err("has .. in it"),
        false => Ok(format!("{}/{id}", parent.trim_end_matches('/'))),
    }
}

fn stop_signal(options: &Options, image: &ImageConfig) -> Result<i32> {
    let read = |text: &str| signal::parse(text).ok().filter(|number| *number > 0);
    match (options.stop_signal.as_deref(), image.stop_signal().as_deref()) {
        (Some(text), _) if !text.is_empty() => read(text).ok_or_else(|| wrong("--stop-signal", text, "is no signal")),
        // A stranger's mistake must not keep the image from running.
        (_, Some(text)) => Ok(read(text).unwrap_or(libc::SIGTERM)),
        _ => Ok(libc::SIGTERM),
    }
}

fn stop_timeout(options: &Options) -> Result<Option<u64>> {
    let Some(text) = options.stop_timeout.as_deref() else { return Ok(Some(STOP_TIMEOUT)) };
    match text.parse::<i64>() {
        Ok(seconds @ 0..) => Ok(u64::try_from(seconds).ok()),
        Ok(_) => Ok(None),
        Err(_) => Err(wrong("--stop-timeout", text, "is not a number of seconds")),
    }
}

fn labels(options: &Options, image: &ImageConfig) -> Result<BTreeMap<String, String>> {
    let mut labels: BTreeMap<String, String> = image.labels().clone().unwrap_or_default().into_iter().collect();
    for text in &options.label {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(wrong("--label", text, "has no name"));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(labels)
}

/// The faults of a configuration that nobody has written, in the words of the options.
fn of_options(faults: &[Fault], options: &Options) -> Error {
    let lines: Vec<String> = faults.iter().map(|fault| translated(fault, options)).collect();
    match &lines[..] {
        [only] => Error::new(only),
        lines => lines.iter().fold(error!("{} faults in the options", lines.len()), |error, line| error.detail(line)),
    }
}

/// Beginnings of places, and the options that put something there.
const PLACES: [(&str, &str); 11] = [
    ("hostname", "--hostname"),
    ("process.args", "the command"),
    ("process.env", "-e, --env-file or the image"),
    ("process.cwd", "-w"),
    ("process.rlimits", "--ulimit"),
    ("process.user", "-u"),
    ("mounts", "-v, --mount or --tmpfs"),
    ("linux.devices", "--device"),
    ("linux.resources", "-m, --cpus or --pids-limit"),
    ("linux.seccomp", "--security-opt seccomp"),
    ("linux.cgroupsPath", "--cgroup-parent"),
];

fn translated(fault: &Fault, options: &Options) -> String {
    let sysctl = options.sysctl.iter().find(|text| {
        let key = text.split('=').next().unwrap_or_default();
        fault.place.starts_with("linux.sysctl") && fault.place.contains(&format!("{key:?}"))
    });
    if let Some(text) = sysctl {
        return format!("--sysctl {}: {}", super::quote(text), fault.cause);
    }
    let option = PLACES.iter().find(|(place, _)| fault.place.starts_with(place)).map(|(_, option)| *option);
    match option {
        Some(option) => format!("{option}: {} ({})", fault.cause, fault.place),
        None => fault.to_string(),
    }
}

#[cfg(test)]
#[path = "configure_tests.rs"]
mod tests;
