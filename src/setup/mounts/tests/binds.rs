//! Binds: attributes, propagation, mapped owners, remounts.

use super::*;
use crate::setup::mounts;

/// A source with a mount below it, for recursion.
fn with_tree(bundle: &Path) {
    fs::create_dir_all(bundle.join("src/sub")).unwrap();
    fs::write(bundle.join("src/file"), "data").unwrap();
    nix::mount::mount(Some("sub"), &bundle.join("src/sub"), Some("tmpfs"), nix::mount::MsFlags::MS_NODEV, None::<&str>)
        .unwrap();
}

fn apply(bundle: &Path, list: &[Mount], facts: &Facts) -> Held {
    let mut held = Held::default();
    open(&mut held, bundle, None);
    let actions = decide(list, facts).unwrap();
    for action in mounts::early(&actions).iter().chain(&actions) {
        action.apply(&mut held).unwrap_or_else(|f| panic!("{action}: {f} {:?}", f.because));
    }
    held
}

fn inside(bundle: &Path, path: &str) -> String {
    bundle.join("rootfs").join(path).to_str().unwrap().to_owned()
}

#[test]
fn plain_attributes_stay_on_top_and_recursive_ones_go_down() {
    alone(
        |_| {},
        |bundle| {
            with_tree(bundle);
            let list = [
                mount("/plain", "bind", "src", &["rbind", "ro", "noexec"]),
                mount("/deep", "bind", "src", &["rbind", "rro", "rnoatime"]),
                mount("/flat", "bind", "src", &["bind"]),
            ];
            apply(bundle, &list, &facts(bundle));
            let info = mountinfo();
            let flags = |path: &str| line(&info, &inside(bundle, path)).0.to_owned();
            assert_eq!((flags("plain"), flags("plain/sub")), ("ro,noexec,relatime".into(), "rw,nodev,relatime".into()));
            assert_eq!((flags("deep"), flags("deep/sub")), ("ro,noatime".into(), "ro,nodev,noatime".into()));
            assert_eq!(flags("flat"), "rw,relatime");
            assert!(!info.contains(&inside(bundle, "flat/sub")), "a plain bind is not recursive");
        },
    );
}

#[test]
fn a_bind_keeps_the_attributes_of_its_source_unless_told() {
    alone(
        |_| {},
        |bundle| {
            with_tree(bundle);
            let list = [
                mount("/kept", "bind", "src/sub", &["bind", "ro"]),
                mount("/told", "bind", "src/sub", &["bind", "dev", "strictatime"]),
            ];
            apply(bundle, &list, &facts(bundle));
            let info = mountinfo();
            assert_eq!(line(&info, &inside(bundle, "kept")).0, "ro,nodev,relatime");
            assert_eq!(line(&info, &inside(bundle, "told")).0, "rw");
        },
    );
}

#[test]
fn propagation_words_apply_in_order() {
    alone(
        |_| {},
        |bundle| {
            with_tree(bundle);
            let list = [mount("/a", "bind", "src", &["rbind", "rshared", "private"])];
            apply(bundle, &list, &facts(bundle));
            let info = mountinfo();
            let optional = |path: &str| {
                let at = inside(bundle, path);
                let line = info.lines().rfind(|l| l.split(' ').nth(4) == Some(&at)).unwrap();
                line.split(' ').skip(6).take_while(|w| *w != "-").collect::<String>()
            };
            assert_eq!(optional("a"), "");
            assert!(optional("a/sub").starts_with("shared:"), "{info}");
        },
    );
}

