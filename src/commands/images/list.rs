//! `images`: which images there are.
//!
//! By hand: `docker images --digests`, `docker images --format '{{json .}}'`.

use super::moment;
use super::rows::{self, Row, Times, id};
use super::verbs::{say, store, stored};
use crate::cli::{Args, Invocation};
use crate::docker::filter::{Filters, IMAGES};
use crate::docker::format::Format;
use crate::docker::lists::{self, Cut};
use crate::error::Result;

/// With `--digests`.
const DIGESTS: &str = r"table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

/// All values of an option that may be repeated.
pub fn texts(args: &Args, option: &str) -> Vec<String> {
    args.get_many::<String>(option).unwrap_or_default().cloned().collect()
}

/// `--no-trunc`, or not.
pub fn cut(args: &Args) -> Cut {
    if args.get_flag("no-trunc") { Cut::Whole } else { Cut::Short }
}

/// The verb.
pub fn images(invocation: &Invocation) -> Result<u8> {
    let args = &invocation.args;
    // Before the store is asked: a template with a mistake is one also where there is no image.
    let usual = if args.get_flag("digests") { DIGESTS } else { lists::IMAGES.table };
    let asked = args.get_one::<String>("format").map(String::as_str);
    let format = Format::parse(asked.unwrap_or(usual), usual)?;
    let filters = Filters::parse(&texts(args, "filter"), IMAGES)?;
    let store = store(invocation)?;
    let created = |key: &str| -> Result<Vec<Option<i64>>> {
        let times = filters.values(key).iter().map(|text| Ok(rows::created(&stored(&store, text)?)));
        times.collect::<Result<_>>().map_err(|e| e.at(format!("--filter {key}")))
    };
    let now = moment::now();
    let times = Times { before: created("before")?, since: created("since")?, now };
    let all = store.images()?;
    let pattern = args.get_one::<String>("image").map(String::as_str);
    let mut shown: Vec<Row<'_>> = Vec::new();
    for row in rows::rows(&all) {
        if row.is_shown(&filters, pattern, &times)? {
            shown.push(row);
        }
    }
    let cut = cut(args);
    let is_table = asked.is_none_or(|text| text.trim() == "table");
    if args.get_flag("quiet") && is_table {
        let ids: String = shown.iter().map(|row| format!("{}\n", id(row.image, cut))).collect();
        return say(&ids).map(|()| 0);
    }
    let values: Vec<_> = shown.iter().map(|row| row.value(now, cut)).collect();
    say(&format.list(&values, lists::IMAGES.headings)?).map(|()| 0)
}
