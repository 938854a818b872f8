//! A template's text becomes nodes.

use super::{Expr, FUNCTIONS, Node, Pipeline};
use crate::docker::quote;
use crate::error;
use crate::error::Result;
use serde_json::Value;

/// How deep blocks and parentheses may lie in one another.
const DEEPEST: usize = 50;

/// What lies between braces, and what does not.
#[derive(Debug)]
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    /// `.A.B`: its names; none is `.` alone. The second says whether it follows what stands before it without a space.
    Field(Vec<String>, Joint),
    Variable(String),
    Word(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
    Declare,
    Comma,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joint {
    Apart,
    Joined,
}

/// Reads a whole template.
pub fn template(text: &str) -> Result<Vec<Node>> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end) = block(&mut pieces, 0)?;
    match end {
        None => Ok(nodes),
        Some(words) => Err(error!("{{{{{}}}}} without a block that it could end", shown(&words))),
    }
}

fn shown(tokens: &[Token]) -> &str {
    match tokens.first() {
        Some(Token::Word(word)) => word,
        _ => "…",
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (before, after) = match rest.split_once("{{") {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        let mut plain = before.replace("\\t", "\t").replace("\\n", "\n");
        if trim {
            plain = plain.trim_start().to_owned();
        }
        let Some(after) = after else {
            pieces.push(Piece::Text(plain));
            return Ok(pieces);
        };
        let inside = after.strip_prefix("- ").inspect(|_| plain = plain.trim_end().to_owned()).unwrap_or(after);
        pieces.push(Piece::Text(plain));
        let end = end_of_action(inside).ok_or_else(|| error!("{{{{ without }}}}"))?;
        let action = &inside[..end];
        rest = &inside[end + 2..];
        trim = action.ends_with(" -");
        let action = if trim { &action[..action.len() - 2] } else { action };
        if !action.trim().starts_with("/*") {
            pieces.push(Piece::Action(tokens(action)?));
        }
    }
}

/// Where the `}}` is, behind strings and comments.
fn end_of_action(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if text.trim_start().starts_with("/*") {
        let comment = text.find("*/")?;
        return text[comment..].find("}}").map(|at| comment + at);
    }
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'`') => {
                at += 1;
                while *bytes.get(at)? != quote {
                    at += if bytes[at] == b'\\' && quote == b'"' { 2 } else { 1 };
                }
                at += 1;
            }
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => at += 1,
        }
    }
    None
}

fn tokens(text: &str) -> Result<Vec<Token>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start();
        let joint = if trimmed.len() == rest.len() && !found.is_empty() { Joint::Joined } else { Joint::Apart };
        rest = trimmed;
        let Some(first) = rest.chars().next() else { return Ok(found) };
        let name_end = |from: usize| rest[from..].find(|c| !is_name(c)).map_or(rest.len(), |at| from + at);
        let (token, length) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            ':' if rest.starts_with(":=") => (Token::Declare, 2),
            '"' => string(rest)?,
            '`' => {
                let end = rest[1..].find('`').ok_or_else(|| error!("a quote is not closed"))?;
                (Token::Literal(rest[1..=end].into()), end + 2)
            }
            '.' => {
                let mut names = Vec::new();
                let mut at = 0;
                while rest[at..].starts_with('.') {
                    let end = name_end(at + 1);
                    if end == at + 1 {
                        if at != 0 {
                            return Err(error!("a field without a name in {}", quote(rest)));
                        }
                        at = end;
                        break;
                    }
                    names.push(rest[at + 1..end].to_owned());
                    at = end;
                }
                (Token::Field(names, joint), at)
            }
            '$' => {
                let end = name_end(1);
                (Token::Variable(rest[1..end].to_owned()), end)
            }
            '-' | '0'..='9' => {
                let end = rest[1..].find(|c: char| !c.is_ascii_digit() && c != '.').map_or(rest.len(), |at| at + 1);
                let number: Value =
                    serde_json::from_str(&rest[..end]).map_err(|_| error!("{} is no number", quote(&rest[..end])))?;
                (Token::Literal(number), end)
            }
            c if is_name(c) => {
                let end = name_end(0);
                let token = match &rest[..end] {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    word => Token::Word(word.to_owned()),
                };
                (token, end)
            }
            c => return Err(error!("{c:?} is not understood")),
        };
        found.push(token);
        rest = &rest[length..];
    }
}

