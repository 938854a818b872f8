//! Many containers at once: what `list` shows of each, for as little as the kernel takes.
//!
//! By hand: `strace -c corten list`. Of a record only what is shown is read, and nothing is built: words stay where they are in its text. Ends of
//! processes are asked for by one poll(2) for all of them, descriptors are closed together, and the directory above the freezers is looked up once.
//! Many are shared out to two processors, each of which has its own table of descriptors (unshare(2), CLONE_FILES): one that two threads share is locked
//! for every file that is opened, and to grow it the kernel waits until nobody can still see the old one.
//!
//! What goes wrong: a record can be missing, damaged, newer, or one whose container is only being made; and words with escapes do not stay where they
//! are. All these are left to [`Store::find`](super::store::Store::find), which takes longer and knows more: [`Found::Unclear`].

use super::status::{self, Status};
use super::store::All;
use super::{FORMAT, Process};
use crate::setup::cgroup::{Freezers, RecordedGroup};
use crate::sys::process;
use crate::sys::spent::Spent;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity, unshare};
use nix::unistd::Pid;
use serde::Deserialize;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

/// As many are looked at together: each has one descriptor open meanwhile.
const TOGETHER: usize = 32;
/// Bytes of a record, more or less: memory for the texts of all that are looked at together.
const USUAL: usize = 2 << 10;
/// So many, and a second thread costs less than it saves.
const SHARED: usize = 64;

/// The part of a record that is shown.
#[derive(Debug, Deserialize)]
pub struct Brief<'a> {
    format: u32,
    /// The container's id.
    pub id: &'a str,
    /// The bundle, absolute.
    pub bundle: &'a str,
    /// User id of the caller.
    pub owner: u32,
    /// When it was made.
    pub created: &'a str,
    init: Option<Process>,
    gate: bool,
    ready: bool,
    #[serde(borrow)]
    cgroup: RecordedGroup<'a>,
}

/// What became of one.
#[derive(Debug)]
pub enum Found<T> {
    /// What the caller made of it.
    Shown(T),
    /// Not to be had in this way.
    Unclear,
}

/// Looks at all containers, in the order of their ids, and hands each to `show`, with its pid, which is 0 when it has stopped.
pub fn look<T: Send>(all: &All, show: impl Fn(&Brief<'_>, Status, i32) -> T + Sync) -> Vec<(&str, Found<T>)> {
    let ids = all.ids();
    let Some(places) = Some(ids).filter(|ids| ids.len() >= SHARED).and_then(|_| Places::here()) else {
        return look_at(all, ids, &show);
    };
    let (ours, others) = ids.split_at(ids.len() / 2);
    std::thread::scope(|scope| {
        let rest = || {
            bind(&places.all);
            apart(|| look_at(all, others, &show))
        };
        bind(&places.here);
        let second = std::thread::Builder::new().spawn_scoped(scope, rest);
        bind(&places.elsewhere);
        bind(&places.all);
        let mut found = apart(|| look_at(all, ours, &show));
        found.extend(match second.map(|second| second.join()) {
            Ok(Ok(found)) => found,
            // There can be no thread: a limit, or a filter.
            _ => look_at(all, others, &show),
        });
        found
    })
}

/// Processors. A new thread may begin beside the one that made it, and wait until that first sleeps; or on another one, which is where its maker
/// would then go to make room. So it is bound to this one until it runs, and its maker leaves.
struct Places {
    all: CpuSet,
    here: CpuSet,
    elsewhere: CpuSet,
}

impl Places {
    /// `None`: there is only one.
    fn here() -> Option<Places> {
        let all = sched_getaffinity(Pid::from_raw(0)).ok()?;
        let (mut here, mut elsewhere, now) = (CpuSet::new(), all, sched_getcpu().ok()?);
        here.set(now).ok()?;
        elsewhere.unset(now).ok()?;
        (elsewhere != CpuSet::new()).then_some(Places { all, here, elsewhere })
    }
}

/// Where this thread may run. Refused, it only takes longer.
fn bind(to: &CpuSet) {
    let _ = sched_setaffinity(Pid::from_raw(0), to);
}

/// Does something with a table of descriptors that no other thread has. Where that is refused it only takes longer.
fn apart<T>(work: impl FnOnce() -> T) -> T {
    let _ = unshare(CloneFlags::CLONE_FILES);
    work()
}

/// The same for some of them, one after the other.
fn look_at<'a, T>(
    all: &All,
    ids: &'a [String],
    show: &impl Fn(&Brief<'_>, Status, i32) -> T,
) -> Vec<(&'a str, Found<T>)> {
    let (mut found, mut freezers, spent) = (Vec::with_capacity(ids.len()), Freezers::default(), Spent::default());
    let mut texts = Vec::with_capacity(TOGETHER * USUAL);
    for ids in ids.chunks(TOGETHER) {
        texts.clear();
        let places: Vec<Option<Range<usize>>> = ids.iter().map(|id| all.record(id, &mut texts, &spent)).collect();
        let briefs: Vec<Option<Brief<'_>>> = places.into_iter().map(|place| read(texts.get(place?)?)).collect();
        let mut inits: Vec<Option<OwnedFd>> = briefs.iter().map(|brief| open(brief.as_ref()?, &spent)).collect();
        forget_ended(&mut inits);
        for ((id, brief), init) in ids.iter().zip(&briefs).zip(inits) {
            let Some(brief) = brief else {
                found.push((id.as_str(), Found::Unclear));
                continue;
            };
            let status = match &init {
                None => Status::Stopped,
                Some(_) => status::of_living(
                    brief.gate,
                    brief.ready,
                    || all.is_held(id, &spent),
                    || freezers.is_frozen(&brief.cgroup, &spent).unwrap_or(false),
                ),
            };
            let pid = if init.is_some() { brief.init.as_ref().map_or(0, |init| init.pid) } else { 0 };
            found.push((id.as_str(), Found::Shown(show(brief, status, pid))));
            spent.take_all(init);
        }
    }
    found
}

/// Only of one that has a first process: whether its making was cut short, the creator tells.
fn read(record: &[u8]) -> Option<Brief<'_>> {
    let brief: Brief<'_> = serde_json::from_str(std::str::from_utf8(record).ok()?).ok()?;
    (brief.format <= FORMAT && brief.init.is_some()).then_some(brief)
}

