//! On a real disk and in memory; as root where the ground is asked for.

use super::*;
use crate::sys::alone::{self, is_root};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// A store with one layer.
struct Store {
    home: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

fn store_in(place: &Path) -> Store {
    let home = tempfile::Builder::new().prefix("corten-store-").tempdir_in(place).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let layer = home.path().join("layers/one");
    fs::create_dir_all(&layer).unwrap();
    fs::write(layer.join("file"), "of the image").unwrap();
    fs::set_permissions(&layer, fs::Permissions::from_mode(0o751)).unwrap();
    Store { home, layers: vec![layer] }
}

fn store() -> Store {
    store_in(&std::env::temp_dir())
}

fn record(name: &str, removal: Removal) -> Record {
    Record {
        format: record::FORMAT,
        name: name.into(),
        image: "debian:12".into(),
        command: vec!["sh".into()],
        created: "2026-01-02T03:04:05Z".into(),
        labels: Default::default(),
        stop_signal: None,
        stop_timeout: None,
        removal,
        root: "/run/corten".into(),
        ended: None,
    }
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl Store {
    fn containers(&self) -> Containers {
        Containers::open(self.home.path()).unwrap()
    }

    fn make(&self, name: &str, removal: Removal) -> Result<Container> {
        let (id, record) = (fresh_id().unwrap(), record(name, removal));
        let making = Making { id: &id, record: &record, image: DIGEST, layers: &self.layers, ground: &Ground::Overlay };
        self.containers().make(&making)
    }

    fn names(&self) -> Vec<String> {
        names_in(self.containers().names.as_fd()).unwrap()
    }

    fn marks(&self) -> usize {
        names_in(self.containers().at_end.as_fd()).unwrap().len()
    }
}

fn dead(_: &str, _: Option<&Record>) -> bool {
    false
}

fn living(_: &str, _: Option<&Record>) -> bool {
    true
}

#[test]
fn a_whole_life() {
    let store = store();
    let made = store.make("web", Removal::Kept).unwrap();
    assert_eq!(fs::metadata(made.path()).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(made.path().join("upper")).unwrap().mode() & 0o7777, 0o751, "as the uppermost layer");
    for name in ["rootfs", "work", "image", "record.json"] {
        assert!(made.path().join(name).exists(), "{name}");
    }
    made.write("hosts", b"127.0.0.1 localhost\n", Mode::from_bits_truncate(0o644)).unwrap();
    let containers = store.containers();
    for word in ["web", &made.id, &made.id[..12], &made.id[..4]] {
        let found = containers.find(word).unwrap().unwrap_or_else(|| panic!("{word}"));
        assert_eq!((&found.id, found.image().unwrap().as_str()), (&made.id, DIGEST));
        assert_eq!(found.record().unwrap(), record("web", Removal::Kept));
    }
    for word in ["we", "webs", &made.id[..3], "", "../web", "~new", &made.id.to_uppercase()] {
        assert!(containers.find(word).unwrap().is_none(), "{word}");
    }
    let ended = record::Ended { at: "2026-01-02T03:05:05Z".into(), code: 137 };
    made.save(&Record { ended: Some(ended.clone()), ..record("web", Removal::Kept) }).unwrap();
    assert_eq!(containers.all().unwrap()[0].record().unwrap().ended, Some(ended));
    assert!(containers.remove(&made).unwrap());
    assert!(!containers.remove(&made).unwrap(), "once is enough");
    assert_eq!((containers.entries().unwrap().len(), store.names().len()), (0, 0));
}

#[test]
fn a_name_is_one_containers() {
    let store = store();
    let first = store.make("web", Removal::Kept).unwrap();
    let refused = store.make("web", Removal::Kept).unwrap_err();
    assert!(refused.cause.contains("is taken by container"), "{refused}");
    for name in ["", "a", "-web", "we b", "../web", "we/b", &"n".repeat(256)] {
        assert!(store.make(name, Removal::Kept).unwrap_err().cause.contains("no name"), "{name}");
    }
    assert_eq!(store.containers().entries().unwrap(), vec![first.id.clone()], "nothing half-made");
    // The name of what is gone is free, and a removed one takes no other's name with it.
    assert!(store.containers().remove(&first).unwrap());
    let second = store.make("web", Removal::Kept).unwrap();
    assert_eq!(store.containers().find("web").unwrap().unwrap().id, second.id);
    // Many at once: one gets it.
    let won: usize = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8).map(|_| scope.spawn(|| store.make("db", Removal::Kept).is_ok())).collect();
        racers.into_iter().map(|racer| usize::from(racer.join().unwrap())).sum()
    });
    assert_eq!(won, 1);
    assert_eq!(store.names(), ["db", "web"]);
}

