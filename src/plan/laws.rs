//! What holds for every plan, whatever was asked. Tests check the laws over generated configurations.

use super::Plan;
use super::step::{Side, Step};
use crate::setup::{caps, program, rootfs};

/// The laws that a plan breaks, in words; empty for a good one.
pub fn broken(plan: &Plan) -> Vec<String> {
    let mut broken = Vec::new();
    let mut law = |holds: bool, words: &str| {
        if !holds {
            broken.push(words.to_owned());
        }
    };
    let lines = &plan.lines;
    let find = |wanted: &dyn Fn(&Step) -> bool| lines.iter().position(|line| wanted(&line.step));
    let last = |wanted: &dyn Fn(&Step) -> bool| lines.iter().rposition(|line| wanted(&line.step));
    let child: Vec<&Step> = lines.iter().filter(|line| line.side == Side::Child).map(|line| &line.step).collect();

    let executes = |step: &Step| matches!(step, Step::Program(program::Action::Execute(_)));
    law(child.iter().filter(|step| executes(step)).count() == 1, "exactly one execve");
    law(child.last().is_some_and(|step| executes(step)), "the execve is the child's last step");

    let clones = lines.iter().filter(|line| matches!(line.step, Step::Clone(_))).count();
    law(clones == 1, "exactly one clone");
    let clone = find(&|step| matches!(step, Step::Clone(_))).unwrap_or(0);
    law(lines[..clone].iter().all(|line| line.side == Side::Parent), "the child does nothing before it exists");

    // Gates: told on one side, awaited on the other, in the same order.
    let told = |side: Side| {
        lines
            .iter()
            .filter(move |l| l.side == side)
            .filter_map(|l| match l.step {
                Step::Tell(g) => Some(g),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let awaited = |side: Side| {
        lines
            .iter()
            .filter(move |l| l.side == side)
            .filter_map(|l| match l.step {
                Step::Await(g) => Some(g),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    law(told(Side::Parent) == awaited(Side::Child), "the child awaits what the parent tells, in order");
    let heard: Vec<_> = told(Side::Child);
    let waited = awaited(Side::Parent);
    // After the start gate it is the starter who hears.
    law(heard.starts_with(&waited), "the parent awaits what the child tells, in order");

    let pivot = find(
        &|step| matches!(step, Step::Rootfs(action) if matches!(action, rootfs::Action::Pivot { .. } | rootfs::Action::Move { .. } | rootfs::Action::Chroot)),
    );
    if let Some(pivot) = pivot {
        law(
            last(&|step| matches!(step, Step::Mount(action) if !action.seals())).is_none_or(|at| at < pivot),
            "mounts come before the root is entered",
        );
        law(
            find(&|step| matches!(step, Step::Mask(_))).is_none_or(|at| at > pivot),
            "masks come after the root is entered",
        );
        law(
            last(&|step| matches!(step, Step::Device(_))).is_none_or(|at| at < pivot),
            "devices come before the root is entered",
        );
    }
    let rights_end = find(&|step| matches!(step, Step::Caps(caps::Action::Sets(_))));
    if let Some(end) = rights_end {
        let needs_rights = |step: &Step| {
            matches!(
                step,
                Step::Mount(_) | Step::Mask(_) | Step::Rootfs(_) | Step::Name(_) | Step::Sysctl(_) | Step::Device(_)
            )
        };
        law(last(&needs_rights).is_none_or(|at| at < end), "what needs rights comes before they end");
    }
    let exec = last(&executes).unwrap_or(0);
    law(
        find(&|step| matches!(step, Step::Seccomp(_))).is_none_or(|at| at < exec),
        "the filter is installed before the program",
    );
    law(
        last(&|step| matches!(step, Step::Cgroup(_))).is_none_or(|at| at < clone),
        "limits stand before the first process exists",
    );
    law(
        lines.first().is_none_or(|line| matches!(line.step, Step::Record(_) | Step::OpenProc)),
        "what will exist is recorded first",
    );
    broken
}
