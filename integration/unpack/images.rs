//! Layouts, tags, platforms, configuration, and the bundle itself.

use crate::kit::*;
use corten::image::Limits;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout with an image for each of these names, each with a file that holds the name.
fn images(place: &Place, names: &[&str]) -> (Layout, Vec<Value>) {
    let mut layout = Layout::new(&place.path("layout"));
    let described = names.iter().map(|name| {
        let archive = Tar::new().file("name", name).end();
        layout.layers.clear();
        layout.diff_ids.clear();
        layout.layer(PLAIN, &archive, &sha256(&archive));
        let config = layout.blob(CONFIG, layout.configuration("{}").to_string().as_bytes());
        layout.blob(MANIFEST, layout.manifest(config).to_string().as_bytes())
    });
    let described = described.collect();
    (layout, described)
}

fn tagged(mut manifest: Value, tag: &str) -> Value {
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    manifest
}

fn here() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" }
}

fn platform(mut manifest: Value, architecture: &str, variant: Option<&str>) -> Value {
    manifest["platform"] = json!({"os": "linux", "architecture": architecture});
    if let Some(variant) = variant {
        manifest["platform"]["variant"] = variant.into();
    }
    manifest
}

#[test]
fn tags() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (layout, found) = images(&place, &["one", "two"]);
    layout.index(json!([tagged(found[0].clone(), "a"), tagged(found[1].clone(), "b:c/d")]));
    for (tag, name) in [("a", "one"), ("b:c/d", "two")] {
        let _ = fs::remove_dir_all(place.path("bundle"));
        unpack(&format!("{}:{tag}", place.reference()), &place.path("bundle")).unwrap();
        assert_eq!(place.read("name"), name);
    }
    let e = place.go(&Limits::default()).unwrap_err();
    assert_says(&e, "holds 2 images");
    assert_says(&e, "tags: a, b:c/d");
    let e = unpack(&format!("{}:x", place.reference()), &place.path("bundle")).unwrap_err();
    assert_says(&e, "no image is tagged \"x\"");
    assert_says(&e, "tags: a, b:c/d");
    layout.index(json!([]));
    assert_says(&place.go(&Limits::default()).unwrap_err(), "holds no image");
    layout.index(json!([found[0]]));
    place.go(&Limits::default()).unwrap();
    assert_says(&unpack("oci:/no/such/place", &place.path("bundle")).unwrap_err(), "ENOENT");
    assert_says(
        &unpack(&format!("oci:{}", place.path("canary").display()), &place.path("bundle")).unwrap_err(),
        "is not an OCI image layout",
    );
    place.canary_sings();
}

#[test]
fn platforms() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (layout, found) = images(&place, &["other", "mine", "newer"]);
    let [other, mine, newer] = [0, 1, 2].map(|n: usize| found[n].clone());
    let list = json!([
        platform(other.clone(), "riscv64", None),
        platform(newer, here(), Some("v3")),
        platform(mine, here(), None)
    ]);
    // Straight in index.json, and one index further down.
    layout.index(list.clone());
    place.go(&Limits::default()).unwrap();
    assert_eq!(place.read("name"), "mine");
    let inner = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": list}).to_string();
    layout.index(json!([tagged(layout.blob(INDEX, inner.as_bytes()), "t")]));
    place.go(&Limits::default()).unwrap();
    assert_eq!(place.read("name"), "mine");
    let strange = json!({"schemaVersion": 2, "manifests": [platform(other, "riscv64", None)]}).to_string();
    layout.index(json!([layout.blob(INDEX, strange.as_bytes())]));
    let e = place.go(&Limits::default()).unwrap_err();
    assert_says(&e, &format!("no image for linux/{}", here()));
    assert_says(&e, "linux/riscv64");
    let config = layout.configuration("{}").to_string().replace(here(), "s390x");
    let config = layout.blob(CONFIG, config.as_bytes());
    layout.index(json!([layout.blob(MANIFEST, layout.manifest(config).to_string().as_bytes())]));
    assert_says(&place.go(&Limits::default()).unwrap_err(), "the image is for linux/s390x");
    // An index that names itself cannot exist; one that goes on and on can.
    let mut inner = layout.blob(MANIFEST, b"{}");
    for _ in 0..10 {
        let index = json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
        inner = layout.blob(INDEX, index.as_bytes());
    }
    layout.index(json!([inner]));
    assert_says(&place.go(&Limits::default()).unwrap_err(), "names an index more than");
}

