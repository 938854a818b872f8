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
