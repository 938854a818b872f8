//! Hooks: which, when, where, with what on standard input, and what their failures do.

use crate::harness::{Bundle, host, runtime, soon};
use serde_json::{Value, json};
use std::time::Duration;

const ORDER: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Those that are tested together; runc 1.1 runs poststart at the end of create.
fn kinds() -> Vec<&'static str> {
    ORDER.into_iter().filter(|kind| runtime().is_corten() || *kind != "poststart").collect()
}

/// A hook that is a shell script. `/bin/sh` is there on the host and inside.
fn hook(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"]})
}

/// A bundle of which every hook adds its line to `log` in a folder that is bound to /log inside.
fn logging(line: &dyn Fn(&str) -> String) -> Bundle {
    let b = Bundle::busybox();
    let log = b.mkdir("log");
    let outside = log.join("log").display().to_string();
    b.edit(|s| {
        crate::harness::add_mount(s, crate::harness::bind(&log, "/log", &["bind"]));
        for kind in kinds() {
            // createContainer hooks find the host's path still, before the pivot.
            let file = if kind == "startContainer" { "/log/log" } else { &outside };
            s["hooks"][kind] = json!([hook(&format!("{} >> {file}", line(kind)))]);
        }
    })
}

fn log(b: &Bundle) -> String {
    host::read(b.path("log/log"))
}

#[test]
fn all_six_in_order() {
    let b = logging(&|kind| format!("echo {kind}")).sh("echo program >> /log/log");
    let c = b.create();
    assert_eq!(log(&b), "prestart\ncreateRuntime\ncreateContainer\n");
    c.start().ok();
    assert!(soon(|| log(&b).lines().count() == kinds().len()));
    let text = log(&b);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[3], "startContainer");
    // The program runs beside poststart.
    let later = &lines[4..];
    assert!(later.contains(&"program") && later.contains(&"poststart") == runtime().is_corten(), "{text}");
    c.wait_for("stopped");
    assert!(!log(&b).contains("poststop"));
    c.delete().ok();
    assert!(log(&b).ends_with("poststop\n"));
}

#[test]
fn all_six_with_run() {
    let b = logging(&|kind| format!("echo {kind}"));
    b.run().ok();
    let mut lines: Vec<_> = log(&b).lines().map(str::to_owned).collect();
    assert_eq!(lines.pop().unwrap(), "poststop");
    assert_eq!(lines, kinds()[..kinds().len() - 1]);
}

#[test]
fn several_of_one_kind_in_order() {
    let b = Bundle::busybox();
    let log = b.path("log");
    let b = b.edit(|s| {
        let hooks: Vec<_> = (0..5).map(|n| hook(&format!("echo {n} >> {}", log.display()))).collect();
        s["hooks"]["createRuntime"] = hooks.into();
    });
    b.run().ok();
    assert_eq!(host::read(b.path("log")), "0\n1\n2\n3\n4\n");
}

#[test]
fn the_state_comes_on_standard_input() {
    let b =
        logging(&|_| "{ cat; echo; }".into()).edit(|s| s["annotations"] = json!({"k": "v"})).args(["sleep", "1000"]);
    let c = b.create();
    let pid = c.pid();
    c.start().ok();
    assert!(soon(|| log(&b).lines().filter(|l| !l.is_empty()).count() == kinds().len() - 1));
    c.stop();
    c.delete().ok();
    let text = log(&b);
    let states: Vec<Value> =
        text.lines().filter(|l| !l.is_empty()).map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(states.len(), kinds().len());
    for (state, kind) in states.iter().zip(kinds()) {
        let status = match kind {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["id"], *b.id, "{kind}");
        assert_eq!(state["bundle"], b.dir().to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["k"], "v", "{kind}");
        assert!(state["ociVersion"].is_string(), "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        match kind {
            "poststop" => {}
            // Inside, pids are the container's own.
            "createContainer" | "startContainer" => assert!(state["pid"].as_i64().unwrap() > 0, "{kind}"),
            _ => assert_eq!(state["pid"], pid, "{kind}"),
        }
    }
}

#[test]
fn the_state_can_be_asked_from_a_hook() {
    not_on_runc!("1.1 writes its state after the hooks");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let (root, out) = (b.root(), b.path("out/state"));
    let ask = format!("{} --root {} state {} > {}", runtime().path.display(), root.display(), b.id, out.display());
    let b = b.edit(|s| s["hooks"]["createRuntime"] = json!([hook(&ask)]));
    b.create_call::<&str>(&b.id, []).run().ok();
    let state: Value = serde_json::from_str(&host::read(&out)).unwrap();
    assert_eq!(state["status"], "creating");
}