#[test]
fn an_exact_match_wins() {
    let store = store();
    let first = store.make("web", Removal::Kept).unwrap();
    // A name that is the beginning of another's id.
    let prefix = &first.id[..6];
    let second = store.make(prefix, Removal::Kept).unwrap();
    assert_eq!(store.containers().find(prefix).unwrap().unwrap().id, second.id);
    // Two ids that begin alike.
    let alike = format!("{}{}", &first.id[..10], "0".repeat(54));
    let record = record("third", Removal::Kept);
    let making = Making { id: &alike, record: &record, image: DIGEST, layers: &store.layers, ground: &Ground::Overlay };
    store.containers().make(&making).unwrap();
    let refused = store.containers().find(&first.id[..8]).unwrap_err();
    assert!(refused.cause.contains("several ids") && refused.cause.contains(&first.id), "{refused}");
    assert_eq!(store.containers().find(&first.id).unwrap().unwrap().id, first.id);
}

/// What comes of sweeping until something comes of it: a test beside this one may just be starting a program, which holds a copy of each lock
/// until it executes it.
fn swept(containers: &Containers) -> usize {
    let once = |_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        containers.sweep(&dead).unwrap()
    };
    (0..400).map(once).find(|count| *count > 0).unwrap_or(0)
}

#[test]
fn the_sweep_takes_what_nobody_is_at() {
    let store = store();
    let containers = store.containers();
    // Held, alive, to be kept: all stay.
    let held = store.make("held", Removal::AtEnd).unwrap();
    drop(store.make("kept", Removal::Kept).unwrap());
    assert_eq!(containers.sweep(&dead).unwrap(), 0);
    drop(held);
    assert_eq!(containers.sweep(&living).unwrap(), 0);
    assert_eq!(swept(&containers), 1);
    assert_eq!(store.names(), ["kept"]);
    // Half-made and half-removed ones; not one that somebody still makes.
    let path = store.home.path().join("containers");
    fs::create_dir_all(path.join("~new-1/upper/deep")).unwrap();
    fs::create_dir_all(path.join("~gone-2/upper")).unwrap();
    fs::create_dir(path.join("~new-3")).unwrap();
    let maker = containers.open_entry("~new-3").unwrap().unwrap().locked().unwrap().unwrap();
    std::os::unix::fs::symlink("4".repeat(64), store.home.path().join("names/nobody")).unwrap();
    assert_eq!(swept(&containers), 2);
    assert_eq!(containers.entries().unwrap().len(), 2);
    assert_eq!(store.names(), ["kept"]);
    drop(maker);
    assert_eq!(swept(&containers), 1);
    // After a crash of the host what was to be removed may have an empty record.
    let lost = store.make("lost", Removal::AtEnd).unwrap();
    fs::write(lost.path().join(RECORD), "").unwrap();
    drop(lost);
    assert_eq!(containers.sweep(&living).unwrap(), 0);
    assert_eq!(swept(&containers), 1);
    assert_eq!((store.names(), store.marks()), (vec!["kept".to_owned()], 0));
}

#[test]
fn two_remove_one() {
    let store = store();
    for round in 0..20 {
        let made = store.make(&format!("web{round}"), Removal::AtEnd).unwrap();
        (0..200).for_each(|n| fs::write(made.path().join(format!("upper/{n}")), "").unwrap());
        let id = made.id.clone();
        drop(made);
        let removers = std::thread::scope(|scope| {
            let remove = || match store.containers().find(&id).unwrap() {
                Some(found) => usize::from(store.containers().remove(&found).unwrap()),
                None => 0,
            };
            let sweep = || store.containers().sweep(&dead).unwrap();
            let all = [scope.spawn(remove), scope.spawn(remove)].map(|one| one.join().unwrap());
            sweep();
            all.iter().sum::<usize>()
        });
        assert_eq!(removers, 1);
        assert_eq!((store.containers().entries().unwrap().len(), store.names().len()), (0, 0));
    }
}

const VICTIM: &str = "CORTEN_TEST_VICTIM";

