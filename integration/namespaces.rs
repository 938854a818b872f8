//! Namespaces: new ones, the host's, and others' by path.

use crate::harness::{Bundle, add_namespace, bind, drop_namespace, host, soon};
use serde_json::{Value, json};
use std::path::Path;

/// As the specification names them, and as /proc/PID/ns does.
const KINDS: [(&str, &str); 6] =
    [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("mount", "mnt"), ("cgroup", "cgroup")];

const PRINT: &str = "for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; done";

/// The namespaces of a process, in the order of `PRINT`.
fn of(pid: impl std::fmt::Display) -> Vec<String> {
    let kinds = ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user"];
    let link = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
    kinds.map(link).map(|l| l.to_string_lossy().into_owned()).to_vec()
}

/// Leaves out a namespace and what would not be allowed without it.
fn without(spec: &mut Value, kind: &str) {
    drop_namespace(spec, kind);
    if kind == "uts" {
        spec.as_object_mut().unwrap().remove("hostname");
    }
}

#[test]
fn new_ones() {
    let b = Bundle::busybox().sh(PRINT);
    let out = b.run().ok();
    for (inside, outside) in out.lines().iter().zip(of("self")) {
        if outside.starts_with("user") {
            assert_eq!(*inside, outside);
        } else {
            assert_ne!(*inside, outside);
        }
    }
}

#[test]
fn the_hosts() {
    let b = Bundle::busybox().sh(PRINT).edit(|s| {
        for kind in ["pid", "network", "ipc", "uts", "cgroup"] {
            without(s, kind);
        }
    });
    let out = b.run().ok();
    for (inside, outside) in out.lines().iter().zip(of("self")) {
        assert_eq!(*inside == outside, !outside.starts_with("mnt"), "{inside} and {outside}");
    }
}

/// All 32 choices of pid, network, ipc, uts and cgroup.
#[test]
fn every_combination_of_new_ones() {
    for bits in 0..32 {
        let left_out: Vec<_> = [0, 1, 2, 3, 5].iter().enumerate().filter(|(n, _)| bits >> n & 1 == 1).collect();
        let b = Bundle::busybox().sh(PRINT).edit(|s| {
            for (_, kind) in &left_out {
                without(s, KINDS[**kind].0);
            }
        });
        let out = b.run().ok();
        let lines = out.lines();
        for (n, outside) in of("self").into_iter().enumerate().take(6) {
            let shared = left_out.iter().any(|(_, kind)| **kind == n);
            assert_eq!(lines[n] == outside, shared, "{left_out:?}: {} and {outside}", lines[n]);
        }
    }
}

/// Each alone, pairs, and all at once.
#[test]
fn joined_by_path() {
    let host_of_all = Bundle::busybox().args(["sleep", "1000"]);
    let c = host_of_all.start();
    let theirs = of(c.pid());
    let kinds = ["pid", "network", "ipc", "uts", "cgroup"];
    let mut sets: Vec<Vec<&str>> = kinds.iter().map(|k| vec![*k]).collect();
    for (i, a) in kinds.iter().enumerate() {
        sets.extend(kinds[i + 1..].iter().map(|b| vec![*a, *b]));
    }
    sets.push(kinds.to_vec());
    for set in sets {
        if set.contains(&"cgroup") && !crate::harness::runtime().is_corten() {
            continue; // runc mounts and joins a cgroup namespace in an order of its own
        }
        let b = Bundle::busybox().sh(PRINT).edit(|s| {
            for kind in &set {
                let file = KINDS.iter().find(|k| k.0 == *kind).unwrap().1;
                add_namespace(s, kind, Some(&format!("/proc/{}/ns/{file}", c.pid())));
            }
            if set.contains(&"uts") {
                s.as_object_mut().unwrap().remove("hostname");
            }
        });
        let out = b.run().ok();
        let lines = out.lines();
        for (n, (kind, _)) in KINDS.iter().enumerate() {
            assert_eq!(lines[n] == theirs[n], set.contains(kind), "{set:?}: {} and {}", lines[n], theirs[n]);
        }
    }
}

#[test]
fn joined_through_a_bind_mounted_file() {
    let one = Bundle::busybox().args(["sleep", "1000"]);
    let c = one.start();
    let b = Bundle::busybox();
    let file = b.path("netns");
    b.shell(&format!("touch netns && mount --bind /proc/{}/ns/net netns", c.pid())).ok();
    let theirs = of(c.pid());
    c.stop();
    c.delete().ok();
    // The bind mount alone keeps it now.
    let b = b.args(["readlink", "/proc/self/ns/net"]).edit(|s| add_namespace(s, "network", file.to_str()));
    let out = b.run();
    b.shell("umount netns").ok();
    assert_eq!(out.ok().text(), theirs[1]);
}

