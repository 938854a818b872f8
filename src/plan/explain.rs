//! A plan as text: one line per step.

use super::Plan;
use super::step::{Gate, Hold, Record, Side, Step};
use crate::input::host::Host;
use crate::setup::hooks;
use crate::sys::process::Flags;
use std::fmt::{self, Write as _};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Tell(Gate::Filtered) => f.write_str("sendmsg(filtered, listener); close(listener)"),
            Step::Tell(gate) => write!(f, "sendmsg({})", gate.word()),
            Step::Await(Gate::Filtered) => f.write_str("recvmsg(filtered, listener)"),
            Step::Await(gate) => write!(f, "recvmsg({})", gate.word()),
            Step::Record(Record::Intent) => f.write_str(
                "mkdirat(state, 0700); openat(state, O_DIRECTORY); \
                 openat(state, \"held\", O_CREAT|O_EXCL); openat(state, \"intent.json\", O_CREAT|O_EXCL); write(); renameat2()",
            ),
            Step::Record(Record::Configuration) => {
                f.write_str(
                    "openat(state, \"config.json\", O_CREAT|O_EXCL); write(); [openat(state, \"exec\", O_CREAT|O_EXCL); write()]",
                )
            }
            Step::Record(Record::Init | Record::Ready) => f.write_str(
                "[fstat(pidfd)]; [openat(\"/proc/PID/stat\"); read()]; openat(state, \".\"); flock(LOCK_EX); [fstat(state)]; newfstatat(state); \
                 openat(state, \".state\", O_CREAT|O_EXCL); write(); renameat(state, \".state\", \"state.json\")",
            ),
            Step::Cgroup(change) => change.fmt(f),
            Step::OpenTasks(files) => {
                for (index, file) in files.iter().enumerate() {
                    write!(f, "{}openat({file:?}, O_WRONLY)", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Step::OpenCgroup(dir) => write!(f, "openat({dir:?}, O_PATH)"),
            Step::CloneCgroup(dir) => write!(f, "open_tree({dir:?}, CLONE)"),
            Step::Attach(count) => {
                for index in 0..*count {
                    write!(f, "{}write(tasks, \"0\")", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Step::Affinity(None) => f.write_str("sched_setaffinity(0, all)"),
            Step::Affinity(Some(list)) => write!(f, "sched_setaffinity(0, {list:?})"),
            Step::Apart => f.write_str("sched_setaffinity(child, all but this)"),
            Step::Namespace(action) => action.fmt(f),
            Step::Console(None) => f.write_str("socketpair(AF_UNIX)"),
            Step::Console(Some(path)) => write!(f, "socket(AF_UNIX); connect({path:?})"),
            Step::Hold(Hold::Lock) => f.write_str("flock(held, LOCK_EX)"),
            Step::Hold(Hold::Gate) => f.write_str("socket(AF_UNIX); bind(start); listen()"),
            Step::Clone(clone) => {
                let into = clone.into.as_ref().map(|dir| format!(", into {}", dir.display())).unwrap_or_default();
                if clone.intermediate {
                    write!(
                        f,
                        "socketpair(); socketpair(); clone3(0); setns(user); clone3(PARENT|{}{into})",
                        Flags(clone.flags)
                    )
                } else {
                    let lends = if clone.lends { "VM|VFORK|" } else { "" };
                    write!(f, "socketpair(); clone3({lends}{}{into})", Flags(clone.flags))
                }
            }
            Step::IdMap(action) => action.fmt(f),
            Step::Session => f.write_str("umask(022); setsid()"),
            Step::OpenProc => f.write_str("openat(\"/proc\", O_PATH); fstatfs(); fstat()"),
            Step::MountProc => f.write_str("fsopen(\"proc\"); fsconfig(CMD_CREATE); fsmount(0)"),
            Step::OpenRoot => f.write_str("openat(\"/\", O_PATH)"),
            Step::Rootfs(action) => action.fmt(f),
            Step::Overlay(action) => action.fmt(f),
            Step::Mount(action) => action.fmt(f),
            Step::Device(action) => action.fmt(f),
            Step::Mask(action) => action.fmt(f),
            Step::Label(action) => action.fmt(f),
            Step::Terminal(action) => action.fmt(f),
            Step::Hooks(kind, list) => {
                for (index, hook) in list.iter().enumerate() {
                    let action = hooks::Action { kind: *kind, index, hook: hook.clone() };
                    write!(f, "{}{action}", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Step::Name(action) => action.fmt(f),
            Step::Sysctl(action) => action.fmt(f),
            Step::Limit(action) => action.fmt(f),
            Step::User(action) => action.fmt(f),
            Step::Caps(action) => action.fmt(f),
            Step::Program(action) => action.fmt(f),
            Step::Undumpable => f.write_str("prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE)"),
            Step::Messenger => f.write_str(
                "mmap(page); userfaultfd(); ioctl(UFFDIO_API); ioctl(UFFDIO_REGISTER, page); mmap(stack); clone(THREAD)",
            ),
            Step::Compile(filter) => write!(f, "compile({} instructions)", filter.program().map_or(0, <[_]>::len)),
            Step::Seccomp(filter) => filter.fmt(f),
            Step::Agent(path) => write!(f, "socket(AF_UNIX); connect({path:?})"),
            Step::Notify(_) => f.write_str("sendmsg(agent, state, listener)"),
            Step::PidFile(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let aside = path.with_file_name(format!(".{name}.PID"));
                write!(f, "[openat({aside:?}, O_CREAT|O_TRUNC)]; write(pid); [renameat({aside:?}, {path:?})]")
            }
            Step::OpenPidFile(path) => write!(f, "openat({path:?}, O_CREAT|O_TRUNC)"),
            Step::PidfdSocket(path) => write!(f, "socket(AF_UNIX); connect({path:?})"),
            Step::SendPidfd(whose) => write!(f, "sendmsg(pidfd-socket, {:?}, pidfd)", whose.word()),
            Step::AwaitStart => f.write_str("accept4(start); sendmsg(go)"),
        }
    }
}

impl Step {
    /// Where the kernel's own words on it are.
    pub fn page(&self) -> &'static str {
        match self {
            Step::Tell(_)
            | Step::Await(_)
            | Step::Console(_)
            | Step::Hold(Hold::Gate)
            | Step::AwaitStart
            | Step::PidfdSocket(_)
            | Step::SendPidfd(_)
            | Step::Agent(_) => "unix(7)",
            Step::Record(_) => "rename(2)",
            Step::Hold(Hold::Lock) => "flock(2)",
            Step::Cgroup(_) | Step::OpenTasks(_) | Step::OpenCgroup(_) | Step::CloneCgroup(_) | Step::Attach(_) => {
                "cgroups(7)"
            }
            Step::Affinity(_) | Step::Apart => "sched_setaffinity(2)",
            Step::Namespace(_) => "namespaces(7)",
            Step::Clone(_) => "clone3(2)",
            Step::IdMap(_) => "user_namespaces(7)",
            Step::Session => "setsid(2)",
            Step::OpenProc | Step::MountProc | Step::Sysctl(_) => "proc(5)",
            Step::OpenRoot => "openat2(2)",
            Step::Rootfs(_) => "pivot_root(2)",
            Step::Overlay(_) => "mount(8)",
            Step::Mount(_) => "mount_namespaces(7)",
            Step::Mask(_) => "open_tree(2)",
            Step::Device(_) => "mknod(2)",
            Step::Label(_) => "session-keyring(7)",
            Step::Terminal(_) => "pty(7)",
            Step::Hooks(..) | Step::Program(_) => "execve(2)",
            Step::Name(_) => "uts_namespaces(7)",
            Step::Limit(_) => "getrlimit(2)",
            Step::User(_) => "credentials(7)",
            Step::Caps(_) => "capabilities(7)",
            Step::Compile(_) | Step::Seccomp(_) => "seccomp(2)",
            Step::Notify(_) => "seccomp_unotify(2)",
            Step::Messenger => "userfaultfd(2)",
            Step::Undumpable => "PR_SET_DUMPABLE(2const)",
            Step::PidFile(_) | Step::OpenPidFile(_) => "open(2)",
        }
    }
}

impl Gate {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Gate::Mapped => "mapped",
            Gate::Network => "network",
            Gate::Prepared => "prepared",
            Gate::Hooked => "hooked",
            Gate::Ready => "ready",
            Gate::Go => "go",
            Gate::Executing => "executing",
            Gate::Filtered => "filtered",
            Gate::Answered => "answered",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Parent => "parent",
            Side::Child => "child",
        })
    }
}

/// The whole plan as a text, see [`write()`].
pub fn text(plan: &Plan, what: &str, host: &Host) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write(&mut text, plan, what, host);
    text
}

/// Writes the whole plan: number, side, calls, place, reason, man page; the columns are separated by two spaces or more. `what` is the
/// verb and the id.
///
/// Nothing is kept of what is written: the paths of a large configuration stand in many calls.
pub fn write(to: &mut dyn fmt::Write, plan: &Plan, what: &str, host: &Host) -> fmt::Result {
    writeln!(to, "{what}: {} steps; [in brackets]: if it is needed, […]…: any number of times", plan.lines.len())?;
    for assumed in &host.assumed {
        writeln!(to, "assumed: {assumed}")?;
    }
    let calls = plan.lines.iter().map(|line| width(&line.step)).collect::<Vec<_>>();
    let places = plan.lines.iter().map(|line| width(&line.place())).collect::<Vec<_>>();
    let widest = |column: &[usize], most: usize| column.iter().copied().filter(|w| *w <= most).max().unwrap_or(0);
    let (call_width, place_width) = (widest(&calls, 76), widest(&places, 40));
    for (index, line) in plan.lines.iter().enumerate() {
        write!(to, "{:>3} {:6}  ", index + 1, line.side)?;
        write!(OneLine { to, width: 0 }, "{}", line.step)?;
        write!(to, "{:1$}  ", "", call_width.saturating_sub(calls[index]))?;
        let place = line.place();
        write!(OneLine { to, width: 0 }, "{}", if place.is_empty() { "-" } else { &place })?;
        write!(to, "{:1$}  ", "", place_width.saturating_sub(places[index].max(1)))?;
        writeln!(to, "{}  {}", line.why, line.step.page())?;
    }
    Ok(())
}

/// What is shown, on one line.
pub fn one_line(shown: &dyn fmt::Display) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = write!(OneLine { to: &mut text, width: 0 }, "{shown}");
    text
}

/// Writes on one line: a name from the configuration may hold line ends, and sequences that change a terminal.
struct OneLine<'a> {
    to: &'a mut dyn fmt::Write,
    /// Characters so far.
    width: usize,
}

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            let plain = part.trim_end_matches(char::is_control);
            self.to.write_str(plain)?;
            self.width += plain.chars().count();
            for c in part[plain.len()..].chars().flat_map(char::escape_debug) {
                self.to.write_char(c)?;
                self.width += 1;
            }
        }
        Ok(())
    }
}

/// How many characters [`OneLine`] makes of it.
fn width(shown: &dyn fmt::Display) -> usize {
    struct Nowhere;
    impl fmt::Write for Nowhere {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            Ok(())
        }
    }
    let mut line = OneLine { to: &mut Nowhere, width: 0 };
    let _ = write!(line, "{shown}");
    line.width
}
