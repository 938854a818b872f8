//! `unpack`: each image that `run` takes becomes a bundle.

use crate::kit::{MADE, Place, can, run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The bundle that it makes of this image has the image's files and its command.
#[track_caller]
fn unpacks(place: &Place, image: &str) {
    let bundle = place.at("bundle");
    assert_eq!(place.corten(&["unpack", image, &bundle]).good(), "", "{image}");
    for (file, content) in [("one", "one"), ("two", "two")] {
        assert_eq!(fs::read_to_string(format!("{bundle}/rootfs/data/etc/{file}")).unwrap(), content, "{image}");
    }
    let config: Value = serde_json::from_slice(&fs::read(format!("{bundle}/config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["/bin/sh"]), "{image}");
    fs::remove_dir_all(bundle).unwrap();
}

#[test]
fn an_image_at_a_path_becomes_a_bundle_whatever_it_is_packed_in() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    let (docker, oci) = (place.at("docker.tar"), place.at("oci.tar"));
    run("skopeo", &["copy", "-q", &place.oci("it"), &format!("docker-archive:{docker}:web:1")]);
    run("skopeo", &["copy", "-q", &place.oci("it"), &format!("oci-archive:{oci}:it")]);
    for image in
        [format!("docker-archive:{docker}"), format!("docker-archive:{docker}:web:1"), format!("oci-archive:{oci}:it")]
    {
        unpacks(&place, &image);
    }
    // An archive that is compressed as a whole, and layers in zstd.
    run("gzip", &[&docker]);
    unpacks(&place, &format!("docker-archive:{docker}.gz"));
    let zstd = format!("oci:{}:it", place.at("zstd"));
    run("skopeo", &["copy", "-q", "--dest-compress-format", "zstd", &place.oci("it"), &zstd]);
    let manifest = run("skopeo", &["inspect", "--raw", &zstd]);
    assert!(manifest.contains("tar+zstd"), "{manifest}");
    unpacks(&place, &zstd);
    assert_eq!(place.corten(&["images", "-aq"]).good(), "", "none of them is in the store now");
}

#[test]
fn an_image_of_the_store_becomes_a_bundle_by_its_name_or_its_id() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    place.load("it", "web:1");
    let id = place.id("web:1");
    for image in ["web:1", "docker.io/library/web:1", &id, &id[..6]] {
        unpacks(&place, image);
    }
    let bundle = place.at("bundle");
    let err = place.corten(&["unpack", "debian:12", &bundle]).refused("there is no image \"debian:12\" in ");
    assert!(err.contains("`corten pull debian:12` gets it"), "{err}");
    place.corten(&["unpack", "docker-archive:", &bundle]).refused("names no archive");
    place.corten(&["unpack", &format!("docker-archive:{}", place.at("none.tar")), &bundle]).refused("no such file");
    assert!(!place.path("bundle").exists());
}

/// The store of an ordinary user is his own; what takes root says so, before anything is made or asked.
#[test]
fn an_ordinary_user() {
    if !can(&MADE) {
        return;
    }
    let place = Place::new();
    place.usual();
    fs::create_dir(place.path("home")).unwrap();
    std::os::unix::fs::chown(place.path("home"), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.at("program");
    fs::copy(place.command(&[]).get_program(), &program).unwrap();
    let nobody = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &program]).args(words).env_clear();
        place.run(
            {
                command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", place.path("home"));
                command
            },
            b"",
        )
    };
    nobody(&["images", "-q"]).good();
    let store = place.path("home/.local/share/corten");
    assert_eq!(fs::metadata(&store).unwrap().permissions().mode() & 0o7777, 0o700);
    for words in
        [&["pull", "127.0.0.1:1/none"][..], &["load", "-i", "/no/such"], &["unpack", &place.oci("it"), "/tmp/bundle"]]
    {
        nobody(words).refused("needs root: unpacking sets owners");
    }
    nobody(&["run", "debian:12"]).err.contains("needs root").then_some(()).expect("run says so too");
}
