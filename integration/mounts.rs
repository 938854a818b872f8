//! The container's file system: mounts, propagation, masks, the root itself.

use crate::harness::{Bundle, OnDisk, add_mount, add_namespace, bind, drop_namespace, host, mount, runtime};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

/// The mounts of a container: by mount point, the rest of the line of mountinfo.
pub fn table(mountinfo: &str) -> BTreeMap<String, String> {
    let rows = mountinfo.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        (words[4].to_owned(), format!("{} ", words[5..].join(" ")))
    });
    rows.collect()
}

/// The options of one mount, those of the mount and those of its file system.
#[track_caller]
pub fn options(table: &BTreeMap<String, String>, place: &str) -> Vec<String> {
    let line = table.get(place).unwrap_or_else(|| panic!("{place} is not mounted: {table:#?}"));
    let words: Vec<_> = line.split_whitespace().collect();
    let dash = words.iter().position(|w| *w == "-").unwrap();
    words[0].split(',').chain(words[dash + 3].split(',')).map(str::to_owned).collect()
}

pub fn with_mount(mount: Value) -> Bundle {
    Bundle::busybox().edit(|s| add_mount(s, mount))
}

#[test]
fn the_default_ones() {
    let b = Bundle::busybox().args(["cat", "/proc/self/mountinfo"]);
    let mounts = table(&b.run().ok().out);
    for (place, kind, wanted) in [
        ("/proc", "proc", &["rw"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid", "size=65536k", "mode=755"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec", "size=65536k"]),
        ("/dev/mqueue", "mqueue", &["rw", "nosuid", "nodev", "noexec"]),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
    ] {
        let has = options(&mounts, place);
        for option in wanted {
            assert!(has.iter().any(|h| h == option), "{place} has {has:?}, not {option}");
        }
        assert!(mounts[place].contains(&format!("- {kind} ")), "{place}: {}", mounts[place]);
    }
    assert!(options(&mounts, "/").contains(&"rw".to_owned()));
    assert!(mounts["/dev"].split(' ').next().unwrap().split(',').all(|o| o != "relatime"), "strictatime");
}

#[test]
fn nothing_of_the_host_is_left() {
    let b = Bundle::busybox().args(["cat", "/proc/self/mountinfo"]);
    let out = b.run().ok();
    let roots = out.lines().iter().filter(|l| l.split(' ').nth(4) == Some("/")).count();
    assert_eq!(roots, 1, "the old root is unmounted: {}", out.out);
    assert!(!out.out.contains("oldroot"));
    let b = Bundle::busybox().sh("ls /; ls -a / | grep pivot; true");
    b.run().ok().stdout("bin\ndev\netc\nhome\nmnt\nproc\nroot\nrun\nsys\ntmp\nusr\nvar\n");
}

