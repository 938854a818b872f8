//! A real distribution: Debian's root file system runs bash, apt and python3.
//!
//! Made once with mmdebstrap (or debootstrap), kept in `${XDG_CACHE_HOME:-~/.cache}/corten/debian-root`.

use crate::harness::{Bundle, add_mount, host, mount};
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// The cached root, made when it is missing. `Err` says why it cannot be.
fn root() -> Result<PathBuf, String> {
    // One test makes it, the others wait.
    static MAKING: Mutex<()> = Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(|e| e.into_inner());
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_else(|| "/root".into());
    let cache =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| home.join(".cache")).join("corten");
    let root = cache.join("debian-root");
    if root.join("usr/bin/python3").exists() {
        return Ok(root);
    }
    std::fs::create_dir_all(&cache).map_err(|e| format!("{}: {e}", cache.display()))?;
    let new = cache.join(format!("debian-root.new-{}", std::process::id()));
    let suite = "bookworm";
    let made = if host::has_program("mmdebstrap") {
        // As root, unpacked into a folder, with the host's own sources (and so its mirror and proxy).
        Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", "--include=python3", suite]).arg(&new).output()
    } else if host::has_program("debootstrap") {
        Command::new("debootstrap").args(["--variant=minbase", "--include=python3", suite]).arg(&new).output()
    } else {
        return Err("neither mmdebstrap nor debootstrap is installed".into());
    };
    let made = made.map_err(|e| e.to_string())?;
    if !made.status.success() {
        let _ = std::fs::remove_dir_all(&new);
        let why = String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default().to_owned();
        return Err(format!("no Debian root can be made here: {why}"));
    }
    let _ = std::fs::remove_dir_all(&root);
    std::fs::rename(&new, &root).map_err(|e| e.to_string())?;
    Ok(root)
}

/// A bundle on the cached root, read-only, as an ordinary user.
fn debian(script: &str) -> Result<Bundle, String> {
    let root = root()?;
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
