//! Bind mounts: what is bound, and with which attributes.

use crate::harness::{Bundle, add_mount, bind, host, mount};
use crate::mounts::{options, table, with_mount};
use serde_json::json;

#[test]
fn bind_a_directory() {
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    std::fs::write(data.join("in"), "from host\n").unwrap();
    let b = b.sh("cat /data/in; echo from box > /data/out").edit(|s| add_mount(s, bind(&data, "/data", &["bind"])));
    b.run().ok().stdout("from host\n");
    assert_eq!(host::read(data.join("out")), "from box\n");
}

#[test]
fn bind_a_file() {
    let b = Bundle::busybox();
    std::fs::write(b.path("note"), "a note\n").unwrap();
    let note = b.path("note");
    let b = b.args(["cat", "/etc/deep/note"]).edit(|s| add_mount(s, bind(&note, "/etc/deep/note", &["bind", "ro"])));
    b.run().ok().stdout("a note\n");
    assert!(b.in_rootfs("etc/deep/note").is_file(), "the target is made, a file");
    // Over a file that is there.
    let b = b
        .args(["cat", "/etc/passwd"])
        .edit(|s| s["mounts"].as_array_mut().unwrap().last_mut().unwrap()["destination"] = "/etc/passwd".into());
    b.run().ok().stdout("a note\n");
}

#[test]
fn bind_read_only() {
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    let b = b.sh("echo x > /data/x").edit(|s| add_mount(s, bind(&data, "/data", &["bind", "ro"])));
    b.run().code(1).stderr_has("Read-only file system");
    assert!(!data.join("x").exists());
    std::fs::write(data.join("host"), "").expect("the host can still write");
}

#[test]
fn bind_with_a_relative_source() {
    let b = with_mount(mount("/data", "bind", "extra", &["bind"])).args(["cat", "/data/x"]);
    std::fs::create_dir(b.dir().join("extra")).unwrap();
    std::fs::write(b.dir().join("extra/x"), "beside\n").unwrap();
    // From another directory than the bundle's.
    b.run().ok().stdout("beside\n");
}

#[test]
fn bind_without_a_type() {
    let b = Bundle::busybox();
    let data = b.mkdir("data");
    for kind in [json!(null), json!("none"), json!("bind"), json!("")] {
        let b = Bundle::busybox().args(["ls", "-d", "/data"]).edit(|s| {
            let mut m = bind(&data, "/data", &["rbind"]);
            match kind.is_null() {
                true => _ = m.as_object_mut().unwrap().remove("type"),
                false => m["type"] = kind.clone(),
            }
            add_mount(s, m);
        });
        b.run().ok().stdout("/data\n");
    }
}

#[test]
fn bind_a_device_or_socket() {
    let b = Bundle::busybox();
    let _listener = std::os::unix::net::UnixListener::bind(b.path("sock")).unwrap();
    let sock = b.path("sock");
    let b = b.sh("test -S /run/sock && test -c /run/zero && echo both").edit(|s| {
        add_mount(s, bind(&sock, "/run/sock", &["bind"]));
        add_mount(s, bind("/dev/zero", "/run/zero", &["bind"]));
    });
    b.run().ok().stdout("both\n");
}

/// A tree of two mounts on the host, in a mount namespace that the test's shell makes.
fn run_over_submount(options: &[&str], script: &str) -> crate::harness::Out {
    let b = Bundle::busybox();
    let data = b.mkdir("data/sub");
    let data = data.parent().unwrap().to_owned();
    let b = b.sh(script).edit(|s| add_mount(s, bind(&data, "/data", options)));
    b.write_config();
    let runtime = &crate::harness::runtime().path;
    let line = format!(
        "mount -t tmpfs none data/sub && echo deep > data/sub/file && exec {} --root root run -b bundle {}",
        runtime.display(),
        b.id
    );
    b.host("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &line]).run()
}

#[test]
fn bind_alone_or_recursive() {
    run_over_submount(&["bind"], "ls /data/sub").ok().stdout("");
    run_over_submount(&["rbind"], "cat /data/sub/file").ok().stdout("deep\n");
}

#[test]
fn plain_read_only_is_not_recursive() {
    run_over_submount(&["rbind", "ro"], "touch /data/sub/x && echo written; touch /data/x").code(1).stdout("written\n");
}

#[test]
fn recursive_attributes() {
    not_on_runc!("1.1.5 as built by Debian knows no rro");
    run_over_submount(&["rbind", "rro"], "touch /data/sub/x").code(1).stderr_has("Read-only");
    let shown =
        run_over_submount(&["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"], "cat /proc/self/mountinfo")
            .ok();
    for place in ["/data", "/data/sub"] {
        let has = options(&table(&shown.out), place);
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
            assert!(has.iter().any(|h| h == option), "{place}: {has:?}");
        }
    }
    run_over_submount(&["rbind", "rro", "rrw"], "touch /data/sub/x").ok();
}

#[test]
fn a_bind_keeps_the_flags_of_its_source() {
    let b = Bundle::busybox();
    b.mkdir("data");
    let data = b.path("data");
    let b = b.args(["cat", "/proc/self/mountinfo"]).edit(|s| add_mount(s, bind(&data, "/data", &["bind"])));
    b.write_config();
    let line = format!(
        "mount -t tmpfs -o nosuid,nodev,noexec none data && exec {} --root root run -b bundle {}",
        crate::harness::runtime().path.display(),
        b.id
    );
    let out = b.host("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &line]).run().ok();
    let has = options(&table(&out.out), "/data");
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(has.iter().any(|h| h == option), "{has:?}");
    }
}
