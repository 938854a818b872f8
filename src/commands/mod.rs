//! One file per verb. A verb reads its words, asks `input`, `plan`, `run` and `state`, and prints.

mod create;
mod delete;
mod exec;
mod explain;
#[cfg(feature = "image")]
mod images;
#[cfg(feature = "image")]
pub mod init;
mod inspect;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod stop;
mod target;
#[cfg(feature = "image")]
mod unpack;

use crate::cli::{Args, Form, Invocation};
use crate::error::{Error, Result, io_words};
use crate::input::again;
use crate::input::bundle::{self, faults_error};
use crate::input::config::Config;
use crate::input::id::Id;
use crate::state::store::{CONFIGURATION, Entry, Store};
use crate::state::{State, status};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs the verb; the value is the program's exit code.
pub fn run(invocation: &Invocation) -> Result<u8> {
    if invocation.global.rootless.as_deref() == Some("true") {
        return Err(Error::new("--rootless=true: running without root's rights is not in this version"));
    }
    let args = &invocation.args;
    match invocation.verb.as_str() {
        #[cfg(feature = "image")]
        "run" if invocation.form == Form::Image => images::run::run(invocation),
        "run" => run::run(invocation),
        "create" => create::create(invocation),
        "start" => start::start(invocation),
        "exec" => exec::exec(invocation),
        "stop" => stop::stop(invocation),
        "kill" => kill::kill(invocation),
        "rm" => delete::rm(invocation),
        "delete" => delete::delete(invocation),
        "pause" => pause::pause(invocation),
        "resume" => pause::resume(invocation),
        "ps" => ps::ps(invocation),
        "list" => list::list(invocation),
        "state" => state::state(invocation),
        "inspect" => inspect::inspect(invocation),
        "spec" => spec::spec(args),
        #[cfg(feature = "image")]
        "unpack" => unpack::unpack(invocation),
        #[cfg(feature = "image")]
        "explain" if invocation.form == Form::Image => images::explain::explain(invocation),
        "explain" => explain::explain(invocation),
        #[cfg(feature = "image")]
        other if crate::cli::images::is_verb(other) => images::verbs::run(invocation),
        other => Err(Error::new(format!("{other}: not in this build"))),
    }
}

/// Which form the words after `run` have. `store`: `--store`, if it was given.
#[cfg(feature = "image")]
pub fn form(words: &[std::ffi::OsString], store: Option<PathBuf>) -> Result<Form> {
    images::form(words, store)
}

/// Without the feature `image` there are bundles only.
#[cfg(not(feature = "image"))]
pub fn form(_: &[std::ffi::OsString], _: Option<PathBuf>) -> Result<Form> {
    Ok(Form::Bundle)
}

/// What an error line begins with: the verb, and the id where there is one.
pub fn subject(invocation: &Invocation) -> String {
    let args = &invocation.args;
    let one = |name: &str| args.get_many::<String>(name).filter(|all| all.len() == 1).and_then(|mut all| all.next());
    let named = args.get_one::<String>("name");
    match named.or_else(|| one("id")).or_else(|| one("words")) {
        Some(id) => format!("{} {id}", invocation.verb),
        None => invocation.verb.clone(),
    }
}

/// Where the containers' state lies: `--root`, or `/run/corten`, or `$XDG_RUNTIME_DIR/corten` for an ordinary user.
fn store(invocation: &Invocation) -> Result<Store> {
    if let Some(root) = &invocation.global.root {
        let absolute = std::path::absolute(root).map_err(|e| Error::new(format!("--root {}: {e}", root.display())))?;
        return Ok(Store::new(absolute));
    }
    if crate::sys::start::euid() == 0 {
        return Ok(Store::new(PathBuf::from("/run/corten")));
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if !dir.is_empty() => Ok(Store::new(PathBuf::from(dir).join("corten"))),
        _ => Err(Error::new("neither root nor XDG_RUNTIME_DIR: nowhere to keep state").hint("give --root DIR")),
    }
}

/// The id given to the verb, checked.
fn id(args: &Args) -> Result<Id> {
    Id::parse(args.get_one::<String>("id").map(String::as_str).unwrap_or_default())
}

