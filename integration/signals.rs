//! Signals: forwarded by a foreground `run`, sent by `kill`.

use crate::harness::{Bundle, Running, drop_namespace, soon};
use nix::sys::signal::Signal;

/// A container in the foreground that says which signal came.
fn listener(b: &Bundle) -> Running {
    let mut run = b.run_call::<&str>([]).spawn();
    run.wait_for("ready");
    run
}

fn listening() -> Bundle {
    Bundle::busybox().sh("for s in HUP INT QUIT USR1 USR2 TERM CONT WINCH; do trap \"echo got $s\" $s; done; \
         trap 'echo bye; exit 7' ALRM; echo ready; while :; do sleep 0.05; done")
}

#[test]
fn run_forwards_signals() {
    let b = listening();
    let mut run = listener(&b);
    for (signal, name) in [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
        (Signal::SIGTERM, "TERM"),
    ] {
        run.signal(signal);
        run.wait_for(&format!("got {name}"));
    }
    run.signal(Signal::SIGALRM);
    run.wait().code(7).stdout_has("bye\n");
}

#[test]
fn run_ends_as_the_program_does() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        // Without a pid namespace, so that the default action holds.
        let b = Bundle::busybox().sh("echo ready; exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
        let run = listener(&b);
        run.signal(signal);
        run.wait().code(code);
    }
}

#[test]
fn kill_by_name_and_number() {
    let b = listening();
    let mut run = listener(&b);
    let c = b.adopt(&b.id);
    for (word, name) in [("HUP", "HUP"), ("SIGINT", "INT"), ("10", "USR1"), ("sigusr2", "USR2"), ("quit", "QUIT")] {
        c.kill(word).ok().silent();
        run.wait_for(&format!("got {name}"));
    }
    b.cli(["kill", &b.id]).ok();
    run.wait_for("got TERM");
    for word in ["MOON", "SIGMOON", "-5", "999", "1x"] {
        c.kill(word).fails();
    }
    c.kill("ALRM").ok();
    run.wait().code(7);
}

#[test]
fn real_time_signals() {
    let b = Bundle::busybox().sh("echo ready; exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
    let run = listener(&b);
    b.adopt(&b.id).kill("37").ok();
    run.wait().code(128 + 37);
    not_on_runc!("1.1 knows no names of real-time signals but by number");
    for (word, number) in [("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)] {
        let b = Bundle::busybox().sh("echo ready; exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
        let run = listener(&b);
        b.adopt(&b.id).kill(word).ok();
        run.wait().code(128 + number);
    }
}

#[test]
fn kill_a_created_container() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.create();
    c.kill("KILL").ok();
    c.wait_for("stopped");
    c.delete().ok();
}

#[test]
fn kill_all() {
    let b = Bundle::busybox().sh("trap 'wait; exit 0' TERM; sh -c 'trap \"echo child > /child; exit 0\" TERM; touch /up; while :; do sleep 0.05; done' & while :; do sleep 0.05; done");
    let c = b.start();
    c.wait_for_file("up");
    b.cli(["kill", "--all", &b.id, "TERM"]).ok();
    c.wait_for("stopped");
    c.wait_for_file("child");
}

#[test]
fn kill_all_with_the_hosts_pid_namespace() {
    let b = Bundle::busybox().sh("sleep 1000 & sleep 1000 & exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
    let c = b.start();
    assert!(soon(|| crate::harness::processes_of(&b.id).len() == 3));
    b.cli(["kill", "--all", &b.id, "KILL"]).ok();
    assert!(soon(|| crate::harness::processes_of(&b.id).is_empty()));
    c.wait_for("stopped");
}

/// Without a pid namespace, SIGKILL of the first process must not leave the others behind.
#[test]
fn kill_reaches_every_process_of_a_shared_pid_namespace() {
    let b = Bundle::busybox().sh("sleep 1000 & sleep 1000 & exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
    let c = b.start();
    assert!(soon(|| crate::harness::processes_of(&b.id).len() == 3));
    c.kill("KILL").ok();
    c.wait_for("stopped");
    c.delete().ok();
    assert!(soon(|| crate::harness::processes_of(&b.id).is_empty()));
    b.runc_leaves_its_cgroup();
}

#[test]
fn a_paused_container_is_killed() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    c.verb("pause").ok();
    c.kill("KILL").ok();
    c.wait_for("stopped");
    c.delete().ok();
}

#[test]
fn run_survives_signals_before_the_program() {
    // Whenever SIGTERM comes, nothing is left: the leak check says so.
    for delay in [0, 2, 5, 10, 20, 40] {
        let b = Bundle::busybox().sh("exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
        let run = b.run_call::<&str>([]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        run.signal(Signal::SIGTERM);
        if !crate::harness::runtime().is_corten() {
            // runc's handler comes late; what it makes is then cleaned by force.
            std::thread::sleep(std::time::Duration::from_millis(200));
            run.signal(Signal::SIGTERM);
            std::thread::sleep(std::time::Duration::from_millis(200));
            continue;
        }
        run.wait().fails();
    }
}

#[test]
fn children_are_reaped_by_the_first_process_only() {
    // Orphans inside go to pid 1, not to the runtime.
    let b = Bundle::busybox().sh("sh -c 'sleep 0.1 & exit 0'; sleep 0.3; echo done");
    b.run().ok().stdout("done\n");
}

#[test]
fn a_stopped_runtime_goes_on() {
    // F41: SIGSTOP of the runtime in the middle.
    for delay in [1, 5, 15, 30] {
        let b = Bundle::busybox().sh("echo ran");
        let run = b.run_call::<&str>([]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        run.signal(Signal::SIGSTOP);
        std::thread::sleep(std::time::Duration::from_millis(50));
        run.signal(Signal::SIGCONT);
        run.wait().ok().stdout("ran\n");
    }
}
