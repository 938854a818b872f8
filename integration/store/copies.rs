//! Where the kernel cannot stack layers, they are copied: on a real file system that holds no overlay, by the program.
//!
//! `mkfs.ext4 -O ^filetype` makes directories that do not say what their names are: overlay mounts there, with a warning in dmesg, and lists the files that
//! it hides. It has everything else: attributes, owners, links, devices. On another overlay the kernel refuses to write.

use crate::kit::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// CAP_NET_BIND_SERVICE, permitted and effective (`setcap cap_net_bind_service+ep`).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A mount, with a store on it.
struct Mounted {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Mounted {
    fn new(words: impl Fn(&Path) -> Vec<String>) -> Option<Mounted> {
        // Of this thread alone: a namespace that others make meanwhile would keep a copy of the mount.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let dir = tempfile::Builder::new().prefix("image-copies-").tempdir().unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let done = Command::new("mount").args(words(dir.path())).arg(dir.path().join("mnt")).output();
        if let Some(why) = done.map_or_else(
            |e| Some(e.to_string()),
            |done| (!done.status.success()).then(|| String::from_utf8_lossy(&done.stderr).into_owned()),
        ) {
            eprintln!("skipped: it cannot be mounted here: {}", why.trim());
            return None;
        }
        let built = std::env::var_os("CORTEN_BIN").map_or_else(|| env!("CARGO_BIN_EXE_corten").into(), PathBuf::from);
        Some(Mounted { dir, program: std::path::absolute(built).unwrap() })
    }

    fn store(&self, below: &str) -> PathBuf {
        self.dir.path().join("mnt/store").join(below)
    }

