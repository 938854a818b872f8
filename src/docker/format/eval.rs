//! A template's nodes become text.

use super::{Expr, Node, Pipeline};
use crate::docker::quote;
use crate::error;
use crate::error::Result;
use serde_json::Value;
use std::cmp::Ordering;

/// What the text is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// A row.
    Row,
    /// The headings: fields are their headings, functions hand them on.
    Heading,
}

/// The longest text, in bytes, that one row becomes: a template can multiply itself.
const LONGEST: usize = 16 << 20;

/// What may be missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refused,
    Nothing,
}

struct Scope<'a> {
    whole: &'a Value,
    pass: Pass,
    variables: Vec<(String, Value)>,
}

/// The text of one thing.
pub fn render(nodes: &[Node], whole: &Value, pass: Pass) -> Result<String> {
    let mut text = String::new();
    let mut scope = Scope { whole, pass, variables: Vec::new() };
    scope.write(nodes, whole, &mut text)?;
    Ok(text)
}

impl Scope<'_> {
    fn write(&mut self, nodes: &[Node], dot: &Value, text: &mut String) -> Result<()> {
        for node in nodes {
            match node {
                Node::Text(plain) => text.push_str(plain),
                Node::Show(pipeline) => text.push_str(&plain(&self.value(pipeline, dot, Missing::Refused)?)),
                Node::If(cases, otherwise) => {
                    let mut chosen = otherwise;
                    for (condition, body) in cases {
                        if truth(&self.value(condition, dot, Missing::Nothing)?) {
                            chosen = body;
                            break;
                        }
                    }
                    self.write(chosen, dot, text)?;
                }
                Node::With(pipeline, body, otherwise) => {
                    let value = self.value(pipeline, dot, Missing::Nothing)?;
                    match truth(&value) {
                        true => self.write(body, &value, text)?,
                        false => self.write(otherwise, dot, text)?,
                    }
                }
                Node::Range { key, item, over, body, otherwise } => {
                    let over = self.value(over, dot, Missing::Refused)?;
                    let pairs: Vec<(Value, &Value)> = match &over {
                        Value::Array(list) => list.iter().enumerate().map(|(at, value)| (at.into(), value)).collect(),
                        Value::Object(map) => map.iter().map(|(key, value)| (key.clone().into(), value)).collect(),
                        Value::Null => Vec::new(),
                        // Headings have no parts.
                        one if self.pass == Pass::Heading => vec![(0.into(), one)],
                        other => return Err(error!("range over {}, which is neither a list nor a map", kind(other))),
                    };
                    if pairs.is_empty() {
                        self.write(otherwise, dot, text)?;
                    }
                    let before = self.variables.len();
                    for (place, value) in pairs {
                        self.variables.extend(key.iter().map(|name| (name.clone(), place.clone())));
                        self.variables.extend(item.iter().map(|name| (name.clone(), value.clone())));
                        self.write(body, value, text)?;
                        self.variables.truncate(before);
                    }
                }
            }
            if text.len() > LONGEST {
                return Err(error!("the text is longer than {LONGEST} bytes"));
            }
        }
        Ok(())
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value, missing: Missing) -> Result<Value> {
        let mut carried = None;
        for expr in pipeline {
            carried = Some(self.expr(expr, dot, missing, carried)?);
        }
        Ok(carried.unwrap_or_default())
    }

    fn expr(&self, expr: &Expr, dot: &Value, missing: Missing, carried: Option<Value>) -> Result<Value> {
        if carried.is_some() && !matches!(expr, Expr::Call(..)) {
            return Err(error!("after a pipe there must be a function"));
        }
        match expr {
            Expr::Field(names) => self.fields(dot, names, missing),
            Expr::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                match (found, name.is_empty()) {
                    (Some((_, value)), _) => self.fields(value, names, missing),
                    (None, true) => self.fields(self.whole, names, missing),
                    (None, false) => Err(error!("the variable ${name} is not set")),
                }
            }
            Expr::Inner(pipeline, names) => self.fields(&self.value(pipeline, dot, missing)?, names, missing),
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Label(name) => {
                let name = self.expr(name, dot, missing, None)?;
                match self.pass {
                    Pass::Heading => Ok(plain(&name).to_uppercase().into()),
                    Pass::Row => Ok(label(dot, &plain(&name)).into()),
                }
            }
            Expr::Call(name, operands) => {
                let missing = if matches!(name.as_str(), "and" | "or" | "not") { Missing::Nothing } else { missing };
                let mut arguments: Vec<Value> =
                    operands.iter().map(|operand| self.expr(operand, dot, missing, None)).collect::<Result<_>>()?;
                arguments.extend(carried);
                match self.pass {
                    // A heading is that of the field, whatever is done with its value: the first that is no literal.
                    Pass::Heading => {
                        let field = operands.iter().position(|operand| !matches!(operand, Expr::Literal(_)));
                        Ok(arguments.into_iter().nth(field.unwrap_or(operands.len())).unwrap_or_default())
                    }
                    Pass::Row => function(name, &arguments).map_err(|e| e.at(name)),
                }
            }
        }
    }

    fn fields(&self, from: &Value, names: &[String], missing: Missing) -> Result<Value> {
        let mut value = from;
        for (at, name) in names.iter().enumerate() {
            let found = value.as_object().and_then(|map| map.get(name));
            value = match (found, self.pass, missing) {
                (Some(found), ..) => found,
                // A part of a field, or one without a heading.
                (None, Pass::Heading, _) if value.is_string() => value,
                (None, Pass::Heading, _) => return Ok(name.to_uppercase().into()),
                (None, _, Missing::Nothing) => return Ok(Value::Null),
                (None, ..) => {
                    let shown = names[..=at].join(".");
                    return Err(match value {
                        Value::Object(map) => {
                            let all: Vec<&str> = map.keys().map(String::as_str).collect();
                            error!("there is no field .{shown}").hint(format!("there are {}", all.join(", ")))
                        }
                        other => error!("there is no field .{shown}: .{} is {}", names[..at].join("."), kind(other)),
                    });
                }
            };
        }
        Ok(value.clone())
    }
}

