//! The command line: help, what is refused by name, where the store is.

use crate::kit::{Place, exists};
use std::process::Stdio;

const VERBS: [&str; 11] =
    ["pull", "push", "login", "logout", "load", "save", "images", "rmi", "tag", "history", "prune"];

#[test]
fn help_has_them_under_a_heading_of_their_own() {
    let place = Place::new();
    let help = place.corten(&["--help"]).good();
    let (verbs, images) = help.split_once("\nImages:\n").unwrap();
    let images = images.split("\n\n").next().unwrap();
    let named: Vec<&str> = images.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(named, VERBS);
    assert!(verbs.contains("\n  run ") && !verbs.contains("\n  pull "), "{help}");
    assert_eq!(help.matches("\nVerbs:\n").count(), 1);
    for verb in VERBS {
        let help = place.corten(&[verb, "--help"]).good();
        assert!(help.contains("Examples:\n") || help.contains("Example:\n"), "{help}");
    }
}

#[test]
fn what_docker_has_and_this_version_has_not_is_refused_by_name() {
    let place = Place::new();
    for (args, option) in [
        (&["pull", "-a", "x"][..], "--all-tags"),
        (&["pull", "--disable-content-trust=false", "x"], "--disable-content-trust"),
        (&["push", "--platform", "linux/arm64", "x"], "--platform"),
        (&["images", "--tree"], "--tree"),
        (&["rmi", "--no-prune", "x"], "--no-prune"),
        (&["save", "--platform=linux/arm64", "x"], "--platform"),
        (&["prune", "--volumes"], "--volumes"),
    ] {
        place.corten(args).refused(&format!("{option} is not in this version: "));
    }
    place.corten(&["images", "--colour"]).refused("'--colour'");
    place.corten(&["pull"]).refused("<IMAGE>");
    assert!(!exists(place.path("store")));
}

#[test]
fn the_flag_beats_the_environment() {
    let place = Place::new();
    let flag = place.at("flag");
    place.corten(&["--store", &flag, "images", "-q"]).good();
    assert!(exists(place.path("flag/index.json")) && !exists(place.path("store")));
    place.corten(&["images", "-q"]).good();
    assert!(exists(place.path("store/index.json")));
    let refused = place.corten(&["--store", "/proc/none", "images"]).refused("/proc/none");
    assert!(refused.contains("hint: "), "{refused}");
}

#[test]
fn a_reader_who_has_left_is_an_error_and_no_panic() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let done = place.command(&["images"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let done = done.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{err}");
    assert!(err.contains("standard output: broken pipe (EPIPE)"), "{err}");
}
