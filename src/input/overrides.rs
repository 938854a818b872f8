//! Docker's habits on a bundle: what the command line changes in the configuration, in memory. config.json is not rewritten.
//!
//! | option | what it changes |
//! |---|---|
//! | `-t` | `process.terminal`, and TERM=xterm where there is none |
//! | `-e KEY=VALUE`, `-e KEY` | `process.env`; the second form takes the caller's value, and removes the variable where the caller has none |
//! | `-w DIR` | `process.cwd` |
//! | `-u USER[:GROUP]` | `process.user`, see [`user`](super::user) |
//! | `--entrypoint X [ARG…]` | `process.args` becomes X and the arguments; empty: the arguments alone |
//! | `[ARG…]` | `process.args` becomes the arguments: an image has an entrypoint apart from its command, a bundle has not |
//! | `--mount …` | `mounts`; an existing mount on the same target is replaced, where it stands |
//! | `--network host`, `none` | without the network namespace, or with a new one |
//! | `--hostname NAME` | `hostname`; needs a uts namespace |
//!
//! Try it by hand: `corten explain -b b --mount type=bind,source=.,target=/here`. What goes wrong: a changed configuration can contradict itself
//! (a `net.*` sysctl, but the host's network), so it is checked again as a whole.

use super::bundle::faults_error;
use super::check::check;
use super::config::{Config, Mount, Namespace, NamespaceKind, Process};
use super::place::{Report, quote};
use super::user::UserRequest;
use super::variables::{self, apply_variable};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// What an option may take from whoever typed it.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The directory that relative sources are relative to.
    pub dir: PathBuf,
    /// The environment, for `-e KEY`.
    pub env: BTreeMap<String, String>,
}

impl Caller {
    /// This process. Variables that are not UTF-8 are left out, because config.json cannot hold them.
    pub fn here() -> Result<Caller> {
        let dir = std::env::current_dir().map_err(|error| Error::new(format!("the current directory: {error}")))?;
        let env =
            std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Ok(Caller { dir, env: env.collect() })
    }
}

