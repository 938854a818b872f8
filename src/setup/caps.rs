//! Capabilities: the rights of root, one by one, see capabilities(7).
//!
//! **What the kernel offers.** Each thread has five sets. Effective is what counts now, permitted what may become effective,
//! bounding the upper limit over every later execve, inheritable and ambient what survives one. Root in a user namespace
//! has them all, over what that namespace owns.
//!
//! **Try it.** `capsh --drop=cap_chown -- -c 'chown 1 /tmp/x'`; `grep Cap /proc/self/status`; `setpriv --dump`.
//!
//! **What we do.** The bounding set is cut while the right to do so (CAP_SETPCAP) is there, one call per capability, which is
//! the only way; PR_SET_KEEPCAPS carries the others over the change of user; one capset(2) sets three sets at once; the ambient
//! ones are raised last. Inheritable ones are set only when asked for (CVE-2022-29162).
//!
//! **What goes wrong.** A capability that the runtime itself lacks cannot be given. One that a newer kernel has and this table
//! does not would stay in the bounding set: the kernel is asked until it knows no more. An ambient one must also be
//! permitted and inheritable; where it is not, a warning, as with runc.

use crate::input::config::{Capabilities, Process};
use crate::sys::{Called, Failure, Result, cred};
use nix::errno::Errno;
use std::fmt;

use super::Held;

pub use crate::input::capability::{NAMES, number};

/// Every capability of [`NAMES`].
pub const ALL: u64 = (1 << NAMES.len()) - 1;
/// Who has it may trace any process that it sees, and write to its memory: `CAP_SYS_PTRACE`.
pub const SYS_PTRACE: u32 = 19;

/// The names in a mask, by number.
pub fn names(mask: u64) -> Vec<&'static str> {
    members(mask & ALL).map(|at| NAMES[usize::from(at)]).collect()
}

fn members(mask: u64) -> impl Iterator<Item = u8> {
    (0..64).filter(move |at| mask & 1 << at != 0)
}

/// One thing to do about capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take these out of the bounding set, and whatever the kernel has beyond [`NAMES`].
    Bounding(u64),
    /// Keep the permitted ones over the change of user.
    Keep,
    /// Back to the kernel's default.
    Release,
    /// Set effective, permitted and inheritable.
    Sets(Capabilities),
    /// Empty the ambient set.
    ClearAmbient,
    /// Raise these in the ambient set.
    RaiseAmbient(u64),
    /// execve will never give more rights again: `noNewPrivileges`.
    NoNewPrivileges,
}

/// What happens on either side of the change of user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Before the groups and the user are changed.
    pub before: Vec<Action>,
    /// After it.
    pub after: Vec<Action>,
    /// What was asked for and cannot be.
    pub warnings: Vec<String>,
}

/// Decides for a process. Without `capabilities` it gets none, as with runc.
pub fn decide(process: &Process) -> Decision {
    let wanted = process.capabilities.unwrap_or_default();
    let mut decision = Decision { before: vec![Action::Bounding(ALL & !wanted.bounding)], ..Decision::default() };
    // Root that stays root loses nothing.
    if process.user.uid != 0 && wanted.permitted != 0 {
        decision.before.push(Action::Keep);
        decision.after.push(Action::Release);
    }
    decision.after.push(Action::Sets(Capabilities { ambient: 0, bounding: 0, ..wanted }));
    let possible = wanted.permitted & wanted.inheritable;
    // capset has already taken away what is not possible.
    if possible & !wanted.ambient != 0 {
        decision.after.push(Action::ClearAmbient);
    }
    if wanted.ambient & possible != 0 {
        decision.after.push(Action::RaiseAmbient(wanted.ambient & possible));
    }
    let lost = names(wanted.ambient & !possible);
    if !lost.is_empty() {
        let lost = lost.join(", ");
        decision
            .warnings
            .push(format!("process.capabilities.ambient: {lost}: ignored, must also be permitted and inheritable"));
    }
    decision
}

/// Decides on `process.noNewPrivileges`.
pub fn no_new_privileges(process: &Process) -> Option<Action> {
    process.no_new_privileges.then_some(Action::NoNewPrivileges)
}

