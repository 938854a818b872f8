//! `state`: the runtime specification's state document, and what runc adds to it.

use super::container;
use crate::cli::Invocation;
use crate::error::Result;
use crate::state::State;
use crate::state::status::{self, Status};
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The verb.
#[inline(never)]
pub fn state(invocation: &Invocation) -> Result<u8> {
    let (_, entry, state) = container(invocation)?;
    println!("{:#}", describe(&state, status::of(&entry, &state)));
    Ok(0)
}

/// The document. A stopped container has pid 0, as with runc.
pub fn describe(state: &State, status: Status) -> Value {
    json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status.to_string(),
        "pid": shown_pid(state, status),
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
        "owner": owner(state.owner),
        "annotations": state.annotations,
    })
}

/// Init's pid; 0 once it has ended.
pub fn shown_pid(state: &State, status: Status) -> i32 {
    if status == Status::Stopped { 0 } else { state.init.as_ref().map_or(0, |init| init.pid) }
}

/// The caller's name, or its number where there is none. From the host's own passwd file, read once, also for a list of many.
pub fn owner(uid: u32) -> String {
    static PASSWD: OnceLock<String> = OnceLock::new();
    let text = PASSWD.get_or_init(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default());
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("#{uid}"))
}
