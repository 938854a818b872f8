//! The options of `run` as they are typed: one table, from which the parser is made.
//!
//! Try it by hand: `docker run --help`. Names, short letters and values are Docker's. A flag may be given a value (`--rm=false`), as Go's flag
//! parser has it. The first word that is no option is the image, and what follows belongs to the program inside.
//!
//! The table also knows the options that this version does not have but that people type (`-d`, `-p`, `--restart`): an option that is refused by name is a
//! better answer than one that is unknown.
//!
//! What goes wrong: a parser of fifty options costs a tenth of a millisecond where nothing is warm, and a bundle has no use for it. So who
//! asks for a bundle (see `form`) need never build it.

use crate::error;
use crate::error::Result;
use clap::{Arg, ArgAction, ArgMatches};
use std::ffi::OsString;

/// What stands after an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` or `=false`.
    Flag,
    /// One value; given twice, the last counts.
    One(&'static str),
    /// One value each time.
    Many(&'static str),
}

/// Which forms of `run` know an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// It says that an image is meant.
    Image,
    /// Bundles have it too.
    Both,
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Without its two dashes.
    pub long: &'static str,
    /// Its letter.
    pub short: Option<char>,
    /// Another name for it.
    pub alias: Option<&'static str>,
    /// Its value.
    pub takes: Takes,
    /// Who knows it.
    pub whose: Whose,
    help: &'static str,
}

const fn known(long: &'static str, takes: Takes, help: &'static str) -> Known {
    Known { long, short: None, alias: None, takes, whose: Whose::Image, help }
}

impl Known {
    const fn short(self, letter: char) -> Known {
        Known { short: Some(letter), ..self }
    }

    const fn alias(self, name: &'static str) -> Known {
        Known { alias: Some(name), ..self }
    }

    const fn both(self) -> Known {
        Known { whose: Whose::Both, ..self }
    }
}

use Takes::{Flag, Many, One};

/// Every option of `run` on an image.
pub const OPTIONS: [Known; 54] = [
    known("interactive", Flag, "Connect standard input").short('i').both(),
    known("tty", Flag, "Give it a terminal").short('t').both(),
    known("rm", Flag, "Remove the container when it has ended").both(),
    known("name", One("NAME"), "Name of the container [an adjective and a noun]").both(),
    known("image", One("IMAGE"), "The image: all words are then the command"),
    known("env", Many("KEY[=VALUE]"), "Set a variable, or take it from the caller").short('e').both(),
    known("env-file", Many("FILE"), "Variables from a file, one a line"),
    known("volume", Many("HOST:PATH[:OPTIONS]"), "Bind a host path into the container").short('v'),
    known("mount", Many("SPEC"), "type=bind,source=S,target=T[,readonly], or type=tmpfs,target=T").both(),
    known("tmpfs", Many("PATH[:OPTIONS]"), "Mount an empty tmpfs"),
    known("workdir", One("DIR"), "Working directory").short('w').both(),
    known("user", One("USER[:GROUP]"), "User and group: numbers, or names of the image's own files").short('u').both(),
    known("entrypoint", One("PROGRAM"), "The program, instead of the image's; empty: none").both(),
    known("hostname", One("NAME"), "Host name").short('h').both(),
    known("network", One("MODE"), "host (the default), none, or container:NAME").alias("net").both(),
    known("memory", One("BYTES"), "Memory limit, as 64m or 1g").short('m'),
    known("memory-swap", One("BYTES"), "Memory and swap together; -1: no limit of swap [twice the memory]"),
    known("cpus", One("NUMBER"), "Processor time, as 1.5"),
    known("cpu-shares", One("NUMBER"), "Relative weight of processor time [1024]").short('c'),
    known("cpuset-cpus", One("LIST"), "Processors it may use, as 0-2,5"),
    known("pids-limit", One("NUMBER"), "Most processes; -1: no limit"),
    known("read-only", Flag, "Read-only root"),
    known("cap-add", Many("CAP"), "Add a capability, or ALL"),
    known("cap-drop", Many("CAP"), "Take a capability away, or ALL"),
    known("privileged", Flag, "All capabilities and devices, no seccomp, nothing masked"),
    known("security-opt", Many("OPTION"), "seccomp=FILE|unconfined, no-new-privileges, apparmor=NAME, label=disable"),
    known("device", Many("HOST[:PATH[:rwm]]"), "Give it a device of the host"),
    known("ulimit", Many("NAME=SOFT[:HARD]"), "Resource limit, as nofile=1024:4096"),
    known("sysctl", Many("KEY=VALUE"), "Kernel parameter of a namespace of its own"),
    known("shm-size", One("BYTES"), "Size of /dev/shm [64m]"),
    known("init", Flag, "A first process that reaps and forwards signals"),
    known("label", Many("KEY[=VALUE]"), "A label of the container").short('l'),
    known("stop-signal", One("SIGNAL"), "What `stop` sends [the image's, or SIGTERM]"),
    known("stop-timeout", One("SECONDS"), "How long `stop` waits [10]"),
    known("cgroup-parent", One("PATH"), "Put its cgroup below this one"),
    known("pid", One("MODE"), "host, or container:NAME"),
    known("ipc", One("MODE"), "private (the default), shareable, host, none, or container:NAME"),
    known("uts", One("MODE"), "host"),
    known("add-host", Many("HOST:IP"), "A line for /etc/hosts"),
    known("dns", Many("IP"), "A name server for /etc/resolv.conf"),
    known("cidfile", One("FILE"), "Write the container's id there"),
    known("pull", One("WHEN"), "always, missing (the default) or never"),
    known("platform", One("OS/ARCH"), "Which of the image's platforms"),
    // Docker's, and typed often: refused by name, or warned of.
    known("detach", Flag, "Return when it runs (not in this version)").short('d').both(),
    known("publish", Many("PORTS"), "Discarded: there is no network to publish from").short('p'),
    known("publish-all", Flag, "Discarded, as --publish").short('P'),
    known("restart", One("POLICY"), "no; the others are not in this version"),
    known("volumes-from", Many("NAME"), "(not in this version)"),
    known("link", Many("NAME"), "(not in this version)"),
    known("gpus", One("WHICH"), "(not in this version)"),
    known("log-driver", One("NAME"), "(not in this version)"),
    known("health-cmd", One("COMMAND"), "(not in this version)"),
    known("userns", One("MODE"), "host; the others are not in this version"),
    known("cgroupns", One("MODE"), "private (the default on cgroup v2) or host"),
];

