//! Terminals: the caller's, and those sent over a socket.

use crate::harness::{Bundle, Call, ConsoleSocket, Pty, Running, host, soon};
use nix::sys::signal::Signal;
use serde_json::json;

fn with_terminal(script: &str) -> Bundle {
    Bundle::busybox().sh(script).edit(|s| s["process"]["terminal"] = true.into())
}

/// `run` with a terminal of its own as its controlling one, as a person has it.
fn at(pty: &Pty, call: Call) -> Running {
    call.stdio(pty.slave(), pty.slave(), pty.slave()).spawn()
}

fn run_at(pty: &Pty, b: &Bundle, options: &[&str]) -> Running {
    b.write_config();
    let runtime = crate::harness::runtime().path.to_str().unwrap();
    let call = b.host("setsid").args(["--ctty", "--wait", runtime, "--root", "root", "run", "-b", "bundle"]);
    at(pty, call.args(options).args([&b.id]))
}

#[test]
fn the_program_has_a_terminal() {
    let b = with_terminal("test -t 0 && test -t 1 && test -t 2 && echo all three; tty; stat -c '%F' /dev/console");
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("character special file");
    run.wait().ok();
    let seen = pty.seen().to_owned();
    assert!(seen.contains("all three\r\n"), "{seen:?}");
    assert!(seen.contains("/dev/"), "{seen:?}");
}

#[test]
fn the_exit_code_comes_through_a_terminal() {
    let b = with_terminal("exit 9");
    let pty = Pty::new(24, 80);
    run_at(&pty, &b, &[]).wait().code(9);
}

#[test]
fn typing_reaches_the_program() {
    let b = with_terminal("read line; echo \"you said $line\"");
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    soon(|| b.cli(["state", &b.id]).out.contains("running"));
    pty.write("hello there\r");
    pty.wait_for("you said hello there");
    run.wait().ok();
}

/// Control-C goes to the program's process group, and not to the runtime.
#[test]
fn control_c() {
    let b = with_terminal("trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done");
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("ready");
    pty.write("\u{3}");
    pty.wait_for("interrupted");
    run.wait().code(3);
}

#[test]
fn the_terminal_is_put_back() {
    let b = with_terminal("echo done");
    let mut pty = Pty::new(24, 80);
    let stty = |pty: &Pty| b.host("stty").args(["-a"]).stdin_from(pty.slave()).run().ok().out;
    let before = stty(&pty);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("done");
    run.wait().ok();
    assert_eq!(stty(&pty), before);
}

/// Neither side adds carriage returns twice: inside, newlines are not translated; outside, the person's terminal does it.
#[test]
fn newlines_are_not_doubled() {
    let b = with_terminal("printf 'a\\nb\\n'; stty -a | grep -o '.\\?onlcr'");
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("onlcr");
    run.wait().ok();
    let seen = pty.seen().to_owned();
    assert!(!seen.contains("\r\r\n"), "{seen:?}");
    assert!(seen.contains("-onlcr"), "{seen:?}");
}

#[test]
fn the_size_of_the_callers_terminal() {
    let b = with_terminal("sleep 0.3; stty size");
    let mut pty = Pty::new(37, 123);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("37 123");
    run.wait().ok();
}

#[test]
fn a_change_of_size_is_followed() {
    let b = with_terminal("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done");
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("ready");
    pty.resize(50, 200);
    // Said to the foreground process group by the kernel, and once more in case that setsid stands between.
    run.signal(Signal::SIGWINCH);
    pty.wait_for("50 200");
    run.wait().ok();
}

#[test]
fn a_terminal_over_a_socket() {
    let b = with_terminal("stty size; tty; read x; echo \"got $x\"");
    let b = b.edit(|s| s["process"]["consoleSize"] = json!({"height": 33, "width": 99}));
    let socket = ConsoleSocket::new(&b.path("console"));
    let create = b.create_call(&b.id, ["--console-socket", &socket.path]).spawn();
    let (name, mut pty) = socket.receive();
    create.wait().ok();
    assert!(name.contains("ptmx") || name.contains("pts"), "the message names the terminal: {name:?}");
    let c = b.adopt(&b.id);
    c.start().ok();
    pty.wait_for("33 99");
    pty.write("word\n");
    pty.wait_for("got word");
    c.wait_for("stopped");
}

#[test]
fn a_detached_run_with_a_socket() {
    let b = with_terminal("echo hello; exec sleep 1000");
    let socket = ConsoleSocket::new(&b.path("console"));
    let run = b.run_call(["--detach", "--console-socket", &socket.path]).spawn();
    let (_, mut pty) = socket.receive();
    run.wait().ok();
    pty.wait_for("hello");
    assert_eq!(b.adopt(&b.id).status(), "running");
}

#[test]
fn a_resize_from_outside_reaches_the_program() {
    let b = with_terminal("trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done");
    let socket = ConsoleSocket::new(&b.path("console"));
    let run = b.run_call(["--detach", "--console-socket", &socket.path]).spawn();
    let (_, mut pty) = socket.receive();
    run.wait().ok();
    pty.wait_for("ready");
    pty.resize(11, 22);
    pty.wait_for("11 22");
}

