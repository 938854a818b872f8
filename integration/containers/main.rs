//! Containers of images beside containers of bundles, through the program: `ps`, `inspect`, `rm`, `stop`, `kill`, `exec`.
//!
//! Each test has a store, a `--root` and an image of its own, in a temporary directory; at its end no process, cgroup or mount is left.

// A `run` in the background ends with its container, when the place is dropped; as a zombie until the test program does, which is soon.
#![allow(clippy::zombie_processes)]

mod budget;
mod ends;
mod explains;
mod forms;
mod kit;
mod lists;
mod options;
mod rights;
mod runs;
mod shows;
mod volumes;