#[test]
fn a_shared_pid_namespace() {
    let one = Bundle::busybox().args(["sleep", "1000"]);
    let c = one.start();
    let path = format!("/proc/{}/ns/pid", c.pid());
    let b = Bundle::busybox().sh("ps -o args; exec sleep 2000").edit(|s| add_namespace(s, "pid", Some(&path)));
    let mut run = b.run_call::<&str>([]).spawn();
    run.wait_for("sleep 1000");
    let joined = b.adopt(&b.id);
    joined.wait_for("running");
    joined.kill("KILL").ok();
    assert_eq!(run.wait().status, 137);
    assert_eq!(c.status(), "running", "the other container lives on");
    assert!(host::alive(c.pid()));
}

#[test]
fn the_first_process_is_pid_1() {
    Bundle::busybox().sh("echo $$").run().ok().stdout("1\n");
    let b = Bundle::busybox().sh("ps -o pid,args; true");
    let out = b.run().ok();
    assert_eq!(out.lines().len(), 3, "header, sh and ps: {}", out.out);
}

#[test]
fn loopback_is_up() {
    Bundle::busybox().sh("cat /sys/class/net/lo/flags; ls /sys/class/net").run().ok().stdout("0x9\nlo\n");
    Bundle::busybox().sh("ip addr show lo").run().ok().stdout_has("127.0.0.1/8");
    Bundle::busybox()
        .sh("nc -l -p 7 127.0.0.1 -e echo hi & sleep 0.3; nc 127.0.0.1 7 </dev/null")
        .privileged()
        .run()
        .ok()
        .stdout("hi\n");
}

#[test]
fn loopback_of_a_joined_namespace_is_left_alone() {
    let b = Bundle::busybox();
    b.shell("touch netns && unshare --net=netns true").ok();
    let file = b.path("netns");
    let b = b.args(["cat", "/sys/class/net/lo/flags"]).edit(|s| add_namespace(s, "network", file.to_str()));
    let out = b.run();
    b.shell("umount netns").ok();
    out.ok().stdout("0x8\n");
}

#[test]
fn host_network() {
    let b = Bundle::busybox().sh("cat /proc/net/dev | cut -d: -f1").edit(|s| drop_namespace(s, "network"));
    let inside = b.run().ok();
    let outside = b.shell("cut -d: -f1 /proc/net/dev").ok();
    assert_eq!(inside.out, outside.out);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let greeter = std::thread::spawn(move || {
        use std::io::Write;
        listener.accept().unwrap().0.write_all(b"hello").unwrap();
    });
    Bundle::busybox().args(["nc", "127.0.0.1", &port]).run().fails();
    let b = Bundle::busybox().args(["nc", "127.0.0.1", &port]).edit(|s| drop_namespace(s, "network"));
    b.run().ok().stdout("hello");
    greeter.join().unwrap();
}

#[test]
fn hostname() {
    let outside = host::read("/proc/sys/kernel/hostname");
    Bundle::busybox()
        .args(["hostname"])
        .edit(|s| s["hostname"] = "my-box.example".into())
        .run()
        .ok()
        .stdout("my-box.example\n");
    assert_eq!(host::read("/proc/sys/kernel/hostname"), outside);
}

#[test]
fn hostname_needs_a_namespace() {
    let b = Bundle::busybox().edit(|s| drop_namespace(s, "uts"));
    b.run().code(1).stderr_has("uts").stderr_has("hostname");
}

#[test]
fn domainname() {
    not_on_runc!("1.1 has no domainname");
    let b = Bundle::busybox().args(["cat", "/proc/sys/kernel/domainname"]);
    b.edit(|s| s["domainname"] = "example.net".into()).run().ok().stdout("example.net\n");
}

#[test]
fn the_cgroup_namespace_hides_the_path() {
    let b = Bundle::busybox().args(["cat", "/proc/self/cgroup"]);
    let out = b.run().ok();
    assert!(!out.out.contains(&b.id), "{}", out.out);
    let b = Bundle::busybox().args(["cat", "/proc/self/cgroup"]).edit(|s| drop_namespace(s, "cgroup"));
    b.run().ok().stdout_has(&b.id);
}

