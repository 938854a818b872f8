//! The verbs on images as typed: Docker's words and options.
//!
//! What Docker has and this version has not is in a table of its own ([`refusal`]): the option is understood, and refused with the reason.
//! Of what is in neither, clap says that it is not known.

use super::verbs::{flag, many, path, value};
use super::{Args, Asked, Verb};
use clap::{Arg, ArgAction, Command, value_parser};

/// The verbs on images, in the order in which `--help` shows them.
pub const VERBS: [Verb; 11] = [
    ("pull", "Get an image from a registry", pull),
    ("push", "Send an image to a registry", push),
    ("login", "Keep name and password for a registry", login),
    ("logout", "Forget them", logout),
    ("load", "Take images out of an archive", load),
    ("save", "Write images into an archive", save),
    ("images", "List images", images),
    ("rmi", "Remove images, or take names away from them", rmi),
    ("tag", "Give an image another name", tag),
    ("history", "Show how an image was built", history),
    ("prune", "Remove what nobody uses: containers that have ended, images, layers", prune),
];

/// Is it one of them?
pub fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|(name, ..)| *name == word)
}

/// An option of Docker's that is refused.
struct Refused {
    verb: &'static str,
    option: &'static str,
    short: Option<char>,
    /// What stands for its value; empty if it has none.
    value: &'static str,
    why: &'static str,
}

const fn refused(verb: &'static str, option: &'static str, value: &'static str, why: &'static str) -> Refused {
    Refused { verb, option, short: None, value, why }
}

const ONE_PLATFORM: &str = "an image is kept for one platform, the one that it was pulled for";

const REFUSED: [Refused; 10] = [
    Refused { short: Some('a'), ..refused("pull", "all-tags", "", "name each tag that is wanted") },
    refused("pull", "disable-content-trust", "", "signatures are not verified in this version"),
    refused("push", "disable-content-trust", "", "images are not signed in this version"),
    refused("push", "platform", "PLATFORM", ONE_PLATFORM),
    refused("save", "platform", "PLATFORM", ONE_PLATFORM),
    refused("history", "platform", "PLATFORM", ONE_PLATFORM),
    refused("images", "tree", "", "an image is kept for one platform, and has no tree"),
    refused("rmi", "platform", "PLATFORM", ONE_PLATFORM),
    refused("rmi", "no-prune", "", "an image has no parents here that could stay: layers go when no image has them"),
    refused("prune", "volumes", "", "there are no volumes in this version"),
];

/// The first option of Docker's that was given and is not in this version: its name, and why.
pub fn refusal(verb: &str, args: &Args) -> Option<String> {
    let given = |refused: &&Refused| refused.verb == verb && args.contains_id(refused.option);
    let Refused { option, why, .. } = REFUSED.iter().find(given)?;
    Some(format!("--{option} is not in this version: {why}"))
}

/// The verb's options, with those that are refused.
fn with(command: Command, args: impl IntoIterator<Item = Arg>) -> Command {
    let verb = command.get_name().to_owned();
    let hidden = REFUSED.iter().filter(|refused| refused.verb == verb).map(|refused| {
        let arg = Arg::new(refused.option).long(refused.option).hide(true);
        let arg = refused.short.map_or(arg.clone(), |short| arg.short(short));
        match refused.value {
            // `--disable-content-trust` is written with and without a value.
            "" => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            name => arg.num_args(1).value_name(name),
        }
    });
    command.args(args.into_iter().chain(hidden))
}

fn image(help: &'static str) -> Arg {
    Arg::new("image").value_name("IMAGE").required(true).help(help)
}

fn quiet(help: &'static str) -> Arg {
    flag("quiet", help).short('q')
}

fn platform() -> Arg {
    value("platform", "Operating system and architecture [this machine's]").value_name("OS/ARCH[/VARIANT]")
}

fn plain_http() -> Arg {
    flag("plain-http", "Speak HTTP without TLS with this registry")
}

fn format() -> Arg {
    value("format", "A template, `table TEMPLATE`, or json").value_name("FORMAT")
}

fn filter(help: &'static str) -> Arg {
    many("filter", help).value_name("KEY=VALUE")
}

fn no_trunc() -> Arg {
    flag("no-trunc", "Show all of long cells")
}

