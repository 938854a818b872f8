//! A place with an image made by umoci, a store, a root, and the program.

use serde_json::Value;
use std::cell::RefCell;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs};

/// What the image's program can be.
const APPLETS: [&str; 8] = ["sh", "sleep", "echo", "cat", "true", "id", "touch", "kill"];

/// How long something may take that takes no time, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A temporary directory, and what runs in it.
pub struct Place {
    dir: tempfile::TempDir,
    program: PathBuf,
    /// All ids that there were.
    ids: RefCell<Vec<String>>,
    /// Held by who has a container of a bundle: its cgroup has its id, whatever its `--root`.
    alone: RefCell<Option<MutexGuard<'static, ()>>>,
}

static BUNDLES: Mutex<()> = Mutex::new(());

/// What a call came to.
pub struct Done {
    pub out: String,
    pub err: String,
    pub code: i32,
}

/// Says why a test does not run.
pub fn place() -> Option<Place> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root runs containers");
        return None;
    }
    match Command::new("umoci").arg("--version").output() {
        Ok(_) => Some(Place::new()),
        Err(e) => {
            eprintln!("skipped: needs the program umoci: {e}");
            None
        }
    }
}

pub fn must(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("image-containers-").tempdir().unwrap();
        let built = env::var_os("CORTEN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_corten").into(), PathBuf::from);
        let place = Place {
            dir,
            program: std::path::absolute(built).unwrap(),
            ids: RefCell::default(),
            alone: RefCell::default(),
        };
        let root = place.path("bundle/rootfs");
        for name in ["bin", "etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        fs::copy(busybox.expect("busybox is installed"), root.join("bin/busybox")).unwrap();
        APPLETS.iter().for_each(|applet| symlink("busybox", root.join("bin").join(applet)).unwrap());
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let umoci = |words: &str| must(Command::new("umoci").current_dir(place.dir.path()).args(words.split(' ')));
        umoci("init --layout layout");
        umoci("new --image layout:bb");
        umoci("insert --image layout:bb bundle/rootfs /");
        umoci(
            "config --image layout:bb --config.cmd sleep --config.cmd 1000 --config.env A=b --config.label tier=web \
             --author somebody",
        );
        place
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// The image, as `run` takes it from its path.
    pub fn image(&self) -> String {
        format!("oci:{}:bb", self.path("layout").display())
    }

    pub fn command(&self, root: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.path(root)).env("CORTEN_STORE", self.path("store")).stdin(Stdio::null());
        command
    }

    /// The program with these words.
    pub fn call(&self, words: &[&str]) -> Done {
        self.call_below("root", words)
    }

    /// The same with another `--root`.
    pub fn call_below(&self, root: &str, words: &[&str]) -> Done {
        self.command(root).args(words).output().unwrap().into()
    }

    pub fn ok(&self, words: &[&str]) -> String {
        let done = self.call(words);
        assert_eq!(done.code, 0, "{words:?}: {}", done.err);
        done.out
    }

    /// It fails, with these words.
    #[track_caller]
    pub fn refused(&self, words: &[&str], why: &str) {
        let done = self.call(words);
        assert!(done.code != 0 && done.err.contains(why), "{words:?}: {} {}{}", done.code, done.out, done.err);
    }

    /// `run` with these options and this script, in the background; it has begun.
    pub fn begin(&self, name: &str, options: &[&str], script: &str) -> Child {
        let image = self.image();
        let words = ["run", "--name", name].into_iter().chain(options.iter().copied());
        let words = words.chain([image.as_str(), "sh", "-c", script]);
        let running = self.command("root").args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        soon(|| self.status(name) == "running");
        running
    }

    /// A container of the bundle, running.
    pub fn begin_bundle(&self, id: &str) {
        let mut alone = self.alone.borrow_mut();
        if alone.is_none() {
            *alone = Some(BUNDLES.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let bundle = self.path("bundle");
        if !bundle.join("config.json").exists() {
            must(Command::new(&self.program).args(["spec", "-b"]).arg(&bundle));
            let mut config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = serde_json::json!(["sleep", "1000"]);
            fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        }
        // Who keeps the pipe open would be waited for.
        let mut run = self.command("root");
        run.args(["run", "-d", "-b"]).arg(bundle).arg(id).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(run.status().unwrap().success());
        self.ids.borrow_mut().push(id.to_owned());
        // Its gate may close a moment after its program has begun.
        soon(|| self.ok(&["state", id]).contains("\"running\""));
    }

    /// Docker's word for what a container does; empty, there is none.
    pub fn status(&self, name: &str) -> String {
        let done = self.call(&["inspect", "--type", "container", "-f", "{{.Id}} {{.State.Status}}", name]);
        let Some((id, status)) = done.out.trim_end().split_once(' ') else { return String::new() };
        if !self.ids.borrow().iter().any(|known| known == id) {
            self.ids.borrow_mut().push(id.to_owned());
        }
        status.to_owned()
    }

    pub fn id(&self, name: &str) -> String {
        self.ok(&["inspect", "-f", "{{.Id}}", name]).trim_end().to_owned()
    }

    pub fn pid(&self, name: &str) -> i32 {
        self.ok(&["inspect", "-f", "{{.State.Pid}}", name]).trim_end().parse().unwrap()
    }

    /// What lies in a directory of the store.
    pub fn stored(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path("store").join(directory)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// At the end of a test nothing is left but files of the place.
impl Drop for Place {
    fn drop(&mut self) {
        let all = self.call(&["ps", "-aq", "--no-trunc"]).out;
        for id in all.lines() {
            self.call(&["rm", "-f", id]);
        }
        if std::thread::panicking() {
            return;
        }
        assert_eq!(self.call(&["ps", "-aq"]).out, "");
        assert_eq!(self.call(&["list", "-q"]).out, "");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "a mount is left");
        for id in self.ids.borrow().iter() {
            let mut places = vec![PathBuf::from("/sys/fs/cgroup")];
            places.extend(fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()));
            for place in places {
                assert!(!place.join(id).exists(), "a cgroup is left: {}", place.join(id).display());
            }
        }
    }
}

impl From<Output> for Done {
    fn from(done: Output) -> Done {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done { out: text(&done.stdout), err: text(&done.stderr), code: done.status.code().unwrap_or(-1) }
    }
}

/// A background `run` has come to its end.
#[track_caller]
pub fn ended(mut running: Child) -> Done {
    soon(|| running.try_wait().unwrap().is_some());
    running.wait_with_output().unwrap().into()
}

/// It becomes true before patience ends.
#[track_caller]
pub fn soon(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}
