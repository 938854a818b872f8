//! `rmi` and `tag`.

use crate::kit::{MADE, Place, can};
use std::fs;

#[test]
fn an_image_goes_with_its_last_name() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "web:1");
    let id = place.id("web:1");
    assert_eq!(place.corten(&["tag", &id[..6], "registry.lan:5000/web:2"]).good(), "");
    assert_eq!(place.corten(&["rmi", "web:1"]).good(), "Untagged: web:1\n");
    assert_eq!(place.stored("layers").len(), 2);
    assert_eq!(
        place.corten(&["rmi", "registry.lan:5000/web:2"]).good(),
        format!("Untagged: registry.lan:5000/web:2\nDeleted: sha256:{id}\n")
    );
    assert_eq!((place.stored("layers"), place.stored("blobs/sha256")), (Vec::new(), Vec::new()));
}

#[test]
fn an_image_with_several_names_is_not_removed_by_its_id() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "web:1");
    place.corten(&["tag", "web:1", "web:2"]).good();
    let id = place.id("web:1");
    let err = place.corten(&["rmi", &id]).refused("has 2 names");
    assert!(err.contains("web:1") && err.contains("web:2"), "{err}");
    let out = place.corten(&["rmi", "-f", &id]).good();
    assert_eq!(out, format!("Untagged: web:1\nUntagged: web:2\nDeleted: sha256:{id}\n"));
}

#[test]
fn what_a_container_uses_stays() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "web");
    let (id, user) = (place.id("web"), "c".repeat(64));
    let container = place.path("store/containers").join(&user);
    fs::create_dir(&container).unwrap();
    fs::write(container.join("image"), format!("sha256:{id}\n")).unwrap();
    place.corten(&["rmi", "web"]).refused(&format!("image {} is in use by {}", &id[..12], &user[..12]));
    assert_eq!(place.corten(&["rmi", "-f", "web"]).good(), "Untagged: web:latest\n");
    assert_eq!((place.stored("layers").len(), place.corten(&["images", "-q"]).good().lines().count()), (2, 1));
    place.corten(&["rmi", &id]).refused("is in use by");
    fs::remove_dir_all(&container).unwrap();
    assert_eq!(place.corten(&["rmi", &id]).good(), format!("Deleted: sha256:{id}\n"));
    assert_eq!(place.stored("layers"), [""; 0]);
}

#[test]
fn the_others_are_removed_whatever_is_wrong_with_one() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "web");
    let done = place.corten(&["rmi", "nothing", "web", "Nor_this"]);
    assert_eq!(done.code, 1);
    assert!(done.out.starts_with("Untagged: web:latest\nDeleted: "), "{}", done.out);
    assert!(done.err.starts_with("corten: rmi: 2 of 3 images\n"), "{}", done.err);
    assert!(done.err.contains("\"nothing\"") && done.err.contains("\"Nor_this\""), "{}", done.err);
    let done = place.corten(&["rmi", "-f", "nothing"]);
    assert_eq!((done.code, done.err.as_str()), (0, "corten: rmi: there is no image \"nothing\"\n"));
}

#[test]
fn the_same_image_as_it_was_pulled_and_as_it_was_loaded_has_one_id() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "loaded");
    // With the layers compressed, as the layout has them: another manifest.
    let archive = place.at("oci.tar");
    crate::kit::run(
        "skopeo",
        &["copy", "-q", &place.oci("it"), &format!("oci-archive:{archive}:docker.io/library/kept:latest")],
    );
    place.corten(&["load", "-i", &archive]).good();
    let id = place.id("loaded");
    assert_eq!(place.id("kept"), id);
    assert_eq!(place.corten(&["history", "-q", &id[..8]]).good().lines().next(), Some(&id[..12]));
    assert_eq!(place.corten(&["rmi", "loaded"]).good(), "Untagged: loaded:latest\n");
    assert_eq!(place.corten(&["rmi", "kept"]).good(), format!("Untagged: kept:latest\nDeleted: sha256:{id}\n"));
}

#[test]
fn a_name_that_is_given_must_be_one() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "web");
    place.corten(&["tag", "web", "Web"]).refused("image name \"Web\": ");
    place.corten(&["tag", "web", &format!("x@sha256:{}", "a".repeat(64))]).refused("cannot have a digest");
    place.corten(&["tag", "nothing", "x"]).refused("there is no image \"nothing\"");
    place.corten(&["tag", "web"]).refused("<NAME[:TAG]>");
}
