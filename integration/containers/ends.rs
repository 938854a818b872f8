//! `rm`, `stop`, `kill` and `exec`.

use super::kit::{ended, place, soon};
use std::time::{Duration, Instant};

/// Ends with 5 when it is told to, and not when it is asked as usual.
const LISTENS: &str = "trap 'exit 5' USR1; trap '' TERM; touch /ready; while :; do sleep 0.05; done";

#[test]
fn removed_when_it_has_ended() {
    let Some(place) = place() else { return };
    let web = place.begin("web", &[], "touch /written; sleep 1000");
    place.refused(&["rm", "web"], "cannot delete container that is not stopped: running");
    assert_eq!(place.status("web"), "running");
    let id = place.id("web");
    assert_eq!(place.stored("containers"), std::slice::from_ref(&id));
    // It ends as if it had been killed, and `run` has nothing to complain about.
    place.ok(&["rm", "-f", "web"]);
    let done = ended(web);
    assert_eq!((done.code, done.err.as_str()), (137, ""));
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
    place.refused(&["rm", "web"], "does not exist");
    place.refused(&["rm", "-f", &id], "does not exist");

    let image = place.image();
    for name in ["one", "two", "three"] {
        assert_eq!(place.call(&["run", "--name", name, &image, "true"]).code, 0);
    }
    let third = place.id("three");
    place.refused(&["rm", "one", "never-there", "two"], "1 of 3 containers");
    assert_eq!(place.stored("names"), ["three"]);
    place.ok(&["rm", &third[..4]]);
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
    // A record that cannot be read.
    assert_eq!(place.call(&["run", "--name", "hurt", &image, "true"]).code, 0);
    let id = place.id("hurt");
    std::fs::write(place.path("store/containers").join(&id).join("record.json"), "{").unwrap();
    place.refused(&["rm", &id], "the record is damaged");
    place.ok(&["rm", "-f", &id]);
    assert_eq!(place.stored("containers").len(), 0);
}

#[test]
fn what_goes_at_its_end_is_removed_once() {
    let Some(place) = place() else { return };
    for _ in 0..3 {
        let web = place.begin("web", &["--rm"], "sleep 1000");
        place.ok(&["rm", "-f", "web"]);
        let done = ended(web);
        assert_eq!((done.code, done.err.as_str()), (137, ""));
        assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
    }
}

#[test]
fn nobody_is_meant_by_the_beginning_of_a_name() {
    let Some(place) = place() else { return };
    let _two = place.begin("web2", &[], "sleep 1000");
    place.begin_bundle("web3");
    for words in
        [&["delete", "-f", "web"][..], &["delete", "-f", "web2"], &["delete", "--force", &place.id("web2")[..12]]]
    {
        // As runc has it: no such container is success.
        assert_eq!(place.call(words).code, 0, "{words:?}");
    }
    for words in [&["rm", "-f", "web"][..], &["stop", "web"], &["kill", "web"], &["rm", "-f", "web3x"]] {
        place.refused(words, "does not exist");
    }
    place.refused(&["rm", "-f", &place.id("web2")[..3]], "does not exist");
    assert_eq!((place.status("web2"), place.status("web3")), ("running".into(), "running".into()));
    // A bundle's id comes before an image's name: the exact one of the runtime.
    place.begin_bundle("web2");
    place.ok(&["rm", "-f", "web2"]);
    assert_eq!(
        place.ok(&["ps", "--format", "{{.Names}} {{.Image}}"]),
        format!("web3 {}\nweb2 {}\n", place.path("bundle").display(), place.image())
    );
}

#[test]
fn stopped_by_its_own_signal_and_in_its_own_time() {
    let Some(place) = place() else { return };
    let ready = |name: &str| soon(|| place.call(&["exec", name, "cat", "/ready"]).code == 0);
    let web = place.begin("web", &["--stop-signal", "USR1"], LISTENS);
    ready("web");
    place.ok(&["stop", "web"]);
    assert_eq!(ended(web).code, 5);
    place.ok(&["stop", "web"]);
    let slow = place.begin("slow", &["--stop-timeout", "1"], LISTENS);
    ready("slow");
    let began = Instant::now();
    place.ok(&["stop", "slow"]);
    let took = began.elapsed();
    assert_eq!(ended(slow).code, 137);
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    let other = place.begin("other", &["--stop-timeout", "1000"], LISTENS);
    ready("other");
    place.ok(&["stop", "-t", "0", "other"]);
    assert_eq!(ended(other).code, 137);
}

