//! A bundle or an image: who is asked for it, and whose `config.json` counts.

use super::kit::{Done, Place, must, place, soon};
use serde_json::{Value, json};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

const NOBODY: u32 = 65534;

/// A mirror of Docker Hub that says nothing, and counts who comes.
struct Mirror {
    host: String,
    came: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Mirror {
    fn start(place: &Place) -> Mirror {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        fs::write(place.path("registries.toml"), format!("[mirrors]\n\"docker.io\" = [\"{host}\"]\n")).unwrap();
        let (came, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, ended) = (came.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream);
                if ended.load(Relaxed) {
                    return;
                }
                counted.fetch_add(1, Relaxed);
            }
        });
        Mirror { host, came, over, thread: Some(thread) }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ = TcpStream::connect(&self.host);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The program, traced with all that it leaves behind, and where its calls that have to do with a network come to stand.
fn tracing(place: &Place, directory: &Path, words: &[&str]) -> (Command, PathBuf) {
    let plain = place.command("root");
    let log = place.path(&format!("network-{}", words[0]));
    let mut traced = Command::new("strace");
    traced.args(["-f", "-e", "trace=%network", "-o"]).arg(&log).arg(plain.get_program()).args(plain.get_args());
    traced.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.env("CORTEN_REGISTRIES", place.path("registries.toml")).env("HOME", place.path(""));
    traced.args(words).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (traced, log)
}

/// What a call came to, and those calls.
fn traced(place: &Place, directory: &Path, words: &[&str]) -> (Done, String) {
    let (mut command, log) = tracing(place, directory, words);
    (command.output().unwrap().into(), fs::read_to_string(log).unwrap())
}

/// Calls that ask somebody who is not this machine's kernel: an address of the internet in them, or a stream to one. A new network's loopback is
/// brought up through a socket of datagrams without an address.
fn asks(calls: &str) -> Vec<&str> {
    let is_one = |line: &&str| {
        line.contains("sa_family=AF_INET")
            || line.contains("socket(AF_INET") && (line.contains("SOCK_STREAM") || line.contains("AF_INET6"))
    };
    calls.lines().filter(is_one).collect()
}

/// Writes a bundle beside the place's root, with this change.
fn bundle(place: &Place, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let directory = place.path(name);
    fs::create_dir(&directory).unwrap();
    must(place.command("root").args(["spec", "-b"]).arg(&directory));
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["true"]);
    config["root"]["path"] = place.path("bundle/rootfs").to_str().unwrap().into();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    directory
}

fn has_strace() -> bool {
    let has = Command::new("strace").arg("--version").output().is_ok();
    if !has {
        eprintln!("skipped: strace is not installed");
    }
    has
}

