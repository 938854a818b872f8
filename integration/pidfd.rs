//! `--pidfd-socket`: who listens gets the process.

use crate::harness::{Bundle, ConsoleSocket, Container, runtime, within};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Debian 12's runc is older than the option.
macro_rules! needs_pidfd_socket {
    () => {
        if !runtime().is_corten() {
            crate::skip!("runc: has --pidfd-socket since 1.2");
        }
    };
}

/// The pid that a pidfd means, as this process sees it; -1 once it has ended and was waited for.
fn pid_of(pidfd: &OwnedFd) -> i32 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("fdinfo");
    text.lines().find_map(|line| line.strip_prefix("Pid:")).expect("a pidfd").trim().parse().expect("a pid")
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::ZERO).expect("poll") == 1
}

fn send(pidfd: &OwnedFd, signal: Signal) {
    corten::sys::process::pidfd_send_signal(pidfd, signal as i32).expect("pidfd_send_signal");
}

fn socket(b: &Bundle) -> ConsoleSocket {
    ConsoleSocket::new(&b.path("pidfd.sock"))
}

fn created<'a>(b: &'a Bundle, socket: &ConsoleSocket) -> Container<'a> {
    b.create_call(&b.id, ["--pidfd-socket", &socket.path]).run().ok();
    b.adopt(&b.id)
}

#[test]
fn create_sends_the_first_process() {
    needs_pidfd_socket!();
    let b = Bundle::busybox().sh("trap 'exit 7' USR1; touch /up; while :; do sleep 0.05; done");
    let socket = socket(&b);
    let c = created(&b, &socket);
    let (word, pidfd) = socket.receive_any();
    assert_eq!((word.as_str(), pid_of(&pidfd)), ("standard", c.pid()));
    c.start().ok();
    c.wait_for_file("/up");
    assert!(!has_ended(&pidfd));
    send(&pidfd, Signal::SIGUSR1);
    assert!(within(crate::harness::timeout(), || has_ended(&pidfd)), "the trap ends it");
    c.wait_for("stopped");
    c.delete().ok();
}

#[test]
fn run_does_too_in_the_foreground_and_apart() {
    needs_pidfd_socket!();
    let b = Bundle::busybox().sh("read line");
    let socket = socket(&b);
    b.run_call(["--pidfd-socket", &socket.path]).stdin("go on\n").run().ok();
    assert_eq!(socket.receive_any().0, "standard");
    let b = b.args(["sleep", "1000"]);
    b.run_call(["-d", "--pidfd-socket", &socket.path]).run().ok();
    let (_, pidfd) = socket.receive_any();
    let c = b.adopt(&b.id);
    assert_eq!(pid_of(&pidfd), c.pid());
    send(&pidfd, Signal::SIGKILL);
    c.wait_for("stopped");
    c.delete().ok();
}

/// The path is the host's, whatever the container has there; and with a user namespace the sender has no rights outside any more.
#[test]
fn exec_sends_the_other_process() {
    needs_pidfd_socket!();
    for b in [Bundle::busybox(), Bundle::busybox().user_namespace()] {
        let b = b.args(["sleep", "1000"]);
        let socket = socket(&b);
        let c = b.start();
        c.exec_with(
            &["-d", "--pidfd-socket", &socket.path, "--pid-file", b.path("pid").to_str().unwrap()],
            &["sleep", "1000"],
        )
        .ok();
        let (word, pidfd) = socket.receive_any();
        let pid: i32 = std::fs::read_to_string(b.path("pid")).unwrap().parse().unwrap();
        assert_eq!((word.as_str(), pid_of(&pidfd)), ("setns", pid));
        assert_ne!(pid, c.pid());
        send(&pidfd, Signal::SIGKILL);
        assert!(within(crate::harness::timeout(), || has_ended(&pidfd)));
        c.stop();
        c.delete().ok();
    }
}

#[test]
fn where_nobody_listens_nothing_is_made() {
    needs_pidfd_socket!();
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let gone = b.path("gone.sock");
    let out = b.run_call(["--pidfd-socket", gone.to_str().unwrap()]).run().fails();
    let out = out.stderr_has("pidfd socket").stderr_has("no such file or directory");
    out.stderr_has("must listen before it calls us");
    let gone = gone.to_str().unwrap();
    b.create_call(&b.id, ["--pidfd-socket", gone]).run().fails().stderr_has("step ");
    let c = b.start();
    c.exec_with(&["--pidfd-socket", gone], &["true"]).fails().stderr_has("pidfd socket");
    c.stop();
    c.delete().ok();
}

/// Neither the program nor its first process while it waits has the connection.
#[test]
fn the_program_does_not_have_the_connection() {
    needs_pidfd_socket!();
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let socket = socket(&b);
    let c = created(&b, &socket);
    let (_, _pidfd) = socket.receive_any();
    let path = socket.path.clone();
    let inodes = || -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", c.pid())).expect("fd");
        entries.filter_map(|e| Some(std::fs::read_link(e.ok()?.path()).ok()?.display().to_string())).collect()
    };
    let waiting = inodes();
    let sockets = waiting.iter().filter(|name| name.starts_with("socket:")).count();
    assert_eq!(sockets, 1, "the gate alone, not {path}: {waiting:?}");
    c.start().ok();
    c.wait_for("running");
    assert!(!inodes().iter().any(|name| name.starts_with("socket:")), "{:?}", inodes());
    c.stop();
    c.delete().ok();
}
