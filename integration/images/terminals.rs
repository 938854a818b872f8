//! What a person at a terminal sees.

use crate::kit::{ALL, Place, Real, Speaks, Wants, can};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::Read;
use std::process::Command;

/// Runs it with a terminal for standard input, output and error; what is shown, and its exit code.
fn shown(mut command: Command, rows: u16, columns: u16) -> (String, i32) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let both = openpty(Some(&size), None).unwrap();
    let slave = File::from(both.slave);
    command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.env("TERM", "xterm").spawn().unwrap();
    // The slave's other copies: a read of the master ends when the last is closed.
    drop(command);
    let (mut master, mut bytes) = (File::from(both.master), Vec::new());
    let mut buffer = [0; 4096];
    while let Ok(got @ 1..) = master.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..got]);
    }
    (String::from_utf8(bytes).unwrap(), child.wait().unwrap().code().unwrap())
}

/// What stands on the screen at the end: lines that are drawn again are drawn over.
fn screen(text: &str) -> Vec<String> {
    let (mut lines, mut at): (Vec<String>, usize) = (vec![String::new()], 0);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\x1b[") {
            let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap();
            match &after[end..=end] {
                "A" => at -= after[..end].parse::<usize>().unwrap(),
                "K" => lines[at].clear(),
                "J" => lines.truncate(at + 1),
                other => panic!("{other:?}"),
            }
            rest = &after[end + 1..];
            continue;
        }
        match c {
            '\n' => at += 1,
            '\r' => {}
            c => lines[at].push(c),
        }
        if at == lines.len() {
            lines.push(String::new());
        }
        rest = &rest[c.len_utf8()..];
    }
    lines
}

#[test]
fn a_pull_draws_a_line_for_each_layer_where_it_stands() {
    if !can(&ALL) {
        return;
    }
    let (place, real) = (Place::new(), Real::start(Speaks::Http, Wants::Nothing));
    place.usual();
    place.put("it", &real, "web:1");
    let name = format!("{}/web:1", real.host);
    let (text, code) = shown(place.command(&["pull", &name]), 24, 80);
    let lines = screen(&text);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\x1b[K"), "{text:?}");
    assert_eq!(lines[0], format!("1: Pulling from {}/web", real.host));
    assert!(lines[1].ends_with(": Pull complete") && lines[2].ends_with(": Pull complete"), "{lines:?}");
    assert!(lines[3].starts_with("Digest: sha256:") && lines[5] == name, "{lines:?}");
    // Three rows are not enough for two layers.
    let (text, _) = shown(place.command(&["pull", &name]), 3, 40);
    assert!(screen(&text)[1].starts_with("2 of 2 layers"), "{text:?}");
    // An error stands below the bars.
    let missing = format!("{}/web:other", real.host);
    let (text, code) = shown(place.command(&["pull", &missing]), 24, 80);
    assert_eq!(code, 1);
    assert!(screen(&text)[1].starts_with(&format!("corten: pull: {missing}: ")), "{text:?}");
}

#[test]
fn nobody_wants_an_archive_on_a_terminal() {
    let place = Place::new();
    let (text, code) = shown(place.command(&["save", "web"]), 24, 80);
    assert!(code == 1 && text.contains("standard output is a terminal"), "{text}");
    let (text, code) = shown(place.command(&["load"]), 24, 80);
    assert!(code == 1 && text.contains("standard input is a terminal"), "{text}");
}
