//! Decisions anywhere; mounting as root, each test in a thread with a mount namespace of its own, with which its mounts go.

use super::*;
use nix::mount::mount;
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

const NEW: (u32, u32) = (6, 13);
const OLD: (u32, u32) = (6, 1);

/// A store with so many layers, each with a file of its own name and one that all of them have, and the directories of one container.
fn store(layers: usize) -> (tempfile::TempDir, Overlay, PathBuf) {
    let home = tempfile::Builder::new().prefix("corten-overlay-").tempdir().unwrap();
    let store = home.path().join("store");
    let make = |name: &str| {
        let path = store.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let layer = |n: usize| {
        let path = make(&format!("layers/{n:064x}"));
        fs::write(path.join(format!("file{n}")), "").unwrap();
        fs::write(path.join("top"), n.to_string()).unwrap();
        path
    };
    let lower = (1..=layers).map(layer).collect();
    let [upper, work, place] = ["upper", "work", "rootfs"].map(|name| make(&format!("containers/web/{name}")));
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    (home, Overlay { store, lower, upper, work, after: After::Removed }, place)
}

fn mounted(asked: &Overlay, place: &Path, kernel: (u32, u32)) -> Result<Held> {
    let mut held = Held::default();
    decide(asked, place, None, kernel).unwrap().apply(&mut held).map(|()| held)
}

/// In a mount namespace that tells the host nothing. `false`: not as root, and nothing was done.
fn inside(body: impl FnOnce() + Send) -> bool {
    if !crate::sys::alone::is_root() {
        return false;
    }
    let body = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        body();
    };
    if let Err(panic) = std::thread::scope(|scope| scope.spawn(body).join()) {
        std::panic::resume_unwind(panic);
    }
    true
}

/// Both, where the kernel has both.
fn ways() -> Vec<(u32, u32)> {
    let kernel = crate::input::host::Host::read().kernel;
    if kernel >= NEW { vec![NEW, OLD] } else { vec![OLD] }
}

fn mountinfo(place: &Path) -> String {
    let info = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    info.lines().find(|line| line.split(' ').nth(4) == place.to_str()).unwrap_or_default().to_owned()
}

#[test]
fn all_faults_at_once() {
    let asked = Overlay {
        store: "/store".into(),
        lower: vec!["/store/a".into(), "/elsewhere/b".into(), "/store/../c".into()],
        upper: "/store".into(),
        work: "/store/w".into(),
        after: After::Kept,
    };
    let faults = decide(&asked, Path::new("/store/root"), None, NEW).unwrap_err();
    let causes: Vec<String> = faults.iter().map(|fault| fault.cause.clone()).collect();
    assert_eq!(
        causes,
        [
            "the layer /store/../c is not in the store /store",
            "the layer /elsewhere/b is not in the store /store",
            "the directory for what is written, /store is not in the store /store"
        ]
    );
    for (layers, words) in [(0, "has no layer"), (129, "has 129 layers, and at most 128")] {
        let asked = Overlay { lower: vec!["/store/a".into(); layers], upper: "/store/u".into(), ..asked.clone() };
        let faults = decide(&asked, Path::new("/store/root"), None, NEW).unwrap_err();
        assert!(faults.len() == 1 && faults[0].cause.contains(words), "{faults:?}");
    }
}

#[test]
fn the_names_of_128_layers_fit_into_a_page() {
    // 1024 is the usual limit of descriptors.
    let names = vec!["/proc/self/fd/1023"; MOST_LAYERS + 2].join(":").len();
    let label = "system_u:object_r:container_file_t:s0:c1022,c1023";
    let asked = Overlay {
        store: "/store".into(),
        lower: vec!["/store/a".into(); MOST_LAYERS],
        upper: "/store/u".into(),
        work: "/store/w".into(),
        after: After::Removed,
    };
    let action = decide(&asked, Path::new("/store/root"), Some(label), OLD).unwrap();
    let options: usize = action.options().iter().map(|option| word(option).len() + 1).sum();
    assert!("lowerdir=upperdir=,workdir=,".len() + names + options < 4096);
}

#[test]
fn layers_lie_one_over_the_other() {
    for kernel in ways() {
        for layers in [1, 2, 40, MOST_LAYERS] {
            let (home, asked, place) = store(layers);
            let done = inside(|| {
                let held = mounted(&asked, &place, kernel).unwrap_or_else(|f| panic!("{layers}: {f} {:?}", f.because));
                assert_eq!(fs::read_to_string(place.join("top")).unwrap(), layers.to_string(), "the uppermost wins");
                for n in [1, layers] {
                    assert!(place.join(format!("file{n}")).exists(), "layer {n} of {layers}");
                }
                let info = mountinfo(&place);
                for word in ["- overlay ", "index=on", "redirect_dir=nofollow", "volatile"] {
                    assert!(info.contains(word), "{word}: {info}");
                }
                // What is held is the overlay, not what it lies over.
                let own = fstat(held.root.as_ref().unwrap()).unwrap();
                assert_eq!((own.st_dev, own.st_ino), fs::metadata(&place).map(|m| (m.dev(), m.ino())).unwrap());
                fs::write(place.join("new"), "").unwrap();
                fs::remove_file(place.join("top")).unwrap();
                fs::write(place.join("file1"), "changed").unwrap();
            });
            if !done {
                return;
            }
            // The host has seen no mount, and finds what was written above; the layers are as they were.
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
            assert!(asked.upper.join("new").exists());
            let hidden = fs::symlink_metadata(asked.upper.join("top")).unwrap();
            assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
            assert_eq!(fs::read_to_string(asked.lower[0].join("file1")).unwrap(), "");
            assert!(asked.lower[layers - 1].join("top").exists());
            drop(home);
        }
    }
}