    /// Code, output and errors.
    fn call(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.path().join("root")).args(words).env("CORTEN_STORE", self.store(""));
        let done = command.current_dir(self.dir.path()).stdin(std::process::Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.call(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        out
    }

    /// All layers, unpacked.
    fn layers(&self) -> Vec<Picture> {
        let mut all: Vec<PathBuf> = fs::read_dir(self.store("layers")).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        let unpacked =
            |layer: &PathBuf| ["diff", "unstackable"].map(|form| layer.join(form)).into_iter().find(|p| p.is_dir());
        all.iter().map(|layer| Picture::of(&unpacked(layer).unwrap(), Detail::Everything)).collect()
    }

    fn count(&self, below: &str) -> usize {
        fs::read_dir(self.store(below)).unwrap().count()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let done = Command::new("umount").arg(self.dir.path().join("mnt")).status().unwrap();
        assert!(done.success() || std::thread::panicking(), "a mount is left");
    }
}

/// A root that has all mount points and files that a run would make, so that none of it changes.
fn root() -> Tar {
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    let busybox = fs::read(busybox).unwrap();
    let program = Head { mode: 0o755, ..Head::default() };
    let tar = ["./", "bin", "dev", "proc", "sys", "etc"].into_iter().fold(Tar::new(), |tar, name| tar.dir(name));
    let tar =
        ["hosts", "hostname", "resolv.conf"].into_iter().fold(tar, |tar, name| tar.file(&format!("etc/{name}"), ""));
    tar.symlink("etc/mtab", "/proc/mounts").entry("bin/busybox", program, &busybox)
}

/// Three layers with everything in them that a file can have, and everything that a layer can do to those below.
fn layers() -> [Tar; 3] {
    let head = |kind: u8, mode: u32, owner: (u64, u64)| Head { kind, mode, owner, ..Head::default() };
    let capable =
        vec![("SCHILY.xattr.security.capability", CAPABILITY.to_vec()), ("SCHILY.xattr.user.note", b"a b".to_vec())];
    let first = root()
        .entry("d", Head { mtime: 1_000_000_007, ..head(b'5', 0o2750, (7, 8)) }, b"")
        .entry("d/setuid", head(b'0', 0o4711, (7, 8)), b"runs as 7")
        .entry("d/capable", Head { mode: 0o711, pax: capable, ..Head::default() }, b"may bind")
        .file("d/one", "one")
        .hardlink("d/two", "d/one")
        .hardlink("bin/three", "d/one")
        .entry("d/pipe", head(b'6', 0o620, (0, 5)), b"")
        .entry("d/null", Head { device: (1, 3), ..head(b'3', 0o666, (0, 0)) }, b"")
        .symlink("d/link", "../no/where")
        .file("d/gone", "1")
        .file("d/changed", "1")
        .sparse("d/holes", &[(1 << 20, 512)], 4 << 20, &[7; 512])
        .entry("sticky", head(b'5', 0o1777, (0, 0)), b"")
        .dir("emptied")
        .file("emptied/1", "1")
        .dir("replaced")
        .file("replaced/1", "1");
    let second = Tar::new()
        .entry("d", head(b'5', 0o2750, (7, 8)), b"")
        .file("d/.wh.gone", "")
        .entry("d/changed", head(b'0', 0o600, (9, 9)), b"changed")
        .dir("emptied")
        .file("emptied/.wh..wh..opq", "")
        .file("emptied/2", "2")
        .file(".wh.replaced", "");
    let third =
        Tar::new().file("replaced", "a file now").entry("d", head(b'5', 0o2770, (70, 80)), b"").file("d/new", "3");
    [first, second, third]
}

#[test]
fn a_file_system_that_holds_no_overlay() {
    if !is_root() {
        return;
    }
    let made = |dir: &Path| {
        let disk = dir.join("disk");
        fs::File::create(&disk).unwrap().set_len(128 << 20).unwrap();
        let _ = Command::new("mkfs.ext4").args(["-q", "-F", "-O", "^filetype"]).arg(&disk).status();
        vec!["-t".into(), "ext4".into(), "-o".into(), "loop".into(), disk.display().to_string()]
    };
    let place = Place::new();
    place.accepts(&layers());
    let Some(mounted) = Mounted::new(made) else { return };
    is_copied(&mounted, &place, "d_type");
}

#[test]
fn another_overlay() {
    if !is_root() {
        return;
    }
    let made = |dir: &Path| {
        let at = |name: &str| {
            fs::create_dir(dir.join(name)).unwrap();
            dir.join(name).display().to_string()
        };
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        vec!["-t".into(), "overlay".into(), "overlay".into(), "-o".into(), options]
    };
    let place = Place::new();
    removing_image(&place);
    let Some(mounted) = Mounted::new(made) else { return };
    is_copied(&mounted, &place, "mknodat(S_IFCHR, 0:0)");
    // Layers with our marks have another name than those that the kernel may stack.
    let named = |form: &str| -> usize {
        let layers = fs::read_dir(mounted.store("layers")).unwrap().map(|layer| layer.unwrap().path().join(form));
        layers.filter(|layer| layer.is_dir()).count()
    };
    assert_eq!((named("diff"), named("unstackable")), (2, 3));
    mounted.ok(&["load", "-i", &archive(&mounted, &place)]);
    let size = mounted.ok(&["images", "--format", "{{.Size}}"]);
    assert!(size.contains("MB"), "{size}");

    // Wherever the store has got to, they are copied: also where an overlay can be had.
    let moved = mounted.dir.path().join("moved");
    let copied = Command::new("cp").arg("-a").arg(mounted.store("")).arg(&moved).status().unwrap();
    assert!(copied.success());
    let there = |words: &[&str]| mounted.ok(&[&["--store", moved.to_str().unwrap()], words].concat());
    let id = there(&["images", "-q", "--no-trunc"]);
    let (id, program) = (id.trim(), "/bin/busybox");
    there(&["run", "--name", "moved", id, program, "true"]);
    let ground = fs::read_to_string(moved.join("ground")).unwrap();
    assert_eq!(ground.lines().nth(1), Some("overlay"), "the store can hold one now");
    let told = there(&["explain", id, program]);
    assert!(
        told.starts_with("copied first") && told.lines().next().unwrap().contains("pull` unpack it anew"),
        "{told}"
    );
    let one = fs::read_dir(moved.join("containers")).unwrap().next().unwrap().unwrap().path().join("rootfs");
    same_trees(Picture::of(&place.rootfs(), Detail::Archived), Picture::of(&one, Detail::Archived));
    // Unpacked anew, they are stacked.
    there(&["rm", "moved"]);
    there(&["rmi", "-f", id]);
    assert_eq!(fs::read_dir(moved.join("layers")).unwrap().count(), 0);
    there(&["load", "-i", &archive(&mounted, &place)]);
    assert!(there(&["explain", id, program]).contains("\"overlay\""));
    there(&["run", "--rm", id, program, "test", "!", "-e", "/d/gone"]);
    // And nothing is left on the overlay, either.
    let id = mounted.ok(&["images", "-q"]);
    mounted.ok(&["rmi", "-f", id.trim()]);
    assert_eq!((mounted.count("layers"), mounted.count("tmp")), (0, 0));
}

/// The image as an archive.
fn archive(mounted: &Mounted, place: &Place) -> String {
    let (file, layout) = (mounted.dir.path().join("archive.tar"), place.path("layout"));
    let done = Command::new("tar").arg("-cf").arg(&file).arg("-C").arg(layout).arg(".").status().unwrap();
    assert!(done.success());
    file.display().to_string()
}

/// The same and more: what is removed comes back, as something else, and has other names.
fn removing_image(place: &Place) {
    let [first, second, third] = layers();
    let fourth = Tar::new()
        .hardlink("kept", "d/changed")
        .file("d/.wh.changed", "")
        .file(".wh.replaced", "")
        .dir("replaced")
        .file("replaced/2", "2")
        .file("emptied/.wh.2", "")
        .dir("emptied")
        .dir("emptied/deep")
        .file("emptied/deep/1", "1")
        .file("none/.wh..wh..opq", "")
        .file("sticky/none/.wh.none", "");
    let fifth = Tar::new()
        .file("emptied/deep/.wh..wh..opq", "")
        .file("emptied/deep/2", "2")
        .hardlink("again", "kept")
        .file(".wh.kept", "")
        .entry("d/changed", Head { kind: b'6', mode: 0o6777, ..Head::default() }, b"");
    place.accepts(&[first, second, third, fourth, fifth]);
}

/// A container's root is the image's tree, and its own. `why` is in what is said of it.
fn is_copied(mounted: &Mounted, place: &Place, why: &str) {
    let (image, program) = (place.reference(), "/bin/busybox");
    mounted.ok(&["run", "--name", "one", &image, program, "true"]);
    let noted = fs::read_to_string(mounted.store("ground")).unwrap();
    let reason = noted.lines().nth(1).unwrap().strip_prefix("copy ").unwrap_or_else(|| panic!("{noted}"));
    assert!(reason.contains(why), "{reason}");
    let explained = mounted.ok(&["explain", &image, program]);
    let told = explained.lines().next().unwrap();
    assert!(told.starts_with("copied first: the image's layers to ") && told.ends_with(reason), "{told}");
    assert!(!explained.contains("\"overlay\"") && !explained.contains("assumed"), "{explained}");

    let before = mounted.layers();
    let one = fs::read_dir(mounted.store("containers")).unwrap().next().unwrap().unwrap().path().join("rootfs");
    same_trees(Picture::of(&place.rootfs(), Detail::Archived), Picture::of(&one, Detail::Archived));
    // No name of the container is one of the image's files.
    let script = "set -e; b=/bin/busybox; echo x >/written; for f in /d/*; do [ -f $f ] && echo x >>$f; done; \
                  $b chmod 700 /d; $b chown 5:5 /d; $b rm -rf /etc/mtab; $b mv /d /e; $b find / -xdev | $b grep -c /e/";
    let seen = mounted.ok(&["run", "--name", "two", &image, program, "sh", "-c", script]);
    assert!(seen.trim().parse::<u32>().unwrap() >= 3, "{seen}");
    assert_eq!(mounted.layers(), before, "the image is what it was");
    let two = mounted.ok(&["inspect", "-f", "{{.Id}}", "two"]);
    assert!(mounted.store("containers").join(two.trim()).join("rootfs/written").exists());
    mounted.ok(&["run", "--rm", &image, program, "test", "!", "-e", "/written"]);
    // A file has as many names as it has in the root, none of them in the store.
    mounted.ok(&["run", "--rm", "--read-only", &image, program, "test", "-e", "/d/new"]);
    let (code, _, err) = mounted.call(&["run", "--rm", "--read-only", &image, program, "touch", "/x"]);
    assert!(code == 1 && err.contains("Read-only file system"), "{code} {err}");
    // What is removed can be removed.
    mounted.ok(&[
        "run",
        "--rm",
        &image,
        program,
        "sh",
        "-c",
        "cd /; /bin/busybox rm -rf d && /bin/busybox mkdir d && /bin/busybox rmdir d",
    ]);
    mounted.ok(&["rm", "one", "two"]);
    assert_eq!((mounted.count("containers"), mounted.count("names"), mounted.count("tmp")), (0, 0, 0));
    assert_eq!(mounted.layers(), before);
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let ours = mounts.lines().filter(|line| line.contains(mounted.dir.path().to_str().unwrap()));
    assert_eq!(ours.count(), 1, "{mounts}");
}
