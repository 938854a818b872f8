//! 7. As Docker has it: the options, the defaults and the words that people bring along, turned into a configuration.
//!
//! An image says what to run, and `docker run` says how, with options that Docker's users know by heart. Nothing of that is in the OCI
//! specifications: fourteen capabilities, a profile of four hundred system calls, a `/dev/shm` of 64 MB, `512m` and `0.5` cpus are
//! habits. This chapter knows them. `options` is the command line as typed, `configure` makes a config.json of it and of the image
//! (`limits`, `files`, `mounts`, `privileges`, `network`, `process` read one kind of option each, `volumes` what the image says of its own; `seccomp` is the default profile), `form` tells an image
//! from a bundle, `names` gives names and ids, and `format`, `filter`, `columns` and `human` print.
//!
//! By hand: `docker run -m 64m --cpus 0.5 -d --name w busybox sleep 9; docker inspect w`, and the configuration that the runtime gets lies in
//! `/run/containerd/io.containerd.runtime.v2.task/moby/ID/config.json`.
//!
//! Everything here is pure but `here`: what has to be asked of the machine comes in as [`Facts`], and what has to be done goes out in [`Container`].
//!
//! What goes wrong: an option that is read and then forgotten is worse than one that is refused. So what is parsed works; the rest is an
//! error that names the option and its value.

mod columns;
pub mod configure;
mod defaults;
mod files;
pub mod filter;
pub mod form;
pub mod format;
pub mod here;
pub mod human;
mod limits;
pub mod lists;
mod mounts;
pub mod names;
mod network;
pub mod options;
pub mod platform;
mod privileges;
mod process;
pub mod seccomp;
pub mod volumes;

pub use columns::aligned;
pub use configure::{Before, Container, Facts, before, configure};
pub use options::{Options, arguments, arguments_among};

use crate::error::Error;

/// The error of one option: `--cpus "x": cause`.
fn wrong(option: &str, value: &str, cause: impl std::fmt::Display) -> Error {
    crate::error!("{option} {}: {cause}", quote(value))
}

/// A word as it was typed, in quotes where it would not be seen whole otherwise.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+./:,=@%-[]{}".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}
