//! The command line as typed: which verb, with which words. What the words mean is decided by the verbs (`commands`).
//!
//! Each verb's parser (`verbs`) is built only when the verb is used: building all of them costs more than starting a container's first
//! process. And a verb is first looked for alone, with the options that the words may name (`args`); the parser that knows all is for help and for
//! mistakes (`matches`).

mod args;
#[cfg(feature = "image")]
pub mod images;
mod verbs;

pub use args::{Args, Asked};

use clap::{ArgMatches, Command};
use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use verbs::{VERBS, flag, options, path, value};
#[cfg(feature = "image")]
use verbs::{explain_image, run_image};

/// Options before the verb.
#[derive(Clone, Debug, Default)]
pub struct Global {
    /// `--root`, if given.
    pub root: Option<PathBuf>,
    /// `--log`, if given.
    pub log: Option<PathBuf>,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--debug`.
    pub debug: bool,
    /// `--systemd-cgroup`.
    pub systemd_cgroup: bool,
    /// `--rootless`, if given.
    pub rootless: Option<String>,
    /// `--store`, if given.
    pub store: Option<PathBuf>,
}

/// What the words of `run` are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A bundle: a directory with a config.json, as runc has it.
    Bundle,
    /// An image, as Docker has it.
    Image,
}

/// Tells which form the words after `run` have; the other argument is `--store`, if it was given. It may have to look at the current directory and the store.
pub type Decide = fn(&[OsString], Option<PathBuf>) -> crate::error::Result<Form>;

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `level=error msg="…"`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The verb and its matches.
#[derive(Debug)]
pub struct Invocation {
    /// Options before the verb.
    pub global: Global,
    /// `run`, `create`, …
    pub verb: String,
    /// Of `run`; a bundle with every other verb.
    pub form: Form,
    /// What was given to it.
    pub args: Args,
    /// When the program was called, and when again from its sealed self, in ticks of `sys::clock`; `main` knows.
    pub began: (u64, u64),
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Stop {
    /// `--help`, `--version`: text for standard output, exit 0.
    Text(String),
    /// Wrong usage: verb (if known) and text for standard error.
    Usage {
        /// Where `--log` pointed, as far as could be told.
        global: Box<Global>,
        /// What is wrong.
        text: String,
        /// The verb, if one was named.
        verb: Option<String>,
        /// What `run` was about.
        form: Form,
    },
}

/// A verb's name, what it does, and what builds its parser.
type Verb = (&'static str, &'static str, fn(Command, Asked) -> Command);

/// The verbs on images, which `--help` shows under a heading of their own.
#[cfg(feature = "image")]
const IMAGES: &[Verb] = &images::VERBS;
#[cfg(not(feature = "image"))]
const IMAGES: &[Verb] = &[];

/// The options before the verb, and no verb yet.
fn program(asked: Asked) -> Command {
    Command::new("corten")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .disable_help_flag(!asked.may_be(&["help"], &['h']))
        // Given twice, the last counts, as in Go: `-i -it`.
        .args_override_self(true)
        .args(options![asked;
            "root": path("Directory of the containers' state [/run/corten, or $XDG_RUNTIME_DIR/corten]").value_name("DIR"),
            "log": path("Write the log to a file instead of standard error").value_name("FILE"),
            "log-format": value("Format of the log").value_name("FORMAT").value_parser(["text", "json"]).default_value("text"),
            "debug": flag("Log each step of the parent"),
            "systemd-cgroup": flag("Let systemd make the cgroups (not in this version)"),
            "rootless": value("Without root's rights (not in this version)").value_name("WHEN").value_parser(["true", "false", "auto"]),
            "store": path("Directory of the images [CORTEN_STORE, or /var/lib/corten]").value_name("DIR"),
            "version" 'v': flag("Print the version"),
        ])
}

/// With these verbs, and all that help shows.
fn program_with<'a>(verbs: impl Iterator<Item = &'a Verb>) -> Command {
    program(Asked::ALL)
        .about("A minimal container runtime that explains itself")
        .override_usage("corten [OPTIONS] <VERB> …")
        .subcommand_help_heading("Verbs")
        .subcommand_value_name("VERB")
        .after_help(
            "Examples:\n  corten spec                     # beside a folder rootfs\n  corten run web\n  \
             corten run -it --name web --network=host --entrypoint /bin/sh\n  corten explain                  # what run would do, and why\n  \
             corten run --rm -it debian:12 bash",
        )
        .subcommands(verbs.map(|(name, about, build)| build(Command::new(*name).about(*about), Asked::ALL)))
}

/// With one verb, and the options that the words may name. Not dropped: to free a parser piece by piece is a tenth of its work.
fn program_of((name, _, build): &Verb, words: &[OsString]) -> ManuallyDrop<Command> {
    let asked = Asked(Some(words));
    let verb = Command::new(*name).disable_help_flag(!asked.may_be(&["help"], &['h']));
    ManuallyDrop::new(program(asked).subcommand(build(verb, asked)))
}

/// The parser that knows all. clap has one heading for all verbs, so those on images are hidden from it, and shown by the template.
fn whole() -> Command {
    let widest = VERBS.iter().chain(IMAGES).map(|(name, ..)| name.len()).max().unwrap_or(0);
    let lines: String = IMAGES.iter().map(|(name, about, _)| format!("  {name:widest$}  {about}\n")).collect();
    let heading = if lines.is_empty() { "" } else { "\n\nImages:\n" };
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\nVerbs:\n{{subcommands}}{heading}{}\n\nOptions:\n{{options}}{{after-help}}",
        lines.trim_end()
    );
    let names = IMAGES.iter().map(|(name, ..)| *name);
    let all = program_with(VERBS.iter().chain(IMAGES)).help_template(template);
    names.fold(all, |all, name| all.mut_subcommand(name, |verb| verb.hide(true)))
}

/// Understands the words, the program's own name first. Who gives a verb mostly means it: a parser with that one alone is made in half the
/// time of one with all. Where it understands nothing, the other has the better words: it lists verbs, and knows what was nearly meant.
fn matches(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let named = guess_verb(words).and_then(|named| VERBS.iter().chain(IMAGES).find(|(name, ..)| *name == named));
    let understood = match named {
        Some(verb) => program_of(verb, words).try_get_matches_from_mut(words),
        None => program(Asked(Some(words))).try_get_matches_from(words),
    };
    use clap::error::ErrorKind::MissingSubcommand;
    match understood {
        Err(error) if error.kind() != MissingSubcommand => whole().try_get_matches_from(words),
        // Whose words are ours.
        understood => understood,
    }
}

/// Did somebody ask for that? Before the words are understood.
pub fn asks_trace(words: &[OsString]) -> bool {
    words.iter().any(|word| word.to_str().is_some_and(|word| word == "--trace" || word.starts_with("--trace=")))
}

/// Reads the whole command line; `words` begins with the program's own name.
pub fn parse(words: Vec<OsString>, decide: Decide) -> Result<Invocation, Stop> {
    let form = match form(&words, decide) {
        Ok(form) => form,
        Err(e) => {
            let (global, verb) = (Box::new(guess_global(&words)), guess_verb(&words));
            return Err(Stop::Usage { global, text: e.to_string(), verb, form: Form::Image });
        }
    };
    let understood = match form {
        Form::Bundle => matches(&double_dashes(words.clone())),
        Form::Image => image_matches(&words),
    };
    let mut matches = match understood {
        Ok(matches) => matches,
        Err(error) => {
            use clap::error::ErrorKind::{
                DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingSubcommand,
            };
            return Err(match error.kind() {
                DisplayHelp if form == Form::Bundle => match guess_verb(&words).as_deref() {
                    Some(verb @ ("run" | "explain")) => Stop::Text(error.to_string() + &image_help(verb)),
                    _ => Stop::Text(error.to_string()),
                },
                DisplayHelp | DisplayVersion => Stop::Text(error.to_string()),
                MissingSubcommand | DisplayHelpOnMissingArgumentOrSubcommand if asks_version(&words) => {
                    Stop::Text(version())
                }
                MissingSubcommand | DisplayHelpOnMissingArgumentOrSubcommand => Stop::Usage {
                    global: Box::new(guess_global(&words)),
                    text: "no verb given; `corten --help` lists them".to_owned(),
                    verb: None,
                    form,
                },
                _ => Stop::Usage {
                    global: Box::new(guess_global(&words)),
                    text: plain(&error),
                    verb: guess_verb(&words),
                    form,
                },
            });
        }
    };
    let (verb, args) = matches.remove_subcommand().expect("a verb is required");
    let (matches, mut args) = (Args::from(matches), Args::from(args));
    if matches.get_flag("version") {
        return Err(Stop::Text(version()));
    }
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let is_json = matches.get_one::<String>("log-format").is_some_and(|format| format == "json");
    let global = Global {
        root: path("root"),
        log: path("log"),
        log_format: if is_json { LogFormat::Json } else { LogFormat::Text },
        debug: matches.get_flag("debug"),
        systemd_cgroup: matches.get_flag("systemd-cgroup"),
        rootless: matches.get_one::<String>("rootless").cloned(),
        store: path("store"),
    };
    if form == Form::Bundle && (verb == "run" || verb == "explain") {
        let checked = no_option(&words, &verb, &args)
            .and_then(|()| if args.contains_id("name") { Ok(args) } else { id_first(&words, &verb, args) });
        args = checked.map_err(|text| Stop::Usage {
            global: Box::new(global.clone()),
            text,
            verb: Some(verb.clone()),
            form,
        })?;
    }
    Ok(Invocation { global, verb, form, args, began: (0, 0) })
}

/// Which parser the words are for. Whoever names a bundle need not be asked for more.
fn form(words: &[OsString], decide: Decide) -> crate::error::Result<Form> {
    match verb_at(words) {
        Some(at) if (words[at] == "run" || words[at] == "explain") && cfg!(feature = "image") => {
            let store = guess_value(words, "--store").map(PathBuf::from);
            decide(&words[at + 1..], store)
        }
        _ => Ok(Form::Bundle),
    }
}

#[cfg(feature = "image")]
const OF_IMAGES: [Verb; 2] = [
    ("run", "Create and start a container, and wait for it", run_image),
    ("explain", "Print the steps that make a container, and why", explain_image),
];

#[cfg(feature = "image")]
fn image_matches(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let named = guess_verb(words).and_then(|named| OF_IMAGES.iter().find(|(name, ..)| *name == named));
    let understood = named.and_then(|verb| program_of(verb, words).try_get_matches_from_mut(words).ok());
    understood.map_or_else(|| program_with(OF_IMAGES.iter()).try_get_matches_from(words), Ok)
}

#[cfg(not(feature = "image"))]
fn image_matches(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    matches(words)
}

/// The other half of `run --help` and of `explain --help`.
#[cfg(feature = "image")]
fn image_help(verb: &str) -> String {
    let asked = program_with(OF_IMAGES.iter()).try_get_matches_from(["corten", verb, "--help"]);
    asked.err().map(|help| format!("\nWith an image:\n\n{help}")).unwrap_or_default()
}

#[cfg(not(feature = "image"))]
fn image_help(_: &str) -> String {
    String::new()
}

/// Arguments may look like options, but only after the first that does not, or after `--`: what stands first and looks like one is an
/// option that this version does not know.
fn no_option(words: &[OsString], verb: &str, args: &Args) -> Result<(), String> {
    let rest: Vec<&String> = args.get_many::<String>("words").unwrap_or_default().collect();
    let Some(first) = rest.first().filter(|word| word.starts_with('-') && word.len() > 1) else { return Ok(()) };
    let before = words.len().checked_sub(rest.len() + 1).and_then(|at| words.get(at));
    if before.is_some_and(|word| word == "--") {
        return Ok(());
    }
    Err(format!("unexpected argument '{first}' found; `corten {verb} --help` lists the options of this version"))
}

/// Without `--name`, what follows the id are options again (`run web --bundle B`): they are parsed as if they stood before it.
fn id_first(words: &[OsString], verb: &str, args: Args) -> Result<Args, String> {
    let rest: Vec<String> = args.get_many::<String>("words").unwrap_or_default().cloned().collect();
    if rest.len() < 2 {
        return Ok(args);
    }
    let before = &words[..words.len() - rest.len()];
    let turned: Vec<OsString> =
        before.iter().cloned().chain(rest[1..].iter().map(OsString::from)).chain([OsString::from(&rest[0])]).collect();
    let mut again = matches(&double_dashes(turned)).map_err(|e| plain(&e))?;
    let (_, again) = again.remove_subcommand().expect("a verb is required");
    let again = Args::from(again);
    let count = again.get_many::<String>("words").unwrap_or_default().count();
    if count != 1 && !again.contains_id("name") {
        let all: Vec<&str> = again.get_many::<String>("words").unwrap_or_default().map(String::as_str).collect();
        return Err(format!(
            "{}: {count} words where the one id was expected; to give arguments too: corten {verb} --name ID ARG…",
            all.join(" ")
        ));
    }
    Ok(again)
}

/// Go's flag parser, and so runc's callers, take one dash before a long option (`-no-subreaper`, `-bundle`); clap would read letters.
/// Not where arguments follow: a program has options of its own.
fn double_dashes(words: Vec<OsString>) -> Vec<OsString> {
    const KNOWN: [&str; 10] = [
        "bundle",
        "console-socket",
        "detach",
        "keep",
        "no-new-keyring",
        "no-pivot",
        "no-subreaper",
        "pid-file",
        "pidfd-socket",
        "preserve-fds",
    ];
    let has_arguments = words.iter().any(|word| word == "--" || word.to_str().is_some_and(|w| w.starts_with("--name")));
    if has_arguments || !guess_verb(&words).is_some_and(|verb| verb == "run" || verb == "create") {
        return words;
    }
    let double = |word: OsString| match word.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(name) if KNOWN.contains(&name.split('=').next().unwrap_or_default()) => format!("--{name}").into(),
        _ => word,
    };
    words.into_iter().map(double).collect()
}

const GLOBAL_VALUES: [&str; 5] = ["--root", "--log", "--log-format", "--rootless", "--store"];

/// The first word that is neither a global option nor its value.
pub fn guess_verb(words: &[OsString]) -> Option<String> {
    verb_at(words).map(|at| words[at].to_string_lossy().into_owned())
}

fn verb_at(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let word = word.to_string_lossy();
        if GLOBAL_VALUES.contains(&word.as_ref()) {
            at += 1;
        } else if !word.starts_with('-') {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The value of an option, wherever it stands.
fn guess_value(words: &[OsString], name: &str) -> Option<OsString> {
    let found = words.iter().position(|w| w.to_str() == Some(name)).and_then(|at| words.get(at + 1)).cloned();
    found.or_else(|| words.iter().find_map(|w| w.to_str()?.strip_prefix(name)?.strip_prefix('=').map(OsString::from)))
}

/// Where to write that the arguments are wrong: clients read the log even then.
fn guess_global(words: &[OsString]) -> Global {
    let after = |name: &str| guess_value(words, name);
    Global {
        log: after("--log").map(PathBuf::from),
        log_format: if after("--log-format").is_some_and(|f| f == "json") { LogFormat::Json } else { LogFormat::Text },
        ..Global::default()
    }
}

fn asks_version(words: &[OsString]) -> bool {
    words.iter().any(|w| w == "--version" || w == "-v")
}

/// clap's text without its `error: ` and without blank lines.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    text.trim_start_matches("error: ")
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The runtime specification that this version follows.
pub const SPEC: &str = "1.3.0";

/// What `--version` prints.
pub fn version() -> String {
    format!("corten version {}\ncommit: {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), env!("CORTEN_COMMIT"), SPEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if no image were ever meant.
    fn understand(words: Vec<OsString>) -> Result<Invocation, Stop> {
        parse(words, |_, _| Ok(Form::Bundle))
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn every_verb_is_well_formed() {
        for (name, _, build) in VERBS.iter().chain(IMAGES) {
            build(Command::new(name), Asked::ALL).debug_assert();
        }
    }

    /// What each option of the verb was given, and by whom; the subset's parser has no defaults of options that it lacks.
    fn given(verb: &Verb, understood: Result<ArgMatches, clap::Error>) -> Option<Vec<String>> {
        let matches = understood.ok()?;
        let (_, given) = matches.subcommand()?;
        let options = verb.2(Command::new(verb.0), Asked::ALL);
        let of = |matches: &ArgMatches, name: &str| {
            let source = matches.try_contains_id(name).ok().and_then(|_| matches.value_source(name));
            let typed = source.filter(|source| *source == clap::parser::ValueSource::CommandLine)?;
            let values = matches.get_raw(name).map(|values| values.map(OsString::from).collect::<Vec<_>>());
            Some(format!("{name}: {typed:?} {values:?}"))
        };
        let before = ["root", "log", "log-format", "debug", "systemd-cgroup", "rootless", "store", "version"];
        let before = before.iter().filter_map(|name| of(&matches, name));
        let own = options.get_arguments().filter_map(|option| of(given, option.get_id().as_str()));
        Some(before.chain(own).collect())
    }

    proptest::proptest! {
        #[test]
        fn a_parser_of_what_is_asked_understands_what_that_of_all_does(
            verb in 0..VERBS.len() + IMAGES.len(), picks in proptest::collection::vec((0..30_usize, 0..10_u8), 0..6)
        ) {
            let verb = VERBS.iter().chain(IMAGES).nth(verb).expect("in range");
            let all = verb.2(Command::new(verb.0), Asked::ALL);
            let options: Vec<_> = all.get_arguments().filter(|option| option.get_long().is_some() || option.get_short().is_some()).collect();
            let word = |(at, form): (usize, u8)| {
                let option = options.get(at % options.len().max(1));
                let long = option.and_then(|option| option.get_long()).unwrap_or("nothing");
                match (form, option.and_then(|option| option.get_short())) {
                    (0, Some(letter)) => format!("-{letter}"),
                    (1, Some(letter)) => format!("-i{letter}"),
                    (2, Some(letter)) => format!("-{letter}7"),
                    (3, _) => format!("--{long}=7"),
                    (4, _) => "--".to_owned(),
                    (5, _) => "-h".to_owned(),
                    (6 | 7, _) => "web".to_owned(),
                    (8, _) => "--debug".to_owned(),
                    _ => format!("--{long}"),
                }
            };
            let mut words: Vec<OsString> = ["corten", "--root", "/r", verb.0].map(OsString::from).into();
            words.extend(picks.into_iter().map(word).map(OsString::from));
            let few = given(verb, program_of(verb, &words).try_get_matches_from_mut(&words));
            let many = given(verb, program_with([verb].into_iter()).try_get_matches_from(&words));
            proptest::prop_assert_eq!(few, many, "{:?}", words);
        }
    }

    #[test]
    fn options_may_stand_after_the_id() {
        let found = understand(words("corten run web --bundle /b -d")).expect("understood");
        assert_eq!(found.args.get_one::<PathBuf>("bundle"), Some(&PathBuf::from("/b")));
        assert_eq!(found.args.get_one::<String>("words").map(String::as_str), Some("web"));
        assert!(found.args.get_flag("detach"));
    }

    #[test]
    fn with_a_name_the_words_are_arguments_whatever_they_look_like() {
        let found =
            understand(words("corten run -it --name web --entrypoint /bin/sh -- -c --bundle")).expect("understood");
        let rest: Vec<&String> = found.args.get_many("words").expect("some").collect();
        assert_eq!(rest, ["-c", "--bundle"]);
        let found = understand(words("corten run --name web echo -n --name")).expect("understood");
        assert_eq!(found.args.get_many::<String>("words").expect("some").count(), 3);
    }

    #[test]
    fn a_trace_goes_to_standard_error_or_to_a_file_but_takes_no_word() {
        for (line, to) in [
            ("corten run --trace web", "-"),
            ("corten run web --trace", "-"),
            ("corten run --trace=/t web", "/t"),
            ("corten create --trace=t web", "t"),
            ("corten exec --trace web sh", "-"),
        ] {
            assert!(asks_trace(&words(line)), "{line}");
            let found = understand(words(line)).expect(line);
            assert_eq!(found.args.get_one::<PathBuf>("trace"), Some(&PathBuf::from(to)), "{line}");
        }
        let found = understand(words("corten exec web prog --trace")).expect("the program's own");
        assert_eq!(found.args.get_one::<PathBuf>("trace"), None);
        assert!(understand(words("corten explain --trace web")).is_err());
    }

    #[test]
    fn two_words_without_a_name_are_refused() {
        assert!(matches!(understand(words("corten run web extra")), Err(Stop::Usage { .. })));
    }

    #[test]
    fn one_dash_before_a_long_option_is_accepted_where_callers_write_it() {
        assert!(
            understand(words("corten run -no-subreaper -bundle=/b -detach web"))
                .expect("understood")
                .args
                .get_flag("no-subreaper")
        );
    }

    #[test]
    fn an_unknown_flag_is_refused_and_the_log_is_still_known() {
        let Err(Stop::Usage { global, text, verb, .. }) =
            understand(words("corten --log /l --log-format=json run --gpus all web"))
        else {
            panic!("accepted")
        };
        assert_eq!((global.log, global.log_format, verb.as_deref()), (Some("/l".into()), LogFormat::Json, Some("run")));
        assert!(text.contains("--gpus"), "{text}");
        assert!(understand(words("corten run --name web --gpus all")).is_err());
        assert!(understand(words("corten run --name web -- --gpus all")).is_ok());
    }

    #[test]
    fn the_version_has_three_lines() {
        let Err(Stop::Text(text)) = understand(words("corten --version")) else { panic!("no text") };
        assert!(
            text.starts_with("corten version 0.") && text.contains("\ncommit: ") && text.ends_with("spec: 1.3.0\n"),
            "{text}"
        );
    }
}
