//! cgroups: made, limited, frozen, emptied, removed.

use crate::harness::host::{self, Layout};
use crate::harness::{Bundle, drop_namespace, runtime, soon, within};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The controllers that have a hierarchy or are enabled.
fn controllers() -> Vec<&'static str> {
    let all = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
    all.into_iter().filter(|c| host::has_controller(c)).collect()
}

#[test]
fn one_in_every_hierarchy() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.create();
    let pid = c.pid().to_string();
    match host::layout() {
        Layout::V1 => {
            for controller in controllers() {
                let procs = host::read(host::cgroup(&b.id, controller).join("cgroup.procs"));
                assert_eq!(procs.trim(), pid, "{controller}");
            }
        }
        Layout::V2 => assert_eq!(host::read(host::cgroup(&b.id, "").join("cgroup.procs")).trim(), pid),
    }
    c.start().ok();
    c.stop();
    c.delete().ok();
    assert!(host::cgroups_named(&b.id).is_empty());
}

#[test]
fn where_it_stands() {
    let own = host::read("/proc/self/cgroup");
    let controller = if host::layout() == Layout::V1 { ":pids:" } else { "0::" };
    let own = own.lines().find(|l| l.contains(controller)).unwrap().rsplit(':').next().unwrap().to_owned();
    // Corten takes any path below the root; runc a relative one below the caller's cgroup.
    let own = if crate::harness::runtime().is_corten() { "/".to_owned() } else { own };
    let show = format!("grep '{controller}' /proc/self/cgroup | sed 's/.*://'");
    let at = |path: Option<&dyn Fn(&str) -> String>| {
        let b = Bundle::busybox().sh(&show).edit(|s| drop_namespace(s, "cgroup"));
        let b = b.edit(|s| match path {
            Some(path) => {
                let id = s["linux"]["cgroupsPath"].as_str().unwrap().trim_start_matches('/').to_owned();
                s["linux"]["cgroupsPath"] = path(&id).into();
            }
            None => _ = s["linux"].as_object_mut().unwrap().remove("cgroupsPath"),
        });
        let out = b.run().ok();
        let shown = out.text().to_owned();
        for dir in host::cgroups_named(&b.id) {
            std::fs::remove_dir(dir).expect("only an empty parent is left");
        }
        (b.id.clone(), shown)
    };
    let (id, absolute) = at(Some(&|id| format!("/{id}/deeper/still")));
    assert_eq!(absolute, format!("/{id}/deeper/still"));
    let below = |name: &str| Path::new(&own).join(name).to_str().unwrap().to_owned();
    let (id, relative) = at(Some(&|id| id.to_owned()));
    assert_eq!(relative, below(&id));
    let (id, absent) = at(None);
    assert_eq!(absent, below(&id));
}

#[test]
fn a_path_that_climbs_stays_below() {
    for path in ["/../../../{}", "../../../{}", "/a/../../{}"] {
        let b = Bundle::busybox();
        let path = path.replace("{}", &b.id);
        let b = b.edit(|s| s["linux"]["cgroupsPath"] = path.clone().into());
        let out = b.run();
        for dir in host::cgroups_named(&b.id) {
            let _ = std::fs::remove_dir(dir);
        }
        if runtime().is_corten() {
            out.code(1).stderr_has("cgroupsPath");
        }
        assert!(!Path::new("/sys/fs").join(&b.id).exists() && !Path::new("/sys").join(&b.id).exists());
    }
}

#[test]
fn a_fork_bomb_goes_quickly() {
    // F30. Bounded by the pids controller where there is one, else by the user's own limit inside.
    let b = Bundle::busybox().sh("b() { b & b & sleep 100; }; for i in 1 2 3 4 5; do (sleep 1000 &) ; done; b");
    let b = b.edit(|s| {
        s["linux"]["resources"]["pids"] = json!({"limit": 150});
        s["process"]["user"] = json!({"uid": 54_321, "gid": 54_321});
        s["process"]["rlimits"] = json!([{"type": "RLIMIT_NPROC", "soft": 150, "hard": 150}]);
    });
    let b = if host::has_controller("pids") {
        b
    } else {
        b.edit(|s| _ = s["linux"]["resources"].as_object_mut().unwrap().remove("pids"))
    };
    let c = b.start();
    within(crate::harness::seconds(3), || {
        host::read(host::cgroup(&b.id, "pids").join("cgroup.procs")).lines().count() > 100
    });
    let delete = b.cli(["delete", "--force", &b.id]).ok();
    assert!(delete.took < crate::harness::seconds(5), "{:?}", delete.took);
    drop(c);
}

