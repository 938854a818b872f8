//! The parser of each verb: its options, its usage and its examples.
//!
//! Options are runc's where runc has them, Docker's where only Docker has them. They are made one after the other ([`options`]): the same as an array, at
//! 600 bytes apiece, would be a frame of 33 KB on the stack. And clap gets them when all are made: its own list grows with each, and what was
//! allocated in between would leave the old places behind in the arena of `sys::alloc`.

use super::Verb;
use clap::{Arg, ArgAction, Command, value_parser};
use std::path::PathBuf;

/// Options, in a list that has room for all from the beginning.
macro_rules! options {
    ($($option:expr),+ $(,)?) => {{
        let mut made = Vec::with_capacity([$(stringify!($option)),+].len());
        $(made.push($option);)+
        made
    }};
}
pub(super) use options;

/// The verbs, in the order in which `--help` shows them.
pub const VERBS: [Verb; 17] = [
    ("run", "Create and start a container, and wait for it", run),
    ("create", "Create a container that waits to be started", create),
    ("start", "Start a created container", one_id),
    ("exec", "Run another process in a container", exec),
    ("stop", "Ask containers to end, and kill what is left after a while", stop),
    ("kill", "Send a signal to a container", kill),
    ("rm", "Remove containers that have stopped, or with -f any", rm),
    ("delete", "Delete a container's resources, as runc does", delete),
    ("pause", "Freeze all processes of a container", one_id),
    ("resume", "Thaw all processes of a container", one_id),
    ("ps", "List running containers, or the processes of one", ps),
    ("list", "List containers, as runc does", list),
    ("state", "Print the state of a container as JSON", one_id),
    ("inspect", "Print all that is known of containers as JSON", inspect),
    ("spec", "Write a new config.json", spec),
    ("unpack", "Unpack an image into a bundle", unpack),
    ("explain", "Print the steps that make a container, and why", explain),
];

pub fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

pub fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).num_args(1).allow_hyphen_values(true)
}

pub fn path(name: &'static str, help: &'static str) -> Arg {
    value(name, help).value_parser(value_parser!(PathBuf))
}

pub fn many(name: &'static str, help: &'static str) -> Arg {
    value(name, help).action(ArgAction::Append)
}

fn id() -> Arg {
    Arg::new("id").value_name("ID").required(true).help("The container's id")
}

fn one_id(command: Command) -> Command {
    let example = format!("Example:\n  corten {} web", command.get_name());
    command.arg(id()).after_help(example)
}

fn ids(command: Command) -> Command {
    command.arg(id().num_args(1..))
}

fn words(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).help(help).num_args(0..).trailing_var_arg(true).allow_hyphen_values(true)
}

/// For the verbs that execute a plan.
pub fn trace() -> Arg {
    Arg::new("trace")
        .long("trace")
        .value_name("FILE")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("-")
        .value_parser(value_parser!(PathBuf))
        .help("Print each step as it happened, with times: to standard error, or to FILE")
}

/// What create and run share, from runc.
fn bundle_options() -> Vec<Arg> {
    options![
        path("bundle", "Directory of the bundle [the current one]").short('b').value_name("DIR"),
        path("console-socket", "Socket that receives the terminal's master end").value_name("SOCKET"),
        path("pid-file", "File for the pid of the first process").value_name("FILE"),
        path("pidfd-socket", "Socket that receives a pidfd of the first process").value_name("SOCKET"),
        flag("no-pivot", "Move and chroot instead of pivot_root (for a root on a ramdisk)"),
        flag("no-new-keyring", "Keep the caller's session keyring"),
        value("preserve-fds", "Pass N more descriptors on, from 3")
            .value_name("N")
            .value_parser(value_parser!(u32))
            .default_value("0"),
    ]
}

