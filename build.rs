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
    println!("cargo::rerun-if-changed=build.rs");
}

/// The 95 of `rustc 1.95.0 (…)`.
fn compiler() -> Option<u32> {
    let done = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let words = String::from_utf8(done.stdout).ok()?;
    words.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}
