//! `load` and `save`.

use crate::kit::{MADE, Place, can, exists, inspect, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_skopeo_saved_is_loaded_and_what_is_saved_skopeo_reads() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    let made = place.at("made.tar");
    run("skopeo", &["copy", "-q", &place.oci("it"), &format!("docker-archive:{made}:web:1")]);
    assert_eq!(place.corten(&["load", "-i", &made]).good(), "Loaded image: web:1\n");
    let id = place.id("web:1");
    assert_eq!(place.layer_files("data/etc/one"), ["one"]);

    for format in ["docker", "oci"] {
        let saved = place.at(&format!("{format}.tar"));
        assert_eq!(place.corten(&["save", "--format", format, "-o", &saved, "web:1"]).good(), "");
        assert_eq!(fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o600);
        let name = if format == "docker" { "web:1" } else { "docker.io/library/web:1" };
        let known = inspect(&format!("{format}-archive:{saved}:{name}"));
        assert_eq!(known["Layers"].as_array().unwrap().len(), 2);
        let config = run("skopeo", &["inspect", "--config", "--raw", &format!("{format}-archive:{saved}:{name}")]);
        assert_eq!(crate::registry::sha256(config.as_bytes()), format!("sha256:{id}"));

        // And back, into nothing, from a pipe.
        let other = Place::new();
        assert_eq!(other.fed(&["load"], &fs::read(&saved).unwrap()).good(), "Loaded image: web:1\n");
        assert_eq!(other.id("web:1"), id);
        assert_eq!(other.layer_files("data/etc/two"), ["two"]);
    }
    let piped = place.corten(&["save", "web:1"]);
    assert_eq!((piped.code, piped.err.as_str()), (0, ""));
    assert_eq!(piped.bytes, fs::read(place.path("docker.tar")).unwrap());
}

#[test]
fn an_archive_has_the_names_that_were_asked_for() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.umoci("other", &[&[("x", "y")]], &[]);
    place.load("it", "web:1");
    place.load("other", "web:3");
    place.corten(&["tag", "web:1", "web:2"]).good();
    place.corten(&["tag", "web:1", "h.lan/web:2"]).good();
    let id = place.id("web:1");
    let loaded = |args: &[&str]| {
        let (saved, other) = (place.corten(&[&["save"], args].concat()), Place::new());
        assert_eq!((saved.code, saved.err.as_str()), (0, ""));
        let out = other.fed(&["load"], &saved.bytes).good();
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let of = |names: &[&str]| names.iter().map(|name| format!("Loaded image: {name}")).collect::<Vec<_>>();
    assert_eq!(loaded(&["web:2"]), of(&["web:2"]));
    assert_eq!(loaded(&["web"]), of(&["web:1", "web:2", "web:3"]));
    assert_eq!(loaded(&["web:1", "h.lan/web:2", "web:1"]), of(&["h.lan/web:2", "web:1"]));
    assert_eq!(loaded(&[&id[..12]]), [format!("Loaded image ID: sha256:{id}")]);
}

#[test]
fn what_is_no_archive_is_refused_and_a_file_stays_as_it_was() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.corten(&["load", "-i", "/nowhere.tar"]).refused("/nowhere.tar: ");
    place.fed(&["load"], b"no archive").refused("load: standard input: ");
    place.corten(&["load"]).refused("standard input: ");
    fs::write(place.path("old.tar"), "old").unwrap();
    place.corten(&["save", "-o", &place.at("old.tar"), "nothing"]).refused("there is no image \"nothing\"");
    place.usual();
    place.load("it", "web");
    place.corten(&["save", "-o", &place.at("no/such/dir.tar"), "web"]).refused("ENOENT");
    // A blob is damaged: the old file stays, and nothing is beside it.
    let blobs = place.path("store/blobs/sha256");
    let largest =
        fs::read_dir(&blobs).unwrap().map(|e| e.unwrap()).max_by_key(|e| e.metadata().unwrap().len()).unwrap();
    let mut bytes = fs::read(largest.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest.path(), bytes).unwrap();
    place.corten(&["save", "-o", &place.at("old.tar"), "web"]).refused("old.tar: layer sha256:");
    assert_eq!(fs::read(place.path("old.tar")).unwrap(), b"old");
    let beside: Vec<_> = fs::read_dir(place.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_string_lossy().starts_with(".old")), "{beside:?}");
    assert!(!exists(place.path("no")));
}