/// Docker's habits: changes to the configuration, in memory.
fn habits() -> Vec<Arg> {
    options![
        flag("interactive", "Accepted: standard input is always connected").short('i'),
        flag("tty", "Give it a terminal").short('t'),
        value("name", "The container's id; the words are then the program's arguments").value_name("ID"),
        value("network", "host: the host's network; none: a new one").visible_alias("net").value_name("MODE"),
        many("mount", "type=bind,source=S,target=T[,readonly], or type=tmpfs,target=T; repeatable").value_name("SPEC"),
        value("entrypoint", "The program, instead of the configuration's").value_name("PROGRAM"),
        many("env", "Set KEY=VALUE, or take KEY from the caller; repeatable").short('e').value_name("KEY[=VALUE]"),
        value("workdir", "Working directory").short('w').value_name("DIR"),
        value("user", "User and group: numbers, or names of the container's own files")
            .short('u')
            .value_name("USER[:GROUP]"),
        value("hostname", "Host name").value_name("NAME"),
    ]
}

/// The first thing that whoever asks how to run an image has to know.
const HOSTS_NETWORK: &str = "A container of an image has the host's network, unless --network=none is given: what listens in it listens on the host.";

fn run(command: Command) -> Command {
    let own = options![
        flag("detach", "Return when the program runs").short('d'),
        flag("keep", "Keep the container when it has ended"),
        flag("rm", "Remove it when it has ended: the default"),
        flag("no-subreaper", "Accepted: corten never becomes a subreaper"),
        words("words", "Without --name the id; with it the arguments").value_name("ID | ARG"),
    ];
    let command = if cfg!(feature = "image") { command.before_help(HOSTS_NETWORK) } else { command };
    command
        .args(bundle_options().into_iter().chain([trace()]).chain(habits()).chain(own))
        .override_usage(if cfg!(feature = "image") {
            "corten run [OPTIONS] ID                  a bundle\n       corten run [OPTIONS] --name ID [ARG…]\n       \
             corten run [OPTIONS] IMAGE [COMMAND…]    an image: its options are at the end"
        } else {
            "corten run [OPTIONS] ID\n       corten run [OPTIONS] --name ID [ARG…]"
        })
        .after_help(
            "Examples:\n  corten run web                                   # bundle in the current directory\n  \
             corten run -b /srv/web -it --name web --network=host \\\n    --mount type=bind,source=$PWD,target=/src,readonly --entrypoint /bin/sh\n  \
             corten run --trace=times web                     # each step with its time, written to a file\n\
             \nThe configuration file itself is never changed.",
        )
}

fn create(command: Command) -> Command {
    let own = options![trace(), flag("no-subreaper", "Accepted: corten never becomes a subreaper"), id()];
    command
        .args(bundle_options().into_iter().chain(own))
        .after_help("Examples:\n  corten create -b /srv/web web && corten start web\n  corten create --trace -b /srv/web web   # where the time goes")
}

fn exec(command: Command) -> Command {
    command
        .override_usage("corten exec [OPTIONS] ID COMMAND [ARG…]\n       corten exec [OPTIONS] --process FILE ID")
        .args(options![
            path("console-socket", "Socket that receives the terminal's master end").value_name("SOCKET"),
            value("cwd", "Working directory").value_name("DIR").visible_alias("workdir").short('w'),
            many("env", "Set a variable; KEY alone takes the caller's value; repeatable").short('e').value_name("KEY[=VALUE]"),
            many("env-file", "Variables from a file, one a line; repeatable").value_name("FILE"),
            flag("privileged", "All capabilities"),
            flag("tty", "Give it a terminal").short('t'),
            flag("interactive", "Accepted: standard input is always connected").short('i'),
            value("user", "User and group: numbers; names too in a container of an image").short('u').value_name("USER[:GROUP]"),
            many("additional-gids", "A supplementary group, as a number; repeatable")
                .short('g')
                .value_name("GID")
                .value_parser(value_parser!(u32)),
            many("cgroup", "Below this cgroup of the container's: [CONTROLLER[,CONTROLLER]:]PATH").value_name("PATH"),
            path("process", "Take the process from this JSON file").short('p').value_name("FILE"),
            flag("detach", "Return when the program runs").short('d'),
            path("pid-file", "File for its pid").value_name("FILE"),
            path("pidfd-socket", "Socket that receives a pidfd of it").value_name("SOCKET"),
            value("process-label", "SELinux label").value_name("LABEL"),
            value("apparmor", "AppArmor profile").value_name("PROFILE"),
            flag("no-new-privs", "Forbid gaining privileges by execve"),
            many("cap", "Add a capability, CAP_NET_RAW; repeatable").short('c').value_name("CAP"),
            value("preserve-fds", "Pass N more descriptors on, from 3")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("0"),
            trace(),
            flag("ignore-paused", "Exec into a paused container: it runs when that is resumed"),
            id(),
            words("args", "Program and arguments").value_name("COMMAND"),
        ])
        .after_help("Examples:\n  corten exec -it web sh\n  corten exec -u 1000:1000 -e TERM=xterm web id\n  corten exec --trace web true    # where the time goes")
}

