//! For tests: a process of its own, which may change its namespaces, its user, its signals.

use std::process::{Command, Output};

/// Says to [`alone`] that this is the process of its own.
const ALONE: &str = "CORTEN_TEST_ALONE";

/// Runs `body` in another process: this test binary again, with this test only. `test` is its whole name.
///
/// A fork would copy the locks that other tests hold just now.
pub fn alone(test: &str, body: impl FnOnce()) {
    if is_alone() {
        return body();
    }
    let output = command(test).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{}", text(&output));
}

/// Is this the process of its own?
pub fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// The command of that process, to be started otherwise.
pub fn command(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, "1").env_remove("RUST_BACKTRACE");
    command
}

/// Everything that was printed.
pub fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Without root there is nothing to test: says so.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}
