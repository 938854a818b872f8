//! A bundle in a folder of its own, with an id and a `--root` that no other test uses.
//!
//! ```text
//! /tmp/t-NAME-PID-N/
//!     bundle/rootfs/        busybox and its applets
//!     bundle/config.json    written anew before each run and create
//!     root/                 --root
//!     tmp/                  TMPDIR of the runtime
//!     out/                  what the programs wrote
//! ```

use super::call::{Call, Out, write};
use super::{base, leaks, runtime};
use serde_json::Value;
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bundle, and the session around it.
#[derive(Debug)]
pub struct Bundle {
    /// The container's id: `t-NAME-PID-N`. Whatever the test makes on the host carries it.
    pub id: String,
    /// The session's folder, `/tmp/ID`.
    pub home: PathBuf,
    /// What config.json will hold.
    pub spec: Value,
    /// The runtime that is driven.
    pub binary: PathBuf,
    raw_config: bool,
}

impl Bundle {
    /// A bundle whose root holds busybox.
    pub fn busybox() -> Bundle {
        let bundle = Bundle::empty();
        let rootfs = bundle.rootfs();
        for dir in ["bin", "dev", "proc", "sys", "etc", "root", "tmp", "home", "run", "usr", "var", "mnt"] {
            std::fs::create_dir(rootfs.join(dir)).expect("rootfs");
        }
        std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("chmod");
        // A copy, not a link: the container's root may write to it.
        std::fs::copy(host_busybox(), rootfs.join("bin/busybox")).expect("busybox-static is installed");
        for applet in applets() {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("symlink");
        }
        write(&rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/home:/bin/sh\n");
        write(&rootfs.join("etc/group"), "root:x:0:\ntty:x:5:\nstaff:x:50:nobody\nnogroup:x:65534:\n");
        bundle
    }

    /// A bundle whose root is an empty directory.
    pub fn empty() -> Bundle {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = test_word();
        // A fixed width, so that no id is the beginning of another.
        let id = format!("t-{name}-{:05}-{:03}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let home = Path::new("/tmp").join(&id);
        std::fs::create_dir(&home).unwrap_or_else(|e| panic!("{}: {e}", home.display()));
        for dir in ["bundle", "bundle/rootfs", "root", "tmp", "out"] {
            std::fs::create_dir(home.join(dir)).expect("session folder");
        }
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o755)).expect("chmod");
        Bundle { spec: base::spec(&id), id, home, binary: runtime().path.clone(), raw_config: false }
    }

