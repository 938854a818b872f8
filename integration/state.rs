//! What is known of containers: state, list, ps, and the files below `--root`.

use crate::harness::{Bundle, drop_namespace, host, runtime, soon};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[test]
fn the_fields_of_state() {
    let b =
        Bundle::busybox().args(["sleep", "1000"]).edit(|s| s["annotations"] = json!({"org.example.key": "value\nb"}));
    let c = b.create();
    let state = c.state();
    assert_eq!(state["id"], *b.id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], b.dir().to_str().unwrap());
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert_eq!(state["annotations"]["org.example.key"], "value\nb");
    assert!(state["pid"].as_i64().unwrap() > 0);
}

#[test]
fn the_bundle_is_absolute() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.write_config();
    b.call(["create", "-b", "bundle", &b.id]).run().ok();
    assert_eq!(b.adopt(&b.id).state()["bundle"], b.dir().to_str().unwrap());
}

#[test]
fn each_status_in_turn() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.create();
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_eq!(c.status(), "running");
    c.verb("pause").ok();
    assert_eq!(c.status(), "paused");
    c.verb("resume").ok();
    assert_eq!(c.status(), "running");
    c.stop();
    let state = c.state();
    assert_eq!(state["status"], "stopped");
    assert!(state["pid"].is_null() || state["pid"] == 0, "{state}");
}

#[test]
fn a_zombie_is_stopped() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let run = b.run_call::<&str>([]).spawn();
    let c = b.adopt(&b.id);
    assert!(soon(|| b.cli(["state", &b.id]).status == 0 && c.status() == "running"));
    let init = c.pid();
    // Stopped, its parent does not reap it.
    run.signal(Signal::SIGSTOP);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), Signal::SIGKILL).unwrap();
    assert!(soon(|| host::status_field(init, "State").starts_with('Z')));
    assert_eq!(c.status(), "stopped");
    run.signal(Signal::SIGCONT);
    assert_eq!(run.wait().status, 137);
}

#[test]
fn list() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let out = b.cli(["list"]).ok();
    assert_eq!(out.lines().len(), 1, "{}", out.out);
    assert_eq!(out.out.split_whitespace().collect::<Vec<_>>(), ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let c = b.start();
    let two = format!("{}-two", b.id);
    let other = b.create_as(&two);
    let out = b.cli(["list"]).ok();
    let rows: Vec<Vec<_>> = out.lines().iter().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3);
    let row = rows.iter().find(|r| r[0] == b.id).unwrap();
    assert_eq!(row[1], c.pid().to_string());
    assert_eq!(row[2], "running");
    assert_eq!(row[3], b.dir().to_str().unwrap());
    assert_eq!(row[5], "root");
    assert!(rows.iter().any(|r| r[0] == two && r[2] == "created"));
    let quiet = b.cli(["list", "-q"]).ok();
    assert_eq!(quiet.lines(), [b.id.as_str(), &two]);
    let json = b.cli(["list", "--format", "json"]).ok().json();
    let entry = json.as_array().unwrap().iter().find(|e| e["id"] == *b.id).unwrap();
    assert_eq!(entry["status"], "running");
    assert_eq!(entry["pid"], c.pid());
    assert_eq!(entry["owner"], "root");
    assert!(entry["created"].as_str().unwrap().contains('T'));
    b.cli(["list", "-f", "yaml"]).code(1);
    drop(other);
}

/// Many are looked at by two threads, each with its own descriptors, where these can be had.
#[test]
fn what_a_killed_process_left_is_swept() {
    corten_only!("leftovers that begin with ~");
    let b = Bundle::busybox();
    // No process has this number: it is above the kernel's largest.
    let left = b.root().join("~new-4194305");
    let remove = || b.cli(["delete", "--force", "nobody"]).ok();
    std::fs::create_dir_all(left.join("deep")).expect("made");
    remove();
    assert!(!left.exists(), "beside few the next one sweeps");
    // Beside many one in sixteen does.
    for n in 0..200 {
        std::fs::create_dir(b.root().join(format!("n{n}"))).expect("made");
    }
    std::fs::create_dir_all(left.join("deep")).expect("made");
    assert!((0..400).any(|_| {
        remove();
        !left.exists()
    }));
    std::fs::remove_dir_all(b.root()).expect("removed");
}

