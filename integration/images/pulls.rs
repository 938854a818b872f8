//! `pull`.

use crate::kit::{ALL, Place, Real, Speaks, Wants, can, inspect, run};
use std::fs;

#[test]
fn an_image_is_pulled_once_and_found_up_to_date_afterwards() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "team/web:1");
    let name = format!("{}/team/web:1", real.host);
    let known = inspect(&format!("docker://{name}"));
    let digest = known["Digest"].as_str().unwrap();

    let out = place.corten(&["pull", &name]).good();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("1: Pulling from {}/team/web", real.host));
    let layers = known["Layers"].as_array().unwrap();
    for layer in layers {
        let short = &layer.as_str().unwrap()[7..19];
        assert!(lines.contains(&format!("{short}: Pull complete").as_str()), "{short} {out}");
    }
    let last = [format!("Digest: {digest}"), format!("Status: Downloaded newer image for {name}"), name.clone()];
    assert_eq!(lines[lines.len() - 3..], last);
    assert_eq!(place.layer_files("data/etc/two"), ["two"]);
    assert_eq!(place.stored("layers").len(), 2);

    let out = place.corten(&["pull", &name]).good();
    assert!(out.contains(&format!("Status: Image is up to date for {name}\n")), "{out}");
    assert_eq!(out.matches(": Already exists\n").count(), layers.len(), "{out}");
    assert_eq!(place.corten(&["pull", "-q", &name]).good(), format!("{digest}\n"));

    // The tag moves: the name goes with it, and the other image stays without one.
    place.umoci("next", &[&[("etc/three", "three")]], &[]);
    place.put("next", &real, "team/web:1");
    let out = place.corten(&["pull", &name]).good();
    assert!(out.contains("Downloaded newer image"), "{out}");
    let rows = place.corten(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).good();
    let mut rows: Vec<&str> = rows.lines().collect();
    rows.sort_unstable();
    // The old one is known by its digest no more: its name was a tag.
    assert_eq!(rows, [&name, "<none>:<none>"]);

    // The store is a layout that others read.
    let raw = run("skopeo", &["inspect", "--raw", &format!("oci:{}:{name}", place.at("store"))]);
    assert!(raw.contains("layers"), "{raw}");
}

#[test]
fn the_tag_is_latest_where_none_is_typed_and_a_digest_is_a_name_without_tag() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "web");
    let name = format!("{}/web", real.host);
    let out = place.corten(&["pull", &name]).good();
    assert!(out.starts_with("Using default tag: latest\nlatest: Pulling from "), "{out}");
    place.corten(&["rmi", &name]).good();

    let digest = inspect(&format!("docker://{name}"))["Digest"].as_str().unwrap().to_owned();
    let exact = format!("{name}@{digest}");
    let out = place.corten(&["pull", &exact]).good();
    assert!(out.ends_with(&format!("{exact}\n")) && !out.contains("default tag"), "{out}");
    let row = place.corten(&["images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"]).good();
    assert_eq!(row, format!("{name} <none> {digest}\n"));
    place.corten(&["history", &exact]).good();
    place.corten(&["rmi", &exact]).good();
    assert_eq!(place.stored("layers"), [""; 0]);
}

#[test]
fn the_platform_is_this_machines_unless_another_is_asked_for() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    let (here, other) = match std::env::consts::ARCH {
        "aarch64" => ("arm64", "amd64"),
        _ => ("amd64", "arm64"),
    };
    place.umoci("here", &[&[("arch", "here")]], &["--architecture", here]);
    place.umoci("other", &[&[("arch", "other")]], &["--architecture", other]);
    place.index("both", &[("other", other), ("here", here)]);
    place.put("both", &real, "both");
    let name = format!("{}/both", real.host);
    place.corten(&["pull", &name]).good();
    assert_eq!(place.layer_files("data/arch"), ["here"]);
    place.corten(&["pull", "--platform", &format!("linux/{other}"), &name]).good();
    let mut both = place.layer_files("data/arch");
    both.sort();
    assert_eq!(both, ["here", "other"]);
    let refused = place.corten(&["pull", "-q", "--platform", "linux/s390x", &name]);
    refused.refused("s390x");
    place.corten(&["pull", "--platform", "a/b/c/d", &name]).refused("--platform: \"a/b/c/d\" is not a platform");
}

