//! Attacks 7 to 12: sizes that disagree, nodes and attributes, bombs, wrong digests, changing blobs, huge documents.

use crate::kit::*;
use corten::image::Limits;
use corten::sys::at;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

fn sized(pax: &str, header: u64) -> Head<'static> {
    Head { pax: vec![("size", pax.as_bytes().to_vec())], size: Some(header), ..Head::default() }
}

#[test]
fn attack_7_two_sizes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let hidden = Tar::new().file("hidden", "owned").end();
    let nested = format!("{}", hidden.len());
    // By the header the file is 1 block long, by the record it covers the archive within, or the other way round.
    place.refuses(&[Tar::new().entry("f", sized(&nested, 512), &hidden)], "two sizes for one entry");
    place.refuses(&[Tar::new().entry("f", sized("512", hidden.len() as u64), &hidden)], "two sizes for one entry");
    // A header that leaves the size to the record is what writers of large files make.
    place.accepts(&[Tar::new().entry("f", sized(&nested, 0), &hidden).file("after", "1")]);
    assert!(!place.has("hidden") && place.has("after"));
    assert_eq!(fs::read(place.rootfs().join("f")).unwrap(), hidden);
    // A value with a newline in it does not hide the size after it.
    let pax = vec![("SCHILY.xattr.user.a", b"1\n2".to_vec()), ("size", nested.into_bytes())];
    let head = Head { pax, size: Some(0), ..Head::default() };
    place.accepts(&[Tar::new().entry("f", head, &hidden)]);
    assert!(!place.has("hidden"));
    place.refuses(&[Tar::new().entry("f", sized("18446744073709551615", 0), b"")], "refused as a bomb");
    place.refuses(&[Tar::new().entry("f", sized("99999999", 0), b"short")], "cut short");
}

#[test]
fn attack_8_nodes_flips_and_attributes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let node = |kind, device| Head { kind, device, mode: 0o4666, owner: (3, 4), ..Head::default() };
    let layer = Tar::new().entry("null", node(b'3', (1, 3)), b"").entry("loop", node(b'4', (7, 0)), b"").entry(
        "pipe",
        node(b'6', (0, 0)),
        b"",
    );
    place.accepts(&[layer.entry("su", Head { mode: 0o6755, owner: (0, 5), ..Head::default() }, b"elf")]);
    let meta = |name: &str| fs::symlink_metadata(place.rootfs().join(name)).unwrap();
    assert!(meta("null").file_type().is_char_device() && meta("loop").file_type().is_block_device());
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!((meta("null").rdev(), meta("null").mode() & 0o7777, meta("null").uid()), (0x103, 0o4666, 3));
    assert_eq!((meta("su").mode() & 0o7777, meta("su").gid()), (0o6755, 5));
    place.refuses(&[Tar::new().entry("wh", node(b'3', (0, 0)), b"")], "a character device 0:0");
    place.refuses(&[Tar::new().entry("n", node(b'3', (1 << 12, 0)), b"")], "there is no device");
    // What the store takes for marks of its own.
    let pipe = |mode| Head { kind: b'6', mode, ..Head::default() };
    place.refuses(&[Tar::new().entry("wh", pipe(0o7000), b"")], "a pipe of mode 7000");
    place.refuses(&[Tar::new().entry("wh", pipe(0o17000), b"")], "a pipe of mode 7000");
    place.refuses(&[Tar::new().dir("d").file("d/.corten.opaque", "")], "a name of the store's own");
    place.accepts(&[Tar::new().entry("pipe", pipe(0o7001), b"").file(".corten.opaque.", "")]);

    // Everything over everything else; the last one stays.
    let kinds: [fn(Tar) -> Tar; 5] = [
        |tar| tar.file("x", "1"),
        |tar| tar.dir("x").file("x/below", "1"),
        |tar| tar.symlink("x", "/"),
        |tar| tar.file("other", "1").hardlink("x", "other"),
        |tar| tar.entry("x", Head { kind: b'6', ..Head::default() }, b""),
    ];
    for first in kinds {
        for second in kinds {
            place.accepts(&[first(Tar::new()), second(Tar::new())]);
            let layered = Picture::of(&place.rootfs().join("x"), Detail::Archived);
            place.accepts(&[second(first(Tar::new()))]);
            assert_eq!(Picture::of(&place.rootfs().join("x"), Detail::Archived), layered);
            place.accepts(&[second(Tar::new())]);
            assert_eq!(Picture::of(&place.rootfs().join("x"), Detail::Archived), layered);
        }
    }

    // cap_net_raw+ep; byte 10 among the others, because a newline there breaks naive readers.
    let capability = [1, 0, 0, 2, 0, 32 | 10, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
    let pax = vec![("SCHILY.xattr.security.capability", capability.to_vec()), ("uid", b"9".to_vec())];
    place.accepts(&[Tar::new().entry("ping", Head { mode: 0o4755, pax, ..Head::default() }, b"elf")]);
    let file = fs::File::open(place.rootfs().join("ping")).unwrap();
    assert_eq!(at::fgetxattr(&file, c"security.capability").unwrap(), capability);
    assert_eq!((meta("ping").uid(), meta("ping").mode() & 0o7777), (9, 0o4755));
    for name in [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "user.overlay.whiteout",
        "trusted.x",
    ] {
        place.refuses(&[Tar::new().xattr("f", name, b"y")], "is not for an image to set");
    }
    place.accepts(&[Tar::new().xattr("f", "security.selinux", b"system_u:object_r:shadow_t:s0\0")]);
    let file = fs::File::open(place.rootfs().join("f")).unwrap();
    assert!(at::fgetxattr(&file, c"security.selinux").is_err());
    for owner in [(u64::from(u32::MAX), 0), (0, u64::from(u32::MAX)), (1 << 32, 0)] {
        place.refuses(&[Tar::new().entry("f", Head { owner, ..Head::default() }, b"")], "is not a valid owner");
    }
}