/// A number that the container counts up in a file.
fn counter() -> Bundle {
    Bundle::busybox().sh("i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.01; done")
}

#[test]
fn pause_and_resume() {
    let b = counter();
    let c = b.start();
    let read = || host::read(b.in_rootfs("count"));
    assert!(soon(|| !read().is_empty()));
    c.verb("pause").ok().silent();
    assert_eq!(c.status(), "paused");
    let before = read();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(read(), before, "it stands still");
    c.verb("resume").ok().silent();
    assert_eq!(c.status(), "running");
    assert!(soon(|| read() != before && !read().is_empty()));
}

#[test]
fn pause_and_resume_out_of_turn() {
    let b = counter();
    let c = b.create();
    c.start().ok();
    c.verb("resume").code(1);
    c.verb("pause").ok();
    c.verb("pause").code(1);
    c.start().code(1);
    assert_eq!(c.status(), "paused");
    c.delete().code(1);
    assert_eq!(c.status(), "paused");
    c.verb("resume").ok();
    c.stop();
    c.verb("pause").code(1);
    c.verb("resume").code(1);
}

#[test]
fn delete_force_of_a_paused_container() {
    let b = counter();
    let c = b.start();
    c.verb("pause").ok();
    let delete = b.cli(["delete", "--force", &b.id]).ok();
    assert!(delete.took < crate::harness::seconds(5));
    c.verb("state").fails();
}

#[test]
fn a_paused_container_lets_exec_wait_or_fail() {
    let b = counter();
    let c = b.start();
    c.verb("pause").ok();
    // F20.
    c.exec(["true"]).fails().stderr_has("paused");
    let mut waiting = b.call(["exec", "--ignore-paused", &b.id, "echo", "thawed"]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.has_ended());
    c.verb("resume").ok();
    waiting.wait().ok().stdout("thawed\n");
}

#[test]
fn nested_cgroups_are_removed() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let trees: Vec<PathBuf> = host::cgroups_named(&b.id);
    for dir in &trees {
        std::fs::create_dir_all(dir.join("one/two/three")).unwrap();
        std::fs::create_dir(dir.join("other")).unwrap();
    }
    c.stop();
    c.delete().ok();
    assert!(host::cgroups_named(&b.id).is_empty());
}

#[test]
fn processes_in_nested_cgroups_are_killed() {
    let b = Bundle::busybox().sh("sleep 1000 & sleep 1000 & exec sleep 1000").edit(|s| drop_namespace(s, "pid"));
    let c = b.start();
    assert!(soon(|| crate::harness::processes_of(&b.id).len() == 3));
    let other = crate::harness::processes_of(&b.id).into_iter().find(|(pid, _)| *pid != c.pid()).unwrap().0;
    for dir in host::cgroups_named(&b.id) {
        let nested = dir.join("nested");
        std::fs::create_dir(&nested).unwrap();
        if dir.to_string_lossy().contains("cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                std::fs::write(nested.join(file), host::read(dir.join(file))).unwrap();
            }
        }
        std::fs::write(nested.join("cgroup.procs"), other.to_string()).unwrap();
    }
    let delete = b.cli(["delete", "--force", &b.id]).ok();
    assert!(delete.took < crate::harness::seconds(10));
    assert!(soon(|| crate::harness::processes_of(&b.id).is_empty()));
    b.runc_leaves_its_cgroup();
}

/// F31: what freezes itself is thawed to be killed.
#[test]
fn a_frozen_nested_cgroup() {
    not_on_runc!("1.1 does not thaw nested cgroups");
    let b = Bundle::busybox().sh("sleep 1000 & exec sleep 1000");
    let c = b.start();
    assert!(soon(|| crate::harness::processes_of(&b.id).len() == 2));
    let child = crate::harness::processes_of(&b.id).into_iter().find(|(pid, _)| *pid != c.pid()).unwrap().0;
    let nested = host::cgroup(&b.id, "freezer").join("ice");
    std::fs::create_dir(&nested).unwrap();
    std::fs::write(nested.join("cgroup.procs"), child.to_string()).unwrap();
    let (file, word) = if host::layout() == Layout::V1 { ("freezer.state", "FROZEN") } else { ("cgroup.freeze", "1") };
    std::fs::write(nested.join(file), word).unwrap();
    let delete = b.cli(["delete", "--force", &b.id]).ok();
    assert!(delete.took < crate::harness::seconds(5));
    assert!(soon(|| !host::alive(child)));
}

