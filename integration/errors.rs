//! What a person reads when something is wrong, and that nothing is left afterwards.
//!
//! The twenty commonest mistakes, then files that are no configuration at all. The words are Corten's; against another
//! runtime only the exit code and the leak check count.

use crate::harness::host::{self, Layout};
use crate::harness::{Bundle, Out, bind, drop_namespace, runtime};
use serde_json::json;

/// `run` must fail with 1, and Corten's message must contain these.
#[track_caller]
fn refused(b: &Bundle, words: &[&str]) -> Out {
    told(b.run().code(1).stdout(""), b, "run", words)
}

/// Checks the shape of a message: `corten: VERB ID: …`, lower case, no "failed to", nothing of Rust's.
#[track_caller]
fn told(out: Out, b: &Bundle, verb: &str, words: &[&str]) -> Out {
    if !runtime().is_corten() {
        assert!(!out.err.is_empty());
        b.runc_leaves_its_cgroup();
        return out;
    }
    for word in words {
        out.clone().stderr_has(word);
    }
    let begin = format!("corten: {verb} {}: ", b.id);
    assert!(out.err.starts_with(&begin), "does not begin with {begin:?}{}", out.tell());
    for bad in ["failed to", "Error {", "Some(", "None", "panicked", "unwrap", "Os {"] {
        assert!(!out.err.contains(bad), "{bad:?} in{}", out.tell());
    }
    assert!(out.err.ends_with('\n'));
    b.cli(["state", &b.id]).code(1).stderr_has("does not exist");
    out
}

#[test]
fn m01_no_config_json() {
    let b = Bundle::busybox().raw_config("");
    std::fs::remove_file(b.dir().join("config.json")).unwrap();
    refused(&b, &["no config.json in", "hint: `corten spec` writes one"]);
    let b = Bundle::busybox();
    let dir = b.path("nowhere");
    let out = b.cli(["run", "-b", dir.to_str().unwrap(), &b.id]).code(1);
    told(out, &b, "run", &["nowhere"]);
}

#[test]
fn m02_bad_json() {
    let b = Bundle::busybox().raw_config("{\n  \"ociVersion\": \"1.0.2\",\n  \"root\": {,}\n}\n");
    refused(&b, &["config.json", "line 3"]);
    // The wrong type: its place is named.
    let b = Bundle::busybox().edit(|s| s["process"]["args"] = "not a list".into());
    refused(&b, &["process.args"]);
    let b = Bundle::busybox().edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": "64M"}));
    refused(&b, &["linux.resources.memory.limit"]);
}

