//! What a power failure leaves: images with a name are whole, and what else was written is not trusted.

use crate::kit::*;
use crate::overlay::add;
use corten::image::store::Store;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

const EMPTY: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

fn tree() -> Tar {
    Tar::new().dir("./").dir("d").file("d/kept", "what it was")
}

/// A store in which a pull was killed before its image got a name, and a file that has lost what was in it.
fn broken_off(place: &Place, store: &Store) -> std::path::PathBuf {
    place.accepts(&[tree()]);
    let stored = add(place, store).unwrap();
    fs::write(store.path().join("index.json"), EMPTY).unwrap();
    let layer = store.path().join("layers").join(&stored.layers[0].chain.hex);
    fs::write(layer.join("diff/d/kept"), "").unwrap();
    layer
}

fn marked(store: &Store, boot: &str) {
    fs::write(store.path().join(format!("tmp/unsynced-{boot}-0123456789abcdef")), "").unwrap();
}

#[test]
fn what_a_pull_left_is_not_trusted_after_a_power_failure() {
    if !is_root() {
        return;
    }
    let (place, at) = (Place::new(), tempfile::Builder::new().prefix("image-store-").tempdir().unwrap());
    let store = Store::open(&at.path().join("store")).unwrap();
    let other = Place::new();
    broken_off(&place, &store);
    // An image with a name stays, whatever else goes.
    other.accepts(&[Tar::new().dir("./").dir("e").file("e/other", "2")]);
    let named = add(&other, &store).unwrap();
    store.tag(&named, "docker.io/library/named:latest").unwrap();
    let lower = store.path().join("layers").join(&named.layers[0].chain.hex);
    let inode = fs::metadata(&lower).unwrap().ino();
    marked(&store, "00000000-0000-0000-0000-000000000000");
    let stored = add(&place, &store).unwrap();
    assert_eq!(mounted(store.layers(&stored).unwrap()), Picture::of(&place.rootfs(), Detail::Archived));
    assert_eq!(fs::metadata(&lower).unwrap().ino(), inode);
    assert_eq!(mounted(store.layers(&named).unwrap()), Picture::of(&other.rootfs(), Detail::Archived));
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0, "the mark is gone");
}

/// The same in one boot: what was killed has written it, and the kernel has it.
#[test]
fn what_a_killed_pull_left_is_taken() {
    if !is_root() {
        return;
    }
    let (place, at) = (Place::new(), tempfile::Builder::new().prefix("image-store-").tempdir().unwrap());
    let store = Store::open(&at.path().join("store")).unwrap();
    let layer = broken_off(&place, &store);
    let inode = fs::metadata(&layer).unwrap().ino();
    marked(&store, fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    add(&place, &store).unwrap();
    assert_eq!(fs::metadata(&layer).unwrap().ino(), inode);
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0, "the mark is gone");
}

/// The calls in their order: the mark is on the disk first, and everything is before the image has a name. This test is also the process that is traced.
#[test]
fn synced_before_the_image_has_a_name() {
    if !is_root() {
        return;
    }
    if let Ok(told) = std::env::var("CORTEN_TEST_SYNCED") {
        let (reference, path) = told.split_once(' ').unwrap();
        let store = Store::open(path.as_ref()).unwrap();
        corten::image::local::add(
            &store,
            reference,
            &corten::image::manifest::Platform::here(),
            &corten::image::store::Silent,
        )
        .unwrap();
        return;
    }
    if Command::new("strace").arg("--version").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let (place, at) = (Place::new(), tempfile::Builder::new().prefix("image-store-").tempdir().unwrap());
    place.accepts(&[tree(), Tar::new().file("d/second", "2")]);
    let (path, trace) = (at.path().join("store"), at.path().join("trace"));
    drop(Store::open(&path).unwrap());
    let done = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-e",
            "trace=openat,open,write,pwrite64,rename,renameat,renameat2,fsync,syncfs,unlink,unlinkat",
            "-o",
        ])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk::synced_before_the_image_has_a_name"])
        .env("CORTEN_TEST_SYNCED", format!("{} {}", place.reference(), path.display()))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let calls = fs::read_to_string(&trace).unwrap();
    let store = path.display().to_string();
    let all = |words: &[&str]| -> Vec<usize> {
        let has = |line: &str| words.iter().all(|word| line.contains(word)) && !line.ends_with("resumed>)");
        calls.lines().enumerate().filter(|(_, line)| has(line)).map(|(n, _)| n).collect()
    };
    let only = |words: &[&str]| match all(words)[..] {
        [one] => one,
        ref found => panic!("{words:?}: {} times in\n{calls}", found.len()),
    };
    let (mark, marked) = (only(&["unsynced-", "O_CREAT"]), only(&["fsync(", &format!("{store}/tmp")]));
    let layers = all(&["rename", &format!("{store}/layers/")]);
    let blobs = all(&["rename", &format!("{store}/blobs/")]);
    let files = all(&["write(", &format!("{store}/tmp/layer-")]);
    let (synced, named) = (only(&["syncfs(", &store]), only(&["rename", &format!("{store}/index.json\"")]));
    let gone = only(&["unlink", "unsynced-"]);
    assert_eq!((layers.len(), blobs.len()), (2, 4), "{calls}");
    assert!(!files.is_empty(), "{calls}");
    let written = [layers, blobs, files].concat();
    let (first, last) = (*written.iter().min().unwrap(), *written.iter().max().unwrap());
    assert!(mark < marked && marked < first && last < synced && synced < gone && synced < named, "{calls}");
}