#[test]
fn no_two_containers_write_into_one_directory() {
    for kernel in ways() {
        let (_home, asked, place) = store(2);
        let asked = Overlay { after: After::Kept, ..asked };
        let other = place.with_file_name("other");
        fs::create_dir(&other).unwrap();
        let work = place.with_file_name("otherwork");
        fs::create_dir(&work).unwrap();
        inside(|| {
            let first = mounted(&asked, &place, kernel).unwrap();
            let again = Overlay { work: work.clone(), ..asked.clone() };
            let refused = mounted(&again, &other, kernel).unwrap_err();
            assert_eq!(refused.errno, Errno::EBUSY, "{refused}");
            assert!(refused.because.unwrap().contains("containers/web/upper"));
            drop(first);
            // Layers are for all: another container may have the same, and even this one's again when the first is gone.
            nix::mount::umount2(&place, nix::mount::MntFlags::empty()).unwrap();
            mounted(&asked, &place, kernel).unwrap();
        });
    }
}

#[test]
fn who_shares_layers_does_not_share_what_is_written() {
    let (_home, asked, place) = store(3);
    let [upper, work, other] = ["upper", "work", "rootfs"].map(|name| {
        let path = asked.store.join("containers/db").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    });
    let second = Overlay { upper, work, ..asked.clone() };
    inside(|| {
        for (asked, place) in [(&asked, &place), (&second, &other)] {
            mounted(asked, place, ways()[0]).unwrap();
        }
        fs::write(place.join("top"), "web").unwrap();
        assert_eq!(fs::read_to_string(other.join("top")).unwrap(), "3");
    });
}

#[test]
fn a_link_in_the_store_leads_nowhere() {
    for kernel in ways() {
        let (home, asked, place) = store(2);
        let elsewhere = home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::remove_dir_all(&asked.lower[1]).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &asked.lower[1]).unwrap();
        inside(|| {
            let refused = mounted(&asked, &place, kernel).unwrap_err();
            assert_eq!(refused.errno, Errno::ELOOP, "{refused}");
            assert_eq!(mountinfo(&place), "");
        });
        fs::remove_file(&asked.lower[1]).unwrap();
        inside(|| assert_eq!(mounted(&asked, &place, kernel).unwrap_err().errno, Errno::ENOENT));
    }
}

#[test]
fn a_store_that_others_may_change_is_refused() {
    let (_home, asked, place) = store(1);
    for (mode, words) in [(0o770, "others than its owner"), (0o702, "others than its owner")] {
        fs::set_permissions(&asked.store, fs::Permissions::from_mode(mode)).unwrap();
        inside(|| {
            let refused = mounted(&asked, &place, ways()[0]).unwrap_err();
            assert!(refused.because.as_ref().is_some_and(|because| because.contains(words)), "{refused:?}");
        });
    }
    fs::set_permissions(&asked.store, fs::Permissions::from_mode(0o700)).unwrap();
    inside(|| {
        std::os::unix::fs::chown(&asked.store, Some(4711), None).unwrap();
        let refused = mounted(&asked, &place, ways()[0]).unwrap_err();
        assert!(refused.because.as_ref().is_some_and(|because| because.contains("user 4711")), "{refused:?}");
    });
}

#[test]
fn what_the_kernel_refuses_is_told() {
    for kernel in ways() {
        let (_home, asked, place) = store(1);
        // The working directory must not lie in the upper one.
        let asked = Overlay { work: asked.upper.join("work"), ..asked };
        fs::create_dir(&asked.work).unwrap();
        inside(|| {
            let refused = mounted(&asked, &place, kernel).unwrap_err();
            assert_eq!(refused.errno, Errno::EINVAL, "{refused}");
        });
        // A store on an overlay: the kernel says no more than EINVAL.
        let (_home, asked, place) = store(2);
        inside(|| {
            mounted(&asked, &place, kernel).unwrap();
            let below = |name: &str| {
                fs::create_dir_all(place.join(name)).unwrap();
                place.join(name)
            };
            let [upper, work, root] = ["web/upper", "web/work", "web/root"].map(below);
            let inner = Overlay { store: place.clone(), lower: vec![below("layer")], upper, work, after: After::Kept };
            let refused = mounted(&inner, &root, kernel).unwrap_err();
            assert_eq!(refused.errno, Errno::EINVAL, "{refused}");
            assert!(refused.because.unwrap().contains("is an overlay itself"));
        });
    }
}
