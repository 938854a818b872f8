//! 6. Where it comes from: an image becomes a bundle.
//!
//! An image is a stack of archives, a configuration, and a manifest that names them by digest. Unpacking it takes six steps, one file
//! each: `reference` says which image is meant, `layout` finds it and verifies the way there, `stream` inflates and
//! hashes a layer, `archive` cuts it into entries (`pax`, `name`), `apply` makes them below a descriptor (`xattr`, `prune`), and `config`
//! writes what the image says about its program (`user`). `unpack` is the sequence, `bundle` makes it all or nothing.
//!
//! By hand: `skopeo copy docker://busybox oci:images:busybox; umoci unpack --image images:busybox bundle`.
//!
//! What goes wrong: all of this is a stranger's. Names lead out of the root, links lie in wait for the next entry, sizes disagree,
//! a few kilobytes inflate to a full disk. Hence: descriptors instead of paths, strict parsing, limits, and a verdict at the end.

pub mod ahead;
pub mod apart;
pub mod apply;
pub mod archive;
pub mod bundle;
pub mod config;
pub mod container;
pub mod copy;
pub mod credentials;
pub mod digest;
pub mod layout;
pub mod load;
pub mod local;
pub mod manifest;
pub mod marks;
pub mod name;
pub mod named;
pub mod pax;
pub mod prune;
pub mod put;
pub mod reference;
pub mod registry;
pub mod save;
pub mod settings;
pub mod source;
pub mod steps;
pub mod store;
pub mod stream;
pub mod unpack;
pub mod volume;
pub mod xattr;
pub mod zstd;

pub use stream::Limits;
pub use unpack::{unpack, unpack_within};
