//! What layers mean: whiteouts, times, attributes, missing directories.

use crate::kit::*;
use corten::sys::at;
use std::fs;
use std::os::unix::fs::MetadataExt;

fn base() -> Tar {
    Tar::new().dir("d").file("d/old", "1").dir("d/sub").file("d/sub/old", "1").file("top", "1")
}

#[test]
fn a_whiteout_hides_what_is_below() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.accepts(&[
        base(),
        Tar::new().file(".wh.top", "").file("d/.wh.sub", "").file("none/.wh.x", "").file("d/.wh.none", ""),
    ]);
    assert!(!place.has("top") && !place.has("d/sub") && place.has("d/old") && !place.has("none"));
    assert!(!place.has("d/.wh.sub"));
}

#[test]
fn whiteouts_do_not_hide_their_own_layer_in_any_order() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    // The same name: hidden below, new above.
    for upper in [Tar::new().file("top", "2").file(".wh.top", ""), Tar::new().file(".wh.top", "").file("top", "2")] {
        place.accepts(&[base(), upper]);
        assert_eq!(place.read("top"), "2");
    }
    for upper in [
        Tar::new().file("d/.wh..wh..opq", "").file("d/new", "2").dir("d/sub").file("d/sub/new", "2"),
        Tar::new().file("d/new", "2").dir("d/sub").file("d/sub/new", "2").file("d/.wh..wh..opq", ""),
        Tar::new().file("d/new", "2").file("d/sub/new", "2").file("d/.wh..wh..opq", "").dir("d/sub"),
    ] {
        place.accepts(&[base(), upper]);
        assert!(!place.has("d/old") && !place.has("d/sub/old"), "opaque hides what is below");
        assert_eq!(
            (place.read("d/new"), place.read("d/sub/new"), place.read("top")),
            ("2".into(), "2".into(), "1".into())
        );
    }
    // A directory that was hidden and made anew, in both orders.
    for upper in [
        Tar::new().file(".wh.d", "").dir("d").file("d/new", "2"),
        Tar::new().dir("d").file("d/new", "2").file(".wh.d", ""),
    ] {
        place.accepts(&[base(), upper]);
        assert!(place.has("d/new") && !place.has("d/old") && !place.has("d/sub"));
    }
    // By another way to the same directory.
    let linked = base().symlink("way", "d");
    place.accepts(&[linked, Tar::new().file("d/new", "2").file("way/.wh..wh..opq", "")]);
    assert!(place.has("d/new") && !place.has("d/old"));
    // A new name for an old file does not save the old name.
    place.accepts(&[base(), Tar::new().hardlink("kept", "top").file(".wh.top", "")]);
    assert!(place.has("kept") && !place.has("top"));
    // In the lowest layer there is nothing to hide.
    place.accepts(&[base().file(".wh.top", "").file("d/.wh..wh..opq", "")]);
    assert!(place.has("top") && place.has("d/old"));
}

#[test]
fn the_root_can_be_opaque() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.accepts(&[base(), Tar::new().file("new", "2").file(".wh..wh..opq", "")]);
    assert_eq!(fs::read_dir(place.rootfs()).unwrap().count(), 1);
}

#[test]
fn times_of_directories_survive_what_is_put_into_them() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let time = |name: &str| fs::metadata(place.rootfs().join(name)).unwrap().mtime();
    let at = |mtime| Head { kind: b'5', mode: 0o755, mtime, ..Head::default() };
    let lower = Tar::new()
        .entry("./", at(100), b"")
        .entry("a", at(200), b"")
        .entry("a/b", at(300), b"")
        .file("a/b/c", "1")
        .file("a/d", "1");
    place.accepts(std::slice::from_ref(&lower));
    assert_eq!((time(""), time("a"), time("a/b")), (100, 200, 300));
    // A later layer that only adds to, or removes from, a directory.
    place.accepts(&[lower.clone(), Tar::new().file("a/b/e", "2").file("a/.wh.d", "")]);
    assert_eq!((time("a"), time("a/b")), (200, 300));
    assert!(!place.has("a/d"));
    // The same by a link that is gone when the times are set.
    place.accepts(&[lower.clone(), Tar::new().symlink("l", "a").file("l/e", "2").file("l", "2")]);
    assert_eq!((time("a"), place.has("a/e")), (200, true));
    place.accepts(&[lower, Tar::new().entry("a/b", at(400), b"").file("a/b/e", "2")]);
    assert_eq!((time(""), time("a"), time("a/b")), (100, 200, 400));
    let pax = vec![("mtime", b"-1.5".to_vec())];
    place.accepts(&[Tar::new().entry("old", Head { pax, ..Head::default() }, b"")]);
    let meta = fs::metadata(place.rootfs().join("old")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 500_000_000));
}

#[test]
fn a_later_directory_replaces_attributes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let with = |key: &'static str| {
        let pax = vec![(key, b"1".to_vec())];
        Head { kind: b'5', mode: 0o700, pax, ..Head::default() }
    };
    place.accepts(&[
        Tar::new().entry("d", with("SCHILY.xattr.user.a"), b""),
        Tar::new().entry("d", with("SCHILY.xattr.user.b"), b""),
    ]);
    let directory = fs::File::open(place.rootfs().join("d")).unwrap();
    assert_eq!(at::flistxattr(&directory).unwrap(), [c"user.b".to_owned()]);
}

#[test]
fn missing_directories_and_long_names() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    place.accepts(&[Tar::new().file("a/b/c", "1").symlink("dangling", "x/y").file("dangling/z", "2")]);
    let meta = fs::metadata(place.rootfs().join("a/b")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o755, 0));
    assert_eq!(place.read("x/y/z"), "2");
    place.refuses(&[Tar::new().file("a", "1").file("a/b", "1")], "ENOTDIR");
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    place.accepts(&[Tar::new().file(&long, "1").symlink("s", &"t".repeat(300))]);
    assert_eq!(place.read(&long), "1");
    assert_eq!(fs::read_link(place.rootfs().join("s")).unwrap().as_os_str().len(), 300);
}

#[test]
fn sparse_files_keep_their_holes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let pieces = [(4096, 512), (1 << 20, 512)];
    place.accepts(&[Tar::new().sparse("sparse", &pieces, 4 << 20, &[b'x'; 1024]).file("after", "1")]);
    let (bytes, meta) =
        (fs::read(place.rootfs().join("sparse")).unwrap(), fs::metadata(place.rootfs().join("sparse")).unwrap());
    assert_eq!(
        (bytes.len(), bytes.iter().filter(|b| **b == b'x').count(), bytes[4096], bytes[1 << 20]),
        (4 << 20, 1024, b'x', b'x')
    );
    assert!(meta.blocks() < 64, "{} blocks", meta.blocks());
    assert!(place.has("after"));
    for (pieces, size) in
        [([(4096, 512), (0, 512)], 8192), ([(0, 512), (511, 512)], 8192), ([(0, 512), (8000, 512)], 8192)]
    {
        place.refuses(&[Tar::new().sparse("s", &pieces, size, &[b'x'; 1024])], "overlap or lie outside");
    }
    place.refuses(&[Tar::new().sparse("s", &[(0, 512)], 8192, &[b'x'; 1024])], "have 512 bytes, and its content 1024");
}
