//! `prune`.

use crate::kit::{MADE, Place, can};
use corten::image::container::record::FORMAT;
use corten::image::container::{Container, Containers, Ground, Making, Record, Removal, fresh_id};
use corten::image::store::Store;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// A place with an image that has a name, one that has none, and their ids.
fn place() -> (Place, String, String) {
    let place = Place::new();
    place.usual();
    place.umoci("other", &[&[("x", "y")]], &[]);
    place.load("other", "web");
    let nameless = place.id("web");
    place.load("it", "web");
    let named = place.id("web");
    (place, named, nameless)
}

/// A container that was made and never started; locked until it is dropped.
fn container(place: &Place, name: &str, image: &str) -> Container {
    let store = Store::open(&place.path("store")).unwrap();
    let record = Record {
        format: FORMAT,
        name: name.into(),
        image: "web".into(),
        command: vec!["true".into()],
        created: "2026-01-02T03:04:05Z".into(),
        labels: BTreeMap::new(),
        stop_signal: None,
        stop_timeout: None,
        removal: Removal::Kept,
        root: place.path("run"),
        ended: None,
    };
    let id = fresh_id().unwrap();
    let image = format!("sha256:{image}");
    let making = Making { id: &id, record: &record, image: &image, layers: &[], ground: &Ground::Overlay };
    Containers::open(store.path()).unwrap().make(&making).unwrap()
}

/// Lets go of a container; its id. A program that another test starts at this moment has the lock, too, until its execve.
fn leave(container: Container) -> String {
    let (id, path) = (container.id.clone(), container.path().to_owned());
    drop(container);
    while !Command::new("flock").arg("-n").arg(&path).arg("true").status().unwrap().success() {
        std::thread::sleep(Duration::from_millis(5));
    }
    id
}

#[test]
fn it_asks_and_anything_but_yes_is_no() {
    if !can(&MADE) {
        return;
    }
    let (place, _, nameless) = place();
    for answer in ["", "n\n", "\n", "maybe\n"] {
        let done = place.fed(&["prune"], answer.as_bytes());
        assert_eq!((done.code, done.out.as_str()), (1, ""));
        assert!(done.err.starts_with("WARNING! This will remove:\n") && done.err.contains("[y/N] "), "{}", done.err);
        assert!(done.err.contains("nothing was removed"), "{}", done.err);
    }
    assert_eq!(place.corten(&["images", "-q"]).good().lines().count(), 2);
    let done = place.fed(&["prune"], b"y\n");
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(done.out.starts_with(&format!("Deleted Images:\nDeleted: sha256:{nameless}\n\nTotal reclaimed space: ")));
}

#[test]
fn named_images_go_with_all_and_nothing_is_left() {
    if !can(&MADE) {
        return;
    }
    let (place, named, nameless) = place();
    let out = place.corten(&["prune", "-f"]).good();
    assert!(out.contains(&nameless) && !out.contains(&named), "{out}");
    assert_eq!(place.stored("layers").len(), 2);
    let out = place.corten(&["prune", "-a", "--force"]).good();
    assert!(out.contains(&format!("Untagged: web:latest\nDeleted: sha256:{named}\n")), "{out}");
    assert!(!out.contains("space: 0B"), "{out}");
    assert_eq!((place.stored("layers"), place.stored("blobs/sha256")), (Vec::new(), Vec::new()));
    assert_eq!(place.corten(&["prune", "-af"]).good(), "Total reclaimed space: 0B\n");
}

#[test]
fn containers_that_have_ended_go_first_and_one_that_is_at_work_stays() {
    if !can(&MADE) {
        return;
    }
    let (place, named, _) = place();
    let (busy, over) = (container(&place, "busy", &named), container(&place, "over", &named));
    let over_id = leave(over);
    let out = place.corten(&["prune", "-af"]).good();
    assert!(out.starts_with(&format!("Deleted Containers:\n{over_id}\n\nDeleted Images:\n")), "{out}");
    // The other's image is in use.
    assert!(!out.contains(&named), "{out}");
    assert_eq!((place.stored("containers"), place.stored("names")), (vec![busy.id.clone()], vec!["busy".to_owned()]));
    let busy_id = leave(busy);
    let out = place.corten(&["prune", "-af"]).good();
    assert!(out.contains(&busy_id) && out.contains(&named), "{out}");
    assert_eq!(place.stored("containers"), [""; 0]);
}

#[test]
fn filters_spare_what_they_do_not_fit() {
    if !can(&MADE) {
        return;
    }
    let (place, named, nameless) = place();
    let over = leave(container(&place, "over", &named));
    for filter in ["label=colour=red", "until=1000000h"] {
        let out = place.corten(&["prune", "-af", "--filter", filter]).good();
        assert_eq!(out, "Total reclaimed space: 0B\n", "{filter}");
    }
    let out = place.corten(&["prune", "-af", "--filter", "label=tier=web"]).good();
    assert_eq!(out, "Total reclaimed space: 0B\n", "a container has it");
    let out = place.corten(&["prune", "-f", "--filter", "until=24h"]).good();
    assert!(out.contains(&over), "{out}");
    let out = place.corten(&["prune", "-af", "--filter", "label=tier=web"]).good();
    assert!(out.contains(&named) && !out.contains(&nameless), "{out}");
    place.corten(&["prune", "-f", "--filter", "name=x"]).refused("--filter name=x");
    place.corten(&["prune", "-f", "--filter", "until=x"]).refused("--filter");
}