#[test]
fn many_are_listed() {
    corten_only!("copies of a record");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let one = b.root().join(&b.id);
    let facts = host::read(one.join("state.json"));
    let kind = |number: usize| {
        ["running", "stopped", "damaged"][usize::from(number % 10 == 3) + 2 * usize::from(number % 50 == 7)]
    };
    let names: Vec<String> = (0..131).map(|number| format!("{}-{number:03}", b.id)).collect();
    for (number, name) in names.iter().enumerate() {
        let mut copy: Value = serde_json::from_str(&facts).unwrap();
        copy["id"] = name.as_str().into();
        // A process of that number that began at another time; the older kernel's record has the second.
        for key in ["inode", "start_time"] {
            if kind(number) == "stopped" && copy["init"][key].is_u64() {
                copy["init"][key] = 4.into();
            }
        }
        let text = if kind(number) == "damaged" { facts[..100].to_owned() } else { copy.to_string() };
        std::fs::create_dir(b.root().join(name)).unwrap();
        std::fs::write(b.root().join(name).join("state.json"), text).unwrap();
    }
    let list = || b.host(&b.binary).args(["--root", b.root().to_str().unwrap(), "list"]);
    let refused = |number: libc::c_long| list().refusing(number as u32, libc::EPERM);
    let calls = [list(), refused(libc::SYS_clone), refused(libc::SYS_unshare), refused(libc::SYS_sched_setaffinity)];
    for call in calls {
        let out = call.run().ok();
        let shown: Vec<Vec<&str>> =
            out.lines()[2..].iter().map(|line| line.split_whitespace().take(3).collect()).collect();
        let pid = c.pid().to_string();
        let expected =
            names.iter().enumerate().filter(|(number, _)| kind(*number) != "damaged").map(|(number, name)| {
                let pid = if kind(number) == "running" { pid.as_str() } else { "0" };
                vec![name.as_str(), pid, kind(number)]
            });
        assert_eq!(shown, expected.collect::<Vec<_>>());
        assert!(out.lines()[1].starts_with(&b.id));
        out.stderr_has(&names[7]).stderr_has(&names[57]);
    }
    for name in &names {
        std::fs::remove_dir_all(one.with_file_name(name)).unwrap();
    }
}

#[test]
fn list_of_a_missing_root() {
    not_on_runc!("1.1 takes a missing --root for an empty one");
    let b = Bundle::empty();
    b.host(&runtime().path).args(["--root", b.path("not-there").to_str().unwrap(), "list"]).run().code(1);
}