#[test]
fn killed_at_once_or_as_asked() {
    let Some(place) = place() else { return };
    let ready = |name: &str| soon(|| place.call(&["exec", name, "cat", "/ready"]).code == 0);
    let web = place.begin("web", &[], LISTENS);
    place.ok(&["kill", "web"]);
    assert_eq!(ended(web).code, 137);
    place.refused(&["kill", "web"], "container not running");
    let (one, two) = (place.begin("one", &[], LISTENS), place.begin("two", &[], LISTENS));
    ready("one");
    ready("two");
    // runc's meaning: an id and a signal.
    place.refused(&["kill", "one", "two"], "unknown signal \"two\"");
    place.refused(&["kill", "one", "two", "three"], "corten kill -s SIGNAL");
    place.ok(&["kill", "one", "TERM"]);
    place.refused(&["kill", "-s", "USR1", "one", "never-there", "two"], "1 of 3 containers");
    assert_eq!((ended(one).code, ended(two).code), (5, 5));
    // A bundle's container gets SIGTERM, which its first process does not hear.
    place.begin_bundle("bundled");
    place.ok(&["kill", "bundled"]);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(place.status("bundled"), "running");
    place.ok(&["kill", "-s", "KILL", "bundled"]);
    soon(|| place.status("bundled") == "exited");
}

#[test]
fn exec_says_who_is_to_blame() {
    let Some(place) = place() else { return };
    let _web = place.begin("web", &[], "sleep 1000");
    place.begin_bundle("bundled");
    let code = |words: &[&str]| place.call(&[&["exec"], words].concat()).code;
    assert_eq!(code(&["web", "sh", "-c", "exit 3"]), 3);
    assert_eq!(code(&[&place.id("web")[..5], "true"]), 0);
    assert_eq!((code(&["web", "no-such-program"]), code(&["web", "/no/such"])), (127, 127));
    assert_eq!((code(&["web", "/etc/passwd"]), code(&["web", "/etc"])), (126, 126));
    assert_eq!((code(&["bundled", "no-such-program"]), code(&["bundled", "/etc/passwd"])), (255, 255));
    assert_eq!(code(&["never-there", "true"]), 255);
}

/// As Docker does: what was typed, a line for each that it was done to. runc's callers get nothing.
#[test]
fn what_was_done_is_told_by_the_word_that_was_typed() {
    let Some(place) = place() else { return };
    let image = place.image();
    let (one, two) = (place.begin("one", &[], "sleep 1000"), place.begin("two", &[], "sleep 1000"));
    let prefix = place.id("one")[..7].to_owned();
    assert_eq!(place.ok(&["kill", "-s", "0", &prefix, "two"]), format!("{prefix}\ntwo\n"));
    assert_eq!(place.ok(&["kill", "one", "CONT"]), "one\n");
    assert_eq!(place.ok(&["kill", &prefix]), format!("{prefix}\n"));
    assert_eq!(ended(one).code, 137);
    let done = place.call(&["stop", "-t", "0", "one", "never-there", "two"]);
    assert_eq!((done.code, done.out.as_str()), (1, "one\ntwo\n"), "{}", done.err);
    assert_eq!(ended(two).code, 137);
    let done = place.call(&["kill", "one"]);
    assert_eq!((done.code, done.out.as_str()), (1, ""), "{}", done.err);
    let done = place.call(&["rm", "two", "never-there", &prefix]);
    assert_eq!((done.code, done.out), (1, format!("two\n{prefix}\n")), "{}", done.err);
    assert_eq!(place.call(&["run", "--name", "web", &image, "true"]).code, 0);
    assert_eq!(place.ok(&["rm", "-f", "web"]), "web\n");
    // Whoever does not read is no reason to fall over, and it is done all the same.
    assert_eq!(place.call(&["run", "--name", "web", &image, "true"]).code, 0);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut rm = place.command("root");
    let done = rm.args(["rm", "web"]).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let done = done.wait_with_output().unwrap();
    assert!(done.status.code() == Some(1) && String::from_utf8_lossy(&done.stderr).contains("EPIPE"), "{done:?}");
    assert_eq!(place.stored("containers").len(), 0);

    place.begin_bundle("bundled");
    for words in [
        &["kill", "bundled", "CONT"][..],
        &["kill", "-s", "0", "bundled"],
        &["stop", "-t", "0", "bundled"],
        &["rm", "-f", "bundled"],
    ] {
        assert_eq!(place.ok(words), "", "{words:?}");
    }
    place.begin_bundle("bundled");
    assert_eq!(place.ok(&["delete", "-f", "bundled"]), "");
}

