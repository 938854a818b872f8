//! The rows of `images`: one for each name of each image, and which of them are shown.
//!
//! As in Docker's list: an image with two tags has two rows, one that was pulled by its digest has `<none>` for a tag, one that has no name at all is
//! *dangling* and has `<none>` twice. The newest comes first.

use super::moment;
use super::verbs::short;
use crate::docker::filter::{Filters, glob, until};
use crate::docker::{human, lists::Cut};
use crate::error::Result;
use crate::image::named::Named;
use crate::image::store::Stored;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NONE: &str = "<none>";

/// A row: an image by one of its names.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The image.
    pub image: &'a Stored,
    /// Its full name with tag, or `NAME@DIGEST`; `None` for one without a name.
    pub name: Option<&'a str>,
}

/// When an image was made, in seconds since 1970.
pub fn created(image: &Stored) -> Option<i64> {
    // A builder that says year 1 says nothing.
    image.config.created().as_deref().and_then(moment::parse).filter(|at| *at > 0)
}

/// An image's labels.
pub fn labels(image: &Stored) -> BTreeMap<String, String> {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone());
    labels.unwrap_or_default().into_iter().collect()
}

/// All rows, the newest image first.
pub fn rows(images: &[Stored]) -> Vec<Row<'_>> {
    let mut sorted: Vec<&Stored> = images.iter().collect();
    sorted.sort_by_key(|image| std::cmp::Reverse(created(image)));
    sorted.into_iter().flat_map(of).collect()
}

fn of(image: &Stored) -> Vec<Row<'_>> {
    let mut names: Vec<&str> = image.names.iter().map(String::as_str).collect();
    names.sort_unstable();
    if names.is_empty() {
        names.extend(image.digests.iter().map(String::as_str));
    }
    match names.is_empty() {
        true => vec![Row { image, name: None }],
        false => names.into_iter().map(|name| Row { image, name: Some(name) }).collect(),
    }
}

/// What `before` and `since` are compared with, and when now is.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// The images of `before`.
    pub before: Vec<Option<i64>>,
    /// The images of `since`.
    pub since: Vec<Option<i64>>,
    /// Seconds since 1970.
    pub now: i64,
}

impl Row<'_> {
    /// Is it shown? `pattern` is the verb's word.
    pub fn is_shown(&self, filters: &Filters, pattern: Option<&str>, times: &Times) -> Result<bool> {
        let created = created(self.image);
        let old = filters.values("until").iter().map(|text| Ok(times.now - until(text)? as i64));
        let old: Vec<i64> = old.collect::<Result<_>>()?;
        let named = |pattern: &str| self.name.is_some_and(|name| means(pattern, name));
        Ok(pattern.is_none_or(named)
            && filters.any("reference", named)
            && filters.flag("dangling").is_none_or(|dangling| dangling == self.name.is_none())
            && filters.labels(&labels(self.image))
            && times.before.iter().all(|other| created < *other)
            && times.since.iter().all(|other| created > *other)
            && old.iter().all(|limit| created.is_some_and(|at| at < *limit)))
    }

    /// The row as a template has it; its fields are those of `lists::IMAGES`.
    pub fn value(&self, now: i64, cut: Cut) -> Value {
        let named = self.name.and_then(|name| Named::parse(name).ok());
        let repository = named.as_ref().map_or(self.name.unwrap_or(NONE).to_owned(), Named::familiar_name);
        let tag = named.as_ref().and_then(|named| named.tag.clone());
        // The digests are full names, and the row's is the one of its repository.
        let digest = named.as_ref().and_then(|named| {
            let digests = self.image.digests.iter().filter_map(|full| full.split_once('@'));
            digests.filter(|(name, _)| *name == named.name()).map(|(_, digest)| digest.to_owned()).next()
        });
        let created = created(self.image);
        json!({
            "CreatedAt": moment::at(created),
            "CreatedSince": moment::since(created, now),
            "Digest": digest.as_deref().unwrap_or(NONE),
            "ID": id(self.image, cut),
            "Repository": repository,
            "Size": human::size(self.image.unpacked()),
            "Tag": tag.as_deref().unwrap_or(NONE),
        })
    }
}

/// An image's id as Docker shows it: 12 digits, or all of them behind the algorithm.
pub fn id(image: &Stored, cut: Cut) -> String {
    match cut {
        Cut::Short => short(&image.id.hex).to_owned(),
        Cut::Whole => image.id.to_string(),
    }
}

/// Does the pattern fit the full name, or the familiar one, with tag or without?
fn means(pattern: &str, full: &str) -> bool {
    let Ok(named) = Named::parse(full) else { return glob(pattern, full) };
    [named.familiar(), named.familiar_name(), full.to_owned(), named.name()].iter().any(|text| glob(pattern, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names_in_every_form() {
        for (pattern, full, fits) in [
            ("debian", "docker.io/library/debian:12", true),
            ("deb*", "docker.io/library/debian:12", true),
            ("debian:1?", "docker.io/library/debian:12", true),
            ("debian:13", "docker.io/library/debian:12", false),
            ("docker.io/library/debian", "docker.io/library/debian:12", true),
            ("web", "h:5000/web:1", false),
            ("*/web", "h:5000/web:1", true),
            ("h:5000/web", "h:5000/web:1", true),
            ("*", "h:5000/web:1", false),
        ] {
            assert_eq!(means(pattern, full), fits, "{pattern} {full}");
        }
    }
}