/// Each option as mountinfo shows it.
#[test]
fn options_of_a_tmpfs() {
    for (option, shown) in [
        ("ro", "ro"),
        ("rw", "rw"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
        ("sync", "sync"),
        ("size=1m", "size=1024k"),
        ("mode=0750", "mode=750"),
        ("uid=1234", "uid=1234"),
        ("nr_inodes=99", "nr_inodes=99"),
    ] {
        let b = with_mount(mount("/t", "tmpfs", "tmpfs", &[option])).args(["cat", "/proc/self/mountinfo"]);
        let has = options(&table(&b.run().ok().out), "/t");
        assert!(has.iter().any(|h| h == shown), "{option}: {has:?}");
    }
}

#[test]
fn the_last_option_wins() {
    let b = with_mount(mount("/t", "tmpfs", "tmpfs", &["ro", "rw", "nosuid", "suid", "noexec", "exec"]));
    let has = options(&table(&b.args(["cat", "/proc/self/mountinfo"]).run().ok().out), "/t");
    for gone in ["ro", "nosuid", "noexec"] {
        assert!(!has.iter().any(|h| h == gone), "{has:?}");
    }
}

#[test]
fn options_are_enforced() {
    let script = "cp /bin/busybox /t/echo && /t/echo ran";
    with_mount(mount("/t", "tmpfs", "tmpfs", &["noexec"])).sh(script).run().code(126).stdout("");
    with_mount(mount("/t", "tmpfs", "tmpfs", &[])).sh(script).run().ok().stdout("ran\n");
    let b = with_mount(mount("/t", "tmpfs", "tmpfs", &["ro"])).sh("touch /t/x");
    b.run().code(1).stderr_has("Read-only");
    let b = with_mount(mount("/t", "tmpfs", "tmpfs", &["size=64k"])).sh("dd if=/dev/zero of=/t/x bs=1M count=1");
    b.run().code(1).stderr_has("No space");
}

#[test]
fn an_unknown_option_reaches_the_file_system() {
    let b = with_mount(mount("/t", "tmpfs", "tmpfs", &["nonsense=3"]));
    b.run().code(1).stderr_has("/t");
}

#[test]
fn an_unknown_file_system() {
    let b = with_mount(mount("/t", "nosuchfs", "x", &[]));
    let out = b.run().code(1).stderr_has("/t");
    if crate::harness::runtime().is_corten() {
        out.clone().stderr_has("nosuchfs");
    }
    out.stderr_has_one_of(&["ENODEV", "no such device"]);
}

#[test]
fn tmpfs_takes_the_mode_of_its_target() {
    let b = with_mount(mount("/secret", "tmpfs", "tmpfs", &[])).args(["stat", "-c", "%a", "/secret"]);
    std::fs::create_dir(b.in_rootfs("secret")).unwrap();
    b.shell("chmod 710 bundle/rootfs/secret").ok();
    b.run().ok().stdout("710\n");
    let b = with_mount(mount("/fresh", "tmpfs", "tmpfs", &[])).args(["stat", "-c", "%a", "/fresh"]);
    let mode = b.run().ok().text().to_owned();
    if crate::harness::runtime().is_corten() {
        assert_eq!(mode, "1777", "the target is made by us");
    }
    let b = with_mount(mount("/t", "tmpfs", "tmpfs", &["mode=0700"])).args(["stat", "-c", "%a", "/t"]);
    b.run().ok().stdout("700\n");
}

#[test]
fn tmpcopyup() {
    let b = with_mount(mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]));
    let b = b.file("data/a", 0o600, "one").file("data/sub/b", 0o644, "two");
    b.shell("ln -s a bundle/rootfs/data/link && chown 12:34 bundle/rootfs/data/a").ok();
    let b = b.privileged().sh("cat /data/a /data/sub/b /data/link; stat -c '%a %u %g' /data/a; echo new > /data/a");
    b.run().ok().stdout("onetwoone600 12 34\n");
    assert_eq!(host::read(b.in_rootfs("data/a")), "one", "the original is untouched");
}

#[test]
fn a_source_made_by_an_earlier_mount() {
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    let b = b.sh("cat /b/x").edit(|s| {
        add_mount(s, bind(&data, "/a", &["bind"]));
        add_mount(s, bind(data.join("later"), "/b", &["bind"]));
    });
    std::fs::create_dir(data.join("later")).unwrap();
    std::fs::write(data.join("later/x"), "yes\n").unwrap();
    b.run().ok().stdout("yes\n");
}

#[test]
fn mounts_in_their_order() {
    let b = Bundle::busybox().sh("ls /a; ls /a/b").edit(|s| {
        add_mount(s, mount("/a", "tmpfs", "one", &[]));
        add_mount(s, mount("/a/b", "tmpfs", "two", &[]));
    });
    b.run().ok().stdout("b\n");
    let b = Bundle::busybox().sh("ls /a").edit(|s| {
        add_mount(s, mount("/a/b", "tmpfs", "two", &[]));
        add_mount(s, mount("/a", "tmpfs", "one", &[]));
    });
    b.run().ok().stdout("");
}

#[test]
fn a_missing_source() {
    let b = with_mount(bind("/no/such/source", "/data", &["bind"]));
    b.run().code(1).stderr_has("/no/such/source").stderr_has_one_of(&["no such file", "does not exist"]);
}

#[test]
fn a_directory_onto_a_file() {
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    let b = b.file("target", 0o644, "").edit(|s| add_mount(s, bind(&data, "/target", &["bind"])));
    b.run().code(1).stderr_has("/target").stderr_has_one_of(&["not a directory", "is a file", "is a regular file"]);
}

/// Symbolic links of the root resolve inside it, and what is missing is made there.
#[test]
fn links_in_a_target() {
    for (link, target, place) in [
        ("abs", "/real", "/abs/x"),
        ("rel", "real", "/rel/x"),
        ("up", "../../../real", "/up/x"),
        ("dangling", "/not/there/yet", "/dangling"),
    ] {
        let b = Bundle::busybox();
        let data = b.mkdir("data");
        std::fs::write(data.join("f"), "inside\n").unwrap();
        std::fs::create_dir(b.in_rootfs("real")).unwrap();
        symlink(target, b.in_rootfs(link)).unwrap();
        let file = format!("{place}/f");
        let b = b.args(["cat", &file]).edit(|s| add_mount(s, bind(&data, place, &["bind"])));
        b.run().ok().stdout("inside\n");
    }
    assert!(!std::path::Path::new("/real").exists() && !std::path::Path::new("/not").exists());
}

