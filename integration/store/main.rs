//! The store of images, as root: overlay form against the flattened tree, kills, races, archives, attacks.
//!
//! The kit is that of the tests of `unpack`.

mod archives;
mod copies;
mod disk;
mod faults;
#[path = "../unpack/kit.rs"]
#[allow(dead_code)]
mod kit;
mod overlay;
mod random;
