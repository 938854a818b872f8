//! `inspect`: all that is known of containers, one JSON array.

use super::state::describe;
use crate::cli::Invocation;
use crate::error::Result;
use crate::state::State;
use crate::state::status::Status;
use crate::state::store::{CONFIGURATION, Entry};
use serde_json::{Value, json};

/// The verb. An id that does not exist fails the whole call, and nothing is printed.
#[cfg(not(feature = "image"))]
#[inline(never)]
pub fn inspect(invocation: &Invocation) -> Result<u8> {
    let store = super::store(invocation)?;
    let mut all = Vec::new();
    for id in super::ids(&invocation.args)? {
        let entry = store.get(id.as_str()).map_err(|e| e.at(id.as_str()))?;
        let state = entry.load()?;
        all.push(of(&entry, &state, crate::state::status::of(&entry, &state)));
    }
    println!("{:#}", Value::from(all));
    Ok(0)
}

/// The verb, for containers of both kinds and for images.
#[cfg(feature = "image")]
#[inline(never)]
pub fn inspect(invocation: &Invocation) -> Result<u8> {
    super::images::inspect::inspect(invocation)
}

/// What the runtime knows of one container.
pub fn of(entry: &Entry, state: &State, status: Status) -> Value {
    let mut document = describe(state, status);
    let config: Value =
        entry.read(CONFIGURATION).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    document["config"] = config;
    document["cgroup"] = json!(state.cgroup);
    document["mounts"] = mounts(document["pid"].as_i64().unwrap_or(0));
    document
}

/// The mounts as the first process sees them; none once it has ended.
fn mounts(pid: i64) -> Value {
    let text = if pid > 0 {
        std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default()
    } else {
        String::new()
    };
    text.lines().filter_map(mount).collect()
}

/// One line of mountinfo, see proc_pid_mountinfo(5).
fn mount(line: &str) -> Option<Value> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let mut back = back.split(' ');
    Some(json!({
        "destination": front.get(4)?,
        "root": front.get(3)?,
        "options": front.get(5)?.split(',').collect::<Vec<_>>(),
        "propagation": front.get(6..)?.join(" "),
        "type": back.next()?,
        "source": back.next()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::mount;

    #[test]
    fn a_line_of_mountinfo_with_and_without_propagation() {
        let found = mount("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw").expect("whole");
        assert_eq!(
            (&found["destination"], &found["propagation"], &found["type"]),
            (&"/mnt2".into(), &"master:1".into(), &"ext3".into())
        );
        assert_eq!(mount("36 35 98:0 / / ro - tmpfs none rw").expect("whole")["propagation"], "");
        assert!(mount("36 35").is_none());
    }
}
