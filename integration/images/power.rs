//! The power fails: the store lies on an ext4 of its own, which is shut down as it is (EXT4_IOC_SHUTDOWN without a last flush), and mounted anew.
//!
//! What was in memory only is gone then, as on a machine whose plug is pulled: the journal is replayed, and a file that was renamed, but not written
//! back, is empty. Another boot is another `boot_id`, mounted over the kernel's in a mount namespace of each call; in a pid namespace of its own it can
//! be ended with all that it has started. A busy neighbour on the same file system makes the journal come to the disk at every moment.

use crate::kit::{Done, MADE, Place, can, exists, run};
use crate::registry::{noise, sha256};
use crate::secrets::serve;
use crate::server::Server;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// `ioctl(directory, EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH)`
const SHUTDOWN: &str = "open(my $d, '<', $ARGV[0]) or die $!; ioctl($d, 0x8004587d, my $f = pack('L', 2)) or die $!";
const IN_A_BOOT: &str = "mount --bind \"$BOOT\" /proc/sys/kernel/random/boot_id && exec \"$@\"";

/// A place whose store is on a disk of its own.
struct Machine {
    place: Place,
    /// Its cgroups.
    group: String,
    boots: usize,
    mounted: bool,
}

impl Machine {
    fn new() -> Option<Machine> {
        if !can(&[&MADE[..], &["mkfs.ext4", "perl", "unshare", "mount", "umount"]].concat()) {
            return None;
        }
        alone();
        let place = Place::new();
        File::create(place.path("disk")).unwrap().set_len(256 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", &place.at("disk")]);
        fs::create_dir(place.path("mnt")).unwrap();
        let group =
            format!("corten-power-{}-{}", std::process::id(), place.path("").metadata().map(|m| ino(&m)).unwrap());
        let mut machine = Machine { place, group, boots: 0, mounted: false };
        if let Err(why) = machine.boot() {
            eprintln!("skipped: no file system can be mounted from a file: {why}");
            return None;
        }
        if let Err(why) = machine.power_fails() {
            eprintln!("skipped: an ext4 cannot be shut down here: {why}");
            return None;
        }
        machine.boot().unwrap();
        Some(machine)
    }

    fn tell(program: &str, words: &[&str]) -> Result<(), String> {
        let done = Command::new(program).args(words).output().map_err(|e| e.to_string())?;
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()) }
    }

    /// Mounts the disk, whose journal is replayed. What lay in memory, as /run does, is gone.
    fn boot(&mut self) -> Result<(), String> {
        let (disk, mnt) = (self.place.at("disk"), self.place.at("mnt"));
        Machine::tell("mount", &["-t", "ext4", "-o", "loop", &disk, &mnt])?;
        (self.mounted, self.boots) = (true, self.boots + 1);
        let boot = format!("{:08x}-0000-4000-8000-000000000000\n", self.boots);
        fs::write(self.place.path("boot"), boot).unwrap();
        let _ = fs::remove_dir_all(self.place.path("root"));
        Ok(())
    }

    fn power_fails(&mut self) -> Result<(), String> {
        Machine::tell("perl", &["-e", SHUTDOWN, &self.place.at("mnt")])?;
        self.off();
        Ok(())
    }

    /// Unmounts it, once nobody is left who was at work there. What is mounted from the same file before its loop device is free is the old one.
    fn off(&mut self) {
        let disk = self.place.at("disk");
        soon("umount", || Machine::tell("umount", &[&self.place.at("mnt")]).is_ok());
        soon("the loop device", || {
            let all = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path().join("loop/backing_file"));
            !all.filter_map(|file| fs::read_to_string(file).ok()).any(|file| file.trim_end() == disk)
        });
        self.mounted = false;
        self.end_groups();
    }

    /// A machine that comes up has none.
    fn end_groups(&self) {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        for group in [PathBuf::from("/sys/fs/cgroup")].into_iter().chain(hierarchies).map(|at| at.join(&self.group)) {
            for below in fs::read_dir(&group).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                if below.is_dir() {
                    remove(&below);
                }
            }
            if group.exists() {
                remove(&group);
            }
        }
    }

    /// The program in this boot.
    fn command(&self, words: &[&str]) -> Command {
        let plain = self.place.command(&[&["--root", &self.place.at("root")], words].concat());
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", IN_A_BOOT, "sh"]);
        command.arg(plain.get_program()).args(plain.get_args()).env_clear().current_dir(self.place.path(""));
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("CORTEN_STORE", self.place.path("mnt/store")).env("BOOT", self.place.path("boot"));
        command
    }

    fn corten(&self, words: &[&str]) -> Done {
        self.place.run(self.command(words), b"")
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let done = self.corten(words);
        assert_eq!(done.code, 0, "{words:?}: {}{}", done.out, done.err);
        done.out
    }

    /// Begins this, and after so long the power fails. Was it done before?
    fn broken_off(&mut self, words: &[&str], after: Duration) -> bool {
        let (over, mnt) = (AtomicBool::new(false), self.place.path("mnt"));
        let mut child: Child =
            self.command(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let done = std::thread::scope(|scope| {
            scope.spawn(|| neighbour(&mnt, &over));
            std::thread::sleep(after);
            let done = child.try_wait().unwrap().is_some_and(|status| status.success());
            Machine::tell("perl", &["-e", SHUTDOWN, mnt.to_str().unwrap()]).unwrap();
            over.store(true, Relaxed);
            done
        });
        let _ = child.kill();
        child.wait().unwrap();
        self.off();
        self.boot().unwrap();
        done
    }

    /// How long it takes, beginning and end of the namespaces included.
    fn takes(&self, words: &[&str]) -> Duration {
        let began = Instant::now();
        self.ok(words);
        began.elapsed()
    }

    fn store(&self, below: &str) -> PathBuf {
        self.place.path("mnt/store").join(below)
    }

    /// The names that there are.
    fn names(&self) -> Vec<String> {
        let all = self.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        all.lines().map(str::to_owned).filter(|name| !name.contains("<none>")).collect()
    }

    /// What an image with a name consists of has the digests that it should have; it runs, and what it finds is what `expected` says.
    fn whole(&self, name: &str, expected: &str) {
        let index: Value = json(&self.store("index.json"));
        let full = |entry: &&Value| {
            let annotation = &entry["annotations"]["org.opencontainers.image.ref.name"];
            annotation.as_str().is_some_and(|known| known.ends_with(name))
        };
        let top = index["manifests"].as_array().unwrap().iter().find(full).unwrap_or_else(|| panic!("{name}: {index}"));
        let manifest: Value = serde_json::from_slice(&self.blob(&top["digest"])).unwrap();
        self.blob(&manifest["config"]["digest"]);
        manifest["layers"].as_array().unwrap().iter().for_each(|layer| drop(self.blob(&layer["digest"])));
        assert_eq!(self.look(name), expected, "{name}");
    }

    fn blob(&self, digest: &Value) -> Vec<u8> {
        let digest = digest.as_str().unwrap();
        let bytes = fs::read(self.store("blobs").join(digest.replace(':', "/"))).unwrap_or_default();
        assert_eq!(sha256(&bytes), digest, "{} bytes", bytes.len());
        bytes
    }

    /// The image as a program in it sees it: every name with its mode, size and sum.
    fn look(&self, name: &str) -> String {
        let script = "b=/data/busybox; cd /data; $b find . | $b sort | while read f; do $b stat -c '%n %a %h %s' $f; done; \
                      $b find . -type f | $b sort | $b xargs $b md5sum";
        self.ok(&["run", "--rm", "--cgroup-parent", &self.group, "--image", name, "sh", "-c", script])
    }

    /// What was left is swept, and nothing lies there that is not what its name says.
    fn tidy(&self) {
        self.ok(&["prune", "-f"]);
        let left: Vec<_> = fs::read_dir(self.store("tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
        for blob in fs::read_dir(self.store("blobs/sha256")).unwrap().map(|entry| entry.unwrap()) {
            let (bytes, name) = (fs::read(blob.path()).unwrap(), blob.file_name().into_string().unwrap());
            assert_eq!(sha256(&bytes), format!("sha256:{name}"));
        }
        assert_eq!(fs::read_dir(self.store("containers")).unwrap().count(), 0, "containers");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        match (self.mounted, std::thread::panicking()) {
            (true, false) => self.off(),
            (true, true) => {
                let _ = Machine::tell("umount", &["-l", &self.place.at("mnt")]);
                self.end_groups();
            }
            (false, _) => {}
        }
    }
}

/// A mount namespace for this thread and what it starts: one that others make meanwhile would keep a copy of our mounts, and with it the disk.
fn alone() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
}

fn remove(group: &Path) {
    soon("rmdir", || fs::remove_dir(group).is_ok());
}

#[track_caller]
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: it never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ino(about: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(about)
}

fn json(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|e| panic!("{}: {e}: {}", path.display(), String::from_utf8_lossy(&bytes)))
}