#[test]
fn a_target_above_the_root_stays_inside() {
    let b = with_mount(mount("/../../../t", "tmpfs", "tmpfs", &["size=8k"])).args(["cat", "/proc/self/mountinfo"]);
    assert!(table(&b.run().ok().out).contains_key("/t"));
    assert!(!std::path::Path::new("/t").exists());
}

#[test]
fn masked_paths() {
    let b = Bundle::busybox().file("secret", 0o644, "password").file("vault/key", 0o644, "k");
    let b = b.sh("cat /secret; ls /vault; touch /vault/x; echo $?; echo x > /secret; wc -c < /secret");
    let b = b.edit(|s| {
        let masked = s["linux"]["maskedPaths"].as_array_mut().unwrap();
        masked.extend(["/secret".into(), "/vault".into(), "/not/there".into(), "/secret".into()]);
    });
    let out = b.run().ok();
    assert_eq!(out.lines(), ["1", "0"], "{}", out.tell());
    assert_eq!(host::read(b.in_rootfs("secret")), "password");
    assert!(!b.in_rootfs("not").exists());
}

#[test]
fn the_default_masks() {
    let b = Bundle::busybox().sh("cat /proc/kcore /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l");
    b.run().ok().stdout("0\n0\n");
}

#[test]
fn readonly_paths() {
    let b = Bundle::busybox()
        .file("conf/a", 0o644, "x")
        .sh("touch /conf/b; echo $?; touch /conf/a; echo $?; touch /other; echo $?");
    let b = b.edit(|s| s["linux"]["readonlyPaths"] = json!(["/conf", "/proc/sys", "/not/there"]));
    b.run().ok().stdout("1\n1\n0\n");
    let b = Bundle::busybox().privileged().sh("echo 1 > /proc/sys/vm/swappiness");
    b.run().code(1).stderr_has("Read-only");
}

