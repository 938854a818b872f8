//! `prune`: what nobody uses goes, after a question.
//!
//! By hand: `docker system prune`. Containers made from images that have ended go first, because they use images; then images, those without a name, or
//! with `-a` all that no container uses; then layers and blobs that no image names.
//!
//! What goes wrong: a container that is being started has ended, too, for a moment. Who is at work with one holds its lock, and what is locked is
//! left alone.

use super::names::{left, told};
use super::verbs::{say, store};
use super::{moment, rows};
use crate::cli::Invocation;
use crate::commands::delete;
use crate::docker::filter::{self, Filters};
use crate::docker::human;
use crate::error;
use crate::error::{Result, io_words};
use crate::image::container::{Container, Containers, Record};
use crate::image::store::{Force, Removed, Store, Stored, Which};
use crate::state;
use crate::state::status::{self, Status};
use std::io::{BufRead, Write, stdin};

/// The verb.
pub fn prune(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    let filters = Filters::parse(&super::list::texts(args, "filter"), filter::PRUNE)?;
    let limits: Vec<i64> = filters
        .values("until")
        .iter()
        .map(|text| Ok(moment::now() - filter::until(text).map_err(|e| e.at("--filter"))? as i64))
        .collect::<Result<_>>()?;
    let which = if args.get_flag("all") { Which::Unused } else { Which::Nameless };
    if !args.get_flag("force") && !agreed(which)? {
        return Err(error!("nothing was removed").hint("answer y, or say --force"));
    }
    let old = |created: Option<i64>| limits.iter().all(|limit| created.is_some_and(|at| at < *limit));
    let store = store(invocation)?;
    let (containers, freed) =
        containers(&store, &|record| filters.labels(&record.labels) && old(moment::parse(&record.created)))?;
    if !containers.is_empty() {
        say(&format!("Deleted Containers:\n{}\n", containers.iter().map(|id| format!("{id}\n")).collect::<String>()))?;
    }
    let wanted = |image: &Stored| filters.labels(&rows::labels(image)) && old(rows::created(image));
    let removed = match filters == Filters::default() {
        true => store.prune(which)?,
        false => some(&store, which, &wanted)?,
    };
    let removed = left(&store, removed)?;
    let lines = told(&removed);
    if !lines.is_empty() {
        say(&format!("Deleted Images:\n{lines}\n"))?;
    }
    say(&format!("Total reclaimed space: {}\n", human::size(removed.freed + freed))).map(|()| 0)
}

/// The question; anything but y is no.
fn agreed(which: Which) -> Result<bool> {
    let images = match which {
        Which::Nameless => "all images without a name that no container uses",
        Which::Unused => "all images that no container uses",
    };
    let question = format!(
        "WARNING! This will remove:\n  - all containers made from images that have ended\n  - {images}\n  - all layers and blobs that no image has\n\n\
         Are you sure you want to continue? [y/N] "
    );
    let _ = write!(std::io::stderr(), "{question}");
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line).map_err(|e| error!("standard input: {}", io_words(&e)))?;
    if read == 0 {
        let _ = writeln!(std::io::stderr());
    }
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Removes containers that have ended; their ids, and the bytes that they had written.
fn containers(store: &Store, wanted: &dyn Fn(&Record) -> bool) -> Result<(Vec<String>, u64)> {
    let all = Containers::open(store.path())?;
    // Where the runtime cannot be asked, the container may live.
    let lives = |id: &str, record: Option<&Record>| {
        record.is_none_or(|record| !runtime(id, record).is_ok_and(|known| known.is_none()))
    };
    all.sweep(&lives)?;
    let (mut gone, mut freed) = (Vec::new(), 0);
    for found in all.all()? {
        let Ok(record) = found.record() else { continue };
        if !wanted(&record) {
            continue;
        }
        let Some(container) = found.locked()?.filter(Container::is_linked) else { continue };
        match runtime(&container.id, &record)? {
            None => {}
            Some((state, entry)) => {
                let ended = entry.load().is_ok_and(|state| status::of(&entry, &state) == Status::Stopped);
                if !ended {
                    continue;
                }
                delete::remove(&state, &entry, delete::Force::No)?;
            }
        }
        let size = disk(container.path());
        if all.remove(&container)? {
            freed += size;
            gone.push(container.id.clone());
        }
    }
    Ok((gone, freed))
}

/// What the runtime knows of a container, where its record says.
fn runtime(id: &str, record: &Record) -> Result<Option<(state::store::Store, state::store::Entry)>> {
    let state = state::store::Store::new(record.root.clone());
    Ok(state.find(id)?.map(|entry| (state, entry)))
}

/// Bytes that a tree takes; what cannot be read counts as nothing.
fn disk(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(about) = path.symlink_metadata() else { return 0 };
    let below = if about.is_dir() { std::fs::read_dir(path).ok() } else { None };
    about.blocks() * 512 + below.into_iter().flatten().flatten().map(|entry| disk(&entry.path())).sum::<u64>()
}

/// The images that a filter chooses, one by one.
fn some(store: &Store, which: Which, wanted: &dyn Fn(&Stored) -> bool) -> Result<Removed> {
    let mut sum = Removed::default();
    for image in store.images()? {
        let named = image.names.len() + image.digests.len() > 0;
        if (named && which == Which::Nameless) || !wanted(&image) || !store.users(&image)?.is_empty() {
            continue;
        }
        // By force, because it may have several names: they all go.
        let removed = store.remove(&image.id.to_string(), Force::Yes)?;
        sum.untagged.extend(removed.untagged);
        sum.deleted.extend(removed.deleted);
        sum.freed += removed.freed;
    }
    Ok(sum)
}
