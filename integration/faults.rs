//! Killed half-way: whatever was under way, `delete --force` cleans it up, again and again, and the id is free.

use crate::harness::{Bundle, Container, host, runtime, slow, soon, stride};
use nix::sys::signal::Signal;
use std::time::Duration;

/// The invariant after every fault: a forced delete within 5 s, repeatable, and then the id is new. The leak check at the
/// bundle's end looks at the rest.
#[track_caller]
fn recovers(b: &Bundle) {
    for _ in 0..2 {
        let delete = b.cli(["delete", "--force", &b.id]).ok();
        assert!(delete.took < crate::harness::seconds(5), "{:?}", delete.took);
    }
    let c: Container = b.start();
    c.stop();
    c.delete().ok();
}

/// SIGKILL of a verb's own process at every so-many-th system call. (Not of what it makes: strace would wait for that.)
fn killed_at_calls(verb: &str, calls: std::ops::Range<usize>, step: usize) {
    if !host::has_program("strace") {
        crate::harness::say_skipped("faults::killed_at_calls", "strace is not installed");
        return;
    }
    for number in calls.step_by(step * stride()) {
        let b = Bundle::busybox().args(["sleep", "1000"]);
        b.write_config();
        let c = if verb == "create" { None } else { Some(b.create()) };
        if matches!(verb, "exec" | "delete") {
            c.as_ref().unwrap().start().ok();
        }
        let inject = format!("inject=all:signal=KILL:when={number}");
        let binary = runtime().path.to_str().unwrap().to_owned();
        let mut words = vec!["-o", "/dev/null", "-e", &inject, &binary, "--root", "root"];
        match verb {
            "create" => words.extend(["create", "-b", "bundle", &b.id]),
            "start" => words.extend(["start", &b.id]),
            "exec" => words.extend(["exec", &b.id, "true"]),
            _ => words.extend(["delete", "--force", &b.id]),
        }
        let out = b.host("strace").args(&words).run();
        // Its state is one that has a name, or it is not there.
        let state = b.cli(["state", &b.id]);
        match state.status {
            0 => {
                let status = state.json()["status"].as_str().unwrap().to_owned();
                let known = ["creating", "created", "running", "stopped"].contains(&status.as_str());
                assert!(known, "after call {number} of {verb}: {status}");
                if verb == "start" && status == "created" {
                    // F12: still created, so it can be started; unless init, slower than we are, hears the killed one now.
                    let again = b.cli(["start", &b.id]);
                    assert!(again.status == 0 || again.err.contains("another start was first"), "{}", again.tell());
                    assert!(soon(|| b.cli(["state", &b.id]).json()["status"] == "running"));
                }
            }
            _ => assert!(!state.err.is_empty(), "after call {number} of {verb}{}", out.tell()),
        }
        drop(c);
        recovers(&b);
    }
}

/// F1-F8.
#[test]
fn create_killed_at_any_call() {
    not_on_runc!("a create killed half-way leaves what no verb finds");
    killed_at_calls("create", 20..260, 7);
}

#[test]
fn start_killed_at_any_call() {
    not_on_runc!("its threads are traced differently each time");
    killed_at_calls("start", 5..90, 6);
}

#[test]
fn exec_killed_at_any_call() {
    not_on_runc!("its threads are traced differently each time");
    killed_at_calls("exec", 20..130, 9);
}

#[test]
fn delete_killed_at_any_call() {
    not_on_runc!("its threads are traced differently each time");
    killed_at_calls("delete", 10..120, 8);
}

/// F1-F8 once more without strace: at some instant.
#[test]
fn create_killed_at_any_instant() {
    not_on_runc!("a create killed half-way leaves what no verb finds");
    for delay in (0..24).step_by(stride()).map(|n| Duration::from_micros(n * 400) * slow()) {
        let b = Bundle::busybox().args(["sleep", "1000"]);
        let create = b.create_call::<&str>(&b.id, []).spawn();
        std::thread::sleep(delay);
        create.signal(Signal::SIGKILL);
        drop(create);
        recovers(&b);
    }
}

/// F14: SIGKILL of a foreground `run`: the container ends with it, or goes on; never half.
#[test]
fn run_killed() {
    let b = Bundle::busybox().sh("echo up; exec sleep 1000");
    let mut run = b.run_call::<&str>([]).spawn();
    run.wait_for("up");
    run.signal(Signal::SIGKILL);
    drop(run);
    let state = b.cli(["state", &b.id]);
    if state.status == 0 {
        let state = state.json();
        let alive = host::alive(state["pid"].as_i64().unwrap_or(0) as i32);
        assert_eq!(alive, state["status"] == "running");
    }
    recovers(&b);
}