#[test]
fn readonly_paths_keep_their_other_flags() {
    let b = Bundle::busybox().args(["cat", "/proc/self/mountinfo"]).edit(|s| {
        add_mount(s, mount("/t", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"]));
        s["linux"]["readonlyPaths"] = json!(["/t"]);
    });
    let has = options(&table(&b.run().ok().out), "/t");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(has.iter().any(|h| h == option), "{has:?}");
    }
}

#[test]
fn a_read_only_root() {
    let b = Bundle::busybox().sh("touch /x").edit(|s| s["root"]["readonly"] = true.into());
    b.run().code(1).stderr_has("Read-only file system");
    let b =
        Bundle::busybox().sh("touch /dev/shm/x && echo y > /dev/null").edit(|s| s["root"]["readonly"] = true.into());
    b.run().ok();
    std::fs::write(b.in_rootfs("host"), "").expect("the host can still write");
}

#[test]
fn a_read_only_dev() {
    let b = Bundle::busybox().sh("echo > /dev/null && touch /dev/x").edit(|s| {
        let dev = s["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["destination"] == "/dev").unwrap();
        dev["options"].as_array_mut().unwrap().push("ro".into());
    });
    b.run().code(1).stderr_has("Read-only");
}

#[test]
fn no_pivot() {
    let b = Bundle::busybox().sh("ls -d /bin /proc/1; cat /proc/self/mountinfo | wc -l");
    b.run_with(["--no-pivot"]).ok().stdout_has("/bin\n/proc/1\n");
}

#[test]
fn the_root_by_other_names() {
    let absolute = Bundle::busybox().args(["echo", "absolute"]);
    let rootfs = absolute.rootfs();
    absolute.edit(|s| s["root"]["path"] = rootfs.to_str().into()).run().ok().stdout("absolute\n");
    let b = Bundle::busybox().args(["echo", "dot"]);
    b.shell("mv bundle/rootfs/* bundle/ && rmdir bundle/rootfs").ok();
    b.edit(|s| s["root"]["path"] = ".".into()).run().ok().stdout("dot\n");
    let b = Bundle::busybox().args(["echo", "far"]);
    b.shell("mv bundle/rootfs elsewhere").ok();
    b.edit(|s| s["root"]["path"] = "../elsewhere".into()).run().ok().stdout("far\n");
}

#[test]
fn a_link_to_the_bundle() {
    let b = Bundle::busybox().args(["echo", "through a link"]);
    b.write_config();
    symlink("bundle", b.path("alias")).unwrap();
    b.cli(["run", "-b", "alias", &b.id]).ok().stdout("through a link\n");
}

/// What a container's mounts do to one another, by `rootfsPropagation`, on a host whose `/` is shared.
#[test]
fn propagation_of_the_root() {
    not_on_runc!("1.1.15 has another propagation here than 1.1.5");
    for (propagation, fields) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
    ] {
        if matches!(fields, "shared" | "unbindable") && !crate::harness::runtime().is_corten() {
            continue; // runc 1.1 leaves the root itself private
        }
        let b = Bundle::busybox().args(["cat", "/proc/self/mountinfo"]);
        let b = b.edit(|s| s["linux"]["rootfsPropagation"] = propagation.into());
        let out = run_on_a_shared_host(&b).ok();
        let root = out.lines().into_iter().find(|l| l.split(' ').nth(4) == Some("/")).unwrap().to_owned();
        let optional: Vec<_> = root.split(' ').skip(6).take_while(|w| *w != "-").collect();
        match fields {
            "" => assert!(optional.is_empty(), "{propagation}: {root}"),
            _ => assert!(optional.iter().any(|o| o.starts_with(fields)), "{propagation}: {root}"),
        }
    }
}

#[test]
fn propagation_of_a_mount() {
    not_on_runc!("1.1.15 has another propagation here than 1.1.5");
    for (propagation, field) in [("rslave", "master"), ("rshared", "shared"), ("rprivate", "")] {
        let b = Bundle::busybox();
        let data = b.mkdir("data");
        let b = b.args(["cat", "/proc/self/mountinfo"]);
        let b = b.edit(|s| add_mount(s, bind(&data, "/data", &["rbind", propagation])));
        let out = run_on_a_shared_host(&b).ok();
        let line = table(&out.out)["/data"].clone();
        let optional: Vec<_> = line.split(' ').skip(1).take_while(|w| *w != "-").collect();
        match field {
            "" => assert!(optional.is_empty(), "{propagation}: {line}"),
            _ => assert!(optional.iter().any(|o| o.starts_with(field)), "{propagation}: {line}"),
        }
    }
}

/// Nothing of a container appears on a host whose `/` is shared (security, row 22).
#[test]
fn no_mount_leaks_to_a_shared_host() {
    for propagation in ["", "private", "rslave"] {
        let b = Bundle::busybox();
        let data = b.mkdir("data");
        let b = b.edit(|s| {
            add_mount(s, bind(&data, "/data", &["rbind"]));
            add_mount(s, mount("/data/sub", "tmpfs", "tmpfs", &[]));
            if !propagation.is_empty() {
                s["linux"]["rootfsPropagation"] = propagation.into();
            }
        });
        b.write_config();
        let line = format!(
            "cat /proc/self/mountinfo > before; {} --root root run -b bundle {}; code=$?; \
             cat /proc/self/mountinfo > after; cmp before after && exit $code",
            crate::harness::runtime().path.display(),
            b.id
        );
        b.host("unshare").args(["--mount", "--propagation", "shared", "sh", "-c", &line]).run().ok();
    }
}

fn run_on_a_shared_host(b: &Bundle) -> crate::harness::Out {
    b.write_config();
    let line = format!("exec {} --root root run -b bundle {}", crate::harness::runtime().path.display(), b.id);
    b.host("unshare").args(["--mount", "--propagation", "shared", "sh", "-c", &line]).run()
}

#[test]
fn a_mount_made_later_reaches_a_slave() {
    not_on_runc!("1.1.15 has another propagation here than 1.1.5");
    let b = Bundle::busybox();
    let data = b.mkdir("data/sub");
    let data = data.parent().unwrap().to_owned();
    let b = b.sh("touch /up; while ! test -e /data/sub/late; do sleep 0.05; done; echo saw it");
    let b = b.edit(|s| add_mount(s, bind(&data, "/data", &["rbind", "rslave"])));
    b.write_config();
    let line = format!(
        "mount --make-rshared /; {} --root root run -b bundle {} & until test -e bundle/rootfs/up; do sleep 0.1; done; mount -t tmpfs none data/sub; touch data/sub/late; wait $!",
        crate::harness::runtime().path.display(),
        b.id
    );
    // Private first: under systemd the host's root is shared, and what is mounted here would come out there.
    b.host("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &line]).run().ok().stdout("saw it\n");
}

#[test]
fn the_cgroup_mount() {
    let v1 = host::layout() == host::Layout::V1;
    // Its own cgroup is the root of what it sees.
    let script = if v1 { "cat /sys/fs/cgroup/pids/cgroup.procs" } else { "cat /sys/fs/cgroup/cgroup.procs" };
    Bundle::busybox().sh(&format!("{script}; true")).run().ok().stdout_has("1\n");
    if v1 {
        // On v2 the whole of the host's tree is seen without a cgroup namespace.
        let b = Bundle::busybox().sh(&format!("{script}; true")).edit(|s| drop_namespace(s, "cgroup"));
        b.run().ok().stdout_has("1\n");
    }
    for namespace in ["with", "without"] {
        let b = Bundle::busybox().privileged().sh(if v1 {
            "mkdir /sys/fs/cgroup/pids/x"
        } else {
            "mkdir /sys/fs/cgroup/x"
        });
        let b = b.edit(|s| {
            if namespace == "without" {
                drop_namespace(s, "cgroup");
            }
        });
        b.run().code(1).stderr_has("Read-only");
    }
}

#[test]
fn the_cgroup_mount_has_every_controller() {
    if host::layout() == host::Layout::V2 {
        skip!("one tree on v2");
    }
    for namespace in ["with", "without"] {
        let b = Bundle::busybox().args(["ls", "/sys/fs/cgroup"]).edit(|s| {
            if namespace == "without" {
                drop_namespace(s, "cgroup");
            }
        });
        let out = b.run().ok();
        for controller in ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"] {
            if host::hierarchy(controller).is_some() || host::hierarchy(&format!("name={controller}")).is_some() {
                assert!(out.lines().contains(&controller), "no {controller}: {}", out.out);
            }
        }
    }
}

#[test]
fn a_writable_cgroup_mount() {
    let v1 = host::layout() == host::Layout::V1;
    let b =
        Bundle::busybox().privileged().sh(if v1 { "mkdir /sys/fs/cgroup/pids/x" } else { "mkdir /sys/fs/cgroup/x" });
    let b = b.edit(|s| {
        let cgroup = s["mounts"].as_array_mut().unwrap().iter_mut().find(|m| m["type"] == "cgroup").unwrap();
        cgroup["options"] = json!(["nosuid", "noexec", "nodev", "rw"]);
    });
    b.run().ok();
    assert!(host::cgroups_named(&b.id).is_empty(), "a nested cgroup is removed too");
}

#[test]
fn idmapped_mounts() {
    not_on_runc!("idmapped mounts came with 1.2");
    let b = Bundle::busybox();
    let Some((disk, _)) = OnDisk::make(&b.id) else { skip!("there is no disk to map owners on") };
    let data = disk.path();
    std::fs::write(data.join("f"), "").unwrap();
    let map = json!([{"containerID": 0, "hostID": 7000, "size": 1000}]);
    let b = b.args(["stat", "-c", "%u %g", "/data/f"]).edit(|s| {
        let mut m = bind(data, "/data", &["bind"]);
        m["uidMappings"] = map.clone();
        m["gidMappings"] = map;
        add_mount(s, m);
    });
    b.run().ok().stdout("7000 7000\n");
    drop(disk);
}

/// A tmpfs maps owners since Linux 6.3. Before that it is refused, and the error names what cannot.
#[test]
fn idmapped_memory() {
    not_on_runc!("idmapped mounts came with 1.2");
    let b = Bundle::busybox();
    let map = json!([{"containerID": 0, "hostID": 7000, "size": 1000}]);
    b.shell("mkdir memory").ok();
    let memory = b.path("memory");
    let b = b.args(["stat", "-c", "%u", "/data"]).edit(|s| {
        let mut m = bind(&memory, "/data", &["bind"]);
        m["uidMappings"] = map.clone();
        m["gidMappings"] = map;
        add_mount(s, m);
    });
    b.write_config();
    let runtime = runtime().path.display();
    let out = b.shell(&format!(
        "unshare -m --propagation private sh -c 'mount -t tmpfs none memory && {runtime} --root root run -b bundle {}'",
        b.id
    ));
    match host::kernel() >= (6, 3) {
        true => out.ok().stdout("7000\n"),
        false => out.code(1).stderr_has("does not support mapped owners (idmap)"),
    };
}

#[test]
fn an_idmapped_mount_as_the_container_is_mapped() {
    not_on_runc!("idmapped mounts came with 1.2");
    let b = Bundle::busybox().user_namespace();
    let Some((disk, _)) = OnDisk::make(&b.id) else { skip!("there is no disk to map owners on") };
    let data = disk.path();
    std::fs::write(data.join("f"), "").unwrap();
    let b = b.sh("stat -c %u /data/f; touch /data/g").edit(|s| add_mount(s, bind(data, "/data", &["bind", "idmap"])));
    b.run().ok().stdout("0\n");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data.join("g")).unwrap()), 0);
    drop(disk);
}

