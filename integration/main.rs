//! The built binary, as root, in real namespaces.
//!
//! Each test reads as a shell session: make a bundle, run it, look at what came out. At the end of each the leak check
//! (`harness::leaks`) looks for what is left of it on the host: mounts, cgroups, processes, files, state.
//!
//! ```console
//! # cargo test --test integration                        corten from the target directory
//! # CORTEN_BIN=runc cargo test --test integration        another runtime, to test the tests
//! # integration/light-v2 cargo test --test integration   the same under cgroup v2
//! ```
//!
//! A test that cannot be done here says so with `skip!`; `CORTEN_SKIPS=FILE` collects the reasons, one line
//! `NAME<TAB>reason` each.

#[macro_use]
mod harness;

mod binds;
mod budget;
mod cgroups;
mod containerd;
mod debian;
mod dev;
mod docker_flags;
mod errors;
mod exec;
mod explain;
mod faults;
mod hooks;
mod labels;
mod lifecycle;
mod limits;
mod many;
mod measure;
mod mounts;
mod namespaces;
mod notify;
mod overlay;
mod pidfd;
mod process;
mod readme;
mod seal;
mod seccomp;
mod security;
mod signals;
mod state;
mod terminal;
mod trace;
mod traced;
