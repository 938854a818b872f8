use super::*;
use crate::sys::alone::{alone, command, is_alone, text};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::LocalFlags;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a shell script as the program of a foreground. With a master, its terminal is the slave.
#[allow(clippy::zombie_processes, reason = "foreground reaps it")]
fn run(script: &str, pty: Option<OpenptyResult>) -> u8 {
    let signals = block_signals().unwrap();
    let mut command = Command::new("setsid");
    command.args(pty.as_ref().map(|_| "-c")).args(["sh", "-c", script]);
    let mut master = None;
    if let Some(pty) = pty {
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        master = Some(pty.master);
    }
    signal::prepare_helper(&mut command);
    let child = command.spawn().unwrap();
    drop(command);
    let pidfd = process::pidfd_open(child.id() as i32).unwrap();
    foreground(&pidfd, master, &signals).unwrap()
}

fn inner() -> Option<OpenptyResult> {
    Some(openpty(None, None).unwrap())
}

#[test]
fn exit_codes_pass_through() {
    alone("run::wait::tests::exit_codes_pass_through", || {
        assert_eq!(run("exit 7", None), 7);
        assert_eq!(run("exit 8", inner()), 8);
    });
}

#[test]
fn a_death_by_signal_is_128_and_its_number() {
    alone("run::wait::tests::a_death_by_signal_is_128_and_its_number", || {
        assert_eq!(run("kill -KILL $$", None), 137);
        assert_eq!(run("kill -TERM $$", inner()), 143);
    });
}

/// This test again, every signal blocked from its start: the harness has threads, and any of them may take a signal. And none ignored,
/// as nohup(1) and a shell's `&` leave them.
fn blocked(test: &str) -> Command {
    let plain = command(test);
    let mut command = Command::new("env");
    command.args(["--default-signal", "--block-signal"]).arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command
}

