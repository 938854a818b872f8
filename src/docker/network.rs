//! `--network`, `--pid`, `--ipc`, `--uts`: which namespaces are new, the host's, or another container's.
//!
//! By hand: `docker run --rm --pid host busybox ps`, `docker run --rm --network container:web busybox ip a`. Docker's own default network is a bridge that
//! its daemon keeps; here containers share the host's network unless told otherwise.
//!
//! What goes wrong: settings without a namespace of their own would change the host. So `--hostname` with `--uts host` is refused, as is what another
//! container decides (`--dns` with `--network container:web`).

use super::configure::{Facts, Other};
use super::options::{ALL, Options};
use super::wrong;
use crate::error;
use crate::error::Result;
use crate::input::config::Mount;
use serde_json::{Value, json};

/// Whose a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A new one.
    Own,
    /// The host's: none is made.
    Host,
    /// That container's.
    Of(Other),
}

/// What /dev/shm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// A new tmpfs.
    Own,
    /// The host's.
    Host,
    /// That of the container whose first process this is.
    Of(i32),
    /// None.
    Nothing,
}

/// All that the four options and `--hostname` say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// `--network`
    pub network: Namespace,
    /// `--pid`
    pub pid: Namespace,
    /// `--ipc`
    pub ipc: Namespace,
    /// /dev/shm, which `--ipc` decides too.
    pub shm: Shared,
    /// `--uts`
    pub uts: Namespace,
    /// `--cgroupns`
    pub cgroup: Namespace,
    /// What the program finds as its host's name.
    pub hostname: String,
}

/// The namespaces of the options.
pub fn namespaces(options: &Options, facts: &Facts) -> Result<Namespaces> {
    let network = match options.network.as_deref() {
        None | Some("host") => Namespace::Host,
        Some("none") => Namespace::Own,
        Some(text) => match other("--network", text, facts)? {
            Some(other) => Namespace::Of(other),
            None => {
                return Err(wrong("--network", text, "not in this version: there are host, none and container:NAME"));
            }
        },
    };
    let mode = |option: &str, text: &Option<String>| -> Result<Namespace> {
        match text.as_deref() {
            None => Ok(Namespace::Own),
            Some("host") => Ok(Namespace::Host),
            Some(text) => other(option, text, facts)?
                .map(Namespace::Of)
                .ok_or_else(|| wrong(option, text, "is neither host nor container:NAME")),
        }
    };
    let pid = mode("--pid", &options.pid)?;
    let (ipc, shm) = match options.ipc.as_deref() {
        // Every one can be shared: nobody else is asked for it.
        None | Some("" | "private" | "shareable") => (Namespace::Own, Shared::Own),
        Some("host") => (Namespace::Host, Shared::Host),
        Some("none") => (Namespace::Own, Shared::Nothing),
        Some(text) => match other("--ipc", text, facts)? {
            Some(other) => {
                let shm = if other.has_shm { Shared::Of(other.pid) } else { Shared::Nothing };
                (Namespace::Of(other), shm)
            }
            None => return Err(wrong("--ipc", text, "is none of private, shareable, host, none and container:NAME")),
        },
    };
    let only_host = |option: &str, text: &Option<String>| match text.as_deref() {
        None | Some("" | "private") => Ok(Namespace::Own),
        Some("host") => Ok(Namespace::Host),
        Some(text) => Err(wrong(option, text, "is not host")),
    };
    let uts = only_host("--uts", &options.uts)?;
    let cgroup = only_host("--cgroupns", &options.cgroupns)?;
    let hostname = hostname(options, &network, &uts, facts)?;
    Ok(Namespaces { network, pid, ipc, shm, uts, cgroup, hostname })
}

fn other(option: &str, text: &str, facts: &Facts) -> Result<Option<Other>> {
    match text.strip_prefix("container:") {
        None => Ok(None),
        Some("") => Err(wrong(option, text, "names no container")),
        Some(name) => (facts.container)(name).map(Some).map_err(|e| e.at(format!("{option} {}", super::quote(text)))),
    }
}