/// The container's files as they are now, and not the host's: as Docker does. In a bundle's container it is runc's numbers.
#[test]
fn exec_knows_the_containers_users() {
    let Some(place) = place() else { return };
    let script = "echo web:x:1000:100::/home/web:/bin/sh >>/etc/passwd; echo bad:x:4294967296:0:::: >>/etc/passwd; \
                  echo odd:x:12:x >>/etc/passwd; printf 'users:x:100:\\nwheel:x:10:root,web\\nvideo:x:44:web\\n' >/etc/group; \
                  touch /ready; exec sleep 1000";
    let web = place.begin("web", &[], script);
    soon(|| place.call(&["exec", "web", "cat", "/ready"]).code == 0);
    let who = "echo $(id -u) $(id -g) $(id -G) $HOME";
    for (user, expected) in [
        ("web", "1000 100 100 10 44 /home/web"),
        ("1000", "1000 100 100 10 44 /home/web"),
        ("web:wheel", "1000 10 10 /home/web"),
        ("web:7", "1000 7 7 /home/web"),
        ("root", "0 0 0 10 /root"),
        ("5", "5 0 0 /"),
        ("5:6", "5 6 6 /"),
    ] {
        let done = place.call(&["exec", "-u", user, "web", "sh", "-c", who]);
        assert_eq!((done.code, done.out.trim_end()), (0, expected), "{user}: {}", done.err);
    }
    for (user, why) in [
        ("nobody", "--user: user \"nobody\": not in the container's /etc/passwd"),
        ("web:staff", "group \"staff\": not in the container's /etc/group"),
        ("bad", "no valid ids"),
        ("odd", "no valid ids"),
        ("4294967295", "not between 0 and 4294967294"),
        ("-1", "neither a number"),
        ("1:", "the group is empty"),
        ("", "the user is empty"),
    ] {
        let done = place.call(&["exec", &format!("--user={user}"), "web", "id"]);
        assert!(done.code == 255 && done.out.is_empty() && done.err.contains(why), "{user}: {}{}", done.out, done.err);
    }
    // Its files may lead anywhere: below its root, and to no pipe that nobody writes to.
    place.ok(&[
        "exec",
        "web",
        "sh",
        "-c",
        "busybox mv /etc/passwd /tmp/p; busybox ln -s ../../../../tmp/p /etc/passwd",
    ]);
    assert_eq!(place.ok(&["exec", "-u", "web", "web", "id", "-u"]), "1000\n");
    place.ok(&["exec", "web", "sh", "-c", "busybox rm /etc/passwd; busybox ln -s /proc/1/root/../tmp/p /etc/passwd"]);
    place.refused(&["exec", "-u", "web", "web", "id"], "/etc/passwd");
    place.ok(&["exec", "web", "sh", "-c", "busybox rm /etc/passwd; busybox mkfifo /etc/passwd"]);
    place.refused(&["exec", "-u", "web", "web", "id"], "not in the container's /etc/passwd");
    place.ok(&["stop", "-t", "0", "web"]);
    ended(web);

    place.begin_bundle("bundled");
    place.refused(&["exec", "-u", "root", "bundled", "id"], "--user root: not UID[:GID]");
    assert_eq!(place.ok(&["exec", "-u", "7", "bundled", "sh", "-c", "id -u; id -g"]), "7\n0\n");
}
