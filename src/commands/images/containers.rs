//! The containers of both kinds, as `ps`, `inspect`, `rm`, `stop` and `kill` see them.
//!
//! What is known of a container of an image: its record in the store, from its making to its removal; and what the runtime knows, below the `--root` that
//! the record names, while its program lives. Of a bundle's container there is only the latter.
//!
//! By hand: `jq . STORE/containers/*/record.json`, `corten list`.
//!
//! What goes wrong: the two are changed one after the other. A record without an end, of which the runtime knows nothing, is being made or being
//! finished while somebody holds its directory's lock; otherwise whoever waited for it was killed, or the machine was.

use super::{containers, moment};
use crate::cli::Invocation;
use crate::commands::{list, store as runtime_store};
use crate::docker::lists::Does;
use crate::error::{Error, Result};
use crate::image::container::{Container, Containers, Record};
use crate::input::id::Id;
use crate::state::State;
use crate::state::status::{self, Status};
use crate::state::store::{CONFIGURATION, Store};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// A container of an image.
#[derive(Debug)]
pub struct Image {
    containers: Containers,
    container: Container,
    record: Result<Record>,
}

impl Image {
    /// By a word, if it means one. `known`: the runtime knows that word, so that only a container of that very id is meant.
    pub fn find(invocation: &Invocation, word: &Id, known: bool) -> Result<Option<Image>> {
        let Some(containers) = containers(invocation)? else { return Ok(None) };
        let found = containers.find(word.as_str())?.filter(|found| !known || found.id == word.as_str());
        Ok(found.map(|container| Image { record: container.record(), containers, container }))
    }

    /// Its 64 digits.
    pub fn id(&self) -> &str {
        &self.container.id
    }

    /// Where the runtime keeps its state.
    pub fn runtime(&self) -> Option<Store> {
        self.record.as_ref().ok().map(|record| Store::new(record.root.clone()))
    }

    /// What `stop` sends, if anything was said.
    pub fn stop_signal(&self) -> Option<String> {
        self.record.as_ref().ok().and_then(|record| record.stop_signal.clone())
    }

    /// How many seconds `stop` waits, if anything was said.
    pub fn stop_timeout(&self) -> Option<u64> {
        self.record.as_ref().ok().and_then(|record| record.stop_timeout.map(u64::from))
    }

    /// May it be removed, now that the runtime knows nothing of it?
    pub fn may_go(&self) -> Result<()> {
        match does(&self.container, self.record.as_ref().map_err(Error::clone)?, None, 0) {
            Does::Waits => Err(Error::new("somebody is at work with it: it is being made, or has just ended")
                .hint("try again, or `corten rm -f`")),
            _ => Ok(()),
        }
    }

    /// Removes its directory, its name, and what it has written. Its processes have ended.
    pub fn remove(&self) -> Result<()> {
        self.containers.remove(&self.container).map(drop)
    }

    /// The same as a list has it.
    pub fn known(self, entry: Option<(Status, State)>) -> Result<Known> {
        let (store, record) = (self.runtime(), self.record?);
        let created = record.created.clone();
        let (store, entry) = (store.unwrap_or_else(|| Store::new(record.root.clone())), entry);
        Ok(Known {
            id: self.container.id.clone(),
            created,
            does: does(&self.container, &record, entry.as_ref().map(|(status, _)| *status), moment::now()),
            store,
            state: entry,
            image: Some((self.container, record)),
        })
    }
}

/// What is known of a container of either kind.
#[derive(Debug)]
pub struct Known {
    /// The runtime's id.
    pub id: String,
    /// RFC 3339, UTC: texts in the order of time.
    pub created: String,
    /// What it does.
    pub does: Does,
    /// Where the runtime keeps its state.
    pub store: Store,
    /// What the runtime knows, while it does.
    pub state: Option<(Status, State)>,
    /// What the store knows, if it was made from an image.
    pub image: Option<(Container, Record)>,
}

impl Known {
    /// One made from a bundle.
    pub fn of_bundle(store: Store, status: Status, state: State) -> Known {
        Known {
            id: state.id.clone(),
            created: state.created.clone(),
            does: doing(status, age(&state.created, moment::now())),
            store,
            state: Some((status, state)),
            image: None,
        }
    }

    /// Its name; a bundle's container is called by its id.
    pub fn name(&self) -> &str {
        self.image.as_ref().map_or(&self.id, |(_, record)| &record.name)
    }