#[test]
fn exec_joins_all() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    assert_eq!(c.sh(PRINT).ok().lines(), of(c.pid()));
    let b = Bundle::busybox().user_namespace().args(["sleep", "1000"]);
    let c = b.start();
    assert_eq!(c.sh(PRINT).ok().lines(), of(c.pid()));
    assert_ne!(of(c.pid())[6], of("self")[6]);
}

#[test]
fn a_new_user_namespace() {
    let b = Bundle::busybox().user_namespace().sh("id -u; cat /proc/self/uid_map; touch /mine; stat -c %u /mine");
    let out = b.run().ok();
    let words: Vec<_> = out.out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0"]);
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(b.in_rootfs("mine")).unwrap());
    assert_eq!(owner, 100_000);
}

#[test]
fn several_id_ranges() {
    let b = Bundle::busybox().user_namespace().sh("cat /proc/self/uid_map /proc/self/gid_map").edit(|s| {
        s["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 10},
                                           {"containerID": 1000, "hostID": 200_000, "size": 5}]);
        s["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 100}]);
    });
    let out = b.run().ok();
    let words: Vec<_> = out.out.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "10", "1000", "200000", "5", "0", "100000", "100"]);
}

#[test]
fn a_user_namespace_with_few_others() {
    let b = Bundle::busybox().user_namespace().sh(PRINT).edit(|s| {
        // Without these, their file systems cannot be mounted from inside.
        without(s, "uts");
        without(s, "cgroup");
        s["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/sys/fs/cgroup");
    });
    let out = b.run().ok();
    let outside = of("self");
    assert_eq!(out.lines()[3], outside[3]);
    assert_eq!(out.lines()[5], outside[5]);
    assert_ne!(out.lines()[6], outside[6]);
}

#[test]
fn another_user_in_a_user_namespace() {
    let b = Bundle::busybox().user_namespace().sh("id -u; id -g; grep CapEff /proc/self/status");
    let b = b.edit(|s| s["process"]["user"] = json!({"uid": 1000, "gid": 50}));
    b.run().ok().stdout("1000\n50\nCapEff:\t0000000000000000\n");
}

#[test]
fn a_joined_user_namespace() {
    for joined in [&["user"][..], &["user", "network"], &["user", "pid"], &["user", "pid", "ipc", "uts"]] {
        let one = Bundle::busybox().user_namespace().args(["sleep", "1000"]);
        let c = one.start();
        let theirs = of(c.pid());
        let b = Bundle::busybox().own_rootfs(100_000).sh(PRINT).edit(|s| {
            for kind in joined {
                let file = KINDS.iter().find(|k| k.0 == *kind).map_or("user", |k| k.1);
                add_namespace(s, kind, Some(&format!("/proc/{}/ns/{file}", c.pid())));
            }
            if !crate::harness::runtime().is_corten() {
                // runc 1.1 wants the mappings a second time.
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
                s["linux"]["uidMappings"] = map.clone();
                s["linux"]["gidMappings"] = map;
            }
            s.as_object_mut().unwrap().remove("hostname");
            // A host name belongs to whoever owns its namespace; /sys to the owner of the network.
            if !joined.contains(&"ipc") {
                s["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "mqueue");
            }
        });
        let out = b.run().ok();
        assert_eq!(out.lines()[6], theirs[6], "{joined:?}");
        assert_eq!(out.lines()[0] == theirs[0], joined.contains(&"pid"));
    }
}

#[test]
fn a_time_namespace() {
    not_on_runc!("1.1 has no time namespaces");
    let b = Bundle::busybox().sh("cat /proc/self/timens_offsets; cut -d. -f1 /proc/uptime").edit(|s| {
        add_namespace(s, "time", None);
        s["linux"]["timeOffsets"] =
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}, "monotonic": {"secs": 86_400}});
    });
    let out = b.run().ok();
    let words: Vec<_> = out.out.split_whitespace().collect();
    assert_eq!(words[..6], ["monotonic", "86400", "0", "boottime", "1000000", "0"]);
    assert!(words[6].parse::<u64>().unwrap() > 1_000_000, "{words:?}");
    // Its start time is read through another clock, and still the container is known as the same.
    let b = b.args(["sleep", "1000"]);
    let c = b.start();
    assert_eq!(c.status(), "running");
    let uptime: f64 = c.exec(["cut", "-d.", "-f1", "/proc/uptime"]).ok().text().parse().unwrap();
    assert!(uptime > 1_000_000.0, "exec is in the time namespace");
    c.stop();
}

