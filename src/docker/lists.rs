//! The lists that people read: `ps`, `images`, `history`, with Docker's columns.
//!
//! By hand: `docker ps -a --no-trunc`, `docker images --digests`. A row is a JSON object with a field for each that a template can name; the lists below are
//! templates too, so that `--format` has nothing that the usual output does not have.
//!
//! What goes wrong: a command line can hold anything, and is printed on a terminal. It is shown in quotes, cut, and control characters are escaped.

use super::human;
use std::time::Duration;

/// A list without `--format`: its template, and what stands over each field.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// For [`Format::parse`](super::format::Format::parse), with `table ` in front.
    pub table: &'static str,
    /// All fields of a row, and their headings.
    pub headings: &'static [(&'static str, &'static str)],
}

/// `ps`
pub const PS: List = List {
    table: r"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headings: &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Ports", "PORTS"),
        ("RunningFor", "CREATED"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
};

/// `images`
pub const IMAGES: List = List {
    table: r"table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
    headings: &[
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
    ],
};

/// `history`
pub const HISTORY: List = List {
    table: r"table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
    headings: &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ],
};

/// How many characters of a long cell are shown in a table.
const CELL: usize = 20;

/// How much of a cell is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Twenty characters, the last of which says that there is more.
    Short,
    /// All of it (`--no-trunc`).
    Whole,
}

/// A program and its arguments as a cell: `"/bin/sh -c 'sleep …"`.
pub fn command(args: &[String], cut: Cut) -> String {
    let line: String = args
        .join(" ")
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    format!("\"{}\"", cell(&line, CELL, cut))
}

/// A text of at most so many characters.
pub fn cell(text: &str, most: usize, cut: Cut) -> String {
    match cut {
        Cut::Short if text.chars().count() > most => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        _ => text.to_owned(),
    }
}

/// What a container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// It waits to be started.
    Waits,
    /// It runs, for so long.
    Runs(Duration),
    /// It is frozen, and was started so long ago.
    Rests(Duration),
    /// It ended so long ago, with this code.
    Ended(Duration, u8),
    /// Nobody knows how it ended: the machine was started anew since.
    Lost,
}

/// Docker's words: for `.State`, and for `.Status`.
pub fn status(does: Does) -> (&'static str, String) {
    match does {
        Does::Waits => ("created", "Created".to_owned()),
        Does::Runs(length) => ("running", format!("Up {}", human::duration(length))),
        Does::Rests(length) => ("paused", format!("Up {} (Paused)", human::duration(length))),
        Does::Ended(length, code) => ("exited", format!("Exited ({code}) {}", human::ago(length))),
        Does::Lost => ("exited", "Exited".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_of_a_table_has_a_heading() {
        for list in [PS, IMAGES, HISTORY] {
            let fields = list.headings.iter().map(|(field, _)| ((*field).to_owned(), json!(field)));
            let row = serde_json::Value::Object(fields.collect());
            let text = Format::parse(list.table, "").unwrap().list(&[row], list.headings).unwrap();
            let first = text.lines().next().unwrap();
            assert!(list.headings.iter().filter(|(_, heading)| first.contains(heading)).count() >= 5, "{text}");
            assert!(!first.contains("CREATEDSINCE") && !first.contains("RUNNINGFOR"), "{text}");
        }
    }

    #[test]
    fn cells() {
        let of = |words: &[&str], cut| command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), cut);
        assert_eq!(of(&["sh", "-c", "echo hello world and more"], Cut::Short), "\"sh -c echo hello wo…\"");
        assert_eq!(of(&["sh", "-c", "echo hello world and more"], Cut::Whole), "\"sh -c echo hello world and more\"");
        assert_eq!(of(&["a\u{1b}[2J\n"], Cut::Short), "\"a\\u{1b}[2J\\n\"");
        assert_eq!(cell("äöü", 3, Cut::Short), "äöü");
        assert_eq!(cell("äöüß", 3, Cut::Short), "äö…");
    }

    #[test]
    fn what_containers_do() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        for (does, state, text) in [
            (Does::Waits, "created", "Created"),
            (Does::Runs(minutes(5)), "running", "Up 5 minutes"),
            (Does::Rests(minutes(1)), "paused", "Up About a minute (Paused)"),
            (Does::Ended(minutes(3), 137), "exited", "Exited (137) 3 minutes ago"),
            (Does::Lost, "exited", "Exited"),
        ] {
            assert_eq!(status(does), (state, text.to_owned()));
        }
    }
}
