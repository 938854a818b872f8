//! Tests of reading a bundle: one for each kind of fault, and that nothing makes it panic.
mod arbitrary;
mod from_disk;
mod linux;
mod text;

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
        (
            json!({"process": {"execCPUAffinity": {"final": 3}}}),
            "process.execCPUAffinity.final: is the integer 3, not a string",
        ),
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
fn the_process_of_exec() {
    let (process, warnings) = parse_process(br#"{"args":["sh"],"cwd":"/","Env":["A=1"]}"#).unwrap();
    assert_eq!((process.args, process.env.get(0), process.env.len()), (vec!["sh".to_owned()], "A=1", 1));
    assert!(warnings.is_empty());
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
