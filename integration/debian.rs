//! A real distribution: Debian's root file system runs bash, apt and python3.

mod root;

use crate::harness::{Bundle, add_mount, mount};
use serde_json::json;

/// A bundle on the cached root, read-only, as an ordinary user.
fn debian(script: &str) -> Result<Bundle, String> {
    let root = root::root()?;
    let bundle = Bundle::empty().args(["bash", "-c", script]).edit(|s| {
        s["root"] = json!({"path": root, "readonly": true});
        s["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        s["process"]["capabilities"] = json!({});
        add_mount(s, mount("/tmp", "tmpfs", "tmpfs", &["mode=1777", "nosuid", "nodev"]));
    });
    Ok(bundle)
}

macro_rules! debian {
    ($script:expr) => {
        match debian($script) {
            Ok(bundle) => bundle,
            Err(why) => skip!("{why}"),
        }
    };
}

#[test]
fn bash() {
    let b = debian!(
        "echo $BASH_VERSION | cut -d. -f1; id -u; touch /tmp/x && echo ok; touch /x 2>/dev/null || echo read-only"
    );
    b.run().ok().stdout("5\n1000\nok\nread-only\n");
}

#[test]
fn apt_get() {
    debian!("apt-get --version | head -1; dpkg -l | grep -c ^ii").run().ok().stdout_has("apt 2.");
}

#[test]
fn python() {
    let b = debian!(
        "python3 -c 'import os, json, hashlib, subprocess; print(os.getuid(), subprocess.check_output([\"uname\"]))'"
    );
    b.run().ok().stdout("1000 b'Linux\\n'\n");
}

#[test]
fn python_threads_and_sockets() {
    let script = "python3 -c '
import socket, threading
server = socket.create_server((\"127.0.0.1\", 0))
def serve():
    peer, _ = server.accept(); peer.sendall(b\"over loopback\"); peer.close()
threading.Thread(target=serve).start()
print(socket.create_connection(server.getsockname()).recv(100).decode())'";
    debian!(script).run().ok().stdout("over loopback\n");
}

#[test]
fn as_root_in_a_user_namespace() {
    // The cached files belong to the host's root, who is nobody inside: reading is all that is tried.
    let b = debian!("id -u; cat /etc/debian_version | cut -d. -f1; stat -c %U /etc/passwd");
    // The cache may lie below a folder that only its owner may enter.
    let place = b.mkdir("debian");
    let root = b.spec["root"]["path"].as_str().unwrap().to_owned();
    b.host("mount").args(["--bind", &root, place.to_str().unwrap()]).run().ok();
    let b = b.edit(|s| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        s["linux"]["uidMappings"] = map.clone();
        s["linux"]["gidMappings"] = map;
        s["root"]["path"] = place.to_str().into();
        s["process"]["user"] = json!({"uid": 0, "gid": 0});
        crate::harness::add_namespace(s, "user", None);
    });
    let out = b.run();
    b.host("umount").args([&place]).run().ok();
    out.ok().stdout("0\n12\nnobody\n");
}
