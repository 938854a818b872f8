//! Archives: ours read by others, theirs by us.

use crate::kit::*;
use crate::overlay::add;
use corten::image::manifest::Platform;
use corten::image::save::{Form, save};
use corten::image::store::{Silent, Store, Stored};
use corten::image::{Limits, local};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

struct Two {
    place: Place,
    at: tempfile::TempDir,
}

/// A store with one image of two layers, and a place for another.
fn stored() -> (Two, Store, Stored) {
    let place = Place::new();
    let layers = [
        Tar::new().dir("./").dir("d").file("d/a", &"1".repeat(10_000)).file("top", "1"),
        Tar::new().file("d/b", "2").file(".wh.top", ""),
    ];
    place.unpack_with(&layers, r#"{"Cmd":["/a"]}"#, &Limits::default()).unwrap();
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    let image = add(&place, &store).unwrap();
    (Two { place, at }, store, image)
}

fn other(two: &Two, name: &str) -> Store {
    Store::open(&two.at.path().join(name)).unwrap()
}

fn run(program: &str, args: &[&str]) -> bool {
    match Command::new(program).args(args).output() {
        Ok(done) => {
            assert!(done.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&done.stderr));
            true
        }
        Err(e) => {
            eprintln!("skipped: {program}: {e}");
            false
        }
    }
}

fn written(two: &Two, store: &Store, image: &Stored, form: Form) -> std::path::PathBuf {
    let path = two.at.path().join(format!("{form:?}.tar"));
    save(store, &[(image, image.names.clone())], form, &mut File::create(&path).unwrap()).unwrap();
    path
}

#[test]
fn saved_and_loaded_again() {
    if !is_root() {
        return;
    }
    let (two, store, image) = stored();
    let tree = mounted(store.layers(&image).unwrap());
    for form in [Form::Docker, Form::Oci] {
        let path = written(&two, &store, &image, form);
        let into = other(&two, &format!("{form:?}"));
        let loaded = local::load(&into, File::open(&path).unwrap(), &Platform::here(), &Silent).unwrap();
        assert_eq!((loaded.len(), &loaded[0].id, &loaded[0].names), (1, &image.id, &image.names));
        assert_eq!(loaded[0].manifest.digest() == image.manifest.digest(), form == Form::Oci);
        assert_eq!(mounted(into.layers(&loaded[0]).unwrap()), tree);
        // The same through a pipe, and compressed.
        let bytes = fs::read(&path).unwrap();
        for bytes in [gzip(&bytes), bytes] {
            let into = other(&two, &format!("{form:?}{}", bytes.len()));
            let (out, mut input) = std::io::pipe().unwrap();
            let writing = std::thread::spawn(move || input.write_all(&bytes).unwrap());
            let file = File::from(std::os::fd::OwnedFd::from(out));
            let loaded = local::load(&into, file, &Platform::here(), &Silent).unwrap();
            writing.join().unwrap();
            assert_eq!(loaded[0].id, image.id);
        }
        let text = format!("docker-archive:{}:test", path.display());
        let into = other(&two, &format!("{form:?}-path"));
        let added = local::add(&into, &text, &Platform::here(), &Silent).unwrap();
        assert_eq!((added.id, added.names.len()), (image.id.clone(), 0));
        assert_says(&local::add(&into, &(text + "x"), &Platform::here(), &Silent).unwrap_err(), "names: ");
    }
    let text = format!("{}:none", two.place.reference());
    assert_says(&local::add(&store, &text, &Platform::here(), &Silent).unwrap_err(), "no image is tagged");
    assert_eq!(local::add(&store, &two.place.reference(), &Platform::here(), &Silent).unwrap().id, image.id);
}