#[test]
fn threaded_cgroups_are_removed() {
    if host::layout() == Layout::V1 {
        skip!("v1 has no threaded cgroups");
    }
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let nested = host::cgroup(&b.id, "").join("threads");
    std::fs::create_dir(&nested).unwrap();
    std::fs::write(nested.join("cgroup.type"), "threaded").unwrap();
    std::fs::write(nested.join("cgroup.threads"), c.pid().to_string()).unwrap();
    b.cli(["delete", "--force", &b.id]).ok();
    assert!(host::cgroups_named(&b.id).is_empty());
}

/// F36: a cgroup that is in use or frozen is not taken.
#[test]
fn a_cgroup_in_use_is_refused() {
    not_on_runc!("1.1 only warns");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let dir = host::cgroup(&b.id, "freezer");
    std::fs::create_dir(&dir).unwrap();
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(dir.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let create = b.create_call::<&str>(&b.id, []).run();
    let alive = sleeper.try_wait().unwrap().is_none();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    create.code(1).stderr_has("cgroup").stderr_has_one_of(&["not empty", "in use"]);
    assert!(alive, "its process is untouched");
    let _ = std::fs::remove_dir(&dir);
}

#[test]
fn a_frozen_cgroup_is_refused() {
    not_on_runc!("1.1 hangs or warns, by layout");
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let dir = host::cgroup(&b.id, "freezer");
    std::fs::create_dir(&dir).unwrap();
    let (file, word) = if host::layout() == Layout::V1 { ("freezer.state", "FROZEN") } else { ("cgroup.freeze", "1") };
    std::fs::write(dir.join(file), word).unwrap();
    let create = b.create_call::<&str>(&b.id, []).run();
    let thawed = if word == "1" { "0" } else { "THAWED" };
    let _ = std::fs::write(dir.join(file), thawed);
    let _ = std::fs::remove_dir(&dir);
    create.code(1).stderr_has("frozen");
}

#[test]
fn exec_is_in_the_containers_cgroup() {
    let b = Bundle::busybox().args(["sleep", "1000"]).edit(|s| drop_namespace(s, "cgroup"));
    let c = b.start();
    let shown = c.exec(["cat", "/proc/self/cgroup"]).ok();
    for line in shown.lines() {
        // On the light v2 layout the v1 hierarchies are still listed, on v1 the unified one.
        let ours = match host::layout() {
            Layout::V1 => !line.starts_with("0::") && !line.contains("hugetlb"),
            Layout::V2 => line.starts_with("0::"),
        };
        assert!(!ours || line.ends_with(&b.id), "{line}");
    }
}

#[test]
fn exec_into_a_cgroup_below() {
    let b = Bundle::busybox().args(["sleep", "1000"]).edit(|s| drop_namespace(s, "cgroup"));
    let c = b.start();
    for dir in host::cgroups_named(&b.id) {
        std::fs::create_dir(dir.join("below")).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if host::layout() == Layout::V1 && dir.join(file).exists() {
                std::fs::write(dir.join("below").join(file), host::read(dir.join(file))).unwrap();
            }
        }
    }
    let wanted = format!("/{}/below", b.id);
    c.exec_with(&["--cgroup", "below"], &["cat", "/proc/self/cgroup"]).ok().stdout_has(&wanted);
    c.exec_with(&["--cgroup", "../../x"], &["true"]).fails();
    c.exec_with(&["--cgroup", "not-there"], &["true"]).fails();
    if host::layout() == Layout::V1 {
        let out = c.exec_with(&["--cgroup", "pids:below"], &["cat", "/proc/self/cgroup"]).ok();
        let in_below: Vec<_> = out.lines().into_iter().filter(|l| l.ends_with("/below")).collect();
        assert!(in_below.len() == 1 && in_below[0].contains(":pids:"), "{}", out.out);
    }
}

#[test]
fn a_cgroup_that_cannot_be_made() {
    let b = Bundle::busybox();
    // A limit on the number of cgroups below: ENOSPC is EAGAIN's cousin here; a read-only tree is simplest.
    b.write_config();
    let tree = if host::layout() == Layout::V1 { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
    let line = format!(
        "mount -o remount,bind,ro {tree} && exec {} --root root run -b bundle {}",
        runtime().path.display(),
        b.id
    );
    let out = b.host("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &line]).run().code(1);
    out.stderr_has_one_of(&["EROFS", "read-only file system"]).stderr_has("cgroup");
}
