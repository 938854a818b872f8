//! What the tests are written in: settings, a real registry, image layouts as a source.

use corten::error::Result;
use corten::image::digest::{self, Algorithm};
use corten::image::named::Named;
use corten::image::settings::{Patience, Settings};
use corten::image::source::Source;
use oci_spec::image::Descriptor;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says why a test does not run.
pub fn has(programs: &[&str]) -> bool {
    let found =
        |program: &&&str| std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|d| d.join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|p| !found(p)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} not installed");
    }
    missing.is_empty()
}

/// Nothing of the machine's, and little patience.
pub fn settings(dir: &Path) -> Settings {
    Settings {
        certs: dir.join("certs.d"),
        docker: Some(dir.join("docker")),
        environment: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
        patience: Patience {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(2),
            stall: Duration::from_millis(700),
            least: 1 << 10,
            tries: 4,
            pause: Duration::from_millis(5),
            longest_pause: Duration::from_secs(2),
        },
        ..Settings::default()
    }
}

pub fn named(text: &str) -> Named {
    Named::parse(text).unwrap()
}

/// Runs a program, which must succeed; its standard output.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    digest::of(Algorithm::Sha256, bytes).to_string()
}

/// Reads a blob and compares it with its descriptor, as the store does.
#[track_caller]
pub fn fetch(source: &dyn Source, blob: &Descriptor) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.open(blob, 0)?.read_to_end(&mut bytes).map_err(|e| corten::error::Error::new(e.to_string()))?;
    assert_eq!((bytes.len() as u64, sha256(&bytes)), (blob.size(), blob.digest().to_string()));
    Ok(bytes)
}

/// Whether docker-registry has TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http,
    Https,
}

/// Whether it wants name and password: `user` and `s3cret pass`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    Nothing,
    Login,
}

pub const PASSWORD: &str = "s3cret pass";

/// Debian's docker-registry with its own storage.
pub struct Real {
    pub host: String,
    pub dir: tempfile::TempDir,
    child: Child,
}

impl Real {
    pub fn start(speaks: Speaks, wants: Wants) -> Self {
        let dir = tempfile::Builder::new().prefix("registry-").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            at("storage")
        );
        if speaks == Speaks::Https {
            certificates(dir.path());
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", at("server.crt"), at("server.key"));
        }
        if wants == Wants::Login {
            fs::write(at("htpasswd"), run("htpasswd", &["-Bbn", "user", PASSWORD])).unwrap();
            config += &format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", at("htpasswd"));
        }
        fs::write(at("config.yml"), config).unwrap();
        let log = File::create(at("log")).unwrap();
        let child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let real = Real { host: format!("127.0.0.1:{port}"), dir, child };
        let begun = Instant::now();
        while TcpStream::connect(&real.host).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", fs::read_to_string(real.path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        real
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Trusts the registry's private authority from here on.
    pub fn trust(&self, settings: &Settings) {
        let directory = settings.certs.join(&self.host);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(self.path("ca.crt"), directory.join("ca.crt")).unwrap();
    }

    /// Puts an image of a layout there, by skopeo.
    pub fn put(&self, layout: &Layout, name: &str) {
        let from = format!("oci:{}:it", layout.path().display());
        let to = format!("docker://{}/{name}", self.host);
        let credentials = format!("user:{PASSWORD}");
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
                "--dest-creds",
                &credentials,
                &from,
                &to,
            ],
        );
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority of our own, and a certificate for 127.0.0.1 that it issued.
pub fn certificates(dir: &Path) {
    let at = |name: &str| dir.join(name).display().to_string();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let (ca, ca_key, server, server_key) = (at("ca.crt"), at("ca.key"), at("server.crt"), at("server.key"));
    let authority = ["req", "-x509", "-subj", "/CN=test authority", "-keyout", &ca_key, "-out", &ca];
    run("openssl", &[&authority[..], &key].concat());
    let issued = [
        "req",
        "-x509",
        "-subj",
        "/CN=registry",
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-keyout",
        &server_key,
        "-out",
        &server,
    ];
    run("openssl", &[&issued[..], &key].concat());
}

/// An OCI image layout: what skopeo reads, and a source for pushes.
pub struct Layout {
    pub dir: tempfile::TempDir,
    pub top: Descriptor,
}

impl Layout {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn bytes(&self, digest: &str) -> Vec<u8> {
        fs::read(self.path().join("blobs").join(digest.replace(':', "/"))).unwrap()
    }
}

impl Source for Layout {
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
        let mut file = File::open(self.path().join("blobs").join(blob.digest().to_string().replace(':', "/"))).unwrap();
        file.seek(SeekFrom::Start(from)).unwrap();
        Ok(Box::new(file))
    }
}

/// Bytes that gzip makes nothing of, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.write_all(&state.to_le_bytes()).unwrap();
    }
    bytes.truncate(length);
    bytes
}
