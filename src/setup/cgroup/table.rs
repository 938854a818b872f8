//! What the tables of both versions are made of, and the limits that both write alike.

use crate::input::Fault;
use crate::input::config::Resources;

/// One limit in the words of the kernel: a line of the tables in `v1` and `v2`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    pub controller: String,
    pub file: String,
    /// One write each.
    pub values: Vec<String>,
    /// Where it stands in the configuration.
    pub place: String,
    pub absent: Otherwise,
    /// It lifts a limit: a host without the controller has none, so there is nothing to refuse.
    pub lifts: bool,
}

/// What to do when the file of a [`Setting`] does not exist.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Otherwise {
    Refuse,
    Ignore,
    /// This file takes these values instead.
    Use(&'static str, Vec<String>),
}

/// A line of a table, with the order in which the kernel takes it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    One(Setting),
    /// Two files of which the kernel checks one against the other: see [`super::Change::Pair`].
    Two(Setting, Setting),
    /// Refuse when the file already says this much or more.
    Below {
        controller: &'static str,
        file: &'static str,
        limit: u64,
        place: &'static str,
    },
}

/// What the tables fill.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub entries: Vec<Entry>,
    pub faults: Vec<Fault>,
}

impl Table {
    pub fn put(&mut self, setting: Setting) {
        self.entries.push(Entry::One(setting));
    }

    pub fn refuse(&mut self, place: impl Into<String>, cause: impl Into<String>) {
        self.faults.push(Fault::new(place, cause));
    }
}

/// A setting with one value for a file that must be there. `place` is below `linux.resources`.
pub(super) fn setting(controller: &str, file: impl Into<String>, value: impl ToString, place: &str) -> Setting {
    Setting {
        controller: controller.to_owned(),
        file: file.into(),
        values: vec![value.to_string()],
        place: format!("linux.resources.{place}"),
        absent: Otherwise::Refuse,
        lifts: false,
    }
}

impl Setting {
    pub fn values(mut self, values: Vec<String>) -> Self {
        self.values = values;
        self
    }

    pub fn otherwise(mut self, absent: Otherwise) -> Self {
        self.absent = absent;
        self
    }

    pub fn lifting(mut self) -> Self {
        self.lifts = true;
        self
    }
}

/// Limits with the same files in both versions: cpuset, pids, hugetlb, rdma. `hugetlb` are the two endings of the files of a
/// page size: for what is in use, and for what is reserved.
pub(super) fn shared(resources: &Resources, table: &mut Table, hugetlb: [&str; 2]) {
    for (list, file, place) in
        [(&resources.cpu.cpus, "cpuset.cpus", "cpu.cpus"), (&resources.cpu.mems, "cpuset.mems", "cpu.mems")]
    {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            table.put(setting("cpuset", file, list, place));
        }
    }
    match resources.pids_limit {
        Some(limit @ 1..) => table.put(setting("pids", "pids.max", limit, "pids.limit")),
        Some(_) => table.put(setting("pids", "pids.max", "max", "pids.limit").lifting()),
        None => {}
    }
    for (i, (size, limit)) in resources.hugepage_limits.iter().enumerate() {
        let place = format!("hugepageLimits[{i}]");
        if !is_page_size(size) {
            // It becomes part of a file's name.
            let cause = format!("{size:?} is not a page size as the kernel writes it: 64KB, 2MB, 1GB");
            table.refuse(format!("linux.resources.{place}.pageSize"), cause);
            continue;
        }
        let [used, reserved] = hugetlb.map(|ending| format!("hugetlb.{size}.{ending}"));
        table.put(setting("hugetlb", used, limit, &place));
        table.put(setting("hugetlb", reserved, limit, &place).otherwise(Otherwise::Ignore));
    }
    let lines: Vec<String> = resources
        .rdma
        .iter()
        .filter(|(_, handles, objects)| handles.is_some() || objects.is_some())
        .map(|(device, handles, objects)| {
            let pair = |key: &str, n: &Option<u32>| n.map(|n| format!(" {key}={n}")).unwrap_or_default();
            format!("{device}{}{}", pair("hca_handle", handles), pair("hca_object", objects))
        })
        .collect();
    if !lines.is_empty() {
        table.put(setting("rdma", "rdma.max", "", "rdma").values(lines));
    }
}

/// `64KB`, `2MB`, `1GB`.
fn is_page_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let plain = !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    plain && ["KB", "MB", "GB"].contains(&&text[digits.len()..])
}

/// An amount of memory: `None` where it is not asked for, which 0 means too, as in runc. -1 is no limit.
pub(super) fn bytes(value: Option<i64>, place: &str, table: &mut Table) -> Option<i64> {
    match value? {
        0 => None,
        value @ -1.. => Some(value),
        value => {
            table.refuse(
                format!("linux.resources.{place}"),
                format!("{value}: below zero only -1, no limit, has a meaning"),
            );
            None
        }
    }
}

/// `swap` is memory and swap together: it needs a limit of memory, and cannot be less.
pub(super) fn check_swap(limit: Option<i64>, swap: Option<i64>, table: &mut Table) {
    let place = "linux.resources.memory.swap";
    match (limit, swap) {
        (None, Some(1..)) => table.refuse(place, "is memory and swap together, and needs linux.resources.memory.limit"),
        (Some(limit @ 1..), Some(swap @ 1..)) if swap < limit => {
            table.refuse(place, format!("is memory and swap together: {swap} is less than the memory limit {limit}"));
        }
        _ => {}
    }
}

/// A weight of block devices: 10 to 1000, and 0 for not asked.
pub(super) fn weight(value: Option<u16>, place: &str, table: &mut Table) -> Option<u16> {
    match value? {
        0 => None,
        value @ 10..=1000 => Some(value),
        value => {
            table.refuse(format!("linux.resources.{place}"), format!("{value} is not within 10 to 1000"));
            None
        }
    }
}

#[cfg(test)]
mod tests;