fn pull(command: Command, _: Asked) -> Command {
    let image = image("NAME[:TAG], or NAME@DIGEST");
    with(command, [platform(), plain_http(), quiet("Print only the digest"), image]).after_help(
        "Examples:\n  corten pull debian:12\n  corten pull --platform linux/arm64 registry.lan:5000/team/web@sha256:…\n\
         \nMirrors, certificates and proxies: docs/registries.md.",
    )
}

fn push(command: Command, _: Asked) -> Command {
    let all = flag("all-tags", "All tags of this name").short('a');
    let image = image("NAME[:TAG]: where it goes is in its name");
    with(command, [all, plain_http(), quiet("Print only what was pushed"), image]).after_help(
        "Example:\n  corten tag web registry.lan:5000/team/web:2 && corten push registry.lan:5000/team/web:2",
    )
}

fn server() -> Arg {
    Arg::new("server").value_name("HOST[:PORT]").help("The registry [docker.io]")
}

fn login(command: Command, _: Asked) -> Command {
    let args = [
        value("username", "Name of the user").short('u').value_name("USER"),
        value("password", "The password: everybody on this machine can read it").short('p').value_name("PASSWORD"),
        flag("password-stdin", "Take the password from standard input"),
        plain_http(),
        server(),
    ];
    with(command, args).after_help("Example:\n  corten login -u me --password-stdin registry.lan:5000 <password")
}

fn logout(command: Command, _: Asked) -> Command {
    with(command, [server()]).after_help("Example:\n  corten logout registry.lan:5000")
}

fn load(command: Command, _: Asked) -> Command {
    let input = path("input", "The archive, also compressed [standard input]").short('i').value_name("FILE");
    with(command, [input, platform(), quiet("No progress")])
        .after_help("Examples:\n  corten load -i images.tar\n  docker save debian:12 | corten load")
}

fn save(command: Command, _: Asked) -> Command {
    let args = [
        path("output", "The file to write [standard output]").short('o').value_name("FILE"),
        value("format", "docker: what every tool loads; oci: with the blobs as they were pulled")
            .value_name("FORMAT")
            .value_parser(["docker", "oci"])
            .default_value("docker"),
        image("Names, or ids. A name without a tag is all its tags").num_args(1..),
    ];
    with(command, args).after_help("Example:\n  corten save -o images.tar debian:12 web")
}

fn images(command: Command, _: Asked) -> Command {
    let args = [
        flag("all", "Accepted: there are no intermediate images here").short('a'),
        flag("digests", "Show digests"),
        filter("dangling, label, before, since, until, reference; repeatable").short('f'),
        format(),
        no_trunc(),
        quiet("Only ids"),
        Arg::new("image").value_name("NAME[:TAG]").help("Only these; a pattern with * and ? will do"),
    ];
    with(command, args).after_help(
        "Examples:\n  corten images 'deb*'\n  corten images --format '{{.ID}} {{.Repository}}:{{.Tag}}'\n  \
         corten rmi $(corten images -q -f dangling=true)",
    )
}

fn rmi(command: Command, _: Asked) -> Command {
    let force = flag("force", "Take names away also from what a container uses").short('f');
    with(command, [force, image("Names, or ids").num_args(1..)]).after_help("Example:\n  corten rmi debian:12 web")
}

fn tag(command: Command, _: Asked) -> Command {
    let target = Arg::new("target").value_name("NAME[:TAG]").required(true).help("Its other name");
    with(command, [image("A name, or an id"), target])
        .after_help("Example:\n  corten tag web registry.lan:5000/team/web:2")
}

fn history(command: Command, _: Asked) -> Command {
    let human = Arg::new("human")
        .long("human")
        .short('H')
        .value_name("BOOL")
        .help("Sizes and ages for people")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("true")
        .value_parser(value_parser!(bool))
        .action(ArgAction::Set);
    with(command, [format(), human, no_trunc(), quiet("Only ids"), image("A name, or an id")])
        .after_help("Example:\n  corten history --no-trunc debian:12")
}

fn prune(command: Command, _: Asked) -> Command {
    let args = [
        flag("all", "Also images that have a name, if no container uses them").short('a'),
        flag("force", "Do not ask").short('f'),
        filter("label=KEY[=VALUE], until=AGE; repeatable"),
    ];
    with(command, args).after_help("Examples:\n  corten prune\n  corten prune -af --filter until=240h")
}