#[test]
fn what_cannot_be_pulled_says_what_and_where() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "web");
    let missing = format!("{}/web:other", real.host);
    let err =
        place.corten(&["pull", "-q", &missing]).refused(&format!("pull: {missing}: the registry does not have it"));
    assert!(err.contains("= 404"), "{err}");
    place.corten(&["pull", "Debian"]).refused("image name \"Debian\": ");
    let nobody = "127.0.0.1:1/web";
    place.corten(&["pull", "-q", nobody]).refused("ECONNREFUSED");

    // A layer that is not what the manifest says: no image, no layer.
    let blobs = real.path("storage/docker/registry/v2/blobs/sha256");
    let layer = inspect(&format!("docker://{}/web", real.host))["Layers"][1].as_str().unwrap()[7..].to_owned();
    let data = blobs.join(&layer[..2]).join(&layer).join("data");
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, &bytes).unwrap();
    let err = place.corten(&["pull", "-q", &format!("{}/web", real.host)]).refused("layers[1]");
    assert!(err.contains(&layer), "{err}");
    assert_eq!(place.corten(&["images", "-q"]).good(), "");
    assert_eq!(place.layer_files("data/etc/two"), [""; 0]);
}

#[test]
fn a_mirror_stands_for_docker_hub() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "library/debian:12");
    fs::write(place.path("registries.toml"), format!("[mirrors]\n\"docker.io\" = [\"{}\"]\n", real.host)).unwrap();
    let out = place.corten(&["pull", "debian:12"]).good();
    assert!(
        out.starts_with("12: Pulling from library/debian\n") && out.ends_with("\ndocker.io/library/debian:12\n"),
        "{out}"
    );
    let rows = place.corten(&["images", "debian", "--format", "{{.Repository}}:{{.Tag}}"]).good();
    assert_eq!(rows, "debian:12\n");
}

#[test]
fn two_pulls_of_one_image_are_both_good() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "web");
    let name = format!("{}/web", real.host);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| place.corten(&["pull", &name]).good());
        }
    });
    assert_eq!(place.corten(&["images", "-q"]).good().lines().count(), 1);
    assert_eq!(place.stored("layers").len(), 2);
}

/// A short name is Docker Hub's, here a mirror of it. What is not here is fetched, what is here is taken, unless `--pull` says otherwise.
#[test]
fn run_fetches_what_is_not_here() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    fs::write(place.path("registries.toml"), format!("[mirrors]\n\"docker.io\" = [\"{}\"]\n", real.host)).unwrap();
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| fs::exists(path).unwrap()).unwrap();
    let put = |tag: &str, word: &str| {
        place.umoci(
            tag,
            &[&[("word", word)]],
            &["--config.entrypoint", "/data/busybox", "--config.cmd", "cat", "--config.cmd", "/data/word"],
        );
        let tree = place.path(&format!("program-{tag}"));
        fs::create_dir(&tree).unwrap();
        fs::copy(busybox, tree.join("busybox")).unwrap();
        run("umoci", &["insert", "--image", &format!("{}:{tag}", place.at("layout")), tree.to_str().unwrap(), "/data"]);
        place.put(tag, &real, "library/tool:latest");
    };
    let root = place.at("root");
    let ran =
        |options: &[&str], image: &str| place.corten(&[&["--root", &root, "run", "--rm"], options, &[image]].concat());
    let said = |options: &[&str], image: &str| {
        let done = ran(options, image);
        assert_eq!(done.code, 0, "{}", done.err);
        done.out
    };
    put("one", "first");
    let done = ran(&["--pull", "never"], "tool:latest");
    assert!(done.code == 125 && done.err.contains("no image tool:latest here, and --pull=never"), "{}", done.err);
    // A bare word alone might be a mistyped id: nothing is fetched.
    let done = place.corten(&["--root", &root, "run", "tool"]);
    assert!(done.code == 125 && done.err.contains("no config.json here and no local image tool"), "{}", done.err);
    assert_eq!(said(&[], "tool:latest"), "first");
    assert_eq!(place.corten(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).good(), "tool:latest\n");
    put("two", "second");
    assert_eq!(said(&[], "tool:latest"), "first", "it is here");
    assert_eq!(said(&["--pull=always"], "docker.io/library/tool"), "second");
    assert_eq!(said(&["--image", "tool"], "echo"), "\n", "all words are the command");
    // Here now, a bare word means it.
    assert_eq!(said(&[], "tool"), "second");
}
