//! The file system chapters together, as root, each test in a thread with a mount namespace of its own: when the thread ends, so
//! do its mounts.

use super::*;
use crate::input::config::{Propagation, Root};
use crate::setup::{Held, dev, mask, rootfs};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::sync::Mutex;

mod binds;
mod hosts;
mod races;
mod ways;

pub(super) fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: (!source.is_empty()).then(|| source.into()),
        options: options.iter().map(|s| s.to_string()).collect(),
        ..Mount::default()
    }
}

/// What it says does not matter: where a call is not known, two others are made.
pub(super) const KERNEL: (u32, u32) = (6, 15);

/// What `runc spec` writes.
fn default_mounts() -> Vec<Mount> {
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

pub(super) fn facts(bundle: &Path) -> Facts<'_> {
    Facts {
        bundle,
        cgroups: Cgroups::Legacy(&[]),
        rootfs: Path::new("/nowhere"),
        cgroup_namespace: false,
        user: User::Host,
        network_namespace: true,
        label: None,
        place: Place::Free,
    }
}

/// Runs `inside` in a mount namespace of its own, in a bundle with an empty rootfs. One at a time: threads of one process share nothing
/// else, but the host's mountinfo is compared before and after.
pub(super) fn alone(prepare: impl FnOnce(&Path), inside: impl FnOnce(&Path) + Send) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !crate::sys::alone::is_root() {
        return;
    }
    let bundle = tempfile::Builder::new().prefix("corten-fs-").tempdir().unwrap();
    fs::create_dir(bundle.path().join("rootfs")).unwrap();
    prepare(bundle.path());
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let path = bundle.path();
    let done = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                inside(path)
            })
            .join()
    });
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before, "a mount leaked to the host");
    if let Err(panic) = done {
        std::panic::resume_unwind(panic);
    }
}

pub(super) fn mountinfo() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// The line of mountinfo for a mount point: attributes, and what follows the dash.
pub(super) fn line<'a>(info: &'a str, point: &str) -> (&'a str, &'a str) {
    let line =
        info.lines().rfind(|l| l.split(' ').nth(4) == Some(point)).unwrap_or_else(|| panic!("no {point}\n{info}"));
    (line.split(' ').nth(5).unwrap(), line.split_once(" - ").unwrap().1)
}

pub(super) fn open(held: &mut Held, bundle: &Path, propagation: Option<Propagation>) -> rootfs::Steps {
    let root = Root { path: "rootfs".into(), readonly: true };
    let steps =
        rootfs::decide(&root, &bundle.join("rootfs"), rootfs::Origin::Directory, propagation, rootfs::Way::Pivot);
    steps.open.iter().for_each(|action| action.apply(held).unwrap());
    steps
}

/// Everything, in the order of a plan.
pub(super) fn build(bundle: &Path, mounts: &[Mount], facts: &Facts) {
    let mut held = Held::default();
    let steps = open(&mut held, bundle, None);
    for action in decide(mounts, facts).unwrap() {
        action.apply(&mut held).unwrap_or_else(|f| panic!("{action}: {f} {:?}", f.because));
    }
    dev::decide(&[], mounts, dev::Means::Make).unwrap().iter().for_each(|a| a.apply(&mut held).unwrap());
    decide_late(mounts).iter().for_each(|a| a.apply(&mut held).unwrap());
    steps.enter.iter().for_each(|a| a.apply(&mut held).unwrap());
    let masked =
        ["/proc/iomem", "/proc/keys", "/sys/firmware", "/proc/scsi", "/proc/irq", "/proc/nothing"].map(PathBuf::from);
    let readonly = ["/proc/sys", "/proc/bus", "/proc/sysrq-trigger", "/proc/nothing"].map(PathBuf::from);
    for action in mask::decide(&masked, &readonly, mounts, KERNEL) {
        action.apply(&mut held).unwrap_or_else(|f| panic!("{action}: {f} {:?}", f.because));
    }
    steps.finish.iter().for_each(|a| a.apply(&mut held).unwrap());
}

