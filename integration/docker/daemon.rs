//! The configuration that dockerd makes of a command line, beside ours.
//!
//! The daemon runs in a directory of its own, with a runtime that keeps the config.json it is given and then fails: no container is ever started. By hand:
//! `dockerd --data-root D --exec-root E -H unix://S --add-runtime keep=./keep.sh`, then `docker -H unix://S run --runtime keep …`.

use crate::dockerd::Dockerd;
use corten::docker::configure::Other;
use corten::docker::{Facts, Options, arguments, configure, here};
use corten::input::overrides::Caller;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:1000:100::/home/web:/bin/sh\n";
const GROUP: &str = "root:x:0:\nusers:x:100:\nvideo:x:44:web\n";

/// Its containers are never started.
struct Daemon {
    dockerd: Dockerd,
    directory: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Result<Daemon, String> {
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let at = |name: &str| directory.path().join(name);
        let keep = at("keep.sh");
        let script = format!(
            "#!/bin/sh\nfor a; do case $a in create) create=1;; esac; [ \"$last\" = --bundle ] && bundle=$a; last=$a; done\n\
             [ \"$create\" ] && {{ cp \"$bundle/config.json\" {}; exit 1; }}\nexit 0\n",
            at("kept.json").display()
        );
        std::fs::write(&keep, script).map_err(|e| e.to_string())?;
        std::fs::set_permissions(&keep, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|e| e.to_string())?;
        let cgroup = format!("corten-docker-{}", std::process::id());
        let settings =
            json!({"storage-driver": "vfs", "runtimes": {"keep": {"path": keep}}, "default-runtime": "keep"});
        let dockerd = Dockerd::start(Command::new("dockerd"), directory.path(), &cgroup, &settings)?;
        let daemon = Daemon { dockerd, directory };
        daemon.import()?;
        Ok(daemon)
    }

    /// An image with nothing but users.
    fn import(&self) -> Result<(), String> {
        let root = self.directory.path().join("root");
        std::fs::create_dir_all(root.join("etc")).map_err(|e| e.to_string())?;
        std::fs::write(root.join("etc/passwd"), PASSWD).map_err(|e| e.to_string())?;
        std::fs::write(root.join("etc/group"), GROUP).map_err(|e| e.to_string())?;
        let tar = Command::new("tar").arg("-C").arg(&root).args(["-c", "."]).output().map_err(|e| e.to_string())?;
        let changes = ["ENV FOO=image BAR=bar", "WORKDIR /srv", "ENTRYPOINT [\"/e\"]", "CMD [\"c\"]"];
        let mut command = self.dockerd.client();
        command.arg("import");
        for change in changes {
            command.arg("-c").arg(change);
        }
        let spawned = command.args(["-", "box:1"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut import = spawned.map_err(|e| e.to_string())?;
        import.stdin.take().expect("piped").write_all(&tar.stdout).map_err(|e| e.to_string())?;
        match import.wait() {
            Ok(status) if status.success() => Ok(()),
            _ => Err("docker import did not work".to_owned()),
        }
    }

    /// What dockerd hands to its runtime.
    fn configuration(&self, words: &[&str]) -> Value {
        let kept = self.directory.path().join("kept.json");
        let _ = std::fs::remove_file(&kept);
        let mut run = self.dockerd.client();
        let why = run.args(["run", "--rm"]).args(words).env("MINE", "m").stdin(Stdio::null()).output().unwrap();
        let text =
            std::fs::read(&kept).unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&why.stderr)));
        serde_json::from_slice(&text).unwrap()
    }
}

