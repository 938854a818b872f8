use super::super::options::{OPTIONS, Takes};
use super::*;
use crate::input::config::{DeviceKind, NamespaceKind};
use crate::setup::caps;
use proptest::prelude::*;

const ID: &str = "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789";

/// What a line of `corten run` gives for an image, on a made-up machine.
fn run_image(image: &str, line: &str) -> Result<Container> {
    let command =
        clap::Command::new("run").disable_help_flag(true).no_binary_name(true).args(super::super::arguments());
    let words = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('~', " "));
    let matches = command.try_get_matches_from(words).map_err(|e| error!("{e}"))?;
    let options = Options::typed(&matches)?;
    let image: ImageConfiguration = serde_json::from_str(&format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":[]}},"config":{image}}}"#
    ))
    .unwrap();
    let caller = Caller { dir: "/here".into(), env: [("MINE".to_owned(), "m".to_owned())].into() };
    let facts = Facts {
        id: ID,
        rootfs: Path::new("/store/rootfs"),
        directory: Path::new("/store/containers/x"),
        passwd: b"root:x:0:0::/root:/bin/sh\nweb:x:1000:100::/home/web:/bin/sh\n",
        group: b"users:x:100:\nvideo:x:44:web\n",
        caller: &caller,
        hostname: "machine",
        arch: Arch::X86_64,
        kernel: (6, 12),
        processors: &|| 2,
        held: caps::ALL,
        program: Path::new("/usr/bin/corten"),
        read: &|path| match path.to_str() {
            Some("/etc/hosts") => Ok(b"127.0.0.1 machine".to_vec()),
            Some("/etc/resolv.conf") => Ok(b"search lan\nnameserver 10.0.0.1\noptions ndots:2\n".to_vec()),
            Some("/here/vars") => Ok(b"F=file\nFOO=file\nMINE\nNOT_SET\n".to_vec()),
            Some("/here/open.json") => Ok(br#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_vec()),
            _ => Err(error!("no such file (ENOENT)")),
        },
        devices: &|path| {
            let device = |name: &str, minor| Device {
                path: name.into(),
                kind: DeviceKind::Char,
                major: 10,
                minor,
                mode: 0o600,
                uid: 0,
                gid: 0,
            };
            match path.to_str() {
                Some("/dev/fuse") => Ok(vec![device("/dev/fuse", 229)]),
                Some("/dev") => Ok(vec![device("/dev/fuse", 229), device("/dev/kvm", 232)]),
                Some("/dev/snd") => Ok(vec![device("/dev/snd/seq", 1), device("/dev/snd/timer", 33)]),
                _ => Err(error!("no such file (ENOENT)")),
            }
        },
        container: &|name| match name {
            "web" => Ok(Other {
                name: "web".into(),
                pid: 42,
                hostname: "webhost".into(),
                has_shm: true,
                directory: Some("/store/containers/web".into()),
            }),
            _ => Err(error!("no such container")),
        },
    };
    configure(&image, &options, &facts)
}

fn run(line: &str) -> Container {
    run_image(r#"{"Cmd":["true"],"Env":["FOO=image","BAR=bar"],"WorkingDir":"/srv","Labels":{"a":"b"}}"#, line)
        .unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn refused(line: &str) -> String {
    match run_image(r#"{"Cmd":["true"]}"#, line) {
        Ok(_) => panic!("accepted: {line}"),
        Err(error) => error.to_string(),
    }
}

fn kinds(container: &Container) -> Vec<NamespaceKind> {
    container.config.linux.namespaces.iter().map(|namespace| namespace.kind).collect()
}

fn mount<'a>(container: &'a Container, place: &str) -> Option<&'a crate::input::config::Mount> {
    container.config.mounts.iter().find(|mount| mount.destination == Path::new(place))
}

#[test]
fn a_plain_container() {
    let made = run("box");
    let process = made.config.process.as_ref().unwrap();
    assert_eq!(process.args, ["true"]);
    assert_eq!(
        process.env.iter().collect::<Vec<_>>(),
        [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOSTNAME=machine",
            "FOO=image",
            "BAR=bar"
        ]
    );
    assert_eq!(process.cwd, Path::new("/srv"));
    let held = process.capabilities.unwrap();
    assert_eq!(caps::names(held.bounding).len(), 14);
    assert_eq!((held.effective, held.permitted, held.inheritable, held.ambient), (held.bounding, held.bounding, 0, 0));
    assert_eq!((process.user.uid, process.user.gid, &process.user.additional_gids[..]), (0, 0, &[0][..]));
    use NamespaceKind::{Cgroup, Ipc, Mount, Pid, Uts};
    assert_eq!(kinds(&made), [Mount, Pid, Ipc, Uts, Cgroup]);
    assert_eq!(made.config.hostname.as_deref(), Some("machine"));
    assert_eq!(made.config.mounts.len(), 10);
    assert!(mount(&made, "/dev/shm").unwrap().options.contains(&"size=67108864".to_owned()));
    assert_eq!(made.config.linux.masked_paths.len(), 12);
    assert!(made.config.linux.seccomp.is_some() && !made.config.root.readonly);
    assert_eq!(made.config.linux.cgroups_path, None);
    assert_eq!(
        (made.input, made.ended, made.stop_signal, made.stop_timeout),
        (Input::Null, Ended::Stays, 15, Some(10))
    );
    assert!(made.warnings.is_empty(), "{:?}", made.warnings);
    // What is kept is what is run.
    assert_eq!(bundle::parse(&made.raw).unwrap().0, made.config);
    assert!(serde_json::from_slice::<oci_spec::runtime::Spec>(&made.raw).is_ok());
}

