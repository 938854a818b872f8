//! Layers in overlay form, mounted on one another, show the tree that flattening makes.

use crate::kit::*;
use corten::image::Limits;
use corten::image::manifest::Platform;
use corten::image::source::Source;
use corten::image::store::{Silent, Store, Stored};
use oci_spec::image::Descriptor;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

/// Adds the only image of the layout.
pub fn add(place: &Place, store: &Store) -> corten::error::Result<Stored> {
    let layout = corten::image::layout::Layout::open(&place.path("layout")).unwrap();
    let top = layout.entries().unwrap().remove(0);
    add_from(&layout, &top, store)
}

pub fn add_from(source: &dyn Source, top: &Descriptor, store: &Store) -> corten::error::Result<Stored> {
    store.add(source, top, &Platform::here(), Some("docker.io/library/test:latest"), &Silent)
}

/// Unpacks both ways and compares every path; and once more in a store on an overlay, where the kernel takes no marks and layers are copied.
#[track_caller]
pub fn same(layers: &[Tar]) {
    let place = Place::new();
    // Most random trees have a loop or a file in the way somewhere: then both forms say so.
    let flat = place.unpack_with(layers, "{}", &Limits::default());
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    let stored = add(&place, &store);
    place.canary_sings();
    let copied = copied(&place);
    assert_eq!(copied.is_ok(), stored.is_ok(), "{:?} {:?}", copied.err(), stored.err());
    match (flat, stored) {
        (Ok(()), Ok(stored)) => {
            same_trees(Picture::of(&place.rootfs(), Detail::Archived), mounted(store.layers(&stored).unwrap()));
            same_trees(Picture::of(&place.rootfs(), Detail::Archived), copied.unwrap());
        }
        (Err(_), Err(_)) => {}
        // `a/b` where `a` is a file below, and a later entry replaces `a`: on its own the layer has no fault.
        (Err(e), Ok(_)) if e.to_string().contains("ENOTDIR") => {}
        (flat, stored) => panic!("flat: {:?}, overlay: {:?}", flat.err(), stored.err()),
    }
    left_clean(&store);
}

/// The image's tree, copied from layers in a store on an overlay, in a mount namespace that ends with the thread.
fn copied(place: &Place) -> corten::error::Result<Picture> {
    let copied = || {
        let at = on_an_overlay();
        let (store, root) = (at.path().join("mnt/store"), at.path().join("mnt/root"));
        fs::create_dir(&root).unwrap();
        let store = Store::open(&store).unwrap();
        let made = add(place, &store).map(|stored| {
            let layers = store.layers(&stored).unwrap();
            corten::image::copy::layers(&layers, fs::File::open(&root).unwrap().as_fd()).unwrap();
            // No mark is left, whatever the image did.
            Picture::of(&root, Detail::Archived)
        });
        left_clean(&store);
        // It holds its directory open.
        drop(store);
        nix::mount::umount(&at.path().join("mnt")).unwrap();
        made
    };
    std::thread::scope(|scope| scope.spawn(copied).join()).unwrap()
}

/// A directory with an overlay on `mnt`, in a mount namespace of this thread's own.
fn on_an_overlay() -> tempfile::TempDir {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let at = tempfile::Builder::new().prefix("image-store-overlay-").tempdir().unwrap();
    let [lower, upper, work, here] = ["lower", "upper", "work", "mnt"].map(|name| at.path().join(name));
    [&lower, &upper, &work, &here].into_iter().for_each(|path| fs::create_dir(path).unwrap());
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    mount(Some("overlay"), &here, Some("overlay"), MsFlags::empty(), Some(options.as_str())).unwrap();
    at
}