/// What we make of the same words.
fn ours(words: &[&str], theirs: &Value) -> Value {
    let command = clap::Command::new("run").disable_help_flag(true).no_binary_name(true).args(arguments());
    let options = Options::typed(&command.try_get_matches_from(words).unwrap()).unwrap();
    let image = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}, "config": {
        "Env": ["FOO=image", "BAR=bar"], "WorkingDir": "/srv", "Entrypoint": ["/e"], "Cmd": ["c"],
    }});
    let id = theirs["linux"]["cgroupsPath"].as_str().unwrap().rsplit('/').next().unwrap();
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let caller = Caller { dir: "/tmp".into(), env: [("MINE".to_owned(), "m".to_owned())].into() };
    let facts = Facts {
        id,
        rootfs: Path::new("/rootfs"),
        directory: Path::new("/directory"),
        passwd: PASSWD.as_bytes(),
        group: GROUP.as_bytes(),
        caller: &caller,
        hostname: &name,
        arch: here::ARCH,
        kernel: (6, 12),
        processors: &here::processors,
        held: here::held(),
        program: Path::new("/usr/bin/docker-init"),
        read: &|path| std::fs::read(path).map_err(|e| corten::error::Error::new(e.to_string())),
        devices: &here::devices,
        container: &|_| Ok(Other::default()),
    };
    let made = configure(&serde_json::from_value(image).unwrap(), &options, &facts)
        .unwrap_or_else(|e| panic!("{words:?}: {e}"));
    serde_json::from_slice(&made.raw).unwrap()
}