#[test]
fn attack_9_bombs() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let zeros = vec![0; 8 << 20];
    let bomb = Tar::new().entry("zeros", Head::default(), &zeros);
    let small = Limits { bytes: 16 << 20, entries: 100, ratio: 50, ratio_from: 1 << 20 };
    let refuses = |layers: &[Tar], limits: &Limits, words: &str| {
        assert_says(&place.unpack_with(layers, "{}", limits).unwrap_err(), words);
        assert_says(&place.stored(limits).unwrap_err(), words);
        place.canary_sings();
    };
    refuses(std::slice::from_ref(&bomb), &small, "more than 50 times its size");
    refuses(std::slice::from_ref(&bomb), &Limits { ratio: 5000, bytes: 1 << 20, ..small }, "refused as a bomb");
    refuses(&[bomb.clone(), bomb.clone(), bomb], &Limits { ratio: 5000, ..small }, "refused as a bomb");
    let many = (0..200).fold(Tar::new(), |tar, n| tar.dir(&format!("d{n}")));
    refuses(&[many], &small, "too many entries");
    // A sparse file of 1 TiB in one block.
    place.refuses(&[Tar::new().sparse("sparse", &[], 1 << 40, b"")], "refused as a bomb");
    // Headers that want memory.
    let huge = Head { pax: vec![("SCHILY.xattr.user.a", vec![b'a'; 2 << 20])], ..Head::default() };
    place.refuses(&[Tar::new().entry("f", huge, b"")], "an extended header of");
}

/// Changes one thing in a good layout; the error is to say these words.
#[track_caller]
fn spoiled(words: &str, spoil: impl FnOnce(&mut Layout, &str, &[u8])) {
    let place = Place::new();
    let mut layout = Layout::new(&place.path("layout"));
    let archive = Tar::new().file("f", "1").end();
    let blob = gzip(&archive);
    layout.layer(GZIP, &blob, &sha256(&archive));
    layout.finish("{}");
    let digest = sha256(&blob);
    spoil(&mut layout, &digest, &blob);
    assert_says(&place.go(&Limits::default()).unwrap_err(), words);
    // In overlay form, too.
    match place.stored(&Limits::default()) {
        Ok(_) => panic!("stored, and should be refused: {words}"),
        Err(e) => assert_says(&e, words),
    }
    place.canary_sings();
}