#[test]
fn a_bundle_is_never_asked_of_a_registry() {
    let Some(place) = place().filter(|_| has_strace()) else { return };
    let mirror = Mirror::start(&place);
    let good = bundle(&place, "good", |_| {});
    let broken = [
        bundle(&place, "no-arguments", |config| drop(config["process"].as_object_mut().unwrap().remove("args"))),
        bundle(&place, "no-root", |config| config["root"]["path"] = "not-there".into()),
        bundle(&place, "no-program", |config| config["process"]["args"] = json!(["debian:12"])),
        bundle(&place, "no-version", |config| drop(config.as_object_mut().unwrap().remove("ociVersion"))),
    ];
    fs::write(place.path("no-version/config.json"), "{").unwrap();
    let (here, at, socket) = (place.path(""), good.to_str().unwrap(), place.path("nobody.sock"));
    let (socket, id) = (socket.to_str().unwrap(), format!("forms-{}", std::process::id()));
    let id = id.as_str();
    // With the verb's end in place: a word that no image of this machine has, as an id.
    let fine: [&[&str]; 11] = [
        &["run", "-b", at, id],
        &["run", "--bundle", at, "--pid-file", "pid", id],
        &["run", id, "--bundle", at],
        &["run", "--preserve-fds", "0", "--bundle", at, id],
        &["run", "--bundle", at, "--name", id],
        &["run", "--bundle", at, "--name", id, "true", "debian:12"],
        &["run", "--bundle", at, "--no-pivot", "--no-new-keyring", "--no-subreaper", id],
        &["run", "--bundle", at, "--rm", "--network", "host", "-e", "A=b", "-w", "/tmp", "-u", "root", id],
        &["run", "--bundle", at, "--keep", id],
        &["delete", id],
        &["explain", "--bundle", at, id],
    ];
    // In the bundle's own directory the one word is the id.
    let inside: [&[&str]; 8] = [
        &["run", id],
        &["run", "--pid-file", "pid", id],
        &["run", "--preserve-fds", "0", id],
        &["run", "--no-pivot", id],
        &["run", "--no-new-keyring", "--no-subreaper", id],
        &["run", "--rm", id],
        &["run", "--name", id],
        &["explain", id],
    ];
    let refused: [&[&str]; 6] = [
        &["run", "--bundle", at, "--console-socket", socket, id],
        &["run", "--bundle", at, "--pidfd-socket", socket, id],
        &["run", "--bundle", at, "docker.io/library/debian:12"],
        &["run", "--bundle", "/no/such", id],
        &["run", "--keep", id],
        &["create", id],
    ];
    let check = |directory: &Path, words: &[&str], fits: bool| {
        let (done, calls) = traced(&place, directory, words);
        assert!(fits == (done.code == 0), "{words:?}: {} {}{}", done.code, done.out, done.err);
        assert_eq!(asks(&calls), [""; 0], "{words:?}: {}", done.err);
    };
    fine.into_iter().for_each(|words| check(&here, words, true));
    // It is traced until its container has ended, which another call starts.
    let (mut create, log) = tracing(&place, &here, &["create", "--bundle", at, id]);
    let create = create.spawn().unwrap();
    soon(|| place.call(&["state", id]).out.contains("\"status\": \"created\""));
    check(&here, &["start", id], true);
    let done: Done = create.wait_with_output().unwrap().into();
    assert_eq!((done.code, asks(&fs::read_to_string(log).unwrap())), (0, Vec::new()), "{}", done.err);
    check(&here, &["delete", id], true);
    inside.into_iter().for_each(|words| check(&good, words, true));
    refused.into_iter().for_each(|words| check(&here, words, false));
    for directory in &broken {
        let at = directory.to_str().unwrap();
        for words in [&["run", "--bundle", at, id][..], &["create", "--bundle", at, id]] {
            check(&here, words, false);
        }
        // Where no version is, there is no bundle, and no image of that name either.
        check(directory, &["run", id], false);
    }
    assert_eq!(mirror.came.load(Relaxed), 0, "nobody came");
    assert_eq!(place.ok(&["list", "-q"]), "");

    // The same settings, and an image: it is seen when somebody is asked. Not by way of Docker Hub, which would be asked next.
    let (done, calls) = traced(&place, &here, &["run", "--rm", &format!("{}/debian:12", mirror.host)]);
    assert_eq!(done.code, 125);
    assert!(!asks(&calls).is_empty() && mirror.came.load(Relaxed) > 0, "{calls}{}", done.err);
}

