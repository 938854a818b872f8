//! Attacks 1 to 6: names, links, whiteouts, the root, and metadata through links.

use crate::kit::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[test]
fn attack_1_names() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let absolute = place.canary("shadow");
    for name in ["../x", "../canary/shadow", "a/../../x", "a/..", "..", "/../x", "./../canary/sub/file"] {
        place.refuses(&[Tar::new().file(name, "owned")], "a name with .. in it");
    }
    place.refuses(&[Tar::new().file("etc/\0/passwd", "")], "malformed");
    place.refuses(&[Tar::new().file(&"a/".repeat(5000), "")], "a name of 10000 bytes");
    place.refuses(&[Tar::new().file(&"n".repeat(300), "")], "a name of 300 bytes between slashes");
    place.accepts(&[Tar::new().file(&"n".repeat(255), "fits").file(&"d/".repeat(200), "deep")]);
    // An absolute name counts from the image's root, as tar(1) and Docker have it.
    place.accepts(&[Tar::new().file(&absolute, "owned")]);
    assert_eq!(place.read(absolute.trim_start_matches('/')), "owned");
}

#[test]
fn attack_2_a_link_and_then_a_write_through_it() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let outside = place.canary("");
    let up = "../".repeat(30) + outside.trim_start_matches('/');
    let here = outside.trim_matches('/').to_owned();
    for target in [outside.as_str(), up.as_str(), "../../canary", "/proc/self/cwd", "/proc/1/root"] {
        let link = Tar::new().symlink("up", target);
        let write = Tar::new().file("up/shadow", "owned").dir("up/new").file("up/sub/file", "owned");
        let both = link.clone().file("up/shadow", "owned").dir("up/new").file("up/sub/file", "owned");
        // In one layer, and in two: what is behind the link is made inside the image.
        place.accepts(std::slice::from_ref(&both));
        place.accepts(&[link, write]);
        assert!(place.has("up"));
    }
    place.accepts(&[Tar::new().symlink("up", &outside).file("up/shadow", "in the image")]);
    assert_eq!(place.read(&format!("{here}/shadow")), "in the image");
    // Written to the link itself: the link is replaced, not followed.
    place.accepts(&[Tar::new().symlink("passwd", &place.canary("shadow")).file("passwd", "new")]);
    assert_eq!(place.read("passwd"), "new");
    // A directory that a later layer replaces by a link, with files that a third layer puts there.
    let layers = [
        Tar::new().dir("etc").file("etc/shadow", "old").dir("etc/sub"),
        Tar::new().symlink("etc", &outside),
        Tar::new().file("etc/shadow", "owned").dir("etc/sub").file("etc/sub/file", "owned"),
    ];
    place.accepts(&layers);
    assert_eq!(place.read(&format!("{here}/sub/file")), "owned");
    // The other way round: a directory replaces a link, and does not merge with what is behind it.
    place.accepts(&[Tar::new().symlink("lib", &outside), Tar::new().dir("lib").file("lib/shadow", "new")]);
    assert!(!fs::symlink_metadata(place.rootfs().join("lib")).unwrap().is_symlink());
    // Chains and loops.
    let chain = Tar::new().symlink("a", "b/c").symlink("b", &outside).symlink("loop", "loop");
    place.refuses(&[chain.file("loop/x", "")], "ELOOP");
}

#[test]
fn links_between_layers_stay_useful() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let merged = [
        Tar::new().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").symlink("run", "/var/run/../run/now"),
        Tar::new().file("lib/libc.so", "elf").file("run/pid", "1"),
    ];
    place.accepts(&merged);
    assert_eq!(place.read("usr/lib/libc.so"), "elf");
    assert_eq!(place.read("var/run/now/pid"), "1");
    assert!(fs::symlink_metadata(place.rootfs().join("lib")).unwrap().is_symlink());
}

#[test]
fn attack_3_hard_links() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let shadow = place.canary("shadow");
    for target in ["../../canary/shadow", "../../../../../../etc/shadow", "a/../../canary/shadow"] {
        place.refuses(&[Tar::new().hardlink("x", target)], "a name with .. in it");
    }
    // Absolute: below the image's root, where there is no such file.
    place.refuses(&[Tar::new().hardlink("x", &shadow)], "ENOENT");
    // Through a link to a directory, and to a link.
    place.refuses(
        &[Tar::new().symlink("up", &place.canary("")).hardlink("x", "up/shadow").file("x", "owned")],
        "ENOENT",
    );
    place.accepts(&[Tar::new().symlink("s", &shadow).hardlink("x", "s")]);
    assert!(fs::symlink_metadata(place.rootfs().join("x")).unwrap().is_symlink());
    place.accepts(&[Tar::new().symlink("s", &shadow).hardlink("x", "s").file("x/y", "owned")]);
    // What a link says about owner and mode is not applied to its target.
    let head = Head { kind: b'1', link: "x", mode: 0o4777, owner: (7, 7), ..Head::default() };
    place.accepts(&[Tar::new().file("x", "1").entry("y", head, b"")]);
    let meta = fs::metadata(place.rootfs().join("x")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.nlink()), (0o644, 0, 2));
    place.refuses(&[Tar::new().dir("d").hardlink("x", "d")], "EPERM");
    place.refuses(&[Tar::new().file("x", "1").hardlink("x", "x")], "a hard link to itself");
    place.refuses(&[Tar::new().hardlink("x", "/")], "a hard link to the root");
    let full = Head { kind: b'1', link: "a", ..Head::default() };
    place.refuses(&[Tar::new().file("a", "1").entry("x", full, b"content")], "7 bytes of content");
}

