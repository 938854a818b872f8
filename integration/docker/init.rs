//! The binary as the first process of a pid namespace, as `--init` runs it.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under its other name; as root, because only root makes a pid namespace.
fn program() -> Option<(tempfile::TempDir, PathBuf)> {
    if !nix::unistd::geteuid().is_root() {
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), "skip: docker-init: only root can make a pid namespace");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker-init");
    let built = std::env::var_os("CORTEN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_corten").into(), PathBuf::from);
    std::os::unix::fs::symlink(std::path::absolute(built).unwrap(), &path).unwrap();
    Some((directory, path))
}

fn command(path: &PathBuf, words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(path)
        .arg("--")
        .args(words)
        .stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Option<Output> {
    let (_directory, path) = program()?;
    Some(command(&path, words).output().unwrap())
}

#[test]
fn it_ends_as_the_program_ended() {
    for (words, code) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -40 $$"], 168),
        (&["/nope"], 127),
        (&["/etc/passwd"], 126),
        (&["run"], 127),
    ] {
        let Some(out) = run(words) else { return };
        assert_eq!(out.status.code(), Some(code), "{words:?} {out:?} {:?}", out.status.signal());
    }
}

#[test]
fn it_reaps_orphans() {
    // Process 1 inherits the sleep, whose parent has ended; a dead one that nobody reaped would be a zombie.
    let Some(out) =
        run(&["sh", "-c", "sh -c 'sleep 0.2 & exit 0'; sleep 0.6; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"])
    else {
        return;
    };
    assert_eq!(String::from_utf8_lossy(&out.stdout), "0\n", "{out:?}");
}

#[test]
fn it_hands_signals_on() {
    let Some((directory, path)) = program() else { return };
    let ready = directory.path().join("ready");
    let script = format!("trap 'echo heard; exit 3' USR1; touch {}; while :; do sleep 0.05; done", ready.display());
    let mut child = command(&path, &["sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !ready.exists() {
        assert!(begin.elapsed() < Duration::from_secs(20), "the program does not run");
        std::thread::sleep(Duration::from_millis(10));
    }
    // timeout's only child is unshare, and its only child is process 1 inside.
    let only_child =
        |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().to_owned();
    let first = only_child(&only_child(&child.id().to_string()));
    let status = Command::new("kill").args(["-USR1", &first]).status().unwrap();
    assert!(status.success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(3));
}
