//! `list`: all containers, in runc's columns.

use super::state::{describe, owner, shown_pid};
use super::store;
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::state::State;
use crate::state::brief::{self, Brief, Found};
use crate::state::status::{self, Status};
use crate::state::store::Store;
use serde_json::Value;

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
    match format {
        Format::Json => {
            let found = look(store)?.into_iter().filter(|(status, _)| wanted(*status));
            let documents: Vec<Value> = found.map(|(status, state)| describe(&state, status)).collect();
            println!("{}", Value::from(documents));
        }
        Format::Table => {
            let rows: Vec<Row> =
                rows(store)?.into_iter().filter(|(status, _)| wanted(*status)).map(|(_, row)| row).collect();
            print!("{}", table(&rows, columns));
        }
    }
    Ok(0)
}

/// All containers as lines, and their status.
fn rows(store: &Store) -> Result<Vec<(Status, Row)>> {
    let Some(all) = store.all()? else { return Ok(Vec::new()) };
    let show = |brief: &Brief<'_>, status: Status, pid: i32| {
        (status, row(brief.id, pid, status, brief.bundle.into(), brief.created, brief.owner))
    };
    let found = brief::look(&all, show).into_iter().map(|(id, found)| match found {
        Found::Shown(shown) => Ok(Some(shown)),
        Found::Unclear => Ok(closely(store, id)?.map(|(status, state)| {
            let (pid, bundle) = (shown_pid(&state, status), state.bundle.display().to_string());
            (status, row(&state.id, pid, status, bundle, &state.created, state.owner))
        })),
    });
    found.filter_map(Result::transpose).collect()
}

/// All containers with their status, and all that is known of them.
pub fn look(store: &Store) -> Result<Vec<(Status, State)>> {
    store.ids()?.iter().map(|id| closely(store, id)).filter_map(Result::transpose).collect()
}

/// One container, also one that is being made, is going away, or is damaged.
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

fn row(id: &str, pid: i32, status: Status, bundle: String, created: &str, uid: u32) -> Row {
    [id.to_owned(), pid.to_string(), status.to_string(), bundle, created.to_owned(), owner(uid)]
}

/// Columns as wide as their widest cell and two spaces.
fn table(rows: &[Row], columns: &[&str]) -> String {
    let length = |cell: &str| if cell.is_ascii() { cell.len() } else { cell.chars().count() };
    let width = |(i, column): (usize, &&str)| {
        rows.iter().map(|row| length(&row[i])).chain([column.len(), 10]).max().unwrap_or(0) + 2
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    let blank = " ".repeat(widths.iter().copied().max().unwrap_or(0));
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (cell, width) in cells.zip(&widths) {
            text.push_str(cell);
            text.push_str(&blank[..width - length(cell)]);
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