#[test]
fn the_terminal_belongs_to_the_user() {
    let b =
        with_terminal("stat -c '%u:%g %a' $(tty)").edit(|s| s["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("1000:5 620");
    run.wait().ok();
}

#[test]
fn the_terminal_controls_the_session() {
    // A shell with job control opens /dev/tty.
    let b = with_terminal("echo x > /dev/tty && ps -o pid,sid,pgid | head -2; cat /proc/self/stat | cut -d' ' -f7");
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("x\r\n");
    run.wait().ok();
    let last = pty.seen().trim().lines().last().unwrap().to_owned();
    assert_ne!(last.trim(), "0", "a controlling terminal");
}

#[test]
fn exec_with_a_terminal() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    let mut pty = Pty::new(40, 90);
    let runtime = crate::harness::runtime().path.to_str().unwrap();
    let words = [
        "--ctty",
        "--wait",
        runtime,
        "--root",
        "root",
        "exec",
        "-t",
        &b.id,
        "sh",
        "-c",
        "sleep 0.3; stty size; exit 5",
    ];
    let run = at(&pty, b.host("setsid").args(words));
    pty.wait_for("40 90");
    run.wait().code(5);
}

#[test]
fn exec_with_a_socket() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    let socket = ConsoleSocket::new(&b.path("console"));
    let exec = b
        .call([
            "exec",
            "-t",
            "-d",
            "--console-socket",
            &socket.path,
            "--pid-file",
            "pid",
            &b.id,
            "sh",
            "-c",
            "tty; sleep 0.3",
        ])
        .spawn();
    let (_, mut pty) = socket.receive();
    exec.wait().ok();
    pty.wait_for("/dev/pts/");
    let pid: i32 = host::read(b.path("pid")).parse().unwrap();
    assert!(soon(|| !host::alive(pid)));
}

#[test]
fn a_terminal_asked_but_none() {
    let b = with_terminal("true");
    b.run().code(1).stderr_has_one_of(&["terminal", "console", "tty", "ioctl"]);
    b.create_call::<&str>(&b.id, []).run().code(1).stderr_has("console");
    b.run_with(["--detach"]).code(1).stderr_has("console");
    b.cli(["state", &b.id]).fails();
}

#[test]
fn a_socket_without_a_terminal() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let socket = ConsoleSocket::new(&b.path("console"));
    b.create_call(&b.id, ["--console-socket", &socket.path]).run().code(1).stderr_has("console");
    b.cli(["state", &b.id]).fails();
}

/// F38.
#[test]
fn a_socket_that_nobody_serves() {
    let b = with_terminal("true");
    b.create_call(&b.id, ["--console-socket", "not-there"]).run().code(1).stderr_has("not-there");
    drop(std::os::unix::net::UnixListener::bind(b.path("dead")).unwrap());
    b.create_call(&b.id, ["--console-socket", "dead"]).run().code(1).stderr_has("dead");
    b.cli(["state", &b.id]).fails();
}

#[test]
fn a_long_socket_path() {
    let b = with_terminal("echo hello; exec sleep 1000");
    let dir = b.mkdir(&"d".repeat(90));
    // Bound by a short relative name.
    b.shell(&format!("ln -s {} short", dir.display())).ok();
    let socket = ConsoleSocket::new(&b.path("short/console"));
    let long = dir.join("console");
    if !crate::harness::runtime().is_corten() {
        skip!("runc: 1.1 cannot connect to a path longer than 108 bytes");
    }
    let create = b.create_call(&b.id, ["--console-socket", long.to_str().unwrap()]).spawn();
    // Held to the end: a terminal without its master is hung up.
    let _master = socket.receive();
    create.wait().ok();
}

#[test]
fn standard_input_from_null_with_a_terminal() {
    let b = with_terminal("test -t 1 && echo terminal");
    let mut pty = Pty::new(24, 80);
    b.write_config();
    let run = b.run_call::<&str>([]).stdio(std::process::Stdio::null(), pty.slave(), pty.slave()).spawn();
    if !crate::harness::runtime().is_corten() {
        drop(run);
        skip!("runc: 1.1 wants a terminal on standard input");
    }
    pty.wait_for("terminal\r\n");
    run.wait().ok();
}

#[test]
fn in_a_user_namespace() {
    let b = with_terminal("test -t 0 && echo terminal; stat -c %u $(tty)").user_namespace();
    let mut pty = Pty::new(24, 80);
    let run = run_at(&pty, &b, &[]);
    pty.wait_for("terminal\r\n0");
    run.wait().ok();
}

#[test]
fn much_output_is_whole() {
    let b = with_terminal("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done");
    let mut pty = Pty::new(24, 80);
    let mut run = run_at(&pty, &b, &[]);
    soon(|| {
        pty.seen();
        run.has_ended()
    });
    run.wait().ok();
    let seen = pty.seen().to_owned();
    assert_eq!(seen.lines().filter(|l| l.starts_with("line ")).count(), 3000);
    assert!(seen.trim_end().ends_with("line 2999"));
}
