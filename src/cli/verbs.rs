//! The parser of each verb: its options, its usage and its examples.
//!
//! Options are runc's where runc has them, Docker's where only Docker has them. Of those of a verb only the ones are made that the words may name
//! ([`Asked`]): an option has 600 bytes, and all of `exec`'s were half of the time that its words took. They are made one after the other ([`options`]): the same
//! as an array would be a frame of 33 KB on the stack. And clap gets them when all are made: its own list grows with each, and what was
//! allocated in between would leave the old places behind in the arena of `sys::alloc`.

use super::{Asked, Verb};
use clap::{Arg, ArgAction, Command, value_parser};
use std::path::PathBuf;

/// Options, in a list that has room for all from the beginning: name, letter, other name, and how it is made; behind them the words without a name.
macro_rules! options {
    ($asked:expr; $($name:literal $($letter:literal)? $(or $other:literal)?: $kind:ident($($with:expr)?)$(.$more:ident($($value:expr),*))*),+ $(,)?
        $(; $($word:expr),+ $(,)?)?) => {{
        let mut made = Vec::with_capacity([$($name,)+ $($(stringify!($word),)+)?].len());
        $(if $asked.may_be(&[$name, $($other)?], &[$($letter)?]) {
            made.push($kind($name $(, $with)?)$(.$more($($value),*))*$(.short($letter))?$(.visible_alias($other))?);
        })+
        $($(made.push($word);)+)?
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

fn one_id(command: Command, _: Asked) -> Command {
    let example = format!("Example:\n  corten {} web", command.get_name());
    command.arg(id()).after_help(example)
}

fn ids() -> Arg {
    id().num_args(1..)
}

fn words(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).help(help).num_args(0..).trailing_var_arg(true).allow_hyphen_values(true)
}

/// For the verbs that execute a plan.
pub fn traced(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("FILE")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("-")
        .value_parser(value_parser!(PathBuf))
        .help("Print each step as it happened, with times: to standard error, or to FILE")
}

/// What create and run share, from runc.
fn bundle_options(asked: Asked) -> Vec<Arg> {
    options![asked;
        "bundle" 'b': path("Directory of the bundle [the current one]").value_name("DIR"),
        "console-socket": path("Socket that receives the terminal's master end").value_name("SOCKET"),
        "pid-file": path("File for the pid of the first process").value_name("FILE"),
        "pidfd-socket": path("Socket that receives a pidfd of the first process").value_name("SOCKET"),
        "no-pivot": flag("Move and chroot instead of pivot_root (for a root on a ramdisk)"),
        "no-new-keyring": flag("Keep the caller's session keyring"),
        "preserve-fds": value("Pass N more descriptors on, from 3")
            .value_name("N")
            .value_parser(value_parser!(u32))
            .default_value("0"),
    ]
}

/// Docker's habits: changes to the configuration, in memory.
fn habits(asked: Asked) -> Vec<Arg> {
    options![asked;
        "interactive" 'i': flag("Accepted: standard input is always connected"),
        "tty" 't': flag("Give it a terminal"),
        "name": value("The container's id; the words are then the program's arguments").value_name("ID"),
        "network" or "net": value("host: the host's network; none: a new one").value_name("MODE"),
        "mount": many("type=bind,source=S,target=T[,readonly], or type=tmpfs,target=T; repeatable").value_name("SPEC"),
        "entrypoint": value("The program, instead of the configuration's").value_name("PROGRAM"),
        "env" 'e': many("Set KEY=VALUE, or take KEY from the caller; repeatable").value_name("KEY[=VALUE]"),
        "workdir" 'w': value("Working directory").value_name("DIR"),
        "user" 'u': value("User and group: numbers, or names of the container's own files")
            .value_name("USER[:GROUP]"),
        "hostname": value("Host name").value_name("NAME"),
    ]
}

/// The first thing that whoever asks how to run an image has to know.
const HOSTS_NETWORK: &str = "A container of an image has the host's network, unless --network=none is given: what listens in it listens on the host.";

fn run(command: Command, asked: Asked) -> Command {
    let own = options![asked;
        "trace": traced(),
        "detach" 'd': flag("Return when the program runs"),
        "keep": flag("Keep the container when it has ended"),
        "rm": flag("Remove it when it has ended: the default"),
        "no-subreaper": flag("Accepted: corten never becomes a subreaper");
        words("words", "Without --name the id; with it the arguments").value_name("ID | ARG"),
    ];
    let command = if cfg!(feature = "image") { command.before_help(HOSTS_NETWORK) } else { command };
    command
        .args(bundle_options(asked).into_iter().chain(habits(asked)).chain(own))
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

fn create(command: Command, asked: Asked) -> Command {
    let own = options![asked;
        "trace": traced(),
        "no-subreaper": flag("Accepted: corten never becomes a subreaper");
        id(),
    ];
    command
        .args(bundle_options(asked).into_iter().chain(own))
        .after_help("Examples:\n  corten create -b /srv/web web && corten start web\n  corten create --trace -b /srv/web web   # where the time goes")
}

fn exec(command: Command, asked: Asked) -> Command {
    command
        .override_usage("corten exec [OPTIONS] ID COMMAND [ARG…]\n       corten exec [OPTIONS] --process FILE ID")
        .args(options![asked;
        "console-socket": path("Socket that receives the terminal's master end").value_name("SOCKET"),
        "cwd" 'w' or "workdir": value("Working directory").value_name("DIR"),
        "env" 'e': many("Set a variable; KEY alone takes the caller's value; repeatable").value_name("KEY[=VALUE]"),
        "env-file": many("Variables from a file, one a line; repeatable").value_name("FILE"),
        "privileged": flag("All capabilities"),
        "tty" 't': flag("Give it a terminal"),
        "interactive" 'i': flag("Accepted: standard input is always connected"),
        "user" 'u': value("User and group: numbers; names too in a container of an image").value_name("USER[:GROUP]"),
        "additional-gids" 'g': many("A supplementary group, as a number; repeatable")
                .value_name("GID")
                .value_parser(value_parser!(u32)),
        "cgroup": many("Below this cgroup of the container's: [CONTROLLER[,CONTROLLER]:]PATH").value_name("PATH"),
        "process" 'p': path("Take the process from this JSON file").value_name("FILE"),
        "detach" 'd': flag("Return when the program runs"),
        "pid-file": path("File for its pid").value_name("FILE"),
        "pidfd-socket": path("Socket that receives a pidfd of it").value_name("SOCKET"),
        "process-label": value("SELinux label").value_name("LABEL"),
        "apparmor": value("AppArmor profile").value_name("PROFILE"),
        "no-new-privs": flag("Forbid gaining privileges by execve"),
        "cap" 'c': many("Add a capability, CAP_NET_RAW; repeatable").value_name("CAP"),
        "preserve-fds": value("Pass N more descriptors on, from 3")
                .value_name("N")
                .value_parser(value_parser!(u32))
                .default_value("0"),
        "trace": traced(),
        "ignore-paused": flag("Exec into a paused container: it runs when that is resumed");
        id(), words("args", "Program and arguments").value_name("COMMAND"),
    ])
        .after_help("Examples:\n  corten exec -it web sh\n  corten exec -u 1000:1000 -e TERM=xterm web id\n  corten exec --trace web true    # where the time goes")
}

fn stop(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked;
            "time" 't': value("Seconds to wait before SIGKILL [what --stop-timeout said, or 10]")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64));
            ids()
        ])
        .after_help("Example:\n  corten stop -t 30 web db")
}

