//! `history`: how an image was built, the last step first.
//!
//! By hand: `docker history --no-trunc debian:12`, or `jq .history` in the image's configuration. Only the image itself has an id; the steps below it
//! were never images here, and are `<missing>`, as with Docker.

use super::list::cut;
use super::verbs::{image, say, store, stored};
use super::{moment, rows};
use crate::cli::Invocation;
use crate::docker::format::Format;
use crate::docker::human;
use crate::docker::lists::{self, Cut};
use crate::error::Result;
use crate::image::store::Line;
use serde_json::{Value, json};

const MISSING: &str = "<missing>";
/// How much of a command is shown.
const COMMAND: usize = 45;

/// Are sizes and ages for people?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    People,
    Programs,
}

/// The verb.
pub fn history(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let usual = lists::HISTORY.table;
    let asked = args.get_one::<String>("format").map(String::as_str);
    let format = Format::parse(asked.unwrap_or(usual), usual)?;
    let store = store(invocation)?;
    let image = stored(&store, image(args))?;
    let cut = cut(args);
    let reader = if args.get_one("human") == Some(&false) { For::Programs } else { For::People };
    let now = moment::now();
    let lines = store.history(&image);
    let id = |n: usize| if n == 0 { rows::id(&image, cut) } else { MISSING.to_owned() };
    let values: Vec<Value> =
        lines.iter().rev().enumerate().map(|(n, line)| value(line, &id(n), now, cut, reader)).collect();
    if args.get_flag("quiet") && asked.is_none_or(|text| text.trim() == "table") {
        let ids: String = (0..lines.len()).map(|n| format!("{}\n", id(n))).collect();
        return say(&ids).map(|()| 0);
    }
    say(&format.list(&values, lists::HISTORY.headings)?).map(|()| 0)
}

/// A row as a template has it; its fields are those of `lists::HISTORY`.
fn value(line: &Line, id: &str, now: i64, cut: Cut, reader: For) -> Value {
    let created = line.created.as_deref().and_then(moment::parse).filter(|at| *at > 0);
    let at = created.map_or_else(|| moment::at(None), moment::rfc3339);
    json!({
        "Comment": one_line(&line.comment),
        "CreatedAt": at,
        "CreatedBy": lists::cell(&one_line(&line.created_by), COMMAND, cut),
        "CreatedSince": if reader == For::People { moment::since(created, now) } else { at.clone() },
        "ID": id,
        "Size": if reader == For::People { human::size(line.size) } else { line.size.to_string() },
    })
}

/// A builder's words are a stranger's: no tab may make columns of its own, no escape may reach the terminal.
fn one_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\t' => vec![' '],
        c if c.is_control() => c.escape_default().collect(),
        c => vec![c],
    };
    text.chars().flat_map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row() {
        let line = Line {
            created: Some("1970-01-01T00:00:09Z".into()),
            created_by: format!("RUN\techo \x1b[2J {}", "x".repeat(50)),
            comment: "buildkit".into(),
            size: 1_500_000,
        };
        let row = value(&line, "abc", 9 + 7200, Cut::Short, For::People);
        assert_eq!(
            (&row["CreatedBy"], &row["CreatedSince"], &row["Size"]),
            (&json!("RUN echo \\u{1b}[2J xxxxxxxxxxxxxxxxxxxxxxxxx…"), &json!("2 hours ago"), &json!("1.5MB"))
        );
        let row = value(&line, "abc", 0, Cut::Whole, For::Programs);
        assert_eq!((&row["CreatedSince"], &row["Size"]), (&json!("1970-01-01T00:00:09Z"), &json!("1500000")));
        let empty = Line { created: None, created_by: String::new(), comment: String::new(), size: 0 };
        assert_eq!(value(&empty, "x", 5, Cut::Short, For::People)["CreatedSince"], json!("N/A"));
    }
}
