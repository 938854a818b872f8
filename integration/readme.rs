//! What the README tells a person to type is typed here, and what it promises must come.

use crate::harness::{Bundle, Pty};
use std::os::unix::fs::PermissionsExt;

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// The first block of this kind that has the word in it.
fn block(kind: &str, word: &str) -> String {
    let text = std::fs::read_to_string(README).unwrap();
    let mut blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(&format!("{kind}\n")));
    blocks.find(|block| block.contains(word)).unwrap_or_else(|| panic!("no block of {kind} with {word:?}")).to_owned()
}

/// `corten` in the PATH keeps its records in the test's own folder, and containers have the test's names.
fn prepare(b: &Bundle) -> impl Fn(&str) -> String {
    let runtime = crate::harness::runtime().path.display();
    let wrapper = b.mkdir("path").join("corten");
    std::fs::write(&wrapper, format!("#!/bin/sh\nexec {runtime} --root {} \"$@\"\n", b.root().display())).unwrap();
    std::fs::set_permissions(&wrapper, PermissionsExt::from_mode(0o755)).unwrap();
    let (id, path) = (b.id.clone(), b.path("path").display().to_string());
    move |text| {
        format!(
            "PATH={path}:$PATH; {}",
            text.replace("--name hello", &format!("--name {id}")).replace("--name web", &format!("--name {id}"))
        )
    }
}

#[test]
fn the_quick_start() {
    corten_only!("this README");
    let b = Bundle::busybox();
    let named = prepare(&b);
    // Fetching, building and the demo are tried by scripts/fresh.
    let lines = block("sh", "corten spec");
    let lines: Vec<&str> = lines.lines().skip_while(|line| !line.starts_with("mkdir")).collect();
    let mut pty = Pty::new(24, 80);
    let call = b.host("setsid").args(["--ctty", "--wait", "sh", "-c", &named(&lines.join("\n"))]);
    let shell = call.stdio(pty.slave(), pty.slave(), pty.slave()).spawn();
    pty.wait_for("# ");
    pty.write("echo process $$\r");
    pty.wait_for("process 1\r\n");
    pty.write("exit\r");
    shell.wait().ok();

    // The block below it, from the folder above.
    let session = block("console", "corten run");
    let (command, answer) = session.strip_prefix("# ").and_then(|text| text.split_once('\n')).expect("a command");
    let mut pty = Pty::new(24, 80);
    let call = b.host("setsid").args(["--ctty", "--wait", "sh", "-c", &named(command)]);
    call.stdio(pty.slave(), pty.slave(), pty.slave()).spawn().wait().ok();
    assert_eq!(pty.seen(), answer.replace('\n', "\r\n"));
    b.shell(&named("corten explain -b web")).ok().stdout_has("clone3(");
    std::fs::remove_dir_all(b.path("web")).unwrap();
}