/// All ids given to the verb, checked before any is touched.
fn ids(args: &Args) -> Result<Vec<Id>> {
    args.get_many::<String>("id").unwrap_or_default().map(|id| Id::parse(id)).collect()
}

/// The container given to the verb.
fn container(invocation: &Invocation) -> Result<(Store, Entry, State)> {
    known(invocation, &id(&invocation.args)?)
}

/// A container that the runtime knows. The image store is asked only where that does not know the word.
fn known(invocation: &Invocation, id: &Id) -> Result<(Store, Entry, State)> {
    let store = store(invocation)?;
    let (store, entry) = match store.find(id.as_str())? {
        Some(entry) => (store, entry),
        None => target::find(invocation, id)?.known()?,
    };
    let state = entry.load()?;
    Ok((store, entry, state))
}

/// Docker's exit code where the program of a container is to blame: it cannot be executed, or is not there.
fn program_code(e: &Error) -> Option<u8> {
    const NOT_EXECUTABLE: u8 = 126;
    const NOT_FOUND: u8 = 127;
    let cause = e.cause.strip_prefix("process.args")?;
    let missing = ["no such file or directory", "executable file not found"].iter().any(|words| cause.contains(words));
    Some(if missing { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Was it made from an image? The bundle of such a container is its directory in the image store.
fn is_of_image(state: &State) -> bool {
    state.image_container.is_some() || state.bundle.ends_with(Path::new("containers").join(&state.id))
}

/// Making containers needs root here.
fn require_root() -> Result<()> {
    if crate::sys::start::euid() == 0 {
        return Ok(());
    }
    Err(Error::new("needs root: running as an ordinary user is not in this version").hint("`sudo corten …`"))
}

/// A name for each id with its error; success only if all succeed.
fn for_each(ids: &[Id], mut act: impl FnMut(&Id) -> Result<()>) -> Result<u8> {
    let mut errors = Vec::new();
    for id in ids {
        if let Err(error) = act(id) {
            errors.push((id, error));
        }
    }
    match errors.len() {
        0 => Ok(0),
        1 if ids.len() == 1 => Err(errors.remove(0).1),
        many => {
            let first = Error::new(format!("{many} of {} containers", ids.len()));
            Err(errors.into_iter().fold(first, |sum, (id, error)| {
                let sum = sum.detail(format!("{}: {}", id.as_str(), error.cause));
                match error.hint {
                    Some(hint) if sum.hint.is_none() => sum.hint(hint),
                    _ => sum,
                }
            }))
        }
    }
}

/// To standard output, whole. A reader who has left is an error, not a panic.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|e| Error::new(format!("standard output: {}", io_words(&e))))
}

/// The configuration in force, without the rules of its filter if it can be had more quickly so.
fn kept_config(entry: &Entry, state: &State) -> Result<Config> {
    let bytes = entry.read(CONFIGURATION)?;
    match state.exact.then(|| again::read(&bytes)).flatten() {
        Some(config) => Ok(config),
        None => parse_kept(&bytes),
    }
}

/// All of it.
fn whole_config(entry: &Entry) -> Result<Config> {
    parse_kept(&entry.read(CONFIGURATION)?)
}

fn parse_kept(bytes: &[u8]) -> Result<Config> {
    bundle::parse(bytes).map(|(config, _)| config).map_err(|found| faults_error(&found, "the kept config.json"))
}

/// The status, with the words that callers look for if it is not one of those.
fn require(entry: &Entry, state: &State, wanted: &[status::Status], instead: &str) -> Result<status::Status> {
    let found = status::of(entry, state);
    if wanted.contains(&found) {
        return Ok(found);
    }
    Err(Error::new(format!("{instead}: it is {found}")))
}

/// May a configuration have hooks of this kind? Their name is in its text, unless it is written with escapes: most have none, and need no parsing.
fn may_have(configuration: &[u8], hooks: &[u8]) -> bool {
    configuration.windows(hooks.len()).any(|word| word.eq_ignore_ascii_case(hooks))
        || configuration.windows(2).any(|two| two == b"\\u")
}
