//! `--trace`: the plan as it happened, with times.
//!
//! ```text
//! trace of web: 53 steps; began 0.0, sealed 301.2, planned 1107.9; µs since the beginning, µs taken
//!    1108.4     98.3  parent   1/53  ok       mkdirat(state, 0700); …
//!    2219.0     11.7  child   20/53  ok       sched_setaffinity(0, all)
//!    2511.6      6.1  child   31/53  ENOENT   open_tree("/srv/data", CLONE)
//! ```
//!
//! Each side notes when it begins and ends a step, and how it went, in memory that both see (`sys::share`), by plain stores: the child must not
//! log, and a note must cost no system call, which the container's filter might refuse. The clock is the processor's counter
//! (`sys::clock`). Each line of the plan has a place of its own there, so nobody waits for anybody. The parent prints the whole when the
//! program was executed (`run`, `exec`), when the container waits to be started (`create`), or when a step has failed.
//!
//! Without `--trace` there is no such memory, no system call, and per step the question whether there is.

use crate::error::{Error, Result, io_words};
use crate::plan::step::{Gate, Line, Side, Step};
use crate::plan::{Plan, explain};
use crate::sys::clock::{self, Moment, Scale};
use crate::sys::share;
use nix::errno::Errno;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers for each step: when it began, when it ended, how.
const NOTES: usize = 3;

/// [`Note::how`] of a step that failed without an errno.
const FAILED: u64 = u64::MAX;

/// What is being noted, on both sides.
#[derive(Debug)]
pub struct Trace {
    notes: &'static [AtomicU64],
    began: u64,
    sealed: u64,
    planned: Moment,
    /// `None`: standard error.
    file: Option<File>,
}

/// How far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program was executed.
    Executed,
    /// The container waits to be started.
    Waits,
    /// A step failed.
    Failed,
}

impl Trace {
    /// Begins to note. `-` is standard error. The file is opened now, while the host's paths can be seen and nothing has been done yet.
    /// `began`, `sealed`: when the program was called, and when again from its sealed self, in ticks of `sys::clock`.
    pub fn open(to: &Path, plan: &Plan, (began, sealed): (u64, u64)) -> Result<Trace> {
        let file = if to == Path::new("-") { None } else { Some(create(to)?) };
        let notes = share::numbers(plan.lines.len() * NOTES);
        let notes = notes.map_err(|errno| Error::new(format!("--trace: mmap() = {}", crate::sys::name(errno))))?;
        Ok(Trace { notes, began, sealed, planned: Moment::now(), file })
    }

    fn put(&self, index: usize, note: usize, value: u64) {
        self.notes[index * NOTES + note].store(value, Relaxed);
    }

    /// Step `index` begins.
    pub fn begin(&self, index: usize) {
        self.put(index, 0, clock::ticks());
    }

    /// It has ended. `errno`: why it failed, if that is known.
    pub fn end(&self, index: usize, failed: Option<Option<Errno>>) {
        let how = failed.map_or(0, |errno| errno.map_or(FAILED, |errno| errno as u64));
        self.put(index, 2, how);
        self.put(index, 1, clock::ticks());
    }

    /// The child prints nothing: its copy of the file.
    pub fn take_file(&mut self) -> Option<OwnedFd> {
        self.file.take().map(OwnedFd::from)
    }

    /// Prints the whole.
    pub fn finish(mut self, plan: &Plan, what: &str, outcome: Outcome) {
        let scale = Scale::between(self.planned, Moment::now());
        let since = |ticks: u64| scale.microseconds(self.began, ticks);
        let note = |index: usize| {
            let [begin, end, how] = [0, 1, 2].map(|note| self.notes[index * NOTES + note].load(Relaxed));
            Note { index, begin, took: (end != 0).then(|| scale.microseconds(begin, end)), how }
        };
        let mut text = format!(
            "trace of {what}: {} steps; began 0.0, sealed {:.1}, planned {:.1}; µs since the beginning, µs taken\n",
            plan.lines.len(),
            since(self.sealed),
            since(self.planned.ticks())
        );
        write(&mut text, plan, (0..plan.lines.len()).map(note).collect(), since, outcome);
        let written = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => std::io::stderr().write_all(text.as_bytes()),
        };
        if let Err(error) = written {
            log::warn!("--trace: {}", io_words(&error));
        }
    }
}

fn create(path: &Path) -> Result<File> {
    // Not blocking: a pipe without a reader must not hang us.
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let opened = File::options().write(true).create(true).truncate(true).custom_flags(flags).mode(0o600).open(path);
    opened.map_err(|error| Error::new(format!("--trace {}: {}", path.display(), io_words(&error))))
}

/// What is known of one step.
#[derive(Clone, Copy, Debug)]
struct Note {
    index: usize,
    /// In ticks; 0: it was never begun.
    begin: u64,
    /// Microseconds; `None`: it did not end, or nobody was left to note it.
    took: Option<f64>,
    /// 0, an errno, or [`FAILED`].
    how: u64,
}

