//! Labels and keys: AppArmor, SELinux, and the session keyring, see apparmor(7), selinux(8), session-keyring(7).
//!
//! **What the kernel offers.** A security module keeps a label per process. What is written to `attr/exec` is taken on by the next
//! execve. The session keyring holds what a login was given; a process may leave it for a new one.
//!
//! **Try it.** `cat /proc/self/attr/current`; `aa-exec -p PROFILE sh`; `runcon LABEL sh`; `keyctl show @s; keyctl session x keyctl show @s`.
//!
//! **What we do.** The child writes its own `thread-self/attr` below the kept procfs, right before the program: a container that mounts
//! something over `/proc` cannot swallow the write (CVE-2019-16884). It joins a keyring named after the container.
//!
//! **What goes wrong.** Where the module is not there, the write fails and so does the container: a profile that was asked for is
//! never left out. Keys have quotas per user, and every keyring counts.

use crate::input::config::Process;
use crate::sys::{Called, Failure, Result, cred, procfs};
use nix::errno::Errno;
use std::fmt;

use super::Held;

/// Does the container get a session keyring of its own?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keyring {
    /// A new one.
    #[default]
    New,
    /// The one that its first process has: `exec`.
    Joined,
    /// The caller's: `--no-new-keyring`.
    Keep,
}

/// Who lets a keyring's user search it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// This process.
    Here,
    /// The container's first process has.
    Before,
}

/// One thing to do about labels and keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Join a new session keyring of this name.
    Keyring {
        /// `_ses.` and the id.
        name: String,
        /// SELinux: the label of the keyring.
        label: Option<String>,
        /// May its user search it? Whoever joins one finds that done.
        opened: Opened,
    },
    /// AppArmor: the profile that the program takes on.
    AppArmor(String),
    /// SELinux: the label that the program takes on.
    Selinux(String),
}

/// The keyring of container `id`. At the beginning, while the rights are there.
pub fn keyring(process: &Process, id: &str, keyring: Keyring) -> Option<Action> {
    let label = process.selinux_label.clone().filter(|label| !label.is_empty());
    let opened = match keyring {
        Keyring::New => Opened::Here,
        Keyring::Joined => Opened::Before,
        Keyring::Keep => return None,
    };
    Some(Action::Keyring { name: format!("_ses.{id}"), label, opened })
}

/// The labels of a process. After everything that they might forbid.
pub fn decide(process: &Process) -> Vec<Action> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let apparmor = given(&process.apparmor_profile).map(Action::AppArmor);
    apparmor.into_iter().chain(given(&process.selinux_label).map(Action::Selinux)).collect()
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Keyring { name, label, opened } => {
                if let Some(label) = label {
                    write!(f, "openat2(proc, \"thread-self/attr/keycreate\"); write({label:?}); ")?;
                }
                write!(f, "keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})")?;
                match opened {
                    Opened::Here => f.write_str("; keyctl(KEYCTL_SETPERM); [keyctl(KEYCTL_DESCRIBE)]"),
                    Opened::Before => Ok(()),
                }
            }
            Action::AppArmor(profile) => {
                let text = format!("exec {profile}");
                write!(
                    f,
                    "openat2(proc, \"thread-self/attr/apparmor/exec\"); [openat2(proc, \"thread-self/attr/exec\")]; write({text:?})"
                )
            }
            Action::Selinux(label) => write!(f, "openat2(proc, \"thread-self/attr/exec\"); write({label:?})"),
        }
    }
}

impl Action {
    /// Does it.
    pub fn apply(&self, held: &mut Held) -> Result<()> {
        match self {
            Action::Keyring { name, label, opened } => {
                if let Some(label) = label {
                    let missing = |failure| explain(failure, "selinuxLabel", "SELinux", label);
                    procfs::write(held.proc()?, "thread-self/attr/keycreate", label).map_err(missing)?;
                }
                join_keyring(name, *opened)
            }
            Action::AppArmor(profile) => {
                let text = format!("exec {profile}");
                let written = match procfs::write(held.proc()?, "thread-self/attr/apparmor/exec", &text) {
                    // Before Linux 5.8 the file was shared by all modules.
                    Err(failure) if failure.errno == Errno::ENOENT && failure.call.starts_with("openat2") => {
                        procfs::write(held.proc()?, "thread-self/attr/exec", &text)
                    }
                    other => other,
                };
                written.map_err(|failure| explain(failure, "apparmorProfile", "AppArmor", profile))
            }
            Action::Selinux(label) => procfs::write(held.proc()?, "thread-self/attr/exec", label)
                .map_err(|failure| explain(failure, "selinuxLabel", "SELinux", label)),
        }
    }
}

