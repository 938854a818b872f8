//! What the two sides say to each other.
//!
//! | gate | from | to | meaning |
//! |---|---|---|---|
//! | `Mapped` | parent | child | the id maps are written: become root of the user namespace |
//! | `Network` | parent | child | the network namespace comes with the message |
//! | `Prepared` | child | parent | namespaces and mounts are there, the old root still is: hooks may run |
//! | `Hooked` | parent | child | they did |
//! | `Ready` | child | parent | `create`: nothing is left but to be started |
//! | `Go` | parent | child | the record is complete: a child that never hears it goes with its parent |
//! | `Executing` | child | parent or starter | the next thing is execve |
//! | `Filtered` | child | parent | the filter is installed; its listener comes with the message |
//! | `Answered` | parent | child | the agent has the listener |
//!
//! `Go` brings the system-call filter along where the parent has compiled it while the child was at work.
//!
//! One socket of whole messages, close-on-exec at both ends. A failure is a message in place of any gate. After
//! `Executing` end of file is success; before it, end of file is a death: the reader asks how the child died.

use crate::error::Error;
use crate::plan::Plan;
use crate::plan::step::Gate;
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{Failure, Result, socket};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What can arrive.
#[derive(Debug)]
pub enum Heard {
    /// The other side is through this gate.
    Gate(Gate),
    /// It is through [`Gate::Filtered`].
    Listener(OwnedFd),
    /// It is through [`Gate::Network`].
    Network(OwnedFd),
    /// One of the child's steps did not succeed.
    Failed(Box<Report>),
    /// [`Gate::Go`], and with it the program of the filter that is to be installed.
    GoWith(Vec<Instruction>),
    /// Every copy of the other end is closed.
    End,
}

/// A failure of the child, in words that whoever hears it can print: `start` has no plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Index into the plan's lines.
    pub step: usize,
    /// How many lines the plan has.
    pub of: usize,
    /// The line's place.
    pub place: String,
    /// The call that failed.
    pub call: String,
    /// Its errno.
    pub errno: i32,
    /// The plain cause, if more is known.
    pub because: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Report {
    /// What line `index` of the plan has to say about its failure.
    pub fn new(plan: &Plan, index: usize, failure: &Failure) -> Self {
        // A message holds far more, but a program's name or a path in it is the caller's to choose.
        let short = |text: &str| text.chars().take(4000).collect::<String>();
        let line = &plan.lines[index];
        Report {
            step: index,
            of: plan.lines.len(),
            place: short(&line.place()),
            call: short(&failure.call),
            errno: failure.errno as i32,
            because: failure.because.as_deref().map(short),
            hint: super::hints::hint(&line.step, failure),
        }
    }

    /// As it is shown.
    pub fn into_error(self) -> Error {
        let failure = Failure { call: self.call, errno: Errno::from_raw(self.errno), because: self.because };
        super::word(&self.place, &format!("{}/{}", self.step + 1, self.of), &failure, self.hint)
    }
}

const FAILED: u8 = b'!';

/// Tells the other side that this one is through a gate.
pub fn tell(to: impl AsFd, gate: Gate) -> Result<()> {
    socket::send(to, &[gate.letter()], None)
}

/// Tells the parent what went wrong. Nothing can be done if even that fails.
#[cold]
#[inline(never)]
pub fn report(to: impl AsFd, report: &Report) {
    let mut bytes = vec![FAILED];
    bytes.extend(serde_json::to_vec(report).unwrap_or_default());
    let _ = socket::send(to, &bytes, None);
}

/// [`Gate::Network`], with the namespace.
pub fn network(to: impl AsFd, namespace: &OwnedFd) -> Result<()> {
    socket::send(to, &[Gate::Network.letter()], Some(namespace.as_raw_fd()))
}

/// [`Gate::Go`], with the program of the filter.
pub fn go_with(to: impl AsFd, program: &[Instruction]) -> Result<()> {
    let mut bytes = Vec::with_capacity(1 + size_of_val(program));
    bytes.push(Gate::Go.letter());
    bytes.extend(seccomp::to_bytes(program));
    socket::send(to, &bytes, None)
}

/// Waits for the next message.
pub fn hear(from: impl AsFd) -> Result<Heard> {
    let message = match socket::receive(&from) {
        // The other side ended with a message of ours unread. That is told once, and before what it said last.
        Err(failure) if failure.errno == Errno::ECONNRESET => socket::receive(&from)?,
        other => other?,
    };
    let Some(message) = message else { return Ok(Heard::End) };
    match message.bytes.split_first() {
        Some((&FAILED, rest)) => {
            serde_json::from_slice(rest).map(|report| Heard::Failed(Box::new(report))).map_err(|_| garbled())
        }
        Some((&letter, program @ [_, ..])) if letter == Gate::Go.letter() => {
            Ok(Heard::GoWith(seccomp::from_bytes(program)))
        }
        Some((&letter, [])) => match (Gate::from_letter(letter), message.fd) {
            (Some(Gate::Filtered), listener) => listener.map(Heard::Listener).ok_or_else(garbled),
            (Some(Gate::Network), network) => network.map(Heard::Network).ok_or_else(garbled),
            (gate, _) => gate.map(Heard::Gate).ok_or_else(garbled),
        },
        _ => Err(garbled()),
    }
}

fn garbled() -> Failure {
    Failure::refused("recvmsg()", Errno::EPROTO, "a message that this version does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_report(length: usize) -> Report {
        let plan = Plan {
            lines: vec![crate::plan::step::Line {
                side: crate::plan::step::Side::Child,
                step: crate::plan::step::Step::Session,
                place: "p".repeat(length).into(),
                why: "",
            }],
        };
        Report::new(&plan, 0, &Failure::refused("c".repeat(length), Errno::ENOENT, "b".repeat(length)))
    }

    #[test]
    fn a_failure_arrives_as_it_was_sent_and_a_huge_one_still_fits() {
        for length in [3, 70_000] {
            let (a, b) = socket::pair().expect("a pair");
            let sent = some_report(length);
            report(&a, &sent);
            let Heard::Failed(heard) = hear(&b).expect("a message") else { panic!("something else") };
            assert_eq!(*heard, sent);
        }
    }

    #[test]
    fn the_last_words_of_a_dead_end_are_heard_even_if_it_did_not_listen() {
        let (a, b) = socket::pair().expect("a pair");
        tell(&b, Gate::Go).expect("sent");
        report(&a, &some_report(3));
        drop(a);
        assert!(matches!(hear(&b), Ok(Heard::Failed(_))));
        assert!(matches!(hear(&b), Ok(Heard::End)));
    }

    #[test]
    fn a_closed_end_is_not_a_gate() {
        let (a, b) = socket::pair().expect("a pair");
        tell(&a, Gate::Executing).expect("sent");
        drop(a);
        assert!(matches!(hear(&b), Ok(Heard::Gate(Gate::Executing))));
        assert!(matches!(hear(&b), Ok(Heard::End)));
    }
}