fn hostname(options: &Options, network: &Namespace, uts: &Namespace, facts: &Facts) -> Result<String> {
    let asked = options.hostname.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = asked {
        let refuse = |why: &str| Err(wrong("--hostname", name, why));
        return match (network, uts) {
            (_, Namespace::Host) => refuse("would rename the host: --uts host is given"),
            (Namespace::Of(_), _) => refuse("is decided by the container whose network is shared"),
            // HOST_NAME_MAX of Linux.
            _ if name.len() > 64 => refuse("has more than 64 bytes"),
            // A line of /etc/hosts, and a variable.
            _ if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') => {
                refuse("holds a character that no host's name has")
            }
            _ => Ok(name.to_owned()),
        };
    }
    Ok(match (network, uts) {
        (_, Namespace::Host) | (Namespace::Host, _) => facts.hostname.to_owned(),
        (Namespace::Of(other), _) => other.hostname.clone(),
        // Of the id twelve digits, as it is shown everywhere.
        _ => facts.id.chars().take(12).collect(),
    })
}

impl Namespaces {
    /// `linux.namespaces`.
    pub fn written(&self) -> Vec<Value> {
        let rows = [
            ("pid", &self.pid),
            ("network", &self.network),
            ("ipc", &self.ipc),
            ("uts", &self.uts),
            ("cgroup", &self.cgroup),
        ];
        let file = |kind: &str| if kind == "network" { "net".to_owned() } else { kind.to_owned() };
        let made = rows.into_iter().filter_map(|(kind, namespace)| match namespace {
            Namespace::Own => Some(json!({ "type": kind })),
            Namespace::Host => None,
            Namespace::Of(other) => {
                Some(json!({"type": kind, "path": format!("/proc/{}/ns/{}", other.pid, file(kind))}))
            }
        });
        std::iter::once(json!({"type": "mount"})).chain(made).collect()
    }

    /// The mount of /dev/shm, `bytes` large.
    pub fn shm(&self, bytes: u64) -> Option<Mount> {
        let mount = Mount { destination: "/dev/shm".into(), ..Mount::default() };
        let bind = |source: String| Mount {
            kind: "bind".to_owned(),
            source: Some(source.into()),
            options: ["rbind", "rprivate"].map(String::from).to_vec(),
            ..mount.clone()
        };
        match self.shm {
            Shared::Nothing => None,
            Shared::Host => Some(bind("/dev/shm".to_owned())),
            Shared::Of(pid) => Some(bind(format!("/proc/{pid}/root/dev/shm"))),
            Shared::Own => {
                let words = ["nosuid", "noexec", "nodev", "mode=1777"].map(String::from);
                let options = words.into_iter().chain([format!("size={bytes}")]).collect();
                Some(Mount { kind: "tmpfs".to_owned(), source: Some("shm".into()), options, ..mount })
            }
        }
    }

    /// What an option asks that has no effect, a line each.
    pub fn warnings(&self, options: &Options) -> Vec<String> {
        let mut warnings = Vec::new();
        if !options.publish.is_empty() {
            let why = match self.network {
                Namespace::Host => {
                    "published ports are discarded when using host network mode: every port of the container is one of the host"
                }
                _ => "published ports are discarded: the container's network has no connection",
            };
            let words =
                options.publish.iter().map(|ports| if ports == ALL { "-P".to_owned() } else { format!("-p {ports}") });
            warnings.push(format!("{}: {why}", words.collect::<Vec<_>>().join(" ")));
        }
        warnings
    }

    /// What `--network container:` excludes.
    pub fn check(&self, options: &Options) -> Result<()> {
        let Namespace::Of(other) = &self.network else { return Ok(()) };
        let given = [
            ("--add-host", !options.add_host.is_empty()),
            ("--dns", !options.dns.is_empty()),
            ("-p", !options.publish.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(error!("{option}: is decided by the container {}, whose network is shared", other.name))
            }
            None => Ok(()),
        }
    }
}
