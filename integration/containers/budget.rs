//! How many system calls `run --rm IMAGE true` makes of an image that is in the store. A count is exact where a time is not.
//!
//! By hand: `strace -f -c corten run --rm debian:12 true`. The program's own calls count, for they are the same every time. The budget is what is made
//! today and a few more, so that an increase is seen. Half of it is what the bundle form makes, too (`integration/budget.rs`).

use super::kit::place;
use std::fs;
use std::process::Command;

/// On v1, where nine hierarchies want a directory and a mount each. On v2 it is a hundred less, as in the bundle form.
const MOST: u64 = 566;

/// As the programs of the host count, by the total of a table.
fn total(table: &str) -> u64 {
    let line = table.lines().rev().find(|line| line.trim_end().ends_with("total")).expect("a total");
    line.split_whitespace().nth(3).expect("a column of calls").parse().expect("a number")
}

#[test]
fn a_run_of_an_image() {
    let Some(place) = place() else { return };
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    place.ok(&["run", "--rm", &place.image(), "true"]);
    let id = place.ok(&["images", "-q", "--no-trunc"]);
    place.ok(&["tag", id.trim(), "budget:1"]);
    let count = |store: usize| {
        let table = place.path(&format!("count-{store}"));
        let run = place.command("root");
        let mut traced = Command::new("strace");
        traced.args(["-f", "-c", "-o"]).arg(&table).arg(run.get_program()).args(run.get_args());
        traced.args(["run", "--rm", "budget:1", "true"]).env("CORTEN_STORE", place.path("store"));
        let done = traced.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        total(&fs::read_to_string(&table).unwrap())
    };
    let made = count(0);
    assert!(place.stored("containers").is_empty() && place.stored("names").is_empty());
    assert!(made <= MOST, "run makes {made} system calls, and {MOST} are allowed");
    // Whatever else the store has, it costs no more.
    for n in 0..12 {
        place.ok(&["run", "--name", &format!("kept{n}"), "budget:1", "true"]);
    }
    let beside = count(12);
    assert!(beside <= made + 4, "run makes {made} system calls, and {beside} beside twelve containers that have ended");
}