#[test]
fn ps() {
    let b = Bundle::busybox().sh("sleep 1000 & exec sleep 2000");
    let c = b.start();
    assert!(soon(|| b.cli(["ps", &b.id]).out.lines().count() == 3));
    let out = c.verb("ps").ok();
    assert!(out.lines()[0].starts_with("UID "), "{}", out.out);
    assert!(out.lines()[0].ends_with(" CMD"), "{}", out.out);
    out.stdout_has("sleep 1000").stdout_has("sleep 2000");
    let pids = b.cli(["ps", "--format", "json", &b.id]).ok().json();
    assert!(pids.as_array().unwrap().contains(&json!(c.pid())), "{pids}");
    assert_eq!(pids.as_array().unwrap().len(), 2);
    let out = b.cli(["ps", &b.id, "-o", "pid,comm"]).ok();
    assert_eq!(out.lines()[0].split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND"]);
    c.stop();
}

#[test]
fn ps_of_a_stopped_container() {
    not_on_runc!("ps reads a cgroup that may be gone");
    let b = Bundle::busybox();
    let c = b.start();
    c.wait_for("stopped");
    c.verb("ps").ok();
    assert_eq!(b.cli(["ps", "-f", "json", &b.id]).ok().json(), json!([]));
}

#[test]
fn kill_of_a_stopped_container() {
    let b = Bundle::busybox();
    let c = b.start();
    c.wait_for("stopped");
    c.kill("KILL").code(1).stderr_has_one_of(&["container not running", "process already finished"]);
}

#[test]
fn ids_that_are_refused() {
    let b = Bundle::busybox();
    b.write_config();
    let canary = b.mkdir("canary");
    std::fs::write(canary.join("config.json"), "{}").unwrap();
    let long = "a".repeat(1025);
    for id in ["..", ".", "../canary", "a/b", "/abs", "a b", "a\nb", "", "a\u{7f}", "ä", long.as_str()] {
        for verb in ["create", "run", "start", "state", "delete", "pause", "resume", "ps"] {
            b.call([verb, id]).cwd(b.dir()).run().fails();
        }
        b.call(["kill", id, "KILL"]).run().fails();
        b.call(["exec", id, "true"]).run().fails();
        b.call(["delete", "--force", id]).run();
    }
    assert!(canary.join("config.json").exists());
    let mut left = std::fs::read_dir(b.root()).unwrap().flatten();
    assert!(left.next().is_none(), "nothing made in the state folder");
}

#[test]
fn ids_that_are_allowed() {
    let b = Bundle::busybox();
    for tail in ["A.b_c-d+e", "1", &"x".repeat(64)] {
        let id = format!("{}{tail}", b.id);
        b.write_config();
        b.cli(["run", "-b", b.dir().to_str().unwrap(), &id]).ok();
    }
}

/// `--root` may be long: dockerd's with its 64-digit id is longer than a socket's path may be.
#[test]
fn a_long_root() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let root = b.path(&format!("tmp/{}", "r".repeat(150)));
    let id = format!("{}{}", b.id, "0123456789abcdef".repeat(4));
    b.write_config();
    let call = |args: &[&str]| b.host(&runtime().path).args(["--root", root.to_str().unwrap()]).args(args).run();
    call(&["create", "-b", b.dir().to_str().unwrap(), &id]).ok();
    call(&["start", &id]).ok();
    call(&["exec", &id, "true"]).ok();
    call(&["delete", "-f", &id]).ok();
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_root_that_does_not_exist_yet() {
    let b = Bundle::busybox();
    b.write_config();
    let root = b.path("tmp/a/b/c");
    let dir = b.dir();
    b.host(&runtime().path)
        .args(["--root", root.to_str().unwrap(), "run", "-b", dir.to_str().unwrap(), &b.id])
        .run()
        .ok();
    std::fs::remove_dir_all(b.path("tmp/a")).unwrap();
}

/// F21: whoever looks while containers come and go sees whole ones or none.
#[test]
fn looking_while_containers_come_and_go() {
    not_on_runc!("list fails while another process deletes a container");
    let b = Bundle::busybox();
    b.write_config();
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for n in 0..25 {
                let id = format!("{}-{n}", b.id);
                b.create_call::<&str>(&id, []).run().ok();
                b.cli(["delete", "-f", &id]).ok();
            }
        });
        while !maker.is_finished() {
            let list = b.cli(["list", "-f", "json"]).ok().json();
            for entry in list.as_array().into_iter().flatten() {
                let id = entry["id"].as_str().unwrap();
                let state = b.cli(["state", id]);
                match state.status {
                    0 => _ = state.json(),
                    _ => _ = state.stderr_has("does not exist"),
                }
            }
        }
    });
}

/// F17: deletes at once succeed, or say that it is gone.
#[test]
fn ten_deletes_at_once() {
    let b = Bundle::busybox();
    b.mkdir("hooks");
    let log = b.path("hooks/log");
    let b = b.args(["sleep", "1000"]).edit(|s| {
        let script = format!("echo gone >> {}", log.display());
        s["hooks"]["poststop"] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    });
    for force in ["--force", ""] {
        let _ = std::fs::remove_file(&log);
        let c = b.start();
        if force.is_empty() {
            c.stop();
        }
        let words = ["delete", force, &b.id];
        let calls: Vec<_> = (0..10).map(|_| b.call(words.iter().filter(|w| !w.is_empty())).spawn()).collect();
        let outs: Vec<_> = calls.into_iter().map(|c| c.wait()).collect();
        if runtime().is_corten() {
            for out in &outs {
                assert!(out.status == 0 || out.err.contains("does not exist"), "{}", out.tell());
            }
            assert!(outs.iter().any(|o| o.status == 0));
            assert_eq!(host::read(&log), "gone\n", "poststop once");
        }
        b.cli(["delete", "--force", &b.id]).ok();
    }
}

/// F18: a delete that was killed is finished by the next.
#[test]
fn a_killed_delete() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    for delay in [0, 1, 2, 4, 8, 16] {
        let _c = b.start();
        let delete = b.call(["delete", "-f", &b.id]).spawn();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        delete.signal(Signal::SIGKILL);
        drop(delete);
        b.cli(["delete", "-f", &b.id]).ok();
        b.cli(["state", &b.id]).fails();
    }
}

