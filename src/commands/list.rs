//! `list`: all containers, in runc's columns.

use super::state::{describe, owner, shown_pid};
use super::store;
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::setup::cgroup::Freezers;
use crate::state::status::{self, Status};
use crate::state::store::Store;
use crate::state::{Process, State};
use serde_json::Value;
use std::fmt::Write;

/// The verb.
#[inline(never)]
pub fn list(invocation: &Invocation) -> Result<u8> {
    let store = store(invocation)?;
    if invocation.global.root.is_some() && !store.path().exists() {
        return Err(Error::new(format!("--root {}: no such file or directory (ENOENT)", store.path().display())));
    }
    if invocation.args.get_flag("quiet") {
        store.ids()?.iter().for_each(|id| println!("{id}"));
        return Ok(0);
    }
    let format = Format::of(invocation.args.get_one::<String>("format").map(String::as_str));
    show(&store, format, &["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"], |_| true)
}

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns.
    Table,
    /// One array of state documents.
    Json,
}

impl Format {
    /// As it was typed; a table where nothing was.
    pub fn of(word: Option<&str>) -> Format {
        if word == Some("json") { Format::Json } else { Format::Table }
    }
}

/// A container's line in the table: id, pid, status, bundle, when it was created, owner.
type Row = [String; 6];

/// Prints the containers whose status is `wanted`, as a table of these columns (the first of a [`Row`]'s) or as their state documents.
pub fn show(store: &Store, format: Format, columns: &[&str], wanted: impl Fn(Status) -> bool) -> Result<u8> {
    let json = format == Format::Json;
    let mut documents: Vec<Value> = Vec::new();
    let mut rows: Vec<Row> = Vec::new();
    for (status, state) in look(store)? {
        match (wanted(status), json) {
            (false, _) => {}
            (true, true) => documents.push(describe(&state, status)),
            (true, false) => rows.push(row(state, status)),
        }
    }
    if json {
        println!("{}", Value::from(documents));
    } else {
        print!("{}", table(&rows, columns));
    }
    Ok(0)
}

/// All containers with their status. A thread for each processor was tried, and took a tenth longer for two hundred containers.
pub fn look(store: &Store) -> Result<Vec<(Status, State)>> {
    let Some(all) = store.all()? else { return Ok(Vec::new()) };
    let (mut record, mut freezers) = (Vec::new(), Freezers::default());
    let look = |id: &String| match all.facts(id, &mut record) {
        Some(state) => {
            let is_frozen = || freezers.is_frozen(&state.cgroup).unwrap_or(false);
            let init = state.init.as_ref().and_then(Process::open);
            Ok(Some((status::derive(&state, init.as_ref(), || all.is_held(id), is_frozen), state)))
        }
        None => closely(store, id),
    };
    all.ids().iter().map(look).filter_map(Result::transpose).collect()
}

/// One that is being made, is going away, or is damaged.
fn closely(store: &Store, id: &str) -> Result<Option<(Status, State)>> {
    let Some(entry) = store.find(id)? else { return Ok(None) };
    match entry.load() {
        Ok(state) => return Ok(Some((status::of(&entry, &state), state))),
        // It vanished meanwhile.
        Err(_) if !entry.is_linked() => {}
        Err(error) => log::warn!("{id}: {}", error.cause),
    }
    Ok(None)
}

fn row(state: State, status: Status) -> Row {
    let (pid, owner) = (shown_pid(&state, status), owner(state.owner));
    [state.id, pid.to_string(), status.to_string(), state.bundle.display().to_string(), state.created, owner]
}

/// Columns as wide as their widest cell and two spaces.
fn table(rows: &[Row], columns: &[&str]) -> String {
    let width = |(i, column): (usize, &&str)| {
        rows.iter().map(|row| row[i].chars().count()).chain([column.len(), 10]).max().unwrap_or(0) + 2
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(text, "{cell:width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    line(&mut columns.iter().copied());
    rows.iter().for_each(|row| line(&mut row.iter().map(String::as_str)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_the_header_stands_alone_without_rows() {
        let columns = &["ID", "PID"];
        assert_eq!(table(&[], columns), "ID          PID\n");
        let rows = [["a-rather-long-id", "7"], ["b", "12345"]];
        let rows = rows.map(|[id, pid]| [id, pid, "", "", "", "not shown"].map(String::from));
        assert_eq!(table(&rows, columns), "ID                PID\na-rather-long-id  7\nb                 12345\n");
    }
}
