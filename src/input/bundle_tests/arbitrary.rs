//! Nothing makes the reading panic: random bytes, random trees, and real configurations with something changed.
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
    let text = serde_json::to_string(&full()).unwrap();
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
