//! Images, friendly and hostile, unpacked as root.
//!
//! Each attack is an archive made here, unpacked beside a canary tree that is compared before and after: content, owner, mode, times, number
//! of links, attributes. The rows of docs/security.md ("Image attacks") are the names of the tests.

mod attacks;
mod blobs;
mod images;
#[allow(dead_code)]
mod kit;
mod layers;
mod umoci;
