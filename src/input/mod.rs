//! 1. What was asked: the bundle's configuration, the id, and the facts of the host that a plan may depend on.
pub mod config;