/// A configuration as far as the two are meant to agree, place by place.
fn comparable(document: &Value) -> Vec<(&'static str, Value)> {
    let set = |value: &Value| -> Value {
        let names: BTreeSet<String> = value.as_array().into_iter().flatten().map(ToString::to_string).collect();
        names.into_iter().collect::<Vec<_>>().into()
    };
    let some = |value: &Value| match value {
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Object(map) if map.is_empty() => Value::Null,
        Value::Bool(false) => Value::Null,
        other => other.clone(),
    };
    let process = &document["process"];
    let linux = &document["linux"];
    let mounts = document["mounts"].as_array().unwrap().iter().map(|mount| {
        let mut mount = mount.clone();
        let place = mount["destination"].as_str().unwrap().to_owned();
        if place.starts_with("/etc/") || place == "/sbin/docker-init" {
            mount["source"] = Value::Null;
        }
        // The same in other words: propagation of a tmpfs, a size in bytes; and read-only also below, which Docker has since 25.
        let words = mount["options"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        let same = |word: &str| match word {
            "rro" => "ro".to_owned(),
            "size=1m" => "size=1048576".to_owned(),
            // Of one file.
            "rbind" if place == "/sbin/docker-init" => "bind".to_owned(),
            word => word.to_owned(),
        };
        let bind = mount["type"] == "bind" && place != "/sbin/docker-init";
        let words: BTreeSet<String> = words.filter(|word| bind || *word != "rprivate").map(same).collect();
        mount["options"] = json!(words);
        mount
    });
    let namespaces = linux["namespaces"].as_array().unwrap().iter().filter(|namespace| {
        // Docker joins its own path of the host's network, and on v1 makes no cgroup namespace.
        let host = namespace["path"].as_str().is_some_and(|path| path.ends_with("/netns/default"));
        !host && namespace["type"] != "cgroup"
    });
    let memory = &linux["resources"]["memory"];
    // Of two for one name the last counts; their order says nothing.
    let variables = process["env"].as_array().unwrap().iter().filter_map(|entry| entry.as_str()?.split_once('='));
    let env: serde_json::Map<String, Value> = variables.map(|(key, value)| (key.to_owned(), value.into())).collect();
    let mut found = vec![
        ("args", process["args"].clone()),
        ("env", env.into()),
        ("cwd", process["cwd"].clone()),
        (
            "user",
            json!({"uid": process["user"]["uid"], "gid": process["user"]["gid"], "groups": process["user"]["additionalGids"]}),
        ),
        ("terminal", some(&process["terminal"])),
        ("bounding", set(&process["capabilities"]["bounding"])),
        ("effective", set(&process["capabilities"]["effective"])),
        ("permitted", set(&process["capabilities"]["permitted"])),
        ("inheritable", set(&process["capabilities"]["inheritable"])),
        ("rlimits", set(&process["rlimits"])),
        ("noNewPrivileges", some(&process["noNewPrivileges"])),
        ("hostname", document["hostname"].clone()),
        ("readonly", some(&document["root"]["readonly"])),
        // Their order differs where it does not matter.
        ("mounts", set(&mounts.collect::<Vec<_>>().into())),
        ("namespaces", set(&namespaces.cloned().collect::<Vec<_>>().into())),
        ("readonlyPaths", set(&linux["readonlyPaths"])),
        ("devices", set(&linux["devices"])),
        ("sysctl", some(&linux["sysctl"])),
        ("memory", json!([memory["limit"], memory["swap"]])),
        ("pids", linux["resources"]["pids"].clone()),
    ];
    let cpu = &linux["resources"]["cpu"];
    let shares = if cpu["shares"] == 0 { &Value::Null } else { &cpu["shares"] };
    found.push(("cpu", json!([cpu["quota"], cpu["period"], cpu["cpus"], shares])));
    // Newer versions hide more.
    let newer = ["/proc/interrupts", "/sys/devices/virtual/powercap"];
    let masked =
        linux["maskedPaths"].as_array().into_iter().flatten().filter(|path| !newer.iter().any(|new| *path == new));
    found.push(("maskedPaths", set(&masked.cloned().collect::<Vec<_>>().into())));
    found
}

#[test]
fn the_configuration_is_dockers() {
    let daemon = match Daemon::start() {
        Ok(daemon) => daemon,
        Err(why) => {
            // Not through eprintln, which libtest swallows.
            let _ = writeln!(std::io::stderr(), "skip: daemon::the_configuration_is_dockers: {why}");
            return;
        }
    };
    let vars = daemon.directory.path().join("vars");
    std::fs::write(&vars, "F=file\n  G=g \nMINE\nNOT_SET\n# c\n").unwrap();
    let env_file = format!("--network host --env-file {} -e A=1 box:1", vars.display());
    let mut differences = Vec::new();
    for line in [
        "--network host box:1",
        "--network none box:1",
        "--network host box:1 x y",
        "--network host --entrypoint /b box:1",
        "--network host --entrypoint /b box:1 x",
        "--network host --entrypoint= box:1 x",
        "--network host -t box:1",
        "--network host -u web -w /x -e A=1 -e FOO=z -e MINE -e NOT_SET box:1",
        &env_file,
        "--network host -u 5 box:1",
        "--network host -u 1000:44 box:1",
        "--network host -u web:video box:1",
        "--network host --hostname zz box:1",
        "--network host --pid host box:1",
        "--network host --ipc host box:1",
        "--network host --ipc none box:1",
        "--network host --uts host box:1",
        "--network host -m 64m box:1",
        "--network host -m 1.5g --memory-swap 2g --cpus 0.5 --cpu-shares 512 --pids-limit 9 --cpuset-cpus 0 box:1",
        "--network host --read-only --tmpfs /t --tmpfs /u:size=1m,exec --shm-size 1m box:1",
        "--network host -v /opt:/a/b:ro -v /opt:/a -v /opt:/dev/shm --mount type=tmpfs,dst=/z box:1",
        "--network host -v /etc/hostname:/etc/hosts box:1",
        "--network host --mount type=bind,source=/opt,target=/m,readonly box:1",
        "--network host --ulimit nofile=10:20 --ulimit core=-1 box:1",
        "--network host --device /dev/null:/dev/x:r --sysctl kernel.shmmax=1 box:1",
        "--network host --cap-drop ALL box:1",
        "--network host --cap-add NET_ADMIN --cap-drop MKNOD --cap-drop chown box:1",
        "--network host --cap-drop MKNOD --cap-add CAP_MKNOD box:1",
        "--network host --cap-add SYS_TIME -u web box:1",
        "--network host --security-opt no-new-privileges --security-opt systempaths=unconfined box:1",
        "--network host --init box:1",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let theirs = daemon.configuration(&words);
        let ours = ours(&words, &theirs);
        for ((place, ours), (_, theirs)) in comparable(&ours).into_iter().zip(comparable(&theirs)) {
            if ours != theirs {
                differences.push(format!("{line}: {place}\n  ours   {ours}\n  theirs {theirs}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
