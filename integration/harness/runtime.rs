//! Which binary is driven.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Whose runtime it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brand {
    /// The one under test.
    Corten,
    /// Another with runc's command line.
    Other,
}

/// The binary that all tests drive.
#[derive(Debug)]
pub struct Runtime {
    /// Absolute path.
    pub path: PathBuf,
    /// Decided by what `--version` prints.
    pub brand: Brand,
}

impl Runtime {
    /// Whether what only Corten has can be asked of it.
    pub fn is_corten(&self) -> bool {
        self.brand == Brand::Corten
    }
}

/// The binary: `CORTEN_BIN`, else the release build in the target directory.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let path = match std::env::var_os("CORTEN_BIN") {
            Some(named) => find(Path::new(&named)),
            None => target_dir().join("x86_64-unknown-linux-musl/release/corten"),
        };
        let version = Command::new(&path).arg("--version").output();
        let version = version.unwrap_or_else(|e| panic!("{}: {e} (build it, or set CORTEN_BIN)", path.display()));
        let brand = match String::from_utf8_lossy(&version.stdout).starts_with("corten ") {
            true => Brand::Corten,
            false => Brand::Other,
        };
        Runtime { path, brand }
    })
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
    }
}

/// A name without a slash is looked for in PATH.
fn find(name: &Path) -> PathBuf {
    if name.components().count() > 1 {
        return std::path::absolute(name).expect("a current directory");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("CORTEN_BIN={}: not in PATH", name.display()))
}
