//! Debian's root file system: made once with mmdebstrap (or debootstrap), kept in `${XDG_CACHE_HOME:-~/.cache}/corten/debian-root`.

use crate::harness::host;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The cached root, made when it is missing. `Err` says why it cannot be.
pub fn root() -> Result<PathBuf, String> {
    // One test makes it, the others wait.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/root".into());
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| home.join(".cache")).join("corten");
    let root = cache.join("debian-root");
    if root.join("usr/bin/python3").exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let new = cache.join(format!("debian-root.new-{}", std::process::id()));
    let suite = "bookworm";
    let made = if host::has_program("mmdebstrap") {
        // As root, unpacked into a folder, with the host's own sources (and so its mirror and proxy).
        Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", "--include=python3", suite]).arg(&new).output()
    } else if host::has_program("debootstrap") {
        Command::new("debootstrap").args(["--variant=minbase", "--include=python3", suite]).arg(&new).output()
    } else {
        return Err("neither mmdebstrap nor debootstrap is installed".into());
    };
    let made = made.map_err(|e| e.to_string())?;
    if !made.status.success() {
        let _ = std::fs::remove_dir_all(&new);
        let why = String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default().to_owned();
        return Err(format!("no Debian root can be made here: {why}"));
    }
    let _ = std::fs::remove_dir_all(&root);
    std::fs::rename(&new, &root).map_err(|e| e.to_string())?;
    Ok(root)
}