#[test]
fn the_default_bundle() {
    alone(
        |_| {},
        |bundle| {
            let own: Vec<OwnCgroup> = ["pids", "cpu,cpuacct"]
                .map(|name| OwnCgroup {
                    mount: format!("/sys/fs/cgroup/{name}").into(),
                    directory: "/sys/fs/cgroup/pids".into(),
                })
                .into();
            let facts = Facts { cgroups: Cgroups::Legacy(&own), ..facts(bundle) };
            build(bundle, &default_mounts(), &facts);
            let info = mountinfo();
            assert_eq!(line(&info, "/").0, "ro,relatime");
            assert_eq!(line(&info, "/proc"), ("rw,relatime", "proc proc rw"));
            assert_eq!(line(&info, "/dev"), ("rw,nosuid", "tmpfs tmpfs rw,size=65536k,mode=755"));
            assert_eq!(
                line(&info, "/dev/pts"),
                ("rw,nosuid,noexec,relatime", "devpts devpts rw,gid=5,mode=620,ptmxmode=666")
            );
            assert_eq!(line(&info, "/dev/shm"), ("rw,nosuid,nodev,noexec,relatime", "tmpfs shm rw,size=65536k"));
            assert_eq!(line(&info, "/sys").0, "ro,nosuid,nodev,noexec,relatime");
            assert_eq!(line(&info, "/sys/fs/cgroup").0, "ro,nosuid,nodev,noexec,relatime");
            assert_eq!(line(&info, "/sys/fs/cgroup/pids").0, "ro,nosuid,nodev,noexec,relatime");
            assert_eq!(fs::read_link("/sys/fs/cgroup/cpuacct").unwrap(), Path::new("cpu,cpuacct"));
            assert!(info.lines().all(|l| l.split(' ').nth(4).unwrap().starts_with('/')), "{info}");
            // Devices.
            let null = fs::metadata("/dev/null").unwrap();
            assert!(null.file_type().is_char_device());
            assert_eq!((null.mode() & 0o7777, null.rdev()), (0o666, nix::sys::stat::makedev(1, 3)));
            assert_eq!(fs::read_link("/dev/ptmx").unwrap(), Path::new("pts/ptmx"));
            assert_eq!(fs::read_link("/dev/stderr").unwrap(), Path::new("/proc/self/fd/2"));
            fs::write("/dev/null", "x").unwrap();
            // Masks.
            assert!(fs::metadata("/proc/iomem").unwrap().file_type().is_char_device());
            assert_eq!(fs::read("/proc/keys").unwrap(), b"");
            assert_eq!(fs::read_dir("/sys/firmware").unwrap().count(), 0);
            assert_eq!(fs::read_dir("/proc/irq").unwrap().count(), 0);
            assert!(fs::write("/proc/irq/x", "").is_err());
            let empties = |point: &str| fs::metadata(point).unwrap().dev();
            assert_eq!(empties("/proc/irq"), empties("/sys/firmware"));
            assert_eq!(line(&info, "/proc/sys").0, "ro,relatime");
            assert!(fs::write("/proc/sys/kernel/hostname", "corten").is_err());
            assert!(fs::write("/x", "").unwrap_err().raw_os_error() == Some(libc::EROFS));
            assert!(nix::unistd::getcwd().unwrap().starts_with("/"));
        },
    );
}

