//! `ps` without a word: containers of both kinds, as Docker lists them.
//!
//! By hand: `docker ps -a --filter status=exited --format '{{.Names}}\t{{.Status}}'`.
//!
//! A bundle's container is called by its id, which is shown whole: its beginning would mean nothing. Its image is its bundle. How its program
//! ended nobody keeps.

use super::containers::{Known, all};
use super::size::{self, Size};
use super::{moment, store_path};
use crate::cli::Invocation;
use crate::commands::ps::{filters, format};
use crate::docker::filter::{self, Filters};
use crate::docker::format::Format;
use crate::docker::lists::{self, Cut, Does};
use crate::docker::{human, lists::PS};
use crate::error;
use crate::error::Result;
use crate::image::store::{Store, Stored};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Digits of an id as a table shows it.
const SHORT: usize = 12;

/// The verb.
#[inline(never)]
pub fn ps(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    // Before anything is looked for: a template with a mistake is one also where there is no container.
    let asked = format(args)?;
    let usual = if args.get_flag("size") { format!("{}\\t{{{{.Size}}}}", PS.table) } else { PS.table.to_owned() };
    let template = Format::parse(asked.unwrap_or(&usual), &usual)?;
    let texts: Vec<String> =
        args.get_many::<String>("filter").unwrap_or_default().chain(filters(args)).cloned().collect();
    let filters = Filters::parse(&texts, filter::PS)?;
    let last = match (args.get_flag("latest"), args.get_one::<usize>("last")) {
        (true, _) => Some(1),
        (false, last) => last.copied(),
    };
    let everything = args.get_flag("all")
        || last.is_some()
        || ["status", "exited"].iter().any(|key| !filters.values(key).is_empty());
    let known = all(invocation)?;
    let choice = Choice::new(invocation, &filters, &known)?;
    let lives = |one: &&Known| everything || matches!(one.does, Does::Runs(_) | Does::Rests(_));
    let shown = known.iter().filter(lives).filter(|one| choice.takes(one)).take(last.unwrap_or(usize::MAX));
    let cut = if args.get_flag("no-trunc") { Cut::Whole } else { Cut::Short };
    let is_table = asked.is_none_or(|text| text.trim() == "table");
    if args.get_flag("quiet") && is_table {
        shown.for_each(|one| println!("{}", id(one, cut)));
        return Ok(0);
    }
    let detail = match asked.filter(|_| !is_table) {
        None => Detail::Usual,
        Some(_) => Detail::All,
    };
    // Measured where it is shown: that takes a walk.
    let measured = args.get_flag("size") || asked.is_some_and(|text| text.contains(".Size"));
    let images = measured.then(|| size::images(&store_path(invocation)));
    let rows: Vec<Value> = shown.map(|one| row(one, cut, detail, images.as_deref())).collect();
    print!("{}", template.list(&rows, PS.headings)?);
    Ok(0)
}

/// What has to be found out for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// What the usual table shows.
    Usual,
    /// What a template may name.
    All,
}

fn id(known: &Known, cut: Cut) -> &str {
    match cut {
        Cut::Short if known.image.is_some() => &known.id[..SHORT.min(known.id.len())],
        _ => &known.id,
    }
}

