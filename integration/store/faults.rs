//! Streams that break off, digests that are wrong, processes that are killed, two pulls at once.

use crate::kit::*;
use crate::overlay::{add, add_from, left_clean};
use corten::error::{Error, Result};
use corten::image::layout::Layout as Opened;
use corten::image::manifest::Platform;
use corten::image::source::Source;
use corten::image::store::{Event, Force, Progress, Silent, Store, Which};
use corten::image::{Limits, digest::Digest, local};
use oci_spec::image::Descriptor;
use std::fs;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What goes wrong with a blob.
#[derive(Clone, Copy)]
enum Fault {
    /// Each stream gives so many bytes and then an error.
    Cut(usize),
    /// The same, but it ends as if that were all.
    Short(usize),
    /// One byte is another.
    Flip,
    /// It goes on after its end.
    Long,
    /// It cannot be opened.
    Closed,
}

/// A layout with a fault.
struct Faulty {
    layout: Opened,
    fault: Fault,
    opened: Mutex<Vec<u64>>,
}

struct Broken(Box<dyn Read + Send>, Fault, usize);

impl Read for Broken {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.1 {
            Fault::Cut(0) => Err(io::ErrorKind::ConnectionReset.into()),
            Fault::Short(0) => Ok(0),
            Fault::Cut(ref mut left) | Fault::Short(ref mut left) => {
                let want = (*left).min(into.len());
                let got = self.0.read(&mut into[..want])?;
                *left -= got;
                Ok(got)
            }
            Fault::Flip => {
                let got = self.0.read(into)?;
                if self.2 == 0 && got > 0 {
                    into[got / 2] ^= 1;
                }
                self.2 += got;
                Ok(got)
            }
            _ => self.0.read(into),
        }
    }
}

impl Source for Faulty {
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
        let stream = self.layout.open(blob, from)?;
        // Documents have a media type of their own; only layers are troubled.
        if blob.media_type().to_string().contains("config") || blob.media_type().to_string().contains("manifest") {
            return Ok(stream);
        }
        self.opened.lock().unwrap().push(from);
        match self.fault {
            Fault::Closed => Err(Error::new("the door is closed")),
            Fault::Long => Ok(Box::new(stream.chain(io::repeat(0)))),
            fault => Ok(Box::new(Broken(stream, fault, 0))),
        }
    }
}

/// Bytes that do not compress well.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn image(place: &Place) -> Faulty {
    let big = |n: u8| {
        Tar::new().entry("./", Head { kind: b'5', mode: 0o755, ..Head::default() }, b"").dir("d").entry(
            &format!("d/{n}"),
            Head::default(),
            &noise(300_000 + n as usize),
        )
    };
    place.unpack_with(&[big(1), big(2), big(3)], "{}", &Limits::default()).unwrap();
    Faulty { layout: Opened::open(&place.path("layout")).unwrap(), fault: Fault::Flip, opened: Mutex::default() }
}

fn pull(faulty: &Faulty, store: &Store) -> Result<corten::image::store::Stored> {
    faulty.opened.lock().unwrap().clear();
    let top = faulty.layout.entries()?.remove(0);
    add_from(faulty, &top, store)
}

#[test]
fn what_breaks_off_is_taken_up_again() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut faulty = image(&place);
    for fault in [Fault::Cut(100_000), Fault::Short(100_000), Fault::Cut(70_001)] {
        let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
        let store = Store::open(&at.path().join("store")).unwrap();
        faulty.fault = fault;
        let stored = pull(&faulty, &store).unwrap();
        assert_eq!(mounted(store.layers(&stored).unwrap()), Picture::of(&place.rootfs(), Detail::Archived));
        assert!(faulty.opened.lock().unwrap().iter().any(|from| *from == 100_000 || *from == 70_001));
        left_clean(&store);
    }
}

