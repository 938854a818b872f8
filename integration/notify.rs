//! SCMP_ACT_NOTIFY: an agent of the host answers the calls of a container.

use crate::harness::{Agent, Bundle, Habit, host, runtime};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

const MKDIR: u32 = 83;
const EXECVE: u32 = 59;
const OPENAT: u32 = 257;
const SENDMSG: u32 = 46;
/// EBADFD, which mkdir(2) never returns by itself.
const INVENTED: i32 = 77;
const ITS_WORDS: &str = "File descriptor in bad state";

/// The same bundle with and without noNewPrivileges.
fn both(make: impl Fn() -> Bundle) -> [Bundle; 2] {
    [true, false].map(|bound| make().edit(|s| s["process"]["noNewPrivileges"] = bound.into()))
}

fn with(b: Bundle, profile: Value) -> Bundle {
    b.edit(|s| s["linux"]["seccomp"] = profile)
}

fn asks(b: Bundle, habit: Habit, names: &[&str]) -> (Bundle, Agent) {
    let agent = Agent::new(&b, habit);
    let profile = agent.profile(names);
    (with(b, profile), agent)
}

fn refuses_mkdir() -> Habit {
    Habit::Answer(vec![(MKDIR, INVENTED)])
}

fn lets_go_on() -> Habit {
    Habit::Answer(vec![])
}

#[test]
fn the_agent_invents_an_answer() {
    for b in both(|| Bundle::busybox().sh("mkdir /x; test ! -e /x && echo none")) {
        let (b, agent) = asks(b, refuses_mkdir(), &["mkdir"]);
        b.run().ok().stdout("none\n").stderr_has(ITS_WORDS);
        assert_eq!(agent.asked(), [MKDIR]);
    }
}

#[test]
fn the_agent_lets_a_call_go_on() {
    for b in both(|| Bundle::busybox().sh("mkdir /x; test -d /x && echo made")) {
        let (b, agent) = asks(b, lets_go_on(), &["mkdir", "openat", "connect"]);
        b.run().ok().stdout("made\n");
        assert!(agent.asked().contains(&MKDIR));
    }
}

#[test]
fn create_and_start() {
    for b in both(|| Bundle::busybox().sh("mkdir /x; echo $? > /code")) {
        let (b, agent) = asks(b, refuses_mkdir(), &["mkdir"]);
        let c = b.create();
        agent.state(0);
        c.start().ok();
        c.wait_for("stopped");
        assert_eq!(host::read(b.in_rootfs("/code")), "1\n");
    }
}

#[test]
fn exec() {
    for b in both(|| Bundle::busybox().sh("sleep 1000")) {
        let (b, agent) = asks(b, refuses_mkdir(), &["mkdir"]);
        let c = b.start();
        c.sh("mkdir /x || echo refused").ok().stdout("refused\n").stderr_has(ITS_WORDS);
        agent.state(1);
    }
}

/// Calls that the runtime itself makes under the filter, and those by which it hands the listener over.
#[test]
fn the_runtimes_own_calls() {
    let mut names = vec!["execve", "openat", "open", "read", "close", "sendmsg", "recvmsg", "accept4", "futex", "mmap"];
    if runtime().is_corten() {
        // runc refuses it by name.
        names.push("write");
    }
    for b in both(|| Bundle::busybox().sh("echo fine; sleep 1000")) {
        let (b, agent) = asks(b, lets_go_on(), &names);
        let c = b.create();
        c.start().ok();
        c.wait_for("running");
        agent.wait_for(EXECVE);
        c.sh("echo fine").ok().stdout("fine\n");
        c.stop();
    }
    for b in both(|| Bundle::busybox().sh("echo fine")) {
        let (b, agent) = asks(b, lets_go_on(), &names);
        b.run().ok().stdout("fine\n");
        assert!(agent.asked().contains(&EXECVE));
    }
}

/// The profile names nothing at all: the agent is asked about every call from the filter on.
#[test]
fn every_call() {
    not_on_runc!("SCMP_ACT_NOTIFY cannot be the default action");
    for b in both(|| Bundle::busybox().sh("echo fine; sleep 1000")) {
        let (b, agent) = asks(b, lets_go_on(), &["no_such_call"]);
        let b = b.edit(|s| s["linux"]["seccomp"]["defaultAction"] = "SCMP_ACT_NOTIFY".into());
        let c = b.start();
        c.sh("echo fine").ok().stdout("fine\n");
        assert!([EXECVE, SENDMSG].iter().all(|call| agent.asked().contains(call)), "{:?}", agent.asked());
        c.stop();
    }
}