impl Known {
    fn argument(&self) -> Arg {
        let argument = Arg::new(self.long).long(self.long).help(self.help);
        let argument = match self.takes {
            // Not SetTrue: `--rm=false` is known to Go's flag parser. With `=` only, so that `-it` and `--rm IMAGE` stay what they are.
            Flag => argument
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true)
                .value_name("BOOL")
                .hide_possible_values(true)
                .value_parser(clap::value_parser!(bool)),
            // Where one is wanted, the last counts.
            One(value) | Many(value) => {
                argument.num_args(1).allow_hyphen_values(true).value_name(value).action(ArgAction::Append)
            }
        };
        let argument = match self.short {
            Some(letter) => argument.short(letter),
            None => argument,
        };
        match self.alias {
            Some(name) => argument.visible_alias(name),
            None => argument,
        }
    }

    /// Could the word be this option? A value may look so too, and a letter stand among others: one too many does no harm.
    fn may_be(&self, word: &[u8]) -> bool {
        match word.strip_prefix(b"--") {
            Some(rest) => [Some(self.long), self.alias].iter().flatten().any(|name| rest.starts_with(name.as_bytes())),
            None => word.first() == Some(&b'-') && self.short.is_some_and(|letter| word.contains(&(letter as u8))),
        }
    }
}

/// The parser of every option, and of the words, whose id is `words`. `-h` is the host name's, as with Docker: the command has to be built with
/// `disable_help_flag(true)`, and `--help` is among these.
pub fn arguments() -> Vec<Arg> {
    of(OPTIONS.iter())
}

/// The parser of those options that one of these words may be. What it understands, it understands as the other does.
pub fn arguments_among(words: &[OsString]) -> Vec<Arg> {
    of(OPTIONS.iter().filter(|known| words.iter().any(|word| known.may_be(word.as_encoded_bytes()))))
}