/// F11 and F13 are in `lifecycle`; F10: the pid file cannot be written any more, and what was created is valid.
#[test]
fn a_pid_file_that_cannot_be_written() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    std::fs::create_dir(b.path("pid")).unwrap();
    b.create_call(&b.id, ["--pid-file", "pid"]).run().code(1);
    b.cli(["state", &b.id]).fails();
}

/// F16: create against delete.
#[test]
fn create_against_delete() {
    not_on_runc!("its delete can take away what create is making");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.write_config();
    for delay in (0..12).step_by(stride()) {
        let create = b.create_call::<&str>(&b.id, []).spawn();
        std::thread::sleep(Duration::from_millis(delay) * slow());
        let delete = b.cli(["delete", "--force", &b.id]).ok();
        assert!(delete.took < crate::harness::seconds(5));
        let created = create.wait();
        if created.status == 0 && b.cli(["state", &b.id]).status == 0 {
            // What was created after the delete is whole.
            let c = b.adopt(&b.id);
            assert_eq!(c.status(), "created");
            c.start().ok();
        }
        b.cli(["delete", "--force", &b.id]).ok();
    }
}

/// F16 without force.
#[test]
fn create_against_a_polite_delete() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.write_config();
    for delay in (0..8).step_by(stride()) {
        let create = b.create_call::<&str>(&b.id, []).spawn();
        std::thread::sleep(Duration::from_millis(delay * 3) * slow());
        let delete = b.cli(["delete", &b.id]);
        let created = create.wait();
        if runtime().is_corten() {
            assert!(delete.status == 0 || !delete.err.is_empty());
            if created.status == 0 && delete.status != 0 {
                let c = b.adopt(&b.id);
                assert_eq!(c.status(), "created");
                c.start().ok();
            }
        }
        b.cli(["delete", "--force", &b.id]).ok();
    }
}

/// F12: SIGKILL of `start` at some instant: created, or running, never between.
#[test]
fn start_killed_at_any_instant() {
    not_on_runc!("a killed start may have opened the fifo");
    for delay in (0..16).step_by(stride()).map(|n| Duration::from_micros(n * 150) * slow()) {
        let b = Bundle::busybox().sh("touch /ran; exec sleep 1000");
        let c = b.create();
        let start = b.call(["start", &b.id]).spawn();
        std::thread::sleep(delay);
        start.signal(Signal::SIGKILL);
        drop(start);
        std::thread::sleep(Duration::from_millis(20));
        match c.status().as_str() {
            "created" => {
                assert!(!b.in_rootfs("ran").exists());
                c.start().ok();
            }
            "running" => {}
            other => panic!("{other} after {delay:?}"),
        }
        c.wait_for_file("ran");
        assert_eq!(c.status(), "running");
    }
}

/// Init killed at some instant of create.
#[test]
fn init_killed_during_start() {
    for delay in (0..8).step_by(stride()).map(|n| Duration::from_millis(n) * slow()) {
        let b = Bundle::busybox().args(["sleep", "1000"]);
        let c = b.create();
        let pid = c.pid();
        let start = b.call(["start", &b.id]).spawn();
        std::thread::sleep(delay);
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        let out = start.wait();
        assert!(out.took < crate::harness::seconds(10), "no hang");
        c.wait_for("stopped");
        assert!(soon(|| !host::alive(pid)));
        c.delete().ok();
    }
}

/// F26: no more processes for this user: roll-back, and the cause is named.
#[test]
fn no_more_descriptors() {
    not_on_runc!("Go cannot start at all");
    let b = Bundle::busybox();
    b.write_config();
    let runtime = runtime().path.display();
    let mut succeeded = false;
    for limit in [4, 6, 8, 10, 12, 16, 24] {
        let out = b.shell(&format!("ulimit -n {limit}; exec {runtime} --root root run -b bundle {}", b.id));
        assert!(out.status == 0 || !out.err.is_empty(), "{}", out.tell());
        succeeded |= out.status == 0;
        b.cli(["delete", "--force", &b.id]).ok();
    }
    let _ = succeeded;
}

/// F37: a reader that never reads our standard error.
#[test]
fn nobody_reads_our_errors() {
    let b = Bundle::busybox().args(["no-such-program"]);
    b.write_config();
    let runtime = runtime().path.display();
    // A pipe whose reader sleeps, and one whose reader is gone.
    b.shell(&format!("{runtime} --root root run -b bundle {} 2>&1 | sleep 0.5", b.id)).ok();
    b.shell(&format!("{runtime} --root root run -b bundle {} 2>&1 | true", b.id)).ok();
    b.shell(&format!("{runtime} --root root run -b bundle {} 2>&- >&- <&-; test $? != 0", b.id)).ok();
}

/// F39: programs that exit at once: every exit code is right.
#[test]
fn programs_that_exit_at_once() {
    let mut b = Bundle::busybox();
    for n in (0..60).step_by(stride()) {
        b = b.sh(&format!("exit {}", n % 7));
        b.run().code(n % 7);
    }
}