#[test]
fn what_came_is_kept_for_the_next_pull() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut faulty = image(&place);
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    // A source that gives a little and then nothing any more.
    struct Once<'a>(&'a Faulty, AtomicUsize);
    impl Source for Once<'_> {
        fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
            if from > 0 {
                return Err(Error::new("the line is dead"));
            }
            self.1.fetch_add(1, Relaxed);
            self.0.open(blob, from)
        }
    }
    faulty.fault = Fault::Cut(200_000);
    let top = faulty.layout.entries().unwrap().remove(0);
    let e = add_from(&Once(&faulty, AtomicUsize::new(0)), &top, &store).unwrap_err();
    assert_says(&e, "layers[");
    assert!(store.find("test").unwrap().is_none() && store.images().unwrap().is_empty(), "no half-visible image");
    left_clean(&store);
    assert_eq!(fs::read_dir(store.path().join("layers")).unwrap().count(), 0);
    faulty.fault = Fault::Cut(usize::MAX);
    let kept: Vec<_> = fs::read_dir(store.path().join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!kept.is_empty());
    // One of the parts is damaged: its layer is fetched anew, and the others go on.
    use std::os::unix::fs::FileExt;
    fs::File::options().write(true).open(&kept[0]).unwrap().write_all_at(b"damaged", 1000).unwrap();
    let stored = pull(&faulty, &store).unwrap();
    assert_eq!(mounted(store.layers(&stored).unwrap()), Picture::of(&place.rootfs(), Detail::Archived));
    let opened = faulty.opened.lock().unwrap();
    assert!(opened.contains(&200_000) && opened.contains(&0), "{opened:?}");
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn attack_10_what_is_not_the_blob() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut faulty = image(&place);
    for (fault, words) in
        [(Fault::Flip, "layers["), (Fault::Closed, "the door is closed"), (Fault::Short(0), "ends after 0 of")]
    {
        let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
        let store = Store::open(&at.path().join("store")).unwrap();
        faulty.fault = fault;
        assert_says(&pull(&faulty, &store).unwrap_err(), words);
        assert!(store.images().unwrap().is_empty());
        left_clean(&store);
        faulty.fault = Fault::Cut(usize::MAX);
        pull(&faulty, &store).unwrap();
    }
    // What is more than was announced is not even read.
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    faulty.fault = Fault::Long;
    pull(&faulty, &Store::open(&at.path().join("store")).unwrap()).unwrap();
}

/// A blob that went bad on the disk is fetched again.
#[test]
fn a_blob_that_went_bad() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let faulty = Faulty { fault: Fault::Cut(usize::MAX), ..image(&place) };
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    let stored = pull(&faulty, &store).unwrap();
    let blob = store.path().join("blobs/sha256").join(&stored.layers[1].blob.digest.hex);
    let mut bytes = fs::read(&blob).unwrap();
    bytes[5000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fs::remove_dir_all(store.path().join("layers").join(&stored.layers[1].chain.hex)).unwrap();
    assert_says(&store.layers(&stored).unwrap_err(), "is not in the store");
    let stored = pull(&faulty, &store).unwrap();
    assert_eq!(mounted(store.layers(&stored).unwrap()), Picture::of(&place.rootfs(), Detail::Archived));
}

/// Ends the process at a certain event, as kill -9 does.
struct Killer(AtomicUsize);