#[test]
fn nobody_is_asked_for_an_image_unless_it_may_be_fetched() {
    let Some(place) = place().filter(|_| has_strace()) else { return };
    let mirror = Mirror::start(&place);
    for (words, why) in [
        (&["run", "--pull", "never", "debian:12"][..], "no image debian:12 here, and --pull=never"),
        (&["run", "--pull=never", "--image", "debian"], "no image debian here, and --pull=never"),
        (&["run", "--pull=never", "docker.io/library/debian:12", "bash"], "--pull=never"),
        (&["run", "debian"], "no config.json here and no local image debian"),
        (&["run", "--rm", "--name", "x", "debian"], "no config.json here and no local image debian"),
        (&["run", "--nonsense", "debian:12"], "--nonsense"),
        (&["run", "-d", "debian:12"], "-d"),
        (&["run", "Debian:12"], "Debian"),
        (&["explain", "debian:12"], "there is no image \"debian:12\""),
        (&["explain", "debian"], "no config.json here and no local image debian"),
        (&["unpack", "debian:12", "made"], "there is no image \"debian:12\""),
        (&["inspect", "debian:12"], "debian:12"),
        (&["history", "debian:12"], "debian:12"),
        (&["save", "-o", "file", "debian:12"], "debian:12"),
        (&["push", "debian:12"], "debian:12"),
        (&["create", "debian:12"], "debian:12"),
    ] {
        let (done, calls) = traced(&place, &place.path(""), words);
        assert!(done.code != 0 && done.out.is_empty() && done.err.contains(why), "{words:?}: {}{}", done.out, done.err);
        assert_eq!(asks(&calls), [""; 0], "{words:?}");
    }
    // What is at a path, or here already, is nobody else's.
    let (image, local) = (place.image(), ["run", "--rm", "here:1", "true"]);
    for words in [&["run", "--rm", "--pull=always", &image, "true"][..], &["run", "--rm", &image, "true"]] {
        let (done, calls) = traced(&place, &place.path(""), words);
        assert_eq!((done.code, asks(&calls)), (0, Vec::new()), "{words:?}: {}", done.err);
    }
    place.ok(&["tag", &the_image(&place), "here:1"]);
    let (done, calls) = traced(&place, &place.path(""), &local);
    assert_eq!((done.code, asks(&calls)), (0, Vec::new()), "{}", done.err);
    assert_eq!(mirror.came.load(Relaxed), 0, "nobody came");
}

/// The id of the one image that there is.
fn the_image(place: &Place) -> String {
    place.ok(&["images", "-aq", "--no-trunc"]).trim().to_owned()
}

/// Who may have put it there decides, whatever the directory is.
#[test]
fn a_config_json_that_others_may_have_put_there_does_not_count() {
    let Some(place) = place() else { return };
    place.ok(&["run", "--rm", &place.image(), "true"]);
    let id = format!("forms-strange-{}", std::process::id());
    let id = id.as_str();
    let call = |directory: &Path, words: &[&str]| -> Done {
        place.command("root").current_dir(directory).args(words).output().unwrap().into()
    };
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let own = bundle(&place, "own", |_| {});
    let strange = |name: &str| {
        let directory = bundle(&place, name, |_| {});
        let file = directory.join("config.json");
        (directory, file)
    };
    let (nobodys, file) = strange("nobodys");
    chown(file, Some(NOBODY), None).unwrap();
    let (groups, file) = strange("groups");
    mode(&file, 0o664);
    let (everybodys, file) = strange("everybodys");
    mode(&file, 0o646);
    // Theirs, but what it leads to is ours: the root beside it would be theirs.
    let (linked, file) = strange("linked");
    fs::remove_file(&file).unwrap();
    symlink(own.join("config.json"), &file).unwrap();
    std::os::unix::fs::lchown(&file, Some(NOBODY), None).unwrap();
    // Ours, but what it leads to is theirs.
    let (leads, file) = strange("leads");
    fs::remove_file(&file).unwrap();
    symlink(nobodys.join("config.json"), &file).unwrap();
    for (directory, why) in [
        (&nobodys, "it belongs to user 65534"),
        (&groups, "others can write it (mode 0664)"),
        (&everybodys, "others can write it (mode 0646)"),
        (&linked, "it is a link that belongs to user 65534"),
        (&leads, "it belongs to user 65534"),
    ] {
        for words in [&["run", id][..], &["run", "--rm", id], &["run", "--name", "x", id], &["explain", id]] {
            let done = call(directory, words);
            let told = format!("no config.json here and no local image {id}");
            assert!(done.code != 0 && done.err.contains(&told), "{words:?}: {}{}", done.out, done.err);
            assert!(done.err.contains(&format!("does not count: {why}")), "{words:?}: {}", done.err);
        }
        // Who names it means it.
        assert_eq!(call(directory, &["run", "-b", ".", id]).code, 0, "{directory:?}");
        // With an image of that name, nothing is unclear: the file is not looked at.
        let done = call(directory, &["explain", &place.image(), "true"]);
        assert!(done.out.contains("run "), "{}{}", done.out, done.err);
    }
    // Ours by a link of ours; and a file of ours in a directory of theirs, where it was put by us.
    let (led, file) = strange("led");
    fs::remove_file(&file).unwrap();
    symlink(own.join("config.json"), &file).unwrap();
    let (theirs, _) = strange("theirs");
    chown(&theirs, Some(NOBODY), None).unwrap();
    for directory in [&own, &led, &theirs] {
        let done = call(directory, &["run", id]);
        assert_eq!(done.code, 0, "{directory:?}: {}", done.err);
    }
    // No bundle at all, and no waiting for who would write into it.
    for (name, make) in [
        ("webpack", (|path| fs::write(path, "{\"name\":\"webpack\"}").unwrap()) as fn(&Path)),
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("pipe", |path| must(Command::new("mkfifo").arg(path))),
        ("nowhere", |path| symlink("not-there", path).unwrap()),
    ] {
        let directory = place.path(name);
        fs::create_dir(&directory).unwrap();
        make(&directory.join("config.json"));
        let done = call(&directory, &["run", id]);
        assert!(
            done.err.contains("no config.json here") && !done.err.contains("does not count"),
            "{name}: {}",
            done.err
        );
    }
    assert_eq!(place.ok(&["list", "-q"]), "");
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
}