#[test]
fn explain_prints_the_calls() {
    let text: Vec<String> =
        decide(&default_mounts(), &facts(Path::new("/b"))).unwrap().iter().map(|a| a.to_string()).collect();
    let opened = |path: &str| {
        format!(
            "openat2(root, \"{path}\"); [openat2(root, \"/\"); mkdirat(\"{path}\", 0755); openat(\"{path}\", O_PATH|O_NOFOLLOW)]; "
        )
    };
    assert_eq!(
        text[0],
        opened("/proc")
            + "fchdir(\"/proc\"); mount(\"proc\", \".\", \"proc\", 0); [fsopen(\"proc\"); [fsconfig()]…; [fsmount(); move_mount(\"/proc\")]]"
    );
    assert_eq!(
        text[1],
        opened("/dev")
            + "fchdir(\"/dev\"); mount(\"tmpfs\", \".\", \"tmpfs\", NOSUID|STRICTATIME, \"mode=755,size=65536k\"); \
               [fsopen(\"tmpfs\"); [fsconfig()]…; [fsmount(); move_mount(\"/dev\")]]; [openat2(root, \"/dev\"); fstatfs()]"
    );
    assert_eq!(
        text[2..4],
        [
            "mkdirat(\"/dev/pts\", 0755); fchdir(\"/dev\"); \
             mount(\"devpts\", \"pts\", \"devpts\", NOSUID|NOEXEC, \"newinstance,ptmxmode=0666,mode=0620,gid=5\"); \
             [fsopen(\"devpts\"); [fsconfig()]…; [fsmount(); move_mount(\"/dev/pts\")]]",
            "mkdirat(\"/dev/shm\", 0755); mount(\"shm\", \"shm\", \"tmpfs\", NOSUID|NODEV|NOEXEC, \"mode=1777,size=65536k\"); \
             [fsopen(\"tmpfs\"); [fsconfig()]…; [fsmount(); move_mount(\"/dev/shm\")]]"
        ]
    );
    let sys = "openat2(root, \"/sys\"); [openat2(root, \"/\"); mkdirat(\"/sys\", 0755); openat(\"/sys\", O_PATH|O_NOFOLLOW)]; \
               fsopen(\"sysfs\"); fsconfig(SET_STRING, \"source\", \"sysfs\"); fsconfig(CMD_CREATE); \
               fsmount(RDONLY|NOSUID|NODEV|NOEXEC); move_mount(\"/sys\")";
    assert_eq!(text[5], sys);
    let bind = [mount("/data", "bind", "srv", &["rbind", "ro", "rslave"])];
    assert_eq!(
        decide(&bind, &facts(Path::new("/b"))).unwrap()[0].to_string(),
        "open_tree(\"/b/srv\", CLONE|RECURSIVE); mount_setattr(set=RDONLY); openat2(root, \"/data\"); \
         [fstat(); openat2(root, \"/\"); [mkdirat(\"/data\", 0755)]; [openat(\"/data\", O_CREAT|O_EXCL)]; openat(\"/data\", O_PATH|O_NOFOLLOW); [fstat()]]; move_mount(\"/data\"); mount_setattr(RECURSIVE, SLAVE)"
    );
}

#[test]
fn proc_that_is_a_link_or_a_file_is_refused() {
    for plant in [
        (|root| symlink("tmp", root).unwrap()) as fn(&Path),
        |root| symlink("/tmp", root).unwrap(),
        |root| fs::write(root, "").unwrap(),
    ] {
        for (point, kind) in [("proc", "proc"), ("sys", "sysfs")] {
            alone(
                |bundle| {
                    fs::create_dir(bundle.join("rootfs/tmp")).unwrap();
                    plant(&bundle.join("rootfs").join(point));
                },
                |bundle| {
                    let mut held = Held::default();
                    open(&mut held, bundle, None);
                    let mounts = [mount(&format!("/{point}"), kind, kind, &[])];
                    let failure = decide(&mounts, &facts(bundle)).unwrap()[0].apply(&mut held).unwrap_err();
                    let because = failure.because.unwrap();
                    assert!(because.starts_with(&format!("/{point} in the root file system is a ")), "{because}");
                },
            );
        }
    }
}

#[test]
fn faults_are_told_all_at_once() {
    let mounts = [
        mount("/proc", "tmpfs", "tmpfs", &[]),
        mount("/", "tmpfs", "tmpfs", &[]),
        mount("/proc/sys/kernel", "bind", "/x", &["bind"]),
        mount("/x", "", "", &[]),
        mount("/x", "bind", "", &["tmpcopyup"]),
        mount("/proc/uptime", "bind", "/x", &["bind"]),
    ];
    let faults = decide(&mounts, &facts(Path::new("/b"))).unwrap_err();
    let places: Vec<&str> = faults.iter().map(|f| f.place.as_str()).collect();
    let expected = [
        "mounts[0].type",
        "mounts[1].destination",
        "mounts[2].destination",
        "mounts[3].type",
        "mounts[4].source",
        "mounts[4].options",
    ];
    assert_eq!(places, expected);
}

