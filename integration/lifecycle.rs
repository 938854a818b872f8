//! create, start, run, kill, delete: how a container lives and goes.

use crate::harness::{Bundle, host, soon};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[test]
fn runs_a_program() {
    let b = Bundle::busybox().sh("echo hi; echo there >&2");
    let out = b.run().code(0).stdout("hi\n");
    assert_eq!(out.err, "there\n");
}

#[test]
fn passes_the_exit_code_through() {
    for code in [0, 1, 42, 127, 255] {
        Bundle::busybox().sh(&format!("exit {code}")).run().code(code).stdout("").silent();
    }
}

#[test]
fn a_signal_becomes_128_and_its_number() {
    // The first process of a pid namespace ignores a signal that it sends to itself; its child does not.
    Bundle::busybox().sh("sh -c 'kill -TERM $$'; exit $?").run().code(143);
    Bundle::busybox().edit(|s| crate::harness::drop_namespace(s, "pid")).sh("kill -TERM $$").run().code(143);
    Bundle::busybox().edit(|s| crate::harness::drop_namespace(s, "pid")).sh("kill -KILL $$").run().code(137);
}

#[test]
fn standard_input_reaches_the_program() {
    let b = Bundle::busybox().args(["cat"]);
    b.run_call::<&str>([]).stdin("one\ntwo\n").run().ok().stdout("one\ntwo\n");
}

#[test]
fn run_leaves_nothing() {
    let b = Bundle::busybox();
    b.run().ok();
    b.cli(["state", &b.id]).fails().stderr_has("does not exist");
    assert!(host::cgroups_named(&b.id).is_empty());
    b.run().ok();
}

#[test]
fn create_then_start() {
    let b = Bundle::busybox().sh("echo ran > /ran; exec sleep 1000");
    let c = b.create();
    assert_eq!(c.status(), "created");
    let pid = c.pid();
    assert!(host::alive(pid));
    assert!(!b.in_rootfs("ran").exists(), "the program runs only after start");
    c.start().ok().stdout("").silent();
    c.wait_for_file("ran");
    assert_eq!(c.status(), "running");
    assert_eq!(c.pid(), pid, "the same process");
    c.stop();
    c.delete().ok();
    c.verb("state").fails();
    c.delete().fails().stderr_has("does not exist");
}

#[test]
fn output_of_a_created_container_goes_to_the_creator() {
    let b = Bundle::busybox().sh("echo late");
    let mut create = b.create_call::<&str>(&b.id, []).spawn();
    soon(|| create.has_ended());
    let c = b.adopt(&b.id);
    c.start().ok();
    assert!(soon(|| create.stdout() == "late\n"), "after its end, too");
    c.wait_for("stopped");
}

#[test]
fn delete_of_a_created_container() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.create();
    let pid = c.pid();
    c.delete().ok();
    assert!(soon(|| !host::alive(pid)));
    c.verb("state").fails();
}

#[test]
fn delete_of_a_running_container_fails_without_effect() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    c.delete().code(1).stderr_has("running");
    assert_eq!(c.status(), "running");
    assert!(host::alive(c.pid()));
}

#[test]
fn delete_force() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let pid = c.pid();
    b.cli(["delete", "--force", &b.id]).ok().silent();
    assert!(!host::alive(pid));
    b.cli(["delete", "--force", &b.id]).ok();
    b.cli(["delete", "-f", "never-there"]).ok();
    b.cli(["delete", "never-there"]).code(1).stderr_has("does not exist");
}

#[test]
fn delete_force_of_a_stopped_container() {
    let b = Bundle::busybox();
    let c = b.start();
    c.wait_for("stopped");
    b.cli(["delete", "-f", &b.id]).ok();
    c.verb("state").fails();
}

#[test]
fn the_same_id_can_be_used_again() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    for _ in 0..3 {
        let c = b.start();
        c.stop();
        c.delete().ok();
    }
}

#[test]
fn an_id_in_use_is_refused() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    b.create_call::<&str>(&b.id, []).run().code(1);
    b.run().code(1);
    assert_eq!(c.status(), "running", "and the container that has it is untouched");
    assert!(host::alive(c.pid()));
    c.exec(["true"]).ok();
}

#[test]
fn start_needs_a_created_container() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.cli(["start", &b.id]).code(1).stderr_has("does not exist");
    let c = b.start();
    c.start().code(1);
    assert_eq!(c.status(), "running");
    c.stop();
    c.start().code(1);
    assert_eq!(c.status(), "stopped");
}