#[test]
fn each_in_its_namespaces() {
    let b = logging(&|_| "readlink /proc/self/ns/mnt".into()).args(["sleep", "1000"]);
    let c = b.start();
    assert!(soon(|| log(&b).lines().count() == kinds().len() - 1));
    let inside = std::fs::read_link(format!("/proc/{}/ns/mnt", c.pid())).unwrap();
    let outside = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let (inside, outside) = (inside.to_str().unwrap(), outside.to_str().unwrap());
    let text = log(&b);
    let wanted = [outside, outside, inside, inside, outside];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted[..kinds().len() - 1]);
}

#[test]
fn create_container_sees_the_root_before_the_pivot() {
    let b = Bundle::busybox();
    let (etc, marker) = (b.in_rootfs("etc"), b.path("marker"));
    std::fs::write(&marker, "").unwrap();
    let script = format!(
        "test -e {} && test -d {} && ls -d /proc/1 > {}",
        marker.display(),
        etc.display(),
        b.path("out/seen").display()
    );
    let b = b.edit(|s| s["hooks"]["createContainer"] = json!([hook(&script)]));
    b.run().ok();
    assert!(b.path("out/seen").exists());
}

#[test]
fn start_container_runs_inside() {
    let b = Bundle::busybox().args(["cat", "/made"]);
    let b =
        b.edit(|s| s["hooks"]["startContainer"] = json!([hook("echo by the hook as $$ > /made; hostname >> /made")]));
    let out = b.run().ok();
    assert!(out.lines()[0].starts_with("by the hook as") && out.lines()[1] == "box", "{}", out.out);
}

#[test]
fn the_arguments_and_environment_of_a_hook() {
    let b = Bundle::busybox();
    let out = b.path("out/words");
    let script = format!("for a; do echo \"[$a]\"; done > {0}; env >> {0}", out.display());
    let b = b.edit(|s| {
        s["hooks"]["createRuntime"] =
            json!([{"path": "/bin/sh", "args": ["my name", "-c", script, "zero", "one two", "", "$X"], "env": ["A=1", "PATH=/usr/bin:/bin"]}]);
    });
    b.run_call::<&str>([]).env("LEAK", "yes").run().ok();
    let text = host::read(&out);
    assert!(text.starts_with("[one two]\n[]\n[$X]\n"), "{text}");
    assert!(text.contains("A=1\n") && !text.contains("LEAK="), "{text}");
}

#[test]
fn a_hook_without_an_environment_inherits() {
    not_on_runc!("1.1 gives an empty environment");
    let b = Bundle::busybox();
    let out = b.path("out/words");
    let script = format!("env > {}", out.display());
    let b = b.edit(|s| s["hooks"]["createRuntime"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]));
    b.run_call::<&str>([]).env("MARK", "yes").run().ok();
    assert!(host::read(&out).contains("MARK=yes\n"));
}

#[test]
fn a_failing_hook_stops_the_creation() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let b = logging(&|kind| format!("echo {kind}")).edit(|s| {
            s["hooks"][kind] = json!([hook("exit 0"), hook("echo the reason >&2; exit 3"), hook("exit 0")]);
        });
        let create = b.create_call::<&str>(&b.id, []).run().code(1).stderr_has("hook");
        if runtime().is_corten() {
            create.stderr_has(&format!("error running {kind} hook #1")).stderr_has("the reason").stderr_has("3");
        }
        b.cli(["state", &b.id]).fails();
        b.run().code(1).stdout("");
    }
}

#[test]
fn a_failing_start_container_hook() {
    let b = Bundle::busybox().sh("echo ran > /ran").edit(|s| s["hooks"]["startContainer"] = json!([hook("exit 4")]));
    let c = b.create();
    let start = c.start();
    c.wait_for("stopped");
    assert!(!b.in_rootfs("ran").exists());
    if runtime().is_corten() {
        start.code(1).stderr_has("startContainer hook #0");
    }
    drop(c);
    b.run().fails();
    assert!(!b.in_rootfs("ran").exists());
}

#[test]
fn a_failing_poststart_hook_only_warns() {
    not_on_runc!("1.1 kills the container");
    let b = Bundle::busybox()
        .sh("sleep 0.2; echo ran")
        .edit(|s| s["hooks"]["poststart"] = json!([hook("exit 4"), hook("exit 0")]));
    b.run().ok().stdout("ran\n").stderr_has("poststart hook #0");
}

#[test]
fn a_failing_poststop_hook_only_warns() {
    not_on_runc!("1.1 does not run the ones after it");
    let b = Bundle::busybox();
    let log = b.path("out/second");
    let b = b.edit(|s| s["hooks"]["poststop"] = json!([hook("exit 4"), hook(&format!("touch {}", log.display()))]));
    b.run().ok();
    assert!(log.exists(), "the next one runs all the same");
    let c = b.create();
    b.cli(["delete", "-f", &b.id]).ok().stderr_has("poststop hook");
    c.verb("state").fails();
}

