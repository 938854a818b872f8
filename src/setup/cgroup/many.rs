//! The freezers of many groups, asked in turn, as `list` does.
//!
//! By hand: `cat /sys/fs/cgroup/freezer/*/freezer.state`. Nearly all lie below one mount point, which is opened once: that is half of the work. The other half
//! is to read each record's list of directories, so it is only searched for the one that is expected.

use super::change::read_value_below_sparing;
use super::{Cgroup, Directory, Version};
use crate::sys::file;
use crate::sys::spent::Spent;
use crate::sys::{Called, Result};
use nix::fcntl::OFlag;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A [`Cgroup`] as its record has it, of which nothing is built.
#[derive(Debug, Deserialize)]
pub struct Group<'a> {
    version: Version,
    path: &'a str,
    #[serde(borrow)]
    directories: &'a RawValue,
}

/// The freezer of the group that was asked last.
#[derive(Debug, Default)]
pub struct Freezers {
    last: Option<Freezer>,
}

#[derive(Debug)]
struct Freezer {
    version: Version,
    mount: PathBuf,
    /// The mount point, open.
    top: OwnedFd,
}

impl Freezers {
    /// As [`Cgroup::is_frozen`]; files are closed with others.
    pub fn is_frozen(&mut self, group: &Group<'_>, spent: &Spent) -> Result<bool> {
        let expected = |last: &Freezer| {
            let path = format!("\"{}{}\"", last.mount.display(), group.path);
            last.version == group.version && group.directories.get().contains(&path)
        };
        if !self.last.as_ref().is_some_and(expected) {
            // Of a record that was read so far the list is one of directories.
            let Ok(directories) = serde_json::from_str::<Vec<Directory>>(group.directories.get()) else {
                return Ok(false);
            };
            let whole = Cgroup { version: group.version, path: group.path.to_owned(), directories };
            let Ok(directory) = whole.freezer() else { return Ok(false) };
            let top = file::open(&directory.mount, OFlag::O_PATH | OFlag::O_DIRECTORY);
            let top = top.called(|| format!("openat({:?})", directory.mount))?;
            // An odd path is asked for as it stands, and not remembered.
            if directory.path != directory.mount.join(group.path.trim_start_matches('/')) {
                return whole.is_frozen();
            }
            self.last = Some(Freezer { version: group.version, mount: directory.mount.clone(), top });
        }
        let Some(last) = &self.last else { return Ok(false) };
        let path = Path::new(group.path.trim_start_matches('/')).join(group.version.freezer_file().0);
        group.version.says_frozen(read_value_below_sparing(last.top.as_fd(), &path, spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directories of a temporary place stand for two hierarchies.
    #[test]
    fn each_group_is_asked_where_it_lies() {
        let place = tempfile::tempdir().unwrap();
        let make = |hierarchy: &str, name: &str, says: &str| {
            let directory = place.path().join(hierarchy).join(name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("freezer.state"), says).unwrap();
        };
        make("one", "a", "THAWED\n");
        make("one", "b", "FROZEN\n");
        make("two", "c", "FREEZING\n");
        make("one", "c", "THAWED\n");
        let record = |hierarchy: &str, controller: &str, name: &str| {
            let mount = place.path().join(hierarchy);
            serde_json::json!({"version": "v1", "path": format!("/{name}"), "directories": [
                {"controllers": ["pids"], "mount": "/nowhere", "path": format!("/nowhere/{name}")},
                {"controllers": [controller], "mount": mount, "path": mount.join(name)}]})
            .to_string()
        };
        let mut freezers = Freezers::default();
        for (hierarchy, controller, name, frozen) in [
            ("one", "freezer", "a", false),
            ("one", "freezer", "b", true),
            ("two", "freezer", "c", true),
            ("one", "freezer", "c", false),
            ("one", "freezer", "gone", false),
            ("one", "freezer", "b", true),
            ("two", "cpu", "c", false),
        ] {
            let text = record(hierarchy, controller, name);
            let group: Group<'_> = serde_json::from_str(&text).unwrap();
            assert_eq!(freezers.is_frozen(&group, &Spent::default()), Ok(frozen), "{hierarchy} {name}");
        }
    }
}