#[test]
fn verbs_of_a_missing_container_fail() {
    let b = Bundle::busybox();
    for verb in ["start", "state", "delete", "pause", "resume"] {
        b.cli([verb, "never-there"]).code(1).stderr_has("does not exist");
    }
    b.cli(["kill", "never-there", "KILL"]).code(1).stderr_has("does not exist");
    b.cli(["exec", "never-there", "true"]).fails().stderr_has("does not exist");
    b.cli(["ps", "never-there"]).code(1).stderr_has("does not exist");
}

#[test]
fn a_bundle_in_the_working_directory() {
    let b = Bundle::busybox().sh("echo here");
    b.write_config();
    b.call(["run", &b.id]).cwd(b.dir()).run().ok().stdout("here\n");
    b.call(["run", "--bundle", "bundle", &b.id]).run().ok().stdout("here\n");
    b.call(["run", "-b", "./bundle/../bundle", &b.id]).run().ok().stdout("here\n");
}

#[test]
fn options_before_and_after_the_id() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    b.cli(["delete", &b.id, "--force"]).fails_or_deletes();
    if b.root().join(&b.id).exists() {
        c.kill("KILL").ok();
    }
}

trait FailsOrDeletes {
    fn fails_or_deletes(self);
}

impl FailsOrDeletes for crate::harness::Out {
    /// runc's flag parser stops at the first positional; Corten's does not.
    #[track_caller]
    fn fails_or_deletes(self) {
        if crate::harness::runtime().is_corten() {
            self.ok();
        }
    }
}

#[test]
fn detached_run() {
    let b = Bundle::busybox().sh("echo up; exec sleep 1000");
    let mut run = b.run_call(["--detach", "--pid-file", "pid"]).spawn();
    assert!(soon(|| run.has_ended()), "run -d returns while the container runs");
    assert!(soon(|| run.stdout() == "up\n"), "what it writes later comes through");
    let c = b.adopt(&b.id);
    assert_eq!(c.status(), "running");
    assert_eq!(host::read(b.path("pid")).trim(), c.pid().to_string());
    c.stop();
    assert_eq!(c.status(), "stopped", "and is not deleted by itself");
    c.delete().ok();
}

#[test]
fn run_keep() {
    not_on_runc!("1.1.5 knows no --keep");
    let b = Bundle::busybox().sh("exit 3");
    b.run_with(["--keep"]).code(3);
    let c = b.adopt(&b.id);
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}

#[test]
fn pid_file() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.create_call(&b.id, ["--pid-file", "my.pid"]).run().ok();
    let c = b.adopt(&b.id);
    let text = host::read(b.path("my.pid"));
    assert_eq!(text, c.pid().to_string(), "relative to the caller's directory, no newline");
    let mode = std::fs::metadata(b.path("my.pid")).unwrap().permissions().mode();
    assert_eq!(mode & 0o022, 0);
}

#[test]
fn a_bad_pid_file_fails_the_create() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.create_call(&b.id, ["--pid-file", "no/such/dir/pid"]).run().code(1);
    b.cli(["state", &b.id]).fails();
}

#[test]
fn init_killed_while_created() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.create();
    c.kill("KILL").ok();
    c.wait_for("stopped");
    let start = c.start().code(1);
    assert!(start.took.as_secs() < 5, "start does not wait for a dead init");
    c.delete().ok();
}

#[test]
fn start_says_how_init_died() {
    not_on_runc!("start waits in its fifo until the death is noticed");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.create();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid()), nix::sys::signal::SIGKILL).unwrap();
    // The kernel tells how it ended until somebody reaps it, which may be at once.
    let start = c.start().code(1).stderr_has_one_of(&["SIGKILL", "its first process is gone"]);
    assert!(start.took.as_secs() < 2);
    assert_eq!(c.status(), "stopped");
}

#[test]
fn two_starts_at_once() {
    // runc's two winners are the fault that this test is about.
    not_on_runc!("two racing starts may both believe that they won");
    for _ in 0..10 {
        let b = Bundle::busybox().sh("echo started >> /log; exec sleep 1000");
        let c = b.create();
        let starts: Vec<_> = (0..2).map(|_| b.call(["start", &b.id]).spawn()).collect();
        let codes: Vec<_> = starts.into_iter().map(|s| s.wait().status).collect();
        assert_eq!(codes.iter().filter(|c| **c == 0).count(), 1, "exit codes {codes:?}");
        assert!(crate::harness::soon(|| host::read(b.in_rootfs("log")).ends_with('\n')), "its program begins");
        assert_eq!(c.status(), "running");
        assert_eq!(host::read(b.in_rootfs("log")), "started\n");
    }
}

