//! The same tree as umoci makes, from an image that umoci built.

use crate::kit::*;
use corten::image::local;
use corten::image::manifest::Platform;
use corten::image::store::{Silent, Store};
use corten::sys::at;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

#[track_caller]
fn umoci(args: &[&str]) {
    let done = Command::new("umoci").args(args).output().unwrap();
    assert!(done.status.success(), "umoci {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// First layer: busybox with hard links, links, a capability, setuid, nodes, owners, attributes, odd names.
fn first(rootfs: &Path) {
    let busybox = fs::read("/bin/busybox").unwrap();
    for directory in ["bin", "etc/deep/er", "usr/lib", "tmp", "gone/sub", "opaque/sub"] {
        fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    fs::write(rootfs.join("bin/busybox"), busybox).unwrap();
    fs::set_permissions(rootfs.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for applet in ["sh", "ls", "cat"] {
        fs::hard_link(rootfs.join("bin/busybox"), rootfs.join("bin").join(applet)).unwrap();
    }
    symlink("usr/lib", rootfs.join("lib")).unwrap();
    symlink("/nowhere/at/all", rootfs.join("etc/dangling")).unwrap();
    lchown(rootfs.join("etc/dangling"), Some(12), Some(13)).unwrap();
    for (name, mode, owner) in
        [("etc/su", 0o4755, 0), ("etc/sgid", 0o2711, 50), ("etc/none", 0o000, 1000), ("etc/big-uid", 0o644, 3_000_000)]
    {
        fs::write(rootfs.join(name), name).unwrap();
        lchown(rootfs.join(name), Some(owner), Some(owner)).unwrap();
        fs::set_permissions(rootfs.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(rootfs.join("etc/ping"), "elf").unwrap();
    let capability = [1, 0, 0, 2, 0, 32 | 10, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
    at::fsetxattr(fs::File::open(rootfs.join("etc/ping")).unwrap(), c"security.capability", &capability).unwrap();
    at::fsetxattr(fs::File::open(rootfs.join("etc/deep")).unwrap(), c"user.note", b"two\nlines").unwrap();
    fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o640);
    nix::unistd::mkfifo(&rootfs.join("etc/pipe"), mode).unwrap();
    nix::sys::stat::mknod(&rootfs.join("etc/null"), nix::sys::stat::SFlag::S_IFCHR, mode, 0x103).unwrap();
    fs::write(rootfs.join("etc").join("n".repeat(200)), "long").unwrap();
    fs::write(rootfs.join("etc/ünïcode name"), "odd").unwrap();
    fs::write(rootfs.join("gone/sub/file"), "1").unwrap();
    fs::write(rootfs.join("opaque/sub/file"), "1").unwrap();
    fs::write(rootfs.join("etc/empty"), "").unwrap();
}

/// Second layer: things removed, replaced, changed.
fn second(rootfs: &Path) {
    fs::remove_dir_all(rootfs.join("gone")).unwrap();
    fs::remove_file(rootfs.join("bin/cat")).unwrap();
    fs::remove_file(rootfs.join("etc/su")).unwrap();
    fs::remove_file(rootfs.join("lib")).unwrap();
    fs::create_dir(rootfs.join("lib")).unwrap();
    fs::write(rootfs.join("lib/now-a-directory"), "2").unwrap();
    fs::remove_dir_all(rootfs.join("opaque/sub")).unwrap();
    symlink("../etc", rootfs.join("opaque/sub")).unwrap();
    fs::write(rootfs.join("etc/none"), "changed").unwrap();
    fs::hard_link(rootfs.join("etc/sgid"), rootfs.join("etc/sgid2")).unwrap();
    fs::set_permissions(rootfs.join("usr"), fs::Permissions::from_mode(0o711)).unwrap();
}

#[test]
fn same_tree_as_umoci() {
    if !is_root() {
        return;
    }
    if Command::new("umoci").arg("--version").output().is_err() || !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: needs umoci and busybox-static");
        return;
    }
    let place = tempfile::Builder::new().prefix("image-umoci-").tempdir().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let image = path("layout") + ":latest";
    umoci(&["init", "--layout", &path("layout")]);
    umoci(&["new", "--image", &image]);
    for (name, change) in [("work1", first as fn(&Path)), ("work2", second)] {
        umoci(&["unpack", "--image", &image, &path(name)]);
        change(&place.path().join(name).join("rootfs"));
        umoci(&["repack", "--image", &image, &path(name)]);
    }
    // A layer that is opaque.
    fs::create_dir(path("insert")).unwrap();
    fs::write(path("insert") + "/only", "3").unwrap();
    umoci(&["insert", "--image", &image, "--opaque", &path("insert"), "/usr"]);
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.cmd",
        "/bin/sh",
        "--config.user",
        "7:8",
        "--config.stopsignal",
        "SIGINT",
    ]);

    umoci(&["unpack", "--image", &image, &path("theirs")]);
    unpack(&format!("oci:{image}"), &place.path().join("ours")).unwrap();
    let theirs = Picture::of(&place.path().join("theirs/rootfs"), Detail::Archived);
    let ours = Picture::of(&place.path().join("ours/rootfs"), Detail::Archived);
    assert!(theirs.0.len() > 25, "{} paths", theirs.0.len());
    for (name, line) in &theirs.0 {
        assert_eq!(ours.0.get(name), Some(line), "{}", name.display());
    }
    assert_eq!(ours, theirs);
    let read = |bundle: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path(bundle) + "/config.json").unwrap()).unwrap()
    };
    let (ours, theirs) = (read("ours"), read("theirs"));
    for field in ["args", "cwd", "user"] {
        assert_eq!(ours["process"][field], theirs["process"][field], "{field}");
    }
    // umoci writes empty ones too.
    for (key, value) in theirs["annotations"].as_object().unwrap().iter().filter(|(_, value)| *value != "") {
        assert_eq!(&ours["annotations"][key], value, "{key}");
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }
}