/// A string in double quotes, with Go's escapes as far as JSON has them.
fn string(rest: &str) -> Result<(Token, usize)> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let text = &rest[..=at];
                let value =
                    serde_json::from_str(&text.replace('\t', "\\t")).map_err(|_| error!("{text} is no string"))?;
                return Ok((Token::Literal(value), at + 1));
            }
            _ => {}
        }
    }
    Err(error!("a quote is not closed"))
}

/// Nodes up to `end` or `else`, whose words are the second of the result.
fn block(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<(Vec<Node>, Option<Vec<Token>>)> {
    if depth > DEEPEST {
        return Err(error!("more than {DEEPEST} blocks in one another"));
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let tokens = match piece {
            Piece::Text(text) => {
                if !text.is_empty() {
                    nodes.push(Node::Text(text));
                }
                continue;
            }
            Piece::Action(tokens) => tokens,
        };
        let word = match tokens.first() {
            None => return Err(error!("{{{{}}}} has nothing in it")),
            Some(Token::Word(word)) => word.as_str(),
            Some(_) => "",
        };
        match word {
            "end" | "else" => return Ok((nodes, Some(tokens))),
            "if" => nodes.push(branch(&tokens[1..], pieces, depth)?),
            "with" => {
                let over = pipeline(&tokens[1..])?;
                let (body, otherwise) = body(pieces, depth)?;
                nodes.push(Node::With(over, body, otherwise));
            }
            "range" => nodes.push(range(&tokens[1..], pieces, depth)?),
            "define" | "template" | "block" | "break" | "continue" => {
                return Err(error!("{word} is not in this version; docs name what is"));
            }
            _ => nodes.push(Node::Show(pipeline(&tokens)?)),
        }
    }
    match depth {
        0 => Ok((nodes, None)),
        _ => Err(error!("a block without {{{{end}}}}")),
    }
}

fn branch(condition: &[Token], pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<Node> {
    let mut cases = Vec::new();
    let mut condition = pipeline(condition)?;
    loop {
        let (body, end) = block(pieces, depth + 1)?;
        cases.push((condition, body));
        match end.as_deref().unwrap_or_default() {
            [Token::Word(word)] if word == "end" => return Ok(Node::If(cases, Vec::new())),
            [_] => {
                let (otherwise, end) = block(pieces, depth + 1)?;
                ended(end.as_deref())?;
                return Ok(Node::If(cases, otherwise));
            }
            [Token::Word(first), Token::Word(second), rest @ ..] if first == "else" && second == "if" => {
                condition = pipeline(rest)?;
            }
            _ => return Err(error!("{{{{end}}}} and {{{{else}}}} take no words")),
        }
    }
}

fn ended(end: Option<&[Token]>) -> Result<()> {
    match end {
        Some([Token::Word(word)]) if word == "end" => Ok(()),
        _ => Err(error!("a block without {{{{end}}}}")),
    }
}

fn body(pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<(Vec<Node>, Vec<Node>)> {
    let (body, end) = block(pieces, depth + 1)?;
    match end.as_deref() {
        Some([Token::Word(word)]) if word == "else" => {
            let (otherwise, end) = block(pieces, depth + 1)?;
            ended(end.as_deref())?;
            Ok((body, otherwise))
        }
        end => ended(end).map(|()| (body, Vec::new())),
    }
}

fn range(tokens: &[Token], pieces: &mut std::vec::IntoIter<Piece>, depth: usize) -> Result<Node> {
    let (key, item, over) = match tokens {
        [Token::Variable(key), Token::Comma, Token::Variable(item), Token::Declare, rest @ ..] => {
            (Some(key.clone()), Some(item.clone()), rest)
        }
        [Token::Variable(item), Token::Declare, rest @ ..] => (None, Some(item.clone()), rest),
        rest => (None, None, rest),
    };
    let over = pipeline(over)?;
    let (body, otherwise) = body(pieces, depth)?;
    Ok(Node::Range { key, item, over, body, otherwise })
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline> {
    if tokens.contains(&Token::Declare) {
        return Err(error!("`:=` is not in this version, except after range"));
    }
    let mut calls = Vec::new();
    let mut depth = 0_usize;
    let mut from = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1).ok_or_else(|| error!(") without ("))?,
            Token::Pipe if depth == 0 => {
                calls.push(call(&tokens[from..at])?);
                from = at + 1;
            }
            _ => {}
        }
        if depth > DEEPEST {
            return Err(error!("more than {DEEPEST} parentheses in one another"));
        }
    }
    if depth > 0 {
        return Err(error!("( without )"));
    }
    calls.push(call(&tokens[from..])?);
    Ok(calls)
}

fn call(tokens: &[Token]) -> Result<Expr> {
    let mut rest = tokens;
    let mut operands = Vec::new();
    let name = match rest.first() {
        Some(Token::Word(word)) => {
            rest = &rest[1..];
            if !FUNCTIONS.contains(&word.as_str()) {
                return Err(error!(
                    "the function {} is not in this version; there are {}",
                    quote(word),
                    FUNCTIONS.join(", ")
                ));
            }
            Some(word.clone())
        }
        _ => None,
    };
    while !rest.is_empty() {
        let (operand, used) = operand(rest)?;
        operands.push(operand);
        rest = &rest[used..];
    }
    match (name, operands.len()) {
        (Some(name), _) => Ok(Expr::Call(name, operands)),
        (None, 1) => Ok(operands.remove(0)),
        (None, 2) if operands[0] == Expr::Field(vec!["Label".to_owned()]) => {
            Ok(Expr::Label(Box::new(operands.remove(1))))
        }
        (None, 0) => Err(error!("nothing beside a pipe or between parentheses")),
        (None, _) => Err(error!("arguments without a function")),
    }
}

/// One operand, and how many tokens it has.
fn operand(tokens: &[Token]) -> Result<(Expr, usize)> {
    let joined = |at: usize| match tokens.get(at) {
        Some(Token::Field(names, Joint::Joined)) if !names.is_empty() => Some(names.clone()),
        _ => None,
    };
    match &tokens[0] {
        Token::Field(names, _) => Ok((Expr::Field(names.clone()), 1)),
        Token::Literal(value) => Ok((Expr::Literal(value.clone()), 1)),
        Token::Variable(name) => match joined(1) {
            Some(names) => Ok((Expr::Variable(name.clone(), names), 2)),
            None => Ok((Expr::Variable(name.clone(), Vec::new()), 1)),
        },
        Token::Open => {
            let mut depth = 0;
            let end = tokens.iter().position(|token| {
                depth += match token {
                    Token::Open => 1,
                    Token::Close => -1,
                    _ => 0,
                };
                depth == 0
            });
            let end = end.ok_or_else(|| error!("( without )"))?;
            let inner = pipeline(&tokens[1..end])?;
            match joined(end + 1) {
                Some(names) => Ok((Expr::Inner(inner, names), end + 2)),
                None => Ok((Expr::Inner(inner, Vec::new()), end + 1)),
            }
        }
        // A function without arguments as an argument has no use here.
        Token::Word(word) => Err(error!("{} stands where a value was expected", quote(word))),
        _ => Err(error!("a value was expected")),
    }
}
