//! Tells the program which commit it was built from (`--version`), and tells the linker where it begins, and to pack what start-up must relocate.
use std::process::Command;

fn main() {
    let git = |args: &[&str]| {
        let done = Command::new("git").args(args).output().ok()?;
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=CORTEN_COMMIT={commit}");
    // Both files change when HEAD moves: the first on a checkout, the second on a commit.
    if let Some(dir) = git(&["rev-parse", "--git-dir"]) {
        println!("cargo::rerun-if-changed={dir}/HEAD");
        println!("cargo::rerun-if-changed={dir}/logs/HEAD");
    }
    // A position-independent program relocates itself. Packed (RELR) the list is a hundredth as long. Not in `.cargo/config.toml`, which RUSTFLAGS
    // would override. musl reads it since 1.2.4, and Rust brings 1.2.5 since 1.93: built by an older one, the program would die at its start.
    let musl = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl");
    if musl && compiler().is_some_and(|minor| minor >= 93) {
        println!("cargo::rustc-link-arg-bin=corten=-Wl,-z,pack-relative-relocs");
    }
    // Where the kernel begins: src/sys/early.rs.
    println!("cargo::rustc-link-arg-bin=corten=-Wl,-e,_corten_start");
    if musl {
        order();
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// Has the linker put side by side what a container's start executes, where the linker understands how: `scripts/layout.ld`.
fn order() {
    let script = format!("{}/scripts/layout.ld", std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed={script}");
    if understands(&script).unwrap_or(false) {
        // Not `-Wl,-T,…`: a path may have a comma.
        for word in ["-Xlinker", "-T", "-Xlinker", &script] {
            println!("cargo::rustc-link-arg-bin=corten={word}");
        }
    }
}

/// Links a program of one empty function with the script. A linker that refuses it is left alone.
fn understands(script: &str) -> Option<bool> {
    let folder = std::path::PathBuf::from(std::env::var_os("OUT_DIR")?);
    let source = folder.join("probe.c");
    std::fs::write(&source, "void _start(void) {}\n").ok()?;
    let linker = std::env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let words = ["-nostdlib", "-static-pie", "-fPIE", "-Xlinker", "-T", "-Xlinker", script, "-o"];
    let done = Command::new(linker).args(words).arg(folder.join("probe")).arg(&source).output().ok()?;
    Some(done.status.success())
}

/// The 95 of `rustc 1.95.0 (…)`.
fn compiler() -> Option<u32> {
    let done = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let words = String::from_utf8(done.stdout).ok()?;
    words.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}
