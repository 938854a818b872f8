//! Tells the program which commit it was built from (`--version`).
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
    println!("cargo::rerun-if-changed=build.rs");
}
