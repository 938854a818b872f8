//! What holds for every plan, whatever was asked.
//!
//! The order of the steps is written down once, in [`super::container`], with its reasons. The reasons that can be checked stand here
//! again, as laws: a line that is moved breaks one. Tests check them over the golden plans and over generated configurations.

mod lines;

use super::Plan;
use super::step::{Gate, Hold, Line, Record, Side, Step};
use crate::input::config::{NamespaceKind, Propagation};
use crate::setup::seccomp::notify::Courier;
use crate::setup::{caps, hooks, idmap, label, limits, namespaces, program, rootfs, user};
use lines::*;
use std::collections::VecDeque;

/// In words, and what they mean.
type Law = (&'static str, fn(&[Line]) -> bool);

/// All of them.
pub const LAWS: &[Law] = &[
    ("exactly one clone, by the parent", |lines| count(lines, is_clone) == 1 && parent(lines).any(is_clone)),
    (
        "who lends its memory has nothing left to do but to hear that the program runs, and no child waits for it",
        |lines| {
            let lends = |step: &Step| matches!(step, Step::Clone(clone) if clone.lends);
            !has(lines, lends)
                || parent(lines).skip_while(|step| !lends(step)).skip(1).eq([&Step::Await(Gate::Executing)])
                    && !child(lines).any(|step| matches!(step, Step::Await(_) | Step::AwaitStart))
        },
    ),
    ("the child does nothing before it exists", |lines| {
        lines.iter().take_while(|line| !is_clone(&line.step)).all(|line| line.side == Side::Parent)
    }),
    ("exactly one execve, the child's last step", |lines| {
        count(lines, is_execve) == 1 && child(lines).last().is_some_and(is_execve)
    }),
    ("each step is on a side that can do it", |lines| lines.iter().all(|line| can(line.side, &line.step))),
    ("both sides come to their ends, and hear what they wait for", |lines| rehearse(lines).is_ok()),
    ("after the start gate nothing is awaited of the parent", |lines| {
        all_before(lines, |step| matches!(step, Step::Await(_)), |step| matches!(step, Step::AwaitStart), Side::Child)
    }),
    ("the child waits to be started only after the parent has let it go", |lines| {
        all_before(lines, |s| matches!(s, Step::Await(Gate::Go)), |s| matches!(s, Step::AwaitStart), Side::Child)
            && has(lines, |step| matches!(step, Step::AwaitStart)) == has(lines, |s| *s == Step::Hold(Hold::Gate))
    }),
    ("the program is found before create is told that all is ready", |lines| {
        all_before(lines, is_find, |step| matches!(step, Step::Tell(Gate::Ready)), Side::Child)
    }),
    ("the last word of the child is followed by the filter and the program alone", |lines| {
        let after = child(lines).skip_while(|step| **step != Step::Tell(Gate::Executing)).skip(1);
        has(lines, |step| *step == Step::Tell(Gate::Executing))
            && after.into_iter().all(|step| is_execve(step) || is_filter(step) || is_hand_over(step))
    }),
    ("what will exist is recorded before anything is done", |lines| {
        !is_new(lines)
            || lines[0].step == Step::Record(Record::Intent)
                && count(lines, |step| *step == Step::Record(Record::Intent)) == 1
    }),
    ("the first process is recorded before it is let go", |lines| {
        let records = |step: &Step| matches!(step, Step::Record(Record::Init | Record::Ready));
        !is_new(lines)
            || all_before(lines, is_clone, records, Side::Parent)
                && before(lines, records, |step| *step == Step::Tell(Gate::Go), Side::Parent)
    }),
    ("limits stand before the first process exists", |lines| {
        let limit = |step: &Step| matches!(step, Step::Cgroup(change) if !change.can_wait());
        all_before(lines, limit, is_clone, Side::Parent)
    }),
    ("what binds the program, and what it was made by, is there before it is let go, and before hooks look", |lines| {
        let binds = |step: &Step| {
            *step == Step::Record(Record::Configuration) || matches!(step, Step::Cgroup(change) if change.can_wait())
        };
        let after = |step: &Step| {
            matches!(step, Step::Tell(Gate::Go) | Step::Record(Record::Init | Record::Ready) | Step::Hooks(..))
        };
        all_before(lines, binds, after, Side::Parent)
            && is_new(lines) == has(lines, |step| *step == Step::Record(Record::Configuration))
    }),
    ("the first process enters its cgroup in one way, by what was opened before", |lines| {
        let opened = position(lines, |step| matches!(step, Step::OpenCgroup(_) | Step::CloneCgroup(_)));
        let tasks = lines.iter().find_map(|line| match &line.step {
            Step::OpenTasks(files) => Some(files.len()),
            _ => None,
        });
        let attached = child(lines).find_map(|step| match step {
            Step::Attach(count) => Some(*count),
            _ => None,
        });
        let into = parent(lines).any(|step| matches!(step, Step::Clone(clone) if clone.into.is_some()));
        tasks == attached && opened.is_some() == into && into != attached.is_some()
    }),
    ("who is born into a cgroup is not born in a cgroup namespace that was joined", |lines| {
        let cgroup = namespaces::flag(NamespaceKind::Cgroup);
        let into = has(lines, |step| matches!(step, Step::Clone(clone) if clone.into.is_some()));
        let joins = |step: &Step| matches!(step, Step::Namespace(namespaces::Action::JoinProcess(_, flags)) if flags & cgroup != 0);
        !into || !has(lines, joins)
    }),
    ("the child attaches itself before it changes anything else", |lines| {
        !has(lines, |step| matches!(step, Step::Attach(_)))
            || child(lines).next().is_some_and(|step| matches!(step, Step::Attach(_)))
    }),
    ("what the parent's children get is its own again right after the clone", |lines| {
        let changed = |step: &Step| match step {
            Step::Namespace(namespaces::Action::JoinPidForChildren) => Some(NamespaceKind::Pid),
            Step::Namespace(namespaces::Action::NewTimeForChildren(_)) => Some(NamespaceKind::Time),
            _ => None,
        };
        let changed: Vec<_> = parent(lines).take_while(|step| !is_clone(step)).filter_map(changed).collect();
        let after = parent(lines).skip_while(|step| !is_clone(step)).skip(1);
        let restored: Vec<_> = after
            .map_while(|step| match step {
                Step::Namespace(namespaces::Action::Restore(kind)) => Some(*kind),
                _ => None,
            })
            .collect();
        let news = count(lines, |step| *step == Step::Namespace(namespaces::Action::NewNetwork));
        changed == restored
            && count(lines, |s| matches!(s, Step::Namespace(namespaces::Action::Restore(_)))) == changed.len() + news
    }),
    ("each namespace that was opened is entered once", |lines| {
        let mut opened = kinds(lines, |action| match action {
            namespaces::Action::Open(kind, _) => Some(*kind),
            namespaces::Action::NewNetwork => Some(NamespaceKind::Network),
            _ => None,
        });
        let mut entered = kinds(lines, |action| match action {
            namespaces::Action::Join(kind) => Some(*kind),
            namespaces::Action::JoinPidForChildren => Some(NamespaceKind::Pid),
            _ => None,
        });
        // The intermediate enters all that are left.
        if has(lines, |step| matches!(step, Step::Clone(clone) if clone.intermediate)) {
            entered = opened.clone();
        }
        opened.sort();
        entered.sort();
        opened == entered
    }),
    ("a child that is put on another processor takes back all of them", |lines| {
        let takes = |step: &Step| matches!(step, Step::Affinity(_));
        !has(lines, |step| *step == Step::Apart)
            || all_before(lines, is_clone, |step| *step == Step::Apart, Side::Parent)
                && all_before(lines, |step| *step == Step::Apart, |step| *step == Step::Tell(Gate::Go), Side::Parent)
                && child(lines).any(takes)
                && before(lines, |step| *step == Step::Await(Gate::Go), takes, Side::Child)
    }),
    ("the user namespace is entered after the others", |lines| {
        let joined = kinds(lines, |action| match action {
            namespaces::Action::Join(kind) => Some(*kind),
            _ => None,
        });
        joined.iter().position(|kind| *kind == NamespaceKind::User).is_none_or(|at| at + 1 == joined.len())
    }),
    ("ids are mapped before anybody becomes root of them", |lines| {
        let writes = |step: &Step| matches!(step, Step::IdMap(idmap::Action::Write(..)));
        all_before(lines, writes, |step| *step == Step::Tell(Gate::Mapped), Side::Parent)
            && all_before(lines, is_clone, writes, Side::Parent)
            && (!has(lines, writes)
                || before(lines, |step| *step == Step::Await(Gate::Mapped), becomes_root, Side::Child))
    }),
    ("the child is root of its user namespace before it makes anything in it", |lines| {
        let makes = |step: &Step| {
            matches!(step, Step::Rootfs(_) | Step::Mount(_) | Step::Device(_) | Step::Name(_) | Step::Sysctl(_))
                || matches!(step, Step::Namespace(namespaces::Action::Unshare(_) | namespaces::Action::LoopbackUp))
        };
        all_before(lines, becomes_root, makes, Side::Child)
    }),
    ("a session comes before its terminal, and the terminal before what hands stdio over", |lines| {
        let terminal = |step: &Step| matches!(step, Step::Terminal(_));
        all_before(lines, |step| *step == Step::Session, terminal, Side::Child)
            && has(lines, |step| *step == Step::Session)
            && has(lines, terminal) == has(lines, |step| matches!(step, Step::Console(_)))
            && !(has(lines, terminal) && has(lines, |step| matches!(step, Step::User(user::Action::Stdio(_)))))
    }),
    (
        "the parent makes a network only after the clone, brings it up, hands it on and leaves it, before anything else",
        |lines| {
            let at = |step: Step| parent(lines).position(|other| *other == step);
            let namespace = |action| at(Step::Namespace(action));
            let made = namespace(namespaces::Action::NewNetwork);
            let [up, told, left] = [
                namespace(namespaces::Action::LoopbackUp),
                at(Step::Tell(Gate::Network)),
                namespace(namespaces::Action::Restore(NamespaceKind::Network)),
            ];
            let Some(made) = made else { return told.is_none() && left.is_none() };
            let own_hooks = has(lines, |step| matches!(step, Step::Hooks(hooks::Kind::CreateContainer, _)));
            let order = if own_hooks { [up, told, left] } else { [told, up, left] };
            order == [1, 2, 3].map(|more| Some(made + more))
                && parent(lines).position(is_clone).is_some_and(|at| at < made)
        },
    ),
    ("the child enters the network that it is given at once, and before it makes anything that shows one", |lines| {
        let enters = |step: &Step| *step == Step::Namespace(namespaces::Action::Join(NamespaceKind::Network));
        let shows = |step: &Step| {
            matches!(step, Step::Sysctl(_) | Step::Hooks(..) | Step::Tell(Gate::Prepared))
                || matches!(step, Step::Rootfs(rootfs::Action::Pivot { .. } | rootfs::Action::Move { .. }))
                || matches!(step, Step::Mount(action) if action.sees_network())
        };
        let heard = child(lines).position(|step| *step == Step::Await(Gate::Network));
        heard.is_none_or(|at| {
            child(lines).position(enters) == Some(at + 1) && child(lines).position(shows).is_none_or(|shown| at < shown)
        })
    }),
    ("paths of the host are opened before the parent is inside", |lines| {
        let inside = |step: &Step| matches!(step, Step::Namespace(namespaces::Action::JoinProcess(..)));
        let opens = |step: &Step| {
            matches!(
                step,
                Step::OpenProc
                    | Step::OpenCgroup(_)
                    | Step::CloneCgroup(_)
                    | Step::OpenTasks(_)
                    | Step::OpenPidFile(_)
                    | Step::PidfdSocket(_)
                    | Step::Console(_)
                    | Step::Agent(_)
            )
        };
        let named = has(lines, |step| matches!(step, Step::PidFile(_)));
        !has(lines, inside)
            || all_before(lines, opens, inside, Side::Parent)
                && named == has(lines, |step| matches!(step, Step::OpenPidFile(_)))
    }),
    ("a pidfd goes to who listened before there was a process, and before that may go on", |lines| {
        let (connects, sends) =
            (|s: &Step| matches!(s, Step::PidfdSocket(_)), |s: &Step| matches!(s, Step::SendPidfd(_)));
        count(lines, connects) == count(lines, sends)
            && all_before(lines, connects, is_clone, Side::Parent)
            && all_before(lines, is_clone, sends, Side::Parent)
            && all_before(lines, sends, |step| *step == Step::Tell(Gate::Go), Side::Parent)
    }),
    ("the root is cut off from the host's and opened before anything is made in it", |lines| {
        let open = |step: &Step| {
            matches!(
                step,
                Step::OpenRoot
                    | Step::Rootfs(
                        rootfs::Action::Propagate(_)
                            | rootfs::Action::Open { .. }
                            | rootfs::Action::OpenOnly { .. }
                            | rootfs::Action::Part { .. }
                    )
                    | Step::Overlay(_)
            )
        };
        let uses = |step: &Step| {
            matches!(step, Step::Mount(_) | Step::Device(_) | Step::Terminal(_) | Step::Mask(_))
                || enters(step)
                || matches!(step, Step::Program(program::Action::MakeDirectory(_)))
        };
        all_before(lines, open, uses, Side::Child) && (has(lines, open) || !has(lines, uses))
    }),
    ("a new container has one root, which its child opens before it makes anything in it", |lines| {
        let makes = |step: &Step| matches!(step, Step::Mount(_) | Step::Device(_)) || enters(step);
        !is_new(lines)
            || count(lines, opens_root) == 1
                && all_before(lines, opens_root, makes, Side::Child)
                && child(lines).any(opens_root)
    }),
    (
        "an image's root is mounted in a new mount namespace, of the host's users, that tells the host nothing",
        |lines| {
            let new = |step: &Step| matches!(step, Step::Clone(clone) if clone.flags & namespaces::flag(NamespaceKind::Mount) != 0);
            let cuts = |step: &Step| matches!(step, Step::Rootfs(rootfs::Action::Propagate(_)));
            let parts = |step: &Step| matches!(step, Step::Rootfs(rootfs::Action::Part { .. }));
            let shared = |step: &Step| *step == Step::Rootfs(rootfs::Action::Propagate(Propagation::Shared));
            let users = |step: &Step| matches!(step, Step::IdMap(_));
            !has(lines, is_overlay)
                || has(lines, new)
                    && !has(lines, users)
                    && before(lines, cuts, is_overlay, Side::Child)
                    && has(lines, shared) == has(lines, parts)
                    && all_before(lines, cuts, parts, Side::Child)
                    && all_before(lines, parts, is_overlay, Side::Child)
        },
    ),
    ("mounts, devices and the terminal come before the root is entered", |lines| {
        let makes = |step: &Step| {
            matches!(step, Step::Device(_) | Step::Terminal(_))
                || matches!(step, Step::Mount(action) if !action.seals())
        };
        !is_new(lines) || all_before(lines, makes, enters, Side::Child) && count(lines, enters) == 1
    }),
    ("masks and what closes for writing come after the root is entered", |lines| {
        let closes = |step: &Step| {
            matches!(step, Step::Mask(_) | Step::Rootfs(rootfs::Action::Readonly | rootfs::Action::Finish(_)))
                || matches!(step, Step::Mount(action) if action.seals())
        };
        all_before(lines, enters, closes, Side::Child)
    }),
    ("what is made in the root is made before it closes for writing", |lines| {
        let closes = |step: &Step| *step == Step::Rootfs(rootfs::Action::Readonly);
        let makes = |step: &Step| {
            matches!(step, Step::Mount(_) | Step::Device(_) | Step::Mask(_))
                || matches!(step, Step::Program(program::Action::MakeDirectory(_)))
        };
        all_before(lines, makes, closes, Side::Child)
    }),
    ("a procfs that nobody can replace is open before anything is written to it", |lines| {
        let writes = |step: &Step| {
            matches!(
                step,
                Step::Sysctl(_)
                    | Step::Terminal(_)
                    | Step::Limit(limits::Action::OomScoreAdj(_))
                    | Step::Label(label::Action::AppArmor(_) | label::Action::Selinux(_))
            )
        };
        let open = position(lines, |step| matches!(step, Step::OpenProc | Step::MountProc));
        position(lines, writes).is_none_or(|at| open.is_some_and(|open| open < at))
    }),
    ("hooks of the runtime see a container with its old root, and its mounts", |lines| {
        let runs = |step: &Step| matches!(step, Step::Hooks(hooks::Kind::Prestart | hooks::Kind::CreateRuntime, _));
        let mount = |step: &Step| matches!(step, Step::Mount(action) if !action.seals());
        all_before(lines, |step| *step == Step::Await(Gate::Prepared), runs, Side::Parent)
            && all_before(lines, runs, |step| *step == Step::Tell(Gate::Hooked), Side::Parent)
            && all_before(lines, mount, |step| *step == Step::Tell(Gate::Prepared), Side::Child)
            && all_before(lines, |step| *step == Step::Await(Gate::Hooked), enters, Side::Child)
            && has(lines, runs) == has(lines, |step| *step == Step::Tell(Gate::Prepared))
            && before(lines, |step| *step == Step::Record(Record::Init), runs, Side::Parent)
    }),
    ("hooks of the container run before the root is entered, or right before the program", |lines| {
        let creates = |step: &Step| matches!(step, Step::Hooks(hooks::Kind::CreateContainer, _));
        let starts = |step: &Step| matches!(step, Step::Hooks(hooks::Kind::StartContainer, _));
        all_before(lines, creates, enters, Side::Child)
            && all_before(lines, |s| matches!(s, Step::Await(Gate::Go) | Step::AwaitStart), starts, Side::Child)
            && (has(lines, is_notifying) && has(lines, |step| matches!(step, Step::AwaitStart))
                || all_before(lines, starts, is_filter, Side::Child))
    }),
    ("what needs rights comes before they end", |lines| {
        let needs = |step: &Step| {
            matches!(
                step,
                Step::Mount(_)
                    | Step::Overlay(_)
                    | Step::Mask(_)
                    | Step::Rootfs(_)
                    | Step::Name(_)
                    | Step::Sysctl(_)
                    | Step::Device(_)
                    | Step::Limit(_)
                    | Step::Namespace(_)
                    | Step::IdMap(_)
                    | Step::Terminal(_)
                    | Step::Label(_)
                    | Step::Session
            ) || matches!(
                step,
                Step::User(user::Action::Home(_) | user::Action::Stdio(_))
                    | Step::Program(program::Action::MakeDirectory(_) | program::Action::Enter(_))
            )
        };
        all_before(lines, needs, |step| matches!(step, Step::Caps(_)) || changes_user(step), Side::Child)
    }),
    ("each right goes after the last call that needs it", |lines| {
        let order: Vec<usize> = child(lines).filter_map(rank).collect();
        order.is_sorted() && order.contains(&GROUPS) && order.contains(&SETS) && order.contains(&BOUNDING)
    }),
    ("the directory of the user is entered by who may, and looked at by who it is", |lines| {
        let enter = |step: &Step| matches!(step, Step::Program(program::Action::Enter(_)));
        let confirm = |step: &Step| matches!(step, Step::Program(program::Action::Confirm(_)));
        before(lines, enter, changes_user, Side::Child)
            && all_before(lines, is_last_of_rights, confirm, Side::Child)
            && has(lines, confirm)
    }),
    ("the filter is the last step before the program, or the last one with rights", |lines| {
        let after: Vec<&Step> = child(lines).skip_while(|step| !is_filter(step)).skip(1).collect();
        let waits = |step: &Step| {
            matches!(step, Step::Tell(Gate::Ready | Gate::Executing) | Step::Await(Gate::Go) | Step::AwaitStart)
                || matches!(step, Step::Hooks(hooks::Kind::StartContainer, _))
        };
        let ends = |step: &Step| rank(step).is_some() || matches!(step, Step::Program(program::Action::Confirm(_)));
        let notifies = has(lines, is_notifying);
        // `create` ends under the filter if its listener goes to an agent, and under no other.
        let created = notifies && has(lines, |step| matches!(step, Step::AwaitStart));
        let bound = has(lines, |step| *step == Step::Caps(caps::Action::NoNewPrivileges));
        let allowed = |step: &Step| {
            is_execve(step)
                || notifies && is_hand_over(step)
                || created && waits(step)
                || !bound && (ends(step) || *step == Step::Tell(Gate::Executing))
        };
        count(lines, is_filter) <= 1
            && after.iter().all(|step| allowed(step))
            && (!has(lines, is_filter) || bound || after.iter().any(|step| matches!(step, Step::Caps(_))))
            && created == after.iter().any(|step| waits(step) && **step != Step::Tell(Gate::Executing))
    }),
    ("a filter that the parent works out is there before the child is let go, and needed no sooner", |lines| {
        let sent = |step: &Step| matches!(step, Step::Compile(_));
        match count(lines, sent) {
            0 => true,
            sent_times => {
                sent_times == 1
                    && all_before(lines, is_clone, sent, Side::Parent)
                    && before(lines, sent, |step| *step == Step::Tell(Gate::Go), Side::Parent)
                    && all_before(lines, |step| *step == Step::Await(Gate::Go), is_filter, Side::Child)
            }
        }
    }),
    ("a child that notifies does nothing until the agent has its listener", |lines| {
        let after = child(lines).skip_while(|step| !is_notifying(step)).skip(1).take(2);
        let hand_over = [&Step::Tell(Gate::Filtered), &Step::Await(Gate::Answered)];
        let steps = count(lines, is_hand_over);
        match has(lines, is_notifying) {
            true => steps == 2 && after.eq(hand_over),
            false => steps == 0,
        }
    }),
    (
        "the thread that hands a listener over is made before the filter, where the profile does not grant what it takes",
        |lines| {
            let wanted = lines.iter().any(|line| {
            matches!(&line.step, Step::Seccomp(filter) if filter.notify.as_ref().is_some_and(|n| n.courier == Courier::Thread))
        });
            let made = |step: &Step| *step == Step::Messenger;
            count(lines, made) == usize::from(wanted) && all_before(lines, made, is_filter, Side::Child)
        },
    ),
    ("nobody can trace the child, from its birth or from its id maps on", |lines| {
        let mapped = has(lines, |step| matches!(step, Step::IdMap(idmap::Action::Write(..))));
        let undumpable = |step: &Step| *step == Step::Undumpable;
        let joins = |step: &Step| matches!(step, Step::Namespace(namespaces::Action::JoinProcess(..)));
        count(lines, undumpable) == 1
            && match mapped {
                true => {
                    let own: Vec<&Step> = child(lines).collect();
                    own.windows(2).any(|two| becomes_root(two[0]) && undumpable(two[1]))
                }
                false => {
                    before(lines, undumpable, is_clone, Side::Parent) && before(lines, undumpable, joins, Side::Parent)
                }
            }
    }),
    ("the parent sends the listener to the agent, and says so, before it waits for the child again", |lines| {
        let connects = |step: &Step| matches!(step, Step::Agent(_));
        let sends = |step: &Step| matches!(step, Step::Notify(_));
        let after = parent(lines).skip_while(|step| **step != Step::Await(Gate::Filtered)).skip(1);
        let after: Vec<&Step> = after.filter(|step| !connects(step)).take(2).collect();
        let once = [connects, sends, is_notifying].map(|step| count(lines, step));
        once[0] == once[2]
            && once[1] == once[2]
            && before(lines, connects, sends, Side::Parent)
            && (once[2] == 0 || matches!(after[..], [Step::Notify(_), Step::Tell(Gate::Answered)]))
    }),
    ("descriptors are closed once everything is found", |lines| {
        let closes = |step: &Step| matches!(step, Step::Program(program::Action::CloseFrom(_)));
        let opens = |step: &Step| {
            matches!(step, Step::OpenProc | Step::OpenRoot | Step::Rootfs(_) | Step::Overlay(_) | Step::Mount(_))
                || matches!(step, Step::Terminal(_))
                || is_find(step)
        };
        count(lines, closes) == 1
            && all_before(lines, opens, closes, Side::Child)
            && before(lines, is_find, closes, Side::Child)
    }),
    ("every line says why it stands there", |lines| {
        lines.iter().all(|line| !line.why.is_empty() && !line.why.contains('\n') && !line.step.to_string().is_empty())
    }),
];

/// The laws that a plan breaks, in words; empty for a good one.
pub fn broken(plan: &Plan) -> Vec<&'static str> {
    LAWS.iter().filter(|(_, holds)| plan.lines.is_empty() || !holds(&plan.lines)).map(|(words, _)| *words).collect()
}