/// Somebody else on the same disk, for whom the journal is written every few milliseconds.
fn neighbour(mnt: &Path, over: &AtomicBool) {
    let Ok(mut file) = File::create(mnt.join("neighbour")) else { return };
    while !over.load(Relaxed) && file.write_all(b"x").and_then(|()| file.sync_all()).is_ok() {
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Images that share their lowest layer, in the place's layout: a program, many small files, and a large one.
fn images(place: &Place, tags: &[&str]) {
    let small: Vec<(String, String)> = (0..150).map(|n| (format!("many/{n}"), format!("this is file {n}"))).collect();
    let small: Vec<(&str, &str)> = small.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    place.umoci("base", &[], &["--config.entrypoint", "/data/busybox", "--config.cmd", "true"]);
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| exists(path)).unwrap();
    let tree = place.path("program");
    fs::create_dir(&tree).unwrap();
    fs::copy(busybox, tree.join("busybox")).unwrap();
    fs::hard_link(tree.join("busybox"), tree.join("twice")).unwrap();
    let insert = |tag: &str, tree: &Path| {
        run("umoci", &["insert", "--image", &format!("{}:{tag}", place.at("layout")), tree.to_str().unwrap(), "/data"]);
    };
    insert("base", &tree);
    for (number, tag) in tags.iter().enumerate() {
        run("umoci", &["tag", "--image", &format!("{}:base", place.at("layout")), tag]);
        let tree = place.path(&format!("own-{tag}"));
        fs::create_dir_all(tree.join("many")).unwrap();
        small.iter().for_each(|(name, text)| fs::write(tree.join(name), format!("{text} of {tag}")).unwrap());
        insert(tag, &tree);
        let large = place.path(&format!("large-{tag}"));
        fs::create_dir(&large).unwrap();
        fs::write(large.join("large"), noise(number as u64 + 1, 3 << 20)).unwrap();
        insert(tag, &large);
    }
    // The registry's one tag is the layout's first.
    let index = place.path("layout/index.json");
    let mut all = json(&index);
    let kept = |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"] != "base";
    all["manifests"].as_array_mut().unwrap().retain(kept);
    fs::write(index, all.to_string()).unwrap();
}

/// So many moments, from the very beginning to a little beyond the end; more of them early, as most of the time is the namespaces'.
fn moments(takes: Duration, many: u32) -> impl Iterator<Item = Duration> {
    (0..many).map(move |n| takes * 5 / 4 * (n * n) / (many * many))
}

/// A pull or a load at every moment, into a store that may have the other image.
fn comes_whole_or_not_at_all(machine: &mut Machine, words: &[&str], name: &str) {
    let takes = machine.takes(words);
    let expected = machine.look(name);
    assert!(expected.contains("./many/149") && expected.contains("./large"), "{expected}");
    let (mut done, mut there) = (0, 0);
    // It has returned, and at once the power fails.
    for _ in 0..2 {
        machine.ok(&["rmi", "-f", name]);
        machine.ok(words);
        machine.power_fails().unwrap();
        machine.boot().unwrap();
        assert_eq!(machine.names(), [name]);
        machine.whole(name, &expected);
    }
    for after in moments(takes, 12) {
        machine.ok(&["rmi", "-f", name]);
        let was_done = machine.broken_off(words, after);
        let names = machine.names();
        assert!(!was_done || names == [name], "it was done, and is not there: {names:?}");
        done += usize::from(was_done);
        if !names.is_empty() {
            there += 1;
            machine.whole(name, &expected);
        }
        // The next one has no trouble with what is left, and what it makes is whole, on the disk, and alone.
        machine.ok(words);
        machine.whole(name, &expected);
        machine.tidy();
    }
    eprintln!("of 12 were done {done}, there {there}");
    assert!(done < 12 && there < 12, "all were done in time");
}

#[test]
fn a_pull() {
    let Some(mut machine) = Machine::new() else { return };
    images(&machine.place, &["one"]);
    let layout = machine.place.path("layout");
    let server = Server::start(move |request| serve(&layout, request));
    let name = format!("{}/web:1", server.host);
    comes_whole_or_not_at_all(&mut machine, &["pull", "-q", &name], &name);
}

#[test]
fn a_load() {
    let Some(mut machine) = Machine::new() else { return };
    images(&machine.place, &["one"]);
    let archive = machine.place.at("one.tar");
    run(
        "skopeo",
        &["copy", "-q", &machine.place.oci("one"), &format!("oci-archive:{archive}:docker.io/library/web:1")],
    );
    comes_whole_or_not_at_all(&mut machine, &["load", "-q", "-i", &archive], "web:1");
}

#[test]
fn a_removal() {
    let Some(mut machine) = Machine::new() else { return };
    images(&machine.place, &["one", "two"]);
    let load = |machine: &Machine, tag: &str| {
        let archive = machine.place.path(&format!("{tag}.tar"));
        if !archive.exists() {
            let to = format!("oci-archive:{}:docker.io/library/{tag}:1", archive.display());
            run("skopeo", &["copy", "-q", &machine.place.oci(tag), &to]);
        }
        machine.ok(&["load", "-q", "-i", archive.to_str().unwrap()]);
    };
    load(&machine, "one");
    load(&machine, "two");
    let (one, two) = (machine.look("one:1"), machine.look("two:1"));
    let takes = machine.takes(&["rmi", "two:1"]);
    let (mut stayed, mut gone) = (0, 0);
    for after in moments(takes, 8) {
        load(&machine, "two");
        machine.broken_off(&["rmi", "two:1"], after);
        let names = machine.names();
        machine.whole("one:1", &one);
        match names.iter().any(|name| name == "two:1") {
            true => {
                stayed += 1;
                machine.whole("two:1", &two);
                machine.ok(&["rmi", "two:1"]);
            }
            false => gone += 1,
        }
        assert_eq!(machine.names(), ["one:1"]);
        machine.tidy();
        machine.whole("one:1", &one);
    }
    eprintln!("of 8 stayed {stayed}, were gone {gone}");
    assert!(stayed > 0 && gone > 0, "all were done in time, or none");
}

/// A container's record that is half there is in nobody's way.
#[test]
fn a_run() {
    let Some(mut machine) = Machine::new() else { return };
    images(&machine.place, &["one"]);
    let archive = machine.place.at("one.tar");
    run("skopeo", &["copy", "-q", &machine.place.oci("one"), &format!("docker-archive:{archive}:web:1")]);
    machine.ok(&["load", "-q", "-i", &archive]);
    let (expected, group) = (machine.look("web:1"), machine.group.clone());
    let script = "echo written >/data/new; /data/busybox sleep 0.03; echo more >>/data/new";
    for option in ["--rm", "--network=host"] {
        let name = format!("it{}", option.split('=').next().unwrap());
        let words = ["run", option, "--name", &name, "--cgroup-parent", &group, "--image", "web:1", "sh", "-c", script];
        let takes = machine.takes(&words);
        machine.corten(&["rm", "-f", &name]);
        for after in moments(takes, 8) {
            let was_done = machine.broken_off(&words, after);
            let all = machine.ok(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
            assert!(!all.contains("Up "), "{all}");
            assert!(!(was_done && option == "--rm") || !all.contains(&name), "it was removed: {all}");
            machine.ok(&["inspect", "web:1"]);
            // The name is free, or whose it is can be removed.
            if all.contains(&name) {
                machine.ok(&["inspect", &name]);
                machine.ok(&["rm", "-f", &name]);
            }
            machine.ok(&words);
            machine.corten(&["rm", "-f", &name]);
            machine.whole("web:1", &expected);
            assert_eq!(machine.ok(&["ps", "-aq"]), "");
            machine.tidy();
            assert_eq!(fs::read_dir(machine.store("names")).unwrap().count(), 0, "names");
        }
    }
}