/// Shows a mask: the names of a few, the number of many.
struct Mask(u64);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match names(self.0)[..] {
            [] => f.write_str("0"),
            [.., _] if self.0 == ALL => write!(f, "all {}", NAMES.len()),
            ref few @ ([_] | [_, _] | [_, _, _]) => {
                f.write_str(&few.iter().map(|name| name.trim_start_matches("CAP_")).collect::<Vec<_>>().join("|"))
            }
            ref many => write!(f, "{} capabilities", many.len()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Each is a call of its own; the last finds out whether the kernel has more.
            Action::Bounding(0) => write!(f, "prctl(PR_CAPBSET_DROP, {})", NAMES.len()),
            Action::Bounding(mask) => {
                write!(f, "prctl(PR_CAPBSET_DROP, {}); prctl(PR_CAPBSET_DROP, {})", Mask(*mask), NAMES.len())
            }
            Action::Keep => f.write_str("prctl(PR_SET_KEEPCAPS, 1)"),
            Action::Release => f.write_str("prctl(PR_SET_KEEPCAPS, 0)"),
            Action::Sets(sets) => {
                let (effective, permitted, inheritable) =
                    (Mask(sets.effective), Mask(sets.permitted), Mask(sets.inheritable));
                write!(f, "capset({{effective={effective}, permitted={permitted}, inheritable={inheritable}}})")
            }
            Action::ClearAmbient => f.write_str("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)"),
            Action::RaiseAmbient(mask) => write!(f, "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {})", Mask(*mask)),
            Action::NoNewPrivileges => f.write_str("prctl(PR_SET_NO_NEW_PRIVS, 1)"),
        }
    }
}

impl Action {
    /// Does it.
    pub fn apply(&self, _held: &mut Held) -> Result<()> {
        let call = || self.to_string();
        match self {
            Action::Bounding(mask) => drop_bounding(*mask),
            Action::Keep => cred::set_keep_capabilities(cred::Keep::Kept).called(call),
            Action::Release => cred::set_keep_capabilities(cred::Keep::Lost).called(call),
            Action::Sets(Capabilities { effective, permitted, inheritable, .. }) => {
                let sets =
                    cred::CapabilitySets { effective: *effective, permitted: *permitted, inheritable: *inheritable };
                cred::capset(sets).called(call).map_err(|failure| explain(failure, sets))
            }
            Action::ClearAmbient => cred::clear_ambient().called(call),
            Action::RaiseAmbient(mask) => members(*mask).try_for_each(|one| cred::raise_ambient(one).called(call)),
            Action::NoNewPrivileges => cred::set_no_new_privileges().called(call),
        }
    }
}

fn drop_bounding(mask: u64) -> Result<()> {
    let known = members(mask).map(|one| (one, NAMES[usize::from(one)].to_owned()));
    let newer = (NAMES.len() as u8..64).map(|one| (one, format!("capability {one}")));
    for (one, name) in known.chain(newer) {
        match cred::drop_bounding(one) {
            Ok(()) => {}
            // The kernel knows no more.
            Err(Errno::EINVAL) if usize::from(one) >= NAMES.len() => break,
            // Without the right to drop, those that are not there need no dropping.
            Err(Errno::EPERM) if !cred::in_bounding(one).unwrap_or(false) => {}
            Err(errno) => {
                let call = format!("prctl(PR_CAPBSET_DROP, {name})");
                let because = format!("process.capabilities.bounding: {name} cannot be dropped without CAP_SETPCAP");
                return Err(Failure::refused(call, errno, because));
            }
        }
    }
    Ok(())
}

