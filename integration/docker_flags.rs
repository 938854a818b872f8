//! Docker's habits on a bundle, and the verbs that only Corten has: stop, rm, inspect, bare ps.

use crate::harness::{Bundle, Out, Pty, host, soon};
use serde_json::{Value, json};
use std::time::Duration;

/// `run -b BUNDLE --name ID OPTIONS ARGS`; config.json must be the same afterwards.
#[track_caller]
fn docker(b: &Bundle, options: &[&str], args: &[&str]) -> Out {
    b.write_config();
    let before = host::read(b.dir().join("config.json"));
    let dir = b.dir();
    let out = b.call(["run", "-b", dir.to_str().unwrap(), "--name", &b.id]).args(options).args(args).run();
    assert_eq!(host::read(b.dir().join("config.json")), before, "config.json is not rewritten");
    out
}

#[test]
fn name_and_arguments() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox().sh("echo from the configuration");
    docker(&b, &[], &[]).ok().stdout("from the configuration\n");
    docker(&b, &[], &["echo", "one", "-n", "--rm"]).ok().stdout("one -n --rm\n");
    // Without --name the one positional is the id.
    b.run().ok().stdout("from the configuration\n");
    let dir = b.dir();
    b.cli(["run", "-b", dir.to_str().unwrap(), &b.id, "surplus"]).code(1).stderr_has("--name");
}

#[test]
fn entrypoint() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox().sh("echo configured");
    docker(&b, &["--entrypoint", "/bin/echo"], &["a", "b"]).ok().stdout("a b\n");
    docker(&b, &["--entrypoint=/bin/hostname"], &[]).ok().stdout("box\n");
}

#[test]
fn environment_directory_user_hostname() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox().sh("echo $A $B; pwd; id -u; id -g; hostname");
    let options = ["-e", "A=1", "--env", "B=two", "-w", "/tmp", "-u", "1000:50", "--hostname", "named"];
    docker(&b, &options, &[]).ok().stdout("1 two\n/tmp\n1000\n50\nnamed\n");
    let b = Bundle::busybox().sh("echo $TAKEN; id -u; id -g");
    b.write_config();
    let dir = b.dir();
    let call = b.call(["run", "-b", dir.to_str().unwrap(), "-e", "TAKEN", "-u", "nobody:staff", "--name", &b.id]);
    call.env("TAKEN", "from me").run().ok().stdout("from me\n65534\n50\n");
    docker(&b, &["-e", "PATH=/bin", "-e", "A=1", "-e", "A=2"], &["sh", "-c", "echo $A"]).ok().stdout("2\n");
}

#[test]
fn network() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox().args(["readlink", "/proc/self/ns/net"]);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    docker(&b, &["--network=host"], &[]).ok().stdout(&format!("{own}\n"));
    docker(&b, &["--network", "none"], &[]).ok().stdout_lacks(&own);
    docker(&b, &["--network", "bridge"], &[]).code(1).stderr_has("bridge");
}

#[test]
fn mounts() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    std::fs::write(data.join("f"), "of the host\n").unwrap();
    let b = b.sh("cat /data/f; echo x > /data/g");
    let source = data.display();
    docker(&b, &["--mount", &format!("type=bind,source={source},target=/data,readonly")], &[])
        .code(1)
        .stdout("of the host\n")
        .stderr_has("Read-only");
    docker(&b, &["--mount", &format!("type=bind,src={source},dst=/data")], &[]).ok();
    assert_eq!(host::read(data.join("g")), "x\n");
    docker(&b, &["--mount", "type=bind,source=/no/such,target=/data"], &[]).code(1).stderr_has("/no/such");
    docker(&b, &["--mount", "nonsense"], &[]).code(1).stderr_has("nonsense");
    docker(&b, &["--mount", "type=bind,source=/tmp"], &[]).code(1).stderr_has("target");
}

#[test]
fn rm_is_what_run_does() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox();
    docker(&b, &["--rm"], &[]).ok();
    b.cli(["state", &b.id]).fails();
}

#[test]
fn interactive_with_a_terminal() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox();
    b.write_config();
    let mut pty = Pty::new(24, 80);
    let binary = b.binary.to_str().unwrap();
    let words = [
        "--ctty",
        "--wait",
        binary,
        "--root",
        "root",
        "run",
        "-b",
        "bundle",
        "-it",
        "--name",
        &b.id,
        "--entrypoint",
        "/bin/sh",
    ];
    let run = b.host("setsid").args(words).stdio(pty.slave(), pty.slave(), pty.slave()).spawn();
    pty.wait_for("# ");
    pty.write("echo $((6*7)); tty; exit 4\r");
    pty.wait_for("42");
    run.wait().code(4);
}

#[test]
fn flags_of_later_versions_are_refused() {
    corten_only!("Docker's flags");
    let b = Bundle::busybox();
    for flag in ["--publish=80:80", "--volume=/a:/b", "-p", "-v", "--memory=64m", "--restart=always"] {
        let out = docker(&b, &[flag], &[]).fails();
        out.stderr_has(flag.split('=').next().unwrap());
    }
}