fn write(text: &mut String, plan: &Plan, notes: Vec<Note>, since: impl Fn(u64) -> f64, outcome: Outcome) {
    let later = if outcome == Outcome::Waits { starts_steps(plan) } else { usize::MAX };
    let is_now = |note: &Note| note.begin != 0 && !(plan.lines[note.index].side == Side::Child && note.index >= later);
    let (mut done, rest): (Vec<Note>, Vec<Note>) = notes.into_iter().partition(is_now);
    done.sort_by_key(|note| note.begin);
    for note in done {
        let line = &plan.lines[note.index];
        let took = note.took.map_or("-".into(), |took| format!("{took:.1}"));
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{:>9.1} {took:>9}  {:6} {:>3}/{}  {:8} {}",
            since(note.begin),
            line.side,
            note.index + 1,
            plan.lines.len(),
            word(&note, &line.step, outcome),
            explain::one_line(&line.step)
        );
    }
    let rest = rest.len();
    let _ = match (outcome, rest) {
        (_, 0) => Ok(()),
        (Outcome::Waits, _) => writeln!(text, "{rest} steps more when it is started"),
        _ => writeln!(text, "{rest} steps more were not reached"),
    };
}

/// The first of the child's lines that belong to `start`: from where it waits for the last word of `create`, which ends with that.
fn starts_steps(plan: &Plan) -> usize {
    let waits = |line: &Line| line.side == Side::Child && line.step == Step::Await(Gate::Go);
    plan.lines.iter().position(waits).unwrap_or(usize::MAX)
}

fn word(note: &Note, step: &Step, outcome: Outcome) -> String {
    let is_execve = matches!(step, Step::Program(crate::setup::program::Action::Execute(_)));
    match (note.took, note.how) {
        (Some(_), 0) => "ok".into(),
        (Some(_), FAILED) => "failed".into(),
        (Some(_), errno) => crate::sys::name(Errno::from_raw(errno as i32)),
        // The program is there, and with it the end of what could be noted; what was told was heard.
        (None, _) if is_execve && outcome == Outcome::Executed || matches!(step, Step::Tell(_)) => "ok".into(),
        (None, _) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let line = |side, step| Line { side, step, place: "".into(), why: "" };
        let (parent, child) = (Side::Parent, Side::Child);
        Plan {
            lines: vec![
                line(parent, Step::Console(None)),
                line(child, Step::Session),
                line(child, Step::OpenProc),
                line(parent, Step::Tell(Gate::Go)),
                line(child, Step::Await(Gate::Go)),
                line(child, Step::AwaitStart),
            ],
        }
    }

    /// A table of these notes, in ticks of a microsecond.
    fn shown(notes: &[(u64, Option<f64>, u64)], outcome: Outcome) -> Vec<String> {
        let note = |(index, &(begin, took, how)): (usize, &(u64, Option<f64>, u64))| Note { index, begin, took, how };
        let mut text = String::new();
        write(&mut text, &plan(), notes.iter().enumerate().map(note).collect(), |ticks| ticks as f64, outcome);
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn lines_are_in_the_order_of_time() {
        let notes =
            [(10, Some(1.25), 0), (40, Some(2.0), 0), (50, Some(3.0), 0), (30, None, 0), (60, None, 0), (0, None, 0)];
        assert_eq!(
            shown(&notes, Outcome::Waits),
            [
                "10.0 1.2 parent 1/6 ok socketpair(AF_UNIX)",
                "30.0 - parent 4/6 ok sendmsg(go)",
                "40.0 2.0 child 2/6 ok umask(022); setsid()",
                "50.0 3.0 child 3/6 ok openat(\"/proc\", O_PATH); fstatfs(); fstat()",
                "2 steps more when it is started",
            ]
        );
    }

    #[test]
    fn a_failure_is_named_and_what_it_prevented_counted() {
        let notes = [
            (10, Some(1.0), FAILED),
            (20, Some(1.0), 0),
            (30, Some(1.0), Errno::EPERM as u64),
            (0, None, 0),
            (40, None, 0),
            (0, None, 0),
        ];
        let lines = shown(&notes, Outcome::Failed);
        assert!(
            lines[0].contains(" failed ") && lines[2].contains(" EPERM ") && lines[3].contains(" - recvmsg"),
            "{lines:?}"
        );
        assert_eq!(lines[4], "2 steps more were not reached");
    }

    #[test]
    fn what_is_noted_is_found() {
        let plan = plan();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("times");
        let trace = Trace::open(&file, &plan, (clock::ticks(), clock::ticks())).unwrap();
        trace.begin(1);
        trace.end(1, Some(Some(Errno::EBUSY)));
        trace.finish(&plan, "web", Outcome::Failed);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("trace of web: 6 steps; began 0.0, sealed "), "{text}");
        assert!(
            text.contains("  EBUSY    umask(022); setsid()\n") && text.ends_with("5 steps more were not reached\n"),
            "{text}"
        );
        let error = Trace::open(Path::new("/nowhere/times"), &plan, (0, 0)).unwrap_err().to_string();
        assert_eq!(error, "--trace /nowhere/times: no such file or directory (ENOENT)");
    }
}
