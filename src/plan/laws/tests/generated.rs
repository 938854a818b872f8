//! The laws over generated configurations: namespaces in any combination, mounts, hooks, users, terminals, filters, on every host.

use super::*;
use crate::input::config::*;
use crate::input::host::Host;
use crate::plan::{self, Console, Request, Start, container, exec};
use crate::setup::label::Keyring;
use crate::setup::namespaces::KINDS;
use crate::setup::overlay;
use crate::setup::program::Inherited;
use crate::setup::rootfs::Way;
use proptest::prelude::*;
use serde_json::Value;
use std::rc::Rc;

/// Each kind is the host's, new, or joined.
fn namespaces() -> impl Strategy<Value = Vec<Namespace>> {
    // Without a mount namespace nearly everything else is refused.
    let how = (prop::array::uniform8(0..3_i32), 0..8).prop_map(|(mut how, mount)| {
        how[2] = if mount == 0 { 0 } else { how[2].max(1) };
        how
    });
    let list = how.prop_map(|how| {
        let one = |(kind, how): (&NamespaceKind, i32)| match how {
            0 => None,
            1 => Some(Namespace { kind: *kind, path: None }),
            _ => Some(Namespace { kind: *kind, path: Some(format!("/run/ns/{kind:?}").into()) }),
        };
        KINDS.iter().zip(how).filter_map(one).collect::<Vec<_>>()
    });
    list.prop_shuffle()
}

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    prop::sample::select(words)
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = one_of(&["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "overlay", "bind", ""]);
    let word = one_of(&[
        "ro",
        "rw",
        "nosuid",
        "rbind",
        "bind",
        "remount",
        "rro",
        "rprivate",
        "shared",
        "tmpcopyup",
        "mode=755",
        "idmap",
        "size=1m",
        "noatime",
    ]);
    let place = one_of(&[
        "/proc",
        "/sys",
        "/dev",
        "/dev/pts",
        "/srv",
        "/a/../b",
        "/proc/meminfo",
        "/proc/1",
        "/etc",
        "/run\n2",
    ]);
    (kind, place, prop::collection::vec(word, 0..4), prop::bool::weighted(0.1)).prop_map(
        |(kind, place, options, mapped)| Mount {
            destination: place.into(),
            kind: kind.into(),
            source: Some("/srv/source".into()),
            options: options.into_iter().map(String::from).collect(),
            uid_mappings: if mapped { map() } else { vec![] },
            gid_mappings: if mapped { map() } else { vec![] },
        },
    )
}

fn map() -> Vec<IdMapping> {
    vec![IdMapping { container_id: 0, host_id: 100_000, size: 65_536 }]
}

fn hook_list() -> impl Strategy<Value = Vec<Hook>> {
    prop::collection::vec(Just(Hook { path: "/bin/hook".into(), ..Hook::default() }), 0..3)
}

fn hook_lists() -> impl Strategy<Value = Hooks> {
    (hook_list(), hook_list(), hook_list(), hook_list()).prop_map(
        |(prestart, create_runtime, create_container, start_container)| Hooks {
            prestart,
            create_runtime,
            create_container,
            start_container,
            ..Hooks::default()
        },
    )
}

fn process() -> impl Strategy<Value = Process> {
    let user = (0..3_u32, 0..3_u32, prop::option::of(0..0o1000_u32), prop::collection::vec(0..9_u32, 0..3))
        .prop_map(|(uid, gid, umask, additional_gids)| User { uid, gid, umask, additional_gids });
    let sets = prop::option::of(prop::array::uniform5(0..1_u64 << 41)).prop_map(|sets| {
        sets.map(|[bounding, effective, inheritable, permitted, ambient]| Capabilities {
            bounding,
            effective,
            inheritable,
            permitted,
            ambient,
        })
    });
    let limits = (any::<bool>(), prop::option::of(-1000..=1000), any::<bool>(), any::<bool>());
    let label = prop::option::of(one_of(&["", "label"]).prop_map(String::from));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (user, sets, limits, flags, one_of(&["/", "/home/web", "/a/../b"]), label).prop_map(
        |(user, capabilities, (rlimit, oom_score_adj, batch, best), (terminal, nnp, home), cwd, label)| Process {
            terminal,
            user,
            args: vec!["/bin/sh".into(), "-c".into(), "a\nb".into()],
            env: Rc::new(home.then_some("HOME=/").into_iter().collect()),
            cwd: cwd.into(),
            capabilities,
            rlimits: Vec::from_iter(rlimit.then_some(Rlimit { resource: 7, name: "RLIMIT_NOFILE", soft: 1, hard: 2 })),
            no_new_privileges: nnp,
            apparmor_profile: label.clone(),
            selinux_label: label,
            oom_score_adj,
            io_priority: best.then_some(IoPriority { class: 2, priority: 4 }),
            scheduler: batch.then_some(Scheduler { policy: 3, ..Scheduler::default() }),
            ..Process::default()
        },
    )
}

fn linux() -> impl Strategy<Value = Linux> {
    let propagation = prop::option::of(prop::sample::select(
        &[Propagation::Private, Propagation::Shared, Propagation::Slave, Propagation::Unbindable][..],
    ));
    let paths = || prop::collection::vec(Just("/proc/x".into()), 0..3);
    let filter = prop::option::of(prop::sample::select(
        &[("read", Action::Errno(1)), ("mkdir", Action::Notify), ("sendmsg", Action::Notify)][..],
    ));
    let rest = (filter, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (namespaces(), propagation, paths(), paths(), rest).prop_map(
        |(namespaces, rootfs_propagation, masked_paths, readonly_paths, (filter, device, offsets, sysctl, limit))| {
            let user = namespaces.iter().any(|n| n.kind == NamespaceKind::User && n.path.is_none());
            let (uid_mappings, gid_mappings) = if user { (map(), map()) } else { (vec![], vec![]) };
            let (name, action) = filter.unwrap_or(("", Action::Allow));
            let rule = SeccompRule { names: [name].into_iter().collect(), action, args: vec![] };
            let listener_path = (action == Action::Notify).then(|| "/run/agent.sock".into());
            let seccomp =
                Seccomp { default_action: Action::Allow, rules: vec![rule], listener_path, ..Seccomp::default() };
            let fuse = Device {
                path: "/dev/fuse".into(),
                kind: DeviceKind::Char,
                major: 10,
                minor: 229,
                mode: 0o600,
                uid: 0,
                gid: 0,
            };
            Linux {
                namespaces,
                uid_mappings,
                gid_mappings,
                time_offsets: Vec::from_iter(offsets.then_some(TimeOffset { clock: "boottime", secs: 7, nanosecs: 0 })),
                devices: Vec::from_iter(device.then_some(fuse)),
                resources: Resources { pids_limit: limit.then_some(9), ..Resources::default() },
                sysctl: sysctl.then(|| ("net.ipv4.ip_forward".to_owned(), "1".to_owned())).into_iter().collect(),
                seccomp: filter.map(|_| Rc::new(seccomp)),
                rootfs_propagation,
                masked_paths,
                readonly_paths,
                ..Linux::default()
            }
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    let mounts = prop::collection::vec(mount(), 0..3);
    let names = (any::<bool>(), prop::option::of(Just("web".to_owned())));
    (process(), linux(), mounts, hook_lists(), names).prop_map(
        |(process, linux, mounts, hooks, (readonly, hostname))| Config {
            root: Root { path: "rootfs".into(), readonly },
            process: Some(process),
            hostname,
            mounts,
            hooks,
            linux,
            ..Config::default()
        },
    )
}

/// The machine, and what is asked beside the configuration.
fn asked() -> impl Strategy<Value = (Host, Request)> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    // Most are bundles: an image's root is refused in a user namespace, and in a mount namespace that is joined.
    let image = (prop_oneof![6 => Just(0), 1 => 1..4_usize], any::<bool>());
    (flags, image, 0..3_u32).prop_map(|((v1, create, socket, pid_file, no_pivot, keep), image, descriptors)| {
        let (layers, new_kernel) = image;
        let root = match layers {
            0 => plan::Root::Bundle,
            layers => plan::Root::Overlay(golden::overlay(layers, overlay::After::Kept)),
        };
        let request = Request {
            id: "web".into(),
            bundle: if layers == 0 { "/bundle" } else { golden::IMAGE_CONTAINER }.into(),
            start: if create { Start::WhenTold } else { Start::AtOnce },
            console: if socket { Console::Socket("/run/console.sock".into()) } else { Console::Here(None) },
            pid_file: pid_file.then(|| "/run/web.pid".into()),
            pidfd_socket: (descriptors == 1).then(|| "/run/web.sock".into()),
            keyring: if keep { Keyring::Keep } else { Keyring::New },
            root,
            way: if no_pivot { Way::Move } else { Way::Pivot },
            inherited: Inherited { descriptors, env: vec![] },
        };
        let mut host = if v1 { Host::fixed_v1() } else { Host::fixed() };
        host.kernel = if new_kernel { (6, 13) } else { host.kernel };
        (host, request)
    })
}

/// Both plans of a configuration; none if it is refused, and then with a reason.
fn plans(config: &Config, host: &Host, request: &Request) -> Vec<Plan> {
    let (made, cgroup) = match container(config, host, request) {
        Ok(plan) => plan,
        Err(faults) => {
            assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.cause.is_empty()), "{faults:?}");
            return vec![];
        }
    };
    let process = config.process.clone().unwrap_or_default();
    let asked = exec::Request {
        paused: false,
        filter: None,
        below: Vec::new(),
        id: "web".into(),
        before: crate::setup::user::Before::Unknown,
        keyring: request.keyring,
        init: 4121,
        console: request.console.clone(),
        pid_file: request.pid_file.clone(),
        pidfd_socket: request.pidfd_socket.clone(),
        inherited: request.inherited.clone(),
    };
    let joined = exec::process(&process, config, &cgroup, &asked).expect("what can be made can be joined");
    vec![made, joined]
}

/// A part that means something somewhere, or nothing anywhere.
fn scrap() -> impl Strategy<Value = Value> {
    let word = one_of(&[
        "/",
        "",
        "/proc",
        "user",
        "tmpfs",
        "bind",
        "a\nb",
        "..",
        "SCMP_ACT_NOTIFY",
        "c",
        "CAP_SYS_ADMIN",
        "-1",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        word.prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let pairs = prop::collection::vec((any::<String>(), inner.clone()), 0..3);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Value::from),
            pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// The leaves and branches of a tree, as JSON pointers.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
        _ => vec![],
    };
    inner.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), out));
}

