//! Id maps: which users of the host the users inside a user namespace are, see user_namespaces(7).
//!
//! **What the kernel offers.** A new user namespace maps nothing until somebody outside writes `/proc/PID/uid_map` and
//! `gid_map`, each once: lines of `inside outside count`. Until then every id in it shows as 65534.
//!
//! **Try it.** `unshare --user --map-root-user id`; or `unshare --user sh`, and from another shell as root
//! `echo 0 100000 65536 > /proc/PID/uid_map`.
//!
//! **What we do.** The parent writes both maps after the clone; the child waits at a gate, then becomes id 0 of the new
//! namespace, which owns the rights over the other namespaces made with it.
//!
//! **What goes wrong.** The file takes one write of at most a page. Overlapping ranges are EINVAL. A process that made itself
//! undumpable owns none of its `/proc` files, so that comes only after the maps.

use crate::input::config::IdMapping;
use crate::sys::{Called, Result, file};
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, write};
use std::fmt;

/// One thing to do about id maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Parent: write one of the child's maps.
    Write(Map, Vec<IdMapping>),
    /// Child: become user and group 0 of its user namespace, without groups from outside.
    BecomeRoot,
}

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// `uid_map`
    Users,
    /// `gid_map`
    Groups,
}

impl Map {
    fn file(self) -> &'static str {
        match self {
            Map::Users => "uid_map",
            Map::Groups => "gid_map",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Write(map, mappings) => {
                write!(f, "openat(\"/proc/PID/{}\"); write({:?})", map.file(), lines(mappings))
            }
            Action::BecomeRoot => write!(f, "setgroups([]); setresgid(0, 0, 0); setresuid(0, 0, 0)"),
        }
    }
}

fn lines(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
}

impl Action {
    /// Does it; `pid` is the child's, as the parent sees it.
    pub fn apply(&self, pid: i32) -> Result<()> {
        match self {
            Action::Write(map, mappings) => {
                let path = format!("/proc/{pid}/{}", map.file());
                let fd = file::open(&path, OFlag::O_WRONLY).called(|| format!("openat({path:?})"))?;
                let text = lines(mappings);
                write(&fd, text.as_bytes()).map(drop).called(|| format!("write({path:?}, {text:?})"))
            }
            Action::BecomeRoot => {
                setgroups(&[]).called(|| "setgroups([])".into())?;
                let (group, user) = (Gid::from_raw(0), Uid::from_raw(0));
                setresgid(group, group, group).called(|| "setresgid(0, 0, 0)".into())?;
                setresuid(user, user, user).called(|| "setresuid(0, 0, 0)".into())
            }
        }
    }
}