#[test]
fn many_creates_of_one_id() {
    not_on_runc!("1.1 makes the cgroup of the loser, and leaves it");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    for _ in 0..5 {
        let creates: Vec<_> = (0..4).map(|_| b.create_call::<&str>(&b.id, []).spawn()).collect();
        let outs: Vec<_> = creates.into_iter().map(|c| c.wait()).collect();
        let won = outs.iter().filter(|o| o.status == 0).count();
        assert_eq!(won, 1, "{}", outs.iter().map(|o| o.tell()).collect::<String>());
        let c = b.adopt(&b.id);
        assert_eq!(c.status(), "created");
        c.start().ok();
        b.cli(["delete", "-f", &b.id]).ok();
    }
}

#[test]
fn spec_writes_a_configuration_that_runs() {
    let b = Bundle::busybox();
    b.call(["spec"]).cwd(b.dir()).run().ok().silent();
    let text = host::read(b.dir().join("config.json"));
    let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!(spec["root"]["readonly"], true);
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    b.call(["spec"]).cwd(b.dir()).run().code(1).stderr_has_one_of(&["exists", "exist"]);
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = json!(["echo", "from spec"]);
    spec["linux"]["cgroupsPath"] = format!("/{}", b.id).into();
    let b = b.raw_config(spec.to_string());
    b.run().ok().stdout("from spec\n");
}

#[test]
fn spec_into_a_bundle() {
    let b = Bundle::busybox();
    b.cli(["spec", "--bundle", b.dir().to_str().unwrap()]).ok();
    assert!(b.dir().join("config.json").exists());
}

#[test]
fn version() {
    let b = Bundle::empty();
    let out = b.cli(["--version"]).ok();
    let lines = out.lines();
    let name = if crate::harness::runtime().is_corten() { "corten version " } else { "runc version " };
    assert!(lines[0].starts_with(name), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("spec: 1.")), "{lines:?}");
    // Ubuntu's runc names no commit.
    if crate::harness::runtime().is_corten() {
        assert_eq!(lines[2], "spec: 1.3.0");
        let commit = lines[1].strip_prefix("commit: ").unwrap_or_else(|| panic!("{lines:?}"));
        assert!(commit == "unknown" || commit.len() >= 7 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{commit}");
    }
}

/// The command lines of the clients, recorded.
#[test]
fn as_clients_call_it() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.write_config();
    let (dir, log, pid) =
        (b.dir().display().to_string(), b.path("log.json").display().to_string(), b.path("pid").display().to_string());
    // containerd's shim
    let g = ["--log", &log, "--log-format", "json"];
    let call = |words: &[&str]| b.call(g).args(words).cwd(b.dir()).run();
    call(&["create", "--bundle", &dir, "--pid-file", &pid, &b.id]).ok();
    call(&["start", &b.id]).ok();
    call(&["ps", "--format", "json", &b.id]).ok();
    call(&["kill", &b.id, "9"]).ok();
    b.adopt(&b.id).wait_for("stopped");
    call(&["delete", &b.id]).ok();
    call(&["delete", "--force", &b.id]).ok();
    // conmon: options with equals signs, `--systemd-cgroup` not given, nothing in the environment for delete
    b.call(["--log-format=json", "--log", &log, "create", "--bundle", &dir, "--pid-file", &pid, &b.id])
        .env("_OCI_SYNCPIPE", "3")
        .env("_OCI_STARTPIPE", "4")
        .run()
        .ok();
    b.cli(["start", &b.id]).ok();
    b.cli(["kill", "--all", &b.id, "9"]).ok();
    b.adopt(&b.id).wait_for("stopped");
    b.call(["delete", "--force", &b.id]).no_env().run().ok();
    // BuildKit
    b.cli(["--log", &log, "--log-format", "json", "run", "--bundle", &dir, "--detach", &b.id]).ok();
    b.cli(["delete", "--force", &b.id]).ok();
}

#[test]
fn flags_without_effect_here() {
    let b = Bundle::busybox();
    b.run_with(["--no-new-keyring"]).ok();
    b.run_with(["--no-subreaper"]).ok();
    b.run_with(["-no-subreaper"]).ok();
}

#[test]
fn the_default_root_of_an_ordinary_user() {
    let b = Bundle::busybox();
    b.shell("mkdir -m 777 xdg").ok();
    std::fs::copy(&b.binary, b.path("corten")).unwrap();
    let xdg = b.path("xdg");
    let words = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "./corten", "list"];
    let out = b.host("setpriv").args(words).env("XDG_RUNTIME_DIR", &xdg).run();
    // A folder that is not there is an empty one.
    out.ok();
}
