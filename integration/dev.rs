//! /dev and the devices that may be used.

use crate::harness::{Bundle, add_mount, bind};
use serde_json::{Value, json};

/// Lets the container make and use every device.
fn allow_all(spec: &mut Value) {
    spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
}

#[test]
fn the_default_nodes() {
    let b = Bundle::busybox().sh("cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty");
    b.run().ok().stdout(
        "null character special file 1:3 666 0:0\nzero character special file 1:5 666 0:0\n\
         full character special file 1:7 666 0:0\nrandom character special file 1:8 666 0:0\n\
         urandom character special file 1:9 666 0:0\ntty character special file 5:0 666 0:0\n",
    );
}

#[test]
fn the_default_links() {
    let b = Bundle::busybox().sh("for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done");
    b.run().ok().stdout("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n");
    let b = Bundle::busybox().args(["ls", "/dev"]);
    let mut names: Vec<_> = b.run().ok().lines().iter().map(|l| l.to_string()).collect();
    names.retain(|n| n != "core" && n != "console");
    let wanted = [
        "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom",
        "zero",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn they_work() {
    let b = Bundle::busybox().sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; \
         echo x > /dev/full || echo full; echo out >> /dev/stdout; echo in | cat /dev/stdin");
    b.run().ok().stdout("3\n3\nfull\nout\nin\n");
}

#[test]
fn no_console_without_a_terminal() {
    Bundle::busybox().sh("test -e /dev/console && stat -c %F /dev/console; true").run().ok().stdout("");
}

#[test]
fn a_device_of_the_configuration() {
    let b = Bundle::busybox().sh("stat -c '%F %t:%T %a %u:%g' /dev/mine /dev/deep/er/disk /dev/pipe").edit(|s| {
        allow_all(s);
        s["linux"]["devices"] = json!([
            {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 12, "gid": 34},
            {"path": "/dev/deep/er/disk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o660, "uid": 0, "gid": 6},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o644}
        ]);
    });
    b.run().ok().stdout("character special file 1:3 600 12:34\nblock special file 7:0 660 0:6\nfifo 0:0 644 0:0\n");
}

#[test]
fn the_mode_is_not_subject_to_the_umask() {
    let b = Bundle::busybox().args(["stat", "-c", "%a", "/dev/mine", "/dev/null"]).edit(|s| {
        allow_all(s);
        s["linux"]["devices"] = json!([{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]);
    });
    b.write_config();
    let runtime = crate::harness::runtime().path.display();
    b.shell(&format!("umask 077; {runtime} --root root run -b bundle {}", b.id)).ok().stdout("666\n666\n");
}

#[test]
fn a_device_named_like_a_default_one() {
    let b = Bundle::busybox().args(["stat", "-c", "%n %t:%T", "/dev/tty", "/dev/null"]).edit(|s| {
        allow_all(s);
        s["linux"]["devices"] = json!([
            {"path": "/dev/tty", "type": "c", "major": 5, "minor": 0, "fileMode": 0o666, "uid": 0, "gid": 0},
            {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0},
            {"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2, "fileMode": 0o666, "uid": 0, "gid": 0}
        ]);
    });
    b.run().ok().stdout("/dev/tty 5:0\n/dev/null 1:3\n");
}

#[test]
fn in_a_user_namespace_the_hosts_are_bound() {
    let b = Bundle::busybox()
        .user_namespace()
        .sh("echo x > /dev/null && head -c 2 /dev/zero | wc -c; stat -c %t:%T /dev/null");
    b.run().ok().stdout("2\n1:3\n");
}

#[test]
fn a_device_in_a_user_namespace() {
    let b = Bundle::busybox().user_namespace().args(["stat", "-c", "%t:%T", "/dev/fuse"]).edit(|s| {
        s["linux"]["devices"] =
            json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666}]);
    });
    if !std::path::Path::new("/dev/fuse").exists() {
        skip!("this machine has no /dev/fuse");
    }
    b.run().ok().stdout("a:e5\n");
}

/// What the rules forbid cannot be opened, whatever node is made for it.
#[test]
fn the_rules_are_enforced() {
    // /dev/kmsg
    let script =
        "mknod /tmp/kmsg c 1 11 && echo made; head -c 0 < /tmp/kmsg && echo read; true > /tmp/kmsg && echo wrote; true";
    let run = |rules: Value| {
        let b = Bundle::busybox().privileged().sh(script);
        b.edit(|s| s["linux"]["resources"]["devices"] = rules).run()
    };
    let deny = json!({"allow": false, "access": "rwm"});
    let rule = |access: &str| json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": access});
    // mknod of anything is among the defaults, for it opens nothing.
    run(json!([deny])).ok().stdout("made\n").stderr_has("not permitted");
    run(json!([deny, rule("rwm")])).ok().stdout("made\nread\nwrote\n");
    run(json!([deny, rule("r")])).ok().stdout("made\nread\n");
    run(json!([deny, rule("w")])).ok().stdout("made\nwrote\n");
    run(json!([{"allow": true, "access": "rwm"}])).ok().stdout("made\nread\nwrote\n");
}

#[test]
fn a_denial_after_an_allowance() {
    let script = "mknod /tmp/kmsg c 1 11; head -c 0 < /tmp/kmsg && echo read; true > /tmp/kmsg && echo wrote; true";
    let b = Bundle::busybox().privileged().sh(script).edit(|s| {
        s["linux"]["resources"]["devices"] = json!([
            {"allow": true, "access": "rwm"},
            {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}
        ]);
    });
    b.run().ok().stdout("read\n");
}

#[test]
fn a_rule_for_a_whole_major() {
    let script =
        "mknod /tmp/kmsg c 1 11; mknod /tmp/rtc c 10 1; head -c 0 < /tmp/kmsg && echo kmsg; head -c 0 < /tmp/rtc; true";
    let b = Bundle::busybox().privileged().sh(script).edit(|s| {
        s["linux"]["resources"]["devices"] =
            json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "rw"}]);
    });
    b.run().ok().stdout("kmsg\n").stderr_has("not permitted");
}