/// A label in `.Labels`: a map, or as lists have it, a text `a=b,c=d`.
fn label(row: &Value, name: &str) -> String {
    match &row["Labels"] {
        Value::Object(map) => map.get(name).map(plain).unwrap_or_default(),
        Value::String(text) => {
            let found = text.split(',').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
            found.map(|(_, value)| value.to_owned()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// What `if` takes for true: anything that is not zero or empty.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// As Go prints a value: `[a b]`, `map[k:v]`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", plain(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

fn function(name: &str, arguments: &[Value]) -> Result<Value> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(error!("{} is not a text", kind(other))),
    };
    let yes = |yes: bool| Ok(Value::from(yes));
    let order = |a: &Value, b: &Value| match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let compare = |a, b| order(a, b).ok_or_else(|| error!("{} and {} have no order", kind(a), kind(b)));
    match (name, arguments) {
        ("json", [value]) => Ok(value.to_string().into()),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("join", [Value::Array(list), between]) => {
            let parts: Vec<String> = list.iter().map(plain).collect();
            Ok(parts.join(&text(between)?).into())
        }
        ("join", [Value::Null, _]) => Ok("".into()),
        ("split", [value, between]) => {
            Ok(text(value)?.split(text(between)?.as_str()).map(Value::from).collect::<Vec<_>>().into())
        }
        ("lower", [value]) => Ok(text(value)?.to_lowercase().into()),
        ("upper", [value]) => Ok(text(value)?.to_uppercase().into()),
        ("title", [value]) => {
            let text = text(value)?;
            let mut letters = text.chars();
            Ok(letters
                .next()
                .map(|first| first.to_uppercase().chain(letters).collect::<String>())
                .unwrap_or_default()
                .into())
        }
        ("truncate", [value, Value::Number(most)]) => {
            let most = usize::try_from(most.as_u64().unwrap_or_default()).unwrap_or(usize::MAX);
            Ok(text(value)?.chars().take(most).collect::<String>().into())
        }
        ("pad", [value, Value::Number(before), Value::Number(after)]) => {
            // Nobody needs more, and there is only so much memory.
            let spaces =
                |number: &serde_json::Number| " ".repeat(number.as_u64().unwrap_or_default().min(1000) as usize);
            Ok(format!("{}{}{}", spaces(before), text(value)?, spaces(after)).into())
        }
        ("len", [Value::String(text)]) => Ok(text.len().into()),
        ("len", [Value::Array(list)]) => Ok(list.len().into()),
        ("len", [Value::Object(map)]) => Ok(map.len().into()),
        ("len", [Value::Null]) => Ok(0.into()),
        ("print", _) => Ok(arguments.iter().map(plain).collect::<String>().into()),
        ("println", _) => Ok((arguments.iter().map(plain).collect::<Vec<_>>().join(" ") + "\n").into()),
        ("not", [value]) => yes(!truth(value)),
        ("and", [.., last]) => Ok(arguments.iter().find(|value| !truth(value)).unwrap_or(last).clone()),
        ("or", [.., last]) => Ok(arguments.iter().find(|value| truth(value)).unwrap_or(last).clone()),
        // The first against any of the others.
        ("eq", [first, others @ ..]) if !others.is_empty() => yes(others.iter().any(|other| same(first, other))),
        ("ne", [a, b]) => yes(!same(a, b)),
        ("lt", [a, b]) => yes(compare(a, b)? == Ordering::Less),
        ("le", [a, b]) => yes(compare(a, b)? != Ordering::Greater),
        ("gt", [a, b]) => yes(compare(a, b)? == Ordering::Greater),
        ("ge", [a, b]) => yes(compare(a, b)? != Ordering::Less),
        _ => {
            let kinds: Vec<&str> = arguments.iter().map(kind).collect();
            Err(error!(
                "does not take {}",
                if kinds.is_empty() { "no arguments".to_owned() } else { kinds.join(" and ") }
            ))
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

fn index(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        // As in Go, a key that a map does not have is its empty value.
        (Value::Object(map), Value::String(key)) => Ok(map.get(key).cloned().unwrap_or_else(|| "".into())),
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(list), Value::Number(at)) => {
            let found = at.as_u64().and_then(|at| list.get(usize::try_from(at).ok()?));
            found.cloned().ok_or_else(|| error!("{at} is out of range: the list has {} parts", list.len()))
        }
        (Value::Object(_), _) => Err(error!("the key of a map is a text, not {}", quote(&key.to_string()))),
        (other, _) => Err(error!("{} has no parts of that kind", kind(other))),
    }
}
