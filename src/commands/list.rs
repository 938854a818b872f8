//! `list`: all containers, in runc's columns.

use super::state::describe;
use super::store;
use crate::cli::Invocation;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fmt::Write;

/// The verb.
pub fn list(invocation: &Invocation) -> Result<u8> {
    let store = store(invocation)?;
    if invocation.global.root.is_some() && !store.path().exists() {
        return Err(Error::new(format!("--root {}: no such file or directory (ENOENT)", store.path().display())));
    }
    let ids = store.ids()?;
    if invocation.args.get_flag("quiet") {
        ids.iter().for_each(|id| println!("{id}"));
        return Ok(0);
    }
    let documents: Vec<Value> = documents(invocation)?;
    if invocation.args.get_one::<String>("format").is_some_and(|format| format == "json") {
        println!("{}", Value::from(documents));
    } else {
        print!("{}", table(&documents, &["id", "pid", "status", "bundle", "created", "owner"]));
    }
    Ok(0)
}

/// The state documents of all containers; one that vanishes meanwhile is left out, one that cannot be read is warned of.
pub fn documents(invocation: &Invocation) -> Result<Vec<Value>> {
    let store = store(invocation)?;
    let mut documents = Vec::new();
    for id in store.ids()? {
        let Some(entry) = store.find(&id)? else { continue };
        match entry.load() {
            Ok(state) => documents.push(describe(&entry, &state)),
            Err(_) if !entry.is_linked() => {}
            Err(error) => log::warn!("{id}: {}", error.cause),
        }
    }
    Ok(documents)
}

/// Columns as wide as their widest cell and two spaces, the header in capitals.
pub fn table(documents: &[Value], columns: &[&str]) -> String {
    let cell = |document: &Value, column: &str| match &document[column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let width = |column: &str| {
        documents.iter().map(|d| cell(d, column).chars().count()).chain([column.len()]).max().unwrap_or(0).max(10) + 2
    };
    let widths: Vec<usize> = columns.iter().map(|column| width(column)).collect();
    let mut text = String::new();
    for (column, width) in columns.iter().zip(&widths) {
        let _ = write!(text, "{:width$}", column.to_uppercase());
    }
    for document in documents {
        text = text.trim_end().to_owned() + "\n";
        for (column, width) in columns.iter().zip(&widths) {
            let _ = write!(text, "{:width$}", cell(document, column));
        }
    }
    text.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up_and_the_header_stands_alone_without_rows() {
        assert_eq!(table(&[], &["id", "pid"]), "ID          PID\n");
        let rows = [json!({"id": "a-rather-long-id", "pid": 7}), json!({"id": "b", "pid": 12345})];
        assert_eq!(
            table(&rows, &["id", "pid"]),
            "ID                PID\na-rather-long-id  7\nb                 12345\n"
        );
    }
}