fn kill(command: Command, asked: Asked) -> Command {
    command
        .override_usage("corten kill [-a] ID [SIGNAL]\n       corten kill [-a] -s SIGNAL ID…")
        .args(options![asked;
            "all" 'a': flag("Signal all processes of the container"),
            "signal" 's': value("The signal; all words are then containers").value_name("SIGNAL");
            id(), Arg::new("rest")
                    .value_name("SIGNAL")
                    .num_args(0..)
                    .help("By name or number: KILL, SIGKILL, 9 [SIGTERM; for a container of an image SIGKILL]"),
        ])
        .after_help("Examples:\n  corten kill web HUP\n  corten kill -s HUP web db")
}

fn rm(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked; "force" 'f': flag("End it first if it runs"); ids()])
        .after_help("Example:\n  corten rm -f web db")
}

fn delete(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked; "force" 'f': flag("End it first if it runs; no such container is success"); id()])
        .after_help("Example:\n  corten delete --force web")
}

fn ps(command: Command, asked: Asked) -> Command {
    let command = command
        .override_usage("corten ps [OPTIONS]\n       corten ps [-f FORMAT] ID [PS-ARG…]")
        .args(options![asked;
        "all" 'a': flag("Also containers that do not run");
        short_f(), id().required(false).help("Show this container's processes instead"), words("args", "Options for ps(1) [-ef]").value_name("PS-ARG"),
    ])
        .after_help("Examples:\n  corten ps -a\n  corten ps web\n  corten ps web -o pid,comm");
    docker_ps(command, asked)
}

