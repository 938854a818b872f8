//! Tests of reading a bundle: one for each kind of fault, and that nothing makes it panic.
use super::*;
use crate::input::config::*;
use crate::input::template;
use serde_json::json;

/// A whole configuration, changed at one place by a JSON merge patch (RFC 7396).
fn patched(patch: Value) -> Vec<u8> {
    let mut config: Value = serde_json::from_str(&template::to_json(&template::spec())).unwrap();
    merge(&mut config, patch);
    serde_json::to_vec(&config).unwrap()
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(map), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(map.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}

fn faults(patch: Value) -> Vec<String> {
    match parse(&patched(patch)) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn good(patch: Value) -> Config {
    parse(&patched(patch)).unwrap().0
}

/// Each patch gives exactly this one fault.
#[track_caller]
fn gives(cases: &[(Value, &str)]) {
    for (patch, expected) in cases {
        assert_eq!(faults(patch.clone()), [*expected], "{patch}");
    }
}

#[test]
fn what_spec_writes_is_good() {
    let (config, warnings) = parse(&patched(json!({}))).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.hostname.as_deref(), Some("corten"));
    assert_eq!(config.mounts.len(), 7);
    assert_eq!(config.linux.namespaces.len(), 5);
    let process = config.process.unwrap();
    assert!(process.terminal && process.no_new_privileges);
    assert_eq!(process.capabilities.unwrap().bounding, 1 << 29 | 1 << 5 | 1 << 10);
    assert_eq!(process.capabilities.unwrap().inheritable, 0);
    assert_eq!(process.rlimits, [Rlimit { resource: 7, name: "RLIMIT_NOFILE", soft: 1024, hard: 1024 }]);
    let rule = DeviceRule { allow: false, kind: None, major: None, minor: None, read: true, write: true, mknod: true };
    assert_eq!(config.linux.resources.devices, [rule]);
}

#[test]
fn text_that_is_no_json() {
    for (text, expected) in [
        ("", "empty"),
        (" \n\t", "empty"),
        ("{\n  \"ociVersion\": \"1.0.0\",\n  \"root\"", "root: line 3, column 8: the text ends in the middle"),
        ("{\n  \"ociVersion\": 1.0.0\n}", "line 2, column 20: not JSON: expected `,` or `}`"),
        ("{} x", "line 1, column 4: not JSON: trailing characters"),
        ("\x7fELF\x02", "line 1, column 1: not JSON: expected value"),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap_err().iter().map(shown).collect::<Vec<_>>(), [expected], "{text:?}");
    }
    assert!(parse(&[0xff, 0xfe, 0, 1]).unwrap_err()[0].cause.starts_with("line 1, column 1: not JSON"));
    assert!(parse(b"{\"hostname\":\"\xff\"}").unwrap_err()[0].cause.contains("not JSON"));
}

fn shown(fault: &Fault) -> String {
    faults_error(std::slice::from_ref(fault), "").to_string().trim_start_matches(": ").to_owned()
}

#[test]
fn json_that_is_no_configuration() {
    for text in ["[]", "\"x\"", "3", "null"] {
        let faults = parse(text.as_bytes()).unwrap_err();
        assert_eq!(faults.len(), 1, "{text}: {faults:?}");
        assert!(faults[0].cause.contains("object"), "{text}: {faults:?}");
    }
    gives(&[
        (json!({"mounts": [["/x", "tmpfs"]]}), "mounts[0]: is an array, not an object"),
        (json!({"process": {"user": [0, 0]}}), "process.user: is an array, not an object"),
        (
            json!({"linux": {"seccomp": {"defaultAction": {"SCMP_ACT_LOG": null}}}}),
            "linux.seccomp.defaultAction: is an object, not a single value",
        ),
        (json!({"hostname": {}}), "hostname: is an object, not a single value"),
        (json!({"process": {"args": "sh -c"}}), "process.args: is the string \"sh -c\", not an array"),
    ]);
    let missing: Vec<_> = parse(b"{}").unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(missing, ["ociVersion: missing", "root: missing"]);
}

#[test]
fn depth_and_number_are_limited() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{{\"x\": {}1{}}}", open.repeat(100_000), close.repeat(100_000));
        let faults = parse(deep.as_bytes()).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].place.starts_with('x') && faults[0].cause.contains("nested deeper"), "{faults:?}");
    }
    let mount = json!({"destination": "/x"});
    assert_eq!(faults(json!({"mounts": vec![mount; 10_000]})), ["mounts: more than 8192 objects"]);
    let faults_ = faults(json!({"process": {"args": vec!["x"; 140_000]}}));
    assert_eq!(faults_, ["process.args: more than 131072 values"]);
    let faults_ = faults(json!({"hostname": "x".repeat(2 << 20)}));
    assert_eq!(faults_, ["hostname: a string of 2097152 bytes; the most is 1048576"]);
    let lines = vec![json!({"containerID": 0, "hostID": 0, "size": 1}); 10_000];
    assert_eq!(faults(json!({"linux": {"uidMappings": lines}})), ["linux.uidMappings: more than 8192 objects"]);
}