#[test]
fn file_and_directory_must_agree() {
    alone(
        |bundle| {
            fs::write(bundle.join("file"), "").unwrap();
            fs::create_dir(bundle.join("dir")).unwrap();
            fs::write(bundle.join("rootfs/there"), "").unwrap();
            fs::create_dir(bundle.join("rootfs/place")).unwrap();
        },
        |bundle| {
            let mut held = Held::default();
            open(&mut held, bundle, None);
            let mut because = |m: Mount| {
                let failure = decide(&[m], &facts(bundle)).unwrap()[0].apply(&mut held).unwrap_err();
                failure.because.clone().unwrap_or_else(|| panic!("no words for {failure}"))
            };
            assert_eq!(
                because(mount("/there", "bind", "dir", &["bind"])),
                "/there in the root file system is a regular file, but the source is a directory"
            );
            assert_eq!(
                because(mount("/place", "bind", "file", &["bind"])),
                "/place in the root file system is a directory, but the source is a regular file"
            );
            assert_eq!(
                because(mount("/there/below", "bind", "dir", &["bind"])),
                "/there in the root file system is a regular file, not a directory"
            );
            assert_eq!(because(mount("/x", "bind", "/no/such", &["bind"])), "host path /no/such does not exist");
            assert_eq!(
                because(mount("/proc", "bind", "dir", &["bind"])),
                format!(
                    "host path {}/dir is not a procfs, and only a procfs may be mounted on /proc",
                    bundle.display()
                )
            );
            let kernel = because(mount("/y", "tmpfs", "tmpfs", &["size=much"]));
            assert!(kernel.contains("size"), "the kernel's own words: {kernel}");
            assert_eq!(because(mount("/y", "nofs", "x", &[])), "the kernel knows no file system \"nofs\"");
        },
    );
}

#[test]
fn remount_changes_what_is_there() {
    alone(
        |_| {},
        |bundle| {
            let list = [
                mount("/t", "tmpfs", "tmpfs", &["size=64k", "mode=755"]),
                mount("/t", "", "", &["remount", "nosuid", "size=128k"]),
                mount("/t", "", "", &["remount", "bind", "ro", "size=1k"]),
            ];
            apply(bundle, &list, &facts(bundle));
            let info = mountinfo();
            let (flags, rest) = line(&info, &inside(bundle, "t"));
            assert_eq!(flags, "ro,nosuid,relatime");
            assert!(rest.contains("size=128k"), "{rest}");
        },
    );
}

#[test]
fn owners_are_mapped() {
    let map = |container_id, host_id| vec![IdMapping { container_id, host_id, size: 10 }];
    // The helper process is a fork of this test program: it does nothing but wait, so threads do not matter.
    alone(
        |bundle| {
            fs::create_dir(bundle.join("src")).unwrap();
            fs::write(bundle.join("src/file"), "").unwrap();
            std::os::unix::fs::chown(bundle.join("src/file"), Some(3), Some(4)).unwrap();
        },
        |bundle| {
            let own = Mount {
                uid_mappings: map(0, 100),
                gid_mappings: map(0, 200),
                ..mount("/own", "bind", "src", &["bind", "idmap"])
            };
            let implied = Mount { destination: "/implied".into(), options: vec!["bind".into()], ..own.clone() };
            let container = mount("/container", "bind", "src", &["rbind", "ridmap"]);
            let (users, groups) = (map(0, 1000), map(0, 2000));
            let facts = Facts { user: User::New { users: &users, groups: &groups }, ..facts(bundle) };
            apply(bundle, &[own, implied, container], &facts);
            let owner = |path: &str| {
                let meta = fs::metadata(inside(bundle, path)).unwrap();
                (meta.uid(), meta.gid())
            };
            assert_eq!(owner("own/file"), (103, 204));
            assert_eq!(owner("implied/file"), (103, 204));
            assert_eq!(owner("container/file"), (1003, 2004));
            let own = std::process::id().to_string();
            let stats = fs::read_dir("/proc")
                .unwrap()
                .flatten()
                .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
            let unreaped = |stat: &String| {
                let mut rest = stat[stat.rfind(')').unwrap() + 1..].split_whitespace();
                rest.next() == Some("Z") && rest.next() == Some(&own)
            };
            let left: Vec<String> = stats.filter(unreaped).collect();
            assert!(left.is_empty(), "a holder was not reaped: {left:?}");
        },
    );
}

