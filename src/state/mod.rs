//! 5. What remains of a container on disk: facts, never a status.
//!
//! One directory per id below `--root`:
//!
//! ```text
//! /run/corten/web/intent.json   the facts below, before there is a first process
//!                 state.json    the same from then on, replaced by rename
//!                 config.json   the configuration in force, as `exec` and `delete` need it
//!                 filter        its system-call filter, compiled, for `exec`
//!                 start         the start gate: init listens here until it is started
//!                 held          a lock that init holds from its birth until execve or death; gone soon after
//! ```
//!
//! Status is derived from these facts and from the kernel (`status`), so it is right whatever was killed, and when.
//! What is about to exist is written down before it exists: `delete --force` finds it after a kill at any instant.

pub mod brief;
pub mod joining;
pub mod status;
pub mod store;

use crate::setup::cgroup::Cgroup;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The format that this version writes. A newer one is refused by name, an older one is still understood.
pub const FORMAT: u32 = 1;

/// The facts about one container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`] of the version that wrote it.
    pub format: u32,
    /// The container's id.
    pub id: String,
    /// `ociVersion` of the configuration.
    pub oci_version: String,
    /// The bundle, absolute.
    pub bundle: PathBuf,
    /// The root file system on the host, absolute. Of an image's container the directory that its overlay is mounted on, empty for the host: what
    /// is in it is seen through `/proc/PID/root` alone.
    pub rootfs: PathBuf,
    /// From the configuration.
    pub annotations: BTreeMap<String, String>,
    /// User id of the caller.
    pub owner: u32,
    /// When it was made: RFC 3339, UTC, nanoseconds.
    pub created: String,
    /// The process that makes the container; dead without an init means that the making was cut short.
    pub creator: Process,
    /// The container's first process, once there is one.
    pub init: Option<Process>,
    /// Does init wait to be started (`create`), or go on by itself (`run`)?
    pub gate: bool,
    /// `create` has finished: before, the status is `creating`.
    pub ready: bool,
    /// It has the caller's session keyring: `--no-new-keyring`.
    #[serde(default)]
    pub keeps_keyring: bool,
    /// The kept config.json is of exact wording ([`Wording`](crate::input::again::Wording)): to read it again takes less.
    #[serde(default)]
    pub exact: bool,
    /// For a container that was made from an image: its directory in the image store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_container: Option<PathBuf>,
    /// Its cgroup.
    pub cgroup: Cgroup,
}

/// A process that can be told from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Number in the host's pid namespace.
    pub pid: i32,
    /// Its number in pidfs, which no other process of this boot ever has (Linux 6.9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Where there is no pidfs: field 22 of `/proc/PID/stat`, clock ticks since boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
    /// `/proc/sys/kernel/random/boot_id`: start times begin anew with each boot. Empty where the record lies on a tmpfs, and is gone with the boot: to read it
    /// takes 12 µs, of every verb.
    pub boot: String,
}

/// The state document of the runtime specification, as hooks get it on standard input.
pub fn document(state: &State, status: status::Status, pid: Option<i32>) -> Vec<u8> {
    describe(state, status, pid).to_string().into_bytes()
}

/// "The Container Process State" of the runtime specification, as a seccomp agent gets it: about process `pid`, in a container that is
/// what `status` says. Until its first process is recorded, `pid` is that one.
pub fn process_document(state: &State, status: status::Status, pid: i32, metadata: &str) -> Vec<u8> {
    let init = state.init.as_ref().map_or(pid, |init| init.pid);
    let mut document = serde_json::json!({
        "ociVersion": state.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "state": describe(state, status, Some(init)),
    });
    if !metadata.is_empty() {
        document["metadata"] = metadata.into();
    }
    document.to_string().into_bytes()
}

fn describe(state: &State, status: status::Status, pid: Option<i32>) -> serde_json::Value {
    let mut document = serde_json::json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status.to_string(),
        "bundle": state.bundle,
        "annotations": state.annotations,
    });
    if let Some(pid) = pid {
        document["pid"] = pid.into();
    }
    document
}