    /// The program and its arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Bundle {
        self.spec["process"]["args"] = args.into_iter().map(Into::into).collect::<Vec<String>>().into();
        self
    }

    /// The program is a shell with this script.
    pub fn sh(self, script: &str) -> Bundle {
        self.args(["sh", "-c", script])
    }

    /// Changes the configuration.
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Bundle {
        change(&mut self.spec);
        self
    }

    /// Writes this instead of a configuration, whatever it is.
    pub fn raw_config(mut self, text: impl AsRef<[u8]>) -> Bundle {
        write(&self.dir().join("config.json"), text);
        self.raw_config = true;
        self
    }

    /// Adds a file to the root: path, mode, contents. Its directories are made.
    pub fn file(self, path: &str, mode: u32, text: impl AsRef<[u8]>) -> Bundle {
        let file = self.in_rootfs(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("mkdir");
        write(&file, text);
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("chmod");
        self
    }

    /// The container gets all capabilities that this machine has.
    pub fn privileged(self) -> Bundle {
        let all: Vec<String> = super::host::capabilities();
        self.edit(|spec| {
            let caps = &mut spec["process"]["capabilities"];
            for set in ["bounding", "effective", "permitted"] {
                caps[set] = all.clone().into();
            }
        })
    }

    /// The host's /usr, read-only: perl makes any system call.
    pub fn with_usr(self) -> Bundle {
        for dir in ["lib", "lib64"] {
            symlink(format!("usr/{dir}"), self.in_rootfs(dir)).expect("symlink");
        }
        self.edit(|spec| base::add_mount(spec, base::bind("/usr", "/usr", &["rbind", "ro"])))
    }

    /// A new user namespace: root inside is 100000 outside, and owns the root directory.
    pub fn user_namespace(self) -> Bundle {
        self.own_rootfs(100_000).edit(|spec| {
            base::add_namespace(spec, "user", None);
            let map = serde_json::json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["uidMappings"] = map.clone();
            spec["linux"]["gidMappings"] = map;
        })
    }

    /// Gives everything in the root directory to a user.
    pub fn own_rootfs(self, uid: u32) -> Bundle {
        self.shell(&format!("chown -hR {uid}:{uid} bundle/rootfs")).ok();
        self
    }

    /// Removes the cgroup of a deleted container where the runtime is runc, which does not wait for the processes that it
    /// kills without a pid namespace or after an error, and so leaves it now and then.
    pub fn runc_leaves_its_cgroup(&self) {
        if !runtime().is_corten() {
            let limit = super::seconds(1);
            for dir in super::host::cgroups_named(&self.id) {
                super::within(limit, || std::fs::remove_dir(&dir).is_ok() || !dir.exists());
            }
        }
    }

    /// Drives a copy of a binary instead, which a test may lose.
    pub fn with_copy_of(mut self, binary: &Path) -> Bundle {
        let copy = self.home.join("copy");
        std::fs::copy(binary, &copy).expect("copy");
        self.binary = copy;
        self
    }

    /// The bundle's directory.
    pub fn dir(&self) -> PathBuf {
        self.home.join("bundle")
    }

    /// The bundle's root directory.
    pub fn rootfs(&self) -> PathBuf {
        self.home.join("bundle/rootfs")
    }

    /// A path of the container as the host sees it.
    pub fn in_rootfs(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// The runtime's `--root`.
    pub fn root(&self) -> PathBuf {
        self.home.join("root")
    }

    /// A file or folder of the test's own, below the session's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Makes a folder below the session's.
    pub fn mkdir(&self, name: &str) -> PathBuf {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).expect("mkdir");
        dir
    }

    /// Writes config.json, unless the test has written its own.
    pub fn write_config(&self) {
        self.write_config_of(&self.id);
    }

    /// The same for another container of this bundle: its cgroup is named after its id.
    fn write_config_of(&self, id: &str) {
        if self.raw_config {
            return;
        }
        let mut spec = self.spec.clone();
        let path = &mut spec["linux"]["cgroupsPath"];
        if *path == format!("/{}", self.id) {
            *path = format!("/{id}").into();
        }
        // Renamed into place: another call may be reading it.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let new = self.home.join("out").join(format!("config-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        write(&new, serde_json::to_string_pretty(&spec).expect("JSON"));
        std::fs::rename(new, self.dir().join("config.json")).expect("rename");
    }

    /// The runtime with its `--root`.
    pub fn call<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Call {
        self.host(&self.binary).args([OsStr::new("--root"), self.root().as_os_str()]).args(args)
    }

    /// The runtime with its `--root`: `b.cli(["state", &b.id])`.
    #[track_caller]
    pub fn cli<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Out {
        self.call(args).run()
    }

    /// A program of the host.
    pub fn host(&self, program: impl AsRef<OsStr>) -> Call {
        let call = Call::new(program, &self.home.join("out")).env("TMPDIR", self.home.join("tmp")).cwd(&self.home);
        // Not the host's: what lies in its store is no test's.
        call.env("CORTEN_STORE", self.home.join("no-store"))
    }

    /// A script for the host's shell, in the session's folder.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Out {
        self.host("/bin/sh").args(["-c", script]).run()
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(&self) -> Out {
        self.run_with::<&str>([])
    }

    /// `run` with further options.
    #[track_caller]
    pub fn run_with<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> Out {
        self.run_call(options).run()
    }

    /// `run`, not yet started.
    pub fn run_call<S: AsRef<OsStr>>(&self, options: impl IntoIterator<Item = S>) -> Call {
        self.write_config();
        let dir = self.dir();
        self.call([OsStr::new("run"), OsStr::new("--bundle"), dir.as_os_str()]).args(options).args([&self.id])
    }

    /// `create`, not yet started.
    pub fn create_call<S: AsRef<OsStr>>(&self, id: &str, options: impl IntoIterator<Item = S>) -> Call {
        self.write_config_of(id);
        let dir = self.dir();
        self.call([OsStr::new("create"), OsStr::new("--bundle"), dir.as_os_str()]).args(options).args([id])
    }

    /// Forces away every container of this session, then checks that nothing is left.
    fn clean(&self) -> Result<(), String> {
        for id in leaks::state_ids(&self.root()) {
            let out = self.cli(["delete", "--force", &id]);
            if out.status != 0 {
                let _ = self.cli(["delete", "--force", &id]);
                return Err(format!("delete --force{}", out.tell()));
            }
        }
        if !leaks::inside(&self.root()).is_empty() {
            // A killed create may leave a directory without an id; the next delete sweeps.
            let _ = self.cli(["delete", "--force", &self.id]);
        }
        leaks::check(&self.id, &self.home)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let left = match std::thread::panicking() {
            true => {
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.clean()));
                Ok(())
            }
            false => self.clean(),
        };
        leaks::remove_all(&self.id, &self.home);
        if std::env::var_os("CORTEN_KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.home);
        }
        if let Err(left) = left {
            panic!("left behind by {}: {left}", self.id);
        }
    }
}

/// The host's static busybox.
pub fn host_busybox() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let places = ["/bin/busybox", "/usr/bin/busybox"];
        places.iter().map(PathBuf::from).find(|p| p.exists()).expect("busybox-static is installed")
    })
}

fn applets() -> &'static [String] {
    static LIST: OnceLock<Vec<String>> = OnceLock::new();
    LIST.get_or_init(|| {
        let out = std::process::Command::new(host_busybox()).arg("--list").output().expect("busybox --list");
        String::from_utf8_lossy(&out.stdout).lines().filter(|a| *a != "busybox").map(str::to_owned).collect()
    })
}

/// The test's name, short, in the letters of an id. libtest names its threads after the tests.
fn test_word() -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("main").rsplit("::").next().unwrap_or("main").replace('_', "-");
    name.chars().take(40).collect()
}