    /// The configuration in force, or that was; what is not there is empty.
    pub fn kept(&self) -> Kept {
        let live = || self.store.find(&self.id).ok().flatten().and_then(|entry| entry.read(CONFIGURATION).ok());
        // Of a container that has ended the runtime knows nothing; its own copy lies beside its record.
        let own = || std::fs::read(self.image.as_ref()?.0.path().join(CONFIGURATION)).ok();
        live().or_else(own).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }
}

/// All of them, the newest first: the runtime's, and those of the store.
pub fn all(invocation: &Invocation) -> Result<Vec<Known>> {
    let runtime = runtime_store(invocation)?;
    let mut alive = list::look(&runtime)?;
    let mut found = Vec::new();
    let images = containers(invocation)?;
    for container in images.as_ref().map(Containers::all).transpose()?.unwrap_or_default() {
        let record = match container.record() {
            Ok(record) => record,
            Err(_) if !container.is_linked() => continue,
            Err(error) => {
                log::warn!("{error}");
                continue;
            }
        };
        let store = Store::new(record.root.clone());
        let state = match store.path() == runtime.path() {
            true => alive.iter().position(|(_, state)| state.id == container.id).map(|at| alive.swap_remove(at)),
            false => elsewhere(&store, &container.id),
        };
        found.push(Known {
            id: container.id.clone(),
            created: record.created.clone(),
            does: does(&container, &record, state.as_ref().map(|(status, _)| *status), moment::now()),
            store,
            state,
            image: Some((container, record)),
        });
    }
    found.extend(
        alive.into_iter().map(|(status, state)| Known::of_bundle(Store::new(runtime.path().to_owned()), status, state)),
    );
    found.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    Ok(found)
}

fn elsewhere(store: &Store, id: &str) -> Option<(Status, State)> {
    let entry = store.find(id).ok()??;
    let state = entry.load().ok()?;
    Some((status::of(&entry, &state), state))
}

/// What a container of an image does. `status`: what the runtime says, if it knows of it.
fn does(container: &Container, record: &Record, status: Option<Status>, now: i64) -> Does {
    match (&record.ended, status) {
        (Some(ended), None | Some(Status::Stopped)) => Does::Ended(age(&ended.at, now), ended.code),
        (_, Some(status)) => doing(status, age(&record.created, now)),
        (None, None) if container.is_taken() => Does::Waits,
        (None, None) => Does::Lost,
    }
}

fn doing(status: Status, age: Duration) -> Does {
    match status {
        Status::Creating | Status::Created => Does::Waits,
        Status::Running => Does::Runs(age),
        Status::Paused => Does::Rests(age),
        Status::Stopped => Does::Lost,
    }
}

fn age(moment: &str, now: i64) -> Duration {
    let then = moment::parse(moment).unwrap_or(now);
    Duration::from_secs(u64::try_from(now - then).unwrap_or(0))
}

/// What lists and documents show of a config.json. What it cannot be read for is left out, as nothing is done with it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// `process`
    pub process: KeptProcess,
    /// `hostname`
    pub hostname: String,
    /// `mounts`
    pub mounts: Vec<KeptMount>,
    /// `linux`
    pub linux: KeptLinux,
}

/// `process`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeptProcess {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `KEY=value`
    pub env: Vec<String>,
    /// Its working directory.
    pub cwd: String,
    /// It has a terminal.
    pub terminal: bool,
    /// Its user.
    pub user: KeptUser,
}

/// `process.user`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeptUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// One of `mounts`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeptMount {
    /// Inside the container.
    pub destination: PathBuf,
    /// `bind`, `tmpfs`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// On the host.
    pub source: PathBuf,
    /// As of mount(8).
    pub options: Vec<String>,
}

/// `linux`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeptLinux {
    /// `linux.namespaces`
    pub namespaces: Vec<KeptNamespace>,
}

/// One of `linux.namespaces`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KeptNamespace {
    /// `network`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it is; empty: a new one.
    pub path: String,
}

impl Kept {
    /// Docker's word for the network: `host`, `none`, `container:PID` where it is that of process PID.
    pub fn network(&self) -> String {
        match self.linux.namespaces.iter().find(|namespace| namespace.kind == "network") {
            None => "host".to_owned(),
            Some(own) if own.path.is_empty() => "none".to_owned(),
            Some(other) => {
                let pid = other.path.strip_prefix("/proc/").and_then(|rest| rest.split('/').next());
                format!("container:{}", pid.unwrap_or(&other.path))
            }
        }
    }
}
