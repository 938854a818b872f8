//! What the tests are written in: a folder in which scripts find Corten and everybody else, each with a store of its own.

use crate::dockerd::Dockerd;
use crate::harness::{Bundle, Call, Out, host, seconds};
use crate::registry::Real;
use crate::root;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Longest that a script may take: a debug build unpacks 200 MB in minutes.
const PATIENCE: u64 = 240;

/// How podman, buildah and skopeo are kept apart from the machine's. The host's limits cannot be raised everywhere, as podman's default would;
/// crun, its usual runtime, refuses hybrid cgroups; locks would lie in /dev/shm.
const CONTAINERS: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "HOME/podman/tmp"
"#;

/// A `runroot` of more than 50 characters makes the end of each container take 20 s: tests with podman have short names.
const STORAGE: &str = r#"[storage]
driver = "overlay"
graphroot = "HOME/podman/store"
runroot = "HOME/podman/run"
"#;

/// A mount namespace whose /etc is the host's with the test's own over it. What is written there goes into memory.
const APART: &str = r#"set -e
mount -t tmpfs apart "$APART"
mkdir "$APART/work"
cp -r etc "$APART/etc"
mount -t overlay -o "lowerdir=/etc,upperdir=$APART/etc,workdir=$APART/work" apart /etc
[ ! -d /var/lib/containers ] || mount -t tmpfs apart /var/lib/containers
exec "$@""#;

/// A test's folder. Its `bin/corten` is the binary with a `--root` of the folder.
pub struct Place {
    b: Bundle,
}

/// A place where these programs are, or the test's end.
macro_rules! place {
    ($($program:expr),*) => {
        match $crate::kit::Place::new(&["umoci", "docker-registry", $($program),*]) {
            Ok(place) => place,
            Err(why) => skip!("{why}"),
        }
    };
}

impl Place {
    /// `Err` says what is missing.
    pub fn new(programs: &[&str]) -> Result<Place, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root runs containers".to_owned());
        }
        if let Some(missing) = programs.iter().find(|program| !host::has_program(program)) {
            return Err(format!("{missing} is not installed"));
        }
        root::root()?;
        let place = Place { b: Bundle::empty() };
        for dir in ["apart", "bin", "etc", "home", "dockerd", "podman/tmp"] {
            place.b.mkdir(dir);
        }
        let corten =
            format!("#!/bin/sh\nexec {} --root {} \"$@\"\n", place.b.binary.display(), place.b.root().display());
        place.write("bin/corten", &corten);
        fs::set_permissions(place.path("bin/corten"), PermissionsExt::from_mode(0o755)).unwrap();
        let home = place.b.home.display().to_string();
        place.write("containers.conf", &CONTAINERS.replace("HOME", &home));
        place.write("storage.conf", &STORAGE.replace("HOME", &home));
        place.write("registries.toml", "");
        // buildah wants it to be there.
        place.write("home/.docker/config.json", "{}");
        Ok(place)
    }

    /// A file of the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.b.path(name)
    }

    /// Writes a file of the folder.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// What every program of the test finds in its environment.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let at = |name: &str| self.path(name).display().to_string();
        let path = std::env::var("PATH").unwrap();
        vec![
            ("PATH", format!("{}:{path}", at("bin"))),
            ("HOME", at("home")),
            ("ID", self.b.id.clone()),
            ("DEBIAN", root::root().unwrap().display().to_string()),
            ("APART", at("apart")),
            ("CORTEN_STORE", at("store")),
            ("CORTEN_REGISTRIES", at("registries.toml")),
            ("DOCKER_CONFIG", at("home/.docker")),
            ("DOCKER_HOST", format!("unix://{}", at("dockerd/sock"))),
            // The builder that needs no plugin.
            ("DOCKER_BUILDKIT", "0".to_owned()),
            ("CONTAINERS_CONF", at("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", at("storage.conf")),
            ("BUILDAH_ISOLATION", "chroot".to_owned()),
        ]
    }

    /// A program of the host.
    pub fn host(&self, program: &str) -> Call {
        let call = self.b.host(program).timeout(seconds(PATIENCE));
        self.environment().into_iter().fold(call, |call, (name, value)| call.env(name, value))
    }

    /// `corten` with these words.
    #[track_caller]
    pub fn corten(&self, words: &[&str]) -> Out {
        self.host(self.path("bin/corten").to_str().unwrap()).args(words).run()
    }

    /// A script, which must succeed.
    #[track_caller]
    pub fn shell(&self, script: &str) -> Out {
        self.host("sh").args(["-euc", script]).run().ok()
    }

    /// The same where /etc is the test's: certificates lie where each program looks for them.
    #[track_caller]
    pub fn apart(&self, script: &str) -> Out {
        let words = ["--mount", "--propagation", "private", "sh", "-c", APART, "sh", "sh", "-euc", script];
        self.host("unshare").args(words).run().ok()
    }

    /// A dockerd there.
    pub fn dockerd(&self) -> Result<Dockerd, String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", APART, "sh", "dockerd"]);
        command.current_dir(&self.b.home).envs(self.environment());
        Dockerd::start(command, &self.path("dockerd"), &self.b.id, &serde_json::json!({}))
    }

    /// Corten, docker, and podman with its relatives trust a registry's private authority.
    pub fn trust(&self, real: &Real) {
        for who in ["corten", "docker", "containers"] {
            let dir = self.b.mkdir(&format!("etc/{who}/certs.d/{}", real.host));
            fs::copy(real.path("ca.crt"), dir.join("ca.crt")).unwrap();
        }
    }

    /// The Debian root as `debian.tar`, without what no test reads: 97 of 230 MB.
    pub fn slim(&self) {
        self.shell(
            "tar -C $DEBIAN --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./usr/share/perl \
             --exclude=./usr/share/zoneinfo --exclude=./var/cache/* --exclude=./var/lib/apt/* --exclude=./usr/lib/*/gconv --exclude=./usr/lib/*/perl* \
             --exclude=__pycache__ -cf debian.tar .",
        );
    }

    /// An image of that in the layout `image`, made by umoci.
    pub fn debian(&self) {
        self.slim();
        self.shell(&format!("{NEW}; umoci raw add-layer --image image:debian debian.tar; {CONFIGURED}"));
    }

    /// The same of the whole root.
    pub fn whole_debian(&self) {
        self.shell(&format!("{NEW}; umoci insert --image image:debian $DEBIAN /; {CONFIGURED}"));
    }
}

const NEW: &str = "umoci init --layout image; umoci new --image image:debian";
const CONFIGURED: &str =
    "umoci config --image image:debian --config.cmd bash --config.env GREETING=hello --config.stopsignal SIGINT";

/// Asks until the answer is yes.
#[track_caller]
pub fn soon(question: impl FnMut() -> bool) {
    assert!(crate::harness::within(Duration::from_secs(30), question), "it never came");
}

impl Drop for Place {
    fn drop(&mut self) {
        let all = self.corten(&["ps", "-aq"]).out;
        for id in all.lines() {
            self.corten(&["rm", "-f", id]);
        }
        // Podman's parent of its containers' cgroups, and what conmon made in it.
        for dir in host::cgroups_named(&self.b.id) {
            remove_cgroup(&dir);
        }
        if !std::thread::panicking() {
            assert_eq!((self.corten(&["ps", "-aq"]).out.as_str(), all.as_str()), ("", ""), "containers were left");
        }
    }
}

fn remove_cgroup(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