#[test]
fn all_faults_at_once_each_with_its_place() {
    let found = faults(json!({
        "ociVersion": "invalid",
        "hostname": null,
        "process": {
            "cwd": "tmp",
            "user": {"uid": "root", "gid": -1},
            "env": ["A=1", "B", "=C", 5],
            "rlimits": [{"type": "RLIMIT_X", "hard": 1, "soft": 1}, {"type": "RLIMIT_CORE", "hard": 1, "soft": 2}]
        },
        "mounts": [
            {"destination": "/a", "options": "ro"},
            {"source": "/b"},
            {"destination": 7},
            {"destination": "/d", "type": ["x"]}
        ],
        "linux": {"devices": [{"path": "dev/x", "type": "c"}], "rootfsPropagation": "up"}
    }));
    let mut found: Vec<&str> = found.iter().map(String::as_str).collect();
    found.sort_unstable();
    let mut expected = [
        "mounts[1].destination: missing",
        "mounts[0].options: is the string \"ro\", not an array",
        "mounts[2].destination: is the integer 7, not a string",
        "mounts[3].type: is an array, not a string",
        "process.user.uid: is the string \"root\", not a number from 0 to 4294967295",
        "process.user.gid: is the integer -1, not a number from 0 to 4294967295",
        "process.env[3]: is the integer 5, not a string",
        "process.rlimits[0].type: \"RLIMIT_X\" is unknown; it can be RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, \
         RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, \
         RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME",
        "process.rlimits[1]: RLIMIT_CORE: the soft limit 2 is above the hard limit 1",
        "process.env[1]: has no `=`",
        "process.env[2]: has no name before the `=`",
        "process.cwd: \"tmp\" is not an absolute path",
        "ociVersion: \"invalid\" is not a version 1.x of the specification",
        "linux.devices[0].path: \"dev/x\" is not an absolute path",
        "linux.rootfsPropagation: \"up\" is unknown; it can be private, shared, slave, unbindable",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_error_has_a_line_for_each_fault() {
    let faults = [Fault::new("hostname", "set, but there is no uts namespace"), Fault::new("process.args", "is empty")];
    assert_eq!(
        faults_error(&faults, "config.json").to_string(),
        "2 faults in config.json\n  hostname: set, but there is no uts namespace\n  process.args: is empty"
    );
    assert_eq!(
        faults_error(&faults[..1], "config.json").to_string(),
        "config.json: hostname: set, but there is no uts namespace"
    );
    let many = vec![faults[0].clone(); 40];
    let error = faults_error(&many, "config.json");
    assert_eq!(error.details.len(), 31);
    assert_eq!(error.details[30], "and 10 more");
}

#[test]
fn versions() {
    for good_ in ["1.0.0", "1.0.2-dev", "1.3.0", "1.99.0+x-y", "1.0.0-rc1"] {
        assert_eq!(faults(json!({"ociVersion": good_})), Vec::<String>::new(), "{good_}");
    }
    for bad in ["invalid", "2.0.0", "0.9.0", "1", "1.0", "1.0.0.0", "1..0", "01.0.0", "v1.0.0"] {
        assert_eq!(faults(json!({"ociVersion": bad})).len(), 1, "{bad}");
    }
    gives(&[
        (json!({"ociVersion": null}), "ociVersion: missing"),
        (json!({"ociVersion": ""}), "ociVersion: \"\" is not a version 1.x of the specification"),
        (json!({"ociVersion": 1}), "ociVersion: is the integer 1, not a string"),
    ]);
}

#[test]
fn what_must_be_there() {
    gives(&[
        (json!({"root": null}), "root: missing"),
        (json!({"root": {"path": null}}), "root.path: missing"),
        (json!({"root": {"path": ""}}), "root.path: is empty"),
        (json!({"process": {"cwd": null}}), "process.cwd: missing"),
        (json!({"process": {"consoleSize": {"width": 1}}}), "process.consoleSize.height: missing"),
        (json!({"process": {"rlimits": [{"type": "RLIMIT_CPU", "hard": 1}]}}), "process.rlimits[0].soft: missing"),
        (json!({"process": {"rlimits": [{"soft": 1, "hard": 1}]}}), "process.rlimits[0].type: missing"),
        (json!({"process": {"ioPriority": {"priority": 1}}}), "process.ioPriority.class: missing"),
        (json!({"process": {"scheduler": {"nice": 1}}}), "process.scheduler.policy: missing"),
        (json!({"hooks": {"poststop": [{"args": ["x"]}]}}), "hooks.poststop[0].path: missing"),
        (json!({"linux": {"devices": [{"path": "/dev/x"}]}}), "linux.devices[0].type: missing"),
        (json!({"linux": {"seccomp": {"syscalls": []}}}), "linux.seccomp.defaultAction: missing"),
        (
            json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"action": "SCMP_ACT_LOG"}]}}}),
            "linux.seccomp.syscalls[0].names: missing",
        ),
        (json!({"linux": {"personality": {}}}), "linux.personality.domain: missing"),
        (json!({"linux": {"resources": {"devices": [{"access": "r"}]}}}), "linux.resources.devices[0].allow: missing"),
        (
            json!({"linux": {"resources": {"hugepageLimits": [{"pageSize": "2MB"}]}}}),
            "linux.resources.hugepageLimits[0].limit: missing",
        ),
        (
            json!({"linux": {"resources": {"blockIO": {"weightDevice": [{"major": 8}]}}}}),
            "linux.resources.blockIO.weightDevice[0].minor: missing",
        ),
    ]);
    // What depends on a namespace is not judged while the namespaces are at fault.
    gives(&[(json!({"linux": {"namespaces": [{"path": "/x"}]}}), "linux.namespaces[0].type: missing")]);
}

#[test]
fn keys_match_as_in_go() {
    let config = good(json!({
        "HOSTNAME": "x",
        "hostname": null,
        "process": {"ARGS": ["a"], "args": null, "NoNewPrivileges": false, "noNewPrivileges": null},
        "Linux": {"Resources": {"CPU": {"Cpus": "0-1", "SHARES": 7}}, "namespaces": [{"Type": "uts"}]},
        "linux": null
    }));
    assert_eq!(config.hostname.as_deref(), Some("x"));
    assert_eq!(config.process.as_ref().unwrap().args, ["a"]);
    assert!(!config.process.unwrap().no_new_privileges);
    assert_eq!(config.linux.resources.cpu.cpus.as_deref(), Some("0-1"));
    assert_eq!(config.linux.resources.cpu.shares, Some(7));
    gives(&[(json!({"Hostname": "b"}), "hostname: given twice")]);
    let text = String::from_utf8(patched(json!({}))).unwrap();
    let twice = text.replacen("{", "{\"hostname\":\"a\",", 1);
    assert_eq!(parse(twice.as_bytes()).unwrap_err(), [Fault::new("hostname", "given twice")]);
}