fn explain(failure: Failure, key: &str, module: &str, name: &str) -> Failure {
    let opened = failure.call.starts_with("write");
    match failure.errno {
        Errno::ENOENT if opened => failure.because(format!("process.{key}: no profile {name} is loaded in {module}")),
        Errno::ENOENT | Errno::EINVAL if module == "AppArmor" => {
            failure.because(format!("process.{key}: {name} is asked for, but {module} is not enabled on this host"))
        }
        Errno::ENOENT | Errno::EINVAL => failure.because(format!(
            "process.{key}: {name} is asked for, but {module} is not enabled on this host, or does not know it"
        )),
        Errno::EACCES | Errno::EPERM => {
            failure.because(format!("process.{key}: {module} does not let the runtime change to {name}"))
        }
        _ => failure,
    }
}

/// `KEY_USR_SEARCH`
const USER_SEARCH: u32 = 0x0008_0000;
/// What the kernel gives a new session keyring: its possessor may do everything, its user view, read and link (session-keyring(7)).
const NEW_KEYRING: u32 = 0x3f13_0000;

/// Joins a new keyring, and lets its user search it: otherwise a process that changes its user could not.
fn join_keyring(name: &str, opened: Opened) -> Result<()> {
    let call = || format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})");
    let serial = match cred::join_session_keyring(name) {
        // A kernel without keys, or an outer filter: there is nothing to leave behind.
        Err(Errno::ENOSYS) => return Ok(()),
        other => other.called(call).map_err(|failure| match failure.errno {
            Errno::EDQUOT => failure.because(
                "session keyring: the user's quota of keys is used up (/proc/key-users, kernel.keys.maxkeys, kernel.keys.maxbytes)",
            ),
            _ => failure,
        })?,
    };
    if opened == Opened::Before {
        return Ok(());
    }
    // What a new one has, and that. To ask first for what it has would be a call more in each run.
    match cred::set_key_permissions(serial, NEW_KEYRING | USER_SEARCH) {
        // Not ours: the container's own, which an exec joins. It has been done.
        Err(Errno::EACCES | Errno::EPERM) if may_search(serial) => Ok(()),
        set => set.called(|| format!("keyctl(KEYCTL_SETPERM, {:#x})", NEW_KEYRING | USER_SEARCH)),
    }
}

/// May its user search it?
fn may_search(serial: i32) -> bool {
    let permissions = cred::describe_key(serial).ok().and_then(|about| permissions(&about));
    permissions.is_some_and(|permissions| permissions & USER_SEARCH != 0)
}

/// The fourth field of `type;uid;gid;permissions;name`, hexadecimal.
fn permissions(about: &str) -> Option<u32> {
    u32::from_str_radix(about.split(';').nth(3)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::alone::alone;

    #[test]
    fn what_is_empty_or_kept_is_nothing_to_do() {
        let process = Process { apparmor_profile: Some(String::new()), ..Process::default() };
        assert_eq!(decide(&process), []);
        assert_eq!(keyring(&process, "web", Keyring::Keep), None);
        let shown = keyring(&process, "web", Keyring::New).unwrap().to_string();
        assert!(shown.starts_with("keyctl(KEYCTL_JOIN_SESSION_KEYRING, \"_ses.web\")"), "{shown}");
    }

    #[test]
    fn the_permissions_of_a_key() {
        assert_eq!(permissions("keyring;0;0;3f1b0000;_ses.web"), Some(0x3f1b_0000));
        assert_eq!(permissions("keyring;0;0"), None);
    }

    #[test]
    fn a_missing_module_is_named() {
        let failure = Failure { call: "write(\"thread-self/attr/exec\")".into(), errno: Errno::EINVAL, because: None };
        assert_eq!(
            explain(failure, "apparmorProfile", "AppArmor", "docker-default").because.unwrap(),
            "process.apparmorProfile: docker-default is asked for, but AppArmor is not enabled on this host"
        );
    }

    #[test]
    fn a_keyring_of_its_own() {
        alone("setup::label::tests::a_keyring_of_its_own", || {
            let action = keyring(&Process::default(), "process-test", Keyring::New).unwrap();
            action.apply(&mut Held::default()).unwrap();
            const SESSION: i32 = -3;
            let about = cred::describe_key(SESSION).unwrap();
            assert!(about.ends_with(";_ses.process-test"), "{about}");
            assert_ne!(permissions(&about).unwrap() & 0x0008_0000, 0);
        });
    }

    #[test]
    fn a_profile_is_never_left_out() {
        if std::path::Path::new("/sys/kernel/security/apparmor").exists() {
            eprintln!("skipped: this host has AppArmor");
            return;
        }
        let mut held = Held { proc: Some(crate::sys::path::host_proc().unwrap()), ..Held::default() };
        let failure = Action::AppArmor("docker-default".into()).apply(&mut held).unwrap_err();
        assert!(failure.because.unwrap().ends_with("but AppArmor is not enabled on this host"));
    }
}