#[test]
fn files_of_the_network() {
    let text = |made: &Container, name: &str| {
        let file = made.files.iter().find(|file| file.path.ends_with(name)).unwrap();
        String::from_utf8(file.content.clone()).unwrap()
    };
    let made = run("box");
    assert_eq!(text(&made, "hosts"), "127.0.0.1 machine\n");
    assert_eq!(text(&made, "hostname"), "machine\n");
    assert_eq!(made.files[0].path, Path::new("/store/containers/x/resolv.conf"));
    assert_eq!(mount(&made, "/etc/hosts").unwrap().source.as_deref(), Some(Path::new("/store/containers/x/hosts")));
    let made = run("--network none --add-host db:10.0.0.7 --add-host six=[::1] --dns 9.9.9.9 --dns ::2 box");
    assert!(text(&made, "hosts").ends_with("ff02::2\tip6-allrouters\n10.0.0.7\tdb\n::1\tsix\n"));
    assert_eq!(text(&made, "resolv.conf"), "nameserver 9.9.9.9\nnameserver ::2\nsearch lan\noptions ndots:2\n");
    assert_eq!(
        (text(&made, "hostname"), made.config.hostname.as_deref()),
        ("abcdef012345\n".to_owned(), Some("abcdef012345"))
    );
    assert!(kinds(&made).contains(&NamespaceKind::Network));
    assert!(text(&run("--add-host h:host-gateway box"), "hosts").ends_with("127.0.0.1\th\n"));
    let made = run("--network container:web box");
    assert!(made.files.is_empty());
    assert_eq!(mount(&made, "/etc/hosts").unwrap().source.as_deref(), Some(Path::new("/store/containers/web/hosts")));
    assert_eq!(made.config.hostname.as_deref(), Some("webhost"));
    let network = made.config.linux.namespaces.iter().find(|n| n.kind == NamespaceKind::Network).unwrap();
    assert_eq!(network.path.as_deref(), Some(Path::new("/proc/42/ns/net")));
    assert!(mount(&run("--read-only box"), "/etc/hosts").unwrap().options.contains(&"ro".to_owned()));
    // Somebody's own file takes the place of ours.
    let made = run("-v /my/hosts:/etc/hosts box");
    assert_eq!(made.config.mounts.iter().filter(|m| m.destination == Path::new("/etc/hosts")).count(), 1);
    assert_eq!(mount(&made, "/etc/hosts").unwrap().source.as_deref(), Some(Path::new("/my/hosts")));
}

#[test]
fn namespaces() {
    assert!(!kinds(&run("--pid host box")).contains(&NamespaceKind::Pid));
    let made = run("--uts host --ipc host --cgroupns host box");
    assert_eq!(kinds(&made), [NamespaceKind::Mount, NamespaceKind::Pid]);
    assert_eq!(made.config.hostname, None);
    assert_eq!(mount(&made, "/dev/shm").unwrap().source.as_deref(), Some(Path::new("/dev/shm")));
    assert!(mount(&run("--ipc none box"), "/dev/shm").is_none());
    let made = run("--pid container:web --ipc container:web box");
    let paths: Vec<_> = made.config.linux.namespaces.iter().filter_map(|n| n.path.as_ref()?.to_str()).collect();
    assert_eq!(paths, ["/proc/42/ns/pid", "/proc/42/ns/ipc"]);
    assert_eq!(mount(&made, "/dev/shm").unwrap().source.as_deref(), Some(Path::new("/proc/42/root/dev/shm")));
    assert!(run("-p 80:80 box").warnings[0].contains("discarded when using host network mode"));
}