fn of<'a>(options: impl Iterator<Item = &'a Known>) -> Vec<Arg> {
    let help = Arg::new("help").long("help").help("Print help").action(ArgAction::Help);
    let words = Arg::new("words")
        .value_name("IMAGE [COMMAND…]")
        .help("The image, and the command instead of its own")
        .num_args(0..)
        // From the first on, all are words. Were that one allowed a dash, `-m2g` would be it, because `g` is no option.
        .trailing_var_arg(true);
    options.map(Known::argument).chain([help, words]).collect()
}

/// What `-P` publishes.
pub const ALL: &str = "all";

/// The options as they were typed. What is empty or absent was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The image: `--image`, or the first word.
    pub image: String,
    /// The words after it.
    pub command: Vec<String>,
    /// `-i`
    pub interactive: bool,
    /// `-t`
    pub tty: bool,
    /// `--rm`
    pub rm: bool,
    /// `--name`
    pub name: Option<String>,
    /// `-e`
    pub env: Vec<String>,
    /// `--env-file`
    pub env_file: Vec<String>,
    /// `-v`
    pub volume: Vec<String>,
    /// `--mount`
    pub mount: Vec<String>,
    /// `--tmpfs`
    pub tmpfs: Vec<String>,
    /// `-w`
    pub workdir: Option<String>,
    /// `-u`
    pub user: Option<String>,
    /// `--entrypoint`; `Some` of nothing takes the image's away.
    pub entrypoint: Option<String>,
    /// `--hostname`
    pub hostname: Option<String>,
    /// `--network`
    pub network: Option<String>,
    /// `-m`
    pub memory: Option<String>,
    /// `--memory-swap`
    pub memory_swap: Option<String>,
    /// `--cpus`
    pub cpus: Option<String>,
    /// `--cpu-shares`
    pub cpu_shares: Option<String>,
    /// `--cpuset-cpus`
    pub cpuset_cpus: Option<String>,
    /// `--pids-limit`
    pub pids_limit: Option<String>,
    /// `--read-only`
    pub read_only: bool,
    /// `--cap-add`
    pub cap_add: Vec<String>,
    /// `--cap-drop`
    pub cap_drop: Vec<String>,
    /// `--privileged`
    pub privileged: bool,
    /// `--security-opt`
    pub security_opt: Vec<String>,
    /// `--device`
    pub device: Vec<String>,
    /// `--ulimit`
    pub ulimit: Vec<String>,
    /// `--sysctl`
    pub sysctl: Vec<String>,
    /// `--shm-size`
    pub shm_size: Option<String>,
    /// `--init`
    pub init: bool,
    /// `--label`
    pub label: Vec<String>,
    /// `--stop-signal`
    pub stop_signal: Option<String>,
    /// `--stop-timeout`
    pub stop_timeout: Option<String>,
    /// `--cgroup-parent`
    pub cgroup_parent: Option<String>,
    /// `--cgroupns`
    pub cgroupns: Option<String>,
    /// `--pid`
    pub pid: Option<String>,
    /// `--ipc`
    pub ipc: Option<String>,
    /// `--uts`
    pub uts: Option<String>,
    /// `--add-host`
    pub add_host: Vec<String>,
    /// `--dns`
    pub dns: Vec<String>,
    /// `--cidfile`
    pub cidfile: Option<String>,
    /// `--pull`
    pub pull: Option<String>,
    /// `--platform`
    pub platform: Option<String>,
    /// `-p`, and `-P` as [`ALL`].
    pub publish: Vec<String>,
}

