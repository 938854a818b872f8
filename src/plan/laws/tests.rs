//! The laws hold over the golden plans and over generated ones, and each of them can be broken.

use super::*;
use crate::plan::golden;

mod generated;

fn golden_plan(name: &str) -> Vec<Line> {
    golden::cases().iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no {name}.txt")).plan().lines
}

#[test]
fn golden_plans_keep_the_laws() {
    for case in golden::cases() {
        let plan = case.plan();
        assert_eq!(broken(&plan), Vec::<&str>::new(), "{}", case.name);
        assert_eq!(rehearse(&plan.lines), Ok(()), "{}", case.name);
    }
}

#[test]
fn explain_prints_one_line_per_step() {
    for case in golden::cases() {
        let plan = case.plan();
        let text = crate::plan::explain::text(&plan, "run web", &case.host);
        assert_eq!(text.lines().count(), 1 + plan.lines.len(), "{}:\n{text}", case.name);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{}:\n{text}", case.name);
    }
}

/// Moves the first that matches to right before the other, and gives it that one's side.
fn move_before(lines: &mut Vec<Line>, what: impl Fn(&Step) -> bool, place: impl Fn(&Step) -> bool) {
    let line = lines.remove(position(lines, what).expect("the step to move"));
    let at = position(lines, place).expect("the step to move it to");
    lines.insert(at, line);
}

fn remove(lines: &mut Vec<Line>, what: impl Fn(&Step) -> bool) {
    lines.remove(position(lines, what).expect("the step to remove"));
}

fn double(lines: &mut Vec<Line>, what: impl Fn(&Step) -> bool) {
    let at = position(lines, what).expect("the step to double");
    lines.insert(at, lines[at].clone());
}

fn move_to_end(lines: &mut Vec<Line>, what: impl Fn(&Step) -> bool) {
    let at = position(lines, what).expect("the step to move");
    let line = lines.remove(at);
    lines.insert(lines.len() - 1, line);
}

fn is_mount(step: &Step) -> bool {
    matches!(step, Step::Mount(action) if !action.is_early() && !action.seals())
}

fn is_hook(kind: hooks::Kind) -> impl Fn(&Step) -> bool {
    move |step| matches!(step, Step::Hooks(found, _) if *found == kind)
}

fn joins(kind: NamespaceKind) -> impl Fn(&Step) -> bool {
    move |step| *step == Step::Namespace(namespaces::Action::Join(kind))
}

/// For a law: a golden plan, and what breaks the law in it.
type Breach = (&'static str, &'static str, fn(&mut Vec<Line>));

const MESSENGER: &str =
    "the thread that hands a listener over is made before the filter, where the profile does not grant what it takes";

const BINDS: &str =
    "what binds the program, and what it was made by, is there before it is let go, and before hooks look";
const HANDED_ON: &str =
    "the parent makes a network only after the clone, brings it up, hands it on and leaves it, before anything else";
const ENTERED: &str =
    "the child enters the network that it is given at once, and before it makes anything that shows one";
const SENT: &str = "a filter that the parent works out is there before the child is let go, and needed no sooner";

const LENDS: &str =
    "who lends its memory has nothing left to do but to hear that the program runs, and no child waits for it";

const UNTRACED: &str = "nobody can trace the child, from its birth or from its id maps on";

const ONE_ROOT: &str = "a new container has one root, which its child opens before it makes anything in it";
const IMAGE: &str =
    "an image's root is mounted in a new mount namespace, of the host's users, that tells the host nothing";