impl Progress for Killer {
    fn tell(&self, _: &Digest, _: Event) {
        if self.0.fetch_sub(1, Relaxed) == 1 {
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
}

/// This test is also the process that is killed: it starts itself with the place in its environment.
#[test]
fn killed_at_any_moment() {
    if !is_root() {
        return;
    }
    if let Ok(told) = std::env::var("CORTEN_TEST_KILLED") {
        let words: Vec<&str> = told.split(' ').collect();
        let layout = Opened::open(words[0].as_ref()).unwrap();
        let store = Store::open(words[1].as_ref()).unwrap();
        let killer = Killer(AtomicUsize::new(words[2].parse().unwrap()));
        let delay = std::time::Duration::from_micros(words[3].parse().unwrap());
        if !delay.is_zero() {
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL).unwrap();
            });
        }
        let top = layout.entries().unwrap().remove(0);
        store.add(&layout, &top, &Platform::here(), Some("docker.io/library/test:latest"), &killer).unwrap();
        return;
    }
    let place = Place::new();
    drop(image(&place));
    let tree = Picture::of(&place.rootfs(), Detail::Archived);
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let layout = place.path("layout");
    let mut killed = 0;
    for n in 0..60 {
        let path = at.path().join(format!("store{}", n / 4));
        let (events, delay) = if n % 2 == 0 { (1 + n / 2, 0) } else { (usize::MAX, n * 700) };
        let told = format!("{} {} {events} {delay}", layout.display(), path.display());
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "faults::killed_at_any_moment"]).env("CORTEN_TEST_KILLED", told);
        let done = child.output().unwrap();
        killed += usize::from(!done.status.success());
        let store = Store::open(&path).unwrap();
        // Whatever is there is whole: an image with all its layers, or none.
        for image in store.images().unwrap() {
            assert_eq!(mounted(store.layers(&image).unwrap()), tree);
        }
        for blob in fs::read_dir(store.path().join("blobs/sha256")).unwrap() {
            let blob = blob.unwrap();
            assert_eq!(
                sha256(&fs::read(blob.path()).unwrap()),
                format!("sha256:{}", blob.file_name().to_str().unwrap())
            );
        }
        if n % 4 == 3 {
            let stored = add(&place, &store).unwrap();
            assert_eq!(mounted(store.layers(&stored).unwrap()), tree);
            assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0, "swept");
        }
    }
    eprintln!("{killed} of 60 killed");
    assert!(killed > 20, "only {killed} of 60 were killed in time");
}

/// Layers of 32 MB that want the largest window, several at once, in a process of their own.
#[test]
fn memory_stays_small() {
    if !is_root() {
        return;
    }
    if let Ok(told) = std::env::var("CORTEN_TEST_MEMORY") {
        let (place, store) = told.split_once(' ').unwrap();
        let store = Store::open(store.as_ref()).unwrap();
        local::add(&store, place, &Platform::here(), &Silent).unwrap();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        println!("peak {} kB", peak.trim().trim_end_matches(" kB"));
        return;
    }
    let place = Place::new();
    let mut layout = Layout::new(&place.path("layout"));
    for n in 0..4u8 {
        let big = [noise(6 << 20), vec![n; 10 << 20]].concat();
        let archive = (0..2).fold(Tar::new(), |tar, k| tar.entry(&format!("{n}/{k}"), Head::default(), &big));
        let archive = (0..2000).fold(archive, |tar, k| tar.file(&format!("{n}/many/{k}"), "")).end();
        let Some(blob) = zstd(&archive, &["-1", "--zstd=wlog=23"]) else { return };
        layout.layer("application/vnd.oci.image.layer.v1.tar+zstd", &blob, &sha256(&archive));
    }
    layout.finish("{}");
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "faults::memory_stays_small", "--nocapture"]);
    child.env("CORTEN_TEST_MEMORY", format!("{} {}", place.reference(), at.path().join("store").display()));
    let done = child.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let peak = said.lines().find_map(|line| line.strip_prefix("peak ")?.strip_suffix(" kB")?.parse::<u64>().ok());
    let peak = peak.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&done.stderr)));
    eprintln!("peak {peak} kB");
    assert!(peak < 64 << 10, "{peak} kB");
}

/// Counts how often layers are opened.
struct Counting(Opened, AtomicUsize);