/// A child that does not outlive its test.
struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Starts this test again, waits for `ready`, and lets `act` send signals to it.
fn signalled(test: &str, act: impl Fn(i32)) -> String {
    let mut child =
        Guard(blocked(test).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("ready") {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
    }
    act(child.0.id() as i32);
    lines.read_to_string(&mut said).unwrap();
    assert!(child.0.wait().unwrap().success(), "{said}");
    said
}

#[test]
fn signals_are_forwarded_also_real_time_ones() {
    let test = "run::wait::tests::signals_are_forwarded_also_real_time_ones";
    if is_alone() {
        let script =
            "trap 'echo hup' HUP; trap 'echo rt' 40; trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";
        assert_eq!(run(script, None), 7);
        return;
    }
    let said = signalled(test, |pid| {
        for signal in [libc::SIGHUP, 40, libc::SIGCHLD, libc::SIGURG, libc::SIGTERM] {
            process::kill(pid, signal).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    assert!(said.contains("ready\nhup\nrt\n"), "{said}");
}

#[test]
#[allow(clippy::zombie_processes, reason = "foreground reaps it")]
fn a_signal_before_the_program_is_not_lost() {
    let test = "run::wait::tests::a_signal_before_the_program_is_not_lost";
    if is_alone() {
        let signals = block_signals().unwrap();
        process::kill(std::process::id() as i32, libc::SIGTERM).unwrap();
        let mut sleep = Command::new("sleep");
        signal::prepare_helper(&mut sleep);
        let child = sleep.arg("20").spawn().unwrap();
        let pidfd = process::pidfd_open(child.id() as i32).unwrap();
        assert_eq!(foreground(&pidfd, None, &signals).unwrap(), 143);
        return;
    }
    let output = blocked(test).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn all_output_arrives_also_when_nobody_reads_fast() {
    let test = "run::wait::tests::all_output_arrives_also_when_nobody_reads_fast";
    if is_alone() {
        assert_eq!(run("stty -onlcr; echo; seq 1 200000; exit 3", inner()), 3);
        return;
    }
    let mut child = command(test).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    let numbers: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(1..=200_000), "{} lines", numbers.len());
}

#[test]
fn a_reader_that_goes_away_does_not_stop_the_program() {
    let test = "run::wait::tests::a_reader_that_goes_away_does_not_stop_the_program";
    if is_alone() {
        // Everything is written and the code is the program's, though nobody reads any more.
        let code = run("echo; seq 1 200000; exit 5", inner());
        std::process::exit(i32::from(code));
    }
    let mut child = command(test).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "1"));
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn what_was_written_last_is_read_after_the_end() {
    let test = "run::wait::tests::what_was_written_last_is_read_after_the_end";
    if is_alone() {
        // More than the pipe to the reader holds, less than with the relay's buffer: it ends before anybody reads.
        assert_eq!(run("stty -onlcr; echo; seq 1 14000; exit 3", inner()), 3);
        return;
    }
    let mut child = command(test).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(child.wait().unwrap().success());
    let numbers: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(1..=14_000), "{} lines", numbers.len());
}

#[test]
fn a_program_that_closes_its_terminal_costs_nothing_and_may_open_it_again() {
    let test = "run::wait::tests::a_program_that_closes_its_terminal_costs_nothing_and_may_open_it_again";
    if is_alone() {
        let spent = || nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap().user_time();
        let before = spent();
        assert_eq!(run("exec 0<&- 1>&- 2>&-; sleep 1; echo again >/dev/tty; exit 4", inner()), 4);
        let after = spent();
        let micros = (after.tv_sec() - before.tv_sec()) * 1_000_000 + after.tv_usec() - before.tv_usec();
        assert!(micros < 200_000, "{micros} µs of processor time");
        return;
    }
    let output = command(test).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && text(&output).contains("again\r\n"), "{}", text(&output));
}

/// The user's side of a terminal.
struct Screen {
    master: File,
    seen: String,
}

impl Screen {
    fn until(&mut self, wanted: &str) {
        let begun = Instant::now();
        let mut bytes = [0; 4096];
        while !self.seen.contains(wanted) {
            assert!(begun.elapsed() < Duration::from_secs(20), "no {wanted:?} in {:?}", self.seen);
            let mut watched = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut watched, PollTimeout::from(1000u16)).unwrap() > 0 {
                let length = self.master.read(&mut bytes).unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        }
        let at = self.seen.find(wanted).unwrap() + wanted.len();
        self.seen.drain(..at);
    }
}

#[test]
fn the_callers_terminal_is_relayed_and_restored() {
    let test = "run::wait::tests::the_callers_terminal_is_relayed_and_restored";
    if is_alone() {
        let script = "stty -echo -onlcr; stty size; trap 'stty size; echo resized' WINCH; echo ready; \
                      read line; echo got $line; while :; do read again && echo $again; done";
        let code = run(script, inner());
        println!("code {code}");
        return;
    }
    let pty = openpty(None, None).unwrap();
    tty::set_size(&pty.master, (31, 99)).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    let slave = || Stdio::from(pty.slave.try_clone().unwrap());
    let plain = blocked(test);
    let mut child = Command::new("setsid");
    child.arg("-c").arg(plain.get_program()).args(plain.get_args());
    child.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let mut child = Guard(child.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap());
    let mut screen = Screen { master: File::from(pty.master), seen: String::new() };
    screen.until("31 99\r\n");
    screen.until("ready\r\n");
    let raw = tcgetattr(&pty.slave).unwrap();
    assert!(!raw.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
    screen.master.write_all(b"x y\r").unwrap();
    screen.until("got x y\r\n");
    tty::set_size(&screen.master, (12, 34)).unwrap();
    screen.until("12 34\r\nresized\r\n");
    // An interrupt key is the container's: its own line discipline makes a signal of it.
    screen.master.write_all(&[3]).unwrap();
    screen.until("code 130\r\n");
    assert!(child.0.wait().unwrap().success());
    let after = tcgetattr(&pty.slave).unwrap();
    assert_eq!(after.local_flags, before.local_flags);
    assert_eq!((after.input_flags, after.output_flags), (before.input_flags, before.output_flags));
}

#[test]
fn stdin_at_its_end_leaves_the_program_running() {
    let test = "run::wait::tests::stdin_at_its_end_leaves_the_program_running";
    if is_alone() {
        assert_eq!(run("sleep 0.3; echo still; tty; exit 2", inner()), 2);
        return;
    }
    let output = command(test).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && text(&output).contains("still\r\n/dev/pts/"), "{}", text(&output));
}

#[test]
fn the_child_starts_with_no_signal_blocked() {
    alone("run::wait::tests::the_child_starts_with_no_signal_blocked", || {
        block_signals().unwrap();
        restore_signals();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!(mask("SigBlk:"), 0);
        assert_eq!(mask("SigIgn:") & signal::mask(libc::SIGPIPE), 0);
    });
}