/// The agent refuses what create itself needs from then on: an error, and nothing is left.
#[test]
fn an_agent_that_refuses_the_runtime() {
    for (call, name) in [(EXECVE, "execve"), (SENDMSG, "sendmsg")] {
        let (b, _agent) = asks(Bundle::busybox().args(["true"]), Habit::Answer(vec![(call, INVENTED)]), &[name]);
        let run = b.run();
        // Sendmsg is not needed under the filter by a run of Corten.
        if name == "execve" {
            run.fails();
            b.runc_leaves_its_cgroup();
        } else if runtime().is_corten() {
            run.ok();
        }
    }
}

#[test]
fn what_the_agent_is_told() {
    let (b, agent) = asks(Bundle::busybox().sh("sleep 1000"), lets_go_on(), &["mkdir"]);
    let b = b.edit(|s| s["annotations"] = json!({"org.example": "x"}));
    let c = b.create();
    let pid = c.pid();
    if runtime().is_corten() {
        c.exec(["true"]).ok();
        assert_eq!(agent.state(1)["state"]["status"], "created");
    }
    c.start().ok();
    c.exec_with(&["--detach", "--pid-file", "pid"], &["sleep", "1000"]).ok();
    let other: i32 = host::read(b.path("pid")).parse().expect("a number");
    let last = if runtime().is_corten() { 2 } else { 1 };
    for (state, status, own) in [(agent.state(0), "creating", pid), (agent.state(last), "running", other)] {
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["pid"], own, "as the runtime sees it");
        assert_eq!(state["metadata"], "a \"word\" for the agent");
        let inner = &state["state"];
        assert_eq!(inner["id"], *b.id);
        assert_eq!((&inner["status"], &inner["pid"]), (&json!(status), &json!(pid)));
        assert_eq!(inner["bundle"], json!(b.dir()));
        if runtime().is_corten() {
            assert_eq!((&state["ociVersion"], &inner["ociVersion"]), (&json!("1.0.2"), &json!("1.0.2")));
        }
        assert!(state["ociVersion"].is_string() && inner["ociVersion"].is_string());
    }
    assert_eq!(agent.state(0)["state"]["annotations"]["org.example"], "x");
}

#[test]
fn an_empty_metadata_is_left_out() {
    let (b, agent) = asks(Bundle::busybox().args(["true"]), lets_go_on(), &["mkdir"]);
    let b = b.edit(|s| drop(s["linux"]["seccomp"].as_object_mut().unwrap().remove("listenerMetadata")));
    b.run().ok();
    assert_eq!(agent.state(0).get("metadata"), None);
}

/// Many annotations: more than a socket holds, in one connection.
#[test]
fn a_long_state() {
    let (b, agent) = asks(Bundle::busybox().args(["true"]), lets_go_on(), &["mkdir"]);
    let b = b.edit(|s| s["annotations"]["long"] = "x".repeat(1 << 20).into());
    b.run().ok();
    assert_eq!(agent.state(0)["state"]["annotations"]["long"].as_str().map(str::len), Some(1 << 20));
}

#[test]
fn in_a_user_namespace() {
    for b in both(|| Bundle::busybox().user_namespace().sh("mkdir /tmp/x || echo refused; sleep 1000")) {
        for names in [&["mkdir"][..], &["mkdir", "sendmsg", "close"]] {
            let agent_dir = b.path("agent.sock");
            let _ = std::fs::remove_file(agent_dir);
            let agent = Agent::new(&b, refuses_mkdir());
            let profile = agent.profile(names);
            let config = b.dir().join("config.json");
            b.write_config();
            let mut spec: Value = serde_json::from_str(&host::read(&config)).expect("JSON");
            spec["linux"]["seccomp"] = profile;
            std::fs::write(&config, spec.to_string()).expect("written");
            let id = b.id.as_str();
            b.call(["create", "--bundle", "bundle", id]).run().ok();
            b.cli(["start", id]).ok();
            b.cli(["exec", id, "sh", "-c", "mkdir /tmp/x || echo refused"]).ok().stdout("refused\n");
            b.cli(["delete", "--force", id]).ok();
        }
    }
}

