//! What killed processes left behind, and who takes it away: the next command.
//!
//! By hand: `corten run --rm debian:12 sleep 100 & kill -9 $!`, and when the container has ended too, `ls STORE/at-end STORE/containers`.
//!
//! What we do: only what may be left is looked at, so that a sweep costs nothing with a thousand containers: names that begin with `~`, and
//! those in `at-end`. Nobody must be at work with it (its lock is free), and the runtime must know nothing of it. Where there is a `~`, names and marks
//! that lead nowhere are looked for: whoever is killed between a name and its container leaves one.
//!
//! What goes wrong: a sweeper that looks between two calls of a maker. A maker makes and locks its directory under the lock on
//! `containers`, and the sweeper takes that lock to ask.

use super::{Container, Containers, Record, TRANSIENT, names_in};
use crate::error::Result;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::os::fd::AsFd;

/// Does the runtime still know the container, by its id? The record says below which `--root`; after a crash of the host there may be none.
pub type Lives<'a> = &'a dyn Fn(&str, Option<&Record>) -> bool;

impl Containers {
    /// Removes what is left of killed processes; how many directories that were.
    pub fn sweep(&self, lives: Lives) -> Result<usize> {
        let transient: Vec<String> = self.entries()?.into_iter().filter(|name| name.starts_with(TRANSIENT)).collect();
        let marks = names_in(self.at_end.as_fd())?;
        // Before what they belong to, so that whoever is killed here comes back to them.
        if !transient.is_empty() {
            self.sweep_names(&marks)?;
        }
        let mut removed = 0;
        for name in transient.into_iter().chain(marks) {
            let Some(found) = self.open_entry(&name)? else { continue };
            if !is_over(&found, lives) {
                continue;
            }
            // What nobody has locked now is nobody's.
            let lock = self.lock()?;
            let Some(found) = found.locked()?.filter(Container::is_linked) else { continue };
            drop(lock);
            if name.starts_with(TRANSIENT) {
                self.prune(&name)?;
                removed += 1;
            } else if is_over(&found, lives) {
                // Asked again: it may have been started since.
                removed += usize::from(self.remove(&found)?);
            }
        }
        Ok(removed)
    }

    /// Names, and marks, of what does not exist.
    pub(super) fn sweep_names(&self, marks: &[String]) -> Result<()> {
        let nobodys = |name: &String| self.id_of(name).is_ok_and(|id| id.is_some_and(|id| !self.exists(&id)));
        let past = |id: &String| !self.exists(id);
        let names = names_in(self.names.as_fd())?;
        if !names.iter().any(nobodys) && !marks.iter().any(past) {
            return Ok(());
        }
        // Once more, now that nobody is between a name and its container.
        let _lock = self.lock()?;
        for name in names.iter().filter(|name| nobodys(name)) {
            let _ = unlinkat(&self.names, name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        for id in marks.iter().filter(|id| past(id)) {
            let _ = unlinkat(&self.at_end, id.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        Ok(())
    }
}

fn is_over(found: &Container, lives: Lives) -> bool {
    found.id.starts_with(TRANSIENT) || !lives(&found.id, found.record().ok().as_ref())
}
