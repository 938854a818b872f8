//! Golden plans: what is asked, and the plan that answers it, side by side in one text file each.
//!
//! A file in `golden/` begins with a sentence (`#`), then what is asked beside the configuration, a word and its value per line,
//! then the part of config.json that differs from the base, as a JSON merge patch (RFC 7396). Below `---` stands the plan as `explain` prints
//! it, on a fixed host. A new case is a new file; what stands below `---` is written by
//!
//! ```console
//! $ UPDATE_GOLDEN=1 cargo test --lib plan::golden
//! $ git diff src/plan/golden
//! ```
//!
//! | word | value | without it |
//! |---|---|---|
//! | `base` | `spec`: what `corten spec` writes; `bare`: a shell in a mount namespace, nothing else | `bare` |
//! | `host` | `v2`, `v1` | `v2` |
//! | `verb` | `run`, `create`, `exec` | `run` |
//! | `console` | ROWSxCOLUMNS of the caller's terminal, or the path of a socket | no terminal here |
//! | `pid-file` | path | none |
//! | `pidfd-socket` | path | none |
//! | `preserve-fds` | number | 0 |
//! | `layers` | how many; the root is an image's, below `/store` | the bundle's directory |
//! | `kernel` | MAJOR.MINOR | 6.12 |
//! | `rm` | with `layers`: nothing is kept | |
//! | `no-pivot`, `no-new-keyring` | | |

use super::{Console, Plan, Request, Root, Start, container, exec, explain};
use crate::input::bundle;
use crate::input::config::{Config, ConsoleSize};
use crate::input::host::Host;
use crate::input::template;
use crate::setup::label::Keyring;
use crate::setup::overlay::{After, Overlay};
use crate::setup::program::Inherited;
use crate::setup::rootfs::Way;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a golden file asks.
pub struct Case {
    /// Its file's name without the end.
    pub name: String,
    /// The whole config.json.
    pub json: Value,
    /// The machine.
    pub host: Host,
    verb: String,
    console: Console,
    pid_file: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    preserve: u32,
    root: Root,
    way: Way,
    keyring: Keyring,
    /// The text up to and with `---`.
    head: String,
    /// The text below.
    expected: String,
}

impl Case {
    fn read(path: &Path) -> Case {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (head, expected) = text.split_once("\n---\n").unwrap_or_else(|| panic!("{name}: no line ---"));
        let (words, patch) = head.split_at(head.find("\n{").map_or_else(|| panic!("{name}: no JSON"), |at| at + 1));
        let words: Vec<(&str, &str)> = words
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| line.split_once(' ').unwrap_or((line, "")))
            .collect();
        words.iter().for_each(|(word, _)| assert!(KNOWN.contains(word), "{name}: {word}"));
        let word = |wanted| words.iter().find(|(word, _)| *word == wanted).map(|(_, value)| *value);
        let mut host = match word("host").unwrap_or("v2") {
            "v2" => Host::fixed(),
            "v1" => Host::fixed_v1(),
            other => panic!("{name}: host {other}"),
        };
        if let Some((major, minor)) = word("kernel").and_then(|version| version.split_once('.')) {
            host.kernel = (major.parse().unwrap(), minor.parse().unwrap());
        }
        let after = if word("rm").is_some() { After::Removed } else { After::Kept };
        let root = word("layers").map(|count| overlay(count.parse().unwrap(), after));
        let mut json = match word("base").unwrap_or("bare") {
            "bare" => bare(),
            "spec" => serde_json::from_str(&template::to_json(&template::spec_for(&host.cgroups))).unwrap(),
            other => panic!("{name}: base {other}"),
        };
        merge(&mut json, serde_json::from_str(patch).unwrap_or_else(|e| panic!("{name}: {e}")));
        let console = match word("console") {
            None => Console::Here(None),
            Some(path) if path.starts_with('/') => Console::Socket(path.into()),
            Some(size) => {
                let (height, width) = size.split_once('x').unwrap();
                Console::Here(Some(ConsoleSize { height: height.parse().unwrap(), width: width.parse().unwrap() }))
            }
        };
        Case {
            json,
            host,
            verb: word("verb").unwrap_or("run").to_owned(),
            console,
            pid_file: word("pid-file").map(PathBuf::from),
            pidfd_socket: word("pidfd-socket").map(PathBuf::from),
            preserve: word("preserve-fds").map_or(0, |n| n.parse().unwrap()),
            root: root.map_or(Root::Bundle, Root::Overlay),
            way: if word("no-pivot").is_some() { Way::Move } else { Way::Pivot },
            keyring: if word("no-new-keyring").is_some() { Keyring::Keep } else { Keyring::New },
            head: format!("{head}\n---\n"),
            expected: expected.to_owned(),
            name,
        }
    }

    /// The plan, by the whole way from the text of config.json.
    pub fn plan(&self) -> Plan {
        let text = serde_json::to_vec(&self.json).unwrap();
        let (config, warnings) = bundle::parse(&text).unwrap_or_else(|faults| panic!("{}: {faults:?}", self.name));
        assert_eq!(warnings, Vec::<String>::new(), "{}", self.name);
        self.plan_of(&config).unwrap_or_else(|faults| panic!("{}: {faults:?}", self.name))
    }

    fn plan_of(&self, config: &Config) -> Result<Plan, Vec<crate::input::Fault>> {
        let inherited = Inherited { descriptors: self.preserve, env: vec![] };
        let start = match self.verb.as_str() {
            "run" | "exec" => Start::AtOnce,
            "create" => Start::WhenTold,
            other => panic!("{}: verb {other}", self.name),
        };
        let request = Request {
            id: "web".into(),
            bundle: if self.root == Root::Bundle { "/bundle" } else { IMAGE_CONTAINER }.into(),
            start,
            console: self.console.clone(),
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            keyring: match self.keyring {
                Keyring::New => Keyring::Joined,
                other => other,
            },
            root: self.root.clone(),
            way: self.way,
            inherited: inherited.clone(),
        };
        let (plan, cgroup) = container(config, &self.host, &request)?;
        if self.verb != "exec" {
            return Ok(plan);
        }
        let process = config.process.clone().unwrap_or_default();
        let request = exec::Request {
            paused: false,
            filter: None,
            below: Vec::new(),
            before: crate::setup::user::Before::Root,
            id: "web".into(),
            keyring: self.keyring,
            init: 4121,
            console: self.console.clone(),
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            inherited,
        };
        exec::process(&process, config, &cgroup, &request)
    }

    fn answer(&self) -> String {
        explain::text(&self.plan(), &format!("{} web", self.verb), &self.host)
    }
}