#[test]
fn docker_media_types_and_gzip_members() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut layout = Layout::new(&place.path("layout"));
    let archive = Tar::new().file("f", "1").end();
    // pigz and stargz write several members.
    let members = [gzip(&archive[..700]), gzip(&archive[700..])].concat();
    layout.layer("application/vnd.docker.image.rootfs.diff.tar.gzip", &members, &sha256(&archive));
    let config =
        layout.configuration(r#"{"Cmd":["/f"],"ExposedPorts":null,"Volumes":null,"OnBuild":null,"Image":"x"}"#);
    let config = layout.blob("application/vnd.docker.container.image.v1+json", config.to_string().as_bytes());
    let mut manifest = layout.manifest(config);
    manifest["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into();
    let manifest = layout.blob("application/vnd.docker.distribution.manifest.v2+json", manifest.to_string().as_bytes());
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index =
        json!({"schemaVersion": 2, "mediaType": list, "manifests": [platform(manifest, here(), None)]}).to_string();
    layout.index(json!([layout.blob(list, index.as_bytes())]));
    place.go(&Limits::default()).unwrap();
    assert_eq!(place.read("f"), "1");
}

#[test]
fn configuration() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let shadow = place.canary("shadow");
    let layer = Tar::new()
        .file("usr/passwd", "root:x:0:0::/:\nwww:x:33:34::/:\n")
        .symlink("etc/passwd", "../../../usr/passwd")
        .file("etc/group", "www:x:34:\nmail:x:8:www\n");
    let config = r#"{"Entrypoint":["/bin/web"],"Cmd":["-v"],"User":"www","WorkingDir":"/srv","Env":["A=b"],"StopSignal":"SIGQUIT",
        "Labels":{"org.systemd.property.ExecStop":"/x","note":"data"}}"#;
    place.unpack_with(&[layer], config, &Limits::default()).unwrap();
    let spec: Value = serde_json::from_slice(&fs::read(place.path("bundle/config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["/bin/web", "-v"]));
    assert_eq!(spec["process"]["user"], json!({"uid": 33, "gid": 34, "additionalGids": [8]}));
    assert_eq!(spec["process"]["cwd"], "/srv");
    assert_eq!(spec["root"]["path"], "rootfs");
    assert_eq!(spec["annotations"]["org.opencontainers.image.stopSignal"], "SIGQUIT");
    assert_eq!(spec["annotations"]["note"], "data");
    assert_eq!(spec["annotations"]["org.systemd.property.ExecStop"], Value::Null);
    assert_eq!(place.go(&Limits::default()).unwrap(), ["org.systemd.property.ExecStop"]);
    // Nobody's number becomes root's, and the host's files are not asked.
    for user in ["4294967296", "-1", "1:", ":1", "1:2:3", "a", "daemon"] {
        let config = json!({ "User": user }).to_string();
        let layer = Tar::new().file("etc/passwd", "4294967296:x:0:0::/:\n");
        let e = place.unpack_with(&[layer], &config, &Limits::default()).unwrap_err();
        assert_says(&e, &format!("{user:?}"));
    }
    place.unpack_with(&[Tar::new().file("f", "1")], r#"{"User":"007"}"#, &Limits::default()).unwrap();
    let spec: Value = serde_json::from_slice(&fs::read(place.path("bundle/config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["user"]["uid"], 7, "zeros before a number mean nothing, as with Docker");
    let linked = Tar::new().symlink("etc/passwd", &shadow);
    assert!(place.unpack_with(&[linked], r#"{"User":"root"}"#, &Limits::default()).is_err());
    place.canary_sings();
}

#[test]
fn the_bundle() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.accepts(&[Tar::new().file("f", "1")]);
    let bundle = place.path("bundle");
    assert_eq!(fs::metadata(&bundle).unwrap().mode() & 0o7777, 0o700, "setuid programs are not for everyone");
    // A bundle that is there stays as it is.
    let before = Picture::of(&bundle, Detail::Everything);
    assert_says(&unpack(&place.reference(), &bundle).unwrap_err(), "is not empty");
    assert_eq!(Picture::of(&bundle, Detail::Everything), before);
    // An empty directory keeps its mode and its inode, also after an error.
    let empty = place.path("other");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).unwrap();
    let inode = fs::metadata(&empty).unwrap().ino();
    let mut layout = Layout::new(&place.path("layout"));
    layout.layer(PLAIN, b"no archive", &sha256(b"no archive"));
    layout.finish("{}");
    assert_says(&unpack(&place.reference(), &empty).unwrap_err(), "cut short");
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    // What a killed unpack left is removed, links in it are not followed.
    fs::create_dir_all(empty.join(".corten-unpack/rootfs")).unwrap();
    std::os::unix::fs::symlink(place.path("canary"), empty.join(".corten-unpack/rootfs/up")).unwrap();
    images(&place, &["x"]).0.finish("{}");
    unpack(&place.reference(), &empty).unwrap();
    let meta = fs::metadata(&empty).unwrap();
    assert_eq!((meta.ino(), meta.mode() & 0o7777), (inode, 0o755));
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 2);
    assert!(unpack(&place.reference(), &place.path("no/such")).unwrap_err().to_string().contains("ENOENT"));
    fs::remove_dir_all(&bundle).unwrap();
    fs::write(&bundle, "a file").unwrap();
    assert_says(&unpack(&place.reference(), &bundle).unwrap_err(), "ENOTDIR");
    assert_eq!(fs::read_to_string(&bundle).unwrap(), "a file");
    // Two at once.
    fs::remove_file(&bundle).unwrap();
    fs::create_dir(&bundle).unwrap();
    let held = nix::fcntl::Flock::lock(fs::File::open(&bundle).unwrap(), nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert_says(&unpack(&place.reference(), &bundle).unwrap_err(), "another unpack is under way");
    drop(held);
    unpack(&place.reference(), &bundle).unwrap();
    place.canary_sings();
}