#[test]
fn skopeo_reads_what_we_write_and_we_what_it_writes() {
    if !is_root() {
        return;
    }
    let (two, store, image) = stored();
    let path = |name: &str| two.at.path().join(name).display().to_string();
    for (form, kind) in [(Form::Docker, "docker-archive"), (Form::Oci, "oci-archive")] {
        let ours = format!("{kind}:{}:{}", written(&two, &store, &image, form).display(), image.names[0]);
        if !run("skopeo", &["--insecure-policy", "copy", &ours, &format!("dir:{}", path(kind))]) {
            return;
        }
        let from = format!("oci:{}:{}", store.path().display(), image.names[0]);
        let theirs = path(&format!("{kind}.tar"));
        run("skopeo", &["--insecure-policy", "copy", &from, &format!("{kind}:{theirs}:docker.io/library/web:1")]);
        let into = other(&two, &format!("from-{kind}"));
        let loaded = local::load(&into, File::open(&theirs).unwrap(), &Platform::here(), &Silent).unwrap();
        assert_eq!((&loaded[0].id, &loaded[0].names[..]), (&image.id, &["docker.io/library/web:1".to_owned()][..]));
        assert_eq!(mounted(into.layers(&loaded[0]).unwrap()), mounted(store.layers(&image).unwrap()));
    }
}

/// zstd is not written here; the tool of that name is asked.
#[test]
fn zstd_in_one_frame_and_in_several() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let archive = Tar::new().dir("d").file("d/a", &"text ".repeat(100_000)).end();
    let Some(whole) = zstd(&archive, &["-19"]) else { return };
    let (half, rest) = archive.split_at(archive.len() / 2 - 7);
    let skipped = [&0x184d_2a53u32.to_le_bytes()[..], &5u32.to_le_bytes(), b"hello"].concat();
    let several =
        [zstd(half, &["-1"]).unwrap(), skipped.clone(), zstd(rest, &["-3", "--check"]).unwrap(), skipped].concat();
    let huge = zstd(&vec![7; 64 << 20], &["--ultra", "-22", "--long=27"]).unwrap();
    for (blob, words) in [
        (whole.clone(), ""),
        (several, ""),
        (huge, "takes 134217728 bytes"),
        (whole[..whole.len() - 9].to_vec(), "cut short"),
    ] {
        let mut layout = Layout::new(&place.path("layout"));
        layout.layer("application/vnd.oci.image.layer.v1.tar+zstd", &blob, &sha256(&archive));
        layout.finish("{}");
        let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
        let added = add(&place, &Store::open(&at.path().join("store")).unwrap());
        match (place.go(&Limits::default()), added) {
            (Ok(_), Ok(_)) if words.is_empty() => assert_eq!(place.read("d/a").len(), 500_000),
            (Err(flat), Err(stored)) => [flat, stored].iter().for_each(|e| assert_says(e, words)),
            (flat, stored) => panic!("{words}: {:?} {:?}", flat.err(), stored.err()),
        }
    }
}

#[test]
fn archives_that_are_none() {
    if !is_root() {
        return;
    }
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    let load = |bytes: &[u8]| {
        let path = at.path().join("archive");
        fs::write(&path, bytes).unwrap();
        local::load(&store, File::open(&path).unwrap(), &Platform::here(), &Silent).unwrap_err()
    };
    assert_says(&load(b"no archive"), "cut short");
    assert_says(&load(&Tar::new().file("x", "1").end()), "neither manifest.json nor index.json");
    let listed = r#"[{"Config":"../../etc/passwd","RepoTags":null,"Layers":[]}]"#;
    assert_says(&load(&Tar::new().file("manifest.json", listed).end()), "is not in the archive");
    let looped = Tar::new().file("manifest.json", listed).symlink("etc/passwd", "passwd");
    assert_says(&load(&looped.end()), "too many links");
    assert_says(&load(&Tar::new().file("manifest.json", &" ".repeat(5 << 20)).end()), "more than 4194304");
    assert!(Path::new(store.path()).join("blobs/sha256").read_dir().unwrap().next().is_none());
}
