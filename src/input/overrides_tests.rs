//! Tests of Docker's options on a bundle.
use super::*;
use crate::input::config::Linux;
use proptest::prelude::*;

fn config() -> Config {
    let namespace = |kind| Namespace { kind, path: None };
    Config {
        process: Some(Process {
            args: vec!["sh".into(), "-l".into()],
            env: std::rc::Rc::new(["PATH=/bin", "A=1"].into_iter().collect()),
            cwd: "/".into(),
            ..Process::default()
        }),
        mounts: ["/proc", "/dev", "/dev/pts", "/sys"]
            .map(|d| Mount { destination: d.into(), ..Mount::default() })
            .to_vec(),
        linux: Linux {
            namespaces: vec![
                namespace(NamespaceKind::Mount),
                namespace(NamespaceKind::Network),
                namespace(NamespaceKind::Uts),
            ],
            ..Linux::default()
        },
        ..Config::default()
    }
}

fn caller() -> Caller {
    Caller { dir: "/home/me".into(), env: BTreeMap::from([("LANG".to_owned(), "C=x".to_owned())]) }
}

fn applied(overrides: Overrides) -> Config {
    let mut config = config();
    Overrides { caller: caller(), ..overrides }.apply(&mut config).unwrap();
    config
}

fn refused(overrides: Overrides) -> String {
    Overrides { caller: caller(), ..overrides }.apply(&mut config()).unwrap_err().to_string()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn nothing_asked_changes_nothing() {
    assert_eq!(applied(Overrides::default()), config());
}

#[test]
fn the_command() {
    let args = |entrypoint: Option<&str>, args: &[&str]| {
        let overrides =
            Overrides { entrypoint: entrypoint.map(String::from), args: strings(args), ..Overrides::default() };
        applied(overrides).process.unwrap().args
    };
    assert_eq!(args(None, &["ls", "-l"]), ["ls", "-l"]);
    assert_eq!(args(Some("/bin/sh"), &[]), ["/bin/sh"]);
    assert_eq!(args(Some("/bin/sh"), &["-c", "x"]), ["/bin/sh", "-c", "x"]);
    assert_eq!(args(Some(""), &["x"]), ["x"]);
    let empty = Overrides { entrypoint: Some(String::new()), ..Overrides::default() };
    assert!(refused(empty).starts_with("no program to run"));
    assert!(refused(Overrides { args: strings(&[""]), ..Overrides::default() }).starts_with("no program to run"));
}

#[test]
fn the_environment() {
    let env = |entries: &[&str]| {
        let config = applied(Overrides { env: strings(entries), ..Overrides::default() });
        config.process.unwrap().env.iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(env(&["A=2"]), ["PATH=/bin", "A=2"]);
    assert_eq!(env(&["PATH=/x"]), ["PATH=/x", "A=1"]);
    assert_eq!(env(&["B="]), ["PATH=/bin", "A=1", "B="]);
    assert_eq!(env(&["LANG"]), ["PATH=/bin", "A=1", "LANG=C=x"]);
    assert_eq!(env(&["A"]), ["PATH=/bin"]);
    assert_eq!(env(&["NONE"]), ["PATH=/bin", "A=1"]);
    assert!(refused(Overrides { env: strings(&["=x"]), ..Overrides::default() }).contains("no name"));
}

#[test]
fn the_terminal() {
    let process = applied(Overrides { terminal: true, ..Overrides::default() }).process.unwrap();
    assert!(process.terminal);
    assert_eq!(process.env.iter().last().unwrap(), "TERM=xterm");
    let own = Overrides { terminal: true, env: strings(&["TERM=vt100"]), ..Overrides::default() };
    assert_eq!(applied(own).process.unwrap().env.iter().last().unwrap(), "TERM=vt100");
}

#[test]
fn directory_and_user() {
    let asked = Overrides { workdir: Some("/srv".into()), user: Some("5:6".into()), ..Overrides::default() };
    let process = applied(asked.clone()).process.unwrap();
    assert_eq!(process.cwd, Path::new("/srv"));
    assert_eq!((process.user.uid, process.user.gid), (5, 6));
    assert_eq!(asked.user_request().unwrap(), None);
    let named = Overrides { user: Some("web".into()), ..Overrides::default() };
    assert_eq!(applied(named.clone()).process.unwrap().user.uid, 0);
    assert!(named.user_request().unwrap().is_some());
    assert!(
        refused(Overrides { workdir: Some("srv".into()), ..Overrides::default() }).contains("not an absolute path")
    );
    assert!(refused(Overrides { user: Some("4294967296".into()), ..Overrides::default() }).contains("not between"));
}

#[test]
fn no_process_to_change() {
    let mut config = Config { process: None, ..config() };
    assert!(Overrides { terminal: true, ..Overrides::default() }.apply(&mut config).is_err());
    assert!(Overrides::default().apply(&mut config).is_ok());
}

#[test]
fn hostname_needs_its_namespace() {
    let named = Overrides { hostname: Some("x".into()), ..Overrides::default() };
    assert_eq!(applied(named.clone()).hostname.as_deref(), Some("x"));
    let mut without = config();
    without.linux.namespaces.retain(|n| n.kind != NamespaceKind::Uts);
    assert!(named.apply(&mut without).unwrap_err().to_string().contains("no uts namespace"));
    assert!(refused(Overrides { hostname: Some("x".repeat(65)), ..Overrides::default() }).contains("64 bytes"));
    assert!(refused(Overrides { hostname: Some(String::new()), ..Overrides::default() }).contains("is empty"));
}

#[test]
fn networks() {
    let network = |name: &str| Overrides { network: Some(name.into()), ..Overrides::default() };
    let kinds = |config: &Config| config.linux.namespaces.iter().map(|n| n.kind).collect::<Vec<_>>();
    assert_eq!(kinds(&applied(network("host"))), [NamespaceKind::Mount, NamespaceKind::Uts]);
    assert_eq!(applied(network("none")), config());
    let mut joined = config();
    joined.linux.namespaces[1].path = Some("/run/netns/x".into());
    network("none").apply(&mut joined).unwrap();
    assert_eq!(joined, config());
    let mut hostly = config();
    hostly.linux.namespaces.remove(1);
    network("none").apply(&mut hostly).unwrap();
    assert!(kinds(&hostly).contains(&NamespaceKind::Network));
    for name in ["bridge", "container:x", ""] {
        assert!(refused(network(name)).contains("host and none"), "{name}");
    }
}

#[test]
fn the_hosts_network_in_a_user_namespace_binds_sys() {
    use crate::input::config::IdMapping;
    let mut config = config();
    let line = IdMapping { container_id: 0, host_id: 1000, size: 1 };
    config.linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    config.linux.uid_mappings = vec![line];
    config.linux.gid_mappings = vec![line];
    config.mounts[3].kind = "sysfs".into();
    config.mounts[3].options = strings(&["ro", "nosuid"]);
    Overrides { network: Some("host".into()), ..Overrides::default() }.apply(&mut config).unwrap();
    assert_eq!(config.mounts[3].kind, "none");
    assert_eq!(config.mounts[3].source.as_deref(), Some(Path::new("/sys")));
    assert_eq!(config.mounts[3].options, ["ro", "nosuid", "rbind"]);
}

#[test]
fn a_contradiction_is_found_again() {
    let mut config = config();
    config.linux.sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    let error = Overrides { network: Some("host".into()), ..Overrides::default() }.apply(&mut config).unwrap_err();
    let expected = "the configuration with these options: linux.sysctl[\"net.ipv4.ip_forward\"]: set, but there is no network namespace";
    assert_eq!(error.to_string(), expected);
}

fn mount(text: &str) -> Mount {
    parse_mount(text, Path::new("/home/me")).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn bind_mounts() {
    let full = mount("type=bind,source=/a,target=/b,readonly,bind-propagation=rslave");
    assert_eq!(full.kind, "bind");
    assert_eq!(full.source.as_deref(), Some(Path::new("/a")));
    assert_eq!(full.destination, Path::new("/b"));
    assert_eq!(full.options, ["rbind", "rslave", "rro"]);
    for text in ["type=bind,src=/a,dst=/b", "destination=/b,type=bind,source=/a,ro=false"] {
        assert_eq!(mount(text).options, ["rbind", "rprivate"], "{text}");
    }
    assert_eq!(mount("type=bind,src=x/y,dst=/b").source.as_deref(), Some(Path::new("/home/me/x/y")));
    assert_eq!(mount("type=bind,src=.,dst=/b,ro=1").options, ["rbind", "rprivate", "rro"]);
    for (words, options) in [
        ("bind-recursive=disabled,readonly", "bind,rprivate,ro"),
        ("bind-nonrecursive", "bind,rprivate"),
        ("bind-recursive=writable,readonly,consistency=cached", "rbind,rprivate,ro"),
        ("bind-recursive=readonly,readonly", "rbind,rprivate,rro"),
    ] {
        assert_eq!(mount(&format!("type=bind,src=.,dst=/b,{words}")).options.join(","), options, "{words}");
    }
    assert_eq!(mount(r#"type=bind,"src=/a,b ""c""",dst=/b"#).source.as_deref(), Some(Path::new("/a,b \"c\"")));
}

#[test]
fn tmpfs_mounts() {
    assert_eq!(mount("type=tmpfs,dst=/t").options, ["noexec", "nosuid", "nodev"]);
    let full = mount("type=tmpfs,dst=/t,tmpfs-size=64m,tmpfs-mode=1770,ro");
    assert_eq!(full.options, ["noexec", "nosuid", "nodev", "ro", "size=67108864", "mode=1770"]);
    assert_eq!(full.kind, "tmpfs");
}

#[test]
fn mounts_that_are_refused() {
    for (text, why) in [
        ("source=/a,target=/b", "volume"),
        ("type=volume,source=a,target=/b", "type volume"),
        ("type=npipe,source=a,target=/b", "\"npipe\""),
        ("type=bind,target=/b", "no source"),
        ("type=bind,source=/a", "no target"),
        ("type=bind,source=/a,target=b", "not an absolute path"),
        ("type=bind,source=/a,target=//.", "the root itself"),
        ("type=bind,source=/a,target=/b,uid=5", "\"uid\" is unknown"),
        ("type=bind,source=/a,target=/b,volume-nocopy", "\"volume-nocopy\" is unknown"),
        ("type=bind,source=/a,target=/b,ro=maybe", "true or false"),
        ("type=bind,source=/a,src=/c,target=/b", "given twice"),
        ("type=bind,source=,target=/b", "no value"),
        ("type=bind,source=/a,target=/b,bind-propagation=up", "one of"),
        ("type=bind,source=/a,target=/b,bind-recursive=up", "bind-recursive is one of"),
        ("type=bind,source=/a,target=/b,bind-recursive=readonly", "needs readonly"),
        ("type=bind,source=/a,target=/b,bind-recursive=enabled,bind-nonrecursive", "exclude each other"),
        ("type=bind,source=/a,target=/b,tmpfs-size=1", "not for type bind"),
        ("type=tmpfs,source=/a,target=/b", "not for type tmpfs"),
        ("type=tmpfs,target=/b,tmpfs-size=1x", "not a size"),
        ("type=tmpfs,target=/b,tmpfs-size=99999999999999t", "not a size"),
        ("type=tmpfs,target=/b,tmpfs-mode=9", "octal"),
        ("type=tmpfs,target=/b,tmpfs-mode=17777", "octal"),
        ("type=bind,,target=/b", "empty part"),
        ("", "empty part"),
        ("type=bind,\"source=/a", "not closed"),
    ] {
        let error = parse_mount(text, Path::new("/")).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn a_mount_on_the_same_target_takes_its_place() {
    let asked = strings(&["type=tmpfs,dst=/dev/", "type=bind,src=/a,dst=/new"]);
    let mounts = applied(Overrides { mounts: asked, ..Overrides::default() }).mounts;
    let targets: Vec<_> = mounts.iter().map(|m| m.destination.to_str().unwrap()).collect();
    assert_eq!(targets, ["/proc", "/dev/", "/dev/pts", "/sys", "/new"]);
    assert_eq!(mounts[1].kind, "tmpfs");
    let bad = Overrides { mounts: strings(&["type=bind"]), ..Overrides::default() };
    assert_eq!(refused(bad), "--mount \"type=bind\": has no target");
}

proptest! {
    #[test]
    fn any_text_of_a_mount(text in "((type|src|dst|ro|tmpfs-size|tmpfs-mode|x)(=(bind|tmpfs|/a|[0-9]{1,25}[a-z]?|\"|,|é))?,?){0,5}") {
        if let Ok(mount) = parse_mount(&text, Path::new("/d")) {
            prop_assert!(mount.destination.is_absolute());
            prop_assert!(mount.kind == "tmpfs" || mount.source.is_some_and(|source| source.is_absolute()));
        }
    }
}
