//! `ps`: without an id the containers, with one its processes as ps(1) shows them.

use super::{container, list, store};
use crate::cli::Invocation;
use crate::error::{Error, Result};
use crate::state::status::Status;
use serde_json::Value;
use std::process::Command;

/// The verb.
#[inline(never)]
pub fn ps(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let json = args.get_one::<String>("format").is_some_and(|format| format == "json");
    if !args.contains_id("id") {
        let all = args.get_flag("all");
        let wanted = |status| all || matches!(status, Status::Running | Status::Paused);
        return list::show(&store(invocation)?, invocation, &["ID", "PID", "STATUS", "BUNDLE", "CREATED"], wanted);
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