/// Makes and removes containers until it is killed.
#[test]
fn victim() {
    let Some(place) = std::env::var_os(VICTIM) else { return };
    let containers = Containers::open(Path::new(&place)).unwrap();
    let layers = vec![Path::new(&place).join("layers/one")];
    for round in 0.. {
        let (id, record) = (fresh_id().unwrap(), record(&format!("web{}", round % 3), Removal::AtEnd));
        let making = Making { id: &id, record: &record, image: DIGEST, layers: &layers, ground: &Ground::Overlay };
        let made = containers.make(&making).unwrap();
        (0..20).for_each(|n| fs::write(made.path().join(format!("upper/{n}")), "").unwrap());
        assert!(containers.remove(&made).unwrap());
    }
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_that_is_not_swept() {
    let store = store();
    let mut swept = 0;
    for round in 0..40_u64 {
        let mut victim = alone::command("image::container::tests::victim");
        victim.env(VICTIM, store.home.path()).stdout(std::process::Stdio::null());
        let mut victim = victim.spawn().unwrap();
        // It has begun when something is there; then it is killed a little later each time.
        while victim.try_wait().unwrap().is_none() && store.containers().entries().unwrap().is_empty() {}
        std::thread::sleep(std::time::Duration::from_micros(round * 97));
        victim.kill().unwrap();
        victim.wait().unwrap();
        for found in store.containers().all().unwrap() {
            assert_eq!(found.record().unwrap().image, "debian:12", "what is seen is whole");
            assert!(found.path().join("upper").exists());
        }
        swept += store.containers().sweep(&dead).unwrap();
        assert_eq!((store.containers().entries().unwrap(), store.names()), (vec![], vec![]), "round {round}");
        assert_eq!(store.marks(), 0, "round {round}");
    }
    assert!(swept > 10, "{swept} of 40 left something");
}

#[test]
fn a_store_that_is_not_ours_alone_is_refused() {
    let store = store();
    fs::set_permissions(store.home.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let refused = Containers::open(store.home.path()).unwrap_err();
    assert!(refused.cause.contains("not its user's alone"), "{refused}");
}

#[test]
fn the_ground_is_tried_once_per_boot() {
    if !is_root() {
        return;
    }
    for place in ["/tmp", "/dev/shm"] {
        let store = store_in(Path::new(place));
        let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(store.containers().ground("boot").unwrap(), Ground::Overlay, "{place}");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), info, "nothing was attached");
        assert_eq!(store.containers().entries().unwrap(), Vec::<String>::new());
        let noted = store.home.path().join("ground");
        let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(store.home.path()).unwrap());
        assert_eq!(fs::read_to_string(&noted).unwrap(), format!("boot {device:x}\noverlay\n"));
        fs::write(&noted, format!("boot {device:x}\ncopy as it was noted\n")).unwrap();
        assert_eq!(store.containers().ground("boot").unwrap(), Ground::Copy { because: "as it was noted".into() });
        assert_eq!(store.containers().ground("next").unwrap(), Ground::Overlay);
        // Brought here from another file system.
        fs::write(&noted, format!("next {:x}\ncopy elsewhere\n", device + 1)).unwrap();
        assert_eq!(store.containers().ground("next").unwrap(), Ground::Overlay);
    }
}

#[test]
fn on_an_overlay_the_layers_are_copied() {
    if !is_root() {
        return;
    }
    let below = store();
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let place = |name: &str| {
            fs::create_dir_all(below.home.path().join(name)).unwrap();
            below.home.path().join(name)
        };
        let (lower, upper, work, root) = (place("l"), place("u"), place("w"), place("r"));
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
        let store = store_in(&root);
        let ground = store.containers().ground("boot").unwrap();
        let Ground::Copy { because } = &ground else { panic!("{ground:?}") };
        assert!(because.contains('('), "the call that failed: {because}");
        assert_eq!(store.containers().entries().unwrap(), Vec::<String>::new());
        let (id, record) = (fresh_id().unwrap(), record("web", Removal::Kept));
        let making = Making { id: &id, record: &record, image: DIGEST, layers: &store.layers, ground: &ground };
        let made = store.containers().make(&making).unwrap();
        assert_eq!(fs::read_to_string(made.path().join("rootfs/file")).unwrap(), "of the image");
        assert_eq!(fs::metadata(made.path().join("rootfs")).unwrap().mode() & 0o7777, 0o751);
        assert!(!made.path().join("upper").exists());
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).unwrap();
}