/// Everything below a directory, links not followed.
fn paths(root: &Path) -> Vec<PathBuf> {
    let (mut todo, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(directory) = todo.pop() {
        let mut here: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        here.sort();
        todo.extend(here.iter().filter(|path| path.symlink_metadata().unwrap().is_dir()).cloned());
        found.extend(here);
    }
    found
}

/// Removes, replaces, links and changes.
fn shuffle(rootfs: &Path, dice: &mut Dice, times: usize) {
    for n in 0..times {
        let all = paths(rootfs);
        let path = all[dice.roll(all.len())].clone();
        let meta = path.symlink_metadata().unwrap();
        let (what, new) = (dice.roll(9), path.with_file_name(format!("new{n}-{}", dice.roll(1 << 40))));
        let remove =
            || if meta.is_dir() { fs::remove_dir_all(&path).unwrap() } else { fs::remove_file(&path).unwrap() };
        match what {
            0 => remove(),
            1 => {
                remove();
                fs::create_dir(&path).unwrap();
                fs::write(path.join("inside"), [n as u8; 100]).unwrap();
            }
            2 => {
                remove();
                symlink("../somewhere/else", &path).unwrap();
            }
            3 => {
                remove();
                fs::write(&path, format!("changed {n}")).unwrap();
            }
            4 if !meta.is_dir() => fs::hard_link(&path, &new).unwrap(),
            5 if meta.is_file() => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o4700 + dice.roll(64) as u32)).unwrap();
                let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                at::fsetxattr(fs::File::open(&path).unwrap(), c"security.capability", &capability).unwrap();
            }
            6 => lchown(&path, Some(n as u32), Some(dice.roll(70_000) as u32)).unwrap(),
            7 if meta.is_dir() => {
                at::fsetxattr(fs::File::open(&path).unwrap(), c"user.n", &[n as u8]).unwrap();
                // Something else may have that name by now.
                drop(fs::create_dir(path.join("deep")));
            }
            _ => fs::write(&new, vec![n as u8; dice.roll(20_000)]).unwrap(),
        }
    }
}

/// The only image of a layout, its layers compressed anew.
fn in_zstd(from: &Path, to: &Path) -> Option<PathBuf> {
    let read = |digest: &str| fs::read(from.join("blobs").join(digest.replace(':', "/"))).unwrap();
    let json = |bytes: Vec<u8>| -> serde_json::Value { serde_json::from_slice(&bytes).unwrap() };
    let index = json(fs::read(from.join("index.json")).unwrap());
    let manifest = json(read(index["manifests"][0]["digest"].as_str().unwrap()));
    let config = read(manifest["config"]["digest"].as_str().unwrap());
    let mut layout = Layout::new(to);
    for layer in manifest["layers"].as_array().unwrap() {
        let mut archive = Vec::new();
        let blob = read(layer["digest"].as_str().unwrap());
        flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut archive).unwrap();
        let blob = zstd(&archive, &["-9"])?;
        layout.layer("application/vnd.oci.image.layer.v1.tar+zstd", &blob, &sha256(&archive));
    }
    let config = layout.blob(CONFIG, &config);
    let manifest = layout.blob(MANIFEST, layout.manifest(config).to_string().as_bytes());
    layout.index(serde_json::json!([manifest]));
    Some(layout.path)
}

/// Ten images of three layers each, flattened and in overlay form; the last of them compressed with zstd.
#[test]
fn ten_images_like_umoci() {
    if !is_root() {
        return;
    }
    if Command::new("umoci").arg("--version").output().is_err() || !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: needs umoci and busybox-static");
        return;
    }
    for n in 0..10 {
        let place = tempfile::Builder::new().prefix("image-umoci-").tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let image = path("layout") + ":latest";
        umoci(&["init", "--layout", &path("layout")]);
        umoci(&["new", "--image", &image]);
        let mut dice = Dice(0x9e37_79b9 + n);
        for round in 0..3 {
            let work = path(&format!("work{round}"));
            umoci(&["unpack", "--image", &image, &work]);
            let rootfs = Path::new(&work).join("rootfs");
            match round {
                0 => first(&rootfs),
                _ => shuffle(&rootfs, &mut dice, 25),
            }
            umoci(&["repack", "--image", &image, &work]);
        }
        umoci(&["unpack", "--image", &image, &path("theirs")]);
        let mut ours = format!("oci:{image}");
        if n == 9
            && let Some(layout) = in_zstd(&place.path().join("layout"), &place.path().join("zstd"))
        {
            ours = format!("oci:{}", layout.display());
        }
        unpack(&ours, &place.path().join("ours")).unwrap();
        let theirs = Picture::of(&place.path().join("theirs/rootfs"), Detail::Archived);
        same_trees(theirs, Picture::of(&place.path().join("ours/rootfs"), Detail::Archived));
        let store = Store::open(&place.path().join("store")).unwrap();
        let stored = local::add(&store, &ours, &Platform::here(), &Silent).unwrap();
        let theirs = Picture::of(&place.path().join("theirs/rootfs"), Detail::Archived);
        same_trees(theirs, mounted(store.layers(&stored).unwrap()));
        let zstd = fs::read_to_string(path("zstd") + "/index.json").is_ok();
        eprintln!(
            "image {n}: {} paths{}",
            paths(&place.path().join("ours/rootfs")).len(),
            if zstd { ", zstd" } else { "" }
        );
    }
}
