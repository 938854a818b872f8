//! Who runs the program: user, group, supplementary groups, see credentials(7).
//!
//! **What the kernel offers.** A process has a real, an effective and a saved user id, the same of the group, and a list of
//! supplementary groups. Leaving user 0 takes the capabilities with it, unless PR_SET_KEEPCAPS is set (capabilities(7)).
//!
//! **Try it.** `setpriv --reuid 1000 --regid 1000 --clear-groups id`.
//!
//! **What we do.** HOME is looked up while every file can still be read; what the process gets as stdin, stdout and stderr is
//! handed to the new user; then the groups, the group, and the user last, because each step needs the rights that the last gives up.
//!
//! **What goes wrong.** The caller's groups would come along: they are always replaced, also by an empty list. In a user
//! namespace an id may have no mapping (EINVAL), or setgroups(2) may be denied, user_namespaces(7). `/dev/null` on stdin is
//! the host's own: its owner is left alone.

use crate::input::config::Process;
use crate::sys::{Called, Failure, Result, cred, procfs};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use nix::unistd::{Uid, fchown};
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use super::Held;

/// One thing to do about the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look for the user's home in the container's passwd.
    Home(u32),
    /// Hand stdin, stdout and stderr to the user.
    Stdio(u32),
    /// Replace the supplementary groups.
    Groups(Vec<u32>),
    /// Become the group.
    Group(u32),
    /// Become the user.
    User(u32),
}

/// What is known of the process before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// All its ids are 0, in the user namespace of the program: what would set them to that again is left out.
    Root,
    /// Nothing: the caller is not root in every respect, or the namespace is another.
    #[default]
    Unknown,
}

/// What a process needs, in order. `PR_SET_KEEPCAPS`, where needed, goes in front of the last.
pub fn decide(process: &Process, before: Before) -> Vec<Action> {
    let user = &process.user;
    let mut actions = Vec::new();
    if process.env.value("HOME").is_none_or(str::is_empty) {
        actions.push(Action::Home(user.uid));
    }
    // A terminal belongs to its user from the start.
    if !process.terminal {
        actions.push(Action::Stdio(user.uid));
    }
    let is_new = |id: u32| id != 0 || before == Before::Unknown;
    actions.push(Action::Groups(user.additional_gids.clone()));
    actions.extend(is_new(user.gid).then_some(Action::Group(user.gid)));
    actions.extend(is_new(user.uid).then_some(Action::User(user.uid)));
    actions
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Home(_) => f.write_str("openat(\"/etc/passwd\"); [read()]…"),
            Action::Stdio(uid) => {
                let each = |fd| format!("fstat({fd}); [fchown({fd}, {uid})]");
                f.write_str(&[0, 1, 2].map(each).join("; "))
            }
            Action::Groups(groups) => write!(f, "setgroups({groups:?})"),
            Action::Group(gid) => write!(f, "setresgid({gid}, {gid}, {gid})"),
            Action::User(uid) => write!(f, "setresuid({uid}, {uid}, {uid})"),
        }
    }
}

impl Action {
    /// Does it.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        let call = || self.to_string();
        let unmapped = |failure: Failure, key: &str, id: &u32, map: &str| match failure.errno {
            Errno::EINVAL => {
                failure.because(format!("{key} {id} is not mapped in the container's user namespace ({map})"))
            }
            Errno::EPERM => failure.because(format!("the runtime has no right to become {key} {id}")),
            Errno::EAGAIN => failure.because(format!("{key} {id} has reached its RLIMIT_NPROC")),
            _ => failure,
        };
        match self {
            Action::Home(uid) => {
                held.home = Some(home(*uid).unwrap_or_else(|| "/".into()));
                Ok(())
            }
            Action::Stdio(uid) => [0, 1, 2].into_iter().try_for_each(|fd| hand_over(fd, *uid)),
            Action::Groups(groups) => set_groups(groups, held),
            Action::Group(gid) => {
                cred::set_gid(*gid).called(call).map_err(|failure| unmapped(failure, "gid", gid, "linux.gidMappings"))
            }
            Action::User(uid) => {
                cred::set_uid(*uid).called(call).map_err(|failure| unmapped(failure, "uid", uid, "linux.uidMappings"))
            }
        }
    }
}