#[test]
fn in_a_user_namespace() {
    let b = Bundle::busybox().user_namespace();
    let data = b.mkdir("data");
    std::fs::write(data.join("f"), "x\n").unwrap();
    let b = b.sh("cat /data/f; touch /t/x; touch /data/y").edit(|s| {
        add_mount(s, bind(&data, "/data", &["bind", "ro"]));
        add_mount(s, mount("/t", "tmpfs", "tmpfs", &["nosuid"]));
    });
    b.run().code(1).stdout("x\n").stderr_has("Read-only");
}

#[test]
fn a_shared_memory_mount_is_fresh() {
    let b = Bundle::busybox().args(["ls", "/dev/shm", "/dev/pts"]);
    b.run().ok().stdout("/dev/pts:\nptmx\n\n/dev/shm:\n");
}

#[test]
fn many_mounts() {
    let b = Bundle::busybox().sh("ls /m | wc -l").edit(|s| {
        for n in 0..200 {
            add_mount(s, mount(&format!("/m/{n}"), "tmpfs", "tmpfs", &["size=4k"]));
        }
    });
    b.run().ok().stdout("200\n");
}

#[test]
fn a_joined_network_keeps_sysfs_right() {
    let one = Bundle::busybox().args(["sleep", "1000"]);
    let c = one.start();
    let path = format!("/proc/{}/ns/net", c.pid());
    let b = Bundle::busybox().args(["ls", "/sys/class/net"]).edit(|s| add_namespace(s, "network", Some(&path)));
    b.run().ok().stdout("lo\n");
}