/// The options as they were typed.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Who typed them.
    pub caller: Caller,
    /// `-t`
    pub terminal: bool,
    /// `--mount`, each as given.
    pub mounts: Vec<String>,
    /// `--entrypoint`
    pub entrypoint: Option<String>,
    /// The positional arguments.
    pub args: Vec<String>,
    /// `-e`, each as given.
    pub env: Vec<String>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`
    pub user: Option<String>,
    /// `--hostname`
    pub hostname: Option<String>,
    /// `--network`
    pub network: Option<String>,
}

impl Overrides {
    /// Was none typed? Then the configuration is what it was, and was checked as that.
    pub fn is_nothing(&self) -> bool {
        self.nothing_for_process() && self.mounts.is_empty() && self.hostname.is_none() && self.network.is_none()
    }

    fn nothing_for_process(&self) -> bool {
        !self.terminal
            && self.entrypoint.is_none()
            && self.args.is_empty()
            && self.env.is_empty()
            && self.workdir.is_none()
            && self.user.is_none()
    }

    /// Applies every option; the configuration is half changed after an error. A user that must be looked up is left to
    /// [`Overrides::user_request`], because that needs the container's files.
    pub fn apply(&self, config: &mut Config) -> Result<()> {
        self.apply_to_process(config)?;
        for text in &self.mounts {
            let mount =
                parse_mount(text, &self.caller.dir).map_err(|error| error.at(format!("--mount {}", quote(text))))?;
            place_mount(&mut config.mounts, mount);
        }
        if let Some(network) = &self.network {
            apply_network(network, config)?;
        }
        if let Some(name) = &self.hostname {
            apply_hostname(name, config)?;
        }
        let mut report = Report::default();
        check(config, &mut report);
        if report.faults.is_empty() {
            Ok(())
        } else {
            Err(faults_error(&report.faults, "the configuration with these options"))
        }
    }

    /// The user that has to be resolved against the container's files; `None` if there is none, or if two numbers say it all.
    pub fn user_request(&self) -> Result<Option<UserRequest>> {
        let request = self.user.as_deref().map(UserRequest::parse).transpose()?;
        Ok(request.filter(|request| request.fixed().is_none()))
    }

    fn apply_to_process(&self, config: &mut Config) -> Result<()> {
        if self.nothing_for_process() {
            return Ok(());
        }
        let Some(process) = &mut config.process else {
            return Err(Error::new("config.json has no process that these options could change"));
        };
        self.apply_command(process)?;
        if !self.env.is_empty() {
            let set = |env: &mut Vec<String>| {
                self.env.iter().try_for_each(|entry| apply_variable(entry, &self.caller.env, env))
            };
            variables::edit(&mut process.env, set)?;
        }
        if self.terminal {
            process.terminal = true;
            if process.env.value("TERM").is_none() {
                Rc::make_mut(&mut process.env).push("TERM=xterm");
            }
        }
        if let Some(dir) = &self.workdir {
            if !dir.starts_with('/') {
                return Err(Error::new(format!("working directory {}: not an absolute path", quote(dir))));
            }
            process.cwd = dir.into();
        }
        if let Some(text) = &self.user
            && let Some(user) = UserRequest::parse(text)?.fixed()
        {
            process.user = super::config::User { umask: process.user.umask, ..user };
        }
        Ok(())
    }

    fn apply_command(&self, process: &mut Process) -> Result<()> {
        let entrypoint = self.entrypoint.iter().filter(|program| !program.is_empty()).cloned();
        if self.entrypoint.is_some() || !self.args.is_empty() {
            process.args = entrypoint.chain(self.args.iter().cloned()).collect();
        }
        match process.args.first() {
            None => Err(Error::new("no program to run: --entrypoint is empty, and there are no arguments")),
            Some(program) if program.is_empty() => Err(Error::new("no program to run: its name is empty")),
            Some(_) => Ok(()),
        }
    }
}

fn place_mount(mounts: &mut Vec<Mount>, mount: Mount) {
    // In place: a new /dev at the end of the list would cover /dev/pts.
    match mounts.iter_mut().rfind(|old| normal(&old.destination) == normal(&mount.destination)) {
        Some(old) => *old = mount,
        None => mounts.push(mount),
    }
}

fn normal(path: &Path) -> Vec<Component<'_>> {
    path.components().collect()
}

fn apply_network(network: &str, config: &mut Config) -> Result<()> {
    let namespaces = &mut config.linux.namespaces;
    let at = namespaces.iter().position(|namespace| namespace.kind == NamespaceKind::Network);
    match (network, at) {
        ("host", at) => {
            if let Some(at) = at {
                namespaces.remove(at);
            }
            // sysfs shows the network devices of a namespace, and only who owns that namespace may mount it: a new user
            // namespace does not own the host's, so it gets the host's mount instead, as Podman does.
            let in_user_namespace = namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::User);
            for mount in config.mounts.iter_mut().filter(|mount| in_user_namespace && mount.kind == "sysfs") {
                mount.kind = "none".to_owned();
                mount.source = Some("/sys".into());
                mount.options.push("rbind".to_owned());
            }
            Ok(())
        }
        ("none", Some(at)) => {
            namespaces[at].path = None;
            Ok(())
        }
        ("none", None) => {
            namespaces.push(Namespace { kind: NamespaceKind::Network, path: None });
            Ok(())
        }
        _ => Err(Error::new(format!("--network {}: this version of Corten has host and none", quote(network)))),
    }
}

fn apply_hostname(name: &str, config: &mut Config) -> Result<()> {
    let wrong = |cause: &str| Err(Error::new(format!("--hostname {}: {cause}", quote(name))));
    if name.is_empty() {
        return wrong("is empty");
    }
    if name.len() > 64 {
        return wrong("has more than 64 bytes");
    }
    if !config.linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Uts) {
        return wrong("there is no uts namespace, so it would rename the host");
    }
    config.hostname = Some(name.to_owned());
    Ok(())
}

/// config.json as it would be written with the options in it: what the state keeps, and what `exec` and `inspect` read later.
/// Only what an option can change is replaced; everything else stays as it was, also what Corten does not know.
pub fn written(raw: Vec<u8>, config: &Config) -> Result<Vec<u8>> {
    use serde_json::{Value, json};
    let mut document: Value =
        serde_json::from_slice(&raw).map_err(|error| Error::new(format!("config.json: {error}")))?;
    // It may have 16 MiB, and there will be another.
    drop(raw);
    // Keys match whatever their case: another spelling of a key goes, or it would stand beside ours.
    fn set(object: &mut Value, key: &str, value: Value) {
        if let Some(object) = object.as_object_mut() {
            object.retain(|old, _| !old.eq_ignore_ascii_case(key));
            object.insert(key.to_owned(), value);
        }
    }
    fn take(object: &mut Value, key: &str) -> Value {
        let object = object.as_object_mut();
        let taken = object.and_then(|object| {
            let name = object.keys().find(|old| old.eq_ignore_ascii_case(key)).cloned()?;
            object.remove(&name)
        });
        taken.unwrap_or_else(|| json!({}))
    }
    if let Some(changed) = &config.process {
        let mut process = take(&mut document, "process");
        set(&mut process, "terminal", changed.terminal.into());
        set(&mut process, "args", changed.args.clone().into());
        set(&mut process, "env", json!(*changed.env));
        set(&mut process, "cwd", json!(changed.cwd));
        let mut user =
            json!({"uid": changed.user.uid, "gid": changed.user.gid, "additionalGids": changed.user.additional_gids});
        if let Some(umask) = changed.user.umask {
            set(&mut user, "umask", umask.into());
        }
        set(&mut process, "user", user);
        set(&mut document, "process", process);
    }
    let mounts: Vec<Value> = config.mounts.iter().map(write_mount).collect();
    set(&mut document, "mounts", mounts.into());
    if let Some(name) = &config.hostname {
        set(&mut document, "hostname", name.clone().into());
    }
    let mut linux = take(&mut document, "linux");
    let namespaces: Vec<Value> = config.linux.namespaces.iter().map(write_namespace).collect();
    set(&mut linux, "namespaces", namespaces.into());
    set(&mut document, "linux", linux);
    Ok(document.to_string().into_bytes())
}

fn write_mount(mount: &Mount) -> serde_json::Value {
    use serde_json::json;
    let mapping =
        |m: &super::config::IdMapping| json!({"containerID": m.container_id, "hostID": m.host_id, "size": m.size});
    let mut value = json!({"destination": mount.destination, "type": mount.kind, "options": mount.options});
    if let Some(source) = &mount.source {
        value["source"] = json!(source);
    }
    for (key, mappings) in [("uidMappings", &mount.uid_mappings), ("gidMappings", &mount.gid_mappings)] {
        if !mappings.is_empty() {
            value[key] = mappings.iter().map(mapping).collect();
        }
    }
    value
}

fn write_namespace(namespace: &Namespace) -> serde_json::Value {
    use serde_json::json;
    let kind = match namespace.kind {
        NamespaceKind::User => "user",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Mount => "mount",
        NamespaceKind::Network => "network",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Uts => "uts",
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Time => "time",
    };
    match &namespace.path {
        Some(path) => json!({"type": kind, "path": path}),
        None => json!({"type": kind}),
    }
}

/// Options of the mounts that `--mount` makes, as Docker sets them.
const TMPFS_OPTIONS: [&str; 3] = ["noexec", "nosuid", "nodev"];
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Reads one `--mount`. The words are those of `docker run --mount`: comma-separated, a part with a comma in double quotes.
///
/// A bind is recursive and private, and its `readonly` holds for the mounts below it too, as with Docker on this kernel.
pub fn parse_mount(text: &str, caller_dir: &Path) -> Result<Mount> {
    let mut words: BTreeMap<&str, String> = BTreeMap::new();
    for part in split_csv(text)? {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key.trim().to_owned(), value.to_owned()),
            None => (part.trim().to_owned(), String::new()),
        };
        let has_value = part.contains('=');
        let (name, value) = match key.as_str() {
            "type" => ("type", value),
            "source" | "src" => ("source", value),
            "target" | "dst" | "destination" => ("target", value),
            "readonly" | "ro" => ("readonly", if has_value { value } else { "true".to_owned() }),
            "bind-propagation" => ("bind-propagation", value),
            "bind-recursive" => ("bind-recursive", value),
            "bind-nonrecursive" => ("bind-nonrecursive", if has_value { value } else { "true".to_owned() }),
            // A hint for Docker's desktop.
            "consistency" => ("consistency", value),
            "tmpfs-size" => ("tmpfs-size", value),
            "tmpfs-mode" => ("tmpfs-mode", value),
            _ => return Err(Error::new(format!("{} is unknown", quote(&key)))),
        };
        if value.is_empty() {
            return Err(Error::new(format!("{name} has no value")));
        }
        if words.insert(name, value).is_some() {
            return Err(Error::new(format!("{name} is given twice")));
        }
    }
    let readonly = match words.get("readonly").map(String::as_str) {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(other) => return Err(Error::new(format!("readonly is true or false, not {}", quote(other)))),
    };
    let Some(target) = words.get("target") else { return Err(Error::new("has no target")) };
    if !target.starts_with('/') {
        return Err(Error::new(format!("target {} is not an absolute path", quote(target))));
    }
    if normal(Path::new(target)) == [Component::RootDir] {
        return Err(Error::new("target / is the root itself"));
    }
    let mount = Mount { destination: target.into(), ..Mount::default() };
    match words.get("type").map(String::as_str) {
        Some("bind") => bind(mount, &words, readonly, caller_dir),
        Some("tmpfs") => tmpfs(mount, &words, readonly),
        None => Err(Error::new("has no type; without one it is a volume, which this version of Corten does not have")
            .hint("type=bind or type=tmpfs")),
        Some("volume") => Err(Error::new("type volume: this version of Corten has bind and tmpfs")),
        Some(other) => Err(Error::new(format!("type {}: this version of Corten has bind and tmpfs", quote(other)))),
    }
}

type Words<'a> = BTreeMap<&'a str, String>;

fn refuse(words: &Words, names: &[&str], kind: &str) -> Result<()> {
    match names.iter().find(|name| words.contains_key(**name)) {
        Some(name) => Err(Error::new(format!("{name} is not for type {kind}"))),
        None => Ok(()),
    }
}

fn bind(mount: Mount, words: &Words, readonly: bool, caller_dir: &Path) -> Result<Mount> {
    refuse(words, &["tmpfs-size", "tmpfs-mode"], "bind")?;
    let Some(source) = words.get("source") else { return Err(Error::new("type bind has no source")) };
    let propagation = words.get("bind-propagation").map_or("rprivate", String::as_str);
    if !PROPAGATIONS.contains(&propagation) {
        return Err(Error::new(format!("bind-propagation is one of {}", PROPAGATIONS.join(", "))));
    }
    // What is below the source comes along, and is read-only with it, unless this says otherwise.
    let recursive =
        match (words.get("bind-recursive").map(String::as_str), words.get("bind-nonrecursive").map(String::as_str)) {
            (Some(_), Some(_)) => return Err(Error::new("bind-recursive and bind-nonrecursive exclude each other")),
            (None | Some("enabled"), None | Some("false" | "0")) => ("rbind", "rro"),
            (Some("disabled"), None) | (None, Some("true" | "1")) => ("bind", "ro"),
            (Some("writable"), None) => ("rbind", "ro"),
            (Some("readonly"), None) if readonly => ("rbind", "rro"),
            (Some("readonly"), None) => return Err(Error::new("bind-recursive=readonly needs readonly")),
            (Some(_), None) => {
                return Err(Error::new("bind-recursive is one of enabled, disabled, writable, readonly"));
            }
            (None, Some(other)) => {
                return Err(Error::new(format!("bind-nonrecursive is true or false, not {}", quote(other))));
            }
        };
    let mut options = vec![recursive.0.to_owned(), propagation.to_owned()];
    if readonly {
        options.push(recursive.1.to_owned());
    }
    Ok(Mount { kind: "bind".to_owned(), source: Some(caller_dir.join(source)), options, ..mount })
}

fn tmpfs(mount: Mount, words: &Words, readonly: bool) -> Result<Mount> {
    refuse(words, &["source", "bind-propagation", "bind-recursive", "bind-nonrecursive"], "tmpfs")?;
    let mut options: Vec<String> = TMPFS_OPTIONS.map(String::from).to_vec();
    if readonly {
        options.push("ro".to_owned());
    }
    if let Some(size) = words.get("tmpfs-size") {
        let bytes =
            bytes(size).ok_or_else(|| Error::new(format!("tmpfs-size {} is not a size as 64m", quote(size))))?;
        options.push(format!("size={bytes}"));
    }
    if let Some(mode) = words.get("tmpfs-mode") {
        let octal = !mode.is_empty() && mode.bytes().all(|b| b.is_ascii_digit());
        let number = octal.then(|| u32::from_str_radix(mode, 8).ok()).flatten().filter(|mode| *mode <= 0o7777);
        let number =
            number.ok_or_else(|| Error::new(format!("tmpfs-mode {} is not an octal mode as 1777", quote(mode))))?;
        options.push(format!("mode={number:o}"));
    }
    Ok(Mount { kind: "tmpfs".to_owned(), source: Some("tmpfs".into()), options, ..mount })
}

/// `64m`, `1.5g`, `65536`, `64MiB`, `64 mb`: powers of 1024, as Docker reads them. What is left of a byte is dropped.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    let (whole, fraction) = match number.split_once('.') {
        None => (number, 0),
        // Nine digits are more than anybody writes, and fit.
        Some((whole, digits)) if (1..=9).contains(&digits.len()) => {
            let fraction = (digits.parse::<u128>().ok()? << shift) / 10_u128.pow(digits.len() as u32);
            (whole, u64::try_from(fraction).ok()?)
        }
        Some(_) => return None,
    };
    whole.parse::<u64>().ok()?.checked_mul(1 << shift)?.checked_add(fraction)
}

/// The fields of one line of comma-separated values; a field in double quotes may hold commas, and `""` for a quote.
fn split_csv(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("never empty");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    if quoted {
        return Err(Error::new("a quote is not closed"));
    }
    if fields.iter().any(|field| field.is_empty()) {
        return Err(Error::new("has an empty part"));
    }
    Ok(fields)
}

#[cfg(test)]
#[path = "overrides_tests.rs"]
mod tests;
