//! 6. Where it comes from: an image becomes a bundle.
//!
//! An image is a stack of archives, a configuration, and a manifest that names them by digest. A `source` gives their bytes: a registry, a
//! `layout` on the disk (`reference` says which image of it), an archive of images (`load`, `local`). From there the way is the same:
//! `manifest` goes from document to document, `stream` inflates and hashes a layer (`zstd`) while another thread (`ahead`) cuts it into entries
//! (`archive`, `pax`, `name`) and makes them below a descriptor (`apply`, `put`, `steps`, `xattr`, `prune`).
//!
//! It ends in one of two places. `unpack` lays all layers on one another in a bundle, whole or not at all (`bundle`), with what the image says
//! about its program (`config`). `store` keeps images: each layer once, in the form that overlayfs mounts (`marks`, `apart`), and `save` writes them out again.
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
pub mod save;
pub mod source;
pub mod steps;
pub mod store;
pub mod stream;
pub mod unpack;
pub mod xattr;
pub mod zstd;

pub use stream::Limits;
pub use unpack::{unpack, unpack_within};
