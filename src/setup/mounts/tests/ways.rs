//! One mount(2), or fsopen and what follows it.

use super::*;
use crate::setup::mounts::{Action, Place, What, whole};
use std::os::fd::AsFd;

fn made_whole(action: &Action) -> bool {
    matches!(&action.what, What::New(new) if new.way == Way::Whole)
}

#[test]
fn what_mount_cannot_say_is_said_part_by_part() {
    let long = format!("nr_blocks={}", "9".repeat(256));
    let many: Vec<String> = (0..500).map(|n| format!("word{n}=9")).collect();
    for (whole, target, kind, options) in [
        (true, "/t", "tmpfs", &["nosuid", "size=1m", "noatime"][..]),
        (true, "/t", "tmpfs", &["ro"]),
        (true, "/dev", "tmpfs", &["mode=755"]),
        (true, "/t", "tmpfs", &["nr_inodes=0"]),
        (true, "/s", "sysfs", &["nosuid"]),
        (true, "/p", "proc", &["hidepid=2"]),
        // Its file system would be read-only, for whoever shares it.
        (false, "/s", "sysfs", &["ro"]),
        (false, "/p", "proc", &["rro"]),
        (false, "/q", "mqueue", &["ro"]),
        // Of what is found at /dev it is asked how many files it has.
        (false, "/dev", "tmpfs", &["nr_inodes=0"]),
        (false, "/t", "tmpfs", &["mpol=bind:0\\,1"]),
        (false, "/t", "tmpfs", &["size="]),
        (false, "/t", "tmpfs", &["=1m"]),
        (false, "/t", "tmpfs", &["sync"]),
        (false, "/t", "tmpfs", &["rnoatime", "strictatime"]),
        (false, "/t", "tmpfs", &["tmpcopyup"]),
        (false, "/t", "tmpfs", &["shared"]),
        (false, "/t", "tmpfs", &[&long]),
        (false, "/t", "tmpfs", &many.iter().map(String::as_str).collect::<Vec<_>>()),
        // A device, a server: not to be asked twice.
        (false, "/e", "ext4", &["nosuid"]),
        (false, "/c", "cgroup2", &["nosuid"]),
    ] {
        let list = [mount(target, kind, "source", options)];
        let cgroup = Facts { cgroups: Cgroups::Unified(Path::new("/c")), ..facts(Path::new("/b")) };
        assert_eq!(made_whole(&decide(&list, &cgroup).unwrap()[0]), whole, "{target} {kind} {options:?}");
        let kept = Facts { place: Place::Kept, ..cgroup };
        assert!(!made_whole(&decide(&list, &kept).unwrap()[0]), "{target} {kind}: the working directory would change");
    }
}

#[test]
fn dev_is_entered_again_after_another_mount() {
    let list = [
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &[]),
        mount("/dev/a", "tmpfs", "a", &[]),
        mount("/dev/b", "tmpfs", "b", &["size=4k", "shared"]),
        mount("/dev/c", "tmpfs", "c", &["size=8k"]),
        mount("/x", "tmpfs", "x", &["size=4k"]),
        mount("/dev/d", "tmpfs", "d", &["mode=700"]),
    ];
    let actions = decide(&list, &facts(Path::new("/b"))).unwrap();
    let entered: Vec<bool> = actions.iter().map(|a| a.to_string().contains("; fchdir(\"/dev\"); ")).collect();
    assert_eq!(entered, [false, true, true, false, false, false, true]);
    alone(
        |_| {},
        |bundle| {
            build(bundle, &list, &facts(bundle));
            let info = mountinfo();
            let points = ["/dev/a", "/dev/b", "/dev/c", "/x", "/dev/d"].map(|point| line(&info, point).1);
            let expected =
                ["tmpfs a rw", "tmpfs b rw,size=4k", "tmpfs c rw,size=8k", "tmpfs x rw,size=4k", "tmpfs d rw,mode=700"];
            assert_eq!(points, expected);
            let mode = |path: &str| fs::metadata(path).unwrap().mode() & 0o7777;
            assert_eq!(["/dev", "/dev/a", "/x", "/dev/d"].map(mode), [0o1777, 0o1777, 0o1777, 0o700]);
        },
    );
}

#[test]
fn what_mount_refuses_is_tried_part_by_part() {
    alone(
        |_| {},
        |bundle| {
            let mut held = Held::default();
            open(&mut held, bundle, None);
            // EBUSY: mount(2) does not put one file system twice on one place, move_mount(2) does.
            let twice = [mount("/s", "sysfs", "sysfs", &["nosuid"]), mount("/s", "sysfs", "sysfs", &["nosuid"])];
            let actions = decide(&twice, &facts(bundle)).unwrap();
            assert!(actions.iter().all(made_whole));
            actions.iter().for_each(|action| action.apply(&mut held).unwrap());
            let point = bundle.join("rootfs/s");
            let there = |info: &str| info.lines().filter(|l| l.split(' ').nth(4) == point.to_str()).count();
            assert_eq!(there(&mountinfo()), 2);
            let wrong = decide(&[mount("/t", "tmpfs", "t", &["size=much"])], &facts(bundle)).unwrap();
            let failure = wrong[0].apply(&mut held).unwrap_err();
            assert_eq!(failure.call, "fsconfig(SET_STRING, \"size\", \"much\")");
            assert_eq!(failure.because.unwrap(), "tmpfs: Bad value for 'size'");
        },
    );
}

#[test]
fn a_dev_that_was_exchanged_is_noticed() {
    alone(
        |bundle| fs::create_dir_all(bundle.join("rootfs/dev/own")).unwrap(),
        |bundle| {
            let mut held = Held::default();
            open(&mut held, bundle, None);
            let root = held.root.as_ref().unwrap();
            let refused = || whole::top(root.as_fd(), Path::new("/dev")).unwrap_err().because.unwrap();
            let words = "/dev was exchanged while a tmpfs was mounted on it";
            assert_eq!(refused(), words, "a directory");
            let dev = bundle.join("rootfs/dev");
            nix::mount::mount(Some("t"), &dev, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            whole::top(root.as_fd(), Path::new("/dev")).unwrap();
            fs::create_dir(dev.join("pts")).unwrap();
            assert_eq!(refused(), words, "somebody's tmpfs");
        },
    );
}