#[test]
fn m02_all_faults_at_once() {
    let b = Bundle::busybox().edit(|s| {
        drop_namespace(s, "uts");
        s["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
        s["process"]["cwd"] = "relative".into();
        s["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
    });
    refused(
        &b,
        &["4 faults in config.json", "hostname", "uts namespace", "linux.uidMappings", "process.cwd", "vm.swappiness"],
    );
}

#[test]
fn m03_missing_rootfs() {
    let b = Bundle::busybox().edit(|s| s["root"]["path"] = "not-there".into());
    refused(&b, &["not-there", "does not exist"]);
    let b = Bundle::busybox().edit(|s| s["root"]["path"] = "file".into());
    std::fs::write(b.dir().join("file"), "").unwrap();
    refused(&b, &["file", "not a directory"]);
    let b = Bundle::busybox().edit(|s| _ = s.as_object_mut().unwrap().remove("root"));
    refused(&b, &["root"]);
}

#[test]
fn m04_missing_program() {
    let b = Bundle::busybox().args(["nginxx"]);
    let out = refused(&b, &["\"nginxx\"", "PATH"]);
    // Docker, Podman and containerd look for one of these.
    out.stderr_has_one_of(&["no such file or directory", "executable file not found"]);
    let b = Bundle::busybox().args(["/opt/none"]);
    refused(&b, &["/opt/none"]).stderr_has("no such file or directory");
    let b = Bundle::busybox().edit(|s| s["process"]["args"] = json!([]));
    refused(&b, &["process.args"]);
    let b = Bundle::busybox().args([""]);
    refused(&b, &[]);
}

#[test]
fn m05_missing_loader() {
    // A dynamic program in a root without its libraries.
    let b = Bundle::busybox().args(["/bin/app"]);
    std::fs::copy("/usr/bin/perl", b.in_rootfs("bin/app")).unwrap();
    refused(&b, &["/bin/app", "loader", "/lib64/ld-linux-x86-64.so.2"]).stderr_has("no such file or directory");
}

#[test]
fn m06_not_executable() {
    let b = Bundle::busybox().file("bin/plain", 0o644, "#!/bin/sh\n").args(["/bin/plain"]);
    refused(&b, &["/bin/plain"]).stderr_has("permission denied");
    let b = Bundle::busybox().args(["/etc"]);
    refused(&b, &["/etc"]).stderr_has_one_of(&["permission denied", "is a directory"]);
    // Neither a program nor a script.
    let b = Bundle::busybox().file("bin/text", 0o755, "hello\n").args(["/bin/text"]);
    refused(&b, &["/bin/text"]).stderr_has("exec format error");
}

#[test]
fn m07_script_without_interpreter() {
    let b = Bundle::busybox().file("bin/tool", 0o755, "#!/usr/bin/pythonn\n").args(["/bin/tool"]);
    refused(&b, &["/bin/tool", "/usr/bin/pythonn", "interpreter"]).stderr_has("no such file or directory");
    let b = Bundle::busybox().file("bin/tool", 0o755, "#!/bin/sh\r\necho\r\n").args(["/bin/tool"]);
    refused(&b, &["/bin/tool", "CRLF"]);
}

#[test]
fn m08_id_taken() {
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let out = b.create_call::<&str>(&b.id, []).run().code(1);
    if runtime().is_corten() {
        let pid = format!("pid {}", c.pid());
        for word in ["this id is taken", "running", &pid, "hint: `corten rm -f", "already exists"] {
            out.clone().stderr_has(word);
        }
    }
}

#[test]
fn m09_no_such_container() {
    let b = Bundle::busybox();
    let out = b.cli(["start", &b.id]).code(1).stderr_has("does not exist");
    told(out, &b, "start", &["container does not exist"]);
    let out = b.cli(["exec", &b.id, "true"]).fails();
    if runtime().is_corten() {
        told(out.code(255), &b, "exec", &["container does not exist"]);
    }
}

#[test]
fn m10_not_root() {
    let b = Bundle::busybox();
    b.write_config();
    b.shell("chmod -R a+rwX root tmp out bundle").ok();
    // Where an ordinary user can execute it.
    std::fs::copy(&runtime().path, b.path("corten")).unwrap();
    let words = [
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
        "./corten",
        "--root",
        "root",
        "run",
        "-b",
        "bundle",
        &b.id,
    ];
    let out = b.host("setpriv").args(words).run().code(1);
    if runtime().is_corten() {
        told(out, &b, "run", &["root"]);
    }
}

#[test]
fn m11_cgroup_not_writable() {
    let b = Bundle::busybox();
    b.write_config();
    let trees: String =
        host::hierarchies().iter().map(|t| format!("mount -o remount,bind,ro {} && ", t.display())).collect();
    let line = format!("{trees} exec {} --root root run -b bundle {}", runtime().path.display(), b.id);
    let out = b.host("unshare").args(["--mount", "--propagation", "private", "sh", "-c", &line]).run().code(1);
    told(out, &b, "run", &["cgroup", "EROFS", "hint:"]);
}

#[test]
fn m12_memory_limit_too_small() {
    needs_controller!("memory");
    let b = Bundle::busybox().edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": 4096}));
    let out = b.run().fails();
    if runtime().is_corten() {
        told(out, &b, "run", &["memory", "4"]);
    }
}

#[test]
fn m13_mount_source_missing() {
    let b = Bundle::busybox().edit(|s| crate::harness::add_mount(s, bind("/srv/no/such", "/data", &["bind"])));
    refused(&b, &["mounts[7] /data", "/srv/no/such", "does not exist", "open_tree", "ENOENT"]);
}

#[test]
fn m14_target_is_a_file() {
    let b = Bundle::busybox().edit(|s| crate::harness::add_mount(s, bind("/srv", "/etc/passwd", &["bind"])));
    refused(&b, &["mounts[7] /etc/passwd", "file", "directory"]);
    let b = Bundle::busybox().edit(|s| crate::harness::add_mount(s, bind("/srv", "/etc/passwd/deeper", &["bind"])));
    refused(&b, &["mounts[7] /etc/passwd/deeper", "/etc/passwd", "not a directory"]);
}

#[test]
fn m15_namespace_file_wrong() {
    let b = Bundle::busybox().edit(|s| crate::harness::add_namespace(s, "network", Some("/run/netns/blue")));
    refused(&b, &["linux.namespaces", "/run/netns/blue", "does not exist"]);
    let b = Bundle::busybox().edit(|s| crate::harness::add_namespace(s, "network", Some("/proc/self/ns/uts")));
    refused(&b, &["linux.namespaces", "/proc/self/ns/uts", "network", "uts"]);
    let b = Bundle::busybox().edit(|s| crate::harness::add_namespace(s, "network", Some("/etc/passwd")));
    refused(&b, &["linux.namespaces", "/etc/passwd", "not a namespace"]);
}

#[test]
fn m16_hook_failed() {
    let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo no address left >&2; exit 7"]});
    let b = Bundle::busybox().edit(|s| s["hooks"] = json!({"createRuntime": [hook]}));
    refused(&b, &["createRuntime hook #0", "7", "no address left"]);
}

#[test]
fn m17_terminal_asked_but_none() {
    let b = Bundle::busybox().edit(|s| s["process"]["terminal"] = true.into());
    refused(&b, &["terminal"]);
    let out = b.create_call::<&str>(&b.id, []).run().code(1);
    told(out, &b, "create", &["terminal", "--console-socket"]);
}

#[test]
fn m18_unknown_user() {
    corten_only!("names of users on the command line");
    let b = Bundle::busybox();
    b.write_config();
    let dir = b.dir();
    let out = b.cli(["run", "-b", dir.to_str().unwrap(), "-u", "alice", "--name", &b.id]).code(1);
    told(out, &b, "run", &["alice", "/etc/passwd"]);
    let out = b.cli(["run", "-b", dir.to_str().unwrap(), "-u", "0:wheelers", "--name", &b.id]).code(1);
    told(out, &b, "run", &["wheelers", "/etc/group"]);
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let _c = b.start();
    b.cli(["exec", "-u", "alice", &b.id, "true"]).code(255).stderr_has("alice");
}

#[test]
fn m19_cwd_missing() {
    // A working directory is made where it is missing. What cannot be made or entered is named.
    let b = Bundle::busybox().edit(|s| s["process"]["cwd"] = "/etc/passwd/sub".into());
    refused(&b, &["/etc/passwd/sub", "not a directory"]);
    let b = Bundle::busybox().edit(|s| _ = s["process"].as_object_mut().unwrap().remove("cwd"));
    refused(&b, &["process.cwd"]);
    let b = Bundle::busybox().args(["sleep", "1000"]);
    let c = b.start();
    let out = c.exec_with(&["--cwd", "/no/such"], &["true"]).fails();
    if runtime().is_corten() {
        out.code(255).stderr_has("/no/such").stderr_has("no such file or directory");
    }
}

#[test]
fn m20_seccomp_refuses() {
    // A profile that lets nothing through, not even execve.
    let b = Bundle::busybox().edit(|s| {
        s["linux"]["seccomp"] =
            json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": []});
    });
    let out = b.run().fails();
    if runtime().is_corten() {
        told(out, &b, "run", &["seccomp", "execve"]);
    }
}

#[test]
fn a_truncated_configuration() {
    let text = serde_json::to_string(&Bundle::busybox().spec).unwrap();
    for part in [1, text.len() / 3, text.len() / 2, text.len() - 1] {
        let b = Bundle::busybox().raw_config(&text[..part]);
        refused(&b, &["config.json"]);
    }
}

#[test]
fn an_empty_configuration() {
    for text in ["", " \n", "{}", "null", "[]", "\"text\"", "42"] {
        if text == "null" && !runtime().is_corten() {
            continue; // runc 1.1 crashes
        }
        let b = Bundle::busybox().raw_config(text);
        refused(&b, &["config.json"]);
    }
}

#[test]
fn a_binary_configuration() {
    let b = Bundle::busybox();
    let program = std::fs::read(crate::harness::host_busybox()).unwrap();
    refused(&b.raw_config(program), &["config.json"]);
    let b = Bundle::busybox().raw_config(vec![0; 4096]);
    refused(&b, &["config.json"]);
    let b = Bundle::busybox().raw_config([0xff, 0xfe, b'{', 0, b'}', 0]);
    refused(&b, &["config.json"]);
}

/// Over 16 MiB is refused before it is read: with a peak of at most 64 MiB.
#[test]
fn a_hundred_megabytes_of_configuration() {
    not_on_runc!("1.1 reads it all");
    let b = Bundle::busybox().raw_config("");
    b.shell("head -c 100000000 /dev/zero | tr '\\0' ' ' > bundle/config.json").ok();
    let out = refused(&b, &["config.json", "16 MiB"]);
    assert!(out.took < crate::harness::seconds(2));
    let runtime = runtime().path.display();
    let limited = b.shell(&format!("ulimit -v 65536; {runtime} --root root run -b bundle {}", b.id)).code(1);
    told(limited, &b, "run", &["16 MiB"]);
    // Sparse, and too large to be read at all.
    let b = Bundle::busybox().raw_config("");
    b.shell("truncate -s 1T bundle/config.json").ok();
    refused(&b, &["config.json", "16 MiB"]);
}

#[test]
fn a_configuration_that_is_no_file() {
    let b = Bundle::busybox().raw_config("");
    b.shell("rm bundle/config.json && mkdir bundle/config.json").ok();
    refused(&b, &["config.json"]);
    let b = Bundle::busybox().raw_config("");
    b.shell("rm bundle/config.json && mkfifo bundle/config.json").ok();
    if runtime().is_corten() {
        // Nobody writes into it: no hang.
        let out = refused(&b, &["config.json"]);
        assert!(out.took < crate::harness::seconds(5));
    }
}

/// Security, row 23.
#[test]
fn deep_and_wide_configurations() {
    let b = Bundle::busybox().raw_config(format!("{{\"x\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)));
    refused(&b, &["config.json"]);
    let b = Bundle::busybox().edit(|s| s["process"]["args"] = json!(["a\0b"]));
    refused(&b, &["process.args"]);
    let b = Bundle::busybox().edit(|s| s["hostname"] = "x".repeat(100).into());
    refused(&b, &["hostname"]);
    let b = Bundle::busybox().edit(|s| s["root"]["path"] = "a\0b".into());
    refused(&b, &["root.path"]);
}

#[test]
fn the_log_for_programs() {
    let b = Bundle::busybox().args(["no-such-program"]);
    b.write_config();
    let dir = b.dir();
    let words = ["--log", "log.json", "--log-format", "json", "run", "-b", dir.to_str().unwrap(), &b.id];
    let out = b.cli(words).code(1);
    let log = host::read(b.path("log.json"));
    let entry: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).expect("JSON");
    assert_eq!(entry["level"], "error");
    assert!(entry["msg"].as_str().unwrap().contains("no-such-program"), "{entry}");
    let time = entry["time"].as_str().unwrap();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{time}");
    assert!(!out.err.is_empty(), "and on standard error");
    // As text.
    b.cli(["--log", "log.txt", "run", "-b", dir.to_str().unwrap(), &b.id]).code(1);
    let log = host::read(b.path("log.txt"));
    assert!(log.contains("level=error msg=\""), "{log}");
}

#[test]
fn the_log_is_written_when_arguments_are_wrong() {
    not_on_runc!("1.1 prints its usage only");
    let b = Bundle::busybox();
    b.cli(["--log", "log.json", "--log-format", "json", "run", "--no-such-flag", "x"]).fails();
    assert!(host::read(b.path("log.json")).contains("no-such-flag"));
    b.cli(["--log", "log2.json", "--log-format", "json", "frobnicate"]).fails();
    assert!(host::read(b.path("log2.json")).contains("frobnicate"));
}

#[test]
fn a_log_that_cannot_be_written() {
    let b = Bundle::busybox();
    b.cli(["--log", "no/such/dir/log", "state", &b.id]).fails().stderr_has("no/such/dir/log");
    b.cli(["--log-format", "xml", "list"]).fails();
}

#[test]
fn debug_lines_go_to_the_log() {
    let b = Bundle::busybox().sh("echo hi");
    b.write_config();
    let dir = b.dir();
    b.cli(["--debug", "--log", "log", "run", "-b", dir.to_str().unwrap(), &b.id]).ok().stdout("hi\n").silent();
    assert!(!host::read(b.path("log")).is_empty());
}

#[test]
fn unknown_flags_and_verbs() {
    let b = Bundle::busybox();
    for words in [
        &["frobnicate"][..],
        &["run", "--no-such-flag", "x"],
        &["list", "--no-such-flag"],
        &["kill", "--no-such-flag", "x"],
    ] {
        b.cli(words).fails();
    }
    corten_only!("verbs that come later");
    // Not here yet, so unknown: never ignored.
    for verb in ["build", "commit", "logs", "attach", "volume", "network"] {
        b.cli([verb, "x"]).fails().stderr_has(verb);
    }
}

#[test]
fn every_verb_without_an_id() {
    let b = Bundle::busybox();
    for verb in ["create", "start", "state", "delete", "kill", "pause", "resume", "exec"] {
        b.cli([verb]).fails();
    }
}

#[test]
fn help() {
    let b = Bundle::empty();
    let out = b.cli(["--help"]).ok();
    for verb in ["create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume", "spec"] {
        out.clone().stdout_has(verb);
        b.cli([verb, "--help"]).ok().stdout_has(verb);
    }
}

#[test]
fn a_controller_that_the_layout_lacks() {
    not_on_runc!("1.1 ignores it on some layouts");
    if host::layout() == Layout::V1 || host::has_controller("memory") {
        skip!("every controller is here");
    }
    let b = Bundle::busybox().edit(|s| s["linux"]["resources"]["memory"] = json!({"limit": 64 << 20}));
    refused(&b, &["memory"]);
}

#[test]
fn rootless_is_refused_by_name() {
    corten_only!("this refusal");
    let b = Bundle::busybox();
    b.write_config();
    let dir = b.dir();
    b.cli(["--rootless", "true", "run", "-b", dir.to_str().unwrap(), &b.id]).code(1).stderr_has("rootless");
}

#[test]
fn systemd_cgroups_are_refused_by_name() {
    corten_only!("this refusal");
    let b = Bundle::busybox();
    b.write_config();
    let dir = b.dir();
    b.cli(["--systemd-cgroup", "run", "-b", dir.to_str().unwrap(), &b.id]).code(1).stderr_has("systemd");
}

/// Said before anything else is asked, and nothing is begun.
#[test]
fn an_old_kernel() {
    corten_only!("a floor of its own");
    let (major, minor) = host::kernel();
    if (major, minor) >= (5, 14) {
        skip!("this kernel is new enough");
    }
    let b = Bundle::busybox();
    let words = format!("kernel {major}.{minor} is too old: Linux 5.14 or later is needed");
    refused(&b, &[&words]);
    told(b.cli(["create", "-b", b.dir().to_str().unwrap(), &b.id]).code(1), &b, "create", &[&words]);
    // What needs no new kernel goes on.
    b.cli(["spec", "--bundle", b.dir().to_str().unwrap()]).code(1).stderr_has("exists");
    b.cli(["list"]).ok();
}
