//! An image's `VOLUME`s: made, filled, written to, and gone with the container.

use super::kit::{Place, place};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

/// The place's image with files at /data, and volumes there and where nothing is.
fn with_volumes() -> Option<Place> {
    let place = place()?;
    let files = place.path("files");
    fs::create_dir_all(files.join("deep")).unwrap();
    fs::write(files.join("seed"), "of the image\n").unwrap();
    fs::set_permissions(&files, fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::chown(&files, Some(7), Some(8)).unwrap();
    for words in [
        "insert --image layout:bb files /data",
        "config --image layout:bb --config.volume /data --config.volume /var/new --config.volume /link/sub",
    ] {
        let done = Command::new("umoci").current_dir(place.path("")).args(words.split(' ')).output().unwrap();
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Some(place)
}

impl Place {
    #[track_caller]
    fn sh(&self, options: &[&str], script: &str) -> String {
        let image = self.image();
        let words = ["run"].into_iter().chain(options.iter().copied()).chain([image.as_str(), "sh", "-c", script]);
        self.ok(&words.collect::<Vec<_>>())
    }
}

#[test]
fn it_begins_with_the_images_content_and_can_be_written_to_though_the_root_cannot() {
    let Some(place) = with_volumes() else { return };
    let look = "cat /data/seed; busybox stat -c '%a %u:%g' /data /var/new";
    assert_eq!(place.sh(&["--rm"], look), "of the image\n1777 7:8\n755 0:0\n");
    let write = "for f in /data/x /var/new/y /link/sub/z; do echo $f >$f && cat $f; done; touch /no 2>&1; echo";
    let out = place.sh(&["--rm", "--read-only"], write);
    assert_eq!(out, "/data/x\n/var/new/y\n/link/sub/z\ntouch: /no: Read-only file system\n\n");
    // It is no overlay: another can be made in it.
    assert!(!place.sh(&["--rm"], "busybox grep ' /data ' /proc/mounts").contains("overlay"));
    // Each container has its own, and the image stays what it was.
    assert_eq!(place.sh(&["--rm"], "busybox ls /data"), "deep\nseed\n");
    assert_eq!(place.stored("containers").len(), 0, "gone with the container");
}

#[test]
fn it_stays_as_long_as_the_container_and_is_shown() {
    let Some(place) = with_volumes() else { return };
    place.sh(&["--name", "web"], "echo kept >/data/mine; busybox chmod 700 /var/new");
    let shown: Value = serde_json::from_str(&place.ok(&["inspect", "-f", "{{json .Mounts}}", "web"])).unwrap();
    let found: Vec<_> =
        shown.as_array().unwrap().iter().map(|m| (m["Type"].as_str(), m["Destination"].as_str())).collect();
    assert_eq!(found, ["/data", "/link/sub", "/var/new"].map(|place| (Some("volume"), Some(place))));
    let source = shown[0]["Source"].as_str().unwrap();
    assert_eq!(fs::read_to_string(format!("{source}/mine")).unwrap(), "kept\n");
    assert_eq!(fs::metadata(source).unwrap().uid(), 7);
    assert_eq!(place.ok(&["ps", "-a", "--format", "{{.Names}} {{.LocalVolumes}}"]), "web 3\n");
    place.ok(&["rm", "web"]);
    assert!(!fs::exists(source).unwrap());
}

#[test]
fn what_was_asked_for_at_its_place_takes_it() {
    let Some(place) = with_volumes() else { return };
    fs::create_dir(place.path("own")).unwrap();
    let own = format!("{}:/data/", place.path("own").display());
    assert_eq!(place.sh(&["--rm", "-v", &own], "busybox ls -A /data; touch /data/there"), "");
    assert!(place.path("own/there").exists());
    assert_eq!(
        place.sh(&["--rm", "--tmpfs", "/data"], "busybox ls -A /data; busybox grep -c '/data tmpfs' /proc/mounts"),
        "1\n"
    );
    // A file in its place: nothing is run, and nothing is left.
    let done = Command::new("umoci")
        .current_dir(place.path(""))
        .args(["config", "--image", "layout:bb", "--config.volume", "/etc/passwd"])
        .output()
        .unwrap();
    assert!(done.status.success());
    let done = place.call(&["run", "--rm", &place.image(), "true"]);
    assert!(
        done.code == 125 && done.err.contains("VOLUME /etc/passwd: /etc/passwd is no directory in the image"),
        "{}",
        done.err
    );
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
}
