//! Tests of texts that are no JSON, no configuration, or too much; and of keys.
use super::*;

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
        (
            json!({"mounts": [{"destination": "/x"}, {"destination": ["/y"]}]}),
            "mounts[1].destination: is an array, not a string",
        ),
        (json!({"linux": {"namespaces": [{"type": 5}]}}), "linux.namespaces[0].type: is the number 5, not a string"),
        (json!({"linux": {"namespaces": [{"type": ["pid"]}]}}), "linux.namespaces[0].type: is an array, not a string"),
        (json!({"linux": {"rootfsPropagation": true}}), "linux.rootfsPropagation: is the boolean true, not a string"),
        (
            json!({"process": {"scheduler": {"policy": "SCHED_RR", "priority": 1, "flags": [-1.5]}}}),
            "process.scheduler.flags[0]: is the number -1.5, not a string",
        ),
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
    let faults_ = faults(json!({"process": {"args": vec!["x"; 70_000]}}));
    assert_eq!(faults_, ["process.args: more than 32768 values"]);
    let env: Vec<String> = (0..7).map(|n| format!("A{n}={}", "x".repeat(1_000_000))).collect();
    assert_eq!(faults(json!({"process": {"env": env}})), ["process.env: more than 6291456 bytes in all strings"]);
    let faults_ = faults(json!({"hostname": "x".repeat(2 << 20)}));
    assert_eq!(faults_, ["hostname: a string of 2097152 bytes; the most is 1048576"]);
    let lines = vec![json!({"containerID": 0, "hostID": 0, "size": 1}); 10_000];
    assert_eq!(faults(json!({"linux": {"uidMappings": lines}})), ["linux.uidMappings: more than 32768 values"]);
}

#[test]
fn what_is_no_text_is_found_where_it_is() {
    let fault = |text: &[u8]| parse(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
    for (text, expected) in [
        (&b"{\"x\":{\"a\":\"b\xff\"}}"[..], "x.a: line 1, column 13: not JSON: invalid unicode code point"),
        (b"{\"x\":1,\xff}", ": line 1, column 8: not JSON: key must be a string"),
        (b"{\"x\":}\xff", "x: line 1, column 6: not JSON: expected value"),
    ] {
        assert_eq!(fault(text), [expected]);
    }
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

fn shown(fault: &Fault) -> String {
    faults_error(std::slice::from_ref(fault), "").to_string().trim_start_matches(": ").to_owned()
}