#[test]
fn attack_10_wrong_digests_and_sizes() {
    if !is_root() {
        return;
    }
    spoiled("the blob has 3 bytes", |layout, digest, _| fs::write(layout.file(digest), "abc").unwrap());
    spoiled("bytes, not", |layout, digest, blob| fs::write(layout.file(digest), &blob[..blob.len() - 1]).unwrap());
    spoiled("bytes, not", |layout, digest, blob| fs::write(layout.file(digest), [blob, b"more"].concat()).unwrap());
    // Another archive of the same size: the right one in every way but its digest.
    spoiled("the blob's digest is", |layout, _, _| {
        let (archive, other) = (Tar::new().file("f", "1").end(), Tar::new().file("f", "2").end());
        layout.layers.clear();
        layout.diff_ids.clear();
        layout.layer(PLAIN, &archive, &sha256(&archive));
        layout.finish("{}");
        fs::write(layout.file(&sha256(&archive)), other).unwrap();
    });
    spoiled("not the diff_id", |layout, _, _| {
        layout.diff_ids = vec![sha256(b"something else")];
        layout.finish("{}");
    });
    spoiled("1 layers, but 2 diff_ids", |layout, _, _| {
        layout.diff_ids.push(sha256(b""));
        layout.finish("{}");
    });
    spoiled("neither sha256 nor sha512", |layout, _, _| {
        layout.layers[0]["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e".into();
        layout.finish("{}");
    });
    spoiled("Invalid encoded value", |layout, _, _| {
        layout.layers[0]["digest"] = "sha256:../../../canary/shadow".into();
        layout.finish("{}");
    });
    for (field, value) in [("config", "{\"a\":1}"), ("manifest", "{\"schemaVersion\":2}")] {
        spoiled("bytes", |layout, _, _| {
            let config = layout.blob(CONFIG, layout.configuration("{}").to_string().as_bytes());
            let manifest = layout.blob(MANIFEST, layout.manifest(config.clone()).to_string().as_bytes());
            let victim = if field == "config" { config } else { manifest };
            fs::write(layout.file(victim["digest"].as_str().unwrap()), value).unwrap();
        });
    }
    spoiled("the blob's digest is", |layout, _, _| {
        let config = layout.configuration("{}").to_string();
        let digest = sha256(config.as_bytes());
        fs::write(layout.file(&digest), config.replace("2024", "2025")).unwrap();
    });
    // A blob that is a link out of the layout, or a pipe.
    spoiled("is a link out of the layout", |layout, digest, _| {
        fs::remove_file(layout.file(digest)).unwrap();
        symlink(layout.path.join("../canary/shadow"), layout.file(digest)).unwrap();
    });
    spoiled("is not a regular file", |layout, digest, _| {
        fs::remove_file(layout.file(digest)).unwrap();
        nix::unistd::mkfifo(&layout.file(digest), nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    spoiled("is not there", |layout, digest, _| fs::remove_file(layout.file(digest)).unwrap());
}

#[test]
fn attack_10_confused_types() {
    if !is_root() {
        return;
    }
    let index = "application/vnd.oci.image.index.v1+json";
    let both = |layout: &Layout| {
        let config = layout.blob(CONFIG, layout.configuration("{}").to_string().as_bytes());
        let mut manifest = layout.manifest(config);
        manifest["manifests"] = serde_json::json!([]);
        manifest
    };
    spoiled("an index and a manifest at once", |layout, _, _| {
        layout.index(serde_json::json!([layout.blob(MANIFEST, both(layout).to_string().as_bytes())]));
    });
    spoiled("its mediaType is", |layout, _, _| {
        layout.index(serde_json::json!([layout.blob(index, both(layout).to_string().as_bytes())]));
    });
    spoiled("its configuration is of type", |layout, _, _| {
        let config = layout.blob(MANIFEST, layout.configuration("{}").to_string().as_bytes());
        layout.index(serde_json::json!([layout.blob(MANIFEST, layout.manifest(config).to_string().as_bytes())]));
    });
    for (media_type, words) in [
        ("application/vnd.oci.image.layer.v1.tar+zstd", "this is not a zstd stream"),
        ("application/octet-stream", "layers of type application/octet-stream are not supported"),
        (PLAIN, "the archive is cut short"),
    ] {
        spoiled(words, |layout, _, _| {
            layout.layers[0]["mediaType"] = media_type.into();
            layout.finish("{}");
        });
    }
}

#[test]
fn attack_11_a_blob_that_changes() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let mut layout = Layout::new(&place.path("layout"));
    // Plain, so that only the digest can tell; large enough to be changed midway.
    let archive =
        |text: &str| Tar::new().entry("big", Head::default(), text.repeat(1 << 20).as_bytes()).file("f", text).end();
    let (good, evil) = (archive("g"), archive("e"));
    layout.layer(PLAIN, &good, &sha256(&good));
    layout.finish("{}");
    let blob = layout.file(&sha256(&good));
    let stop = AtomicBool::new(false);
    let (mut whole, mut mixed, mut refused) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options().write(true).open(&blob).unwrap();
            // An end of its own: a panic below would otherwise wait for this thread for ever.
            for _ in 0..1000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                for content in [&evil, &good] {
                    file.write_all_at(content, 0).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        });
        for _ in 0..30 {
            match place.go(&Limits::default()) {
                Ok(_) => {
                    whole += 1;
                    let big = fs::read(place.rootfs().join("big")).unwrap();
                    mixed += usize::from(big.iter().any(|b| *b != b'g') || place.read("f") != "g");
                }
                Err(_) => refused += 1,
            }
            match place.stored(&Limits::default()) {
                Ok(overlay) => {
                    whole += 1;
                    let big = sha256("g".repeat(1 << 20).as_bytes());
                    mixed += usize::from(!overlay.0[Path::new("big")].ends_with(&big));
                }
                Err(_) => refused += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("{whole} whole, {refused} refused");
    assert_eq!(mixed, 0, "of {whole} unpacked");
    assert!(refused > 0, "the blob never changed in time");
    fs::write(&blob, &good).unwrap();
    place.go(&Limits::default()).unwrap();
    place.canary_sings();
}

#[test]
fn attack_12_huge_documents() {
    if !is_root() {
        return;
    }
    let huge = " ".repeat(5 << 20);
    spoiled("at most 4194304", |layout, _, _| {
        let config = layout.blob(CONFIG, (layout.configuration("{}").to_string() + &huge).as_bytes());
        layout.index(serde_json::json!([layout.blob(MANIFEST, layout.manifest(config).to_string().as_bytes())]));
    });
    spoiled("at most 4194304", |layout, _, _| {
        layout.index(serde_json::json!([layout.blob(MANIFEST, huge.as_bytes())]))
    });
    spoiled("index.json has more than", |layout, _, _| fs::write(layout.path.join("index.json"), &huge).unwrap());
    // It says it is small.
    spoiled("bytes, not 100", |layout, _, _| {
        let mut manifest = layout.blob(MANIFEST, huge.as_bytes());
        manifest["size"] = 100.into();
        layout.index(serde_json::json!([manifest]));
    });
    spoiled("EOF while parsing", |layout, _, _| {
        fs::write(
            layout.path.join("index.json"),
            format!("{{\"schemaVersion\":2,\"fsLayers\":{}", "[".repeat(100_000)),
        )
        .unwrap();
    });
    let place = Place::new();
    for name in ["etc/passwd", "etc/group"] {
        place.refuses_bundle(&[Tar::new().entry(name, Head::default(), &vec![b'a'; 5 << 20])], "(at most 4194304)");
    }
    let shadow = place.canary("shadow");
    // A link out of the image is no file in it.
    place.accepts(&[Tar::new().symlink("etc/passwd", &shadow)]);
    let pipe = Tar::new().entry("etc/passwd", Head { kind: b'6', ..Head::default() }, b"");
    place.refuses_bundle(&[pipe], "is not a regular file");
}
