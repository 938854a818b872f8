//! `run IMAGE`: what it gives the program, how it ends, and what is left when it is killed.

use super::kit::{ended, place, soon};
use std::fs;
use std::path::Path;

/// The words of one `run` on the place's image, options first.
macro_rules! run {
    ($place:expr, $($word:expr),* => $($command:expr),*) => {{
        let image = $place.image();
        $place.call(&["run", $($word,)* image.as_str(), $($command),*])
    }};
}

#[test]
fn its_exit_code_is_the_programs_or_says_who_is_to_blame() {
    let Some(place) = place() else { return };
    assert_eq!(run!(place, "--rm" => "sh", "-c", "exit 7").code, 7);
    assert_eq!((run!(place, "--rm" => "nope").code, run!(place, "--rm" => "/no/such").code), (127, 127));
    assert_eq!(run!(place, "--rm" => "/etc/passwd").code, 126);
    for (option, why) in [("--memory=1x", "--memory"), ("-d", "not in this version"), ("--network=blue", "--network")] {
        let done = run!(place, option => "true");
        assert!(done.code == 125 && done.err.contains(why), "{option}: {} {}", done.code, done.err);
    }
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
}

#[test]
fn the_program_gets_what_was_asked_for() {
    let Some(place) = place() else { return };
    let told = |done: super::kit::Done| {
        assert_eq!(done.code, 0, "{}", done.err);
        done.out
    };
    assert_eq!(told(run!(place, "--rm", "-e", "C=d", "-w", "/etc" => "sh", "-c", "echo $A $C $PWD")), "b d /etc\n");
    assert_eq!(told(run!(place, "--rm", "--network=none" => "cat", "/etc/hostname")).trim().len(), 12);
    assert_eq!(told(run!(place, "--rm", "--entrypoint", "echo" => "a", "b")), "a b\n");
    fs::create_dir(place.path("given")).unwrap();
    fs::write(place.path("given/file"), "from outside\n").unwrap();
    let volume = format!("{}:/given:ro", place.path("given").display());
    assert_eq!(told(run!(place, "--rm", "-v", &volume => "cat", "/given/file")), "from outside\n");
    assert_ne!(run!(place, "--rm", "-v", &volume => "touch", "/given/new").code, 0);
    // What one container writes no other one sees, and not the image.
    assert_eq!(told(run!(place, "--rm" => "sh", "-c", "echo x >/new; cat /new")), "x\n");
    assert_ne!(run!(place, "--rm" => "cat", "/new").code, 0);
    assert_ne!(run!(place, "--rm", "--read-only" => "touch", "/new").code, 0);
    // Without -i there is nothing to read, whatever the caller has.
    assert_eq!(told(run!(place, "--rm" => "cat")), "");
}

#[test]
fn a_container_stays_until_it_is_removed_and_its_name_is_taken() {
    let Some(place) = place() else { return };
    assert_eq!(run!(place, "--name", "web" => "true").code, 0);
    let again = run!(place, "--name", "web" => "true");
    assert!(again.code == 125 && again.err.contains("\"web\" is taken"), "{}", again.err);
    place.ok(&["rm", "web"]);
    assert_eq!(run!(place, "--rm", "--name", "web" => "true").code, 0);
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
}

#[test]
fn a_file_with_its_id_is_written_and_never_over_another() {
    let Some(place) = place() else { return };
    let (file, kept) = (place.path("cid"), place.path("kept"));
    assert_eq!(run!(place, "--name", "web", "--cidfile", file.to_str().unwrap() => "true").code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), place.stored("containers")[0]);
    fs::write(&kept, "mine").unwrap();
    let done = run!(place, "--cidfile", kept.to_str().unwrap() => "true");
    assert!(done.code == 125 && done.err.contains("is there already"), "{}", done.err);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "mine");
    let done = run!(place, "--cidfile", place.path("new").to_str().unwrap() => "nope");
    assert!(done.code == 127 && !place.path("new").exists(), "{}", done.err);
}

/// The container goes on; when its program has ended too, the next command takes away what both have left.
#[test]
fn what_a_killed_run_leaves_behind_is_swept_by_the_next() {
    let Some(place) = place() else { return };
    let mut web = place.begin("web", &["--rm"], "sleep 1000");
    let (id, pid) = (place.id("web"), place.pid("web"));
    web.kill().unwrap();
    web.wait().unwrap();
    assert_eq!(run!(place, "--rm" => "true").code, 0);
    assert_eq!(place.stored("containers"), std::slice::from_ref(&id), "it runs, so it stays");
    assert_eq!(place.status("web"), "running");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    soon(|| !Path::new(&format!("/proc/{pid}/ns")).exists() || place.status("web") != "running");
    assert_eq!(run!(place, "--rm" => "true").code, 0);
    assert_eq!((place.stored("containers").len(), place.stored("names").len()), (0, 0));
    assert_eq!(place.ok(&["list", "-q"]), "");
    // One that is not killed has ended with its program.
    let web = place.begin("web", &["--rm"], "sleep 1000");
    place.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(ended(web).code, 137);
    assert_eq!(place.stored("containers").len(), 0);
}
