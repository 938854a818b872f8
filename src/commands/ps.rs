//! `ps`: without an id the containers, with one its processes as ps(1) shows them.

use super::container;
#[cfg(not(feature = "image"))]
use super::list;
use crate::cli::{Args, Invocation};
use crate::error::{Error, Result};
use serde_json::Value;
use std::process::Command;

/// The verb.
#[inline(never)]
pub fn ps(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    if !args.contains_id("id") {
        return containers(invocation);
    }
    let json = match format(args)? {
        None | Some("table") => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::new(format!("--format {other}: of one container's processes there are table and json")));
        }
    };
    if let Some(name) = given(args) {
        return Err(Error::new(format!("--{name} is for the list of containers: with an id its processes are shown")));
    }
    let (_, _, state) = container(invocation)?;
    let pids = state.cgroup.pids()?;
    if json {
        println!("{}", Value::from(pids));
        return Ok(0);
    }
    let mut words: Vec<String> = args.get_many::<String>("args").unwrap_or_default().cloned().collect();
    if words.is_empty() {
        words.push("-ef".into());
    }
    let done = Command::new("ps").args(&words).output().map_err(|e| {
        let error = Error::new(format!("ps(1) of the host: {}", crate::error::io_words(&e)));
        if e.kind() == std::io::ErrorKind::NotFound {
            error.hint("install procps, or use `--format json`")
        } else {
            error
        }
    })?;
    if !done.status.success() {
        return Err(Error::new(format!("ps {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim())));
    }
    print!("{}", filter(&String::from_utf8_lossy(&done.stdout), &pids)?);
    Ok(0)
}

/// The list of containers: Docker's.
#[cfg(feature = "image")]
fn containers(invocation: &Invocation) -> Result<u8> {
    super::images::ps::ps(invocation)
}

/// The list of containers, of bundles all of them.
#[cfg(not(feature = "image"))]
fn containers(invocation: &Invocation) -> Result<u8> {
    use crate::state::status::Status;
    let all = invocation.args.get_flag("all");
    let wanted = |status| all || matches!(status, Status::Running | Status::Paused);
    let columns = &["ID", "PID", "STATUS", "BUNDLE", "CREATED"];
    let format = list::Format::of(format(&invocation.args)?);
    list::show(&super::store(invocation)?, format, columns, wanted)
}

/// What of `-f` is a format, as runc has it, or `--format`.
pub fn format(args: &Args) -> Result<Option<&str>> {
    let short =
        args.get_many::<String>("f").unwrap_or_default().filter(|word| ["table", "json"].contains(&word.as_str()));
    let all: Vec<&String> = args.get_one::<String>("format").into_iter().chain(short).collect();
    match all.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(Error::new("there is one format: --format is given more than once")),
    }
}

/// What of `-f` is none.
pub fn filters(args: &Args) -> impl Iterator<Item = &String> {
    args.get_many::<String>("f").unwrap_or_default().filter(|word| !["table", "json"].contains(&word.as_str()))
}

/// An option that is there for the list alone.
fn given(args: &Args) -> Option<&'static str> {
    const FLAGS: [&str; 5] = ["all", "quiet", "no-trunc", "latest", "size"];
    let flag = |name: &&str| args.get_flag(name);
    let filter = || filters(args).next().map(|_| "filter");
    let value = || ["filter", "last"].into_iter().find(|name| args.contains_id(name));
    FLAGS.into_iter().find(flag).or_else(value).or_else(filter)
}

/// The header, and the lines whose PID column holds one of ours.
fn filter(output: &str, pids: &[i32]) -> Result<String> {
    let mut lines = output.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Error::new("ps: no PID column in its output: give options that show one"))?;
    let ours = |line: &&str| {
        line.split_whitespace().nth(column).and_then(|word| word.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(header).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn only_the_containers_lines_stay() {
        let output = "UID   PID  CMD\nroot    1  init\nroot   42  sleep 42\nroot  142  x\n";
        assert_eq!(filter(output, &[42]).expect("has a PID column"), "UID   PID  CMD\nroot   42  sleep 42\n");
        assert!(filter("CMD\nx\n", &[1]).is_err());
    }
}
