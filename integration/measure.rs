//! `scripts/bench` and `scripts/bench-images` themselves: that they measure, say when they could not, and leave nothing behind. Their figures are no test's business.

use crate::harness::Bundle;
use std::path::Path;

/// The script's words, with two rounds beside the floor only.
fn bench(b: &Bundle, rows: &str) -> crate::harness::Call {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bench");
    // What it makes on the host bears our name, so that the leak check finds it.
    b.host(script)
        .env("BENCH_TAG", &b.id)
        .args(["--quick", "-n", "2", "--alone", "--host", "as-is", "--only", rows])
        .args([format!("corten={}", b.binary.display())])
        .timeout(crate::harness::timeout() * 4)
}

/// The line of the table that begins so.
#[track_caller]
fn line<'a>(table: &'a str, title: &str) -> &'a str {
    table.lines().find(|line| line.starts_with(title)).unwrap_or_else(|| panic!("no line {title} in:\n{table}"))
}

#[test]
fn measures() {
    corten_only!("a script that measures it");
    if !crate::harness::host::has_program("gcc") {
        skip!("scripts/bench wants a C compiler");
    }
    let b = Bundle::busybox();
    let table = bench(&b, "docker,exec,life,many,memory").run().ok().out;
    assert!(!table.contains("void"), "{table}");
    for title in ["`run`, Docker's settings", "`exec`", "`create`", "`start`", "`delete -f`"] {
        // The floor's figure, Corten's, and their ratio, each with the least in brackets.
        assert!(line(&table, title).matches('(').count() >= 3, "{title} in:\n{table}");
    }
    line(&table, "`list` beside 20 containers");
    let left: Vec<_> = std::fs::read_dir(b.path("tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("corten-bench.")), "{left:?}");
}

/// A runtime that fails is not quick: its row is void.
#[test]
fn void() {
    corten_only!("a script that measures it");
    if !crate::harness::host::has_program("gcc") {
        skip!("scripts/bench wants a C compiler");
    }
    let b = Bundle::busybox();
    // It starts what the script tries first, and fails each exec.
    let real = b.binary.display();
    let wrapper = b.path("half");
    let words = format!("#!/bin/sh\ncase \" $* \" in *\" exec \"*) exit 1 ;; esac\nexec {real} \"$@\"\n");
    std::fs::write(&wrapper, words).unwrap();
    b.shell("chmod 755 half").ok();
    let table = bench(&b, "exec").args([format!("half={}", wrapper.display())]).run().ok().out;
    let exec = line(&table, "`exec`");
    assert!(exec.contains("void"), "{table}");
    assert!(exec.matches('(').count() >= 3, "Corten's own is not: {table}");
}

/// `scripts/bench-images` with a small root file system in place of Debian's, beside `gunzip | tar` only.
fn bench_images(b: &Bundle, binary: &Path) -> crate::harness::Call {
    for directory in ["usr/lib", "usr/share", "var"] {
        std::fs::create_dir_all(b.path("rootfs").join(directory)).unwrap();
    }
    std::fs::write(b.path("rootfs/usr/share/text"), "words\n".repeat(10_000)).unwrap();
    b.host(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/bench-images"))
        .env("BENCH_TAG", &b.id)
        .args(["--quick", "--alone", "--only", "unpack,load"])
        .args([format!("--root={}", b.path("rootfs").display()), format!("corten={}", binary.display())])
        .timeout(crate::harness::timeout() * 4)
}

#[test]
fn measures_images() {
    corten_only!("a script that measures it");
    if !crate::harness::host::has_program("gcc") {
        skip!("scripts/bench wants a C compiler");
    }
    let b = Bundle::busybox();
    let table = bench_images(&b, &b.binary).run().ok().out;
    assert!(!table.contains("void"), "{table}");
    for title in ["unpack four layers", "four layers from a file to the disk"] {
        // Ours and tar's, the ratio to tar, and whether the goal was met.
        let line = line(&table, title);
        assert!(line.matches('(').count() == 2 && line.contains(" tar ") && line.contains("≤ 1 × tar"), "{line}");
        assert!(line.trim_end().ends_with("yes") || line.trim_end().ends_with("no"), "{line}");
    }
    let left: Vec<_> = std::fs::read_dir(b.path("tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("corten-bench.")), "{left:?}");
}

/// What fails is not quick, and meets no goal.
#[test]
fn void_images() {
    corten_only!("a script that measures it");
    if !crate::harness::host::has_program("gcc") {
        skip!("scripts/bench wants a C compiler");
    }
    let b = Bundle::busybox();
    let (real, wrapper) = (b.binary.display(), b.path("half"));
    let words = format!("#!/bin/sh\ncase \" $* \" in *\" load \"*) exit 1 ;; esac\nexec {real} \"$@\"\n");
    std::fs::write(&wrapper, words).unwrap();
    b.shell("chmod 755 half").ok();
    let table = bench_images(&b, &wrapper).run().ok().out;
    let load = line(&table, "four layers from a file to the disk");
    assert!(load.contains("void") && load.trim_end().ends_with("no"), "{table}");
    assert!(!line(&table, "unpack four layers").contains("void"), "{table}");
}