#[test]
fn a_joined_time_namespace() {
    not_on_runc!("1.1 has no time namespaces");
    let one = Bundle::busybox().args(["sleep", "1000"]).edit(|s| {
        add_namespace(s, "time", None);
        s["linux"]["timeOffsets"] = json!({"boottime": {"secs": 2_000_000}});
    });
    let c = one.start();
    let path = format!("/proc/{}/ns/time", c.pid());
    let b =
        Bundle::busybox().args(["cut", "-d.", "-f1", "/proc/uptime"]).edit(|s| add_namespace(s, "time", Some(&path)));
    let uptime: f64 = b.run().ok().text().parse().unwrap();
    assert!(uptime > 2_000_000.0);
}

#[test]
fn time_offsets_need_a_namespace() {
    not_on_runc!("1.1 has no time namespaces");
    let b = Bundle::busybox().edit(|s| s["linux"]["timeOffsets"] = json!({"boottime": {"secs": 5}}));
    b.run().code(1).stderr_has("timeOffsets").stderr_has("time namespace");
}

#[test]
fn a_joined_mount_namespace() {
    not_on_runc!("1.1 prepares the root file system anew in the joined namespace");
    let one = Bundle::busybox().args(["sleep", "1000"]);
    let c = one.start();
    let path = format!("/proc/{}/ns/mnt", c.pid());
    let b = Bundle::busybox().sh(PRINT).edit(|s| add_namespace(s, "mount", Some(&path)));
    let out = b.run();
    if out.status == 0 {
        assert_eq!(out.lines()[4], of(c.pid())[4]);
    } else {
        out.stderr_has("mount");
    }
}

#[test]
fn a_path_of_the_wrong_kind() {
    let b = Bundle::busybox().edit(|s| add_namespace(s, "network", Some("/proc/self/ns/uts")));
    b.run().code(1);
    let b = Bundle::busybox();
    std::fs::write(b.path("plain"), "").unwrap();
    let plain = b.path("plain");
    let b = b.edit(|s| add_namespace(s, "network", plain.to_str()));
    b.run().code(1);
    let b = Bundle::busybox().edit(|s| add_namespace(s, "network", Some("/no/such/ns")));
    b.run().code(1).stderr_has("/no/such/ns");
}

#[test]
fn a_kind_named_twice_or_unknown() {
    let b = Bundle::busybox().edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "pid"})));
    b.run().code(1);
    let b = Bundle::busybox().edit(|s| s["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "lunar"})));
    b.run().code(1).stderr_has("lunar");
}

#[test]
fn mappings_need_a_user_namespace() {
    not_on_runc!("1.1 ignores mappings without a user namespace");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let b = Bundle::busybox().edit(|s| s["linux"]["uidMappings"] = map);
    b.run().code(1).stderr_has_one_of(&["user namespace", "namespace isn't enabled"]);
}

#[test]
fn the_hosts_pid_namespace_shows_the_host() {
    let b = Bundle::busybox().sh("test -d /proc/$0 && echo seen").edit(|s| {
        drop_namespace(s, "pid");
        s["process"]["args"].as_array_mut().unwrap().push(std::process::id().to_string().into());
    });
    b.run().ok().stdout("seen\n");
}

#[test]
fn every_process_goes_with_the_pid_namespace() {
    let b = Bundle::busybox().sh("sleep 1000 & sleep 1000 & exec sleep 1000");
    let c = b.start();
    assert!(soon(|| crate::harness::processes_of(&b.id).len() == 3));
    c.stop();
    assert!(soon(|| crate::harness::processes_of(&b.id).is_empty()));
}

#[test]
fn ipc_is_separate() {
    let b = Bundle::busybox().args(["ipcs", "-q"]).args(["cat", "/proc/sysvipc/shm"]);
    let out = b.run().ok();
    assert_eq!(out.lines().len(), 1, "only the header");
}

#[test]
fn a_host_directory_is_not_seen_without_a_mount() {
    let b = Bundle::busybox();
    let dir = b.mkdir("data");
    assert!(Path::new(&dir).exists());
    let b = b.args(["ls", dir.to_str().unwrap()]);
    b.run().fails();
    let b = b.edit(|s| crate::harness::add_mount(s, bind(&dir, dir.to_str().unwrap(), &["bind"])));
    b.run().ok();
}
