//! Containers of images beside containers of bundles, through the program: `ps`, `inspect`, `rm`, `stop`, `kill`, `exec`.
//!
//! Each test has a store, a `--root` and an image of its own, in a temporary directory; at its end no process, cgroup or mount is left.

mod ends;
mod kit;
mod lists;
mod shows;
