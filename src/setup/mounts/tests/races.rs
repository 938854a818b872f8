//! Somebody changes the root file system while mounts are made in it.

use super::*;
use crate::sys::path::make_directory;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exchanges two names without pause until told to stop.
fn exchange(stop: &AtomicBool, one: &Path, two: &Path) {
    while !stop.load(Ordering::Relaxed) {
        let _ = renameat2(AT_FDCWD, one, AT_FDCWD, two, RenameFlags::RENAME_EXCHANGE);
    }
}

#[test]
fn an_exchanged_directory_never_leads_out() {
    alone(
        |bundle| {
            let root = bundle.join("rootfs");
            fs::create_dir_all(root.join("volume/dir/deep")).unwrap();
            fs::create_dir_all(bundle.join("canary/deep")).unwrap();
            symlink(bundle.join("canary"), root.join("volume/link")).unwrap();
        },
        |bundle| {
            let volume = bundle.join("rootfs/volume");
            let stop = AtomicBool::new(false);
            let mut made = 0;
            std::thread::scope(|scope| {
                // The racer lives on the host: its names are below the mount that the child puts over the rootfs.
                scope.spawn(|| exchange(&stop, &volume.join("dir"), &volume.join("link")));
                let mut held = Held::default();
                open(&mut held, bundle, None);
                let list = [
                    mount("/volume/dir/deep", "tmpfs", "tmpfs", &["mode=755"]),
                    mount("/volume/dir/new/x", "tmpfs", "t", &[]),
                ];
                let actions = decide(&list, &facts(bundle)).unwrap();
                for _ in 0..500 {
                    for action in &actions {
                        made += action.apply(&mut held).is_ok() as usize;
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
            let (info, canary) = (mountinfo(), bundle.join("canary"));
            assert!(
                !info.lines().any(|l| l.split(' ').nth(4).unwrap().starts_with(canary.to_str().unwrap())),
                "{info}"
            );
            assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "nothing was made outside");
            assert!(made > 100, "only {made} of 1000 came through");
        },
    );
}

#[test]
fn parallel_creators_all_succeed() {
    let dir = tempfile::Builder::new().prefix("corten-fs-").tempdir().unwrap();
    let root = crate::sys::path::open_directory(dir.path()).unwrap();
    for round in 0..50 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let path = PathBuf::from(format!("/r{round}/a/b/c/d"));
                let root = root.as_fd();
                scope.spawn(move || {
                    make_directory(root, &path, Mode::from_bits_truncate(0o755), Links::Follow).unwrap();
                    crate::sys::path::make_file(root, &path.join("file"), Mode::S_IRUSR, Links::Follow).unwrap();
                });
            }
        });
    }
}

#[test]
fn what_is_made_below_a_root() {
    let dir = tempfile::Builder::new().prefix("corten-fs-").tempdir().unwrap();
    let root = crate::sys::path::open_directory(dir.path()).unwrap();
    let made =
        |path: &str, links| make_directory(root.as_fd(), Path::new(path), Mode::from_bits_truncate(0o755), links);
    symlink("loop", dir.path().join("loop")).unwrap();
    symlink("/a/../new/./other", dir.path().join("dangling")).unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    made("/x/../y/z", Links::Follow).unwrap();
    assert!(dir.path().join("y/z").is_dir() && !dir.path().join("x").exists());
    made("/../../w", Links::Follow).unwrap();
    assert!(dir.path().join("w").is_dir());
    made("dangling/end", Links::Follow).unwrap();
    assert!(dir.path().join("new/other/end").is_dir());
    assert_eq!(made("/loop/x", Links::Follow).unwrap_err().errno, nix::errno::Errno::ELOOP);
    let refused = made("/dangling2/x", Links::Refuse);
    assert!(refused.is_ok(), "no link there");
    symlink("/nothing", dir.path().join("dangling3")).unwrap();
    let refused = made("/dangling3/x", Links::Refuse).unwrap_err();
    assert_eq!(refused.because.unwrap(), "/dangling3 in the root file system is a symbolic link");
    let file = made("/file/x", Links::Follow).unwrap_err();
    assert_eq!(file.because.unwrap(), "/file in the root file system is a regular file, not a directory");
    // A file for a bind: through a dangling link, too.
    symlink("deep/er/file", dir.path().join("to-file")).unwrap();
    crate::sys::path::make_file(root.as_fd(), Path::new("/to-file"), Mode::from_bits_truncate(0o600), Links::Follow)
        .unwrap();
    assert!(dir.path().join("deep/er/file").is_file());
}