/// Its first process, which may have ended.
fn open(brief: &Brief<'_>, spent: &Spent) -> Option<OwnedFd> {
    brief.init.as_ref()?.open_even_ended(spent)
}

/// One poll for all.
fn forget_ended(inits: &mut [Option<OwnedFd>]) {
    let ended: Vec<bool> = {
        let mut watched: Vec<PollFd<'_>> =
            inits.iter().flatten().map(|pidfd| PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)).collect();
        if matches!(poll(&mut watched, PollTimeout::ZERO), Ok(0)) {
            return;
        }
        watched.iter().map(|one| one.any().unwrap_or(true)).collect()
    };
    for (pidfd, ended) in inits.iter_mut().filter(|pidfd| pidfd.is_some()).zip(ended) {
        // Asked again, alone: a poll that was interrupted says nothing.
        if ended && pidfd.as_ref().is_some_and(process::has_ended) {
            *pidfd = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_the_record_says() {
        let text = include_str!("../../integration/fixtures/state-v1/state.json");
        let whole = super::super::store::decode(text.as_bytes()).unwrap();
        let brief = read(text.as_bytes()).unwrap();
        assert_eq!((brief.id, brief.owner, brief.created), (whole.id.as_str(), whole.owner, whole.created.as_str()));
        assert_eq!(brief.bundle, whole.bundle.to_str().unwrap());
        assert_eq!((&brief.init, brief.gate, brief.ready), (&whole.init, whole.gate, whole.ready));
    }

    #[test]
    fn what_is_unclear() {
        let text = include_str!("../../integration/fixtures/state-v1/state.json");
        let mut record: serde_json::Value = serde_json::from_str(text).unwrap();
        record["bundle"] = "/a\"b".into();
        assert!(read(record.to_string().as_bytes()).is_none(), "an escape");
        record["bundle"] = "/a".into();
        assert!(read(record.to_string().as_bytes()).is_some());
        record["init"] = serde_json::Value::Null;
        assert!(read(record.to_string().as_bytes()).is_none(), "no first process");
        assert!(
            read(text.replacen("\"format\":1", "\"format\":99", 1).as_bytes()).is_none()
                || !text.contains("\"format\":1")
        );
        assert!(read(b"{").is_none() && read(&[0xff]).is_none());
    }

    #[test]
    fn those_that_have_ended_are_told_from_the_others() {
        let mut children: Vec<_> =
            (0..3).map(|_| std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap()).collect();
        let open = |child: &std::process::Child| process::pidfd_open(child.id() as i32).ok();
        let mut inits: Vec<Option<OwnedFd>> = children.iter().map(open).collect();
        inits.insert(1, None);
        forget_ended(&mut inits);
        assert_eq!(inits.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, true]);
        children[1].kill().unwrap();
        children[1].wait().unwrap();
        forget_ended(&mut inits);
        assert_eq!(inits.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, true]);
        for child in &mut children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