fn stop(command: Command) -> Command {
    ids(command.arg(
        value("time", "Seconds to wait before SIGKILL [what --stop-timeout said, or 10]")
            .short('t')
            .value_name("SECONDS")
            .value_parser(value_parser!(u64)),
    ))
    .after_help("Example:\n  corten stop -t 30 web db")
}

fn kill(command: Command) -> Command {
    command
        .override_usage("corten kill [-a] ID [SIGNAL]\n       corten kill [-a] -s SIGNAL ID…")
        .args(options![
            flag("all", "Signal all processes of the container").short('a'),
            value("signal", "The signal; all words are then containers").short('s').value_name("SIGNAL"),
            id(),
            Arg::new("rest")
                .value_name("SIGNAL")
                .num_args(0..)
                .help("By name or number: KILL, SIGKILL, 9 [SIGTERM; for a container of an image SIGKILL]"),
        ])
        .after_help("Examples:\n  corten kill web HUP\n  corten kill -s HUP web db")
}

fn rm(command: Command) -> Command {
    ids(command.arg(flag("force", "End it first if it runs").short('f'))).after_help("Example:\n  corten rm -f web db")
}

fn delete(command: Command) -> Command {
    command
        .arg(flag("force", "End it first if it runs; no such container is success").short('f'))
        .arg(id())
        .after_help("Example:\n  corten delete --force web")
}

fn ps(command: Command) -> Command {
    let command = command
        .override_usage("corten ps [OPTIONS]\n       corten ps [-f FORMAT] ID [PS-ARG…]")
        .args(options![
            flag("all", "Also containers that do not run").short('a'),
            short_f(),
            id().required(false).help("Show this container's processes instead"),
            words("args", "Options for ps(1) [-ef]").value_name("PS-ARG"),
        ])
        .after_help("Examples:\n  corten ps -a\n  corten ps web\n  corten ps web -o pid,comm");
    docker_ps(command)
}

/// Docker's `-f` is a filter, runc's the format of one container's processes. Neither can be taken for the other.
fn short_f() -> Arg {
    let help =
        if cfg!(feature = "image") { "KEY=VALUE: as --filter; table or json: as --format" } else { "As --format" };
    Arg::new("f").short('f').value_name("FILTER | FORMAT").num_args(1).action(ArgAction::Append).help(help)
}

#[cfg(feature = "image")]
fn docker_ps(command: Command) -> Command {
    command
        .args(options![
            value("format", "table, json, or a template: '{{.ID}}\\t{{.Names}}'; with ID table or json").value_name("FORMAT"),
            many("filter", "Only those; keys as ancestor, exited, id, label, name, network, status; repeatable")
                .value_name("KEY=VALUE"),
            flag("quiet", "Only ids").short('q'),
            flag("no-trunc", "Cut nothing off"),
            flag("size", "Also what each has written, and with its image").short('s'),
            flag("latest", "The one that was made last, whatever it does").short('l'),
            value("last", "The N that were made last, whatever they do").short('n').value_name("N").value_parser(value_parser!(usize)),
        ])
        .after_help(
            "Examples:\n  corten ps -a --filter status=exited\n  corten ps --format '{{.Names}}: {{.Status}}'\n  corten ps web\n  \
             corten ps web -o pid,comm",
        )
}