#[test]
fn stop() {
    corten_only!("stop");
    // Ends by itself on SIGTERM.
    let b = Bundle::busybox().sh("trap 'exit 0' TERM; touch /up; while :; do sleep 0.05; done");
    let c = b.start();
    c.wait_for_file("up");
    let stop = b.cli(["stop", &b.id]).ok();
    assert!(stop.took < crate::harness::seconds(3));
    assert_eq!(c.status(), "stopped");
    // Again: success.
    b.cli(["stop", &b.id]).ok();
    b.cli(["stop", "never-there"]).code(1).stderr_has("does not exist");
}

#[test]
fn stop_kills_after_its_time() {
    corten_only!("stop");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let stop = b.cli(["stop", "-t", "1", &b.id]).ok();
    assert!(stop.took >= Duration::from_millis(950) && stop.took < crate::harness::seconds(4), "{:?}", stop.took);
    assert_eq!(c.status(), "stopped");
    drop(c);
    let _c = b.start();
    let stop = b.cli(["stop", "--time", "0", &b.id]).ok();
    assert!(stop.took < crate::harness::seconds(1));
}

#[test]
fn stop_sends_the_images_signal() {
    corten_only!("stop");
    let b = Bundle::busybox().sh("trap 'echo usr1 > /got; exit 0' USR1; touch /up; while :; do sleep 0.05; done");
    let b = b.edit(|s| s["annotations"] = json!({"org.opencontainers.image.stopSignal": "SIGUSR1"}));
    let c = b.start();
    c.wait_for_file("up");
    b.cli(["stop", &b.id]).ok();
    assert_eq!(host::read(b.in_rootfs("got")), "usr1\n");
}

#[test]
fn stop_of_a_paused_and_of_several() {
    corten_only!("stop");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let (one, two) = (format!("{}-1", b.id), format!("{}-2", b.id));
    let (c1, c2) = (b.create_as(&one), b.create_as(&two));
    c1.start().ok();
    c2.start().ok();
    c1.verb("pause").ok();
    let stop = b.cli(["stop", "-t", "1", &one, &two]).ok();
    assert!(stop.took < crate::harness::seconds(6));
    assert_eq!((c1.status().as_str(), c2.status().as_str()), ("stopped", "stopped"));
}

#[test]
fn rm() {
    corten_only!("rm");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    b.cli(["rm", &b.id]).code(1).stderr_has("running").stderr_has("hint:").stderr_has("rm -f");
    assert_eq!(c.status(), "running");
    b.cli(["rm", "-f", &b.id]).ok();
    c.verb("state").fails();
    b.cli(["rm", &b.id]).code(1).stderr_has("does not exist");
    let c = b.start();
    c.stop();
    let other = format!("{}-2", b.id);
    let _o = b.create_as(&other);
    b.cli(["rm", "-f", &b.id, &other]).ok();
    assert_eq!(b.cli(["list", "-q"]).ok().out, "");
}

#[test]
fn bare_ps() {
    corten_only!("ps without an id");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let two = format!("{}-2", b.id);
    let stopped = b.create_as(&two);
    stopped.start().ok();
    stopped.stop();
    let ids = |words: &[&str]| -> Vec<String> {
        let out = b.cli(words).ok();
        let first = out.lines().into_iter().skip(1).filter_map(|line| line.split_whitespace().next());
        let mut ids: Vec<String> = first.map(str::to_owned).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&["ps"]), [b.id.as_str()]);
    assert_eq!(ids(&["ps", "-a"]), [b.id.as_str(), &two]);
    b.cli(["ps", &b.id]).ok().stdout_has("sleep 1000");
    drop(c);
}

#[test]
fn inspect() {
    corten_only!("inspect");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let all: Value = b.cli(["inspect", &b.id]).ok().json();
    let one = &all.as_array().expect("an array")[0];
    assert_eq!(one["id"], *b.id);
    assert_eq!(one["status"], "running");
    assert_eq!(one["pid"], c.pid());
    let text = one.to_string();
    assert!(text.contains("\"sleep\""), "the configuration");
    assert!(
        text.contains(&format!("/sys/fs/cgroup/freezer/{}", b.id))
            || text.contains(&format!("/sys/fs/cgroup/{}", b.id)),
        "cgroup paths: {text}"
    );
    assert!(text.contains("/dev/mqueue"), "mounts");
    b.cli(["inspect", &b.id, "never-there"]).code(1).stderr_has("never-there");
    c.stop();
    assert_eq!(b.cli(["inspect", &b.id]).ok().json()[0]["status"], "stopped");
    assert!(soon(|| true));
}

#[test]
fn exec_with_dockers_flags() {
    corten_only!("exec -i");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    b.call(["exec", "-i", &b.id, "cat"]).stdin("typed\n").run().ok().stdout("typed\n");
    b.cli(["exec", "-w", "/tmp", "-e", "A=1", "-u", "1000:50", &b.id, "sh", "-c", "pwd; echo $A; id -u"])
        .ok()
        .stdout("/tmp\n1\n1000\n");
}