/// The regular files of a container's state.
fn files(b: &Bundle) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(b.root().join(&b.id)).unwrap().flatten();
    dir.filter(|e| e.file_type().unwrap().is_file() && e.metadata().unwrap().len() > 0).map(|e| e.path()).collect()
}

/// The file that holds the state, and what it says.
fn record(b: &Bundle) -> (PathBuf, Value) {
    let records = files(b).into_iter().filter_map(|f| {
        let value: Value = serde_json::from_str(&host::read(&f)).ok()?;
        value.get("format").is_some().then_some((f, value))
    });
    records.into_iter().next().expect("a state with a format number")
}

/// F22: whatever the state's file holds, the error names it, and `delete -f` still cleans.
#[test]
fn garbage_in_the_state() {
    corten_only!("this state file");
    for garbage in ["", "{", "{}", "null", "\0\u{1}\u{2}", "[1,2,3]"] {
        let b = Bundle::busybox().args(["sleep", "1000"]);
        let c = b.start();
        let pid = c.pid();
        let (file, _) = record(&b);
        std::fs::write(&file, garbage).unwrap();
        c.verb("state").code(1).stderr_has(file.file_name().unwrap().to_str().unwrap());
        b.cli(["list"]);
        b.cli(["delete", "--force", &b.id]).ok();
        assert!(soon(|| !host::alive(pid)));
        b.run_with(["--detach"]).ok();
        b.cli(["delete", "--force", &b.id]).ok();
    }
}

#[test]
fn a_half_written_state() {
    corten_only!("this state file");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    let (file, _) = record(&b);
    let text = host::read(&file);
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    b.cli(["state", &b.id]).code(1);
    b.cli(["delete", "--force", &b.id]).ok();
}