/// The row as a template has it; its fields are those of `lists::PS`. `images`: sizes are shown.
fn row(known: &Known, cut: Cut, detail: Detail, images: Option<&[Stored]>) -> Value {
    let (state, status) = lists::status(known.does);
    let created = moment::parse(&known.created);
    let now = moment::now();
    let labels =
        labels(known).map(|labels| labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>());
    let mut row = json!({
        "CreatedAt": moment::at(created),
        "ID": id(known, cut),
        "Image": image(known),
        "Labels": labels.unwrap_or_default().join(","),
        "LocalVolumes": "0",
        "Names": known.name(),
        "Ports": "",
        "RunningFor": moment::since(created, now),
        "State": state,
        "Status": status,
    });
    let kept = (known.image.is_none() || detail != Detail::Usual).then(|| known.kept());
    let command = match &known.image {
        Some((_, record)) => &record.command,
        None => &kept.as_ref().expect("read for bundles").process.args,
    };
    row["Command"] = lists::command(command, cut).into();
    if let Some(kept) = kept.as_ref().filter(|_| detail != Detail::Usual) {
        row["Networks"] = kept.network().into();
        let mounts = super::documents::mounts(kept, known);
        let volumes = mounts.iter().filter(|mount| mount["Type"] == "volume").count();
        row["LocalVolumes"] = volumes.to_string().into();
        let mounts: Vec<String> =
            mounts.iter().map(|mount| lists::cell(mount["Source"].as_str().unwrap_or_default(), 15, cut)).collect();
        row["Mounts"] = mounts.join(",").into();
    }
    row["Size"] = match (images, &known.image) {
        (Some(images), Some((container, _))) => Size::of(container, images).words(),
        _ => human::size(0),
    }
    .into();
    row
}

/// As it was asked for; of a bundle its directory.
fn image(known: &Known) -> String {
    match (&known.image, &known.state) {
        (Some((_, record)), _) => record.image.clone(),
        (None, Some((_, state))) => state.bundle.display().to_string(),
        (None, None) => String::new(),
    }
}

fn labels(known: &Known) -> Option<&BTreeMap<String, String>> {
    known.image.as_ref().map(|(_, record)| &record.labels)
}

/// Which containers are shown.
struct Choice<'a> {
    filters: &'a Filters,
    /// The images of `ancestor` that are in the store: as asked for, and the digest of its manifest.
    ancestors: Vec<(String, String)>,
    /// When those of `before` and `since` were made.
    before: Vec<String>,
    since: Vec<String>,
}

impl<'a> Choice<'a> {
    fn new(invocation: &Invocation, filters: &'a Filters, known: &[Known]) -> Result<Choice<'a>> {
        let created = |key: &str| -> Result<Vec<String>> {
            let find = |word: &String| {
                let exact = known.iter().find(|one| one.id == *word || one.name() == word);
                let begins =
                    || known.iter().find(|one| one.image.is_some() && word.len() >= 4 && one.id.starts_with(word));
                let found = exact.or_else(begins).ok_or_else(|| error!("--filter {key}={word}: no such container"));
                found.map(|one| one.created.clone())
            };
            filters.values(key).iter().map(find).collect()
        };
        let mut ancestors = Vec::new();
        let path = store_path(invocation);
        if !filters.values("ancestor").is_empty() && path.join("index.json").exists() {
            let store = Store::open(&path)?;
            for word in filters.values("ancestor") {
                ancestors.extend(store.find(word)?.map(|image| (word.clone(), image.manifest.digest().to_string())));
            }
        }
        Ok(Choice { filters, ancestors, before: created("before")?, since: created("since")? })
    }

    fn takes(&self, known: &Known) -> bool {
        let (none, shown) = (BTreeMap::new(), image(known));
        let digest = known.image.as_ref().and_then(|(container, _)| container.image().ok());
        let meant = self.ancestors.iter().filter(|(_, manifest)| Some(manifest) == digest.as_ref());
        let images: Vec<&str> = meant.map(|(word, _)| word.as_str()).chain([shown.as_str()]).collect();
        let asks_network = !self.filters.values("network").is_empty();
        let network = if asks_network { known.kept().network() } else { String::new() };
        let row = filter::Row {
            id: &known.id,
            name: known.name(),
            status: lists::status(known.does).0,
            exited: match known.does {
                Does::Ended(_, code) => Some(code),
                _ => None,
            },
            images: &images,
            network: &network,
            labels: labels(known).unwrap_or(&none),
        };
        self.filters.container(&row)
            && self.before.iter().all(|other| known.created < *other)
            && self.since.iter().all(|other| known.created > *other)
    }
}