/// Another caller's own file counts for that caller, root's counts for everybody.
#[test]
fn the_callers_own_config_json_counts() {
    let Some(place) = place() else { return };
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(place.command("root").get_program(), place.path("program")).unwrap();
    let explained = |directory: &Path| -> Done {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(place.path("program"));
        nobody.args(["explain", "web"]).env("CORTEN_STORE", place.path("store")).current_dir(directory);
        nobody.output().unwrap().into()
    };
    for (name, owner, counts) in [("of-root", 0, true), ("of-caller", NOBODY, true), ("of-other", 7, false)] {
        let directory = bundle(&place, name, |_| {});
        chown(directory.join("config.json"), Some(owner), None).unwrap();
        let done = explained(&directory);
        assert_eq!(done.code == 0, counts, "{name}: {}", done.err);
        assert!(counts || done.err.contains("does not count: it belongs to user 7"), "{name}: {}", done.err);
    }
}

#[test]
fn what_could_be_either_is_neither() {
    let Some(place) = place() else { return };
    let id = format!("forms-both-{}", std::process::id());
    let id = id.as_str();
    place.ok(&["run", "--rm", &place.image(), "true"]);
    place.ok(&["tag", &the_image(&place), id]);
    let own = bundle(&place, "own", |config| config["process"]["args"] = json!(["echo", "of the bundle"]));
    let call =
        |words: &[&str]| -> Done { place.command("root").current_dir(&own).args(words).output().unwrap().into() };
    for words in [&["run", id][..], &["run", "--rm", id], &["explain", id]] {
        let done = call(words);
        assert!(done.code != 0 && done.out.is_empty(), "{words:?}: {}{}", done.out, done.err);
        for told in [
            format!("{id}: both the bundle of this directory and a local image are meant"),
            format!("as a bundle: `corten run --bundle . {id}`"),
            format!("as an image: `corten run --image {id}`"),
        ] {
            assert!(done.err.contains(&told), "{told:?} is not in: {}", done.err);
        }
        assert_eq!((place.ok(&["list", "-q"]), place.ok(&["ps", "-aq"])), (String::new(), String::new()));
        assert_eq!(place.stored("containers").len(), 0);
    }
    // What is said there works.
    let done = call(&["run", "--bundle", ".", id]);
    assert_eq!((done.code, done.out.as_str()), (0, "of the bundle\n"), "{}", done.err);
    let done = call(&["run", "--rm", "--image", id, "echo", "of the image"]);
    assert_eq!((done.code, done.out.as_str()), (0, "of the image\n"), "{}", done.err);
}