impl Source for Counting {
    fn open(&self, blob: &Descriptor, from: u64) -> Result<Box<dyn Read + Send>> {
        if blob.size() > 100_000 {
            self.1.fetch_add(1, Relaxed);
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
        self.0.open(blob, from)
    }
}

#[test]
fn eight_pulls_at_once_fetch_each_layer_once() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let faulty = image(&place);
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let counting = Counting(faulty.layout, AtomicUsize::new(0));
    let top = counting.0.entries().unwrap().remove(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (at, counting, top) = (&at, &counting, &top);
            scope.spawn(move || {
                let store = Store::open(&at.path().join("store")).unwrap();
                let name = format!("docker.io/library/test:{n}");
                store.add(counting, top, &Platform::here(), Some(&name), &Silent).unwrap();
            });
        }
    });
    assert_eq!(counting.1.load(Relaxed), 3);
    let store = Store::open(&at.path().join("store")).unwrap();
    assert_eq!((store.images().unwrap().len(), store.images().unwrap()[0].names.len()), (1, 8), "no name is lost");
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_is_named_or_used_stays() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    let base = Tar::new().dir("./").dir("d").file("d/base", "1");
    let count = |name: &str| fs::read_dir(store.path().join(name)).unwrap().count();
    place.accepts(&[base.clone(), Tar::new().file("d/one", "1")]);
    let one = add(&place, &store).unwrap();
    store.tag(&one, "docker.io/library/one:latest").unwrap();
    place.accepts(&[base, Tar::new().file("d/two", "2")]);
    let two = add(&place, &store).unwrap();
    // `test` is the second image's now; both share the lowest layer.
    assert_eq!(store.find("test").unwrap().unwrap().id, two.id);
    assert_eq!((store.images().unwrap().len(), count("layers"), count("blobs/sha256")), (2, 3, 7));
    assert_eq!((one.history_lines(&store), two.history_lines(&store)), (2, 2));

    let container = store.path().join("containers/web");
    fs::create_dir(&container).unwrap();
    fs::write(container.join("image"), format!("{}\n", one.id)).unwrap();
    let e = store.remove("one", Force::No).unwrap_err();
    assert_says(&e, "is in use by web");
    let removed = store.remove("one", Force::Yes).unwrap();
    assert_eq!(
        (removed.untagged, removed.deleted.len(), removed.freed),
        (vec!["docker.io/library/one:latest".into()], 0, 0)
    );
    assert!(store.find("one").unwrap().is_none());
    assert_eq!(store.find(&one.id.hex[..12]).unwrap().unwrap().names.len(), 0);
    assert!(store.prune(Which::Nameless).unwrap().deleted.is_empty(), "it is in use");
    fs::remove_dir_all(&container).unwrap();
    // Somebody is about to use an image.
    let held = store.hold().unwrap();
    assert_says(&store.prune(Which::Nameless).unwrap_err(), "is in use by a pull");
    drop(held);
    let removed = store.prune(Which::Nameless).unwrap();
    assert_eq!(removed.deleted, [one.id.to_string()]);
    assert!(removed.freed > 0);
    assert_eq!((count("layers"), count("blobs/sha256")), (2, 4));
    assert_eq!(mounted(store.layers(&two).unwrap()), Picture::of(&place.rootfs(), Detail::Archived));

    store.tag(&two, "docker.io/library/other:1").unwrap();
    assert_says(&store.remove(&two.id.hex[..8], Force::No).unwrap_err(), "has 2 names");
    let removed = store.remove("other:1", Force::No).unwrap();
    assert_eq!((removed.untagged.len(), removed.deleted.len()), (1, 0));
    assert_eq!(store.remove("test", Force::No).unwrap().deleted, [two.id.to_string()]);
    assert_eq!((count("layers"), count("blobs/sha256"), count("tmp")), (0, 0, 0));
    assert_says(&store.remove("test", Force::No).unwrap_err(), "there is no image \"test\"");
}

trait Lines {
    fn history_lines(&self, store: &Store) -> usize;
}

impl Lines for corten::image::store::Stored {
    fn history_lines(&self, store: &Store) -> usize {
        store.history(self).len()
    }
}