#[test]
fn an_ordinary_user() {
    for b in both(|| Bundle::busybox().sh("id -u; mkdir /tmp/x || echo refused")) {
        let (b, _agent) = asks(b, refuses_mkdir(), &["mkdir", "close", "setuid", "capset"]);
        let b = b.edit(|s| s["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
        b.run().ok().stdout("1000\nrefused\n");
    }
}

#[test]
fn nobody_listens() {
    let missing = "/nowhere/agent.sock".to_owned();
    let b = Bundle::busybox();
    // A socket that nobody holds any more, behind a path that no address holds.
    let long = b.mkdir(&"long/".repeat(30)).join("agent.sock");
    drop(UnixListener::bind(b.path("short.sock")).expect("bind"));
    std::fs::rename(b.path("short.sock"), &long).expect("rename");
    for (path, words) in [(missing, "no such file"), (long.display().to_string(), "refused")] {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                             "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
        for verb in ["run", "create"] {
            let b = with(Bundle::busybox().sh("touch /ran"), profile.clone());
            let out = match verb {
                "run" => b.run(),
                _ => b.create_call::<&str>(&b.id, []).run(),
            };
            let out = out.fails().stderr_has("agent");
            assert!(!b.in_rootfs("/ran").exists(), "the program ran without its agent");
            if runtime().is_corten() {
                out.code(1).stderr_has(words).stderr_has("linux.seccomp.listenerPath").stderr_has(&path);
                assert_eq!(b.status(&b.id), "");
            }
            b.runc_leaves_its_cgroup();
        }
    }
}

#[test]
fn a_path_that_no_address_holds() {
    not_on_runc!("hands the path to connect(2) as it is");
    let b = Bundle::busybox().sh("mkdir /x");
    let (b, agent) = asks(b, refuses_mkdir(), &["mkdir"]);
    let long = b.mkdir(&"long/".repeat(30)).join("agent.sock");
    std::fs::rename(&agent.path, &long).expect("rename");
    let b = b.edit(|s| s["linux"]["seccomp"]["listenerPath"] = json!(long));
    b.run().code(1).stderr_has(ITS_WORDS);
    std::fs::rename(&long, &agent.path).expect("rename");
}

#[test]
fn faults_in_the_configuration() {
    let of = |listener: Value| {
        let rules = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "listenerPath": listener});
        with(Bundle::busybox().args(["true"]), profile)
    };
    let b = of("".into());
    b.run().fails().stderr_has("listenerPath");
    b.runc_leaves_its_cgroup();
    let b = of("agent.sock".into());
    let out = b.run().fails();
    b.runc_leaves_its_cgroup();
    if runtime().is_corten() {
        out.code(1).stderr_has("linux.seccomp.listenerPath: \"agent.sock\" is not an absolute path");
    }
}

/// "If the SCMP_ACT_NOTIFY action is not used this value is ignored."
#[test]
fn a_path_that_is_not_used() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere", "listenerMetadata": "x",
                         "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]});
    with(Bundle::busybox().args(["true"]), profile).run().ok();
}

/// The agent leaves: whoever is held up gets ENOSYS, and nobody waits for a listener that is nobody's.
#[test]
fn an_agent_that_closes_the_listener() {
    for b in both(|| Bundle::busybox().sh("mkdir /x; exit $?")) {
        let (b, _agent) = asks(b, Habit::Close, &["mkdir"]);
        b.run().code(1).stderr_has("Function not implemented");
    }
}

/// The same for what the runtime itself calls under the filter: it keeps no copy that would keep it waiting.
#[test]
fn an_agent_that_leaves_the_runtime_alone() {
    not_on_runc!("its init holds a copy of the listener, and may wait for itself");
    for names in [&["execve"][..], &["execve", "sendmsg", "close", "recvmsg"]] {
        let (b, _agent) = asks(Bundle::busybox().args(["/bin/true"]), Habit::Close, names);
        let out = b.run().fails();
        if names.len() == 1 {
            out.code(1).stderr_has("execve(\"/bin/true\"").stderr_has("ENOSYS");
        }
    }
    let (b, _agent) = asks(Bundle::busybox().args(["/bin/true"]), Habit::Close, &["sendmsg", "exit_group"]);
    b.create_call::<&str>(&b.id, []).run().fails();
}

/// It is killed while the agent thinks about it.
#[test]
fn killed_while_it_waits() {
    let (b, agent) = asks(Bundle::busybox().args(["true"]), Habit::Silence, &["sendmsg", "execve", "read", "openat"]);
    let create = b.create_call::<&str>(&b.id, []).spawn();
    let pid = agent.state(0)["pid"].as_i64().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).expect("kill");
    let out = create.wait().fails();
    if runtime().is_corten() {
        out.code(1).stderr_has("the first process was killed by SIGKILL");
    }
    b.runc_leaves_its_cgroup();
}

