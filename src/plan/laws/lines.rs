//! What laws are made of: questions about the lines of a plan, and about one step.

use crate::input::config::NamespaceKind;
use crate::plan::step::{Gate, Line, Side, Step};
use crate::setup::{caps, hooks, idmap, namespaces, program, rootfs, user};

pub(super) fn side(lines: &[Line], side: Side) -> impl Iterator<Item = &Step> {
    lines.iter().filter(move |line| line.side == side).map(|line| &line.step)
}

pub(super) fn child(lines: &[Line]) -> impl Iterator<Item = &Step> {
    side(lines, Side::Child)
}

pub(super) fn parent(lines: &[Line]) -> impl Iterator<Item = &Step> {
    side(lines, Side::Parent)
}

pub(super) fn position(lines: &[Line], wanted: impl Fn(&Step) -> bool) -> Option<usize> {
    lines.iter().position(|line| wanted(&line.step))
}

pub(super) fn has(lines: &[Line], wanted: impl Fn(&Step) -> bool) -> bool {
    position(lines, wanted).is_some()
}

pub(super) fn count(lines: &[Line], wanted: impl Fn(&Step) -> bool) -> usize {
    lines.iter().filter(|line| wanted(&line.step)).count()
}

/// On one side: all of the first come before all of the second. Either may be missing.
pub(super) fn all_before(
    lines: &[Line],
    first: impl Fn(&Step) -> bool,
    second: impl Fn(&Step) -> bool,
    on: Side,
) -> bool {
    let steps: Vec<&Step> = side(lines, on).collect();
    let last = steps.iter().rposition(|step| first(step));
    let begin = steps.iter().position(|step| second(step));
    match (last, begin) {
        (Some(last), Some(begin)) => last < begin,
        _ => true,
    }
}

/// On one side: where there is one of the second, there is one of the first before it.
pub(super) fn before(lines: &[Line], first: impl Fn(&Step) -> bool, second: impl Fn(&Step) -> bool, on: Side) -> bool {
    let steps: Vec<&Step> = side(lines, on).collect();
    let begin = steps.iter().position(|step| second(step));
    begin.is_none_or(|begin| steps[..begin].iter().any(|step| first(step)))
}

pub(super) fn kinds(lines: &[Line], of: impl Fn(&namespaces::Action) -> Option<NamespaceKind>) -> Vec<NamespaceKind> {
    let action = |line: &Line| match &line.step {
        Step::Namespace(action) => of(action),
        _ => None,
    };
    lines.iter().filter_map(action).collect()
}

pub(super) fn is_clone(step: &Step) -> bool {
    matches!(step, Step::Clone(_))
}

pub(super) fn is_execve(step: &Step) -> bool {
    matches!(step, Step::Program(program::Action::Execute(_)))
}

pub(super) fn is_filter(step: &Step) -> bool {
    matches!(step, Step::Seccomp(_))
}

/// The child's part in handing its listener over.
pub(super) fn is_hand_over(step: &Step) -> bool {
    matches!(step, Step::Tell(Gate::Filtered) | Step::Await(Gate::Answered))
}

pub(super) fn is_notifying(step: &Step) -> bool {
    matches!(step, Step::Seccomp(filter) if filter.notify.is_some())
}

pub(super) fn is_find(step: &Step) -> bool {
    matches!(step, Step::Program(program::Action::Find { .. }))
}

/// A container is made; `exec` finds one.
pub(super) fn is_new(lines: &[Line]) -> bool {
    !has(lines, |step| matches!(step, Step::Namespace(namespaces::Action::JoinProcess(..))))
}

pub(super) fn enters(step: &Step) -> bool {
    use rootfs::Action::{Chroot, Move, Pivot};
    matches!(step, Step::Rootfs(Pivot { .. } | Move { .. } | Chroot))
}

pub(super) fn is_overlay(step: &Step) -> bool {
    matches!(step, Step::Overlay(_))
}

pub(super) fn opens_root(step: &Step) -> bool {
    use rootfs::Action::{Open, OpenOnly};
    is_overlay(step) || matches!(step, Step::Rootfs(Open { .. } | OpenOnly { .. }))
}

pub(super) fn becomes_root(step: &Step) -> bool {
    *step == Step::IdMap(idmap::Action::BecomeRoot)
}

pub(super) fn changes_user(step: &Step) -> bool {
    matches!(step, Step::User(user::Action::Groups(_) | user::Action::Group(_) | user::Action::User(_)))
}

pub(super) const BOUNDING: usize = 0;
/// Always; the ids themselves only where they change.
pub(super) const GROUPS: usize = 2;
pub(super) const SETS: usize = 6;

/// The order in which rights end: each call still has the right that it takes.
pub(super) fn rank(step: &Step) -> Option<usize> {
    match step {
        Step::Caps(caps::Action::Bounding(_)) => Some(BOUNDING),
        Step::Caps(caps::Action::Keep) => Some(1),
        Step::User(user::Action::Groups(_)) => Some(GROUPS),
        Step::User(user::Action::Group(_)) => Some(3),
        Step::User(user::Action::User(_)) => Some(4),
        Step::Caps(caps::Action::Release) => Some(5),
        Step::Caps(caps::Action::Sets(_)) => Some(SETS),
        Step::Caps(caps::Action::ClearAmbient) => Some(7),
        Step::Caps(caps::Action::RaiseAmbient(_)) => Some(8),
        Step::Caps(caps::Action::NoNewPrivileges) => Some(9),
        _ => None,
    }
}

pub(super) fn is_last_of_rights(step: &Step) -> bool {
    rank(step).is_some()
}

/// What each side's engine knows how to do.
pub(super) fn can(side: Side, step: &Step) -> bool {
    use namespaces::Action as Namespace;
    match step {
        Step::Tell(_) | Step::Await(_) | Step::OpenProc | Step::Undumpable => true,
        Step::Record(_)
        | Step::Apart
        | Step::Cgroup(_)
        | Step::OpenTasks(_)
        | Step::OpenCgroup(_)
        | Step::CloneCgroup(_)
        | Step::Console(_)
        | Step::Compile(_)
        | Step::Agent(_)
        | Step::Notify(_) => side == Side::Parent,
        Step::Hold(_) | Step::Clone(_) | Step::PidFile(_) | Step::OpenPidFile(_) => side == Side::Parent,
        Step::PidfdSocket(_) | Step::SendPidfd(_) => side == Side::Parent,
        Step::IdMap(idmap::Action::Write(..)) => side == Side::Parent,
        Step::Namespace(Namespace::Join(_) | Namespace::JoinLate(_) | Namespace::Unshare(_)) => side == Side::Child,
        Step::Namespace(Namespace::LoopbackUp) => true,
        Step::Namespace(_) => side == Side::Parent,
        Step::Mount(action) => (side == Side::Parent) == action.is_early(),
        Step::Hooks(kind, _) => {
            let inside = matches!(kind, hooks::Kind::CreateContainer | hooks::Kind::StartContainer);
            (side == Side::Child) == inside
        }
        _ => side == Side::Child,
    }
}