fn check(config: &Config, host: &Host, request: &Request) -> Result<(), TestCaseError> {
    for plan in plans(config, host, request) {
        prop_assert_eq!(broken(&plan), Vec::<&str>::new());
        prop_assert_eq!(rehearse(&plan.lines), Ok(()));
        let text = crate::plan::explain::text(&plan, "run web", host);
        prop_assert_eq!(text.lines().count(), 1 + plan.lines.len(), "{}", text);
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{}", text);
    }
    Ok(())
}

#[test]
fn most_generated_configurations_have_a_plan() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut planned = 0;
    for _ in 0..200 {
        let (config, (host, request)) = (config(), asked()).new_tree(&mut runner).unwrap().current();
        planned += usize::from(!plans(&config, &host, &request).is_empty());
    }
    assert!(planned > 60, "only {planned} of 200");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_plans_keep_the_laws(config in config(), (host, request) in asked()) {
        check(&config, &host, &request)?;
    }

    /// Two changes anywhere in a golden configuration, by the whole way from its text.
    #[test]
    fn changed_text_is_refused_or_keeps_the_laws(
        case in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), scrap()), 1..3),
        (host, request) in asked(),
    ) {
        let mut json = case.get(golden::cases()).json.clone();
        for (at, with) in changes {
            let mut all = Vec::new();
            places(&json, "", &mut all);
            let place: &String = at.get(&all);
            *json.pointer_mut(place).unwrap() = with;
        }
        if let Ok((config, _)) = crate::input::bundle::parse(&serde_json::to_vec(&json).unwrap()) {
            check(&config, &host, &request)?;
        }
    }
}