/// A mount inside the root, in a mount namespace that ends with the thread.
#[test]
fn attack_3_across_devices() {
    use corten::image::apply::{Position, Tree};
    use corten::image::archive::{Entry, Kind};
    use nix::mount::{MsFlags, mount};
    if !is_root() {
        return;
    }
    let place = tempfile::Builder::new().prefix("image-unpack-").tempdir().unwrap();
    let mounted = place.path().join("m");
    fs::create_dir(&mounted).unwrap();
    let root = place.path().to_owned();
    let refused = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("none"), &mounted, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::write(mounted.join("f"), "other").unwrap();
        let mut tree = Tree::new(fs::File::open(&root).unwrap().into()).unwrap();
        let mut layer = tree.layer(Position::Upper);
        ["m/f", "f"].map(|target| {
            let path = if target == "f" { "m/x" } else { "x" };
            let kind = Kind::Hardlink(target.into());
            let (mtime, xattrs) = (Default::default(), Vec::new());
            let entry = Entry { path: path.into(), kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs };
            layer.apply(&entry, &mut std::io::empty()).unwrap_err()
        })
    });
    for e in refused.join().unwrap() {
        assert_says(&e, "EXDEV");
    }
    assert!(!place.path().join("x").exists(), "never a copy");
}

#[test]
fn attack_4_whiteouts() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let base = Tar::new().dir("d").file("d/f", "1");
    for name in [".wh...", ".wh..", ".wh.", "d/.wh...", "d/.wh./", "d/.wh..", "d/.wh.x/y"] {
        place.refuses(&[base.clone(), Tar::new().file(name, "")], "whiteout");
    }
    // Through a link: within the image, where there is nothing to hide.
    let outside = place.canary("");
    let link = Tar::new().symlink("etc", &outside).symlink("rel", "../../canary");
    for name in ["etc/.wh.shadow", "etc/.wh..wh..opq", "etc/sub/.wh.file", "rel/.wh.shadow", "rel/.wh..wh..opq"] {
        place.accepts(&[link.clone(), Tar::new().file(name, "")]);
        place.accepts(&[Tar::new().file("x", ""), link.clone().file(name, "")]);
    }
    // The link itself is what goes, not what it names.
    place.accepts(&[link, Tar::new().file(".wh.etc", "").file(".wh.rel", "")]);
    assert!(!place.has("etc") && !place.has("rel"));
    // A hidden tree with links in it.
    let tree = Tar::new().dir("t").symlink("t/a", &outside).symlink("t/b", "../../../canary/sub").file("t/c", "1");
    place.accepts(&[tree, Tar::new().file(".wh.t", "")]);
    assert!(!place.has("t"));
}

#[test]
fn attack_5_the_root_as_something_else() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let outside = place.canary("");
    for name in ["./", "/", ".", "", "./."] {
        place.refuses(
            &[Tar::new().symlink(name, &outside).file("shadow", "owned")],
            "the root of the image is not a directory",
        );
        place.refuses(
            &[Tar::new().file("x", "1"), Tar::new().symlink(name, &outside)],
            "the root of the image is not a directory",
        );
        place.refuses(&[Tar::new().entry(name, Head { kind: b'6', ..Head::default() }, b"")], "not a directory");
        place.refuses(
            &[Tar::new().entry(name, Head { kind: b'1', link: "x", ..Head::default() }, b"")],
            "not a directory",
        );
    }
    let head = Head { kind: b'5', mode: 0o750, owner: (5, 6), mtime: 1_500_000_000, ..Head::default() };
    place.accepts(&[Tar::new().entry("./", head, b"").file("x", "1")]);
    let meta = fs::metadata(place.rootfs()).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o750, 5, 6, 1_500_000_000));
}

#[test]
fn attack_6_metadata_through_links() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (shadow, outside) = (place.canary("shadow"), place.canary(""));
    // The link's own mode, owner and time say something else than its target's.
    let head = Head { kind: b'2', mode: 0o4777, owner: (7, 8), mtime: 1, link: &shadow, ..Head::default() };
    place.accepts(&[Tar::new().entry("s", head, b"")]);
    let meta = fs::symlink_metadata(place.rootfs().join("s")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mtime()), (7, 8, 1));
    // A directory entry for what is a link to a directory (CVE-2026-33056): the link is replaced.
    let directory = Head { kind: b'5', mode: 0o777, owner: (7, 7), mtime: 1, ..Head::default() };
    for target in [outside.as_str(), "../../canary"] {
        let link = Tar::new().symlink("d", target);
        place.accepts(&[link.clone().entry("d", directory.clone(), b"")]);
        place.accepts(&[link, Tar::new().entry("d", directory.clone(), b"")]);
        assert!(fs::symlink_metadata(place.rootfs().join("d")).unwrap().is_dir());
    }
    // A directory whose time is set at the end, when a link stands there.
    place.accepts(&[Tar::new().entry("d", directory.clone(), b"").symlink("d", &outside)]);
    place.accepts(&[Tar::new().dir("p").entry("p/d", directory, b"").symlink("p", &outside)]);
    // Attributes on links.
    let pax = vec![("SCHILY.xattr.user.owned", b"1".to_vec())];
    let head = Head { kind: b'2', link: &shadow, pax, ..Head::default() };
    place.refuses(&[Tar::new().entry("s", head, b"")], "neither a file nor a directory");
    assert_eq!(fs::metadata(place.path("canary/shadow")).unwrap().permissions().mode() & 0o7777, 0o600);
}