/// F23.
#[test]
fn a_state_of_a_previous_boot_is_stopped() {
    corten_only!("this state file");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    c.stop();
    let boot = host::read("/proc/sys/kernel/random/boot_id");
    let (file, _) = record(&b);
    let text = host::read(&file);
    // What lies on a tmpfs is gone with the boot, and need not know it.
    let known = if on_tmpfs(&file) { r#""boot":"""#.to_owned() } else { format!(r#""boot":"{}""#, boot.trim()) };
    assert!(text.contains(&known), "{known}: {text}");
    // A pid that lives, of another boot: it is not the container's.
    let text = text.replace(&known, r#""boot":"00000000-0000-0000-0000-000000000000""#);
    std::fs::write(&file, text).unwrap();
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}

/// The same from verb to verb where the state lies on a tmpfs, as it does below `/run`.
#[test]
fn a_state_on_a_tmpfs() {
    corten_only!("this state file");
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = folder.path().join("root");
    assert!(on_tmpfs(folder.path()));
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.write_config();
    let call = |args: &[&str]| b.host(&b.binary).args([OsStr::new("--root"), root.as_os_str()]).args(args).run().ok();
    // Twice: the first makes the folder.
    for verb in [&["create"][..], &["run", "-d"]] {
        call(&[verb, &["-b", "bundle", &b.id]].concat());
        let text = host::read(root.join(&b.id).join("state.json"));
        let named = text.matches(r#""boot":"#).count();
        // The maker's and the container's; only the folder's maker cannot ask before it is there.
        assert!(named == 2 && text.matches(r#""boot":"""#).count() == if verb == ["create"] { 0 } else { 2 }, "{text}");
        if verb == ["create"] {
            call(&["start", &b.id]);
        }
        call(&["exec", &b.id, "/bin/true"]);
        call(&["delete", "--force", &b.id]);
    }
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
}

fn on_tmpfs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).unwrap().filesystem_type() == nix::sys::statfs::TMPFS_MAGIC
}

/// F34: the pid of a stopped container now belongs to another process, which is left alone.
#[test]
fn a_reused_pid() {
    corten_only!("this state file");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    c.stop();
    let mut bystander = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let (file, mut state) = record(&b);
    state["pid"] = bystander.id().into();
    std::fs::write(&file, state.to_string()).unwrap();
    assert_eq!(c.status(), "stopped");
    c.kill("KILL").code(1);
    b.cli(["delete", "--force", &b.id]).ok();
    assert!(bystander.try_wait().unwrap().is_none(), "the bystander lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_newer_format_is_refused_by_name() {
    corten_only!("this state file");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let (file, state) = record(&b);
    let mut newer = state.clone();
    newer["format"] = (state["format"].as_u64().unwrap() + 1000).into();
    std::fs::write(&file, newer.to_string()).unwrap();
    c.verb("state").code(1).stderr_has("format").stderr_has(&newer["format"].to_string());
    c.kill("TERM").code(1).stderr_has("format");
    std::fs::write(&file, state.to_string()).unwrap();
    assert_eq!(c.status(), "running");
}

/// F25: a state folder that cannot be written.
#[test]
fn a_read_only_root() {
    let b = Bundle::busybox();
    b.shell("mkdir ro && mount -t tmpfs -o ro none ro").ok();
    b.write_config();
    let dir = b.dir();
    let out = b
        .host(&runtime().path)
        .args(["--root", b.path("ro").to_str().unwrap(), "run", "-b", dir.to_str().unwrap(), &b.id])
        .run();
    b.shell("umount ro").ok();
    out.code(1).stderr_has_one_of(&["EROFS", "read-only file system"]);
}

/// F24: a full disk under `--root`.
#[test]
fn a_full_disk_under_root() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    b.shell("mkdir full && mount -t tmpfs -o size=4k none full && dd if=/dev/zero of=full/x bs=4k count=1 2>/dev/null")
        .ok();
    b.write_config();
    let (full, dir) = (b.path("full"), b.dir());
    let call = |args: &[&str]| b.host(&runtime().path).args(["--root", full.to_str().unwrap()]).args(args).run();
    let out = call(&["create", "-b", dir.to_str().unwrap(), &b.id]);
    let delete = call(&["delete", "--force", &b.id]);
    let left = std::fs::read_dir(&full).unwrap().count();
    b.shell("umount full").ok();
    out.code(1);
    delete.ok();
    assert_eq!(left, 1, "only what filled it");
}

#[test]
fn the_hosts_pid_namespace_and_init_gone() {
    // F33: children that outlive init are still the container's.
    let b = Bundle::busybox().sh("sleep 1000 & sleep 1000 & exec sleep 1").edit(|s| drop_namespace(s, "pid"));
    let c = b.start();
    c.wait_for("stopped");
    assert!(!crate::harness::processes_of(&b.id).is_empty());
    b.cli(["delete", "--force", &b.id]).ok();
    assert!(soon(|| crate::harness::processes_of(&b.id).is_empty()));
    b.runc_leaves_its_cgroup();
}

/// What an earlier version wrote: the fixture with the facts of a container that lives now. Its shape and format stay.
fn of_now(fixture: &Value, now: &Value) -> Value {
    match (fixture, now) {
        (Value::Object(old), Value::Object(new)) => {
            let field = |(key, old): (&String, &Value)| {
                let value = match new.get(key) {
                    Some(new) if key != "format" => of_now(old, new),
                    // Now known by its inode in pidfs, where there is one.
                    None if key == "start_time" => start_time(new["pid"].as_i64().expect("a number")).into(),
                    _ => old.clone(),
                };
                (key.clone(), value)
            };
            Value::Object(old.iter().map(field).collect())
        }
        (_, now) => now.clone(),
    }
}

/// Field 22 of `/proc/PID/stat`; 0 for a process that has ended, as the one that made the container has.
fn start_time(pid: i64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Containers made by an earlier format can be listed, exec'ed into, stopped and deleted.
#[test]
fn a_state_of_the_first_format() {
    corten_only!("this state file");
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/state-v1/state.json");
    if !fixture.exists() {
        skip!("integration/fixtures/state-v1 is not there yet");
    }
    let fixture: Value = serde_json::from_str(&host::read(&fixture)).expect("JSON");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let (file, now) = record(&b);
    std::fs::write(&file, of_now(&fixture, &now).to_string()).unwrap();
    assert_eq!(c.status(), "running");
    b.cli(["list"]).ok().stdout_has(&b.id).stdout_has("running");
    c.sh("exit 3").code(3);
    b.cli(["ps", &b.id]).ok().stdout_has("sleep 1000");
    c.verb("pause").ok();
    c.verb("resume").ok();
    b.cli(["stop", "-t", "0", &b.id]).ok();
    assert_eq!(c.status(), "stopped");
    c.delete().ok();
}
