//! Images that others' tools make of a Debian root, others' clients, and real registries between them and Corten.
//!
//! Each test reads as a shell session in a folder of its own, where podman, buildah and docker keep everything too; at its end the leak check
//! looks for what is left of it on the host.

#[macro_use]
#[path = "../harness/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod harness;

#[path = "../docker/dockerd.rs"]
mod dockerd;
#[path = "../registry/kit.rs"]
#[allow(dead_code)]
mod registry;
#[path = "../debian/root.rs"]
mod root;

#[macro_use]
mod kit;

mod buildah;
mod command;
mod docker;
mod login;
mod skopeo;
mod trees;
mod umoci;