/// The words of a golden file.
const KNOWN: [&str; 12] = [
    "base",
    "host",
    "kernel",
    "verb",
    "console",
    "pid-file",
    "pidfd-socket",
    "preserve-fds",
    "no-pivot",
    "no-new-keyring",
    "layers",
    "rm",
];

/// The directory of an image's container, which is its bundle too.
pub const IMAGE_CONTAINER: &str = "/store/containers/4af1";

/// The root of that container, from so many layers.
pub fn overlay(layers: usize, after: After) -> Overlay {
    let container = Path::new(IMAGE_CONTAINER);
    Overlay {
        store: "/store".into(),
        lower: (1..=layers).map(|n| format!("/store/layers/{n}").into()).collect(),
        upper: container.join("upper"),
        work: container.join("work"),
        after,
    }
}

/// A shell in a mount namespace of its own.
fn bare() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {"args": ["/bin/sh"], "cwd": "/", "env": ["HOME=/"], "noNewPrivileges": true},
        "root": {"path": "rootfs"},
        "linux": {
            "namespaces": [{"type": "mount"}],
            "resources": {"devices": [{"allow": true, "access": "rwm"}]}
        }
    })
}

/// RFC 7396: objects are merged, null removes, everything else replaces.
fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else { return *into = patch };
    if !into.is_object() {
        *into = json!({});
    }
    let into = into.as_object_mut().unwrap();
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.remove(&key)),
            value => merge(into.entry(key).or_insert(Value::Null), value),
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan/golden")
}

/// Every golden file, by name.
pub fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
        paths.sort();
        paths.iter().map(|path| Case::read(path)).collect()
    })
}

/// The first line that differs, with its number, from both.
fn difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    for number in 1.. {
        match (expected.next(), found.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => return format!("line {number}\n- {}\n+ {}", a.unwrap_or("(end)"), b.unwrap_or("(end)")),
        }
    }
    "only the line ends".into()
}

#[test]
fn plans_are_as_they_were() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut changed = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 30, "{} golden plans", cases.len());
    for case in cases {
        let found = case.answer();
        if found == case.expected {
            continue;
        }
        if update {
            let file = folder().join(format!("{}.txt", case.name));
            // Another test may be reading it.
            let aside = file.with_extension("new");
            std::fs::write(&aside, format!("{}{found}", case.head)).unwrap();
            std::fs::rename(&aside, &file).unwrap();
        } else {
            changed.push(format!("{}.txt below ---, {}", case.name, difference(&case.expected, &found)));
        }
    }
    let words = "UPDATE_GOLDEN=1 cargo test --lib plan::golden writes them anew, then read git diff";
    assert!(changed.is_empty(), "{} plans changed; {words}\n{}", changed.len(), changed.join("\n"));
}

#[test]
fn a_patch_merges_removes_and_replaces() {
    let mut into = json!({"a": {"b": 1, "c": [1, 2]}, "d": 1});
    merge(&mut into, json!({"a": {"b": null, "c": [3], "e": {"f": 1}}, "d": {"x": 1}}));
    assert_eq!(into, json!({"a": {"c": [3], "e": {"f": 1}}, "d": {"x": 1}}));
}