#[test]
fn the_program() {
    let made =
        run("-it -u web -w /x -e A=1 -e FOO=z -e MINE -e NOT_SET --env-file vars --entrypoint /bin/sh box -c id");
    let process = made.config.process.as_ref().unwrap();
    assert_eq!(process.args, ["/bin/sh", "-c", "id"]);
    let env: Vec<_> = process.env.iter().skip(1).collect();
    assert_eq!(env, ["HOSTNAME=machine", "TERM=xterm", "FOO=z", "BAR=bar", "F=file", "MINE=m", "A=1"]);
    assert_eq!((process.user.uid, process.user.gid, &process.user.additional_gids[..]), (1000, 100, &[100, 44][..]));
    assert_eq!((process.terminal, process.cwd.as_path()), (true, Path::new("/x")));
    let held = process.capabilities.unwrap();
    assert_eq!((caps::names(held.bounding).len(), held.effective, held.permitted), (14, 0, 0));
    assert_eq!(made.input, Input::Caller);
    let made = run("--init --rm --label x --label a=c --stop-signal INT --stop-timeout -1 box");
    assert_eq!(made.config.process.as_ref().unwrap().args, ["/sbin/docker-init", "--", "true"]);
    let init = mount(&made, "/sbin/docker-init").unwrap();
    assert!(init.options.contains(&"ro".to_owned()) && init.source.as_deref() == Some(Path::new("/usr/bin/corten")));
    assert_eq!((made.ended, made.stop_signal, made.stop_timeout), (Ended::Goes, 2, None));
    assert_eq!(made.labels, [("a".to_owned(), "c".to_owned()), ("x".to_owned(), String::new())].into());
    assert_eq!(made.config.annotations[STOP_SIGNAL], "SIGINT");
}

#[test]
fn privileges() {
    let made = run("--privileged --cap-drop ALL box");
    assert_eq!(made.config.process.as_ref().unwrap().capabilities.unwrap().effective, caps::ALL);
    let linux = &made.config.linux;
    assert!(linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty());
    assert_eq!((linux.devices.len(), linux.resources.devices.len()), (2, 1));
    assert!(linux.resources.devices[0].allow);
    for place in ["/sys", "/sys/fs/cgroup"] {
        assert!(!mount(&made, place).unwrap().options.contains(&"ro".to_owned()));
        assert!(mount(&run("box"), place).unwrap().options.contains(&"ro".to_owned()));
    }
    assert!(run("--security-opt seccomp=unconfined box").config.linux.seccomp.is_none());
    let made = run(
        "--security-opt seccomp=open.json --security-opt no-new-privileges --security-opt apparmor=mine --security-opt label=disable box",
    );
    assert!(made.config.linux.seccomp.unwrap().rules.is_empty());
    let process = made.config.process.unwrap();
    assert_eq!((process.no_new_privileges, process.apparmor_profile.as_deref()), (true, Some("mine")));
    assert!(run("--security-opt systempaths=unconfined box").config.linux.masked_paths.is_empty());
    // The profile follows the capabilities.
    let calls = |line: &str| {
        let seccomp = run(line).config.linux.seccomp.unwrap();
        seccomp.rules.iter().any(|rule| rule.names.iter().any(|name| name == "mount"))
    };
    assert!(!calls("box") && calls("--cap-add SYS_ADMIN box"));
}

#[test]
fn limits_and_devices() {
    let made = run(
        "-m 64m --cpus 1.5 --cpu-shares 512 --pids-limit 9 --ulimit nofile=10:20 --shm-size 1m --device /dev/fuse:/dev/f:rw \
                    --device /dev/snd --sysctl kernel.shmmax=1 --cgroup-parent /a/ --read-only box",
    );
    let linux = &made.config.linux;
    assert_eq!((linux.resources.memory.limit, linux.resources.memory.swap), (Some(64 << 20), Some(128 << 20)));
    assert_eq!(
        (linux.resources.cpu.quota, linux.resources.cpu.period, linux.resources.cpu.shares),
        (Some(150_000), Some(100_000), Some(512))
    );
    assert_eq!(linux.resources.pids_limit, Some(9));
    assert_eq!(made.config.process.as_ref().unwrap().rlimits[0].soft, 10);
    assert!(mount(&made, "/dev/shm").unwrap().options.contains(&"size=1048576".to_owned()));
    let places: Vec<_> = linux.devices.iter().map(|device| device.path.to_str().unwrap()).collect();
    assert_eq!(places, ["/dev/f", "/dev/snd/seq", "/dev/snd/timer"]);
    let rule = linux.resources.devices[1];
    assert_eq!(
        (rule.allow, rule.major, rule.minor, rule.read, rule.write, rule.mknod),
        (true, Some(10), Some(229), true, true, false)
    );
    assert_eq!(linux.sysctl["kernel.shmmax"], "1");
    assert_eq!(linux.cgroups_path.as_deref(), Some(format!("/a/{ID}").as_str()));
    assert!(made.config.root.readonly);
}

