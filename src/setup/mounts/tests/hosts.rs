//! Other hosts: a shared `/`, cgroup v2, `--no-pivot`, propagation of the root, devices.

use super::*;
use crate::input::config::{Device, DeviceKind};
use crate::sys::mount::Context;
use nix::sched::{CloneFlags, unshare};

/// A host whose mounts are all shared, in a namespace of its own; `inside` runs in one more, as a container's child does. Nothing
/// may be seen on that host afterwards.
fn on_a_shared_host(inside: impl FnOnce(&Path) + Send) {
    alone(
        |_| {},
        |bundle| {
            let shared = Change::propagate(MsFlags::MS_SHARED);
            crate::sys::mount::change_at("/", Reach::Tree, &shared).unwrap();
            let before = mountinfo();
            let done = std::thread::scope(|scope| {
                let child = || {
                    unshare(CloneFlags::CLONE_NEWNS).unwrap();
                    inside(bundle);
                    // While the child's mounts are still there.
                };
                scope.spawn(child).join()
            });
            assert_eq!(mountinfo(), before, "the host has heard of it");
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        },
    );
}

fn optional(info: &str, point: &str) -> Vec<String> {
    let line = info.lines().rfind(|l| l.split(' ').nth(4) == Some(point)).unwrap();
    let words = line.split(' ').skip(6).take_while(|w| *w != "-");
    words.map(|w| w.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn a_shared_host_hears_of_nothing() {
    let expected = [
        (None, vec!["master"]),
        (Some(Propagation::Slave), vec!["master"]),
        (Some(Propagation::Private), vec![]),
        (Some(Propagation::Shared), vec!["shared"]),
        (Some(Propagation::Unbindable), vec!["unbindable"]),
    ];
    for (propagation, root) in expected {
        on_a_shared_host(|bundle| {
            let mut held = Held::default();
            let steps = super::open(&mut held, bundle, propagation);
            for action in decide(&default_mounts(), &facts(bundle)).unwrap() {
                action.apply(&mut held).unwrap();
            }
            steps.enter.iter().for_each(|a| a.apply(&mut held).unwrap());
            mask::decide(&["/sys/firmware".into()], &["/proc/sys".into()], &[], KERNEL)
                .iter()
                .for_each(|a| a.apply(&mut held).unwrap());
            steps.finish.iter().for_each(|a| a.apply(&mut held).unwrap());
            assert_eq!(optional(&mountinfo(), "/"), root, "{propagation:?}");
        });
    }
}

#[test]
fn a_mount_of_the_host_inside_the_rootfs_hears_of_nothing_either() {
    alone(
        |bundle| fs::create_dir(bundle.join("rootfs/sub")).unwrap(),
        |bundle| {
            let sub = bundle.join("rootfs/sub");
            nix::mount::mount(Some("sub"), &sub, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            fs::create_dir(sub.join("in")).unwrap();
            crate::sys::mount::change_at("/", Reach::Tree, &Change::propagate(MsFlags::MS_SHARED)).unwrap();
            let before = mountinfo();
            for propagation in [None, Some(Propagation::Shared), Some(Propagation::Unbindable)] {
                std::thread::scope(|scope| {
                    let child = || {
                        unshare(CloneFlags::CLONE_NEWNS).unwrap();
                        let mut held = Held::default();
                        super::open(&mut held, bundle, propagation);
                        let list = [mount("/sub/in", "tmpfs", "tmpfs", &["mode=755"])];
                        decide(&list, &facts(bundle)).unwrap()[0].apply(&mut held).unwrap();
                    };
                    scope.spawn(child).join().unwrap();
                });
                assert_eq!(mountinfo(), before, "{propagation:?}");
            }
        },
    );
}

#[test]
fn shared_binds_reach_the_host_when_that_is_asked() {
    alone(
        |bundle| fs::create_dir(bundle.join("volume")).unwrap(),
        |bundle| {
            let volume = bundle.join("volume");
            nix::mount::mount(Some("v"), &volume, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            fs::create_dir(volume.join("in")).unwrap();
            crate::sys::mount::change_at("/", Reach::Tree, &Change::propagate(MsFlags::MS_SHARED)).unwrap();
            std::thread::scope(|scope| {
                let child = || {
                    unshare(CloneFlags::CLONE_NEWNS).unwrap();
                    let mut held = Held::default();
                    super::open(&mut held, bundle, Some(Propagation::Shared));
                    let list = [
                        mount("/v", "bind", "volume", &["rbind", "rshared"]),
                        mount("/v/in", "tmpfs", "tmpfs", &["mode=755"]),
                    ];
                    decide(&list, &facts(bundle)).unwrap().iter().for_each(|a| a.apply(&mut held).unwrap());
                };
                scope.spawn(child).join().unwrap();
            });
            let info = mountinfo();
            line(&info, bundle.join("volume/in").to_str().unwrap());
            assert!(!info.contains("/rootfs/"), "only the volume is shared: {info}");
        },
    );
}

#[test]
fn without_pivot_the_root_is_moved_and_no_procfs_of_the_host_stays() {
    alone(
        |_| {},
        |bundle| {
            let mut held = Held::default();
            let root = Root { path: "rootfs".into(), readonly: true };
            let steps =
                rootfs::decide(&root, &bundle.join("rootfs"), rootfs::Origin::Directory, None, rootfs::Way::Move);
            steps.open.iter().for_each(|a| a.apply(&mut held).unwrap());
            decide(&default_mounts()[..1], &facts(bundle)).unwrap().iter().for_each(|a| a.apply(&mut held).unwrap());
            steps.enter.iter().for_each(|a| a.apply(&mut held).unwrap());
            steps.finish.iter().for_each(|a| a.apply(&mut held).unwrap());
            let info = mountinfo();
            assert_eq!(line(&info, "/").0, "ro,relatime");
            assert_eq!(info.lines().filter(|l| l.contains(" - proc ")).count(), 1, "{info}");
            assert_eq!(info.lines().filter(|l| l.contains(" - sysfs ")).count(), 0, "{info}");
            assert!(fs::write("/x", "").is_err() && !Path::new("/usr").exists());
            assert!(nix::unistd::getcwd().unwrap().starts_with("/"));
        },
    );
}

#[test]
fn without_pivot_a_shared_host_keeps_its_mounts() {
    for propagation in [None, Some(Propagation::Shared)] {
        on_a_shared_host(|bundle| {
            let mut held = Held::default();
            let steps = rootfs::decide(
                &Root::default(),
                &bundle.join("rootfs"),
                rootfs::Origin::Directory,
                propagation,
                rootfs::Way::Move,
            );
            steps.open.iter().chain(&steps.enter).for_each(|a| a.apply(&mut held).unwrap());
            assert!(!Path::new("/usr").exists());
        });
    }
}

#[test]
fn without_a_mount_namespace_only_the_root_changes() {
    alone(
        |bundle| fs::write(bundle.join("rootfs/here"), "").unwrap(),
        |bundle| {
            let mut held = Held::default();
            let before = mountinfo().lines().count();
            let steps = rootfs::decide(
                &Root::default(),
                &bundle.join("rootfs"),
                rootfs::Origin::Directory,
                None,
                rootfs::Way::Chroot,
            );
            let proc = crate::sys::path::host_proc().unwrap();
            steps.open.iter().chain(&steps.enter).chain(&steps.finish).for_each(|a| a.apply(&mut held).unwrap());
            assert!(Path::new("/here").exists());
            let info = crate::sys::procfs::read(&proc, "thread-self/mountinfo").unwrap();
            // From inside a chroot only mounts below it are shown.
            assert!(info.lines().count() <= before);
        },
    );
}

#[test]
fn cgroup2_is_mounted_in_a_cgroup_namespace_and_bound_without() {
    alone(
        |bundle| fs::create_dir(bundle.join("cgroup")).unwrap(),
        |bundle| {
            let host = bundle.join("cgroup");
            let mount2 = {
                let context = Context::open("cgroup2").unwrap();
                context.create().unwrap();
                context.mount(0).unwrap()
            };
            crate::sys::mount::attach_at(std::os::fd::AsFd::as_fd(&mount2), nix::fcntl::AT_FDCWD, &host).unwrap();
            let own = host.join("corten-fs-test");
            let _ = fs::remove_dir(&own);
            fs::create_dir(&own).unwrap();
            let run = |place: &str, facts: &Facts| {
                let mut held = Held::default();
                super::open(&mut held, bundle, None);
                let list = [mount(place, "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])];
                decide(&list, facts).unwrap()[0].apply(&mut held).unwrap();
                let (info, point) = (mountinfo(), format!("{}/rootfs{place}", bundle.display()));
                let line = info.lines().rfind(|l| l.split(' ').nth(4) == Some(&point)).unwrap().to_owned();
                let words: Vec<&str> = line.split(' ').collect();
                format!("{} {}", words[3], words[5])
            };
            let bound = Facts { cgroups: Cgroups::Unified(&own), ..facts(bundle) };
            assert_eq!(run("/bound", &bound), "/corten-fs-test ro,nosuid,nodev,noexec,relatime");
            unshare(CloneFlags::CLONE_NEWCGROUP).unwrap();
            let mounted = Facts { cgroup_namespace: true, ..bound };
            assert_eq!(run("/mounted", &mounted), "/ ro,nosuid,nodev,noexec,relatime");
            fs::remove_dir(&own).unwrap();
        },
    );
}

fn device(path: &str, kind: DeviceKind, numbers: (u32, u32), mode: u32, owner: (u32, u32)) -> Device {
    Device { path: path.into(), kind, major: numbers.0, minor: numbers.1, mode, uid: owner.0, gid: owner.1 }
}

#[test]
fn devices_have_mode_and_owner_whatever_the_umask() {
    alone(
        |_| {},
        |bundle| {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            let devices = [
                device("/dev/net/tun", DeviceKind::Char, (10, 200), 0o660, (5, 6)),
                device("/dev/tty", DeviceKind::Char, (5, 0), 0o640, (0, 5)),
                device("/dev/ptmx", DeviceKind::Char, (5, 2), 0o666, (0, 0)),
                device("/run/pipe", DeviceKind::Fifo, (0, 0), 0o622, (0, 0)),
                device("/dev/disk", DeviceKind::Block, (7, 0), 0o600, (0, 0)),
            ];
            let mut held = Held::default();
            super::open(&mut held, bundle, None);
            let actions = dev::decide(&devices, &[], dev::Means::Make).unwrap();
            assert_eq!(
                actions.iter().map(|a| a.directory.to_str().unwrap()).collect::<Vec<_>>(),
                ["/dev", "/dev/net", "/run"]
            );
            actions.iter().for_each(|a| a.apply(&mut held).unwrap());
            // Once more: what is there and right is left alone.
            actions.iter().for_each(|a| a.apply(&mut held).unwrap());
            let stat = |path: &str| {
                let meta = fs::symlink_metadata(bundle.join("rootfs").join(path)).unwrap();
                (meta.mode() & 0o7777, meta.rdev(), (meta.uid(), meta.gid()))
            };
            let number = nix::sys::stat::makedev;
            assert_eq!(stat("dev/net/tun"), (0o660, number(10, 200), (5, 6)));
            assert_eq!(stat("dev/tty"), (0o640, number(5, 0), (0, 5)));
            assert_eq!(stat("dev/zero"), (0o666, number(1, 5), (0, 0)));
            assert_eq!(stat("dev/disk"), (0o600, number(7, 0), (0, 0)));
            assert_eq!(stat("run/pipe").0, 0o622);
            assert!(fs::read_link(bundle.join("rootfs/dev/ptmx")).is_ok());
            assert_eq!(nix::sys::stat::umask(nix::sys::stat::Mode::empty()).bits(), 0o077, "the umask is back");
        },
    );
}

#[test]
fn nodes_of_the_host_are_bound_where_they_cannot_be_made() {
    alone(
        |_| {},
        |bundle| {
            let mut held = Held::default();
            super::open(&mut held, bundle, None);
            dev::decide(&[], &[], dev::Means::Bind).unwrap().iter().for_each(|a| a.apply(&mut held).unwrap());
            let null = bundle.join("rootfs/dev/null");
            assert_eq!(fs::metadata(&null).unwrap().rdev(), nix::sys::stat::makedev(1, 3));
            line(&mountinfo(), null.to_str().unwrap());
            let wrong = [device("/dev/zero", DeviceKind::Char, (1, 3), 0o666, (0, 0))];
            let failure = dev::decide(&wrong, &[], dev::Means::Bind).unwrap()[0].apply(&mut held).unwrap_err();
            assert_eq!(
                failure.because.unwrap(),
                "/dev/zero on the host is a character device 1:5, not a character device 1:3"
            );
        },
    );
}

#[test]
fn a_bound_dev_is_left_alone() {
    let bound = [mount("/dev/", "bind", "/dev", &["rbind"])];
    assert_eq!(dev::decide(&[], &bound, dev::Means::Make), Ok(vec![]));
    let faults = dev::decide(&[device("/", DeviceKind::Char, (1, 3), 0, (0, 0))], &[], dev::Means::Make).unwrap_err();
    assert_eq!(faults[0].place, "linux.devices[0].path");
}