impl Options {
    /// What was typed, out of matches of [`arguments`]. Refuses by name what this version does not have; a flag that the parser at hand does not define counts as
    /// not given.
    pub fn typed(matches: &ArgMatches) -> Result<Options> {
        let flag = |name: &str| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or_default();
        let many = |name: &str| -> Vec<String> {
            matches.try_get_many::<String>(name).ok().flatten().unwrap_or_default().cloned().collect()
        };
        let one = |name: &str| many(name).pop();
        refuse(&flag, &one, &many)?;
        let mut words = many("words").into_iter();
        let image = match one("image") {
            Some(image) => image,
            None => words.next().ok_or_else(|| error!("no image: `corten run [OPTIONS] IMAGE [COMMAND…]`"))?,
        };
        if image.is_empty() {
            return Err(error!("the image's name is empty"));
        }
        Ok(Options {
            image,
            command: words.collect(),
            interactive: flag("interactive"),
            tty: flag("tty"),
            rm: flag("rm"),
            name: one("name"),
            env: many("env"),
            env_file: many("env-file"),
            volume: many("volume"),
            mount: many("mount"),
            tmpfs: many("tmpfs"),
            workdir: one("workdir"),
            user: one("user"),
            entrypoint: one("entrypoint"),
            hostname: one("hostname"),
            network: one("network"),
            memory: one("memory"),
            memory_swap: one("memory-swap"),
            cpus: one("cpus"),
            cpu_shares: one("cpu-shares"),
            cpuset_cpus: one("cpuset-cpus"),
            pids_limit: one("pids-limit"),
            read_only: flag("read-only"),
            cap_add: many("cap-add"),
            cap_drop: many("cap-drop"),
            privileged: flag("privileged"),
            security_opt: many("security-opt"),
            device: many("device"),
            ulimit: many("ulimit"),
            sysctl: many("sysctl"),
            shm_size: one("shm-size"),
            init: flag("init"),
            label: many("label"),
            stop_signal: one("stop-signal"),
            stop_timeout: one("stop-timeout"),
            cgroup_parent: one("cgroup-parent"),
            cgroupns: one("cgroupns"),
            pid: one("pid"),
            ipc: one("ipc"),
            uts: one("uts"),
            add_host: many("add-host"),
            dns: many("dns"),
            cidfile: one("cidfile"),
            pull: one("pull"),
            platform: one("platform"),
            publish: many("publish").into_iter().chain(flag("publish-all").then(|| ALL.to_owned())).collect(),
        })
    }
}

/// Docker's options that this version does not have, and a word of what to do instead.
const ABSENT: [(&str, &str); 6] = [
    ("volumes-from", "-v HOST:PATH binds a directory of the host"),
    ("link", "containers share the host's network, and find each other on its ports"),
    ("gpus", "--device gives a device"),
    ("log-driver", "the output goes where that of `run` goes"),
    ("health-cmd", ""),
    ("restart", "a shell's `until` or a systemd unit restarts it"),
];

