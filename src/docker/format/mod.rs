//! `--format`: the part of Go's templates that people write.
//!
//! By hand: `docker ps --format 'table {{.ID}}\t{{.Names}}'`, `docker inspect --format '{{.State.Pid}}' web`,
//! `docker inspect --format '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}' web`.
//!
//! | what is written | what it is |
//! |---|---|
//! | `{{.A.B}}`, `{{.}}`, `{{$v.A}}` | a field |
//! | `{{json .A}}`, `{{join .A ","}}`, `{{index .A "k"}}` … | a function of [`FUNCTIONS`] |
//! | `{{.A \| json}}`, `{{(index .A 0).B}}` | the same, piped, and in parentheses |
//! | `{{range .A}} … {{else}} … {{end}}`, also `$v := ` and `$k, $v := ` | for each |
//! | `{{if .A}} … {{else if .B}} … {{else}} … {{end}}`, `{{with .A}}` | where it is not empty |
//! | `{{- .A -}}`, `{{/* … */}}` | without the space around, and a comment |
//! | `json`, `table …` in front | a JSON object a line; columns under headings |
//!
//! `\t` and `\n` outside of braces are a tab and a line's end.
//!
//! What goes wrong: a misspelled field that prints nothing goes unnoticed in a script. So it is an error that names the fields that there are; under `if`, `with`,
//! `and`, `or` and `not` a field may be missing. What else Go has (`define`, `printf`, methods) is refused by name.

mod eval;
mod parse;

use super::columns::aligned;
use crate::error;
use crate::error::Result;
use eval::Pass;
use serde_json::{Map, Value};

/// The functions that there are.
pub const FUNCTIONS: [&str; 21] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "println", "split", "title", "truncate", "upper",
];

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// `json`
    Json,
    /// A line each.
    Lines(Vec<Node>),
    /// Columns under headings.
    Table(Vec<Node>),
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Show(Pipeline),
    If(Vec<(Pipeline, Vec<Node>)>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range { key: Option<String>, item: Option<String>, over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Calls whose result is the last argument of the next.
type Pipeline = Vec<Expr>;

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    /// `.A.B`
    Field(Vec<String>),
    /// `$v.A`; `$` alone is the whole.
    Variable(String, Vec<String>),
    /// `(…).A`
    Inner(Pipeline, Vec<String>),
    Literal(Value),
    /// A function's name, or a field's with arguments (`.Label "k"`).
    Call(String, Vec<Expr>),
    /// `.Label "k"`: the label of that name.
    Label(Box<Expr>),
}

impl Format {
    /// Reads what was typed after `--format`. `usual` is the template that `table` alone stands for.
    pub fn parse(text: &str, usual: &str) -> Result<Format> {
        let at = |e: error::Error| e.at(format!("--format {}", super::quote(text)));
        let nodes = |text: &str| parse::template(text).map_err(at);
        let shape = match text.trim() {
            "json" => Shape::Json,
            "table" => Shape::Table(nodes(usual)?),
            trimmed => match trimmed.strip_prefix("table ") {
                Some(rest) => Shape::Table(nodes(rest.trim_start())?),
                None => Shape::Lines(nodes(text)?),
            },
        };
        Ok(Format { shape })
    }

    /// The text for a list: a line for each row. `headings` are the fields' names over columns.
    pub fn list(&self, rows: &[Value], headings: &[(&str, &str)]) -> Result<String> {
        match &self.shape {
            Shape::Json => Ok(rows.iter().map(|row| format!("{row}\n")).collect()),
            Shape::Lines(nodes) => {
                let lines: Result<Vec<String>> = rows.iter().map(|row| show(nodes, row)).collect();
                // Columns only under `table`; but a tab stays a tab.
                Ok(lines?.into_iter().map(|line| line + "\n").collect())
            }
            Shape::Table(nodes) => {
                let named: Map<String, Value> =
                    headings.iter().map(|(field, heading)| ((*field).to_owned(), Value::from(*heading))).collect();
                let first = eval::render(nodes, &Value::Object(named), Pass::Heading).map_err(|e| e.at("--format"))?;
                let mut lines = vec![first];
                for row in rows {
                    lines.push(show(nodes, row)?);
                }
                Ok(aligned(&lines))
            }
        }
    }

    /// The text for `inspect`: a line for each thing, and `json` one array.
    pub fn inspect(&self, things: &[Value]) -> Result<String> {
        match &self.shape {
            Shape::Json => Ok(format!("{}\n", Value::from(things.to_vec()))),
            _ => self.list(things, &[]),
        }
    }
}

fn show(nodes: &[Node], row: &Value) -> Result<String> {
    eval::render(nodes, row, Pass::Row).map_err(|e| e.at("--format"))
}

#[cfg(test)]
mod tests;