/// create is killed while the agent thinks about its child: delete --force cleans up.
#[test]
fn a_creator_that_is_killed() {
    not_on_runc!("leaves what it was at");
    let (b, agent) = asks(Bundle::busybox().args(["true"]), Habit::Silence, &["sendmsg"]);
    let create = b.create_call::<&str>(&b.id, []).spawn();
    agent.state(0);
    create.signal(nix::sys::signal::Signal::SIGKILL);
    drop(create);
    b.cli(["delete", "--force", &b.id]).ok();
    assert_eq!(b.status(&b.id), "");
}

/// Neither the listener nor what handed it over is there in the program.
#[test]
fn the_program_has_nothing_of_it() {
    for names in [&["mkdir"][..], &["mkdir", "sendmsg", "close", "recvmsg"]] {
        for b in both(|| Bundle::busybox().sh("ls /proc/1/fd; grep -E ^Threads /proc/1/status")) {
            let (b, _agent) = asks(b, lets_go_on(), names);
            b.run().ok().stdout("0\n1\n2\nThreads:\t1\n");
        }
    }
}

#[test]
fn beside_preserved_descriptors() {
    let script = "cat <&3; ls /proc/1/fd; true";
    for names in [&["mkdir"][..], &["mkdir", "sendmsg"]] {
        let (b, _agent) = asks(Bundle::busybox().sh(script), lets_go_on(), names);
        std::fs::write(b.path("note"), "kept\n").expect("written");
        b.write_config();
        let binary = b.binary.display();
        let run = format!("exec {binary} --root root run --preserve-fds 1 --bundle bundle {} 3<note", b.id);
        b.shell(&run).ok().stdout("kept\n0\n1\n2\n3\n");
    }
}

/// While it waits for its start, no process of the container may trace it: its files in /proc are the host's root's.
#[test]
fn who_waits_cannot_be_traced() {
    corten_only!("a child that makes itself undumpable for this");
    let b = Bundle::busybox().user_namespace().sh("sleep 1000");
    let (b, _agent) = asks(b, lets_go_on(), &["mkdir"]);
    let c = b.create();
    let owner = || std::fs::metadata(format!("/proc/{}/status", c.pid())).expect("alive").uid();
    assert_eq!(owner(), 0);
    c.start().ok();
    c.wait_for("running");
    assert_eq!(owner(), 100_000);
}

/// In `create` they come after the listener is with the agent, in `run` before there is a filter.
#[test]
fn hooks_before_the_program() {
    corten_only!("this difference: runc's hooks are always filtered");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "mkdir /hooked || true"]}]);
    for (verb, asked) in [("run", 0), ("create", 1)] {
        let (b, agent) = asks(Bundle::busybox().args(["true"]), refuses_mkdir(), &["mkdir"]);
        let b = b.edit(|s| s["hooks"]["startContainer"] = hook.clone());
        if verb == "run" {
            b.run().ok();
        } else {
            let c = b.create();
            c.start().ok();
            c.wait_for("stopped");
        }
        assert_eq!(agent.asked().len(), asked);
        assert_eq!(b.in_rootfs("/hooked").exists(), asked == 0);
    }
}

#[test]
fn only_a_fatal_signal_interrupts() {
    not_on_runc!("1.1 does not know the flag");
    let (b, agent) = asks(Bundle::busybox().sh("mkdir /x || echo refused"), refuses_mkdir(), &["mkdir"]);
    let b = b.edit(|s| s["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]));
    b.run().ok().stdout("refused\n");
    assert_eq!(agent.asked(), [MKDIR]);
}

/// No room for one thread more.
#[test]
fn a_limit_of_one_process() {
    needs_controller!("pids");
    corten_only!("a thread for this");
    let limited = |names: &[&str]| {
        let (b, agent) = asks(Bundle::busybox().args(["true"]), lets_go_on(), names);
        (b.edit(|s| s["linux"]["resources"]["pids"] = json!({"limit": 1})), agent)
    };
    let (b, _agent) = limited(&["mkdir"]);
    b.run().ok();
    let (b, _agent) = limited(&["sendmsg"]);
    b.run().code(1).stderr_has("no room for the thread").stderr_has("pids.limit");
}

/// Opening is asked about, so the agent sees the loader at work.
#[test]
fn a_dynamic_program() {
    let b = Bundle::busybox().with_usr().args(["perl", "-e", "print 'fine'"]);
    let (b, agent) = asks(b, lets_go_on(), &["openat", "mmap", "close"]);
    b.run().ok().stdout("fine");
    assert!(agent.asked().contains(&OPENAT));
}