#[test]
fn keys_of_the_users_own_keep_their_case() {
    let config = good(json!({
        "annotations": {"Type": "x", "ARGS": "y", "PATH": ""},
        "HostName": "y", "hostname": null
    }));
    let keys: Vec<_> = config.annotations.keys().collect();
    assert_eq!(keys, ["ARGS", "PATH", "Type"]);
}

#[test]
fn unknown_properties_and_nulls_are_ignored() {
    let config = good(json!({
        "future": {"deep": [1, {"x": null}]},
        "windows": {"devices": 7},
        "vm": {"nothing": "right"},
        "uidMappings": "of no spec",
        "annotations": null,
        "process": {"user": null, "commandLine": 5, "capabilities": null, "env": null, "oomScoreAdj": null, "new": [[]]},
        "linux": {"seccomp": null, "unheard": {"of": 1}}
    }));
    let process = config.process.unwrap();
    assert_eq!((process.user, process.capabilities, process.oom_score_adj), (User::default(), None, None));
}

#[test]
fn nul_bytes_are_found_by_their_place() {
    gives(&[
        (json!({"process": {"args": ["sh", "a\0b"]}}), "process.args[1]: contains a NUL byte"),
        (json!({"process": {"env": ["A=\0"]}}), "process.env[0]: contains a NUL byte"),
        (json!({"root": {"path": "a\0"}}), "root.path: contains a NUL byte"),
        (json!({"annotations": {"a\0": ""}}), "annotations[\"a\\0\"]: the name contains a NUL byte"),
        (json!({"annotations": {"a": "\0"}}), "annotations.a: contains a NUL byte"),
        (json!({"linux": {"cgroupsPath": "/a\0"}}), "linux.cgroupsPath: contains a NUL byte"),
    ]);
    assert_eq!(faults(json!({"unknown": "a\0"})), Vec::<String>::new());
}

#[test]
fn unknown_capabilities_are_warned_of_and_ignored() {
    let sets = json!({"bounding": ["CAP_CHOWN", "CAP_FUTURE", "CHOWN"], "effective": ["CAP_FUTURE", "cap_kill"]});
    let (config, warnings) = parse(&patched(json!({"process": {"capabilities": sets}}))).unwrap();
    let capabilities = config.process.unwrap().capabilities.unwrap();
    assert_eq!((capabilities.bounding, capabilities.effective), (1, 0));
    assert_eq!(warnings, ["process.capabilities: unknown, and so ignored: \"CAP_FUTURE\", \"CHOWN\", \"cap_kill\""]);
    gives(&[(
        json!({"process": {"capabilities": {"bounding": [5]}}}),
        "process.capabilities.bounding[0]: is the integer 5, not a string",
    )]);
}