/// Changes the owner of one of stdin, stdout, stderr, as runc does: the user alone, because the mount may want another group.
fn hand_over(number: i32, uid: u32) -> Result<()> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let fd: BorrowedFd<'_> = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()][number as usize];
    let found = match fstat(fd) {
        Err(Errno::EBADF) => return Ok(()),
        other => other.called(|| format!("fstat({number})"))?,
    };
    if found.st_uid == uid || is_null(found.st_mode, found.st_rdev) {
        return Ok(());
    }
    match fchown(fd, Some(Uid::from_raw(uid)), None) {
        // Not ours to give away: an owner without a mapping here, a read-only file system, a pipe of somebody else.
        Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        other => other.called(|| format!("fchown({number}, {uid})")),
    }
}

/// Is this `/dev/null`, character device 1:3?
fn is_null(mode: u32, device: u64) -> bool {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFCHR && device == makedev(1, 3)
}

fn set_groups(groups: &[u32], held: &Held) -> Result<()> {
    let call = || format!("setgroups({groups:?})");
    match cred::set_groups(groups) {
        Err(Errno::EPERM) => {
            let denied = procfs::read(held.proc()?, "self/setgroups").is_ok_and(|word| word.trim() == "deny");
            match (denied, groups.is_empty()) {
                // Nobody asked for any, and the ones that came along cannot be dropped here: as runc.
                (true, true) => Ok(()),
                (true, false) => Err(Failure::refused(
                    call(),
                    Errno::EPERM,
                    "additionalGids: the user namespace denies setgroups, so there can be none",
                )),
                (false, _) => {
                    Err(Failure::refused(call(), Errno::EPERM, "additionalGids: the runtime has no CAP_SETGID"))
                }
            }
        }
        Err(Errno::EINVAL) => Err(Failure::refused(
            call(),
            Errno::EINVAL,
            "additionalGids: one is not mapped in the container's user namespace (linux.gidMappings)",
        )),
        other => other.called(call),
    }
}

/// The home of a user in the `/etc/passwd` of the current root; `None` if there is none.
fn home(uid: u32) -> Option<String> {
    // Not blocking: it may be a fifo.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(openat(AT_FDCWD, "/etc/passwd", flags, Mode::empty()).ok()?);
    home_in(BufReader::new(file.take(PASSWD_LIMIT)), uid)
}

/// As much of a passwd as is read; it is the image's.
const PASSWD_LIMIT: u64 = 16 << 20;
/// A longer line is skipped.
const LINE_LIMIT: u64 = 4096;