#[test]
fn tmpfs_takes_the_mode_of_what_it_covers_and_its_content_when_asked() {
    alone(
        |bundle| {
            let root = bundle.join("rootfs");
            fs::create_dir_all(root.join("etc/sub")).unwrap();
            fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o751)).unwrap();
            fs::write(root.join("etc/sub/file"), "content").unwrap();
            std::os::unix::fs::chown(root.join("etc/sub/file"), Some(7), Some(8)).unwrap();
            fs::set_permissions(root.join("etc/sub/file"), fs::Permissions::from_mode(0o4640)).unwrap();
            symlink("/nowhere", root.join("etc/link")).unwrap();
        },
        |bundle| {
            let mounts = [
                mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]),
                mount("/new", "tmpfs", "tmpfs", &["size=4k"]),
                mount("/given", "tmpfs", "tmpfs", &["mode=700"]),
            ];
            build(bundle, &mounts, &facts(bundle));
            let mode = |path: &str| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
            assert_eq!((mode("/etc"), mode("/new"), mode("/given")), (0o751, 0o1777, 0o700));
            let file = fs::metadata("/etc/sub/file").unwrap();
            assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o4640, 7, 8));
            assert_eq!(fs::read_to_string("/etc/sub/file").unwrap(), "content");
            assert_eq!(fs::read_link("/etc/link").unwrap(), Path::new("/nowhere"));
            assert_eq!(fs::write("/etc/x", "").unwrap_err().raw_os_error(), Some(libc::EROFS));
        },
    );
}

#[test]
fn links_in_targets_stay_inside_and_are_made() {
    alone(
        |bundle| {
            let root = bundle.join("rootfs");
            fs::create_dir(root.join("var")).unwrap();
            symlink("../run", root.join("var/run")).unwrap();
            symlink("/made/here", root.join("absolute")).unwrap();
            symlink("../../../../../../escape", root.join("up")).unwrap();
            fs::write(bundle.join("file"), "data").unwrap();
        },
        |bundle| {
            let mounts = [
                mount("/var/run/lock", "tmpfs", "tmpfs", &[]),
                mount("/absolute/too", "bind", "file", &["bind", "ro"]),
                mount("/up/and/away", "tmpfs", "tmpfs", &[]),
                // Its source is what the mount before made.
                mount("/again", "bind", &format!("{}/rootfs/made/here/too", bundle.display()), &["bind"]),
            ];
            let mut held = Held::default();
            open(&mut held, bundle, None);
            decide(&mounts, &facts(bundle)).unwrap().iter().for_each(|a| a.apply(&mut held).unwrap());
            let info = mountinfo();
            let root = bundle.join("rootfs");
            for point in ["run/lock", "made/here/too", "escape/and/away"] {
                line(&info, root.join(point).to_str().unwrap());
            }
            assert!(line(&info, root.join("made/here/too").to_str().unwrap()).0.starts_with("ro,"));
            assert_eq!(fs::read_to_string(root.join("again")).unwrap(), "data");
            assert!(!Path::new("/escape").exists() && !Path::new("/made").exists());
        },
    );
}

#[test]
fn dev_that_leads_elsewhere_stays_inside() {
    alone(
        |bundle| {
            let root = bundle.join("rootfs");
            symlink("/../../../../../../../../corten-fs-devices", root.join("dev")).unwrap();
        },
        |bundle| {
            let mut held = Held::default();
            open(&mut held, bundle, None);
            dev::decide(&[], &[], dev::Means::Make).unwrap().iter().for_each(|a| a.apply(&mut held).unwrap());
            assert!(bundle.join("rootfs/corten-fs-devices/null").exists());
            assert!(!Path::new("/corten-fs-devices").exists());
        },
    );
}

#[test]
fn a_null_device_that_is_none_is_refused() {
    for plant in [
        (|null| symlink("/etc/passwd", null).unwrap()) as fn(&Path),
        |null| fs::write(null, "").unwrap(),
        |null| nix::unistd::mkfifo(null, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ] {
        alone(
            |bundle| {
                fs::create_dir(bundle.join("rootfs/dev")).unwrap();
                plant(&bundle.join("rootfs/dev/null"));
                fs::write(bundle.join("rootfs/secret"), "").unwrap();
            },
            |bundle| {
                let mut held = Held::default();
                open(&mut held, bundle, None);
                let failure = dev::decide(&[], &[], dev::Means::Make).unwrap()[0].apply(&mut held).unwrap_err();
                assert!(failure.because.unwrap().starts_with("/dev/null in the root file system is a "));
                let masked = mask::decide(&["/secret".into()], &[], &[], KERNEL)[0].apply(&mut held).unwrap_err();
                assert!(masked.because.unwrap().contains("/dev/null in the"), "mask");
            },
        );
    }
}