fn explain(failure: Failure, wanted: cred::CapabilitySets) -> Failure {
    let Ok(held) = cred::capget() else { return failure };
    let lacking = names((wanted.permitted | wanted.effective) & !held.permitted);
    let uninheritable = names(wanted.inheritable & !(held.permitted | held.inheritable));
    if !lacking.is_empty() {
        failure.because(format!("process.capabilities: the runtime itself does not have {}", lacking.join(", ")))
    } else if wanted.effective & !wanted.permitted != 0 {
        let names = names(wanted.effective & !wanted.permitted).join(", ");
        failure.because(format!("process.capabilities.effective: {names}: must also be permitted"))
    } else if !uninheritable.is_empty() {
        failure.because(format!(
            "process.capabilities.inheritable: the runtime itself does not have {}",
            uninheritable.join(", ")
        ))
    } else {
        failure.because("process.capabilities.inheritable: one is not in the bounding set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::config::User;
    use crate::sys::alone::{alone, is_root};

    fn process(capabilities: Option<Capabilities>, uid: u32) -> Process {
        Process { capabilities, user: User { uid, ..User::default() }, ..Process::default() }
    }

    fn shown(actions: &[Action]) -> Vec<String> {
        actions.iter().map(Action::to_string).collect()
    }

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(number("CAP_CHOWN"), Some(0));
        assert_eq!(number("CAP_CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("CAP_NONE"), None);
        assert_eq!(names(1 << 21 | 1), ["CAP_CHOWN", "CAP_SYS_ADMIN"]);
        assert_eq!(names(u64::MAX).len(), 41);
        let known: Vec<String> =
            (0..41).map(|n| caps::Capability::iter().find(|c| c.index() == n).unwrap().to_string()).collect();
        assert_eq!(known, NAMES);
    }

    trait Iter {
        fn iter() -> std::vec::IntoIter<caps::Capability>;
    }

    impl Iter for caps::Capability {
        fn iter() -> std::vec::IntoIter<caps::Capability> {
            caps::all().into_iter().collect::<Vec<_>>().into_iter()
        }
    }

    #[test]
    fn none_given_is_none_at_all() {
        let decision = decide(&process(None, 0));
        assert_eq!(shown(&decision.before), ["prctl(PR_CAPBSET_DROP, all 41); prctl(PR_CAPBSET_DROP, 41)"]);
        assert_eq!(shown(&decision.after), ["capset({effective=0, permitted=0, inheritable=0})"]);
    }

    #[test]
    fn another_user_keeps_what_is_permitted() {
        let mask = 0b11;
        let sets =
            Capabilities { bounding: ALL & !(1 << 21), effective: mask, permitted: mask, ..Capabilities::default() };
        let decision = decide(&process(Some(sets), 1000));
        assert_eq!(
            shown(&decision.before),
            ["prctl(PR_CAPBSET_DROP, SYS_ADMIN); prctl(PR_CAPBSET_DROP, 41)", "prctl(PR_SET_KEEPCAPS, 1)"]
        );
        assert_eq!(
            shown(&decision.after),
            [
                "prctl(PR_SET_KEEPCAPS, 0)",
                "capset({effective=CHOWN|DAC_OVERRIDE, permitted=CHOWN|DAC_OVERRIDE, inheritable=0})"
            ]
        );
    }

    #[test]
    fn ambient_ones_that_cannot_be_are_a_warning() {
        let sets = Capabilities { bounding: ALL, permitted: 0b111, inheritable: 0b011, ambient: 0b101, effective: 0 };
        let decision = decide(&process(Some(sets), 0));
        assert_eq!(decision.after[1..], [Action::ClearAmbient, Action::RaiseAmbient(1)]);
        assert_eq!(
            decision.warnings,
            ["process.capabilities.ambient: CAP_DAC_READ_SEARCH: ignored, must also be permitted and inheritable"]
        );
    }

    /// The sets of this thread, as proc(5) shows them.
    fn status() -> Capabilities {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let (bounding, effective, inheritable) = (mask("CapBnd:"), mask("CapEff:"), mask("CapInh:"));
        Capabilities { bounding, effective, inheritable, permitted: mask("CapPrm:"), ambient: mask("CapAmb:") }
    }

    #[test]
    fn the_five_sets_are_what_was_asked_for() {
        if !is_root() {
            return;
        }
        alone("setup::caps::tests::the_five_sets_are_what_was_asked_for", || {
            let wanted = Capabilities {
                bounding: 0b1111,
                permitted: 0b0111,
                effective: 0b0011,
                inheritable: 0b0101,
                ambient: 0b0100,
            };
            let decision = decide(&process(Some(wanted), 1000));
            decision.before.iter().for_each(|action| action.apply(&mut Held::default()).unwrap());
            cred::set_uid(1000).unwrap();
            decision.after.iter().for_each(|action| action.apply(&mut Held::default()).unwrap());
            assert_eq!(status(), wanted);
            // Nothing left to drop and no right to do it: not an error. Something left: named.
            drop_bounding(ALL & !wanted.bounding).unwrap();
            let because = drop_bounding(0b1000).unwrap_err().because.unwrap();
            assert_eq!(because, "process.capabilities.bounding: CAP_FOWNER cannot be dropped without CAP_SETPCAP");
        });
    }

    #[test]
    fn what_the_runtime_lacks_is_named() {
        if !is_root() {
            return;
        }
        alone("setup::caps::tests::what_the_runtime_lacks_is_named", || {
            let because =
                |sets: Capabilities| Action::Sets(sets).apply(&mut Held::default()).unwrap_err().because.unwrap();
            let held = status().permitted & !1;
            cred::capset(cred::CapabilitySets { effective: held, permitted: held, inheritable: 0 }).unwrap();
            let sets = Capabilities { permitted: 0b11, ..Capabilities::default() };
            assert_eq!(because(sets), "process.capabilities: the runtime itself does not have CAP_CHOWN");
            let sets = Capabilities { permitted: 0b10, effective: 0b110, ..Capabilities::default() };
            assert_eq!(because(sets), "process.capabilities.effective: CAP_DAC_READ_SEARCH: must also be permitted");
        });
    }
}