#[test]
fn mounts_of_the_options() {
    let made = run("-v /a:/b/c -v ./d:/d:ro --tmpfs /t:size=1m --mount type=bind,source=s,target=/b,readonly box");
    let places: Vec<_> = made.config.mounts.iter().skip(10).map(|mount| mount.destination.to_str().unwrap()).collect();
    assert_eq!(places, ["/d", "/b", "/t", "/b/c"]);
    assert_eq!(made.make, [PathBuf::from("/a"), PathBuf::from("/here/d")]);
}

#[test]
fn what_cannot_work_names_its_option() {
    for (line, words) in [
        ("--network bridge box", "--network bridge: not in this version"),
        ("--network container:nope box", "--network container:nope: no such container"),
        ("--network container: box", "--network container:: names no container"),
        ("--network container:web --dns 1.1.1.1 box", "--dns: is decided by the container web"),
        ("--network container:web --hostname x box", "--hostname x: is decided"),
        ("--uts host --hostname x box", "--hostname x: would rename the host"),
        ("--hostname a~b box", "--hostname \"a b\""),
        ("--pid x box", "--pid x: is neither"),
        ("--ipc x box", "--ipc x: is none of"),
        ("--uts x box", "--uts x: is not host"),
        (
            "--sysctl net.ipv4.ip_forward=1 box",
            "--sysctl net.ipv4.ip_forward=1: set, but there is no network namespace",
        ),
        ("--sysctl kernel.foo=1 box", "--sysctl kernel.foo=1: belongs to the whole host"),
        ("--sysctl x box", "--sysctl x: has no `=`"),
        ("--device /dev/nope box", "--device /dev/nope: no such file"),
        ("--security-opt seccomp=nope.json box", "--security-opt seccomp=nope.json: no such file"),
        ("--security-opt foo box", "--security-opt foo: not in this version"),
        ("--security-opt no-new-privileges=x box", "is true or false"),
        ("--env-file nope box", "--env-file nope: no such file"),
        ("-e =x box", "-e =x: has no name"),
        ("--label =x box", "--label =x: has no name"),
        ("-v data:/b box", "-v data:/b: named volumes (data) are not in this version"),
        ("-v /a:/b -v /c:/b/ box", "two mounts at /b/"),
        ("--mount type=volume,target=/b box", "--mount type=volume,target=/b: type volume"),
        ("-u nobody box", "-u: user \"nobody\": not in the container's /etc/passwd"),
        ("-w rel box", "-w rel: is not an absolute path"),
        ("--stop-signal x box", "--stop-signal x: is no signal"),
        ("--stop-timeout x box", "--stop-timeout x"),
        ("--add-host x box", "--add-host x: the form is"),
        ("--add-host x:y box", "--add-host x:y: y is not an address"),
        ("--dns x box", "--dns x: not an address"),
        ("--cgroup-parent ../x box", "--cgroup-parent ../x: has .. in it"),
        ("--entrypoint= box", "no command specified"),
    ] {
        let error = refused(line);
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn what_is_known_before_the_image() {
    let caller = Caller { dir: "/here".into(), ..Caller::default() };
    let options = Options { cidfile: Some("id".into()), name: Some("web".into()), ..Options::default() };
    let found = before(&options, &caller, Arch::X86_64).unwrap();
    assert_eq!((found.pull, found.cidfile.as_deref()), (Pull::Missing, Some(Path::new("/here/id"))));
    for options in [
        Options { pull: Some("x".into()), ..Options::default() },
        Options { name: Some("a/b".into()), ..Options::default() },
        Options { cidfile: Some(String::new()), ..Options::default() },
        Options { platform: Some("plan9/amd64".into()), ..Options::default() },
    ] {
        assert!(before(&options, &caller, Arch::X86_64).is_err());
    }
}

proptest! {
    /// Whatever is typed, the answer is a configuration or an error.
    #[test]
    fn any_value_is_read(at in 0..OPTIONS.len(), value in "[-a-z0-9A-Z:=,./@\\[\\]%_ é]{0,24}") {
        let known = OPTIONS[at];
        let word = if known.takes == Takes::Flag { format!("--{}", known.long) } else { format!("--{}={}", known.long, value.replace(' ', "~")) };
        let _ = run_image(r#"{"Cmd":["true"]}"#, &format!("{word} box"));
    }

    /// Whatever an image says, too.
    #[test]
    fn any_image_is_read(env in "[ -~é]{0,9}", dir in "[ -~]{0,9}", user in "[a-z0-9:]{0,9}", signal in "[A-Z0-9+]{0,9}") {
        let image = json!({"Cmd": [dir.clone()], "Env": [env], "WorkingDir": dir, "User": user, "StopSignal": signal});
        let _ = run_image(&image.to_string(), "box");
    }
}