/// Both sides walk the plan, each by itself, each with the words that the other has told it, until both are through.
///
/// Telling never waits: the socket holds many messages. `Err` says who waits for what, and what is left untold is no error: after
/// the start gate it is the starter who hears.
pub fn rehearse(lines: &[Line]) -> Result<(), String> {
    let born = lines.iter().position(|line| is_clone(&line.step)).ok_or("nobody is born")?;
    let of = |side: Side, from: usize| lines[from..].iter().filter(move |l| l.side == side).map(|l| &l.step);
    let mut sides = [of(Side::Parent, 0).collect::<VecDeque<_>>(), of(Side::Child, born).collect()];
    let mut inbox: [VecDeque<Gate>; 2] = Default::default();
    let mut is_born = false;
    loop {
        let mut moved = false;
        for me in [0, 1] {
            while let Some(step) = sides[me].front().copied().filter(|_| me == 0 || is_born) {
                match step {
                    Step::Tell(gate) if is_born => inbox[1 - me].push_back(*gate),
                    Step::Tell(gate) => return Err(format!("{gate:?} is told to nobody")),
                    Step::Await(gate) => match inbox[me].front() {
                        None => break,
                        Some(heard) if heard == gate => drop(inbox[me].pop_front()),
                        Some(heard) => return Err(format!("{heard:?} is heard while waiting for {gate:?}")),
                    },
                    Step::Clone(_) => is_born = true,
                    _ => {}
                }
                sides[me].pop_front();
                moved = true;
            }
        }
        if sides.iter().all(VecDeque::is_empty) {
            return if inbox[1].is_empty() { Ok(()) } else { Err(format!("{:?} is never heard", inbox[1])) };
        }
        if !moved {
            return Err(format!("both wait: {:?} and {:?}", sides[0].front(), sides[1].front()));
        }
    }
}

#[cfg(test)]
mod tests;