fn refuse(
    flag: &dyn Fn(&str) -> bool,
    one: &dyn Fn(&str) -> Option<String>,
    many: &dyn Fn(&str) -> Vec<String>,
) -> Result<()> {
    if flag("detach") {
        return Err(error!("-d: containers that outlive their terminal are not in this version"));
    }
    for (name, instead) in ABSENT {
        let harmless = |value: &String| match name {
            "restart" => value == "no",
            _ => false,
        };
        let values = OPTIONS.iter().find(|known| known.long == name).map_or(Vec::new(), |known| match known.takes {
            Many(_) => many(name),
            _ => one(name).into_iter().collect(),
        });
        if let Some(value) = values.iter().find(|value| !harmless(value)) {
            let error = super::wrong(&format!("--{name}"), value, "not in this version");
            return Err(if instead.is_empty() { error } else { error.hint(instead) });
        }
    }
    match one("userns") {
        Some(value) if value != "host" => Err(super::wrong("--userns", &value, "not in this version")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn typed(line: &str) -> Result<Options> {
        let command = clap::Command::new("run").disable_help_flag(true).no_binary_name(true).args(arguments());
        let matches = command.try_get_matches_from(line.split_whitespace()).map_err(|e| error!("{e}"))?;
        Options::typed(&matches)
    }

    #[test]
    fn the_parser_is_well_formed() {
        clap::Command::new("run").disable_help_flag(true).args(arguments()).debug_assert();
    }

    fn by(line: &str, arguments: fn(&[OsString]) -> Vec<Arg>) -> std::result::Result<Options, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let command = clap::Command::new("run").disable_help_flag(true).no_binary_name(true);
        let matches = command.args(arguments(&words)).args_override_self(true).try_get_matches_from(words);
        Options::typed(&matches.map_err(|_| "not understood")?).map_err(|e| e.to_string())
    }

    #[test]
    fn a_few_options_are_parsed_as_all_would_parse_them() {
        assert_eq!(arguments_among(&["--rm".into(), "debian".into()]).len(), 3);
        for line in [
            "--rm debian true",
            "-it --name web -v/a:/b -e A=-p --hostname=x debian sh -c --rm",
            "-m2g -ti debian",
            "--net host debian",
            "-P -p 80:80 debian -m 1g",
            "-d debian",
            "--rm=maybe debian",
            "--restart always debian",
            "-x debian",
            "--nothing debian",
            "debian -- -it",
            "--env -m debian",
            "--help",
            "",
        ] {
            assert_eq!(by(line, arguments_among), by(line, |_| arguments()), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_words_too(picks in proptest::collection::vec((0..OPTIONS.len(), 0..8_u8), 0..6)) {
            let word = |(at, form): (usize, u8)| {
                let known = &OPTIONS[at];
                match (form, known.short) {
                    (0, Some(letter)) => format!("-{letter}"),
                    (1, Some(letter)) => format!("-i{letter}"),
                    (2, Some(letter)) => format!("-{letter}t"),
                    (3, _) => format!("--{}=true", known.long),
                    (4, _) => format!("--{}", known.alias.unwrap_or(known.long)),
                    (5, _) => "-1".to_owned(),
                    (6, _) => "debian".to_owned(),
                    _ => format!("--{}", known.long),
                }
            };
            let line = picks.into_iter().map(word).collect::<Vec<_>>().join(" ");
            proptest::prop_assert_eq!(by(&line, arguments_among), by(&line, |_| arguments()), "{}", line);
        }
    }

    #[test]
    fn the_command_of_the_readme() {
        let options = typed(
            "-it --name i-love-potato --network=host --mount type=bind,source=/Code,target=/home --entrypoint /bin/bash debian:12",
        )
        .unwrap();
        assert!(options.interactive && options.tty && !options.rm);
        assert_eq!(options.name.as_deref(), Some("i-love-potato"));
        assert_eq!(options.network.as_deref(), Some("host"));
        assert_eq!(options.mount, ["type=bind,source=/Code,target=/home"]);
        assert_eq!(options.entrypoint.as_deref(), Some("/bin/bash"));
        assert_eq!((options.image.as_str(), options.command.len()), ("debian:12", 0));
    }

    #[test]
    fn options_end_at_the_image() {
        let options = typed("--rm debian ls -l --rm=false -- -x").unwrap();
        assert!(options.rm);
        assert_eq!(options.command, ["ls", "-l", "--rm=false", "--", "-x"]);
        let options = typed("--image debian -- ls -l").unwrap();
        assert_eq!((options.image.as_str(), options.command), ("debian", vec!["ls".to_owned(), "-l".to_owned()]));
    }

    #[test]
    fn flags_take_a_value_after_an_equals_sign_only() {
        assert!(!typed("--rm=false debian").unwrap().rm);
        assert!(typed("--read-only=true debian").unwrap().read_only);
        let options = typed("-ti --privileged debian").unwrap();
        assert!(options.tty && options.interactive && options.privileged);
        assert!(typed("--rm=maybe debian").is_err());
    }

    #[test]
    fn values_may_begin_with_a_dash_and_the_last_of_two_counts() {
        let options = typed("--memory-swap -1 -m 1g -m2g -e A=1 -eB -hbox debian").unwrap();
        assert_eq!(options.memory_swap.as_deref(), Some("-1"));
        assert_eq!(options.memory.as_deref(), Some("2g"));
        assert_eq!(options.env, ["A=1", "B"]);
        assert_eq!(options.hostname.as_deref(), Some("box"));
    }

    #[test]
    fn what_is_not_in_this_version_is_refused_by_name() {
        for (line, words) in [
            ("-d debian", "-d: "),
            ("--restart always debian", "--restart always: not in this version"),
            ("--volumes-from db debian", "--volumes-from db: not in this version"),
            ("--gpus all debian", "--gpus all: not in this version"),
            ("--userns=keep-id debian", "--userns keep-id"),
            ("--network-alias web debian", "--network-alias"),
            ("-it", "no image"),
        ] {
            let error = typed(line).expect_err(line).to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(typed("--restart no --userns host debian").is_ok());
        assert_eq!(typed("-p 80:80 -P debian").unwrap().publish, ["80:80", "all"]);
    }
}
