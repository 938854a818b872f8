//! What the tests are written in: a place with a store, images that umoci makes, and the binary.

pub use crate::registry::{PASSWORD, Real, Speaks, Wants, has, run};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Says why a test does not run.
pub fn can(programs: &[&str]) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: unpacking sets owners, which takes root");
    }
    root && has(programs)
}

pub const MADE: [&str; 2] = ["umoci", "skopeo"];
pub const ALL: [&str; 3] = ["umoci", "skopeo", "docker-registry"];

/// What the binary did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub bytes: Vec<u8>,
}

impl Done {
    /// Its standard output, if it succeeded and had nothing to complain of.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// It failed as verbs on images do, without output, with these words in its error.
    #[track_caller]
    pub fn refused(self, words: &str) -> String {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{}", self.err);
        assert!(self.err.starts_with("corten: ") && self.err.contains(words), "{words:?} is not in: {}", self.err);
        self.err
    }
}

/// A directory with a store in it, and all that a verb asks of its surroundings.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("images-").tempdir().unwrap();
        fs::write(dir.path().join("registries.toml"), "").unwrap();
        Place { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The binary with this place's environment and nothing else.
    pub fn command(&self, args: &[&str]) -> Command {
        let built = std::env::var_os("CORTEN_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_corten").into());
        let mut command = Command::new(built);
        command.args(args).env_clear().current_dir(self.dir.path());
        for (name, value) in [
            ("PATH", std::env::var_os("PATH").unwrap()),
            ("HOME", self.path("home").into()),
            ("CORTEN_STORE", self.path("store").into()),
            ("CORTEN_REGISTRIES", self.path("registries.toml").into()),
            ("DOCKER_CONFIG", self.path("docker").into()),
        ] {
            command.env(name, value);
        }
        command
    }

    /// Runs it, without input.
    pub fn corten(&self, args: &[&str]) -> Done {
        self.fed(args, b"")
    }

    /// Runs it with this on standard input.
    pub fn fed(&self, args: &[&str], input: &[u8]) -> Done {
        self.run(self.command(args), input)
    }

    pub fn run(&self, mut command: Command, input: &[u8]) -> Done {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let done = child.wait_with_output().unwrap();
        feeder.join().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done {
            code: done.status.code().unwrap_or(-1),
            out: text(&done.stdout),
            err: text(&done.stderr),
            bytes: done.stdout,
        }
    }

    /// Makes an image by umoci, a layer for each list of files (name and content).
    pub fn umoci(&self, tag: &str, layers: &[&[(&str, &str)]], config: &[&str]) {
        let layout = self.at("layout");
        if !self.path("layout").exists() {
            run("umoci", &["init", "--layout", &layout]);
        }
        let image = format!("{layout}:{tag}");
        run("umoci", &["new", "--image", &image]);
        for (n, files) in layers.iter().enumerate() {
            let tree = self.path(&format!("tree-{tag}-{n}"));
            for (name, content) in *files {
                let path = tree.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            run("umoci", &["insert", "--image", &image, tree.to_str().unwrap(), "/data"]);
        }
        if !config.is_empty() {
            run("umoci", &[&["config", "--image", &image], config].concat());
        }
    }

    /// The usual image: two layers, a label, a time.
    pub fn usual(&self) {
        self.umoci(
            "it",
            &[&[("etc/one", "one"), ("big", &"x".repeat(200_000))], &[("etc/two", "two")]],
            &["--config.label", "tier=web", "--config.cmd", "/bin/sh", "--created", "2024-02-29T12:00:00Z"],
        );
    }

    /// `oci:LAYOUT:TAG`
    pub fn oci(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.at("layout"))
    }

    /// Puts an image of the layout into a registry, by skopeo, all platforms.
    pub fn put(&self, tag: &str, real: &Real, name: &str) {
        let to = format!("docker://{}/{name}", real.host);
        run("skopeo", &["copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", &self.oci(tag), &to]);
    }

    /// Makes an index of images of the layout, by architecture.
    pub fn index(&self, tag: &str, of: &[(&str, &str)]) {
        let path = self.path("layout/index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let entry = |image: &str| {
            let all = index["manifests"].as_array().unwrap();
            let same = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == image;
            all.iter().find(same).unwrap().clone()
        };
        let entries: Vec<Value> = of
            .iter()
            .map(|(image, architecture)| {
                let mut entry = entry(image);
                entry["platform"] = json!({"os": "linux", "architecture": architecture});
                entry.as_object_mut().unwrap().remove("annotations");
                entry
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let bytes = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
        let digest = crate::registry::sha256(bytes.as_bytes());
        fs::write(self.path("layout/blobs").join(digest.replace(':', "/")), &bytes).unwrap();
        let top = json!({"mediaType": kind, "digest": digest, "size": bytes.len(), "annotations": {"org.opencontainers.image.ref.name": tag}});
        index["manifests"].as_array_mut().unwrap().push(top);
        fs::write(&path, index.to_string()).unwrap();
    }

    /// Copies an image of the layout into the store, as an archive of Docker's made by skopeo.
    pub fn load(&self, tag: &str, name: &str) {
        let archive = self.at("load.tar");
        let _ = fs::remove_file(&archive);
        run("skopeo", &["copy", "-q", &self.oci(tag), &format!("docker-archive:{archive}:{name}")]);
        self.corten(&["load", "-q", "-i", &archive]).good();
    }

    /// The names in a directory of the store.
    pub fn stored(&self, below: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("store").join(below))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Files of all layers by their names, with content.
    pub fn layer_files(&self, name: &str) -> Vec<String> {
        let layers = self.stored("layers");
        let path = |layer: &String| self.path("store/layers").join(layer).join("diff").join(name);
        layers.iter().filter_map(|layer| fs::read_to_string(path(layer)).ok()).collect()
    }

    /// An image's id, all 64 digits.
    pub fn id(&self, name: &str) -> String {
        let id = self.corten(&["images", "-q", "--no-trunc", name]).good();
        id.trim().strip_prefix("sha256:").unwrap_or_else(|| panic!("{name}: {id:?}")).to_owned()
    }
}

/// What skopeo says of an image: `.Digest`, `.Layers`.
pub fn inspect(image: &str) -> Value {
    serde_json::from_str(&run("skopeo", &["inspect", "--tls-verify=false", image])).unwrap()
}

/// Nothing that was begun is left.
impl Drop for Place {
    fn drop(&mut self) {
        if !std::thread::panicking() && self.path("store/tmp").exists() {
            assert_eq!(self.stored("tmp"), [""; 0]);
        }
    }
}

pub fn exists(path: impl AsRef<OsStr>) -> bool {
    Path::new(path.as_ref()).exists()
}