#[test]
fn poststop_runs_after_a_failed_creation() {
    not_on_runc!("1.1 runs no poststop hook when create fails");
    let b = logging(&|kind| format!("echo {kind}")).edit(|s| s["hooks"]["createContainer"] = json!([hook("exit 1")]));
    b.create_call::<&str>(&b.id, []).run().code(1);
    assert_eq!(log(&b), "prestart\ncreateRuntime\npoststop\n");
}

#[test]
fn a_hook_that_hangs() {
    let b = Bundle::busybox().edit(|s| {
        s["hooks"]["createRuntime"] = json!([{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]);
    });
    let out = b.run().code(1).stderr_has("hook");
    assert!(out.took > Duration::from_millis(900) && out.took < crate::harness::seconds(8), "{:?}", out.took);
    if runtime().is_corten() {
        out.stderr_has("createRuntime hook #0").stderr_has("1 s");
    }
}

#[test]
fn a_hook_that_is_missing() {
    let b = Bundle::busybox().edit(|s| s["hooks"]["createRuntime"] = json!([{"path": "/no/such/hook"}]));
    b.run().code(1).stderr_has("/no/such/hook").stderr_has("no such file");
    not_on_runc!("1.1 takes relative paths");
    let b = Bundle::busybox().edit(|s| s["hooks"]["createRuntime"] = json!([{"path": "relative"}]));
    b.run().code(1).stderr_has("hooks.createRuntime[0].path");
}

#[test]
fn a_hook_that_floods_its_output_or_reads_nothing() {
    let b = Bundle::busybox().sh("echo fine").edit(|s| {
        s["annotations"] = json!({"long": "x".repeat(200_000)});
        s["hooks"]["createRuntime"] = json!([
            hook("exec <&-; exit 0"),
            hook("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2"),
            hook("sleep 0.1; exec <&- >&- 2>&-; exit 0")
        ]);
    });
    b.run().ok().stdout("fine\n");
}

#[test]
fn a_hook_killed_by_a_signal() {
    let b = Bundle::busybox().edit(|s| s["hooks"]["createRuntime"] = json!([hook("kill -9 $$")]));
    let out = b.run().code(1).stderr_has("hook");
    if runtime().is_corten() {
        out.stderr_has("SIGKILL");
    }
}

/// F9: create killed during a hook; delete -f cleans, and runs poststop once.
#[test]
fn create_killed_during_a_hook() {
    not_on_runc!("a create killed half-way leaves what no verb finds");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let (up, gone) = (b.path("out/up"), b.path("out/gone"));
    let b = b.edit(|s| {
        s["hooks"]["createRuntime"] = json!([hook(&format!("touch {}; exec sleep 3", up.display()))]);
        s["hooks"]["poststop"] = json!([hook(&format!("echo gone >> {}", gone.display()))]);
    });
    let create = b.create_call::<&str>(&b.id, []).spawn();
    assert!(soon(|| up.exists()));
    create.signal(nix::sys::signal::SIGKILL);
    drop(create);
    b.cli(["delete", "--force", &b.id]).ok();
    assert_eq!(host::read(&gone), "gone\n");
    b.cli(["delete", "--force", &b.id]).ok();
    assert_eq!(host::read(&gone), "gone\n");
}

/// No lock is held while a hook runs: whoever asks gets an answer.
#[test]
fn a_hanging_hook_blocks_nobody() {
    not_on_runc!("1.1 knows nothing of a container before its hooks have run");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let up = b.path("out/up");
    let b = b.edit(|s| {
        s["hooks"]["createRuntime"] =
            json!([hook(&format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", up.display()))]);
    });
    let create = b.create_call::<&str>(&b.id, []).spawn();
    assert!(soon(|| up.exists()));
    let state = b.cli(["state", &b.id]).ok();
    assert_eq!(state.json()["status"], "creating");
    assert!(state.took < crate::harness::seconds(2));
    b.cli(["list"]).ok().stdout_has("creating");
    let delete = b.cli(["delete", "--force", &b.id]).ok();
    assert!(delete.took < crate::harness::seconds(5));
    // The hook is not the container's, and goes on; when it ends, create finds nothing to go on with.
    let hook = host::read(&up).trim().parse().unwrap();
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(hook), nix::sys::signal::SIGKILL);
    create.wait().fails();
}

/// createRuntime finds the new network namespace.
#[test]
fn a_network_is_made_by_a_hook() {
    let b = Bundle::busybox().sh("cat /sys/class/net/probe0/address");
    let script = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -t $pid -n ip link add probe0 type dummy";
    let b = b.edit(|s| s["hooks"]["createRuntime"] = json!([hook(script)]));
    if b.shell("unshare -n ip link add probe0 type dummy").status != 0 {
        skip!("this kernel has no dummy network device");
    }
    assert_eq!(b.run().ok().text().len(), 17);
}