/// Nothing half-made is left.
#[track_caller]
pub fn left_clean(store: &Store) {
    let left = fs::read_dir(store.path().join("tmp")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<OsString> = left.filter(|name| !name.to_string_lossy().starts_with("blob-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn base() -> Tar {
    Tar::new().dir("d").file("d/old", "1").dir("d/sub").file("d/sub/old", "1").file("top", "1")
}

#[test]
fn whiteouts_and_opaque_directories() {
    if !is_root() {
        return;
    }
    for upper in [
        Tar::new().file(".wh.top", ""),
        Tar::new().file(".wh.top", "").file("d/.wh.sub", "").file("none/.wh.x", "").file("d/.wh.none", ""),
        Tar::new().file("top", "2").file(".wh.top", ""),
        Tar::new().file(".wh.top", "").file("top", "2"),
        Tar::new().file(".wh.top", "").dir("top").file("top/x", "2"),
        Tar::new().file("d/.wh..wh..opq", "").file("d/new", "2").dir("d/sub").file("d/sub/new", "2"),
        Tar::new().file("d/new", "2").dir("d/sub").file("d/sub/new", "2").file("d/.wh..wh..opq", ""),
        Tar::new().file(".wh.d", "").dir("d").file("d/new", "2"),
        Tar::new().dir("d").file("d/new", "2").file(".wh.d", ""),
        Tar::new().file(".wh.d", "").file("d/new", "2"),
        Tar::new().file(".wh.d", "").file("d/.wh.old", ""),
        Tar::new().file(".wh.d", "").file("d/.wh.old", "").dir("d"),
        Tar::new().file("d", "a file").dir("d").file("d/new", "2"),
        Tar::new().dir("e").file("e/.wh.x", "").file("e/.wh..wh..opq", ""),
        Tar::new().file(".wh..wh..opq", "").file("new", "2"),
        Tar::new().file("new", "2").dir("d").file("d/x", "2").file(".wh..wh..opq", ""),
        Tar::new().file("d/sub/.wh.old", ""),
        Tar::new().dir("d").file("d/.wh.old", "").file("d/.wh..wh..opq", ""),
    ] {
        same(&[base(), upper.clone()]);
        same(&[base(), Tar::new().file("d/middle", "2").file("other", "2"), upper.clone()]);
        same(&[base(), Tar::new().file(".wh.d", ""), upper.clone()]);
        same(&[base(), Tar::new().file(".wh..wh..opq", "").dir("d"), upper.clone()]);
        same(&[base(), upper.clone(), Tar::new().dir("d").file("d/last", "3"), upper.clone()]);
        same(&[upper]);
    }
}

/// What a layer between has hidden is not there for the next one: no directory to be like, and no file to have another name for.
#[test]
fn what_lies_below_an_opaque_directory_is_gone() {
    if !is_root() {
        return;
    }
    let lower = base().entry("d/sub", Head { kind: b'5', mode: 0o700, mtime: 300, ..Head::default() }, b"");
    for between in [
        Tar::new().dir("d").file("d/.wh..wh..opq", ""),
        Tar::new().file(".wh.d", "").dir("d"),
        Tar::new().dir("d").file("d/.wh.sub", "").file("d/.wh.old", ""),
    ] {
        same(&[lower.clone(), between.clone(), Tar::new().file("d/sub/new", "2")]);
        same(&[lower.clone(), between.clone(), Tar::new().hardlink("d/new", "d/old")]);
        same(&[lower.clone(), between, Tar::new().file("d/x", "1"), Tar::new().hardlink("d/sub", "d/x")]);
    }
}

#[test]
fn directories_that_a_layer_leaves_out() {
    if !is_root() {
        return;
    }
    let at = |mtime, mode| Head { kind: b'5', mode, mtime, owner: (7, 8), ..Head::default() };
    let pax = vec![("SCHILY.xattr.user.note", b"1".to_vec())];
    let lower = Tar::new()
        .entry("./", at(100, 0o751), b"")
        .entry("tmp", at(200, 0o1777), b"")
        .entry("tmp/in", Head { pax, ..at(300, 0o700) }, b"")
        .file("tmp/in/x", "1");
    same(&[lower.clone(), Tar::new().file("tmp/in/y", "2")]);
    same(&[lower.clone(), Tar::new().file("tmp/in/.wh.x", "")]);
    same(&[lower.clone(), Tar::new().file("tmp/y", "2"), Tar::new().file("tmp/in/z", "2")]);
    same(&[lower.clone(), Tar::new().entry("tmp/in", at(400, 0o711), b"").file("tmp/in/z", "2")]);
    same(&[lower.clone(), Tar::new().file("tmp/x/y/z", "2")]);
    same(&[lower, Tar::new().file("tmp/in/x/y", "2")]);
}

#[test]
fn links_of_the_layers_below() {
    if !is_root() {
        return;
    }
    let lower = Tar::new()
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/libc", "elf")
        .symlink("lib", "usr/lib")
        .symlink("run", "/var/run/../run/now")
        .symlink("again", "lib")
        .symlink("loop", "loop");
    for upper in [
        Tar::new().file("lib/libm", "elf"),
        Tar::new().file("lib/a/b/c", "elf").file("again/d", "2"),
        Tar::new().file("run/pid", "1"),
        Tar::new().file("lib/.wh.libc", ""),
        Tar::new().file("again/.wh..wh..opq", ""),
        Tar::new().dir("lib").file("lib/new", "2"),
        Tar::new().file("lib/x", "1").file(".wh.lib", ""),
        Tar::new().file("loop/x", "1"),
        Tar::new().hardlink("libc", "lib/libc"),
        Tar::new().hardlink("usr/libc", "usr/lib/libc").hardlink("libc2", "again/libc"),
        Tar::new().symlink("l", "usr/lib").hardlink("libc", "l/libc"),
        Tar::new().hardlink("x", "lib").hardlink("y", "usr/none"),
        Tar::new().hardlink("kept", "usr/lib/libc").file("usr/lib/.wh.libc", ""),
        Tar::new().file("usr/lib/.wh.libc", "").hardlink("kept", "usr/lib/libc"),
        Tar::new().file("run/.wh.pid", "").file("out/.wh.x", ""),
    ] {
        same(&[lower.clone(), upper.clone()]);
        same(&[lower.clone(), Tar::new().file("usr/lib/more", "1"), upper.clone()]);
        same(&[lower.clone(), Tar::new().file(".wh.lib", ""), upper]);
    }
}

/// More than a page of mount options would hold, and directories that are only described far below.
#[test]
fn three_hundred_layers() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let lowest = Tar::new().entry("d", Head { kind: b'5', mode: 0o710, owner: (3, 4), ..Head::default() }, b"");
    let mut layers = vec![lowest];
    layers.extend((0..300).map(|n| Tar::new().file(&format!("d/{n}"), "x").file(&format!("d/.wh.{}", n / 2), "")));
    place.unpack_with(&layers, "{}", &Limits::default()).unwrap();
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let store = Store::open(&at.path().join("store")).unwrap();
    let stored = add(&place, &store).unwrap();
    let directories = store.layers(&stored).unwrap();
    assert_eq!(directories.len(), 301);
    for directory in directories {
        let meta = fs::metadata(directory.join("d")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o710, 3, 4));
    }
    let Place { dir, .. } = place;
    let mut many = Layout::new(&dir.path().join("many"));
    for _ in 0..501 {
        many.layers.push(serde_json::json!({"mediaType": PLAIN, "digest": sha256(b""), "size": 0}));
        many.diff_ids.push(sha256(b""));
    }
    many.finish("{}");
    let layout = corten::image::layout::Layout::open(&many.path).unwrap();
    let top = layout.entries().unwrap().remove(0);
    assert_says(&add_from(&layout, &top, &store).unwrap_err(), "501 layers (at most 500)");
}

#[test]
fn the_store_is_private_and_a_layout() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.accepts(&[base(), Tar::new().file("d/new", "2")]);
    let at = tempfile::Builder::new().prefix("image-store-").tempdir().unwrap();
    let path = at.path().join("store");
    let store = Store::open(&path).unwrap();
    let stored = add(&place, &store).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(stored.names, ["docker.io/library/test:latest"]);
    for text in ["test", "docker.io/library/test:latest", "library/test", &stored.id.hex[..4], &stored.id.to_string()] {
        assert_eq!(store.find(text).unwrap().map(|image| image.id), Some(stored.id.clone()), "{text}");
    }
    assert!(store.find("tes").unwrap().is_none() && store.find("test:1").unwrap().is_none());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    assert_says(&Store::open(&path).err().unwrap(), "nobody else may write");
    skopeo_reads(&path);
}

fn skopeo_reads(path: &Path) {
    let reference = format!("oci:{}:docker.io/library/test:latest", path.display());
    match std::process::Command::new("skopeo").args(["inspect", &reference]).output() {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr)),
        Err(e) => eprintln!("skipped: skopeo: {e}"),
    }
}
