//! Tests of `linux` and of what depends on its namespaces.
use super::*;

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
        (
            with(json!({"listenerPath": "x", "defaultAction": "SCMP_ACT_NOTIFY"})),
            "listenerPath: \"x\" is not an absolute path".into(),
        ),
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
    let unused = good(with(json!({"listenerPath": "x", "listenerMetadata": "m"}))).linux.seccomp.unwrap();
    assert_eq!(unused.listener_path, None, "ignored, as the specification has it");
    let arg = SeccompArg { index: 5, op: Operator::MaskedEq, value: u64::MAX, value_two: 1 };
    assert_eq!(seccomp.rules[1].args, [arg]);
}
