//! The verbs on images, as a person types them: the built binary against Debian's docker-registry, with images that umoci and skopeo made.
//!
//! Each test has a store, a configuration of Docker's and, where it asks one, a registry of its own, all in a temporary directory.

mod archives;
mod kit;
mod lists;
mod logins;
mod power;
mod prunes;
mod pulls;
mod pushes;
#[path = "../registry/kit.rs"]
#[allow(dead_code)]
mod registry;
mod removals;
mod secrets;
#[path = "../registry/server.rs"]
#[allow(dead_code)]
mod server;
mod terminals;
mod unpacks;
mod words;