const BREACHES: &[Breach] = &[
    (ONE_ROOT, "image", |l| double(l, is_overlay)),
    (ONE_ROOT, "image", |l| remove(l, is_overlay)),
    (ONE_ROOT, "image", |l| move_before(l, is_overlay, enters)),
    (ONE_ROOT, "bare-v2", |l| remove(l, opens_root)),
    (IMAGE, "image", |l| move_before(l, is_overlay, |s| matches!(s, Step::Rootfs(_)))),
    (IMAGE, "image-shared", |l| remove(l, |s| matches!(s, Step::Rootfs(rootfs::Action::Part { .. })))),
    (IMAGE, "image-shared", |l| move_before(l, is_overlay, |s| matches!(s, Step::Rootfs(rootfs::Action::Part { .. })))),
    (IMAGE, "image", |l| {
        let at = position(l, is_clone).unwrap();
        l[at].step = Step::Clone(crate::plan::step::Clone { flags: 0, into: None, intermediate: false, lends: false });
    }),
    (LENDS, "exec", |l| move_before(l, |s| *s == Step::Undumpable, |s| *s == Step::Await(Gate::Executing))),
    (LENDS, "exec", |l| remove(l, |s| *s == Step::Await(Gate::Executing))),
    (LENDS, "exec", |l| {
        let at = position(l, |s| *s == Step::Session).unwrap();
        l[at].step = Step::Await(Gate::Go);
    }),
    ("exactly one clone, by the parent", "bare-v2", |l| double(l, is_clone)),
    ("the child does nothing before it exists", "bare-v2", |l| move_before(l, |s| *s == Step::Session, is_clone)),
    ("exactly one execve, the child's last step", "bare-v2", |l| {
        move_before(l, is_execve, |s| *s == Step::Tell(Gate::Executing))
    }),
    ("each step is on a side that can do it", "bare-v2", |l| {
        let at = position(l, |s| *s == Step::Session).unwrap();
        l[at].side = Side::Parent;
    }),
    ("both sides come to their ends, and hear what they wait for", "hooks", |l| {
        move_before(l, |s| *s == Step::Await(Gate::Hooked), |s| *s == Step::Tell(Gate::Prepared));
    }),
    ("both sides come to their ends, and hear what they wait for", "bare-v2", |l| {
        remove(l, |s| *s == Step::Tell(Gate::Go))
    }),
    ("both sides come to their ends, and hear what they wait for", "bare-v2", |l| {
        remove(l, |s| *s == Step::Await(Gate::Go))
    }),
    ("both sides come to their ends, and hear what they wait for", "new-user", |l| {
        move_before(l, |s| *s == Step::Tell(Gate::Mapped), is_clone);
    }),
    ("after the start gate nothing is awaited of the parent", "bare-create", |l| {
        move_before(l, |s| *s == Step::AwaitStart, |s| *s == Step::Await(Gate::Go));
    }),
    ("the child waits to be started only after the parent has let it go", "bare-create", |l| {
        remove(l, |s| *s == Step::Hold(Hold::Gate))
    }),
    ("the program is found before create is told that all is ready", "bare-create", |l| {
        move_before(l, |s| *s == Step::Tell(Gate::Ready), is_find);
    }),
    ("the last word of the child is followed by the filter and the program alone", "user", |l| {
        move_to_end(l, |s| matches!(s, Step::Program(program::Action::CloseFrom(_))));
    }),
    ("a child that is put on another processor takes back all of them", "bare-v1", |l| {
        remove(l, |s| matches!(s, Step::Affinity(_)))
    }),
    ("a child that is put on another processor takes back all of them", "bare-v1", |l| {
        move_before(l, |s| matches!(s, Step::Affinity(_)), |s| *s == Step::Await(Gate::Go));
    }),
    (HANDED_ON, "new-net", |l| {
        remove(l, |s| *s == Step::Namespace(namespaces::Action::Restore(NamespaceKind::Network)))
    }),
    (HANDED_ON, "new-net", |l| move_before(l, |s| *s == Step::Namespace(namespaces::Action::NewNetwork), is_clone)),
    (ENTERED, "spec-v2", |l| {
        let sysfs = |s: &Step| matches!(s, Step::Mount(action) if action.sees_network());
        move_before(l, sysfs, |s| *s == Step::Await(Gate::Network));
    }),
    (SENT, "seccomp", |l| move_before(l, |s| *s == Step::Tell(Gate::Go), |s| matches!(s, Step::Compile(_)))),
    (SENT, "seccomp", |l| move_before(l, |s| matches!(s, Step::Compile(_)), is_clone)),
    (SENT, "seccomp", |l| move_before(l, is_filter, |s| *s == Step::Await(Gate::Go))),
    ("what will exist is recorded before anything is done", "bare-v1", |l| {
        move_before(l, |s| *s == Step::Record(Record::Intent), |s| matches!(s, Step::OpenTasks(_)));
    }),
    ("the first process is recorded before it is let go", "bare-v2", |l| {
        move_to_end(l, |s| *s == Step::Record(Record::Init))
    }),
    (BINDS, "spec-v2", |l| {
        move_to_end(l, |s| matches!(s, Step::Cgroup(change) if change.can_wait()));
    }),
    (BINDS, "bare-v2", |l| remove(l, |s| *s == Step::Record(Record::Configuration))),
    ("limits stand before the first process exists", "bare-v2", |l| {
        move_before(l, is_clone, |s| matches!(s, Step::Cgroup(_)));
    }),
    ("the first process enters its cgroup in one way, by what was opened before", "bare-v1", |l| {
        remove(l, |s| matches!(s, Step::Attach(_)))
    }),
    ("the first process enters its cgroup in one way, by what was opened before", "bare-v2", |l| {
        remove(l, |s| matches!(s, Step::OpenCgroup(_)))
    }),
    ("who is born into a cgroup is not born in a cgroup namespace that was joined", "exec", |l| {
        for line in l.iter_mut() {
            if let Step::Namespace(namespaces::Action::JoinProcess(_, flags)) = &mut line.step {
                *flags |= namespaces::flag(NamespaceKind::Cgroup);
            }
        }
    }),
    ("the child attaches itself before it changes anything else", "new-cgroup-v1", |l| {
        move_before(
            l,
            |s| matches!(s, Step::Namespace(namespaces::Action::Unshare(_))),
            |s| matches!(s, Step::Attach(_)),
        );
    }),
    ("what the parent's children get is its own again right after the clone", "hooks-restored", |l| {
        remove(l, |s| matches!(s, Step::Namespace(namespaces::Action::Restore(NamespaceKind::Time))))
    }),
    ("what the parent's children get is its own again right after the clone", "hooks-restored", |l| {
        let restore = |s: &Step| matches!(s, Step::Namespace(namespaces::Action::Restore(_)));
        let line = l.remove(position(l, restore).unwrap());
        let at = position(l, is_hook(hooks::Kind::CreateRuntime)).unwrap();
        l.insert(at + 1, line);
    }),
    ("each namespace that was opened is entered once", "join-net", |l| remove(l, joins(NamespaceKind::Network))),
    ("the user namespace is entered after the others", "join-all", |l| {
        move_before(l, joins(NamespaceKind::User), joins(NamespaceKind::Uts));
    }),
    ("ids are mapped before anybody becomes root of them", "new-user", |l| {
        move_before(l, becomes_root, |s| *s == Step::Await(Gate::Mapped));
    }),
    ("the child is root of its user namespace before it makes anything in it", "join-user-new-others", |l| {
        move_before(l, |s| matches!(s, Step::Namespace(namespaces::Action::Unshare(_))), becomes_root);
    }),
    ("a session comes before its terminal, and the terminal before what hands stdio over", "terminal-here", |l| {
        move_before(l, |s| matches!(s, Step::Terminal(_)), |s| *s == Step::Session);
    }),
    ("paths of the host are opened before the parent is inside", "exec", |l| {
        move_before(l, |s| matches!(s, Step::Namespace(_)), |s| matches!(s, Step::CloneCgroup(_)));
    }),
    ("the root is cut off from the host's and opened before anything is made in it", "mounts", |l| {
        move_before(l, is_mount, |s| matches!(s, Step::Rootfs(rootfs::Action::Propagate(_))));
    }),
    ("mounts, devices and the terminal come before the root is entered", "mounts", |l| {
        move_before(l, enters, |s| matches!(s, Step::Device(_)));
    }),
    ("masks and what closes for writing come after the root is entered", "masks", |l| {
        move_before(l, |s| matches!(s, Step::Mask(_)), enters)
    }),
    ("what is made in the root is made before it closes for writing", "readonly", |l| {
        move_before(
            l,
            |s| *s == Step::Rootfs(rootfs::Action::Readonly),
            |s| matches!(s, Step::Program(program::Action::MakeDirectory(_))),
        );
    }),
    ("a procfs that nobody can replace is open before anything is written to it", "names", |l| {
        remove(l, |s| *s == Step::OpenProc)
    }),
    ("hooks of the runtime see a container with its old root, and its mounts", "hooks", |l| {
        move_before(l, enters, |s| *s == Step::Await(Gate::Hooked));
    }),
    ("hooks of the container run before the root is entered, or right before the program", "hooks-inside", |l| {
        move_before(l, enters, is_hook(hooks::Kind::CreateContainer));
    }),
    ("what needs rights comes before they end", "masks", |l| {
        let line = l.remove(position(l, |s| matches!(s, Step::Mask(_))).unwrap());
        let at = position(l, |s| matches!(s, Step::Caps(caps::Action::Bounding(_)))).unwrap();
        l.insert(at + 1, line);
    }),
    ("each right goes after the last call that needs it", "user", |l| {
        move_before(
            l,
            |s| matches!(s, Step::Caps(caps::Action::Sets(_))),
            |s| matches!(s, Step::User(user::Action::User(_))),
        );
    }),
    ("the directory of the user is entered by who may, and looked at by who it is", "user", |l| {
        move_before(l, |s| matches!(s, Step::Program(program::Action::Confirm(_))), changes_user);
    }),
    ("the filter is the last step before the program, or the last one with rights", "seccomp", |l| {
        move_before(l, is_filter, |s| *s == Step::Tell(Gate::Executing));
    }),
    ("the filter is the last step before the program, or the last one with rights", "seccomp-privileged", |l| {
        move_to_end(l, is_filter)
    }),
    ("the filter is the last step before the program, or the last one with rights", "seccomp", |l| {
        double(l, is_filter)
    }),
    ("the filter is the last step before the program, or the last one with rights", "notify-create", |l| {
        move_before(l, is_filter, is_execve);
        move_before(l, |s| *s == Step::Tell(Gate::Filtered), is_execve);
    }),
    ("the filter is the last step before the program, or the last one with rights", "notify", |l| {
        move_before(l, is_filter, |s| *s == Step::Tell(Gate::Executing));
    }),
    ("a child that notifies does nothing until the agent has its listener", "notify", |l| {
        move_before(l, |s| *s == Step::Tell(Gate::Filtered), is_execve);
        move_before(l, |s| *s == Step::Session, |s| *s == Step::Tell(Gate::Filtered));
    }),
    ("a child that notifies does nothing until the agent has its listener", "seccomp", |l| {
        let line = Line { side: Side::Child, step: Step::Tell(Gate::Filtered), place: "".into(), why: "no" };
        l.insert(l.len() - 1, line);
    }),
    (MESSENGER, "notify-thread", |l| remove(l, |s| *s == Step::Messenger)),
    (MESSENGER, "notify-thread", |l| move_to_end(l, |s| *s == Step::Messenger)),
    (UNTRACED, "bare-v2", |l| move_to_end(l, |s| *s == Step::Undumpable)),
    (UNTRACED, "exec", |l| move_before(l, |s| *s == Step::Undumpable, is_clone)),
    (UNTRACED, "new-user", |l| move_before(l, |s| *s == Step::Undumpable, becomes_root)),
    (UNTRACED, "new-user", |l| remove(l, |s| *s == Step::Undumpable)),
    (
        "the parent sends the listener to the agent, and says so, before it waits for the child again",
        "notify-create",
        |l| {
            move_before(l, |s| matches!(s, Step::Notify(_)), |s| *s == Step::Tell(Gate::Go));
        },
    ),
    ("the parent sends the listener to the agent, and says so, before it waits for the child again", "notify", |l| {
        remove(l, |s| matches!(s, Step::Notify(_)));
    }),
    ("the parent sends the listener to the agent, and says so, before it waits for the child again", "notify", |l| {
        move_before(l, |s| *s == Step::Tell(Gate::Answered), |s| matches!(s, Step::Notify(_)));
    }),
    ("paths of the host are opened before the parent is inside", "exec-notify", |l| {
        move_to_end(l, |s| matches!(s, Step::Agent(_)));
    }),
    ("a pidfd goes to who listened before there was a process, and before that may go on", "pidfd-socket", |l| {
        move_to_end(l, |s| matches!(s, Step::SendPidfd(_)));
    }),
    ("a pidfd goes to who listened before there was a process, and before that may go on", "exec-pidfd-socket", |l| {
        remove(l, |s| matches!(s, Step::SendPidfd(_)));
    }),
    ("paths of the host are opened before the parent is inside", "exec-pidfd-socket", |l| {
        move_before(l, |s| matches!(s, Step::PidfdSocket(_)), is_clone);
    }),
    ("descriptors are closed once everything is found", "bare-v2", |l| {
        move_before(l, |s| matches!(s, Step::Program(program::Action::CloseFrom(_))), is_find);
    }),
    ("every line says why it stands there", "bare-v2", |l| l[3].why = ""),
];

#[test]
fn each_law_can_be_broken() {
    for (law, name, breach) in BREACHES {
        let mut plan = Plan { lines: golden_plan(name) };
        breach(&mut plan.lines);
        assert!(broken(&plan).contains(law), "{name}: {law}: not broken; {:?}", broken(&plan));
    }
    for (law, _) in LAWS {
        assert!(BREACHES.iter().any(|(broken, ..)| broken == law), "{law}: nothing here breaks it");
    }
}

#[test]
fn an_empty_plan_keeps_none() {
    assert_eq!(broken(&Plan::default()).len(), LAWS.len());
}