#[test]
fn exec_obeys_the_rules() {
    let b = Bundle::busybox().privileged().args(["sleep", "1000"]);
    let c = b.start();
    c.exec_with(&["--cap", "CAP_MKNOD"], &["sh", "-c", "mknod /tmp/kmsg c 1 11; head -c 0 < /tmp/kmsg"])
        .fails()
        .stderr_has("not permitted");
    c.sh("echo > /dev/null").ok();
}

/// A node on the host, bound in, is no way around.
#[test]
fn a_bound_device_obeys_the_rules() {
    let b = Bundle::busybox()
        .privileged()
        .args(["head", "-c", "0", "/kmsg"])
        .edit(|s| add_mount(s, bind("/dev/kmsg", "/kmsg", &["bind"])));
    if !std::path::Path::new("/dev/kmsg").exists() {
        skip!("this machine has no /dev/kmsg");
    }
    b.run().fails().stderr_has("not permitted");
}

#[test]
fn no_dev_mount() {
    // Without a tmpfs at /dev the nodes are made in the root itself.
    let b = Bundle::busybox().sh("echo x > /dev/null; stat -c %t:%T /dev/null").edit(|s| {
        s["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    });
    b.run().ok().stdout("1:3\n");
}

#[test]
fn a_bound_dev_is_left_alone() {
    let b = Bundle::busybox();
    let dev = b.mkdir("dev");
    std::fs::write(dev.join("marker"), "").unwrap();
    b.shell("mknod -m 666 dev/null c 1 3").ok();
    let b = b.args(["ls", "/dev"]).edit(|s| {
        s["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
        add_mount(s, bind(&dev, "/dev", &["rbind"]));
    });
    b.run().ok().stdout("marker\nnull\n");
}