#[cfg(not(feature = "image"))]
fn docker_ps(command: Command) -> Command {
    command.arg(value("format", "How to print it").value_name("FORMAT").value_parser(["table", "json"]))
}

fn list(command: Command) -> Command {
    command
        .arg(
            value("format", "How to print it")
                .short('f')
                .value_name("FORMAT")
                .value_parser(["table", "json"])
                .default_value("table"),
        )
        .arg(flag("quiet", "Only ids").short('q'))
        .after_help("Example:\n  corten list -f json")
}

fn inspect(command: Command) -> Command {
    let command = command.after_help("Example:\n  corten inspect web | jq '.[0].cgroup'");
    docker_inspect(command)
}

#[cfg(feature = "image")]
fn docker_inspect(command: Command) -> Command {
    command
        .args(options![
            value("format", "json, or a template: '{{.State.Pid}}'").short('f').value_name("FORMAT"),
            value("type", "Only containers, or only images").value_name("KIND").value_parser(["container", "image"]),
            flag("size", "Of containers also what they have written: SizeRw, and with the image SizeRootFs").short('s'),
            id().value_name("ID | IMAGE").num_args(1..).help("Containers and images"),
        ])
        .after_help("Examples:\n  corten inspect web | jq '.[0].cgroup'\n  corten inspect -f '{{.State.Pid}}' web")
}

#[cfg(not(feature = "image"))]
fn docker_inspect(command: Command) -> Command {
    ids(command)
}

fn spec(command: Command) -> Command {
    command
        .arg(path("bundle", "Directory to write to [the current one]").short('b').value_name("DIR"))
        .after_help("Example:\n  mkdir -p web/rootfs && corten spec -b web")
}

fn unpack(command: Command) -> Command {
    command
        .arg(Arg::new("image").value_name("IMAGE").required(true).help(
            "An image of the store, or at a path: oci:DIR[:TAG], docker-archive:FILE[:NAME], oci-archive:FILE[:NAME]",
        ))
        .arg(
            Arg::new("bundle")
                .value_name("BUNDLE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The directory to make"),
        )
        .after_help(
            "Examples:\n  corten unpack debian:12 /srv/web && corten run -b /srv/web web\n  \
             corten unpack oci:/srv/images/busybox:latest /srv/web",
        )
}

fn explain(command: Command) -> Command {
    let own = options![
        flag("rootless", "Plan for an ordinary user (not in this version)"),
        words("words", "As for run").value_name("ID | ARG"),
    ];
    command
        .args(bundle_options().into_iter().chain(habits()).chain(own))
        .override_usage("corten explain [OPTIONS] [ID]\n       corten explain [OPTIONS] --name ID [ARG…]")
        .after_help("Example:\n  corten explain -b /srv/web | less -S")
}

#[cfg(feature = "image")]
pub fn run_image(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .args(crate::docker::arguments().into_iter().chain([trace()]))
        .override_usage(
            "corten run [OPTIONS] IMAGE [COMMAND [ARG…]]\n       corten run [OPTIONS] --image IMAGE [COMMAND [ARG…]]",
        )
        .before_help(HOSTS_NETWORK)
        .after_help(
            "Examples:\n  corten run --rm -it debian:12 bash\n  corten run -it --name web --network=host \\\n    \
             --mount type=bind,source=$PWD/src,target=/src --entrypoint /bin/sh debian:12",
        )
}

#[cfg(feature = "image")]
pub fn explain_image(command: Command) -> Command {
    command
        .disable_help_flag(true)
        .args(crate::docker::arguments())
        .arg(flag("rootless", "Plan for an ordinary user (not in this version)"))
        .override_usage("corten explain [OPTIONS] IMAGE [COMMAND [ARG…]]")
        .after_help("Example:\n  corten explain -m 64m oci:/srv/images:debian sh | less -S")
}