#[test]
fn process_values() {
    gives(&[
        (json!({"process": {"args": []}}), "process.args: is empty: there is no program to run"),
        (json!({"process": {"args": null}}), "process.args: is empty: there is no program to run"),
        (json!({"process": {"args": [""]}}), "process.args[0]: is empty: there is no program to run"),
        (json!({"process": {"cwd": ""}}), "process.cwd: \"\" is not an absolute path"),
        (json!({"process": {"oomScoreAdj": 1001}}), "process.oomScoreAdj: 1001 is not between -1000 and 1000"),
        (json!({"process": {"user": {"uid": u32::MAX}}}), "process.user.uid: 4294967295 is -1, which is no id"),
        (
            json!({"process": {"user": {"additionalGids": [1, 4294967296_u64]}}}),
            "process.user.additionalGids[1]: is the integer 4294967296, not a number from 0 to 4294967295",
        ),
        (json!({"process": {"user": {"umask": 512}}}), "process.user.umask: 512 is above 511, which is octal 777"),
        (
            json!({"process": {"consoleSize": {"height": 65536, "width": 1}}}),
            "process.consoleSize.height: 65536 is above 65535",
        ),
        (
            json!({"process": {"rlimits": [{"type": "RLIMIT_AS", "soft": 1, "hard": 2}, {"type": "RLIMIT_AS", "soft": 1, "hard": 2}]}}),
            "process.rlimits[1]: RLIMIT_AS is given twice",
        ),
        (
            json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}}),
            "process.ioPriority.priority: 8 is not between 0 and 7",
        ),
        (
            json!({"process": {"scheduler": {"policy": "SCHED_FIFO"}}}),
            "process.scheduler.priority: 0 is not between 1 and 99",
        ),
        (
            json!({"process": {"scheduler": {"policy": "SCHED_OTHER", "nice": 20}}}),
            "process.scheduler.nice: 20 is not between -20 and 19",
        ),
        (
            json!({"process": {"scheduler": {"policy": "SCHED_OTHER", "runtime": 1}}}),
            "process.scheduler.runtime: set, but the policy is not SCHED_DEADLINE",
        ),
        (
            json!({"process": {"scheduler": {"policy": "SCHED_ISO"}}}),
            "process.scheduler.policy: SCHED_ISO is not implemented by Linux",
        ),
        (
            json!({"process": {"scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_RESET_ON_FORK"]}}}),
            "process.scheduler.flags[0]: \"SCHED_RESET_ON_FORK\" is unknown",
        ),
        (
            json!({"process": {"execCPUAffinity": {"initial": "9-3"}}}),
            "process.execCPUAffinity.initial: the range \"9-3\" runs backwards",
        ),
        (json!({"process": {"execCPUAffinity": {"final": 3}}}), "process.execCPUAffinity.final: is not a string"),
        (json!({"process": {"execCPUAffinity": []}}), "process.execCPUAffinity: is an array, not an object"),
    ]);
    let process = good(json!({"process": {
        "scheduler": {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3,
                      "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]},
        "execCPUAffinity": {"initial": "0-1, 4", "final": ""},
        "apparmorProfile": "", "selinuxLabel": "x",
        "env": ["A=b=c", "E="]
    }}))
    .process
    .unwrap();
    assert_eq!(process.scheduler.unwrap().flags, 7);
    assert_eq!(process.exec_cpu_affinity, Some(ExecCpuAffinity { initial: Some(vec![0, 1, 4]), r#final: None }));
    assert_eq!((process.apparmor_profile, process.selinux_label.as_deref()), (None, Some("x")));
}

#[test]
fn mounts_and_hooks() {
    let (config, warnings) = parse(&patched(json!({"mounts": [{"destination": "tmp", "type": "tmpfs"}]}))).unwrap();
    assert_eq!(config.mounts[0].destination, Path::new("/tmp"));
    assert_eq!(warnings, ["mounts[0].destination: \"tmp\" is not absolute, and so taken below /"]);
    let line = json!({"containerID": 0, "hostID": 5, "size": 1});
    gives(&[
        (json!({"mounts": [{"destination": ""}]}), "mounts[0].destination: is empty"),
        (
            json!({"mounts": [{"destination": "/a", "uidMappings": [line.clone()]}]}),
            "mounts[0].gidMappings: missing, but there are uidMappings",
        ),
        (
            json!({"mounts": [{"destination": format!("/{}", "a".repeat(5000))}]}),
            "mounts[0].destination: a path of 5001 bytes, the kernel takes 4095",
        ),
        (json!({"hooks": {"prestart": [{"path": "a"}]}}), "hooks.prestart[0].path: \"a\" is not an absolute path"),
        (
            json!({"hooks": {"poststart": [{"path": "/a", "timeout": 0}]}}),
            "hooks.poststart[0].timeout: 0 is not above 0",
        ),
        (
            json!({"hooks": {"poststart": [{"path": "/a", "timeout": -5}]}}),
            "hooks.poststart[0].timeout: -5 is not above 0",
        ),
    ]);
    let hooks = good(json!({"hooks": {"createRuntime": [{"path": "/a", "timeout": 9}], "poststop": null}})).hooks;
    assert_eq!(hooks.create_runtime, [Hook { path: "/a".into(), timeout: Some(9), ..Hook::default() }]);
}

#[test]
fn namespaces_and_what_needs_them() {
    let without = json!([{"type": "mount"}, {"type": "pid"}]);
    let with = |namespaces: Value, rest: Value| {
        let mut patch = json!({"hostname": null, "linux": {"namespaces": namespaces}});
        merge(&mut patch, rest);
        patch
    };
    let line = json!({"containerID": 0, "hostID": 100_000, "size": 65536});
    let user = json!([{"type": "mount"}, {"type": "user"}]);
    gives(&[
        (with(without.clone(), json!({"hostname": "x"})), "hostname: set, but there is no uts namespace"),
        (with(without.clone(), json!({"domainname": "x"})), "domainname: set, but there is no uts namespace"),
        (json!({"hostname": "x".repeat(65)}), "hostname: has 65 bytes, the kernel takes 64"),
        (
            with(without.clone(), json!({"linux": {"timeOffsets": {"monotonic": {"secs": 1}}}})),
            "linux.timeOffsets: set, but there is no time namespace",
        ),
        (
            with(
                json!([{"type": "mount"}, {"type": "time", "path": "/x"}]),
                json!({"linux": {"timeOffsets": {"boottime": {}}}}),
            ),
            "linux.timeOffsets: set, but the time namespace is an existing one",
        ),
        (
            json!({"linux": {"timeOffsets": {"realtime": {}}}}),
            "linux.timeOffsets.realtime: no such clock: there are monotonic and boottime",
        ),
        (
            with(without.clone(), json!({"linux": {"uidMappings": [line.clone()]}})),
            "linux.uidMappings: set, but there is no user namespace",
        ),
        (
            with(user.clone(), json!({"linux": {"uidMappings": [line.clone()]}})),
            "linux.gidMappings: missing, but there is a new user namespace",
        ),
        (
            with(json!([{"type": "pid"}]), json!({"linux": {"maskedPaths": []}})),
            "linux.readonlyPaths: set, but there is no mount namespace",
        ),
        (
            with(json!([{"type": "mount"}, {"type": "mount"}]), json!({})),
            "linux.namespaces[1]: a second namespace of this type",
        ),
        (
            with(json!([{"type": "mount"}, {"type": "uts", "path": "x"}]), json!({})),
            "linux.namespaces[1].path: \"x\" is not an absolute path",
        ),
        (
            with(json!([{"type": "net"}]), json!({})),
            "linux.namespaces[0].type: \"net\" is unknown; it can be mount, cgroup, uts, ipc, user, pid, network, time",
        ),
        (
            with(json!([{"type": "network", "path": format!("/{}", "x".repeat(65_534))}]), json!({})),
            "linux.namespaces[0].path: a path of 65535 bytes, the kernel takes 4095",
        ),
    ]);
    let config = good(with(
        json!([{"type": "mount"}, {"type": "user"}, {"type": "uts", "path": "/x"}, {"type": "pid", "path": ""}]),
        json!({"hostname": "x", "linux": {"uidMappings": [line.clone()], "gidMappings": [line]}}),
    ));
    let paths: Vec<_> = config.linux.namespaces.iter().map(|n| n.path.clone()).collect();
    assert_eq!(paths, [None, None, Some("/x".into()), None]);
    good(with(json!([{"type": "mount"}, {"type": "user", "path": "/x"}]), json!({})));
}

#[test]
fn id_maps() {
    let maps = |lines: Value| {
        let namespaces = json!([{"type": "mount"}, {"type": "uts"}, {"type": "user"}]);
        let fine = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        json!({"linux": {"namespaces": namespaces, "uidMappings": lines, "gidMappings": fine}})
    };
    let line = |inside: u32, outside: u32, size: u32| json!({"containerID": inside, "hostID": outside, "size": size});
    gives(&[
        (maps(json!([line(0, 0, 0)])), "linux.uidMappings[0].size: is 0"),
        (maps(json!([{"containerID": 0, "hostID": 0}])), "linux.uidMappings[0].size: missing"),
        (maps(json!([{"hostID": 0, "size": 1}])), "linux.uidMappings[0].containerID: missing"),
        (maps(json!([line(0, 5, u32::MAX)])), "linux.uidMappings[0]: reaches beyond 4294967295"),
        (maps(json!([line(0, 0, 10), line(9, 20, 1)])), "linux.uidMappings: two lines overlap at containerID 9"),
        (maps(json!([line(5, 5, 1), line(9, 0, 10)])), "linux.uidMappings: two lines overlap at hostID 5"),
        (maps((0..341).map(|n| line(n, n, 1)).collect()), "linux.uidMappings: 341 lines, the kernel takes 340"),
    ]);
    assert_eq!(good(maps((0..340).map(|n| line(n, 1000 - n, 1)).collect())).linux.uid_mappings.len(), 340);
}

#[test]
fn sysctls() {
    let sysctl = |key: &str, value: &str| json!({"linux": {"sysctl": {key: value}}});
    for key in [
        "kernel.msgmax",
        "kernel.shm_rmid_forced",
        "kernel.sem",
        "kernel/shmall",
        "fs.mqueue.msg_max",
        "net.ipv4.ip_forward",
        "net/ipv4/conf/eth0.1/forwarding",
        "net.ipv4.conf.eth0/1.forwarding",
        "kernel.domainname",
    ] {
        assert_eq!(faults(sysctl(key, "1\n")), Vec::<String>::new(), "{key}");
    }
    let host = "belongs to the whole host, not to a namespace";
    let odd = "is not the name of a sysctl";
    for (key, cause) in [
        ("kernel.core_pattern", host),
        ("vm.swappiness", host),
        ("user.max_user_namespaces", host),
        ("fs.file-max", host),
        ("kernel.msgmax.x", host),
        ("fs.mqueue", host),
        ("net", odd),
        ("netx.a", host),
        ("kernel.hostname", "is set by `hostname`"),
        ("kernel/hostname", "is set by `hostname`"),
        ("net.ipv4/../../kernel.core_pattern", odd),
        ("net.//.//.kernel", odd),
        ("net/../kernel/core_pattern", odd),
        ("net..ipv4", odd),
        ("net/./x", odd),
        ("/net/x", odd),
        ("net.ipv4.", odd),
        ("", odd),
        ("net.a b", odd),
        ("net/é", odd),
    ] {
        let fault = faults(sysctl(key, "1"));
        assert!(fault.len() == 1 && fault[0].ends_with(cause), "{key}: {fault:?}");
    }
    let value = faults(sysctl("net.ipv4.ip_forward", "1\n2"));
    assert_eq!(value, ["linux.sysctl[\"net.ipv4.ip_forward\"]: the value \"1\\n2\" is not one line"]);
    let mut patch = json!({"hostname": null, "linux": {"namespaces": [{"type": "mount"}]}});
    for (key, name) in [
        ("net.core.somaxconn", "network"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        patch["linux"]["sysctl"] = json!({key: "1"});
        let expected = format!("linux.sysctl[{key:?}]: set, but there is no {name} namespace");
        assert_eq!(faults(patch.clone()), [expected]);
    }
}

#[test]
fn what_this_version_does_not_have_is_refused_by_name() {
    gives(&[
        (json!({"linux": {"intelRdt": {"closID": "x"}}}), "linux.intelRdt: this version of Corten has no intelRdt"),
        (json!({"linux": {"netDevices": {"eth0": {}}}}), "linux.netDevices: this version of Corten has no netDevices"),
        (
            json!({"linux": {"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}}}),
            "linux.memoryPolicy: this version of Corten has no memoryPolicy",
        ),
        (
            json!({"linux": {"personality": {"domain": "LINUX", "flags": ["X"]}}}),
            "linux.personality.flags: no flags are defined by the specification",
        ),
    ]);
    good(json!({"linux": {"netDevices": {}, "intelRdt": null}}));
}

#[test]
fn linux_values() {
    gives(&[
        (json!({"linux": {"maskedPaths": ["/a", "b"]}}), "linux.maskedPaths[1]: \"b\" is not an absolute path"),
        (json!({"linux": {"readonlyPaths": [""]}}), "linux.readonlyPaths[0]: \"\" is not an absolute path"),
        (
            json!({"linux": {"cgroupsPath": "/a/../../b"}}),
            "linux.cgroupsPath: \"/a/../../b\" leads out of the cgroup tree",
        ),
        (json!({"linux": {"cgroupsPath": "a:..:b"}}), "linux.cgroupsPath: \"a:..:b\" leads out of the cgroup tree"),
        (
            json!({"linux": {"devices": [{"path": "/a", "type": "a"}]}}),
            "linux.devices[0].type: \"a\" is for rules; a node is one of c, b, u, p",
        ),
        (
            json!({"linux": {"devices": [{"path": "/a", "type": "c", "major": -1}]}}),
            "linux.devices[0].major: -1 is not between 0 and 4095",
        ),
        (
            json!({"linux": {"devices": [{"path": "/a", "type": "c", "minor": 1_048_576}]}}),
            "linux.devices[0].minor: 1048576 is not between 0 and 1048575",
        ),
        (
            json!({"linux": {"devices": [{"path": "/a", "type": "c", "fileMode": 0o1_000_000}]}}),
            "linux.devices[0].fileMode: 262144 is above 4095, which is octal 7777",
        ),
    ]);
    let config = good(json!({"linux": {
        "devices": [{"path": "/a", "type": "u", "major": 1, "minor": 3, "fileMode": 0o020_644}, {"path": "/p", "type": "p"}],
        "cgroupsPath": "", "rootfsPropagation": "rslave", "personality": {"domain": "LINUX32"}, "mountLabel": ""
    }}));
    assert_eq!(config.linux.devices[0].mode, 0o644);
    assert_eq!(config.linux.devices[0].kind, DeviceKind::Char);
    assert_eq!((config.linux.devices[1].kind, config.linux.devices[1].mode), (DeviceKind::Fifo, 0o666));
    assert_eq!(config.linux.rootfs_propagation, Some(Propagation::Slave));
    assert_eq!((config.linux.personality, config.linux.cgroups_path, config.linux.mount_label), (Some(8), None, None));
}

#[test]
fn resources() {
    let resources = |value: Value| json!({"linux": {"resources": value}});
    let place = "linux.resources";
    for (value, expected) in [
        (json!({"devices": [{"allow": true}]}), "devices[0].access: is empty; it holds letters of rwm"),
        (
            json!({"devices": [{"allow": true, "access": "rx"}]}),
            "devices[0].access: \"rx\" holds other letters than rwm",
        ),
        (
            json!({"devices": [{"allow": true, "access": "r", "type": "p"}]}),
            "devices[0].type: \"p\" is a fifo, for which there are no rules",
        ),
        (
            json!({"devices": [{"allow": true, "access": "r", "major": -2}]}),
            "devices[0].major: -2 is not between 0 and 4095",
        ),
        (json!({"memory": {"swappiness": 101}}), "memory.swappiness: 101 is above 100"),
        (json!({"memory": {"limit": -2}}), "memory.limit: -2 is neither a number of bytes nor -1 for no limit"),
        (json!({"memory": {"limit": 1.5}}), "memory.limit: is the floating point 1.5, not a whole number of 64 bits"),
        (json!({"cpu": {"cpus": "a"}}), "cpu.cpus: \"a\" is not a list as 0-3,7"),
        (json!({"cpu": {"shares": -1}}), "cpu.shares: is the integer -1, not a number from 0 to 18446744073709551615"),
        (json!({"cpu": {"idle": 2}}), "cpu.idle: 2 is neither 0 nor 1"),
        (json!({"blockIO": {"weight": 5}}), "blockIO.weight: 5 is not between 10 and 1000"),
        (
            json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
            "hugepageLimits[0].pageSize: \"../2MB\" is not a size as 64KB, 2MB, 1GB",
        ),
        (json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}), "hugepageLimits[0].limit: -1 is below 0"),
        (json!({"unified": {"../x.y": "1"}}), "unified[\"../x.y\"]: is not the name of a cgroup file as memory.high"),
        (json!({"unified": {"memory": "1"}}), "unified.memory: is not the name of a cgroup file as memory.high"),
        (json!({"unified": {"..": "1"}}), "unified[\"..\"]: is not the name of a cgroup file as memory.high"),
    ] {
        assert_eq!(faults(resources(value)), [format!("{place}.{expected}")]);
    }
    let got = good(resources(json!({
        "devices": [{"allow": true, "access": "rm", "type": "", "major": -1, "minor": 5}],
        "memory": {"limit": 0, "reservation": -1, "swap": 9, "swappiness": u64::MAX},
        "cpu": {"shares": 0, "burst": 0, "idle": 0, "quota": -1, "cpus": ""},
        "pids": {"limit": 0},
        "hugepageLimits": [{"pageSize": "1GB", "limit": u64::MAX}],
        "blockIO": {"weight": 0, "throttleReadIOPSDevice": [{"major": 8, "minor": 1, "rate": 7}]},
        "rdma": {"b": {"hcaHandles": 1}, "a": {"hcaObjects": 2}},
        "network": {"classID": 3, "priorities": [{"name": "eth0", "priority": 4}]},
        "unified": {"memory.high": "1"}
    })))
    .linux
    .resources;
    assert_eq!(
        got.devices,
        [DeviceRule { allow: true, kind: None, major: None, minor: Some(5), read: true, write: false, mknod: true }]
    );
    assert_eq!((got.memory.limit, got.memory.reservation, got.memory.swap), (None, Some(-1), Some(9)));
    assert_eq!(got.memory.swappiness, None);
    assert_eq!((got.cpu.shares, got.cpu.burst, got.cpu.idle, got.cpu.quota), (None, Some(0), Some(0), Some(-1)));
    assert_eq!((got.cpu.cpus, got.pids_limit, got.block_io.weight), (None, Some(0), None));
    assert_eq!(got.hugepage_limits, [("1GB".to_owned(), i64::MAX.unsigned_abs())]);
    assert_eq!(got.block_io.throttle_read_iops, [Throttle { major: 8, minor: 1, rate: 7 }]);
    assert_eq!(got.rdma, [("a".to_owned(), None, Some(2)), ("b".to_owned(), Some(1), None)]);
    assert_eq!((got.network_class_id, got.network_priorities), (Some(3), vec![("eth0".to_owned(), 4)]));
}

#[test]
fn seccomp() {
    let with = |extra: Value| {
        let mut seccomp = json!({"defaultAction": "SCMP_ACT_ERRNO"});
        merge(&mut seccomp, extra);
        json!({"linux": {"seccomp": seccomp}})
    };
    let rule = |extra: Value| {
        let mut rule = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO"});
        merge(&mut rule, extra);
        with(json!({"syscalls": [rule]}))
    };
    let place = "linux.seccomp";
    for (patch, expected) in [
        (with(json!({"defaultErrnoRet": 4096})), "defaultErrnoRet: 4096 is above 4095".to_owned()),
        (rule(json!({"names": []})), "syscalls[0].names: is empty".into()),
        (rule(json!({"names": ["a", ""]})), "syscalls[0].names[1]: is empty".into()),
        (
            rule(json!({"action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
            "syscalls[0].errnoRet: set, but the action is neither SCMP_ACT_ERRNO nor SCMP_ACT_TRACE".into(),
        ),
        (
            rule(json!({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "syscalls[0].args[0].index: 6 is above 5, the last argument of a system call".into(),
        ),
        (rule(json!({"args": [{"index": 0, "op": "SCMP_CMP_EQ"}]})), "syscalls[0].args[0].value: missing".into()),
        (with(json!({"listenerPath": "x"})), "listenerPath: \"x\" is not an absolute path".into()),
        (with(json!({"listenerMetadata": "x"})), "listenerMetadata: set, but there is no listenerPath".into()),
    ] {
        assert_eq!(faults(patch), [format!("{place}.{expected}")]);
    }
    for patch in [
        with(json!({"defaultAction": "SCMP_ACT_NO"})),
        with(json!({"flags": ["SECCOMP_FILTER_FLAG_NO"]})),
        with(json!({"architectures": ["SCMP_ARCH_NO"]})),
        rule(json!({"args": [{"index": 0, "value": 0, "op": "SCMP_CMP_NO"}]})),
    ] {
        let fault = faults(patch);
        assert!(fault.len() == 1 && fault[0].contains("_NO\" is unknown; it can be"), "{fault:?}");
    }
    let seccomp = good(with(json!({
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_MIPS", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "listenerPath": "/run/agent", "listenerMetadata": "m",
        "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_TRACE", "errnoRet": 60000},
            {"names": ["b"], "action": "SCMP_ACT_NOTIFY",
             "args": [{"index": 5, "value": u64::MAX, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["c"], "action": "SCMP_ACT_ERRNO"}
        ]
    })))
    .linux
    .seccomp
    .unwrap();
    assert_eq!(seccomp.default_action, Action::Errno(38));
    assert_eq!(seccomp.architectures, [Arch::X86_64, Arch::X86]);
    assert_eq!(seccomp.flags, 1 << 1 | 1 << 5);
    let actions: Vec<_> = seccomp.rules.iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [Action::Trace(60000), Action::Notify, Action::Errno(1)]);
    let arg = SeccompArg { index: 5, op: Operator::MaskedEq, value: u64::MAX, value_two: 1 };
    assert_eq!(seccomp.rules[1].args, [arg]);
}

#[test]
fn the_process_of_exec() {
    let (process, warnings) = parse_process(br#"{"args":["sh"],"cwd":"/","Env":["A=1"]}"#).unwrap();
    assert_eq!((process.args, process.env, warnings), (vec!["sh".to_owned()], vec!["A=1".to_owned()], vec![]));
    assert_eq!((process.user, process.capabilities), (User::default(), None));
    let faults: Vec<_> =
        parse_process(br#"{"user":{"uid":-1},"env":["x"]}"#).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "cwd: missing",
            "user.uid: is the integer -1, not a number from 0 to 4294967295",
            "args: is empty: there is no program to run",
            "env[0]: has no `=`"
        ]
    );
    let affinity = br#"{"args":["sh"],"cwd":"/","execCPUAffinity":{"final":"1-2"}}"#;
    assert_eq!(parse_process(affinity).unwrap().0.exec_cpu_affinity.unwrap().r#final, Some(vec![1, 2]));
}

#[test]
fn a_configuration_without_process_or_linux_can_be_read() {
    let config = parse(br#"{"ociVersion":"1.0.0","root":{"path":"r"}}"#).unwrap().0;
    assert_eq!(config.process, None);
    assert_eq!(config.linux, Linux::default());
}

mod from_disk {
    use super::*;

    fn bundle_with(text: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), text).unwrap();
        dir
    }

    #[test]
    fn the_directory_is_absolute_and_the_text_kept() {
        let dir = bundle_with(&patched(json!({})));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let bundle = Bundle::load(&dir.path().join("link")).unwrap();
        assert_eq!(bundle.dir, std::fs::canonicalize(dir.path()).unwrap());
        assert_eq!(bundle.raw, patched(json!({})));
        assert_eq!(bundle.raw.len(), patched(json!({})).len());
    }

    #[test]
    fn what_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        let error = Bundle::load(dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("no config.json in {here}\n  hint: `corten spec` writes one"));
        let error = Bundle::load(&dir.path().join("x")).unwrap_err().to_string();
        assert_eq!(error, format!("bundle {here}/x: no such file or directory (ENOENT)"));
        std::fs::create_dir(dir.path().join("config.json")).unwrap();
        let error = Bundle::load(dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{here}/config.json: is a directory"));
        let error = Bundle::load(Path::new("/dev/null")).unwrap_err().to_string();
        assert_eq!(error, "/dev/null/config.json: not a directory (ENOTDIR)");
    }

    #[test]
    fn a_large_file_is_refused_unread() {
        let dir = bundle_with(b"{}");
        let file = File::options().write(true).open(dir.path().join("config.json")).unwrap();
        file.set_len(1 << 30).unwrap();
        let error = Bundle::load(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("config.json: has 1073741824 bytes or more; the most is 16777216 (16 MiB)"), "{error}");
        // A file without a size is read up to the limit and one byte.
        let error = read_limited(File::open("/dev/zero").unwrap()).unwrap_err().to_string();
        assert_eq!(error, "has 16777217 bytes or more; the most is 16777216 (16 MiB)");
    }

    #[test]
    fn the_limit_itself_is_allowed() {
        let mut text = patched(json!({}));
        text.resize(usize::try_from(MAX_CONFIG).unwrap(), b' ');
        assert!(Bundle::load(bundle_with(&text).path()).is_ok());
        text.push(b' ');
        assert!(Bundle::load(bundle_with(&text).path()).is_err());
    }

    #[test]
    fn what_runc_writes_is_good() {
        let dir = tempfile::tempdir().unwrap();
        let Ok(done) = std::process::Command::new("runc").arg("spec").current_dir(dir.path()).output() else {
            eprintln!("skipped: no runc in PATH");
            return;
        };
        assert!(done.status.success(), "{done:?}");
        let bundle = Bundle::load(dir.path()).unwrap();
        assert_eq!(bundle.config.hostname.as_deref(), Some("runc"));
        assert!(bundle.warnings.is_empty());
    }
}

mod arbitrary {
    use super::*;
    use proptest::prelude::*;

    /// Words that mean something, so that random trees come near the real ones.
    const WORDS: [&str; 32] = [
        "ociVersion",
        "1.0.0",
        "root",
        "path",
        "process",
        "args",
        "cwd",
        "/",
        "env",
        "A=1",
        "user",
        "uid",
        "capabilities",
        "bounding",
        "CAP_CHOWN",
        "rlimits",
        "type",
        "RLIMIT_AS",
        "soft",
        "hard",
        "mounts",
        "destination",
        "linux",
        "namespaces",
        "uts",
        "resources",
        "devices",
        "allow",
        "Linux",
        "seccomp",
        "defaultAction",
        "SCMP_ACT_LOG",
    ];

    fn tree() -> impl Strategy<Value = Value> {
        let word = prop_oneof![4 => prop::sample::select(&WORDS[..]).prop_map(String::from), 1 => any::<String>()];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 96, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((word.clone(), inner), 0..8)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    /// A real configuration that uses every part.
    fn full() -> Value {
        let text = patched(json!({
            "annotations": {"a": "b"},
            "hooks": {"prestart": [{"path": "/h", "args": ["h"], "env": ["A=1"], "timeout": 3}], "poststop": [{"path": "/p"}]},
            "process": {
                "consoleSize": {"height": 1, "width": 2}, "ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1},
                "scheduler": {"policy": "SCHED_RR", "priority": 5, "flags": ["SCHED_FLAG_RECLAIM"]},
                "execCPUAffinity": {"initial": "1", "final": "2-3"}
            },
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network"}, {"type": "user"}, {"type": "time"}],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 1, "size": 10}],
                "timeOffsets": {"monotonic": {"secs": -1, "nanosecs": 5}},
                "sysctl": {"net.ipv4.ip_forward": "1"},
                "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"], "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NE"}]}]},
                "resources": {
                    "memory": {"limit": 1000}, "cpu": {"cpus": "0"}, "pids": {"limit": 5}, "unified": {"memory.high": "1"},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 3}], "rdma": {"x": {"hcaHandles": 1}},
                    "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}]}
                }
            }
        }));
        serde_json::from_slice(&text).unwrap()
    }

    /// All places of a tree.
    fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
        out.push(at.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), out);
                }
            }
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, value)| pointers(value, &format!("{at}/{n}"), out));
            }
            _ => {}
        }
    }

    #[test]
    fn the_full_one_is_good() {
        let text = serde_json::to_vec(&full()).unwrap();
        assert!(parse(&text).is_ok(), "{:?}", parse(&text));
    }

    #[test]
    fn both_ways_of_reading_agree() {
        let mut value = full();
        value["process"].as_object_mut().unwrap().remove("execCPUAffinity");
        let text = serde_json::to_string(&value).unwrap();
        // One key in odd case sends the same text the slow way.
        let odd = text.replacen("\"hostname\"", "\"hostName\"", 1);
        assert_eq!(parse(text.as_bytes()).unwrap(), parse(odd.as_bytes()).unwrap());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
            let _ = parse_process(&bytes);
        }

        #[test]
        fn no_tree_panics(tree in tree()) {
            let text = serde_json::to_vec(&tree).unwrap();
            if let Err(faults) = parse(&text) {
                prop_assert!(!faults.is_empty());
            }
            let _ = parse_process(&text);
        }

        #[test]
        fn a_changed_value_is_good_or_named(with in tree(), at in any::<prop::sample::Index>()) {
            let mut config = full();
            let mut places = Vec::new();
            pointers(&config, "", &mut places);
            let place = at.get(&places);
            *config.pointer_mut(place).unwrap() = with;
            if let Err(faults) = parse(&serde_json::to_vec(&config).unwrap()) {
                prop_assert!(!faults.is_empty());
                prop_assert!(faults.iter().all(|fault| !fault.cause.is_empty()), "{faults:?}");
            }
        }

        #[test]
        fn a_cut_text_is_refused(at in any::<prop::sample::Index>()) {
            let text = serde_json::to_vec(&full()).unwrap();
            let end = at.index(text.len());
            let faults = parse(&text[..end]).unwrap_err();
            prop_assert_eq!(faults.len(), 1);
        }

        #[test]
        fn a_changed_byte_does_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = serde_json::to_vec(&full()).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = parse(&text);
        }
    }
}