#[test]
fn a_mount_label_is_never_left_out() {
    let b = Bundle::busybox().edit(|s| s["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0".into());
    if std::fs::exists("/sys/fs/selinux/enforce").unwrap_or(false) {
        skip!("this host has SELinux");
    }
    let out = b.run().code(1).stdout("");
    if runtime().is_corten() {
        out.stderr_has("linux.mountLabel: SELinux is not enabled").stderr_has("context");
    } else {
        b.runc_leaves_its_cgroup();
    }
}

/// What a container has mounted is shared with another through its first process; a link that it makes there leads nowhere.
#[test]
fn a_mount_of_another_container() {
    not_on_runc!("a bind of another mount namespace is EINVAL");
    let one = Bundle::busybox().sh("echo first >/dev/shm/word; ln -s /etc /evil; touch /up; sleep 1000");
    let first = one.start();
    first.wait_for_file("/up");
    let shared = |b: Bundle, path: &str| {
        let source = format!("/proc/{}/root{path}", first.pid());
        b.edit(|s| {
            s["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev/shm");
            add_mount(s, bind(source, "/dev/shm", &["rbind"]));
        })
    };
    for b in [Bundle::busybox(), Bundle::busybox().user_namespace()] {
        let b = shared(b, "/dev/shm").sh("cat /dev/shm/word; grep -c ' /dev/shm tmpfs' /proc/mounts");
        b.run().ok().stdout("first\n1\n");
    }
    let b = shared(Bundle::busybox(), "/dev/shm").sh("echo second >/dev/shm/answer");
    b.run().ok();
    first.sh("cat /dev/shm/answer").ok().stdout("second\n");
    shared(Bundle::busybox(), "/evil").run().fails().stderr_has("leads through a symbolic link");
    shared(Bundle::busybox(), "/none").run().fails().stderr_has("has no /none");
    first.stop();
    first.delete().ok();
    let gone = Bundle::busybox().edit(|s| add_mount(s, bind("/proc/4194300/root/x", "/mnt", &["rbind"])));
    gone.run().fails().stderr_has("whose mounts are shared, has ended");
}