#[test]
fn idmap_faults() {
    let map = || vec![IdMapping { container_id: 0, host_id: 1, size: 1 }];
    let list = [
        mount("/a", "bind", "/x", &["bind", "idmap"]),
        mount("/b", "tmpfs", "tmpfs", &["idmap"]),
        Mount { uid_mappings: map(), ..mount("/c", "bind", "/x", &["bind"]) },
    ];
    let faults = decide(&list, &facts(Path::new("/b"))).unwrap_err();
    let places: Vec<&str> = faults.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(
        places,
        ["mounts[0].uidMappings", "mounts[1].options", "mounts[1].uidMappings", "mounts[2].gidMappings"]
    );
}

#[test]
fn in_a_user_namespace_the_parent_clones_and_sysfs_is_bound() {
    let facts = Facts {
        user: User::New { users: &[], groups: &[] },
        network_namespace: false,
        rootfs: Path::new("/b/rootfs"),
        ..facts(Path::new("/b"))
    };
    let list = [
        mount("/data", "bind", "/srv", &["bind"]),
        mount("/made", "bind", "rootfs/x", &["bind"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "ro"]),
    ];
    let actions = decide(&list, &facts).unwrap();
    let early: Vec<String> = mounts::early(&actions).iter().map(|a| a.to_string()).collect();
    assert_eq!(early, ["open_tree(\"/srv\", CLONE); mount_setattr(RECURSIVE, SLAVE)"]);
    assert!(actions[0].to_string().starts_with("open_tree(\"/srv\", CLONE)"), "{}", actions[0]);
    assert!(actions[1].to_string().starts_with("open_tree(\"/b/rootfs/x\", CLONE)"), "{}", actions[1]);
    assert!(
        actions[2]
            .to_string()
            .starts_with("open_tree(\"/sys\", CLONE|RECURSIVE); mount_setattr(RECURSIVE, set=RDONLY|NOSUID)"),
        "{}",
        actions[2]
    );
}

#[test]
fn an_overlay_of_many_layers_is_mounted_though_fsconfig_is_too_short() {
    alone(
        |bundle| {
            for layer in 0..9 {
                fs::create_dir(bundle.join(format!("layer{layer}"))).unwrap();
                fs::write(bundle.join(format!("layer{layer}/file{layer}")), "").unwrap();
            }
        },
        |bundle| {
            let layers: Vec<String> = (0..9).map(|layer| format!("{}/layer{layer}", bundle.display())).collect();
            let lower = format!("lowerdir={}", layers.join(":"));
            assert!(lower.len() > 255);
            let list = [mount("/o", "overlay", "layers", &["nosuid", &lower, "private"])];
            let before = std::env::current_dir().unwrap();
            apply(bundle, &list, &facts(bundle));
            assert_eq!(std::env::current_dir().unwrap(), before);
            let info = mountinfo();
            let (flags, rest) = line(&info, &inside(bundle, "o"));
            assert_eq!(flags, "rw,nosuid,relatime");
            assert!(rest.starts_with("overlay layers "), "{rest}");
            assert_eq!(fs::read_dir(inside(bundle, "o")).unwrap().count(), 9);
        },
    );
}

#[test]
fn a_source_in_the_root_of_another_process() {
    let of = |source: &str| in_root_of(Path::new(source)).map(|(pid, path)| (pid, path.display().to_string()));
    assert_eq!(of("/proc/42/root/dev/shm"), Some((42, "/dev/shm".to_owned())));
    assert_eq!(of("/proc/42/root"), Some((42, "/".to_owned())));
    for other in ["/proc/self/root/x", "/proc/42/cwd/x", "/proc/0/root/x", "/proc/42", "/dev/42/root/x", "/proc"] {
        assert_eq!(of(other), None, "{other}");
    }
}
