//! The parent's part of a bind, before the clone: what the child in a user namespace could neither open nor map.

use super::{Bind, IdMap, Owner, elsewhere, shown};
use crate::input::config::IdMapping;
use crate::sys::mount::{self, Change, Reach, attr};
use crate::sys::process::{self, Parent, Side};
use crate::sys::{Called, Failure, Result, file, path, procfs};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::{pipe2, read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// The source as a detached tree that tells the host nothing, its owners mapped where asked.
pub(super) fn clone(bind: &Bind) -> Result<OwnedFd> {
    let tree = match bind.within {
        None => bind.clone_source()?,
        Some(pid) => elsewhere::clone(pid, &bind.source, bind.reach)?,
    };
    let slave = Change::propagate(MsFlags::MS_SLAVE);
    mount::change(tree.as_fd(), Reach::Tree, &slave).called(|| shown::setattr(Reach::Tree, &slave))?;
    if let Some(IdMap { reach, owner }) = &bind.idmap {
        let namespace = match owner {
            Owner::Maps { users, groups } => holding(users, groups)?,
            Owner::Namespace(path) => open_namespace(path)?,
        };
        let called = || shown::setattr(*reach, &Change::set(attr::IDMAP));
        mount::idmap(tree.as_fd(), *reach, namespace.as_fd()).called(called).map_err(|f| why_not(f, &bind.source))?;
    }
    Ok(tree)
}

fn open_namespace(path: &Path) -> Result<OwnedFd> {
    file::open(path, OFlag::O_RDONLY).called(|| format!("openat({path:?})"))
}

fn why_not(failure: Failure, source: &Path) -> Failure {
    let path = source.display();
    match failure.errno {
        Errno::EINVAL => failure.because(format!("the file system of {path} does not support mapped owners (idmap)")),
        Errno::EPERM => {
            failure.because(format!("the owners of {path} are mapped already, or the maps are the host's own"))
        }
        _ => failure,
    }
}

/// A user namespace with these maps, held by a process that waits for the end of a pipe: it ends with us, whatever happens.
fn holding(users: &[IdMapping], groups: &[IdMapping]) -> Result<OwnedFd> {
    let (end, ours) = pipe2(OFlag::O_CLOEXEC).called(|| "pipe2(O_CLOEXEC)".into())?;
    let (pid, pidfd) = match process::clone3(libc::CLONE_NEWUSER as u64, None, Parent::Caller)? {
        Side::Child => {
            drop(ours);
            while let Ok(1..) | Err(Errno::EINTR) = read(&end, &mut [0]) {}
            process::exit_now(0)
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    let proc = path::host_proc();
    let namespace = proc.and_then(|proc| {
        procfs::write(&proc, &format!("{pid}/uid_map"), &lines(users))?;
        procfs::write(&proc, &format!("{pid}/gid_map"), &lines(groups))?;
        // A magic link, which procfs::open refuses, on a checked procfs and by the pid of our own child.
        let name = format!("{pid}/ns/user");
        nix::fcntl::openat(&proc, name.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .called(|| format!("openat(proc, {name:?})"))
    });
    drop(ours);
    process::wait(&pidfd).called(|| "waitid(P_PIDFD)".into())?;
    namespace
}

pub(super) fn lines(maps: &[IdMapping]) -> String {
    maps.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
}
