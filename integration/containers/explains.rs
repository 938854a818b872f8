//! `explain IMAGE` says what `run IMAGE` does, to everybody, and does none of it.

use super::kit::{Place, place};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// The steps of a text by their numbers: side and calls. In `--trace`'s lines the number stands behind the side, and two times before it.
fn steps(text: &str) -> BTreeMap<usize, (String, String)> {
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (side, number, rest) = match words[..] {
            [number, side @ ("parent" | "child"), ..] => (side, number, line.split_once(side).unwrap().1),
            [_, _, side @ ("parent" | "child"), number, how, ..] => (side, number, line.split_once(how).unwrap().1),
            _ => continue,
        };
        let number = number.split('/').next().unwrap().parse().unwrap();
        found.insert(number, (side.to_owned(), rest.trim().to_owned()));
    }
    found
}

/// Can the store hold an overlay? A run has found out: where it cannot, layers are copied.
fn has_overlay(place: &Place) -> bool {
    let found = fs::read_to_string(place.path("store/ground")).unwrap();
    found.lines().nth(1) == Some("overlay")
}

#[test]
fn its_steps_are_those_of_run() {
    let Some(place) = place() else { return };
    fs::create_dir(place.path("given")).unwrap();
    let (image, given) = (place.image(), format!("{}:/m:ro", place.path("given").display()));
    let options = ["--rm", "-v", &given, "--network", "none", "-u", "7", "--tmpfs", "/t", "--read-only"];
    let trace = format!("--trace={}", place.path("trace").display());
    place.ok(&[&["run", &trace], &options[..], &[&image, "true"]].concat());
    let explained = steps(&place.ok(&[&["explain"], &options[..], &[&image, "true"]].concat()));
    let text = fs::read_to_string(place.path("trace")).unwrap();
    let id = text.split_whitespace().nth(2).unwrap().trim_end_matches(':');
    let happened = steps(&text.replace(id, "ID").replace(&id[..12], "ID"));
    assert!(happened.len() > 40, "{text}");
    for (number, (side, calls)) in &happened {
        let (expected_side, line) = explained.get(number).unwrap_or_else(|| panic!("step {number} is not explained"));
        assert_eq!(side, expected_side, "{number}");
        assert!(line.starts_with(calls.as_str()), "step {number} was\n{calls}\nand explained was\n{line}");
    }
    assert_eq!(explained.len(), happened.len());
    let mounts = explained.values().any(|(side, calls)| side == "child" && calls.contains("\"overlay\""));
    assert_eq!(mounts, has_overlay(&place));
}

#[test]
fn everybody_is_told_and_nothing_is_done() {
    let Some(place) = place() else { return };
    // The place is its owner's alone, and the image at its path has to be read.
    fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("chmod").args(["-R", "a+rX"]).arg(place.path("layout")).status().unwrap().success());
    fs::copy(place.command("root").get_program(), place.path("program")).unwrap();
    let image = place.image();
    let words = ["explain", "-m", "64m", "--pids-limit", "9", &image, "true"];
    let as_root = place.call(&words);
    // Where memory cannot be limited that is said, to everybody.
    let wanted = if as_root.code == 0 { "\"overlay\"" } else { "memory" };
    assert!(format!("{}{}", as_root.out, as_root.err).contains(wanted), "{}{}", as_root.out, as_root.err);
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(place.path("program"));
    nobody.args(words).env("CORTEN_STORE", place.path("store")).current_dir("/");
    let done = nobody.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout), as_root.out, "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!place.path("store").exists() && !place.path("root").exists(), "nothing was made");
    place.refused(&["explain", "debian:12"], "there is no image \"debian:12\"");
    place.refused(&["explain", "web"], "no config.json here and no local image web");
    place.refused(&["explain", "-u", "root", &image], "the image is not unpacked in the store");
    place.refused(&["explain", "--network", "blue", &image], "--network blue");
    // Unpacked, names are known; then the overlay is of those layers.
    place.ok(&["run", "--rm", &image, "true"]);
    let text = place.ok(&["explain", "-u", "root", &image]);
    let layer = place.stored("layers").into_iter().find(|name| name.len() == 64).unwrap();
    assert_eq!(text.contains(&format!("layers/{layer}/diff")), has_overlay(&place), "{text}");
}