/// The home in the first line of a passwd(5) with this uid.
fn home_in(mut passwd: impl BufRead, uid: u32) -> Option<String> {
    let mut line = Vec::new();
    let mut whole = true;
    loop {
        line.clear();
        if passwd.by_ref().take(LINE_LIMIT).read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        let begins = std::mem::replace(&mut whole, line.ends_with(b"\n"));
        if !begins || (!whole && line.len() as u64 == LINE_LIMIT) {
            continue;
        }
        let text = std::str::from_utf8(&line).unwrap_or_default().trim_end_matches('\n');
        let fields: Vec<&str> = text.split(':').collect();
        // Digits only: a name or a sign is nobody, never user 0.
        if let [_, _, id, _, _, home, ..] = fields[..]
            && id.bytes().all(|digit| digit.is_ascii_digit())
            && id.parse() == Ok(uid)
        {
            return (!home.is_empty() && !home.contains('\0')).then(|| home.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::config::User;
    use crate::sys::alone::{alone, command, is_alone, is_root, text};
    use std::rc::Rc;

    #[test]
    fn the_user_comes_last_and_home_first() {
        let user = User { uid: 1000, gid: 100, umask: None, additional_gids: vec![4, 24] };
        let shown =
            |process: &Process| decide(process, Before::Unknown).iter().map(Action::to_string).collect::<Vec<_>>();
        let process =
            Process { user, terminal: true, env: Rc::new(["HOME=/x"].into_iter().collect()), ..Process::default() };
        assert_eq!(shown(&process), ["setgroups([4, 24])", "setresgid(100, 100, 100)", "setresuid(1000, 1000, 1000)"]);
        let twice = Process { terminal: false, env: Rc::new(["HOME=/x", "HOME="].into_iter().collect()), ..process };
        assert_eq!(decide(&twice, Before::Unknown)[..2], [Action::Home(1000), Action::Stdio(1000)]);
    }

    #[test]
    fn homes_are_found_by_number_only() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n4294967296:x:1:1::/wrong:\na:x:-1:0::/minus:\nb:x:+7:0::/plus:\n\
                      short:x:5\nc:x:7:7::/seven:/bin/sh\nd:x:8:8:::\ne:x:9:9::/nine:/bin/sh";
        let home = |uid| home_in(passwd.as_bytes(), uid);
        assert_eq!(home(0).as_deref(), Some("/root"));
        assert_eq!(home(7).as_deref(), Some("/seven"));
        assert_eq!(home(9).as_deref(), Some("/nine"));
        assert_eq!(home(8), None);
        assert_eq!(home(5), None);
        assert_eq!(home(u32::MAX), None);
    }

    #[test]
    fn a_long_line_is_skipped_whole() {
        let long = format!("{}\nx:x:1:1::/one:\n", "y".repeat(3 * LINE_LIMIT as usize - 2) + ":x:1:1::/no:");
        assert_eq!(home_in(long.as_bytes(), 1).as_deref(), Some("/one"));
        let exact = format!("{}x:x:1:1::/no:\nx:x:1:1::/one:\n", "y".repeat(LINE_LIMIT as usize));
        assert_eq!(home_in(exact.as_bytes(), 1).as_deref(), Some("/one"));
    }

    #[test]
    fn null_is_a_character_device() {
        let null = nix::sys::stat::stat("/dev/null").unwrap();
        assert!(is_null(null.st_mode, null.st_rdev));
        let zero = nix::sys::stat::stat("/dev/zero").unwrap();
        assert!(!is_null(zero.st_mode, zero.st_rdev));
    }

    #[test]
    fn a_process_becomes_its_user_and_no_more() {
        if !is_root() {
            return;
        }
        alone("setup::user::tests::a_process_becomes_its_user_and_no_more", || {
            let mut held = Held::default();
            let user = User { uid: 1000, gid: 100, umask: None, additional_gids: vec![4, 24] };
            let actions = decide(&Process { user, ..Process::default() }, Before::Unknown);
            // stdout is a file of root's, stdin the null device: a node of our own, should the test fail.
            let dir = tempfile::tempdir().unwrap();
            let node = dir.path().join("null");
            nix::sys::stat::mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(1, 3)).unwrap();
            let (file, null) = (tempfile::tempfile().unwrap(), File::open(&node).unwrap());
            drop(dir);
            let old = std::io::stdout().as_fd().try_clone_to_owned().unwrap();
            nix::unistd::dup2_stdin(&null).unwrap();
            nix::unistd::dup2_stdout(&file).unwrap();
            let done: Vec<_> = actions.iter().map(|action| action.apply(&mut held)).collect();
            nix::unistd::dup2_stdout(&old).unwrap();
            assert_eq!(done, vec![Ok(()); 5]);
            assert!(held.home.is_some());
            assert_eq!((fstat(&file).unwrap().st_uid, fstat(&null).unwrap().st_uid), (1000, 0));
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            for line in ["Uid:\t1000\t1000\t1000\t1000", "Gid:\t100\t100\t100\t100", "Groups:\t4 24 "] {
                assert!(status.contains(line), "{status}");
            }
            let failure = Action::User(0).apply(&mut held).unwrap_err();
            assert_eq!(failure.because.unwrap(), "the runtime has no right to become uid 0");
        });
    }

    #[test]
    fn ids_without_a_mapping_are_named() {
        if !is_root() {
            return;
        }
        let test = "setup::user::tests::ids_without_a_mapping_are_named";
        if !is_alone() {
            // One id is mapped, and setgroups is denied.
            let plain = command(test);
            let mut unshare = std::process::Command::new("unshare");
            unshare.args(["--user", "--map-root-user"]).arg(plain.get_program()).args(plain.get_args());
            unshare.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
            let output = unshare.output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
            return;
        }
        let mut held = Held { proc: Some(crate::sys::path::host_proc().unwrap()), ..Held::default() };
        let mut because = |action: Action| action.apply(&mut held).map_err(|failure| failure.because.unwrap());
        assert_eq!(because(Action::Groups(vec![])), Ok(()));
        let denied = "additionalGids: the user namespace denies setgroups, so there can be none";
        assert_eq!(because(Action::Groups(vec![0])), Err(denied.into()));
        let wanted = "uid 7 is not mapped in the container's user namespace (linux.uidMappings)";
        assert_eq!(because(Action::User(7)), Err(wanted.into()));
    }
}