/// Docker's `-f` is a filter, runc's the format of one container's processes. Neither can be taken for the other.
fn short_f() -> Arg {
    let help =
        if cfg!(feature = "image") { "KEY=VALUE: as --filter; table or json: as --format" } else { "As --format" };
    Arg::new("f").short('f').value_name("FILTER | FORMAT").num_args(1).action(ArgAction::Append).help(help)
}

#[cfg(feature = "image")]
fn docker_ps(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked;
        "format": value("table, json, or a template: '{{.ID}}\\t{{.Names}}'; with ID table or json").value_name("FORMAT"),
        "filter": many("Only those; keys as ancestor, exited, id, label, name, network, status; repeatable")
                .value_name("KEY=VALUE"),
        "quiet" 'q': flag("Only ids"),
        "no-trunc": flag("Cut nothing off"),
        "size" 's': flag("Also what each has written, and with its image"),
        "latest" 'l': flag("The one that was made last, whatever it does"),
        "last" 'n': value("The N that were made last, whatever they do").value_name("N").value_parser(value_parser!(usize)),
    ])
        .after_help(
            "Examples:\n  corten ps -a --filter status=exited\n  corten ps --format '{{.Names}}: {{.Status}}'\n  corten ps web\n  \
             corten ps web -o pid,comm",
        )
}

#[cfg(not(feature = "image"))]
fn docker_ps(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked; "format": value("How to print it").value_name("FORMAT").value_parser(["table", "json"])])
}

fn list(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked;
            "format" 'f': value("How to print it").value_name("FORMAT").value_parser(["table", "json"]).default_value("table"),
            "quiet" 'q': flag("Only ids"),
        ])
        .after_help("Example:\n  corten list -f json")
}

fn inspect(command: Command, asked: Asked) -> Command {
    let command = command.after_help("Example:\n  corten inspect web | jq '.[0].cgroup'");
    docker_inspect(command, asked)
}

#[cfg(feature = "image")]
fn docker_inspect(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked;
            "format" 'f': value("json, or a template: '{{.State.Pid}}'").value_name("FORMAT"),
            "type": value("Only containers, or only images").value_name("KIND").value_parser(["container", "image"]),
            "size" 's': flag("Of containers also what they have written: SizeRw, and with the image SizeRootFs");
            id().value_name("ID | IMAGE").num_args(1..).help("Containers and images"),
        ])
        .after_help("Examples:\n  corten inspect web | jq '.[0].cgroup'\n  corten inspect -f '{{.State.Pid}}' web")
}

#[cfg(not(feature = "image"))]
fn docker_inspect(command: Command, _: Asked) -> Command {
    command.arg(ids())
}

fn spec(command: Command, asked: Asked) -> Command {
    command
        .args(options![asked; "bundle" 'b': path("Directory to write to [the current one]").value_name("DIR")])
        .after_help("Example:\n  mkdir -p web/rootfs && corten spec -b web")
}

fn unpack(command: Command, _: Asked) -> Command {
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

fn explain(command: Command, asked: Asked) -> Command {
    let own = options![asked;
        "rootless": flag("Plan for an ordinary user (not in this version)");
        words("words", "As for run").value_name("ID | ARG"),
    ];
    command
        .args(bundle_options(asked).into_iter().chain(habits(asked)).chain(own))
        .override_usage("corten explain [OPTIONS] [ID]\n       corten explain [OPTIONS] --name ID [ARG…]")
        .after_help("Example:\n  corten explain -b /srv/web | less -S")
}

/// Docker's options of `run`.
#[cfg(feature = "image")]
fn of_images(asked: Asked) -> Vec<Arg> {
    asked.0.map_or_else(crate::docker::arguments, crate::docker::arguments_among)
}

#[cfg(feature = "image")]
pub fn run_image(command: Command, asked: Asked) -> Command {
    command
        .disable_help_flag(true)
        .args(of_images(asked))
        .args(options![asked; "trace": traced()])
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
pub fn explain_image(command: Command, asked: Asked) -> Command {
    command
        .disable_help_flag(true)
        .args(of_images(asked))
        .args(options![asked; "rootless": flag("Plan for an ordinary user (not in this version)")])
        .override_usage("corten explain [OPTIONS] IMAGE [COMMAND [ARG…]]")
        .after_help("Example:\n  corten explain -m 64m oci:/srv/images:debian sh | less -S")
}
