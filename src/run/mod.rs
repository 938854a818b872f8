//! 4. Who does it: one loop over the plan, on both sides of the clone.
//!
//! The parent walks the plan and does its own lines; at the clone the child begins to walk the same plan from the same place
//! and does the child's. Where they must wait for each other stands in the plan as a gate. Neither side decides anything: what
//! a line means is in its chapter.

pub mod child;
pub mod gate;
pub mod hints;
pub mod parent;
mod pidfd;
pub mod trace;
pub mod wait;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::step::{Line, Side, Step};
use crate::setup::seccomp::Filter;
use crate::setup::{Held, cgroup, namespaces};
use crate::state::State;
use crate::state::status::Status;
use crate::state::store::{Entry, Store};
use crate::sys::{Failure, name, plain};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use trace::{Outcome, Trace};

/// All that the two sides hold while they walk the plan. The child gets a copy of it at the clone.
#[derive(Debug)]
pub struct Context {
    /// Where the state lies; `None` for exec, which keeps none.
    pub store: Option<Store>,
    /// The container's directory, once it is made.
    pub entry: Option<Entry>,
    /// The facts.
    pub state: State,
    /// The configuration in force, kept beside the facts.
    pub configuration: Vec<u8>,
    /// Directory of the bundle.
    pub bundle: PathBuf,
    /// Namespace files that are open.
    pub namespaces: namespaces::Opened,
    /// v2: the directory to be born in.
    pub cgroup: Option<OwnedFd>,
    /// v1: the `tasks` files, open for writing.
    pub tasks: Vec<OwnedFd>,
    /// The lock that init lets go of by execve or death.
    pub lock: Option<File>,
    /// The start gate.
    pub listener: Option<OwnedFd>,
    /// Who starts us: from then on failures go there.
    pub starter: Option<OwnedFd>,
    /// Our end of the wire between the two sides.
    pub wire: Option<OwnedFd>,
    /// The child's end of it, around the clone.
    pub far: Option<OwnedFd>,
    /// Where the parent receives it, if it is for us.
    pub console_end: Option<OwnedFd>,
    /// What the child holds for its chapters.
    pub held: Held,
    /// The first process, as the parent knows it.
    pub first: Option<(i32, OwnedFd)>,
    /// Directories of the cgroup that were made or taken by this plan; before the clone nobody in them is ours.
    pub cgroup_made: Vec<PathBuf>,
    /// Where the last of them comes from; of version 2 there is one.
    pub cgroup_origin: cgroup::Origin,
    /// There was a clone: whoever is in the cgroup is ours.
    pub cloned: bool,
    /// Hooks have been run: if the making is cut short now, poststop hooks are due.
    pub hooked: bool,
    /// Joined namespaces hide the host: the pid file was opened before.
    pub pid_file: Option<File>,
    /// Who gets a pidfd of the process.
    pub pidfd_socket: Option<OwnedFd>,
    /// The agent that answers for the filter.
    pub agent: Option<OwnedFd>,
    /// The filter's listener, on its way to the agent.
    pub notifications: Option<OwnedFd>,
    /// The filter, once it is compiled, until the child has it.
    pub filter: Option<Filter>,
    /// What the container is meanwhile: for `exec`, what it was found to be.
    pub status: Status,
    /// What `--trace` notes.
    pub trace: Option<Trace>,
}

impl Context {
    /// Before the first line: nothing is open yet.
    pub fn new(state: State, bundle: PathBuf) -> Self {
        Context {
            store: None,
            entry: None,
            state,
            configuration: Vec::new(),
            bundle,
            namespaces: namespaces::Opened::default(),
            cgroup: None,
            tasks: Vec::new(),
            lock: None,
            listener: None,
            starter: None,
            wire: None,
            far: None,
            console_end: None,
            held: Held::default(),
            first: None,
            cgroup_made: Vec::new(),
            cgroup_origin: cgroup::Origin::Found,
            cloned: false,
            hooked: false,
            pid_file: None,
            pidfd_socket: None,
            agent: None,
            notifications: None,
            filter: None,
            status: Status::Creating,
            trace: None,
        }
    }
}

/// Walks the plan. Returns in the parent alone, when all its lines are done; on failure everything that was made is undone.
pub fn execute(plan: &Plan, context: &mut Context) -> Result<()> {
    match walk(plan, context) {
        Ok(()) => Ok(()),
        Err(error) => {
            finish_trace(plan, context, Outcome::Failed);
            parent::undo(context);
            Err(error)
        }
    }
}

/// Prints the trace, if there is one.
pub fn finish_trace(plan: &Plan, context: &mut Context, outcome: Outcome) {
    if let Some(trace) = context.trace.take() {
        trace.finish(plan, &context.state.id, outcome);
    }
}

fn walk(plan: &Plan, context: &mut Context) -> Result<()> {
    for (index, line) in plan.lines.iter().enumerate() {
        if line.side == Side::Parent {
            log::debug!("step {}/{}: {}", index + 1, plan.lines.len(), line.step);
            if let Some(trace) = &context.trace {
                trace.begin(index);
            }
            let done = parent::step(plan, index, context);
            // Whoever comes out of the clone without a child of its own is that child, and goes its own way from here.
            if done.is_ok() && matches!(line.step, Step::Clone(_)) && context.first.is_none() {
                child::walk(plan, index + 1, context);
            }
            if let Some(trace) = &context.trace {
                trace.end(index, done.as_ref().err().map(|error| error.errno));
            }
            done?;
        }
    }
    Ok(())
}

/// Words a failure: their object, the plain cause, the step, and what to do.
pub fn blame(lines: &[Line], index: usize, failure: &Failure) -> Error {
    let Some(line) = lines.get(index) else { return Error::new(failure.to_string()) };
    word(&line.place(), &format!("{}/{}", index + 1, lines.len()), failure, hints::hint(&line.step, failure))
}

/// As [`blame`], for who knows the step only from the other side's words.
pub fn word(place: &str, step: &str, failure: &Failure, hint: Option<String>) -> Error {
    let cause = failure.because.clone().unwrap_or_else(|| plain(failure.errno));
    let mut error = Error::new(cause).detail(format!("step {step}: {} = {}", failure.call, name(failure.errno)));
    if !place.is_empty() {
        error = error.at(place);
    }
    error.hint = hint;
    error.errno = Some(failure.errno);
    error
}
